//! What a leader does, one test per rule: Raft paper §5.3, §5.4.2, §8; thesis §6.2, §10.2.1; design.md §6.

use core::time::Duration;

use super::bench::{
    Bench, DiskMode, Setup, accepted, appends_to, cancelled, notices_to, requests_to, traffic,
};
use super::{command, id, identity, members, voters};
use crate::entry::Payload;
use crate::membership::{Members, Membership};
use crate::message::{Append, AppendOutcome, AppendReply, Heartbeat, HeartbeatReply, Message};
use crate::raft::{Base, Output, ProgressKind, ProposeError, RoleKind};
use crate::types::{Identity, Incarnation, Index, Round, StoreId, Term};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn propose(node: &mut Bench, text: &str) -> Vec<Output> {
    node.raft.propose(node.now, command(text)).unwrap();
    node.drain()
}

/// Leader of three whose peers hold its no-op.
fn leader() -> Bench {
    let (mut node, _) = Setup::voters(3).lead();
    for peer in [2, 3] {
        node.accept(peer, 0, 1);
    }
    assert_eq!(node.raft.commit(), Index(1));
    node
}

fn peer(node: &Bench, number: u16) -> crate::raft::PeerStatus {
    node.raft.peers().find(|peer| peer.identity == identity(number)).unwrap()
}

/// Raft paper §5.2 and §8.
#[test]
fn a_new_leader_shows_itself_at_once_and_starts_with_a_noop() {
    let (node, outputs) = Setup::voters(3).log(&[1, 1]).lead();
    assert_eq!(node.state(), "n1@2 leader last=3@2 commit=0 durable=3");
    assert_eq!(node.raft.entry(Index(3)).unwrap().payload, Payload::Noop);
    for peer in [2, 3] {
        let expected = Heartbeat { term: Term(2), round: Round(1), commit: Index(0) };
        assert_eq!(notices_to(&outputs, peer), [Message::Heartbeat(expected)]);
        let appends = appends_to(&outputs, peer);
        assert_eq!(appends.len(), 1);
        assert_eq!((appends[0].prev_index, appends[0].prev_term), (Index(2), Term(1)));
        assert_eq!((appends[0].attempt, appends[0].entries.len()), (0, 1));
    }
}

#[test]
fn heartbeats_go_out_every_interval_each_with_its_own_round() {
    let mut node = leader();
    let outputs = node.wait(ms(100));
    let rounds: Vec<u64> = notices_to(&outputs, 2)
        .iter()
        .map(|m| if let Message::Heartbeat(h) = m { h.round.0 } else { panic!("{m}") })
        .collect();
    assert_eq!(rounds, [2, 3, 4, 5]);
    assert!(outputs.iter().all(|o| !matches!(o, Output::Request { .. })), "an idle leader makes no calls");
}

#[test]
fn an_entry_is_committed_when_a_quorum_holds_it() {
    let (mut node, _) = Setup::voters(5).lead();
    node.accept(2, 0, 1);
    assert_eq!(node.raft.commit(), Index(0), "two of five");
    let outputs = node.accept(3, 0, 1);
    assert!(outputs.contains(&Output::Commit { index: Index(1) }), "three of five");
}

/// L1, Raft paper §5.4.2, figure 8: counting replicas of an older term's entry would commit what a later leader
/// may still replace.
#[test]
fn l1_only_entries_of_the_own_term_are_committed_by_counting() {
    let (mut node, _) = Setup::voters(3).log(&[1, 2, 2]).term(3).lead();
    assert_eq!(node.raft.last_index(), Index(4));
    node.accept(2, 0, 3);
    node.accept(3, 0, 3);
    assert_eq!(node.raft.commit(), Index(0), "all three hold entry 3 of term 2");
    node.accept(2, 0, 4);
    assert_eq!(node.raft.commit(), Index(4), "the no-op commits all before it");
}

#[test]
fn while_joint_an_entry_needs_both_majorities() {
    let joint =
        Membership { voters: members(&[1, 4, 5]), outgoing: members(&[1, 2, 3]), learners: Members::new() };
    let (mut node, _) = Setup::voters(3).membership(joint.clone()).lead();
    node.accept(2, 0, 1);
    node.accept(3, 0, 1);
    assert_eq!(node.raft.commit(), Index(0), "the outgoing majority");
    let (mut other, _) = Setup::voters(3).membership(joint).lead();
    other.accept(4, 0, 1);
    other.accept(5, 0, 1);
    assert_eq!(other.raft.commit(), Index(0), "the incoming majority");
    node.accept(4, 0, 1);
    assert_eq!(node.raft.commit(), Index(1), "both");
}

