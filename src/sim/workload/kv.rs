//! The key–value machine under a mix of puts, gets, deletes and compare-and-sets on few keys.
//!
//! Every value is written once, so a value that is seen tells who wrote it.

use std::collections::BTreeMap;

use super::{Language, Outcome, Process, Request, Workload};
use crate::check::{Answer, Budget, Call, History, Register, Verdict, check};
use crate::kv::{Answer as KvAnswer, Command, CommandResult, Kv, Previous, Query};
use crate::rng::Rng;
use crate::time::Instant;

/// Steps of the checker: a run of a few thousand operations takes a few thousand.
const STEPS_MAX: u64 = 3_000_000;

/// What became of an operation, as a line of a history says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryKind {
    /// It began.
    Invoke,
    /// It took effect.
    Ok,
    /// It certainly did not.
    Fail,
    /// Nobody knows.
    Info,
}

/// An event of the history that clients saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEvent {
    /// When.
    pub at: Instant,
    /// Who.
    pub process: Process,
    /// What it is about.
    pub kind: HistoryKind,
    /// On which key.
    pub key: String,
    /// What was asked.
    pub call: Call,
    /// What a read returned.
    pub read: Option<String>,
}

/// See the module's page.
#[derive(Debug)]
pub struct KvWorkload {
    keys: u64,
    /// Percent of operations that read, compare and set, or delete; the rest put.
    reads: u64,
    cas: u64,
    deletes: u64,
    /// One put in so many is of a value longer than a datagram.
    long_one_in: u64,
    written: u64,
    /// What each key was last seen to hold, for compare-and-sets that succeed.
    guesses: BTreeMap<u64, Option<String>>,
    open: BTreeMap<Process, (String, Call)>,
    history: History<Call, Answer>,
    events: Option<Vec<HistoryEvent>>,
}

/// Whether the events of a run's history are kept for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// They are judged and dropped.
    Nothing,
    /// They are kept.
    History,
}

impl KvWorkload {
    /// A mix drawn from `rng`.
    #[must_use]
    pub fn new(rng: &mut Rng, keep: Keep) -> Self {
        let reads = 10 + rng.below(60);
        Self {
            keys: 1 + rng.below(8),
            reads,
            cas: rng.below(100 - reads),
            deletes: rng.below(10),
            long_one_in: if rng.chance(0.1) { 20 } else { u64::MAX },
            written: 0,
            guesses: BTreeMap::new(),
            open: BTreeMap::new(),
            history: History::new(),
            events: (keep == Keep::History).then(Vec::new),
        }
    }

    /// What clients saw, if it was kept.
    #[must_use]
    pub fn events(&self) -> &[HistoryEvent] {
        self.events.as_deref().unwrap_or_default()
    }

    fn value(&mut self, process: Process, rng: &mut Rng) -> String {
        self.written += 1;
        let value = format!("{}-{}", process.0, self.written);
        match self.long_one_in {
            u64::MAX => value,
            one_in if rng.below(one_in) == 0 => {
                let bytes = 1_000 + rng.below(20_000) as usize;
                format!("{value}{}", "x".repeat(bytes))
            }
            _ => value,
        }
    }

    fn record(&mut self, event: HistoryEvent) {
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }
}

impl Workload for KvWorkload {
    type Machine = Kv;

    const LANGUAGE: Language = Language::Kv;

    fn machine() -> Kv {
        Kv::new()
    }

    fn begin(&mut self, now: Instant, process: Process, rng: &mut Rng) -> Request {
        let key_number = rng.below(self.keys);
        let key = format!("k{key_number}");
        let dice = rng.below(100);
        let call = if dice < self.reads {
            Call::Read
        } else if dice < self.reads + self.cas {
            let old = self.guesses.get(&key_number).cloned().flatten();
            Call::Cas { old, new: Some(self.value(process, rng)) }
        } else if rng.below(100) < self.deletes {
            Call::Delete
        } else {
            Call::Write(self.value(process, rng))
        };
        let request = match &call {
            Call::Read => Request::Read(Query::Get { key: key.as_bytes() }.to_bytes()),
            Call::Delete => Request::Write(Command::Delete { key: key.as_bytes() }.to_bytes()),
            Call::Cas { old, new } => {
                let (old, new) =
                    (old.as_deref().map(str::as_bytes), new.as_deref().unwrap_or_default().as_bytes());
                Request::Write(Command::Cas { key: key.as_bytes(), old, new }.to_bytes())
            }
            Call::Write(value) | Call::Append(value) => {
                self.guesses.insert(key_number, Some(value.clone()));
                Request::Write(Command::Put { key: key.as_bytes(), value: value.as_bytes() }.to_bytes())
            }
        };
        if let Err(error) = self.history.invoke(process, key.as_str(), call.clone()) {
            panic!("the run's own mistake: {error}");
        }
        self.record(HistoryEvent {
            at: now,
            process,
            kind: HistoryKind::Invoke,
            key: key.clone(),
            call: call.clone(),
            read: None,
        });
        self.open.insert(process, (key, call));
        request
    }

