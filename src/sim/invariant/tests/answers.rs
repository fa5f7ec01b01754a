//! Invariants 16 to 21: answers that cannot be right.

use super::super::operations::{Ask, End, Language, OperationKey, Operations};
use super::super::oracle::{Committed, Oracle};
use super::super::subject::{Effect, result_hash};
use super::super::violation::{Broken, Invariant};
use super::puppet::{CLUSTER, assert_broken, id};
use crate::entry::{Entry, Payload};
use crate::kv::{Answer, Command, Kv, Query};
use crate::machine::Machine;
use crate::session::{self, Ranges};
use crate::time::Instant;
use crate::types::{Index, Sequence, SessionId, Term};
use crate::wire::client::ReadLevel;

/// A cluster of nothing but its log and the machine that it drives.
struct Desk {
    oracle: Oracle,
    operations: Operations,
    machine: Kv,
    sequence: u64,
}

impl Desk {
    fn new() -> Self {
        let operations = Operations::new(Language::Kv);
        Self { oracle: Oracle::default(), operations, machine: Kv::new(), sequence: 0 }
    }

    fn ask_write(&mut self, command: &Command<'_>) -> OperationKey {
        self.operations.asked(&self.oracle, Ask::Write(&command.to_bytes()))
    }

    fn ask_read(&mut self, level: ReadLevel) -> OperationKey {
        self.operations.asked(&self.oracle, Ask::Read { query: &Query::Get { key: b"k" }.to_bytes(), level })
    }

    /// Commits and carries out a command.
    fn commit(&mut self, command: &Command<'_>) -> (Index, Vec<u8>) {
        self.sequence += 1;
        self.commit_as(self.sequence, command).unwrap()
    }

    fn commit_as(&mut self, sequence: u64, command: &Command<'_>) -> Result<(Index, Vec<u8>), Broken> {
        let command = command.to_bytes();
        let write = session::Command::Write {
            session: SessionId(Index(1)),
            sequence: Sequence(sequence),
            finished: Ranges::default(),
            command: &command,
        };
        let index = self.oracle.commit().next();
        let entry = Entry::new(CLUSTER, index, Term(1), Payload::Command(write.to_bytes().into()), 0);
        let mark = super::super::Mark::of(&entry);
        self.oracle.commits(Committed { mark, known_in: Term(1), by: id(1), at: Instant::ZERO });
        let result = self.machine.apply(index, &command);
        let effect = Effect { index, chain: 0, result: result_hash(&result) };
        self.operations.took_effect(&effect, Some(&entry))?;
        Ok((index, result))
    }

    fn answer_write(&mut self, key: OperationKey, index: Index, result: &[u8]) -> Result<(), Broken> {
        self.operations.answered(&self.oracle, key, End::Applied { index, term: Term(1), result })
    }

    fn answer_read(&mut self, key: OperationKey, index: u64, answer: &Answer<'_>) -> Result<(), Broken> {
        let result = answer.to_bytes();
        self.operations.answered(&self.oracle, key, End::Read { index: Index(index), result: &result })
    }
}

