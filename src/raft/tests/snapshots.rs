//! Compaction, offers and installs on one node fed by hand. The scenarios are S1, S4, S8, S10, L10 and M4.

use super::bench::{
    Bench, DiskMode, Setup, accepted, alarms, append, appends_to, outcomes, replies, requests_to, traffic,
};
use super::cluster::{Cluster, ms};
use super::{CLUSTER, command, id, log_of, voters};
use crate::entry::Payload;
use crate::message::{Message, SnapshotOffer, SnapshotOfferReply, SnapshotOutcome};
use crate::raft::log::Log;
use crate::raft::{Base, Output, ProgressKind, ReceiveProgress, RoleKind};
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::types::{Index, NodeId, Term};

/// A snapshot through this index of a log of these terms.
fn meta(log: &[u64], index: usize) -> SnapshotMeta {
    let entry = &log_of(log)[index - 1];
    let id = SnapshotId { index: entry.index, term: entry.term, chain: entry.chain };
    SnapshotMeta { id, bytes: 1_000, digest: 7 }
}

fn offer(term: u64, meta: SnapshotMeta) -> Message {
    Message::SnapshotOffer(SnapshotOffer { term: Term(term), meta })
}

fn offers_to(outputs: &[Output], peer: u16) -> Vec<SnapshotMeta> {
    let offer = |message| match message {
        Message::SnapshotOffer(offer) => Some(offer.meta),
        _ => None,
    };
    requests_to(outputs, peer).into_iter().filter_map(offer).collect()
}

/// What the node answered to an offer: its match and how far it is.
fn said(outputs: &[Output]) -> (u64, SnapshotOutcome) {
    match replies(outputs).as_slice() {
        [Message::SnapshotOfferReply(m)] => (m.match_index.0, m.outcome),
        other => panic!("not one answer to an offer: {other:?}"),
    }
}

fn pulls(outputs: &[Output]) -> Vec<(NodeId, SnapshotMeta)> {
    let pull = |output: &Output| match output {
        Output::PullSnapshot { from, meta } => Some((*from, *meta)),
        _ => None,
    };
    outputs.iter().filter_map(pull).collect()
}

fn answer(leader: &mut Bench, from: u16, index: u64, matched: u64, outcome: SnapshotOutcome) -> Vec<Output> {
    let (term, index, match_index) = (leader.raft.term(), Index(index), Index(matched));
    leader
        .receive(from, Message::SnapshotOfferReply(SnapshotOfferReply { term, index, match_index, outcome }))
}

const LOG: [u64; 6] = [1, 1, 1, 1, 1, 2];

/// A snapshot of a leader's own log, which ends with a no-op of its term.
fn own_meta(leader: &Bench, index: u64) -> SnapshotMeta {
    let entry = leader.raft.entry(Index(index)).expect("it is in the log");
    let id = SnapshotId { index: entry.index, term: entry.term, chain: entry.chain };
    SnapshotMeta { id, bytes: 1_000, digest: 7 }
}

/// A leader of term 2 whose six entries are committed by node 2, compacted through the fifth. Node 3 refused the last
/// probe, and its log ends at 0.
fn offering() -> (Bench, Vec<Output>) {
    let (mut leader, mut outputs) = Setup::voters(3).log(&LOG[..5]).tune(|c| c.log_tail_bytes = 0).lead();
    assert_eq!(leader.raft.last_index(), Index(6));
    leader.accept(2, 0, 6);
    // Until what node 3 needs is not kept any more, since it does not move.
    for _ in 0..230 {
        outputs.extend(leader.wait(ms(25)));
        leader.hear(2, 1);
        leader.hear(3, 1);
    }
    assert_eq!((leader.raft.role(), leader.raft.commit()), (RoleKind::Leader, Index(6)));
    leader.raft.compact(leader.now, meta(&LOG, 5));
    leader.drain();
    assert_eq!(leader.raft.base().index, Index(5));
    let probe = appends_to(&outputs, 3).pop().expect("node 3 is probed");
    let outputs = leader.refuse(3, probe.attempt, 5, (1, 0));
    (leader, outputs)
}

