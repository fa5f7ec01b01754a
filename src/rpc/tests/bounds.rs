//! What happens when something is full, late, closed, or not who it should be.

use core::time::Duration;

use super::world::{CLUSTER, Faults, Mode, World, client_local, node_local};
use crate::rpc::{CallError, CallFailure, CloseReason, Event, LocalRole, ReplayProtection, RpcConfig};
use crate::types::{CallId, ClusterId, Incarnation, NodeId, PacketNumber};
use crate::wire::{self, Class, DropReason, Flags, Fragment, Frame, Header, Party};

in_both_modes! {
    calls_beyond_the_limit_are_busy_at_the_caller,
    a_full_callee_refuses_new_calls_and_keeps_open_ones,
    large_bodies_beyond_the_room_are_refused_and_the_others_arrive,
    a_body_larger_than_the_callee_takes_fails_as_too_large,
    a_cancelled_call_is_reported_to_its_callee_and_its_token_goes_stale,
    a_long_poll_pins_nothing,
    a_large_body_under_loss_costs_little_more_than_what_was_lost,
    a_closed_link_that_comes_back_remembers_what_was_carried_out,
    a_stale_incarnation_hint_never_drops_a_working_link,
    a_blank_node_is_told_that_its_cluster_is_founded_already,
    a_room_made_anew_goes_on_counting_packets,
    a_client_that_knows_its_cluster_takes_no_other,
    clients_get_incarnations_of_their_own_and_lose_them_when_idle,
    a_copy_of_a_data_folder_is_not_adopted,
    a_node_that_calls_its_own_address_is_told_so,
    two_addresses_of_one_node_end_as_one_link,
    a_link_that_is_heard_stays_where_it_is_whatever_address_is_named,
}

const MS: Duration = Duration::from_millis(1);

fn calls_beyond_the_limit_are_busy_at_the_caller(mode: Mode) {
    let config = RpcConfig { calls_open_max: 3, ..mode.config() };
    let (mut world, link, _) = World::pair(1, &config);
    let now = world.now;
    let rpc = &mut world.ends[0].rpc;
    for _ in 0..3 {
        rpc.call(now, link, Class::Once, vec![1]).unwrap();
    }
    assert_eq!(rpc.call(now, link, Class::Once, vec![1]), Err(CallError::Busy));
    let bytes_max = config.body_bytes_max;
    let large = vec![0; bytes_max + 1];
    assert_eq!(rpc.call(now, link, Class::Once, large), Err(CallError::TooLarge { bytes_max }));
}

