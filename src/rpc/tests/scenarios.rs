//! The faults of the catalogue that meet this room, each by its id.

use core::net::SocketAddr;
use core::time::Duration;

use super::world::{CLUSTER, Faults, Mode, World, client_local, node_local};
use crate::rpc::{CallFailure, Event, ReplayProtection, RpcConfig, SendErrorKind};
use crate::types::{ClusterId, NodeId};
use crate::wire::{Class, DropReason, HEADER_BYTES};

in_both_modes! {
    a_request_that_arrives_twenty_times_is_carried_out_once,
    a_reply_to_an_earlier_boot_meets_no_call_of_this_one,
    after_a_restart_new_requests_are_taken_and_old_ones_are_not,
    a_captured_hour_changes_nothing_in_the_restarted_cluster,
    no_flipped_bit_and_no_zero_checksum_gets_through,
    a_path_that_takes_less_gets_smaller_parts,
    a_cut_or_overlong_datagram_is_dropped_and_counted,
    a_silent_peer_is_sent_a_probe_and_at_most_a_hello_per_heartbeat,
    a_flood_of_hellos_leaves_nothing_behind_and_draws_no_more_than_it_sent,
    a_later_version_is_told_what_is_spoken_here_and_two_ends_do_not_tell_each_other_for_ever,
    a_write_whose_callee_restarts_ends_as_unknown_and_a_read_as_to_be_asked_again,
    both_ends_restarting_at_once_with_old_hellos_about_end_with_one_link_each,
    random_and_mutated_datagrams_are_counted_and_do_no_harm,
    a_client_whose_node_restarts_is_told_and_goes_on,
    a_client_s_late_confirm_does_not_undo_its_newer_one,
    a_hello_that_a_hint_called_for_is_sent_until_it_is_answered,
    a_client_s_number_from_an_earlier_boot_is_not_taken_for_another_client_s,
    a_client_whose_former_number_is_anothers_now_is_welcomed_by_the_restarted_node,
}

const MS: Duration = Duration::from_millis(1);

fn without_window(mode: Mode) -> RpcConfig {
    RpcConfig { replay: ReplayProtection::Off, ..mode.config() }
}

fn requests(events: &[(usize, Event)]) -> usize {
    events.iter().filter(|(_, event)| matches!(event, Event::Request { .. })).count()
}

/// Two linked nodes, one call made and answered, all of it captured.
fn captured_exchange(mode: Mode) -> (World, Vec<(SocketAddr, SocketAddr, Vec<u8>)>) {
    let (mut world, link, _) = World::pair(3, &without_window(mode));
    world.record = Some(Vec::new());
    let now = world.now;
    world.ends[0].rpc.call(now, link, Class::Once, b"write".to_vec()).unwrap();
    world.turn(0);
    world.run_echo(5 * MS);
    let record = world.record.take().unwrap();
    assert_eq!(record.len(), 3);
    (world, record)
}

// U1, U14 [W-36] [W-37]
fn a_request_that_arrives_twenty_times_is_carried_out_once(mode: Mode) {
    let (mut world, record) = captured_exchange(mode);
    let (from, to, request) = record[0].clone();
    for _ in 0..20 {
        world.inject(from, to, request.clone(), MS);
    }
    world.run_for(5 * MS);
    let events: Vec<_> = world.events.drain(..).collect();
    assert_eq!(requests(&events), 0, "{events:?}");
    assert_eq!(world.ends[1].rpc.stats().duplicates, 20);
}

// U3 [W-16] [W-35]
fn a_reply_to_an_earlier_boot_meets_no_call_of_this_one(mode: Mode) {
    let (mut world, record) = captured_exchange(mode);
    let (from, to, reply) = record[1].clone();
    world.restart(0);
    let link = world.connect(0, 1);
    world.run_for(5 * MS);
    let now = world.now;
    world.ends[0].rpc.call(now, link, Class::Once, b"other".to_vec()).unwrap();
    world.inject(from, to, reply, Duration::ZERO);
    world.cut.insert((0, 1));
    world.events.clear();
    world.run_for(5 * MS);
    assert!(world.events.is_empty(), "{:?}", world.events);
    let reason = mode.reason_or_seal(DropReason::StaleDestinationIncarnation);
    assert_eq!(world.ends[0].rpc.stats().dropped(reason), 1);
}

