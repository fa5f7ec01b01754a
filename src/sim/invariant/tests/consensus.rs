//! Invariants 1 to 9 and 12 to 15, broken one by one.

use std::sync::Arc;

use super::super::subject::{Effect, Subject};
use super::super::violation::Invariant;
use super::puppet::{Puppet, Stage, assert_broken, id, members, voters};
use crate::entry::Payload;
use crate::membership::Membership;
use crate::raft::{Base, RoleKind};
use crate::types::{HardState, Incarnation, Index, Term};

#[test]
fn a_settled_cluster_breaks_nothing() {
    let (mut stage, puppets) = Stage::settled();
    for puppet in &puppets {
        stage.turn(puppet).unwrap();
    }
    assert_eq!(stage.oracle.commit(), Index(1));
}

#[test]
fn invariant_1_two_leaders_of_one_term_are_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[1].role = RoleKind::Leader;
    assert_broken(stage.turn(&puppets[1]), Invariant::ElectionSafety);
}

#[test]
fn invariant_1_the_same_node_leading_a_term_again_after_a_boot_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[0].incarnation = Incarnation(2);
    puppets[0].role = RoleKind::Follower;
    stage.boot(&puppets[0]).unwrap();
    puppets[0].role = RoleKind::Leader;
    assert_broken(stage.turn(&puppets[0]), Invariant::ElectionSafety);
}

#[test]
fn invariant_2_a_leader_that_cuts_its_log_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[0].append_noop(1);
    stage.turn(&puppets[0]).unwrap();
    puppets[0].entries.pop();
    assert_broken(stage.turn(&puppets[0]), Invariant::LeaderAppendOnly);
}

#[test]
fn invariant_3_another_payload_under_the_same_index_and_term_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[0].append_noop(1);
    stage.turn(&puppets[0]).unwrap();
    puppets[1].append(1, Payload::Command((*b"x").into()));
    assert_broken(stage.turn(&puppets[1]), Invariant::LogMatching);
}

#[test]
fn invariant_3_a_payload_that_does_not_fit_its_chain_value_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[1].append(1, Payload::Command((*b"x").into()));
    puppets[1].entries[1].payload = Payload::Command((*b"y").into());
    assert_broken(stage.turn(&puppets[1]), Invariant::LogMatching);
}

#[test]
fn invariant_4_a_leader_without_what_was_committed_before_is_found() {
    let (mut stage, [mut one, mut two, mut three]) = Stage::settled();
    one.append_noop(1);
    three.append_noop(1);
    stage.persist(&mut one).unwrap();
    stage.persist(&mut three).unwrap();
    one.commit_all();
    stage.turn(&one).unwrap();
    // The third votes although its log holds more.
    for voter in [&mut two, &mut three] {
        voter.vote(2, 2);
        stage.persist(voter).unwrap();
    }
    two.role = RoleKind::Leader;
    two.append_noop(2);
    assert_broken(stage.turn(&two), Invariant::LeaderCompleteness);
}

#[test]
fn invariant_4_a_commit_of_an_earlier_term_that_a_leader_lacks_is_found() {
    let (mut stage, [mut one, mut two, mut three]) = Stage::settled();
    one.append_noop(1);
    three.append_noop(1);
    stage.persist(&mut one).unwrap();
    stage.persist(&mut three).unwrap();
    stage.turn(&one).unwrap();
    for voter in [&mut two, &mut three] {
        voter.vote(2, 2);
        stage.persist(voter).unwrap();
    }
    two.role = RoleKind::Leader;
    two.append_noop(2);
    stage.turn(&two).unwrap();
    one.commit_all();
    assert_broken(stage.turn(&one), Invariant::LeaderCompleteness);
}

#[test]
fn invariant_5_machines_that_were_given_different_things_are_found() {
    let (mut stage, mut puppets) = Stage::settled();
    for puppet in &mut puppets {
        puppet.append(1, write(b"put"));
        stage.persist(puppet).unwrap();
        puppet.commit_all();
    }
    puppets[0].effects.push(Effect { index: Index(2), chain: 1, result: 1 });
    stage.turn(&puppets[0]).unwrap();
    puppets[1].effects.push(Effect { index: Index(2), chain: 2, result: 2 });
    assert_broken(stage.turn(&puppets[1]), Invariant::StateMachineSafety);
}

