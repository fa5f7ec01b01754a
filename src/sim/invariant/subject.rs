//! What the checks look at in a node, so that a hand-made one can break them.

use std::sync::Arc;
use std::time::Duration;

use super::marks::Mark;
use super::observed::Observed;
use crate::entry::Entry;
use crate::hash::Fnv1a;
use crate::machine::Machine;
use crate::membership::Membership;
use crate::node::Node;
use crate::raft::{Base, RoleKind};
use crate::types::{ClusterId, HardState, Identity, Incarnation, Index, SessionId};

/// A running node, as it is in memory right now.
pub(super) trait Subject {
    fn identity(&self) -> Identity;
    fn incarnation(&self) -> Incarnation;
    fn cluster(&self) -> ClusterId;
    fn role(&self) -> RoleKind;
    fn hard_state(&self) -> HardState;
    fn durable_hard_state(&self) -> HardState;
    fn base(&self) -> Base;
    fn applied(&self) -> Index;
    fn commit(&self) -> Index;
    fn durable(&self) -> Index;
    fn last(&self) -> Index;
    fn entry(&self, index: Index) -> Option<&Entry>;
    /// The membership in force, and the index that brought it.
    fn membership(&self) -> (&Arc<Membership>, Index);
    /// What the machine was given in this life.
    fn effects(&self) -> &[Effect];
    /// The last effect before those, in the snapshot that the machine was filled from.
    fn restored(&self) -> Option<Effect>;
    /// Of the session table after the applied index.
    fn sessions_hash(&self) -> u64;

    /// The sessions that are open after the applied index.
    fn open_sessions(&self) -> Vec<SessionId> {
        Vec::new()
    }

    /// How long ago it heard a leader, by its own clock.
    fn leader_silence(&self) -> Option<Duration> {
        None
    }

    /// Whether it knows who leads its term.
    fn knows_leader(&self) -> bool {
        false
    }

    /// Term and chain value at this index, the base's included.
    fn mark(&self, index: Index) -> Option<Mark> {
        let base = self.base();
        if index == base.index {
            return Some(Mark { term: base.term, chain: base.chain });
        }
        self.entry(index).map(Mark::of)
    }
}

/// One call of the machine's `apply`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The entry.
    pub index: Index,
    /// Hash of this command, its result, and the same of all before it.
    pub chain: u64,
    /// Hash of the result.
    pub result: u64,
}

/// The hash of a result in an [`Effect`].
pub(super) fn result_hash(result: &[u8]) -> u64 {
    Fnv1a::default().u64(u64::from(crc32fast::hash(result))).u64(result.len() as u64).finish()
}

impl<M: Machine> Subject for Node<Observed<M>> {
    fn identity(&self) -> Identity {
        self.raft().config().identity
    }

    fn incarnation(&self) -> Incarnation {
        self.raft().config().incarnation
    }

    fn cluster(&self) -> ClusterId {
        self.raft().config().cluster
    }

    fn role(&self) -> RoleKind {
        self.raft().role()
    }

    fn hard_state(&self) -> HardState {
        self.raft().hard_state()
    }

    fn durable_hard_state(&self) -> HardState {
        self.raft().durable_hard_state()
    }

    fn base(&self) -> Base {
        self.raft().base()
    }

    fn applied(&self) -> Index {
        Self::applied(self)
    }

    fn commit(&self) -> Index {
        self.raft().commit()
    }

    fn durable(&self) -> Index {
        self.raft().durable_index()
    }

    fn last(&self) -> Index {
        self.raft().last_index()
    }

    fn entry(&self, index: Index) -> Option<&Entry> {
        self.raft().entry(index)
    }

    fn membership(&self) -> (&Arc<Membership>, Index) {
        (self.raft().membership(), self.raft().membership_index())
    }

    fn effects(&self) -> &[Effect] {
        self.machine().effects()
    }

    fn restored(&self) -> Option<Effect> {
        self.machine().restored()
    }

    fn sessions_hash(&self) -> u64 {
        self.sessions().state_hash()
    }

    fn open_sessions(&self) -> Vec<SessionId> {
        self.sessions().idle().map(|(session, _)| session).collect()
    }

    fn leader_silence(&self) -> Option<Duration> {
        self.raft().leader_silence()
    }

    fn knows_leader(&self) -> bool {
        self.raft().leader().is_some()
    }
}
