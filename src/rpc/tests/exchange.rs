//! The thin slice: hello, call, reply, in the order a reader would ask for them.

use core::time::Duration;

use super::world::{CLUSTER, Faults, Mode, World, client_local, node_local};
use crate::rpc::Event;
use crate::types::{ClusterId, NodeId};
use crate::wire::Class;

in_both_modes! {
    two_nodes_greet_call_and_answer,
    a_call_and_its_answer_take_three_datagrams,
    a_client_needs_an_address_and_learns_the_rest,
    blank_nodes_link_under_no_cluster,
    a_large_body_goes_in_fragments_and_comes_back,
}

fn two_nodes_greet_call_and_answer(mode: Mode) {
    let (mut world, here, _) = World::pair(1, &mode.config());
    let now = world.now;
    let call = world.ends[0].rpc.call(now, here, Class::Once, b"ping".to_vec()).unwrap();
    world.turn(0);
    let events = world.run_echo(Duration::from_millis(5));
    assert_eq!(events, [(0, Event::Reply { link: here, call, body: b"ping".to_vec() })]);
}

// [W-29] [W-30] [W-32]: the ack rides on the reply, and an ack is not acknowledged.
fn a_call_and_its_answer_take_three_datagrams(mode: Mode) {
    let (mut world, here, _) = World::pair(1, &mode.config());
    let before: usize = world.ends.iter().map(|end| end.sent_count).sum();
    let now = world.now;
    world.ends[0].rpc.call(now, here, Class::Once, b"ping".to_vec()).unwrap();
    world.turn(0);
    world.run_echo(Duration::from_millis(100));
    let after: usize = world.ends.iter().map(|end| end.sent_count).sum();
    assert_eq!(after - before, 3, "request, reply with its ack, ack");
}

fn a_client_needs_an_address_and_learns_the_rest(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), mode.config());
    let client = world.add(client_local(9), mode.config());
    let link = world.connect(client, 0);
    let now = world.now;
    let call = world.ends[client].rpc.call(now, link, Class::Again, b"status".to_vec()).unwrap();
    let events = world.run_echo(Duration::from_millis(5));
    assert_eq!(world.ends[client].rpc.cluster(), CLUSTER);
    assert!(events.contains(&(client, Event::Reply { link, call, body: b"status".to_vec() })), "{events:?}");
    let peer = world.ends[client].rpc.peer(link).unwrap();
    assert_eq!(peer.identity.map(|identity| identity.node), NodeId::new(1));
}

fn blank_nodes_link_under_no_cluster(mode: Mode) {
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, ClusterId::ZERO), mode.config());
    world.add(node_local(2, ClusterId::ZERO), mode.config());
    let link = world.connect(0, 1);
    let now = world.now;
    let call = world.ends[0].rpc.call(now, link, Class::Again, b"found".to_vec()).unwrap();
    let events = world.run_echo(Duration::from_millis(5));
    assert!(events.contains(&(0, Event::Reply { link, call, body: b"found".to_vec() })), "{events:?}");
}

fn a_large_body_goes_in_fragments_and_comes_back(mode: Mode) {
    let (mut world, here, _) = World::pair(1, &mode.config());
    let body: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let now = world.now;
    let call = world.ends[0].rpc.call(now, here, Class::Once, body.clone()).unwrap();
    world.turn(0);
    let events = world.run_echo(Duration::from_millis(100));
    assert_eq!(events, [(0, Event::Reply { link: here, call, body })]);
}
