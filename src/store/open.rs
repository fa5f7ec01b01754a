//! Formatting a folder, and the boot: what is done to a folder before anything in it counts.

use std::collections::BTreeMap;

use crate::entry::Entry;
use crate::founding::FoundingRecord;
use crate::mutant::{self, Mutant};
use crate::remains::{LogEnd, Remains};
use crate::snapshot::SnapshotMeta;
use crate::store::block::{BLOCK_BYTES, Encoder, Header};
use crate::store::disk::{Disk, DiskError, DiskErrorKind};
use crate::store::error::{Damage, FormatError, OpenError};
use crate::store::record::{self, BootSeen, KernelBoot, Record, Stop, Syncing};
use crate::store::recover::{self, FORMATTING, FoundLog, FoundRecord, Tail};
use crate::store::refound::NEW_RECORD;
use crate::store::segment::{Generation, SegmentRef};
use crate::store::snapshot::{self, SnapshotFile};
use crate::store::spare::{FillError, Spare};
use crate::store::store::{Active, Store, Sync, sync_all};
use crate::types::{ClusterId, HardState, Incarnation, Index, StoreId, Term};

/// The length of a log segment unless told otherwise.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// The highest number a boot counter may start from.
pub const FIRST_INCARNATION_MAX: u32 = (1 << 30) - 1;

/// What a new folder is given.
#[derive(Clone, Copy, Debug)]
pub struct FormatOptions {
    /// Its identity: sixteen random bytes, never zero.
    pub store: StoreId,
    /// Where its boot counter starts: random, at most [`FIRST_INCARNATION_MAX`]. The first boot is one higher.
    pub first_incarnation: Incarnation,
    /// How long a log segment is: a multiple of 4 KiB. Long ones are made rarely and cost a longer stall when
    /// they were not made ahead.
    pub segment_bytes: u64,
}

/// How a folder is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// The cluster it must belong to, if the caller knows.
    pub cluster: Option<ClusterId>,
    /// The length of new log segments: a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// The kernel's boot id, where there is one.
    pub kernel_boot: KernelBoot,
    /// Whether writes of this run are synced.
    pub fsync: Fsync,
    /// What to do with a log or snapshot that is damaged.
    pub on_damage: OnDamage,
}

/// What a boot does with damage that other nodes can make good. Damage to the hard state is always refused: nobody
/// else knows whom this node voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// It refuses the folder.
    Refuse,
    /// It tells what is left, and changes nothing of that until what is missing has come. The folder of a node that
    /// never met another one is refused all the same.
    Keep,
}

/// Whether a run syncs its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// It does.
    On,
    /// It does not: for measurements. A machine crash loses data, and the folder then refuses to be opened.
    Off,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            cluster: None,
            segment_bytes: SEGMENT_BYTES,
            kernel_boot: KernelBoot::default(),
            fsync: Fsync::On,
            on_damage: OnDamage::Refuse,
        }
    }
}

/// What a boot found; all of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whose folder it is.
    pub store: StoreId,
    /// Of which cluster; zero before founding or joining.
    pub cluster: ClusterId,
    /// This boot's number, never used before.
    pub incarnation: Incarnation,
    /// What the cluster was founded as, if this store took part.
    pub founding: Option<FoundingRecord>,
    /// Term and vote.
    pub hard_state: HardState,
    /// The snapshot in force; its body is still to be read, and checked by that.
    pub snapshot: Option<SnapshotFile>,
    /// The log from the entry after the snapshot's on, or from index 1.
    pub entries: Vec<Entry>,
    /// The highest boot adopted of each other store.
    pub peers: BTreeMap<StoreId, BootSeen>,
    /// How the run before ended.
    pub stop: Stop,
    /// How the log ended.
    pub tail: Tail,
    /// What was found damaged, in order. Some of it may have been covered by the snapshot, and costs nothing.
    pub damage: Vec<Damage>,
    /// What is left of the log behind the first hole, if there is one; `entries` end before it.
    pub remains: Option<Remains>,
}

impl<D: Disk> Store<D> {
    /// Makes a store in an empty folder, or where formatting was cut short. Other people's files are left alone.
    ///
    /// # Panics
    /// For options outside their domain.
    pub fn format(disk: &mut D, options: FormatOptions) -> Result<(), FormatError> {
        let files = check_empty(disk, options)?;
        begin_format(disk, &files).map_err(FormatError::Disk)?;
        finish_format(disk, options, None).map_err(FormatError::Disk)
    }

