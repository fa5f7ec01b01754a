//! Damage in a whole folder: it is found at its file and byte, and never taken for a tear (D1, D6, E3, I4).

use crate::rng::Rng;
use crate::store::batch::Batch;
use crate::store::block::BLOCK_BYTES;
use crate::store::conformance::{Log, open_options, voter};
use crate::store::error::{Damage, DamageKind, OpenError};
use crate::store::inspect;
use crate::store::memory::{DiskFault, MemoryDisk};
use crate::store::recover::Tail;
use crate::store::segment::SegmentEnd;
use crate::store::store::Store;
use crate::store::tests::{append, founded};
use crate::types::{HardState, Index, Term};

const HARD_STATE: [&str; 2] = ["hard-state-a", "hard-state-b"];

/// A folder whose log lies in several segments, the last of which is in use, and the names of their files.
fn several_segments() -> (MemoryDisk, Log, Vec<String>) {
    let mut store = founded();
    let mut log = Log::default();
    for _ in 0..7 {
        append(&mut store, &mut log, 1, &[7_000]);
    }
    append(&mut store, &mut log, 1, &[10]);
    let files = store.record.segments.iter().map(|segment| segment.generation.file()).collect();
    (store.into_disk(), log, files)
}

fn refusal(disk: MemoryDisk) -> OpenError {
    let mut disk = disk;
    let verified = inspect::verify(&mut disk).map(|_| ());
    let opened = Store::open(disk, open_options()).map(|_| ());
    assert_eq!(verified, opened, "verify and open see the same");
    opened.unwrap_err()
}

