//! Logs with holes: what such a node does, what it believes, and what a leader takes back (D1, I11).

use core::time::Duration;

use super::bench::{Bench, Setup, accepted, alarms, append, heartbeat, outcomes, reply, requests_to, vote};
use super::{id, identity, log_of};
use crate::message::{AppendEntry, AppendOutcome, Message, RangeOutcome, RangeReply, RangeRequest};
use crate::raft::repair::PARKED_MAX;
use crate::raft::{Alarm, Output, RepairStatus, RoleKind};
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::types::{Index, NodeId, Term};

/// The log that everybody had.
const LOG: [u64; 8] = [1, 1, 1, 2, 2, 2, 3, 3];

fn asked(outputs: &[Output]) -> Option<(u16, RangeRequest)> {
    outputs.iter().find_map(|output| match output {
        Output::Request { to, message: Message::Range(range) } => Some((to.as_u16(), *range)),
        _ => None,
    })
}

/// What a node with a log of these terms says of a range.
fn entries(terms: &[u64], first: u64, last: u64) -> RangeOutcome {
    let log = log_of(terms);
    let chain = |index: u64| index.checked_sub(1).map_or(0, |place| log[place as usize].chain);
    let through = last.min(terms.len() as u64);
    let entries = log[first as usize - 1..through as usize].iter();
    let entries = entries.map(|entry| AppendEntry { term: entry.term, payload: entry.payload.clone() });
    RangeOutcome::Entries { entries: entries.collect(), chain: chain(through) }
}

fn answer(
    node: &mut Bench,
    from: u16,
    request: RangeRequest,
    commit: Option<u64>,
    outcome: RangeOutcome,
) -> Vec<Output> {
    let (term, question) = (node.raft.term(), request.question);
    let commit = commit.map(Index);
    node.receive(from, Message::RangeReply(RangeReply { term, question, commit, outcome }))
}

/// What goes to the disk: from where it is cut, and the entries.
fn written(outputs: &[Output]) -> Option<(Option<u64>, Vec<u64>)> {
    outputs.iter().find_map(|output| match output {
        Output::Persist { truncate_from, entries, .. } if truncate_from.is_some() || !entries.is_empty() => {
            Some((truncate_from.map(|from| from.0), entries.iter().map(|entry| entry.index.0).collect()))
        }
        _ => None,
    })
}

fn damaged(holes: &[core::ops::RangeInclusive<u64>], is_end_known: bool) -> Bench {
    Setup::voters(3).log(&LOG).damaged(holes, is_end_known).boot()
}

#[test]
fn a_damaged_node_neither_campaigns_nor_takes_an_order_to() {
    let mut node = damaged(&[3..=4], true);
    node.wait(Duration::from_secs(10));
    assert_eq!((node.raft.role(), node.raft.term()), (RoleKind::Follower, Term(3)));
    let (incarnation, last_index) = (node.raft.config().incarnation, Index(2));
    let order = crate::message::Transfer { term: Term(3), incarnation, last_index };
    let outputs = node.receive(2, Message::Transfer(order));
    assert!(matches!(reply(&outputs), Message::TransferReply(m) if !m.is_taken));
}

/// I11: it knows how far it has acknowledged, and helps nobody who has less.
#[test]
fn it_votes_as_if_nothing_were_missing_where_its_end_is_known() {
    let is_granted = |holes, is_end_known, last| {
        let mut node = damaged(holes, is_end_known);
        let outputs = node.receive(2, vote(4, last));
        matches!(reply(&outputs), Message::VoteReply(m) if m.is_granted)
    };
    assert!(is_granted(&[3..=4], true, (8, 3)));
    assert!(!is_granted(&[3..=4], true, (7, 3)), "less than it acknowledged");
    assert!(is_granted(&[7..=8], true, (8, 3)), "the end itself is damaged, its place is not");
    assert!(!is_granted(&[7..=8], true, (6, 2)));
    assert!(!is_granted(&[7..=8], false, (8, 3)), "nobody knows what it acknowledged");
    assert!(!is_granted(&[7..=8], false, (99, 3)));
}

