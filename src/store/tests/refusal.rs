//! Folders that are refused although their bytes are sound, and what identity and options have to do with it.

use crate::store::adopt::LogAfter;
use crate::store::batch::Batch;
use crate::store::conformance::{CHECK_SEGMENT_BYTES, Log, format_options, founding, open_options};
use crate::store::disk::Unsynced;
use crate::store::error::{FormatError, OpenError, Part, StoreError};
use crate::store::memory::MemoryDisk;
use crate::store::open::{FormatOptions, Fsync, OpenOptions};
use crate::store::record::{KernelBoot, Record, Syncing};
use crate::store::snapshot::{self, SnapshotFile};
use crate::store::store::Store;
use crate::store::tests::snapshot::{STATE_BYTES, State, check_recovered, head, id_of};
use crate::store::tests::{CLUSTER, append, founded};
use crate::types::{ClusterId, HardState, Incarnation, Index, StoreId, Term};

fn open(disk: &mut MemoryDisk, options: OpenOptions) -> Result<Incarnation, OpenError> {
    Store::open(disk, options).map(|(_, recovered)| recovered.incarnation)
}

#[test]
fn an_empty_folder_is_refused_and_foreign_files_are_neither_touched_nor_counted() {
    let mut disk = MemoryDisk::new();
    disk.rot("notes.txt", |content| content.extend(b"mine"));
    assert_eq!(open(&mut disk, open_options()), Err(OpenError::NotFormatted));
    Store::format(&mut disk, format_options()).unwrap();
    assert_eq!(open(&mut disk, open_options()), Ok(Incarnation(1001)));
    assert_eq!(disk.content("notes.txt"), Some(&b"mine"[..]));
}

#[test]
fn the_remains_of_a_store_are_never_formatted_over() {
    let mut disk = founded().into_disk();
    for name in ["hard-state-a", "hard-state-b"] {
        disk.lose(name);
    }
    let refused = Store::format(&mut disk, format_options());
    assert!(matches!(refused, Err(FormatError::NotEmpty { .. })), "{refused:?}");
}

#[test]
fn another_cluster_than_the_one_asked_for_is_refused_by_name() {
    let mut disk = MemoryDisk::new();
    Store::format(&mut disk, format_options()).unwrap();
    let asked = |cluster| OpenOptions { cluster: Some(cluster), ..open_options() };
    let refused = open(&mut disk, asked(CLUSTER));
    assert_eq!(refused, Err(OpenError::ForeignCluster { found: ClusterId::ZERO, expected: CLUSTER }));
    let mut disk = founded().into_disk();
    let expected = ClusterId([0xee; 16]);
    let refused = open(&mut disk, asked(expected)).unwrap_err();
    assert_eq!(refused, OpenError::ForeignCluster { found: CLUSTER, expected });
    assert!(refused.to_string().contains(&CLUSTER.to_string()), "{refused}");
    open(&mut disk, asked(CLUSTER)).unwrap();
}

#[test]
fn a_store_takes_one_cluster_for_ever_i1() {
    let mut disk = MemoryDisk::new();
    Store::format(&mut disk, format_options()).unwrap();
    let (mut store, _) = Store::open(disk, open_options()).unwrap();
    store.record_cluster(CLUSTER).unwrap();
    store.record_cluster(CLUSTER).unwrap();
    let refused = Err(StoreError::AlreadyFounded { cluster: CLUSTER });
    assert_eq!(store.record_cluster(ClusterId([2; 16])), refused);
    assert_eq!(store.record_founding(&founding(ClusterId([2; 16]))), refused);
    let (mut store, recovered) = Store::open(store.into_disk(), open_options()).unwrap();
    assert_eq!((recovered.cluster, recovered.founding), (CLUSTER, None));
    assert_eq!(store.record_cluster(ClusterId([2; 16])), refused);
}

#[test]
fn every_boot_has_a_higher_number_even_when_it_did_nothing_i9() {
    let mut disk = MemoryDisk::new();
    Store::format(&mut disk, format_options()).unwrap();
    for boot in 1..=5 {
        assert_eq!(open(&mut disk, open_options()), Ok(Incarnation(1000 + boot)));
        disk.crash_keeping(|_, _| false, |_| false);
    }
}

#[test]
fn the_log_does_not_depend_on_the_options_of_one_run_i10() {
    let mut store = founded();
    let mut log = Log::default();
    for segment_bytes in [8, 64, 1, 16].map(|blocks| blocks * 4096) {
        let options = OpenOptions { segment_bytes, ..open_options() };
        let (reopened, recovered) = Store::open(store.into_disk(), options).unwrap();
        assert_eq!(recovered.entries, log.entries);
        store = reopened;
        for _ in 0..3 {
            append(&mut store, &mut log, 1, &[10, 5_000]);
        }
    }
}

/// Replaces one copy of the record, or both.
fn rewrite(disk: &mut MemoryDisk, names: &[&str], change: impl Fn(&mut Record)) {
    for name in names {
        disk.rot(name, |content| {
            let mut record = Record::decode(content).unwrap();
            change(&mut record);
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            content[..bytes.len()].copy_from_slice(&bytes);
        });
    }
}

