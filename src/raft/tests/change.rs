//! Changing the membership: Raft paper §6, thesis §4, design.md §5 and §6.

use super::bench::{Bench, Setup, appends_to, cancelled, heartbeat, notices_to, reply, requests_to, traffic};
use super::cluster::ms;
use super::{command, id, identity, members, voters};
use crate::entry::{Entry, Payload};
use crate::membership::{Member, Membership, MembershipChange, MembershipError};
use crate::message::{Message, Transfer};
use crate::raft::{ChangeError, ProposeError, RoleKind, TransferError};
use crate::types::{Incarnation, Index, StoreId, Term};

fn member(number: u16) -> Member {
    members(&[number]).remove(&id(number)).unwrap()
}

fn add(number: u16) -> MembershipChange {
    MembershipChange::Add { node: id(number), member: member(number) }
}

fn promote(number: u16) -> MembershipChange {
    MembershipChange::Promote { node: id(number) }
}

fn remove(number: u16) -> MembershipChange {
    MembershipChange::Remove { node: id(number) }
}

fn unfit(error: MembershipError) -> ChangeError {
    ChangeError::Unfit(error)
}

/// Node 1 leads `count` voters, who answered its first heartbeat and acknowledged its no-op.
fn leader(count: u16) -> Bench {
    let (mut node, _) = Setup::voters(count).lead();
    for peer in 2..=count {
        node.accept(peer, 0, 1);
        node.hear(peer, 1);
        node.raft.handle_connected(node.now, identity(peer), Incarnation(1));
    }
    assert_eq!(node.raft.commit(), Index(1));
    node
}

fn change(node: &mut Bench, change: &MembershipChange) -> Result<u64, ChangeError> {
    node.raft.change_membership(node.now, None, change).map(|index| index.0)
}

/// A learner that has everything, and says so.
fn catch_up(node: &mut Bench, learner: u16) {
    let attempt = appends_to(&node.drain(), learner).last().map_or(0, |append| append.attempt);
    let last = node.raft.last_index().0;
    node.accept(learner, attempt, last);
    node.hear(learner, 1);
}

fn shape(node: &Bench) -> String {
    node.raft.membership().to_string()
}

/// M1: Ongaro, raft-dev 2015. The two others are the same refusal, of a promotion and a removal.
#[test]
fn m1_a_new_leader_changes_nothing_before_it_has_committed() {
    let (mut node, _) = Setup::voters(3).lead();
    node.hear(2, 1);
    for wish in [add(4), remove(2), remove(1)] {
        assert_eq!(change(&mut node, &wish), Err(ChangeError::NotReady), "{wish}");
    }
    node.accept(2, 0, 1);
    assert_eq!(change(&mut node, &add(4)), Ok(2));
}

#[test]
fn a_learner_is_sent_to_from_the_moment_it_is_in_the_log() {
    let mut node = leader(3);
    assert_eq!(change(&mut node, &add(4)), Ok(2));
    assert_eq!(shape(&node), "voters=n1,n2,n3 learners=n4");
    let outputs = node.drain();
    assert_eq!(appends_to(&outputs, 4).len(), 1, "before anything is committed");
    let beats = node.wait(ms(30));
    assert_eq!(notices_to(&beats, 4).len(), 1);
    // It counts for nothing: with its acknowledgement alone nothing is committed.
    catch_up(&mut node, 4);
    assert_eq!(node.raft.commit(), Index(1));
    node.accept(2, 0, 2);
    assert_eq!((node.raft.commit(), node.raft.is_membership_settled()), (Index(2), true));
}

/// M11: the second of two changes waits; asking for the first again is harmless, whoever asks.
#[test]
fn m11_one_change_at_a_time_and_the_same_one_again_does_no_harm() {
    let mut node = leader(3);
    assert_eq!(change(&mut node, &add(4)), Ok(2));
    assert_eq!(change(&mut node, &add(5)), Err(ChangeError::Running { index: Index(2) }));
    assert_eq!(change(&mut node, &add(4)), Ok(2));
    catch_up(&mut node, 4);
    node.accept(2, 0, 2);
    assert_eq!(change(&mut node, &promote(4)), Ok(3));
    for wish in [add(4), promote(4)] {
        assert_eq!(change(&mut node, &wish), Ok(3), "{wish} is so already");
    }
    assert_eq!(change(&mut node, &remove(2)), Err(ChangeError::Running { index: Index(3) }));
    node.drain();
    node.accept(2, 0, 3);
    node.accept(3, 0, 3);
    assert_eq!(shape(&node), "voters=n1,n2,n3,n4");
    let running = ChangeError::Running { index: Index(4) };
    assert_eq!(change(&mut node, &remove(2)), Err(running), "left, and not committed");
}

