//! Nodes that come, go, move and are replaced; leadership that is handed over. The core has scripts of its own; here
//! are whole nodes: hellos, links, data folders and clients.

use std::time::Duration;

use raftgram::client::{Answer, ClientError};
use raftgram::fault::LinkConfig;
use raftgram::kv::Kv;
use raftgram::membership::{Member, MembershipChange};
use raftgram::sim::invariant::Language;
use raftgram::sim::{Crash, End, Settings, Simulation};
use raftgram::types::{Index, NodeId, StoreId};
use raftgram::wire::member::{ChangeRefusal, MembershipState};
use raftgram::wire::status::Standing;

use super::{LONG, World, get, lan, put, rough};

fn id(node: u16) -> NodeId {
    NodeId::new(node).unwrap()
}

/// Three founders that serve, and two nodes that were never started.
fn three_of_five(seed: u64, link: LinkConfig) -> World {
    let settings = Settings { link, language: Language::Kv, founders: 3, ..Settings::new(seed, 5) };
    let mut world = Simulation::new(settings, Kv::new);
    world.found();
    world
}

fn add(world: &World, node: u16) -> MembershipChange {
    let member = Member { store: StoreId([0; 16]), address: world.address(node) };
    MembershipChange::Add { node: id(node), member }
}

fn promote(node: u16) -> MembershipChange {
    MembershipChange::Promote { node: id(node) }
}

fn remove(node: u16) -> MembershipChange {
    MembershipChange::Remove { node: id(node) }
}

fn change(
    world: &mut World,
    expected: Option<Index>,
    change: MembershipChange,
) -> Result<Box<MembershipState>, ClientError> {
    let asked = world.change_membership(0, expected, change, LONG);
    match world.finish(0, asked) {
        Ok(Answer::Members(state)) => Ok(state),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    }
}

#[track_caller]
fn changed(world: &mut World, what: MembershipChange) -> Box<MembershipState> {
    let text = what.to_string();
    change(world, None, what).unwrap_or_else(|error| panic!("{text}: {error}\n{}", world.describe()))
}

#[track_caller]
fn refused(world: &mut World, expected: Option<Index>, what: MembershipChange) -> ChangeRefusal {
    let text = what.to_string();
    match change(world, expected, what) {
        Err(ClientError::ChangeRefused { refusal, .. }) => refusal,
        other => panic!("{text} came to {other:?}"),
    }
}

fn members(world: &mut World) -> Box<MembershipState> {
    let asked = world.members(0, LONG);
    match world.finish(0, asked) {
        Ok(Answer::Members(state)) => state,
        other => panic!("{other:?}"),
    }
}

fn voters(state: &MembershipState) -> Vec<u16> {
    state.membership.voters.keys().map(|node| node.as_u16()).collect()
}

fn learners(state: &MembershipState) -> Vec<u16> {
    state.membership.learners.keys().map(|node| node.as_u16()).collect()
}

/// Starts a node that joins, and waits until it runs.
fn join(world: &mut World, node: u16) {
    world.join(node).unwrap();
    world.run_until("it has joined", |world| world.node(node).is_some());
}

/// Waits until the leader knows that the node has everything.
fn wait_until_caught_up(world: &mut World, node: u16) {
    let deadline = world.now() + LONG;
    while !members(world).members.iter().any(|row| row.node == id(node) && row.is_heard && row.is_caught_up) {
        assert!(world.now() < deadline, "{node} does not catch up\n{}", world.describe());
        world.run_for(Duration::from_millis(10));
    }
}

/// Takes a node in as a voter.
fn grow(world: &mut World, node: u16) {
    join(world, node);
    let what = add(world, node);
    changed(world, what);
    wait_until_caught_up(world, node);
    let state = changed(world, promote(node));
    assert!(voters(&state).contains(&node), "{:?}", state.membership);
}

fn standing(world: &World, node: u16) -> Standing {
    world.node(node).unwrap().standing()
}