// U4 [W-3] [W-21]
fn after_a_restart_new_requests_are_taken_and_old_ones_are_not(mode: Mode) {
    let (mut world, record) = captured_exchange(mode);
    world.restart(0);
    let link = world.connect(0, 1);
    world.run_for(5 * MS);
    world.events.clear();
    let now = world.now;
    let call = world.ends[0].rpc.call(now, link, Class::Once, b"fresh".to_vec()).unwrap();
    world.turn(0);
    let (from, to, old) = record[0].clone();
    world.inject(from, to, old, Duration::ZERO);
    let events = world.run_echo(5 * MS);
    assert_eq!(events, [(0, Event::Reply { link, call, body: b"fresh".to_vec() })]);
    let reason = mode.reason_or_seal(DropReason::StaleSourceIncarnation);
    assert_eq!(world.ends[1].rpc.stats().dropped(reason), 1);
}

// U5, U6
fn a_captured_hour_changes_nothing_in_the_restarted_cluster(mode: Mode) {
    let mut world = World::new(5, Faults::none());
    world.add(node_local(1, CLUSTER), without_window(mode));
    world.add(node_local(2, CLUSTER), without_window(mode));
    world.record = Some(Vec::new());
    let link = world.connect(0, 1);
    for _ in 0..50 {
        let now = world.now;
        world.ends[0].rpc.call(now, link, Class::Once, b"write".to_vec()).unwrap();
        world.turn(0);
        world.run_echo(MS);
    }
    let record = world.record.take().unwrap();
    world.restart(0);
    world.restart(1);
    world.connect(0, 1);
    world.run_for(60_000 * MS);
    world.events.clear();
    for (nth, (from, to, bytes)) in record.into_iter().enumerate() {
        world.inject(from, to, bytes, Duration::from_micros(nth as u64));
    }
    let before = world.ends[1].rpc.stats().dropped_total();
    world.run_for(1000 * MS);
    assert!(world.events.is_empty(), "{:?}", world.events);
    assert!(world.ends[1].rpc.stats().dropped_total() > before + 50);
    let now = world.now;
    let link = world.ends[0].rpc.link_to(NodeId::new(2).unwrap()).unwrap();
    world.ends[0].rpc.call(now, link, Class::Once, b"alive".to_vec()).unwrap();
    world.turn(0);
    assert_eq!(world.run_echo(5 * MS).len(), 1, "the link works on");
}

// U7
#[test]
fn another_clusters_datagrams_are_dropped_and_counted() {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), RpcConfig::default());
    world.add(node_local(2, ClusterId([8; 16])), RpcConfig::default());
    world.connect(0, 1);
    world.run_for(200 * MS);
    assert!(world.events.is_empty());
    assert_eq!(world.ends[1].rpc.stats().accepted, 0);
    assert!(world.ends[1].rpc.stats().dropped(DropReason::ClusterTag) >= 2);
}

// U8, U9 [W-4] [W-5]
fn no_flipped_bit_and_no_zero_checksum_gets_through(mode: Mode) {
    let (mut world, record) = captured_exchange(mode);
    let (from, _, request) = record[0].clone();
    let mut zeroed = request.clone();
    zeroed[4..8].fill(0);
    let now = world.now;
    world.ends[1].rpc.handle_datagram(now, from, &zeroed);
    assert_eq!(world.ends[1].rpc.stats().dropped(DropReason::Crc), 1);
    let accepted = world.ends[1].rpc.stats().accepted;
    for bit in 0..request.len() * 8 {
        let mut flipped = request.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        world.ends[1].rpc.handle_datagram(now, from, &flipped);
    }
    assert_eq!(world.ends[1].rpc.stats().accepted, accepted);
}

