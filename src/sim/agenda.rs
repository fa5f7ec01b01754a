//! What happens next: a heap of events, those of one instant in the order in which they were entered.

use core::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::time::Instant;

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A link has a datagram that is due.
    Arrival(usize),
    /// A node asked to be called.
    Wake { server: usize, boot: u32 },
    /// A node's disk has finished, or is to be tried again.
    Disk { server: usize, boot: u32 },
    /// A node has done something with its snapshot files.
    Snapshot { server: usize, boot: u32 },
    /// A node has written nothing for a while.
    Quiet { server: usize, boot: u32 },
    /// A pause ends.
    Resume { server: usize, boot: u32 },
    /// A client asked to be called.
    Client { client: usize, boot: u32 },
    /// A datagram of the adversary is due.
    Forged(u64),
    /// The owner of the simulation asked to be called.
    Timer(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at: Instant,
    serial: u64,
    event: Event,
}

impl Ord for Entry {
    /// The heap takes out its greatest: the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// All that is to come.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Entry>,
    serial: u64,
}

impl Agenda {
    pub(super) fn push(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.heap.push(Entry { at, serial: self.serial, event });
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(super) fn pop(&mut self) -> Option<(Instant, Event)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}

/// The events of one machine or link that the agenda holds only to look at it: their instants, the earliest last.
///
/// Deadlines move all the time, mostly away. One that comes nearer gets an event of its own; one that goes away waits
/// for the event that is there, which finds nothing due and enters the next. So the agenda stays small.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarms(Vec<Instant>);

impl Alarms {
    /// Whether an event has to be entered for this instant: none is there that comes as early.
    pub(super) fn set(&mut self, at: Instant) -> bool {
        let is_needed = self.0.last().is_none_or(|earliest| at < *earliest);
        if is_needed {
            self.0.push(at);
        }
        is_needed
    }

    /// The event of this instant is here. False when it was forgotten.
    pub(super) fn ring(&mut self, at: Instant) -> bool {
        let is_it = self.0.last() == Some(&at);
        if is_it {
            self.0.pop();
        }
        is_it
    }

    /// Forgets all events.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_needs_an_event_only_if_none_comes_as_early() {
        let at = Instant::from_nanos;
        let mut alarms = Alarms::default();
        assert!(alarms.set(at(100)) && !alarms.set(at(100)) && !alarms.set(at(150)));
        assert!(alarms.set(at(50)), "it came nearer");
        assert!(!alarms.ring(at(100)), "the earlier one is first");
        assert!(alarms.ring(at(50)));
        assert!(!alarms.set(at(120)), "the event of before is still there");
        assert!(alarms.ring(at(100)) && !alarms.ring(at(100)));
    }
}