/// D1: any node's entries that lead into what is left are what was lost, and one write mends the disk.
#[test]
fn a_range_that_chains_into_the_next_intact_entry_is_believed_from_anyone() {
    let mut node = damaged(&[3..=4, 6..=6], true);
    let (to, first) = asked(&node.drain()).unwrap();
    assert_eq!((first.damaged_from, first.first, first.last), (Index(3), Index(3), Index(4)));
    let status = RepairStatus { first: Index(3), last: Some(Index(4)), fetched: 0, from: NodeId::new(to) };
    assert_eq!(node.raft.repair(), Some(status));
    let outputs = answer(&mut node, to, first, None, entries(&LOG, 3, 4));
    assert_eq!(written(&outputs), None, "the second hole is still there");
    let (to, second) = asked(&outputs).unwrap();
    assert_eq!((second.damaged_from, second.first, second.last), (Index(3), Index(6), Index(6)));
    let outputs = answer(&mut node, to, second, None, entries(&LOG, 6, 6));
    assert_eq!(written(&outputs), Some((Some(3), (3..=8).collect())));
    assert_eq!((node.raft.repair(), node.raft.last_index()), (None, Index(8)));
}

// [W-63]
#[test]
fn a_range_that_leads_elsewhere_is_not_believed_and_others_are_asked() {
    let mut node = damaged(&[3..=4], true);
    let (to, range) = asked(&node.drain()).unwrap();
    let other = [1, 1, 1, 3, 3];
    answer(&mut node, to, range, None, entries(&other, 3, 4));
    assert_eq!((node.raft.last_index(), node.raft.repair().unwrap().fetched), (Index(2), 0));
    let outputs = node.wait(Duration::from_millis(100));
    let (next, range) = asked(&outputs).unwrap();
    let late = answer(
        &mut node,
        next,
        RangeRequest { question: range.question - 1, ..range },
        None,
        entries(&LOG, 3, 4),
    );
    assert_eq!(written(&late), None, "an answer to an earlier question");
    let outputs = answer(&mut node, next, range, None, entries(&LOG, 3, 4));
    assert_eq!(written(&outputs), Some((Some(3), (3..=8).collect())));
}

#[test]
fn the_end_of_a_log_is_believed_by_its_index_and_term() {
    for (theirs, is_believed) in [(&LOG, true), (&[1, 1, 1, 2, 2, 2, 4, 4], false)] {
        let mut node = Setup::voters(3).log(&LOG).term(4).damaged(&[7..=8], true).boot();
        let (to, range) = asked(&node.drain()).unwrap();
        assert_eq!((range.first, range.last), (Index(7), Index(8)));
        let outputs = answer(&mut node, to, range, None, entries(theirs, 7, 8));
        let expected = is_believed.then(|| (Some(7), vec![7, 8]));
        assert_eq!(written(&outputs), expected, "{theirs:?}");
    }
}

/// What the leader of the term does not have was never committed.
#[test]
fn a_leader_s_range_that_does_not_chain_cuts_what_was_kept() {
    let theirs = [1, 1, 1, 3, 4];
    let mut node = Setup::voters(3).log(&LOG).term(4).damaged(&[4..=5], true).boot();
    let (to, range) = asked(&node.receive(2, heartbeat(4, 1, 0))).unwrap();
    assert_eq!(to, 2, "the leader comes first");
    let outputs = answer(&mut node, 2, range, Some(3), entries(&theirs, 4, 5));
    assert_eq!(written(&outputs), Some((Some(4), vec![4, 5])));
    assert_eq!(node.raft.last_term(), Term(4));
}

/// Damage with no readable end: only what a leader committed in its own term, told in answer to the declaration.
#[test]
fn a_log_of_unknown_length_is_whole_when_it_reaches_an_own_term_commit_of_the_leader() {
    let mut node = Setup::voters(3).log(&LOG).damaged(&[7..=8], false).boot();
    assert_eq!(asked(&node.drain()), None, "nobody but a leader could tell");
    let theirs = [1, 1, 1, 2, 2, 2, 3, 4, 4];
    let mut outputs = node.receive(2, heartbeat(4, 1, 0));
    outputs.extend(node.wait(Duration::from_millis(60)));
    let (to, range) = asked(&outputs).unwrap();
    assert_eq!((to, range.first, range.last), (2, Index(7), Index(0)));
    // Its own term's entry is there and not committed.
    let mut outputs = answer(&mut node, 2, range, Some(6), entries(&theirs, 7, 9));
    assert!(node.raft.repair().is_some());
    node.receive(2, heartbeat(4, 2, 0));
    outputs.extend(node.wait(Duration::from_millis(60)));
    let (_, range) = asked(&outputs[1..]).or_else(|| asked(&outputs)).unwrap();
    let outputs = answer(&mut node, 2, range, Some(8), entries(&theirs, 10, 9));
    assert_eq!(written(&outputs), Some((Some(7), vec![7, 8, 9])));
    assert_eq!(node.raft.repair(), None);
}