const fn put(value: &'static [u8]) -> Command<'static> {
    Command::Put { key: b"k", value }
}

const fn found(value: &'static [u8], index: u64) -> Answer<'static> {
    Answer::Found { value, index: Index(index) }
}

#[test]
fn right_answers_are_left_alone() {
    let mut desk = Desk::new();
    for value in [b"a", b"b"] {
        let key = desk.ask_write(&put(value));
        let (index, result) = desk.commit(&put(value));
        desk.answer_write(key, index, &result).unwrap();
    }
    let key = desk.ask_read(ReadLevel::Linearizable);
    desk.answer_read(key, 2, &found(b"b", 2)).unwrap();
    let key = desk.ask_read(ReadLevel::Local);
    desk.answer_read(key, 1, &found(b"a", 1)).unwrap();
    desk.operations.histories.judge().unwrap();
    desk.operations.check_kept(&desk.oracle).unwrap();
}

#[test]
fn invariant_16_a_second_effect_of_one_sequence_is_found() {
    let mut desk = Desk::new();
    desk.commit_as(1, &put(b"a")).unwrap();
    assert_broken(desk.commit_as(1, &put(b"a")).map(drop), Invariant::AtMostOnce);
}

/// Scenario U2.
#[test]
fn invariant_16_an_effect_in_a_session_that_is_gone_is_found() {
    let mut desk = Desk::new();
    let session = SessionId(Index(1));
    desk.commit_as(1, &put(b"a")).unwrap();
    desk.operations.saw_sessions(Index(1), || vec![session]);
    desk.commit_as(2, &put(b"b")).unwrap();
    desk.operations.saw_sessions(Index(2), Vec::new);
    // A node that is behind has it still.
    desk.operations.saw_sessions(Index(1), || vec![session]);
    assert_broken(desk.commit_as(3, &put(b"c")).map(drop), Invariant::AtMostOnce);
}

#[test]
fn invariant_16_answers_that_belong_to_another_write_or_differ_are_found() {
    let mut desk = Desk::new();
    let key = desk.ask_write(&put(b"a"));
    let (index, result) = desk.commit(&put(b"b"));
    assert_broken(desk.answer_write(key, index, &result), Invariant::AtMostOnce);

    let mut desk = Desk::new();
    let key = desk.ask_write(&put(b"a"));
    let (index, _) = desk.commit(&put(b"a"));
    assert_broken(desk.answer_write(key, index, b"else"), Invariant::AtMostOnce);
}

#[test]
fn invariant_17_a_write_that_took_effect_before_it_was_asked_is_found() {
    let mut desk = Desk::new();
    let (index, result) = desk.commit(&put(b"a"));
    let key = desk.ask_write(&put(b"a"));
    assert_broken(desk.answer_write(key, index, &result), Invariant::Linearizability);
}

#[test]
fn invariant_17_a_read_of_an_older_value_is_found() {
    let mut desk = Desk::new();
    for value in [b"a", b"b"] {
        desk.ask_write(&put(value));
        desk.commit(&put(value));
    }
    let key = desk.ask_read(ReadLevel::Linearizable);
    assert_broken(desk.answer_read(key, 2, &found(b"a", 1)), Invariant::Linearizability);
}

#[test]
fn invariant_17_a_history_without_an_order_is_found_without_its_indexes() {
    let mut desk = Desk::new();
    for value in [b"a", b"b"] {
        let key = desk.ask_write(&put(value));
        let (index, result) = desk.commit(&put(value));
        desk.answer_write(key, index, &result).unwrap();
    }
    // Its index lies below what was committed, but only a local read may say so: tell the checker alone.
    let histories = &mut desk.operations.histories;
    let get = super::super::history::Step::Get;
    histories.invoked(b"k", 9, get.clone());
    let result = found(b"a", 1).to_bytes();
    let end = End::Read { index: Index(1), result: &result };
    histories.returned(b"k", 9, &get, end, &desk.operations.versions).unwrap();
    assert_broken(desk.operations.histories.judge(), Invariant::Linearizability);
}

#[test]
fn windows_are_cut_without_losing_what_is_pending() {
    let mut desk = Desk::new();
    let lost = desk.ask_write(&put(b"late"));
    desk.operations.answered(&desk.oracle, lost, End::Unknown).unwrap();
    for number in 0..600 {
        let value: &'static [u8] = format!("v{number}").into_bytes().leak();
        let key = desk.ask_write(&put(value));
        let (index, result) = desk.commit(&put(value));
        desk.answer_write(key, index, &result).unwrap();
    }
    let (index, _) = desk.commit(&put(b"late"));
    let key = desk.ask_read(ReadLevel::Linearizable);
    desk.answer_read(key, index.0, &found(b"late", index.0)).unwrap();
    desk.operations.histories.judge().unwrap();
    assert_eq!(desk.operations.histories.undecided, 0);
}

#[test]
fn invariant_18_an_answer_that_rests_on_nothing_committed_is_found() {
    let mut desk = Desk::new();
    let key = desk.ask_write(&put(b"a"));
    let (index, result) = desk.commit(&put(b"a"));
    desk.oracle = Oracle::default();
    assert_broken(desk.answer_write(key, index, &result), Invariant::Durability);

    let mut desk = Desk::new();
    let key = desk.ask_read(ReadLevel::Linearizable);
    desk.answer_read(key, 5, &Answer::Missing).unwrap();
    assert_broken(desk.operations.check_kept(&desk.oracle), Invariant::Durability);
}

#[test]
fn invariant_19_a_value_that_nobody_wrote_is_found() {
    let mut desk = Desk::new();
    let key = desk.ask_read(ReadLevel::Linearizable);
    assert_broken(desk.answer_read(key, 0, &found(b"ghost", 1)), Invariant::NoPhantom);
}

#[test]
fn invariant_20_a_write_that_is_told_another_predecessor_is_found() {
    let mut desk = Desk::new();
    for value in [b"a", b"b"] {
        desk.ask_write(&put(value));
        desk.commit(&put(value));
    }
    let key = desk.ask_write(&put(b"c"));
    // The machine has lost one write, as if it had not been there when this one came.
    desk.machine = Kv::new();
    desk.machine.apply(Index(1), &put(b"a").to_bytes());
    let (index, result) = desk.commit(&put(b"c"));
    assert_broken(desk.answer_write(key, index, &result), Invariant::PredecessorChain);
}

#[test]
fn invariant_21_a_read_below_what_was_committed_when_it_was_asked_is_found() {
    let mut desk = Desk::new();
    for value in [b"a", b"b"] {
        desk.ask_write(&put(value));
        desk.commit(&put(value));
    }
    let key = desk.ask_read(ReadLevel::Linearizable);
    assert_broken(desk.answer_read(key, 1, &found(b"a", 1)), Invariant::ReadIndex);
}
