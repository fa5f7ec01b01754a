//! Elections, one test per rule: Raft paper §5.1, §5.2, §5.4.1; thesis §4.2.3, §9.6; design.md §6.

use core::time::Duration;

use super::bench::{
    DiskMode, Setup, append, cancelled, grant, heartbeat, is_granted, pre_vote, read_probe, replies, reply,
    requests_to, traffic, transfer_vote, vote,
};
use super::{identity, log_of, members, voters};
use crate::entry::{Entry, Payload};
use crate::membership::{Members, Membership};
use crate::message::{
    AppendOutcome, AppendReply, HeartbeatReply, Message, RangeOutcome, RangeReply, RangeRequest, ReadIndex,
    ReadIndexReply, SnapshotOffer, SnapshotOfferReply, SnapshotOutcome, Transfer, TransferReply, VoteReply,
};
use crate::raft::{NUMBER_MAX, Output, RoleKind};
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::types::{HardState, Identity, Incarnation, Index, Round, StoreId, Term};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_follower_that_hears_nobody_asks_before_it_raises_the_term() {
    let mut node = Setup::voters(3).log(&[1, 1]).boot();
    let outputs = node.wait(ms(250));
    assert_eq!((node.raft.role(), node.raft.term()), (RoleKind::PreCandidate, Term(1)));
    let campaign = 1 << 30;
    let expected = pre_vote(1, (2, 1));
    for peer in [2, 3] {
        let Some(Message::PreVote(asked)) = requests_to(&outputs, peer).pop() else { panic!() };
        assert!(asked.campaign > campaign, "campaigns are numbered over all boots");
        assert_eq!(Message::PreVote(crate::message::VoteRequest { campaign: 1, ..asked }), expected);
    }
    assert!(!outputs.iter().any(|output| matches!(output, Output::Persist { .. })));
}

#[test]
fn election_timeouts_are_drawn_between_the_two_bounds() {
    let mut drawn = std::collections::BTreeSet::new();
    let mut node = Setup::voters(3).boot();
    for _ in 0..100 {
        node.receive(2, heartbeat(1, 1, 0));
        let timeout = node.raft.poll_timeout().unwrap().saturating_since(node.now);
        assert!((ms(250)..=ms(500)).contains(&timeout), "{timeout:?}");
        drawn.insert(timeout.as_millis() / 25);
    }
    assert!(drawn.len() > 6, "spread over the range: {drawn:?}");
}

/// E2: a candidate that asks before its own vote is durable may, after a crash, vote for a rival.
#[test]
fn e2_a_candidate_asks_for_votes_only_when_its_own_is_durable() {
    let mut node = Setup::voters(3).boot();
    node.disk = DiskMode::ByHand;
    let asked = node.wait(ms(500));
    let outputs = node.receive(2, grant(&requests_to(&asked, 2).pop().unwrap()).unwrap());
    assert_eq!((node.raft.role(), node.raft.term()), (RoleKind::Candidate, Term(1)));
    assert!(traffic(&outputs).is_empty(), "{outputs:?}");
    let hard_state = HardState { term: Term(1), vote: Some(identity(1)) };
    assert!(
        outputs.iter().any(|o| matches!(o, Output::Persist { hard_state: Some(h), .. } if *h == hard_state))
    );
    let outputs = node.sync();
    assert_eq!(requests_to(&outputs, 2).len() + requests_to(&outputs, 3).len(), 2);
}

#[test]
fn e2_a_candidate_counts_its_own_vote_only_when_it_is_durable() {
    let mut node = Setup::voters(1).boot();
    node.disk = DiskMode::ByHand;
    node.wait(ms(500));
    assert_eq!(node.raft.role(), RoleKind::Candidate);
    node.sync();
    assert_eq!(node.raft.role(), RoleKind::Leader, "a single voter needs no other");
}

