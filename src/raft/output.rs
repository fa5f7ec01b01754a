//! What the room hands out: outputs, alarms, errors, and the small numbers that name things between it and its
//! driver.
//!
//! # What a driver owes
//! - Persists reach the disk in ticket order, whole; a failed one ends the node, and nothing that waits for it ever
//!   leaves (L13, L16). Several may be made durable by one sync: then the last ticket is enough.
//! - Requests are re-sent until answered or cancelled, replies go to the call that the token names, notices go
//!   once. Any of them may be lost all the same.
//! - Committed entries are applied in order. A proposal's caller is told "done" only when the entry committed at
//!   its index has its *term* (L15); another term there means that the proposal is gone.
//! - When a node stops leading, its pending proposals have an unknown outcome, not a failed one (L14): the next
//!   leader may hold and commit them.

use core::fmt;

use crate::entry::Entry;
use crate::message::Message;
use crate::snapshot::SnapshotMeta;
use crate::types::{HardState, Identity, Index, NodeId, Term};

/// Names one disk write. Tickets count up; the disk finishes them in that order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// The driver's name for a read it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// The driver's name for the call that a request came by; the answer carries it back. Opaque here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyToken(pub u64);

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleKind {
    /// Follows a leader, or waits for one. Learners are followers that never campaign.
    Follower,
    /// Asks whether an election could be won, without disturbing anyone (thesis §9.6).
    PreCandidate,
    /// Stands for election (Raft paper §5.2).
    Candidate,
    /// Leads.
    Leader,
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}

/// A snapshot that takes the place of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Install {
    /// Which.
    pub meta: SnapshotMeta,
    /// The log on disk is damaged, and what can be read of it behind the snapshot is still needed: it stays.
    pub is_log_spared: bool,
}

/// One thing the driver must do. Whatever has to wait for the disk comes out only after
/// [`super::Raft::handle_persisted`], so an output may be acted upon at once and in any order with others, except
/// that persists go to the disk in ticket order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Start a call of class `again`.
    Request {
        /// The callee.
        to: NodeId,
        /// Its body.
        message: Message,
    },
    /// Answer a call.
    Reply {
        /// The call.
        token: ReplyToken,
        /// The answer.
        message: Message,
    },
    /// Send once and forget.
    Notice {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Every request to this node that is still open is overtaken, by a newer term, campaign or attempt: stop
    /// re-sending it. Its answer, should it still come, is recognised as old.
    CancelRequests {
        /// The callee.
        to: NodeId,
    },
    /// Make this durable, in ticket order, then call `handle_persisted`. First the hard state, then the snapshot,
    /// then the truncation, then the entries.
    Persist {
        /// Names the write.
        ticket: Ticket,
        /// Term and vote, when they changed.
        hard_state: Option<HardState>,
        /// Put this snapshot, which is on disk and verified, in the place of the whole log.
        install: Option<Install>,
        /// Remove the log's entries from this index on, before adding any.
        truncate_from: Option<Index>,
        /// Consecutive entries to add.
        entries: Vec<Entry>,
    },
    /// Everything up to here is committed (Raft paper §5.3); read it with [`super::Raft::entry`].
    Commit {
        /// The new commit index.
        index: Index,
    },
    /// Get this snapshot, from this leader or from any other node that has the very file; what is here of it
    /// already counts. Tell of it by `handle_snapshot_progress`, and by `handle_snapshot_installed` when it is whole,
    /// verified, and the machine can be put in its state. It comes again when the leader changes; another snapshot
    /// takes the place of this one.
    PullSnapshot {
        /// Who offers it.
        from: NodeId,
        /// Which.
        meta: SnapshotMeta,
    },
    /// The snapshot asked for is not needed any more.
    CancelPull,
    /// This read may be answered once the machine has applied `index`.
    ReadReady {
        /// The read.
        id: ReadId,
        /// Its read index.
        index: Index,
    },
    /// This read was not confirmed: leadership was lost first. Nothing was read; the caller may ask elsewhere.
    ReadFailed {
        /// The read.
        id: ReadId,
    },
    /// Role, term or known leader changed.
    RoleChanged {
        /// What this node is.
        role: RoleKind,
        /// In which term; it may not be durable yet.
        term: Term,
        /// Who leads, as far as known.
        leader: Option<NodeId>,
    },
    /// Something that cannot happen while the design's assumptions hold. The message concerned had no effect.
    Alarm(Alarm),
}

