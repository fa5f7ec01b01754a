//! Reading a data folder without changing it: which record stands, what the log holds, what is damaged.

use crate::entry::Entry;
use crate::mutant::{self, Mutant};
use crate::remains::{LogEnd, Remains};
use crate::snapshot::SnapshotId;
use crate::store::block::{BLOCK_BYTES, Header};
use crate::store::disk::{Disk, DiskError};
use crate::store::error::{Damage, DamageKind, OpenError, Part};
use crate::store::record::{self, Invalid, Record};
use crate::store::salvage::{Salvage, salvage};
use crate::store::segment::{self, Expected, FoundBatch, Generation, Scan, SegmentEnd, SegmentRef};
use crate::store::snapshot::{self, SnapshotError, SnapshotFile};
use crate::types::{ClusterId, HardState, Index, Term};

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
    /// Everything that is damaged, in order.
    pub(super) damage: Vec<Damage>,
    /// Intact entries that do not follow `entries` without a hole.
    kept: Vec<Entry>,
    /// The last entry that was durable here, as far as known.
    end: Option<LogEnd>,
}

impl FoundLog {
    /// The last entry, or the snapshot's.
    pub(super) fn last_index(&self) -> Index {
        Index(self.base.0 + self.entries.len() as u64)
    }

    /// What lies behind the damage; nothing when all of the log is here.
    pub(super) fn remains(&self) -> Option<Remains> {
        let is_whole = self.kept.is_empty() && self.end.is_some_and(|end| end.index <= self.last_index());
        let is_lost = !self.damage.is_empty() && !is_whole;
        is_lost.then(|| Remains { entries: self.kept.clone(), end: self.end })
    }

    /// The highest index that was read, behind holes or not.
    fn reach(&self) -> Index {
        self.kept.last().map_or(self.last_index(), |entry| entry.index)
    }

    /// The term of an entry that was read.
    fn term_at(&self, index: Index) -> Option<Term> {
        let entries = self.entries.iter().chain(&self.kept);
        entries.rev().find(|entry| entry.index == index).map(|entry| entry.term)
    }

    /// Drops what lies above an index.
    fn cut_above(&mut self, index: Index) {
        self.entries.truncate(index.0.saturating_sub(self.base.0) as usize);
        self.kept.retain(|entry| entry.index <= index);
    }

    /// Adds an entry that was read: to the log if it follows it, else to what is kept behind the holes. False when it
    /// contradicts the one before it.
    fn add(&mut self, cluster: ClusterId, entry: &Entry) -> bool {
        let is_next = self.kept.is_empty() && entry.index == self.last_index().next();
        let before = if is_next { self.entries.last() } else { self.kept.last() };
        let before = before.filter(|before| before.index.next() == entry.index).map(|before| before.chain);
        // The chain value before a log that begins below its snapshot is not known; the one at the snapshot is.
        let before = if is_next && self.entries.is_empty() { self.chain_at_base } else { before };
        let is_chained = before.is_none_or(|before| entry.is_chained_to(cluster, before));
        if is_next { &mut self.entries } else { &mut self.kept }.push(entry.clone());
        is_chained
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
    Ok(segment::scan(&bytes, &expected_of(record, segment)))
}

fn expected_of(record: &Record, segment: SegmentRef) -> Expected {
    Expected { cluster: record.cluster, store: record.store, segment, record: record.sequence }
}

/// Reads the log that the record names. What is damaged is told, and what can be read behind it is read. Contents that
/// contradict each other are refused: no other node can say which of them is right.
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
            base => (base == snapshot.index).then_some(snapshot.chain),
        },
        entries: Vec::new(),
        mark: Index(0),
        next_batch: record.segments.first().map_or(1, |segment| segment.first_batch),
        tail: Tail::Whole,
        damage: Vec::new(),
        kept: Vec::new(),
        end: Some(LogEnd::default()),
    };
    for (place, segment) in record.segments.iter().enumerate() {
        let scan = match scan_segment(disk, files, record, *segment) {
            Ok(scan) => scan,
            Err(ScanError::Damaged(damage)) => Scan { batches: Vec::new(), end: SegmentEnd::Damaged(damage) },
            Err(ScanError::Disk(error)) => return Err(error.into()),
        };
        let limit = record.segments.get(place + 1).map(|next| next.base);
        if let Some(damage) = add_segment(&mut log, record.cluster, *segment, limit, scan)? {
            let left = salvage_segment(disk, files, record, *segment)?;
            add_salvage(&mut log, record.cluster, *segment, limit, damage, left)?;
        }
        if let Some(next) = record.segments.get(place + 1) {
            log.mark = next.base;
            log.next_batch = next.first_batch;
        }
    }
    meet_snapshot(&mut log, snapshot, record)?;
    check_unnamed(disk, files, record)?;
    Ok(log)
}