/// Raft paper §5.2: at most one vote a term, first come first served.
#[test]
fn a_voter_votes_once_a_term_and_again_for_the_same_candidate() {
    let mut node = Setup::voters(3).boot();
    assert!(is_granted(&node.receive(2, vote(1, (0, 0)))));
    assert!(!is_granted(&node.receive(3, vote(1, (0, 0)))));
    assert!(is_granted(&node.receive(2, vote(1, (0, 0)))));
    assert!(is_granted(&node.receive(3, vote(2, (0, 0)))), "a new term, a new vote");
}

#[test]
fn e1_a_vote_survives_a_restart() {
    let mut node = Setup::voters(3).term(1).vote(2).boot();
    assert!(!is_granted(&node.receive(3, vote(1, (5, 1)))));
    assert!(is_granted(&node.receive(2, vote(1, (5, 1)))));
}

#[test]
fn e1_term_and_vote_go_to_the_disk_as_one_record_before_the_answer() {
    let mut node = Setup::voters(3).boot();
    node.disk = DiskMode::ByHand;
    let outputs = node.receive(2, vote(4, (0, 0)));
    assert!(traffic(&outputs).is_empty(), "{outputs:?}");
    let record = HardState { term: Term(4), vote: Some(identity(2)) };
    let records: Vec<HardState> = outputs
        .iter()
        .filter_map(|o| if let Output::Persist { hard_state, .. } = o { *hard_state } else { None })
        .collect();
    assert_eq!(records, [record]);
    assert!(is_granted(&node.sync()));
}

#[test]
fn e4_without_a_finished_write_there_is_no_vote_and_no_answer() {
    let mut node = Setup::voters(3).boot();
    node.disk = DiskMode::ByHand;
    let mut outputs = node.receive(2, vote(4, (0, 0)));
    outputs.extend(node.receive(2, vote(4, (0, 0))));
    outputs.extend(node.receive(3, heartbeat(2, 1, 0)));
    outputs.extend(node.wait(ms(5_000)));
    assert!(traffic(&outputs).is_empty(), "{outputs:?}");
}

/// Raft paper §5.4.1.
#[test]
fn a_vote_goes_only_to_a_log_that_holds_at_least_as_much() {
    for (last, is_worthy) in
        [((3, 2), true), ((4, 2), true), ((1, 3), true), ((2, 2), false), ((9, 1), false)]
    {
        let mut node = Setup::voters(3).log(&[1, 2, 2]).boot();
        assert_eq!(is_granted(&node.receive(2, pre_vote(3, last))), is_worthy, "pre-vote {last:?}");
        assert_eq!(is_granted(&node.receive(2, vote(4, last))), is_worthy, "vote {last:?}");
        assert_eq!(node.raft.term(), Term(4), "the term is learned either way");
    }
}

#[test]
fn a_vote_request_of_an_older_term_is_refused_with_the_term() {
    let mut node = Setup::voters(3).term(5).boot();
    let Message::VoteReply(reply) = reply(&node.receive(2, vote(4, (9, 4)))) else { panic!() };
    assert_eq!((reply.is_granted, reply.term), (false, Term(5)));
}

/// E11: whatever is asked, whatever is answered, the receiver is byte for byte as before.
#[test]
fn e11_a_pre_vote_leaves_the_receiver_as_it_was() {
    let mut followers = Setup::voters(3).log(&[1, 2]).boot();
    followers.receive(2, heartbeat(2, 1, 0));
    let mut voter = Setup::voters(3).log(&[1, 2]).boot();
    voter.wait(ms(1));
    let (leader, _) = Setup::voters(3).log(&[1, 2]).lead();
    for mut node in [followers, voter, leader] {
        node.raft.handle_timeout(node.now);
        node.drain();
        for (term, last) in [(1, (1, 1)), (2, (2, 2)), (7, (9, 7)), (7, (1, 1))] {
            let before = format!("{:?}", node.raft);
            node.receive(3, pre_vote(term, last));
            assert_eq!(format!("{:?}", node.raft), before, "asked with {last:?} in term {term}");
        }
    }
}