#[test]
fn compaction_keeps_a_tail_and_the_membership_in_force() {
    let four = voters(&[1, 2, 3, 4]);
    let mut node = Setup::voters(3).log(&[1, 1, 1]).tune(|c| c.log_tail_bytes = 60).boot();
    let mut entries = append(1, &[1, 1, 1], 3);
    entries.commit = Index(3);
    assert_eq!(outcomes(&node.receive(2, Message::Append(entries))), [accepted(3)]);
    node.raft.compact(node.now, meta(&[1, 1, 1], 3));
    node.drain();
    // An entry counts its three bytes and forty-eight more.
    assert_eq!(node.raft.base().index, Index(2), "one entry fits the tail");
    assert_eq!(node.raft.membership().voters.len(), 3);
    assert_ne!(**node.raft.membership(), four);
    assert_eq!(node.raft.snapshot(), Some(meta(&[1, 1, 1], 3)));
    assert!(node.raft.entry(Index(2)).is_none() && node.raft.entry(Index(3)).is_some());
}

/// L10: a prev that was compacted is never sent; the peer is offered the snapshot instead.
#[test]
fn l10_a_peer_whose_next_entry_is_gone_is_offered_the_snapshot_and_no_append() {
    let (mut leader, mut outputs) = offering();
    assert_eq!(offers_to(&outputs, 3), [meta(&LOG, 5)]);
    for _ in 0..30 {
        outputs.extend(leader.wait(ms(10)));
        outputs.extend(leader.hear(2, 1));
    }
    assert!(appends_to(&outputs, 3).is_empty(), "{:?}", appends_to(&outputs, 3));
    let peer = leader.raft.peers().find(|peer| peer.identity.node == id(3)).unwrap();
    assert_eq!((peer.kind, peer.offer.unwrap().meta), (ProgressKind::Snapshot, meta(&LOG, 5)));
}

#[test]
fn an_offer_is_repeated_with_the_heartbeats_and_appends_go_on_after_it_was_installed() {
    let (mut leader, _) = offering();
    let pulling = SnapshotOutcome::Pulling { bytes: 10 };
    assert!(offers_to(&answer(&mut leader, 3, 5, 0, pulling), 3).is_empty(), "not before the next heartbeat");
    let outputs = leader.wait(ms(25));
    assert_eq!(offers_to(&outputs, 3), [meta(&LOG, 5)]);
    let status = leader.raft.peers().find(|peer| peer.identity.node == id(3)).unwrap().offer.unwrap();
    assert_eq!(status.outcome, Some(pulling));
    let outputs = answer(&mut leader, 3, 5, 5, SnapshotOutcome::Installed);
    let sent = appends_to(&outputs, 3);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].prev_index, sent[0].prev_term, sent[0].entries.len()), (Index(5), Term(1), 1));
    let outputs = answer(&mut leader, 3, 5, 5, SnapshotOutcome::Installed);
    assert!(traffic(&outputs).is_empty(), "a copy of the answer changes nothing");
}

/// A newer snapshot does not make a running transfer begin again; one that stands still does not keep the old one.
#[test]
fn the_same_file_is_offered_while_the_peer_moves() {
    let (mut leader, _) = offering();
    let newer = own_meta(&leader, 6);
    leader.raft.compact(leader.now, newer);
    let mut bytes = 0;
    for round in 0..60 {
        bytes += 10;
        answer(&mut leader, 3, 5, 0, SnapshotOutcome::Pulling { bytes });
        leader.hear(2, 1);
        let outputs = leader.wait(ms(25));
        assert_eq!(offers_to(&outputs, 3), [meta(&LOG, 5)], "in round {round}");
        assert_eq!(leader.raft.base().index, Index(5), "what follows the file is kept");
    }
    let mut offered = Vec::new();
    for _ in 0..240 {
        answer(&mut leader, 3, 5, 0, SnapshotOutcome::Pulling { bytes });
        leader.hear(2, 1);
        offered.extend(offers_to(&leader.wait(ms(25)), 3));
    }
    assert_eq!(offered.last(), Some(&newer));
    assert_eq!(leader.raft.base().index, Index(6));
}

/// S4: a file that cannot be read is offered no more; the next one is.
#[test]
fn s4_a_lost_snapshot_is_offered_to_nobody_until_there_is_another() {
    let (mut leader, _) = offering();
    leader.raft.handle_snapshot_lost(leader.now, meta(&LOG, 5));
    leader.hear(2, 1);
    let mut outputs = leader.wait(ms(100));
    assert!(offers_to(&outputs, 3).is_empty());
    let newer = own_meta(&leader, 6);
    leader.raft.compact(leader.now, newer);
    outputs = leader.drain();
    assert_eq!(offers_to(&outputs, 3), [newer]);
}

