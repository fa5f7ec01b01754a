//! Watching what a machine carries out: a question that waits for its answer, and where to go on.
//!
//! A watch is a question like any other: *what has been carried out after this index that I care for?* A node that has
//! nothing to tell lets it wait, and answers when there is something or when the wait is over. The answer says through
//! which index it is complete, and the next question begins there. So nothing is kept for a watcher between two
//! questions, and it may ask another node each time.

use crate::cursor::{CursorError, Reader, Writer};
use crate::types::{Index, Term};
use crate::wire::body::{read_index, read_term};

/// The longest filter, in bytes. `[W-103]`
pub const FILTER_BYTES_MAX: usize = 4096;

/// The longest wait, in µs: no node lets a watch wait for longer. `[W-103]`
pub const WATCH_WAIT_MAX_US: u64 = 60_000_000;

/// The most events of one answer. `[W-101]`
pub const EVENTS_MAX: usize = 4096;

/// What was carried out after an index? `[W-100]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch<'a> {
    /// The last entry that the watcher knows all about.
    pub after: Index,
    /// How long to wait when there is nothing, in µs.
    pub wait_us: u64,
    /// What the watcher cares for, in the machine's own language.
    pub filter: &'a [u8],
}

/// What was. `[W-101]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched<'a> {
    /// The answer is complete through this entry: the next watch begins after it.
    pub through: Index,
    /// One for each entry that matters, in order.
    pub events: Vec<WatchEvent<'a>>,
}

/// One thing that a machine carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchEvent<'a> {
    /// The entry it was carried out by.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The machine's own language.
    pub event: &'a [u8],
}

impl<'a> Watch<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.after.0);
        out.put_varint(self.wait_us);
        out.put_bytes(self.filter);
    }

    pub(super) fn decode(r: &mut Reader<'a>) -> Result<Self, CursorError> {
        let (after, wait_us, filter) = (read_index(r)?, r.varint()?, r.rest());
        if wait_us > WATCH_WAIT_MAX_US || filter.len() > FILTER_BYTES_MAX {
            return Err(CursorError::Value);
        }
        Ok(Self { after, wait_us, filter })
    }
}

impl<'a> Watched<'a> {
    /// # Panics
    /// When there are more than [`EVENTS_MAX`] events.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.events.len() <= EVENTS_MAX, "{} events in one answer", self.events.len());
        out.put_varint(self.through.0);
        out.put_varint(self.events.len() as u64);
        for WatchEvent { index, term, event } in &self.events {
            out.put_varint(index.0);
            out.put_varint(term.0);
            out.put_prefixed(event);
        }
    }

    /// Events that are out of order, or behind what the answer is complete through, are no answer.
    pub(super) fn decode(r: &mut Reader<'a>) -> Result<Self, CursorError> {
        let (through, count) = (read_index(r)?, r.varint()?);
        if count > EVENTS_MAX as u64 {
            return Err(CursorError::Value);
        }
        let mut events: Vec<WatchEvent<'a>> = Vec::new();
        for _ in 0..count {
            let (index, term) = (read_index(r)?, read_term(r)?);
            let event = r.prefixed()?;
            if index > through || events.last().is_some_and(|last| last.index >= index) {
                return Err(CursorError::Value);
            }
            events.push(WatchEvent { index, term, event });
        }
        Ok(Self { through, events })
    }
}