#[test]
fn a_learner_receives_and_never_counts() {
    let membership = Membership { learners: members(&[4]), ..voters(&[1, 2, 3]) };
    let (mut node, outputs) = Setup::voters(3).membership(membership).lead();
    assert_eq!(appends_to(&outputs, 4).len(), 1);
    node.accept(4, 0, 1);
    assert_eq!(node.raft.commit(), Index(0));
    node.accept(3, 0, 1);
    assert_eq!(node.raft.commit(), Index(1));
}

/// design.md §5: acknowledgements count only from the store in the membership.
#[test]
fn acknowledgements_of_another_store_do_not_count() {
    let (mut node, _) = Setup::voters(3).lead();
    let reply = AppendReply { term: Term(1), attempt: 0, outcome: accepted(1) };
    node.receive_from(Identity { store: StoreId([9; 16]), ..identity(2) }, Message::AppendReply(reply));
    assert_eq!(node.raft.commit(), Index(0));
}

/// L9, §7 rule 4, thesis §10.2.1.
#[test]
fn l9_the_leader_counts_itself_only_after_its_own_sync_and_sends_before() {
    let mut node = leader();
    node.disk = DiskMode::ByHand;
    let outputs = propose(&mut node, "x");
    assert_eq!(appends_to(&outputs, 2).len(), 1, "sent before its own sync");
    node.accept(2, 0, 2);
    assert_eq!(node.raft.commit(), Index(1), "one durable copy");
    node.sync();
    assert_eq!(node.raft.commit(), Index(2));
}

#[test]
fn l9_a_quorum_of_others_commits_without_the_leaders_disk() {
    let mut node = leader();
    node.disk = DiskMode::ByHand;
    propose(&mut node, "x");
    node.accept(2, 0, 2);
    node.accept(3, 0, 2);
    assert_eq!((node.raft.commit(), node.raft.durable_index()), (Index(2), Index(1)));
}

#[test]
fn l9_a_single_node_commits_only_what_its_disk_holds() {
    let (mut node, _) = Setup::voters(1).lead();
    assert_eq!(node.raft.commit(), Index(1));
    node.disk = DiskMode::ByHand;
    propose(&mut node, "x");
    assert_eq!(node.raft.commit(), Index(1));
    let outputs = node.sync();
    assert!(outputs.contains(&Output::Commit { index: Index(2) }));
}

/// L15: the caller of a deposed leader's proposal must see another term at its index.
#[test]
fn l15_an_entry_that_took_a_proposals_place_has_another_term() {
    let mut node = leader();
    let (index, term) = node.raft.propose(node.now, command("mine")).unwrap();
    node.drain();
    let mut other = super::bench::append(2, &[1, 2, 2], 1);
    // Node 2's log has a no-op of term 1 at 1, as ours.
    let noop = node.raft.entry(Index(1)).unwrap().clone();
    let theirs = crate::entry::Entry::new(super::CLUSTER, index, Term(2), command("theirs"), noop.chain);
    other.entries = vec![crate::message::AppendEntry { term: Term(2), payload: command("theirs") }];
    (other.prev_term, other.chain, other.commit) = (Term(1), theirs.chain, index);
    let outputs = node.receive(2, Message::Append(other));
    assert!(outputs.contains(&Output::Commit { index }));
    assert_ne!(node.raft.entry(index).unwrap().term, term);
}

/// The reason for making appends when outputs are polled.
#[test]
fn proposals_of_one_turn_share_an_append_and_a_write() {
    let mut node = leader();
    for text in ["a", "b", "c"] {
        node.raft.propose(node.now, command(text)).unwrap();
    }
    let outputs = node.drain();
    let appends = appends_to(&outputs, 2);
    assert_eq!((appends.len(), appends[0].entries.len()), (1, 3));
    let writes = outputs.iter().filter(|o| matches!(o, Output::Persist { .. })).count();
    assert_eq!(writes, 1);
}

