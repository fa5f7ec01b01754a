//! Reading a data folder without changing it: which record stands, what the log holds, what is damaged.

use crate::entry::Entry;
use crate::mutant::{self, Mutant};
use crate::snapshot::SnapshotId;
use crate::store::block::{BLOCK_BYTES, HEADER_BYTES, Header};
use crate::store::disk::{Disk, DiskError};
use crate::store::error::{Damage, DamageKind, OpenError, Part};
use crate::store::record::{self, Invalid, Record};
use crate::store::segment::{self, Expected, FoundBatch, Generation, Scan, SegmentEnd, SegmentRef};
use crate::store::snapshot::{self, SnapshotError, SnapshotFile};
use crate::types::{ClusterId, HardState, Index};

/// Stands in the folder while it is being formatted; a folder that holds it was never used.
pub(super) const FORMATTING: &str = "formatting";

/// Where the log ends and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// With its last batch.
    Whole,
    /// With a batch that was cut short, and so never acknowledged.
    Cut {
        /// The segment's file.
        file: String,
        /// Where the unfinished batch begins.
        offset: u64,
    },
}

/// The record found, and what the boot must know about its two files.
#[derive(Clone, Debug)]
pub(super) struct FoundRecord {
    pub(super) record: Record,
    /// Which of the two files to write first: the one that is invalid or older.
    pub(super) stalest: usize,
    /// What each file holds: a sequence, or nothing valid.
    pub(super) copies: [Option<u64>; 2],
}

/// The log found.
#[derive(Clone, Debug)]
pub(super) struct FoundLog {
    /// The index before the first entry: where the snapshot ends, or zero.
    pub(super) base: Index,
    /// The chain value there, as far as known.
    chain_at_base: Option<u32>,
    pub(super) entries: Vec<Entry>,
    /// Every entry up to here is known to have been synced.
    pub(super) mark: Index,
    /// The number of the next batch.
    pub(super) next_batch: u64,
    pub(super) tail: Tail,
}

impl FoundLog {
    /// The last entry, or the snapshot's.
    pub(super) fn last_index(&self) -> Index {
        Index(self.base.0 + self.entries.len() as u64)
    }

    /// The entries after this index, which is not below the base.
    pub(super) fn entries_after(&self, index: Index) -> &[Entry] {
        &self.entries[(index.0 - self.base.0) as usize..]
    }
}

/// Why a named segment could not be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ScanError {
    Damaged(Damage),
    Disk(DiskError),
}

impl From<ScanError> for OpenError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Damaged(damage) => Self::Damaged(damage),
            ScanError::Disk(error) => Self::Disk(error),
        }
    }
}

/// The names in the folder that are the store's own, in order.
pub(super) fn own_files<D: Disk>(disk: &mut D) -> Result<Vec<String>, DiskError> {
    let is_own = |file: &String| {
        record::FILES.contains(&file.as_str())
            || file == FORMATTING
            || Generation::of_file(file).is_some()
            || snapshot::is_own(file)
    };
    let mut files: Vec<String> = disk.list()?.into_iter().filter(is_own).collect();
    files.sort_unstable();
    Ok(files)
}

/// Reads both copies of the hard-state record and takes the newer one (E1, E3, I4).
pub(super) fn find_record<D: Disk>(disk: &mut D, files: &[String]) -> Result<FoundRecord, OpenError> {
    if files.is_empty() {
        return Err(OpenError::NotFormatted);
    }
    if files.iter().any(|file| file == FORMATTING) {
        return Err(OpenError::FormatUnfinished);
    }
    if !record::FILES.iter().any(|name| files.iter().any(|file| file == name)) {
        return Err(OpenError::HardStateMissing { beside: files[0].clone() });
    }
    let mut copies = [const { None }; 2];
    for (copy, name) in copies.iter_mut().zip(record::FILES) {
        if !files.iter().any(|file| file == name) {
            continue;
        }
        match Record::decode(&read_file(disk, name)?) {
            Ok(record) => *copy = Some(record),
            Err(Invalid::Bytes) => {}
            Err(Invalid::Newer(found)) => {
                let known = record::FORMAT_VERSION;
                return Err(OpenError::NewerFormat { part: Part::Folder, found, known });
            }
        }
    }
    choose(copies)
}

fn choose(copies: [Option<Record>; 2]) -> Result<FoundRecord, OpenError> {
    let sequences = [&copies[0], &copies[1]].map(|copy| copy.as_ref().map(|record| record.sequence));
    let (mut record, stalest) = match copies {
        [None, None] => {
            let damage = Damage { file: record::FILES[0].to_owned(), offset: 0, what: DamageKind::HardState };
            return Err(damage.into());
        }
        [Some(first), None] => (first, 1),
        [None, Some(second)] => (second, 0),
        [Some(first), Some(second)] => {
            if first.store != second.store {
                return Err(OpenError::TwoStores { first: first.store, second: second.store });
            }
            if first.sequence == second.sequence && first != second {
                return Err(OpenError::CopiesDiffer { sequence: first.sequence });
            }
            if first.sequence > second.sequence { (first, 1) } else { (second, 0) }
        }
    };
    if mutant::is(Mutant::E3) && sequences.contains(&None) {
        record.hard_state = HardState::default();
    }
    Ok(FoundRecord { record, stalest, copies: sequences })
}

