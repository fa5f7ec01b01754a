//! Bodies of calls, replies and notices: `kind u8 ‖ group varint ‖ fields`.
//!
//! One space of kinds serves peers and clients, so a body tells by itself what it is. `[W-42]` Bytes after
//! the last known field are ignored, unless that field takes the rest. `[W-44]`

use crate::cursor::{CursorError, Reader, Writer};
use crate::types::{GroupId, Index, Term};

/// Terms and indexes on the wire are below 2^60: what is learned from a peer can be counted on from and still
/// be sent as a varint. `[W-43]`
pub const NUMBER_MAX: u64 = (1 << 60) - 1;

/// Who speaks in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFamily {
    /// A message of the consensus protocol, see [`super::peer`].
    Peer,
    /// A client's request, or a founding node's, see [`super::client`].
    ClientRequest,
    /// An answer to that.
    ClientReply,
}

/// What family a body's kind belongs to; `None` for an empty body and for kinds of no family.
#[must_use]
pub fn family(body: &[u8]) -> Option<BodyFamily> {
    match body.first()? {
        0x01..0x40 => Some(BodyFamily::Peer),
        0x40..0x80 => Some(BodyFamily::ClientRequest),
        0x80..0xc0 => Some(BodyFamily::ClientReply),
        _ => None,
    }
}

/// The numbers of the body kinds.
pub mod body_kind {
    #![expect(missing_docs, reason = "each is the name of the body it stands for")]
    pub const PRE_VOTE: u8 = 0x01;
    pub const PRE_VOTE_REPLY: u8 = 0x02;
    pub const VOTE: u8 = 0x03;
    pub const VOTE_REPLY: u8 = 0x04;
    pub const APPEND: u8 = 0x05;
    pub const APPEND_REPLY: u8 = 0x06;
    pub const HEARTBEAT: u8 = 0x07;
    pub const HEARTBEAT_REPLY: u8 = 0x08;
    pub const READ_PROBE: u8 = 0x09;
    pub const READ_PROBE_REPLY: u8 = 0x0a;
    pub const TRANSFER: u8 = 0x0b;
    pub const TRANSFER_REPLY: u8 = 0x0c;
    pub const SNAPSHOT_OFFER: u8 = 0x10;
    pub const SNAPSHOT_OFFER_REPLY: u8 = 0x11;
    pub const SNAPSHOT_PULL: u8 = 0x12;
    pub const SNAPSHOT_DATA: u8 = 0x13;
    pub const RANGE: u8 = 0x14;
    pub const RANGE_REPLY: u8 = 0x15;
    pub const READ_INDEX: u8 = 0x16;
    pub const READ_INDEX_REPLY: u8 = 0x17;
    pub const STATE_DIGESTS: u8 = 0x18;

    pub const OPEN_SESSION: u8 = 0x40;
    pub const CLOSE_SESSION: u8 = 0x41;
    pub const PROPOSE: u8 = 0x42;
    pub const READ: u8 = 0x43;
    pub const STATUS: u8 = 0x44;
    pub const FOUNDING: u8 = 0x45;
    pub const TAKE_SNAPSHOT: u8 = 0x46;
    pub const CHANGE_MEMBERSHIP: u8 = 0x47;
    pub const MEMBERS: u8 = 0x48;
    pub const TRANSFER_LEADERSHIP: u8 = 0x49;
    pub const SET_FAULTS: u8 = 0x4c;

    pub const SESSION_OPENED: u8 = 0x80;
    pub const SESSION_CLOSED: u8 = 0x81;
    pub const APPLIED: u8 = 0x82;
    pub const READ_RESULT: u8 = 0x83;
    pub const NODE_STATUS: u8 = 0x84;
    pub const REDIRECT: u8 = 0x85;
    pub const BUSY: u8 = 0x86;
    pub const SESSION_EXPIRED: u8 = 0x87;
    pub const SEQUENCE_FINISHED: u8 = 0x88;
    pub const TOO_LARGE: u8 = 0x89;
    pub const REFUSED: u8 = 0x8a;
    pub const FOUNDED: u8 = 0x8b;
    pub const SNAPSHOT_STATE: u8 = 0x8c;
    pub const CHANGED: u8 = 0x8d;
    pub const MEMBERSHIP_STATE: u8 = 0x8e;
    pub const CHANGE_REFUSED: u8 = 0x8f;
    pub const TRANSFERRING: u8 = 0x90;
    pub const FAULTS_SET: u8 = 0x93;
}

pub(super) fn begin_body(kind: u8, group: GroupId, out: &mut Vec<u8>) {
    out.put_u8(kind);
    out.put_varint(group.0);
}

pub(super) fn read_number(reader: &mut Reader<'_>) -> Result<u64, CursorError> {
    let number = reader.varint()?;
    if number > NUMBER_MAX { Err(CursorError::Value) } else { Ok(number) }
}

pub(super) fn read_term(reader: &mut Reader<'_>) -> Result<Term, CursorError> {
    read_number(reader).map(Term)
}

pub(super) fn read_index(reader: &mut Reader<'_>) -> Result<Index, CursorError> {
    read_number(reader).map(Index)
}

/// A yes or no in a byte of its own: 1 or 0.
pub(super) fn read_bool(reader: &mut Reader<'_>) -> Result<bool, CursorError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CursorError::Value),
    }
}
