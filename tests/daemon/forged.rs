//! Sealed nodes among those who hold no key: forged, altered, replayed and plain datagrams.
//!
//! The short form counts every datagram on both sides of a node's socket. The long form, `RAFTGRAM_FORGED` datagrams at
//! `RAFTGRAM_FORGED_RATE` (50,000) a second, also says what they cost a cluster under load; its figures are for a
//! release build: `RAFTGRAM_FORGED=10000000 cargo test --release --test daemon forged -- --nocapture`.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;

use raftgram::client::Answer;
use raftgram::rng::Rng;
use raftgram::seal::{SealMode, SessionId};
use raftgram::types::{ClusterId, NodeId, PacketNumber};
use raftgram::wire::status::NodeStatus;
use raftgram::wire::{Flags, HEADER_BYTES, Header, Party, begin, finish, mark_sealed, parse_header, seal_id};
use raftgram::{Client, ReadLevel};

use crate::cluster::{Cluster, Start, connect_as, loopback, read};
use crate::cost::Cost;
use crate::flood::{Counted, GROWTH_KIB_MAX, QUEUE_BYTES_MAX, kernel_queue, resident_kib, status};
use crate::load::Load;
use crate::process::{PATIENCE, eventually};
use crate::relay::Relay;
use crate::sealed::{client, flags, new_key};

/// How many datagrams of nobody's a node gets in the short form.
const DATAGRAMS: u64 = 60_000;

/// A cluster of so many sealed nodes that has not been started.
fn sealed(count: u16) -> (Cluster, PathBuf) {
    let mut cluster = Cluster::stopped(loopback(), count);
    let file = new_key(cluster.dir(), "cluster.key", &[]);
    for id in cluster.ids() {
        cluster.set_flags(id, flags(&file, "require"));
    }
    cluster.set_client(client(SealMode::Require, &file));
    (cluster, file)
}

#[test]
fn whatever_has_no_key_is_counted_by_reason_and_none_of_it_is_taken() {
    let (mut cluster, file) = sealed(1);
    cluster.start(1, Start::Bootstrap);
    let relay = Relay::start(None, cluster.address(1));
    let client = connect_as(&client(SealMode::Require, &file), &[relay.faces_near]);
    put(&client, "before");
    for _ in 0..50 {
        assert_eq!(read(&client, "k", ReadLevel::Linearizable).as_deref(), Some("before"));
    }
    let pid = cluster.process(1).pid();
    let node = cluster.address(1);
    let mut forger = Forger::new(&status(&client), vec![(node, relay.outward.kept())]);
    forger.flood(DATAGRAMS / 4);
    let memory_before = resident_kib(pid);

    let first = Counted::now(&client, &relay);
    let greetings_before = forger.greetings;
    forger.flood(DATAGRAMS);
    let last = Counted::now(&client, &relay);

    assert_eq!(kernel_queue(node).drops, 0, "the kernel delivered all that was sent");
    let dropped: u64 = last.status.drops.iter().map(|drop| drop.count).sum();
    assert_eq!(last.status.received, last.status.accepted + dropped, "{:?}", last.status);
    // Of what the forger sent, true greetings only were taken, which anyone may repeat: each costs a MAC. Honest
    // datagrams may be under way while the node counts.
    let accepted = last.status.accepted - first.status.accepted;
    let fewest = last.passed_before - first.passed_after;
    let most = last.passed_after - first.passed_before + (forger.greetings - greetings_before);
    assert!((fewest..=most).contains(&accepted), "{accepted} accepted, not {fewest} to {most}");
    for reason in ["crc_or_seal", "replay", "short", "cluster_tag"] {
        let count = |status: &NodeStatus| {
            status.drops.iter().find(|drop| drop.reason == reason).map_or(0, |drop| drop.count)
        };
        assert!(count(&last.status) > count(&first.status), "none is dropped as {reason}");
    }
    let state = |it: &NodeStatus| (it.term, it.last, it.commit, it.incarnation, it.membership.clone());
    assert_eq!(state(&first.status), state(&last.status));
    forger.assert_answers_are_small();
    let memory = resident_kib(pid);
    assert!(memory <= memory_before + GROWTH_KIB_MAX, "{memory_before} KiB grew to {memory} KiB");
    put(&client, "after");
    assert_eq!(read(&client, "k", ReadLevel::Linearizable).as_deref(), Some("after"));
    eprintln!(
        "{} datagrams, {} of them true greetings: {:?}",
        forger.sent, forger.greetings, last.status.drops
    );
}

