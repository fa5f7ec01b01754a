//! What the seal keeps out, and what it must not break.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use super::world::{CLUSTER, Faults, Mode, World, client_local, node_local, seal_config};
use crate::rpc::{Event, ReplayProtection, RpcConfig, SealConfig};
use crate::seal::{Entropy, KeyLog, KeyRole, MAC_BYTES, SealMode, Secret, SessionId, Trust};
use crate::types::NodeId;
use crate::wire::{self, Class, DropReason, Flags, HEADER_BYTES, SealRefusal};

const MS: Duration = Duration::from_millis(1);

fn config_with(seal: SealConfig) -> RpcConfig {
    RpcConfig { seal, hello_retry_min: 5 * MS, hello_retry_max: 50 * MS, ..RpcConfig::default() }
}

fn node_config(mode: SealMode, keys: &[u8]) -> RpcConfig {
    match mode {
        SealMode::Off => config_with(SealConfig::default()),
        mode => {
            let keys: Vec<(KeyRole, u8)> = keys.iter().map(|&key| (KeyRole::Cluster, key)).collect();
            config_with(seal_config(mode, &keys))
        }
    }
}

/// Two nodes with these settings; whether a call of the first was answered, and what the second knows of it.
fn meet(a: RpcConfig, b: RpcConfig) -> Option<Trust> {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), a);
    world.add(node_local(2, CLUSTER), b);
    let link = world.connect(0, 1);
    let now = world.now;
    world.ends[0].rpc.call(now, link, Class::Once, b"ping".to_vec()).unwrap();
    let events = world.run_echo(300 * MS);
    let is_answered = events.iter().any(|(place, event)| *place == 0 && matches!(event, Event::Reply { .. }));
    let there = world.ends[1].rpc.link_to(NodeId::new(1).unwrap());
    let trust = there.and_then(|link| world.ends[1].rpc.peer(link)).map(|peer| peer.trust);
    is_answered.then_some(trust).flatten()
}

// [W-78]: who can speak to whom, and how, in every pair of modes.
#[test]
fn modes_meet_as_the_table_says() {
    use SealMode::{Accept, Off, Require};
    let sealed = Some(Trust::Key(KeyRole::Cluster));
    let plain = Some(Trust::None);
    let cases = [
        (Off, Off, plain),
        (Off, Accept, plain),
        (Off, Require, None),
        (Accept, Off, plain),
        (Accept, Accept, sealed),
        (Accept, Require, sealed),
        (Require, Off, None),
        (Require, Accept, sealed),
        (Require, Require, sealed),
    ];
    for (a, b, expected) in cases {
        assert_eq!(meet(node_config(a, &[1]), node_config(b, &[1])), expected, "{a:?} greets {b:?}");
    }
}

// [W-71]: each row is a state in which a rolling change of keys may leave two nodes.
#[test]
fn nodes_meet_when_each_holds_the_key_the_other_greets_with() {
    let sealed = Some(Trust::Key(KeyRole::Cluster));
    let cases: [(&[u8], &[u8], Option<Trust>); 6] = [
        (&[1], &[1, 2], sealed),
        (&[1, 2], &[1], sealed),
        (&[1, 2], &[2, 1], sealed),
        (&[2, 1], &[2], sealed),
        (&[2], &[2, 1], sealed),
        (&[1], &[2], None),
    ];
    for (a, b, expected) in cases {
        let config = |keys| node_config(SealMode::Require, keys);
        assert_eq!(meet(config(a), config(b)), expected, "{a:?} greets {b:?}");
    }
}

/// A sealed pair, an exchange between them captured, and the replay window as given.
fn captured(replay: ReplayProtection) -> (World, Vec<(SocketAddr, SocketAddr, Vec<u8>)>) {
    let config = RpcConfig { replay, ..Mode::Sealed.config() };
    let mut world = World::new(3, Faults::none());
    world.add(node_local(1, CLUSTER), config.clone());
    world.add(node_local(2, CLUSTER), config);
    world.record = Some(Vec::new());
    let link = world.connect(0, 1);
    let now = world.now;
    world.ends[0].rpc.call(now, link, Class::Once, b"secret of the write".to_vec()).unwrap();
    world.run_echo(20 * MS);
    let record = world.record.take().unwrap();
    assert!(record.len() >= 7, "hello, hello-ack, confirm, welcome, request, reply, ack: {}", record.len());
    world.events.clear();
    (world, record)
}