    /// Boots: reads the folder, refuses what may not be used, makes durable what was only read, and counts.
    /// A refusal has changed no durable content.
    ///
    /// # Panics
    /// For a segment length outside its domain.
    pub fn open(mut disk: D, options: OpenOptions) -> Result<(Self, Recovered), OpenError> {
        check_segment_bytes(options.segment_bytes);
        let files = recover::own_files(&mut disk)?;
        let found = recover::find_record(&mut disk, &files)?;
        recover::check_cluster(&found.record, options.cluster)?;
        check_synced(&found.record, options.kernel_boot)?;
        let on_damage = if found.record.is_alone() { OnDamage::Refuse } else { options.on_damage };
        let (snapshot, lost) = match recover::find_snapshot(&mut disk, &found.record) {
            Err(OpenError::Damaged(damage)) if on_damage == OnDamage::Keep => (None, Some(damage)),
            found => (found?, None),
        };
        let log = recover::find_log(&mut disk, &files, &found.record)?;
        if let (OnDamage::Refuse, Some(damage)) = (on_damage, log.damage.first()) {
            return Err(OpenError::Damaged(damage.clone()));
        }
        let incarnation = found.record.incarnation.0.checked_add(1).ok_or(OpenError::BootsExhausted)?;

        let mut recovered = Recovered {
            store: found.record.store,
            cluster: found.record.cluster,
            incarnation: Incarnation(incarnation),
            founding: found.record.founding.clone(),
            hard_state: found.record.hard_state,
            snapshot,
            entries: log.entries.clone(),
            peers: found.record.peers.clone(),
            stop: found.record.stop,
            tail: log.tail.clone(),
            damage: log.damage.clone(),
            remains: log.remains(),
        };
        let mut store = begin(disk, &files, &found, options)?;
        store.record.incarnation = recovered.incarnation;
        store.note_end(&log);
        if recovered.remains.is_none() {
            store.copy_tail(&log)?;
        } else {
            store.has_holes = true;
        }
        if let Some(damage) = lost {
            store.lose_snapshot(&mut recovered, damage)?;
        }
        store.write_copies(Sync::Now)?;
        store.remove_unnamed()?;
        Ok((store, recovered))
    }

    /// Tells that the snapshot in force turned out to be damaged when it was read: all of the log lies behind a hole
    /// then. Blocks that are intact are kept for whoever pulls the file anew.
    pub fn lose_snapshot(&mut self, recovered: &mut Recovered, damage: Damage) -> Result<(), DiskError> {
        let Some(meta) = self.record.snapshot else { return Ok(()) };
        let mut entries = core::mem::take(&mut recovered.entries);
        let behind = recovered.remains.take();
        let whole = entries.last().map_or(LogEnd { index: meta.id.index, term: meta.id.term }, LogEnd::of);
        let end = behind.as_ref().map_or(Some(whole), |behind| behind.end);
        entries.extend(behind.into_iter().flat_map(|behind| behind.entries));
        recovered.snapshot = None;
        recovered.damage.insert(0, damage);
        recovered.remains = Some(Remains { entries, end });
        (self.has_holes, self.has_lost_snapshot) = (true, true);
        (self.last, self.last_term, self.last_chain, self.marked) = (Index(0), Term(0), Some(0), Index(0));
        snapshot::keep_blocks(&mut self.disk, &meta)
    }