/// Issue 7: under load, and what it costs when asked for.
#[test]
fn a_sealed_cluster_under_load_loses_nothing_to_forgers() {
    let long = std::env::var("RAFTGRAM_FORGED").ok().map(|count| count.parse::<u64>().unwrap());
    let rate = std::env::var("RAFTGRAM_FORGED_RATE").map_or(50_000, |rate| rate.parse().unwrap());
    let (mut cluster, file) = sealed(3);
    // What nodes say to each other is overheard in the short form only: relays in between would be what is measured.
    let pairs = if long.is_some() { Vec::new() } else { vec![(1, 2), (1, 3), (2, 3)] };
    let between: Vec<(u16, u16, Relay)> = pairs
        .into_iter()
        .map(|(near, far)| {
            let relay = Relay::start(Some(cluster.address(near)), cluster.address(far));
            cluster.add_flags(near, ["--route".to_owned(), format!("{far}={}", relay.faces_near)]);
            cluster.add_flags(far, ["--route".to_owned(), format!("{near}={}", relay.faces_far)]);
            (near, far, relay)
        })
        .collect();
    if long.is_some() {
        // Then the processor is what there is too little of.
        cluster.ids().for_each(|id| cluster.add_flags(id, ["--no-fsync"]));
    }
    cluster.start_all(Start::Bootstrap);
    cluster.leader();
    let config = client(SealMode::Require, &file);
    let load = Load::start_with(cluster.addresses(), 8, &config);
    load.wait_for(100);
    let clients: Vec<(u16, Relay, Client)> = cluster
        .ids()
        .map(|id| {
            let relay = Relay::start(None, cluster.address(id));
            let client = connect_as(&config, &[relay.faces_near]);
            (0..60).for_each(|_| drop(status(&client)));
            (id, relay, client)
        })
        .collect();
    let heard = clients.iter().map(|(id, relay, _)| {
        let mut heard = relay.outward.kept();
        for (near, far, relay) in &between {
            heard.extend(if far == id { relay.outward.kept() } else { Vec::new() });
            heard.extend(if near == id { relay.inward.kept() } else { Vec::new() });
        }
        (cluster.address(*id), heard)
    });
    let first = cluster.statuses();
    let mut forger = Forger::new(&first[&1], heard.collect());
    match long {
        None => {
            forger.flood(DATAGRAMS);
            load.wait_for(100);
        }
        Some(count) => {
            // Their sessions, which the forger makes use of, end when they are silent for too long.
            let between = || clients.iter().for_each(|(_, _, client)| drop(status(client)));
            Cost::measure(&load, count, rate, |elsewhere| forger.send(elsewhere), between).report(&cluster);
        }
    }
    let expected = load.stop();
    cluster.assert_holds(&expected);
    for id in cluster.ids() {
        let status = cluster.status(id).expect("every node tells its status");
        assert_eq!(status.membership, first[&id].membership);
        assert_eq!(status.incarnation, first[&id].incarnation, "node {id} has restarted");
        assert!(status.drops.iter().any(|drop| drop.reason == "crc_or_seal" && drop.count > 1_000));
    }
    forger.assert_answers_are_small();
}

fn put(client: &Client, value: &str) {
    let command = raftgram::kv::Command::Put { key: b"k", value: value.as_bytes() }.to_bytes();
    let answer = client.propose(command, PATIENCE).wait(PATIENCE * 2);
    assert!(matches!(answer, Ok(Ok(Answer::Applied { .. }))), "{answer:?}");
}

/// Somebody who has heard much, knows the cluster's id, and has no key.
struct Forger {
    rng: Rng,
    socket: UdpSocket,
    cluster: ClusterId,
    /// What was heard on its way to each node.
    heard: Vec<(SocketAddr, Vec<Vec<u8>>)>,
    sent: u64,
    sent_bytes: u64,
    bytes_max: usize,
    /// Of those, handshakes as they were heard.
    greetings: u64,
}