/// S8: who answers offers is alive, though not one heartbeat of it comes through.
#[test]
fn s8_answers_to_offers_keep_the_leader_in_office() {
    let (mut leader, _) = offering();
    for _ in 0..100 {
        answer(&mut leader, 3, 5, 0, SnapshotOutcome::Transferred);
        leader.wait(ms(25));
        assert_eq!(leader.raft.role(), RoleKind::Leader);
    }
    leader.wait(ms(600));
    assert_eq!(leader.raft.role(), RoleKind::Follower, "silence does not");
}

/// S10.
#[test]
fn s10_a_candidate_steps_down_when_it_is_offered_a_snapshot() {
    let mut node = Setup::voters(3).term(2).boot();
    node.wait_for_timer();
    assert_eq!(node.raft.role(), RoleKind::PreCandidate);
    let outputs = node.receive(2, offer(2, meta(&LOG, 5)));
    assert_eq!((node.raft.role(), node.raft.leader()), (RoleKind::Follower, Some(id(2))));
    assert_eq!(pulls(&outputs), [(id(2), meta(&LOG, 5))]);
    assert_eq!(said(&outputs), (0, SnapshotOutcome::Pulling { bytes: 0 }));
}

/// S1: it is told what is held, and neither asked for nor installed.
#[test]
fn s1_a_snapshot_that_is_not_newer_is_neither_pulled_nor_installed() {
    let mut node = Setup::voters(3).log(&LOG).boot();
    let mut all = append(2, &LOG, 6);
    all.commit = Index(6);
    node.receive(2, Message::Append(all));
    let outputs = node.receive(2, offer(2, meta(&LOG, 5)));
    assert_eq!((pulls(&outputs), said(&outputs)), (vec![], (6, SnapshotOutcome::Installed)));
    assert!(!node.raft.handle_snapshot_installed(node.now, meta(&LOG, 5), voters(&[1, 2, 3])));
    assert_eq!((node.raft.commit(), node.raft.base().index), (Index(6), Index(0)));
}

/// Raft paper §7: a log that holds the snapshot's last entry is kept; what the snapshot covers is committed.
#[test]
fn a_log_that_leads_over_the_snapshot_is_kept() {
    let mut node = Setup::voters(3).log(&LOG).boot();
    let outputs = node.receive(2, offer(2, meta(&LOG, 5)));
    assert_eq!((pulls(&outputs), said(&outputs)), (vec![], (5, SnapshotOutcome::Installed)));
    assert_eq!((node.raft.commit(), node.raft.last_index()), (Index(5), Index(6)));
}

/// Like an append's acceptance: not before it is durable (design.md §7 rule 6).
#[test]
fn an_install_replaces_the_log_and_is_acknowledged_when_it_is_durable() {
    // Entries of a term that lost: they conflict with what the snapshot covers.
    let mut node = Setup::voters(3).log(&[1, 1, 1, 1, 2]).term(3).boot();
    let file = meta(&[1, 1, 1, 3, 3, 3], 5);
    let offered = || offer(3, file);
    assert_eq!(pulls(&node.receive(2, offered())), [(id(2), file)]);
    node.raft.handle_snapshot_progress(node.now, file, ReceiveProgress::Bytes(400));
    assert_eq!(said(&node.receive(2, offered())), (0, SnapshotOutcome::Pulling { bytes: 400 }));
    node.raft.handle_snapshot_progress(node.now, file, ReceiveProgress::Whole);
    assert_eq!(said(&node.receive(2, offered())), (0, SnapshotOutcome::Transferred));
    node.disk = DiskMode::ByHand;
    assert!(node.raft.handle_snapshot_installed(node.now, file, voters(&[1, 2, 4])));
    let outputs = node.drain();
    let is_install = |output: &Output| match output {
        Output::Persist { install, entries, .. } => {
            install.map(|it| it.meta) == Some(file) && entries.is_empty()
        }
        _ => false,
    };
    assert!(outputs.iter().any(is_install), "{outputs:?}");
    assert!(outputs.iter().any(|o| matches!(o, Output::Commit { index } if *index == Index(5))));
    assert_eq!(said(&node.receive(2, offered())), (0, SnapshotOutcome::Transferred), "it is not durable");
    node.sync();
    assert_eq!(said(&node.receive(2, offered())), (5, SnapshotOutcome::Installed));
    assert_eq!((node.raft.base().index, node.raft.last_index()), (Index(5), Index(5)));
    // M4: the snapshot's membership is in force.
    assert_eq!(**node.raft.membership(), voters(&[1, 2, 4]));
    node.disk = DiskMode::AtOnce;
    let next = append(3, &[1, 1, 1, 3, 3, 3], 5);
    assert_eq!(outcomes(&node.receive(2, Message::Append(next))), [accepted(6)]);
}

