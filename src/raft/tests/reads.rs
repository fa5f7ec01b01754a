//! Linearizable reads, one test per rule: Raft paper §8, thesis §6.4, design.md §6.

use core::time::Duration;

use super::bench::{Bench, DiskMode, Setup, append, read_probe, reply, requests_to};
use super::{command, identity, members, voters};
use crate::membership::Membership;
use crate::message::{Message, ReadProbe};
use crate::raft::{Output, ReadError, ReadId, RoleKind};
use crate::types::{Identity, Index, Round, StoreId, Term};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn leader() -> Bench {
    let (mut node, _) = Setup::voters(3).lead();
    node.accept(2, 0, 1);
    assert_eq!(node.raft.commit(), Index(1));
    node
}

fn read(node: &mut Bench, id: u64) -> Vec<Output> {
    node.raft.read(node.now, ReadId(id)).unwrap();
    node.drain()
}

fn answer(node: &mut Bench, from: u16, round: u64) -> Vec<Output> {
    let term = node.raft.term();
    node.receive(from, Message::ReadProbeReply(ReadProbe { term, round: Round(round) }))
}

fn ready(outputs: &[Output]) -> Vec<(u64, u64)> {
    let ready = |output: &Output| match output {
        Output::ReadReady { id, index } => Some((id.0, index.0)),
        _ => None,
    };
    outputs.iter().filter_map(ready).collect()
}

fn failed(outputs: &[Output]) -> Vec<u64> {
    let failed = |output: &Output| match output {
        Output::ReadFailed { id } => Some(id.0),
        _ => None,
    };
    outputs.iter().filter_map(failed).collect()
}

fn round_of(outputs: &[Output], peer: u16) -> Option<u64> {
    requests_to(outputs, peer)
        .iter()
        .find_map(|m| if let Message::ReadProbe(p) = m { Some(p.round.0) } else { None })
}

#[test]
fn a_read_is_confirmed_by_a_quorum_at_the_commit_index_of_its_start() {
    let mut node = leader();
    node.raft.propose(node.now, command("uncommitted")).unwrap();
    let outputs = read(&mut node, 7);
    assert_eq!(ready(&outputs), []);
    let round = round_of(&outputs, 2).unwrap();
    assert_eq!(round_of(&outputs, 3), Some(round));
    assert_eq!(ready(&answer(&mut node, 3, round)), [(7, 1)]);
    assert_eq!(ready(&answer(&mut node, 2, round)), [], "once");
}

/// R1, Raft paper §8: a new leader's commit index may lag.
#[test]
fn r1_no_read_before_an_entry_of_the_own_term_is_committed() {
    let (mut node, _) = Setup::voters(3).log(&[1, 1]).lead();
    let outputs = read(&mut node, 1);
    assert_eq!((ready(&outputs), round_of(&outputs, 2)), (vec![], None));
    node.hear(2, 1);
    node.hear(3, 1);
    let outputs = node.accept(2, 0, 3);
    let round = round_of(&outputs, 2).unwrap();
    assert_eq!(ready(&answer(&mut node, 2, round)), [(1, 3)], "at or above all that was committed before");
}

/// R6: after a restart the commit index begins at 0; nothing is read there.
#[test]
fn r6_no_read_is_served_before_the_log_is_committed_again() {
    let (mut node, _) = Setup::voters(1).log(&[1, 1, 1]).boot_and_lead_by_hand();
    assert_eq!((node.raft.role(), node.raft.commit()), (RoleKind::Leader, Index(0)));
    assert_eq!(ready(&read(&mut node, 1)), []);
    assert_eq!(ready(&node.sync()), [(1, 4)]);
}

/// R2: a copy of an old answer, or an answer to an old attempt, confirms nothing asked later.
#[test]
fn r2_late_answers_never_confirm_a_later_read() {
    let mut node = leader();
    let first = round_of(&read(&mut node, 1), 2).unwrap();
    assert_eq!(ready(&answer(&mut node, 2, first)), [(1, 1)]);
    let second = read(&mut node, 2);
    let round = round_of(&second, 2).unwrap();
    assert!(round > first, "every round has its own number");
    for late in [first, 1, 0] {
        for peer in [2, 3] {
            assert_eq!(ready(&answer(&mut node, peer, late)), []);
            assert_eq!(ready(&node.hear(peer, late)), []);
        }
    }
    assert_eq!(ready(&answer(&mut node, 3, round)), [(2, 1)]);
}

#[test]
fn r2_rounds_of_the_future_and_of_other_terms_confirm_nothing() {
    let mut node = leader();
    let round = round_of(&read(&mut node, 1), 2).unwrap();
    assert_eq!(ready(&answer(&mut node, 2, round + 1)), []);
    let stale = ReadProbe { term: Term(0), round: Round(round) };
    assert_eq!(ready(&node.receive(2, Message::ReadProbeReply(stale))), []);
    let stranger = Identity { store: StoreId([9; 16]), ..identity(2) };
    let reply = ReadProbe { term: Term(1), round: Round(round) };
    assert_eq!(ready(&node.receive_from(stranger, Message::ReadProbeReply(reply))), []);
    assert_eq!(ready(&answer(&mut node, 2, round)), [(1, 1)]);
}

