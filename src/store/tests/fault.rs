//! Disks that fail: no failure is swallowed, none is tried again, and a full disk is no failure (E4, D3, D4, L16).

use std::collections::BTreeSet;

use crate::store::batch::Batch;
use crate::store::conformance::{CHECK_SEGMENT_BYTES, Log, format_options, founding, open_options};
use crate::store::disk::{DiskErrorKind, Operation};
use crate::store::error::{OpenError, StoreError};
use crate::store::memory::{DiskFault, MemoryDisk};
use crate::store::open::{FormatOptions, OpenOptions};
use crate::store::record::SEGMENTS_CROWDED;
use crate::store::store::{PeerSeen, Store, Upkeep};
use crate::store::tests::{CLUSTER, append, founded, founded_with};
use crate::types::{BootNonce, HardState, Incarnation, Index, StoreId, Term};

/// What one run through every kind of call made durable before it failed, if it did.
#[derive(Debug, Default)]
struct Run {
    term: Term,
    log: Log,
    /// The log as the call that failed would have left it.
    wanted: Log,
    /// What the call that failed said, and how many operations had been made when it returned.
    failure: Option<(StoreError, u64)>,
}

impl Run {
    fn of(store: &mut Store<MemoryDisk>) -> Self {
        let mut run = Self::default();
        if let Err(error) = run.calls(store) {
            run.failure = Some((error, store.disk().operations()));
        }
        run
    }

    fn calls(&mut self, store: &mut Store<MemoryDisk>) -> Result<(), StoreError> {
        store.record_founding(&founding(CLUSTER))?;
        for term in 1..=4 {
            let vote = HardState { term: Term(term), vote: None };
            store.persist(&Batch { hard_state: Some(vote), ..Batch::default() })?;
            self.term = Term(term);
            for length in [10, 5_000, 9_000, 20_000] {
                let entries = self.wanted.append(term, &[length]);
                store.persist(&Batch { entries, ..Batch::default() })?;
                self.log = self.wanted.clone();
            }
            let from = self.log.entries.len() as u64 - 1;
            self.wanted.entries.truncate(from as usize - 1);
            let entries = self.wanted.append(term, &[30]);
            store.persist(&Batch { truncate_from: Some(Index(from)), entries, ..Batch::default() })?;
            self.log = self.wanted.clone();
            store.quiet()?;
            store.maintain()?;
            let none = BTreeSet::new();
            let seen =
                store.record_peer(StoreId([9; 16]), Incarnation(term as u32), BootNonce([1; 16]), &none)?;
            assert_eq!(seen, PeerSeen::Adopted);
        }
        store.shutdown()
    }
}

fn formatted() -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    Store::format(&mut disk, format_options()).unwrap();
    disk
}

fn open(disk: MemoryDisk) -> Store<MemoryDisk> {
    Store::open(disk, open_options()).unwrap().0
}

#[test]
fn every_single_failing_operation_ends_the_store_for_good_l16_e4_d3_d8() {
    let clean = {
        let mut store = open(formatted());
        let run = Run::of(&mut store);
        assert_eq!(run.failure, None);
        store.disk().operations()
    };
    let start = open(formatted()).disk().operations();
    assert!(clean - start > 120, "{} operations", clean - start);
    for at in start..clean {
        let mut store = open(formatted());
        store.disk_mut().set_fault(at, DiskFault::Fail);
        let run = Run::of(&mut store);
        let (error, operations) =
            run.failure.clone().unwrap_or_else(|| panic!("operation {at} is swallowed"));
        assert!(
            matches!(&error, StoreError::Failed(disk) if disk.kind == DiskErrorKind::Failed),
            "{error:?}"
        );
        assert_eq!(operations, at + 1, "the disk is left alone after a failure");

        let none = BTreeSet::new();
        let later = [
            store.persist(&Batch::default()),
            store.quiet(),
            store.maintain().map(|_| ()),
            store.record_founding(&founding(CLUSTER)),
            store.record_cluster(CLUSTER),
            store.record_peer(StoreId([8; 16]), Incarnation(1), BootNonce([1; 16]), &none).map(|_| ()),
            store.shutdown(),
        ];
        assert!(later.iter().all(|result| *result == Err(error.clone())), "after {at}: {later:?}");
        assert_eq!(store.disk().operations(), at + 1, "nothing is retried");

        let mut disk = store.into_disk();
        disk.crash_keeping(|_, sector| sector % 3 == at % 3, |_| at % 2 == 0);
        let (_, recovered) = Store::open(disk, open_options()).unwrap();
        assert!(recovered.hard_state.term >= run.term);
        let found = &recovered.entries;
        let is_cut_only = {
            let shared = run.log.entries.iter().zip(&run.wanted.entries).take_while(|(a, b)| a == b).count();
            *found == run.log.entries[..shared]
        };
        assert!(
            *found == run.log.entries || *found == run.wanted.entries || is_cut_only,
            "operation {at}: {} entries found, {} shown",
            found.len(),
            run.log.entries.len()
        );
    }
}

