//! How soon a silent leader is replaced, and what latency may cost: flags that `node` and `cluster up` share.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use raftgram::node::Timing;
use raftgram::run::spin::Spin;

use crate::units::{Share, Span};

/// The shortest election timeout is so many heartbeats, unless told otherwise: as many may be lost in a row.
const HEARTBEATS: u32 = 10;

/// The clocks of consensus, and the loop's.
#[derive(Debug, Args)]
pub(crate) struct Tempo {
    /// A follower that hears nothing of the leader campaigns after a time drawn from this range; MIN alone means up to
    /// twice as long. The same for all nodes of a cluster; the default is 250ms..500ms.
    #[arg(long, value_name = "MIN[..MAX]")]
    election_timeout: Option<Range>,
    /// How often the leader tells that it is there; a tenth of MIN unless said.
    #[arg(long, value_name = "SPAN")]
    heartbeat: Option<Span>,
    /// Look for datagrams this long before sleeping, instead of being woken by them: lower latency for up to a core. An
    /// idle node sleeps nonetheless.
    #[arg(long, value_name = "SPAN")]
    spin: Option<Span>,
    /// Spend at most this share of the time looking.
    #[arg(long, value_name = "P", default_value = "80%", requires = "spin")]
    spin_duty: Share,
}

impl Tempo {
    /// What consensus shall keep to.
    pub(crate) fn timing(&self) -> Timing {
        let mut timing = Timing::default();
        if let Some(Range { min, max }) = self.election_timeout {
            timing.election_timeout_min = min.0;
            timing.election_timeout_max = max.0;
            timing.heartbeat_interval = min.0 / HEARTBEATS;
        }
        if let Some(heartbeat) = self.heartbeat {
            timing.heartbeat_interval = heartbeat.0;
        }
        timing
    }

    pub(crate) fn spin(&self) -> Option<Spin> {
        self.spin.map(|span| Spin { span: span.0, duty_ppm: self.spin_duty.parts_per_million() })
    }

    /// As flags of `raftgram node`; none where nothing else is wanted.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let election = self.election_timeout.map(|range| ("--election-timeout", range.to_string()));
        let heartbeat = self.heartbeat.map(|span| ("--heartbeat", span.to_string()));
        let spin = self.spin.map(|span| ("--spin", span.to_string()));
        let duty = self.spin.map(|_| ("--spin-duty", self.spin_duty.to_string()));
        let all = [election, heartbeat, spin, duty].into_iter().flatten();
        all.flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}

/// From one span to another, `50ms..100ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    min: Span,
    max: Span,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (min.parse::<Span>()?, max.parse::<Span>()?),
            None => {
                let min = text.parse::<Span>()?;
                (min, Span(min.0 * 2))
            }
        };
        if min.0 < Duration::from_millis(1) || max.0 < min.0 {
            return Err(format!("`{text}` is no range of timeouts: write 250ms..500ms, at least 1ms"));
        }
        Ok(Self { min, max })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        tempo: Tempo,
    }

    fn parse(arguments: &str) -> Result<Tempo, clap::Error> {
        Alone::try_parse_from(std::iter::once("alone").chain(arguments.split_whitespace())).map(|it| it.tempo)
    }

    fn timing(min: u64, max: u64, heartbeat_us: u64) -> Timing {
        Timing {
            election_timeout_min: Duration::from_millis(min),
            election_timeout_max: Duration::from_millis(max),
            heartbeat_interval: Duration::from_micros(heartbeat_us),
        }
    }

    #[test]
    fn a_timeout_brings_a_heartbeat_that_fits_it() {
        let cases = [
            ("", timing(250, 500, 25_000)),
            ("--election-timeout 50ms..100ms", timing(50, 100, 5_000)),
            ("--election-timeout 80ms", timing(80, 160, 8_000)),
            ("--election-timeout 1s..1s --heartbeat 300ms", timing(1000, 1000, 300_000)),
            ("--heartbeat 10ms", timing(250, 500, 10_000)),
        ];
        for (arguments, expected) in cases {
            assert_eq!(parse(arguments).unwrap().timing(), expected, "{arguments}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for arguments in ["50ms..", "..50ms", "100ms..50ms", "0", "100us..1ms", "50..100"] {
            let parsed = parse(&format!("--election-timeout {arguments}"));
            assert!(parsed.is_err(), "{arguments}: {parsed:?}");
        }
        assert!(parse("--spin-duty 10%").is_err(), "a share of nothing");
    }

    #[test]
    fn what_was_given_is_passed_on_and_nothing_else() {
        assert_eq!(parse("").unwrap().arguments(), Vec::<String>::new());
        let given = "--election-timeout 50ms..100ms --heartbeat 4ms --spin 1ms --spin-duty 50%";
        let passed = parse(given).unwrap().arguments().join(" ");
        assert_eq!(passed, given);
        assert_eq!(
            parse(&passed).unwrap().spin(),
            Some(Spin { span: Duration::from_millis(1), duty_ppm: 500_000 })
        );
    }
}