#[test]
fn hard_state_files_that_do_not_belong_together_are_refused() {
    let mut disk = founded().into_disk();
    let mut mixed = disk.clone();
    let other = StoreId([0x99; 16]);
    rewrite(&mut mixed, &["hard-state-b"], |record| record.store = other);
    let refused = open(&mut mixed, open_options());
    assert_eq!(refused, Err(OpenError::TwoStores { first: format_options().store, second: other }));
    rewrite(&mut disk, &["hard-state-b"], |record| record.hard_state.term = Term(8));
    let refused = open(&mut disk, open_options());
    assert!(matches!(refused, Err(OpenError::CopiesDiffer { .. })), "{refused:?}");
}

#[test]
fn a_newer_format_version_is_refused_and_left_alone() {
    let mut disk = founded().into_disk();
    for name in ["hard-state-a", "hard-state-b"] {
        disk.rot(name, |content| {
            content[5] = 2;
            let body_bytes = u32::from_be_bytes(content[8..12].try_into().unwrap()) as usize;
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&content[..12]);
            hasher.update(&content[16..16 + body_bytes]);
            content[12..16].copy_from_slice(&hasher.finalize().to_be_bytes());
        });
    }
    let before = disk.clone();
    let refused = open(&mut disk, open_options());
    assert_eq!(refused, Err(OpenError::NewerFormat { part: Part::Folder, found: 2, known: 1 }));
    assert!(before.file_names().all(|name| before.content(name) == disk.content(name)));
}

#[test]
fn the_last_boot_number_is_never_passed() {
    let mut disk = founded().into_disk();
    let names = ["hard-state-a", "hard-state-b"];
    rewrite(&mut disk, &names, |record| record.incarnation = Incarnation(u32::MAX));
    assert_eq!(open(&mut disk, open_options()), Err(OpenError::BootsExhausted));
}

const THIS_BOOT: KernelBoot = KernelBoot([1; 16]);
const NEXT_BOOT: KernelBoot = KernelBoot([2; 16]);

fn unsynced(kernel_boot: KernelBoot) -> OpenOptions {
    OpenOptions { kernel_boot, fsync: Fsync::Off, ..open_options() }
}

#[test]
fn a_run_without_fsync_is_refused_after_an_unclean_stop_under_another_kernel_boot() {
    let (mut store, _) = Store::open(founded().into_disk(), unsynced(THIS_BOOT)).unwrap();
    let mut log = Log::default();
    let operations = store.disk().operations();
    append(&mut store, &mut log, 1, &[10]);
    assert_eq!(store.disk().operations(), operations + 1, "a write and no sync");
    for _ in 0..6 {
        append(&mut store, &mut log, 1, &[6_000]);
    }
    let killed = store.into_disk();

    for options in [unsynced(NEXT_BOOT), OpenOptions { kernel_boot: NEXT_BOOT, ..open_options() }] {
        assert_eq!(open(&mut killed.clone(), options), Err(OpenError::UnsyncedStop));
    }
    let unknown = OpenOptions { kernel_boot: KernelBoot::default(), ..open_options() };
    assert_eq!(open(&mut killed.clone(), unknown), Err(OpenError::UnsyncedStop));

    // The same kernel still remembers; a run with fsync from here on first syncs what was left.
    let synced = OpenOptions { kernel_boot: THIS_BOOT, ..open_options() };
    let (store, recovered) = Store::open(killed, synced).unwrap();
    assert_eq!(recovered.entries, log.entries);
    assert_eq!(store.record.syncing, Syncing::Always);
    let mut disk = store.into_disk();
    disk.crash_keeping(|_, _| false, |_| false);
    let (_, recovered) = Store::open(disk, OpenOptions { kernel_boot: NEXT_BOOT, ..open_options() }).unwrap();
    assert_eq!(recovered.entries, log.entries);
}

#[test]
fn a_run_without_fsync_that_was_shut_down_is_durable_and_opens_anywhere() {
    let (mut store, _) = Store::open(founded().into_disk(), unsynced(THIS_BOOT)).unwrap();
    let mut log = Log::default();
    for term in 1..=6 {
        let vote = HardState { term: Term(term), vote: None };
        let batch = Batch { hard_state: Some(vote), entries: log.append(term, &[6_000]), ..Batch::default() };
        store.persist(&batch).unwrap();
    }
    assert!(store.record.segments.len() > 1);
    store.shutdown().unwrap();
    let mut disk = store.into_disk();
    disk.crash_keeping(|_, _| false, |_| false);
    let (_, recovered) = Store::open(disk, OpenOptions { kernel_boot: NEXT_BOOT, ..open_options() }).unwrap();
    assert_eq!((recovered.entries, recovered.hard_state.term), (log.entries, Term(6)));
}