#[test]
fn a_cluster_grows_from_three_to_five_and_shrinks_again() {
    for (seed, links) in [(100, lan()), (101, rough())] {
        let mut world = three_of_five(seed, links);
        put(&mut world, "before", b"1");
        join(&mut world, 4);
        assert_eq!(standing(&world, 4), Standing::Joining);
        let what = add(&world, 4);
        let state = changed(&mut world, what);
        assert_eq!((voters(&state), learners(&state)), (vec![1, 2, 3], vec![4]));
        assert!(state.is_settled && state.version > Index(0));
        wait_until_caught_up(&mut world, 4);
        assert_eq!(standing(&world, 4), Standing::Member);
        changed(&mut world, promote(4));
        grow(&mut world, 5);
        assert_eq!(voters(&members(&mut world)), [1, 2, 3, 4, 5]);
        put(&mut world, "between", b"2");
        // Two founders may go now, of which one leads most likely.
        let leader = world.leader().unwrap();
        for node in [leader, (1..=3).find(|node| *node != leader).unwrap()] {
            let state = changed(&mut world, remove(node));
            assert!(!voters(&state).contains(&node));
            world.run_until("it knows", |world| standing(world, node) == Standing::Removed);
        }
        put(&mut world, "after", b"3");
        for (key, value) in [("before", b"1"), ("between", b"2"), ("after", b"3")] {
            assert_eq!(get(&mut world, key).as_deref(), Some(&value[..]), "{key}");
        }
        let state = members(&mut world);
        assert_eq!(voters(&state).len(), 3, "{}", state.membership);
        // Whoever was removed disturbs nobody.
        let term = state.term;
        world.run_for(Duration::from_secs(10));
        assert_eq!(members(&mut world).term, term, "seed {seed}");
    }
}

/// Scenario M6: what says it is a member and has not its data folder is no member, until it is replaced.
#[test]
fn m6_a_wiped_node_is_refused_as_a_voter_and_brought_back_under_its_new_store() {
    let mut world = three_of_five(102, lan());
    put(&mut world, "k", b"v");
    let wiped = (1..=3).find(|node| Some(*node) != world.leader()).unwrap();
    let other = (1..=3).find(|node| Some(*node) != world.leader() && *node != wiped).unwrap();
    world.wipe(wiped);
    join(&mut world, wiped);
    world.run_until("it knows that it does not count", |world| standing(world, wiped) == Standing::Replaced);
    // With the other one down, its word would be a quorum's: nothing may be committed.
    world.crash(other, Crash::Kill);
    let before = world.node(world.leader().unwrap()).unwrap().raft().commit();
    let asked = world.propose(0, raftgram::kv::Command::Put { key: b"x", value: b"y" }.to_bytes(), LONG);
    world.run_for(Duration::from_secs(3));
    assert!((1..=3).filter_map(|node| world.node(node)).all(|node| node.raft().commit() <= before));
    world.start(other).unwrap();
    world.finish(0, asked).unwrap();
    let what = add(&world, wiped);
    assert_eq!(refused(&mut world, None, what.clone()), ChangeRefusal::Taken { node: id(wiped) });
    changed(&mut world, remove(wiped));
    changed(&mut world, what);
    wait_until_caught_up(&mut world, wiped);
    changed(&mut world, promote(wiped));
    assert_eq!(standing(&world, wiped), Standing::Member);
    // It counts: with the other one down, it is the quorum's second.
    world.crash(other, Crash::Kill);
    put(&mut world, "k", b"w");
}

// [W-83]
#[test]
fn an_address_where_nobody_or_another_node_answers_is_refused_in_bounded_time() {
    let mut world = three_of_five(103, lan());
    let before = members(&mut world);
    let asked = world.now();
    let what = add(&world, 4);
    assert_eq!(refused(&mut world, None, what), ChangeRefusal::Silent);
    assert!(world.now().saturating_since(asked) < Duration::from_secs(5));
    // Another member answers there.
    let member = Member { store: StoreId([0; 16]), address: world.address(2) };
    let other = MembershipChange::Add { node: id(4), member };
    assert_eq!(refused(&mut world, None, other), ChangeRefusal::OtherNode { node: id(2) });
    let away = MembershipChange::Move { node: id(3), address: world.address(5) };
    assert_eq!(refused(&mut world, None, away), ChangeRefusal::Silent);
    let name = MembershipChange::Move { node: id(3), address: "no-address".to_owned() };
    assert_eq!(refused(&mut world, None, name), ChangeRefusal::Address);
    let after = members(&mut world);
    assert_eq!((after.version, after.membership), (before.version, before.membership));
    put(&mut world, "k", b"v");
}