fn stays_as_it_was(world: &mut World, answers_max: usize) {
    let before: Vec<usize> = world.ends.iter().map(|end| end.sent_count).collect();
    world.run_for(50 * MS);
    assert!(world.events.is_empty(), "{:?}", world.events);
    let answers: usize = world.ends.iter().zip(before).map(|(end, before)| end.sent_count - before).sum();
    assert!(answers <= answers_max, "{answers} answers");
    let link = world.ends[0].rpc.link_to(NodeId::new(2).unwrap()).unwrap();
    let now = world.now;
    let call = world.ends[0].rpc.call(now, link, Class::Once, b"alive".to_vec()).unwrap();
    world.turn(0);
    let events = world.run_echo(20 * MS);
    assert_eq!(events, [(0, Event::Reply { link, call, body: b"alive".to_vec() })]);
}

// [W-73] [W-74]
#[test]
fn nothing_of_a_sealed_link_can_be_read_and_no_flipped_bit_gets_through() {
    let (mut world, record) = captured(ReplayProtection::Off);
    for (from, to, bytes) in &record {
        assert!(!bytes.windows(6).any(|window| window == b"secret"), "a body went out in plain");
        let place = world.ends.iter().position(|end| end.address == *to).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            let accepted = world.ends[place].rpc.stats().accepted;
            let now = world.now;
            world.ends[place].rpc.handle_datagram(now, *from, &flipped);
            assert_eq!(
                world.ends[place].rpc.stats().accepted,
                accepted,
                "bit {bit} of {} bytes",
                bytes.len()
            );
        }
        for bytes in (0..bytes.len()).map(|cut| &bytes[..cut]) {
            let accepted = world.ends[place].rpc.stats().accepted;
            let now = world.now;
            world.ends[place].rpc.handle_datagram(now, *from, bytes);
            assert_eq!(world.ends[place].rpc.stats().accepted, accepted, "cut to {} bytes", bytes.len());
        }
    }
    stays_as_it_was(&mut world, 20);
}

// [W-5] [W-28] [W-72]: wrong key, unknown key and session ids, plain, replayed, each by its reason.
#[test]
fn forged_replayed_and_plain_datagrams_are_counted_and_change_nothing() {
    let (mut world, record) = captured(ReplayProtection::Window);
    let (from, to, request) = record[4].clone();
    let plain = {
        let mut bytes = request.clone();
        bytes[3] &= !Flags::SEALED.0;
        wire::finish(&mut bytes, CLUSTER);
        bytes
    };
    let with_id = |id: u32| {
        let mut bytes = request.clone();
        bytes[4..8].copy_from_slice(&id.to_be_bytes());
        bytes
    };
    let other_phase = {
        let mut bytes = request.clone();
        bytes[3] ^= Flags::KEY_PHASE.0;
        bytes
    };
    let with_flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let hello = record[0].2.clone();
    // The right key's id over another key's MAC.
    let forged_hello = {
        let ring = |key| seal_config(SealMode::Require, &[(KeyRole::Cluster, key)]).keys.unwrap();
        let other = ring(9);
        let covered = &hello[..hello.len() - MAC_BYTES];
        let cluster = wire::cluster_in_force(covered, CLUSTER);
        [covered, &other.mac(other.for_client(), &cluster.0, covered)].concat()
    };
    let cases = [
        ("replayed", request.clone(), DropReason::Replay),
        ("plain", plain, DropReason::Crc),
        ("altered", with_flipped(&request, HEADER_BYTES), DropReason::Crc),
        ("altered in its number", with_flipped(&request, HEADER_BYTES - 1), DropReason::Crc),
        ("cut short", request[..request.len() - 1].to_vec(), DropReason::Crc),
        ("too long", [&request[..], &[0]].concat(), DropReason::Crc),
        ("a hello under a wrong key", forged_hello, DropReason::Crc),
        ("an altered hello", with_flipped(&hello, HEADER_BYTES + 1), DropReason::Crc),
        ("a hello cut short", hello[..hello.len() - 1].to_vec(), DropReason::Crc),
        ("of a session that is none", with_id(0x8000_0000), DropReason::Crc),
        ("under a key that is none", with_id(7), DropReason::Crc),
        ("in another phase", other_phase, DropReason::Crc),
        ("without room for a tag", request[..HEADER_BYTES + 15].to_vec(), DropReason::Crc),
    ];
    for (what, bytes, reason) in cases {
        let (before, sent_before) = (*world.ends[1].rpc.stats(), world.ends[1].sent_bytes);
        assert_eq!(world.ends[1].address, to);
        for _ in 0..50 {
            world.inject(from, to, bytes.clone(), MS);
        }
        world.run_for(2 * MS);
        assert!(world.ends[1].sent_bytes - sent_before <= 50 * bytes.len(), "{what}: it answers with more");
        let stats = *world.ends[1].rpc.stats();
        assert_eq!(stats.dropped(reason) - before.dropped(reason), 50, "{what}");
        assert_eq!(stats.accepted, before.accepted, "{what}");
        stays_as_it_was(&mut world, 6);
    }
}

