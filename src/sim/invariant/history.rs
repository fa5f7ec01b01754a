//! The clients' history by key, judged window by window: invariant 17.
//!
//! A key's history is cut where no operation on it is open. What the key holds there begins the next window as a write
//! of its own; operations of unknown outcome go along, for they may take effect at any later time.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use super::operations::End;
use super::versions::Versions;
use super::violation::{Broken, hold};
use crate::check::{self, Answer, Budget, Call, History, Outcome, Process, Register, Verdict};
use crate::kv::{self, CommandResult, Previous};

/// How many operations of a key make a window worth judging.
const WINDOW_COUNT: usize = 256;

/// Steps for one window; what needs more is counted as undecided.
const WINDOW_STEPS: u64 = 200_000;

/// What is asked of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Get,
    Put(Box<[u8]>),
    Delete,
    Cas { old: Option<Box<[u8]>>, new: Box<[u8]> },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("get"),
            Self::Put(value) => write!(f, "put {}", value.escape_ascii()),
            Self::Delete => f.write_str("delete"),
            Self::Cas { new, .. } => write!(f, "cas to {}", new.escape_ascii()),
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Invoked(u64),
    Returned(u64),
}

/// An operation in a window, as the checker is told of it.
#[derive(Clone, Debug)]
struct Told {
    call: Call,
    outcome: Outcome<Answer>,
}

/// One key's window.
#[derive(Debug, Default)]
struct KeyHistory {
    /// What the key held when the window began.
    initial: Option<String>,
    events: Vec<Event>,
    told: BTreeMap<u64, Told>,
    open: BTreeSet<u64>,
}

/// All keys.
#[derive(Debug, Default)]
pub(super) struct Histories {
    keys: BTreeMap<Box<[u8]>, KeyHistory>,
    /// Windows that the budget did not suffice for.
    pub(super) undecided: u64,
}

impl Histories {
    pub(super) fn invoked(&mut self, key: &[u8], operation: u64, step: Step) {
        let history = match self.keys.get_mut(key) {
            Some(history) => history,
            None => self.keys.entry(key.into()).or_default(),
        };
        let told = Told { call: call_of(step), outcome: Outcome::Unknown };
        history.events.push(Event::Invoked(operation));
        history.told.insert(operation, told);
        history.open.insert(operation);
    }

    /// An operation ended; judges the key's window when it is long enough and nothing is open.
    pub(super) fn returned(
        &mut self,
        key: &[u8],
        operation: u64,
        step: &Step,
        end: End<'_>,
        versions: &Versions,
    ) -> Result<(), Broken> {
        let Some(history) = self.keys.get_mut(key) else { return Ok(()) };
        history.open.remove(&operation);
        if let Some(told) = history.told.get_mut(&operation) {
            told.tell(step, end);
            if !matches!(told.outcome, Outcome::Unknown) {
                history.events.push(Event::Returned(operation));
            }
        }
        if history.open.is_empty() && history.told.len() >= WINDOW_COUNT {
            self.undecided += u64::from(history.judge(key)?);
            let held = versions.held(key).map(|version| text(&version.value));
            history.cut(held);
        }
        Ok(())
    }

    /// Judges all that was not judged yet.
    pub(super) fn judge(&mut self) -> Result<(), Broken> {
        for (key, history) in &self.keys {
            self.undecided += u64::from(history.judge(key)?);
        }
        Ok(())
    }
}

impl Told {
    /// What the checker is to know of an answer. A failed comparison saw the value it names, so it is a read.
    fn tell(&mut self, step: &Step, end: End<'_>) {
        self.outcome = match end {
            End::NotDone => Outcome::Failed,
            End::Unknown => Outcome::Unknown,
            End::Read { result, .. } => match kv::Answer::decode(result) {
                Ok(kv::Answer::Found { value, .. }) => Outcome::Ok(Answer::Value(Some(text(value)))),
                Ok(kv::Answer::Missing) => Outcome::Ok(Answer::Value(None)),
                _ => Outcome::Unknown,
            },
            End::Applied { result, .. } => match CommandResult::decode(result) {
                Ok(CommandResult::Done { .. }) if *step != Step::Get => Outcome::Ok(Answer::Done),
                Ok(CommandResult::CompareFailed { previous }) => match previous {
                    None => self.saw(None),
                    Some(Previous { value: Some(value), .. }) => self.saw(Some(text(&value))),
                    Some(Previous { value: None, .. }) => Outcome::Failed,
                },
                Ok(CommandResult::Refused(_)) => Outcome::Failed,
                _ => Outcome::Unknown,
            },
        };
    }

    fn saw(&mut self, value: Option<String>) -> Outcome<Answer> {
        self.call = Call::Read;
        Outcome::Ok(Answer::Value(value))
    }
}

impl KeyHistory {
    /// True when the budget did not suffice.
    fn judge(&self, key: &[u8]) -> Result<bool, Broken> {
        let Ok(history) = self.to_history() else { return Ok(true) };
        match check::check(&history, &Register::absent(), &mut Budget::steps(WINDOW_STEPS)) {
            Verdict::Linearizable => Ok(false),
            Verdict::Unknown => Ok(true),
            Verdict::NotLinearizable(window) => {
                let operations: Vec<String> = window.operations().iter().map(ToString::to_string).collect();
                let key = key.escape_ascii();
                hold!(false, Linearizability, "key {key} has no order for: {}", operations.join("; "));
                Ok(false)
            }
        }
    }

    /// Each operation is a process of its own: the checker then relies on nothing but the events' order.
    fn to_history(&self) -> Result<History<Call, Answer>, check::HistoryError> {
        let mut history = History::new();
        if let Some(initial) = &self.initial {
            let process = Process(u64::MAX);
            history.invoke(process, "k", Call::Write(initial.clone()))?;
            history.complete(process, Outcome::Ok(Answer::Done))?;
        }
        for event in &self.events {
            match event {
                Event::Invoked(operation) => {
                    if let Some(told) = self.told.get(operation) {
                        history.invoke(Process(*operation), "k", told.call.clone())?;
                    }
                }
                Event::Returned(operation) => {
                    if let Some(told) = self.told.get(operation) {
                        history.complete(Process(*operation), told.outcome.clone())?;
                    }
                }
            }
        }
        Ok(history)
    }

    fn cut(&mut self, held: Option<String>) {
        self.initial = held;
        self.told
            .retain(|_, told| matches!(told.outcome, Outcome::Unknown) && !matches!(told.call, Call::Read));
        self.events = self.told.keys().map(|operation| Event::Invoked(*operation)).collect();
    }
}

fn call_of(step: Step) -> Call {
    match step {
        Step::Get => Call::Read,
        Step::Put(value) => Call::Write(text(&value)),
        Step::Delete => Call::Delete,
        Step::Cas { old, new } => Call::Cas { old: old.map(|old| text(&old)), new: Some(text(&new)) },
    }
}

fn text(value: &[u8]) -> String {
    value.escape_ascii().to_string()
}
