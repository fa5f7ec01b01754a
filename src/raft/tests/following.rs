//! What a follower does with appends and heartbeats, one test per rule: Raft paper §5.3, figure 2; design.md §6.

use core::time::Duration;

use super::bench::{
    Bench, DiskMode, Setup, accepted, alarms, append, heartbeat, notices_to, outcomes, replies, reply,
    traffic, vote,
};
use super::{CLUSTER, id, identity, log_of, voters};
use crate::entry::{Entry, Payload};
use crate::message::{Append, AppendOutcome, AppendReply, HeartbeatReply, Message};
use crate::raft::{Alarm, Base, Output, RoleKind};
use crate::types::{HardState, Identity, Index, Round, StoreId, Term};

fn take(node: &mut Bench, append: Append) -> Vec<AppendOutcome> {
    outcomes(&node.receive(2, Message::Append(append)))
}

fn terms(node: &Bench) -> Vec<u64> {
    node.raft.entries_from(Index(1)).map(|entry| entry.term.0).collect()
}

fn refused(prev: u64, conflict: (u64, u64), last: u64) -> AppendOutcome {
    AppendOutcome::Refused {
        prev_index: Index(prev),
        conflict_term: Term(conflict.1),
        conflict_index: Index(conflict.0),
        last_index: Index(last),
    }
}

/// A follower of node 2 in term 3, whose log and anchor are those of node 2's first three entries.
fn follower() -> Bench {
    let mut node = Setup::voters(3).term(3).boot();
    assert_eq!(take(&mut node, append(3, &[1, 1, 3], 0)), [accepted(3)]);
    node
}

#[test]
fn an_append_is_spliced_where_the_logs_agree() {
    let mut node = Setup::voters(3).log(&[1, 1]).boot();
    assert_eq!(take(&mut node, append(2, &[1, 1, 2, 2], 2)), [accepted(4)]);
    assert_eq!((terms(&node), node.raft.leader()), (vec![1, 1, 2, 2], Some(id(2))));
}

/// Figure 2, step 2.
#[test]
fn an_append_without_its_prev_is_refused_with_a_hint() {
    let mut node = Setup::voters(3).log(&[1, 2, 2, 2]).term(5).boot();
    assert_eq!(take(&mut node, append(5, &[1, 1, 1, 5, 5], 4)), [refused(4, (2, 2), 4)]);
    assert_eq!(take(&mut node, append(5, &[1, 1, 1, 5, 5, 5, 5], 6)), [refused(6, (5, 0), 4)]);
    assert_eq!(terms(&node), [1, 2, 2, 2], "nothing is cut by a refusal");
}

/// Figure 2, step 1.
#[test]
fn an_append_of_an_older_term_is_refused_and_changes_nothing() {
    let mut node = Setup::voters(3).log(&[1, 1]).term(5).boot();
    let timer = node.raft.poll_timeout();
    let outputs = node.receive(2, Message::Append(append(4, &[1, 1, 4], 2)));
    let Message::AppendReply(AppendReply { term, outcome, .. }) = reply(&outputs) else { panic!() };
    assert_eq!(term, Term(5));
    assert!(matches!(outcome, AppendOutcome::Refused { .. }));
    assert_eq!((terms(&node), node.raft.leader(), node.raft.poll_timeout()), (vec![1, 1], None, timer));
}

/// Figure 2, step 3.
#[test]
fn a_conflicting_suffix_is_replaced() {
    let mut node = Setup::voters(3).log(&[1, 1, 2, 2]).boot();
    assert_eq!(take(&mut node, append(3, &[1, 1, 3], 1)), [accepted(3)]);
    assert_eq!(terms(&node), [1, 1, 3]);
}

