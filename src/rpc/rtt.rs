//! Round-trip time of one link (RFC 9002 §5), in nanoseconds, and what is derived from it.

use core::time::Duration;

use crate::time::Instant;

/// How long a lowest round trip is believed: paths change, and a minimum that is never forgotten would make
/// every later delay look like a queue.
const MIN_AGE_MAX: Duration = Duration::from_secs(10);

/// Smoothed round-trip time; before the first sample it holds a guess.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rtt {
    smoothed_ns: u64,
    variance_ns: u64,
    min_ns: u64,
    /// The lowest sample of the age that is running, which becomes `min_ns` when the age ends.
    next_min_ns: u64,
    age_ends: Instant,
    /// What the peer says it held back its acknowledgements, decaying by an eighth.
    peer_delay_ns: u64,
    is_measured: bool,
}

impl Rtt {
    /// No sample yet: `guess` stands in, with half of it as variance (RFC 9002 §5.3).
    pub(super) fn new(guess: Duration) -> Self {
        let guess_ns = nanos(guess);
        Self {
            smoothed_ns: guess_ns,
            variance_ns: guess_ns / 2,
            min_ns: u64::MAX,
            next_min_ns: u64::MAX,
            age_ends: Instant::ZERO,
            peer_delay_ns: 0,
            is_measured: false,
        }
    }

    /// Takes a sample: the time from sending the largest newly acknowledged ack-eliciting packet to its
    /// acknowledgement, and the peer's delay, which is subtracted unless it was longer. Acknowledgements ride on
    /// answers, so a path may show nothing but delayed ones, and the lowest of all would be no round trip.
    pub(super) fn sample(&mut self, now: Instant, latest: Duration, peer_delay: Duration) {
        let latest_ns = nanos(latest).max(1);
        let delay_ns = if peer_delay < latest { nanos(peer_delay) } else { 0 };
        self.peer_delay_ns = delay_ns.max(self.peer_delay_ns - self.peer_delay_ns / 8);
        let adjusted_ns = latest_ns - delay_ns;
        self.note_min(now, adjusted_ns);
        if !self.is_measured {
            self.is_measured = true;
            self.smoothed_ns = adjusted_ns;
            self.variance_ns = adjusted_ns / 2;
            return;
        }
        let error_ns = self.smoothed_ns.abs_diff(adjusted_ns);
        self.variance_ns = self.variance_ns - self.variance_ns / 4 + error_ns / 4;
        self.smoothed_ns = self.smoothed_ns - self.smoothed_ns / 8 + adjusted_ns / 8;
    }

    fn note_min(&mut self, now: Instant, latest_ns: u64) {
        if now >= self.age_ends {
            self.age_ends = now + MIN_AGE_MAX;
            self.min_ns = self.next_min_ns.min(latest_ns);
            self.next_min_ns = latest_ns;
        }
        self.min_ns = self.min_ns.min(latest_ns);
        self.next_min_ns = self.next_min_ns.min(latest_ns);
    }

    /// The smoothed round-trip time, or the guess before the first sample.
    pub(super) fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed_ns)
    }

    /// The measured one, if any.
    pub(super) fn measured(&self) -> Option<Duration> {
        self.is_measured.then(|| self.smoothed())
    }

    /// The lowest round trip of the last two ages; the smoothed one before any sample.
    pub(super) fn min(&self) -> Duration {
        if self.min_ns == u64::MAX { self.smoothed() } else { Duration::from_nanos(self.min_ns) }
    }

    /// srtt + peer delay: when an acknowledgement is there if nothing is out of the ordinary. The peer may hold one
    /// back for `ack_delay`, and lately did for as long as it says.
    pub(super) fn ack_expected_after(&self, ack_delay: Duration) -> Duration {
        Duration::from_nanos(self.smoothed_ns + self.peer_delay_ns.max(nanos(ack_delay)))
    }

    /// The same + max(4·rttvar, G), unscaled and without jitter (RFC 9002 §6.2.1).
    pub(super) fn probe_timeout(&self, granularity: Duration, ack_delay: Duration) -> Duration {
        let spread_ns = (4 * self.variance_ns).max(nanos(granularity));
        self.ack_expected_after(ack_delay) + Duration::from_nanos(spread_ns)
    }

    /// 9/8 srtt + G: how old an unacknowledged packet must be to be lost once a later one is acknowledged.
    pub(super) fn loss_delay(&self, granularity: Duration) -> Duration {
        Duration::from_nanos(self.smoothed_ns + self.smoothed_ns / 8) + granularity
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).min(NANOS_MAX)
}

/// An hour: sums of a few such numbers stay far from overflow.
const NANOS_MAX: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn the_first_sample_replaces_the_guess() {
        let mut rtt = Rtt::new(1000 * US);
        assert_eq!(rtt.measured(), None);
        rtt.sample(Instant::ZERO, 100 * US, Duration::ZERO);
        assert_eq!(rtt.measured(), Some(100 * US));
        assert_eq!(rtt.probe_timeout(100 * US, Duration::ZERO), 300 * US);
        assert_eq!(rtt.probe_timeout(100 * US, 500 * US), 800 * US);
    }

    #[test]
    fn a_steady_path_ends_at_srtt_plus_granularity() {
        let mut rtt = Rtt::new(1000 * US);
        for _ in 0..100 {
            rtt.sample(Instant::ZERO, 100 * US, Duration::ZERO);
        }
        assert_eq!(rtt.probe_timeout(100 * US, Duration::ZERO).as_micros(), 200);
        assert_eq!(rtt.loss_delay(100 * US).as_nanos(), 212_500);
    }

    #[test]
    fn the_peers_delay_is_taken_off_unless_it_cannot_be_true() {
        let mut rtt = Rtt::new(1000 * US);
        rtt.sample(Instant::ZERO, 500 * US, 400 * US);
        assert_eq!((rtt.smoothed(), rtt.min()), (100 * US, 100 * US), "the delay explained the rest");
        rtt.sample(Instant::ZERO, 300 * US, 400 * US);
        assert!(rtt.smoothed() > 100 * US, "a delay longer than the whole is not believed");
        assert!(rtt.probe_timeout(US, Duration::ZERO) > rtt.smoothed() + 300 * US, "but the one before is");
    }

    #[test]
    fn an_old_minimum_is_forgotten_after_two_ages() {
        let mut rtt = Rtt::new(1000 * US);
        rtt.sample(Instant::ZERO, 100 * US, Duration::ZERO);
        for second in 1..40 {
            rtt.sample(Instant::ZERO + Duration::from_secs(second), 900 * US, Duration::ZERO);
        }
        assert_eq!(rtt.min(), 900 * US);
    }

    #[test]
    fn absurd_samples_do_not_overflow() {
        let mut rtt = Rtt::new(Duration::MAX);
        rtt.sample(Instant::ZERO, Duration::MAX, Duration::MAX);
        rtt.sample(Instant::ZERO, Duration::ZERO, Duration::MAX);
        assert!(rtt.probe_timeout(US, Duration::ZERO) > Duration::ZERO);
    }
}
