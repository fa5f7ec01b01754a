//! What clients saw: operations by process, in the order of their events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One client that does one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub u64);

/// How a call returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// It took effect and was answered thus.
    Ok(A),
    /// It certainly did nothing, and never will.
    Failed,
    /// Nobody knows whether it took effect, or still will; also that of an operation that has not returned.
    Unknown,
}

/// One call of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<C, A> {
    /// Who called.
    pub process: Process,
    /// The key that was called on.
    pub key: String,
    /// What was asked.
    pub call: C,
    /// How it ended.
    pub outcome: Outcome<A>,
    /// Number of the event that invoked it, from 0 on through the history.
    pub invoked: u64,
    /// Number of the event that returned; none while it is open.
    pub returned: Option<u64>,
}

impl<C: fmt::Display, A: fmt::Display> fmt::Display for Operation<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}..", self.invoked)?;
        if let Some(returned) = self.returned {
            write!(f, "{returned}")?;
        }
        write!(f, "] process {}: {} -> {}", self.process.0, self.call, self.outcome)
    }
}

impl<A: fmt::Display> fmt::Display for Outcome<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(answer) => answer.fmt(f),
            Self::Failed => f.write_str("failed"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Operations in the order of their invocations.
#[derive(Clone, Debug)]
pub struct History<C, A> {
    operations: Vec<Operation<C, A>>,
    /// The open operation of each process that has one, as its place in `operations`.
    open: BTreeMap<Process, usize>,
    /// Processes whose last operation may still take effect, so that they cannot be said to do one thing at a time.
    retired: BTreeSet<Process>,
    /// Events so far: the number of the next one.
    events: u64,
}

impl<C, A> Default for History<C, A> {
    fn default() -> Self {
        Self { operations: Vec::new(), open: BTreeMap::new(), retired: BTreeSet::new(), events: 0 }
    }
}

impl<C, A> History<C, A> {
    /// A history of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A process begins an operation.
    ///
    /// # Errors
    /// When it has one open, or one whose outcome is unknown.
    pub fn invoke(&mut self, process: Process, key: impl Into<String>, call: C) -> Result<(), HistoryError> {
        if self.retired.contains(&process) {
            return Err(HistoryError::Retired(process));
        }
        if self.open.contains_key(&process) {
            return Err(HistoryError::AlreadyOpen(process));
        }
        self.open.insert(process, self.operations.len());
        let (key, invoked) = (key.into(), self.next_event());
        let outcome = Outcome::Unknown;
        self.operations.push(Operation { process, key, call, outcome, invoked, returned: None });
        Ok(())
    }

    /// A process's open operation returns.
    ///
    /// # Errors
    /// When it has none.
    pub fn complete(&mut self, process: Process, outcome: Outcome<A>) -> Result<(), HistoryError> {
        let Some(at) = self.open.remove(&process) else { return Err(HistoryError::NotOpen(process)) };
        if matches!(outcome, Outcome::Unknown) {
            self.retired.insert(process);
        }
        let returned = self.next_event();
        let operation = &mut self.operations[at];
        operation.outcome = outcome;
        operation.returned = Some(returned);
        Ok(())
    }

    /// What this process has open.
    #[must_use]
    pub fn open(&self, process: Process) -> Option<&Operation<C, A>> {
        self.open.get(&process).map(|&at| &self.operations[at])
    }

    /// All operations, in the order of their invocations.
    #[must_use]
    pub fn operations(&self) -> &[Operation<C, A>] {
        &self.operations
    }

    fn next_event(&mut self) -> u64 {
        let event = self.events;
        self.events += 1;
        event
    }
}

/// Why an event fits no history. Each is the recorder's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryError {
    /// A process invokes while an operation of it is open.
    AlreadyOpen(Process),
    /// A process invokes after an operation whose outcome is unknown.
    Retired(Process),
    /// A process returns from nothing.
    NotOpen(Process),
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyOpen(process) => write!(f, "process {} has an operation open", process.0),
            Self::Retired(process) => {
                write!(f, "process {} was retired by an operation of unknown outcome", process.0)
            }
            Self::NotOpen(process) => write!(f, "process {} has no operation open", process.0),
        }
    }
}

impl std::error::Error for HistoryError {}
