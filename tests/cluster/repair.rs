//! Nodes whose disks have gone bad, brought back by the others.

use raftgram::kv::Kv;
use raftgram::sim::invariant::Language;
use raftgram::sim::{Crash, Settings, Simulation};
use raftgram::store::inspect;
use raftgram::types::Index;

use super::{World, get, put};

/// Three nodes that hold some entries, each in a batch of its own.
fn written(seed: u64) -> World {
    written_with(Settings::new(seed, 3))
}

fn written_with(settings: Settings) -> World {
    let settings = Settings { language: Language::Kv, ..settings };
    let mut world = Simulation::new(settings, Kv::new);
    world.found();
    for number in 0..30 {
        put(&mut world, &format!("k{number}"), format!("v{number}").as_bytes());
    }
    world.run_for(std::time::Duration::from_millis(200));
    world
}

fn follower(world: &World) -> u16 {
    let leader = world.leader().unwrap();
    (1..=3).find(|number| *number != leader).unwrap()
}

/// Flips a bit in the batch that holds this entry, at this byte of the batch.
fn rot(world: &mut World, node: u16, index: Index, byte: u64) {
    world.spoil_disk(node, |disk| {
        let meta = inspect::meta(&mut disk.clone()).unwrap();
        let mut copy = disk.clone();
        let (file, offset) = inspect::log(&mut copy, &meta)
            .unwrap()
            .find_map(|report| {
                let report = report.unwrap();
                let holds =
                    |b: &&raftgram::store::FoundBatch| (b.header.first..=b.header.last).contains(&index);
                report.batches.iter().find(holds).map(|batch| (report.file.clone(), batch.offset))
            })
            .expect("the entry is on disk");
        disk.rot(&file, |bytes| bytes[(offset + byte) as usize] ^= 4);
    });
}

/// All nodes run, none is being repaired, and all hold the same.
fn heals(world: &mut World) {
    put(world, "after", b"more");
    world.run_until("all are equal and whole", |world| {
        let nodes: Vec<_> = (1..=3).filter_map(|number| world.node(number)).collect();
        let is_whole = nodes.len() == 3 && nodes.iter().all(|node| node.raft().repair().is_none());
        is_whole && world.are_at_rest(|_| true).is_ok()
    });
    for number in 0..30 {
        assert_eq!(get(world, &format!("k{number}")), Some(format!("v{number}").into_bytes()));
    }
    world.check_all(|_| true).unwrap();
}

/// D1, I5: nothing of what stands behind the damage is given up.
#[test]
fn a_rotten_record_in_the_middle_is_repaired_from_the_leader_d1() {
    for byte in [6, 200] {
        let mut world = written(40);
        let node = follower(&world);
        world.crash(node, Crash::Kill);
        rot(&mut world, node, Index(15), byte);
        world.start(node).unwrap();
        let status = world.node(node).unwrap().raft().repair().expect("a hole");
        assert!(status.first <= Index(15) && status.last >= Some(Index(15)), "{status:?}");
        heals(&mut world);
    }
}

/// The last batch of the node's log that holds entries: its file and offset.
fn last_record(world: &mut World, node: u16) -> (String, u64) {
    let records = world.with_disk(node, |disk| {
        let mut copy = disk.clone();
        let meta = inspect::meta(&mut copy).unwrap();
        let reports: Vec<_> = inspect::log(&mut copy, &meta).unwrap().map(Result::unwrap).collect();
        let row = |report: &inspect::SegmentReport| {
            let batches = report.batches.iter().filter(|batch| !batch.header.is_empty());
            batches.map(|batch| (report.file.clone(), batch.offset)).collect::<Vec<_>>()
        };
        reports.iter().flat_map(row).collect::<Vec<_>>()
    });
    records.last().cloned().unwrap()
}

/// D2: whatever is flipped in a log record, nothing that was acknowledged is lost, and the node comes back.
#[test]
fn a_flip_of_any_class_in_a_log_is_detected_and_repaired_d2() {
    for (seed, byte) in (50..).zip([0, 4, 8, 13, 25, 41, 65, 80, 127, 130, 512, 4095]) {
        let mut world = written(seed);
        let node = 1 + (seed % 3) as u16;
        world.crash(node, Crash::PowerCut);
        rot(&mut world, node, Index(5 + seed % 20), byte);
        world.start(node).unwrap();
        assert!(world.node(node).unwrap().raft().repair().is_some(), "byte {byte} of node {node}");
        heals(&mut world);
    }
}

/// I5: the last acknowledged record, rotten beyond telling how long it was, is no torn one.
#[test]
fn a_rotten_last_record_is_fetched_again_i5() {
    for (seed, byte) in [(70, 8), (71, 200), (72, 30)] {
        let mut world = written(seed);
        let node = follower(&world);
        world.crash(node, Crash::Kill);
        let (file, offset) = last_record(&mut world, node);
        world.spoil_disk(node, |disk| disk.rot(&file, |bytes| bytes[(offset + byte) as usize] ^= 1));
        world.start(node).unwrap();
        assert!(world.node(node).unwrap().raft().repair().is_some());
        heals(&mut world);
    }
}

/// I11: a quorum of two, of which one is damaged.
#[test]
fn one_damaged_and_one_dead_of_three_heal_i11() {
    for damaged_leads in [true, false] {
        let mut world = written(80);
        let leader = world.leader().unwrap();
        let others: Vec<u16> = (1..=3).filter(|number| *number != leader).collect();
        let (node, dead) = if damaged_leads { (leader, others[0]) } else { (others[0], others[1]) };
        world.crash(node, Crash::PowerCut);
        rot(&mut world, node, Index(12), 200);
        world.crash(dead, Crash::Kill);
        world.start(node).unwrap();
        world.run_until("it is whole", |world| {
            world.node(node).is_some_and(|node| node.raft().repair().is_none()) && world.leader().is_some()
        });
        put(&mut world, "between", b"two of three");
        world.start(dead).unwrap();
        heals(&mut world);
    }
}

