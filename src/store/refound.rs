//! From the folder of a node whose cluster lost its quorum for good to a new cluster.
//!
//! What the folder holds is read first, all of it, without changing a byte ([`Survey`]). Then the whole state, that of
//! its last entry, is written as a snapshot one entry further on: the founding counts as an entry, as it does when a
//! backup founds a cluster, so the file has a name that no other snapshot of the folder has. One record then names
//! that file, a log that begins after it, a cluster, a store and a boot counter that nobody has seen before, and the
//! new membership. So none of the old cluster's nodes, nor a copy of this very folder, can ever be taken for a member.
//!
//! The record's two files name two stores while only one of them is written, which no boot accepts. Therefore the
//! other one goes first, and the new record takes the place of the last one by a rename: at each moment the folder is
//! wholly the old cluster's or wholly the new one's. What is no longer named is removed by the next boot.

use crate::entry::{Entry, Payload};
use crate::founding::FoundingRecord;
use crate::machine::Frozen;
use crate::membership::Membership;
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::store::disk::{Disk, DiskError};
use crate::store::error::OpenError;
use crate::store::open::{self, FormatOptions};
use crate::store::record::{self, KernelBoot, Record, Stop, Syncing};
use crate::store::recover::{self, FoundRecord};
use crate::store::segment::{Generation, SegmentRef};
use crate::store::snapshot::{self, SnapshotError, SnapshotFile, SnapshotHead};
use crate::store::spare::{FillError, Spare};
use crate::types::{HardState, Index, Term};

/// The new record until it takes the place of the old one; a boot that finds it removes it.
pub(super) const NEW_RECORD: &str = "hard-state-new";

/// All that a whole folder holds, read without changing it.
#[derive(Clone, Debug)]
pub struct Survey {
    found: FoundRecord,
    /// The snapshot in force; the blocks of its body are checked when they are read.
    pub snapshot: Option<SnapshotFile>,
    /// The log from the entry after the snapshot's on, or from index 1.
    pub entries: Vec<Entry>,
}

impl Survey {
    /// Reads a folder as a boot does, and refuses what a boot refuses; damage too, whatever other nodes could make
    /// good.
    pub fn read<D: Disk>(disk: &mut D, kernel_boot: KernelBoot) -> Result<Self, OpenError> {
        let files = recover::own_files(disk)?;
        let found = recover::find_record(disk, &files)?;
        open::check_synced(&found.record, kernel_boot)?;
        let snapshot = recover::find_snapshot(disk, &found.record)?;
        let log = recover::find_log(disk, &files, &found.record)?;
        match log.damage.into_iter().next() {
            Some(damage) => Err(damage.into()),
            None => Ok(Self { found, snapshot, entries: log.entries }),
        }
    }

    /// What the hard-state files say.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.found.record
    }

    /// Where the snapshot ends, known to be committed; zeros where there is none.
    #[must_use]
    pub fn settled(&self) -> SnapshotId {
        self.snapshot.as_ref().map_or(SnapshotId::default(), |file| file.meta.id)
    }

    /// The last entry; zeros where there is none.
    #[must_use]
    pub fn last(&self) -> SnapshotId {
        self.entries.last().map_or(self.settled(), |last| SnapshotId {
            index: last.index,
            term: last.term,
            chain: last.chain,
        })
    }

    /// The membership where the log begins, then each that an entry brought, committed or not.
    pub fn memberships(&self) -> impl Iterator<Item = &Membership> {
        let in_snapshot = self.snapshot.as_ref().map(|file| &file.head.membership);
        let founded = || self.record().founding.as_ref().map(|founding| &founding.membership);
        let in_log = self.entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Membership(membership) => Some(&**membership),
            _ => None,
        });
        in_snapshot.or_else(founded).into_iter().chain(in_log)
    }
}

/// Gives the folder, with the state through its last entry in `body`, to a cluster that begins here. Until the very
/// last step nothing that the folder holds is changed. Returns the new cluster's first snapshot.
///
/// # Panics
/// For options outside their domain, a folder without entries, and a founding that does not bind the new store.
pub fn refound<D: Disk>(
    disk: &mut D,
    survey: &Survey,
    options: FormatOptions,
    founding: &FoundingRecord,
    body: &dyn Frozen,
) -> Result<SnapshotMeta, SnapshotError> {
    open::check_options(options);
    let last = survey.last();
    assert!(last.index > Index(0) && last.term > Term(0), "nothing to begin with: the log ends at {last}");
    assert!(founding.membership.iter().any(|(_, member)| member.store == options.store), "another store");
    let id = SnapshotId { index: last.index.next(), ..last };
    let head = SnapshotHead { cluster: founding.cluster, id, membership: founding.membership.clone() };
    let meta = snapshot::write(disk, &head, body)?;
    let segment = make_segment(disk, survey.record(), options.segment_bytes, id.index)?;
    let record = Record {
        sequence: survey.record().sequence + 1,
        store: options.store,
        cluster: founding.cluster,
        incarnation: options.first_incarnation,
        hard_state: HardState { term: survey.record().hard_state.term.max(id.term), vote: None },
        stop: Stop::Clean,
        syncing: Syncing::Always,
        founding: Some(founding.clone()),
        peers: Default::default(),
        snapshot: Some(meta),
        segments: vec![segment],
    };
    replace_record(disk, survey, &record)?;
    Ok(meta)
}

/// A zero-filled, durable segment under a name that was never used.
fn make_segment<D: Disk>(
    disk: &mut D,
    record: &Record,
    segment_bytes: u64,
    base: Index,
) -> Result<SegmentRef, SnapshotError> {
    let named = record.segments.last().map_or(Generation(0), |segment| segment.generation);
    let files = recover::own_files(disk)?;
    let highest = files.iter().filter_map(|file| Generation::of_file(file)).max().unwrap_or(named).max(named);
    let mut fresh = Spare::planned(highest.next());
    match fresh.fill_all(disk, segment_bytes, Syncing::Always) {
        Ok(()) => Ok(SegmentRef {
            generation: fresh.generation,
            base,
            first_batch: 1,
            durable_bytes: 0,
            file_bytes: fresh.filled(),
        }),
        Err(FillError::Full) => Err(SnapshotError::Full),
        Err(FillError::Failed(error)) => Err(error.into()),
    }
}

/// Puts one record in the place of both copies of another store's.
fn replace_record<D: Disk>(disk: &mut D, survey: &Survey, record: &Record) -> Result<(), DiskError> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    if disk.list()?.iter().any(|file| file == NEW_RECORD) {
        disk.remove(NEW_RECORD)?;
    }
    disk.create(NEW_RECORD)?;
    open::fill_record_file(disk, NEW_RECORD)?;
    disk.write_at(NEW_RECORD, 0, &bytes)?;
    disk.sync(NEW_RECORD)?;
    let FoundRecord { stalest, copies, .. } = &survey.found;
    let (other, kept) = (record::FILES[*stalest], record::FILES[1 - *stalest]);
    assert!(copies[1 - *stalest].is_some(), "the copy that counts is never the stalest one");
    // It may live only in the page cache, and is the last one from the next step on.
    disk.sync(kept)?;
    if disk.list()?.iter().any(|file| file == other) {
        disk.remove(other)?;
        disk.sync_folder()?;
    }
    disk.rename(NEW_RECORD, kept)?;
    disk.sync_folder()?;
    // A boot would do without the second copy, and make it.
    disk.create(other)?;
    open::fill_record_file(disk, other)?;
    disk.write_at(other, 0, &bytes)?;
    disk.sync(other)?;
    disk.sync_folder()
}
