//! The test vectors against a whole `Rpc`: the steps, whose verdict needs state, and every datagram, which must never
//! do more than be counted.

#[path = "vectors/case.rs"]
mod case;

use core::net::SocketAddr;
use core::time::Duration;

use case::{Case, read_cases};
use raftgram::rng::Rng;
use raftgram::rpc::{Local, LocalRole, Output, Rpc, RpcConfig};
use raftgram::time::Instant;
use raftgram::types::{BootNonce, ClusterId, Identity, Incarnation, NodeId, PacketNumber, StoreId};
use raftgram::wire::{DropReason, Greeting};

const HERE: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), 7002);
const THERE: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), 7001);

fn node(id: u16, incarnation: u32, cluster: ClusterId, first_packet: u64, config: &RpcConfig) -> Rpc {
    let local = Local {
        role: LocalRole::Node {
            identity: Identity { node: NodeId::new(id).unwrap(), store: StoreId([id as u8; 16]) },
            incarnation: Incarnation(incarnation),
        },
        boot_nonce: BootNonce([id as u8; 16]),
        cluster,
        greeting: Greeting::Plain,
        election_timeout_min: Duration::from_millis(250),
        election_timeout_max: Duration::from_millis(500),
        heartbeat: Duration::from_millis(25),
        first_packet: PacketNumber(first_packet),
    };
    Rpc::new(config.clone(), local, Rng::from_seed(u64::from(id)), NOW).unwrap()
}

const NOW: Instant = Instant::from_nanos(1_000_000_000);

fn datagrams(rpc: &mut Rpc) -> Vec<Vec<u8>> {
    rpc.flush(NOW);
    let mut sent = Vec::new();
    while let Some(output) = rpc.poll_output() {
        if let Output::Transmit { bytes, .. } = output {
            sent.push(bytes);
        }
    }
    sent
}

/// A receiver as the case's context describes it: linked to node 1, whose last packet was `largest_packet`.
fn receiver(case: &Case) -> Rpc {
    let of = |name: &str| case.context[name];
    let config = RpcConfig {
        credit_bytes: of("credit_bytes"),
        body_bytes_max: of("credit_bytes") as usize,
        datagram_bytes_max: of("datagram_bytes_max") as usize,
        ..RpcConfig::default()
    };
    let largest = of("largest_packet");
    let mut peer = node(1, of("peer_incarnation") as u32, case.cluster, largest - 20, &config);
    let mut rpc = node(of("node") as u16, of("incarnation") as u32, case.cluster, 1, &config);
    let link = peer.connect(NOW, HERE, None);
    for _ in 0..3 {
        for bytes in datagrams(&mut peer) {
            rpc.handle_datagram(NOW, THERE, &bytes);
        }
        for bytes in datagrams(&mut rpc) {
            peer.handle_datagram(NOW, HERE, &bytes);
        }
    }
    while peer.next_packet().0 <= largest {
        peer.notice(NOW, link, vec![1]).unwrap();
        for bytes in datagrams(&mut peer) {
            rpc.handle_datagram(NOW, THERE, &bytes);
        }
    }
    assert_eq!(rpc.stats().dropped_total(), 0);
    rpc
}

/// What became of one datagram: `accept` or the reason's name.
fn verdict(rpc: &mut Rpc, bytes: &[u8]) -> &'static str {
    let before = *rpc.stats();
    rpc.handle_datagram(NOW, THERE, bytes);
    let after = *rpc.stats();
    assert_eq!(after.received, before.received + 1);
    assert_eq!(after.received, after.accepted + after.dropped_total());
    let dropped = DropReason::ALL.into_iter().find(|reason| after.dropped(*reason) > before.dropped(*reason));
    dropped.map_or("accept", DropReason::name)
}

// [W-2] [W-3] [W-11] [W-14] [W-15] [W-21] [W-28] [W-40]: each has steps.
#[test]
fn every_step_has_the_verdict_it_names() {
    for case in read_cases("steps.jsonl") {
        assert_eq!(verdict(&mut receiver(&case), &case.bytes), case.expect, "{}", case.name);
    }
}

#[test]
fn what_shows_in_the_bytes_alone_is_dropped_for_that_reason() {
    let context = read_cases("steps.jsonl").swap_remove(0);
    for case in read_cases("drops.jsonl") {
        let mut rpc = receiver(&Case { cluster: case.cluster, ..context.clone() });
        let found = verdict(&mut rpc, &case.bytes);
        // What is decided by state may come first in the order of the checks; nothing else may.
        let is_by_state = matches!(found, "destination" | "cluster_tag")
            || found.starts_with("stale_")
            || (found == "replay" && case.expect != "replay");
        assert!(found == case.expect || is_by_state, "{}: {found}, not {}", case.name, case.expect);
    }
}

// U15 [W-22]: whatever comes from outside a link, the answer is one datagram and no larger.
#[test]
fn no_vector_draws_more_than_it_sent() {
    let context = read_cases("steps.jsonl").swap_remove(0);
    for file in ["datagrams.jsonl", "drops.jsonl", "steps.jsonl"] {
        for case in read_cases(file) {
            let mut rpc = receiver(&Case { cluster: case.cluster, ..context.clone() });
            datagrams(&mut rpc);
            let stranger: SocketAddr = "192.0.2.1:9".parse().unwrap();
            rpc.handle_datagram(NOW, stranger, &case.bytes);
            rpc.flush(NOW);
            let mut answers = Vec::new();
            while let Some(output) = rpc.poll_output() {
                match output {
                    Output::Transmit { to, bytes } if to == stranger => answers.push(bytes.len()),
                    _ => {}
                }
            }
            assert!(answers.len() <= 1, "{}: {answers:?}", case.name);
            assert!(answers.iter().all(|&n| n <= case.bytes.len()), "{}: {answers:?}", case.name);
        }
    }
}
