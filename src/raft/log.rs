//! The log's tail in memory, and the memberships it holds.
//!
//! - Indexes are consecutive from `base.index + 1`.
//! - Terms never fall, and none is 0.
//! - Every entry's chain value continues the one before it.
//! - The membership in force is the last one in the log, committed or not; truncation brings back the one before.
//!
//! Storage is written always and read only at the start, so this is where every append, check and apply looks. The
//! *base* is the entry right before the first one here: zeros for a whole log, the last entry that a snapshot
//! covers for a compacted one. Its term and chain value are known, its content is not. Questions about indexes below
//! it have no answer, and callers must have one for that case: a leader stops appending (L10), a follower knows the
//! entries as committed.
//!
//! Log matching (Raft paper §5.3) makes two entries of equal index and term equal, with all before them. The chain
//! value lets a follower check that instead of believing it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::config::Base;
use crate::entry::{Entry, Payload};
use crate::membership::Membership;
use crate::message::AppendEntry;
use crate::mutant::{self, Mutant};
use crate::types::{ClusterId, Index, Term};

/// What an entry costs in memory besides its content, about.
const ENTRY_OVERHEAD_BYTES: usize = 48;

/// What an entry costs inside an append besides its content, at most, while its term is the leader's.
const APPEND_OVERHEAD_BYTES: usize = 8;

/// Entries given up in one step, at most: about a tenth of a millisecond.
const FORGET_COUNT_MAX: usize = 1024;

/// Entries from `base` on.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Log {
    /// Covered by every chain value.
    cluster: ClusterId,
    /// What lies before the first entry.
    base: Base,
    entries: VecDeque<Entry>,
    /// Content and overhead of `entries`; kept by all that add or remove any.
    bytes: usize,
    /// Every membership in the log with its index, ascending; the first is the one in force at `base`, and none
    /// of the others lies at or below it.
    memberships: Vec<(Index, Arc<Membership>)>,
    /// No part of the log any more, and not freed yet.
    forgotten: VecDeque<Entry>,
}

impl Log {
    /// The log that storage found.
    ///
    /// # Panics
    /// When the entries are not what [`Self::push`] would have taken.
    pub(super) fn restore(
        cluster: ClusterId,
        base: Base,
        membership: Membership,
        entries: Vec<Entry>,
    ) -> Self {
        let memberships = vec![(base.index, Arc::new(membership))];
        let mut log = Self {
            cluster,
            base,
            entries: VecDeque::new(),
            bytes: 0,
            memberships,
            forgotten: VecDeque::new(),
        };
        for entry in entries {
            assert!(
                entry.is_chained_to(cluster, log.last_chain()),
                "entry {} does not continue the chain",
                entry.index
            );
            log.push(entry);
        }
        log
    }

    /// What lies right before the first entry.
    pub(super) fn base(&self) -> Base {
        self.base
    }

    /// What the entries take, for the log bound.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last entry's index, or the base's.
    pub(super) fn last_index(&self) -> Index {
        Index(self.base.index.0 + self.entries.len() as u64)
    }

    /// The last entry's term, or the base's.
    pub(super) fn last_term(&self) -> Term {
        self.entries.back().map_or(self.base.term, |entry| entry.term)
    }

    /// The chain value through the whole log.
    pub(super) fn last_chain(&self) -> u32 {
        self.entries.back().map_or(self.base.chain, |entry| entry.chain)
    }

