//! A node's own clock: it has its own zero, and may run fast or slow.

use core::time::Duration;

use crate::time::Instant;

/// One in fixed point.
const ONE: u64 = 1 << 20;

/// A monotonic clock that relates to the simulation's by a straight line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// An instant of the simulation, and what this clock showed then.
    base: Instant,
    shown: Instant,
    /// Own nanoseconds per nanosecond of the simulation, in parts of [`ONE`].
    rate: u64,
}

impl Clock {
    /// A clock that is `offset` ahead and keeps good time.
    pub(super) fn new(offset: Duration) -> Self {
        Self { base: Instant::ZERO, shown: Instant::ZERO + offset, rate: ONE }
    }

    /// What it shows at this instant of the simulation.
    pub(super) fn local(&self, now: Instant) -> Instant {
        let elapsed = u128::from(now.as_nanos().saturating_sub(self.base.as_nanos()));
        let own = elapsed * u128::from(self.rate) / u128::from(ONE);
        self.shown + Duration::from_nanos(u64::try_from(own).unwrap_or(u64::MAX))
    }

    /// The first instant of the simulation at which it shows `local` or more.
    pub(super) fn global(&self, local: Instant) -> Instant {
        let own = u128::from(local.as_nanos().saturating_sub(self.shown.as_nanos()));
        let elapsed = (own * u128::from(ONE)).div_ceil(u128::from(self.rate));
        self.base + Duration::from_nanos(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// From `now` on it runs `rate` times as fast as the simulation's; it never jumps back.
    pub(super) fn set_rate(&mut self, now: Instant, rate: f64) {
        assert!((0.01..=100.0).contains(&rate), "a clock of rate {rate}");
        *self = Self { base: now, shown: self.local(now), rate: (rate * ONE as f64) as u64 };
    }

    /// It jumps ahead, as after a suspension that the machine did not count.
    pub(super) fn jump(&mut self, now: Instant, span: Duration) {
        *self = Self { base: now, shown: self.local(now) + span, rate: self.rate };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_clock_will_show_is_never_shown_earlier() {
        let mut clock = Clock::new(Duration::from_secs(5));
        for (step, rate) in [0.5, 1.0, 1.3, 2.0].into_iter().enumerate() {
            let now = Instant::from_nanos(1_000 * (step as u64 + 1));
            clock.set_rate(now, rate);
            for ns in [0, 1, 7, 1_000, 999_999_937] {
                let local = clock.local(now) + Duration::from_nanos(ns);
                let at = clock.global(local);
                assert!(clock.local(at) >= local, "rate {rate}, {ns} ns on");
                assert!(
                    at == now || clock.local(at - Duration::from_nanos(1)) < local,
                    "rate {rate}, {ns} ns"
                );
            }
        }
    }
}