// U10, U12 [W-11]
fn a_path_that_takes_less_gets_smaller_parts(mode: Mode) {
    let config = RpcConfig { datagram_bytes_max: 8000, ..mode.config() };
    let (mut world, link, _) = World::pair(1, &config);
    let body = vec![9; 100_000];
    let now = world.now;
    let call = world.ends[0].rpc.call(now, link, Class::Once, body.clone()).unwrap();
    world.cut.insert((0, 1));
    world.turn(0);
    let to = world.ends[1].address;
    world.ends[0].rpc.handle_send_error(now, to, SendErrorKind::Other);
    world.ends[0].rpc.handle_send_error(now, to, SendErrorKind::MessageTooLong);
    world.cut.clear();
    world.record = Some(Vec::new());
    let events = world.run_echo(500 * MS);
    assert_eq!(events, [(0, Event::Reply { link, call, body })]);
    let from = world.ends[0].address;
    let largest = world.record.unwrap().iter().filter(|sent| sent.0 == from).map(|sent| sent.2.len()).max();
    assert!(largest <= Some(1200), "{largest:?}");
}

// U11
fn a_cut_or_overlong_datagram_is_dropped_and_counted(mode: Mode) {
    let (mut world, record) = captured_exchange(mode);
    let (from, _, request) = record[0].clone();
    let now = world.now;
    for length in 0..request.len() {
        world.ends[1].rpc.handle_datagram(now, from, &request[..length]);
    }
    let stats = world.ends[1].rpc.stats();
    assert_eq!(stats.dropped(DropReason::Short), HEADER_BYTES as u64);
    assert_eq!(stats.dropped(DropReason::Crc) as usize, request.len() - HEADER_BYTES);
}

// U13 [W-31] [W-34]: retransmissions have a budget; silence is answered by one probe per heartbeat.
fn a_silent_peer_is_sent_a_probe_and_at_most_a_hello_per_heartbeat(mode: Mode) {
    let (mut world, link, _) = World::pair(1, &mode.config());
    world.cut.insert((0, 1));
    let now = world.now;
    for _ in 0..100 {
        world.ends[0].rpc.call(now, link, Class::Again, vec![0; 600]).unwrap();
    }
    world.turn(0);
    let burst = world.ends[0].sent_count;
    world.run_for(100 * MS);
    assert!(world.events.contains(&(0, Event::Silent { link })), "{:?}", world.events);
    assert!(world.ends[0].sent_count - burst < 40, "{} datagrams", world.ends[0].sent_count - burst);
    let before = world.ends[0].sent_count;
    world.run_for(10_000 * MS);
    let sent = world.ends[0].sent_count - before;
    assert!((400..=420).contains(&sent), "{sent} datagrams in 10 s of 40 heartbeats each");
    world.cut.clear();
    let events = world.run_echo(200 * MS);
    assert!(events.contains(&(0, Event::Heard { link })));
    assert_eq!(events.iter().filter(|(_, event)| matches!(event, Event::Reply { .. })).count(), 100);
}

// U15 [W-17] [W-22]
fn a_flood_of_hellos_leaves_nothing_behind_and_draws_no_more_than_it_sent(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), mode.config());
    let client = world.add(client_local(9), mode.config());
    world.record = Some(Vec::new());
    world.connect(client, 0);
    let hello = world.record.take().unwrap().swap_remove(0).2;
    let before = world.ends[0].sent_bytes;
    let now = world.now;
    for n in 0..10_000u32 {
        let from = SocketAddr::from(([192, 0, (n >> 8) as u8, n as u8], 9));
        world.ends[0].rpc.handle_datagram(now, from, &hello);
    }
    world.turn(0);
    assert_eq!(world.ends[0].rpc.links().count(), 0);
    let answered = world.ends[0].sent_bytes - before;
    assert!(answered <= 256 * hello.len(), "{answered} bytes");
    assert_eq!(world.ends[0].rpc.stats().dropped(DropReason::OverLimit), 10_000 - 256);
}

