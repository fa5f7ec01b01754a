//! Nodes of this version and the next in one cluster, as far as hellos show them (F24, U17). [W-68]

use raftgram::kv::CommandResult;
use raftgram::sim::Crash;

use super::{World, founded, get, lan, put, rough, start};

/// Restarts one node; the others serve on, and it comes back.
fn restart(world: &mut World, node: u16) {
    world.restart(node, Crash::Kill).unwrap();
    world.run_until("the restarted node has caught up", |world| {
        let leader = world.leader().and_then(|leader| world.node(leader));
        leader
            .zip(world.node(node))
            .is_some_and(|(leader, node)| node.applied() == leader.applied() && leader.applied().0 > 0)
    });
}

fn is_done(result: &CommandResult) -> bool {
    matches!(result, CommandResult::Done { .. })
}

#[test]
fn u17_a_cluster_serves_through_a_rolling_upgrade_and_back() {
    for (seed, links) in [(60, lan()), (61, rough())] {
        let mut world = founded(seed, links);
        let mut count = 0;
        let mut write = |world: &mut World| {
            count += 1;
            assert!(is_done(&put(world, &format!("k{count}"), b"v")), "k{count}");
        };
        write(&mut world);
        for node in 1..=3 {
            world.upgrade(node);
            restart(&mut world, node);
            write(&mut world);
            // Each of the two versions leads while both are there.
            if let Some(leader) = world.leader() {
                world.transfer_leadership(leader);
            }
            write(&mut world);
        }
        for node in 1..=3 {
            world.downgrade(node);
            restart(&mut world, node);
            write(&mut world);
        }
        for number in 1..=10 {
            assert_eq!(get(&mut world, &format!("k{number}")).as_deref(), Some(&b"v"[..]), "k{number}");
        }
    }
}

#[test]
fn u17_a_node_of_the_next_version_founds_with_others_and_leads() {
    let mut world = super::blank(62, lan());
    world.upgrade(1);
    world.found();
    put(&mut world, "k", b"v");
    for _ in 0..6 {
        if world.leader() == Some(1) {
            break;
        }
        let leader = world.leader().unwrap();
        world.crash(leader, Crash::Kill);
        world.run_until("another leads", |world| world.leader().is_some_and(|other| other != leader));
        start(&mut world, leader);
        put(&mut world, "k", b"v");
    }
    assert_eq!(world.leader(), Some(1), "the upgraded node never led");
    assert_eq!(get(&mut world, "k").as_deref(), Some(&b"v"[..]));
}
