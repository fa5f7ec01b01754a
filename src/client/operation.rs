//! One thing an application asked for, from its offering to its end.

use core::fmt;

use super::admin::Admin;
use crate::rpc::LinkId;
use crate::snapshot::SnapshotMeta;
use crate::time::Instant;
use crate::types::{CallId, Index, NodeId, Sequence, Term};
use crate::wire::client::ReadLevel;
use crate::wire::fault::FaultRequest;
use crate::wire::member::MembershipState;
use crate::wire::status::NodeStatus;
use crate::wire::transfer::Pull;

/// An operation's number, unique within its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub(super) u64);

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op{}", self.0)
    }
}

/// What an operation brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A write was carried out.
    Applied {
        /// Its entry.
        index: Index,
        /// That entry's term.
        term: Term,
        /// What the machine returned.
        result: Vec<u8>,
    },
    /// A read was answered.
    Read {
        /// The applied index it was answered at.
        index: Index,
        /// The answering node's term.
        term: Term,
        /// What the machine returned.
        result: Vec<u8>,
    },
    /// How a node is.
    Status(Box<NodeStatus>),
    /// Where a node's snapshots stand.
    Snapshot {
        /// The newest index through which one was taken; it may be still written.
        taken: Index,
        /// The newest that is durable and in force.
        in_force: Option<SnapshotMeta>,
    },
    /// The node's links are as they were asked to be.
    FaultsSet,
    /// A range of a snapshot's file; `None` when that node does not have the file, or cannot read it.
    Range {
        /// Its bytes, unchecked.
        bytes: Option<Vec<u8>>,
    },
    /// Who is in the cluster: what was asked for, or what it is after a change that has settled.
    Members(Box<MembershipState>),
    /// Leadership was handed over.
    Transferred {
        /// Who leads.
        leader: NodeId,
        /// In which term.
        term: Term,
    },
}

/// What an operation asks for.
#[derive(Debug)]
pub(super) enum Kind {
    /// A session for this client; its answer never leaves the client.
    OpenSession,
    /// A command for the machine.
    Write {
        command: Vec<u8>,
        /// Given once, when a session has room in its window; kept through all attempts.
        place: Option<Place>,
    },
    /// A question to the machine.
    Read { query: Vec<u8>, level: ReadLevel },
    /// A question to one node.
    Status { server: usize },
    /// A snapshot of one node, or how it stands.
    TakeSnapshot { server: usize, through: Index },
    /// Faults of one node's links.
    SetFaults { server: usize, request: FaultRequest },
    /// A range of a snapshot's file, of one node.
    Pull { server: usize, pull: Pull },
    /// Something about the cluster itself, of its leader.
    Admin(Admin),
}

/// Where a write stands: the session (by the operation that opened it) and the sequence there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) session: OperationId,
    pub(super) sequence: Sequence,
}

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    pub(super) deadline: Instant,
    /// The open attempt.
    pub(super) call: Option<(LinkId, CallId)>,
    /// When [`super::Client::timers`] holds it; each operation stands there exactly once.
    pub(super) timer: Instant,
    pub(super) attempt_count: u32,
    /// How many attempts got an answer, whatever it said.
    pub(super) answered_count: u32,
    /// How many calls in a row failed.
    pub(super) failed_count: u32,
}

impl Operation {
    pub(super) fn new(kind: Kind, deadline: Instant) -> Self {
        Self {
            kind,
            deadline,
            call: None,
            timer: deadline,
            attempt_count: 0,
            answered_count: 0,
            failed_count: 0,
        }
    }

    /// True when an attempt without an answer may have had an effect.
    pub(super) fn may_take_effect(&self) -> bool {
        match &self.kind {
            Kind::Write { .. } => true,
            Kind::Admin(admin) => admin.may_take_effect(),
            _ => false,
        }
    }

    /// True when an attempt went without an answer, so that it may have had an effect.
    pub(super) fn was_lost(&self) -> bool {
        self.attempt_count > self.answered_count
    }

    pub(super) fn place(&self) -> Option<Place> {
        match self.kind {
            Kind::Write { place, .. } => place,
            _ => None,
        }
    }
}