// [W-17] [W-75]: each datagram of a handshake comes again, whenever and in whatever order.
#[test]
fn captured_handshakes_bring_no_earlier_session_back() {
    let (mut world, record) = captured(ReplayProtection::Off);
    for span in [MS, 100 * MS, 10_000 * MS] {
        for (from, to, bytes) in record[..4].iter().rev() {
            world.inject(*from, *to, bytes.clone(), span);
        }
        world.run_for(span + MS);
        stays_as_it_was(&mut world, 8);
    }
}

// [W-71]: the key of a client makes nobody a node.
#[test]
fn a_client_s_key_speaks_for_a_client_only() {
    let roles = [(KeyRole::Cluster, 1), (KeyRole::Client, 2)];
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), config_with(seal_config(SealMode::Require, &roles)));
    let client = world.add(client_local(9), config_with(seal_config(SealMode::Require, &roles[1..])));
    let link = world.connect(client, 0);
    let now = world.now;
    world.ends[client].rpc.call(now, link, Class::Once, b"write".to_vec()).unwrap();
    let events = world.run_echo(20 * MS);
    let trusts: Vec<Trust> = events
        .iter()
        .filter_map(|(place, event)| match event {
            Event::Connected { peer, .. } if *place == 0 => Some(peer.trust),
            _ => None,
        })
        .collect();
    assert_eq!(trusts, [Trust::Key(KeyRole::Client)]);
    assert!(events.iter().any(|(_, event)| matches!(event, Event::Reply { .. })), "{events:?}");
    // A node that claims to be one with the client's key: its ring has it as the cluster's.
    let forger = world
        .add(node_local(2, CLUSTER), config_with(seal_config(SealMode::Require, &[(KeyRole::Cluster, 2)])));
    world.connect(forger, 0);
    let before = world.ends[0].rpc.stats().dropped(DropReason::Crc);
    world.run_for(300 * MS);
    assert_eq!(world.ends[0].rpc.link_to(NodeId::new(2).unwrap()), None);
    assert!(world.ends[0].rpc.stats().dropped(DropReason::Crc) > before);
}

// [W-3] [W-74]: a founder asks as a client before it is a node, from the same address. The simulator's find: whoever
// it had asked answered its later hellos in the numbers of the client's link, which it had seen long before.
#[test]
fn a_node_that_was_a_client_at_its_address_can_greet_again_and_again() {
    let mut world = World::new(1, Faults::none());
    let config = Mode::Sealed.config();
    world.add(node_local(1, CLUSTER), config.clone());
    let other = world.add(client_local(9), config.clone());
    // The node greets what is not there yet, and serves the client that is.
    world.connect(0, other);
    let link = world.connect(other, 0);
    let now = world.now;
    world.ends[other].rpc.call(now, link, Class::Once, b"as a client".to_vec()).unwrap();
    world.run_echo(20 * MS);
    world.ends[other].local = node_local(2, CLUSTER);
    world.restart(other);
    world.run_for(2_000 * MS);
    let node = NodeId::new(2).unwrap();
    let link = world.ends[0].rpc.link_to(node).expect("its greeting was answered");
    for _ in 0..50 {
        let now = world.now;
        world.ends[0].rpc.call(now, link, Class::Once, b"ping".to_vec()).unwrap();
        world.turn(0);
        world.run_echo(5 * MS);
    }
    world.record = Some(Vec::new());
    for _ in 0..3 {
        world.connect(other, 0);
        world.run_for(100 * MS);
    }
    let dropped = world.ends[other].rpc.stats().dropped(DropReason::Replay);
    assert_eq!(dropped, 0, "answers in numbers that were used before");
    let record = world.record.take().unwrap();
    let sessions: BTreeSet<u32> =
        record.iter().map(|(_, _, bytes)| wire::seal_id(bytes)).filter(|id| id >> 31 == 1).collect();
    assert!(sessions.len() >= 4, "{} sessions of three handshakes", sessions.len());
}

/// What this end sent that somebody passes on.
fn answers(record: &[(SocketAddr, SocketAddr, Vec<u8>)], from: SocketAddr) -> Vec<Vec<u8>> {
    record.iter().filter(|(sender, ..)| *sender == from).map(|(.., bytes)| bytes.clone()).collect()
}

