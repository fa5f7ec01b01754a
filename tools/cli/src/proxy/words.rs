//! Netem's words: bursts, rates, presets, and the `tc` lines that ask a kernel for the same.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use raftgram::fault::{Bursts, LinkConfig, Rate as LinkRate};

use crate::units::Share;

/// Loss in bursts, as `--burst` takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Burst(pub(crate) Bursts);

impl FromStr for Burst {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Result<Vec<f64>, String> =
            text.split(',').map(|part| part.trim().parse::<Share>().map(Share::fraction)).collect();
        let parts = parts?;
        let (p, r, loss_bad, loss_good) = match parts.as_slice() {
            [p, r] => (*p, *r, 1.0, 0.0),
            [p, r, bad] => (*p, *r, *bad, 0.0),
            [p, r, bad, good] => (*p, *r, *bad, *good),
            _ => {
                return Err(format!(
                    "`{text}` has {} parts: write P,R or P,R,1-H or P,R,1-H,1-K, such as 1%,30%",
                    parts.len()
                ));
            }
        };
        Ok(Self(Bursts { p, r, loss_bad, loss_good }))
    }
}

/// A speed, in bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(u64);

/// As many datagrams as wait for a rate unless told otherwise: netem's limit.
const LIMIT: u32 = 1000;

/// Tc's units: `bit` are bits, `bps` bytes, both a second.
const RATES: [(&str, f64); 8] = [
    ("bit", 0.125),
    ("kbit", 125.0),
    ("mbit", 125e3),
    ("gbit", 125e6),
    ("bps", 1.0),
    ("kbps", 1e3),
    ("mbps", 1e6),
    ("gbps", 1e9),
];

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.find(|sign: char| !sign.is_ascii_digit() && sign != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().map_err(|_| format!("`{text}` does not begin with a number"))?;
        let unit = unit.trim().to_lowercase();
        let scale = RATES.iter().find(|(name, _)| *name == unit).map(|(_, scale)| scale);
        let scale = scale.ok_or_else(|| {
            let near = crate::lab::nearest(&unit, RATES.iter().map(|(name, _)| *name));
            format!(
                "`{unit}` is no unit of speed: bit, kbit, mbit, gbit, or bytes: bps, kbps, mbps, gbps{near}"
            )
        })?;
        let bytes = (number * scale).round();
        if !(1.0..=1e12).contains(&bytes) {
            return Err(format!("`{text}` is no speed of a link"));
        }
        Ok(Self(bytes as u64))
    }
}

impl Rate {
    pub(crate) fn with_limit(self, limit: Option<u32>) -> LinkRate {
        let queue_packets_max = limit.unwrap_or(LIMIT) as usize;
        LinkRate { bytes_per_s: self.0, queue_packets_max, queue_bytes_max: usize::MAX }
    }
}

/// Settings that resemble some paths; each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Delay 100us, jitter 20us.
    Lan,
    /// Delay 3ms, jitter 2ms, loss 0.5%, dup 0.1%, reorder 0.5%.
    Wifi,
    /// Delay 100ms, jitter 30ms, loss 1%, rate 1mbit, limit 100.
    #[value(name = "3g")]
    ThreeG,
    /// Delay 20ms, jitter 5ms, burst 1%,25%: bursts of four, one datagram in 26 lost.
    Bursty,
}

impl Preset {
    pub(crate) fn config(self) -> LinkConfig {
        let ms = Duration::from_millis;
        let plain = LinkConfig::default();
        match self {
            Self::Lan => {
                LinkConfig { delay: Duration::from_micros(100), jitter: Duration::from_micros(20), ..plain }
            }
            Self::Wifi => LinkConfig {
                delay: ms(3),
                jitter: ms(2),
                loss: 0.005,
                duplicate: 0.001,
                reorder: 0.005,
                reorder_delay: ms(3),
                ..plain
            },
            Self::ThreeG => LinkConfig {
                delay: ms(100),
                jitter: ms(30),
                loss: 0.01,
                rate: Some(Rate(125_000).with_limit(Some(100))),
                ..plain
            },
            Self::Bursty => LinkConfig {
                delay: ms(20),
                jitter: ms(5),
                bursts: Some(Bursts { p: 0.01, r: 0.25, loss_bad: 1.0, loss_good: 0.0 }),
                ..plain
            },
        }
    }
}

/// A line for a shell, or a remark about what no line can say.
pub(crate) struct Line(pub(crate) String);

