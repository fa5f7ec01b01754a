//! Bodies between clients and nodes, and the founding record between founding nodes.
//!
//! They borrow from the datagram what may be long: commands, queries and results are opaque here.

use crate::cursor::{CursorError, Reader, Writer};
use crate::founding::FoundingRecord;
use crate::snapshot::SnapshotMeta;
use crate::types::{GroupId, Index, NodeId, Sequence, SessionId, Term};
use crate::wire::body::{begin_body, body_kind as k, read_index, read_term};
use crate::wire::fault::FaultRequest;
use crate::wire::member::{ChangeRefusal, ChangeRequest, Changed, MembershipState};
use crate::wire::ranges::Ranges;
use crate::wire::status::{NodeStatus, read_node};

/// The longest text that tells a person why a request was refused, in bytes.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 255;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientRequest<'a> {
    /// A session, please.
    OpenSession,
    /// The session will not be used again.
    CloseSession {
        /// Which.
        session: SessionId,
    },
    /// Apply this command exactly once.
    Propose(Propose<'a>),
    /// Answer this query.
    Read {
        /// How fresh the answer must be.
        level: ReadLevel,
        /// The machine's own language.
        query: &'a [u8],
    },
    /// How are you?
    Status,
    /// What was the cluster founded as?
    Founding,
    /// Take a snapshot of what you have applied, or tell of the one through this index. `[W-60]`
    TakeSnapshot {
        /// 0 to take one.
        through: Index,
    },
    /// Change who is in the cluster. `[W-79]`
    ChangeMembership(ChangeRequest),
    /// Who is in the cluster, and what has become of a change? `[W-81]`
    Members {
        /// The entry that the change became, if one is asked about.
        of: Option<Changed>,
    },
    /// Hand leadership over. `[W-84]`
    TransferLeadership {
        /// To this voter, or to the fittest.
        to: Option<NodeId>,
    },
    /// Let the links of the node that is asked do this to datagrams. `[W-110]`
    SetFaults(FaultRequest),
}

/// A command within a session. `[W-48]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propose<'a> {
    /// The session.
    pub session: SessionId,
    /// The command's number in it, from 1; every retry has the same.
    pub sequence: Sequence,
    /// Sequences whose answers the client has: their results may be forgotten, and they are never sent again.
    pub finished: Ranges<'a>,
    /// The machine's own language.
    pub command: &'a [u8],
}

/// How fresh a read must be. `[W-50]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadLevel {
    /// It sees every write that was answered before it began.
    Linearizable,
    /// The same, resting on bounded clock drift.
    Lease,
    /// What this node has applied.
    Local,
    /// Linearizable, and answered by the node that is asked, leader or not. `[W-90]`
    AnyNode,
}

/// What a node answers. `[W-49]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientReply<'a> {
    /// The session is open.
    SessionOpened {
        /// Its id.
        session: SessionId,
    },
    /// The session is closed.
    SessionClosed,
    /// The command was applied, now or by an earlier copy.
    Applied(Outcome<'a>),
    /// The answer to a query.
    Read(Outcome<'a>),
    /// How the node is.
    Status(Box<NodeStatus>),
    /// Ask the leader.
    Redirect {
        /// Who leads and where, if the node knows.
        leader: Option<LeaderHint<'a>>,
    },
    /// Too much to do; nothing was proposed.
    Busy {
        /// When to try again, in µs.
        retry_after_us: u64,
    },
    /// The cluster has forgotten the session: whether the command was applied is unknown.
    SessionExpired,
    /// The sequence is one the client said it has the answer of; nothing is applied.
    SequenceFinished,
    /// The command is larger than the cluster takes.
    TooLarge {
        /// The most bytes of a command.
        bytes_max: u64,
    },
    /// It cannot be done.
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people; at most [`REFUSAL_TEXT_BYTES_MAX`] bytes.
        text: &'a str,
    },
    /// What the cluster was founded as. `[W-52]`
    Founded(FoundingRecord),
    /// Where the node's snapshots stand. `[W-60]`
    SnapshotState {
        /// The newest index through which one was taken; it may be still written.
        taken: Index,
        /// The newest that is durable and in force.
        in_force: Option<SnapshotMeta>,
    },
    /// The change is in the leader's log, or was so already. `[W-79]`
    Changed(Changed),
    /// Who is in the cluster. `[W-81]`
    Members(Box<MembershipState>),
    /// The change or transfer was not begun. `[W-80]`
    ChangeRefused {
        /// Why, for programs.
        reason: ChangeRefusal,
        /// Why, and the way out, for people; at most [`REFUSAL_TEXT_BYTES_MAX`] bytes.
        text: &'a str,
    },
    /// Leadership is being handed over. `[W-84]`
    Transferring {
        /// To whom; the leader itself when it is the one asked for.
        to: NodeId,
        /// The term that ends by it.
        term: Term,
    },
    /// The node's links are as they were asked to be. `[W-112]`
    FaultsSet,
}

