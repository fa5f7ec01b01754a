//! The scenarios S1 to S10 by name: what broke other systems' snapshots, done to whole nodes. Every step is checked
//! against all invariants; what a test asserts is the scenario's own property.

use std::time::Duration;

use raftgram::kv::{Command, CommandResult, Kv};
use raftgram::node::PullConfig;
use raftgram::sim::invariant::Language;
use raftgram::sim::{Crash, DiskProfile, End, Settings, Simulation};
use raftgram::types::Index;

use super::{LONG, World, get, lan, put, start};

const KEYS: usize = 24;
static VALUE: [u8; 32 * 1024] = [0x5a; 32 * 1024];

/// A founded cluster whose nodes forget at once what a snapshot covers, and pull slowly.
fn world(seed: u64, bytes_per_second: u64) -> World {
    let settings = Settings {
        link: lan(),
        language: Language::Kv,
        log_tail_bytes: 0,
        pull: PullConfig { bytes_per_second, ..PullConfig::default() },
        ..Settings::new(seed, 3)
    };
    let mut world = Simulation::new(settings, Kv::new);
    world.found();
    world
}

fn applied(world: &World, node: u16) -> Index {
    world.node(node).map_or(Index(0), |node| node.applied())
}

fn in_force(world: &World, node: u16) -> Index {
    world.node(node).and_then(|node| node.snapshot()).map_or(Index(0), |meta| meta.id.index)
}

/// Has a node take a snapshot of what it has applied, and waits until it is in force.
fn take(world: &mut World, node: u16) -> Index {
    let through = applied(world, node);
    world.take_snapshot(node);
    world.run_until("the snapshot is in force", |world| in_force(world, node) >= through);
    in_force(world, node)
}

/// One follower is away while the others write, and compact what it would need.
fn with_one_far_behind(seed: u64, bytes_per_second: u64) -> (World, u16) {
    let mut world = world(seed, bytes_per_second);
    let leader = world.leader().unwrap();
    let away = (1..=3).find(|node| *node != leader).unwrap();
    put(&mut world, "before", b"it left");
    world.crash(away, Crash::PowerCut);
    for key in 0..KEYS {
        put(&mut world, &format!("k{key}"), &VALUE);
    }
    let others: Vec<u16> = (1..=3).filter(|node| *node != away).collect();
    world.run_until("both have all", |world| applied(world, others[0]) == applied(world, others[1]));
    others.iter().for_each(|node| {
        take(&mut world, *node);
    });
    world.run_until("the log is compacted", |world| {
        others.iter().all(|node| world.node(*node).is_some_and(|it| it.raft().base().index.0 > KEYS as u64))
    });
    (world, away)
}

fn is_pulling(world: &World, node: u16) -> bool {
    world.node(node).and_then(|node| node.receiving()).is_some_and(|(_, bytes, _)| bytes > 0)
}

fn catches_up(world: &mut World, node: u16) {
    put(world, "after", b"it came back");
    world.run_until("the node has caught up", |world| {
        world.leader().is_some_and(|leader| applied(world, leader) == applied(world, node))
    });
}

/// S1: copies of everything that was said during the transfer come again, when the follower is far beyond it.
#[test]
fn s1_a_late_copy_of_an_offer_takes_nobody_back() {
    let (mut world, away) = with_one_far_behind(70, 64 << 20);
    world.tap(20_000);
    start(&mut world, away);
    catches_up(&mut world, away);
    let installed = in_force(&world, away);
    assert!(installed > Index(KEYS as u64));
    let copies: Vec<(End, End, Vec<u8>)> =
        world.tapped().filter(|(_, to, _)| *to == End::Node(usize::from(away) - 1)).cloned().collect();
    assert!(!copies.is_empty());
    put(&mut world, "beyond", b"the snapshot");
    let before = applied(&world, away);
    for (from, to, bytes) in copies {
        world.inject(from, to, bytes, Duration::from_millis(1));
    }
    world.run_for(Duration::from_secs(2));
    assert!(applied(&world, away) >= before && in_force(&world, away) >= installed);
}

