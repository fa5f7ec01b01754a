//! Clients on a socket of their own, and more of them there than a node can hear.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use raftgram::ReadLevel;
use raftgram::client::Output;
use raftgram::rng::Rng;
use raftgram::run::net::Net;
use raftgram::run::socket::{Outgoing, Socket};
use raftgram::wire::HEADER_BYTES;

use crate::cluster::{Cluster, Start, connect, free_addresses, loopback, read};
use crate::flood::kernel_queue;
use crate::load::Load;
use crate::process::{PATIENCE, eventually, setting};

/// Three nodes, and where each hears clients.
fn cluster() -> (Cluster, Vec<SocketAddr>) {
    let mut cluster = Cluster::stopped(loopback(), 3);
    let doors = free_addresses(loopback(), 3);
    for (id, door) in cluster.ids().zip(&doors) {
        cluster.add_flags(id, ["--client-listen".to_owned(), door.to_string()]);
    }
    cluster.start_all(Start::Bootstrap);
    cluster.leader();
    (cluster, doors)
}

// U19
#[test]
fn a_flood_at_the_clients_socket_costs_clients_and_causes_no_election() {
    let (cluster, doors) = cluster();
    // They are led from door to door: what a node says of the leader names its own address, and is not followed.
    let load = Load::start(&doors, 4);
    load.wait_for(50);
    let (leader, term) = cluster.leader();
    let door = doors[usize::from(leader) - 1];
    let span = Duration::from_secs(setting("RAFTGRAM_OVERLOAD_SECONDS", 3));
    // Many at a call, as no node reads them: its queue overflows however fast it is.
    let mut socket = Socket::bind((loopback(), 0).into()).unwrap();
    let (mut rng, mut sent, began) = (Rng::from_seed(19), 0_u64, Instant::now());
    let mut nonsense: Vec<u8> = (0..1200).map(|_| rng.next_u64() as u8).collect();
    // As a client of another cluster: read as far as its header, for each of them.
    nonsense[..4].copy_from_slice(&[0xa7, 0x52, 1, 8]);
    nonsense[12..16].fill(0xff);
    while began.elapsed() < span || kernel_queue(door).drops == 0 {
        let before = sent;
        while sent < before + 20_000 {
            let bytes = &nonsense[..HEADER_BYTES + rng.below(1100) as usize];
            let mut burst = vec![Outgoing { to: door, bytes: bytes.to_vec() }; 50];
            sent += 50;
            socket.send(&mut burst, &mut |_, _| sent -= 1);
        }
        eventually("the node reads on", || (kernel_queue(door).bytes < 1 << 20).then_some(()));
    }
    let (client_drops, node_drops) = (kernel_queue(door).drops, kernel_queue(cluster.address(leader)).drops);
    eprintln!("{sent} datagrams; the kernel dropped {client_drops} of clients and {node_drops} of nodes");
    assert_eq!(node_drops, 0, "clients took room from nodes");
    assert_eq!(cluster.leader(), (leader, term), "node and term of the leader before and after");
    load.wait_for(50);
    let written = load.stop();
    cluster.assert_holds(&written);
}

/// A client whose socket holds a few datagrams only, and which asks for much more again and again: most of what it is
/// answered is lost at its own end, and must be sent again.
struct Slow {
    socket: UdpSocket,
    client: raftgram::client::Client,
    answered: u64,
}

impl Slow {
    fn new(doors: &[SocketAddr], clock: &Net, seed: u64) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        // The kernel gives the least it can.
        socket.set_recv_buffer_size(1).unwrap();
        socket.bind(&SocketAddr::from((loopback(), 0)).into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let config = raftgram::ClientConfig::default();
        let client = raftgram::client::Client::new(config, doors, Rng::from_seed(seed), clock.now());
        Self { socket: socket.into(), client, answered: 0 }
    }

    /// Hears what came, asks if nothing is asked, and sends what is to be sent.
    fn turn(&mut self, clock: &Net, buffer: &mut [u8]) {
        while let Ok((bytes, from)) = self.socket.recv_from(buffer) {
            self.client.handle_datagram(clock.now(), from, &buffer[..bytes]);
        }
        let now = clock.now();
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        if self.client.operation_count() == 0 {
            let query = raftgram::kv::Query::Get { key: b"large" }.to_bytes();
            self.client.read(query, ReadLevel::Linearizable, now + Duration::from_secs(30));
        }
        self.client.turn(now);
        while let Some(output) = self.client.poll_output() {
            match output {
                // What finds no room in its own buffer is lost like anything else.
                Output::Transmit { to, bytes } => drop(self.socket.send_to(&bytes, to)),
                Output::Done { result, .. } => self.answered += u64::from(result.is_ok()),
            }
        }
    }
}

#[test]
fn clients_that_hardly_hear_cause_no_election_and_keep_nobody_from_being_served() {
    let (cluster, doors) = cluster();
    let large = raftgram::kv::Command::Put { key: b"large", value: &[7; 32 << 10] }.to_bytes();
    let put = connect(&doors).propose(large, PATIENCE).wait(PATIENCE * 2);
    assert!(matches!(put, Ok(Ok(raftgram::Answer::Applied { .. }))), "{put:?}");
    let load = Load::start(&doors, 4);
    load.wait_for(50);
    let before = cluster.leader();
    let span = Duration::from_secs(setting("RAFTGRAM_OVERLOAD_SECONDS", 3));
    let clock = Net::bind((loopback(), 0).into()).unwrap();
    let count = setting("RAFTGRAM_SLOW_CLIENTS", 300);
    let mut slow: Vec<Slow> = (0..count).map(|seed| Slow::new(&doors, &clock, seed)).collect();
    let (began, written, mut buffer) = (Instant::now(), load.total(), vec![0; 1 << 16]);
    while began.elapsed() < span || slow.iter().all(|client| client.answered == 0) {
        slow.iter_mut().for_each(|client| client.turn(&clock, &mut buffer));
    }
    let (answered, took) = (slow.iter().map(|client| client.answered).sum::<u64>(), began.elapsed());
    eprintln!(
        "{count} clients that hardly hear had {answered} answers of 32 KiB in {took:?}; others wrote {}",
        load.total() - written
    );
    assert_eq!(cluster.leader(), before, "node and term of the leader before and after");
    load.wait_for(50);
    let written = load.stop();
    cluster.assert_holds(&written);
}

#[test]
fn a_node_with_a_clients_socket_serves_at_both_and_a_taken_one_is_refused() {
    let (mut cluster, doors) = cluster();
    let load = Load::start(&doors[1..2], 1);
    load.wait_for(5);
    let written = load.stop();
    for addresses in [&doors[..], cluster.addresses()] {
        let client = connect(addresses);
        assert_eq!(
            read(&client, &Load::key(0), ReadLevel::Linearizable).as_ref(),
            written.get(&Load::key(0))
        );
    }
    cluster.stop(3);
    cluster.set_flags(3, vec!["--client-listen".to_owned(), doors[0].to_string()]);
    cluster.start(3, Start::AsItIs);
    let status = cluster.process(3).wait();
    assert_eq!(status.code(), Some(1), "{}", cluster.log(3));
    assert!(cluster.log(3).contains(&format!("cannot listen on {}", doors[0])), "{}", cluster.log(3));
    cluster.kill(3);
}
