//! Clients on a socket of their own, and more of them there than a node can hear.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use raftgram::ReadLevel;
use raftgram::rng::Rng;
use raftgram::wire::HEADER_BYTES;

use crate::cluster::{Cluster, Start, connect, free_addresses, loopback, read};
use crate::flood::kernel_queue;
use crate::load::Load;
use crate::process::{eventually, setting};

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
    let socket = UdpSocket::bind((loopback(), 0)).unwrap();
    let (mut rng, mut sent, began) = (Rng::from_seed(19), 0_u64, Instant::now());
    let mut nonsense: Vec<u8> = (0..1200).map(|_| rng.next_u64() as u8).collect();
    // As a client of another cluster: read as far as its header, for each of them.
    nonsense[..4].copy_from_slice(&[0xa7, 0x52, 1, 8]);
    nonsense[12..16].fill(0xff);
    while began.elapsed() < span || kernel_queue(door).drops == 0 {
        let before = sent;
        while sent < before + 20_000 {
            let bytes = HEADER_BYTES + rng.below(1100) as usize;
            sent += u64::from(socket.send_to(&nonsense[..bytes], door).is_ok());
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