/// M4: compaction below a membership keeps it, compaction over it keeps the latest, truncation brings back the one at
/// the base.
#[test]
fn m4_the_base_keeps_the_membership_that_was_in_force_there() {
    let mut log = Log::restore(CLUSTER, Base::default(), voters(&[1, 2, 3]), log_of(&[1, 1]));
    for numbers in [&[1, 2][..], &[1, 2, 4], &[1, 2, 5]] {
        log.append(Term(1), Payload::Membership(voters(numbers).into()));
        log.append(Term(1), command("between"));
    }
    for (through, at) in [(2, 7), (3, 7), (5, 7), (6, 7), (7, 7), (8, 7)] {
        log.compact_towards(Index(through));
        assert_eq!((log.base().index, log.membership_index()), (Index(through), Index(at)));
        assert_eq!(**log.membership(), voters(&[1, 2, 5]));
    }
    let mut log = Log::restore(CLUSTER, Base::default(), voters(&[1, 2, 3]), log_of(&[1, 1]));
    log.append(Term(1), Payload::Membership(voters(&[1, 2]).into()));
    log.append(Term(1), command("between"));
    log.append(Term(1), Payload::Membership(voters(&[1, 2, 4]).into()));
    log.compact_towards(Index(4));
    log.truncate_from(Index(5));
    assert_eq!((&**log.membership(), log.membership_index()), (&voters(&[1, 2]), Index(3)));
}

/// A pull goes on under a new leader that offers the very file, and is told who that is.
#[test]
fn a_new_leader_with_the_same_file_goes_on_with_the_transfer() {
    let mut node = Setup::voters(3).term(2).boot();
    node.receive(2, offer(2, meta(&LOG, 5)));
    node.raft.handle_snapshot_progress(node.now, meta(&LOG, 5), ReceiveProgress::Bytes(700));
    let outputs = node.receive(3, offer(3, meta(&LOG, 5)));
    assert_eq!(pulls(&outputs), [(id(3), meta(&LOG, 5))]);
    assert_eq!(said(&outputs), (0, SnapshotOutcome::Pulling { bytes: 700 }));
    let other = SnapshotMeta { digest: 8, ..meta(&LOG, 5) };
    let outputs = node.receive(3, offer(3, other));
    assert_eq!(
        said(&outputs),
        (0, SnapshotOutcome::Pulling { bytes: 0 }),
        "another file begins at its start"
    );
}

/// S6, among offers: an old one of the same leader, come late, does not take the place of a newer one.
#[test]
fn s6_a_late_copy_of_an_older_offer_changes_nothing() {
    let mut node = Setup::voters(3).term(2).boot();
    node.receive(2, offer(2, meta(&LOG, 5)));
    assert!(pulls(&node.receive(2, offer(2, meta(&LOG, 3)))).is_empty());
    assert_eq!(node.raft.receiving(), Some((meta(&LOG, 5), ReceiveProgress::Bytes(0))));
    assert_eq!(pulls(&node.receive(2, offer(2, meta(&LOG, 6)))), [(id(2), meta(&LOG, 6))]);
}

#[test]
fn a_snapshot_that_contradicts_what_is_settled_raises_an_alarm() {
    let mut node = Setup::voters(3).log(&LOG).boot();
    let mut all = append(2, &LOG, 6);
    all.commit = Index(6);
    node.receive(2, Message::Append(all));
    let mut foreign = meta(&LOG, 5);
    foreign.id.chain ^= 1;
    let outputs = node.receive(2, offer(2, foreign));
    assert_eq!((alarms(&outputs).len(), replies(&outputs).len()), (1, 0));
    assert_eq!(node.raft.commit(), Index(6));
}

