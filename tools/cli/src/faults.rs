//! Flags that put faults on links: the words that `node`, `fault set` and `proxy` have in common, and those of a node.

use std::time::Duration;

use clap::Args;
use raftgram::fault::LinkConfig;

use crate::error::CliError;
use crate::units::{Share, Span};

/// What befalls the datagrams of a link.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct LinkFlags {
    /// Drop this share of datagrams.
    #[arg(long, value_name = "P")]
    loss: Option<Share>,
    /// Hold each datagram back this long.
    #[arg(long, value_name = "SPAN")]
    delay: Option<Span>,
    /// Vary the delay by up to this much.
    #[arg(long, value_name = "SPAN")]
    jitter: Option<Span>,
    /// Send this share twice.
    #[arg(long, value_name = "P")]
    dup: Option<Share>,
    /// Hold this share back so that later ones pass it.
    #[arg(long, value_name = "P")]
    reorder: Option<Share>,
    /// Flip bits in this share.
    #[arg(long, value_name = "P")]
    corrupt: Option<Share>,
}

impl LinkFlags {
    /// These settings, and over them what was asked for.
    pub(crate) fn over(&self, config: LinkConfig) -> LinkConfig {
        let share = |asked: Option<Share>, else_: f64| asked.map_or(else_, Share::fraction);
        let span = |asked: Option<Span>, else_: Duration| asked.map_or(else_, |span| span.0);
        LinkConfig {
            loss: share(self.loss, config.loss),
            delay: span(self.delay, config.delay),
            jitter: span(self.jitter, config.jitter),
            duplicate: share(self.dup, config.duplicate),
            reorder: share(self.reorder, config.reorder),
            corrupt: share(self.corrupt, config.corrupt),
            ..config
        }
    }
}

/// Faults on every link of the node, drawn from a seed. Needs no root.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Faults")]
pub(crate) struct Faults {
    #[command(flatten)]
    link: LinkFlags,
    /// Draw the faults from this seed; without it from a random one, which is logged.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Faults {
    /// The links asked for and their seed; none when no fault was asked for.
    pub(crate) fn links(&self) -> Result<Option<(LinkConfig, u64)>, CliError> {
        let config = self.link.over(LinkConfig::default());
        config.validate().map_err(|error| CliError::usage(error.to_string()))?;
        if config == LinkConfig::default() {
            return Ok(None);
        }
        Ok(Some((config, self.seed.map_or_else(random_seed, Ok)?)))
    }

    /// The flags again, for node number `place` of several: each draws from a seed of its own.
    pub(crate) fn arguments(&self, place: u64) -> Vec<String> {
        let link = &self.link;
        let texts = [
            ("--loss", link.loss.map(|share| share.to_string())),
            ("--delay", link.delay.map(|span| span.to_string())),
            ("--jitter", link.jitter.map(|span| span.to_string())),
            ("--dup", link.dup.map(|share| share.to_string())),
            ("--reorder", link.reorder.map(|share| share.to_string())),
            ("--corrupt", link.corrupt.map(|share| share.to_string())),
            ("--seed", self.seed.map(|seed| seed.wrapping_add(place).to_string())),
        ];
        texts.into_iter().filter_map(|(flag, text)| Some([flag.to_owned(), text?])).flatten().collect()
    }
}

fn random_seed() -> Result<u64, CliError> {
    let rng = raftgram::run::random_rng();
    rng.map(|mut rng| rng.next_u64()).map_err(|error| CliError::io("drawing a seed", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_fault_there_is_no_link() {
        for seed in [None, Some(7)] {
            assert_eq!(Faults { link: LinkFlags::default(), seed }.links().unwrap(), None);
        }
    }

    #[test]
    fn what_no_flag_names_stays_as_it_was() {
        let before = LinkConfig { loss: 0.5, corrupt: 0.25, mtu: Some(900), ..LinkConfig::default() };
        let flags = LinkFlags { loss: Some("20%".parse().unwrap()), ..LinkFlags::default() };
        assert_eq!(flags.over(before.clone()), LinkConfig { loss: 0.2, ..before });
    }

    #[test]
    fn flags_become_links_and_flags_again() {
        let link = LinkFlags {
            loss: Some("20%".parse().unwrap()),
            delay: Some("1500us".parse().unwrap()),
            ..LinkFlags::default()
        };
        let faults = Faults { link, seed: Some(7) };
        let (config, seed) = faults.links().unwrap().unwrap();
        assert_eq!((config.loss, config.delay.as_micros(), seed), (0.2, 1500, 7));
        assert_eq!(faults.arguments(2), ["--loss", "20%", "--delay", "1500us", "--seed", "9"]);
    }
}
