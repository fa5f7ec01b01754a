//! Looking at a data folder without changing or booting it.
//!
//! It reads with the boot's own eyes: what [`verify`] calls damaged, `open` refuses, with the same file and byte.

use crate::snapshot::SnapshotMeta;
use crate::store::disk::{Disk, DiskError};
use crate::store::error::{Damage, DamageKind, OpenError};
use crate::store::record::{self, Record};
use crate::store::recover::{self, Tail};
use crate::store::segment::{FoundBatch, SegmentEnd, SegmentRef};
use crate::store::snapshot::{SnapshotError, SnapshotFile};
use crate::types::Index;

/// What the hard-state files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The record that counts.
    pub record: Record,
    /// The two files, and the sequence of the record in each: `None` where no valid one stands.
    pub copies: [(&'static str, Option<u64>); 2],
}

/// One segment of the log, whole.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// Its file.
    pub file: String,
    /// What the record says of it.
    pub segment: SegmentRef,
    /// Its entries above this index were cut by a later segment; `None` for the last one.
    pub live_to: Option<Index>,
    /// The batches that are intact, up to the first that is not.
    pub batches: Vec<FoundBatch>,
    /// What follows them. Behind the live part even damage harms nothing.
    pub end: SegmentEnd,
}

/// What a folder holds that would open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The snapshot, every block of which is intact.
    pub snapshot: Option<SnapshotMeta>,
    /// The last entry.
    pub last: Index,
    /// Entries above this one are synced only by the next boot.
    pub mark: Index,
    /// How the log ends.
    pub tail: Tail,
}

/// Reads the hard-state files.
pub fn meta<D: Disk>(disk: &mut D) -> Result<Meta, OpenError> {
    let files = recover::own_files(disk)?;
    let found = recover::find_record(disk, &files)?;
    let [first, second] = record::FILES;
    let [first_copy, second_copy] = found.copies;
    Ok(Meta { record: found.record, copies: [(first, first_copy), (second, second_copy)] })
}

/// Reads the live segments one by one, oldest first.
pub fn log<'a, D: Disk>(
    disk: &'a mut D,
    meta: &'a Meta,
) -> Result<impl Iterator<Item = Result<SegmentReport, DiskError>> + use<'a, D>, OpenError> {
    let files = recover::own_files(disk)?;
    let segments = &meta.record.segments;
    let reports = segments.iter().enumerate().map(move |(place, segment)| {
        let live_to = segments.get(place + 1).map(|next| next.base);
        let (batches, end) = match recover::scan_segment(disk, &files, &meta.record, *segment) {
            Ok(scan) => (scan.batches, scan.end),
            Err(recover::ScanError::Damaged(damage)) => (Vec::new(), SegmentEnd::Damaged(damage)),
            Err(recover::ScanError::Disk(error)) => return Err(error),
        };
        Ok(SegmentReport { file: segment.generation.file(), segment: *segment, live_to, batches, end })
    });
    Ok(reports)
}

/// Opens the snapshot that the record names; with it everything but the blocks of its body is checked.
pub fn snapshot<D: Disk>(disk: &mut D, meta: &Meta) -> Result<Option<SnapshotFile>, OpenError> {
    recover::find_snapshot(disk, &meta.record)
}

/// Checks every block of a snapshot.
pub fn verify_blocks<D: Disk>(disk: &mut D, file: &SnapshotFile) -> Result<(), OpenError> {
    file.verify(disk).map_err(|error| match error {
        SnapshotError::Damaged(damage) => damage.into(),
        SnapshotError::Failed(error) => error.into(),
        other => unreachable!("reading an open file: {other}"),
    })
}

/// Checks that both copies of the hard-state record are whole. A boot needs one of them and mends the other, so damage
/// to one costs nothing as long as it is alone.
pub fn verify_meta<D: Disk>(disk: &mut D) -> Result<Meta, OpenError> {
    let meta = meta(disk)?;
    let Some(bad) = meta.copies.iter().position(|(_, sequence)| sequence.is_none()) else { return Ok(meta) };
    let [(file, _), (whole, _)] = [meta.copies[bad], meta.copies[1 - bad]];
    let damaged = |offset, what| Damage { file: file.to_owned(), offset, what }.into();
    if !recover::own_files(disk)?.iter().any(|name| name == file) {
        return Err(damaged(0, DamageKind::MissingFile));
    }
    // In a folder at rest the two are equal, so the first byte that differs is the first bad one.
    let [found, expected] = [recover::read_file(disk, file)?, recover::read_file(disk, whole)?];
    let pairs = found.iter().zip(&expected);
    let offset = pairs.take_while(|(found, expected)| found == expected).count() as u64;
    Err(damaged(offset, DamageKind::HardStateCopy))
}

/// Checks the log as a boot would.
pub fn verify_log<D: Disk>(disk: &mut D) -> Result<Verified, OpenError> {
    let files = recover::own_files(disk)?;
    let found = recover::find_record(disk, &files)?;
    let log = recover::find_log(disk, &files, &found.record)?;
    if let Some(damage) = log.damage.first() {
        return Err(OpenError::Damaged(damage.clone()));
    }
    let last = log.last_index();
    Ok(Verified { snapshot: found.record.snapshot, last, mark: log.mark, tail: log.tail })
}

/// Checks everything that a boot would check.
pub fn verify<D: Disk>(disk: &mut D) -> Result<Verified, OpenError> {
    let meta = meta(disk)?;
    let snapshot = snapshot(disk, &meta)?;
    let verified = verify_log(disk)?;
    if let Some(file) = &snapshot {
        verify_blocks(disk, file)?;
    }
    Ok(verified)
}
