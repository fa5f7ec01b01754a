//! Tests of the consensus room.
//!
//! - `quorum`, `log`, `progress`, `reorder`: tables for the parts.
//! - `election`, `replication`, `following`, `disk`, `reads`, `asked`, `leases`, `transfer`: one test per rule, on one
//!   node that is fed by hand (`bench`).
//! - `snapshots`, `compaction`: taking, offering and installing them, by hand and in the cluster.
//! - `repair`: logs with holes, by hand.
//! - `change`: memberships, one rule after the other; `joint`: faults in the midst of it.
//! - `members`: nodes that come and go in the cluster.
//! - `golden`: scripts under `tests/raft/`, replayed on a whole cluster.
//! - `scenarios`: named faults on a whole cluster in virtual time (`cluster`).
//! - `digraphs`: every network that 3 or 4 nodes can have.
//! - `explore`: every order of events of two elections, in a world without chance (`world`, `digest`).
//! - `figure8`: the paper's example of why old terms are not committed by counting.
//! - `random`: seeds, with every invariant checked after every event (`checks`).

mod asked;
mod bench;
mod change;
mod checks;
mod cluster;
mod compaction;
mod digest;
mod digraphs;
mod disk;
mod election;
mod explore;
mod figure8;
mod following;
mod forged;
mod golden;
mod joint;
mod leases;
mod log;
mod members;
mod node;
mod quorum;
mod random;
mod reads;
mod repair;
mod replication;
mod scenarios;
mod snapshots;
mod transfer;
mod world;

use crate::entry::{Entry, Payload};
use crate::membership::{Member, Members, Membership};
use crate::types::{ClusterId, Identity, Index, NodeId, StoreId, Term};

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

fn id(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

/// The store that every membership of these tests binds to this node.
fn identity(number: u16) -> Identity {
    Identity { node: id(number), store: StoreId([u8::try_from(number).unwrap(); 16]) }
}

fn members(numbers: &[u16]) -> Members {
    let member = |number: u16| Member {
        store: identity(number).store,
        address: format!("127.0.0.1:{}", 7100 + number),
    };
    numbers.iter().map(|number| (id(*number), member(*number))).collect()
}

fn voters(numbers: &[u16]) -> Membership {
    Membership::of_voters(members(numbers))
}

fn command(text: &str) -> Payload {
    Payload::Command(text.as_bytes().into())
}

/// Entries from index 1 with these terms and contents made of both, so that equal places of equal terms hold equal
/// entries.
fn log_of(terms: &[u64]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (index, term) in (1..).zip(terms) {
        let chain = entries.last().map_or(0, |entry| entry.chain);
        let payload = command(&format!("{index}@{term}"));
        entries.push(Entry::new(CLUSTER, Index(index), Term(*term), payload, chain));
    }
    entries
}