/// L5: truncate only on a real conflict, never to prev + n.
#[test]
fn l5_a_late_shorter_append_does_not_cut_what_a_longer_one_brought() {
    let mut node = Setup::voters(3).boot();
    assert_eq!(take(&mut node, append(1, &[1, 1, 1, 1], 0)), [accepted(4)]);
    assert_eq!(take(&mut node, append(1, &[1, 1], 0)), [accepted(4)], "and it is acknowledged in full");
    assert_eq!(take(&mut node, append(1, &[1], 1)), [accepted(4)]);
    assert_eq!(terms(&node), [1, 1, 1, 1]);
}

/// L2: the tail beyond what this message verified may be another leader's.
#[test]
fn l2_commit_is_bounded_by_what_this_message_verified() {
    let mut node = Setup::voters(3).log(&[1, 1, 1, 1]).term(2).boot();
    assert_eq!(take(&mut node, Append { commit: Index(4), ..append(2, &[1], 1) }), [accepted(1)]);
    assert_eq!(node.raft.commit(), Index(1));
    take(&mut node, Append { commit: Index(9), ..append(2, &[1, 1, 2], 2) });
    assert_eq!((node.raft.commit(), terms(&node)), (Index(3), vec![1, 1, 2]));
    take(&mut node, Append { commit: Index(2), ..append(2, &[1, 1, 2], 2) });
    assert_eq!(node.raft.commit(), Index(3), "commit never falls");
}

/// L3 and §7 rule 3.
#[test]
fn l3_entries_are_acknowledged_only_when_durable() {
    let mut node = Setup::voters(3).term(1).boot();
    node.disk = DiskMode::ByHand;
    assert_eq!(take(&mut node, append(1, &[1, 1], 0)), []);
    assert_eq!(take(&mut node, append(1, &[1, 1, 1], 2)), []);
    assert_eq!(outcomes(&node.sync()), [accepted(2)]);
    assert_eq!(outcomes(&node.sync()), [accepted(3)]);
    assert_eq!(
        take(&mut node, append(1, &[1, 1, 1], 1)),
        [accepted(3)],
        "what is durable already does not wait"
    );
}

/// L3: after a truncation, what was durable before says nothing.
#[test]
fn l3_an_acknowledgement_never_exceeds_the_durable_matching_prefix() {
    let mut node = Setup::voters(3).log(&[1, 1, 1, 1]).boot();
    node.disk = DiskMode::ByHand;
    assert_eq!(take(&mut node, append(2, &[1, 2], 1)), []);
    assert_eq!(node.raft.durable_index(), Index(1));
    assert_eq!(outcomes(&node.sync()), [accepted(2)]);
    let mut node = Setup::voters(3).log(&[1, 1, 1, 1]).boot();
    assert_eq!(take(&mut node, append(2, &[1, 1], 1)), [accepted(2)], "the tail is not verified");
}

/// L4: the write of old entries at these places finishes after they were replaced.
#[test]
fn l4_a_late_completion_does_not_vouch_for_what_replaced_its_entries() {
    let mut node = Setup::voters(3).term(1).boot();
    node.disk = DiskMode::ByHand;
    take(&mut node, append(1, &[1, 1, 1], 0));
    node.receive(3, Message::Append(append(2, &[1, 2, 2], 1)));
    // The hard state of term 2 and the new entries are in a second write.
    let outputs = node.sync();
    assert_eq!(node.raft.durable_index(), Index(1));
    assert!(outcomes(&outputs).iter().all(|o| !matches!(o, AppendOutcome::Accepted { .. })), "{outputs:?}");
    let outputs = node.sync();
    assert_eq!(node.raft.durable_index(), Index(3));
    assert!(outcomes(&outputs).contains(&accepted(3)));
}

/// §7 rule 5.
#[test]
fn a_truncation_goes_to_the_disk_before_what_replaces_it() {
    let mut node = Setup::voters(3).log(&[1, 1, 1]).boot();
    let outputs = node.receive(2, Message::Append(append(2, &[1, 2], 1)));
    let writes: Vec<(Option<Index>, usize)> = outputs
        .iter()
        .filter_map(|o| match o {
            Output::Persist { truncate_from, entries, .. } => Some((*truncate_from, entries.len())),
            _ => None,
        })
        .collect();
    assert_eq!(writes, [(Some(Index(2)), 1)]);
}

