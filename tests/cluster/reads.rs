//! Reads of every level: at the leader, at any node, under a lease; through faults, and while nothing is wrong.

use std::time::Duration;

use raftgram::client::Answer;
use raftgram::fault::LinkConfig;
use raftgram::kv::{Answer as KvAnswer, Kv, Query};
use raftgram::sim::invariant::Language;
use raftgram::sim::{Crash, End, Settings, Simulation};
use raftgram::wire::client::ReadLevel;

use super::{LONG, World, founded, lan, put, rough};

/// Leases for clocks that are right within a tenth, and three nodes.
fn with_leases(seed: u64, link: LinkConfig) -> World {
    let settings = Settings {
        link,
        language: Language::Kv,
        lease_drift_ppm: Some(100_000),
        digest_interval: Some(Duration::from_millis(200)),
        ..Settings::new(seed, 3)
    };
    let mut world = Simulation::new(settings, Kv::new);
    world.found();
    world
}

fn read(world: &mut World, client: usize, level: ReadLevel) -> Option<u64> {
    let id = world.read(client, Query::Get { key: b"k" }.to_bytes(), level, LONG);
    match world.finish(client, id) {
        Ok(Answer::Read { result, .. }) => match KvAnswer::decode(&result).unwrap() {
            KvAnswer::Found { value, .. } => Some(u64::from_be_bytes(value.try_into().unwrap())),
            KvAnswer::Missing => None,
            other => panic!("{other:?}"),
        },
        other => panic!("a read of level {level:?}: {other:?}"),
    }
}

/// [W-90] Each read sees the write that was answered right before it, whichever node answers.
#[test]
fn a_read_at_any_node_sees_what_was_written_before_under_loss_and_changes_of_leader() {
    for seed in 0..4 {
        let mut world = founded(70 + seed, rough());
        for value in 1..=60_u64 {
            put(&mut world, "k", &value.to_be_bytes());
            assert_eq!(read(&mut world, 0, ReadLevel::AnyNode), Some(value), "seed {seed}");
            if value % 20 == 0
                && let Some(leader) = world.leader()
            {
                world.restart(leader, Crash::Kill).unwrap();
            }
        }
        assert!(world.violation().is_none());
    }
}

/// Where a follower cannot ask its leader, its client is sent elsewhere, and nothing loops (R7).
#[test]
fn r7_a_follower_that_is_cut_off_sends_its_clients_elsewhere() {
    let mut world = founded(75, lan());
    put(&mut world, "k", &1_u64.to_be_bytes());
    let leader = world.leader().unwrap();
    let follower = (1..=3).find(|node| *node != leader).unwrap();
    let others: Vec<u16> = (1..=3).filter(|node| *node != follower).collect();
    for other in others {
        let (here, there) = (End::Node(usize::from(follower) - 1), End::Node(usize::from(other) - 1));
        world.block(here, there);
        world.block(there, here);
    }
    for value in 2..=20_u64 {
        put(&mut world, "k", &value.to_be_bytes());
        for _ in 0..3 {
            assert_eq!(read(&mut world, 0, ReadLevel::AnyNode), Some(value));
        }
    }
}

/// A lease read costs the client's round trip and no other.
#[test]
fn a_lease_read_needs_no_round_and_a_linearizable_one_does() {
    let mut world = with_leases(76, lan());
    put(&mut world, "k", &1_u64.to_be_bytes());
    world.run_for(Duration::from_millis(200));
    let mut time = |level| {
        let before = world.now();
        assert_eq!(read(&mut world, 0, level), Some(1));
        world.now().saturating_since(before)
    };
    time(ReadLevel::Linearizable);
    let (lease, round) = (time(ReadLevel::Lease), time(ReadLevel::Linearizable));
    assert!(lease < Duration::from_micros(150), "{lease:?}");
    assert!(round >= lease + Duration::from_micros(90), "{round:?} against {lease:?}");
}

/// R4: a leader that is cut off answers under its lease for less than another one takes to be elected.
#[test]
fn r4_a_leader_that_is_cut_off_never_answers_with_what_another_has_overwritten() {
    for (seed, rates) in [(77, [1.0, 1.0, 1.0]), (78, [0.9, 1.1, 1.1]), (79, [1.1, 0.9, 0.95])] {
        let mut world = with_leases(seed, lan());
        put(&mut world, "k", &1_u64.to_be_bytes());
        let leader = world.leader().unwrap();
        let reader = world.add_client();
        assert_eq!(read(&mut world, reader, ReadLevel::Lease), Some(1));
        // The leader's clock has the first rate: slow ones make long leases, quick ones early elections.
        let others: Vec<u16> = (1..=3).filter(|node| *node != leader).collect();
        for (node, rate) in [leader, others[0], others[1]].into_iter().zip(rates) {
            world.set_clock_rate(node, rate);
        }
        world.run_for(Duration::from_millis(300));
        for other in &others {
            let (here, there) = (End::Node(usize::from(leader) - 1), End::Node(usize::from(*other) - 1));
            world.block(here, there);
            world.block(there, here);
        }
        let mut newest = 1;
        for value in 2..40_u64 {
            let write = raftgram::kv::Command::Put { key: b"k", value: &value.to_be_bytes() }.to_bytes();
            let id = world.propose(0, write, LONG);
            for _ in 0..10 {
                let seen = read(&mut world, reader, ReadLevel::Lease).unwrap();
                assert!(seen >= newest, "seed {seed}: read {seen} after {newest} was written");
                world.run_for(Duration::from_millis(3));
            }
            world.finish(0, id).unwrap();
            newest = value;
        }
        assert!(world.violation().is_none());
    }
}

/// R5: the order to campaign ends the lease before it leaves.
#[test]
fn r5_reads_under_a_lease_stay_true_while_leadership_is_handed_around() {
    for seed in 80..84 {
        let mut world = with_leases(seed, rough());
        for value in 1..=40_u64 {
            put(&mut world, "k", &value.to_be_bytes());
            assert_eq!(read(&mut world, 0, ReadLevel::Lease), Some(value), "seed {seed}");
            if value % 4 == 0
                && let Some(leader) = world.leader()
            {
                world.transfer_leadership(leader);
                assert_eq!(read(&mut world, 0, ReadLevel::Lease), Some(value), "seed {seed}, handing over");
            }
        }
        assert!(world.violation().is_none());
    }
}