/// E8: the answer carries the term, so the two cannot ignore each other for ever.
#[test]
fn e8_a_lagging_pre_candidate_learns_the_term() {
    let mut ahead = Setup::voters(3).log(&[1, 5]).boot();
    let Message::PreVoteReply(reply) = reply(&ahead.receive(3, pre_vote(1, (1, 1)))) else { panic!() };
    assert_eq!((reply.term, reply.is_granted), (Term(5), false));
    let mut behind = Setup::voters(3).log(&[1]).boot();
    behind.wait_for_timer();
    behind.receive(2, Message::PreVoteReply(reply));
    assert_eq!((behind.raft.role(), behind.raft.term()), (RoleKind::Follower, Term(5)));
}

/// Thesis §4.2.3 and §9.6. E12: a node that comes back again and again disturbs nobody.
#[test]
fn who_heard_a_leader_lately_helps_nobody_to_depose_it() {
    let mut node = Setup::voters(3).log(&[1]).boot();
    node.receive(2, heartbeat(1, 1, 0));
    node.now += ms(249);
    assert!(!is_granted(&node.receive(3, pre_vote(1, (9, 1)))));
    assert!(!is_granted(&node.receive(3, vote(8, (9, 1)))));
    assert_eq!(node.raft.term(), Term(1), "not even the term is taken");
    node.now += ms(1);
    assert!(is_granted(&node.receive(3, pre_vote(1, (9, 1)))));
    assert!(is_granted(&node.receive(3, vote(8, (9, 1)))));
}

#[test]
fn a_leader_ignores_vote_requests_unless_it_handed_over_itself() {
    let (mut node, _) = Setup::voters(3).lead();
    assert!(!is_granted(&node.receive(3, vote(8, (9, 1)))));
    assert_eq!((node.raft.role(), node.raft.term()), (RoleKind::Leader, Term(1)));
    assert!(is_granted(&node.receive(3, transfer_vote(8, (9, 1)))));
    assert_eq!((node.raft.role(), node.raft.term()), (RoleKind::Follower, Term(8)));
}

#[test]
fn a_transfer_overrides_stickiness() {
    let mut node = Setup::voters(3).log(&[1]).boot();
    node.receive(2, heartbeat(1, 1, 0));
    assert!(is_granted(&node.receive(3, transfer_vote(2, (1, 1)))));
}

#[test]
fn after_boot_no_vote_is_granted_for_a_minimum_election_timeout() {
    let mut node = Setup::voters(3).log(&[1]).boot_now();
    node.now += ms(249);
    assert!(!is_granted(&node.receive(3, pre_vote(1, (9, 1)))));
    assert!(!is_granted(&node.receive(3, vote(2, (9, 1)))));
    assert!(!is_granted(&node.receive(3, transfer_vote(2, (9, 1)))));
    assert_eq!(node.raft.term(), Term(1));
    node.now += ms(1);
    assert!(is_granted(&node.receive(3, vote(2, (9, 1)))));
    let mut blank = Setup::voters(3).boot_now();
    assert!(is_granted(&blank.receive(3, pre_vote(0, (0, 0)))), "it cannot have heard a leader");
    assert!(is_granted(&blank.receive(3, vote(1, (0, 0)))));
}

/// wire.md §4: the tally is a set.
#[test]
fn copies_of_a_grant_count_once() {
    let mut node = Setup::voters(5).boot();
    let asked = node.wait(ms(500));
    let yes = grant(&requests_to(&asked, 2).pop().unwrap()).unwrap();
    for _ in 0..5 {
        node.receive(2, yes.clone());
    }
    assert_eq!(node.raft.role(), RoleKind::PreCandidate, "two of five");
    node.receive(3, yes);
    assert_eq!(node.raft.role(), RoleKind::Candidate, "three of five");
}