#[test]
fn entries_that_never_reached_the_disk_need_no_truncation_there() {
    let mut node = Setup::voters(3).boot();
    node.disk = DiskMode::ByHand;
    node.receive(2, vote(1, (0, 0)));
    // The vote is being written, so these two terms' entries wait for the next batch together.
    node.receive(2, Message::Append(append(2, &[2, 2], 0)));
    node.receive(3, Message::Append(append(3, &[3], 0)));
    let outputs = node.sync();
    let Some(Output::Persist { hard_state, truncate_from, entries, .. }) =
        outputs.iter().find(|o| matches!(o, Output::Persist { .. }))
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(*hard_state, Some(HardState { term: Term(3), vote: None }));
    assert_eq!((*truncate_from, entries.len(), entries[0].term), (None, 1, Term(3)));
}

/// design.md §6: a lost datagram costs one retransmission, not a rewind.
#[test]
fn appends_out_of_order_wait_for_their_predecessors() {
    let mut node = follower();
    let log = [1, 1, 3, 3, 3, 3];
    assert_eq!(take(&mut node, append(3, &log, 5)), []);
    assert_eq!(take(&mut node, append(3, &log[..5], 4)), []);
    assert_eq!(node.raft.reordered().0, 2);
    assert_eq!(take(&mut node, append(3, &log[..4], 3)), [accepted(6); 3], "each says all it knows");
    assert_eq!((terms(&node), node.raft.reordered()), (log.to_vec(), (0, 0)));
}

#[test]
fn a_probe_beyond_the_logs_end_is_answered_at_once() {
    let mut node = follower();
    let probe = Append { attempt: 1, ..append(3, &[1, 1, 3, 3, 3, 3], 5) };
    assert_eq!(
        take(&mut node, probe),
        [refused(5, (4, 0), 3)],
        "nothing that could fill the hole is under way"
    );
}

#[test]
fn every_copy_of_an_append_that_waited_is_answered() {
    let mut node = follower();
    for _ in 0..3 {
        take(&mut node, append(3, &[1, 1, 3, 3, 3], 4));
    }
    assert_eq!(take(&mut node, append(3, &[1, 1, 3, 3], 3)), [accepted(5); 4]);
}

#[test]
fn a_full_buffer_evicts_what_lies_furthest_ahead_and_says_so() {
    let mut node = Setup::voters(3).term(3).tune(|config| config.reorder_bytes_max = 240).boot();
    take(&mut node, append(3, &[1, 1, 3], 0));
    let log = [1, 1, 3, 3, 3, 3, 3];
    let evicted = |prev| AppendOutcome::Evicted { prev_index: Index(prev) };
    assert_eq!(take(&mut node, append(3, &log[..6], 5)), []);
    assert_eq!(take(&mut node, append(3, &log, 6)), []);
    assert_eq!(take(&mut node, append(3, &log[..5], 4)), [evicted(6)]);
    assert_eq!(take(&mut node, append(3, &log, 6)), [evicted(6)], "itself, if it is the furthest");
    assert_eq!(node.raft.reordered().0, 2);
}

/// I6: drained after a newer term's entries, it would cut committed ones.
#[test]
fn i6_the_buffer_is_emptied_when_term_or_leader_change() {
    let mut node = follower();
    assert_eq!(take(&mut node, append(3, &[1, 1, 3, 3, 3], 4)), []);
    let outputs = node.receive(3, Message::Append(append(4, &[1, 1, 3, 4], 3)));
    assert_eq!(
        outcomes(&outputs),
        [AppendOutcome::Evicted { prev_index: Index(4) }, accepted(4)],
        "its call is answered all the same"
    );
    assert!(replies(&outputs).iter().all(|m| m.term() == Term(4)), "with the new term");
    assert_eq!((terms(&node), node.raft.reordered()), (vec![1, 1, 3, 4], (0, 0)));
}