/// Refuses the folder of another cluster than the one asked for.
pub(super) fn check_cluster(record: &Record, expected: Option<ClusterId>) -> Result<(), OpenError> {
    match expected {
        Some(expected) if expected != record.cluster => {
            Err(OpenError::ForeignCluster { found: record.cluster, expected })
        }
        _ => Ok(()),
    }
}

/// Reads one named segment whole.
pub(super) fn scan_segment<D: Disk>(
    disk: &mut D,
    files: &[String],
    record: &Record,
    segment: SegmentRef,
) -> Result<Scan, ScanError> {
    let file = segment.generation.file();
    if !files.contains(&file) {
        return Err(ScanError::Damaged(Damage { file, offset: 0, what: DamageKind::MissingFile }));
    }
    let bytes = read_file(disk, &file).map_err(ScanError::Disk)?;
    let expected =
        Expected { cluster: record.cluster, store: record.store, segment, record: record.sequence };
    Ok(segment::scan(&bytes, &expected))
}

/// Reads the log that the record names; the first damage ends it.
pub(super) fn find_log<D: Disk>(
    disk: &mut D,
    files: &[String],
    record: &Record,
) -> Result<FoundLog, OpenError> {
    let snapshot = record.snapshot.map_or(SnapshotId::default(), |meta| meta.id);
    let base = record.segments.first().map_or(snapshot.index, |segment| segment.base);
    let mut log = FoundLog {
        // A gap is found by the check of the first segment's base.
        base: base.min(snapshot.index),
        chain_at_base: match base {
            Index(0) => Some(0),
            base => (base >= snapshot.index).then_some(snapshot.chain),
        },
        entries: Vec::new(),
        mark: Index(0),
        next_batch: record.segments.first().map_or(1, |segment| segment.first_batch),
        tail: Tail::Whole,
    };
    for (place, segment) in record.segments.iter().enumerate() {
        let scan = scan_segment(disk, files, record, *segment)?;
        match record.segments.get(place + 1) {
            Some(next) => add_sealed(&mut log, record.cluster, *segment, next, scan)?,
            None => add_last(&mut log, record.cluster, *segment, scan)?,
        }
    }
    meet_snapshot(&mut log, snapshot, record)?;
    check_unnamed(disk, files, record)?;
    Ok(log)
}

/// Drops what the snapshot covers, after a check that the log leads through it. A log that ends below it is covered
/// as a whole: the snapshot was durable before the record named it, so nothing is lost (S2).
fn meet_snapshot(log: &mut FoundLog, snapshot: SnapshotId, record: &Record) -> Result<(), Damage> {
    let covered = (snapshot.index.0 - log.base.0) as usize;
    if let Some(met) = covered.checked_sub(1).and_then(|place| log.entries.get(place))
        && (met.term, met.chain) != (snapshot.term, snapshot.chain)
    {
        let holds = |segment: &&SegmentRef| segment.base < snapshot.index;
        let file = record.segments.iter().rev().find(holds).map(|segment| segment.generation.file());
        let what = DamageKind::Chain { index: snapshot.index };
        return Err(Damage { file: file.unwrap_or_default(), offset: 0, what });
    }
    log.entries.drain(..covered.min(log.entries.len()));
    log.base = snapshot.index;
    log.mark = log.mark.max(snapshot.index);
    Ok(())
}

/// Opens the snapshot that the record names.
pub(super) fn find_snapshot<D: Disk>(
    disk: &mut D,
    record: &Record,
) -> Result<Option<SnapshotFile>, OpenError> {
    let Some(meta) = record.snapshot else { return Ok(None) };
    let other = || {
        let file = snapshot::file_of(meta.id.index);
        OpenError::Damaged(Damage { file, offset: 0, what: DamageKind::OtherSnapshot })
    };
    match SnapshotFile::open(disk, meta) {
        // What was restored belongs to no cluster until it founds one.
        Ok(file) if file.head.cluster == record.cluster || record.cluster.is_zero() => Ok(Some(file)),
        Ok(_) | Err(SnapshotError::Foreign | SnapshotError::Interrupted) => Err(other()),
        Err(SnapshotError::Damaged(damage)) => Err(damage.into()),
        Err(SnapshotError::Newer { found }) => Err(OpenError::NewerFormat {
            part: Part::Snapshot,
            found,
            known: crate::snapshot::FORMAT_VERSION,
        }),
        Err(SnapshotError::Full) => Err(OpenError::Full),
        Err(SnapshotError::Failed(error)) => Err(error.into()),
    }
}