/// What a command or query came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The entry's index; for a read the index it saw.
    pub index: Index,
    /// The entry's term; for a read that of the node that answered.
    pub term: Term,
    /// The machine's own language.
    pub result: &'a [u8],
}

/// Where the leader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderHint<'a> {
    /// Its id.
    pub node: NodeId,
    /// Its advertised address.
    pub address: &'a str,
}

/// Why a request cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The node does not know this kind of body.
    UnknownBody,
    /// The body does not hold what its kind demands.
    MalformedBody,
    /// The node cannot serve it now; it says for how long by nothing.
    Unavailable,
    /// Not from this sender, or not in this state.
    NotAllowed,
    /// A code of a later version.
    Other(u8),
}

/// Appends the body of a request.
pub fn encode_request(group: GroupId, request: &ClientRequest<'_>, out: &mut Vec<u8>) {
    match request {
        ClientRequest::OpenSession => begin_body(k::OPEN_SESSION, group, out),
        ClientRequest::CloseSession { session } => {
            begin_body(k::CLOSE_SESSION, group, out);
            out.put_varint(session.0.0);
        }
        ClientRequest::Propose(Propose { session, sequence, finished, command }) => {
            begin_body(k::PROPOSE, group, out);
            out.put_varint(session.0.0);
            out.put_varint(sequence.0);
            finished.encode(out);
            out.put_bytes(command);
        }
        ClientRequest::Read { level, query } => {
            begin_body(k::READ, group, out);
            out.put_u8(*level as u8);
            out.put_bytes(query);
        }
        ClientRequest::Status => begin_body(k::STATUS, group, out),
        ClientRequest::Founding => begin_body(k::FOUNDING, group, out),
        ClientRequest::TakeSnapshot { through } => {
            begin_body(k::TAKE_SNAPSHOT, group, out);
            out.put_varint(through.0);
        }
        ClientRequest::ChangeMembership(request) => {
            begin_body(k::CHANGE_MEMBERSHIP, group, out);
            request.encode(out);
        }
        ClientRequest::Members { of } => {
            begin_body(k::MEMBERS, group, out);
            of.unwrap_or(Changed { index: Index(0), term: None }).encode(out);
        }
        ClientRequest::TransferLeadership { to } => {
            begin_body(k::TRANSFER_LEADERSHIP, group, out);
            out.put_u16(to.map_or(0, NodeId::as_u16));
        }
        ClientRequest::SetFaults(request) => {
            begin_body(k::SET_FAULTS, group, out);
            request.encode(out);
        }
    }
}

/// Reads the body of a request.
pub fn decode_request(body: &[u8]) -> Result<(GroupId, ClientRequest<'_>), CursorError> {
    let mut reader = Reader::new(body);
    let r = &mut reader;
    let kind = r.u8()?;
    let group = GroupId(r.varint()?);
    let request = match kind {
        k::OPEN_SESSION => ClientRequest::OpenSession,
        k::CLOSE_SESSION => ClientRequest::CloseSession { session: read_session(r)? },
        k::PROPOSE => ClientRequest::Propose(Propose {
            session: read_session(r)?,
            sequence: read_sequence(r)?,
            finished: Ranges::decode(r)?,
            command: r.rest(),
        }),
        k::READ => ClientRequest::Read { level: read_level(r)?, query: r.rest() },
        k::STATUS => ClientRequest::Status,
        k::FOUNDING => ClientRequest::Founding,
        k::TAKE_SNAPSHOT => ClientRequest::TakeSnapshot { through: read_index(r)? },
        k::CHANGE_MEMBERSHIP => ClientRequest::ChangeMembership(ChangeRequest::decode(r)?),
        k::MEMBERS => {
            let of = Changed::decode(r)?;
            ClientRequest::Members { of: (of.index != Index(0)).then_some(of) }
        }
        k::TRANSFER_LEADERSHIP => ClientRequest::TransferLeadership { to: read_node(r)? },
        k::SET_FAULTS => ClientRequest::SetFaults(FaultRequest::decode(r)?),
        _ => return Err(CursorError::Value),
    };
    Ok((group, request))
}

