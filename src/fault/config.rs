//! What a link shall do.

use core::fmt;
use core::time::Duration;

/// The faults of one link. Probabilities are 0 to 1, for each datagram anew; the default is a clear link.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Drops everything.
    pub is_blocked: bool,
    /// Drops datagrams longer than this many bytes.
    pub mtu: Option<usize>,
    /// Probability of independent loss. At 1 it is a blocked link that counts otherwise.
    pub loss: f64,
    /// Loss in bursts, beside independent loss.
    pub bursts: Option<Bursts>,
    /// How long a datagram takes.
    pub delay: Duration,
    /// How far the time it takes varies, as `distribution` says. Above the spacing of datagrams it reorders.
    pub jitter: Duration,
    /// What jitter means.
    pub distribution: Distribution,
    /// Probability of a second copy.
    pub duplicate: f64,
    /// Copies that come much later.
    pub replay: Option<Replay>,
    /// Probability of being held back for `reorder_delay` more.
    pub reorder: f64,
    /// How long a reordered datagram is held back. Below the spacing of datagrams none passes it.
    pub reorder_delay: Duration,
    /// Probability that bits flip.
    pub corrupt: f64,
    /// The most bits that flip in one datagram; the least is one. At most [`Self::CORRUPT_BITS_MAX`].
    pub corrupt_bits_max: u64,
    /// Probability that the checksum field is overwritten with zeros.
    pub zero_crc: f64,
    /// Probability that the end is cut off.
    pub truncate: f64,
    /// Probability that random bytes follow.
    pub extend: f64,
    /// The link's speed; `None` is infinite.
    pub rate: Option<Rate>,
    /// The most datagrams on their way at once; more are dropped as queue overflow. It bounds memory.
    pub held_max: usize,
}

/// Two-state loss (Gilbert–Elliott), netem's `gemodel p r 1-h 1-k`: after each datagram the chain may change state.
/// A burst lasts 1/r datagrams on average, and p/(p+r) of all datagrams meet the bad state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// Probability of going from good to bad.
    pub p: f64,
    /// Probability of going from bad to good. At 0 a bad link stays bad.
    pub r: f64,
    /// Loss in the bad state, 1-h.
    pub loss_bad: f64,
    /// Loss in the good state, 1-k.
    pub loss_good: f64,
}

/// How jitter varies the delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// Evenly within delay ± jitter, never below zero.
    #[default]
    Uniform,
    /// Delay plus an exponentially distributed time whose mean is the jitter.
    Exponential,
}

/// A late copy of some datagrams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replay {
    /// Probability that a datagram comes again.
    pub chance: f64,
    /// The earliest it comes, counted from when it was sent.
    pub after_min: Duration,
    /// The latest it comes.
    pub after_max: Duration,
}

/// A limited link: it carries one datagram after another, and the others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Its speed, in bytes of datagrams.
    pub bytes_per_s: u64,
    /// The most datagrams that wait, the one being carried included.
    pub queue_packets_max: usize,
    /// The most bytes that wait.
    pub queue_bytes_max: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            is_blocked: false,
            mtu: None,
            loss: 0.0,
            bursts: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            distribution: Distribution::default(),
            duplicate: 0.0,
            replay: None,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(1),
            corrupt: 0.0,
            corrupt_bits_max: 1,
            zero_crc: 0.0,
            truncate: 0.0,
            extend: 0.0,
            rate: None,
            held_max: 65_536,
        }
    }
}

impl LinkConfig {
    /// The largest value of `corrupt_bits_max`.
    pub const CORRUPT_BITS_MAX: u64 = 64;

    /// Says what is wrong with the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let bursts = self.bursts.unwrap_or(Bursts { p: 0.0, r: 0.0, loss_bad: 0.0, loss_good: 0.0 });
        let replay = self.replay.unwrap_or(Replay {
            chance: 0.0,
            after_min: Duration::ZERO,
            after_max: Duration::ZERO,
        });
        let probabilities = [
            ("loss", self.loss),
            ("burst p", bursts.p),
            ("burst r", bursts.r),
            ("burst 1-h", bursts.loss_bad),
            ("burst 1-k", bursts.loss_good),
            ("duplicate", self.duplicate),
            ("replay", replay.chance),
            ("reorder", self.reorder),
            ("corrupt", self.corrupt),
            ("zero crc", self.zero_crc),
            ("truncate", self.truncate),
            ("extend", self.extend),
        ];
        if let Some(&(name, value)) = probabilities.iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return Err(ConfigError::Probability { name, value });
        }
        if replay.after_min > replay.after_max {
            return Err(ConfigError::ReplayRange { min: replay.after_min, max: replay.after_max });
        }
        if !(1..=Self::CORRUPT_BITS_MAX).contains(&self.corrupt_bits_max) {
            return Err(ConfigError::CorruptBits { bits: self.corrupt_bits_max });
        }
        if self.rate.is_some_and(|rate| rate.bytes_per_s == 0) {
            return Err(ConfigError::RateZero);
        }
        Ok(())
    }

    /// True when datagrams pass as they come, so that nothing has to be drawn for them.
    pub(super) fn is_clear(&self) -> bool {
        let clear = Self {
            distribution: self.distribution,
            reorder_delay: self.reorder_delay,
            corrupt_bits_max: self.corrupt_bits_max,
            held_max: self.held_max,
            ..Self::default()
        };
        *self == clear
    }
}

/// What is wrong with a link's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A probability is not within 0 to 1.
    Probability {
        /// Which one.
        name: &'static str,
        /// What it is.
        value: f64,
    },
    /// Replays would have to come later than they may.
    ReplayRange {
        /// The earliest.
        min: Duration,
        /// The latest.
        max: Duration,
    },
    /// No bit, or too many bits, would flip.
    CorruptBits {
        /// How many.
        bits: u64,
    },
    /// A link without speed carries nothing; blocking is the setting for that.
    RateZero,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probability { name, value } => write!(f, "{name} is {value}, not within 0 to 1"),
            Self::ReplayRange { min, max } => write!(f, "replays after {min:?} at least and {max:?} at most"),
            Self::CorruptBits { bits } => {
                write!(f, "{bits} bits to corrupt, not within 1 to {}", LinkConfig::CORRUPT_BITS_MAX)
            }
            Self::RateZero => f.write_str("a rate of zero; block the link instead"),
        }
    }
}

impl core::error::Error for ConfigError {}
