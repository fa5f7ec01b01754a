//! Handing leadership over: thesis §3.10, design.md §6.

use core::time::Duration;

use super::bench::{Bench, Setup, heartbeat, reply, requests_to, traffic};
use super::{command, id, identity};
use crate::message::{Message, Transfer, TransferReply};
use crate::raft::transfer::CONNECTED_MAX;
use crate::raft::{Output, ProposeError, RoleKind, TransferError};
use crate::types::{Identity, Incarnation, Index, StoreId, Term};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn leader() -> Bench {
    let (mut node, _) = Setup::voters(3).lead();
    for peer in [2, 3] {
        node.accept(peer, 0, 1);
        node.raft.handle_connected(node.now, identity(peer), Incarnation(u32::from(peer) * 10));
    }
    node
}

fn order(term: u64, incarnation: u32, last: u64) -> Message {
    Message::Transfer(Transfer {
        term: Term(term),
        incarnation: Incarnation(incarnation),
        last_index: Index(last),
    })
}

fn orders(outputs: &[Output], peer: u16) -> Vec<Message> {
    requests_to(outputs, peer).into_iter().filter(|m| matches!(m, Message::Transfer(_))).collect()
}

fn is_taken(outputs: &[Output]) -> bool {
    let Message::TransferReply(reply) = reply(outputs) else { panic!() };
    reply.is_taken
}

#[test]
fn the_order_goes_out_once_the_target_has_the_whole_log() {
    let mut node = leader();
    node.raft.propose(node.now, command("x")).unwrap();
    assert_eq!(node.raft.transfer_leadership(node.now, Some(id(3))), Ok(id(3)));
    assert_eq!(orders(&node.drain(), 3), []);
    assert_eq!(node.raft.propose(node.now, command("y")), Err(ProposeError::Transferring { to: id(3) }));
    let outputs = node.accept(3, 0, 2);
    assert_eq!(orders(&outputs, 3), [order(1, 30, 2)]);
    assert_eq!(orders(&node.wait(ms(100)), 3), [], "once");
}

#[test]
fn without_a_wish_the_furthest_voter_is_chosen() {
    let mut node = leader();
    node.raft.propose(node.now, command("x")).unwrap();
    node.drain();
    node.accept(3, 0, 2);
    assert_eq!(node.raft.transfer_leadership(node.now, None), Ok(id(3)));
    let again = node.raft.transfer_leadership(node.now, None);
    assert_eq!(again, Err(TransferError::Transferring { to: id(3) }));
}

#[test]
fn leadership_goes_to_no_voter_that_is_silent() {
    let mut node = leader();
    for _ in 0..21 {
        node.wait(ms(25));
        node.hear(3, 1);
    }
    let silent = node.raft.transfer_leadership(node.now, Some(id(2)));
    assert_eq!(silent, Err(TransferError::NoTarget));
    assert_eq!(node.raft.transfer_leadership(node.now, None), Ok(id(3)), "though the other has as much");
}

#[test]
fn a_transfer_that_comes_to_nothing_ends_after_a_maximum_election_timeout() {
    let mut node = leader();
    node.raft.transfer_leadership(node.now, Some(id(2))).unwrap();
    for _ in 0..20 {
        node.wait(ms(25));
        node.hear(3, 1);
    }
    assert_eq!(node.raft.role(), RoleKind::Leader);
    assert!(node.raft.propose(node.now, command("x")).is_ok());
}

#[test]
fn a_refused_order_ends_the_transfer() {
    let mut node = leader();
    node.raft.transfer_leadership(node.now, Some(id(2))).unwrap();
    node.drain();
    let no = Message::TransferReply(TransferReply { term: Term(1), is_taken: false });
    node.receive(3, no.clone());
    assert!(node.raft.propose(node.now, command("x")).is_err(), "another node's answer");
    node.receive(2, no);
    assert!(node.raft.propose(node.now, command("x")).is_ok());
}