#[test]
fn what_cannot_be_changed_now_is_refused_with_the_reason_and_nothing_wedges() {
    let mut world = three_of_five(104, lan());
    let before = members(&mut world);
    assert_eq!(refused(&mut world, None, remove(9)), ChangeRefusal::Unknown { node: id(9) });
    assert_eq!(refused(&mut world, None, promote(4)), ChangeRefusal::Unknown { node: id(4) });
    let expected = Index(before.version.0 + 7);
    let version = ChangeRefusal::Version { expected, actual: before.version };
    assert_eq!(refused(&mut world, Some(expected), remove(3)), version);
    // One of three is down: without another one, two of two would be needed, and one is heard.
    let leader = world.leader().unwrap();
    let (down, up) = match leader {
        1 => (2, 3),
        2 => (1, 3),
        _ => (1, 2),
    };
    world.crash(down, Crash::Kill);
    world.run_for(Duration::from_secs(1));
    assert_eq!(refused(&mut world, None, remove(up)), ChangeRefusal::QuorumAtRisk { alive: 1, needed: 2 });
    let after = members(&mut world);
    assert_eq!((after.version, after.membership), (before.version, before.membership));
    // The dead one may go.
    changed(&mut world, remove(down));
    put(&mut world, "k", b"v");
}

/// Scenario M12.
#[test]
fn m12_a_learner_that_lags_is_not_promoted() {
    let mut world = three_of_five(105, lan());
    join(&mut world, 4);
    let what = add(&world, 4);
    changed(&mut world, what);
    wait_until_caught_up(&mut world, 4);
    world.crash(4, Crash::Kill);
    world.run_for(Duration::from_secs(1));
    assert_eq!(refused(&mut world, None, promote(4)), ChangeRefusal::Unheard { node: id(4) });
    world.start(4).unwrap();
    wait_until_caught_up(&mut world, 4);
    changed(&mut world, promote(4));
}