// [W-36]: new calls are refused, an open one is never evicted, and a refused one is never carried out later.
fn a_full_callee_refuses_new_calls_and_keeps_open_ones(mode: Mode) {
    let replay = ReplayProtection::Off;
    let config = RpcConfig { calls_served_max: 2, replay, ..mode.config() };
    let (mut world, link, _) = World::pair(1, &config);
    let now = world.now;
    let calls: Vec<_> =
        (0..3).map(|n| world.ends[0].rpc.call(now, link, Class::Once, vec![n]).unwrap()).collect();
    world.record = Some(Vec::new());
    world.turn(0);
    let (from, to, copy) = world.record.take().unwrap().swap_remove(0);
    world.run_for(5 * MS);
    let mut tokens = Vec::new();
    let mut failed = Vec::new();
    for (_, event) in world.events.drain(..) {
        match event {
            Event::Request { token, .. } => tokens.push(token),
            Event::CallFailed { call, reason, .. } => failed.push((call, reason)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((tokens.len(), failed), (2, vec![(calls[2], CallFailure::Busy)]));
    let now = world.now;
    for token in tokens {
        assert!(world.ends[1].rpc.reply(now, token, vec![7]));
        assert!(!world.ends[1].rpc.reply(now, token, vec![8]), "a token is good once");
    }
    world.turn(1);
    world.inject(from, to, copy, 2 * MS);
    world.run_for(5 * MS);
    let replied = |event: &(usize, Event)| matches!(event, (0, Event::Reply { .. }));
    assert!(world.events.len() == 2 && world.events.iter().all(replied), "{:?}", world.events);
}

// [W-29] [W-40]: what is over a limit is not acknowledged, or its sender would take it for applied.
#[test]
fn a_fragment_no_credit_covers_is_dropped_and_not_acknowledged() {
    let (mut world, _, there) = World::pair(1, &RpcConfig::default());
    let header = Header {
        flags: Flags::ACK_ELICITING,
        cluster_tag: CLUSTER.tag(),
        source: Party::Node(NodeId::new(1).unwrap()),
        destination: Party::Node(NodeId::new(2).unwrap()),
        source_incarnation: Incarnation(1000),
        destination_incarnation: Incarnation(2000),
        packet: PacketNumber(500),
    };
    let part = Fragment { total_bytes: 1 << 40, offset: 0, bytes: &[1] };
    let mut bytes = Vec::new();
    wire::begin(&mut bytes, &header);
    Frame::RequestFragment { call: CallId(99), class: Class::Once, part }.encode(&mut bytes);
    wire::finish(&mut bytes, CLUSTER);
    let (now, from, before) = (world.now, world.ends[0].address, world.ends[1].sent_count);
    world.ends[1].rpc.handle_datagram(now, from, &bytes);
    world.turn(1);
    assert_eq!(world.ends[1].rpc.stats().dropped(DropReason::OverLimit), 1);
    assert_eq!(world.ends[1].sent_count, before);
    assert_eq!(world.ends[1].rpc.arriving_bytes_and_credit(there), (0, 0));
}

// What one large body holds is bounded by credit, what all hold together by the room: the rest is refused as busy.
fn large_bodies_beyond_the_room_are_refused_and_the_others_arrive(mode: Mode) {
    let config = RpcConfig {
        body_bytes_max: 50_000,
        credit_bytes: 200_000,
        reassembly_bytes_max: 100_000,
        ..mode.config()
    };
    let (mut world, link, _) = World::pair(1, &config);
    let now = world.now;
    for n in 0..8 {
        world.ends[0].rpc.call(now, link, Class::Once, vec![n; 50_000]).unwrap();
    }
    world.turn(0);
    let events = world.run_echo(200 * MS);
    let replies = events.iter().filter(|(_, event)| matches!(event, Event::Reply { .. })).count();
    let is_busy = |event: &Event| matches!(event, Event::CallFailed { reason: CallFailure::Busy, .. });
    let refused = events.iter().filter(|(_, event)| is_busy(event)).count();
    assert_eq!(replies + refused, 8, "{} events", events.len());
    assert!(replies >= 2, "{replies} answered");
    assert_eq!(world.ends[1].rpc.arriving_bytes_and_credit(link).0, 0);
}

fn a_body_larger_than_the_callee_takes_fails_as_too_large(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), mode.config());
    world.add(node_local(2, CLUSTER), RpcConfig { body_bytes_max: 5000, ..mode.config() });
    let link = world.connect(0, 1);
    world.run_for(MS);
    world.events.clear();
    let now = world.now;
    let call = world.ends[0].rpc.call(now, link, Class::Once, vec![1; 6000]).unwrap();
    world.turn(0);
    world.run_for(5 * MS);
    let reason = CallFailure::TooLarge;
    assert_eq!(world.events.drain(..).collect::<Vec<_>>(), [(0, Event::CallFailed { link, call, reason })]);
    let stats = world.ends[0].rpc.link_stats(link).unwrap();
    assert_eq!((stats.calls_open, stats.in_flight_bytes), (0, 0));
}

// [W-41]
fn a_cancelled_call_is_reported_to_its_callee_and_its_token_goes_stale(mode: Mode) {
    let (mut world, link, _) = World::pair(1, &mode.config());
    let now = world.now;
    let call = world.ends[0].rpc.call(now, link, Class::Again, b"poll".to_vec()).unwrap();
    world.turn(0);
    world.run_for(MS);
    let Some((1, Event::Request { token, .. })) = world.events.pop_front() else {
        panic!("no request");
    };
    let now = world.now;
    assert!(world.ends[0].rpc.cancel(now, link, call));
    assert!(!world.ends[0].rpc.cancel(now, link, call));
    world.turn(0);
    world.run_for(MS);
    assert_eq!(world.events.pop_front(), Some((1, Event::Cancelled { token })));
    let now = world.now;
    assert!(!world.ends[1].rpc.reply(now, token, b"late".to_vec()));
}

// [W-38]
fn a_long_poll_pins_nothing(mode: Mode) {
    let (mut world, link, there) = World::pair(1, &mode.config());
    let now = world.now;
    let poll = world.ends[0].rpc.call(now, link, Class::Again, b"poll".to_vec()).unwrap();
    world.turn(0);
    world.run_for(MS);
    let Some((1, Event::Request { token, .. })) = world.events.pop_front() else {
        panic!("no request");
    };
    for _ in 0..5000 {
        let now = world.now;
        world.ends[0].rpc.call(now, link, Class::Once, b"write".to_vec()).unwrap();
        world.turn(0);
        assert_eq!(world.run_echo(Duration::from_micros(300)).len(), 1);
    }
    // The last one's acknowledgement waits for something to ride on.
    world.run_for(MS);
    let stats = world.ends[1].rpc.link_stats(there).unwrap();
    assert_eq!(stats.calls_served, 1);
    let now = world.now;
    assert!(world.ends[1].rpc.reply(now, token, b"woken".to_vec()));
    let events = world.run_echo(5 * MS);
    assert_eq!(events, [(0, Event::Reply { link, call: poll, body: b"woken".to_vec() })]);
}

// W-40: only lost parts are sent again.
fn a_large_body_under_loss_costs_little_more_than_what_was_lost(mode: Mode) {
    let (mut world, link, _) = World::pair(7, &mode.config());
    world.faults = Faults::loss(0.1);
    let body: Vec<u8> = (0..1u32 << 20).map(|n| (n % 253) as u8).collect();
    let now = world.now;
    world.ends[0].rpc.call(now, link, Class::Once, body.clone()).unwrap();
    let (before, began) = (world.ends[0].sent_bytes, world.now);
    world.turn(0);
    let mut arrived = None;
    while arrived.is_none() {
        world.step(began + 1000 * MS);
        while let Some((place, event)) = world.events.pop_front() {
            if let (1, Event::Request { body, .. }) = (place, event) {
                arrived = Some((world.now, body));
            }
        }
        world.turn(0);
        world.turn(1);
    }
    let (at, found) = arrived.unwrap();
    assert!(found == body);
    let sent = world.ends[0].sent_bytes - before;
    println!("1 MiB at 10 % loss: {} sent, {:?}", sent, at.saturating_since(began));
    assert!(sent < body.len() * 13 / 10, "{sent} bytes for {}", body.len());
}

fn a_closed_link_that_comes_back_remembers_what_was_carried_out(mode: Mode) {
    let (mut world, link, there) = World::pair(1, &mode.config());
    world.record = Some(Vec::new());
    let now = world.now;
    world.ends[0].rpc.call(now, link, Class::Once, b"write".to_vec()).unwrap();
    world.turn(0);
    world.run_echo(5 * MS);
    let (from, to, request) = world.record.take().unwrap().swap_remove(0);
    let now = world.now;
    world.ends[1].rpc.close(now, there);
    world.turn(1);
    assert_eq!(
        world.events.pop_front(),
        Some((1, Event::Closed { link: there, reason: CloseReason::Local }))
    );
    assert_eq!(world.connect(1, 0), there);
    world.run_for(100 * MS);
    assert!(matches!(world.events.pop_front(), Some((1, Event::Connected { link, .. })) if link == there));
    world.inject(from, to, request, MS);
    world.run_for(5 * MS);
    assert!(world.events.is_empty(), "{:?}", world.events);
}

// [W-23]
fn a_stale_incarnation_hint_never_drops_a_working_link(mode: Mode) {
    let (mut world, link, _) = World::pair(1, &mode.config());
    world.record = Some(Vec::new());
    world.restart(1);
    let now = world.now;
    world.ends[0].rpc.notice(now, link, vec![1; 40]).unwrap();
    world.turn(0);
    world.run_for(Duration::from_micros(60));
    let record = world.record.take().unwrap();
    let (from, to, hint) = record.into_iter().find(|sent| sent.0 == world.ends[1].address).unwrap();
    let (mut world, link, _) = World::pair(1, &mode.config());
    for n in 0..100 {
        world.inject(from, to, hint.clone(), n * MS);
    }
    let now = world.now;
    let call = world.ends[0].rpc.call(now, link, Class::Once, b"ping".to_vec()).unwrap();
    world.turn(0);
    let events = world.run_echo(500 * MS);
    assert_eq!(events, [(0, Event::Reply { link, call, body: b"ping".to_vec() })]);
}

// [W-25]
fn a_blank_node_is_told_that_its_cluster_is_founded_already(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), mode.config());
    let blank = world.add(node_local(2, ClusterId::ZERO), mode.config());
    let link = world.connect(blank, 0);
    world.run_for(5 * MS);
    let Some((place, Event::Closed { link: closed, reason })) = world.events.pop_front() else {
        panic!("not closed");
    };
    let CloseReason::AlreadyFounded { cluster, peer } = reason else {
        panic!("{reason:?}");
    };
    assert_eq!((place, closed, cluster), (blank, link, CLUSTER));
    assert_eq!(peer.identity.map(|identity| identity.node), NodeId::new(1));
    assert_eq!(world.ends[0].rpc.links().count(), 0);
}