/// Takes from a segment what lies at or below the next one's base. All of it was durable when that was named.
fn add_sealed(
    log: &mut FoundLog,
    cluster: ClusterId,
    segment: SegmentRef,
    next: &SegmentRef,
    scan: Scan,
) -> Result<(), Damage> {
    check_base(log, segment)?;
    let mut end = 0;
    for batch in &scan.batches {
        if last_index(log) >= next.base {
            break;
        }
        add_batch(log, cluster, segment, batch)?;
        end = batch.offset + batch.header.bytes() as u64;
    }
    if last_index(log) < next.base {
        return Err(match scan.end {
            SegmentEnd::Damaged(damage) => damage,
            SegmentEnd::Torn { offset } => lost(segment, offset),
            SegmentEnd::Clean => lost(segment, end),
        });
    }
    log.entries.truncate((next.base.0 - log.base.0) as usize);
    log.mark = next.base;
    log.next_batch = next.first_batch;
    Ok(())
}

/// Takes all of the last segment; here alone a tear is possible.
fn add_last(log: &mut FoundLog, cluster: ClusterId, segment: SegmentRef, scan: Scan) -> Result<(), Damage> {
    check_base(log, segment)?;
    log.mark = segment.base;
    log.next_batch = segment.first_batch;
    for batch in &scan.batches {
        add_batch(log, cluster, segment, batch)?;
        log.mark = log.mark.max(batch.header.mark.min(batch.header.last));
        if batch.offset + batch.header.bytes() as u64 <= segment.durable_bytes {
            log.mark = log.mark.max(batch.header.last);
        }
        log.next_batch = batch.header.sequence + 1;
    }
    match scan.end {
        SegmentEnd::Clean => Ok(()),
        SegmentEnd::Torn { offset } => {
            log.tail = Tail::Cut { file: segment.generation.file(), offset };
            Ok(())
        }
        SegmentEnd::Damaged(damage) => Err(damage),
    }
}

/// The first segment has to begin the log, and each later one must be reached by those before.
fn check_base(log: &FoundLog, segment: SegmentRef) -> Result<(), Damage> {
    let expected = last_index(log).next();
    if segment.base == last_index(log) {
        return Ok(());
    }
    Err(Damage { file: segment.generation.file(), offset: 0, what: DamageKind::Gap { expected } })
}

fn add_batch(
    log: &mut FoundLog,
    cluster: ClusterId,
    segment: SegmentRef,
    batch: &FoundBatch,
) -> Result<(), Damage> {
    let file = || segment.generation.file();
    let expected = last_index(log).next();
    if batch.header.first != expected && !mutant::is(Mutant::D6) {
        return Err(Damage { file: file(), offset: batch.offset, what: DamageKind::Gap { expected } });
    }
    for (offset, entry) in &batch.entries {
        // The chain value before a log that begins below its snapshot is not known; the one at the snapshot is.
        let prev_chain = match log.entries.last() {
            Some(last) => Some(last.chain),
            None => log.chain_at_base,
        };
        let is_broken = prev_chain.is_some_and(|prev_chain| !entry.is_chained_to(cluster, prev_chain));
        if is_broken && !mutant::is(Mutant::D6) {
            let what = DamageKind::Chain { index: entry.index };
            return Err(Damage { file: file(), offset: *offset, what });
        }
        log.entries.push(entry.clone());
    }
    Ok(())
}

/// A file that the record does not name is a spare, or is left from a boot cut short; one that was written under
/// a later record shows that both copies of the hard state were put back to an old state.
fn check_unnamed<D: Disk>(disk: &mut D, files: &[String], record: &Record) -> Result<(), OpenError> {
    for file in files.iter().filter(|file| Generation::of_file(file).is_some()) {
        if record.segments.iter().any(|segment| segment.generation.file() == **file) {
            continue;
        }
        if disk.file_bytes(file)? < BLOCK_BYTES as u64 {
            continue;
        }
        let mut block = [0; HEADER_BYTES];
        disk.read_at(file, 0, &mut block)?;
        let newer = Header::read(&block)
            .filter(|header| header.store == record.store && header.record > record.sequence);
        if let Some(header) = newer {
            let what = DamageKind::HardStateOlder { needed: header.record, found: record.sequence };
            return Err(Damage { file: file.clone(), offset: 0, what }.into());
        }
    }
    Ok(())
}

fn last_index(log: &FoundLog) -> Index {
    log.last_index()
}

fn lost(segment: SegmentRef, offset: u64) -> Damage {
    Damage { file: segment.generation.file(), offset, what: DamageKind::Lost }
}

pub(super) fn read_file<D: Disk>(disk: &mut D, file: &str) -> Result<Vec<u8>, DiskError> {
    let bytes = disk.file_bytes(file)?;
    let mut content = vec![0; bytes as usize];
    disk.read_at(file, 0, &mut content)?;
    Ok(content)
}
