//! Reads at a follower, one test per rule: thesis §6.4, R2 and R7.

use core::time::Duration;

use super::bench::{Bench, Setup, append, heartbeat, replies, requests_to};
use super::{identity, members, voters};
use crate::membership::Membership;
use crate::message::{Message, ReadIndex, ReadIndexReply, ReadProbe};
use crate::raft::{Output, ReadError, ReadId};
use crate::types::{Identity, Index, Round, StoreId, Term};

fn follower() -> Bench {
    let mut node = Setup::voters(3).log(&[1, 1]).boot();
    node.receive(2, heartbeat(1, 1, 0));
    assert_eq!(node.raft.leader(), Some(super::id(2)));
    node
}

fn read(node: &mut Bench, id: u64) -> Vec<Output> {
    node.raft.read_here(node.now, ReadId(id)).unwrap();
    node.drain()
}

fn question(outputs: &[Output], peer: u16) -> Option<u64> {
    let questions = requests_to(outputs, peer);
    questions.iter().find_map(|m| if let Message::ReadIndex(m) = m { Some(m.question) } else { None })
}

fn told(question: u64, index: Option<u64>) -> Message {
    Message::ReadIndexReply(ReadIndexReply { term: Term(1), question, index: index.map(Index) })
}

/// Reads that may be answered, with their index, and those that failed.
fn ended(outputs: &[Output]) -> Vec<(u64, Option<u64>)> {
    let end = |output: &Output| match output {
        Output::ReadReady { id, index } => Some((id.0, Some(index.0))),
        Output::ReadFailed { id } => Some((id.0, None)),
        _ => None,
    };
    outputs.iter().filter_map(end).collect()
}

#[test]
fn a_follower_asks_its_leader_and_waits_for_the_index() {
    let mut node = follower();
    let asked = read(&mut node, 7);
    assert_eq!((ended(&asked), question(&asked, 3)), (vec![], None));
    let number = question(&asked, 2).unwrap();
    assert_eq!(
        ended(&node.receive(2, told(number, Some(9)))),
        [(7, Some(9))],
        "whatever is applied here yet"
    );
    assert_eq!(ended(&node.receive(2, told(number, Some(9)))), [], "once");
}

/// R2: an answer tells nothing of reads that came after its question.
#[test]
fn r2_late_answers_and_copies_confirm_nothing_that_was_asked_later() {
    let mut node = follower();
    let first = question(&read(&mut node, 1), 2).unwrap();
    assert_eq!(question(&read(&mut node, 2), 2), None, "one question at a time");
    let outputs = node.receive(2, told(first, Some(2)));
    assert_eq!(ended(&outputs), [(1, Some(2))]);
    let second = question(&outputs, 2).unwrap();
    assert!(second > first, "every question has its own number");
    for late in [first, second + 1, 0] {
        assert_eq!(ended(&node.receive(2, told(late, Some(2)))), [], "question {late}");
    }
    assert_eq!(ended(&node.receive(3, told(second, Some(2)))), [], "from another node");
    let stranger = Identity { store: StoreId([9; 16]), ..identity(3) };
    assert_eq!(ended(&node.receive_from(stranger, told(second, Some(2)))), []);
    assert_eq!(ended(&node.receive(2, told(second, Some(3)))), [(2, Some(3))]);
}

#[test]
fn questions_of_another_boot_have_other_numbers() {
    let number = |incarnation| {
        let mut node = Setup { incarnation, ..Setup::voters(3).log(&[1]) }.boot();
        node.receive(2, heartbeat(1, 1, 0));
        question(&read(&mut node, 1), 2).unwrap()
    };
    assert!(number(2) > number(1) + (1 << 20));
}

/// R7: nobody passes a question on, and nothing is asked twice by itself.
#[test]
fn r7_who_does_not_lead_says_so_and_asks_nobody() {
    let mut node = follower();
    let asked = Message::ReadIndex(ReadIndex { term: Term(1), question: 5 });
    let outputs = node.receive(3, asked);
    assert_eq!(replies(&outputs), [told(5, None)]);
    assert_eq!((question(&outputs, 2), question(&outputs, 3)), (None, None));
    let number = question(&read(&mut node, 1), 2).unwrap();
    let outputs = node.receive(2, told(number, None));
    assert_eq!((ended(&outputs), question(&outputs, 2)), (vec![(1, None)], None));
}

