//! What must hold at every event of a simulation.

use core::fmt;

use crate::machine::Machine;
use crate::node::Node;
use crate::store::{Batch, Recovered};
use crate::time::Instant;
use crate::types::{Index, NodeId};

/// A property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "to be replaced")]
pub enum Invariant { OwnAssertion, AtMostOnce, Linearizability, Durability, LivenessAfterHeal, LivenessOfCore }

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number among the invariants.
    pub invariant: Invariant,
    /// The node it was seen at, if at one.
    pub node: Option<NodeId>,
    /// When.
    pub at: Instant,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {:?} at {}: {}", self.invariant, self.at, self.text)
    }
}

/// What a store is known to hold durably.
#[derive(Clone, Debug, Default)]
pub struct Shadow {}

impl Shadow {
    /// A write has become durable.
    pub fn persisted(&mut self, _batch: &Batch) {}

    /// A boot found this.
    pub fn booted(&mut self, _now: Instant, _id: NodeId, _recovered: &Recovered) -> Result<(), Violation> {
        Ok(())
    }
}

/// A machine whose commands and results are taken note of.
#[derive(Clone, Debug)]
pub struct Observed<M> {
    machine: M,
}

impl<M> Observed<M> {
    /// Watches this machine.
    pub fn new(machine: M) -> Self {
        Self { machine }
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }
}

impl<M: Machine> Machine for Observed<M> {
    fn apply(&mut self, index: Index, command: &[u8]) -> Vec<u8> {
        self.machine.apply(index, command)
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        self.machine.query(query)
    }
}

/// Every check.
#[derive(Clone, Debug, Default)]
pub struct Invariants {}

impl Invariants {
    /// A node has booted.
    pub fn booted<M: Machine>(
        &mut self,
        _now: Instant,
        _id: NodeId,
        _node: &Node<Observed<M>>,
        _shadow: &Shadow,
    ) -> Result<(), Violation> {
        Ok(())
    }

    /// A node sends a datagram.
    pub fn sent(
        &mut self,
        _now: Instant,
        _from: NodeId,
        _shadow: &Shadow,
        _bytes: &[u8],
    ) -> Result<(), Violation> {
        Ok(())
    }

    /// An event has touched a node.
    pub fn turned<M: Machine>(
        &mut self,
        _now: Instant,
        _id: NodeId,
        _node: &Node<Observed<M>>,
        _shadow: &Shadow,
    ) -> Result<(), Violation> {
        Ok(())
    }
}
