//! Clients that wait for their entry to be applied.
//!
//! A client that hears nothing for a while asks again, by a new call. While its entry still waits to be committed, the
//! new call waits with it: were each retry an entry of its own, a leader that commits slower than its clients lose
//! patience would be given ever more to commit, and would not recover when the load goes back (scenarios U1, U13).

use std::collections::BTreeMap;

use crate::rpc::Token;
use crate::time::Instant;
use crate::types::{Index, Sequence, SessionId, Term};

/// What makes two proposals the same write: all retries of a client carry it.
pub(super) type WriteName = (SessionId, Sequence);

/// The clients that wait, by the entry they wait for.
#[derive(Debug, Default)]
pub(super) struct Writes {
    by_index: BTreeMap<Index, Write>,
    by_name: BTreeMap<WriteName, Index>,
    /// How many calls wait, retries counted.
    calls: usize,
}

/// One entry that was proposed here.
#[derive(Debug)]
struct Write {
    term: Term,
    proposed_at: Instant,
    name: Option<WriteName>,
    token: Token,
    retries: Vec<Token>,
}

/// When an entry was proposed here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proposed {
    pub(super) term: Term,
    pub(super) at: Instant,
}

impl Writes {
    /// How many calls wait.
    pub(super) fn len(&self) -> usize {
        self.calls
    }

    /// True when nobody waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.calls == 0
    }

    /// This call waits for the entry that was just proposed.
    ///
    /// # Panics
    /// When a call waits for that index already.
    pub(super) fn insert(&mut self, now: Instant, at: (Index, Term), name: Option<WriteName>, token: Token) {
        let (index, term) = at;
        let write = Write { term, proposed_at: now, name, token, retries: Vec::new() };
        let other = self.by_index.insert(index, write);
        assert!(other.is_none(), "two proposals at index {index}");
        if let Some(name) = name {
            self.by_name.insert(name, index);
        }
        self.calls += 1;
    }

    /// True when this write waits here already; the call waits with it from now on.
    pub(super) fn join(&mut self, name: WriteName, token: Token) -> bool {
        let write = self.by_name.get(&name).and_then(|index| self.by_index.get_mut(index));
        let Some(write) = write else { return false };
        if write.token != token && !write.retries.contains(&token) {
            write.retries.push(token);
            self.calls += 1;
        }
        true
    }

    /// Those who wait for this entry, and in which term and when it was proposed.
    pub(super) fn remove(&mut self, index: Index) -> Option<(Proposed, impl Iterator<Item = Token> + use<>)> {
        let write = self.by_index.remove(&index)?;
        if let Some(name) = write.name {
            self.by_name.remove(&name);
        }
        self.calls -= 1 + write.retries.len();
        let proposed = Proposed { term: write.term, at: write.proposed_at };
        Some((proposed, std::iter::once(write.token).chain(write.retries)))
    }

    /// Everyone who waits.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Token> + use<> {
        let all = std::mem::take(self);
        all.by_index.into_values().flat_map(|write| std::iter::once(write.token).chain(write.retries))
    }
}
