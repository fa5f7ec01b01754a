//! What a file must hold from line to line.

use std::sync::Arc;

use crate::raft::RoleKind;
use crate::time::Instant;
use crate::trace::{
    Boot, Change, Checker, Durable, Event, Fault, Header, Members, NoteKind, Source, State, What,
};
use crate::types::{Incarnation, Index, NodeId, StoreId, Term};

fn state() -> State {
    State {
        term: Term(5),
        vote: None,
        role: RoleKind::Follower,
        leader: None,
        commit: Index(7),
        base: Index(2),
        last_index: Index(9),
        last_term: Term(5),
        durable: Durable { term: Term(5), vote: None, last_index: Index(8) },
        members: Arc::new(Members::default()),
    }
}

fn node() -> NodeId {
    NodeId::MIN
}

fn header() -> What {
    What::Header(Header { source: Source::Simulation { seed: 1 }, cluster: None })
}

fn boot() -> What {
    let address = ([127, 0, 0, 1], 7101).into();
    What::Boot(Boot { incarnation: Incarnation(1), store: StoreId([1; 16]), address })
}

/// Checks these, a nanosecond apart, and says what the last one gives.
#[track_caller]
fn check(whats: impl IntoIterator<Item = What>) -> Result<(), Fault> {
    let mut checker = Checker::default();
    let mut last = Ok(());
    for (at, what) in whats.into_iter().enumerate() {
        assert_eq!(last, Ok(()), "before the last line");
        let event = Event { at: Instant::from_nanos(at as u64), node: Some(node()), what };
        last = checker.line(&event.to_line()).map(|read| assert_eq!(read, event));
    }
    last
}

fn changed(change: impl FnOnce(&mut State)) -> What {
    let mut state = state();
    change(&mut state);
    What::Change(Change::Term, state)
}

#[test]
fn a_header_comes_first_and_once() {
    assert_eq!(check([header(), boot()]), Ok(()));
    assert_eq!(check([boot()]), Err(Fault::HeaderPlace));
    assert_eq!(check([header(), header()]), Err(Fault::HeaderPlace));
}

#[test]
fn time_does_not_run_back() {
    let mut checker = Checker::default();
    let line = |at, what| Event { at: Instant::from_nanos(at), node: None, what }.to_line();
    let note = || What::Note(NoteKind::Heal, String::new());
    assert!(checker.line(&line(5, header())).is_ok());
    assert!(checker.line(&line(5, note())).is_ok());
    let (last, at) = (Instant::from_nanos(5), Instant::from_nanos(4));
    assert_eq!(checker.line(&line(4, note())), Err(Fault::TimeRunsBack { last, at }));
    assert_eq!(checker.counts().lines(), 3);
}

#[test]
fn a_state_needs_a_boot_before_it() {
    assert_eq!(check([header(), changed(|_| {})]), Err(Fault::NoBoot { node: node() }));
}

#[test]
fn within_a_boot_nothing_falls_that_must_not() {
    let lower_term = |s: &mut State| (s.term, s.last_term, s.durable.term) = (Term(4), Term(4), Term(4));
    let cases = [
        ("term", 5, 4, changed(lower_term)),
        ("durable term", 5, 3, changed(|s| s.durable.term = Term(3))),
        ("commit index", 7, 6, changed(|s| s.commit = Index(6))),
        ("log's base", 2, 1, changed(|s| s.base = Index(1))),
    ];
    for (what, from, to, line) in cases {
        let fault = check([header(), boot(), changed(|_| {}), line.clone()]);
        assert_eq!(fault, Err(Fault::Fell { node: node(), what, from, to }));
        assert_eq!(check([header(), boot(), changed(|_| {}), boot(), line]), Ok(()));
    }
    // A follower's tail may go, and with it what is durable of it.
    let cut = changed(|s| (s.last_index, s.durable.last_index) = (Index(7), Index(7)));
    assert_eq!(check([header(), boot(), changed(|_| {}), cut]), Ok(()));
}

#[test]
fn a_state_that_contradicts_itself_is_found() {
    let cases: [fn(&mut State); 5] = [
        |s| s.durable.term = Term(6),
        |s| s.commit = Index(10),
        |s| s.base = Index(10),
        |s| s.last_term = Term(6),
        |s| s.durable.last_index = Index(10),
    ];
    for change in cases {
        let fault = check([header(), boot(), changed(change)]);
        assert!(matches!(fault, Err(Fault::Impossible { .. })), "{fault:?}");
    }
}
