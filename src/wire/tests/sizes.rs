//! The size budget. [W-47]

use crate::entry::Payload;
use crate::message::{Append, AppendEntry, Heartbeat, Message};
use crate::types::{CallId, ClusterId, GroupId, Incarnation, Index, NodeId, PacketNumber, Round, Term};
use crate::wire::peer::encode_message;
use crate::wire::{Class, Flags, Frame, Header, Party, begin, decode, finish};

const CLUSTER: ClusterId = ClusterId([3; 16]);
const ENTRY_BYTES: usize = 100;
const DATAGRAM_BYTES: usize = 1200;

fn datagram(message: &Message) -> Vec<u8> {
    let header = Header {
        flags: Flags::NONE,
        cluster_tag: CLUSTER.tag(),
        source: Party::Node(NodeId::MIN),
        destination: Party::Node(NodeId::MAX),
        source_incarnation: Incarnation(1 << 30),
        destination_incarnation: Incarnation(1 << 30),
        packet: PacketNumber(1_000_000),
    };
    let (mut body, mut out) = (Vec::new(), Vec::new());
    encode_message(GroupId(0), message, &mut body);
    begin(&mut out, &header);
    match message {
        Message::Heartbeat(_) => Frame::Notice { body: &body },
        _ => Frame::Request { call: CallId(1_000_000), class: Class::Again, body: &body },
    }
    .encode(&mut out);
    finish(&mut out, CLUSTER);
    assert!(decode(&out, CLUSTER).is_ok());
    out
}

/// Entries of 100 bytes, the session's own fields among them, at index 10^6 and term 5.
fn append(count: usize) -> Message {
    let entry = AppendEntry { term: Term(5), payload: Payload::Command([0x55; ENTRY_BYTES].into()) };
    Message::Append(Append {
        term: Term(5),
        attempt: 3,
        prev_index: Index(1_000_000),
        prev_term: Term(5),
        commit: Index(1_000_000 - 20),
        entries: vec![entry; count],
        chain: u32::MAX,
    })
}

#[test]
fn an_entry_alone_costs_at_most_56_bytes_beside_it() {
    assert_eq!(datagram(&append(1)).len() - ENTRY_BYTES, 56);
}

#[test]
fn an_entry_in_a_full_datagram_costs_at_most_8_bytes_beside_it() {
    let count = (1..).take_while(|count| datagram(&append(*count)).len() <= DATAGRAM_BYTES).last().unwrap();
    let beside = datagram(&append(count)).len() - count * ENTRY_BYTES;
    assert_eq!((count, beside), (11, 86));
    assert!(beside <= 8 * count, "{beside} bytes for {count} entries");
}

#[test]
fn an_idle_heartbeat_has_at_most_48_bytes() {
    let heartbeat = Heartbeat { term: Term(5), round: Round(1_000_000), commit: Index(1_000_000) };
    assert_eq!(datagram(&Message::Heartbeat(heartbeat)).len(), 45);
}
