//! Flags that put faults between a node's socket and its machine.

use clap::Args;
use raftgram::fault::LinkConfig;

use crate::error::CliError;
use crate::units::{Share, Span};

/// Faults on every link of the node, drawn from a seed. Needs no root.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Faults")]
pub(crate) struct Faults {
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
    /// Draw the faults from this seed; without it from a random one, which is logged.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Faults {
    /// The links asked for and their seed; none when no fault was asked for.
    pub(crate) fn links(&self) -> Result<Option<(LinkConfig, u64)>, CliError> {
        let fraction = |share: Option<Share>| share.map_or(0.0, Share::fraction);
        let span = |span: Option<Span>| span.map_or(std::time::Duration::ZERO, |span| span.0);
        let config = LinkConfig {
            loss: fraction(self.loss),
            delay: span(self.delay),
            jitter: span(self.jitter),
            duplicate: fraction(self.dup),
            reorder: fraction(self.reorder),
            corrupt: fraction(self.corrupt),
            ..LinkConfig::default()
        };
        config.validate().map_err(|error| CliError::usage(error.to_string()))?;
        if config == LinkConfig::default() {
            return Ok(None);
        }
        Ok(Some((config, self.seed.map_or_else(random_seed, Ok)?)))
    }

    /// The flags again, for node number `place` of several: each draws from a seed of its own.
    pub(crate) fn arguments(&self, place: u64) -> Vec<String> {
        let texts = [
            ("--loss", self.loss.map(|share| share.to_string())),
            ("--delay", self.delay.map(|span| span.to_string())),
            ("--jitter", self.jitter.map(|span| span.to_string())),
            ("--dup", self.dup.map(|share| share.to_string())),
            ("--reorder", self.reorder.map(|share| share.to_string())),
            ("--corrupt", self.corrupt.map(|share| share.to_string())),
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

    const NONE: Faults =
        Faults { loss: None, delay: None, jitter: None, dup: None, reorder: None, corrupt: None, seed: None };

    #[test]
    fn without_a_fault_there_is_no_link() {
        assert_eq!(NONE.links().unwrap(), None);
        assert_eq!(Faults { seed: Some(7), ..NONE }.links().unwrap(), None);
    }

    #[test]
    fn flags_become_links_and_flags_again() {
        let faults = Faults {
            loss: Some("20%".parse().unwrap()),
            delay: Some("1500us".parse().unwrap()),
            seed: Some(7),
            ..NONE
        };
        let (config, seed) = faults.links().unwrap().unwrap();
        assert_eq!((config.loss, config.delay.as_micros(), seed), (0.2, 1500, 7));
        assert_eq!(faults.arguments(2), ["--loss", "20%", "--delay", "1500us", "--seed", "9"]);
    }
}
