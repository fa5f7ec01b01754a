//! Replicas that do not come to the same, and some that do. [W-92] [W-93] [W-94]

use std::time::Duration;

use super::Node;
use super::tests::{Net, node_id};
use crate::entry::Payload;
use crate::kv::{Command, Kv};
use crate::machine::{Frozen, Machine, RestoreError, Source};
use crate::session::{self, Ranges};
use crate::types::{GroupId, Index, Sequence, SessionId};
use crate::wire::digest::{LAYOUT, StateDigests, WindowDigest, encode_digests};
use crate::wire::status::{Divergence, DivergenceKind};

/// A machine that is no function of the log: on some nodes its results differ from an entry on.
struct Wayward {
    kv: Kv,
    from: Option<Index>,
}

impl Machine for Wayward {
    fn apply(&mut self, index: Index, command: &[u8]) -> Vec<u8> {
        let mut result = self.kv.apply(index, command);
        if self.from.is_some_and(|from| index >= from) {
            result.push(0xff);
        }
        result
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        self.kv.query(query)
    }

    fn freeze(&mut self) -> Box<dyn Frozen> {
        self.kv.freeze()
    }

    fn blank(&self) -> Self {
        Self { kv: self.kv.blank(), from: self.from }
    }

    fn restore(&mut self, source: &mut dyn Source) -> Result<(), RestoreError> {
        self.kv.restore(source)
    }
}

/// Three nodes; one of them goes astray from entry 100 on, if any does.
fn cluster(wayward: Option<u16>) -> (Net<Wayward>, u16) {
    let from = |number| (Some(number) == wayward).then_some(Index(100));
    Net::elected_with(|number| Wayward { kv: Kv::new(), from: from(number) })
}

/// Writes through this entry, at the leader.
fn write_through(net: &mut Net<Wayward>, leader: u16, last: u64) {
    let propose = |net: &mut Net<Wayward>, command: &session::Command<'_>| {
        let now = net.now;
        let payload = Payload::Command(command.to_bytes().into());
        let (index, _) = net.nodes.get_mut(&leader).unwrap().raft.propose(now, payload).unwrap();
        net.run_for(Duration::from_millis(2));
        index
    };
    let session = SessionId(propose(net, &session::Command::Open));
    let mut sequence = 0;
    loop {
        sequence += 1;
        let finished: &[(u64, u64)] = if sequence > 1 { &[(1, sequence - 1)] } else { &[] };
        let finished = Ranges::from_pairs(finished).unwrap();
        let put = Command::Put { key: b"k", value: &sequence.to_be_bytes() }.to_bytes();
        let write =
            session::Command::Write { session, sequence: Sequence(sequence), finished, command: &put };
        if propose(net, &write).0 >= last {
            return;
        }
    }
}

fn differences(node: &Node<Wayward>) -> Vec<Divergence> {
    node.status().divergences
}

#[test]
fn replicas_that_agree_say_how_far_and_raise_nothing() {
    let (mut net, leader) = cluster(None);
    write_through(&mut net, leader, 200);
    net.run_for(Duration::from_secs(5));
    for (number, node) in &net.nodes {
        assert_eq!((node.status().agreed, differences(node)), (Index(192), Vec::new()), "node {number}");
    }
}

#[test]
fn a_machine_that_is_no_function_of_the_log_is_found_out_by_all() {
    for wayward in 1..=3 {
        let (mut net, leader) = cluster(Some(wayward));
        write_through(&mut net, leader, 200);
        net.run_for(Duration::from_secs(5));
        let from = |node| Divergence {
            node: node_id(node),
            kind: DivergenceKind::Results,
            after: Index(64),
            through: Index(128),
        };
        for number in 1..=3 {
            let others: Vec<Divergence> = (1..=3).filter(|other| *other != number).map(from).collect();
            let expected = if number == wayward { others } else { vec![from(wayward)] };
            assert_eq!(differences(&net.nodes[&number]), expected, "node {number}, {wayward} is the odd one");
        }
        // Its state goes on as before: which of them is right nobody knows.
        let put = Command::Put { key: b"k", value: b"v" };
        assert!(net.nodes[&leader].raft().is_settled_leader(), "{put:?}");
    }
}

#[test]
fn tellings_of_another_layout_of_strangers_and_of_what_is_not_known_here_are_ignored() {
    let (mut net, leader) = cluster(None);
    write_through(&mut net, leader, 130);
    net.run_for(Duration::from_secs(5));
    let node = net.nodes.get_mut(&leader).unwrap();
    let other = node_id(if leader == 1 { 2 } else { 1 });
    let link = node.heeded_link(other).unwrap();
    let mut tell = |layout, last, format| {
        let window = WindowDigest { span: 64, last: Index(last), digest: 1 };
        let told = StateDigests { layout, windows: vec![window], snapshot: Some((format, Index(64), 1)) };
        let mut body = Vec::new();
        encode_digests(GroupId(0), &told, &mut body);
        node.on_digests(link, &body);
        node.on_digests(link, &body[..body.len() - 1]);
        node.status().divergences.len()
    };
    assert_eq!([tell(LAYOUT + 1, 64, 1), tell(LAYOUT, 6400, 1), tell(LAYOUT, 6400, 99)], [0, 0, 0]);
    assert_eq!(tell(LAYOUT, 64, 1), 1);
}