#[test]
fn an_append_holds_what_fits_and_a_larger_entry_goes_alone() {
    let mut node = leader();
    for bytes in [400, 400, 400, 5_000, 400] {
        node.raft.propose(node.now, Payload::Command(vec![7; bytes].into())).unwrap();
    }
    let counts: Vec<usize> = appends_to(&node.drain(), 2).iter().map(|append| append.entries.len()).collect();
    assert_eq!(counts, [2, 1, 1, 1]);
}

#[test]
fn appends_are_pipelined_up_to_a_window() {
    let tune = |config: &mut crate::raft::RaftConfig| {
        (config.inflight_appends_max, config.inflight_bytes_max) = (3, 100);
    };
    let (mut node, _) = Setup::voters(3).tune(tune).lead();
    node.accept(2, 0, 1);
    let sent: usize = (0..5).map(|_| appends_to(&propose(&mut node, "x"), 2).len()).sum();
    assert_eq!((sent, peer(&node, 2).inflight_count), (3, 3), "by count");
    let more = appends_to(&node.accept(2, 0, 3), 2);
    assert_eq!((more.len(), more[0].entries.len()), (1, 2), "what waited goes together");
    node.accept(2, 0, 6);
    node.raft.propose(node.now, Payload::Command(vec![7; 200].into())).unwrap();
    assert_eq!(appends_to(&node.drain(), 2).len(), 1, "one always goes");
    assert_eq!(appends_to(&propose(&mut node, "y"), 2).len(), 0, "by bytes");
}

/// L12.
#[test]
fn l12_the_window_is_empty_when_everything_is_acknowledged_whatever_was_lost_or_doubled() {
    let mut node = leader();
    for text in ["a", "b", "c", "d"] {
        propose(&mut node, text);
    }
    assert!(peer(&node, 2).inflight_bytes > 0);
    for index in [4, 2, 2, 5, 5, 3] {
        node.accept(2, 0, index);
    }
    let status = peer(&node, 2);
    assert_eq!((status.inflight_count, status.inflight_bytes, status.match_index), (0, 0, Index(5)));
}

#[test]
fn a_late_acknowledgement_never_lowers_the_match() {
    let mut node = leader();
    propose(&mut node, "a");
    node.accept(2, 0, 2);
    node.accept(2, 0, 1);
    assert_eq!(peer(&node, 2).match_index, Index(2));
}

#[test]
fn an_acknowledgement_beyond_the_log_is_ignored() {
    let mut node = leader();
    node.accept(2, 0, 99);
    assert_eq!(peer(&node, 2).match_index, Index(1));
}

/// Raft paper §5.3, end: one probe per diverged term, from either side.
#[test]
fn backtracking_takes_one_probe_per_diverged_term() {
    let cases: [(&str, &[u64], &[u64], usize); 7] = [
        ("short", &[1, 1, 1, 1], &[1], 2),
        ("empty", &[1, 1, 1, 1], &[], 2),
        ("longer, of an old term", &[1, 1, 1], &[1, 1, 1, 1, 1], 1),
        ("one foreign term", &[1, 1, 4, 4, 4, 4], &[1, 1, 2, 2, 2, 2, 2], 2),
        ("two foreign terms, and none of the leader's between", &[1, 5, 5, 5, 5, 5], &[1, 2, 2, 3, 3, 3], 2),
        ("short, and the leader has two other terms", &[1, 1, 1, 4, 4, 5, 5, 6, 6], &[1, 1, 1, 1], 3),
        ("both sides", &[1, 1, 1, 1, 6, 6, 6, 6], &[1, 1, 2, 2, 3, 3, 3, 3], 3),
    ];
    for (what, leader, follower, probes) in cases {
        let (mut node, outputs) = Setup::voters(3).log(leader).term(8).lead();
        let mut peer = Setup::voters(3).log(follower).term(8).boot();
        let mut append = appends_to(&outputs, 2).pop();
        let mut sent = 0;
        while let Some(probe) = append.take() {
            sent += 1;
            assert!(sent < 20, "{what}");
            let answers = super::bench::replies(&peer.receive_from(identity(3), Message::Append(probe)));
            for answer in answers {
                append = appends_to(&node.receive(2, answer), 2).into_iter().next();
            }
        }
        assert_eq!(peer.raft.last_index(), node.raft.last_index(), "{what}");
        assert_eq!(sent, probes, "{what}");
    }
}

