//! A node among strangers: random and mutated datagrams, counted on both sides of its socket.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use raftgram::Client;
use raftgram::rng::Rng;
use raftgram::types::{ClusterId, Incarnation, NodeId, PacketNumber};
use raftgram::wire::status::NodeStatus;
use raftgram::wire::{Flags, HEADER_BYTES, Header, Party, begin, finish};
use raftgram::{Answer, ReadLevel};

use crate::cluster::{Cluster, Start, connect, loopback, read};
use crate::cost::{Cost, pace};
use crate::load::Load;
use crate::process::{PATIENCE, eventually, run};
use crate::relay::Relay;

const DATAGRAMS: u64 = 100_000;

/// Sent before memory is looked at, so that what is made once has been made.
const WARM_UP: u64 = 20_000;

/// How much the node may grow over the flood: the allocator's noise. A hundred thousand datagrams kept would be
/// tens of times as much.
pub(crate) const GROWTH_KIB_MAX: u64 = 4096;

/// How much may stand in the socket's queue before the flood waits, well below what it holds.
pub(crate) const QUEUE_BYTES_MAX: u64 = 64 << 10;

#[test]
fn a_flood_of_nonsense_is_counted_to_the_last_datagram_and_serving_goes_on() {
    let mut cluster = Cluster::stopped(loopback(), 1);
    cluster.start(1, Start::Bootstrap);
    let node = cluster.address(1);
    // All that an honest client says passes the relay, which counts it and keeps some of it for mutation.
    let relay = Relay::start(None, node);
    let client = connect(&[relay.faces_near]);
    eventually("the node leads", || (put(&cluster, "before") == Some(0)).then_some(()));
    for _ in 0..50 {
        assert_eq!(read(&client, "k", ReadLevel::Linearizable).as_deref(), Some("before"));
    }
    let pid = cluster.process(1).pid();
    let mut flood = Flood::new(node, &status(&client), relay.outward.kept());
    flood.send(WARM_UP);
    let memory_before = resident_kib(pid);

    let first = Counted::now(&client, &relay);
    let sent_before = flood.sent;
    flood.send(DATAGRAMS);
    let last = Counted::now(&client, &relay);
    let sent = flood.sent - sent_before;
    assert_eq!(sent, DATAGRAMS);

    let status = &last.status;
    let dropped: u64 = status.drops.iter().map(|drop| drop.count).sum();
    assert_eq!(status.received, status.accepted + dropped, "{status:?}");
    assert_eq!(kernel_queue(node).drops, 0, "the kernel delivered all that was sent");
    let received = status.received - first.status.received;
    // Honest datagrams may be under way while the node counts.
    let fewest = sent + last.passed_before - first.passed_after;
    let most = sent + last.passed_after - first.passed_before;
    assert!(
        (fewest..=most).contains(&received),
        "{received} received, not {fewest} to {most}; {sent} of the flood"
    );
    flood.assert_answers_are_small();
    let reasons = status.drops.iter().filter(|drop| drop.count > 0).count();
    assert!(reasons >= 6, "the flood is too uniform: {:?}", status.drops);

    let memory = resident_kib(pid);
    assert!(memory <= memory_before + GROWTH_KIB_MAX, "{memory_before} KiB grew to {memory} KiB");
    assert_eq!(put(&cluster, "after"), Some(0));
    assert_eq!(read(&client, "k", ReadLevel::Linearizable).as_deref(), Some("after"));
    let lines = cluster.log(1).lines().count();
    assert!(lines < 100, "{lines} lines of log: a flood of datagrams is one of lines");
    eprintln!(
        "{sent} datagrams: {} accepted in all, dropped {:?}; {memory_before} KiB before, {memory} KiB after",
        status.accepted, status.drops
    );
}