#[test]
fn without_a_leader_nothing_is_asked() {
    let mut node = Setup::voters(3).log(&[1]).boot();
    assert_eq!(node.raft.read_here(node.now, ReadId(1)), Err(ReadError::NotLeader { leader: None }));
}

#[test]
fn reads_fail_when_the_leader_changes_is_silent_or_cannot_be_reached() {
    let mut node = follower();
    read(&mut node, 1);
    read(&mut node, 2);
    let outputs = node.receive(3, Message::Append(append(2, &[1, 1], 2)));
    assert_eq!(ended(&outputs), [(1, None), (2, None)], "another leader");

    let mut node = follower();
    read(&mut node, 1);
    node.raft.handle_call_failed(node.now, super::id(2));
    assert_eq!(ended(&node.drain()), [(1, None)], "no way to the leader");

    let mut node = follower();
    let number = question(&read(&mut node, 1), 2).unwrap();
    let mut outputs = Vec::new();
    for round in 2..60 {
        outputs.extend(node.wait(Duration::from_millis(10)));
        outputs.extend(node.receive(2, heartbeat(1, round, 0)));
    }
    assert_eq!(ended(&outputs), [(1, None)], "heartbeats come, and no answer");
    assert_eq!(ended(&node.receive(2, told(number, Some(2)))), [], "the late answer finds nobody");
}

#[test]
fn too_many_reads_are_refused() {
    let mut node = Setup::voters(3).log(&[1]).tune(|config| config.reads_max = 2).boot();
    node.receive(2, heartbeat(1, 1, 0));
    for id in [1, 2] {
        assert_eq!(node.raft.read_here(node.now, ReadId(id)), Ok(()));
    }
    assert_eq!(node.raft.read_here(node.now, ReadId(3)), Err(ReadError::Busy));
}

#[test]
fn a_leader_treats_a_question_like_a_read_of_its_own() {
    let membership = Membership { learners: members(&[4]), ..voters(&[1, 2, 3]) };
    let (mut node, _) = Setup::voters(3).membership(membership).lead();
    let asked = |question| Message::ReadIndex(ReadIndex { term: Term(1), question });
    assert_eq!(replies(&node.receive(3, asked(8))), [], "no answer before the first commit of the term (R1)");
    let outputs = node.accept(2, 0, 1);
    let probe = |outputs: &[Output]| {
        requests_to(outputs, 2)
            .iter()
            .find_map(|m| if let Message::ReadProbe(p) = m { Some(p.round) } else { None })
    };
    let round = probe(&outputs).unwrap();
    assert_eq!(
        replies(&node.receive(4, asked(9))),
        [],
        "a learner may ask; its question waits for the next round"
    );
    let answer = |round: Round| Message::ReadProbeReply(ReadProbe { term: Term(1), round });
    let outputs = node.receive(2, answer(round));
    assert_eq!(replies(&outputs), [told(8, Some(1))]);
    let next = probe(&outputs).unwrap();
    assert_eq!(replies(&node.receive(2, answer(next))), [told(9, Some(1))]);
    let stranger = Identity { store: StoreId([9; 16]), ..identity(3) };
    assert_eq!(replies(&node.receive_from(stranger, asked(1))), [told(1, None)], "no member");
}

/// R3: a question that waits when leadership is lost is answered with no.
#[test]
fn r3_a_deposed_leader_confirms_no_question() {
    let (mut node, _) = Setup::voters(3).lead();
    node.accept(2, 0, 1);
    node.receive(3, Message::ReadIndex(ReadIndex { term: Term(1), question: 8 }));
    let outputs = node.receive(2, Message::Append(append(2, &[1, 2], 1)));
    let no = ReadIndexReply { term: Term(2), question: 8, index: None };
    assert!(replies(&outputs).contains(&Message::ReadIndexReply(no)), "{outputs:?}");
    assert_eq!(
        node.raft.read(node.now, ReadId(1)).err(),
        Some(ReadError::NotLeader { leader: Some(super::id(2)) })
    );
}
