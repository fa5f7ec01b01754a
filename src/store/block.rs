//! One batch as bytes: blocks of 4 KiB, sectors of 512 bytes, a header, entries, an end byte.
//!
//! ```text
//! sector 0    stamp 0x5b · header (127 B) · content (384 B)
//! sector 1…   stamp 0xe6 · content (511 B)
//!             the last byte of the last sector is the end byte 0xa7
//! ```
//! The stamps, the header's last byte and the end byte are never zero, and no three flipped bits make one of them
//! zero or turn one stamp into the other. So a piece that never reached a zero-filled disk shows as a zero, and
//! content can never pass for a header.

use byteorder::{BigEndian, ByteOrder as _};

use crate::cursor::{CursorError, Reader, Writer};
use crate::entry::{Entry, Payload};
use crate::store::segment::Generation;
use crate::types::{ClusterId, Index, StoreId, Term};

pub(super) const BLOCK_BYTES: usize = 4096;
pub(super) const SECTOR_BYTES: usize = 512;
pub(super) const HEADER_BYTES: usize = 128;

/// The format version of the log: of batches and what they hold.
pub const LOG_VERSION: u16 = 1;

const STAMP_FIRST: u8 = 0x5b;
const STAMP_NEXT: u8 = 0xe6;
const HEADER_BYTE: u8 = 0xa7;
const END_BYTE: u8 = 0xa7;
const MAGIC: [u8; 3] = *b"rgb";

/// Content bytes in a block, before the header's are taken off.
const CONTENT_PER_BLOCK: usize = (SECTOR_BYTES - 1) * (BLOCK_BYTES / SECTOR_BYTES);
/// What header (its stamp apart) and end byte take of the first and last block's content.
const CONTENT_OVERHEAD: usize = HEADER_BYTES - 1 + 1;

/// The most content one batch may carry.
pub(super) const CONTENT_BYTES_MAX: usize = 1 << 30;

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose log it is.
    pub cluster: ClusterId,
    /// On which store.
    pub store: StoreId,
    /// In which segment.
    pub generation: Generation,
    /// The batch's number in the store's life; within a segment without gaps.
    pub sequence: u64,
    /// Its length in blocks of 4 KiB.
    pub blocks: u32,
    /// How many bytes of entries it carries.
    pub content_bytes: u32,
    /// Its first entry; of an empty batch the one that would have come next.
    pub first: Index,
    /// Its last entry; of an empty batch the one before.
    pub last: Index,
    /// The last entry's term; of an empty batch the term of the entry before, where known, else 0.
    pub last_term: Term,
    /// All entries up to here were synced before this batch was written.
    pub mark: Index,
    /// The sequence of the hard-state record under which it was written.
    pub record: u64,
    /// CRC-32 of everything behind the header.
    pub body_crc: u32,
}

impl Header {
    /// The batch's length in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks as usize * BLOCK_BYTES
    }

    /// True when it holds no entry and only carries the mark.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last < self.first
    }

    /// Writes it over the first [`HEADER_BYTES`] of a batch.
    fn put(&self, out: &mut [u8]) {
        out[0] = STAMP_FIRST;
        out[1..4].copy_from_slice(&MAGIC);
        BigEndian::write_u32(&mut out[8..12], self.body_crc);
        BigEndian::write_u32(&mut out[12..16], self.blocks);
        BigEndian::write_u32(&mut out[16..20], self.content_bytes);
        BigEndian::write_u16(&mut out[20..22], LOG_VERSION);
        BigEndian::write_u64(&mut out[24..32], self.generation.0);
        BigEndian::write_u64(&mut out[32..40], self.sequence);
        BigEndian::write_u64(&mut out[40..48], self.first.0);
        BigEndian::write_u64(&mut out[48..56], self.last.0);
        BigEndian::write_u64(&mut out[56..64], self.last_term.0);
        BigEndian::write_u64(&mut out[64..72], self.mark.0);
        BigEndian::write_u64(&mut out[72..80], self.record);
        out[80..96].copy_from_slice(&self.cluster.0);
        out[96..112].copy_from_slice(&self.store.0);
        out[HEADER_BYTES - 1] = HEADER_BYTE;
        let crc = crc32fast::hash(&out[8..HEADER_BYTES]);
        BigEndian::write_u32(&mut out[4..8], crc);
    }

    /// Reads the header at the front of a block, or `None` when no intact one stands there.
    pub(super) fn read(block: &[u8]) -> Option<Self> {
        let b = block.get(..HEADER_BYTES)?;
        let is_intact = is_intact(b) && BigEndian::read_u16(&b[20..22]) == LOG_VERSION;
        let header = Self {
            body_crc: BigEndian::read_u32(&b[8..12]),
            blocks: BigEndian::read_u32(&b[12..16]),
            content_bytes: BigEndian::read_u32(&b[16..20]),
            generation: Generation(BigEndian::read_u64(&b[24..32])),
            sequence: BigEndian::read_u64(&b[32..40]),
            first: Index(BigEndian::read_u64(&b[40..48])),
            last: Index(BigEndian::read_u64(&b[48..56])),
            last_term: Term(BigEndian::read_u64(&b[56..64])),
            mark: Index(BigEndian::read_u64(&b[64..72])),
            record: BigEndian::read_u64(&b[72..80]),
            cluster: ClusterId(b[80..96].try_into().ok()?),
            store: StoreId(b[96..112].try_into().ok()?),
        };
        let is_sound = header.blocks as usize == blocks_for(header.content_bytes as usize)
            && header.first.0 >= 1
            && header.last.0 >= header.first.0 - 1;
        (is_intact && is_sound).then_some(header)
    }
}

