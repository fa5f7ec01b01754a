//! What arrived on a link: which packet numbers, and the acknowledgement that is owed.

use core::time::Duration;

use crate::rpc::ranges::RangeSet;
use crate::time::Instant;
use crate::wire::{RANGES_MAX, Span};

/// The packet numbers received from one peer incarnation.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    numbers: RangeSet,
    /// When the largest number arrived.
    largest_at: Instant,
    /// When the first datagram arrived that still waits for its acknowledgement.
    owed_since: Option<Instant>,
    /// How many wait for it.
    owed_count: u32,
    /// It is not held back for something to ride on.
    is_urgent: bool,
}

impl Received {
    /// Notes a packet. A number below all ranges kept is acknowledged by no one: its sender repeats the frames.
    /// What does not follow the highest one tells of a loss or a reordering, and its sender waits to hear of it.
    pub(super) fn note(&mut self, now: Instant, number: u64, is_ack_eliciting: bool) {
        let largest = self.numbers.largest();
        if largest.is_none_or(|largest| number > largest) {
            self.largest_at = now;
        }
        self.numbers.insert(number, number);
        self.numbers.keep_highest(RANGES_MAX);
        if is_ack_eliciting {
            self.owed_since.get_or_insert(now);
            self.owed_count += 1;
            self.is_urgent |= largest.is_none_or(|largest| number != largest + 1);
        }
    }

    /// Has what is owed go out with this turn.
    pub(super) fn hurry(&mut self) {
        self.is_urgent = true;
    }

    /// True when an acknowledgement rides on whatever goes out.
    pub(super) fn is_owed(&self) -> bool {
        self.owed_since.is_some()
    }

    /// When one goes out by itself, held back for `delay` at most. `[W-29]`
    pub(super) fn due_at(&self, delay: Duration) -> Option<Instant> {
        let since = self.owed_since?;
        let is_now = self.is_urgent || self.owed_count >= OWED_MAX;
        Some(if is_now { since } else { since + delay })
    }

    /// The ranges to acknowledge, highest first, and how long the largest has waited, in µs.
    pub(super) fn take_ack(&mut self, now: Instant, spans: &mut Vec<Span>) -> u64 {
        (self.owed_since, self.owed_count, self.is_urgent) = (None, 0, false);
        spans.clear();
        spans.extend(self.numbers.iter().rev().map(|(first, last)| Span { first, last }));
        let delay = now.saturating_since(self.largest_at);
        u64::try_from(delay.as_micros()).unwrap_or(DELAY_US_MAX).min(DELAY_US_MAX)
    }

    /// The largest number that arrived.
    pub(super) fn largest(&self) -> Option<u64> {
        self.numbers.largest()
    }
}

/// So many datagrams are acknowledged without waiting for more.
const OWED_MAX: u32 = 8;
/// An hour; the wire's bound is 2^62.
const DELAY_US_MAX: u64 = 3_600_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_micros(500);

    #[test]
    fn only_packets_that_ask_are_owed_an_acknowledgement_but_all_are_named_in_it() {
        let mut received = Received::default();
        received.note(Instant::ZERO, 1, false);
        assert!(!received.is_owed());
        received.note(Instant::ZERO, 3, true);
        assert!(received.is_owed());
        assert_eq!(received.due_at(DELAY), Some(Instant::ZERO), "2 is missing");
        let mut spans = Vec::new();
        let delay_us = received.take_ack(Instant::ZERO + Duration::from_micros(7), &mut spans);
        assert_eq!(
            (delay_us, &spans[..]),
            (7, &[Span { first: 3, last: 3 }, Span { first: 1, last: 1 }][..])
        );
        assert!(!received.is_owed());
    }

    #[test]
    fn what_follows_in_order_is_held_back_until_it_is_enough_or_urgent() {
        let at = |us| Instant::ZERO + Duration::from_micros(us);
        let mut spans = Vec::new();
        let mut received = Received::default();
        received.note(at(0), 1, true);
        assert_eq!(received.due_at(DELAY), Some(at(0)), "the first one tells how far the peer is");
        received.take_ack(at(0), &mut spans);
        assert_eq!(received.due_at(DELAY), None);
        received.note(at(10), 2, true);
        received.note(at(20), 3, false);
        received.note(at(30), 4, true);
        assert_eq!(received.due_at(DELAY), Some(at(10) + DELAY));
        assert_eq!(received.due_at(Duration::ZERO), Some(at(10)));
        received.hurry();
        assert_eq!(received.due_at(DELAY), Some(at(10)));
        received.take_ack(at(40), &mut spans);
        for number in 0..u64::from(OWED_MAX) {
            assert_ne!(received.due_at(DELAY), Some(at(50)), "{number} wait");
            received.note(at(50), 5 + number, true);
        }
        assert_eq!(received.due_at(DELAY), Some(at(50)));
        received.take_ack(at(60), &mut spans);
        received.note(at(70), 3, true);
        assert_eq!(received.due_at(DELAY), Some(at(70)), "an older one");
    }

    #[test]
    fn the_newest_32_ranges_are_kept() {
        let mut received = Received::default();
        for number in 0..40 {
            received.note(Instant::ZERO, 1 + 2 * number, true);
        }
        let mut spans = Vec::new();
        received.take_ack(Instant::ZERO, &mut spans);
        assert_eq!(spans.len(), 32);
        assert_eq!((spans[0].last, spans[31].first), (79, 17));
        assert_eq!(received.largest(), Some(79));
    }
}
