//! What the whole cluster has shown so far: leaders, entries, votes, and the one log that was committed.
//!
//! The first node that commits an index fixes it for all. Everything else is compared with that.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::marks::Mark;
use super::violation::{Broken, hold};
use crate::membership::Membership;
use crate::time::Instant;
use crate::types::{HardState, Identity, Incarnation, Index, NodeId, Term};

/// An index that was committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    /// The entry there.
    pub(super) mark: Mark,
    /// The lowest term of a node that knew it as committed: leaders of higher terms hold it.
    pub(super) known_in: Term,
    /// Who committed it first.
    pub(super) by: NodeId,
    /// When.
    pub(super) at: Instant,
}

/// Who led a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) identity: Identity,
    pub(super) incarnation: Incarnation,
}

/// The past.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    leaders: BTreeMap<Term, Leader>,
    /// The first entry seen at each index, and the others there.
    entries: Vec<Mark>,
    other_entries: BTreeMap<(Index, Term), u32>,
    committed: Vec<Committed>,
    /// By which membership the newest of them was.
    committed_by: Option<Arc<Membership>>,
    /// Whom each store voted for in each term, as its disk had it.
    votes: BTreeMap<(Term, Identity), Identity>,
}

impl Oracle {
    /// The highest index committed anywhere.
    pub(super) fn commit(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    pub(super) fn committed(&self, index: Index) -> Option<&Committed> {
        self.committed.get(position(index)?)
    }

    /// The mark at a committed index, or before the first.
    pub(super) fn mark(&self, index: Index) -> Option<Mark> {
        if index == Index(0) { Some(Mark::default()) } else { self.committed(index).map(|c| c.mark) }
    }

    pub(super) fn leader(&self, term: Term) -> Option<&Leader> {
        self.leaders.get(&term)
    }

    /// 1: nobody else led this term. True when it is news.
    pub(super) fn leads(&mut self, term: Term, leader: Leader) -> Result<bool, Broken> {
        let mut is_new = false;
        let known = *self.leaders.entry(term).or_insert_with(|| {
            is_new = true;
            leader
        });
        hold!(
            known == leader,
            ElectionSafety,
            "leads term {term} in boot {}, {} did in boot {}",
            leader.incarnation,
            known.identity,
            known.incarnation
        );
        Ok(is_new)
    }

    /// 3: one index and term, one entry.
    pub(super) fn saw_entry(&mut self, index: Index, mark: Mark) -> Result<(), Broken> {
        let Some(at) = position(index) else { return Ok(()) };
        if at == self.entries.len() {
            self.entries.push(mark);
            return Ok(());
        }
        let known = match self.entries.get(at) {
            Some(first) if first.term == mark.term => first.chain,
            _ => *self.other_entries.entry((index, mark.term)).or_insert(mark.chain),
        };
        hold!(
            known == mark.chain,
            LogMatching,
            "holds {index}@{} with chain {:08x}, another node had {known:08x}",
            mark.term,
            mark.chain
        );
        Ok(())
    }

    /// 9: one vote a term, as the disks have it.
    pub(super) fn voted(&mut self, voter: Identity, hard_state: HardState) -> Result<(), Broken> {
        let Some(vote) = hard_state.vote else { return Ok(()) };
        let known = *self.votes.entry((hard_state.term, voter)).or_insert(vote);
        hold!(
            known == vote,
            Monotone,
            "{voter} voted for {known} and for {vote} in term {}",
            hard_state.term
        );
        Ok(())
    }

    pub(super) fn vote(&self, term: Term, voter: Identity) -> Option<Identity> {
        self.votes.get(&(term, voter)).copied()
    }

    /// Fixes the next index.
    pub(super) fn commits(&mut self, committed: Committed) {
        self.committed.push(committed);
    }

    /// The newest committed index was counted by this membership.
    pub(super) fn counted_by(&mut self, membership: Arc<Membership>) {
        self.committed_by = Some(membership);
    }

    /// The newest committed entry, its index, and the membership that it was counted by: who committed it may hold
    /// another than those who only hear of it.
    pub(super) fn newest(&self) -> Option<(Index, &Committed, &Membership)> {
        Some((self.commit(), self.committed.last()?, self.committed_by.as_deref()?))
    }

    /// 7: what a node holds as committed is what was committed. Takes note of a lower term that knows it.
    pub(super) fn knows(&mut self, index: Index, mark: Mark, term: Term) -> Result<(), Broken> {
        let Some(known) = position(index).and_then(|at| self.committed.get_mut(at)) else { return Ok(()) };
        hold!(
            known.mark == mark,
            CommittedImmutable,
            "has {index}@{} chain {:08x} as committed, {} had committed {index}@{} chain {:08x} at {}",
            mark.term,
            mark.chain,
            known.by,
            known.mark.term,
            known.mark.chain,
            known.at
        );
        known.known_in = known.known_in.min(term);
        Ok(())
    }

    /// The highest index that a leader of this term must hold.
    pub(super) fn committed_before(&self, term: Term) -> Index {
        let found = self.committed.iter().rposition(|committed| committed.known_in < term);
        found.map_or(Index(0), |at| Index(at as u64 + 1))
    }
}

fn position(index: Index) -> Option<usize> {
    usize::try_from(index.0.checked_sub(1)?).ok()
}
