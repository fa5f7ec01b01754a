//! Where the parts of a snapshot file stand, and its head, table and trailer.

use core::ops::Range;

use byteorder::{BigEndian, ByteOrder as _};

use crate::cursor::{Reader, Writer as _};
use crate::hash::Fnv1a;
use crate::machine::{Fields, RestoreError, Source};
use crate::membership::Membership;
use crate::snapshot::{BLOCK_BYTES, FORMAT_VERSION, SnapshotId};
use crate::types::{ClusterId, Index, Term};

const HEAD_MAGIC: [u8; 4] = *b"rgs\x00";
const TRAILER_MAGIC: [u8; 4] = *b"rgst";
/// Magic, version, zero, length of the whole head.
const PREFIX_BYTES: usize = 12;
const CHECKSUM_BYTES: u64 = 4;
pub(super) const TRAILER_BYTES: u64 = 32;
/// A tebibyte. What other nodes offer is believed up to here: the table of so many blocks has 64 MiB.
const FILE_BYTES_MAX: u64 = 1 << 40;
/// Longer than any membership makes it: a joint one names 255 voters twice, with 273 bytes and a length each.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// What a snapshot says of itself, at the front of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// Whose state it is.
    pub cluster: ClusterId,
    /// Through which entry.
    pub id: SnapshotId,
    /// The membership there.
    pub membership: Membership,
}

impl SnapshotHead {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_bytes(&HEAD_MAGIC);
        out.put_u16(FORMAT_VERSION);
        out.put_u16(0);
        out.put_u32(0);
        out.put_bytes(&self.cluster.0);
        out.put_u64(self.id.index.0);
        out.put_u64(self.id.term.0);
        out.put_u32(self.id.chain);
        self.membership.encode(&mut out);
        assert!(out.len() < HEAD_BYTES_MAX, "a head of {} bytes, of {HEAD_BYTES_MAX} at most", out.len());
        let bytes = out.len() as u32;
        BigEndian::write_u32(&mut out[8..12], bytes);
        out
    }

    /// Reads the head, and how many bytes it took.
    pub(super) fn decode(source: &mut dyn Source) -> Result<(Self, u64), RestoreError> {
        let mut fields = Fields::new(source);
        let mut prefix = [0; PREFIX_BYTES];
        fields.fill(&mut prefix)?;
        let bytes = BigEndian::read_u32(&prefix[8..12]) as usize;
        let is_known = prefix[..4] == HEAD_MAGIC && BigEndian::read_u16(&prefix[4..6]) == FORMAT_VERSION;
        if !is_known || !(PREFIX_BYTES..HEAD_BYTES_MAX).contains(&bytes) {
            return Err(RestoreError::Malformed);
        }
        let mut body = vec![0; bytes - PREFIX_BYTES];
        fields.fill(&mut body)?;
        let mut reader = Reader::new(&body);
        let r = &mut reader;
        let cluster = ClusterId(r.array()?);
        let id = SnapshotId { index: Index(r.u64()?), term: Term(r.u64()?), chain: r.u32()? };
        let membership = Membership::decode(r)?;
        reader.finish()?;
        Ok((Self { cluster, id, membership }, bytes as u64))
    }
}

/// Where the parts of a file stand, which follows from its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The length of head and body.
    pub content_bytes: u64,
    /// How many blocks that makes.
    pub blocks: u64,
}

impl Layout {
    /// The layout of a file with this much content.
    #[must_use]
    pub fn of_content(content_bytes: u64) -> Self {
        Self { content_bytes, blocks: content_bytes.div_ceil(BLOCK_BYTES as u64) }
    }

    /// The layout of a file of this length; `None` when no file has it.
    #[must_use]
    pub fn of_file(bytes: u64) -> Option<Self> {
        let rest = bytes.checked_sub(TRAILER_BYTES).filter(|_| bytes <= FILE_BYTES_MAX)?;
        let blocks = rest.div_ceil(BLOCK_BYTES as u64 + CHECKSUM_BYTES);
        let content = rest.checked_sub(blocks * CHECKSUM_BYTES)?;
        let layout = Self::of_content(content);
        (blocks > 0 && layout.blocks == blocks).then_some(layout)
    }

