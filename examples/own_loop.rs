//! Three nodes and a client on the sans-I/O layer, driven by a loop of our own: one thread, plain sockets, disks in
//! memory. The same machines run under the library's own loop and under any other.
//!
//! `cargo run --example own_loop`

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "whoever drives the machines has the clock"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant as Clock};

use raftgram::client::{Answer, Client, ClientConfig, Output as ClientOutput};
use raftgram::founding::FoundingRecord;
use raftgram::kv::{Command, Kv};
use raftgram::membership::{Member, Membership};
use raftgram::node::{Node, NodeConfig, NodeStart, Output, PeerRecord};
use raftgram::rng::Rng;
use raftgram::store::{Batch, FormatOptions, MemoryDisk, OpenOptions, PeerSeen, SEGMENT_BYTES, Store};
use raftgram::time::Instant;
use raftgram::types::{BootNonce, ClusterId, Incarnation, NodeId, StoreId};
use slog::{Discard, Logger, o};

type Failure = Box<dyn Error>;

/// A node, what it writes to, and what it speaks through.
struct Site {
    node: Node<Kv>,
    store: Store<MemoryDisk>,
    socket: UdpSocket,
}

/// The time as the machines know it.
struct Time(Clock);

impl Time {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.elapsed().as_nanos() as u64)
    }
}

fn main() -> Result<(), Failure> {
    let time = Time(Clock::now());
    let mut rng = Rng::from_seed(time.0.elapsed().as_nanos() as u64);
    let sockets = (0..3).map(|_| socket()).collect::<Result<Vec<_>, _>>()?;
    let addresses = sockets.iter().map(UdpSocket::local_addr).collect::<Result<Vec<_>, _>>()?;

    // All voters are bound to their stores by one record. The library's own loop lets the nodes agree on it.
    let member = |(number, address): (u16, &SocketAddr)| {
        let store = StoreId([number as u8; 16]);
        Some((NodeId::new(number)?, Member { store, address: address.to_string() }))
    };
    let voters: BTreeMap<NodeId, Member> = (1..).zip(&addresses).filter_map(member).collect();
    let record = FoundingRecord {
        cluster: ClusterId(rng.bytes16()),
        membership: Membership::of_voters(voters.clone()),
    };
    let mut sites = Vec::new();
    for ((id, member), socket) in voters.iter().zip(sockets) {
        sites.push(site(*id, member, &record, socket, rng.fork(), time.now())?);
    }

    let own_socket = socket()?;
    let mut client = Client::new(ClientConfig::default(), &addresses, rng, time.now());
    let put = Command::Put { key: b"greeting", value: b"hello" }.to_bytes();
    client.propose(put, time.now() + Duration::from_secs(10));
    loop {
        sites.iter_mut().try_for_each(|site| turn(site, &time))?;
        receive(&own_socket, |from, bytes| client.handle_datagram(time.now(), from, bytes))?;
        client.handle_timeout(time.now());
        client.turn(time.now());
        while let Some(output) = client.poll_output() {
            match output {
                ClientOutput::Transmit { to, bytes } => drop(own_socket.send_to(&bytes, to)?),
                ClientOutput::Done { result: Ok(Answer::Applied { index, term, .. }), .. } => {
                    println!("greeting: written at index {index} in term {term}");
                    return Ok(());
                }
                ClientOutput::Done { result, .. } => return Err(format!("no write: {result:?}").into()),
            }
        }
    }
}

fn socket() -> Result<UdpSocket, std::io::Error> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn site(
    id: NodeId,
    member: &Member,
    record: &FoundingRecord,
    socket: UdpSocket,
    mut rng: Rng,
    now: Instant,
) -> Result<Site, Failure> {
    let mut disk = MemoryDisk::new();
    let first_incarnation = Incarnation(rng.below(1 << 30) as u32);
    Store::format(
        &mut disk,
        FormatOptions { store: member.store, first_incarnation, segment_bytes: SEGMENT_BYTES },
    )?;
    let (mut store, found) = Store::open(disk, OpenOptions::default())?;
    store.record_founding(record)?;
    let start = NodeStart {
        store: found.store,
        incarnation: found.incarnation,
        boot_nonce: BootNonce(rng.bytes16()),
        cluster: record.cluster,
        founding: Some(record.clone()),
        hard_state: found.hard_state,
        snapshot: None,
        entries: found.entries,
        remains: None,
        damage: Vec::new(),
    };
    let config = NodeConfig::new(id, member.address.clone());
    let node = Node::new(config, start, Kv::new(), &Logger::root(Discard, o!()), rng, now);
    Ok(Site { node, store, socket })
}

/// Hands in what has come and what time it is, then does all that the node asks for.
fn turn(site: &mut Site, time: &Time) -> Result<(), Failure> {
    let Site { node, store, socket } = site;
    receive(socket, |from, bytes| node.handle_datagram(time.now(), from, bytes))?;
    node.handle_timeout(time.now());
    node.turn(time.now());
    while let Some(output) = node.poll_output() {
        match output {
            Output::Transmit { to, bytes } => drop(socket.send_to(&bytes, to)?),
            Output::Persist { ticket, hard_state, truncate_from, entries } => {
                store.persist(&Batch { hard_state, truncate_from, entries })?;
                node.handle_persisted(time.now(), ticket);
                node.turn(time.now());
            }
            Output::RecordPeer { store: peer, incarnation, nonce, kept } => {
                let seen = match store.record_peer(peer, incarnation, nonce, &kept)? {
                    PeerSeen::Adopted => PeerRecord::Adopted,
                    PeerSeen::Copy { .. } => PeerRecord::Copy,
                };
                node.handle_peer_recorded(time.now(), peer, incarnation, nonce, seen);
                node.turn(time.now());
            }
            Output::Snapshot(job) => {
                let done = job.carry_out(store.disk_mut())?;
                node.handle_snapshot_done(time.now(), done);
                node.turn(time.now());
            }
            Output::AdoptSnapshot { meta, log } => {
                let adopted = store.adopt_snapshot(meta, log)?;
                node.handle_snapshot_adopted(time.now(), meta, adopted);
                node.turn(time.now());
            }
            Output::Event(event) => println!("{event:?}"),
            _ => {}
        }
    }
    Ok(())
}

/// Reads until nothing is left, and does not care what `take` makes of it. A loop with more to do than this one would
/// sleep until the next `poll_timeout`.
fn receive<T>(
    socket: &UdpSocket,
    mut take: impl FnMut(SocketAddr, &[u8]) -> T,
) -> Result<(), std::io::Error> {
    let mut buffer = [0; 65_536];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((count, from)) => drop(take(from, &buffer[..count])),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