/// Appends may not get there: those before wait until the repair has ended.
#[test]
fn a_leader_s_range_that_contradicts_the_last_entry_before_the_hole_cuts_it() {
    for theirs in [&[1, 1, 1, 2, 2, 4, 4][..], &[1, 1, 1, 2, 4]] {
        let mut node = Setup::voters(3).log(&LOG).term(4).damaged(&[7..=8], false).boot();
        let (_, range) = asked(&node.receive(2, heartbeat(4, 1, 0))).unwrap();
        assert_eq!((range.first, range.last), (Index(7), Index(0)));
        let outcome = match entries(theirs, 7.min(theirs.len() as u64 + 1), 7) {
            RangeOutcome::Entries { chain, .. } if theirs.len() < 6 => {
                RangeOutcome::Entries { entries: vec![], chain }
            }
            outcome => outcome,
        };
        let outputs = answer(&mut node, 2, range, Some(5), outcome);
        assert_eq!(written(&outputs), Some((Some(6), vec![])), "{theirs:?}");
        assert_eq!((node.raft.repair(), node.raft.last_index()), (None, Index(5)));
    }
}

/// What is committed here cannot be wrong by anybody's word.
#[test]
fn a_leader_s_range_that_contradicts_what_is_committed_is_an_alarm() {
    let mut node = Setup::voters(3).log(&LOG).term(4).damaged(&[7..=8], false).boot();
    node.drain();
    let outputs = node.receive(2, Message::Append(append(4, &LOG[..6], 1)));
    let (_, range) = asked(&outputs).unwrap();
    node.receive(2, heartbeat(4, 1, 6));
    let outputs = answer(&mut node, 2, range, Some(6), entries(&[1, 1, 1, 2, 2, 4, 4], 7, 7));
    assert_eq!((node.raft.last_index(), node.raft.commit()), (Index(6), Index(6)));
    assert_eq!(alarms(&outputs), [Alarm::SettledConflict { from: identity(2), index: Index(6) }]);
}

/// The first hole is filled in memory only, so a cut behind it takes the disk's hole along all the same.
#[test]
fn a_conflict_behind_a_hole_that_is_filled_ends_the_repair_and_mends_the_disk() {
    let mut node = Setup::voters(3).log(&LOG).term(4).damaged(&[3..=3, 6..=6], true).boot();
    let (to, range) = asked(&node.drain()).unwrap();
    let outputs = answer(&mut node, to, range, None, entries(&LOG, 3, 3));
    assert_eq!((written(&outputs), node.raft.last_index()), (None, Index(5)));
    let outputs = node.receive(2, Message::Append(append(4, &[1, 1, 1, 2, 4], 4)));
    assert_eq!(written(&outputs), Some((Some(3), vec![3, 4, 5])));
    assert_eq!(node.raft.repair(), None);
    assert_eq!(outcomes(&outputs), [accepted(5)]);
}

/// An append into the hole waits; what lies before it is acknowledged.
#[test]
fn it_acknowledges_only_below_the_hole() {
    let mut node = Setup::voters(3).log(&LOG).term(4).damaged(&[5..=6], true).boot();
    node.drain();
    let below = append(4, &LOG[..3], 1);
    let outputs = node.receive(2, Message::Append(below));
    assert_eq!(outcomes(&outputs), [accepted(3)]);
    let into = append(4, &[1, 1, 1, 2, 2, 2], 4);
    let outputs = node.receive(2, Message::Append(into));
    assert_eq!(outcomes(&outputs), []);
    assert_eq!(node.raft.last_index(), Index(4));
    let beyond = append(4, &[1, 1, 1, 2, 2, 2, 3], 6);
    let outputs = node.receive(2, Message::Append(beyond));
    assert!(matches!(outcomes(&outputs)[..], [AppendOutcome::Refused { .. }]));
}

/// Each append into the hole is another round trip that its leader waits for: of more than a few the oldest is sent
/// back, and the leader probes again.
#[test]
fn appends_that_wait_for_a_repair_are_bounded() {
    let mut node = Setup::voters(3).log(&LOG).term(4).damaged(&[5..=6], true).boot();
    node.drain();
    let into = append(4, &[1, 1, 1, 2, 2, 2], 4);
    let mut evicted = 0;
    for count in 1..=3 * PARKED_MAX {
        let outputs = node.receive(2, Message::Append(into.clone()));
        let sent_back = outcomes(&outputs);
        assert!(sent_back.iter().all(|it| matches!(it, AppendOutcome::Evicted { .. })), "{sent_back:?}");
        evicted += sent_back.len();
        assert_eq!(evicted, count.saturating_sub(PARKED_MAX), "after {count}");
    }
}