/// E10: an answer to an earlier campaign of the same term says nothing about this one.
#[test]
fn e10_a_new_campaign_starts_with_an_empty_tally() {
    let mut node = Setup::voters(5).boot();
    let first = node.wait_for_timer();
    let late = grant(&requests_to(&first, 2).pop().unwrap()).unwrap();
    node.receive(2, late.clone());
    let second = node.wait_for_timer();
    assert_eq!((node.raft.role(), node.raft.leader()), (RoleKind::PreCandidate, None));
    node.receive(2, late.clone());
    node.receive(3, late);
    node.receive(4, grant(&requests_to(&second, 4).pop().unwrap()).unwrap());
    assert_eq!(node.raft.role(), RoleKind::PreCandidate, "one of this campaign, and itself");
    node.receive(5, grant(&requests_to(&second, 5).pop().unwrap()).unwrap());
    assert_eq!(node.raft.role(), RoleKind::Candidate);
}

#[test]
fn e10_votes_of_an_earlier_campaign_do_not_elect() {
    let mut node = Setup::voters(3).boot();
    let late = Message::VoteReply(VoteReply {
        term: Term(1),
        campaign_term: Term(1),
        campaign: 1 << 30,
        is_granted: true,
    });
    let asked = node.wait(ms(500));
    node.receive(2, grant(&requests_to(&asked, 2).pop().unwrap()).unwrap());
    node.receive(2, late);
    assert_eq!(node.raft.role(), RoleKind::Candidate);
}

/// I2: the membership binds node 2 to a store; a wiped node 2 has forgotten what that store promised.
#[test]
fn i2_votes_of_another_store_of_a_voters_id_do_not_count() {
    let mut node = Setup::voters(3).boot();
    let asked = node.wait(ms(500));
    let yes = grant(&requests_to(&asked, 2).pop().unwrap()).unwrap();
    node.receive_from(Identity { store: StoreId([9; 16]), ..identity(2) }, yes.clone());
    assert_eq!(node.raft.role(), RoleKind::PreCandidate);
    node.receive_from(Identity { node: super::id(9), store: StoreId([2; 16]) }, yes.clone());
    assert_eq!(node.raft.role(), RoleKind::PreCandidate);
    node.receive(2, yes);
    assert_eq!(node.raft.role(), RoleKind::Candidate);
}

#[test]
fn refusals_do_not_elect() {
    let mut node = Setup::voters(3).boot();
    let asked = node.wait(ms(500));
    let Some(Message::PreVoteReply(yes)) = grant(&requests_to(&asked, 2)[0]) else { panic!() };
    for peer in [2, 3] {
        node.receive(peer, Message::PreVoteReply(VoteReply { is_granted: false, ..yes }));
    }
    assert_eq!(node.raft.role(), RoleKind::PreCandidate);
}

/// Raft paper §5.2: a candidate that hears the leader of its term follows it.
#[test]
fn a_candidate_follows_the_leader_of_its_term() {
    for message in [heartbeat(1, 1, 0), Message::Append(append(1, &[1], 0))] {
        let mut node = Setup::voters(3).boot();
        let asked = node.wait(ms(500));
        node.receive(2, grant(&requests_to(&asked, 2)[0]).unwrap());
        assert_eq!((node.raft.role(), node.raft.term()), (RoleKind::Candidate, Term(1)));
        let outputs = node.receive(3, message);
        assert_eq!((node.raft.role(), node.raft.leader()), (RoleKind::Follower, Some(super::id(3))));
        assert_eq!(cancelled(&outputs), [super::id(2), super::id(3)], "its vote requests are overtaken");
    }
}

#[test]
fn a_pre_candidate_helps_a_candidate_of_its_term() {
    let mut node = Setup::voters(3).term(4).boot();
    node.wait(ms(500));
    assert_eq!(node.raft.role(), RoleKind::PreCandidate);
    assert!(is_granted(&node.receive(2, vote(4, (0, 0)))));
    assert_eq!(node.raft.role(), RoleKind::Follower);
}