// U17 [W-24]
fn a_later_version_is_told_what_is_spoken_here_and_two_ends_do_not_tell_each_other_for_ever(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), mode.config());
    let from: SocketAddr = "192.0.2.1:9".parse().unwrap();
    let now = world.now;
    let mut later = vec![0xa7, 0x52, 2];
    later.resize(256, 0);
    world.ends[0].rpc.handle_datagram(now, from, &later);
    world.ends[0].rpc.handle_datagram(now, from, &later);
    world.ends[0].rpc.handle_datagram(now, from, &later[..100]);
    world.turn(0);
    assert_eq!(world.ends[0].rpc.stats().dropped(DropReason::Version), 3);
    assert_eq!(world.ends[0].sent_count, 1);
}

// C1 [W-39]
fn a_write_whose_callee_restarts_ends_as_unknown_and_a_read_as_to_be_asked_again(mode: Mode) {
    let (mut world, link, _) = World::pair(1, &mode.config());
    let now = world.now;
    let once = world.ends[0].rpc.call(now, link, Class::Once, b"write".to_vec()).unwrap();
    let again = world.ends[0].rpc.call(now, link, Class::Again, b"read".to_vec()).unwrap();
    world.turn(0);
    world.run_for(MS);
    world.events.clear();
    world.restart(1);
    // The callee never greets: pings and hints find out.
    world.run_for(200 * MS);
    let failed = |call, reason| (0, Event::CallFailed { link, call, reason });
    world.events.retain(|(place, _)| *place == 0);
    assert_eq!(world.events[0], failed(once, CallFailure::OutcomeUnknown));
    assert_eq!(world.events[1], failed(again, CallFailure::PeerRestarted));
    assert!(matches!(world.events[2], (0, Event::Connected { .. })));
}

// I9 [W-18] [W-20]
fn both_ends_restarting_at_once_with_old_hellos_about_end_with_one_link_each(mode: Mode) {
    for seed in 0..50 {
        let mut world = World::new(seed, Faults { late: 0.5, duplicate: 0.3, ..Faults::loss(0.2) });
        let config = RpcConfig { hello_retry_min: 5 * MS, hello_retry_max: 50 * MS, ..mode.config() };
        world.add(node_local(1, CLUSTER), config.clone());
        world.add(node_local(2, CLUSTER), config);
        for _ in 0..4 {
            world.connect(0, 1);
            world.connect(1, 0);
            world.run_for(7 * MS);
            world.restart(0);
            world.restart(1);
        }
        world.connect(0, 1);
        world.connect(1, 0);
        world.run_for(500 * MS);
        for place in 0..2 {
            let rpc = &world.ends[place].rpc;
            let link = rpc.link_to(NodeId::new(2 - place as u16).unwrap()).expect("linked");
            assert_eq!(rpc.links().count(), 1, "seed {seed}");
            assert_eq!(rpc.peer(link).unwrap().incarnation.0, 1000 * (2 - place as u32) + 4, "seed {seed}");
        }
    }
}

// U14, U16, U18: whatever the bytes, they are counted, and nothing else happens.
fn random_and_mutated_datagrams_are_counted_and_do_no_harm(mode: Mode) {
    let (mut world, record) = captured_exchange(mode);
    let now = world.now;
    for n in 0..20_000 {
        let (from, to, bytes) = &record[n % record.len()];
        let place = usize::from(*to == world.ends[1].address);
        let mut bytes = bytes.clone();
        for _ in 0..=world.rng.below(4) {
            let at = world.rng.below(bytes.len() as u64) as usize;
            bytes[at] = world.rng.next_u64() as u8;
        }
        if world.rng.chance(0.8) {
            // As an adversary would: everything behind the checksum is reached.
            let cluster = if bytes[8..12] == [0; 4] { ClusterId::ZERO } else { CLUSTER };
            let crc = crate::wire::datagram::checksum(&bytes, cluster);
            bytes[4..8].copy_from_slice(&crc.to_be_bytes());
        }
        world.ends[place].rpc.handle_datagram(now, *from, &bytes);
    }
    world.run_for(1000 * MS);
    for end in &world.ends {
        let stats = end.rpc.stats();
        assert_eq!(stats.received, stats.accepted + stats.dropped_total());
        assert!(end.rpc.links().count() <= 2);
    }
}

