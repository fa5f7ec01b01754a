//! What came of a run.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

use super::faults::{Fault, FaultSet};
use super::invariant::Violation;
use super::run::Config;
use super::workload::Outcome;

/// How operations ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// With an answer.
    pub ok: u64,
    /// Certainly without effect.
    pub failed: u64,
    /// Nobody knows.
    pub unknown: u64,
}

impl Counts {
    pub(super) fn count<A>(&mut self, outcome: &Outcome<A>) {
        *match outcome {
            Outcome::Ok(_) => &mut self.ok,
            Outcome::Failed => &mut self.failed,
            Outcome::Unknown => &mut self.unknown,
        } += 1;
    }

    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.ok + self.failed + self.unknown
    }
}

impl core::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            ok: self.ok + other.ok,
            failed: self.failed + other.failed,
            unknown: self.unknown + other.unknown,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was run.
    pub config: Config,
    /// What was found not to hold.
    pub violation: Option<Violation>,
    /// The faults that the seed chose from those enabled.
    pub chosen: FaultSet,
    /// How often each struck; weather counts under the first of its kinds.
    pub struck: BTreeMap<Fault, u64>,
    /// How much happened.
    pub events: u64,
    /// How long it took by the virtual clock, founding and healing included.
    pub time: Duration,
    /// A hash of all that happened.
    pub trace_hash: u64,
    /// What clients did.
    pub operations: Counts,
    /// Nodes that ended up without their data.
    pub lost_nodes: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { seed, nodes, .. } = self.config;
        let Counts { ok, failed, unknown } = self.operations;
        write!(
            f,
            "seed {seed}: {nodes} nodes, {:?}, {} events, operations {ok} ok {failed} failed {unknown} unknown, \
             {} lost nodes, hash {:016x}, faults {}",
            self.time, self.events, self.lost_nodes, self.trace_hash, self.chosen
        )?;
        match &self.violation {
            Some(violation) => write!(f, "\n{violation}"),
            None => Ok(()),
        }
    }
}
