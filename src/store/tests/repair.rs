//! What a damaged folder still tells, and how it is mended: every structure, every class of bit (D1, D2, D6, I5).

use crate::entry::Entry;
use crate::founding::FoundingRecord;
use crate::remains::LogEnd;
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::store::adopt::{Adopted, LogAfter};
use crate::store::batch::Batch;
use crate::store::block::{BLOCK_BYTES, HEADER_BYTES, SECTOR_BYTES};
use crate::store::conformance::{Log, format, founding, open_options};
use crate::store::memory::MemoryDisk;
use crate::store::open::{OnDamage, OpenOptions, Recovered};
use crate::store::store::Store;
use crate::store::tests::{CLUSTER, append, founded, founded_with};
use crate::types::{Index, NodeId};

fn keeping() -> OpenOptions {
    OpenOptions { on_damage: OnDamage::Keep, ..open_options() }
}

/// Nobody else has what is damaged here.
#[test]
fn the_folder_of_a_node_that_was_always_alone_is_refused() {
    let mut disk = MemoryDisk::new();
    format(&mut disk);
    let (mut store, _) = Store::open(disk, open_options()).unwrap();
    let FoundingRecord { cluster, mut membership } = founding(CLUSTER);
    membership.voters.retain(|id, _| *id == NodeId::MIN);
    store.record_founding(&FoundingRecord { cluster, membership }).unwrap();
    assert!(store.is_alone());
    let mut log = Log::default();
    for _ in 0..3 {
        append(&mut store, &mut log, 1, &[20]);
    }
    let mut disk = store.into_disk();
    let (file, offset, ..) = batches(&disk).swap_remove(1);
    disk.rot(&file, |bytes| bytes[offset + 140] ^= 1);
    assert!(matches!(Store::open(disk, keeping()), Err(crate::store::OpenError::Damaged(_))));
}

/// Ten batches of two blocks each, in several segments.
fn folder() -> (MemoryDisk, Log) {
    let mut store = founded();
    let mut log = Log::default();
    for _ in 0..10 {
        append(&mut store, &mut log, 1, &[5_000, 20]);
    }
    (store.into_disk(), log)
}

/// Where each batch begins, and its first and last entry.
fn batches(disk: &MemoryDisk) -> Vec<(String, usize, Index, Index)> {
    let mut copy = disk.clone();
    let meta = crate::store::inspect::meta(&mut copy).unwrap();
    let reports = crate::store::inspect::log(&mut copy, &meta).unwrap();
    let rows = reports.flat_map(|report| {
        let report = report.unwrap();
        let row = |batch: &crate::store::FoundBatch| {
            (report.file.clone(), batch.offset as usize, batch.header.first, batch.header.last)
        };
        report.batches.iter().map(row).collect::<Vec<_>>()
    });
    rows.collect()
}

/// A file of the log that somebody removed is gone, and no reason to end when its turn comes to be removed.
#[test]
fn a_missing_file_of_the_log_is_dropped_like_one_that_is_there() {
    let (mut disk, log) = folder();
    let (missing, ..) = batches(&disk).swap_remove(2);
    disk.lose(&missing);
    let (mut store, found) = open(disk);
    assert!(found.remains.is_some(), "{found:?}");
    let last = log.entries.last().unwrap();
    let id = SnapshotId { index: last.index, term: last.term, chain: last.chain };
    let meta = SnapshotMeta { id, bytes: 100, digest: 1 };
    let adopted = store.adopt_snapshot(meta, LogAfter::Begun);
    assert!(matches!(adopted, Ok(Adopted::Yes { .. })), "{adopted:?}");
    assert!(!store.disk().file_names().any(|name| name == missing));
}

fn open(disk: MemoryDisk) -> (Store<MemoryDisk>, Recovered) {
    Store::open(disk, keeping()).unwrap()
}

/// Everything that is told is what was there, and what is missing is a hole.
fn check(recovered: &Recovered, log: &Log, lost: core::ops::RangeInclusive<Index>) {
    let is_lost = |entry: &&Entry| lost.contains(&entry.index);
    let whole: Vec<Entry> = log.entries.iter().filter(|entry| !is_lost(entry)).cloned().collect();
    let (before, behind): (Vec<Entry>, Vec<Entry>) =
        whole.into_iter().partition(|entry| entry.index < *lost.start());
    assert_eq!(recovered.entries, before, "before {lost:?}");
    let remains = recovered.remains.as_ref().expect("a hole");
    assert_eq!(remains.entries, behind, "behind {lost:?}");
    assert!(!recovered.damage.is_empty());
}

/// A bit in the stamp, the checksum, each field, the end of the header, the content, a sector's stamp, the padding.
const PLACES: [usize; 12] = [
    0,
    5,
    9,
    13,
    30,
    50,
    HEADER_BYTES - 1,
    HEADER_BYTES + 3,
    SECTOR_BYTES,
    SECTOR_BYTES + 7,
    BLOCK_BYTES + 100,
    2 * BLOCK_BYTES - 1,
];

