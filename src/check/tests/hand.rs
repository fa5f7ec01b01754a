//! Histories small enough to see the verdict.

use std::fmt;

use super::super::{HistoryError, Model};
use super::*;

fn window_of(history: &KeyHistory) -> String {
    match judge(history) {
        Verdict::NotLinearizable(window) => window.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_linearizable() {
    assert_eq!(judge(&History::new()), Verdict::Linearizable);
}

#[test]
fn a_value_that_nobody_wrote_is_a_window_of_its_own() {
    let mut history = History::new();
    at_once(&mut history, 1, write("a"), DONE);
    at_once(&mut history, 1, write("b"), DONE);
    at_once(&mut history, 2, Call::Read, found("c"));
    let shown = "key k, whatever it held before: no order explains event 5\n  [4..5] process 2: read -> c";
    assert_eq!(window_of(&history), shown);
}

#[test]
fn a_stale_read_is_shown_with_the_write_that_it_missed() {
    let mut history = History::new();
    for value in ["a", "b", "c", "d"] {
        at_once(&mut history, 1, write(value), DONE);
        at_once(&mut history, 2, Call::Read, found(value));
    }
    at_once(&mut history, 1, write("e"), DONE);
    at_once(&mut history, 3, Call::Read, found("e"));
    at_once(&mut history, 2, Call::Read, found("b"));
    at_once(&mut history, 2, Call::Read, found("e"));
    let shown = "key k, whatever it held before: no order explains event 21\n  \
        [18..19] process 3: read -> e\n  [20..21] process 2: read -> b";
    assert_eq!(window_of(&history), shown);
}

#[test]
fn what_is_open_where_a_window_begins_may_have_happened_before() {
    let mut history = History::new();
    at_once(&mut history, 1, write("a"), DONE);
    invoke(&mut history, 2, write("b"));
    at_once(&mut history, 1, write("c"), DONE);
    at_once(&mut history, 1, Call::Read, found("c"));
    complete(&mut history, 2, DONE);
    at_once(&mut history, 1, Call::Read, found("a"));
    let Verdict::NotLinearizable(window) = judge(&history) else { panic!() };
    assert_eq!(window.fails_at(), 9);
    // The write of b spans the read of c: both, or the read of a would be explained by the write of a.
    let calls: Vec<String> = window.operations().iter().map(|one| one.call.to_string()).collect();
    assert_eq!(calls, ["write b", "read", "read"]);
}

#[test]
fn a_pending_write_may_take_effect_late_or_never() {
    for answer in ["a", "b"] {
        let mut history = History::new();
        at_once(&mut history, 1, write("a"), DONE);
        at_once(&mut history, 2, write("b"), Outcome::Unknown);
        at_once(&mut history, 1, Call::Read, found("a"));
        at_once(&mut history, 1, Call::Read, found(answer));
        assert_eq!(judge(&history), Verdict::Linearizable, "{answer}");
        at_once(&mut history, 1, write("c"), DONE);
        at_once(&mut history, 1, Call::Read, found("b"));
        // Once only.
        assert_eq!(judge(&history) == Verdict::Linearizable, answer == "a");
    }
}

#[test]
fn an_operation_open_at_the_end_is_pending() {
    let mut history = History::new();
    invoke(&mut history, 1, write("a"));
    at_once(&mut history, 2, Call::Read, found("a"));
    assert_eq!(judge(&history), Verdict::Linearizable);
}

#[test]
fn a_failed_operation_did_nothing() {
    let mut history = History::new();
    at_once(&mut history, 1, write("a"), Outcome::Failed);
    at_once(&mut history, 2, Call::Read, found("a"));
    assert!(matches!(judge(&history), Verdict::NotLinearizable(_)));
}

#[test]
fn a_read_that_timed_out_tells_nothing() {
    let mut history = History::new();
    at_once(&mut history, 1, write("a"), DONE);
    at_once(&mut history, 2, Call::Read, Outcome::Unknown);
    at_once(&mut history, 3, Call::Read, Outcome::Failed);
    at_once(&mut history, 1, Call::Read, found("a"));
    assert_eq!(judge(&history), Verdict::Linearizable);
}

#[test]
fn two_of_one_cas_cannot_both_succeed() {
    let mut history = History::new();
    at_once(&mut history, 1, write("a"), DONE);
    invoke(&mut history, 1, cas("a", "b"));
    invoke(&mut history, 2, cas("a", "b"));
    complete(&mut history, 1, DONE);
    complete(&mut history, 2, DONE);
    let shown = "key k, whatever it held before: no order explains event 5\n  \
        [2..5] process 2: cas a b -> ok\n  [3..4] process 1: cas a b -> ok";
    let swapped = shown.replace("[2..5] process 2", "[2..4] process 1");
    assert_eq!(window_of(&history), swapped.replace("[3..4] process 1", "[3..5] process 2"));
}

#[test]
fn deleted_and_never_written_are_both_absent() {
    let mut history = History::new();
    let absent = || Outcome::Ok(Answer::Value(None));
    at_once(&mut history, 1, Call::Read, absent());
    at_once(&mut history, 1, Call::Cas { old: None, new: Some("a".into()) }, DONE);
    at_once(&mut history, 1, Call::Delete, DONE);
    at_once(&mut history, 1, Call::Read, absent());
    assert_eq!(judge(&history), Verdict::Linearizable);
    at_once(&mut history, 1, Call::Read, found("a"));
    assert!(matches!(judge(&history), Verdict::NotLinearizable(_)));
}

#[test]
fn keys_are_judged_apart_and_the_smallest_window_is_shown() {
    let mut history = History::new();
    let on = |history: &mut KeyHistory, key: &str, call: Call, outcome: Outcome<Answer>| {
        history.invoke(Process(1), key, call).unwrap();
        history.complete(Process(1), outcome).unwrap();
    };
    on(&mut history, "a", write("1"), DONE);
    on(&mut history, "b", write("1"), DONE);
    on(&mut history, "a", Call::Read, Outcome::Ok(Answer::Value(None)));
    on(&mut history, "b", Call::Read, found("1"));
    on(&mut history, "c", Call::Read, found("1"));
    let Verdict::NotLinearizable(window) = judge(&history) else { panic!() };
    assert_eq!((window.key(), window.operations().len()), ("c", 1));
}

#[test]
fn an_empty_register_reads_as_empty_text() {
    let mut history = History::new();
    at_once(&mut history, 1, Call::Read, found(""));
    at_once(&mut history, 1, Call::Append("ab".into()), DONE);
    at_once(&mut history, 1, Call::Append("c".into()), DONE);
    at_once(&mut history, 1, Call::Read, found("abc"));
    assert_eq!(check(&history, &Register::empty(), &mut Budget::default()), Verdict::Linearizable);
    assert!(matches!(judge(&history), Verdict::NotLinearizable(_)));
}

#[test]
fn a_budget_that_is_spent_is_no_verdict() {
    let mut history = History::new();
    at_once(&mut history, 1, write("a"), DONE);
    assert_eq!(check(&history, &Register::absent(), &mut Budget::steps(0)), Verdict::Unknown);
    let mut budget = Budget::steps(100);
    assert_eq!(check(&history, &Register::absent(), &mut budget), Verdict::Linearizable);
    assert!((1..10).contains(&budget.spent()), "{}", budget.spent());
}

#[test]
fn a_process_does_one_thing_at_a_time() {
    let mut history = History::new();
    invoke(&mut history, 1, Call::Read);
    assert_eq!(history.invoke(Process(1), "k", Call::Read), Err(HistoryError::AlreadyOpen(Process(1))));
    assert_eq!(history.open(Process(1)).map(|open| &open.call), Some(&Call::Read));
    complete(&mut history, 1, Outcome::Unknown);
    assert_eq!(history.complete(Process(1), DONE), Err(HistoryError::NotOpen(Process(1))));
    let retired = history.invoke(Process(1), "k", Call::Read);
    assert_eq!(retired, Err(HistoryError::Retired(Process(1))));
    assert_eq!(retired.unwrap_err().to_string(), "process 1 was retired by an operation of unknown outcome");
    assert_eq!(history.operations().len(), 1);
}

/// A counter whose increments answer with what they led to: a model that knows nothing of effects.
#[derive(Debug)]
struct Counter;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Increment;

impl fmt::Display for Increment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("increment")
    }
}

impl Model for Counter {
    type Call = Increment;
    type Answer = u32;
    type State = u32;

    fn initial(&self) -> u32 {
        0
    }

    fn step(&self, state: &u32, _call: &Increment, answer: Option<&u32>) -> Option<u32> {
        answer.is_none_or(|answer| *answer == state + 1).then_some(state + 1)
    }
}

#[test]
fn any_machine_with_a_model_can_be_checked() {
    let mut history = History::<Increment, u32>::new();
    for process in 1..=4 {
        history.invoke(Process(process), "n", Increment).unwrap();
    }
    for (process, answer) in [(1, 3), (2, 1)] {
        history.complete(Process(process), Outcome::Ok(answer)).unwrap();
    }
    assert_eq!(check(&history, &Counter, &mut Budget::default()), Verdict::Linearizable);
    history.complete(Process(3), Outcome::Ok(5)).unwrap();
    let verdict = check(&history, &Counter, &mut Budget::default());
    let Verdict::NotLinearizable(window) = verdict else { panic!("{verdict:?}") };
    assert_eq!(window.fails_at(), 6);
}
