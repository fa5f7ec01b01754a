//! Bodies about who is in the cluster and who leads it: what administrators ask of the leader, and its answers.
//!
//! A membership change is asked for once and then watched: the leader answers as soon as the change is in its log, by
//! the entry's index and term, and tells later what has become of that entry. So no call is open while a change is
//! under way, and whoever leads by then can be asked.

use core::fmt;

use crate::cursor::{CursorError, Reader, Writer};
use crate::membership::{Membership, MembershipChange};
use crate::types::{Index, NodeId, Term};
use crate::wire::body::{read_bool, read_index, read_term};
use crate::wire::status::{STATUS_ROWS_MAX, read_node};

/// A membership change that somebody wants. `[W-79]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRequest {
    /// The version of the membership that it is meant for, which is compared; `None` for whichever is in force.
    pub expected: Option<Index>,
    /// The change. The store of an addition may be all zeros: then it is the one that answers at the address.
    pub change: MembershipChange,
}

/// The entry that a change became; of a change that was so already, the version in force and no term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Where the entry stands.
    pub index: Index,
    /// Its term.
    pub term: Option<Term>,
}

/// What a leader says of the membership. `[W-81]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipState {
    /// Who says so: the leader.
    pub leader: NodeId,
    /// In which term.
    pub term: Term,
    /// Its commit index.
    pub commit: Index,
    /// The version in force: the index of its entry, 0 for the membership that the cluster was founded with.
    pub version: Index,
    /// True when that is committed and not joint.
    pub is_settled: bool,
    /// What became of the change that was asked about.
    pub outcome: ChangeOutcome,
    /// To whom leadership is being handed over.
    pub transferring: Option<NodeId>,
    /// The membership in force.
    pub membership: Membership,
    /// How far the other members are.
    pub members: Vec<MemberProgress>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// None was asked about.
    NotAsked,
    /// It is not settled yet.
    Pending,
    /// It is committed, and no joint membership of its own is in force any more.
    Settled,
    /// Its entry was lost with the leader that made it, and never takes effect.
    Superseded,
}

/// How far a member is, by its leader's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    /// Which.
    pub node: NodeId,
    /// The highest index that it is known to hold durably.
    pub match_index: Index,
    /// How many entries it lacks.
    pub lag: u64,
    /// True when it has answered within the last election timeout.
    pub is_heard: bool,
    /// True when it holds enough for a learner to be promoted.
    pub is_caught_up: bool,
}

/// Why a change or a transfer was not begun; nothing has changed. `[W-80]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRefusal {
    /// Another change is under way.
    Running {
        /// Its entry.
        index: Index,
    },
    /// The membership in force is not the one that was compared with.
    Version {
        /// Compared with.
        expected: Index,
        /// In force.
        actual: Index,
    },
    /// No member has this id.
    Unknown {
        /// Which.
        node: NodeId,
    },
    /// Another data folder is the member of this id.
    Taken {
        /// Which.
        node: NodeId,
    },
    /// This data folder is a member of another id.
    StoreInUse {
        /// Of which.
        node: NodeId,
    },
    /// The learner lacks too much.
    NotCaughtUp {
        /// Which.
        node: NodeId,
        /// Entries that it lacks.
        lag: u64,
    },
    /// The learner was not heard of within an election timeout.
    Unheard {
        /// Which.
        node: NodeId,
    },
    /// Too few of the voters that would remain are heard.
    QuorumAtRisk {
        /// Heard, of those that would remain.
        alive: u64,
        /// Needed of them.
        needed: u64,
    },
    /// Without it nobody would vote.
    LastVoter,
    /// There are as many members as there may be.
    TooMany,
    /// The address cannot be used.
    Address,
    /// Nobody of this cluster answered at the address in time.
    Silent,
    /// Another node answered at the address.
    OtherNode {
        /// Which.
        node: NodeId,
    },
    /// A node of another cluster answered at the address.
    OtherCluster,
    /// Another data folder than the member's answered at the address.
    OtherStore,
    /// The node cannot take leadership: it is no voter, or the leader has no link to it.
    NoTarget,
    /// A reason of a later version.
    Other(u8),
}

impl ChangeRefusal {
    fn parts(self) -> (u8, u64, u64) {
        let id = |node: NodeId| u64::from(node.as_u16());
        match self {
            Self::Running { index } => (1, index.0, 0),
            Self::Version { expected, actual } => (2, expected.0, actual.0),
            Self::Unknown { node } => (3, id(node), 0),
            Self::Taken { node } => (4, id(node), 0),
            Self::StoreInUse { node } => (5, id(node), 0),
            Self::NotCaughtUp { node, lag } => (6, id(node), lag),
            Self::QuorumAtRisk { alive, needed } => (7, alive, needed),
            Self::LastVoter => (8, 0, 0),
            Self::TooMany => (9, 0, 0),
            Self::Address => (10, 0, 0),
            Self::Silent => (11, 0, 0),
            Self::OtherNode { node } => (12, id(node), 0),
            Self::OtherCluster => (13, 0, 0),
            Self::OtherStore => (14, 0, 0),
            Self::NoTarget => (15, 0, 0),
            Self::Unheard { node } => (16, id(node), 0),
            Self::Other(code) => (code, 0, 0),
        }
    }

