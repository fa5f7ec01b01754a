//! Somebody who fills tables: what each holds at the most, and that those who were there before go on.

use core::net::SocketAddr;
use core::time::Duration;

use super::world::{CLUSTER, Faults, Mode, World, client_local, node_local};
use crate::rpc::{Event, Output, RpcConfig};
use crate::types::NodeId;
use crate::wire::Class;

in_both_modes! {
    a_hundred_thousand_greetings_from_spoofed_addresses_leave_nothing,
    nodes_that_nobody_knows_fill_the_table_of_links_and_no_more,
    bodies_that_are_begun_and_never_finished_hold_what_the_room_allows,
}

const MS: Duration = Duration::from_millis(1);

/// A call from end 0 to end 1 that comes back.
fn assert_served(world: &mut World, from: usize) {
    let to = NodeId::new(1).unwrap();
    let link = world.ends[from].rpc.link_to(to).expect("the link is open");
    let call = world.ends[from].rpc.call(world.now, link, Class::Once, vec![7; 20]).unwrap();
    world.turn(from);
    let events = world.run_echo(100 * MS);
    let is_answer = |(place, event): &(usize, Event)| {
        *place == from && matches!(event, Event::Reply { call: answered, .. } if *answered == call)
    };
    assert!(events.iter().any(is_answer), "{events:?}");
}

// [W-17] [W-22]: nothing is kept for an address that was not proven.
fn a_hundred_thousand_greetings_from_spoofed_addresses_leave_nothing(mode: Mode) {
    let (mut world, ..) = World::pair(1, &mode.config());
    let client = world.add(client_local(9), mode.config());
    world.record = Some(Vec::new());
    world.cut.insert((client, 0));
    world.connect(client, 0);
    let (_, _, hello) = world.record.take().unwrap().remove(0);
    world.ends.truncate(2);
    let victim = &mut world.ends[0].rpc;
    let (before, mut answers, mut answer_bytes) = (victim.load(), 0_u64, 0);
    let count = 100_000_u32;
    for number in 0..count {
        let from = SocketAddr::from(((0x0b00_0000 + number).to_be_bytes(), 9));
        victim.handle_datagram(world.now, from, &hello);
        while let Some(output) = victim.poll_output() {
            let Output::Transmit { to, bytes } = output else { panic!("{output:?}") };
            assert_eq!(to, from);
            (answers, answer_bytes) = (answers + 1, answer_bytes + bytes.len());
        }
        if number % 100 == 0 {
            world.now += MS;
        }
    }
    assert_eq!(victim.load(), before);
    assert!(answers <= u64::from(count) && answer_bytes <= hello.len() * count as usize, "{answers} answers");
    let per_10_ms = u64::from(RpcConfig::default().stray_answers_max);
    assert!(answers <= (u64::from(count) / 1000 + 2) * per_10_ms, "{answers} answers in a second");
    world.run_for(50 * MS);
    assert_served(&mut world, 1);
}

fn nodes_that_nobody_knows_fill_the_table_of_links_and_no_more(mode: Mode) {
    let config = RpcConfig { links_max: 4, ..mode.config() };
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), config);
    world.add(node_local(2, CLUSTER), mode.config());
    world.connect(1, 0);
    world.run_for(5 * MS);
    for number in 10..30 {
        let stranger = world.add(node_local(number, CLUSTER), mode.config());
        world.connect(stranger, 0);
        world.run_for(5 * MS);
        let load = world.ends[0].rpc.load();
        assert!(load.links <= 4, "{load:?}");
    }
    assert_eq!(world.ends[0].rpc.load().links, 4);
    world.events.clear();
    assert_served(&mut world, 1);
}

fn bodies_that_are_begun_and_never_finished_hold_what_the_room_allows(mode: Mode) {
    let config = RpcConfig {
        body_bytes_max: 500_000,
        credit_bytes: 1_000_000,
        reassembly_bytes_max: 1_500_000,
        client_idle_max: 2000 * MS,
        ..mode.config()
    };
    let mut world = World::new(1, Faults::none());
    world.add(node_local(1, CLUSTER), config.clone());
    for nonce in 10..18 {
        let client = world.add(client_local(nonce), config.clone());
        let link = world.connect(client, 0);
        world.run_for(2 * MS);
        for _ in 0..3 {
            world.ends[client].rpc.call(world.now, link, Class::Once, vec![nonce; 490_000]).unwrap();
        }
        world.turn(client);
        // What a window holds arrives; then this client is never heard again.
        world.run_for(MS / 10);
        world.ends[client].address = SocketAddr::from(([11, 0, 0, nonce], 1));
        let load = world.ends[0].rpc.load();
        assert!(load.arriving_bytes <= 1_500_000, "{load:?}");
    }
    assert!(world.ends[0].rpc.load().arriving_bytes >= 490_000, "{:?}", world.ends[0].rpc.load());
    world.ends.truncate(1);
    world.run_for(5000 * MS);
    let load = world.ends[0].rpc.load();
    assert_eq!((load.arriving_bytes, load.clients), (0, 0), "{load:?}");
}
