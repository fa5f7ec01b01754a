//! Reading what is left of a damaged segment.
//!
//! The boot's own reading ends at the first bad batch. What follows may still be intact, and may be one of the few
//! copies of what the cluster has acknowledged; so every block is looked at for a batch of this segment. Within one
//! segment no two batches have one sequence and nothing is written twice, so an intact batch says what it holds
//! wherever in the file it stands. An intact header tells at least how far the log reached.

use std::collections::BTreeMap;

use crate::store::block::{self, BLOCK_BYTES, Header};
use crate::store::error::{Damage, DamageKind};
use crate::store::segment::{Expected, FoundBatch, SegmentEnd, belongs, damage_at, is_cut, judge};

/// What can still be read of a segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Salvage {
    /// Intact batches, by sequence.
    pub(super) batches: BTreeMap<u64, FoundBatch>,
    /// The batch of the highest sequence of which at least the header is intact.
    pub(super) newest: Option<Header>,
    /// Whether nothing behind that one was ever durable, as far as the bytes tell.
    pub(super) is_end_known: bool,
    /// A batch that was written under a later hard-state record than the one found.
    pub(super) stale: Option<Damage>,
}

/// Reads a whole segment. `bytes` is its file, zeros and all.
pub(super) fn salvage(bytes: &[u8], expected: &Expected) -> Salvage {
    let mut found = Salvage::default();
    let (mut offset, mut end, mut is_end_covered) = (0, 0, false);
    while bytes.len() - offset >= BLOCK_BYTES {
        let header = Header::read(&bytes[offset..])
            .filter(|header| belongs(header, expected) && header.sequence >= expected.segment.first_batch);
        let Some(header) = header else {
            offset += BLOCK_BYTES;
            continue;
        };
        if header.record > expected.record {
            let what = DamageKind::HardStateOlder { needed: header.record, found: expected.record };
            found.stale.get_or_insert(damage_at(offset, what, expected));
        }
        let batch = read(bytes, offset, header);
        let newest = found.newest.map(|newest| newest.sequence);
        // Of two copies one lies over something else, and which one cannot be told (D6).
        let is_copy = newest >= Some(header.sequence);
        if batch.is_none() && is_tear(bytes, offset, expected) {
            is_end_covered |= is_copy;
        } else if newest <= Some(header.sequence) {
            is_end_covered = is_copy;
            found.newest = Some(header);
            end = (offset + header.bytes()).min(bytes.len());
        }
        offset += if batch.is_some() { header.bytes() } else { BLOCK_BYTES };
        found.batches.extend(batch.map(|batch| (header.sequence, batch)));
    }
    let is_behind_clean = match bytes.len() - end < BLOCK_BYTES {
        true => !is_cut(bytes, &expected.segment),
        false => is_tear(bytes, end, expected),
    };
    let is_durable_here = end as u64 >= expected.segment.durable_bytes;
    found.is_end_known = is_durable_here && is_behind_clean && !is_end_covered;
    found
}

/// The batch that this header begins, if all of it is intact.
fn read(bytes: &[u8], offset: usize, header: Header) -> Option<FoundBatch> {
    let batch =
        bytes[offset..].get(..header.bytes()).filter(|batch| block::body_is_intact(batch, &header))?;
    let entries = block::read_entries(batch, &header).ok()?;
    let entries = entries.into_iter().map(|(at, entry)| ((offset + at) as u64, entry)).collect();
    Some(FoundBatch { offset: offset as u64, header, entries })
}

/// Whether what stands here, which is no intact batch, is nothing, or was cut short and never acknowledged.
fn is_tear(bytes: &[u8], offset: usize, expected: &Expected) -> bool {
    let rest = &bytes[offset..];
    let what = match Header::read(rest) {
        None => DamageKind::Header,
        Some(header) if belongs(&header, expected) && header.bytes() <= rest.len() => DamageKind::Body,
        Some(_) => DamageKind::Misplaced,
    };
    !matches!(judge(bytes, offset, what, expected), SegmentEnd::Damaged(_))
}