    /// Whether there may be other nodes to make good what is damaged here.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.record.is_alone()
    }

    /// Takes note of where the log ends, or its first hole begins.
    fn note_end(&mut self, log: &FoundLog) {
        if let Some(snapshot) = &self.record.snapshot {
            let id = snapshot.id;
            (self.last, self.last_term, self.last_chain) = (id.index, id.term, Some(id.chain));
        }
        if let Some(last) = log.entries.last() {
            (self.last, self.last_term, self.last_chain) = (last.index, last.term, Some(last.chain));
        }
        self.marked = self.last;
        self.next_batch = log.next_batch;
    }

    /// Copies what may live only in the page cache into a fresh segment, and with it what is cheap to copy, so
    /// that many short runs do not leave many short segments. The record that names it is written afterwards.
    fn copy_tail(&mut self, log: &FoundLog) -> Result<(), OpenError> {
        let base = self.choose_base(log);
        let entries = log.entries_after(base);
        let bytes = if entries.is_empty() { 0 } else { self.encoder.stage(entries) as u64 };
        let mut filled = self.spare.fill_all(&mut self.disk, bytes.max(self.segment_bytes), Syncing::Always);
        if filled == Err(FillError::Full) {
            // The last run filled what room there was: a short segment is enough to serve reads.
            filled = self.spare.fill_all(&mut self.disk, bytes.max(BLOCK_BYTES as u64), Syncing::Always);
        }
        match filled {
            Ok(()) => {}
            Err(FillError::Full) => return Err(OpenError::Full),
            Err(FillError::Failed(error)) => return Err(error.into()),
        }
        let segment = SegmentRef {
            generation: self.spare.generation,
            base,
            first_batch: log.next_batch,
            durable_bytes: bytes,
            file_bytes: self.spare.filled(),
        };
        self.active = Active { file: segment.generation.file(), bytes: self.spare.filled(), offset: bytes };
        self.spare = Spare::planned(segment.generation.next());
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            let header = Header {
                cluster: self.record.cluster,
                store: self.record.store,
                generation: segment.generation,
                sequence: self.next_batch,
                blocks: 0,
                content_bytes: 0,
                first: first.index,
                last: last.index,
                last_term: last.term,
                mark: base,
                record: self.record.sequence,
                body_crc: 0,
            };
            self.disk.write_at(&self.active.file, 0, self.encoder.seal(header))?;
            if !mutant::is(Mutant::I3) {
                self.disk.sync(&self.active.file)?;
            }
            self.next_batch += 1;
        }
        self.keep_segments_below(base, log.base);
        self.record.segments.push(segment);
        Ok(())
    }

    /// The lowest base for the fresh segment that copies at most a quarter of one; at the least all above the
    /// mark.
    fn choose_base(&mut self, log: &FoundLog) -> Index {
        let mut base = log.mark;
        for segment in self.record.segments.iter().rev() {
            // What lies below the snapshot was not even read.
            let from = segment.base.max(log.base);
            if from >= base {
                continue;
            }
            if self.encoder.stage(log.entries_after(from)) as u64 > self.segment_bytes / 4 {
                break;
            }
            base = from;
        }
        base
    }

    /// Keeps the segments that hold entries above the snapshot and, for those above `base` are copied, below `base`.
    fn keep_segments_below(&mut self, base: Index, snapshot: Index) {
        let mut end = base;
        let segments = core::mem::take(&mut self.record.segments);
        for segment in segments.into_iter().rev() {
            if segment.base < base && end > snapshot {
                self.record.segments.push(segment);
            }
            end = end.min(segment.base);
        }
        self.record.segments.reverse();
    }

    /// Removes the log files that the record on the disk does not name, but for a spare.
    fn remove_unnamed(&mut self) -> Result<(), DiskError> {
        let files = recover::own_files(&mut self.disk)?;
        for file in &files {
            let Some(generation) = Generation::of_file(file) else { continue };
            let is_named = self.record.segments.iter().any(|segment| segment.generation == generation);
            if !is_named && generation != self.spare.generation {
                self.disk.remove(file)?;
            }
        }
        if self.disk.list()?.iter().any(|file| file == NEW_RECORD) {
            self.disk.remove(NEW_RECORD)?;
        }
        let named = self.record.snapshot.as_ref().filter(|_| !self.has_lost_snapshot);
        snapshot::remove_unneeded(&mut self.disk, &files, named)
    }
}

fn check_segment_bytes(bytes: u64) {
    assert!(bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES as u64), "a segment of {bytes} bytes");
}

/// A run without fsync that did not stop cleanly is as good as what the kernel still remembers.
pub(super) fn check_synced(record: &Record, now: KernelBoot) -> Result<(), OpenError> {
    match (record.syncing, record.stop) {
        (Syncing::Never(then), Stop::Unclean) if then != now || now == KernelBoot::default() => {
            Err(OpenError::UnsyncedStop)
        }
        _ => Ok(()),
    }
}

/// A store around what was found, before anything was written.
fn begin<D: Disk>(
    mut disk: D,
    files: &[String],
    found: &FoundRecord,
    options: OpenOptions,
) -> Result<Store<D>, OpenError> {
    if found.record.syncing != Syncing::Always {
        sync_all(&mut disk, &found.record)?;
    }
    for name in record::FILES {
        if !files.iter().any(|file| file == name) {
            disk.create(name)?;
        }
        fill_record_file(&mut disk, name)?;
        // The copy that was taken may live only in the page cache. It must be durable before the other one, which
        // may be the only whole one on the disk, is written over.
        disk.sync(name)?;
    }
    disk.sync_folder()?;
    let spare = find_spare(&mut disk, files, &found.record)?;
    let mut record = found.record.clone();
    record.stop = Stop::Unclean;
    record.syncing = match options.fsync {
        Fsync::On => Syncing::Always,
        Fsync::Off => Syncing::Never(options.kernel_boot),
    };
    Ok(Store {
        disk,
        record,
        stalest: found.stalest,
        active: Active { file: String::new(), bytes: 0, offset: 0 },
        spare,
        segment_bytes: options.segment_bytes,
        last: Index(0),
        last_term: Term(0),
        last_chain: None,
        marked: Index(0),
        next_batch: 0,
        encoder: Encoder::default(),
        record_bytes: Vec::new(),
        has_holes: false,
        has_lost_snapshot: false,
        failed: None,
    })
}