    /// Its number on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        self.parts().0
    }

    /// Its name, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::name_of(self.code())
    }

    /// The name of the reason of this number.
    #[must_use]
    pub fn name_of(code: u8) -> &'static str {
        match code {
            1 => "running",
            2 => "version",
            3 => "unknown",
            4 => "taken",
            5 => "store-in-use",
            6 => "not-caught-up",
            7 => "quorum-at-risk",
            8 => "last-voter",
            9 => "too-many",
            10 => "address",
            11 => "silent",
            12 => "other-node",
            13 => "other-cluster",
            14 => "other-store",
            15 => "no-target",
            16 => "unheard",
            _ => "other",
        }
    }

    /// Appends code and numbers.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let (code, first, second) = self.parts();
        out.put_u8(code);
        out.put_varint(first);
        out.put_varint(second);
    }

    /// Reads what [`Self::encode`] writes, and codes of later versions.
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        let (code, first, second) = (r.u8()?, r.varint()?, r.varint()?);
        let node = || u16::try_from(first).ok().and_then(NodeId::new).ok_or(CursorError::Value);
        let index = |number| if number < 1 << 60 { Ok(Index(number)) } else { Err(CursorError::Value) };
        Ok(match code {
            0 => return Err(CursorError::Value),
            1 => Self::Running { index: index(first)? },
            2 => Self::Version { expected: index(first)?, actual: index(second)? },
            3 => Self::Unknown { node: node()? },
            4 => Self::Taken { node: node()? },
            5 => Self::StoreInUse { node: node()? },
            6 => Self::NotCaughtUp { node: node()?, lag: second },
            7 => Self::QuorumAtRisk { alive: first, needed: second },
            8 => Self::LastVoter,
            9 => Self::TooMany,
            10 => Self::Address,
            11 => Self::Silent,
            12 => Self::OtherNode { node: node()? },
            13 => Self::OtherCluster,
            14 => Self::OtherStore,
            15 => Self::NoTarget,
            16 => Self::Unheard { node: node()? },
            code => Self::Other(code),
        })
    }
}

impl fmt::Display for ChangeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ChangeRequest {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        // One more than the version, so that 0 is free for "none".
        out.put_varint(self.expected.map_or(0, |version| version.0 + 1));
        self.change.encode(out);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        let expected = read_index(r)?.0.checked_sub(1).map(Index);
        Ok(Self { expected, change: MembershipChange::decode(r)? })
    }
}

impl Changed {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.put_varint(self.index.0);
        out.put_varint(self.term.map_or(0, |term| term.0));
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        let (index, term) = (read_index(r)?, read_term(r)?);
        Ok(Self { index, term: (term != Term(0)).then_some(term) })
    }
}

impl ChangeOutcome {
    const ALL: [Self; 4] = [Self::NotAsked, Self::Pending, Self::Settled, Self::Superseded];

    /// Its name, for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAsked => "not-asked",
            Self::Pending => "pending",
            Self::Settled => "settled",
            Self::Superseded => "superseded",
        }
    }
}

impl MembershipState {
    /// Appends the fields.
    ///
    /// # Panics
    /// When there are more than [`STATUS_ROWS_MAX`] rows.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.leader.as_u16());
        for number in [self.term.0, self.commit.0, self.version.0] {
            out.put_varint(number);
        }
        out.put_u8(u8::from(self.is_settled));
        out.put_u8(self.outcome as u8);
        out.put_u16(self.transferring.map_or(0, NodeId::as_u16));
        self.membership.encode(out);
        let count = self.members.len();
        assert!(count <= STATUS_ROWS_MAX, "{count} rows are more than {STATUS_ROWS_MAX}");
        out.put_varint(count as u64);
        for row in &self.members {
            out.put_u16(row.node.as_u16());
            out.put_varint(row.match_index.0);
            out.put_varint(row.lag);
            out.put_u8(u8::from(row.is_heard));
            out.put_u8(u8::from(row.is_caught_up));
        }
    }

    /// Reads what [`Self::encode`] writes.
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        Ok(Self {
            leader: read_node(r)?.ok_or(CursorError::Value)?,
            term: read_term(r)?,
            commit: read_index(r)?,
            version: read_index(r)?,
            is_settled: read_bool(r)?,
            outcome: *ChangeOutcome::ALL.get(usize::from(r.u8()?)).ok_or(CursorError::Value)?,
            transferring: read_node(r)?,
            membership: Membership::decode(r)?,
            members: read_members(r)?,
        })
    }
}

fn read_members(r: &mut Reader<'_>) -> Result<Vec<MemberProgress>, CursorError> {
    let count = r.varint()?;
    if count > STATUS_ROWS_MAX as u64 {
        return Err(CursorError::Value);
    }
    let row = |_| {
        Ok(MemberProgress {
            node: read_node(r)?.ok_or(CursorError::Value)?,
            match_index: read_index(r)?,
            lag: r.varint()?,
            is_heard: read_bool(r)?,
            is_caught_up: read_bool(r)?,
        })
    };
    (0..count).map(row).collect()
}