/// Appends the body of an answer.
///
/// # Panics
/// When a refusal's text or a leader's address is longer than it may be.
pub fn encode_reply(group: GroupId, reply: &ClientReply<'_>, out: &mut Vec<u8>) {
    begin_body(kind_of(reply), group, out);
    match reply {
        ClientReply::SessionOpened { session } => out.put_varint(session.0.0),
        ClientReply::SessionClosed
        | ClientReply::SessionExpired
        | ClientReply::SequenceFinished
        | ClientReply::FaultsSet => {}
        ClientReply::Applied(outcome) | ClientReply::Read(outcome) => {
            out.put_varint(outcome.index.0);
            out.put_varint(outcome.term.0);
            out.put_bytes(outcome.result);
        }
        ClientReply::Status(status) => status.encode(out),
        ClientReply::Redirect { leader: None } => out.put_u16(0),
        ClientReply::Redirect { leader: Some(LeaderHint { node, address }) } => {
            out.put_u16(node.as_u16());
            out.put_prefixed(address.as_bytes());
        }
        ClientReply::Busy { retry_after_us } => out.put_varint(*retry_after_us),
        ClientReply::TooLarge { bytes_max } => out.put_varint(*bytes_max),
        ClientReply::Refused { code, text } => {
            assert!(text.len() <= REFUSAL_TEXT_BYTES_MAX, "a refusal of {} bytes", text.len());
            out.put_u8(code.code());
            out.put_prefixed(text.as_bytes());
        }
        ClientReply::Founded(record) => record.encode(out),
        ClientReply::SnapshotState { taken, in_force } => {
            out.put_varint(taken.0);
            out.put_u8(u8::from(in_force.is_some()));
            if let Some(meta) = in_force {
                meta.encode(out);
            }
        }
        ClientReply::Changed(changed) => changed.encode(out),
        ClientReply::Members(state) => state.encode(out),
        ClientReply::ChangeRefused { reason, text } => {
            assert!(text.len() <= REFUSAL_TEXT_BYTES_MAX, "a refusal of {} bytes", text.len());
            reason.encode(out);
            out.put_prefixed(text.as_bytes());
        }
        ClientReply::Transferring { to, term } => {
            out.put_u16(to.as_u16());
            out.put_varint(term.0);
        }
    }
}

/// Reads the body of an answer.
pub fn decode_reply(body: &[u8]) -> Result<(GroupId, ClientReply<'_>), CursorError> {
    let mut reader = Reader::new(body);
    let r = &mut reader;
    let kind = r.u8()?;
    let group = GroupId(r.varint()?);
    let reply = match kind {
        k::SESSION_OPENED => ClientReply::SessionOpened { session: read_session(r)? },
        k::SESSION_CLOSED => ClientReply::SessionClosed,
        k::APPLIED => ClientReply::Applied(read_outcome(r)?),
        k::READ_RESULT => ClientReply::Read(read_outcome(r)?),
        k::NODE_STATUS => ClientReply::Status(Box::new(NodeStatus::decode(r)?)),
        k::REDIRECT => ClientReply::Redirect { leader: read_leader(r)? },
        k::BUSY => ClientReply::Busy { retry_after_us: r.varint()? },
        k::SESSION_EXPIRED => ClientReply::SessionExpired,
        k::SEQUENCE_FINISHED => ClientReply::SequenceFinished,
        k::TOO_LARGE => ClientReply::TooLarge { bytes_max: r.varint()? },
        k::REFUSED => ClientReply::Refused { code: RefusalCode::of_code(r.u8()?), text: read_text(r)? },
        k::FOUNDED => ClientReply::Founded(FoundingRecord::decode(r)?),
        k::SNAPSHOT_STATE => {
            ClientReply::SnapshotState { taken: read_index(r)?, in_force: read_in_force(r)? }
        }
        k::CHANGED => ClientReply::Changed(Changed::decode(r)?),
        k::MEMBERSHIP_STATE => ClientReply::Members(Box::new(MembershipState::decode(r)?)),
        k::CHANGE_REFUSED => {
            ClientReply::ChangeRefused { reason: ChangeRefusal::decode(r)?, text: read_text(r)? }
        }
        k::TRANSFERRING => {
            let to = read_node(r)?.ok_or(CursorError::Value)?;
            ClientReply::Transferring { to, term: read_term(r)? }
        }
        k::FAULTS_SET => ClientReply::FaultsSet,
        _ => return Err(CursorError::Value),
    };
    Ok((group, reply))
}