/// Scenario M11: of two changes at once one is refused, or comes after the other.
#[test]
fn m11_two_changes_at_once_do_not_interleave() {
    for seed in 0..8 {
        let mut world = three_of_five(110 + seed, rough());
        world.add_client();
        join(&mut world, 4);
        join(&mut world, 5);
        let (one, two) = (add(&world, 4), add(&world, 5));
        let first = world.change_membership(0, None, one.clone(), LONG);
        let second = world.change_membership(1, None, two.clone(), LONG);
        let (first, second) = (world.finish(0, first), world.finish(1, second));
        for (what, result) in [(one, first), (two, second)] {
            match result {
                Ok(_) => {}
                Err(ClientError::ChangeRefused { refusal: ChangeRefusal::Running { .. }, .. }) => {
                    changed(&mut world, what);
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert_eq!(learners(&members(&mut world)), [4, 5], "seed {seed}");
    }
}

/// A client's change survives the death of the leader that began it: it is asked for again, or was done.
#[test]
fn a_change_outlives_the_leader_that_began_it() {
    for seed in 0..12 {
        let mut world = three_of_five(120 + seed, lan());
        grow(&mut world, 4);
        grow(&mut world, 5);
        let leader = world.leader().unwrap();
        let gone = (1..=5).find(|node| *node != leader).unwrap();
        let asked = world.change_membership(0, None, remove(gone), LONG);
        // At some moment of the change, drawn by the seed.
        world.run_for(Duration::from_micros(150 + 400 * seed));
        world.crash(leader, Crash::PowerCut);
        match world.finish(0, asked) {
            Ok(Answer::Members(state)) => assert!(!voters(&state).contains(&gone), "seed {seed}"),
            Err(ClientError::Superseded) => {
                changed(&mut world, remove(gone));
            }
            // One of five is down, one of those that remain: four answer no more than that.
            other => panic!("seed {seed}: {other:?}"),
        }
        world.start(leader).unwrap();
        let state = members(&mut world);
        assert!(state.is_settled && !state.membership.is_joint(), "seed {seed}: {}", state.membership);
        put(&mut world, "k", b"v");
    }
}

/// A node that was away when it was removed hears of it when it is back.
#[test]
fn a_node_removed_while_it_was_away_learns_of_it_and_disturbs_nobody() {
    let mut world = three_of_five(130, lan());
    let away = (1..=3).find(|node| Some(*node) != world.leader()).unwrap();
    world.crash(away, Crash::PowerCut);
    world.run_for(Duration::from_secs(1));
    changed(&mut world, remove(away));
    world.run_for(Duration::from_secs(2));
    let term = members(&mut world).term;
    world.start(away).unwrap();
    world.run_until("it knows", |world| standing(world, away) == Standing::Removed);
    world.run_for(Duration::from_secs(10));
    assert_eq!(members(&mut world).term, term);
    // Taken in again, with its folder as it is.
    let what = add(&world, away);
    changed(&mut world, what);
    wait_until_caught_up(&mut world, away);
    assert_eq!(standing(&world, away), Standing::Member);
    changed(&mut world, promote(away));
}

/// Scenario E13: cut off, it would raise terms; it asks for pre-votes only, and hears that it is gone.
#[test]
fn e13_a_removed_node_that_was_cut_off_deposes_nobody() {
    let mut world = three_of_five(131, lan());
    let away = (1..=3).find(|node| Some(*node) != world.leader()).unwrap();
    for other in (1..=3).filter(|other| *other != away) {
        world.block(End::node(away), End::node(other));
        world.block(End::node(other), End::node(away));
    }
    world.run_for(Duration::from_secs(1));
    changed(&mut world, remove(away));
    let term = members(&mut world).term;
    world.run_for(Duration::from_secs(5));
    world.unblock_all();
    world.run_until("it knows", |world| standing(world, away) == Standing::Removed);
    assert_eq!(members(&mut world).term, term);
}

#[test]
fn leadership_is_handed_over_when_asked_for() {
    for (seed, links) in [(140, lan()), (141, rough()), (142, rough())] {
        let mut world = three_of_five(seed, links);
        world.run_for(Duration::from_secs(1));
        let leader = world.leader().unwrap();
        let to = (1..=3).find(|node| *node != leader).unwrap();
        // A voter that the leader does not hear is no target.
        world.run_until("they hear each other", |world| {
            let Some(raft) = world.node(leader).map(|node| node.raft()) else { return false };
            raft.peers().any(|peer| peer.identity.node == id(to) && peer.match_index == raft.last_index())
        });
        let asked = world.hand_over(0, Some(id(to)), LONG);
        match world.finish(0, asked) {
            Ok(Answer::Transferred { leader, .. }) => assert_eq!(leader, id(to), "seed {seed}"),
            // The order was lost with a datagram, and the time for it ran out.
            Err(ClientError::NotTransferred { .. }) if seed > 140 => {}
            other => panic!("seed {seed}: {other:?}"),
        }
        let now = members(&mut world).leader;
        let asked = world.hand_over(0, Some(now), LONG);
        assert!(matches!(world.finish(0, asked), Ok(Answer::Transferred { leader, .. }) if leader == now));
        let asked = world.hand_over(0, Some(id(9)), LONG);
        let unknown = ChangeRefusal::Unknown { node: id(9) };
        match world.finish(0, asked) {
            Err(ClientError::ChangeRefused { refusal, .. }) => assert_eq!(refusal, unknown),
            other => panic!("seed {seed}: {other:?}"),
        }
    }
}

/// A joiner that is too far behind for the log gets a snapshot, membership included.
#[test]
fn a_joiner_is_brought_up_by_a_snapshot() {
    let settings =
        Settings { language: Language::Kv, founders: 3, log_tail_bytes: 0, ..Settings::new(150, 5) };
    let mut world = Simulation::new(settings, Kv::new);
    world.found();
    for number in 0..40 {
        put(&mut world, &format!("k{number}"), &[number; 3000]);
    }
    (1..=3).for_each(|node| world.take_snapshot(node));
    world.run_until("the log is cut", |world| {
        let leader = world.leader().and_then(|leader| world.node(leader));
        leader.is_some_and(|leader| leader.raft().base().index > Index(10))
    });
    grow(&mut world, 4);
    assert!(world.node(4).unwrap().snapshot().is_some());
    assert_eq!(get(&mut world, "k39").as_deref(), Some(&[39; 3000][..]));
}