/// Signs of a broken assumption: damage that no checksum caught, a copied folder, a forged message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alarm {
    /// An append fits by index and term, but its chain value differs from ours: one of the two logs is damaged.
    ChainMismatch {
        /// The append's sender.
        from: Identity,
        /// The index its chain value is for.
        index: Index,
    },
    /// Two nodes claim to lead one term.
    TwoLeaders {
        /// The term.
        term: Term,
        /// Whom this node follows, or itself.
        known: Identity,
        /// The other one.
        claimed: Identity,
    },
    /// A leader's entry contradicts a committed one, or one that the same leader sent before.
    SettledConflict {
        /// The append's sender.
        from: Identity,
        /// Where.
        index: Index,
    },
    /// A leader knows entries as acknowledged by this node that are not in its log.
    LostTail {
        /// What the leader says is committed and matched here.
        commit: Index,
        /// The last entry here.
        last: Index,
    },
    /// A message contradicts itself or passes the numbers that this version allows.
    Implausible {
        /// Its sender.
        from: Identity,
    },
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChainMismatch { from, index } => {
                write!(f, "the entry chain of {from} differs from ours at index {index}")
            }
            Self::TwoLeaders { term, known, claimed } => {
                write!(f, "{claimed} claims to lead term {term}, which {known} leads")
            }
            Self::SettledConflict { from, index } => {
                write!(f, "{from} contradicts the settled entry at index {index}")
            }
            Self::LostTail { commit, last } => {
                write!(f, "entries up to {commit} were acknowledged from here, the log ends at {last}")
            }
            Self::Implausible { from } => write!(f, "{from} sent a message that contradicts itself"),
        }
    }
}

/// Why a proposal was not taken. None of these had any effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProposeError {
    /// Ask the leader.
    NotLeader {
        /// Who that is, as far as known.
        leader: Option<NodeId>,
    },
    /// The log is at its bound; retry when it has been compacted.
    LogFull {
        /// What it holds.
        bytes: usize,
        /// What it may hold.
        bytes_max: usize,
    },
    /// A follower's snapshot must not lose the race against the log; retry in a moment.
    Slowed,
    /// Leadership is being handed over; retry at the next leader.
    Transferring {
        /// To whom.
        to: NodeId,
    },
    /// Only commands can be proposed; no-ops are the leader's own, memberships change by their own command.
    NotACommand,
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader, {leader} is"),
            Self::NotLeader { leader: None } => f.write_str("not the leader, and none is known"),
            Self::LogFull { bytes, bytes_max } => {
                write!(f, "log full: {bytes} of {bytes_max} bytes for proposals are taken")
            }
            Self::Slowed => f.write_str("slowed down until a snapshot has reached a follower"),
            Self::Transferring { to } => write!(f, "leadership is being handed to {to}"),
            Self::NotACommand => f.write_str("only commands can be proposed"),
        }
    }
}

impl core::error::Error for ProposeError {}

/// Why a read was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// Ask the leader.
    NotLeader {
        /// Who that is, as far as known.
        leader: Option<NodeId>,
    },
    /// Too many reads wait already; retry after a round trip.
    Busy,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader, {leader} is"),
            Self::NotLeader { leader: None } => f.write_str("not the leader, and none is known"),
            Self::Busy => f.write_str("too many reads wait already"),
        }
    }
}

impl core::error::Error for ReadError {}

/// Why leadership cannot be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferError {
    /// Only the leader can.
    NotLeader {
        /// Who that is, as far as known.
        leader: Option<NodeId>,
    },
    /// A transfer to this node runs already.
    Transferring {
        /// To whom.
        to: NodeId,
    },
    /// There is no such voter besides the leader, or its incarnation is not known because it never connected.
    NoTarget,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader, {leader} is"),
            Self::NotLeader { leader: None } => f.write_str("not the leader, and none is known"),
            Self::Transferring { to } => write!(f, "leadership is being handed to {to}"),
            Self::NoTarget => f.write_str("no connected voter to hand leadership to"),
        }
    }
}

impl core::error::Error for TransferError {}