#[test]
fn every_failing_operation_of_a_boot_is_told_and_the_next_boot_works_l16() {
    let prepared = {
        let mut store = open(formatted());
        Run::of(&mut store);
        store.into_disk()
    };
    let last_boot = {
        let mut disk = prepared.clone();
        let (_, recovered) = Store::open(&mut disk, open_options()).unwrap();
        (disk.operations(), recovered)
    };
    for at in prepared.operations()..last_boot.0 {
        let mut disk = prepared.clone();
        disk.set_fault(at, DiskFault::Fail);
        match Store::open(&mut disk, open_options()).map(|(_, recovered)| recovered) {
            Err(OpenError::Disk(error)) => assert_eq!(error.kind, DiskErrorKind::Failed),
            other => panic!("operation {at} is swallowed: {other:?}"),
        }
        disk.crash_keeping(|_, _| false, |_| false);
        let (_, recovered) = Store::open(disk, open_options()).unwrap();
        assert_eq!(recovered.entries, last_boot.1.entries);
        assert_eq!(recovered.hard_state, last_boot.1.hard_state);
        assert!(recovered.incarnation >= last_boot.1.incarnation);
    }
}

#[test]
fn every_failing_operation_of_a_format_is_told_and_formatting_again_works_l16() {
    let operations = formatted().operations();
    for at in 0..operations {
        let mut disk = MemoryDisk::new();
        disk.set_fault(at, DiskFault::Fail);
        Store::format(&mut disk, format_options()).unwrap_err();
        disk.crash_keeping(|_, _| false, |_| at % 2 == 0);
        match Store::open(&mut disk, open_options()) {
            Ok(_) => {}
            Err(OpenError::NotFormatted | OpenError::FormatUnfinished) => {
                let store = StoreId([0x52; 16]);
                Store::format(&mut disk, FormatOptions { store, ..format_options() }).unwrap();
                assert_eq!(Store::open(disk, open_options()).unwrap().1.store, store);
            }
            Err(error) => panic!("operation {at} of a format leaves {error:?}"),
        }
    }
}

#[test]
fn a_sync_that_fails_once_is_never_asked_again_d3() {
    let mut store = founded();
    let mut log = Log::default();
    append(&mut store, &mut log, 1, &[10]);
    let shown = log.clone();
    let sync = store.disk().operations() + 1;
    store.disk_mut().set_fault(sync, DiskFault::Fail);
    let batch = Batch { entries: log.append(1, &[10]), ..Batch::default() };
    let error = store.persist(&batch).unwrap_err();
    match &error {
        StoreError::Failed(disk) => assert_eq!(disk.operation, Operation::Sync),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.persist(&batch), Err(error));
    assert_eq!(store.failure().map(|disk| disk.operation), Some(Operation::Sync));
    // The pages are marked clean; whoever asked again would be told that all is well.
    let file = store.active.file.clone();
    let mut disk = store.into_disk();
    crate::store::disk::Disk::sync(&mut disk, &file).unwrap();
    disk.crash_keeping(|_, _| true, |_| true);
    let (_, recovered) = Store::open(disk, open_options()).unwrap();
    assert_eq!(recovered.entries, shown.entries);
}

#[test]
fn a_full_disk_refuses_a_batch_whole_and_takes_it_when_there_is_room_d4() {
    let mut store = founded();
    let mut log = Log::default();
    store.disk_mut().set_capacity(Some(0));
    let mut written = 0;
    let (refused, batch) = loop {
        let mut next = log.clone();
        let vote = HardState { term: Term(written + 1), vote: None };
        let entries = next.append(written + 1, &[1_000]);
        let batch = Batch { hard_state: Some(vote), entries, ..Batch::default() };
        match store.persist(&batch) {
            Ok(()) => (log, written) = (next, written + 1),
            Err(error) => break (error, batch),
        }
    };
    assert_eq!(refused, StoreError::Full);
    assert_eq!(written, CHECK_SEGMENT_BYTES / 4096, "the segment at hand is used up first");
    assert_eq!(store.maintain(), Err(StoreError::Full));
    assert!(!store.has_spare());
    assert_eq!(store.hard_state().term, Term(written), "nothing of a refused batch is taken");
    let vote = HardState { term: Term(written + 1), vote: None };
    store.persist(&Batch { hard_state: Some(vote), ..Batch::default() }).unwrap();
    store.quiet().unwrap();

    store.disk_mut().set_capacity(None);
    store.persist(&batch).unwrap();
    let (_, recovered) = Store::open(store.into_disk(), open_options()).unwrap();
    assert_eq!(recovered.entries[..log.entries.len()], log.entries);
    assert_eq!(recovered.entries.len(), log.entries.len() + 1);
}

