//! Every table of the room is filled, and holds no more than its bound.

use core::net::SocketAddr;
use core::time::Duration;

use super::world::{Mode, World};
use crate::rpc::body::{Cut, OutBody};
use crate::rpc::callee::{Admission, CLOSED_RANGES_MAX, Callee, CalleeBounds, REFUSED_MAX};
use crate::rpc::core::{BUFFERS_MAX, HINTED_MAX};
use crate::rpc::sent::{SentFrame, SentPackets, TRACKED_MAX};
use crate::rpc::{CallError, Event, RpcConfig};
use crate::time::Instant;
use crate::types::CallId;
use crate::wire::Class;

in_both_modes! {
    bodies_of_open_calls_are_bounded_at_the_caller,
    of_notices_in_one_turn_the_newest_are_sent,
}

const MS: Duration = Duration::from_millis(1);
const BOUNDS: CalleeBounds =
    CalleeBounds { calls_max: 1 << 20, reply_bytes_max: 10_000, body_bytes_max: 1000, room_bytes: 10_000 };

fn bodies_of_open_calls_are_bounded_at_the_caller(mode: Mode) {
    let config = RpcConfig { body_bytes_max: 10_000, call_bytes_max: 25_000, ..mode.config() };
    let (mut world, link, _) = World::pair(1, &config);
    let (now, rpc) = (world.now, &mut world.ends[0].rpc);
    let mut call = |bytes| rpc.call(now, link, Class::Once, vec![1; bytes]).map(drop);
    assert_eq!([call(10_000), call(10_000), call(10_000), call(5000)].map(|it| it.err()), {
        [None, None, Some(CallError::Busy), None]
    });
    assert_eq!(call(1), Err(CallError::Busy), "all of it is taken");
    world.turn(0);
    world.run_echo(50 * MS);
    let now = world.now;
    assert!(
        world.ends[0].rpc.call(now, link, Class::Once, vec![1; 10_000]).is_ok(),
        "answered calls hold nothing"
    );
}

fn of_notices_in_one_turn_the_newest_are_sent(mode: Mode) {
    let config = RpcConfig { notices_max: 3, ..mode.config() };
    let (mut world, link, _) = World::pair(1, &config);
    let now = world.now;
    (0..10).for_each(|n| world.ends[0].rpc.notice(now, link, vec![n]).unwrap());
    world.turn(0);
    world.run_for(5 * MS);
    let told = world.events.drain(..).map(|(_, event)| match event {
        Event::Notice { body, .. } => body[0],
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), [7, 8, 9]);
}

fn ask(callee: &mut Callee, call: u64) -> Admission {
    callee.on_request(CallId(call), b"?", &BOUNDS, |_| false)
}

// [W-36]: a caller that never acknowledges is told "busy", and executes nothing more here.
#[test]
fn answers_that_nobody_acknowledges_are_bounded() {
    let (mut callee, cut) = (Callee::default(), Cut { whole_max: 1000, part_bytes: 1000 });
    for call in 1..=10 {
        assert!(matches!(ask(&mut callee, call), Admission::Whole(_)), "call {call}");
        assert!(callee.reply(CallId(call), OutBody::new(vec![0; 1000], cut)));
    }
    assert!(matches!(ask(&mut callee, 11), Admission::Refused));
    callee.on_answer_acked(CallId(1), 0);
    assert!(matches!(ask(&mut callee, 12), Admission::Whole(_)), "there is room for one again");
}

#[test]
fn refusals_that_nobody_acknowledges_choke_their_caller() {
    let (mut callee, full) = (Callee::default(), CalleeBounds { calls_max: 0, ..BOUNDS });
    for call in 1..=REFUSED_MAX as u64 {
        assert!(!callee.is_choked(), "{call}");
        callee.on_request(CallId(call), b"?", &full, |_| false);
    }
    // Its owner takes nothing in any more.
    assert!(callee.is_choked());
    callee.on_refusal_acked(CallId(7));
    assert!(!callee.is_choked());
}

/// A caller that finishes every other call of its own, which no honest one does.
#[test]
fn finished_calls_with_gaps_between_are_remembered_in_bounded_room_and_never_carried_out_again() {
    let mut callee = Callee::default();
    let calls = 2 * (CLOSED_RANGES_MAX as u64 + 500);
    for call in (2..=calls).step_by(2) {
        callee.close(CallId(call));
    }
    assert_eq!(callee.closed_count(), CLOSED_RANGES_MAX);
    for call in (2..=calls).step_by(2) {
        assert!(matches!(ask(&mut callee, call), Admission::Repeated), "call {call} is carried out twice");
    }
    callee.close_range(1, calls);
    assert_eq!(callee.closed_count(), 1);
}

#[test]
fn packets_that_nobody_acknowledges_are_tracked_up_to_a_bound_where_sending_ends() {
    let mut sent = SentPackets::new(1);
    let frame = SentFrame::Request { call: CallId(1), part: 0 };
    let mut number = 0;
    while !sent.is_full() {
        number += 1;
        sent.record(number, Instant::ZERO, 100, &[frame]);
    }
    assert_eq!((number, sent.in_flight_count()), (TRACKED_MAX as u64, TRACKED_MAX));
    // Those that are given up leave room: nothing is stuck for ever.
    sent.abandon_all_but(64, &mut Vec::new());
    sent.trim(Instant::ZERO + 10 * MS, MS);
    assert!(!sent.is_full() && sent.in_flight_count() == 64);
}

// [W-24]
#[test]
fn addresses_that_got_a_hint_are_remembered_in_bounded_room() {
    let config = RpcConfig { stray_answers_max: 1 << 20, ..RpcConfig::default() };
    let (mut world, ..) = World::pair(1, &config);
    let (now, core) = (world.now, &mut world.ends[0].rpc.core);
    let mut hints = |now, addresses: core::ops::Range<u32>| {
        let to = |number: u32| SocketAddr::from((number.to_be_bytes(), 7));
        addresses.filter(|number| core.may_hint(now, to(*number))).count()
    };
    assert_eq!(hints(now, 0..2000), HINTED_MAX, "the rest gets none");
    assert_eq!(hints(now + 1000 * MS, 5000..7000), HINTED_MAX, "after a while others do");
}

#[test]
fn vectors_kept_for_datagrams_are_few() {
    let config = RpcConfig::default();
    let (mut world, ..) = World::pair(1, &config);
    let rpc = &mut world.ends[0].rpc;
    (0..2 * BUFFERS_MAX).for_each(|_| rpc.recycle(Vec::with_capacity(config.datagram_bytes_max)));
    assert_eq!(rpc.core.buffers.len(), BUFFERS_MAX);
}
