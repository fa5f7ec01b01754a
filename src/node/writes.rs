//! Clients that wait for their entry to be applied.
//!
//! A client that hears nothing for a while asks again, by a new call. While its entry still waits to be committed, the
//! new call waits with it: were each retry an entry of its own, a leader that commits slower than its clients lose
//! patience would be given ever more to commit, and would not recover when the load goes back (scenarios U1, U13).
//!
//! No client has the queue to itself: once half of it is taken, nobody gets a further place who has as many as would be
//! left for somebody new if all who wait had as much. So as entries are done, places come free for whoever comes with
//! little, however much others ask for.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use crate::rpc::{LinkId, Token};
use crate::time::Instant;
use crate::types::{Index, Sequence, SessionId, Term};

/// What makes two proposals the same write: all retries of a client carry it.
pub(super) type WriteName = (SessionId, Sequence);

/// The clients that wait, by the entry they wait for.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// In order of the log. Nearly always entries are proposed at its end and done at its beginning.
    by_index: VecDeque<Write>,
    by_name: BTreeMap<WriteName, Index>,
    /// How many calls wait, retries counted.
    calls: usize,
    /// The same by whom they came from; nobody of whom there is none.
    by_link: BTreeMap<LinkId, usize>,
}

/// One entry that was proposed here.
#[derive(Debug)]
struct Write {
    index: Index,
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

    /// True when a call on this link finds no place among `most`.
    pub(super) fn is_full_for(&self, link: LinkId, most: usize) -> bool {
        let share = most / (self.by_link.len() + 1);
        let own = self.by_link.get(&link).copied().unwrap_or(0);
        self.calls >= most || (self.calls >= most / 2 && own > 0 && own >= share)
    }

    fn count(&mut self, token: Token) {
        self.calls += 1;
        *self.by_link.entry(token.link()).or_default() += 1;
    }

    fn discount(&mut self, token: Token) {
        self.calls -= 1;
        if let Entry::Occupied(mut own) = self.by_link.entry(token.link()) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    /// This call waits for the entry that was just proposed.
    ///
    /// # Panics
    /// When a call waits for that index already.
    pub(super) fn insert(&mut self, now: Instant, at: (Index, Term), name: Option<WriteName>, token: Token) {
        let (index, term) = at;
        let write = Write { index, term, proposed_at: now, name, token, retries: Vec::new() };
        let place = match self.by_index.back() {
            Some(last) if last.index >= index => self.place(index).expect_err("one proposal at an index"),
            _ => self.by_index.len(),
        };
        self.by_index.insert(place, write);
        if let Some(name) = name {
            self.by_name.insert(name, index);
        }
        self.count(token);
    }

    /// Where the entry's write stands, or would.
    fn place(&self, index: Index) -> Result<usize, usize> {
        self.by_index.binary_search_by_key(&index, |write| write.index)
    }

    /// True when this write waits here already; the call waits with it from now on.
    pub(super) fn join(&mut self, name: WriteName, token: Token) -> bool {
        let place = self.by_name.get(&name).and_then(|index| self.place(*index).ok());
        let Some(write) = place.and_then(|place| self.by_index.get_mut(place)) else { return false };
        if write.token != token && !write.retries.contains(&token) {
            write.retries.push(token);
            self.count(token);
        }
        true
    }

    /// Those who wait for this entry, and in which term and when it was proposed.
    pub(super) fn remove(&mut self, index: Index) -> Option<(Proposed, impl Iterator<Item = Token> + use<>)> {
        let place = match self.by_index.front() {
            Some(first) if first.index == index => 0,
            _ => self.place(index).ok()?,
        };
        let write = self.by_index.remove(place)?;
        if let Some(name) = write.name {
            self.by_name.remove(&name);
        }
        self.discount(write.token);
        write.retries.iter().for_each(|token| self.discount(*token));
        let proposed = Proposed { term: write.term, at: write.proposed_at };
        Some((proposed, std::iter::once(write.token).chain(write.retries)))
    }

    /// Everyone who waits.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Token> + use<> {
        let all = std::mem::take(self);
        all.by_index.into_iter().flat_map(|write| std::iter::once(write.token).chain(write.retries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1000;

    fn of(link: u32) -> LinkId {
        Token::stale(link, 0).link()
    }

    /// Offers calls of one client until it is sent away; how many were taken.
    fn fill(writes: &mut Writes, link: u32, next: &mut u64) -> usize {
        let mut taken = 0;
        while !writes.is_full_for(of(link), MOST) {
            let token = Token::stale(link, *next);
            writes.insert(Instant::ZERO, (Index(*next), Term(1)), None, token);
            *next += 1;
            taken += 1;
        }
        taken
    }

    #[test]
    fn whoever_comes_with_little_finds_a_place_however_much_others_ask_for() {
        let (mut writes, mut next, mut done) = (Writes::default(), 1, 0);
        assert_eq!(fill(&mut writes, 1, &mut next), MOST / 2, "one alone leaves half");
        assert_eq!(fill(&mut writes, 2, &mut next), MOST / 3);
        // All that a third finds is what the two have left; as theirs are done they get no more than their share.
        for _ in 0..50 {
            for link in 1..=3 {
                fill(&mut writes, link, &mut next);
            }
            assert!(writes.len() <= MOST);
            for _ in 0..20 {
                done += 1;
                assert!(writes.remove(Index(done)).is_some());
            }
        }
        for link in 1..=3 {
            fill(&mut writes, link, &mut next);
        }
        assert!(writes.by_link.values().all(|own| *own <= MOST / 4), "{:?}", writes.by_link);
        assert!(!writes.is_full_for(of(4), MOST), "{} wait", writes.len());
        (done + 1..next).for_each(|index| drop(writes.remove(Index(index))));
        assert_eq!((writes.len(), writes.by_link.len()), (0, 0));
    }
}