/// I11: nobody can campaign until the others have filled its hole; each serves what it has behind its own.
#[test]
fn nodes_with_disjoint_damage_heal_each_other_i11() {
    for hit in [2, 3] {
        let mut world = written(90);
        (1..=3).for_each(|node| world.crash(node, Crash::PowerCut));
        for node in 1..=hit {
            rot(&mut world, node, Index(4 + 6 * u64::from(node)), 200);
        }
        for node in 1..=3 {
            world.start(node).unwrap();
            assert_eq!(world.node(node).unwrap().raft().repair().is_some(), node <= hit);
        }
        heals(&mut world);
    }
}

/// D6: a valid record of the same log at another's place.
#[test]
fn a_record_at_the_wrong_place_is_detected_and_repaired_d6() {
    let mut world = written(100);
    let node = follower(&world);
    world.crash(node, Crash::Kill);
    let (file, offset) = last_record(&mut world, node);
    world.spoil_disk(node, |disk| {
        disk.rot(&file, |bytes| {
            let first = bytes[..4096].to_vec();
            bytes[offset as usize..][..4096].copy_from_slice(&first);
        });
    });
    world.start(node).unwrap();
    assert!(world.node(node).unwrap().raft().repair().is_some());
    heals(&mut world);
}

/// D8: power goes at any moment of the write that cuts a log and mends it; no index ever has two records.
#[test]
fn a_repair_cut_short_is_begun_again_d8() {
    for delay in 0..12 {
        let mut world = written(110);
        let node = follower(&world);
        world.crash(node, Crash::Kill);
        rot(&mut world, node, Index(9), 200);
        world.start(node).unwrap();
        world.run_for(std::time::Duration::from_micros(150 * delay));
        world.restart(node, Crash::PowerCut).unwrap();
        heals(&mut world);
    }
}

/// D9: an old copy of a whole folder is known by its boot; nothing it says counts, and the others go on.
#[test]
fn an_old_copy_of_a_folder_is_quarantined_d9() {
    let mut world = written(120);
    let node = follower(&world);
    let old = world.with_disk(node, |disk| disk.clone());
    world.restart(node, Crash::Kill).unwrap();
    put(&mut world, "since", b"then");
    world.run_until("all have seen the later boot", |world| world.are_at_rest(|_| true).is_ok());
    world.crash(node, Crash::Kill);
    world.put_back(node, old);
    world.start(node).unwrap();
    put(&mut world, "after", b"more");
    world.run_for(std::time::Duration::from_secs(2));
    let leader = world.node(world.leader().unwrap()).unwrap().raft();
    let peer = leader.peers().find(|peer| peer.identity.node.as_u16() == node).unwrap();
    assert!(peer.match_index < leader.last_index(), "its acknowledgements do not count");
    assert_eq!(world.violation(), None);
}

/// A damaged snapshot is the range before its end: it comes from the others, and the log behind it stays.
#[test]
fn a_damaged_snapshot_is_fetched_anew_and_the_log_behind_it_is_kept() {
    for (seed, place) in [(130, 40), (131, 300), (132, usize::MAX)] {
        let mut world = written_with(Settings { log_tail_bytes: 0, ..Settings::new(seed, 3) });
        (1..=3).for_each(|node| world.take_snapshot(node));
        world.run_until("all have a snapshot", |world| {
            (1..=3).all(|node| world.node(node).is_some_and(|node| node.snapshot().is_some()))
        });
        for number in 0..10 {
            put(&mut world, &format!("later{number}"), b"x");
        }
        let node = follower(&world);
        world.crash(node, Crash::Kill);
        let file = world.with_disk(node, |disk| {
            disk.file_names().find(|name| name.starts_with("snapshot-")).map(str::to_owned).unwrap()
        });
        world.spoil_disk(node, |disk| {
            disk.rot(&file, |bytes| {
                let at = place.min(bytes.len() - 1);
                bytes[at] ^= 1;
            });
        });
        world.start(node).unwrap();
        let status = world.node(node).unwrap().raft().repair().expect("a hole");
        assert_eq!(status.first, Index(1));
        heals(&mut world);
        assert!(world.node(node).unwrap().snapshot().is_some());
    }
}

/// Damage that shows when a block is asked for: told, and the file written anew from memory.
#[test]
fn a_snapshot_found_damaged_while_it_is_served_is_written_anew() {
    let mut world = written_with(Settings { log_tail_bytes: 0, ..Settings::new(140, 3) });
    (1..=3).for_each(|node| world.take_snapshot(node));
    world.run_until("all have a snapshot", |world| {
        (1..=3).all(|node| world.node(node).is_some_and(|node| node.snapshot().is_some()))
    });
    // Two lose the file while they run, the third its folder's file while it is down: it has to come from the two.
    let node = follower(&world);
    world.crash(node, Crash::Kill);
    for other in 1..=3 {
        let file = world.with_disk(other, |disk| {
            disk.file_names().find(|name| name.starts_with("snapshot-")).map(str::to_owned).unwrap()
        });
        if other != node {
            world.with_disk(other, |disk| disk.rot(&file, |bytes| bytes[50] ^= 1));
        } else {
            world.spoil_disk(other, |disk| disk.rot(&file, |bytes| bytes[60] ^= 1));
        }
    }
    world.start(node).unwrap();
    heals(&mut world);
    let found: u64 = (1..=3).map(|node| world.node(node).unwrap().status().damage).sum();
    assert!(found >= 2, "{found} damaged places were told of");
}