/// Whether the first bytes of a block are a header of this or a later version: stamp, magic, checksum, version and
/// header byte keep their places.
fn is_intact(header: &[u8]) -> bool {
    header[0] == STAMP_FIRST
        && header[1..4] == MAGIC
        && header[HEADER_BYTES - 1] == HEADER_BYTE
        && BigEndian::read_u32(&header[4..8]) == crc32fast::hash(&header[8..])
}

/// The version of an intact header that is newer than this program.
pub(super) fn newer_version(block: &[u8]) -> Option<u16> {
    let header = block.get(..HEADER_BYTES).filter(|header| is_intact(header))?;
    Some(BigEndian::read_u16(&header[20..22])).filter(|version| *version > LOG_VERSION)
}

/// How many blocks a batch of this much content takes.
pub(super) fn blocks_for(content_bytes: usize) -> usize {
    (content_bytes + CONTENT_OVERHEAD).div_ceil(CONTENT_PER_BLOCK)
}

/// Where in a batch this byte of its content stands.
pub(super) fn position_of(content_offset: usize) -> usize {
    let unstamped = content_offset + HEADER_BYTES - 1;
    let payload = SECTOR_BYTES - 1;
    unstamped / payload * SECTOR_BYTES + 1 + unstamped % payload
}

/// Builds batches in buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    content: Vec<u8>,
    batch: Vec<u8>,
}

impl Encoder {
    /// Lays out the entries and returns the length of their batch in bytes.
    ///
    /// # Panics
    /// Above [`CONTENT_BYTES_MAX`]: callers bound what they merge.
    pub(super) fn stage(&mut self, entries: &[Entry]) -> usize {
        self.content.clear();
        for entry in entries {
            self.content.put_varint(entry.term.0);
            self.content.put_u8(entry.payload.kind());
            match &entry.payload {
                Payload::Command(bytes) => self.content.put_prefixed(bytes),
                other => {
                    self.content.put_varint(other.content_bytes() as u64);
                    other.encode_content(&mut self.content);
                }
            }
            self.content.put_u32(entry.chain);
        }
        let bytes = self.content.len();
        assert!(bytes <= CONTENT_BYTES_MAX, "a batch of {bytes} bytes exceeds {CONTENT_BYTES_MAX}");
        blocks_for(bytes) * BLOCK_BYTES
    }

    /// The staged entries as a batch under this header, whose lengths and checksums are filled in here.
    pub(super) fn seal(&mut self, mut header: Header) -> &[u8] {
        let blocks = blocks_for(self.content.len());
        let batch = &mut self.batch;
        batch.clear();
        batch.resize(blocks * BLOCK_BYTES, 0);
        for sector in batch.chunks_exact_mut(SECTOR_BYTES) {
            sector[0] = STAMP_NEXT;
        }
        let (head, mut rest) = self.content.split_at(self.content.len().min(SECTOR_BYTES - HEADER_BYTES));
        batch[HEADER_BYTES..HEADER_BYTES + head.len()].copy_from_slice(head);
        for sector in batch.chunks_exact_mut(SECTOR_BYTES).skip(1) {
            let (piece, left) = rest.split_at(rest.len().min(SECTOR_BYTES - 1));
            sector[1..=piece.len()].copy_from_slice(piece);
            rest = left;
        }
        assert!(rest.is_empty(), "{} bytes of content are left over", rest.len());
        let end = batch.len() - 1;
        batch[end] = END_BYTE;
        header.blocks = blocks as u32;
        header.content_bytes = self.content.len() as u32;
        header.body_crc = crc32fast::hash(&batch[HEADER_BYTES..]);
        header.put(&mut batch[..HEADER_BYTES]);
        batch
    }
}

/// True when the batch that this intact header begins is all there.
pub(super) fn body_is_intact(batch: &[u8], header: &Header) -> bool {
    crc32fast::hash(&batch[HEADER_BYTES..]) == header.body_crc
}