fn a_room_made_anew_goes_on_counting_packets(mode: Mode) {
    let (mut world, ..) = World::pair(1, &mode.config());
    let next = world.ends[0].rpc.next_packet();
    assert!(next.0 > 2);
    let local = crate::rpc::Local { first_packet: next, ..world.ends[0].local };
    let rng = world.rng.fork();
    world.ends[0].rpc = crate::rpc::Rpc::new(mode.config(), local, rng, world.now).unwrap();
    // The world asserts that no number is used twice.
    world.connect(0, 1);
    world.run_for(100 * MS);
    assert!(world.ends[0].rpc.link_to(NodeId::new(2).unwrap()).is_some());
}

// [W-26]
fn a_client_that_knows_its_cluster_takes_no_other(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), mode.config());
    world.add(node_local(1, ClusterId([8; 16])), mode.config());
    let client = world.add(client_local(9), mode.config());
    world.connect(client, 0);
    world.run_for(5 * MS);
    let link = world.connect(client, 1);
    world.events.clear();
    world.run_for(5 * MS);
    let reason = CloseReason::ForeignCluster { expected: CLUSTER, found: ClusterId([8; 16]) };
    assert_eq!(world.events.pop_front(), Some((client, Event::Closed { link, reason })));
}

// [W-19]
fn clients_get_incarnations_of_their_own_and_lose_them_when_idle(mode: Mode) {
    let config = RpcConfig { client_idle_max: 2000 * MS, clients_max: 2, ..mode.config() };
    let mut world = World::new(1, Faults { duplicate: 0.5, late: 0.3, ..Faults::loss(0.2) });
    world.add(node_local(1, CLUSTER), config.clone());
    for nonce in [7, 8, 9] {
        let client = world.add(client_local(nonce), mode.config());
        world.connect(client, 0);
        world.run_for(400 * MS);
    }
    let peers: Vec<_> =
        world.ends[0].rpc.links().map(|link| world.ends[0].rpc.peer(link).unwrap().incarnation.0).collect();
    assert_eq!(peers.len(), 2, "the table holds two");
    assert!(peers[0] != peers[1] && peers[0] > 0);
    world.ends.truncate(1);
    world.run_for(5000 * MS);
    assert_eq!(world.ends[0].rpc.links().count(), 0);
}

