//! Tables for the log.

use super::{CLUSTER, command, log_of, voters};
use crate::entry::{Entry, Payload};
use crate::raft::config::Base;
use crate::raft::log::Log;
use crate::remains::LogEnd;
use crate::types::{Index, Term};

fn log(terms: &[u64]) -> Log {
    Log::restore(CLUSTER, Base::default(), voters(&[1, 2, 3]), log_of(terms))
}

#[test]
fn terms_are_found_by_index_and_indexes_by_term() {
    let log = log(&[1, 1, 4, 4, 4, 6]);
    assert_eq!((log.last_index(), log.last_term()), (Index(6), Term(6)));
    for (index, term) in [(0, Some(0)), (1, Some(1)), (3, Some(4)), (6, Some(6)), (7, None)] {
        assert_eq!(log.term_at(Index(index)), term.map(Term), "at {index}");
    }
    for (term, first) in [(1, 1), (4, 3), (6, 6)] {
        assert_eq!(log.first_index_of(Term(term)), Index(first), "of {term}");
    }
    for (term, last) in [(0, 0), (1, 2), (3, 2), (4, 5), (5, 5), (6, 6), (9, 6)] {
        assert_eq!(log.last_index_through(Term(term)), Index(last), "through {term}");
    }
}

/// Raft paper §5.4.1.
#[test]
fn the_later_last_term_wins_and_then_the_longer_log() {
    let end = |term, index| LogEnd { index: Index(index), term: Term(term) };
    let ours = end(3, 3);
    for (last_term, last_index, covers) in
        [(3, 3, true), (3, 4, true), (3, 2, false), (4, 1, true), (2, 9, false), (0, 0, false)]
    {
        assert_eq!(end(last_term, last_index).covers(ours), covers, "{last_index}@{last_term}");
    }
    assert!(end(0, 0).covers(LogEnd::default()));
}

#[test]
fn a_batch_stops_before_its_bound_and_holds_at_least_one() {
    // Each entry holds three bytes, "1@1", and counts eight more.
    let log = log(&[1, 1, 1, 1]);
    for (from, bytes_max, count) in
        [(1, 1, 1), (1, 21, 1), (1, 22, 2), (1, 1000, 4), (4, 1000, 1), (5, 1000, 0)]
    {
        let (entries, bytes) = log.batch(Index(from), bytes_max);
        assert_eq!((entries.len(), bytes), (count, count * 11), "from {from} up to {bytes_max} bytes");
    }
}

#[test]
fn bytes_are_given_back_by_truncation() {
    let mut log = log(&[1, 1, 2]);
    let (full, empty) = (log.bytes(), 0);
    log.truncate_from(Index(2));
    assert_eq!(log.bytes(), full / 3);
    log.truncate_from(Index(1));
    assert_eq!(log.bytes(), empty);
    assert_eq!((log.last_index(), log.last_term(), log.last_chain()), (Index(0), Term(0), 0));
}

/// Thesis §4.1: a membership acts from the moment it is in the log. M3: truncated, it acts no more.
#[test]
fn a_membership_acts_when_appended_and_is_reverted_when_truncated() {
    let mut log = log(&[1, 1]);
    let four = voters(&[1, 2, 3, 4]);
    let index = log.append(Term(2), Payload::Membership(four.clone().into()));
    log.append(Term(2), command("after"));
    assert_eq!((&**log.membership(), log.membership_index()), (&four, index));
    log.truncate_from(index);
    assert_eq!((&**log.membership(), log.membership_index()), (&voters(&[1, 2, 3]), Index(0)));
}

#[test]
fn a_log_may_begin_after_a_base() {
    let base = Base { index: Index(10), term: Term(3), chain: 77 };
    let mut log = Log::restore(CLUSTER, base, voters(&[1]), Vec::new());
    assert_eq!((log.last_index(), log.last_term(), log.last_chain()), (Index(10), Term(3), 77));
    assert_eq!(log.append(Term(4), command("x")), Index(11));
    assert!(log.entry(Index(11)).unwrap().is_chained_to(CLUSTER, 77));
    for (index, term) in [(9, None), (10, Some(Term(3))), (11, Some(Term(4))), (12, None)] {
        assert_eq!(log.term_at(Index(index)), term, "at {index}");
    }
    assert_eq!(log.chain_at(Index(10)), Some(77));
    assert_eq!((log.last_index_through(Term(3)), log.first_index_of(Term(4))), (Index(10), Index(11)));
    assert_eq!(log.entries_from(Index(3)).count(), 1);
}

#[test]
#[should_panic(expected = "entries are consecutive")]
fn a_hole_in_the_log_is_a_broken_invariant() {
    log(&[1]).push(Entry::new(CLUSTER, Index(3), Term(1), Payload::Noop, 0));
}

#[test]
#[should_panic(expected = "term 1 follows term 2")]
fn a_falling_term_is_a_broken_invariant() {
    let mut log = log(&[2]);
    log.append(Term(1), Payload::Noop);
}

#[test]
#[should_panic(expected = "does not continue the chain")]
fn a_restored_log_is_checked_against_its_chain() {
    let mut entries = log_of(&[1, 1, 1]);
    entries[1].payload = command("rot");
    let _ = Log::restore(CLUSTER, Base::default(), voters(&[1]), entries);
}