/// wire.md §4: a refusal is not idempotent.
#[test]
fn a_refusal_below_the_match_or_of_an_old_attempt_is_ignored() {
    let mut node = leader();
    propose(&mut node, "a");
    node.accept(2, 0, 2);
    propose(&mut node, "b");
    let before = peer(&node, 2);
    for (attempt, prev) in [(0, 2), (0, 1), (7, 2)] {
        let outputs = node.refuse(2, attempt, prev, (1, 0));
        assert!(traffic(&outputs).is_empty() && cancelled(&outputs).is_empty(), "{attempt} {prev}");
        assert_eq!(peer(&node, 2), before);
    }
    propose(&mut node, "c");
    let outputs = node.refuse(2, 0, 3, (3, 0));
    assert_eq!(cancelled(&outputs), [id(2)], "the pipeline is overtaken");
    let [probe] = <[Append; 1]>::try_from(appends_to(&outputs, 2)).unwrap();
    assert_eq!((probe.attempt, probe.prev_index), (1, Index(2)));
    node.accept(2, 1, 4);
    propose(&mut node, "d");
    propose(&mut node, "e");
    assert_eq!((peer(&node, 2).match_index, peer(&node, 2).next_index), (Index(4), Index(7)));
    let outputs = node.refuse(2, 0, 5, (3, 0));
    assert!(traffic(&outputs).is_empty() && cancelled(&outputs).is_empty(), "one of an old attempt");
    assert_eq!(peer(&node, 2).kind, ProgressKind::Replicate);
}

#[test]
fn an_evicted_append_sends_the_leader_to_probe_from_the_match() {
    let mut node = leader();
    for text in ["a", "b", "c"] {
        propose(&mut node, text);
    }
    node.accept(2, 0, 2);
    let evicted = AppendOutcome::Evicted { prev_index: Index(3) };
    let reply = AppendReply { term: Term(1), attempt: 0, outcome: evicted };
    let outputs = node.receive(2, Message::AppendReply(reply));
    let [probe] = <[Append; 1]>::try_from(appends_to(&outputs, 2)).unwrap();
    assert_eq!((probe.attempt, probe.prev_index, probe.entries.len()), (1, Index(2), 2));
    assert!(traffic(&node.receive(2, Message::AppendReply(reply))).is_empty(), "once");
}

#[test]
fn a_probe_carries_no_entry_that_needs_fragments() {
    let (mut node, _) = Setup::voters(3).lead();
    node.raft.propose(node.now, Payload::Command(vec![7; 5_000].into())).unwrap();
    node.drain();
    let outputs = node.refuse(2, 0, 0, (1, 0));
    assert!(traffic(&outputs).is_empty(), "prev 0 cannot be refused: {outputs:?}");
    node.accept(2, 0, 1);
    node.raft.handle_call_failed(node.now, id(2));
    let outputs = node.wait(ms(25));
    let probes: Vec<usize> = appends_to(&outputs, 2).iter().map(|append| append.entries.len()).collect();
    assert_eq!(probes, [0]);
    let outputs = node.accept(2, 1, 1);
    assert_eq!(appends_to(&outputs, 2)[0].entries.len(), 1, "once the match is found it goes");
}

/// L11.
#[test]
fn l11_a_silent_peer_is_probed_again_after_a_maximum_election_timeout() {
    let mut node = leader();
    propose(&mut node, "lost");
    let mut outputs = Vec::new();
    for _ in 0..24 {
        outputs.extend(node.wait(ms(25)));
        for peer in [2, 3] {
            node.hear(peer, 1);
        }
        node.accept(3, 0, 2);
    }
    assert_eq!(cancelled(&outputs), [id(2)]);
    let [probe] = <[Append; 1]>::try_from(appends_to(&outputs, 2)).unwrap();
    assert_eq!((probe.attempt, probe.prev_index, probe.entries.len()), (1, Index(1), 1));
}

#[test]
fn a_peer_whose_call_failed_is_tried_again_with_the_next_heartbeat() {
    let mut node = leader();
    propose(&mut node, "a");
    node.raft.handle_call_failed(node.now, id(2));
    let outputs = node.drain();
    assert_eq!((cancelled(&outputs), traffic(&outputs).len()), (vec![id(2)], 0), "no loop of failing calls");
    assert_eq!(appends_to(&node.wait(ms(25)), 2).len(), 1);
}