// U1, C1 [W-19] [W-39]: a client finds out by itself, is given another incarnation, and calls on.
fn a_client_whose_node_restarts_is_told_and_goes_on(mode: Mode) {
    for seed in 0..100 {
        let mut world = World::new(seed, Faults { duplicate: 0.2, late: 0.1, ..Faults::loss(0.2) });
        world.add(node_local(1, CLUSTER), without_window(mode));
        let client = world.add(client_local(9), without_window(mode));
        let link = world.connect(client, 0);
        world.run_for(1000 * MS);
        world.events.clear();
        let now = world.now;
        let open = world.ends[client].rpc.call(now, link, Class::Once, b"write".to_vec()).unwrap();
        world.turn(client);
        world.run_for(20 * MS);
        world.restart(0);
        world.events.clear();
        world.run_for(3000 * MS);
        let reason = CallFailure::OutcomeUnknown;
        let failed = (client, Event::CallFailed { link, call: open, reason });
        assert!(world.events.contains(&failed), "seed {seed}: {:?}", world.events);
        let of_node: Vec<_> = world.events.drain(..).filter(|(place, _)| *place == 0).collect();
        // A client that heard nothing for long may have greeted again: the newest link counts.
        let is_linked = matches!(of_node.last(), Some((_, Event::Connected { .. })));
        assert!(is_linked && requests(&of_node) == 0, "seed {seed}: only a new link: {of_node:?}");
        let now = world.now;
        let call = world.ends[client].rpc.call(now, link, Class::Once, b"more".to_vec()).unwrap();
        world.turn(client);
        let events = world.run_echo(200 * MS);
        assert!(
            events.contains(&(client, Event::Reply { link, call, body: b"more".to_vec() })),
            "seed {seed}"
        );
    }
}

// [W-23]
fn a_hello_that_a_hint_called_for_is_sent_until_it_is_answered(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    let node = world.add(node_local(1, CLUSTER), without_window(mode));
    let client = world.add(client_local(9), without_window(mode));
    let link = world.connect(client, node);
    world.run_for(5 * MS);
    world.restart(node);
    world.record = Some(Vec::new());
    let now = world.now;
    world.ends[client].rpc.call(now, link, Class::Again, b"read".to_vec()).unwrap();
    world.turn(client);
    world.run_echo(500 * MS);
    // The hint comes once more, long after, and the link has nothing else to do.
    let address = world.ends[node].address;
    let (from, to, hint) =
        world.record.take().unwrap().into_iter().find(|(from, ..)| *from == address).unwrap();
    world.cut.insert((client, node));
    let before = world.ends[client].sent_count;
    world.inject(from, to, hint, MS);
    world.run_for(1000 * MS);
    let hellos = world.ends[client].sent_count - before;
    assert!(
        (4..=10).contains(&hellos),
        "{hellos} hellos in a second, from 50 ms on and half as long again each time"
    );
}

// [W-19]: of two handshakes of one client the one that began later stands.
fn a_client_s_late_confirm_does_not_undo_its_newer_one(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    let node = world.add(node_local(1, CLUSTER), without_window(mode));
    let client = world.add(client_local(9), without_window(mode));
    world.record = Some(Vec::new());
    let first = world.connect(client, node);
    world.run_for(5 * MS);
    let first_handshake = world.record.take().unwrap();
    // The client greets anew, as it does when no welcome reaches it.
    let now = world.now;
    world.ends[client].rpc.close(now, first);
    let link = world.connect(client, node);
    world.run_for(5 * MS);
    world.events.clear();
    for (from, to, bytes) in first_handshake {
        world.inject(from, to, bytes, MS);
    }
    world.run_for(5 * MS);
    assert!(world.events.is_empty(), "{:?}", world.events);
    let now = world.now;
    let call = world.ends[client].rpc.call(now, link, Class::Once, b"more".to_vec()).unwrap();
    world.turn(client);
    let events = world.run_echo(5 * MS);
    assert!(events.contains(&(client, Event::Reply { link, call, body: b"more".to_vec() })), "{events:?}");
}