#[test]
fn an_answer_to_a_later_heartbeat_confirms_too() {
    let mut node = leader();
    let round = round_of(&read(&mut node, 1), 2).unwrap();
    node.wait(ms(25));
    assert_eq!(ready(&node.hear(3, round + 1)), [(1, 1)]);
}

#[test]
fn reads_that_arrive_while_a_round_is_out_join_the_next() {
    let mut node = leader();
    let first = round_of(&read(&mut node, 1), 2).unwrap();
    for id in [2, 3] {
        assert_eq!(round_of(&read(&mut node, id), 2), None, "one round at a time");
    }
    node.raft.propose(node.now, command("x")).unwrap();
    node.drain();
    node.accept(2, 0, 2);
    let outputs = answer(&mut node, 2, first);
    assert_eq!(ready(&outputs), [(1, 1)]);
    let second = round_of(&outputs, 2).unwrap();
    assert_eq!(round_of(&outputs, 3), None, "node 3 has a probe open still");
    assert_eq!(ready(&answer(&mut node, 2, second)), [(2, 2), (3, 2)]);
}

#[test]
fn a_voter_with_an_open_probe_gets_the_next_when_it_answers() {
    let (mut node, _) = Setup::voters(5).lead();
    node.accept(2, 0, 1);
    node.accept(3, 0, 1);
    let first = round_of(&read(&mut node, 1), 2).unwrap();
    answer(&mut node, 2, first);
    answer(&mut node, 3, first);
    let outputs = read(&mut node, 2);
    let second = round_of(&outputs, 2).unwrap();
    assert_eq!((round_of(&outputs, 3), round_of(&outputs, 4)), (Some(second), None));
    assert_eq!(round_of(&answer(&mut node, 4, first), 4), Some(second));
}

#[test]
fn a_single_node_needs_no_probe() {
    let (mut node, _) = Setup::voters(1).lead();
    assert_eq!(ready(&read(&mut node, 1)), [(1, 1)]);
}

#[test]
fn learners_are_not_asked_and_do_not_confirm() {
    let membership = Membership { learners: members(&[4]), ..voters(&[1, 2, 3]) };
    let (mut node, _) = Setup::voters(3).membership(membership).lead();
    node.accept(2, 0, 1);
    let outputs = read(&mut node, 1);
    assert_eq!(round_of(&outputs, 4), None);
    let round = round_of(&outputs, 2).unwrap();
    assert_eq!(ready(&answer(&mut node, 4, round)), []);
}

/// R3: the leader slept while another one wrote; what it resumes with confirms nothing.
#[test]
fn r3_a_leader_that_slept_through_a_change_answers_no_read() {
    let mut node = leader();
    read(&mut node, 1);
    node.now += ms(2_000);
    // Input is read before timers: the new leader's append comes first.
    let outputs = node.receive(2, Message::Append(append(2, &[2], 0)));
    assert_eq!((failed(&outputs), ready(&outputs)), (vec![1], vec![]));
    assert_eq!(ready(&answer(&mut node, 3, 9)), []);
}

#[test]
fn r3_a_leader_that_slept_answers_nothing_after_its_window() {
    let mut node = leader();
    read(&mut node, 1);
    node.now += ms(2_000);
    node.raft.handle_timeout(node.now);
    assert_eq!(failed(&node.drain()), [1]);
    assert_eq!(node.raft.read(node.now, ReadId(2)), Err(ReadError::NotLeader { leader: None }));
}

#[test]
fn too_many_reads_are_refused() {
    let (mut node, _) = Setup::voters(3).tune(|config| config.reads_max = 2).lead();
    for id in [1, 2] {
        assert_eq!(node.raft.read(node.now, ReadId(id)), Ok(()));
    }
    assert_eq!(node.raft.read(node.now, ReadId(3)), Err(ReadError::Busy));
}

/// design.md §6: read probes are calls; a probe of an older term is answered with the term.
#[test]
fn a_follower_answers_probes_of_its_leader_only_with_its_term() {
    let mut node = Setup::voters(3).term(2).boot();
    let answered = reply(&node.receive(2, Message::ReadProbe(read_probe(2, 5))));
    assert_eq!(answered, Message::ReadProbeReply(read_probe(2, 5)));
    let answered = reply(&node.receive(3, Message::ReadProbe(read_probe(1, 5))));
    assert_eq!(answered, Message::ReadProbeReply(read_probe(2, 5)));
    assert_eq!(node.raft.leader(), Some(super::id(2)));
}

impl Setup {
    /// As leader whose first entry is still being written.
    fn boot_and_lead_by_hand(self) -> (Bench, Vec<Output>) {
        let mut node = self.boot();
        node.disk = DiskMode::ByHand;
        let mut outputs = node.wait_for_timer();
        outputs.extend(node.sync());
        (node, outputs)
    }
}