impl Forger {
    fn new(status: &NodeStatus, heard: Vec<(SocketAddr, Vec<Vec<u8>>)>) -> Self {
        let is_sealed = |bytes: &Vec<u8>| Flags(bytes[3]).contains(Flags::SEALED);
        for (to, heard) in &heard {
            assert!(heard.len() > 50, "{} honest datagrams to {to}", heard.len());
            assert!(heard.iter().all(is_sealed), "a sealed cluster says something in plain");
        }
        let socket = UdpSocket::bind((loopback(), 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (rng, cluster) = (Rng::from_seed(0x0f04_6e0d), status.cluster);
        Self { rng, socket, cluster, heard, sent: 0, sent_bytes: 0, bytes_max: 0, greetings: 0 }
    }

    /// Sends the next to the nodes in turn, or elsewhere.
    fn send(&mut self, elsewhere: Option<SocketAddr>) {
        let place = (self.sent % self.heard.len() as u64) as usize;
        let datagram = self.next(place);
        // A full queue of the target's is what any flood meets.
        if self.socket.send_to(&datagram, elsewhere.unwrap_or(self.heard[place].0)).is_ok() {
            self.sent_bytes += datagram.len() as u64;
            self.bytes_max = self.bytes_max.max(datagram.len());
        }
        self.sent += 1;
    }

    /// As fast as the targets read.
    fn flood(&mut self, count: u64) {
        for place in 0..count {
            self.send(None);
            if place % 16 == 0 {
                self.wait_for_room(QUEUE_BYTES_MAX);
            }
        }
        self.wait_for_room(0);
    }

    fn wait_for_room(&self, bytes: u64) {
        for (target, _) in &self.heard {
            eventually("the node reads its socket", || (kernel_queue(*target).bytes <= bytes).then_some(()));
        }
    }

    fn next(&mut self, place: usize) -> Vec<u8> {
        let heard = &self.heard[place].1;
        let mut datagram = heard[self.rng.below(heard.len() as u64) as usize].clone();
        match self.rng.below(10) {
            0..4 => self.alter(&mut datagram),
            4..6 => self.forge(&datagram),
            6..8 => {
                self.greetings += u64::from(SessionId::parse(seal_id(&datagram)).is_err());
                datagram
            }
            _ => self.plain(&datagram),
        }
    }

    /// Bits, the end, the number, the phase, the session.
    fn alter(&mut self, datagram: &mut Vec<u8>) -> Vec<u8> {
        match self.rng.below(8) {
            0 => datagram.truncate(self.rng.below(datagram.len() as u64) as usize),
            1 => datagram.extend_from_slice(&self.rng.bytes16()),
            2 => datagram[HEADER_BYTES - 1] ^= self.rng.next_u64() as u8 | 1,
            3 => datagram[3] ^= Flags::KEY_PHASE.0,
            4 => {
                let other = self.rng.next_u64() as u32;
                mark_sealed(
                    datagram,
                    Flags::NONE,
                    if self.rng.chance(0.5) { other } else { other | 1 << 31 },
                );
            }
            _ => {
                let bit = self.rng.below(datagram.len() as u64 * 8) as usize;
                datagram[bit / 8] ^= 1 << (bit % 8);
            }
        }
        core::mem::take(datagram)
    }

    /// The header of a session that there is, and whatever in it, up to a full datagram.
    fn forge(&mut self, honest: &[u8]) -> Vec<u8> {
        let header = parse_header(honest).expect("it was honest");
        let packet = PacketNumber(header.packet.0 + 1 + self.rng.below(100_000));
        let mut datagram = Vec::new();
        begin(&mut datagram, &Header { packet, ..header });
        mark_sealed(&mut datagram, Flags::NONE, seal_id(honest));
        let bytes = 16 + self.rng.below(1_150);
        datagram.extend((0..bytes).map(|place| (packet.0.wrapping_mul(31) + place) as u8));
        datagram
    }

    /// What would be heard if plain datagrams were.
    fn plain(&mut self, honest: &[u8]) -> Vec<u8> {
        let header = parse_header(honest).expect("it was honest");
        let is_foreign = self.rng.chance(0.2);
        let cluster = if is_foreign { ClusterId(self.rng.bytes16()) } else { self.cluster };
        let is_greeting = self.rng.chance(0.3);
        let source = match self.rng.below(4) {
            0 => Party::Any,
            id => Party::Node(NodeId::new(id as u16).expect("not zero")),
        };
        let header = Header {
            flags: if is_greeting { Flags::CLIENT } else { Flags::ACK_ELICITING },
            cluster_tag: if is_greeting && !is_foreign { 0 } else { cluster.tag() },
            source,
            packet: PacketNumber(header.packet.0 + 1 + self.rng.below(1_000)),
            ..header
        };
        let mut datagram = Vec::new();
        begin(&mut datagram, &header);
        datagram.extend_from_slice(&honest[HEADER_BYTES..]);
        if is_greeting {
            datagram.resize(datagram.len().max(256), 0);
        }
        finish(&mut datagram, cluster);
        datagram
    }

    /// At most one answer each, and none larger than what it answers: so neither are all together.
    fn assert_answers_are_small(&self) {
        let (mut answers, mut answer_bytes, mut buffer) = (0_u64, 0_u64, vec![0; 65_536]);
        while let Ok((bytes, _)) = self.socket.recv_from(&mut buffer) {
            assert!(bytes <= self.bytes_max, "an answer of {bytes} bytes to at most {}", self.bytes_max);
            (answers, answer_bytes) = (answers + 1, answer_bytes + bytes as u64);
        }
        assert!(
            answers <= self.sent && answer_bytes <= self.sent_bytes,
            "{answers} answers of {answer_bytes} bytes to {} of {}",
            self.sent,
            self.sent_bytes
        );
    }
}
