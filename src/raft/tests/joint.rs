//! Faults in the midst of a change of voters, on a whole cluster in virtual time.

use core::time::Duration;

use super::cluster::{Cluster, ms};
use super::members::store_of;
use super::{command, id, voters};
use crate::membership::{Member, Membership, MembershipChange};
use crate::raft::RoleKind;
use crate::types::{HardState, Index, NodeId, Term};

fn is_settled(cluster: &Cluster) -> bool {
    let settled = |leader: NodeId| {
        let raft = cluster.raft(leader.as_u16());
        raft.is_settled_leader() && raft.is_membership_settled()
    };
    cluster.leader().is_some_and(settled)
}

/// A cluster of `count` with a settled leader, its number, and those of the others.
fn led(seed: u64, count: u16) -> (Cluster, u16, Vec<u16>) {
    let mut cluster = Cluster::new(seed, count);
    assert!(cluster.run_until(ms(2_000), is_settled), "no leader");
    cluster.run_for(ms(60));
    let leader = cluster.leader().unwrap().as_u16();
    let others = (1..=count).filter(|number| *number != leader).collect();
    (cluster, leader, others)
}

fn shape(cluster: &Cluster, node: u16) -> String {
    cluster.raft(node).membership().to_string()
}

fn add(number: u16) -> MembershipChange {
    let member = Member { store: store_of(id(number), 0).store, address: format!("n{number}:1") };
    MembershipChange::Add { node: id(number), member }
}

/// A node that joins and is taken in as a learner that has everything.
fn join(cluster: &mut Cluster, number: u16) {
    cluster.add(id(number), Membership::default(), HardState::default(), Vec::new());
    let leader = cluster.leader().unwrap();
    cluster.change(leader, &add(number)).unwrap();
    assert!(
        cluster
            .run_until(ms(500), |c| is_settled(c) && c.raft(number).commit() == c.raft(number).last_index())
    );
    cluster.run_for(ms(60));
}

/// M2, M10: the leader is lost while half of the cluster knows of the joint membership and half does not. Of both
/// sides a majority lives, so one is elected, and it leaves the joint membership.
#[test]
fn m10_with_memberships_that_differ_a_leader_is_found_and_leaves_the_joint_one() {
    for seed in 0..20 {
        let (mut cluster, leader, others) = led(seed, 3);
        join(&mut cluster, 4);
        // One follower learns of the joint membership before the leader is lost.
        cluster.isolate(id(leader));
        cluster.cut.retain(|(a, b)| ![*a, *b].contains(&id(others[0])));
        cluster.change(id(leader), &MembershipChange::Promote { node: id(4) }).unwrap();
        cluster.run_for(ms(3));
        assert!(
            cluster.raft(others[0]).membership().is_joint()
                && !cluster.raft(others[1]).membership().is_joint()
        );
        cluster.crash(id(leader));
        cluster.cut.clear();
        assert!(cluster.run_until(ms(3_000), is_settled), "seed {seed}");
        for node in [others[0], others[1], 4] {
            assert!(cluster.run_until(ms(500), |c| shape(c, node) == "voters=n1,n2,n3,n4"), "seed {seed}");
        }
    }
}

/// E17, etcd-io/raft testdata/campaign_learner_must_vote.txt: one voter grows to two and is lost before the second
/// has heard of it. When it is back it needs the vote of a learner, for all that one knows.
#[test]
fn e17_a_learner_that_does_not_know_that_it_was_promoted_votes_when_asked() {
    let (mut cluster, leader, _) = led(1, 1);
    join(&mut cluster, 2);
    cluster.isolate(id(leader));
    cluster.change(id(leader), &MembershipChange::Promote { node: id(2) }).unwrap();
    cluster.run_for(ms(5));
    cluster.crash(id(leader));
    cluster.start(id(leader));
    cluster.cut.clear();
    assert_eq!(shape(&cluster, 2), "voters=n1 learners=n2");
    assert!(cluster.run_until(ms(3_000), is_settled));
    assert_eq!(shape(&cluster, leader), "voters=n1,n2");
}

