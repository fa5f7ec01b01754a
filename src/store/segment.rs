//! One log segment: its name, what the hard-state record says of it, and what a scan finds in it.

use core::fmt;

use crate::entry::Entry;
use crate::mutant::{self, Mutant};
use crate::store::block::{self, BLOCK_BYTES, Header};
use crate::store::error::{Damage, DamageKind};
use crate::types::{ClusterId, Index, StoreId};

/// A segment's number. The next segment has a higher one, and none is ever used again for other content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The number after this one.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The name of this segment's file.
    #[must_use]
    pub fn file(self) -> String {
        format!("log-{:016x}", self.0)
    }

    /// The generation of a file with such a name.
    #[must_use]
    pub fn of_file(file: &str) -> Option<Self> {
        let digits = file.strip_prefix("log-").filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok().map(Self).filter(|generation| generation.file() == file)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A live segment as the hard-state record names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    /// Which file.
    pub generation: Generation,
    /// Its entries follow this index; entries above it in earlier segments are cut.
    pub base: Index,
    /// The sequence of its first batch.
    pub first_batch: u64,
    /// This many bytes of it were durable when the record was written: anything bad below is damage.
    pub durable_bytes: u64,
    /// Its file is no shorter: as long as it was made, or once the log has gone on elsewhere as long as what it used.
    /// Of a shorter one nobody knows what stood behind.
    pub file_bytes: u64,
}

/// What batches of one segment must say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) cluster: ClusterId,
    pub(super) store: StoreId,
    pub(super) segment: SegmentRef,
    /// The sequence of the hard-state record found.
    pub(super) record: u64,
}

/// An intact batch, where it stands and what it holds.
#[derive(Clone, Debug)]
pub struct FoundBatch {
    /// Its first byte in the file.
    pub offset: u64,
    /// What it says about itself.
    pub header: Header,
    /// Its entries, each with the byte of the file where it begins.
    pub entries: Vec<(u64, Entry)>,
}

/// What stands after the last intact batch of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentEnd {
    /// Zeros, or the end of the file.
    Clean,
    /// A write that was cut short and never acknowledged.
    Torn {
        /// Where it begins.
        offset: u64,
    },
    /// Content that was durable and is bad.
    Damaged(Damage),
}

/// All intact batches up to the first bad one, and what that is.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub(super) batches: Vec<FoundBatch>,
    pub(super) end: SegmentEnd,
}

/// Reads a whole segment (design: recovery). `bytes` is its file, zeros and all.
pub(super) fn scan(bytes: &[u8], expected: &Expected) -> Scan {
    let mut batches = Vec::new();
    let mut offset = 0;
    let mut sequence = expected.segment.first_batch;
    while bytes.len() - offset >= BLOCK_BYTES {
        match read_batch(bytes, offset, sequence, expected) {
            Ok(batch) => {
                offset += batch.header.bytes();
                sequence += 1;
                batches.push(batch);
            }
            Err(what) => {
                let end = judge(bytes, offset, what, expected);
                return Scan { batches, end };
            }
        }
    }
    let end = if is_cut(bytes, &expected.segment) {
        let what = DamageKind::ShortFile { bytes: bytes.len() as u64 };
        SegmentEnd::Damaged(damage_at(offset, what, expected))
    } else {
        SegmentEnd::Clean
    };
    Scan { batches, end }
}

/// Whether the file lost its end, and perhaps batches with it.
pub(super) fn is_cut(bytes: &[u8], segment: &SegmentRef) -> bool {
    (bytes.len() as u64) < segment.file_bytes
}

/// The batch at this offset, or what is wrong with it.
fn read_batch(
    bytes: &[u8],
    offset: usize,
    sequence: u64,
    expected: &Expected,
) -> Result<FoundBatch, DamageKind> {
    let rest = &bytes[offset..];
    if let Some(found) = block::newer_version(rest) {
        return Err(DamageKind::Newer { found });
    }
    let header = Header::read(rest).ok_or(DamageKind::Header)?;
    let is_in_place = belongs(&header, expected) && header.sequence == sequence;
    if !is_in_place && !mutant::is(Mutant::D6) {
        return Err(DamageKind::Misplaced);
    }
    if header.record > expected.record {
        return Err(DamageKind::HardStateOlder { needed: header.record, found: expected.record });
    }
    let batch = rest.get(..header.bytes()).ok_or(DamageKind::ShortFile { bytes: bytes.len() as u64 })?;
    if !block::body_is_intact(batch, &header) {
        return Err(DamageKind::Body);
    }
    let entries = block::read_entries(batch, &header).map_err(|_| DamageKind::Malformed)?;
    let entries = entries.into_iter().map(|(at, entry)| ((offset + at) as u64, entry)).collect();
    Ok(FoundBatch { offset: offset as u64, header, entries })
}

/// What the first bad batch is: the end of what was ever written, a tear, or damage (D1, I5).
pub(super) fn judge(bytes: &[u8], offset: usize, what: DamageKind, expected: &Expected) -> SegmentEnd {
    let was_durable = (offset as u64) < expected.segment.durable_bytes;
    let can_tear = matches!(what, DamageKind::Header | DamageKind::Body);
    if mutant::is(Mutant::D1) {
        return SegmentEnd::Torn { offset: offset as u64 };
    }
    if !can_tear {
        return SegmentEnd::Damaged(damage_at(offset, what, expected));
    }
    let rest = &bytes[offset..];
    let header = Header::read(rest);
    let is_cut_short = block::has_zero_byte(rest, header.as_ref());
    // Only one batch is ever in flight, so a later one was begun when this one was durable.
    let has_later = rest
        .chunks_exact(BLOCK_BYTES)
        .skip(1)
        .filter_map(Header::read)
        .any(|later| belongs(&later, expected));
    if was_durable || has_later {
        let what = if is_cut_short { DamageKind::Lost } else { what };
        return SegmentEnd::Damaged(damage_at(offset, what, expected));
    }
    if !is_cut_short && !mutant::is(Mutant::I5) {
        return SegmentEnd::Damaged(damage_at(offset, what, expected));
    }
    if rest.iter().all(|byte| *byte == 0) {
        return SegmentEnd::Clean;
    }
    SegmentEnd::Torn { offset: offset as u64 }
}

pub(super) fn belongs(header: &Header, expected: &Expected) -> bool {
    header.cluster == expected.cluster
        && header.store == expected.store
        && header.generation == expected.segment.generation
}

pub(super) fn damage_at(offset: usize, what: DamageKind, expected: &Expected) -> Damage {
    Damage { file: expected.segment.generation.file(), offset: offset as u64, what }
}
