//! L1: Raft paper §5.4.2, figure 8. An entry of an old term is on a majority and yet not committed, because a rival
//! whose log ends in a later term can still win and replace it. Only an entry of the leader's own term settles what
//! lies before it.
//!
//! ```text
//!        (a)      (b)      (c)        (d)        (e)
//!  s1    1 2      1 2      1 2 4      1 2 4      1 2 4
//!  s2    1 2      1 2      1 2        1 3 5      1 2 4
//!  s3    1        1        1 2        1 3 5      1 2 4
//!  s4    1        1        1          1 3 5      1
//!  s5    1        1 3      1 3        1 3 5      1 3
//! ```
//! A leader here begins with a no-op of its term, so the 4 is in its log at (c) already, and the 5 at (d).
//!
//! The script runs in the world without chance: who hears whom, and whose disk finishes what, is chosen.

use super::id;
use super::world::{Action, World};
use crate::message::{AppendOutcome, Message};
use crate::raft::RoleKind;
use crate::types::{Index, NodeId, Term};

/// Appends of one entry, so that the 2 can reach a follower without the 4.
fn world() -> World {
    World::new(5, |config| config.append_bytes_max = 1)
}

fn is_election(message: &Message) -> bool {
    use Message::{PreVote, PreVoteReply, Vote, VoteReply};
    matches!(message, PreVote(_) | PreVoteReply(_) | Vote(_) | VoteReply(_))
}

fn is_append(message: &Message) -> bool {
    matches!(message, Message::Append(_) | Message::AppendReply(_))
}

/// Among these nodes, and no others, every message of the kind arrives and every write is finished, until nothing
/// is left to do.
fn run(world: &mut World, among: &[u16], kind: fn(&Message) -> bool) {
    run_until(world, among, kind, |_| false);
}

/// As [`run`], one thing after the other until the condition holds.
fn run_until(world: &mut World, among: &[u16], kind: fn(&Message) -> bool, holds: fn(&World) -> bool) {
    let is_among = |node: NodeId| among.contains(&node.as_u16());
    while !holds(world) {
        let writing =
            world.nodes.iter().find(|(node, state)| is_among(**node) && !state.disk.pending.is_empty());
        let writing = writing.map(|(node, _)| Action::Persist(*node));
        let arriving = world.bag.iter().position(|f| is_among(f.from) && is_among(f.to) && kind(&f.message));
        let Some(action) = writing.or(arriving.map(Action::Deliver)) else { return };
        world.act(action);
    }
}

/// This node becomes leader of the term by the votes of these, and nobody has its no-op yet.
fn elect(world: &mut World, leader: u16, term: u64, voters: &[u16]) {
    world.act(Action::Timeout(id(leader)));
    run(world, voters, is_election);
    let raft = world.raft(id(leader));
    assert_eq!((raft.role(), raft.term()), (RoleKind::Leader, Term(term)), "{leader}");
    // What it said to the others is lost.
    world.bag.retain(|flight| voters.contains(&flight.to.as_u16()));
}

fn crash(world: &mut World, node: u16) {
    world.act(Action::Reboot(id(node), usize::MAX));
}

fn terms(world: &World, node: u16) -> Vec<u64> {
    world.raft(id(node)).entries_from(Index(1)).map(|entry| entry.term.0).collect()
}

