//! A log without its content: of each entry the term and the chain value, which vouches for all before it.

use std::collections::VecDeque;

use crate::entry::Entry;
use crate::raft::Base;
use crate::types::{Index, Term};

/// What stands for an entry and all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The entry's term.
    pub term: Term,
    /// Its chain value.
    pub chain: u32,
}

impl Mark {
    /// The mark of an entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        Self { term: entry.term, chain: entry.chain }
    }
}

/// The marks from a base on.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    base: Base,
    marks: VecDeque<Mark>,
}

impl Marks {
    /// An empty log above this base.
    #[must_use]
    pub fn above(base: Base) -> Self {
        Self { base, marks: VecDeque::new() }
    }

    /// What lies before the first mark.
    #[must_use]
    pub fn base(&self) -> Base {
        self.base
    }

    /// The last index, or the base's.
    #[must_use]
    pub fn last(&self) -> Index {
        Index(self.base.index.0 + self.marks.len() as u64)
    }

    /// The last mark, or the base's.
    #[must_use]
    pub fn last_mark(&self) -> Mark {
        self.marks.back().copied().unwrap_or(Mark { term: self.base.term, chain: self.base.chain })
    }

    /// The mark at this index, the base's included; `None` outside.
    #[must_use]
    pub fn at(&self, index: Index) -> Option<Mark> {
        if index == self.base.index {
            return Some(Mark { term: self.base.term, chain: self.base.chain });
        }
        let position = index.0.checked_sub(self.base.index.0 + 1)?;
        self.marks.get(usize::try_from(position).ok()?).copied()
    }

    /// Adds the next mark.
    pub fn push(&mut self, mark: Mark) {
        self.marks.push_back(mark);
    }

    /// Removes the marks from this index on.
    pub fn truncate_from(&mut self, index: Index) {
        let keep = index.0.saturating_sub(self.base.index.0 + 1);
        self.marks.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    /// Moves the base up. Marks above it stay where they continue it; otherwise none does.
    pub fn rebase(&mut self, base: Base) {
        let continues = self.at(base.index) == Some(Mark { term: base.term, chain: base.chain });
        if continues && base.index >= self.base.index {
            let gone = usize::try_from(base.index.0 - self.base.index.0).unwrap_or(usize::MAX);
            self.marks.drain(..gone);
        } else {
            self.marks.clear();
        }
        self.base = base;
    }
}