#[test]
fn a_change_of_another_membership_than_the_caller_saw_is_refused() {
    let mut node = leader(3);
    let result = node.raft.change_membership(node.now, Some(Index(7)), &add(4));
    assert_eq!(result, Err(ChangeError::Version { expected: Index(7), actual: Index(0) }));
    assert_eq!(node.raft.change_membership(node.now, Some(Index(0)), &add(4)), Ok(Index(2)));
    node.drain();
    node.accept(2, 0, 2);
    let result = node.raft.change_membership(node.now, Some(Index(0)), &add(5));
    assert_eq!(result, Err(ChangeError::Version { expected: Index(0), actual: Index(2) }));
}

/// M12, thesis §4.2.1: a commit must not have to wait for a log to be copied.
#[test]
fn m12_a_learner_is_promoted_only_when_it_is_near_and_answers() {
    let (mut node, _) = Setup::voters(3).tune(|config| config.promotion_lag_max = 2).lead();
    node.accept(2, 0, 1);
    node.hear(2, 1);
    node.hear(3, 1);
    change(&mut node, &add(4)).unwrap();
    node.drain();
    node.accept(2, 0, 2);
    assert_eq!(change(&mut node, &promote(4)), Err(ChangeError::Silent { node: id(4) }));
    node.hear(4, 1);
    assert_eq!(
        change(&mut node, &promote(4)),
        Err(ChangeError::NotCaughtUp { node: id(4), lag: 2 }),
        "not even itself"
    );
    node.accept(4, 0, 2);
    for text in ["a", "b", "c"] {
        node.raft.propose(node.now, command(text)).unwrap();
    }
    node.drain();
    assert_eq!(change(&mut node, &promote(4)), Err(ChangeError::NotCaughtUp { node: id(4), lag: 3 }));
    assert!(!node.raft.is_caught_up(node.now, id(4)));
    node.accept(4, 0, 3);
    assert!(node.raft.is_caught_up(node.now, id(4)));
    // An answer that lay waiting while the leader was paused tells nothing of now.
    let before = node.now;
    node.now = before + node.raft.config.election_timeout_max;
    node.hear(4, 1);
    assert!(!node.raft.is_caught_up(node.now, id(4)));
    node.now = before;
    assert_eq!(change(&mut node, &promote(4)), Ok(6));
}

/// M2: by whoever leads when the joint entry is committed, and once.
#[test]
fn m2_a_joint_membership_is_left_once() {
    let mut node = leader(3);
    change(&mut node, &add(4)).unwrap();
    catch_up(&mut node, 4);
    node.accept(2, 0, 2);
    change(&mut node, &promote(4)).unwrap();
    assert_eq!(shape(&node), "voters=n1,n2,n3,n4 outgoing=n1,n2,n3");
    node.drain();
    node.accept(2, 0, 3);
    assert_eq!(node.raft.commit(), Index(2), "two of the four");
    node.accept(3, 0, 3);
    assert_eq!((shape(&node).as_str(), node.raft.last_index()), ("voters=n1,n2,n3,n4", Index(4)));
    assert!(!node.raft.is_membership_settled());
    for peer in [2, 3] {
        node.accept(peer, 0, 4);
        node.wait(ms(30));
        node.hear(peer, 2);
    }
    assert_eq!((node.raft.commit(), node.raft.last_index()), (Index(4), Index(4)));
    assert!(node.raft.is_membership_settled());
}

#[test]
fn m2_a_leader_leaves_what_a_former_one_began() {
    let joint = Membership { outgoing: members(&[1, 2, 3]), ..voters(&[1, 2, 3, 4]) };
    let mut setup = Setup::voters(3).log(&[1]);
    let prev = setup.entries[0].chain;
    setup.entries.push(Entry::new(
        super::CLUSTER,
        Index(2),
        Term(1),
        Payload::Membership(joint.into()),
        prev,
    ));
    let (mut node, _) = setup.lead();
    assert!(node.raft.membership().is_joint());
    node.accept(2, 0, 2);
    node.accept(3, 0, 2);
    assert_eq!(node.raft.commit(), Index(0), "nothing of its own term");
    node.accept(2, 0, 3);
    node.accept(3, 0, 3);
    assert_eq!((shape(&node).as_str(), node.raft.last_index()), ("voters=n1,n2,n3,n4", Index(4)));
}