#[test]
fn invariant_5_session_tables_that_differ_are_found() {
    let (mut stage, mut puppets) = Stage::settled();
    for puppet in &mut puppets {
        puppet.append_noop(1);
        stage.persist(puppet).unwrap();
        puppet.commit_all();
    }
    stage.turn(&puppets[0]).unwrap();
    puppets[1].sessions_hash ^= 1;
    assert_broken(stage.turn(&puppets[1]), Invariant::StateMachineSafety);
}

/// A write of session 1 with this command.
pub(super) fn write(command: &[u8]) -> Payload {
    use crate::session::{Command, Ranges};
    use crate::types::{Sequence, SessionId};
    let session = SessionId(Index(1));
    let write = Command::Write { session, sequence: Sequence(1), finished: Ranges::default(), command };
    Payload::Command(write.to_bytes().into())
}

#[test]
fn invariant_6_a_commit_that_is_on_no_durable_quorum_is_found() {
    let (mut stage, [mut one, mut two, _]) = Stage::settled();
    one.append_noop(1);
    two.append_noop(1);
    stage.persist(&mut one).unwrap();
    one.commit_all();
    // The second has it in memory only.
    assert_broken(stage.turn(&one), Invariant::CommittedOnQuorum);
}

#[test]
fn invariant_6_while_joint_both_majorities_count() {
    let (mut stage, [mut one, mut two, mut three]) = Stage::settled();
    let joint = Membership { outgoing: members(&[1, 2, 3]), ..voters(&[1, 4, 5]) };
    for puppet in [&mut one, &mut two, &mut three] {
        puppet.append(1, Payload::Membership(Arc::new(joint.clone())));
        stage.persist(puppet).unwrap();
    }
    one.commit_all();
    assert_broken(stage.turn(&one), Invariant::CommittedOnQuorum);
}

#[test]
fn invariant_6_a_leader_that_counts_replicas_of_an_earlier_terms_entry_is_found() {
    let (mut stage, [mut one, mut two, mut three]) = Stage::settled();
    two.append_noop(1);
    three.append_noop(1);
    one.role = RoleKind::Follower;
    for puppet in [&mut two, &mut three] {
        puppet.vote(2, 2);
        stage.persist(puppet).unwrap();
    }
    two.role = RoleKind::Leader;
    stage.turn(&two).unwrap();
    two.commit_all();
    assert_broken(stage.turn(&two), Invariant::CommittedOnQuorum);
}

#[test]
fn invariant_7_another_committed_entry_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    let mut late = Puppet::new(2);
    late.vote(1, 1);
    late.append(1, Payload::Command((*b"other").into()));
    late.entries[0].term = Term(1);
    // It never met the others' entry: its own is of another term.
    late.entries.clear();
    late.vote(2, 3);
    late.append_noop(2);
    puppets[1] = late;
    stage.persist(&mut puppets[1]).unwrap();
    puppets[1].commit_all();
    assert_broken(stage.turn(&puppets[1]), Invariant::CommittedImmutable);
}

#[test]
fn invariant_8_an_applied_index_above_the_commit_index_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[0].append_noop(1);
    puppets[0].applied = Index(2);
    assert_broken(stage.turn(&puppets[0]), Invariant::Ordering);
}

#[test]
fn invariant_9_terms_votes_commits_and_boots_that_go_back_are_found() {
    type Change = fn(&mut Puppet);
    let changes: [Change; 5] = [
        |it| it.hard_state = HardState::default(),
        |it| it.vote(1, 2),
        |it| (it.commit, it.applied) = (Index(0), Index(0)),
        |it| it.applied = Index(0),
        |it| it.incarnation = Incarnation(9),
    ];
    for change in changes {
        let (mut stage, mut puppets) = Stage::settled();
        change(&mut puppets[1]);
        assert_broken(stage.turn(&puppets[1]), Invariant::Monotone);
    }
}

#[test]
fn invariant_9_a_second_vote_on_disk_or_after_a_boot_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[1].vote(1, 2);
    assert_broken(stage.persist(&mut puppets[1]), Invariant::Monotone);

    let (mut stage, mut puppets) = Stage::settled();
    puppets[1].incarnation = Incarnation(2);
    puppets[1].hard_state = HardState::default();
    assert_broken(stage.boot(&puppets[1]), Invariant::Monotone);

    let (mut stage, puppets) = Stage::settled();
    assert_broken(stage.boot(&puppets[1]), Invariant::Monotone);
}

#[test]
fn invariant_11_a_boot_that_finds_less_than_was_synced_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[1].incarnation = Incarnation(2);
    puppets[1].entries.clear();
    (puppets[1].commit, puppets[1].applied) = (Index(0), Index(0));
    assert_broken(stage.boot(&puppets[1]), Invariant::DurableBeforeAcknowledged);
}