/// design.md §6: slow fsync must neither cause nor prevent an election.
#[test]
fn i7_no_campaign_starts_while_a_vote_or_term_is_being_written() {
    let mut node = Setup::voters(3).boot();
    node.disk = DiskMode::ByHand;
    node.receive(2, vote(4, (0, 0)));
    let outputs = node.wait(ms(3_000));
    assert_eq!(node.raft.role(), RoleKind::Follower);
    assert!(traffic(&outputs).is_empty());
    node.sync();
    let timeout = node.raft.poll_timeout().unwrap().saturating_since(node.now);
    assert!(timeout >= ms(250), "the voter's timer starts when its vote is durable: {timeout:?}");
    node.wait(ms(500));
    assert_eq!(node.raft.role(), RoleKind::PreCandidate);
}

#[test]
fn i7_the_time_a_term_took_to_be_written_is_no_silence_of_a_leader() {
    for wait in [600, 1_000, 1_400, 1_800, 2_200] {
        let mut node = Setup::voters(3).log(&[1, 1]).boot();
        node.disk = DiskMode::ByHand;
        assert!(replies(&node.receive(2, vote(4, (0, 0)))).is_empty(), "refused, once the term is durable");
        node.wait(ms(wait));
        node.sync();
        assert!(node.raft.poll_timeout().unwrap() >= node.now + ms(250), "after {wait} ms");
    }
}

#[test]
fn i7_a_voters_timer_restarts_when_its_vote_is_durable() {
    let mut node = Setup::voters(3).boot();
    node.disk = DiskMode::ByHand;
    node.receive(2, vote(4, (0, 0)));
    node.now += ms(200);
    node.sync();
    assert!(node.raft.poll_timeout().unwrap() >= node.now + ms(250));
}

#[test]
fn i7_a_candidates_timer_starts_when_its_vote_is_durable_and_allows_for_four_syncs() {
    let mut node = Setup::voters(3).boot();
    node.disk = DiskMode::ByHand;
    let asked = node.wait(ms(500));
    node.receive(2, grant(&requests_to(&asked, 2)[0]).unwrap());
    assert_eq!(node.raft.poll_timeout(), None, "nothing runs while the vote is written");
    node.now += ms(1_000);
    node.sync();
    let timeout = node.raft.poll_timeout().unwrap().saturating_since(node.now);
    assert!((ms(4_250)..=ms(4_500)).contains(&timeout), "{timeout:?}");
}

#[test]
fn only_the_newest_pending_hard_state_is_written() {
    let mut node = Setup::voters(3).boot();
    node.disk = DiskMode::ByHand;
    let mut outputs = Vec::new();
    for term in 1..=9 {
        outputs.extend(node.receive(2, vote(term, (0, 0))));
    }
    assert_eq!(node.unfinished.len(), 1, "one hard-state write at a time");
    outputs.extend(node.sync());
    outputs.extend(node.sync());
    let terms: Vec<Term> = outputs
        .iter()
        .filter_map(|o| {
            if let Output::Persist { hard_state, .. } = o { hard_state.map(|h| h.term) } else { None }
        })
        .collect();
    assert_eq!(terms, [Term(1), Term(9)]);
    let grants: Vec<Term> = replies(&outputs)
        .iter()
        .filter_map(|m| {
            if let Message::VoteReply(r) = m { r.is_granted.then_some(r.campaign_term) } else { None }
        })
        .collect();
    assert_eq!(grants, [Term(9)], "a vote that never was on the disk is never told");
}

#[test]
fn a_learner_never_campaigns() {
    let membership = Membership { learners: members(&[1]), ..voters(&[2, 3]) };
    let mut node = Setup::voters(3).membership(membership).boot();
    let outputs = node.wait(ms(10_000));
    assert_eq!(node.raft.role(), RoleKind::Follower);
    assert!(traffic(&outputs).is_empty());
}