// [W-21]
fn a_copy_of_a_data_folder_is_not_adopted(mode: Mode) {
    let (mut world, ..) = World::pair(1, &mode.config());
    let mut copy = node_local(1, CLUSTER);
    copy.boot_nonce.0[0] ^= 1;
    let place = world.add(copy, mode.config());
    world.connect(place, 1);
    world.run_for(300 * MS);
    if let LocalRole::Node { incarnation, .. } = &mut copy.role {
        incarnation.0 -= 1;
    }
    let place = world.add(copy, mode.config());
    world.connect(place, 1);
    world.run_for(300 * MS);
    let there = world.ends[1].rpc.link_to(NodeId::new(1).unwrap()).unwrap();
    let peer = world.ends[1].rpc.peer(there).unwrap();
    assert_eq!(peer.address, world.ends[0].address);
    // A copy is told of once, however often it greets, until another one speaks.
    let identity = peer.identity.unwrap();
    let told = |incarnation| (1, Event::Copied { link: there, identity, incarnation });
    let present = peer.incarnation;
    let before = Incarnation(present.0 - 1);
    assert_eq!(world.events, [told(present), told(before), told(present), told(before)]);
}

fn a_node_that_calls_its_own_address_is_told_so(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), mode.config());
    let link = world.connect(0, 0);
    world.run_for(5 * MS);
    let closed = Event::Closed { link, reason: CloseReason::Oneself };
    assert_eq!(world.events.pop_front(), Some((0, closed)));
}

// [W-27] A redirect may name an address at which the node was once.
fn a_link_that_is_heard_stays_where_it_is_whatever_address_is_named(mode: Mode) {
    let (mut world, link, _) = World::pair(1, &mode.config());
    let (now, former) = (world.now, "10.9.9.9:1".parse().unwrap());
    assert_eq!(world.ends[0].rpc.connect(now, former, NodeId::new(2)), link);
    let call = world.ends[0].rpc.call(now, link, Class::Again, vec![7]).unwrap();
    world.run_for(5 * MS);
    let asked = |(end, event): &(usize, Event)| {
        *end == 1 && matches!(event, Event::Request { body, .. } if *body == [7])
    };
    assert!(world.events.iter().any(asked), "{call}: {:?}", world.events);
}

// [W-27]
fn two_addresses_of_one_node_end_as_one_link(mode: Mode) {
    let (mut world, link, _) = World::pair(1, &mode.config());
    // A second address, by a translation that the world does not model: datagrams are carried over by hand.
    let alias = "10.9.9.9:1".parse().unwrap();
    let now = world.now;
    let second = world.ends[0].rpc.connect(now, alias, None);
    assert_ne!(second, link);
    world.ends[0].rpc.flush(now);
    let (here, there) = (world.ends[0].address, world.ends[1].address);
    while let Some(output) = world.ends[0].rpc.poll_output() {
        if let crate::rpc::Output::Transmit { to, bytes } = output {
            assert_eq!(to, alias);
            world.inject(here, there, bytes, MS);
        }
    }
    world.run_for(5 * MS);
    let closed = Event::Closed { link: second, reason: CloseReason::SameAs(link) };
    assert!(world.events.contains(&(0, closed)), "{:?}", world.events);
}