#[test]
fn a_folder_that_rotted_may_lose_what_it_held() {
    let (mut stage, mut puppets) = Stage::settled();
    stage.folders.get_mut(id(2)).unwrap().forswear();
    puppets[1].incarnation = Incarnation(2);
    puppets[1].entries.clear();
    puppets[1].durable = Index(0);
    (puppets[1].commit, puppets[1].applied) = (Index(0), Index(0));
    stage.boot(&puppets[1]).unwrap();
}

#[test]
fn invariant_12_a_node_that_takes_for_durable_what_is_not_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[0].append_noop(1);
    puppets[0].durable = Index(2);
    assert_broken(stage.turn(&puppets[0]), Invariant::DurableSelfMatch);
}

#[test]
fn invariant_13_disjoint_majorities_are_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[0].append(1, Payload::Membership(Arc::new(voters(&[1, 4, 5]))));
    assert_broken(stage.turn(&puppets[0]), Invariant::MembershipChange);
}

#[test]
fn invariant_13_a_second_membership_before_the_first_is_committed_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    puppets[0].append(1, Payload::Membership(Arc::new(voters(&[1, 2, 3, 4]))));
    stage.turn(&puppets[0]).unwrap();
    puppets[0].append(1, Payload::Membership(Arc::new(voters(&[1, 2, 3]))));
    assert_broken(stage.turn(&puppets[0]), Invariant::MembershipChange);
}

#[test]
fn invariant_13_a_membership_before_a_commit_of_the_own_term_is_found() {
    let (mut stage, [mut one, mut two, mut three]) = Stage::settled();
    one.role = RoleKind::Follower;
    for puppet in [&mut two, &mut three] {
        puppet.vote(2, 2);
        stage.persist(puppet).unwrap();
    }
    two.role = RoleKind::Leader;
    two.append(2, Payload::Membership(Arc::new(voters(&[1, 2]))));
    assert_broken(stage.turn(&two), Invariant::MembershipChange);
}

#[test]
fn invariant_14_a_leader_without_the_votes_of_a_quorum_is_found() {
    let (mut stage, [_, mut two, _]) = Stage::settled();
    two.vote(2, 2);
    stage.persist(&mut two).unwrap();
    two.role = RoleKind::Leader;
    two.append_noop(2);
    assert_broken(stage.turn(&two), Invariant::CampaignMembership);
}

#[test]
fn invariant_14_a_campaign_by_an_older_membership_or_of_a_removed_node_is_found() {
    let (mut stage, [_, mut two, _]) = Stage::settled();
    let founding = Arc::clone(&two.membership);
    two.append(1, Payload::Membership(Arc::new(voters(&[1, 2, 3, 4]))));
    (two.membership, two.membership_index) = (founding, Index(0));
    two.role = RoleKind::PreCandidate;
    assert_broken(stage.turn(&two), Invariant::CampaignMembership);

    let (mut stage, [_, mut two, _]) = Stage::settled();
    two.append(1, Payload::Membership(Arc::new(voters(&[1, 3]))));
    two.role = RoleKind::Candidate;
    // The entry that leaves it out may yet be cut off.
    stage.turn(&two).unwrap();
    two.append(1, Payload::Membership(Arc::new(voters(&[1, 3, 4]))));
    assert_broken(stage.turn(&two), Invariant::CampaignMembership);
}

#[test]
fn invariant_15_a_log_that_begins_after_another_entry_than_the_committed_one_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    let two = &mut puppets[1];
    let mark = two.mark(Index(1)).unwrap();
    two.entries.clear();
    two.base = Base { index: Index(1), term: mark.term, chain: mark.chain };
    stage.turn(two).unwrap();

    let (mut stage, mut puppets) = Stage::settled();
    puppets[1].entries.clear();
    puppets[1].base = Base { index: Index(1), term: mark.term, chain: mark.chain ^ 1 };
    assert_broken(stage.turn(&puppets[1]), Invariant::SnapshotState);
}

#[test]
fn invariant_15_a_snapshot_with_other_sessions_than_replay_leads_to_is_found() {
    let (mut stage, mut puppets) = Stage::settled();
    let two = &mut puppets[1];
    let mark = two.mark(Index(1)).unwrap();
    two.entries.clear();
    two.base = Base { index: Index(1), term: mark.term, chain: mark.chain };
    two.incarnation = Incarnation(2);
    two.sessions_hash ^= 1;
    assert_broken(stage.boot(two), Invariant::SnapshotState);
}
