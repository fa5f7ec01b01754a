//! Tests of the checker: histories made by hand, mutated ones judged twice, and large ones.

mod brute;
mod hand;
mod large;
mod mutated;

use super::{Answer, Budget, Call, History, Outcome, Process, Register, Verdict, check};

type KeyHistory = History<Call, Answer>;

/// Judges a history of absent registers with the default budget.
fn judge(history: &KeyHistory) -> Verdict<Call, Answer> {
    check(history, &Register::absent(), &mut Budget::default())
}

/// A read's answer.
fn found(value: &str) -> Outcome<Answer> {
    Outcome::Ok(Answer::Value(Some(value.to_owned())))
}

const DONE: Outcome<Answer> = Outcome::Ok(Answer::Done);

fn write(value: &str) -> Call {
    Call::Write(value.to_owned())
}

fn cas(old: &str, new: &str) -> Call {
    Call::Cas { old: Some(old.to_owned()), new: Some(new.to_owned()) }
}

/// Invokes on key `k`; panics where the history refuses.
fn invoke(history: &mut KeyHistory, process: u64, call: Call) {
    history.invoke(Process(process), "k", call).unwrap();
}

fn complete(history: &mut KeyHistory, process: u64, outcome: Outcome<Answer>) {
    history.complete(Process(process), outcome).unwrap();
}

/// An operation that nothing overlaps.
fn at_once(history: &mut KeyHistory, process: u64, call: Call, outcome: Outcome<Answer>) {
    invoke(history, process, call);
    complete(history, process, outcome);
}