    fn end(&mut self, now: Instant, process: Process, outcome: Outcome<&[u8]>) -> Result<(), String> {
        let Some((key, call)) = self.open.remove(&process) else { return Ok(()) };
        let outcome = match outcome {
            Outcome::Ok(result) => {
                judge_result(&call, result).map_err(|text| format!("{call} of {key}: {text}"))?
            }
            Outcome::Failed => Outcome::Failed,
            Outcome::Unknown => Outcome::Unknown,
        };
        if let (Outcome::Ok(Answer::Value(value)), Some(number)) = (&outcome, key[1..].parse().ok()) {
            self.guesses.insert(number, value.clone());
        }
        let (kind, read) = match &outcome {
            Outcome::Ok(Answer::Value(value)) => (HistoryKind::Ok, value.clone()),
            Outcome::Ok(Answer::Done) => (HistoryKind::Ok, None),
            Outcome::Failed => (HistoryKind::Fail, None),
            Outcome::Unknown => (HistoryKind::Info, None),
        };
        if let Err(error) = self.history.complete(process, outcome) {
            panic!("the run's own mistake: {error}");
        }
        self.record(HistoryEvent { at: now, process, kind, key, call, read });
        Ok(())
    }

    fn judge(&mut self) -> Result<(), String> {
        match check(&self.history, &Register::absent(), &mut Budget::steps(STEPS_MAX)) {
            // A search that ran out of steps shows nothing, and is no violation.
            Verdict::Linearizable | Verdict::Unknown => Ok(()),
            Verdict::NotLinearizable(window) => {
                let lines: Vec<String> = window.operations().iter().map(|it| format!("  {it}")).collect();
                let (key, event) = (window.key(), window.fails_at());
                Err(format!("no order explains event {event} on key {key}:\n{}", lines.join("\n")))
            }
        }
    }
}

/// What an answer means for the history.
fn judge_result(call: &Call, result: &[u8]) -> Result<Outcome<Answer>, String> {
    if matches!(call, Call::Read) {
        return match KvAnswer::decode(result) {
            Ok(KvAnswer::Found { value, .. }) => {
                let text =
                    String::from_utf8(value.to_vec()).map_err(|_| "a value nobody wrote".to_owned())?;
                Ok(Outcome::Ok(Answer::Value(Some(text))))
            }
            Ok(KvAnswer::Missing) => Ok(Outcome::Ok(Answer::Value(None))),
            other => Err(format!("answered with {other:?}")),
        };
    }
    match CommandResult::decode(result) {
        Ok(CommandResult::Done { previous }) => {
            check_previous(call, previous.as_ref())?;
            Ok(Outcome::Ok(Answer::Done))
        }
        Ok(CommandResult::CompareFailed { .. }) if matches!(call, Call::Cas { .. }) => Ok(Outcome::Failed),
        other => Err(format!("answered with {other:?}")),
    }
}

/// A compare-and-set that succeeded found what it compared with.
fn check_previous(call: &Call, previous: Option<&Previous>) -> Result<(), String> {
    let Call::Cas { old, .. } = call else { return Ok(()) };
    let found = previous.and_then(|previous| previous.value.as_deref());
    match (old, previous) {
        (None, None) => Ok(()),
        (Some(old), Some(_)) if found.is_none_or(|found| found == old.as_bytes()) => Ok(()),
        _ => Err(format!("succeeded over {previous:?}")),
    }
}