/// Up to (c), the leader of term 4 having heard of a majority with the 2.
fn until_the_old_entry_is_on_a_majority() -> World {
    let mut world = world();
    elect(&mut world, 1, 1, &[1, 2, 3, 4, 5]);
    run(&mut world, &[1, 2, 3, 4, 5], is_append);
    assert!((1..=5).all(|node| terms(&world, node) == [1]), "all begin alike");
    // (a)
    crash(&mut world, 1);
    elect(&mut world, 1, 2, &[1, 2, 3, 4, 5]);
    run(&mut world, &[1, 2], is_append);
    assert_eq!((terms(&world, 1), terms(&world, 2), terms(&world, 3)), (vec![1, 2], vec![1, 2], vec![1]));
    // (b)
    crash(&mut world, 1);
    world.bag.clear();
    elect(&mut world, 5, 3, &[3, 4, 5]);
    assert_eq!(terms(&world, 5), [1, 3]);
    // (c)
    crash(&mut world, 5);
    world.bag.clear();
    // It learns of term 3 from those that voted in it, and asks again.
    world.act(Action::Timeout(id(1)));
    run(&mut world, &[1, 2, 3], is_election);
    elect(&mut world, 1, 4, &[1, 2, 3]);
    assert_eq!(terms(&world, 1), [1, 2, 4]);
    let has_two = |world: &World| terms(world, 3) == [1, 2] && world.nodes[&id(3)].disk.pending.is_empty();
    run_until(&mut world, &[1, 3], is_append, has_two);
    // The acknowledgement of the 2 reaches the leader; the 4 reaches nobody.
    let two = AppendOutcome::Accepted { match_index: Index(2) };
    let is_two = |message: &Message| matches!(message, Message::AppendReply(m) if m.outcome == two);
    let place = world.bag.iter().position(|f| (f.from, f.to) == (id(3), id(1)) && is_two(&f.message));
    world.act(Action::Deliver(place.expect("node 3 acknowledges the 2")));
    run(&mut world, &[1, 2], |message| is_append(message) && !carries_four(message));
    assert_eq!(
        [1, 2, 3].map(|node| terms(&world, node).get(1).copied()),
        [Some(2); 3],
        "the 2 is on a majority"
    );
    world
}

fn carries_four(message: &Message) -> bool {
    matches!(message, Message::Append(m) if m.entries.iter().any(|entry| entry.term == Term(4)))
}

/// (d): the rival of term 3 comes back, wins with the votes of the others, and replaces the 2 everywhere.
fn let_the_rival_replace_it(world: &mut World) {
    crash(world, 1);
    world.bag.clear();
    // Twice: first it learns the term.
    world.act(Action::Timeout(id(5)));
    run(world, &[2, 3, 4, 5], is_election);
    elect(world, 5, 5, &[2, 3, 4, 5]);
    run(world, &[2, 3, 4, 5], is_append);
}

#[test]
fn l1_an_entry_of_an_old_term_on_a_majority_is_not_committed_by_counting() {
    let mut world = until_the_old_entry_is_on_a_majority();
    assert_eq!(world.raft(id(1)).commit(), Index(0), "the 2 is not committed, nor what lies before it");
    let_the_rival_replace_it(&mut world);
    for node in 2..=5 {
        assert_eq!(terms(&world, node), [1, 3, 5], "node {node}");
    }
    assert_eq!(world.raft(id(5)).commit(), Index(3));
}

/// (e): with an entry of its own term on a majority the leader commits both, and the rival can no longer win.
#[test]
fn l1_an_entry_of_the_own_term_commits_those_before_it_for_good() {
    let mut world = until_the_old_entry_is_on_a_majority();
    run(&mut world, &[1, 2, 3], is_append);
    assert_eq!(world.raft(id(1)).commit(), Index(3), "the 4 is on a majority, and the 2 with it");
    crash(&mut world, 1);
    world.bag.clear();
    for _ in 0..3 {
        world.act(Action::Timeout(id(5)));
        run(&mut world, &[2, 3, 4, 5], is_election);
        assert_ne!(world.raft(id(5)).role(), RoleKind::Leader, "its log lacks what is committed");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn l1_a_leader_that_commits_old_terms_by_counting_is_caught() {
    use crate::mutant::{Mutant, activate};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    activate(Some(Mutant::L1));
    let mut world = until_the_old_entry_is_on_a_majority();
    let commit = world.raft(id(1)).commit();
    let caught = catch_unwind(AssertUnwindSafe(|| let_the_rival_replace_it(&mut world)));
    activate(None);
    assert_eq!(commit, Index(2), "the bug is on");
    let text = *caught.expect_err("nobody minds").downcast::<String>().unwrap();
    assert!(text.contains("n5 leads term 5 without entry 2"), "{text}");
}