/// Takes a spare that the last run left, as far as it was made, if it was never written to; otherwise plans a new one
/// with a number higher than any ever seen here.
fn find_spare<D: Disk>(disk: &mut D, files: &[String], record: &Record) -> Result<Spare, DiskError> {
    let named = record.segments.last().map_or(Generation(0), |segment| segment.generation);
    let highest = files.iter().filter_map(|file| Generation::of_file(file)).max().unwrap_or(named).max(named);
    if highest > named {
        let content = recover::read_file(disk, &highest.file())?;
        let blocks = content.len() / BLOCK_BYTES;
        if blocks > 0 && content.iter().all(|byte| *byte == 0) {
            return Ok(Spare::found(highest, (blocks * BLOCK_BYTES) as u64));
        }
    }
    Ok(Spare::planned(highest.next()))
}

/// # Panics
/// For options outside their domain.
pub(super) fn check_options(options: FormatOptions) {
    assert!(!options.store.is_zero(), "a store id is never zero");
    assert!(options.first_incarnation.0 <= FIRST_INCARNATION_MAX, "{}", options.first_incarnation);
    check_segment_bytes(options.segment_bytes);
}

/// The files left by a formatting that was cut short, where nothing else of ours stands.
///
/// # Panics
/// For options outside their domain.
pub(super) fn check_empty<D: Disk>(disk: &mut D, options: FormatOptions) -> Result<Vec<String>, FormatError> {
    check_options(options);
    let files = recover::own_files(disk).map_err(FormatError::Disk)?;
    let was_begun = files.iter().any(|file| file == FORMATTING);
    match files.first() {
        Some(file) if !was_begun => Err(FormatError::NotEmpty { file: file.clone() }),
        _ => Ok(files),
    }
}

/// Leaves nothing in the folder but the mark that it is being made.
pub(super) fn begin_format<D: Disk>(disk: &mut D, files: &[String]) -> Result<(), DiskError> {
    if !files.iter().any(|file| file == FORMATTING) {
        disk.create(FORMATTING)?;
    }
    disk.sync_folder()?;
    for file in files.iter().filter(|file| *file != FORMATTING) {
        disk.remove(file)?;
    }
    Ok(())
}

/// Writes the first record and the spare; then the folder is made.
pub(super) fn finish_format<D: Disk>(
    disk: &mut D,
    options: FormatOptions,
    snapshot: Option<SnapshotMeta>,
) -> Result<(), DiskError> {
    let record = Record {
        sequence: 1,
        store: options.store,
        cluster: ClusterId::ZERO,
        incarnation: options.first_incarnation,
        hard_state: HardState::default(),
        stop: Stop::Clean,
        syncing: Syncing::Always,
        founding: None,
        peers: BTreeMap::new(),
        snapshot,
        segments: Vec::new(),
    };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    for name in record::FILES {
        disk.create(name)?;
        fill_record_file(disk, name)?;
        disk.write_at(name, 0, &bytes)?;
        disk.sync(name)?;
    }
    match Spare::planned(Generation(1)).fill_all(disk, options.segment_bytes, Syncing::Always) {
        Ok(()) => {}
        Err(FillError::Failed(error)) => return Err(error),
        Err(FillError::Full) => {
            let file = Generation(1).file();
            let operation = crate::store::disk::Operation::Write;
            return Err(DiskError { operation, file, kind: DiskErrorKind::Full, code: None });
        }
    }
    // The record's files and the spare have their names on the disk before the marker goes.
    disk.remove(FORMATTING)?;
    disk.sync_folder()
}

/// Gives a hard-state file its full length, so that no later record needs room. The caller syncs.
pub(super) fn fill_record_file<D: Disk>(disk: &mut D, name: &str) -> Result<(), DiskError> {
    let bytes = disk.file_bytes(name)? as usize;
    if bytes < record::FILE_BYTES {
        disk.write_at(name, bytes as u64, &vec![0; record::FILE_BYTES - bytes])?;
    }
    Ok(())
}
