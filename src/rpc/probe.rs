//! The probe timer of one link: when to repeat what was not acknowledged although nothing later was either.

use core::time::Duration;

use crate::mutant::{self, Mutant};
use crate::rng::Rng;
use crate::time::Instant;

/// Consecutive probe timeouts and when the running one began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    /// Timeouts since the last acknowledgement of anything new.
    count: u32,
    /// When a packet that asks for an acknowledgement was last sent.
    last_sent: Instant,
    /// The jitter of the running timeout in 1/1024, 768 to 1,280, so that two ends do not fall into step.
    jitter: u64,
}

impl Default for Probe {
    fn default() -> Self {
        Self { count: 0, last_sent: Instant::ZERO, jitter: 1024 }
    }
}

impl Probe {
    /// A packet that asks for an acknowledgement went out: the timer starts over.
    pub(super) fn on_sent(&mut self, now: Instant, rng: &mut Rng) {
        self.last_sent = now;
        self.jitter = 768 + (rng.next_u64() >> 55);
    }

    /// Something new was acknowledged.
    pub(super) fn on_ack(&mut self) {
        self.count = 0;
    }

    /// The timer ran out.
    pub(super) fn on_timeout(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    /// Timeouts since the last acknowledgement.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// When a packet that asks for an acknowledgement was last sent.
    pub(super) fn last_sent(&self) -> Instant {
        self.last_sent
    }

    /// When the timer runs out: the first two timeouts unscaled, each later one half as long again, up to `max` but
    /// never below the unscaled one. Jitter moves only what lies above `ack_expected`: on a path whose round trips are
    /// all alike the timer must not beat the acknowledgement, nor on one whose peer holds all of them back.
    pub(super) fn at(&self, ack_expected: Duration, unscaled: Duration, max: Duration) -> Instant {
        let mut timeout_ns = nanos(unscaled);
        let max_ns = nanos(max).max(timeout_ns);
        let back_offs = if mutant::is(Mutant::U13) { 0 } else { self.count.min(BACK_OFF_MAX) };
        for _ in 2..=back_offs {
            timeout_ns = (timeout_ns + timeout_ns / 2).min(max_ns);
        }
        let floor_ns = nanos(ack_expected).min(timeout_ns);
        self.last_sent + Duration::from_nanos(floor_ns + (timeout_ns - floor_ns) / 1024 * self.jitter)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).min(NANOS_MAX)
}

/// An hour.
const NANOS_MAX: u64 = 3_600_000_000_000;
/// 1.5^60 exceeds any bound.
const BACK_OFF_MAX: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn two_unscaled_then_half_as_long_again_up_to_the_bound() {
        let mut probe = Probe::default();
        let mut timeouts = Vec::new();
        for _ in 0..8 {
            timeouts.push(probe.at(Duration::ZERO, 1024 * US, 5000 * US).as_nanos() / 1000);
            probe.on_timeout();
        }
        assert_eq!(timeouts, [1024, 1024, 1536, 2304, 3456, 4999, 4999, 4999]);
        probe.on_ack();
        assert_eq!(probe.at(Duration::ZERO, 1024 * US, 5000 * US), Instant::ZERO + 1024 * US);
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        let mut rng = Rng::from_seed(1);
        let mut probe = Probe::default();
        let mut seen = Vec::new();
        for _ in 0..1000 {
            probe.on_sent(Instant::ZERO, &mut rng);
            seen.push(probe.at(Duration::ZERO, 1024 * US, 5000 * US).as_nanos() / 1000);
        }
        assert!(seen.iter().all(|us| (768..=1280).contains(us)));
        assert!(seen.iter().min() < Some(&780) && seen.iter().max() > Some(&1265));
        // Of what lies above the time by which an acknowledgement is expected.
        let at = probe.at(1024 * US, 1124 * US, 5000 * US).as_nanos() / 1000;
        assert!((1024 + 75..=1024 + 125).contains(&at), "{at} µs");
    }

    #[test]
    fn a_round_trip_above_the_bound_is_not_cut_short() {
        let mut probe = Probe::default();
        for _ in 0..70 {
            probe.on_timeout();
        }
        assert_eq!(probe.at(Duration::ZERO, 1024 * 1024 * US, 5000 * US), Instant::ZERO + 1024 * 1024 * US);
    }
}