// [W-3] [W-74]: answers outside a link are counted apart from it. One to a stranger, handed to a node that has a link
// with the answerer, must not push that link's numbers out of the window. The simulator's find.
#[test]
fn answers_to_strangers_that_are_passed_on_cut_no_link() {
    let (mut world, _) = captured(ReplayProtection::Window);
    let clients = [8, 9].map(|nonce| world.add(client_local(nonce), Mode::Sealed.config()));
    let [node, answerer, greeter] = [0, 1, clients[0]].map(|place| world.ends[place].address);
    world.record = Some(Vec::new());
    world.connect(clients[0], 1);
    let hello = answers(world.record.as_deref().unwrap(), greeter).remove(0);
    // It greets from many addresses, so the numbers of strangers are far beyond the link's.
    for n in 0..6_000u32 {
        world.inject(SocketAddr::from((n.to_be_bytes(), 9)), answerer, hello.clone(), n * MS);
    }
    world.run_for(6_000 * MS);
    world.connect(clients[1], 1);
    world.run_for(20 * MS);
    let passed_on = answers(&world.record.take().unwrap(), answerer);
    let far = passed_on.iter().filter(|bytes| wire::parse_header(bytes).unwrap().packet.0 > 3_000).count();
    assert!(far > 1, "{far} of {} answers", passed_on.len());
    for bytes in passed_on.into_iter().rev().take(200) {
        world.inject(answerer, node, bytes, Duration::ZERO);
    }
    world.run_for(MS);
    world.events.clear();
    stays_as_it_was(&mut world, 8);
}

// [W-77]
#[test]
fn a_client_is_told_why_it_is_not_taken() {
    let require = || node_config(SealMode::Require, &[1]);
    let cases = [
        (require(), RpcConfig::default(), SealRefusal::SealRequired),
        (require(), node_config(SealMode::Require, &[3]), SealRefusal::KeyUnknown),
        (RpcConfig::default(), require(), SealRefusal::NoSeal),
    ];
    for (node, of_client, expected) in cases {
        let mut world = World::new(1, Faults::none());
        world.add(node_local(1, CLUSTER), node);
        let client = world.add(client_local(9), of_client);
        let link = world.connect(client, 0);
        world.run_for(20 * MS);
        let (place, event) = world.events.pop_front().unwrap();
        assert_eq!((place, event), (client, Event::Refused { link, reason: expected }));
        assert!(world.ends[0].sent_bytes <= world.ends[client].sent_bytes);
        assert_eq!(world.ends[0].rpc.links().count(), 0);
    }
}

// [W-22]: no key, many hellos; and captured ones from elsewhere.
#[test]
fn a_flood_of_hellos_costs_a_sealed_node_no_memory_and_draws_less_than_it_sent() {
    let (mut world, record) = captured(ReplayProtection::Window);
    let (_, to, hello) = record[0].clone();
    let confirm = record[2].2.clone();
    let sent_before = world.ends[1].sent_bytes;
    let mut flooded = 0;
    for n in 0..20_000u32 {
        let from = SocketAddr::from((n.to_be_bytes(), 9));
        let mut bytes = if n % 2 == 0 { hello.clone() } else { confirm.clone() };
        if n % 4 < 2 {
            bytes[200] ^= n as u8 | 1;
        }
        flooded += bytes.len();
        let now = world.now;
        world.ends[1].rpc.handle_datagram(now, from, &bytes);
    }
    assert_eq!(to, world.ends[1].address);
    assert_eq!(world.ends[1].rpc.links().count(), 1);
    world.run_for(MS);
    assert!(world.ends[1].sent_bytes - sent_before < flooded / 10);
    world.events.clear();
    stays_as_it_was(&mut world, 6);
}

/// Session and phase flag of what one end sent in sessions, in order.
fn phases(record: &[(SocketAddr, SocketAddr, Vec<u8>)], from: SocketAddr) -> Vec<(u32, bool)> {
    let sealed = record.iter().filter(|(sender, _, bytes)| *sender == from && bytes[4] & 0x80 != 0);
    sealed.map(|(_, _, bytes)| (wire::seal_id(bytes), Flags(bytes[3]).contains(Flags::KEY_PHASE))).collect()
}

