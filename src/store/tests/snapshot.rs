//! Snapshots in a data folder: what a crash, a failing disk, a full one and flipped bits make of them (S2, S3, S6, D2,
//! D4, D7).

use core::slice::from_ref;

use crate::founding::FoundingRecord;
use crate::machine::{Frozen, Sink, SinkClosed, Source as _};
use crate::membership::{Member, Membership};
use crate::rng::Rng;
use crate::snapshot::{BLOCK_BYTES, SnapshotId, SnapshotMeta};
use crate::store::adopt::{Adopted, LogAfter};
use crate::store::batch::Batch;
use crate::store::conformance::{Log, format_options, founding, open_options};
use crate::store::error::{DamageKind, OpenError, Part, StoreError};
use crate::store::inspect;
use crate::store::memory::{DiskFault, MemoryDisk};
use crate::store::open::{FormatOptions, Recovered};
use crate::store::snapshot::{self, Incoming, Layout, SnapshotError, SnapshotFile, SnapshotHead};
use crate::store::store::Store;
use crate::store::tests::{CLUSTER, append, founded};
use crate::types::{ClusterId, Index, NodeId, StoreId, Term};

/// A state whose bytes tell its index.
pub(super) struct State {
    pub(super) index: Index,
    pub(super) bytes: usize,
}

impl State {
    fn content(&self) -> Vec<u8> {
        (0..self.bytes as u64)
            .map(|n| (n.wrapping_mul(0x9e37_79b9) >> 7) as u8 ^ self.index.0 as u8)
            .collect()
    }
}

impl Frozen for State {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        self.content().chunks(999).try_for_each(|piece| sink.put(piece))
    }
}

/// Longer than two blocks.
pub(super) const STATE_BYTES: usize = 2 * BLOCK_BYTES + 700;

pub(super) fn id_of(log: &Log, index: u64) -> SnapshotId {
    let entry = &log.entries[index as usize - 1];
    SnapshotId { index: entry.index, term: entry.term, chain: entry.chain }
}

pub(super) fn head(id: SnapshotId) -> SnapshotHead {
    SnapshotHead { cluster: CLUSTER, id, membership: founding(CLUSTER).membership }
}

fn write(disk: &mut MemoryDisk, id: SnapshotId) -> Result<SnapshotMeta, SnapshotError> {
    snapshot::write(disk, &head(id), &State { index: id.index, bytes: STATE_BYTES })
}

/// Writes and adopts the snapshot through this index, as a node does.
fn take(store: &mut Store<MemoryDisk>, log: &Log, index: u64) -> Result<SnapshotMeta, Failure> {
    let meta = write(store.disk_mut(), id_of(log, index)).map_err(Failure::Snapshot)?;
    let adopted = store.adopt_snapshot(meta, LogAfter::Kept).map_err(Failure::Store)?;
    if let Adopted::Yes { replaced: Some(replaced) } = adopted {
        snapshot::remove(store.disk_mut(), &replaced).map_err(|error| Failure::Snapshot(error.into()))?;
    }
    Ok(meta)
}

#[derive(Debug, PartialEq, Eq)]
enum Failure {
    Snapshot(SnapshotError),
    Store(StoreError),
}

fn reopen(disk: MemoryDisk) -> (Store<MemoryDisk>, Recovered) {
    Store::open(disk, open_options()).unwrap()
}

/// The snapshot, if there is one, holds the state of its index, and the log goes on right after it.
pub(super) fn check_recovered(disk: &mut MemoryDisk, recovered: &Recovered, log: &Log) {
    let mut base = 0;
    if let Some(file) = &recovered.snapshot {
        let id = file.meta.id;
        assert_eq!((id, &file.head), (id_of(log, id.index.0), &head(id)));
        let mut found = vec![0; STATE_BYTES + 1];
        assert_eq!(file.body(disk).take(&mut found), Ok(STATE_BYTES));
        assert_eq!(found[..STATE_BYTES], State { index: id.index, bytes: STATE_BYTES }.content());
        base = id.index.0 as usize;
    }
    assert_eq!(recovered.entries, log.entries[base..], "the log after {base}");
}