#[test]
fn leadership_goes_only_to_a_connected_voter() {
    let (mut node, _) = Setup::voters(3).lead();
    assert_eq!(node.raft.transfer_leadership(node.now, None), Err(TransferError::NoTarget));
    node.raft.handle_connected(node.now, identity(2), Incarnation(1));
    for wrong in [1, 3, 9] {
        assert_eq!(node.raft.transfer_leadership(node.now, Some(id(wrong))), Err(TransferError::NoTarget));
    }
    let mut follower = Setup::voters(3).boot();
    let refusal = follower.raft.transfer_leadership(follower.now, None);
    assert_eq!(refusal, Err(TransferError::NotLeader { leader: None }));
}

/// Thesis §3.10: no pre-vote, and voters set leader stickiness aside.
#[test]
fn an_ordered_node_campaigns_at_once_in_the_next_term() {
    let mut node = Setup::voters(3).log(&[1, 1]).boot();
    node.receive(2, heartbeat(1, 1, 0));
    let outputs = node.receive(2, order(1, 1, 2));
    let Message::TransferReply(answered) = reply(&outputs) else { panic!() };
    assert_eq!((answered.is_taken, answered.term), (true, Term(1)), "answered in the leader's term");
    assert_eq!((node.raft.role(), node.raft.term()), (RoleKind::Candidate, Term(2)));
    let Some(Message::Vote(asked)) = requests_to(&outputs, 3).pop() else { panic!() };
    assert!(asked.is_transfer);
}

/// E15, wire.md §4.
#[test]
fn e15_an_order_counts_only_if_current_own_and_first_of_its_term() {
    let setup = || Setup::voters(3).log(&[2, 2]).boot();
    for (what, message) in [
        ("an older term", order(1, 1, 2)),
        ("another boot", order(2, 2, 2)),
        ("no boot", order(2, 0, 2)),
        ("an index the log lacks", order(2, 1, 3)),
    ] {
        let mut node = setup();
        assert!(!is_taken(&node.receive(2, message)), "{what}");
        assert_eq!((node.raft.role(), node.raft.term()), (RoleKind::Follower, Term(2)), "{what}");
    }
    let mut node = setup();
    node.receive(3, heartbeat(2, 1, 0));
    let outputs = node.receive(2, order(2, 1, 2));
    assert!(traffic(&outputs).is_empty(), "not from the leader it follows");
    assert!(is_taken_in(&node.receive(3, order(2, 1, 2))));
    assert!(!is_taken(&node.receive(3, order(2, 1, 2))), "a copy, now of an older term");
    assert_eq!(node.raft.term(), Term(3));
}

fn is_taken_in(outputs: &[Output]) -> bool {
    super::bench::replies(outputs)
        .iter()
        .any(|m| matches!(m, Message::TransferReply(TransferReply { is_taken: true, .. })))
}

/// The order for a term arrives twice, and the campaign it started has come to nothing in a way that kept the
/// term; the second copy must not start another.
#[test]
fn e15_a_node_that_may_not_vote_for_itself_refuses_the_order() {
    use crate::membership::Membership;
    let membership = Membership { learners: super::members(&[1]), ..super::voters(&[2, 3]) };
    let mut node = Setup::voters(3).membership(membership).log(&[1]).boot();
    assert!(!is_taken(&node.receive(2, order(1, 1, 1))));
}

/// Anyone who knows the cluster can have himself connected; who is a member stays known.
#[test]
fn boots_and_timeouts_of_strangers_are_remembered_in_bounded_room() {
    let (mut node, _) = Setup::voters(3).lead();
    let (now, raft) = (node.now, &mut node.raft);
    let timeout = raft.config().election_timeout_min;
    let members = [2, 3].map(identity);
    for who in members {
        raft.handle_connected(now, who, Incarnation(7));
        raft.handle_timing(who, timeout);
    }
    for number in 0..3 * CONNECTED_MAX as u64 {
        let store = StoreId((u128::from(number) << 64).to_be_bytes());
        let stranger = Identity { node: id(1000 + number as u16), store };
        raft.handle_connected(now, stranger, Incarnation(1));
        raft.handle_timing(stranger, timeout);
        assert!(raft.incarnations.len() <= CONNECTED_MAX && raft.timings.0.len() <= CONNECTED_MAX);
    }
    for who in members {
        assert_eq!(raft.incarnations.get(&who), Some(&Incarnation(7)), "{who} was forgotten");
        assert!(raft.timings.0.contains_key(&who), "{who} was forgotten");
    }
}