fn damage(disk: MemoryDisk) -> (String, u64, DamageKind) {
    match refusal(disk) {
        OpenError::Damaged(Damage { file, offset, what }) => (file, offset, what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_named_segment_that_is_missing_is_damage_and_no_empty_log() {
    let (disk, _, files) = several_segments();
    assert!(files.len() >= 3);
    for file in &files {
        let mut disk = disk.clone();
        disk.lose(file);
        assert_eq!(damage(disk), (file.clone(), 0, DamageKind::MissingFile));
    }
}

#[test]
fn a_sealed_segment_cut_short_is_damage() {
    let (disk, _, files) = several_segments();
    for file in &files[..files.len() - 1] {
        let mut disk = disk.clone();
        disk.rot(file, |content| content.truncate(BLOCK_BYTES));
        let (found, ..) = damage(disk);
        assert_eq!(found, *file);
    }
}

#[test]
fn flips_anywhere_in_a_folder_never_cut_what_is_durable_i5_d1() {
    let (disk, log, files) = several_segments();
    let mut rng = Rng::from_seed(5);
    let all: Vec<&str> = HARD_STATE.into_iter().chain(files.iter().map(String::as_str)).collect();
    for _ in 0..1_500 {
        let mut rotten = disk.clone();
        let mut flips = Vec::new();
        for _ in 0..=rng.below(3) {
            let file = all[rng.below(all.len() as u64) as usize];
            let bytes = rotten.content(file).unwrap().len().min(16 * 1024) as u64;
            let (byte, bit) = (rng.below(bytes) as usize, rng.below(8));
            rotten.rot(file, |content| content[byte] ^= 1 << bit);
            flips.push((file, byte, bit));
        }
        match Store::open(rotten, open_options()) {
            Ok((_, recovered)) => assert_eq!(recovered.entries, log.entries, "{flips:?}"),
            Err(OpenError::Damaged(_)) => {}
            Err(other) => panic!("{flips:?}: {other:?}"),
        }
    }
}

#[test]
fn a_batch_at_another_place_or_of_another_segment_is_damage_d6() {
    let (disk, _, files) = several_segments();
    let [first, .., last] = files.as_slice() else { panic!("{files:?}") };
    let block = |disk: &MemoryDisk, file: &str, at: usize| {
        disk.content(file).unwrap()[at * BLOCK_BYTES..(at + 2) * BLOCK_BYTES].to_vec()
    };
    let put = |disk: &mut MemoryDisk, file: &str, at: usize, bytes: &[u8]| {
        disk.rot(file, |content| content[at * BLOCK_BYTES..][..bytes.len()].copy_from_slice(bytes));
    };
    let mut twice = disk.clone();
    let moved = block(&disk, first, 0);
    put(&mut twice, first, 2, &moved);
    assert_eq!(damage(twice), (first.clone(), 2 * BLOCK_BYTES as u64, DamageKind::Misplaced));

    let mut stale = disk.clone();
    put(&mut stale, last, 0, &moved);
    assert_eq!(damage(stale), (last.clone(), 0, DamageKind::Misplaced));
}

#[test]
fn a_folder_put_together_from_an_old_hard_state_and_a_newer_log_is_refused_d9() {
    let mut store = founded();
    let mut log = Log::default();
    append(&mut store, &mut log, 1, &[10]);
    let old = store.disk().clone();
    let put_back = |disk: &mut MemoryDisk| {
        for name in HARD_STATE {
            let content = old.content(name).unwrap().to_vec();
            disk.rot(name, |now| *now = content);
        }
    };
    let vote = HardState { term: Term(9), vote: Some(voter()) };
    store.persist(&Batch { hard_state: Some(vote), ..Batch::default() }).unwrap();
    append(&mut store, &mut log, 9, &[10]);
    let mut same_segment = store.disk().clone();
    put_back(&mut same_segment);
    let (_, offset, what) = damage(same_segment);
    assert_eq!(offset, BLOCK_BYTES as u64);
    assert!(matches!(what, DamageKind::HardStateOlder { .. }), "{what:?}");

    let cut = Batch { truncate_from: Some(Index(1)), ..Batch::default() };
    store.persist(&cut).unwrap();
    let mut log = Log::default();
    append(&mut store, &mut log, 9, &[10]);
    let mut disk = store.into_disk();
    // The old segment is gone with the truncation; the one in use is unknown to the old record.
    put_back(&mut disk);
    let (_, _, what) = damage(disk);
    assert!(matches!(what, DamageKind::HardStateOlder { .. }), "{what:?}");
}

#[test]
fn a_lost_hard_state_beside_a_log_is_never_an_empty_one_e3() {
    let (disk, ..) = several_segments();
    let mut lost = disk.clone();
    HARD_STATE.iter().for_each(|name| lost.lose(name));
    assert!(matches!(refusal(lost), OpenError::HardStateMissing { .. }));

    let mut rotten = disk;
    HARD_STATE.iter().for_each(|name| rotten.rot(name, |content| content[40] ^= 4));
    assert_eq!(damage(rotten), (HARD_STATE[0].to_owned(), 0, DamageKind::HardState));
}

#[test]
fn either_copy_of_the_hard_state_serves_alone_and_both_are_rewritten_at_boot_i4() {
    let vote = HardState { term: Term(7), vote: Some(voter()) };
    for stop_after in 0..4 {
        let mut store = founded();
        let at = store.disk().operations() + stop_after;
        store.disk_mut().set_fault(at, DiskFault::Stop);
        store.persist(&Batch { hard_state: Some(vote), ..Batch::default() }).unwrap_err();
        let mut disk = store.into_disk();
        disk.crash_keeping(|_, _| true, |_| true);
        let (store, recovered) = Store::open(disk, open_options()).unwrap();
        assert_eq!(recovered.hard_state, vote, "the newer copy wins");
        let disk = store.into_disk();
        for rotten in HARD_STATE {
            for way in 0..3 {
                let mut disk = disk.clone();
                match way {
                    0 => disk.rot(rotten, |content| content[20] ^= 1),
                    1 => disk.rot(rotten, Vec::clear),
                    _ => disk.lose(rotten),
                }
                let (mut store, again) = Store::open(disk, open_options()).unwrap();
                assert_eq!(again.hard_state, recovered.hard_state, "stopped after {stop_after}, {rotten}");
                let meta = inspect::meta(store.disk_mut()).unwrap();
                let [(_, first), (_, second)] = meta.copies;
                assert!(first.is_some() && first == second, "{:?}", meta.copies);
            }
        }
    }
}

#[test]
fn what_is_inspected_is_what_was_written_and_where() {
    let mut store = founded();
    let mut log = Log::default();
    append(&mut store, &mut log, 1, &[10, 20]);
    append(&mut store, &mut log, 2, &[5_000]);
    append(&mut store, &mut log, 2, &[10]);
    let file = store.active.file.clone();
    let mut disk = store.into_disk();
    let before = disk.clone();
    let meta = inspect::meta(&mut disk).unwrap();
    let reports: Vec<_> = inspect::log(&mut disk, &meta).unwrap().map(Result::unwrap).collect();
    let [report] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!(
        (report.file.as_str(), report.live_to, &report.end),
        (file.as_str(), None, &SegmentEnd::Clean)
    );
    let batches: Vec<_> = report.batches.iter().map(|b| (b.offset, b.header.first, b.header.mark)).collect();
    let expected = [(0, 1, 0), (4096, 3, 2), (4096 * 3, 4, 3)];
    assert_eq!(batches, expected.map(|(offset, first, mark)| (offset, Index(first), Index(mark))));
    let entries = report.batches.iter().flat_map(|batch| &batch.entries);
    assert_eq!(entries.clone().map(|(_, entry)| entry.clone()).collect::<Vec<_>>(), log.entries);
    // Term, kind, length, ten bytes of content, chain value.
    assert_eq!(entries.map(|(at, _)| *at).take(3).collect::<Vec<_>>(), [128, 128 + 17, 4096 + 128]);
    let verified = inspect::verify(&mut disk).unwrap();
    assert_eq!((verified.last, verified.mark, verified.tail), (Index(4), Index(3), Tail::Whole));
    for name in before.file_names() {
        assert_eq!(before.content(name), disk.content(name), "{name} was changed");
    }
}

#[test]
fn quiet_leaves_no_entry_in_doubt() {
    let mut store = founded();
    let mut log = Log::default();
    append(&mut store, &mut log, 1, &[10]);
    let mark = |store: &mut Store<MemoryDisk>| inspect::verify(store.disk_mut()).unwrap().mark;
    assert_eq!(mark(&mut store), Index(0));
    store.quiet().unwrap();
    assert_eq!(mark(&mut store), Index(1));
    let operations = store.disk().operations();
    store.quiet().unwrap();
    assert_eq!(store.disk().operations(), operations, "once is enough");
    // The stated gap is closed with the mark: a sector zeroed in the last batch of entries is damage.
    let file = store.active.file.clone();
    let mut disk = store.into_disk();
    disk.rot(&file, |content| content[512..1024].fill(0));
    assert_eq!(damage(disk), (file, 0, DamageKind::Lost));
}