#[test]
fn a_new_boot_of_a_peer_is_probed() {
    let mut node = leader();
    node.raft.handle_connected(node.now, identity(2), Incarnation(1));
    propose(&mut node, "a");
    assert_eq!(peer(&node, 2).kind, ProgressKind::Replicate);
    node.raft.handle_connected(node.now, identity(2), Incarnation(1));
    assert_eq!(peer(&node, 2).kind, ProgressKind::Replicate, "the same boot");
    node.raft.handle_connected(node.now, identity(2), Incarnation(2));
    assert_eq!(peer(&node, 2).kind, ProgressKind::Probe);
    assert_eq!(appends_to(&node.wait(ms(25)), 2)[0].attempt, 1);
}

/// L10.
#[test]
fn l10_no_append_is_sent_whose_prev_the_log_does_not_hold() {
    let mut setup = Setup::voters(3).term(3);
    setup.base = Base { index: Index(10), term: Term(3), chain: 5 };
    let (mut node, _) = setup.lead();
    let outputs = node.refuse(2, 0, 10, (4, 0));
    assert!(requests_to(&outputs, 2).is_empty(), "{outputs:?}");
    assert_eq!(peer(&node, 2).kind, ProgressKind::Snapshot);
    let outputs = node.wait(ms(100));
    assert_eq!((notices_to(&outputs, 2).len(), requests_to(&outputs, 2).len()), (4, 0), "heartbeats only");
}

/// L2: a peer may hold other entries beyond what is known to match.
#[test]
fn heartbeats_carry_no_more_than_the_peer_is_known_to_hold() {
    let mut node = leader();
    propose(&mut node, "a");
    node.accept(3, 0, 2);
    let outputs = node.wait(ms(25));
    for (peer, commit) in [(2, 1), (3, 2)] {
        let Some(Message::Heartbeat(heartbeat)) = notices_to(&outputs, peer).pop() else { panic!() };
        assert_eq!(heartbeat.commit, Index(commit));
    }
}