#[test]
fn i6_the_buffer_is_emptied_by_a_truncation() {
    // Entries 4 and 5 are another leader's of term 2; those this leader's pipeline brings do not fit on them.
    let mut node = Setup::voters(3).log(&[1, 1, 2, 2, 2]).term(3).boot();
    assert_eq!(take(&mut node, append(3, &[1], 0)), [accepted(1)]);
    assert_eq!(take(&mut node, append(3, &[1, 1, 3, 3, 3, 3, 3], 6)), []);
    let outcomes = take(&mut node, append(3, &[1, 1, 3, 3], 1));
    assert_eq!(outcomes, [AppendOutcome::Evicted { prev_index: Index(6) }, accepted(4)]);
}

#[test]
fn i6_what_waited_passes_the_full_check_when_drained() {
    let mut node = Setup::voters(3).log(&[1, 1]).term(3).boot();
    assert_eq!(take(&mut node, append(3, &[1], 0)), [accepted(1)]);
    // Claims a prev of term 2 at 3, where the leader has put term 3.
    let odd = Append { prev_term: Term(2), ..append(3, &[1, 1, 3, 3], 3) };
    assert_eq!(take(&mut node, odd), []);
    assert_eq!(take(&mut node, append(3, &[1, 1, 3], 1)), [refused(3, (3, 3), 3), accepted(3)]);
}

/// The entry chain (entry.rs): a difference with an equal prev term is damage on one side.
#[test]
fn an_append_whose_chain_differs_is_dropped_with_an_alarm() {
    let good = append(1, &[1, 1, 1], 1);
    let mut rotten = good.clone();
    rotten.entries[0].payload = super::command("rot");
    let mut node = Setup::voters(3).log(&[1]).boot();
    for (append, index) in [
        (Append { chain: good.chain ^ 1, ..good.clone() }, 3),
        (rotten, 3),
        (Append { entries: Vec::new(), chain: 7, ..good.clone() }, 1),
    ] {
        let outputs = node.receive(2, Message::Append(append));
        assert_eq!(alarms(&outputs), [Alarm::ChainMismatch { from: identity(2), index: Index(index) }]);
        assert!(traffic(&outputs).is_empty());
        assert_eq!((terms(&node), node.raft.commit()), (vec![1], Index(0)));
    }
    assert_eq!(take(&mut node, good), [accepted(3)]);
}

#[test]
fn a_contradiction_of_committed_entries_is_an_alarm() {
    let mut node = Setup::voters(3).log(&[1, 1]).boot();
    take(&mut node, Append { commit: Index(2), ..append(1, &[1, 1], 2) });
    let outputs = node.receive(3, Message::Append(append(2, &[1, 2], 1)));
    assert_eq!(alarms(&outputs), [Alarm::SettledConflict { from: identity(3), index: Index(2) }]);
    assert_eq!((terms(&node), node.raft.commit()), (vec![1, 1], Index(2)));
}

#[test]
fn a_second_leader_of_one_term_is_an_alarm() {
    let mut node = Setup::voters(3).boot();
    node.receive(2, heartbeat(1, 1, 0));
    let outputs = node.receive(3, heartbeat(1, 1, 0));
    let alarm = Alarm::TwoLeaders { term: Term(1), known: identity(2), claimed: identity(3) };
    assert_eq!(alarms(&outputs), [alarm]);
    assert!(traffic(&outputs).is_empty());
    let (mut leader, _) = Setup::voters(3).lead();
    let outputs = leader.receive(3, Message::Append(append(1, &[1], 0)));
    assert_eq!(alarms(&outputs).len(), 1);
}