// [W-64]
#[test]
fn a_leader_takes_back_what_a_damaged_follower_acknowledged_and_old_answers_do_not_bring_it_again() {
    let (mut leader, _) = Setup::voters(3).log(&LOG).lead();
    leader.accept(2, 0, 9);
    let peer = |leader: &Bench| leader.raft.peers().find(|peer| peer.identity.node == id(2)).unwrap();
    assert_eq!((peer(&leader).match_index, leader.raft.commit()), (Index(9), Index(9)));
    let term = leader.raft.term();
    let range = |question, from| {
        let (damaged_from, first) = (Index(from), Index(from));
        Message::Range(RangeRequest { term, question, damaged_from, first, last: Index(0) })
    };
    let outputs = leader.receive(2, range(5 << 30 | 1, 4));
    let Message::RangeReply(told) = reply(&outputs) else { panic!("{outputs:?}") };
    assert_eq!((told.commit, told.question), (Some(Index(9)), 5 << 30 | 1));
    assert!(matches!(told.outcome, RangeOutcome::Entries { entries, .. } if entries.len() == 6));
    assert_eq!((peer(&leader).match_index, leader.raft.commit()), (Index(3), Index(9)));
    leader.accept(2, 0, 9);
    assert_eq!(peer(&leader).match_index, Index(3), "an acknowledgement from before");
    let outputs = leader.drain();
    let attempt = requests_to(&outputs, 2).into_iter().find_map(|message| match message {
        Message::Append(append) => Some(append.attempt),
        _ => None,
    });
    leader.accept(2, attempt.unwrap_or(1), 9);
    assert_eq!(peer(&leader).match_index, Index(9), "one from after");
    leader.receive(2, range(5 << 30 | 2, 12));
    assert_eq!(peer(&leader).match_index, Index(9), "what is not lost is not taken back");
}

/// Any node answers, also with what stands behind a hole of its own.
#[test]
fn a_damaged_node_serves_what_it_has() {
    let mut node = damaged(&[3..=4], true);
    node.drain();
    let ask = |node: &mut Bench, first, last| {
        let (term, damaged_from) = (Term(3), Index(first));
        let range = RangeRequest { term, question: 1, damaged_from, first: Index(first), last: Index(last) };
        match reply(&node.receive(2, Message::Range(range))) {
            Message::RangeReply(m) => (m.commit, m.outcome),
            other => panic!("{other}"),
        }
    };
    assert_eq!(ask(&mut node, 6, 7), (None, entries(&LOG, 6, 7)));
    assert_eq!(ask(&mut node, 5, 0), (None, entries(&LOG, 5, 8)), "the first behind the hole");
    assert_eq!(ask(&mut node, 2, 0), (None, entries(&LOG, 2, 2)), "up to the hole");
    assert_eq!(ask(&mut node, 4, 4), (None, RangeOutcome::Nothing));
}

/// A snapshot below intact entries keeps them if the chain value meets, and goes over them if not.
#[test]
fn kept_entries_stay_behind_a_snapshot_that_their_chain_continues() {
    let meta = |terms: &[u64], index: u64| {
        let last = &log_of(terms)[index as usize - 1];
        let id = SnapshotId { index: Index(index), term: last.term, chain: last.chain };
        SnapshotMeta { id, bytes: 1000, digest: 7 }
    };
    for (terms, cut, kept) in [(&LOG[..], Some(6), vec![6, 7, 8]), (&[1, 1, 1, 3, 3, 3][..], None, vec![])] {
        let mut node = damaged(&[3..=5], true);
        let (to, range) = asked(&node.drain()).unwrap();
        let file = meta(terms, 5);
        let outputs = answer(&mut node, to, range, None, RangeOutcome::Covered { meta: file });
        assert!(outputs.iter().any(|o| matches!(o, Output::PullSnapshot { meta, .. } if *meta == file)));
        let membership = (**node.raft.membership()).clone();
        assert!(node.raft.handle_snapshot_installed(node.now, file, membership));
        let outputs = node.drain();
        let install = outputs.iter().find_map(|output| match output {
            Output::Persist { install: Some(install), truncate_from, entries, .. } => {
                let entries: Vec<u64> = entries.iter().map(|entry| entry.index.0).collect();
                Some((install.is_log_spared, truncate_from.map(|from| from.0), entries))
            }
            _ => None,
        });
        assert_eq!(install, Some((cut.is_some(), cut, kept)));
        assert_eq!(node.raft.repair(), None);
    }
}
