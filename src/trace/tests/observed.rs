//! What an observer tells of a node that lives through an election and a conflict.

use std::sync::Arc;
use std::time::Duration;

use crate::entry::{Entry, Payload};
use crate::membership::{Member, Membership};
use crate::message::{Append, AppendEntry, Message};
use crate::raft::{Output, Raft, RaftConfig, Restored, RoleKind};
use crate::rng::Rng;
use crate::time::Instant;
use crate::trace::{Event, Observer, State, What};
use crate::types::{ClusterId, HardState, Identity, Incarnation, Index, NodeId, StoreId, Term};

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

fn identity(number: u16) -> Identity {
    Identity { node: NodeId::new(number).unwrap(), store: StoreId([number as u8; 16]) }
}

fn voters(count: u16) -> Membership {
    let member = |number: u16| {
        let Identity { node, store } = identity(number);
        (node, Member { store, address: format!("127.0.0.1:{}", 7100 + number) })
    };
    Membership::of_voters((1..=count).map(member).collect())
}

struct Bench {
    now: Instant,
    raft: Raft,
    observer: Observer,
}

impl Bench {
    fn new(count: u16, hard_state: HardState, entries: Vec<Entry>) -> Self {
        let now = Instant::ZERO;
        let config = RaftConfig::new(identity(1), Incarnation(1), CLUSTER);
        let restored = Restored::new(hard_state, voters(count), entries);
        let raft = Raft::new(config, restored, Rng::from_seed(1), now);
        Self { now, raft, observer: Observer::new(identity(1).node) }
    }

    /// What is told now.
    fn look(&mut self) -> Vec<(&'static str, State)> {
        let mut told = Vec::new();
        self.observer.observe(self.now, &self.raft, &mut |event: Event| {
            assert_eq!((event.at, event.node), (self.now, Some(identity(1).node)));
            let name = event.name();
            let What::Change(_, state) = event.what else { panic!("{event} is no change") };
            told.push((name, state));
        });
        told
    }

    fn names(&mut self) -> Vec<&'static str> {
        self.look().into_iter().map(|(name, _)| name).collect()
    }

    /// Carries out disk writes at once.
    fn settle(&mut self) {
        while let Some(output) = self.raft.poll_output() {
            if let Output::Persist { ticket, .. } = output {
                self.raft.handle_persisted(self.now, ticket);
            }
        }
    }
}

#[test]
fn an_election_is_told_change_by_change() {
    let mut bench = Bench::new(1, HardState::default(), Vec::new());
    assert_eq!(bench.names(), ["restored"]);
    assert_eq!(bench.names(), [""; 0], "nothing has changed");
    bench.now += Duration::from_secs(1);
    bench.raft.handle_timeout(bench.now);
    assert_eq!(bench.names(), ["term", "vote", "role"]);
    bench.settle();
    let told = bench.look();
    let names: Vec<_> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["role", "leader", "append", "durable", "commit"]);
    let (_, state) = told.last().unwrap();
    assert_eq!(*state, State::of(&bench.raft));
    assert_eq!((state.role, state.term, state.commit), (RoleKind::Leader, Term(1), Index(1)));
    assert_eq!((state.durable.term, state.durable.last_index), (Term(1), Index(1)));
    assert_eq!((state.members.index, state.members.voters.len()), (Index(0), 1));
    bench.raft.propose(bench.now, Payload::Command((*b"x").into())).unwrap();
    assert_eq!(bench.names(), ["append"]);
}

/// Three entries of term 1, of which a leader of term 2 has only the first, and a membership in place of the others.
#[test]
fn a_conflict_is_told_as_a_truncation_even_when_the_log_gets_no_shorter() {
    let mut entries: Vec<Entry> = Vec::new();
    for index in 1..=3 {
        let chain = entries.last().map_or(0, |entry: &Entry| entry.chain);
        entries.push(Entry::new(CLUSTER, Index(index), Term(1), Payload::Noop, chain));
    }
    let prev_chain = entries[0].chain;
    let mut bench = Bench::new(3, HardState { term: Term(1), vote: None }, entries);
    assert_eq!(bench.names(), ["restored"]);

    let payloads = [Payload::Noop, Payload::Membership(Arc::new(voters(2))), Payload::Noop];
    let mut chain = prev_chain;
    for (index, payload) in (2..).zip(&payloads) {
        chain = Entry::new(CLUSTER, Index(index), Term(2), payload.clone(), chain).chain;
    }
    let entries = payloads.map(|payload| AppendEntry { term: Term(2), payload }).to_vec();
    let append = Append {
        term: Term(2),
        attempt: 0,
        prev_index: Index(1),
        prev_term: Term(1),
        commit: Index(0),
        entries,
        chain,
    };
    bench.raft.handle_message(bench.now, identity(2), Message::Append(append), None);
    let told = bench.look();
    let names: Vec<_> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["term", "leader", "truncate", "membership", "durable"]);
    let state = &told[0].1;
    assert_eq!((state.last_index, state.last_term), (Index(4), Term(2)));
    assert_eq!(state.durable.last_index, Index(1), "the rest of what was durable is gone");
    assert_eq!((state.members.index, state.members.voters.len()), (Index(3), 2));
    assert_eq!(
        told[0].1.to_string(),
        "follower term=2 vote=none leader=n2 commit=0 last=4@2 durable=1 in term 1 voters=n1,n2"
    );
}
