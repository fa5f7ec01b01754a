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
