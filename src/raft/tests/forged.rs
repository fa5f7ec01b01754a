//! U16: nodes never trust what a message says. Random messages of every type, with sensible and with extreme
//! numbers, from members and strangers, at nodes in every role: whatever they do, no node panics and no invariant
//! of its own breaks. (What forged messages may do to a *cluster* is another matter; only a seal prevents that.)

use core::time::Duration;

use super::bench::{Bench, DiskMode, Setup, append};
use super::{command, identity};
use crate::message::{
    Append, AppendEntry, AppendOutcome, AppendReply, Heartbeat, HeartbeatReply, Message, ReadProbe, Transfer,
    TransferReply, VoteReply, VoteRequest,
};
use crate::raft::{NUMBER_MAX, ReadId};
use crate::rng::Rng;
use crate::types::{Identity, Incarnation, Index, Round, StoreId, Term};

/// Mostly numbers near those the node has, sometimes the ends of the range.
fn number(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => u64::MAX,
        1 => NUMBER_MAX,
        2 => NUMBER_MAX + 1,
        3 => NUMBER_MAX - 1,
        _ => rng.below(12),
    }
}

fn term(rng: &mut Rng, node: &Bench) -> Term {
    match rng.below(200) {
        0 => Term(number(rng)),
        1..10 => node.raft.term().next(),
        10..30 => node.raft.term().prev(),
        _ => node.raft.term(),
    }
}

fn forged(rng: &mut Rng, node: &Bench) -> Message {
    let term = term(rng, node);
    let campaign = (1 << 30) + rng.below(4);
    let (index, round) = (Index(number(rng)), Round(number(rng)));
    let vote = VoteRequest {
        term,
        campaign_term: if rng.chance(0.5) { term } else { Term(term.0.saturating_add(1)) },
        campaign,
        last_index: index,
        last_term: if rng.chance(0.5) { term } else { Term(number(rng)) },
        is_transfer: rng.chance(0.3),
    };
    let reply = VoteReply {
        term,
        campaign_term: Term(term.0.saturating_add(rng.below(2))),
        campaign,
        is_granted: rng.chance(0.8),
    };
    match rng.below(12) {
        0 => Message::PreVote(vote),
        1 => Message::PreVoteReply(reply),
        2 => Message::Vote(vote),
        3 => Message::VoteReply(reply),
        4 | 5 => Message::Append(forged_append(rng, term)),
        6 => Message::AppendReply(forged_answer(rng, term)),
        7 => Message::Heartbeat(Heartbeat { term, round, commit: index }),
        8 => Message::HeartbeatReply(HeartbeatReply { term, round }),
        9 => Message::ReadProbe(ReadProbe { term, round }),
        10 => Message::ReadProbeReply(ReadProbe { term, round }),
        _ if rng.chance(0.5) => {
            Message::Transfer(Transfer { term, incarnation: Incarnation(1), last_index: index })
        }
        _ => Message::TransferReply(TransferReply { term, is_taken: rng.chance(0.5) }),
    }
}

/// Half of them fit somewhere, with a right chain value.
fn forged_append(rng: &mut Rng, term: Term) -> Append {
    let length = usize::try_from(rng.below(8)).unwrap();
    let mut terms: Vec<u64> = (0..length).map(|_| 1 + rng.below(term.0.clamp(1, 6))).collect();
    terms.sort_unstable();
    let prev = usize::try_from(rng.below(length as u64 + 1)).unwrap();
    let mut append = append(term.0, &terms, prev);
    (append.attempt, append.commit) = (rng.below(3), Index(number(rng)));
    match rng.below(6) {
        0 => append.chain ^= 1,
        1 => append.prev_index = Index(number(rng)),
        2 => append.prev_term = Term(number(rng)),
        3 => append.entries.push(AppendEntry { term: Term(number(rng)), payload: command("forged") }),
        _ => {}
    }
    append
}

fn forged_answer(rng: &mut Rng, term: Term) -> AppendReply {
    let outcome = match rng.below(3) {
        0 => AppendOutcome::Accepted { match_index: Index(number(rng)) },
        1 => AppendOutcome::Refused {
            prev_index: Index(number(rng)),
            conflict_term: Term(number(rng)),
            conflict_index: Index(number(rng)),
            last_index: Index(number(rng)),
        },
        _ => AppendOutcome::Evicted { prev_index: Index(number(rng)) },
    };
    AppendReply { term, attempt: rng.below(4), outcome }
}

/// What happens between two forged messages.
fn disturb(rng: &mut Rng, node: &mut Bench, step: u64) {
    match rng.below(8) {
        0 => {
            node.wait(Duration::from_millis(rng.below(400)));
        }
        1 | 2 if !node.unfinished.is_empty() => {
            node.sync();
        }
        3 => {
            let _taken = node.raft.propose(node.now, command("own"));
        }
        4 => {
            let _taken = node.raft.read(node.now, ReadId(step));
        }
        5 => node.raft.handle_call_failed(node.now, super::id(2)),
        6 => {
            let boot = Incarnation(u32::try_from(rng.below(3)).unwrap());
            node.raft.handle_connected(node.now, identity(2), boot);
            let _target = node.raft.transfer_leadership(node.now, None);
        }
        _ => {}
    }
}

#[test]
fn u16_forged_messages_never_panic_a_node() {
    let mut led = 0;
    for seed in 0..1000 {
        let mut rng = Rng::from_seed(seed);
        let setup = Setup::voters(3).log(&[1, 1, 2]).tune(|config| config.reorder_bytes_max = 500);
        let mut node = if rng.chance(0.5) { setup.lead().0 } else { setup.boot() };
        node.disk = if rng.chance(0.5) { DiskMode::AtOnce } else { DiskMode::ByHand };
        for step in 0..150 {
            let message = forged(&mut rng, &node);
            let sender = u16::try_from(1 + rng.below(4)).unwrap();
            let stranger = Identity { store: StoreId([9; 16]), ..identity(sender) };
            node.receive_from(if rng.chance(0.1) { stranger } else { identity(sender) }, message);
            disturb(&mut rng, &mut node, step);
            led += u64::from(node.raft.leader() == Some(super::id(1)));
        }
    }
    assert!(led > 1_000, "every role was met: {led}");
}
