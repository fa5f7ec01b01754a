//! What is left of a log behind a damaged place.
//!
//! The disk gives it, consensus keeps it until the holes are filled from other nodes: an entry that was acknowledged
//! here may be one of a quorum's few copies, so nothing that can still be read is given up for what cannot.

use crate::entry::Entry;
use crate::types::{Index, Term};

/// The part of a log that follows its intact beginning after a hole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Intact entries, ascending. A hole lies before the first of them, and may lie between any two.
    pub entries: Vec<Entry>,
    /// The last entry that was durable here, damaged or not, if that can still be told.
    pub end: Option<LogEnd>,
}

/// The last entry of a log, by what elections compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// Its place.
    pub index: Index,
    /// Its term.
    pub term: Term,
}

impl LogEnd {
    /// Of a log that ends with this entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        Self { index: entry.index, term: entry.term }
    }

    /// True when a log with this end holds at least what one with the other end does (Raft paper §5.4.1): the later
    /// last term wins, with equal ones the longer log.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}
