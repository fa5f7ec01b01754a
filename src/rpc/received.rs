//! What arrived on a link: which packet numbers, and the acknowledgement that is owed.

use crate::rpc::ranges::RangeSet;
use crate::time::Instant;
use crate::wire::{RANGES_MAX, Span};

/// The packet numbers received from one peer incarnation.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    numbers: RangeSet,
    /// When the largest number arrived.
    largest_at: Instant,
    /// Something that asks for an acknowledgement arrived since the last one was sent.
    is_owed: bool,
}

impl Received {
    /// Notes a packet. A number below all ranges kept is acknowledged by no one: its sender repeats the frames.
    pub(super) fn note(&mut self, now: Instant, number: u64, is_ack_eliciting: bool) {
        if self.numbers.largest().is_none_or(|largest| number > largest) {
            self.largest_at = now;
        }
        self.numbers.insert(number, number);
        self.numbers.keep_highest(RANGES_MAX);
        self.is_owed |= is_ack_eliciting;
    }

    /// True when an acknowledgement must go out at the end of this turn.
    pub(super) fn is_owed(&self) -> bool {
        self.is_owed
    }

    /// The ranges to acknowledge, highest first, and how long the largest has waited, in µs.
    pub(super) fn take_ack(&mut self, now: Instant, spans: &mut Vec<Span>) -> u64 {
        self.is_owed = false;
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

/// An hour; the wire's bound is 2^62.
const DELAY_US_MAX: u64 = 3_600_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn only_packets_that_ask_are_owed_an_acknowledgement_but_all_are_named_in_it() {
        let mut received = Received::default();
        received.note(Instant::ZERO, 1, false);
        assert!(!received.is_owed());
        received.note(Instant::ZERO, 3, true);
        assert!(received.is_owed());
        let mut spans = Vec::new();
        let delay_us = received.take_ack(Instant::ZERO + Duration::from_micros(7), &mut spans);
        assert_eq!(
            (delay_us, &spans[..]),
            (7, &[Span { first: 3, last: 3 }, Span { first: 1, last: 1 }][..])
        );
        assert!(!received.is_owed());
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