// [W-19] [W-35]: the boot that gave a number is the only one that knows whose it is.
fn a_client_s_number_from_an_earlier_boot_is_not_taken_for_another_client_s(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), mode.config());
    let clients = [8, 9].map(|nonce| world.add(client_local(nonce), mode.config()));
    let links = clients.map(|client| {
        let link = world.connect(client, 0);
        world.run_for(5 * MS);
        link
    });
    let call = |world: &mut World, place: usize| {
        let now = world.now;
        let call =
            world.ends[clients[place]].rpc.call(now, links[place], Class::Again, b"x".to_vec()).unwrap();
        world.turn(clients[place]);
        call
    };
    // The second client is far ahead in packet numbers, and the first to notice the restart: it gets the number
    // that the first client had.
    for _ in 0..3000 {
        call(&mut world, 1);
        world.run_echo(MS);
    }
    world.restart(0);
    world.events.clear();
    for _ in 0..2 {
        call(&mut world, 1);
        world.run_echo(500 * MS);
    }
    let asked = call(&mut world, 0);
    let events = world.run_echo(500 * MS);
    let answered = Event::Reply { link: links[0], call: asked, body: b"x".to_vec() };
    let failed =
        |event: &(usize, Event)| matches!(event.1, Event::CallFailed { link, .. } if link == links[0]);
    assert!(events.contains(&(clients[0], answered)) || events.iter().any(failed), "{events:?}");
    let asked = call(&mut world, 0);
    let events = world.run_echo(100 * MS);
    let answered = Event::Reply { link: links[0], call: asked, body: b"x".to_vec() };
    assert!(events.contains(&(clients[0], answered)), "{events:?}");
    assert_eq!(
        world.ends[0].rpc.stats().dropped(DropReason::Replay),
        0,
        "nobody was judged by another's link"
    );
}

/// The node's new boot numbers its clients anew. The second client's greeting names a number that the first one has
/// by then, with packets beyond it.
fn a_client_whose_former_number_is_anothers_now_is_welcomed_by_the_restarted_node(mode: Mode) {
    let mut world = World::new(21, Faults::none());
    let node = world.add(node_local(1, CLUSTER), mode.config());
    let [first, second] = [20, 21].map(|nonce| world.add(client_local(nonce), mode.config()));
    // The second has number 1 of the first boot, and the first has number 1 of the second one.
    let of_second = world.connect(second, node);
    world.run_echo(50 * MS);
    world.restart(node);
    let of_first = world.connect(first, node);
    world.run_echo(50 * MS);
    for _ in 0..200 {
        let now = world.now;
        world.ends[first].rpc.call(now, of_first, Class::Once, vec![1]).unwrap();
        world.run_echo(MS);
    }
    let now = world.now;
    world.ends[second].rpc.call(now, of_second, Class::Once, vec![2]).unwrap();
    world.run_echo(5000 * MS);
    let adopted = world.ends[second].rpc.peer(of_second).map(|peer| peer.incarnation);
    assert_eq!(adopted, world.ends[first].rpc.peer(of_first).map(|peer| peer.incarnation));
    let now = world.now;
    let call = world.ends[second].rpc.call(now, of_second, Class::Once, vec![3]).unwrap();
    let events = world.run_echo(100 * MS);
    assert!(events.contains(&(second, Event::Reply { link: of_second, call, body: vec![3] })), "{events:?}");
}