fn salvage_segment<D: Disk>(
    disk: &mut D,
    files: &[String],
    record: &Record,
    segment: SegmentRef,
) -> Result<Salvage, OpenError> {
    let file = segment.generation.file();
    if !files.contains(&file) {
        return Ok(Salvage::default());
    }
    let bytes = read_file(disk, &file)?;
    let left = salvage(&bytes, &expected_of(record, segment));
    match left.stale {
        Some(damage) => Err(damage.into()),
        None => Ok(left),
    }
}

/// Drops what the snapshot covers, after a check that the log leads through it. A log that ends below it is covered
/// as a whole: the snapshot was durable before the record named it, so nothing is lost (S2).
fn meet_snapshot(log: &mut FoundLog, snapshot: SnapshotId, record: &Record) -> Result<(), Damage> {
    let broken = |index| {
        let holds = |segment: &&SegmentRef| segment.base < snapshot.index;
        let file = record.segments.iter().rev().find(holds).map(|segment| segment.generation.file());
        Damage { file: file.unwrap_or_default(), offset: 0, what: DamageKind::Chain { index } }
    };
    let met = log.entries.iter().chain(&log.kept).find(|entry| entry.index == snapshot.index);
    if met.is_some_and(|met| (met.term, met.chain) != (snapshot.term, snapshot.chain)) {
        return Err(broken(snapshot.index));
    }
    let covered = (snapshot.index.0 - log.base.0) as usize;
    log.entries.drain(..covered.min(log.entries.len()));
    log.kept.retain(|entry| entry.index > snapshot.index);
    log.base = snapshot.index;
    log.chain_at_base = Some(snapshot.chain);
    for entry in core::mem::take(&mut log.kept) {
        if !log.add(record.cluster, &entry) {
            return Err(broken(entry.index));
        }
    }
    if log.end.is_some_and(|end| end.index <= snapshot.index) && log.reach() == snapshot.index {
        log.end = Some(LogEnd { index: snapshot.index, term: snapshot.term });
    }
    // What is bad but no longer needed goes with its segment.
    log.mark = if log.damage.is_empty() { log.mark.max(snapshot.index) } else { snapshot.index };
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

/// Takes what the strict reading of a segment found, up to `limit`, where the next one takes over. Returns what is
/// damaged of what should be there.
fn add_segment(
    log: &mut FoundLog,
    cluster: ClusterId,
    segment: SegmentRef,
    limit: Option<Index>,
    scan: Scan,
) -> Result<Option<Damage>, Damage> {
    if segment.base < log.reach() || (segment.base > log.reach() && log.damage.is_empty()) {
        // Only damage in the segment before, or in the snapshot, leaves a hole.
        let what = DamageKind::Gap { expected: log.reach().next() };
        return Err(Damage { file: segment.generation.file(), offset: 0, what });
    }
    if limit.is_none() {
        log.mark = segment.base;
        log.next_batch = segment.first_batch;
    }
    let (mut at, mut read_bytes) = (segment.base, 0);
    for batch in &scan.batches {
        if limit.is_some_and(|limit| at >= limit) {
            break;
        }
        if batch.header.first != at.next() && !mutant::is(Mutant::D6) {
            let what = DamageKind::Gap { expected: at.next() };
            return Err(Damage { file: segment.generation.file(), offset: batch.offset, what });
        }
        add_batch(log, cluster, segment, batch)?;
        at = batch.header.last;
        read_bytes = batch.offset + batch.header.bytes() as u64;
        log.end = end_of(log, &batch.header);
        if limit.is_none() {
            add_mark(log, segment, batch);
        }
    }
    match (limit, scan.end) {
        (Some(limit), _) if at >= limit => {
            log.cut_above(limit);
            log.end = log.term_at(limit).map(|term| LogEnd { index: limit, term });
            Ok(None)
        }
        (_, SegmentEnd::Damaged(damage)) => Ok(Some(damage)),
        (None, SegmentEnd::Clean) => Ok(None),
        (None, SegmentEnd::Torn { offset }) => {
            log.tail = Tail::Cut { file: segment.generation.file(), offset };
            Ok(None)
        }
        // All of a sealed segment was durable when the next one was named.
        (Some(_), SegmentEnd::Torn { offset }) => Ok(Some(lost(segment, offset))),
        (Some(_), SegmentEnd::Clean) => Ok(Some(lost(segment, read_bytes))),
    }
}

/// Takes what lies behind the first damage of a segment.
fn add_salvage(
    log: &mut FoundLog,
    cluster: ClusterId,
    segment: SegmentRef,
    limit: Option<Index>,
    damage: Damage,
    left: Salvage,
) -> Result<(), Damage> {
    if matches!(damage.what, DamageKind::HardStateOlder { .. } | DamageKind::Newer { .. }) {
        return Err(damage);
    }
    log.damage.push(damage);
    for batch in left.batches.values() {
        let is_beyond = limit.is_some_and(|limit| batch.header.first > limit);
        let is_read = batch.header.last <= log.reach() || batch.header.is_empty();
        if is_beyond || is_read {
            continue;
        }
        if batch.header.first <= log.reach() {
            let what = DamageKind::Gap { expected: log.reach().next() };
            return Err(Damage { file: segment.generation.file(), offset: batch.offset, what });
        }
        add_batch(log, cluster, segment, batch)?;
    }
    let newest = left.newest.and_then(|newest| end_of(log, &newest));
    match limit {
        Some(limit) => {
            log.cut_above(limit);
            let told = newest.filter(|newest| newest.index == limit).map(|newest| newest.term);
            let term = log.term_at(limit).or(told);
            log.end = term.map(|term| LogEnd { index: limit, term });
        }
        None => {
            log.next_batch = left.newest.map_or(segment.first_batch, |newest| newest.sequence + 1);
            // Without a batch here the log ends where the segment begins.
            let end = if left.newest.is_some() { newest } else { log.end };
            log.end = end.filter(|_| left.is_end_known);
        }
    }
    Ok(())
}

/// Where a log ends whose last batch this is.
fn end_of(log: &FoundLog, header: &Header) -> Option<LogEnd> {
    let told = (header.last_term > Term(0) || header.last == Index(0)).then_some(header.last_term);
    let term = told.or_else(|| log.term_at(header.last));
    term.map(|term| LogEnd { index: header.last, term })
}

/// What a batch of the last segment tells of what has been synced.
fn add_mark(log: &mut FoundLog, segment: SegmentRef, batch: &FoundBatch) {
    log.mark = log.mark.max(batch.header.mark.min(batch.header.last));
    if batch.offset + batch.header.bytes() as u64 <= segment.durable_bytes {
        log.mark = log.mark.max(batch.header.last);
    }
    log.next_batch = batch.header.sequence + 1;
}

fn add_batch(
    log: &mut FoundLog,
    cluster: ClusterId,
    segment: SegmentRef,
    batch: &FoundBatch,
) -> Result<(), Damage> {
    for (offset, entry) in &batch.entries {
        if !log.add(cluster, entry) && !mutant::is(Mutant::D6) {
            let what = DamageKind::Chain { index: entry.index };
            return Err(Damage { file: segment.generation.file(), offset: *offset, what });
        }
    }
    Ok(())
}

/// A file that the record does not name is a spare, or is left from a boot cut short; one that was written under
/// a later record shows that both copies of the hard state were put back to an old state.
fn check_unnamed<D: Disk>(disk: &mut D, files: &[String], record: &Record) -> Result<(), OpenError> {
    for file in files {
        let Some(generation) = Generation::of_file(file) else { continue };
        if record.segments.iter().any(|segment| segment.generation == generation) {
            continue;
        }
        let bytes = read_file(disk, file)?;
        let headers = bytes.chunks_exact(BLOCK_BYTES).map(Header::read).enumerate();
        // The first batch of a segment that takes the place of others is older than the record that names it.
        let newer = headers
            .filter_map(|(block, header)| Some((block, header?)))
            .find(|(_, header)| header.store == record.store && header.record > record.sequence);
        if let Some((block, header)) = newer {
            let what = DamageKind::HardStateOlder { needed: header.record, found: record.sequence };
            return Err(Damage { file: file.clone(), offset: (block * BLOCK_BYTES) as u64, what }.into());
        }
    }
    Ok(())
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