/// I8.
#[test]
fn i8_a_full_log_refuses_proposals_and_never_a_noop() {
    let tune =
        |config: &mut crate::raft::RaftConfig| (config.log_bytes_max, config.log_bytes_reserve) = (400, 100);
    let (mut node, _) = Setup::voters(3).tune(tune).lead();
    let mut taken = 0;
    let refusal = loop {
        match node.raft.propose(node.now, command("0123456789")) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!((3..10).contains(&taken), "{taken}");
    assert!(matches!(refusal, ProposeError::LogFull { bytes, bytes_max: 300 } if bytes >= 300), "{refusal}");
    // The successor has the same full log, all of it uncommitted; its no-op commits it.
    let (mut next, _) = Setup::voters(3).tune(tune).log(&[1; 12]).lead();
    assert!(next.raft.log_bytes() > 400);
    next.accept(2, 0, 13);
    assert_eq!(next.raft.commit(), Index(13));
}

#[test]
fn a_follower_refuses_proposals_and_names_the_leader() {
    let mut node = Setup::voters(3).boot();
    let refusal = node.raft.propose(node.now, command("x"));
    assert_eq!(refusal, Err(ProposeError::NotLeader { leader: None }));
    node.receive(2, super::bench::heartbeat(1, 1, 0));
    let refusal = node.raft.propose(node.now, command("x"));
    assert_eq!(refusal, Err(ProposeError::NotLeader { leader: Some(id(2)) }));
    let (mut node, _) = Setup::voters(3).lead();
    assert_eq!(node.raft.propose(node.now, Payload::Noop), Err(ProposeError::NotACommand));
}

/// E7, thesis §6.2: check-quorum. The window starts full.
#[test]
fn e7_a_leader_that_hears_no_quorum_steps_down_within_a_maximum_election_timeout() {
    let (mut node, _) = Setup::voters(5).lead();
    node.wait(ms(499));
    assert_eq!(node.raft.role(), RoleKind::Leader);
    let outputs = node.wait(ms(1));
    assert_eq!((node.raft.role(), node.raft.leader()), (RoleKind::Follower, None));
    assert_eq!(cancelled(&outputs), [id(2), id(3), id(4), id(5)]);
    assert!(traffic(&outputs).is_empty(), "no append, no heartbeat, no probe: {outputs:?}");
    let quiet = node.wait(ms(249));
    assert!(traffic(&quiet).is_empty(), "{quiet:?}");
}

#[test]
fn answers_to_heartbeats_and_appends_of_this_term_keep_a_leader() {
    let (mut node, _) = Setup::voters(3).lead();
    for round in 1..100 {
        node.wait(ms(25));
        if round % 2 == 0 {
            node.hear(2, round);
        } else {
            node.accept(3, 0, 1);
        }
    }
    assert_eq!(node.raft.role(), RoleKind::Leader);
}

#[test]
fn answers_of_an_older_term_and_of_strangers_do_not_keep_a_leader() {
    let (mut node, _) = Setup::voters(3).term(4).lead();
    for _ in 0..40 {
        node.wait(ms(25));
        let stale = HeartbeatReply { term: Term(4), round: Round(1) };
        node.receive(2, Message::HeartbeatReply(stale));
        let reply = HeartbeatReply { term: Term(5), round: Round(1) };
        let stranger = Identity { store: StoreId([9; 16]), ..identity(2) };
        node.receive_from(stranger, Message::HeartbeatReply(reply));
    }
    assert_ne!(node.raft.role(), RoleKind::Leader);
}

#[test]
fn learners_do_not_keep_a_leader_and_joint_halves_are_both_needed() {
    let joint =
        Membership { voters: members(&[1, 4, 5]), outgoing: members(&[1, 2, 3]), learners: members(&[6]) };
    for (answering, stays) in [(vec![2, 3, 6], false), (vec![4, 5, 6], false), (vec![2, 4], true)] {
        let (mut node, _) = Setup::voters(3).membership(joint.clone()).lead();
        for _ in 0..40 {
            for peer in &answering {
                node.hear(*peer, 1);
            }
            node.wait(ms(25));
        }
        assert_eq!(node.raft.role() == RoleKind::Leader, stays, "{answering:?}");
    }
}

/// L14: whoever waits for a proposal of a leader without quorum learns that it leads no more.
#[test]
fn l14_a_leader_without_quorum_does_not_keep_its_callers_waiting() {
    let mut node = leader();
    propose(&mut node, "never");
    let outputs = node.wait(ms(500));
    let told = Output::RoleChanged { role: RoleKind::Follower, term: Term(1), leader: None };
    assert!(outputs.contains(&told), "{outputs:?}");
}

/// E16: the heartbeat path lives, the disk does not.
#[test]
fn e16_a_leader_whose_disk_hangs_steps_down_and_tries_to_hand_over() {
    let mut node = leader();
    node.raft.handle_connected(node.now, identity(3), Incarnation(7));
    node.disk = DiskMode::ByHand;
    propose(&mut node, "stuck");
    node.accept(3, 0, 2);
    let beat = |node: &mut Bench, span: u64| {
        let mut outputs = Vec::new();
        for _ in 0..span / 25 {
            outputs.extend(node.wait(ms(25)));
            node.hear(2, 1);
            node.hear(3, 1);
        }
        outputs
    };
    beat(&mut node, 1_975);
    assert_eq!(node.raft.role(), RoleKind::Leader);
    let outputs = beat(&mut node, 25);
    assert_eq!(node.raft.role(), RoleKind::Follower);
    let [Message::Transfer(order)] = <[Message; 1]>::try_from(requests_to(&outputs, 3)).unwrap() else {
        panic!()
    };
    assert_eq!((order.incarnation, order.last_index), (Incarnation(7), Index(2)));
    let after = node.wait(ms(5_000));
    assert!(traffic(&after).is_empty(), "no leader traffic, no campaign with a disk that hangs: {after:?}");
}

/// L13, L16: a write that fails is never reported as finished; nothing that needs it ever leaves.
#[test]
fn l13_l16_what_no_disk_confirmed_is_never_acknowledged() {
    let mut node = Setup::voters(3).term(1).boot();
    node.disk = DiskMode::ByHand;
    let mut outputs = Vec::new();
    for length in 1..=5 {
        outputs
            .extend(node.receive(2, Message::Append(super::bench::append(1, &vec![1; length], length - 1))));
    }
    outputs.extend(node.wait(ms(1_000)));
    assert!(super::bench::outcomes(&outputs).is_empty(), "{outputs:?}");
    // The driver ends the node at the second write; the first alone was confirmed.
    assert_eq!(super::bench::outcomes(&node.sync()), [accepted(1)]);
}