/// E13 and invariant 14.
#[test]
fn e13_a_node_that_its_log_removed_never_campaigns() {
    let removed = Payload::Membership(voters(&[2, 3]).into());
    let mut node = Setup::voters(3).log(&[1]).boot();
    let mut entries = log_of(&[1]);
    entries.push(Entry::new(super::CLUSTER, Index(2), Term(1), removed, entries[0].chain));
    let mut setup = Setup::voters(3).log(&[1]);
    setup.entries = entries;
    let mut gone = setup.boot();
    gone.receive(2, heartbeat(1, 1, 2));
    assert!(traffic(&gone.wait(ms(10_000))).is_empty());
    assert_eq!((gone.raft.role(), gone.raft.term()), (RoleKind::Follower, Term(1)));
    node.wait(ms(500));
    assert_eq!(node.raft.role(), RoleKind::PreCandidate, "one that was not removed does");
}

/// E17: promoted but unaware. The asker's log holds more, so its membership can be a newer one.
#[test]
fn e17_a_learner_votes_only_when_asked_by_a_newer_log() {
    let membership = Membership { learners: members(&[1]), ..voters(&[2, 3]) };
    let node = || Setup::voters(3).membership(membership.clone()).log(&[1, 1]).boot();
    assert!(!is_granted(&node().receive(2, pre_vote(1, (2, 1)))), "the same log holds the same membership");
    assert!(!is_granted(&node().receive(2, vote(2, (2, 1)))));
    assert!(is_granted(&node().receive(2, pre_vote(1, (3, 1)))));
    assert!(is_granted(&node().receive(2, vote(2, (3, 1)))));
}

/// E18: the latest membership in the log counts, committed or not.
#[test]
fn e18_a_campaign_uses_the_latest_membership_in_the_log() {
    let joint =
        Membership { voters: members(&[1, 4, 5]), outgoing: members(&[1, 2, 3]), learners: Members::new() };
    let mut setup = Setup::voters(3).log(&[1]);
    let chain = setup.entries[0].chain;
    let payload = Payload::Membership(joint.into());
    setup.entries.push(Entry::new(super::CLUSTER, Index(2), Term(1), payload, chain));
    let mut node = setup.boot();
    let asked = node.wait(ms(500));
    for peer in [2, 3, 4, 5] {
        assert_eq!(requests_to(&asked, peer).len(), 1, "{peer} is asked");
    }
    let yes = grant(&requests_to(&asked, 2)[0]).unwrap();
    node.receive(2, yes.clone());
    node.receive(3, yes.clone());
    assert_eq!(node.raft.role(), RoleKind::PreCandidate, "the outgoing majority alone is no quorum");
    node.receive(4, yes);
    assert_eq!(node.raft.role(), RoleKind::Candidate);
}