/// A block each, so that a segment holds one batch: the bound on segments is met long before the disk is full.
#[test]
fn a_log_of_nearly_too_many_segments_says_so_with_each_further_one() {
    let mut store = founded_with(4096);
    let mut log = Log::default();
    let mut segments = 0;
    while segments < SEGMENTS_CROWDED + 2 {
        append(&mut store, &mut log, 1, &[100]);
        let upkeep = store.maintain().unwrap();
        // All but the spare.
        segments = store.disk().file_names().filter(|name| name.starts_with("log-")).count() - 1;
        let expected = if segments < SEGMENTS_CROWDED { Upkeep::Done } else { Upkeep::Crowded { segments } };
        assert_eq!((upkeep, store.maintain()), (expected, Ok(expected)));
    }
}

#[test]
fn a_full_disk_boots_with_the_spare_made_ahead_and_says_so_without_one_d4() {
    let mut store = founded();
    let mut log = Log::default();
    append(&mut store, &mut log, 1, &[6_000]);
    append(&mut store, &mut log, 1, &[6_000]);
    let mut without_spare = store.disk().clone();
    let large = OpenOptions { segment_bytes: 1 << 18, ..open_options() };
    let mut with_half = Store::open(store.disk().clone(), large).unwrap().0;
    store.maintain().unwrap();
    let mut disk = store.into_disk();
    disk.set_capacity(Some(0));
    let (_, recovered) = Store::open(&mut disk, open_options()).unwrap();
    assert_eq!(recovered.entries, log.entries);

    // The last run found room for a part of the spare only: that part serves, and takes what fits.
    let used = with_half.disk().total_bytes();
    with_half.disk_mut().set_capacity(Some(used + large.segment_bytes / 2));
    assert_eq!(with_half.maintain(), Err(StoreError::Full));
    let mut disk = with_half.into_disk();
    disk.set_capacity(Some(0));
    let (mut store, recovered) = Store::open(disk, large).unwrap();
    assert_eq!(recovered.entries, log.entries);
    assert!(!store.has_spare());
    assert_eq!(store.maintain(), Err(StoreError::Full), "read-only from the start");
    let mut longer = log.clone();
    append(&mut store, &mut longer, 1, &[1_000]);
    let mut disk = store.into_disk();
    disk.set_capacity(None);
    let (_, recovered) = Store::open(disk, open_options()).unwrap();
    assert_eq!(recovered.entries, longer.entries);

    without_spare.set_capacity(Some(0));
    let refused = Store::open(&mut without_spare, open_options()).map(|_| ());
    assert_eq!(refused, Err(OpenError::Full));
    without_spare.set_capacity(None);
    let (_, recovered) = Store::open(&mut without_spare, open_options()).unwrap();
    assert_eq!(recovered.entries, log.entries);
}

#[test]
fn no_room_found_at_any_operation_is_told_as_full_or_ends_the_store_d4_l16() {
    let clean = {
        let mut store = open(formatted());
        Run::of(&mut store);
        store.disk().operations()
    };
    let start = open(formatted()).disk().operations();
    let mut refusals = 0;
    for at in start..clean {
        let mut store = open(formatted());
        store.disk_mut().set_fault(at, DiskFault::Full);
        let run = Run::of(&mut store);
        let (error, _) = run.failure.unwrap_or_else(|| panic!("operation {at} is swallowed"));
        match error {
            StoreError::Full => {
                refusals += 1;
                assert_eq!(store.failure(), None);
                store.maintain().unwrap();
            }
            StoreError::Failed(disk) => assert_eq!(disk.kind, DiskErrorKind::Full),
            other => panic!("{other:?}"),
        }
        let mut disk = store.into_disk();
        disk.crash_keeping(|_, _| false, |_| false);
        let (_, recovered) = Store::open(disk, OpenOptions { cluster: None, ..open_options() }).unwrap();
        assert!(recovered.hard_state.term >= run.term);
    }
    assert!(refusals > 10, "{refusals} back-pressure refusals");
}
