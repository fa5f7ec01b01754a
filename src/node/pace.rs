//! How many writes of clients may wait, and when those who are sent away may come again.
//!
//! A write that waits longer than its client has patience is asked for again, which costs this node more than the
//! write. So no more wait than are done in a fifth of a second at the present pace: the rest is told at once that this
//! node is busy, and for how long, while there is still time to do something else (U13). A queue of a few thousand is
//! always taken, because a disk does a thousand writes in one sync as fast as one.

use core::time::Duration;

use crate::time::Instant;

/// Writes that may wait however slow the last ones were.
const WAITING_FLOOR: usize = 4096;

/// What may wait beyond is what is done in one part in so many of a second.
const WAITING_PARTS: u64 = 5;

/// The pace is told by spans of this length.
const WINDOW: Duration = Duration::from_millis(100);

/// The bounds of what a client is told to wait: a few commits, and a time in which a new leader may be found.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How many writes are answered in a second.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Instant,
    answered: u64,
    per_second: u64,
}

impl Pace {
    /// A write was answered.
    pub(super) fn count(&mut self, now: Instant) {
        self.answered += 1;
        let span = now.saturating_since(self.since);
        if span >= WINDOW {
            // After a quiet time the first answer would make the pace that of the quiet.
            let span = span.min(2 * WINDOW).as_millis().max(1) as u64;
            self.per_second = (self.per_second + self.answered * 1000 / span) / 2;
            (self.since, self.answered) = (now, 0);
        }
    }

    /// How many may wait, `most` at the most.
    pub(super) fn waiting_max(&self, most: usize) -> usize {
        let by_pace = usize::try_from(self.per_second / WAITING_PARTS).unwrap_or(usize::MAX);
        by_pace.max(WAITING_FLOOR).min(most)
    }

    /// In what time those who wait will have been answered. When they are few, something else keeps this node busy,
    /// which is over soon.
    pub(super) fn pause(&self, waiting: usize) -> Duration {
        if waiting < WAITING_FLOOR / 4 {
            return PAUSE_MIN;
        }
        let drained_us = (waiting as u64).saturating_mul(1_000_000) / self.per_second.max(1);
        Duration::from_micros(drained_us).clamp(PAUSE_MIN, PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_pace(per_second: u64) -> Pace {
        let mut pace = Pace::default();
        for place in 0..2 * per_second {
            pace.count(Instant::from_nanos(place * 1_000_000_000 / per_second));
        }
        pace
    }

    #[test]
    fn no_more_wait_than_are_done_in_a_fifth_of_a_second() {
        let (slow, fast) = (at_pace(300), at_pace(100_000));
        assert_eq!(slow.waiting_max(65_536), WAITING_FLOOR);
        assert!((19_000..=21_000).contains(&fast.waiting_max(65_536)), "{fast:?}");
        assert_eq!(fast.waiting_max(10), 10, "the setting bounds it");
        assert_eq!(Pace::default().waiting_max(65_536), WAITING_FLOOR);
    }

    #[test]
    fn who_is_sent_away_hears_when_the_queue_will_be_done() {
        let fast = at_pace(100_000);
        assert_eq!(fast.pause(10), PAUSE_MIN);
        let pause = fast.pause(20_000).as_millis();
        assert!((190..=210).contains(&pause), "{pause} ms for a fifth of a second's work");
        assert_eq!(at_pace(300).pause(4096), PAUSE_MAX);
        assert_eq!(Pace::default().pause(1), PAUSE_MIN);
    }

    #[test]
    fn a_quiet_time_is_no_slow_pace() {
        let mut pace = at_pace(100_000);
        let before = pace.per_second;
        let later = Instant::from_nanos(3_600_000_000_000);
        pace.count(later);
        (0..20_000).for_each(|place| pace.count(later + Duration::from_micros(10 * place)));
        assert!(pace.per_second > before / 2, "{before} became {}", pace.per_second);
    }
}