/// Raft paper §5.2: at most one leader a term, also for a node that stopped hearing it, or was it.
#[test]
fn the_leader_of_a_term_is_remembered_while_the_term_lasts() {
    let mut node = Setup::voters(3).boot();
    node.receive(2, heartbeat(1, 1, 0));
    node.wait(Duration::from_millis(500));
    assert_eq!((node.raft.role(), node.raft.leader()), (RoleKind::PreCandidate, None));
    assert_eq!(alarms(&node.receive(3, heartbeat(1, 2, 0))).len(), 1);
    assert_eq!(alarms(&node.receive(2, heartbeat(1, 3, 0))).len(), 0);
    assert_eq!(node.raft.leader(), Some(id(2)));
    let (mut deposed, _) = Setup::voters(3).lead();
    deposed.wait(Duration::from_millis(500));
    assert_eq!(deposed.raft.role(), RoleKind::Follower);
    assert_eq!(alarms(&deposed.receive(3, heartbeat(1, 1, 0))).len(), 1);
    assert_eq!(deposed.raft.leader(), None);
}

/// L6.
#[test]
fn l6_heartbeats_may_come_twice_late_and_in_any_order() {
    let mut node = Setup::voters(3).log(&[1, 1, 1]).boot();
    for (round, commit, expected) in [(5, 2, 2), (5, 2, 2), (2, 1, 2), (9, 3, 3), (1, 0, 3)] {
        let outputs = node.receive(2, heartbeat(1, round, commit));
        let answer = HeartbeatReply { term: Term(1), round: Round(round) };
        assert_eq!(notices_to(&outputs, 2), [Message::HeartbeatReply(answer)]);
        assert_eq!((node.raft.commit(), terms(&node).len()), (Index(expected), 3));
    }
}

/// L7: the leader counted on entries that are not here.
#[test]
fn l7_a_commit_index_beyond_the_log_is_an_alarm_and_no_panic() {
    let mut node = Setup::voters(3).log(&[1]).boot();
    let outputs = node.receive(2, heartbeat(1, 1, 5));
    assert_eq!(alarms(&outputs), [Alarm::LostTail { commit: Index(5), last: Index(1) }]);
    assert_eq!(take(&mut node, append(1, &[1, 1, 1, 1, 1, 1], 5)), [refused(5, (2, 0), 1)], "no ack");
}

#[test]
fn a_heartbeats_answer_waits_for_no_log_write() {
    let mut node = Setup::voters(3).term(1).boot();
    node.disk = DiskMode::ByHand;
    take(&mut node, append(1, &[1, 1], 0));
    let outputs = node.receive(2, heartbeat(1, 1, 0));
    assert_eq!(notices_to(&outputs, 2).len(), 1);
}

/// §7 rule 2.
#[test]
fn a_term_learned_is_durable_before_any_message_shows_it() {
    let mut node = Setup::voters(3).boot();
    node.disk = DiskMode::ByHand;
    let mut outputs = node.receive(2, heartbeat(7, 1, 0));
    outputs.extend(node.receive(2, heartbeat(7, 2, 0)));
    outputs.extend(node.receive(3, vote(3, (0, 0))));
    outputs.extend(node.receive(2, Message::Append(append(7, &[7], 0))));
    assert!(traffic(&outputs).is_empty(), "{outputs:?}");
    assert_eq!(node.raft.held_count(), 3, "of heartbeats the latest only");
    let outputs = node.sync();
    assert!(traffic(&outputs).iter().all(|m| m.term() == Term(7)));
    let answer = HeartbeatReply { term: Term(7), round: Round(2) };
    assert_eq!(notices_to(&outputs, 2), [Message::HeartbeatReply(answer)]);
}

