//! Nodes whose disks have gone bad, brought back by the others.

use raftgram::kv::Kv;
use raftgram::sim::invariant::Language;
use raftgram::sim::{Crash, Settings, Simulation};
use raftgram::store::inspect;
use raftgram::types::Index;

use super::{World, get, put};

/// Three nodes that hold some entries, each in a batch of its own.
fn written(seed: u64) -> World {
    let settings = Settings { language: Language::Kv, ..Settings::new(seed, 3) };
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