// [W-76]: under loss, reordering and copies, at a limit that is reached every few datagrams.
#[test]
fn keys_change_long_before_the_limit_and_no_call_notices() {
    for (seed, packets_per_phase_max) in [(1, 1), (2, 2), (3, 16), (4, 50)] {
        let mut config = Mode::Sealed.config();
        config.seal.packets_per_phase_max = packets_per_phase_max;
        let (mut world, link, _) = World::pair(seed, &config);
        world.faults = Faults { loss: 0.1, duplicate: 0.1, late: 0.05, delay_max: MS, ..Faults::none() };
        world.record = Some(Vec::new());
        let mut answered = 0;
        for _ in 0..200 {
            let now = world.now;
            world.ends[0].rpc.call(now, link, Class::Once, vec![7; 100]).unwrap();
            world.turn(0);
            let events = world.run_echo(5 * MS);
            answered += events.iter().filter(|(_, event)| matches!(event, Event::Reply { .. })).count();
        }
        let events = world.run_echo(500 * MS);
        answered += events.iter().filter(|(_, event)| matches!(event, Event::Reply { .. })).count();
        assert_eq!(answered, 200, "at {packets_per_phase_max} datagrams a phase");
        let record = world.record.take().unwrap();
        let turns =
            phases(&record, world.ends[0].address).windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(turns as u64 >= 200 / packets_per_phase_max / 4, "{turns} turns at {packets_per_phase_max}");
    }
}

// [W-76]: who only says what is never acknowledged gets new keys by a new handshake.
#[test]
fn a_session_whose_peer_cannot_be_seen_to_follow_is_replaced_before_the_limit() {
    let mut config = Mode::Sealed.config();
    config.seal.packets_per_phase_max = 10;
    let (mut world, link, _) = World::pair(1, &config);
    world.record = Some(Vec::new());
    let mut heard = 0;
    for _ in 0..200 {
        let now = world.now;
        world.ends[0].rpc.notice(now, link, vec![1]).unwrap();
        world.turn(0);
        world.run_for(MS);
        heard += world.events.drain(..).filter(|(_, event)| matches!(event, Event::Notice { .. })).count();
    }
    assert!(heard > 180, "{heard} of 200 notices");
    let record = world.record.take().unwrap();
    let ids: BTreeSet<u32> =
        record.iter().map(|(_, _, bytes)| wire::seal_id(bytes)).filter(|id| id >> 31 == 1).collect();
    assert!(ids.len() >= 10, "{} sessions", ids.len());
}

/// Collects session secrets, as many as there is room for.
#[derive(Debug)]
struct Seen {
    slots: [OnceLock<[u8; 32]>; 64],
    count: AtomicUsize,
}

impl KeyLog for Seen {
    fn note(&self, _: SessionId, secret: &Secret) {
        let place = self.count.fetch_add(1, Ordering::SeqCst);
        self.slots[place].set(*secret.expose()).unwrap();
    }
}

/// All secrets of a pair of nodes that greet, exchange, restart and greet again.
fn secrets(world_seed: u64, entropy: [u8; 2]) -> BTreeSet<[u8; 32]> {
    let slots = core::array::from_fn(|_| OnceLock::new());
    let seen = Arc::new(Seen { slots, count: AtomicUsize::new(0) });
    let mut world = World::new(world_seed, Faults::none());
    for (id, entropy) in (1..).zip(entropy) {
        let mut config = Mode::Sealed.config();
        config.seal.entropy = Some(Entropy::new(Secret::new([entropy; 32])));
        config.seal.key_log = Some(seen.clone());
        world.add(node_local(id, CLUSTER), config);
    }
    for _ in 0..5 {
        world.connect(0, 1);
        world.run_for(50 * MS);
        world.restart(0);
    }
    assert_eq!(
        seen.count.load(Ordering::SeqCst),
        5 * 2 * 2,
        "both ends note both directions of each handshake"
    );
    seen.slots.iter().filter_map(|slot| slot.get().copied()).collect()
}

// [W-73]: a nonce is a packet number, and a copy of a disk begins again at 1 with the same incarnation. That the key is
// another one is what keeps the pair from coming twice, even when only one end's randomness differs.
#[test]
fn a_copy_of_a_disk_started_elsewhere_never_seals_under_the_same_key() {
    let original = secrets(1, [1, 2]);
    assert_eq!(original.len(), 10, "each handshake and each direction has a key of its own");
    for entropy in [[1, 3], [3, 2], [3, 4]] {
        // Everything else is the same: stores, incarnations, boot nonces, packet numbers, the generator's seed.
        assert!(secrets(1, entropy).is_disjoint(&original), "entropy {entropy:?}");
    }
    assert_eq!(secrets(1, [1, 2]), original, "a simulation repeats itself");
}