/// S2 and S3: crashes after each effect of taking a snapshot, by power cut or not; there is an older one to lose.
#[test]
fn s2_s3_a_crash_at_any_point_of_a_snapshot_leaves_the_old_or_the_new_one_and_a_log_that_continues_it() {
    let mut world = world(71, 64 << 20);
    let mut seen = [0, 0];
    for round in 0..24_u32 {
        let leader = world.leader().unwrap();
        let node = (1..=3).find(|node| *node != leader).unwrap();
        let old = take(&mut world, node);
        for number in 0..3 {
            put(&mut world, &format!("r{round}-{number}"), &VALUE);
        }
        world.run_until("all is applied", |world| applied(world, node) == applied(world, leader));
        let through = applied(&world, node);
        let crash = if round % 2 == 0 { Crash::PowerCut } else { Crash::Kill };
        world.crash_after(node, round / 2, crash);
        world.take_snapshot(node);
        world.run_for(Duration::from_millis(300));
        if world.node(node).is_some() {
            // It had less to do than that; the crash comes now.
            world.crash(node, crash);
        }
        start(&mut world, node);
        let found = in_force(&world, node);
        assert!(found == old || found == through, "{found} after a crash between {old} and {through}");
        seen[usize::from(found == through)] += 1;
        catches_up(&mut world, node);
    }
    assert!(seen.iter().all(|count| *count > 0), "old and new were found {seen:?} times");
}

/// S4: see `snapshots::s4_a_leader_without_its_file_makes_another`.
/// S5: the second is asked for while the first is written, and a third.
#[test]
fn s5_snapshots_close_together_end_with_the_newest() {
    let mut world = world(72, 64 << 20);
    let leader = world.leader().unwrap();
    for number in 0..20 {
        put(&mut world, &format!("k{number}"), &VALUE);
        world.take_snapshot(leader);
        world.take_snapshot(leader);
    }
    let last = applied(&world, leader);
    world.run_until("the last one is in force", |world| in_force(world, leader) >= last);
    for number in 0..20 {
        assert!(get(&mut world, &format!("k{number}")).as_deref() == Some(&VALUE[..]), "k{number}");
    }
}

/// S6: two files of two indexes are on their way one after the other, from two leaders; neither ends in the other.
#[test]
fn s6_a_transfer_that_is_overtaken_by_another_file_mixes_nothing() {
    let (mut world, away) = with_one_far_behind(73, 256 << 10);
    start(&mut world, away);
    world.run_until("the first file is on its way", |world| is_pulling(world, away));
    let old = world.leader().unwrap();
    let other = (1..=3).find(|node| *node != old && *node != away).unwrap();
    // The next leader has another file only, of a later index and as long.
    put(&mut world, "k0", &[0xa5; 32 * 1024]);
    world.run_until("it is everywhere", |world| applied(world, other) == applied(world, old));
    take(&mut world, other);
    world.crash(old, Crash::PowerCut);
    catches_up(&mut world, away);
    start(&mut world, old);
    assert!(get(&mut world, "k0").as_deref() == Some(&[0xa5; 32 * 1024][..]));
    assert!(get(&mut world, "k1").as_deref() == Some(&VALUE[..]));
}

/// S7: marks pass while a snapshot is written on a disk that takes long; none is lost, and the log stays short.
#[test]
fn s7_a_mark_that_passes_while_a_snapshot_is_written_is_not_lost() {
    let mut world = world(74, 64 << 20);
    let mark = 128 << 10;
    assert!(world.change_limits(|limits| limits.snapshot_bytes = mark));
    let leader = world.leader().unwrap();
    let slow = (1..=3).find(|node| *node != leader).unwrap();
    let sync = Duration::from_millis(60);
    world.set_disk(slow, DiskProfile { latency_min: sync, latency_max: sync * 2 });
    for number in 0..100 {
        put(&mut world, &format!("k{}", number % 8), &VALUE);
    }
    let last = applied(&world, leader);
    world.run_until("the slow node has applied all", |world| applied(world, slow) >= last);
    // A mark lies at most every fifth entry, so the newest snapshot is no further behind.
    world.run_until("the newest mark's snapshot is in force", |world| in_force(world, slow).0 + 5 >= last.0);
    let held = last.0 - world.node(slow).unwrap().raft().base().index.0;
    assert!(held <= 10, "{held} entries are kept");
}

