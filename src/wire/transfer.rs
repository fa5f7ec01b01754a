//! Bodies by which a node pulls a snapshot file, range by range, from any node that has it.
//!
//! Both name the file by its identity, not by its place in the log: two files of one index may differ, and a range of
//! one must never land in the other (S6).

use crate::cursor::{CursorError, Reader, Writer};
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::types::GroupId;
use crate::wire::body::{begin_body, body_kind as k, read_index, read_term};

/// The longest range that may be asked for in one call, in bytes. `[W-55]`
pub const PULL_BYTES_MAX: u32 = 1 << 20;

/// Give me this range of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The file.
    pub meta: SnapshotMeta,
    /// Where the range begins.
    pub offset: u64,
    /// How long it is: above zero, and within the file.
    pub length: u32,
}

/// The answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullReply<'a> {
    /// The range.
    Data {
        /// The file's digest, as asked for.
        digest: u64,
        /// Where the range begins, as asked for.
        offset: u64,
        /// All of it.
        bytes: &'a [u8],
    },
    /// This node has no such file, or cannot read it.
    NotHere,
}

/// Appends a snapshot's identity. `[W-54]`
pub(super) fn put_meta(out: &mut Vec<u8>, meta: &SnapshotMeta) {
    meta.encode(out);
}

/// Reads it; a snapshot of nothing, or of no bytes, is malformed.
pub(super) fn read_meta(r: &mut Reader<'_>) -> Result<SnapshotMeta, CursorError> {
    let id = SnapshotId { index: read_index(r)?, term: read_term(r)?, chain: r.u32()? };
    let meta = SnapshotMeta { id, bytes: r.varint()?, digest: r.u64()? };
    if id.index.0 == 0 || id.term.0 == 0 || meta.bytes == 0 { Err(CursorError::Value) } else { Ok(meta) }
}

/// Appends the body of a pull.
pub fn encode_pull(group: GroupId, pull: &Pull, out: &mut Vec<u8>) {
    begin_body(k::SNAPSHOT_PULL, group, out);
    put_meta(out, &pull.meta);
    out.put_varint(pull.offset);
    out.put_varint(u64::from(pull.length));
}

/// Reads the body of a pull; the range lies within the file. `[W-55]`
pub fn decode_pull(body: &[u8]) -> Result<(GroupId, Pull), CursorError> {
    let mut reader = Reader::new(body);
    let r = &mut reader;
    if r.u8()? != k::SNAPSHOT_PULL {
        return Err(CursorError::Value);
    }
    let group = GroupId(r.varint()?);
    let (meta, offset, length) = (read_meta(r)?, r.varint()?, r.varint()?);
    // Varints have 62 bits: the sum does not overflow.
    let is_within = length > 0 && length <= u64::from(PULL_BYTES_MAX) && offset + length <= meta.bytes;
    let length = u32::try_from(length).ok().filter(|_| is_within).ok_or(CursorError::Value)?;
    Ok((group, Pull { meta, offset, length }))
}

/// Appends the body of the answer.
pub fn encode_pull_reply(group: GroupId, reply: &PullReply<'_>, out: &mut Vec<u8>) {
    begin_body(k::SNAPSHOT_DATA, group, out);
    match reply {
        PullReply::Data { digest, offset, bytes } => {
            out.put_u8(DATA);
            out.put_u64(*digest);
            out.put_varint(*offset);
            out.put_bytes(bytes);
        }
        PullReply::NotHere => out.put_u8(NOT_HERE),
    }
}

/// Reads it. `[W-56]`
pub fn decode_pull_reply(body: &[u8]) -> Result<(GroupId, PullReply<'_>), CursorError> {
    let mut reader = Reader::new(body);
    let r = &mut reader;
    if r.u8()? != k::SNAPSHOT_DATA {
        return Err(CursorError::Value);
    }
    let group = GroupId(r.varint()?);
    let reply = match r.u8()? {
        DATA => PullReply::Data { digest: r.u64()?, offset: r.varint()?, bytes: r.rest() },
        NOT_HERE => PullReply::NotHere,
        _ => return Err(CursorError::Value),
    };
    Ok((group, reply))
}

const DATA: u8 = 0;
const NOT_HERE: u8 = 1;