/// What no end that keeps to the protocol says: it costs the cluster a look at each, and nothing else. The long form
/// says how much that is, of a release build.
#[test]
fn a_cluster_whose_leader_is_flooded_with_malformed_datagrams_goes_on() {
    let long = std::env::var("RAFTGRAM_FLOOD_SECONDS").ok().map(|text| text.parse::<u64>().unwrap());
    let mut cluster = Cluster::stopped(loopback(), 3);
    // Then the processor is what there is too little of.
    cluster.ids().for_each(|id| cluster.add_flags(id, ["--no-fsync"]));
    cluster.start_all(Start::Bootstrap);
    let (leader, term) = cluster.leader();
    let load = Load::start(cluster.addresses(), 8);
    load.wait_for(100);
    let relay = Relay::start(None, cluster.address(leader));
    let client = connect(&[relay.faces_near]);
    (0..60).for_each(|_| drop(status(&client)));
    let mut flood = Flood::new(cluster.address(leader), &status(&client), relay.outward.kept());
    let mut send = |elsewhere: Option<SocketAddr>| {
        let datagram = flood.malformed();
        // A full queue of the target's is what any flood meets.
        let _ = flood.socket.send_to(&datagram, elsewhere.unwrap_or(flood.node));
    };
    (0..WARM_UP).for_each(|_| send(None));
    match long {
        None => load.wait_for(100),
        Some(seconds) => Cost::measure(&load, 50_000 * seconds, 50_000, &mut send, || ()).report(&cluster),
    }
    let written = load.stop();
    cluster.assert_holds(&written);
    // What the writes take is theirs. Now nothing grows but by the flood.
    let pid = cluster.process(leader).pid();
    let (memory_before, span) = (resident_kib(pid), Duration::from_secs(long.unwrap_or(1)));
    let sent = pace(50_000, span, || send(None));
    let memory = resident_kib(pid);
    eprintln!("{sent} more in {span:?}: {memory_before} KiB before, {memory} KiB after");
    assert!(memory <= memory_before + 1024, "{memory_before} KiB grew to {memory} KiB");
    assert_eq!(cluster.leader(), (leader, term), "node and term of the leader before and after");
}

fn put(cluster: &Cluster, value: &str) -> Option<i32> {
    run(&["--cluster", &cluster.names(), "--timeout", "5s", "kv", "put", "k", value]).status.code()
}

pub(crate) fn status(client: &Client) -> NodeStatus {
    match client.status(0, PATIENCE).wait(PATIENCE * 2) {
        Ok(Ok(Answer::Status(status))) => *status,
        other => panic!("the node does not tell its status: {other:?}"),
    }
}

/// What the node has counted, and how much the relay had passed on around that moment.
pub(crate) struct Counted {
    pub(crate) status: NodeStatus,
    pub(crate) passed_before: u64,
    pub(crate) passed_after: u64,
}

impl Counted {
    pub(crate) fn now(client: &Client, relay: &Relay) -> Self {
        let passed_before = relay.outward.passed();
        let status = status(client);
        Self { status, passed_before, passed_after: relay.outward.passed() }
    }
}

/// A stranger with a socket.
struct Flood {
    rng: Rng,
    socket: UdpSocket,
    node: SocketAddr,
    cluster: ClusterId,
    node_incarnation: Incarnation,
    /// Datagrams of an honest client.
    honest: Vec<Vec<u8>>,
    sent: u64,
    sent_bytes: u64,
    bytes_max: usize,
}