    /// The entry at this index; `None` at or below the base, and beyond the end.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        let position = index.0.checked_sub(self.base.index.0 + 1)?;
        let entry = self.entries.get(usize::try_from(position).ok()?)?;
        assert_eq!(entry.index, index, "the entry at position {position}");
        Some(entry)
    }

    /// The entries from `from` on, in order.
    pub(super) fn entries_from(&self, from: Index) -> impl Iterator<Item = &Entry> {
        let position = from.0.saturating_sub(self.base.index.0 + 1);
        let position = usize::try_from(position).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.range(position..)
    }

    /// The term at this index, the base's included; `None` outside.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index { Some(self.base.term) } else { self.entry(index).map(|e| e.term) }
    }

    /// The chain value through this index, the base's included; `None` outside.
    pub(super) fn chain_at(&self, index: Index) -> Option<u32> {
        if index == self.base.index { Some(self.base.chain) } else { self.entry(index).map(|e| e.chain) }
    }

    /// The first index of this term, which the log holds.
    pub(super) fn first_index_of(&self, term: Term) -> Index {
        // Terms never fall, so a binary search finds it however long the term was.
        let position = self.entries.partition_point(|entry| entry.term < term);
        assert!(
            self.entries.get(position).is_some_and(|entry| entry.term == term),
            "no entry of term {term}"
        );
        Index(self.base.index.0 + 1 + position as u64)
    }

    /// The last index whose term is at most this one; the base's index when there is none.
    pub(super) fn last_index_through(&self, term: Term) -> Index {
        let position = self.entries.partition_point(|entry| entry.term <= term);
        Index(self.base.index.0 + position as u64)
    }

    /// The membership in force: the latest in the log, committed or not (thesis §4.1, E18).
    pub(super) fn membership(&self) -> &Arc<Membership> {
        let (_, membership) = self.memberships.last().expect("the base's membership is never removed");
        membership
    }

    /// The one before it, if the log knows it.
    pub(super) fn membership_before(&self) -> Option<&Arc<Membership>> {
        let [.., (_, before), _] = self.memberships.as_slice() else { return None };
        Some(before)
    }

    /// Where the membership in force came from.
    pub(super) fn membership_index(&self) -> Index {
        self.memberships.last().map_or(self.base.index, |(index, _)| *index)
    }

    /// Makes and adds an entry of this leader's term.
    pub(super) fn append(&mut self, term: Term, payload: Payload) -> Index {
        let index = self.last_index().next();
        self.push(Entry::new(self.cluster, index, term, payload, self.last_chain()));
        index
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// When it is not the next one.
    pub(super) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last_index().next(), "entries are consecutive");
        assert!(entry.term >= self.last_term(), "term {} follows term {}", entry.term, self.last_term());
        assert!(entry.term > Term(0), "entry {} has no term", entry.index);
        if let Payload::Membership(membership) = &entry.payload {
            self.memberships.push((entry.index, Arc::clone(membership)));
        }
        self.bytes += memory_bytes(&entry.payload);
        self.entries.push_back(entry);
        assert!(self.membership_index() <= self.last_index(), "a membership beyond the end");
    }

    /// Removes the entries from `index` on; a membership among them stops acting (M3).
    ///
    /// # Panics
    /// When the log does not hold `index`.
    pub(super) fn truncate_from(&mut self, index: Index) {
        assert!(index > self.base.index, "truncation from {index} reaches below {}", self.base.index);
        assert!(index <= self.last_index(), "truncation from {index} beyond {}", self.last_index());
        while self.last_index() >= index {
            let entry = self.entries.pop_back().expect("the last index is above the base");
            self.bytes -= memory_bytes(&entry.payload);
        }
        if !mutant::is(Mutant::M3) {
            self.memberships.retain(|(at, _)| *at < index);
        }
        assert_eq!(self.last_index().next(), index, "truncation from {index}");
        assert!(!self.memberships.is_empty(), "the base's membership stays");
    }

    /// Forgets the entries up to `index`, which a snapshot covers, or as many of them as one step may. The
    /// membership in force there stays (M4).
    ///
    /// # Panics
    /// When the log does not hold `index`.
    pub(super) fn compact_towards(&mut self, index: Index) {
        let last = self.last_index();
        assert!(index <= last, "compaction through {index} beyond {last}");
        for _ in 0..FORGET_COUNT_MAX {
            if self.base.index >= index {
                break;
            }
            let entry = self.entries.pop_front().expect("the log reaches beyond the index");
            self.bytes -= memory_bytes(&entry.payload);
            self.base = Base { index: entry.index, term: entry.term, chain: entry.chain };
        }
        let base = self.base.index;
        let covered = self.memberships.partition_point(|(at, _)| *at <= base);
        self.memberships.drain(..covered.saturating_sub(1));
        assert_eq!(self.last_index(), last, "compaction through {base} moved the end");
        assert!(self.memberships.first().is_some_and(|(at, _)| *at <= base), "no membership at {base}");
    }

    /// Forgets everything: the log begins again after a snapshot that it does not lead to.
    pub(super) fn reset(&mut self, base: Base, membership: Arc<Membership>) {
        assert!(base.index > self.base.index, "a reset from {} to {}", self.base.index, base.index);
        self.forgotten.append(&mut self.entries);
        self.bytes = 0;
        self.memberships = vec![(base.index, membership)];
        self.base = base;
    }

    /// Gives memory back, a bounded share at a time: freeing a whole log at once would stall the node.
    /// True when it did.
    pub(super) fn free_some(&mut self) -> bool {
        let count = self.forgotten.len().min(FORGET_COUNT_MAX);
        if count > 0 {
            self.forgotten.drain(..count);
        }
        count > 0
    }

    /// The lowest base at which the entries up to `through` take at most `bytes_max`.
    pub(super) fn tail_base(&self, through: Index, bytes_max: usize) -> Index {
        let mut bytes = 0;
        let mut base = through;
        while let Some(entry) = self.entry(base) {
            bytes += memory_bytes(&entry.payload);
            if bytes > bytes_max {
                break;
            }
            base = base.prev();
        }
        base
    }

    /// Entries for one append from `from` on: as many as fit into `bytes_max`, and at least one if there is any.
    /// Also their size.
    pub(super) fn batch(&self, from: Index, bytes_max: usize) -> (Vec<AppendEntry>, usize) {
        assert!(from > self.base.index, "entry {from} is not above the base {}", self.base.index);
        let mut entries = Vec::new();
        let mut bytes = 0;
        for entry in self.entries_from(from) {
            let more = append_bytes(&entry.payload);
            if !entries.is_empty() && bytes + more > bytes_max {
                break;
            }
            bytes += more;
            entries.push(AppendEntry { term: entry.term, payload: entry.payload.clone() });
        }
        (entries, bytes)
    }
}

/// What an entry of this content counts for inside an append.
pub(super) fn append_bytes(payload: &Payload) -> usize {
    payload.content_bytes() + APPEND_OVERHEAD_BYTES
}

/// What an entry of this content counts for in the log bound.
pub(super) fn memory_bytes(payload: &Payload) -> usize {
    payload.content_bytes() + ENTRY_OVERHEAD_BYTES
}