/// M5, M6: whoever lost its data comes back as another store, and never in the place of the former one.
#[test]
fn m5_m6_another_store_of_an_id_is_refused_until_the_former_one_is_removed() {
    let mut node = leader(3);
    let wiped = Member { store: StoreId([0x33; 16]), address: "127.0.0.1:7103".to_owned() };
    let readd = MembershipChange::Add { node: id(3), member: wiped.clone() };
    assert_eq!(change(&mut node, &readd), Err(unfit(MembershipError::Taken { node: id(3) })));
    let under_another = MembershipChange::Add { node: id(4), member: member(3) };
    assert_eq!(change(&mut node, &under_another), Err(unfit(MembershipError::StoreInUse { node: id(3) })));
    assert_eq!(change(&mut node, &remove(3)), Ok(2));
    assert!(matches!(change(&mut node, &readd), Err(ChangeError::Running { .. })));
    node.drain();
    node.accept(2, 0, 2);
    node.accept(2, 0, 3);
    assert_eq!(shape(&node), "voters=n1,n2");
    assert_eq!(change(&mut node, &readd), Ok(4));
    let outputs = node.drain();
    assert_eq!(cancelled(&outputs), [id(3)], "what was open to the former store");
    // What the former store says counts for nothing any more.
    node.accept(3, 0, 4);
    let peer = node.raft.peers().find(|peer| peer.identity.node == id(3)).unwrap();
    assert_eq!((peer.identity.store, peer.match_index), (wiped.store, Index(0)));
}

/// An acknowledgement from before the removal is not one of the same store's next stay: it may have lost its log.
#[test]
fn a_store_that_comes_back_begins_anew() {
    let mut node = leader(3);
    change(&mut node, &remove(3)).unwrap();
    node.drain();
    for index in [2, 3] {
        node.accept(2, 0, index);
    }
    for _ in 0..30 {
        node.wait(ms(25));
        node.hear(2, 1);
    }
    assert_eq!(node.raft.peers().count(), 1);
    assert_eq!(change(&mut node, &add(3)), Ok(4));
    let attempt = appends_to(&node.drain(), 3)[0].attempt;
    assert!(attempt > 0, "numbers go on from those of its last stay");
    node.accept(3, 0, 3);
    let peer = node.raft.peers().find(|peer| peer.identity == identity(3)).unwrap();
    assert_eq!(peer.match_index, Index(0));
    node.accept(3, attempt, 3);
    let peer = node.raft.peers().find(|peer| peer.identity == identity(3)).unwrap();
    assert_eq!(peer.match_index, Index(3));
}

/// M7: redisraft#17. That they were its voters when it was elected is no sign of life.
#[test]
fn m7_a_change_that_those_alive_could_not_commit_is_refused() {
    let (mut node, _) = Setup::voters(3).lead();
    node.accept(2, 0, 1);
    node.hear(2, 1);
    let at_risk = ChangeError::QuorumAtRisk { alive: 1, needed: 2 };
    assert_eq!(change(&mut node, &remove(2)), Err(at_risk), "n3 was never heard");
    assert_eq!(change(&mut node, &remove(3)), Ok(2), "the silent one may go");
    let mut node = leader(3);
    for _ in 0..19 {
        node.wait(ms(25));
        node.hear(2, 1);
    }
    node.wait(ms(25));
    assert_eq!(node.raft.role(), RoleKind::Leader);
    assert_eq!(change(&mut node, &remove(2)), Err(at_risk), "n3 is silent for an election timeout");
}

#[test]
fn what_no_membership_can_be_is_refused() {
    let mut node = leader(3);
    let unknown = unfit(MembershipError::Unknown { node: id(9) });
    assert_eq!(change(&mut node, &remove(9)), Err(unknown));
    assert_eq!(change(&mut node, &promote(9)), Err(unknown));
    let moved = |address: &str| MembershipChange::Move { node: id(2), address: address.to_owned() };
    assert_eq!(change(&mut node, &moved("")), Err(unfit(MembershipError::Address)));
    assert_eq!(change(&mut node, &moved("elsewhere:1")), Ok(2));
    let (mut alone, _) = Setup::voters(1).lead();
    assert_eq!(change(&mut alone, &remove(1)), Err(unfit(MembershipError::LastVoter)));
    let mut follower = Setup::voters(3).boot();
    follower.receive(2, heartbeat(1, 1, 0));
    let not_leader = ChangeError::NotLeader { leader: Some(id(2)) };
    assert_eq!(change(&mut follower, &add(4)), Err(not_leader));
}