#[test]
fn a_flip_in_any_batch_costs_that_batch_and_nothing_else_d2_i5() {
    let (disk, log) = folder();
    let all: Vec<_> = batches(&disk).into_iter().filter(|(_, _, first, last)| first <= last).collect();
    let end = LogEnd::of(log.entries.last().unwrap());
    for (file, offset, first, last) in &all[..all.len() - 1] {
        for place in PLACES {
            for bit in [0, 7] {
                let mut rotten = disk.clone();
                rotten.rot(file, |bytes| bytes[offset + place] ^= 1 << bit);
                assert!(
                    Store::open(rotten.clone(), open_options()).is_err(),
                    "refused unless it may be repaired"
                );
                let (_, recovered) = open(rotten);
                check(&recovered, &log, *first..=*last);
                assert_eq!(recovered.remains.unwrap().end, Some(end), "{file} at {offset} + {place}");
            }
        }
    }
}

/// The last batch is the end: its header tells how far it went, and without that nobody knows.
#[test]
fn a_flip_in_the_last_batch_leaves_an_end_that_is_known_by_its_header_only_i5() {
    let mut store = founded();
    let mut log = Log::default();
    for _ in 0..3 {
        append(&mut store, &mut log, 1, &[20]);
    }
    let disk = store.into_disk();
    let (file, offset, first, last) = batches(&disk).pop().unwrap();
    let end = LogEnd::of(log.entries.last().unwrap());
    for (place, expected) in [(9, None), (HEADER_BYTES + 3, Some(end))] {
        let mut rotten = disk.clone();
        rotten.rot(&file, |bytes| bytes[offset + place] ^= 1);
        let (_, recovered) = open(rotten);
        check(&recovered, &log, first..=last);
        assert_eq!(recovered.remains.unwrap().end, expected);
    }
}

#[test]
fn a_missing_segment_is_a_hole_up_to_the_next_one() {
    let (disk, log) = folder();
    let files: Vec<String> = batches(&disk).into_iter().map(|(file, ..)| file).collect();
    let file = &files[0];
    let last = batches(&disk).iter().filter(|(f, ..)| f == file).map(|(.., last)| *last).max().unwrap();
    let mut rotten = disk.clone();
    rotten.lose(file);
    let (_, recovered) = open(rotten);
    check(&recovered, &log, Index(1)..=last);
}

/// D6: a copy of another record of the segment in the place of one is no record of that place, and still is what it is.
#[test]
fn a_record_over_another_one_costs_the_other_one_d6() {
    let (disk, log) = folder();
    let all: Vec<_> = batches(&disk).into_iter().filter(|(_, _, first, last)| first <= last).collect();
    for from in 0..all.len() {
        for to in (0..all.len()).filter(|to| *to != from) {
            let (source, at, ..) = &all[from];
            let bytes = disk.content(source).unwrap()[*at..at + 2 * BLOCK_BYTES].to_vec();
            let (file, offset, first, last) = &all[to];
            let mut rotten = disk.clone();
            rotten.rot(file, |content| content[*offset..][..bytes.len()].copy_from_slice(&bytes));
            let (_, recovered) = open(rotten);
            check(&recovered, &log, *first..=*last);
        }
    }
}

/// D6: what stands in the place of the last record is content of another one, zeros and all, and no torn write.
#[test]
fn content_of_another_record_over_the_last_one_is_no_tear_d6() {
    let mut store = founded();
    let mut log = Log::default();
    // The second block of the first batch is mostly padding.
    append(&mut store, &mut log, 1, &[4_000]);
    append(&mut store, &mut log, 1, &[20]);
    append(&mut store, &mut log, 1, &[4_000]);
    let disk = store.into_disk();
    let all = batches(&disk);
    let block = |batch: usize, number: usize| {
        let at = all[batch].1 + number * BLOCK_BYTES;
        disk.content(&all[batch].0).unwrap()[at..at + BLOCK_BYTES].to_vec()
    };
    for (source, number) in [(block(0, 1), 0), (block(0, 0), 1), (block(1, 0), 1)] {
        let (file, offset, first, last) = all[2].clone();
        let mut rotten = disk.clone();
        rotten.rot(&file, |bytes| {
            bytes[offset + number * BLOCK_BYTES..][..BLOCK_BYTES].copy_from_slice(&source);
        });
        let (_, recovered) = open(rotten);
        check(&recovered, &log, first..=last);
    }
}

