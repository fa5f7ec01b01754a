//! What a link did.

use core::fmt;

/// Counts of one link since it was made. Each datagram that was sent or copied was delivered, or dropped by the
/// one cause that came first, or is still on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Datagrams put in.
    pub sent: u64,
    /// Datagrams taken out, copies included.
    pub delivered: u64,
    /// Dropped because the link was blocked.
    pub dropped_blocked: u64,
    /// Dropped for their length.
    pub dropped_mtu: u64,
    /// Dropped independently.
    pub dropped_loss: u64,
    /// Dropped by the burst chain.
    pub dropped_burst: u64,
    /// Dropped because a queue was full.
    pub dropped_queue: u64,
    /// Second copies made.
    pub duplicated: u64,
    /// Late copies made.
    pub replayed: u64,
    /// Copies in which bits flipped.
    pub corrupted: u64,
    /// Copies whose checksum field was zeroed.
    pub crc_zeroed: u64,
    /// Copies that were cut.
    pub truncated: u64,
    /// Copies that were lengthened.
    pub extended: u64,
    /// Copies that were held back.
    pub reordered: u64,
    /// Delivered after a datagram that was sent later, whatever the reason.
    pub overtaken: u64,
}

impl LinkStats {
    /// Every count with its name, in the order above.
    #[must_use]
    pub const fn counts(&self) -> [(&'static str, u64); 15] {
        [
            ("sent", self.sent),
            ("delivered", self.delivered),
            ("dropped_blocked", self.dropped_blocked),
            ("dropped_mtu", self.dropped_mtu),
            ("dropped_loss", self.dropped_loss),
            ("dropped_burst", self.dropped_burst),
            ("dropped_queue", self.dropped_queue),
            ("duplicated", self.duplicated),
            ("replayed", self.replayed),
            ("corrupted", self.corrupted),
            ("crc_zeroed", self.crc_zeroed),
            ("truncated", self.truncated),
            ("extended", self.extended),
            ("reordered", self.reordered),
            ("overtaken", self.overtaken),
        ]
    }

    /// All drops together.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped_blocked + self.dropped_mtu + self.dropped_loss + self.dropped_burst + self.dropped_queue
    }

    /// How many datagrams independent loss was drawn for.
    #[must_use]
    pub const fn loss_trials(&self) -> u64 {
        self.sent - self.dropped_blocked - self.dropped_mtu
    }

    /// How many datagrams duplication, and then replay, were drawn for: those that were not lost.
    #[must_use]
    pub const fn duplicate_trials(&self) -> u64 {
        self.loss_trials() - self.dropped_loss - self.dropped_burst
    }
}

impl fmt::Display for LinkStats {
    /// The counts that are not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent={}", self.sent)?;
        let counts = self.counts();
        counts[1..].iter().filter(|(_, n)| *n > 0).try_for_each(|(name, n)| write!(f, " {name}={n}"))
    }
}

/// By how many standard deviations `count` of `trials` is off what `probability` lets expect; where only one
/// count is possible it is 0 for that and infinite for any other.
#[must_use]
pub fn sigmas(count: u64, trials: u64, probability: f64) -> f64 {
    let expected = trials as f64 * probability;
    let off = (count as f64 - expected).abs();
    let sigma = (expected * (1.0 - probability)).sqrt();
    if off == 0.0 { 0.0 } else { off / sigma }
}