/// S8: the only peer that a leader hears gets a snapshot for ten seconds: that is contact.
#[test]
fn s8_a_leader_keeps_its_place_through_a_transfer_that_lasts_many_election_timeouts() {
    let (mut world, away) = with_one_far_behind(75, 64 << 10);
    let leader = world.leader().unwrap();
    let other = (1..=3).find(|node| *node != leader && *node != away).unwrap();
    start(&mut world, away);
    world.run_until("the transfer runs", |world| is_pulling(world, away));
    world.crash(other, Crash::Kill);
    let term = world.node(leader).unwrap().raft().term();
    for _ in 0..50 {
        world.run_for(Duration::from_millis(200));
        assert!(is_pulling(&world, away), "the transfer is over too soon");
        let raft = world.node(leader).unwrap().raft();
        assert_eq!((world.leader(), raft.term()), (Some(leader), term));
    }
    catches_up(&mut world, away);
    assert_eq!(world.node(leader).unwrap().raft().term(), term);
}

/// S9: who starts from a snapshot, its own or another's, knows the sessions and what was answered in them.
#[test]
fn s9_sessions_outlive_snapshots_on_every_way() {
    let (mut world, away) = with_one_far_behind(76, 64 << 20);
    start(&mut world, away);
    catches_up(&mut world, away);
    // Its own snapshot, taken again, and a restart of all: nothing but snapshots tells of the session.
    for node in 1..=3 {
        take(&mut world, node);
    }
    (1..=3).for_each(|node| world.crash(node, Crash::PowerCut));
    (1..=3).for_each(|node| start(&mut world, node));
    let command = Command::Cas { key: b"after", old: Some(b"it came back"), new: b"once" }.to_bytes();
    let id = world.propose(0, command, LONG);
    let answer = world.finish(0, id);
    let Ok(raftgram::Answer::Applied { result, .. }) = answer else {
        panic!("the session is forgotten: {answer:?}")
    };
    assert!(matches!(CommandResult::decode(&result).unwrap(), CommandResult::Done { .. }));
    // The node that was away leads, and serves the same session.
    for _ in 0..10 {
        match world.leader() {
            Some(leader) if leader == away => break,
            Some(leader) => world.transfer_leadership(leader),
            None => {}
        }
        world.run_for(Duration::from_secs(1));
    }
    assert!(matches!(put(&mut world, "after", b"twice"), CommandResult::Done { previous: Some(_) }));
}

/// S10: a node that campaigns when the offer comes follows whoever makes it.
#[test]
fn s10_a_campaigning_node_takes_the_snapshot_it_is_offered() {
    let (mut world, away) = with_one_far_behind(77, 128 << 10);
    start(&mut world, away);
    world.run_until("the transfer runs", |world| is_pulling(world, away));
    for other in (1..=3).filter(|node| *node != away) {
        let ends = [End::Node(usize::from(away) - 1), End::Node(usize::from(other) - 1)];
        world.block(ends[0], ends[1]);
        world.block(ends[1], ends[0]);
    }
    world.run_until("it campaigns", |world| {
        world.node(away).is_some_and(|node| {
            use raftgram::raft::RoleKind::{Candidate, PreCandidate};
            matches!(node.raft().role(), Candidate | PreCandidate)
        })
    });
    world.unblock_all();
    catches_up(&mut world, away);
    assert!(in_force(&world, away) > Index(KEYS as u64));
}
