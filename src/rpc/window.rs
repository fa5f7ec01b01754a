//! How much a link may have in flight, and how much of it gets lost.
//!
//! On a LAN loss says little about queues, so loss alone never shrinks the window: at 10 % random loss a
//! loss-driven window would be a few packets. Delay does: when the smoothed round trip exceeds three times the
//! lowest, a queue stands somewhere, and the window gives way until it has gone.

use core::time::Duration;

use crate::rpc::rtt::Rtt;
use crate::time::Instant;

/// Bounds on a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowBounds {
    pub(super) bytes_min: usize,
    pub(super) bytes_max: usize,
}

/// Bytes a link may have in flight.
#[derive(Clone, Debug)]
pub(super) struct Window {
    bounds: WindowBounds,
    bytes: usize,
    /// It changes at most once per round trip.
    changes_at: Instant,
    /// It was in the way since the last change: a window that is not used does not grow.
    was_limiting: bool,
}

impl Window {
    pub(super) fn new(bounds: WindowBounds) -> Self {
        let bytes = (bounds.bytes_max / 4).max(bounds.bytes_min);
        Self { bounds, bytes, changes_at: Instant::ZERO, was_limiting: false }
    }

    /// Its present size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Something waits for room.
    pub(super) fn note_limiting(&mut self) {
        self.was_limiting = true;
    }

    /// An acknowledgement came.
    pub(super) fn on_ack(&mut self, now: Instant, rtt: &Rtt, granularity: Duration) {
        if now < self.changes_at {
            return;
        }
        self.changes_at = now + rtt.smoothed();
        if rtt.smoothed() > 3 * rtt.min().max(granularity) {
            self.bytes = (self.bytes - self.bytes / 8).max(self.bounds.bytes_min);
        } else if self.was_limiting {
            self.bytes = (self.bytes + self.bytes / 4).min(self.bounds.bytes_max);
        }
        self.was_limiting = false;
    }
}

/// Smoothed share of packets lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LossMeter {
    share: f64,
    /// Over 5 % it becomes true, under half of that false again.
    is_high: bool,
}

impl LossMeter {
    /// So many packets were settled one way or the other.
    pub(super) fn note(&mut self, acked_count: u32, lost_count: u32) {
        for _ in 0..acked_count.min(256) {
            self.share -= self.share / SMOOTHING;
        }
        for _ in 0..lost_count.min(256) {
            self.share += (1.0 - self.share) / SMOOTHING;
        }
        self.is_high = if self.is_high { self.share > LOSS_HIGH / 2.0 } else { self.share > LOSS_HIGH };
    }

    /// Between 0 and 1.
    pub(super) fn share(self) -> f64 {
        self.share
    }

    /// True while small datagrams are worth sending twice.
    pub(super) fn is_high(self) -> bool {
        self.is_high
    }
}

const SMOOTHING: f64 = 64.0;
const LOSS_HIGH: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);
    const BOUNDS: WindowBounds = WindowBounds { bytes_min: 16_000, bytes_max: 512_000 };

    fn run(window: &mut Window, rtt: &mut Rtt, latest: Duration, from_ms: u64) {
        for ms in from_ms..from_ms + 100 {
            let now = Instant::ZERO + Duration::from_millis(ms);
            rtt.sample(now, latest, Duration::ZERO);
            window.note_limiting();
            window.on_ack(now, rtt, 100 * US);
        }
    }

    #[test]
    fn delay_shrinks_the_window_and_its_end_lets_it_grow() {
        let mut window = Window::new(BOUNDS);
        let mut rtt = Rtt::new(1000 * US);
        run(&mut window, &mut rtt, 100 * US, 0);
        assert_eq!(window.bytes(), 512_000);
        run(&mut window, &mut rtt, 900 * US, 100);
        assert_eq!(window.bytes(), 16_000);
        run(&mut window, &mut rtt, 120 * US, 200);
        assert_eq!(window.bytes(), 512_000);
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut window = Window::new(BOUNDS);
        let rtt = Rtt::new(100 * US);
        for ms in 0..100 {
            window.on_ack(Instant::ZERO + Duration::from_millis(ms), &rtt, 100 * US);
        }
        assert_eq!(window.bytes(), 128_000);
    }

    #[test]
    fn loss_is_high_above_five_percent_and_low_below_half_of_that() {
        let mut meter = LossMeter::default();
        for _ in 0..200 {
            meter.note(9, 1);
        }
        assert!(meter.is_high(), "{meter:?}");
        assert!((0.05..0.16).contains(&meter.share()), "{meter:?}");
        meter.note(40, 0);
        assert!(meter.is_high(), "{meter:?} is between the marks");
        meter.note(200, 0);
        assert!(!meter.is_high(), "{meter:?}");
    }
}