const fn kind_of(reply: &ClientReply<'_>) -> u8 {
    match reply {
        ClientReply::SessionOpened { .. } => k::SESSION_OPENED,
        ClientReply::SessionClosed => k::SESSION_CLOSED,
        ClientReply::Applied(_) => k::APPLIED,
        ClientReply::Read(_) => k::READ_RESULT,
        ClientReply::Status(_) => k::NODE_STATUS,
        ClientReply::Redirect { .. } => k::REDIRECT,
        ClientReply::Busy { .. } => k::BUSY,
        ClientReply::SessionExpired => k::SESSION_EXPIRED,
        ClientReply::SequenceFinished => k::SEQUENCE_FINISHED,
        ClientReply::TooLarge { .. } => k::TOO_LARGE,
        ClientReply::Refused { .. } => k::REFUSED,
        ClientReply::Founded(_) => k::FOUNDED,
        ClientReply::SnapshotState { .. } => k::SNAPSHOT_STATE,
        ClientReply::Changed(_) => k::CHANGED,
        ClientReply::Members(_) => k::MEMBERSHIP_STATE,
        ClientReply::ChangeRefused { .. } => k::CHANGE_REFUSED,
        ClientReply::Transferring { .. } => k::TRANSFERRING,
        ClientReply::FaultsSet => k::FAULTS_SET,
    }
}

fn read_session(r: &mut Reader<'_>) -> Result<SessionId, CursorError> {
    match read_index(r)? {
        Index(0) => Err(CursorError::Value),
        index => Ok(SessionId(index)),
    }
}

fn read_sequence(r: &mut Reader<'_>) -> Result<Sequence, CursorError> {
    match r.varint()? {
        0 => Err(CursorError::Value),
        sequence => Ok(Sequence(sequence)),
    }
}

fn read_in_force(r: &mut Reader<'_>) -> Result<Option<SnapshotMeta>, CursorError> {
    match r.u8()? {
        0 => Ok(None),
        1 => SnapshotMeta::decode(r).map(Some),
        _ => Err(CursorError::Value),
    }
}

fn read_level(r: &mut Reader<'_>) -> Result<ReadLevel, CursorError> {
    match r.u8()? {
        0 => Ok(ReadLevel::Linearizable),
        1 => Ok(ReadLevel::Lease),
        2 => Ok(ReadLevel::Local),
        3 => Ok(ReadLevel::AnyNode),
        _ => Err(CursorError::Value),
    }
}

fn read_outcome<'a>(r: &mut Reader<'a>) -> Result<Outcome<'a>, CursorError> {
    Ok(Outcome { index: read_index(r)?, term: read_term(r)?, result: r.rest() })
}

fn read_leader<'a>(r: &mut Reader<'a>) -> Result<Option<LeaderHint<'a>>, CursorError> {
    let number = r.u16()?;
    if number == 0 {
        return Ok(None);
    }
    let node = NodeId::new(number).ok_or(CursorError::Value)?;
    Ok(Some(LeaderHint { node, address: read_text(r)? }))
}

/// UTF-8 of at most 255 bytes after a length.
pub(super) fn read_text<'a>(r: &mut Reader<'a>) -> Result<&'a str, CursorError> {
    let bytes = r.prefixed()?;
    if bytes.len() > REFUSAL_TEXT_BYTES_MAX {
        return Err(CursorError::Value);
    }
    core::str::from_utf8(bytes).map_err(|_| CursorError::Value)
}

impl RefusalCode {
    const fn code(self) -> u8 {
        match self {
            Self::UnknownBody => 1,
            Self::MalformedBody => 2,
            Self::Unavailable => 3,
            Self::NotAllowed => 4,
            Self::Other(code) => code,
        }
    }

    const fn of_code(code: u8) -> Self {
        match code {
            1 => Self::UnknownBody,
            2 => Self::MalformedBody,
            3 => Self::Unavailable,
            4 => Self::NotAllowed,
            code => Self::Other(code),
        }
    }
}
