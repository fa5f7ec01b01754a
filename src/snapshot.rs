//! The names of snapshots: what one covers, and which file it is.
//!
//! A snapshot is the whole replicated state through one index: membership, sessions, machine. Its file is canonical:
//! two nodes that take a snapshot of one index, at a point that the log decides, write the same bytes. So a transfer
//! that one node began another can go on with, as long as both hold the file of the same [`SnapshotMeta`].

use core::fmt;

use crate::cursor::{CursorError, Reader, Writer};
use crate::types::{Index, Term};

/// The bytes that one checksum of a snapshot file covers; the last block may be shorter.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// The version of the snapshot file's format; the log, the folder and the wire have versions of their own.
pub const FORMAT_VERSION: u16 = 1;

/// The entry that a snapshot goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId {
    /// Its index.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The chain value through it, by which a log above the snapshot proves that it follows.
    pub chain: u32,
}

/// Which file: two nodes' files are the same if and only if these are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotMeta {
    /// What it covers.
    pub id: SnapshotId,
    /// The length of the whole file.
    pub bytes: u64,
    /// FNV-1a 64 over the file's table of block checksums, see `docs/data-folder.md`.
    pub digest: u64,
}

impl SnapshotMeta {
    /// Appends the one encoding: index and term as varints, chain value u32, bytes varint, digest u64.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.id.index.0);
        out.put_varint(self.id.term.0);
        out.put_u32(self.id.chain);
        out.put_varint(self.bytes);
        out.put_u64(self.digest);
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CursorError> {
        let (index, term) = (Index(reader.varint()?), Term(reader.varint()?));
        let id = SnapshotId { index, term, chain: reader.u32()? };
        Ok(Self { id, bytes: reader.varint()?, digest: reader.u64()? })
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

impl fmt::Display for SnapshotMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes, digest {:016x}", self.id, self.bytes, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_is_read_as_it_was_written() {
        let id = SnapshotId { index: Index(70_000), term: Term(9), chain: 0xdead_beef };
        let meta = SnapshotMeta { id, bytes: 1 << 30, digest: u64::MAX };
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(SnapshotMeta::decode(&mut reader), Ok(meta));
        assert!(reader.is_empty());
        assert_eq!(meta.to_string(), "70000@9 of 1073741824 bytes, digest ffffffffffffffff");
    }
}