    /// The length of the whole file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.content_bytes + self.blocks * CHECKSUM_BYTES + TRAILER_BYTES
    }

    /// Where table and trailer stand: what a puller asks for first.
    #[must_use]
    pub fn tail(&self) -> Range<u64> {
        self.content_bytes..self.file_bytes()
    }

    /// Where a block stands.
    #[must_use]
    pub fn block(&self, number: u64) -> Range<u64> {
        let start = number * BLOCK_BYTES as u64;
        start..self.content_bytes.min(start + BLOCK_BYTES as u64)
    }
}

/// Over the table, and what gives its numbers their meaning.
fn digest_of(content_bytes: u64, table: &[u8]) -> u64 {
    Fnv1a::default().u64(u64::from(FORMAT_VERSION)).u64(content_bytes).bytes(table).finish()
}

/// Table and trailer for this content; also the digest.
pub(super) fn encode_tail(content_bytes: u64, table: &[u32]) -> (Vec<u8>, u64) {
    let mut out = Vec::new();
    table.iter().for_each(|crc| out.put_u32(*crc));
    let digest = digest_of(content_bytes, &out);
    let trailer = out.len();
    out.put_bytes(&TRAILER_MAGIC);
    out.put_u16(FORMAT_VERSION);
    out.put_u16(0);
    out.put_u64(content_bytes);
    out.put_u64(digest);
    out.put_u32(table.len() as u32);
    let crc = crc32fast::hash(&out[trailer..]);
    out.put_u32(crc);
    (out, digest)
}

/// The table of a file with this layout and digest, from the bytes of [`Layout::tail`]. On failure, where in the tail
/// the smallest piece with the bad byte begins.
pub(super) fn decode_tail(layout: &Layout, digest: u64, tail: &[u8]) -> Result<Vec<u32>, u64> {
    let table_bytes = layout.blocks * CHECKSUM_BYTES;
    let (table, trailer) = tail.split_at(table_bytes as usize);
    let numbers: Vec<u32> = table.chunks_exact(4).map(BigEndian::read_u32).collect();
    let (expected, _) = encode_tail(layout.content_bytes, &numbers);
    let is_whole = trailer.len() as u64 == TRAILER_BYTES
        && BigEndian::read_u32(&trailer[28..]) == crc32fast::hash(&trailer[..28])
        && BigEndian::read_u64(&trailer[16..24]) == digest;
    match (is_whole, expected == tail) {
        (true, true) => Ok(numbers),
        (true, false) => Err(0),
        (false, _) => Err(table_bytes),
    }
}

/// What a trailer says, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trailer {
    /// It is whole, and of a version known here.
    Known { content_bytes: u64, digest: u64 },
    /// It is whole, and of a version to come: magic, version and checksum keep their places.
    Newer { version: u16 },
    /// It is no trailer.
    Bad,
}

/// Reads the last bytes of a file.
pub(super) fn read_trailer(trailer: &[u8]) -> Trailer {
    let is_whole = trailer.len() as u64 == TRAILER_BYTES
        && trailer[..4] == TRAILER_MAGIC
        && BigEndian::read_u32(&trailer[28..]) == crc32fast::hash(&trailer[..28]);
    if !is_whole {
        return Trailer::Bad;
    }
    match BigEndian::read_u16(&trailer[4..6]) {
        FORMAT_VERSION => Trailer::Known {
            content_bytes: BigEndian::read_u64(&trailer[8..16]),
            digest: BigEndian::read_u64(&trailer[16..24]),
        },
        version if version > FORMAT_VERSION => Trailer::Newer { version },
        _ => Trailer::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_file_tells_its_layout_and_impossible_lengths_are_none() {
        let block = BLOCK_BYTES as u64;
        for content in [1, 2, block - 1, block, block + 1, 7 * block, 7 * block + 5, 1 << 30] {
            let layout = Layout::of_content(content);
            assert_eq!(Layout::of_file(layout.file_bytes()), Some(layout), "{content}");
        }
        let lengths: std::collections::BTreeSet<u64> =
            (1..3 * block).map(|content| Layout::of_content(content).file_bytes()).collect();
        for bytes in 0..3 * block {
            assert_eq!(Layout::of_file(bytes).is_some(), lengths.contains(&bytes), "{bytes}");
        }
        for bytes in [(1 << 40) + 1, 1 << 60, u64::MAX] {
            assert_eq!(Layout::of_file(bytes), None, "{bytes}");
        }
    }
}