/// True when a byte that a finished write never leaves zero is zero: a stamp, the header byte or the end byte of
/// the batch, or, of a block without an intact header, its stamp or header byte. Only this is a tear, and only where
/// every stamp is zero or the right one: other content in this place was not left by a write cut short (D6).
pub(super) fn has_zero_byte(bytes: &[u8], header: Option<&Header>) -> bool {
    let first_sector = bytes[0] == 0 || (bytes[0] != STAMP_NEXT && bytes[HEADER_BYTES - 1] == 0);
    match header {
        None => first_sector,
        Some(header) => {
            let batch = &bytes[..header.bytes()];
            let mut stamps = batch.chunks_exact(SECTOR_BYTES).map(|sector| sector[0]).skip(1);
            let is_own = stamps.clone().all(|stamp| stamp == 0 || stamp == STAMP_NEXT);
            let has_zero = stamps.any(|stamp| stamp == 0) || batch[batch.len() - 1] == 0;
            is_own && (first_sector || has_zero)
        }
    }
}

/// The entries of an intact batch, each with the place in the batch where it begins.
pub(super) fn read_entries(batch: &[u8], header: &Header) -> Result<Vec<(usize, Entry)>, CursorError> {
    let mut content = Vec::with_capacity(batch.len());
    for (number, sector) in batch.chunks_exact(SECTOR_BYTES).enumerate() {
        content.put_bytes(&sector[if number == 0 { HEADER_BYTES } else { 1 }..]);
    }
    let content = content.get(..header.content_bytes as usize).ok_or(CursorError::Short)?;
    let mut reader = Reader::new(content);
    let mut entries = Vec::new();
    let mut index = header.first;
    while !reader.is_empty() {
        let at = position_of(content.len() - reader.rest().len());
        let term = Term(reader.varint()?);
        let kind = reader.u8()?;
        let payload = Payload::decode_content(kind, reader.prefixed()?)?;
        let chain = reader.u32()?;
        entries.push((at, Entry { index, term, payload, chain }));
        index = index.next();
    }
    let last_is_told = match entries.last() {
        Some((_, entry)) => entry.index == header.last && entry.term == header.last_term,
        None => header.is_empty(),
    };
    if last_is_told { Ok(entries) } else { Err(CursorError::Value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            cluster: ClusterId([1; 16]),
            store: StoreId([2; 16]),
            generation: Generation(3),
            sequence: 4,
            blocks: 0,
            content_bytes: 0,
            first: Index(1),
            last: Index(0),
            last_term: Term(0),
            mark: Index(0),
            record: 9,
            body_crc: 0,
        }
    }

    fn batch_of(payload_bytes: usize) -> (Vec<u8>, Entry) {
        let cluster = ClusterId([1; 16]);
        let payload = Payload::Command(vec![0x5b; payload_bytes].into());
        let entry = Entry::new(cluster, Index(1), Term(7), payload, 0);
        let mut encoder = Encoder::default();
        let bytes = encoder.stage(core::slice::from_ref(&entry));
        let batch = encoder.seal(Header { last: Index(1), last_term: Term(7), ..header() }).to_vec();
        assert_eq!(batch.len(), bytes);
        (batch, entry)
    }

    #[test]
    fn no_three_flips_make_a_mark_zero_or_one_stamp_the_other() {
        for mark in [STAMP_FIRST, STAMP_NEXT, HEADER_BYTE, END_BYTE, STAMP_FIRST ^ STAMP_NEXT] {
            assert!(mark.count_ones() > 3, "{mark:#x}");
        }
    }

    #[test]
    fn batches_of_every_length_around_block_and_sector_edges_read_back() {
        for payload_bytes in (0..20).chain(370..390).chain(880..900).chain(3930..3970).chain(8020..8060) {
            let (batch, entry) = batch_of(payload_bytes);
            let header = Header::read(&batch).unwrap();
            assert!(body_is_intact(&batch, &header));
            assert!(!has_zero_byte(&batch, Some(&header)));
            assert_eq!(read_entries(&batch, &header), Ok(vec![(HEADER_BYTES, entry)]));
        }
    }

    #[test]
    fn content_that_looks_like_a_header_never_stands_where_one_would() {
        let (inner, _) = batch_of(100);
        // Shifted so that the copy of the header would begin a block, were there no stamps.
        let payload = [vec![0; BLOCK_BYTES - HEADER_BYTES - 12], inner].concat();
        let entry = Entry::new(ClusterId([1; 16]), Index(1), Term(1), Payload::Command(payload.into()), 0);
        let mut encoder = Encoder::default();
        encoder.stage(&[entry]);
        let batch = encoder.seal(Header { last: Index(1), last_term: Term(1), ..header() });
        let later = batch.chunks_exact(BLOCK_BYTES).skip(1).filter_map(Header::read).count();
        assert_eq!(later, 0);
    }

    #[test]
    fn a_position_counts_the_stamps() {
        assert_eq!(position_of(0), HEADER_BYTES);
        assert_eq!(position_of(383), 511);
        assert_eq!(position_of(384), 513);
        assert_eq!(position_of(384 + 511), 1025);
    }
}
