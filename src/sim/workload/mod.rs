//! What clients do in a run, and whether the answers they get make sense.

mod kv;

use std::collections::BTreeMap;

pub use crate::check::{Outcome, Process};
pub use kv::{HistoryEvent, HistoryKind, Keep, KvWorkload};

use crate::machine::Machine;
use crate::rng::Rng;
pub use crate::sim::invariant::Language;
use crate::time::Instant;

/// What a process asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To carry out this command.
    Write(Vec<u8>),
    /// To answer this query, linearizably.
    Read(Vec<u8>),
}

/// What is tested, how it is used, and what is expected of it. Implement it for a machine of your own to run that
/// under every fault; `examples/sim_own_machine.rs` does.
pub trait Workload {
    /// The machine that is replicated.
    type Machine: Machine + 'static;

    /// What commands and queries mean, if the checks can look into them.
    const LANGUAGE: Language = Language::Opaque;

    /// The machine as it is before any command. Each start of a node begins with one and replays the log.
    fn machine() -> Self::Machine;

    /// A process, which has nothing open, begins something.
    fn begin(&mut self, now: Instant, process: Process, rng: &mut Rng) -> Request;

    /// It has ended: with the machine's result, certainly without effect, or nobody knows. In the last case the
    /// process does nothing more.
    ///
    /// # Errors
    /// When the answer cannot be right.
    fn end(&mut self, now: Instant, process: Process, outcome: Outcome<&[u8]>) -> Result<(), String>;

    /// Everything is over.
    ///
    /// # Errors
    /// When all answers together cannot be right.
    fn judge(&mut self) -> Result<(), String>;
}

/// Hands out process numbers: one for each client, and another when its operation was lost.
#[derive(Debug, Default)]
pub(super) struct Processes {
    next: u64,
    of_client: BTreeMap<usize, Process>,
}

impl Processes {
    /// One that is nobody's yet.
    pub(super) fn fresh(&mut self) -> Process {
        self.next += 1;
        Process(self.next)
    }

    pub(super) fn of(&mut self, client: usize) -> Process {
        match self.of_client.get(&client) {
            Some(process) => *process,
            None => {
                let process = self.fresh();
                self.of_client.insert(client, process);
                process
            }
        }
    }

    /// Nobody knows what this one did last.
    pub(super) fn retire(&mut self, process: Process) {
        self.of_client.retain(|_, held| *held != process);
    }
}