/// The lines that ask a Linux kernel for the same on everything that leaves a device, and end it.
pub(crate) fn tc(config: &LinkConfig, device: &str) -> Vec<Line> {
    let mut words = Vec::new();
    let percent = |share: f64| format!("{}%", trim(share * 100.0));
    let span = |span: Duration| format!("{}us", trim(span.as_secs_f64() * 1e6));
    // Netem takes jitter and reordering only beside a delay.
    if !config.delay.is_zero() || !config.jitter.is_zero() || config.reorder > 0.0 {
        let delay = if config.reorder > 0.0 { config.delay + config.reorder_delay } else { config.delay };
        words.push(format!("delay {}", span(delay)));
        if !config.jitter.is_zero() {
            words.push(span(config.jitter));
        }
    }
    match config.bursts {
        Some(Bursts { p, r, loss_bad, loss_good }) => {
            let parts = [p, r, loss_bad, loss_good].map(percent);
            words.push(format!("loss gemodel {}", parts.join(" ")));
        }
        None if config.loss > 0.0 => words.push(format!("loss {}", percent(config.loss))),
        None => {}
    }
    let mut share =
        |word: &str, share: f64| words.extend((share > 0.0).then(|| format!("{word} {}", percent(share))));
    share("duplicate", config.duplicate);
    // Netem lets a share overtake the others; here a share falls behind them.
    share("reorder", if config.reorder > 0.0 { 1.0 - config.reorder } else { 0.0 });
    share("corrupt", config.corrupt);
    if let Some(rate) = config.rate {
        words.push(format!("rate {}bps limit {}", rate.bytes_per_s, rate.queue_packets_max));
    }
    let remark = |is_so: bool, text: &str| is_so.then(|| Line(format!("# {text}")));
    let remarks = [
        remark(
            config.mtu.is_some(),
            "the longest datagram: netem cannot drop by length; use the device's mtu",
        ),
        remark(
            config.bursts.is_some() && config.loss > 0.0,
            "netem has one model of loss at a time: the bursts stand",
        ),
    ];
    let mut lines: Vec<Line> = remarks.into_iter().flatten().collect();
    lines.push(Line(
        format!("tc qdisc add dev {device} root netem {}", words.join(" ")).trim_end().to_owned(),
    ));
    lines.push(Line(format!("tc qdisc del dev {device} root")));
    lines
}

/// For people and shells.
pub(crate) fn tc_text(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("{}\n", line.0)).collect()
}

/// A number without needless zeros.
fn trim(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_and_rates_are_read_as_tc_reads_them() {
        let bursts =
            |text: &str| text.parse::<Burst>().map(|it| (it.0.p, it.0.r, it.0.loss_bad, it.0.loss_good));
        assert_eq!(bursts("1%,30%"), Ok((0.01, 0.3, 1.0, 0.0)));
        assert_eq!(bursts("1%,30%,90%,1%"), Ok((0.01, 0.3, 0.9, 0.01)));
        assert!(bursts("1%").unwrap_err().contains("has 1 parts"));
        assert_eq!("1mbit".parse(), Ok(Rate(125_000)));
        assert_eq!("100kbps".parse(), Ok(Rate(100_000)));
        assert_eq!(
            "5mbitt".parse::<Rate>().unwrap_err(),
            "`mbitt` is no unit of speed: bit, kbit, mbit, gbit, or bytes: bps, kbps, mbps, gbps, did you mean `mbit`?"
        );
        assert!("0bit".parse::<Rate>().is_err());
    }

    #[test]
    fn the_lines_for_a_kernel_say_the_same() {
        let text = |config: &LinkConfig| tc(config, "eth0").remove(0).0;
        assert_eq!(
            text(&Preset::ThreeG.config()),
            "tc qdisc add dev eth0 root netem delay 100000us 30000us loss 1% rate 125000bps limit 100"
        );
        assert_eq!(
            text(&Preset::Bursty.config()),
            "tc qdisc add dev eth0 root netem delay 20000us 5000us loss gemodel 1% 25% 100% 0%"
        );
        let reorder = LinkConfig { reorder: 0.25, ..LinkConfig::default() };
        assert_eq!(text(&reorder), "tc qdisc add dev eth0 root netem delay 1000us reorder 75%");
        assert_eq!(text(&LinkConfig::default()), "tc qdisc add dev eth0 root netem");
    }
}