impl Flood {
    fn new(node: SocketAddr, status: &NodeStatus, honest: Vec<Vec<u8>>) -> Self {
        assert!(honest.len() > 50, "{} honest datagrams to mutate", honest.len());
        let socket = UdpSocket::bind((loopback(), 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let rng = Rng::from_seed(0x0f10_0d00);
        let (cluster, node_incarnation) = (status.cluster, status.incarnation);
        Self { rng, socket, node, cluster, node_incarnation, honest, sent: 0, sent_bytes: 0, bytes_max: 0 }
    }

    fn send(&mut self, count: u64) {
        for place in 0..count {
            let datagram = self.next();
            assert_eq!(self.socket.send_to(&datagram, self.node).unwrap(), datagram.len());
            self.sent += 1;
            self.sent_bytes += datagram.len() as u64;
            self.bytes_max = self.bytes_max.max(datagram.len());
            if place % 16 == 0 {
                self.wait_for_room(QUEUE_BYTES_MAX);
            }
        }
        // All of it has been read before anything is counted.
        self.wait_for_room(0);
    }

    fn wait_for_room(&self, bytes: u64) {
        eventually("the node reads its socket", || (kernel_queue(self.node).bytes <= bytes).then_some(()));
    }

    fn next(&mut self) -> Vec<u8> {
        match self.rng.below(8) {
            0 => self.random(2000),
            // Rarely as long as can be: a few of these fill the queue.
            1 if self.rng.chance(0.01) => self.random(65_507),
            1 => [&self.any_honest()[..HEADER_BYTES], &self.random(1400)].concat(),
            2 => self.with_flipped_bits(),
            3 => {
                let mut datagram = self.any_honest();
                datagram.truncate(self.rng.below(datagram.len() as u64) as usize);
                datagram
            }
            4 => [self.any_honest(), self.random(100)].concat(),
            5 => self.any_honest(),
            _ => self.well_formed_nonsense(),
        }
    }

    /// Nothing that a node could take for what somebody meant.
    fn malformed(&mut self) -> Vec<u8> {
        match self.rng.below(5) {
            0 => self.random(1400),
            1 => [&self.any_honest()[..HEADER_BYTES], &self.random(1200)].concat(),
            2 => self.with_flipped_bits(),
            3 => {
                let mut datagram = self.any_honest();
                datagram.truncate(self.rng.below(datagram.len() as u64) as usize);
                datagram
            }
            _ => [self.any_honest(), self.random(100)].concat(),
        }
    }

    fn random(&mut self, bytes_max: u64) -> Vec<u8> {
        let bytes = self.rng.below(bytes_max + 1);
        (0..bytes).map(|_| self.rng.next_u64() as u8).collect()
    }

    fn any_honest(&mut self) -> Vec<u8> {
        let place = self.rng.below(self.honest.len() as u64);
        self.honest[place as usize].clone()
    }

    fn with_flipped_bits(&mut self) -> Vec<u8> {
        let mut datagram = self.any_honest();
        for _ in 0..=self.rng.below(8) {
            let bit = self.rng.below(datagram.len() as u64 * 8) as usize;
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
        datagram
    }

    /// Right in all that a stranger who knows the cluster can get right: only frames and numbers make no sense.
    fn well_formed_nonsense(&mut self) -> Vec<u8> {
        let cluster = if self.rng.chance(0.5) { self.cluster } else { ClusterId::ZERO };
        let party = |rng: &mut Rng| match rng.below(3) {
            0 => Party::Any,
            id => Party::Node(NodeId::new(id as u16).unwrap()),
        };
        let known = if self.rng.chance(0.8) { self.node_incarnation } else { Incarnation::UNKNOWN };
        let header = Header {
            // Sealed ones, bit 0, are refused before anything else of them is looked at.
            flags: Flags(self.rng.next_u64() as u8 & !1),
            cluster_tag: cluster.tag(),
            source: party(&mut self.rng),
            destination: party(&mut self.rng),
            source_incarnation: Incarnation(self.rng.below(4) as u32),
            destination_incarnation: known,
            packet: PacketNumber(1 + self.rng.below(1000)),
        };
        let mut datagram = Vec::new();
        begin(&mut datagram, &header);
        // The frames of an honest one, or a known type with a fitting length and anything inside.
        if self.rng.chance(0.5) {
            let honest = self.with_flipped_bits();
            datagram.extend_from_slice(&honest[HEADER_BYTES..]);
        } else {
            let body = self.random(60);
            datagram.extend_from_slice(&[self.rng.below(32) as u8, body.len() as u8]);
            datagram.extend_from_slice(&body);
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

/// What the kernel holds for a socket, and what it had no room for.
pub(crate) struct KernelQueue {
    pub(crate) bytes: u64,
    pub(crate) drops: u64,
}

/// The row of a bound socket in the kernel's table.
pub(crate) fn kernel_queue(address: SocketAddr) -> KernelQueue {
    let SocketAddr::V4(address) = address else { panic!("the table of IPv4 sockets has no {address}") };
    let name = format!("{:08X}:{:04X}", u32::from(*address.ip()).swap_bytes(), address.port());
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row =
        row.into_iter().find(|fields| fields.get(1) == Some(&name.as_str())).expect("the socket is bound");
    let (_, queued) = row[4].split_once(':').unwrap();
    KernelQueue { bytes: u64::from_str_radix(queued, 16).unwrap(), drops: row[12].parse().unwrap() }
}

/// How much memory a process holds.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
