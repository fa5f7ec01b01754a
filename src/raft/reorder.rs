//! Appends that came before their predecessors.
//!
//! A lost datagram costs one retransmission instead of a rewind of the pipeline: what follows the hole waits here.
//! ```text
//!  sent      3..5   6..8   9..11  12..14
//!  arrived   3..5          9..11  12..14       6..8 is lost, the log ends at 5
//!  log       3 4 5 ┊       waits  waits
//!  re-sent          6..8
//!  log       3 4 5  6 7 8  9 .. 14             one round trip later; nothing was sent twice but 6..8
//! ```
//! An append belongs here only if others under way can fill the hole before it. A probe beyond the log's end has
//! nothing under way before it and must be refused at once, or leader and follower would wait for each other: the
//! attempt tells the two apart (see `follower`).
//!
//! The buffer belongs to one leader and term, lives in [`super::role::Follower`] and goes with it (I6). It is
//! bounded by bytes; when full, what lies furthest ahead is evicted first, since it is needed last. Every append
//! that leaves is answered.

use std::collections::BTreeMap;

use super::log::append_bytes;
use super::output::ReplyToken;
use crate::message::Append;
use crate::types::Index;

/// What an append costs besides its entries.
const APPEND_FIXED_BYTES: usize = 96;

/// An append and the call it came by.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Waiting {
    pub(super) append: Append,
    pub(super) token: Option<ReplyToken>,
}

impl Waiting {
    /// About what it takes in memory; an empty append takes something too, or copies of one could fill any room.
    fn bytes(&self) -> usize {
        let entries: usize = self.append.entries.iter().map(|entry| append_bytes(&entry.payload)).sum();
        APPEND_FIXED_BYTES + entries
    }
}

/// Out-of-order appends by prev index, then by arrival; copies of one append are kept apart, because each came by
/// a call that wants its answer.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Reorder {
    waiting: BTreeMap<(Index, u64), Waiting>,
    /// Tells arrivals apart.
    arrivals: u64,
    /// The sum of what waits.
    bytes: usize,
}

impl Reorder {
    /// What waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// The lowest prev index that waits.
    pub(super) fn first(&self) -> Option<Index> {
        self.waiting.first_key_value().map(|((prev, _), _)| *prev)
    }

    /// Keeps it and returns what had to go for it, itself perhaps.
    pub(super) fn insert(&mut self, waiting: Waiting, bytes_max: usize) -> Vec<Waiting> {
        self.bytes += waiting.bytes();
        self.arrivals += 1;
        self.waiting.insert((waiting.append.prev_index, self.arrivals), waiting);
        let mut evicted = Vec::new();
        while self.bytes > bytes_max {
            let (_, furthest) = self.waiting.pop_last().expect("bytes are only counted for what waits");
            self.bytes -= furthest.bytes();
            evicted.push(furthest);
        }
        assert!(self.bytes <= bytes_max, "{} of {bytes_max} bytes wait", self.bytes);
        assert!(!self.waiting.is_empty() || self.bytes == 0, "{} bytes in no append", self.bytes);
        evicted
    }

    /// Takes the first append whose prev is not beyond the log's end.
    pub(super) fn take_ready(&mut self, last: Index) -> Option<Waiting> {
        let first = self.waiting.first_entry().filter(|entry| entry.key().0 <= last)?;
        let waiting = first.remove();
        self.bytes -= waiting.bytes();
        assert!(waiting.append.prev_index <= last, "{} at {last}", waiting.append.prev_index);
        assert!(!self.waiting.is_empty() || self.bytes == 0, "{} bytes in no append", self.bytes);
        Some(waiting)
    }

    /// Empties it, in order of place, for its role or its hole is gone.
    pub(super) fn take_all(&mut self) -> Vec<Waiting> {
        self.bytes = 0;
        core::mem::take(&mut self.waiting).into_values().collect()
    }
}