fn logged(count: usize) -> (Store<MemoryDisk>, Log) {
    let mut store = founded();
    let mut log = Log::default();
    for _ in 0..count {
        append(&mut store, &mut log, 1, &[3000, 40]);
    }
    (store, log)
}

fn segment_count(disk: &MemoryDisk) -> usize {
    disk.file_names().filter(|name| name.starts_with("log-")).count()
}

/// What a leader offers is no more than a number until its bytes come (U16).
#[test]
fn an_offer_of_the_largest_file_costs_nothing_and_a_larger_one_is_none() {
    let mut disk = founded().into_disk();
    let id = SnapshotId { index: Index(9), term: Term(1), chain: 7 };
    let offer = |bytes| SnapshotMeta { id, bytes, digest: 1 };
    let largest = (0..20).map(|less| (1 << 40) - less).find(|bytes| Layout::of_file(*bytes).is_some());
    let incoming = Incoming::open(&mut disk, offer(largest.unwrap())).unwrap();
    let tail = Layout::of_file(largest.unwrap()).unwrap().tail();
    assert_eq!(incoming.missing(&mut disk).unwrap(), [tail]);
    for bytes in [(1 << 40) + 1, 1 << 60, u64::MAX >> 2] {
        let refused = Incoming::open(&mut disk, offer(bytes)).err();
        assert_eq!(refused, Some(SnapshotError::Foreign), "{bytes}");
    }
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_below_it() {
    let (mut store, mut log) = logged(20);
    let before = segment_count(store.disk());
    let first = take(&mut store, &log, 15).unwrap();
    let second = take(&mut store, &log, 31).unwrap();
    assert!(segment_count(store.disk()) < before, "{before} segments before");
    append(&mut store, &mut log, 2, &[5]);
    let names: Vec<&str> = store.disk().file_names().filter(|name| name.starts_with("snap")).collect();
    assert_eq!(names, ["snapshot-000000000000001f"]);
    assert_eq!(store.adopt_snapshot(first, LogAfter::Kept), Ok(Adopted::NotNewer), "S1");
    let (mut store, recovered) = reopen(store.into_disk());
    assert_eq!((store.snapshot(), store.last_index()), (Some(second), Index(41)));
    check_recovered(store.disk_mut(), &recovered, &log);
    // What follows is written and found as ever.
    append(&mut store, &mut log, 2, &[5, 6]);
    log.entries.truncate(34);
    let entries = log.append(3, &[7]);
    store.persist(&Batch { truncate_from: Some(Index(35)), entries, ..Batch::default() }).unwrap();
    let (mut store, recovered) = reopen(store.into_disk());
    check_recovered(store.disk_mut(), &recovered, &log);
    let verified = inspect::verify(store.disk_mut()).unwrap();
    assert_eq!((verified.snapshot, verified.last), (Some(second), Index(35)));
}

#[test]
fn equal_states_give_equal_files_on_two_nodes() {
    let files = [7_u8, 8].map(|_| {
        let (mut store, log) = logged(3);
        let meta = take(&mut store, &log, 4).unwrap();
        (meta, store.disk().content("snapshot-0000000000000004").unwrap().to_vec())
    });
    assert_eq!(files[0], files[1]);
    assert_eq!(files[0].0.bytes, files[0].1.len() as u64);
    let layout = Layout::of_file(files[0].0.bytes).unwrap();
    assert_eq!(layout.blocks, 3);
}

/// Every operation of writing, adopting and removing is the last one before the power fails; whatever of it reaches the
/// disk, the node has the old snapshot or the new one, whole, and all of the log after it.
#[test]
fn a_crash_at_any_moment_leaves_the_old_snapshot_or_the_new_s2_s3_d7() {
    let (mut prepared, log) = logged(10);
    take(&mut prepared, &log, 6).unwrap();
    let mut outcomes = std::collections::BTreeSet::new();
    let base = reopen(prepared.disk().clone()).0.disk().operations();
    let operations = {
        let (mut store, _) = reopen(prepared.disk().clone());
        take(&mut store, &log, 17).unwrap();
        store.disk().operations()
    };
    for at in base..operations {
        for keep in 0..4 {
            let (mut store, _) = reopen(prepared.disk().clone());
            store.disk_mut().set_fault(at, DiskFault::Stop);
            let taken = take(&mut store, &log, 17);
            assert!(taken.is_err(), "operation {at} is swallowed");
            let mut disk = store.into_disk();
            disk.crash_keeping(
                |_, sector| [true, false, sector % 2 == 0, sector % 3 != 1][keep],
                |name| [true, false, name.starts_with("snapshot"), !name.starts_with("snapshot")][keep],
            );
            let (mut store, recovered) = reopen(disk);
            check_recovered(store.disk_mut(), &recovered, &log);
            outcomes.insert(recovered.snapshot.map(|file| file.meta.id.index.0));
            let left: Vec<String> = store
                .disk()
                .file_names()
                .filter(|name| name.starts_with("writing") || name.starts_with("snapshot"))
                .map(str::to_owned)
                .collect();
            assert_eq!(left.len(), 1, "{left:?}");
            // And the next attempt gets through.
            take(&mut store, &log, 18).unwrap();
        }
    }
    assert_eq!(outcomes, [Some(6), Some(17)].into());
}

#[test]
fn every_failing_operation_of_a_snapshot_is_told_and_leaves_the_one_before_l16_d3() {
    let (mut prepared, log) = logged(10);
    take(&mut prepared, &log, 6).unwrap();
    let base = reopen(prepared.disk().clone()).0.disk().operations();
    let mut failed = 0;
    for at in base.. {
        let (mut store, _) = reopen(prepared.disk().clone());
        store.disk_mut().set_fault(at, DiskFault::Fail);
        let taken = take(&mut store, &log, 17);
        if taken.is_ok() {
            break;
        }
        failed += 1;
        assert!(
            matches!(
                taken,
                Err(Failure::Snapshot(SnapshotError::Failed(_)) | Failure::Store(StoreError::Failed(_)))
            ),
            "{taken:?}"
        );
        let mut disk = store.into_disk();
        disk.crash_keeping(|_, _| at % 2 == 0, |_| at % 3 == 0);
        let (mut store, recovered) = reopen(disk);
        check_recovered(store.disk_mut(), &recovered, &log);
    }
    assert!(failed > 12, "{failed} operations");
}

#[test]
fn a_full_disk_leaves_nothing_behind_and_the_log_goes_on_d4() {
    let (mut store, mut log) = logged(4);
    while store.maintain().unwrap() == crate::store::Upkeep::More {}
    let used: usize =
        store.disk().file_names().filter_map(|name| store.disk().content(name)).map(<[u8]>::len).sum();
    for spare in [0, 100, BLOCK_BYTES, STATE_BYTES] {
        store.disk_mut().set_capacity(Some((used + spare) as u64));
        assert_eq!(take(&mut store, &log, 5), Err(Failure::Snapshot(SnapshotError::Full)));
        assert!(!store.disk().file_names().any(|name| name.starts_with("writing")));
    }
    append(&mut store, &mut log, 1, &[9]);
    store.disk_mut().set_capacity(None);
    take(&mut store, &log, 5).unwrap();
    let (mut store, recovered) = reopen(store.into_disk());
    check_recovered(store.disk_mut(), &recovered, &log);
}

/// Each byte of head, table and trailer, and a sample of the blocks.
#[test]
fn every_flipped_bit_of_a_snapshot_is_found_with_its_place_d2() {
    let (mut store, log) = logged(4);
    let meta = take(&mut store, &log, 5).unwrap();
    let prepared = store.into_disk();
    let file = "snapshot-0000000000000005";
    let layout = Layout::of_file(meta.bytes).unwrap();
    let content = layout.content_bytes as usize;
    let places = (0..2500).chain((2500..content).step_by(1777)).chain(content..meta.bytes as usize);
    for at in places {
        let mut disk = prepared.clone();
        disk.rot(file, |bytes| bytes[at] ^= 1 << (at % 8));
        let damage = match inspect::verify(&mut disk) {
            Err(OpenError::Damaged(damage)) => damage,
            other => panic!("byte {at}: {other:?}"),
        };
        let (expected, what) = match at {
            at if at >= content => (damage.offset, DamageKind::Table),
            at => ((at / BLOCK_BYTES * BLOCK_BYTES) as u64, DamageKind::Block),
        };
        assert_eq!((damage.file.as_str(), damage.offset, damage.what), (file, expected, what), "byte {at}");
        assert!(damage.offset as usize <= at);
    }
    let mut short = prepared.clone();
    short.rot(file, |bytes| bytes.truncate(70_000));
    let mut long = prepared.clone();
    long.rot(file, |bytes| bytes.push(0));
    let mut gone = prepared.clone();
    gone.lose(file);
    let kinds = [
        (short, DamageKind::ShortFile { bytes: 70_000 }),
        (long, DamageKind::LongFile { bytes: meta.bytes + 1 }),
        (gone, DamageKind::MissingFile),
    ];
    for (disk, what) in kinds {
        match Store::open(disk, open_options()).map(|_| ()) {
            Err(OpenError::Damaged(damage)) => assert_eq!(damage.what, what),
            other => panic!("{what:?}: {other:?}"),
        }
    }
}

/// A log that ends below the snapshot is covered by it; one that begins above it, or leads to another entry, is not
/// this snapshot's.
#[test]
fn an_inverted_log_is_repaired_and_one_that_does_not_meet_the_snapshot_is_refused_s2() {
    let (store, mut log) = logged(4);
    let short = store.into_disk();
    let entries = log.append(2, &[10; 30]);
    let beyond = id_of(&log, 30);
    // Never a crash's doing: the record of one folder, put over a log that ends before it.
    let mut inverted = reopen(short.clone()).0;
    let meta = write(inverted.disk_mut(), beyond).unwrap();
    inverted.record.snapshot = Some(meta);
    inverted.write_record().unwrap();
    let (mut store, recovered) = reopen(inverted.into_disk());
    assert_eq!((recovered.entries.len(), store.last_index()), (0, Index(30)));
    let after: Vec<_> = entries.into_iter().filter(|entry| entry.index > Index(30)).collect();
    store.persist(&Batch { entries: after, ..Batch::default() }).unwrap();
    let (mut store, recovered) = reopen(store.into_disk());
    check_recovered(store.disk_mut(), &recovered, &log);

    for (id, what) in [
        (SnapshotId { chain: 1, ..id_of(&log, 6) }, DamageKind::Chain { index: Index(6) }),
        (SnapshotId { term: Term(9), ..id_of(&log, 6) }, DamageKind::Chain { index: Index(6) }),
    ] {
        let mut other = reopen(short.clone()).0;
        let meta = write(other.disk_mut(), id).unwrap();
        other.record.snapshot = Some(meta);
        other.write_record().unwrap();
        match Store::open(other.into_disk(), open_options()).map(|_| ()) {
            Err(OpenError::Damaged(damage)) => assert_eq!(damage.what, what),
            other => panic!("{other:?}"),
        }
    }
    let mut gap = store;
    let meta = write(gap.disk_mut(), id_of(&log, 20)).unwrap();
    gap.record.snapshot = Some(meta);
    gap.write_record().unwrap();
    match Store::open(gap.into_disk(), open_options()).map(|_| ()) {
        Err(OpenError::Damaged(damage)) => {
            assert_eq!(damage.what, DamageKind::Gap { expected: Index(21) });
        }
        other => panic!("{other:?}"),
    }
}

/// A snapshot that was pulled takes the place of a log that does not lead to it, in one record.
#[test]
fn a_crash_while_a_pulled_snapshot_replaces_the_log_leaves_one_or_the_other_s2() {
    let (store, log) = logged(4);
    let mut longer = log.clone();
    longer.append(2, &[10; 30]);
    let prepared = store.into_disk();
    let base = reopen(prepared.clone()).0.disk().operations();
    let mut outcomes = std::collections::BTreeSet::new();
    for at in base.. {
        let (mut store, _) = reopen(prepared.clone());
        let meta = write(store.disk_mut(), id_of(&longer, 30)).unwrap();
        let written = store.disk().operations() - base;
        store.disk_mut().set_fault(at + written, DiskFault::Stop);
        let adopted = store.adopt_snapshot(meta, LogAfter::Begun);
        if adopted.is_ok() {
            assert_eq!(store.last_index(), Index(30));
            break;
        }
        let mut disk = store.into_disk();
        disk.crash_keeping(|_, sector| sector % 2 == at % 2, |_| at % 3 == 0);
        let (mut store, recovered) = reopen(disk);
        match &recovered.snapshot {
            None => assert_eq!(recovered.entries, log.entries),
            Some(_) => {
                let mut through = longer.clone();
                through.entries.truncate(30);
                check_recovered(store.disk_mut(), &recovered, &through);
            }
        }
        outcomes.insert(recovered.snapshot.is_some());
    }
    assert_eq!(outcomes.len(), 2, "both happen");
}

fn served() -> (MemoryDisk, SnapshotMeta, Vec<u8>) {
    let (mut store, log) = logged(4);
    let meta = take(&mut store, &log, 5).unwrap();
    let bytes = store.disk().content("snapshot-0000000000000005").unwrap().to_vec();
    (store.into_disk(), meta, bytes)
}

#[test]
fn a_pulled_snapshot_is_filled_in_any_order_and_goes_on_after_a_crash_s6() {
    let (mut from, meta, bytes) = served();
    let mut disk = MemoryDisk::new();
    let mut incoming = Incoming::open(&mut disk, meta).unwrap();
    let tail = Layout::of_file(meta.bytes).unwrap().tail();
    assert_eq!(incoming.missing(&mut disk).unwrap(), from_ref(&tail));
    let pull = |from: &mut MemoryDisk, range: core::ops::Range<u64>| {
        snapshot::read_range(from, &meta, range, &mut None).unwrap().unwrap()
    };
    incoming.write(&mut disk, tail.start, &pull(&mut from, tail.clone())).unwrap();
    // The last block, then most of the first, twice.
    let last = 2 * BLOCK_BYTES as u64;
    incoming.write(&mut disk, last, &pull(&mut from, last..tail.start)).unwrap();
    for _ in 0..2 {
        incoming.write(&mut disk, 0, &bytes[..BLOCK_BYTES - 1]).unwrap();
    }
    disk.crash_keeping(|_, _| true, |_| true);
    let mut incoming = Incoming::open(&mut disk, meta).unwrap();
    let missing = incoming.missing(&mut disk).unwrap();
    assert_eq!(missing, from_ref(&(0..last)));
    assert_eq!(incoming.finish(&mut disk, CLUSTER).unwrap_err(), block_damage(&meta, missing[0].start));
    for range in incoming.missing(&mut disk).unwrap() {
        incoming.write(&mut disk, range.start, &pull(&mut from, range)).unwrap();
    }
    assert_eq!(incoming.missing(&mut disk).unwrap(), []);
    assert_eq!(incoming.finish(&mut disk, ClusterId([9; 16])), Err(SnapshotError::Foreign));
    let file = incoming.finish(&mut disk, CLUSTER).unwrap();
    assert_eq!((file.meta, disk.content("snapshot-0000000000000005")), (meta, Some(&bytes[..])));
    SnapshotFile::open(&mut disk, meta).unwrap().verify(&mut disk).unwrap();
}

/// The table is read once; what it says is still held against every block, and of the table itself nothing is served
/// that was not checked just now (D2).
#[test]
fn checksums_that_are_kept_find_damage_and_are_of_one_file_only_s6() {
    let (mut disk, meta, bytes) = served();
    let (block, tail) = (BLOCK_BYTES as u64, Layout::of_file(meta.bytes).unwrap().tail());
    let mut checked = None;
    let first = snapshot::read_range(&mut disk, &meta, 0..block, &mut checked).unwrap().unwrap();
    assert_eq!(first, bytes[..BLOCK_BYTES]);
    let reads = disk.operations();
    snapshot::read_range(&mut disk, &meta, 0..block, &mut checked).unwrap().unwrap();
    let spared = disk.operations() - reads;
    snapshot::read_range(&mut disk, &meta, 0..block, &mut None).unwrap().unwrap();
    assert!(disk.operations() - reads > 2 * spared, "the table was read again");
    let other = SnapshotMeta { digest: meta.digest ^ 1, ..meta };
    let of_other = snapshot::read_range(&mut disk, &other, 0..block, &mut checked.clone());
    assert!(
        matches!(&of_other, Err(SnapshotError::Damaged(it)) if it.what == DamageKind::Table),
        "{of_other:?}"
    );
    for (at, range, what) in [
        (BLOCK_BYTES + 9, block..2 * block, DamageKind::Block),
        (BLOCK_BYTES + 9, block + 5..block + 6, DamageKind::Block),
        (tail.start as usize + 1, tail, DamageKind::Table),
    ] {
        let mut rotten = disk.clone();
        rotten.rot("snapshot-0000000000000005", |bytes| bytes[at] ^= 4);
        let read = snapshot::read_range(&mut rotten, &meta, range, &mut checked.clone());
        assert!(matches!(&read, Err(SnapshotError::Damaged(it)) if it.what == what), "byte {at}: {read:?}");
    }
}

/// A sync that fails takes what it was to write for written: it is in the page cache, passes for durable, and is gone
/// with the power. Who finds it after a restart writes it again (D3).
#[test]
fn what_a_failed_sync_left_of_a_pulled_snapshot_is_written_again_s6() {
    let (_, meta, bytes) = served();
    let mut disk = MemoryDisk::new();
    let mut incoming = Incoming::open(&mut disk, meta).unwrap();
    incoming.write(&mut disk, 0, &bytes).unwrap();
    disk.set_fault(disk.operations(), DiskFault::Fail);
    assert!(matches!(incoming.finish(&mut disk, CLUSTER), Err(SnapshotError::Failed(_))));
    let incoming = Incoming::open(&mut disk, meta).unwrap();
    assert_eq!(incoming.missing(&mut disk).unwrap(), []);
    incoming.finish(&mut disk, CLUSTER).unwrap();
    disk.crash_keeping(|_, _| false, |_| false);
    SnapshotFile::open(&mut disk, meta).unwrap().verify(&mut disk).unwrap();
}

fn block_damage(meta: &SnapshotMeta, offset: u64) -> SnapshotError {
    let file = format!("incoming-{:016x}-{:016x}", meta.id.index.0, meta.digest);
    SnapshotError::Damaged(crate::store::Damage { file, offset, what: DamageKind::Block })
}

#[test]
fn ranges_of_two_files_never_become_one_s6() {
    let (_, meta, bytes) = served();
    let mut disk = MemoryDisk::new();
    let mut incoming = Incoming::open(&mut disk, meta).unwrap();
    let mut other = bytes.clone();
    other[BLOCK_BYTES + 5] ^= 1;
    incoming.write(&mut disk, 0, &other).unwrap();
    let second = BLOCK_BYTES as u64;
    assert_eq!(incoming.finish(&mut disk, CLUSTER), Err(block_damage(&meta, second)));
    assert_eq!(incoming.missing(&mut disk).unwrap(), from_ref(&(second..2 * second)));
    // A file of another length is no candidate at all.
    let wrong = SnapshotMeta { bytes: meta.bytes + 4, ..meta };
    let opened = Incoming::open(&mut disk, wrong).map(|incoming| incoming.missing(&mut disk).unwrap().len());
    assert!(matches!(opened, Ok(1) | Err(SnapshotError::Foreign)), "{opened:?}");
    assert_eq!(
        snapshot::read_range(&mut disk, &meta, 0..10, &mut None),
        Ok(None),
        "what is not whole is not served"
    );
}

/// Makes a snapshot's file one of the next version, as far as its trailer tells.
fn make_newer(disk: &mut MemoryDisk, meta: &SnapshotMeta) {
    disk.rot(&snapshot::file_of(meta.id.index), |content| {
        let trailer = content.len() - 32;
        content[trailer + 5] = 2;
        let crc = crc32fast::hash(&content[trailer..trailer + 28]);
        content[trailer + 28..].copy_from_slice(&crc.to_be_bytes());
    });
}

#[test]
fn a_snapshot_of_a_newer_version_is_refused_by_that_name_wherever_it_comes_from() {
    let (mut store, log) = logged(5);
    let meta = take(&mut store, &log, 7).unwrap();
    let mut disk = store.into_disk();
    make_newer(&mut disk, &meta);
    let alone = snapshot::open_alone(&mut disk, &snapshot::file_of(meta.id.index));
    assert_eq!(alone, Err(SnapshotError::Newer { found: 2 }));
    let refused = Store::open(disk, open_options()).map(|_| ());
    assert_eq!(refused, Err(OpenError::NewerFormat { part: Part::Snapshot, found: 2, known: 1 }));
}

/// A blank folder with the state of a backup, and the backup's disk.
fn restored() -> (MemoryDisk, SnapshotMeta, Log) {
    let (mut store, log) = logged(5);
    let meta = take(&mut store, &log, 7).unwrap();
    let (mut from, name) = (store.into_disk(), snapshot::file_of(meta.id.index));
    let file = snapshot::open_alone(&mut from, &name).unwrap();
    assert_eq!((file.meta, &file.head), (meta, &head(meta.id)));
    let mut disk = MemoryDisk::new();
    let options = FormatOptions { store: OTHER_STORE, ..format_options() };
    Store::format_restored(&mut disk, options, &mut from, &name, &file).unwrap();
    (disk, meta, log)
}

const OTHER_STORE: StoreId = StoreId([0x77; 16]);

/// A new cluster of the store that was restored.
fn other_founding() -> FoundingRecord {
    let cluster = ClusterId([0x78; 16]);
    let member = Member { store: OTHER_STORE, address: "127.0.0.1:7101".to_owned() };
    FoundingRecord { cluster, membership: Membership::of_voters([(NodeId::MIN, member)].into()) }
}

/// Crashes at every operation of the founding, which may be repeated: there is the backup or the new cluster, whole.
#[test]
fn a_restored_folder_founds_a_cluster_of_its_own_whatever_is_cut_short() {
    let (disk, backup, _) = restored();
    let record = other_founding();
    let mut is_founded_in_between = 0;
    for operations in 0.. {
        let (mut store, recovered) = reopen(disk.clone());
        let mut rng = Rng::from_seed(operations);
        assert!(store.is_restored() && recovered.cluster.is_zero());
        assert_eq!(recovered.snapshot.as_ref().map(|file| file.meta), Some(backup));
        let at = store.disk().operations() + operations;
        store.disk_mut().set_fault(at, DiskFault::Stop);
        let founded = store.record_founding(&record);
        let mut crashed = store.into_disk();
        crashed.clear_faults();
        crashed.crash(&mut rng);
        let (mut store, recovered) = reopen(crashed);
        if store.is_restored() {
            assert!(founded.is_err());
            assert_eq!(recovered.snapshot.map(|file| file.meta), Some(backup));
            store.record_founding(&record).unwrap();
        } else {
            is_founded_in_between += usize::from(founded.is_err());
        }
        let (mut store, recovered) = reopen(store.into_disk());
        let file = recovered.snapshot.unwrap();
        assert_eq!(file.head.cluster, record.cluster);
        assert_eq!(file.head.membership, record.membership);
        let expected = SnapshotId { index: Index(8), ..backup.id };
        assert_eq!((file.meta.id, store.last_index()), (expected, Index(8)));
        assert_eq!((recovered.hard_state.term, recovered.founding), (backup.id.term, Some(record.clone())));
        let mut found = vec![0; STATE_BYTES + 1];
        assert_eq!(file.body(store.disk_mut()).take(&mut found), Ok(STATE_BYTES));
        assert_eq!(found[..STATE_BYTES], State { index: Index(7), bytes: STATE_BYTES }.content());
        let names: Vec<&str> = store.disk().file_names().filter(|name| name.starts_with("snap")).collect();
        assert_eq!(names, ["snapshot-0000000000000008"]);
        if founded.is_ok() {
            assert!(operations > 5 && is_founded_in_between > 0, "{operations} operations");
            return;
        }
    }
}

#[test]
fn a_bad_copy_of_the_hard_state_is_told_with_its_first_bad_byte() {
    let (store, _) = logged(2);
    let mut disk = store.into_disk();
    assert!(inspect::verify_meta(&mut disk).is_ok());
    disk.rot("hard-state-b", |content| content[57] ^= 8);
    assert!(inspect::verify(&mut disk).is_ok(), "a boot mends it");
    match inspect::verify_meta(&mut disk) {
        Err(OpenError::Damaged(damage)) => {
            let found = (damage.file.as_str(), damage.offset, damage.what);
            assert_eq!(found, ("hard-state-b", 57, DamageKind::HardStateCopy));
        }
        other => panic!("{other:?}"),
    }
}
