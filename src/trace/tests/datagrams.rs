//! What is read out of datagrams.

use std::net::SocketAddr;

use crate::entry::Payload;
use crate::message::{Append, AppendEntry, Heartbeat, Message};
use crate::time::Instant;
use crate::trace::{DatagramEvent, Datagrams, Event, Outcome, Payloads, Sight, What, read_line};
use crate::types::{CallId, ClusterId, GroupId, Incarnation, Index, NodeId, PacketNumber, Round, Term};
use crate::wire::peer::encode_message;
use crate::wire::{self, Class, DropReason, Flags, Fragment, Frame, Header, Party};

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7100 + number))
}

fn node(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

fn datagram(packet: u64, frames: &[Frame<'_>]) -> Vec<u8> {
    let header = Header {
        flags: Flags::NONE,
        cluster_tag: CLUSTER.tag(),
        source: Party::Node(node(1)),
        destination: Party::Node(node(2)),
        source_incarnation: Incarnation(4),
        destination_incarnation: Incarnation(9),
        packet: PacketNumber(packet),
    };
    let mut bytes = Vec::new();
    wire::begin(&mut bytes, &header);
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    wire::finish(&mut bytes, CLUSTER);
    bytes
}

fn body(message: &Message) -> Vec<u8> {
    let mut body = Vec::new();
    encode_message(GroupId(0), message, &mut body);
    body
}

fn append() -> Vec<u8> {
    let entry = |text: &[u8]| AppendEntry { term: Term(5), payload: Payload::Command(text.into()) };
    body(&Message::Append(Append {
        term: Term(5),
        attempt: 2,
        prev_index: Index(10),
        prev_term: Term(4),
        commit: Index(9),
        entries: vec![entry(b"a"), entry(b"b")],
        chain: 1,
    }))
}

fn see(datagrams: &mut Datagrams, outcome: Outcome, bytes: &[u8]) -> (Event, DatagramEvent) {
    let (from, to) = (address(1), address(2));
    let event = datagrams.read(&Sight {
        at: Instant::from_nanos(1_500_000),
        seen_by: Some(node(1)),
        from,
        to,
        bytes,
        opened: None,
        outcome,
    });
    assert_eq!(read_line(&event.to_line()).as_ref(), Ok(&event));
    let What::Datagram(datagram) = event.what.clone() else { panic!("{event} is no datagram's") };
    (event, *datagram)
}

#[test]
fn an_append_beside_an_ack_is_told_with_its_numbers() {
    let heartbeat = body(&Message::Heartbeat(Heartbeat { term: Term(5), round: Round(3), commit: Index(8) }));
    let append = append();
    let frames = [
        Frame::Credit { bytes_total: 77 },
        Frame::Request { call: CallId(6), class: Class::Again, body: &append },
        Frame::Notice { body: &heartbeat },
        Frame::Padding { bytes: 5 },
    ];
    let bytes = datagram(33, &frames);
    let (event, told) = see(&mut Datagrams::new(Payloads::LeftOut), Outcome::Delivered, &bytes);
    assert_eq!((told.kind.as_ref(), told.term(), told.index()), ("append", Some(5), Some(12)));
    assert_eq!((told.bytes, told.payload, told.is_retransmission), (bytes.len() as u64, None, None));
    assert_eq!(told.header.unwrap().packet, PacketNumber(33));
    let size = bytes.len();
    assert_eq!(
        event.to_string(),
        format!(
            "      1.500000ms n1 -> n2 delivered credit bytes_total=77, append term=5 index=12 attempt=2 entries=2 \
             prev_index=10 prev_term=4 commit=9 body_bytes={} call=6, heartbeat term=5 index=8 round=3 body_bytes={} \
             (packet 33, {size} bytes)",
            append.len(),
            heartbeat.len()
        )
    );
}

#[test]
fn what_is_sent_again_is_told_as_such_and_only_then() {
    let append = append();
    let request = |call| Frame::Request { call: CallId(call), class: Class::Again, body: &append };
    let part = |offset| Frame::RequestFragment {
        call: CallId(8),
        class: Class::Once,
        part: Fragment { total_bytes: 10, offset, bytes: b"xy" },
    };
    let reply = Frame::Reply { call: CallId(6), body: &append };
    let heartbeat = body(&Message::Heartbeat(Heartbeat { term: Term(5), round: Round(3), commit: Index(8) }));
    let notice = Frame::Notice { body: &heartbeat };
    let mut datagrams = Datagrams::new(Payloads::Kept);
    let cases = [
        (request(6), false),
        (request(7), false),
        (request(6), true),
        (reply, false),
        (reply, true),
        (part(0), false),
        (part(2), false),
        (part(2), true),
        (notice, false),
        (notice, false),
    ];
    for (packet, (frame, is_again)) in (1..).zip(cases) {
        let bytes = datagram(packet, &[frame]);
        let (event, told) = see(&mut datagrams, Outcome::Sent, &bytes);
        assert_eq!(told.is_retransmission, Some(is_again), "packet {packet}");
        assert_eq!(event.to_string().ends_with(", again)"), is_again);
        assert_eq!(told.payload.as_ref(), Some(&bytes));
        let (_, told) = see(&mut datagrams, Outcome::Delivered, &bytes);
        assert_eq!(told.is_retransmission, None);
    }
}

#[test]
fn what_cannot_be_read_is_told_as_far_as_it_goes() {
    let mut datagrams = Datagrams::new(Payloads::LeftOut);
    let mut unknown = datagram(1, &[]);
    unknown.extend([0x7f, 0]);
    let mut malformed = datagram(1, &[]);
    malformed.extend([0x10]);
    let mut sealed = datagram(1, &[Frame::Credit { bytes_total: 1 }]);
    wire::add_flags(&mut sealed, Flags::SEALED);
    let opaque = datagram(1, &[Frame::Notice { body: &[0xff, 0] }]);
    let torn = datagram(1, &[Frame::Notice { body: &append()[..5] }]);
    let cases = [
        (vec![1, 2, 3], "unreadable", false),
        (unknown, "unknown", true),
        (malformed, "malformed", true),
        (sealed, "sealed", true),
        (datagram(1, &[Frame::Padding { bytes: 3 }]), "padding", true),
        (opaque, "unknown", true),
        (torn, "malformed", true),
    ];
    for (bytes, kind, has_header) in cases {
        let (_, told) = see(&mut datagrams, Outcome::Dropped(DropReason::MalformedFrame), &bytes);
        assert_eq!((told.kind.as_ref(), told.header.is_some()), (kind, has_header));
        assert_eq!((told.term(), told.index()), (None, None));
    }
}

#[test]
fn a_datagram_of_very_many_frames_is_told_in_part() {
    let frames = [Frame::Credit { bytes_total: 1 }; 100];
    let (event, told) =
        see(&mut Datagrams::new(Payloads::LeftOut), Outcome::Delivered, &datagram(1, &frames));
    assert_eq!((told.frames.len(), told.frames_left_out), (DatagramEvent::FRAMES_MAX, 36));
    assert!(event.to_string().contains(", 36 more frames"), "{event}");
}
