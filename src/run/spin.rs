//! Looking for datagrams without sleeping, for those who buy latency with a core.
//!
//! A loop that sleeps is woken tens of microseconds after a datagram came; one that looks again and again finds it at
//! once. What that costs is bounded twice: by how long it looks before it sleeps, so that an idle node sleeps, and by
//! the share of the time that it looks, however busy it is. Between two looks it yields: where processes outnumber
//! cores, whoever has something to do goes first.

use std::time::Duration;

use crate::time::Instant;

/// How long and how often a loop looks before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spin {
    /// The longest look after a turn.
    pub span: Duration,
    /// At most this share of the time, in millionths.
    pub duty_ppm: u32,
}

/// What may be saved up while nothing is looked for.
const CREDIT_MAX: Duration = Duration::from_millis(10);

/// Keeps to the bounds.
#[derive(Debug)]
pub(super) struct Spinner {
    spin: Spin,
    /// How long it may look just now.
    credit: Duration,
    counted_at: Instant,
}

impl Spinner {
    pub(super) fn new(spin: Spin, now: Instant) -> Self {
        Self { spin, credit: Duration::ZERO, counted_at: now }
    }

    /// Until when may be looked from now on.
    pub(super) fn until(&mut self, now: Instant) -> Instant {
        let earned =
            now.saturating_since(self.counted_at).as_nanos() * u128::from(self.spin.duty_ppm) / 1_000_000;
        let earned = Duration::from_nanos(u64::try_from(earned).unwrap_or(u64::MAX));
        self.credit = self.credit.saturating_add(earned).min(CREDIT_MAX);
        self.counted_at = now;
        now + self.spin.span.min(self.credit)
    }

    /// It was looked for so long.
    pub(super) fn spend(&mut self, took: Duration) {
        self.credit = self.credit.saturating_sub(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spinner(span_us: u64, duty_ppm: u32) -> Spinner {
        Spinner::new(Spin { span: Duration::from_micros(span_us), duty_ppm }, Instant::ZERO)
    }

    /// Looks as long as it may, then sleeps this long, for a second; the share of it that was spent looking.
    fn share(spinner: &mut Spinner, sleep: Duration) -> f64 {
        let (mut now, mut looked) = (Instant::ZERO, Duration::ZERO);
        while now < Instant::ZERO + Duration::from_secs(1) {
            let took = spinner.until(now).saturating_since(now);
            spinner.spend(took);
            looked += took;
            now = now + took + sleep;
        }
        looked.as_secs_f64()
    }

    #[test]
    fn it_looks_no_longer_than_its_span_and_no_more_than_its_share() {
        let us = Duration::from_micros;
        // Seldom woken: the span bounds it.
        let idle = share(&mut spinner(100, 800_000), us(9_900));
        assert!((0.009..=0.011).contains(&idle), "{idle}");
        // Often woken: the share does.
        for duty_ppm in [0, 250_000, 500_000] {
            let most = f64::from(duty_ppm) / 1e6;
            let busy = share(&mut spinner(1_000, duty_ppm), us(20));
            assert!((most - 0.02..=most + 0.02).contains(&busy), "{busy} of at most {most}");
        }
    }

    #[test]
    fn what_was_saved_up_is_little() {
        let mut spinner = spinner(1_000_000, 1_000_000);
        let later = Instant::ZERO + Duration::from_secs(3600);
        assert_eq!(spinner.until(later), later + CREDIT_MAX);
        spinner.spend(CREDIT_MAX);
        assert_eq!(spinner.until(later), later);
    }
}