/// E13: it does not know that it is removed, so it asks for pre-votes for ever.
#[test]
fn e13_a_removed_node_that_does_not_know_it_disturbs_nobody() {
    let (mut cluster, leader, others) = led(7, 3);
    let gone = others[0];
    cluster.isolate(id(gone));
    cluster.change(id(leader), &MembershipChange::Remove { node: id(gone) }).unwrap();
    cluster.run_for(ms(1_000));
    cluster.cut.clear();
    let (term, changes) = (cluster.raft(leader).term(), cluster.leader_changes);
    for _ in 0..100 {
        cluster.run_for(ms(50));
        assert!(cluster.propose(id(leader), command("x")));
    }
    cluster.run_for(ms(50));
    assert!(cluster.raft(gone).membership().is_voter(cluster.identity(id(gone))), "it does not know");
    assert_eq!((cluster.raft(leader).term(), cluster.leader_changes), (term, changes));
    assert_eq!(cluster.raft(leader).commit(), cluster.raft(leader).last_index());
}

#[test]
fn a_removed_node_that_is_reached_learns_of_it_and_keeps_still() {
    let (mut cluster, leader, others) = led(3, 3);
    cluster.change(id(leader), &MembershipChange::Remove { node: id(others[0]) }).unwrap();
    cluster.run_for(ms(3_000));
    let gone = cluster.raft(others[0]);
    assert!(gone.is_membership_settled() && !gone.membership().contains(cluster.identity(id(others[0]))));
    assert_eq!((gone.role(), gone.term()), (RoleKind::Follower, cluster.raft(leader).term()));
}

/// Thesis §4.2.2: the node that is being removed alone holds the entry that leaves it out, its maker is lost for good,
/// and its vote is needed in the outgoing half.
#[test]
fn an_outgoing_voter_with_the_longest_log_wins_for_the_others() {
    let (mut cluster, leader, others) = led(5, 4);
    let gone = others[2];
    cluster.change(id(leader), &MembershipChange::Remove { node: id(gone) }).unwrap();
    let has_left = |c: &Cluster| !c.raft(leader).membership().is_joint();
    assert!(cluster.run_until(ms(100), |c| c.raft(leader).membership().is_joint()));
    for other in &others[..2] {
        cluster.run_until(ms(100), |c| c.raft(*other).membership().is_joint());
    }
    assert!(cluster.run_until(ms(100), has_left));
    for other in &others[..2] {
        cluster.cut_link(leader, *other);
    }
    let has_it = |c: &Cluster| !c.raft(gone).membership().is_joint();
    assert!(cluster.run_until(ms(100), has_it));
    cluster.crash(id(leader));
    cluster.cut.clear();
    let old = cluster.raft(gone).term();
    assert!(cluster.run_until(ms(5_000), |c| is_settled(c) && c.leader() != Some(id(gone))));
    let led = cluster.leader().unwrap().as_u16();
    assert!(others[..2].contains(&led) && cluster.raft(led).term() > old);
    assert!(!cluster.raft(led).membership().contains(cluster.identity(id(gone))));
}

/// M8: in a cluster, somebody takes over without an election timeout.
#[test]
fn m8_a_leader_that_removes_itself_is_followed_at_once() {
    let (mut cluster, leader, _) = led(2, 3);
    cluster.change(id(leader), &MembershipChange::Remove { node: id(leader) }).unwrap();
    let is_followed = |c: &Cluster| c.leader().is_some_and(|it| it != id(leader)) && is_settled(c);
    assert!(cluster.run_until(Duration::from_millis(50), is_followed));
    cluster.run_for(ms(3_000));
    assert_eq!(cluster.raft(leader).role(), RoleKind::Follower);
    let next = cluster.leader().unwrap().as_u16();
    assert_eq!(shape(&cluster, next).matches('n').count(), 2);
    assert_eq!(cluster.raft(next).commit(), cluster.raft(next).last_index());
}

/// M1 with a whole cluster: a change by a leader that was cut off is cut from its log, and its successors' stand.
#[test]
fn m1_m3_of_two_leaders_changes_only_one_survives() {
    let (mut cluster, leader, others) = led(11, 4);
    cluster.isolate(id(leader));
    cluster.change(id(leader), &MembershipChange::Remove { node: id(others[0]) }).unwrap();
    assert!(cluster.run_until(ms(3_000), |c| c.leader() != Some(id(leader)) && is_settled(c)));
    let next = cluster.leader().unwrap();
    cluster.change(next, &MembershipChange::Remove { node: id(leader) }).unwrap();
    assert!(cluster.run_until(ms(500), is_settled));
    cluster.cut.clear();
    cluster.run_for(ms(2_000));
    let expected = voters(&others).to_string();
    for node in &others {
        assert_eq!(shape(&cluster, *node), expected);
    }
    // The removed one was never told, and keeps what it believed; it hears of nobody who would follow it.
    assert_ne!(cluster.leader(), Some(id(leader)));
    assert!(cluster.raft(leader).commit() >= Index(1) && cluster.raft(leader).term() > Term(0));
}