/// A promise to an overtaken leader is not kept under its term, and its call is not left open.
#[test]
fn answers_held_for_an_older_term_become_refusals_of_the_newer() {
    let mut node = Setup::voters(3).boot();
    node.disk = DiskMode::ByHand;
    node.receive(2, Message::Append(append(1, &[1, 1], 0)));
    node.receive(3, heartbeat(2, 1, 0));
    let mut outputs = node.sync();
    outputs.extend(node.sync());
    let answers: Vec<(Term, AppendOutcome)> = replies(&outputs)
        .iter()
        .filter_map(|m| if let Message::AppendReply(r) = m { Some((r.term, r.outcome)) } else { None })
        .collect();
    assert_eq!(answers, [(Term(2), AppendOutcome::Evicted { prev_index: Index(0) })]);
}

/// design.md §5: a lagging node must be able to learn the membership from a leader it does not know.
#[test]
fn appends_are_taken_from_any_store_of_the_cluster() {
    let stranger = Identity { node: id(9), store: StoreId([9; 16]) };
    let mut node = Setup::voters(3).boot();
    let outputs = node.receive_from(stranger, Message::Append(append(1, &[1], 0)));
    assert_eq!(outcomes(&outputs), [accepted(1)]);
}

/// M3, E18: it acts when appended and is reverted when truncated.
#[test]
fn a_membership_in_the_log_acts_at_once() {
    let mut node = Setup::voters(3).log(&[1]).boot();
    let mut longer = append(2, &[1], 1);
    let payload = Payload::Membership(voters(&[1, 2, 3, 4]).into());
    let entry = Entry::new(CLUSTER, Index(2), Term(2), payload.clone(), longer.chain);
    longer.chain = entry.chain;
    longer.entries.push(crate::message::AppendEntry { term: Term(2), payload });
    assert_eq!(take(&mut node, longer), [accepted(2)]);
    assert_eq!((**node.raft.membership()).clone(), voters(&[1, 2, 3, 4]));
    node.receive(3, Message::Append(append(3, &[1, 3], 1)));
    assert_eq!((**node.raft.membership()).clone(), voters(&[1, 2, 3]));
}

#[test]
fn an_append_that_begins_below_the_base_is_taken_from_there() {
    let entries = log_of(&[1, 1, 2]);
    let mut setup = Setup::voters(3).term(2);
    setup.base = Base { index: Index(2), term: Term(1), chain: entries[1].chain };
    setup.entries = vec![entries[2].clone()];
    let mut node = setup.boot();
    assert_eq!(take(&mut node, append(2, &[1, 1, 2, 2], 0)), [accepted(4)]);
    assert_eq!(take(&mut node, append(2, &[1], 0)), [accepted(4)], "all of it below");
    assert_eq!(terms(&node), [2, 2]);
}

/// Followers take entries whatever the log holds: only proposals are bounded.
#[test]
fn i8_a_follower_with_a_full_log_takes_entries() {
    let mut node =
        Setup::voters(3).tune(|config| (config.log_bytes_max, config.log_bytes_reserve) = (100, 10)).boot();
    let log = [1; 40];
    assert_eq!(take(&mut node, append(1, &log, 0)), [accepted(40)]);
    assert!(node.raft.log_bytes() > 100);
}

#[test]
fn a_leaders_messages_restart_the_election_timer() {
    let mut node = Setup::voters(3).log(&[1]).boot();
    for message in [
        heartbeat(1, 1, 0),
        Message::Append(append(1, &[1], 1)),
        Message::ReadProbe(super::bench::read_probe(1, 1)),
    ] {
        node.now += Duration::from_millis(200);
        node.receive(2, message.clone());
        let left = node.raft.poll_timeout().unwrap().saturating_since(node.now);
        assert!(left >= Duration::from_millis(250), "{message}: {left:?}");
    }
}

#[test]
fn what_waits_for_a_hung_disk_is_bounded() {
    let mut node = Setup::voters(3).term(1).boot();
    node.disk = DiskMode::ByHand;
    for _ in 0..20_000 {
        take(&mut node, append(1, &[1], 0));
    }
    assert_eq!(node.raft.held_count(), 16_384);
    assert_eq!(outcomes(&node.sync()).len(), 16_384);
}