/// D6: the beginning of a longer record over the last one, with nothing behind it, is no torn write of the longer one.
#[test]
fn the_beginning_of_another_record_over_the_last_one_is_no_tear_d6() {
    let mut store = founded();
    let mut log = Log::default();
    append(&mut store, &mut log, 1, &[5_000]);
    append(&mut store, &mut log, 1, &[20]);
    let disk = store.into_disk();
    let all = batches(&disk);
    let (source, at, ..) = &all[0];
    let beginning = disk.content(source).unwrap()[*at..at + BLOCK_BYTES].to_vec();
    let (file, offset, first, last) = all[1].clone();
    assert_eq!(*source, file, "one segment has both");
    let mut rotten = disk.clone();
    rotten.rot(&file, |bytes| bytes[offset..][..BLOCK_BYTES].copy_from_slice(&beginning));
    let (_, recovered) = open(rotten);
    check(&recovered, &log, first..=last);
}

/// A file that ends early, even between two batches, may have lost what was acknowledged: nobody knows where it ended.
#[test]
fn a_log_cut_short_anywhere_is_a_hole_without_an_end_d1() {
    let mut store = founded_with(16 * BLOCK_BYTES as u64);
    let mut log = Log::default();
    [20, 4_000, 20].into_iter().for_each(|bytes| append(&mut store, &mut log, 1, &[bytes]));
    let file = store.active.file.clone();
    let used = store.active.offset as usize;
    let disk = store.into_disk();
    let all = batches(&disk);
    for kept in (0..=used).step_by(BLOCK_BYTES / 8) {
        let mut rotten = disk.clone();
        rotten.rot(&file, |bytes| bytes.truncate(kept));
        assert!(Store::open(rotten.clone(), open_options()).is_err(), "{kept} bytes of {file} opened");
        let (_, recovered) = open(rotten);
        let whole = all.iter().filter(|(_, offset, first, _)| {
            let next = all.iter().find(|(.., first_of_next, _)| first_of_next > first);
            next.map_or(used, |(_, next, ..)| *next) <= kept && *offset < kept
        });
        assert_eq!(recovered.entries, log.entries[..whole.count()], "{kept} bytes of {file}");
        let remains = recovered.remains.expect("a hole");
        assert_eq!((remains.entries.len(), remains.end), (0, None), "{kept} bytes of {file}");
    }
}

/// Nothing was ever written behind a block of zeros, however short the file is.
#[test]
fn a_log_whose_zeros_were_cut_lost_nothing() {
    let mut store = founded();
    let mut log = Log::default();
    append(&mut store, &mut log, 1, &[20]);
    let (file, used) = (store.active.file.clone(), store.active.offset as usize);
    let mut disk = store.into_disk();
    disk.rot(&file, |bytes| bytes.truncate(used + BLOCK_BYTES));
    let (_, recovered) = Store::open(disk, open_options()).unwrap();
    assert_eq!((recovered.entries, recovered.remains), (log.entries, None));
}

/// One write takes the place of the hole and all behind it; a crash at any of its operations finds the folder before
/// or after it, never with less.
#[test]
fn a_mend_takes_effect_in_one_moment_d8() {
    let (disk, log) = folder();
    let (file, offset, first, last) = batches(&disk).swap_remove(3);
    let mut rotten = disk.clone();
    rotten.rot(&file, |bytes| bytes[offset + HEADER_BYTES + 3] ^= 1);
    let from = first.0 as usize - 1;
    let batch =
        Batch { truncate_from: Some(first), entries: log.entries[from..].to_vec(), ..Batch::default() };
    let mut is_mended = false;
    for operation in 0..60 {
        let (mut store, _) = open(rotten.clone());
        let now = store.disk().operations();
        store.disk_mut().set_fault(now + operation, crate::store::DiskFault::Stop);
        let done = store.persist(&batch).is_ok();
        let mut disk = store.into_disk();
        disk.revive();
        disk.crash_keeping(|_, _| false, |_| false);
        let (_, recovered) = open(disk);
        if recovered.remains.is_some() {
            assert!(!done, "acknowledged and gone after {operation}");
            check(&recovered, &log, first..=last);
        } else {
            assert_eq!(recovered.entries, log.entries, "after {operation}");
            is_mended = true;
        }
        if done {
            break;
        }
    }
    assert!(is_mended);
}

/// Between boot and mend the folder stays as it is, whatever else is written.
#[test]
fn term_and_vote_are_written_while_the_log_has_a_hole() {
    let (disk, log) = folder();
    let (file, offset, first, last) = batches(&disk).swap_remove(2);
    let mut rotten = disk.clone();
    rotten.rot(&file, |bytes| bytes[offset + 9] ^= 1);
    for _ in 0..3 {
        let (mut store, recovered) = open(rotten);
        check(&recovered, &log, first..=last);
        let term = crate::types::Term(recovered.hard_state.term.0 + 1);
        let hard_state = Some(crate::types::HardState { term, vote: None });
        store.persist(&Batch { hard_state, ..Batch::default() }).unwrap();
        store.quiet().unwrap();
        while store.maintain().unwrap() == crate::store::Upkeep::More {}
        rotten = store.into_disk();
        rotten.crash_keeping(|_, _| false, |_| false);
    }
}