#[test]
fn a_node_begins_again_after_its_snapshot() {
    let mut setup = Setup::voters(3).term(2);
    setup.base = meta(&LOG, 5).id.into();
    setup.snapshot = Some(meta(&LOG, 5));
    let mut node = setup.boot();
    assert_eq!(
        (node.raft.commit(), node.raft.last_index(), node.raft.last_term()),
        (Index(5), Index(5), Term(1))
    );
    assert_eq!(outcomes(&node.receive(2, Message::Append(append(2, &LOG, 5)))), [accepted(6)]);
    assert_eq!(outcomes(&node.receive(2, Message::Append(append(2, &LOG, 0)))), [accepted(6)]);
}

/// The whole way in a cluster: a node that was away while the others wrote and compacted comes back.
#[test]
fn a_node_that_was_away_for_long_is_brought_back_by_a_snapshot() {
    let mut cluster = Cluster::with(7, voters(&[1, 2, 3]), |config| config.log_tail_bytes = 0);
    assert!(cluster.run_until(ms(2_000), |c| c.leader().is_some()));
    let leader = cluster.leader().unwrap();
    let away = id((1..=3).find(|number| id(*number) != leader).unwrap());
    cluster.crash(away);
    for number in 0..50 {
        cluster.propose(leader, command(&format!("{number}")));
        cluster.run_for(ms(5));
    }
    for node in [1, 2, 3] {
        cluster.snapshot(id(node), 0);
    }
    cluster.run_for(ms(6_000));
    assert!(cluster.compactions == 2 && cluster.raft(leader.as_u16()).base().index > Index(40));
    cluster.start(away);
    cluster.run_for(ms(1_000));
    assert_eq!(cluster.installs, 1);
    cluster.propose(leader, command("after"));
    cluster.run_for(ms(500));
    let last = cluster.raft(leader.as_u16()).last_index();
    let raft = cluster.raft(away.as_u16());
    assert_eq!((raft.last_index(), raft.commit()), (last, last));
    assert_eq!(cluster.alarms, 0);
}

/// Proposals of one byte, as many as are taken in so many milliseconds; node 2 answers for the leader's sake, and
/// node 3 tells of so many bytes more of its snapshot every 25 of them.
fn taken_in(leader: &mut Bench, millis: u64, bytes: &mut u64, step: u64) -> u64 {
    let mut taken = 0;
    for turn in 0..millis {
        leader.wait(ms(1));
        if turn % 25 == 0 {
            *bytes += step;
            answer(leader, 3, 5, 0, SnapshotOutcome::Pulling { bytes: *bytes });
            leader.hear(2, 1);
        }
        while leader.raft.propose(leader.now, command("x")).is_ok() {
            taken += 1;
            // Four a millisecond is all that these clients have.
            if taken >= 4 * (turn + 1) {
                break;
            }
        }
    }
    leader.drain();
    taken
}

/// Design §6: half rate, at most 60 s, and only for a receiver that moved in the last second.
#[test]
fn proposals_are_slowed_to_half_while_a_snapshot_must_win_the_race_and_its_receiver_moves() {
    let (mut leader, _) = offering();
    let mut bytes = 0;
    let full = taken_in(&mut leader, 2_000, &mut bytes, 10);
    assert_eq!(full, 8_000, "nothing is slowed while the log has room");
    // From here on a quarter of the bound is taken.
    leader.raft.config.log_bytes_max = leader.raft.log.bytes() * 4 - 1;
    let slowed = taken_in(&mut leader, 2_000, &mut bytes, 10);
    assert!((3_600..=4_400).contains(&slowed), "{slowed} in two seconds, {full} in those before");
    // It stands still: it is not waited for after a second.
    taken_in(&mut leader, 1_100, &mut bytes, 0);
    assert_eq!(taken_in(&mut leader, 500, &mut bytes, 0), 2_000);
    // It moves again, and is waited for again, but not for ever.
    let again = taken_in(&mut leader, 1_000, &mut bytes, 10);
    assert!((1_600..=2_400).contains(&again), "{again}");
    leader.raft.config.log_bytes_max = 1 << 30;
    for _ in 0..60 {
        taken_in(&mut leader, 1_000, &mut bytes, 10);
    }
    leader.raft.config.log_bytes_max = leader.raft.log.bytes() * 4 - 1;
    assert_eq!(taken_in(&mut leader, 500, &mut bytes, 10), 2_000, "sixty seconds are over");
}
