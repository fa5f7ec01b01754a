//! What the formats have in common: each line says what one process did.

use raftgram::check::{Answer, Call, History, Outcome, Process};
use serde::Deserialize;

/// A line that is no part of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// From 1 on.
    pub(super) line: usize,
    pub(super) why: String,
}

/// One line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) process: u64,
    pub(super) key: String,
    pub(super) kind: Kind,
    pub(super) function: Function,
    pub(super) value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Function {
    Read,
    Write,
    Cas,
    Delete,
    #[serde(skip)]
    Append,
}

/// What a line says of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing.
    Unsaid,
    /// What a key holds.
    Held(Option<String>),
    /// What a cas compares with, and what it sets.
    Pair(Option<String>, Option<String>),
}

/// Reads every line that is not blank.
pub(super) fn read(
    text: &str,
    mut parse: impl FnMut(&str) -> Result<Event, String>,
) -> Result<History<Call, Answer>, Malformed> {
    let mut history = History::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        parse(line)
            .and_then(|event| record(&mut history, event))
            .map_err(|why| Malformed { line: at + 1, why })?;
    }
    Ok(history)
}

fn record(history: &mut History<Call, Answer>, event: Event) -> Result<(), String> {
    let process = Process(event.process);
    if event.kind == Kind::Invoke {
        let call = call(event.function, event.value)?;
        return history.invoke(process, event.key, call).map_err(|error| error.to_string());
    }
    let outcome = match history.open(process) {
        Some(open) => {
            if function(&open.call) != event.function || open.key != event.key {
                return Err(format!("process {} returns from another call than it has open", process.0));
            }
            match (event.kind, &open.call, event.value) {
                (Kind::Ok, Call::Read, Value::Held(value)) => Outcome::Ok(Answer::Value(value)),
                (Kind::Ok, Call::Read, _) => return Err("a read's return does not say what it found".into()),
                (Kind::Ok, _, value) => {
                    agrees(&open.call, event.function, value)?;
                    Outcome::Ok(Answer::Done)
                }
                (Kind::Fail, ..) => Outcome::Failed,
                (Kind::Info | Kind::Invoke, ..) => Outcome::Unknown,
            }
        }
        // Refused below, in the history's own words.
        None => Outcome::Unknown,
    };
    history.complete(process, outcome).map_err(|error| error.to_string())
}

/// A return may say its value again, but no other one.
fn agrees(open: &Call, function: Function, value: Value) -> Result<(), String> {
    if matches!(value, Value::Unsaid | Value::Held(None)) || call(function, value)? == *open {
        return Ok(());
    }
    Err(format!("this is no return of `{open}`"))
}

fn call(function: Function, value: Value) -> Result<Call, String> {
    Ok(match (function, value) {
        (Function::Read, _) => Call::Read,
        (Function::Delete, _) => Call::Delete,
        (Function::Write, Value::Held(Some(value))) => Call::Write(value),
        (Function::Append, Value::Held(Some(value))) => Call::Append(value),
        (Function::Cas, Value::Pair(old, new)) => Call::Cas { old, new },
        (Function::Write, _) => return Err("a write needs a value".into()),
        (Function::Append, _) => return Err("an append needs a value".into()),
        (Function::Cas, _) => return Err("a cas needs what it compares with and what it sets".into()),
    })
}

const fn function(call: &Call) -> Function {
    match call {
        Call::Read => Function::Read,
        Call::Write(_) => Function::Write,
        Call::Delete => Function::Delete,
        Call::Cas { .. } => Function::Cas,
        Call::Append(_) => Function::Append,
    }
}