/// E14: every message of a higher term makes a leader step down; a pre-vote changes nothing (E11), and a plain
/// vote request finds the leader sticky (thesis §4.2.3).
#[test]
fn e14_every_message_of_a_higher_term_deposes_a_leader() {
    let reply = VoteReply { term: Term(9), campaign_term: Term(9), campaign: 1, is_granted: false };
    let outcome = AppendOutcome::Accepted { match_index: Index(1) };
    let id = SnapshotId { index: Index(4), term: Term(3), chain: 5 };
    let meta = SnapshotMeta { id, bytes: 10, digest: 0 };
    let order = Transfer { term: Term(9), incarnation: Incarnation(1), last_index: Index(0) };
    let deposing = [
        Message::PreVoteReply(reply),
        transfer_vote(9, (0, 0)),
        Message::VoteReply(reply),
        Message::Append(append(9, &[9], 0)),
        Message::AppendReply(AppendReply { term: Term(9), attempt: 0, outcome }),
        heartbeat(9, 1, 0),
        Message::HeartbeatReply(HeartbeatReply { term: Term(9), round: Round(1) }),
        Message::ReadProbe(read_probe(9, 1)),
        Message::ReadProbeReply(read_probe(9, 1)),
        Message::TransferReply(TransferReply { term: Term(9), is_taken: false }),
        Message::Transfer(order),
        Message::SnapshotOffer(SnapshotOffer { term: Term(9), meta }),
        Message::SnapshotOfferReply(SnapshotOfferReply {
            term: Term(9),
            index: Index(1),
            match_index: Index(0),
            outcome: SnapshotOutcome::Installed,
        }),
        Message::Range(RangeRequest {
            term: Term(9),
            question: 1,
            damaged_from: Index(1),
            first: Index(1),
            last: Index(0),
        }),
        Message::RangeReply(RangeReply {
            term: Term(9),
            question: 1,
            commit: None,
            outcome: RangeOutcome::Nothing,
        }),
        Message::ReadIndex(ReadIndex { term: Term(9), question: 1 }),
        Message::ReadIndexReply(ReadIndexReply { term: Term(9), question: 1, index: None }),
    ];
    for message in deposing {
        let (mut leader, _) = Setup::voters(3).lead();
        leader.receive(2, message.clone());
        assert_ne!(leader.raft.role(), RoleKind::Leader, "{message}");
        assert!(leader.raft.term() >= Term(9), "{message}");
    }
    for message in [pre_vote(9, (9, 9)), vote(9, (9, 9))] {
        let (mut leader, _) = Setup::voters(3).lead();
        leader.receive(2, message.clone());
        assert_eq!((leader.raft.role(), leader.raft.term()), (RoleKind::Leader, Term(1)), "{message}");
    }
}

/// E9: silence towards a lower-term leader would leave this node outside for ever.
#[test]
fn e9_a_node_of_a_higher_term_tells_a_stale_leader_so() {
    for message in
        [heartbeat(3, 1, 0), Message::Append(append(3, &[3], 0)), Message::ReadProbe(read_probe(3, 1))]
    {
        let mut node = Setup::voters(3).term(9).boot();
        let outputs = node.receive(2, message.clone());
        let said: Vec<Term> = traffic(&outputs).iter().map(|m| m.term()).collect();
        assert_eq!(said, [Term(9)], "{message}");
        assert_eq!((node.raft.leader(), node.raft.last_index()), (None, Index(0)));
    }
}

/// U16: numbers beyond what the wire carries, or that contradict each other, have no effect.
#[test]
fn u16_implausible_numbers_are_dropped_with_an_alarm() {
    for message in [
        vote(NUMBER_MAX + 1, (1, 1)),
        vote(u64::MAX, (u64::MAX, u64::MAX)),
        pre_vote(NUMBER_MAX + 7, (1, 1)),
        vote(3, (1, 4)),
        vote(3, (0, 1)),
        heartbeat(u64::MAX, 1, u64::MAX),
        heartbeat(0, 1, 0),
        Message::Append(crate::message::Append { prev_index: Index(u64::MAX), ..append(2, &[1, 1], 1) }),
        Message::Append(append(1, &[1, 2], 1)),
        Message::Append(append(3, &[1, 3, 2], 1)),
    ] {
        let mut node = Setup::voters(3).log(&[1]).boot();
        let outputs = node.receive(2, message.clone());
        assert_eq!(super::bench::alarms(&outputs).len(), 1, "{message}");
        assert!(traffic(&outputs).is_empty(), "{message}");
        assert_eq!(node.state(), "n1@1 follower last=1@1 commit=0 durable=1", "{message}");
    }
}

#[test]
fn u16_at_the_last_term_nobody_campaigns() {
    let mut node = Setup::voters(3).term(NUMBER_MAX).boot();
    assert!(traffic(&node.wait(ms(5_000))).is_empty());
    assert_eq!(node.raft.term(), Term(NUMBER_MAX));
}

#[test]
fn a_message_that_claims_to_come_from_this_node_is_dropped() {
    let mut node = Setup::voters(3).boot();
    let outputs = node.receive(1, heartbeat(7, 1, 0));
    assert_eq!((super::bench::alarms(&outputs).len(), node.raft.term()), (1, Term(0)));
}
