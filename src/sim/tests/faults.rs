//! What single faults do.

use super::{MS, founded, put};
use crate::sim::{Crash, Down, End};
use crate::store::DiskFault;

#[test]
fn a_paused_node_takes_part_again_afterwards() {
    let mut sim = founded(1);
    let leader = sim.leader().unwrap();
    sim.pause(leader, 3_000 * MS);
    sim.run_until("another leads", |sim| sim.leader().is_some_and(|now| now != leader));
    put(&mut sim, b"v");
    sim.run_for(4_000 * MS);
    let commits: Vec<_> = (1..=3).map(|node| sim.node(node).unwrap().raft().commit()).collect();
    assert!(commits.iter().all(|commit| *commit == commits[0]), "{commits:?}");
}

/// Its timers go on, too, also when they ran out meanwhile.
#[test]
fn the_timers_of_a_paused_node_go_on_afterwards() {
    let mut sim = founded(8);
    let leader = sim.leader().unwrap();
    let others: Vec<u16> = (1..=3).filter(|node| *node != leader).collect();
    others.iter().for_each(|node| sim.pause(*node, 2_000 * MS));
    sim.run_for(3_000 * MS);
    sim.crash(leader, Crash::Kill);
    sim.run_until("one of them leads", |sim| sim.leader().is_some_and(|now| now != leader));
}

/// Scenarios E4, D3: a node whose disk fails ends, and what it acknowledged is there after its next start.
#[test]
fn a_node_ends_when_its_disk_fails_and_comes_back() {
    let mut sim = founded(2);
    let leader = sim.leader().unwrap();
    sim.with_disk(leader, |disk| disk.set_fault(disk.operations() + 1, DiskFault::Fail));
    put(&mut sim, b"v");
    sim.run_until("it has ended", |sim| matches!(sim.down(leader), Some(Down::DiskFailed(_))));
    assert_eq!(sim.poll_fallen(), Some(leader));
    sim.start(leader).unwrap();
    put(&mut sim, b"w");
    assert_eq!(sim.violation(), None);
}

/// Scenario E16.
#[test]
fn a_leader_whose_disk_hangs_steps_down() {
    let mut sim = founded(3);
    let leader = sim.leader().unwrap();
    sim.hang_disk(leader, 60_000 * MS);
    let write = sim.propose(0, b"x".to_vec(), 10_000 * MS);
    sim.run_until("another leads", |sim| sim.leader().is_some_and(|now| now != leader));
    assert!(sim.finish(0, write).is_ok());
}

#[test]
fn a_crash_may_come_between_any_two_effects_of_a_turn() {
    for effects in 0..6 {
        let mut sim = founded(4);
        put(&mut sim, b"v");
        let leader = sim.leader().unwrap();
        sim.crash_after(leader, effects, Crash::PowerCut);
        put(&mut sim, b"w");
        sim.run_until("it is down", |sim| sim.down(leader) == Some(&Down::Crashed));
        sim.start(leader).unwrap();
        put(&mut sim, b"x");
        assert_eq!(sim.violation(), None, "{effects} effects");
    }
}

#[test]
fn a_slow_clock_and_a_fast_one_do_not_keep_a_cluster_from_serving() {
    let mut sim = founded(5);
    sim.set_clock_rate(1, 0.5);
    sim.set_clock_rate(2, 2.0);
    for _ in 0..20 {
        put(&mut sim, b"v");
        sim.run_for(100 * MS);
    }
    assert_eq!(sim.violation(), None);
}

/// Scenario U5: all that was ever sent to a node comes again, and changes nothing.
#[test]
fn captured_datagrams_played_again_change_nothing() {
    let mut sim = founded(6);
    sim.tap(10_000);
    (0..20).for_each(|_| put(&mut sim, b"v"));
    sim.run_for(1_000 * MS);
    let captured: Vec<_> = sim.tapped().cloned().collect();
    sim.tap(0);
    let before: Vec<_> = (1..=3).map(|node| sim.node(node).unwrap().raft().last_index()).collect();
    let term = sim.node(1).unwrap().raft().term();
    for (from, to, bytes) in captured {
        if matches!(to, End::Node(_)) {
            sim.inject(from, to, bytes, MS);
        }
    }
    sim.run_for(1_000 * MS);
    let after: Vec<_> = (1..=3).map(|node| sim.node(node).unwrap().raft().last_index()).collect();
    assert_eq!((before, term), (after, sim.node(1).unwrap().raft().term()));
}

#[test]
fn whoever_finds_its_log_damaged_comes_back_by_repair() {
    let mut sim = founded(7);
    (0..50).for_each(|_| put(&mut sim, b"v"));
    let follower = (1..=3).find(|node| Some(*node) != sim.leader()).unwrap();
    sim.crash(follower, Crash::Kill);
    let log = sim.with_disk(follower, |disk| {
        disk.file_names().find(|name| name.starts_with("log-")).map(str::to_owned)
    });
    sim.spoil_disk(follower, |disk| disk.rot(&log.unwrap(), |bytes| bytes[4096] ^= 1));
    sim.start(follower).unwrap();
    assert!(sim.node(follower).unwrap().raft().repair().is_some());
    put(&mut sim, b"w");
    sim.run_until("it is whole", |sim| sim.node(follower).is_some_and(|node| node.raft().repair().is_none()));
    sim.run_until("all are equal", |sim| sim.are_at_rest(|_| true).is_ok());
}

/// Nobody else knows whom it voted for.
#[test]
fn whoever_finds_its_hard_state_damaged_stays_down() {
    let mut sim = founded(9);
    put(&mut sim, b"v");
    let follower = (1..=3).find(|node| Some(*node) != sim.leader()).unwrap();
    sim.crash(follower, Crash::Kill);
    for file in ["hard-state-a", "hard-state-b"] {
        sim.spoil_disk(follower, |disk| disk.rot(file, |bytes| bytes[40] ^= 1));
    }
    assert!(sim.start(follower).is_err());
    assert!(matches!(sim.down(follower), Some(Down::Refused(_))));
    put(&mut sim, b"w");
}