/// M8: etcd-io/raft testdata/confchange_v1_remove_leader*.txt.
#[test]
fn m8_a_leader_that_removes_itself_does_not_count_itself_and_hands_over() {
    let mut node = leader(3);
    change(&mut node, &remove(1)).unwrap();
    node.drain();
    node.accept(2, 0, 2);
    assert_eq!(node.raft.commit(), Index(1), "one of the two that stay");
    node.accept(3, 0, 2);
    assert_eq!((node.raft.commit(), shape(&node).as_str()), (Index(2), "voters=n2,n3"));
    node.accept(2, 0, 3);
    assert_eq!((node.raft.commit(), node.raft.role()), (Index(2), RoleKind::Leader));
    let outputs = node.accept(3, 0, 3);
    assert_eq!(node.raft.commit(), Index(3));
    let order = Transfer { term: Term(1), incarnation: Incarnation(1), last_index: Index(3) };
    assert_eq!(requests_to(&outputs, 2), [Message::Transfer(order)]);
    assert_eq!(node.raft.propose(node.now, command("x")), Err(ProposeError::Transferring { to: id(2) }));
    for _ in 0..21 {
        node.wait(ms(25));
        node.hear(2, 1);
        node.hear(3, 1);
    }
    assert_eq!(node.raft.role(), RoleKind::Follower, "nobody took over");
    assert!(traffic(&node.wait(ms(5_000))).is_empty(), "E13: and it never campaigns");
}

#[test]
fn m8_a_removed_leader_that_knows_no_boot_of_the_others_steps_down_at_once() {
    let (mut node, _) = Setup::voters(2).lead();
    node.accept(2, 0, 1);
    node.hear(2, 1);
    change(&mut node, &remove(1)).unwrap();
    node.drain();
    node.accept(2, 0, 2);
    node.accept(2, 0, 3);
    assert_eq!((node.raft.commit(), node.raft.role()), (Index(3), RoleKind::Follower));
}

/// M9: what is open to a removed node is given up a moment after its removal is committed; until then it is told.
#[test]
fn m9_a_removed_follower_is_told_for_a_while_and_then_given_up() {
    let mut node = leader(3);
    change(&mut node, &remove(3)).unwrap();
    node.drain();
    node.accept(2, 0, 2);
    let outputs = node.accept(2, 0, 3);
    assert!(node.raft.is_membership_settled());
    assert_eq!(cancelled(&outputs), []);
    let mut outputs = Vec::new();
    for _ in 0..19 {
        outputs.extend(node.wait(ms(25)));
        node.hear(2, 1);
    }
    assert!(!notices_to(&outputs, 3).is_empty());
    let mut outputs = node.wait(ms(50));
    node.hear(2, 1);
    assert!(cancelled(&outputs).contains(&id(3)));
    outputs = node.wait(ms(200));
    assert!(notices_to(&outputs, 3).is_empty() && requests_to(&outputs, 3).is_empty());
    assert_eq!(node.raft.peers().count(), 1);
}

/// E13, thesis §4.2.2: while the entry that leaves it out may be cut off, an outgoing voter stands.
#[test]
fn an_outgoing_voter_stands_until_it_knows_that_it_is_removed() {
    let setup = || {
        let joint = Membership { outgoing: members(&[1, 2, 3]), ..voters(&[2, 3]) };
        let mut setup = Setup::voters(3).log(&[1]);
        for membership in [joint, voters(&[2, 3])] {
            let last = setup.entries.last().unwrap();
            let payload = Payload::Membership(membership.into());
            let entry = Entry::new(super::CLUSTER, last.index.next(), Term(1), payload, last.chain);
            setup.entries.push(entry);
        }
        setup.boot()
    };
    let mut node = setup();
    let outputs = node.wait(ms(500));
    assert_eq!(node.raft.role(), RoleKind::PreCandidate);
    assert_eq!((requests_to(&outputs, 2).len(), requests_to(&outputs, 3).len()), (1, 1));
    let mut node = setup();
    node.receive(2, heartbeat(1, 1, 3));
    assert!(traffic(&node.wait(ms(5_000))).is_empty());
    assert_eq!(node.raft.role(), RoleKind::Follower);
}

#[test]
fn leadership_goes_to_no_learner() {
    let mut node = leader(3);
    change(&mut node, &add(4)).unwrap();
    node.raft.handle_connected(node.now, identity(4), Incarnation(1));
    catch_up(&mut node, 4);
    assert_eq!(node.raft.transfer_leadership(node.now, Some(id(4))), Err(TransferError::NoTarget));
    let learner = Membership { learners: members(&[1]), ..voters(&[2, 3]) };
    let mut node = Setup::voters(3).membership(learner).term(1).boot();
    let order = Transfer { term: Term(1), incarnation: Incarnation(1), last_index: Index(0) };
    let outputs = node.receive(2, Message::Transfer(order));
    let Message::TransferReply(answer) = reply(&outputs) else { panic!() };
    assert!(!answer.is_taken);
}

#[test]
fn no_change_while_leadership_is_handed_over() {
    let mut node = leader(3);
    node.raft.transfer_leadership(node.now, Some(id(2))).unwrap();
    assert_eq!(change(&mut node, &add(4)), Err(ChangeError::Transferring { to: id(2) }));
    assert_eq!(node.raft.transferring(), Some(id(2)));
}