/// A run without fsync leaves a snapshot to the kernel, as it does the log. Its clean stop makes that durable, and so
/// does the boot after a stop that was none.
#[test]
fn a_snapshot_of_a_run_without_fsync_is_durable_from_its_stop_or_the_next_boot_on() {
    let (mut store, _) = Store::open(founded().into_disk(), unsynced(THIS_BOOT)).unwrap();
    let mut log = Log::default();
    for _ in 0..4 {
        append(&mut store, &mut log, 1, &[3000, 40]);
    }
    let id = id_of(&log, 5);
    let state = State { index: id.index, bytes: STATE_BYTES };
    let meta = snapshot::write(&mut Unsynced(store.disk_mut()), &head(id), &state).unwrap();
    store.adopt_snapshot(meta, LogAfter::Kept).unwrap();
    let running = store.disk().clone();
    let mut lost = running.clone();
    lost.crash_keeping(|_, _| false, |_| false);
    assert!(SnapshotFile::open(&mut lost, meta).is_err(), "it was synced");
    store.shutdown().unwrap();
    let (booted, _) = Store::open(running, OpenOptions { kernel_boot: THIS_BOOT, ..open_options() }).unwrap();
    for mut disk in [store.into_disk(), booted.into_disk()] {
        disk.crash_keeping(|_, _| false, |_| false);
        let (store, recovered) =
            Store::open(disk, OpenOptions { kernel_boot: NEXT_BOOT, ..open_options() }).unwrap();
        let mut disk = store.into_disk();
        check_recovered(&mut disk, &recovered, &log);
        assert_eq!(recovered.snapshot.map(|file| file.meta), Some(meta));
        SnapshotFile::open(&mut disk, meta).unwrap().verify(&mut disk).unwrap();
    }
}

#[test]
#[should_panic(expected = "entries do not follow the log")]
fn a_gap_in_what_is_persisted_is_a_broken_invariant() {
    let mut store = founded();
    let mut log = Log::default();
    log.append(1, &[1]);
    let entries = log.append(1, &[1]);
    store.persist(&Batch { entries, ..Batch::default() }).unwrap();
}

#[test]
#[should_panic(expected = "hard state term=4 vote=none after term=5 vote=none")]
fn a_term_that_goes_back_is_a_broken_invariant() {
    let mut store = founded();
    for term in [5, 4] {
        let hard_state = Some(HardState { term: Term(term), vote: None });
        store.persist(&Batch { hard_state, ..Batch::default() }).unwrap();
    }
}

#[test]
fn a_truncation_behind_the_end_changes_nothing() {
    let mut store = founded();
    let mut log = Log::default();
    append(&mut store, &mut log, 1, &[1]);
    let operations = store.disk().operations();
    store.persist(&Batch { truncate_from: Some(Index(2)), ..Batch::default() }).unwrap();
    assert_eq!(store.disk().operations(), operations);
}

#[test]
fn one_batch_of_entries_costs_one_write_and_one_sync() {
    let mut store = founded();
    let mut log = Log::default();
    let operations = store.disk().operations();
    append(&mut store, &mut log, 1, &[64]);
    assert_eq!(store.disk().operations(), operations + 2);
    assert_eq!(store.active.offset, 4096);
    assert!(store.active.bytes >= CHECK_SEGMENT_BYTES);
}

#[test]
fn a_first_boot_number_is_random_only_below_two_to_the_thirty() {
    let first_incarnation = Incarnation((1 << 30) - 1);
    let mut disk = MemoryDisk::new();
    Store::format(&mut disk, FormatOptions { first_incarnation, ..format_options() }).unwrap();
    assert_eq!(open(&mut disk, open_options()), Ok(Incarnation(1 << 30)));
}

#[test]
fn a_spare_that_was_ever_written_to_is_not_used() {
    let mut store = founded();
    store.maintain().unwrap();
    assert!(store.has_spare());
    let spare = store.spare.generation.file();
    let mut disk = store.into_disk();
    assert_eq!(Store::open(disk.clone(), open_options()).unwrap().0.active.file, spare, "a clean one is");
    disk.rot(&spare, |content| content[8192] = 0xe6);
    let (store, _) = Store::open(disk, open_options()).unwrap();
    assert_ne!(store.active.file, spare);
    assert_eq!(store.disk().content(&spare), None, "it is gone, and its number with it");
}

/// The live segment that holds the first batch of a founded store with entries.
fn with_entries() -> MemoryDisk {
    let mut store = founded();
    append(&mut store, &mut Log::default(), 1, &[10, 20]);
    store.into_disk()
}

#[test]
fn a_log_of_a_newer_version_is_refused_by_that_name_and_left_alone() {
    let mut disk = with_entries();
    let names: Vec<String> =
        disk.file_names().filter(|name| name.starts_with("log-")).map(str::to_owned).collect();
    for name in names {
        disk.rot(&name, |content| {
            let is_batch = content.first() == Some(&0x5b);
            if is_batch {
                content[21] = 2;
                let crc = crc32fast::hash(&content[8..128]);
                content[4..8].copy_from_slice(&crc.to_be_bytes());
            }
        });
    }
    let before = disk.clone();
    let refused = open(&mut disk, open_options());
    assert_eq!(refused, Err(OpenError::NewerFormat { part: Part::Log, found: 2, known: 1 }));
    assert!(before.file_names().all(|name| before.content(name) == disk.content(name)));
}
