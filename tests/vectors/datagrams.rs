//! Datagrams that are accepted: every type of frame, and the ones that wire-spec.md shows.

use std::collections::BTreeMap;

use raftgram::entry::{Entry, Payload};
use raftgram::message::{Append, AppendEntry, Heartbeat, Message};
use raftgram::types::{
    BootNonce, CallId, ClusterId, GroupId, Incarnation, Index, NodeId, PacketNumber, Round, Sequence,
    SessionId, StoreId, Term,
};
use raftgram::wire::client::{ClientReply, ClientRequest, Outcome, Propose, encode_reply, encode_request};
use raftgram::wire::peer::encode_message;
use raftgram::wire::print::print_datagram;
use raftgram::wire::{
    Ack, CallRefusal, Class, Confirm, Description, Flags, Fragment, Frame, Greeting, HELLO_DATAGRAM_BYTES,
    Header, Hello, HelloAck, Party, Ranges, SealOffer, SealRefusal, Span, Welcome, add_flags, begin, finish,
    pad_to,
};

use super::case::{Case, Kind};

/// The cluster of all vectors.
pub(crate) const CLUSTER: ClusterId = ClusterId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
pub(crate) const NONCE_A: u64 = 0xa0a1_a2a3_a4a5_a6a7;
pub(crate) const NONCE_B: u64 = 0xb0b1_b2b3_b4b5_b6b7;

/// From node 1 to node 2, both in incarnation 7, packet 5.
pub(crate) fn header() -> Header {
    Header {
        flags: Flags::NONE,
        cluster_tag: CLUSTER.tag(),
        source: Party::Node(NodeId::MIN),
        destination: Party::Node(NodeId::new(2).unwrap()),
        source_incarnation: Incarnation(7),
        destination_incarnation: Incarnation(7),
        packet: PacketNumber(5),
    }
}

/// From a client that node 1 knows as incarnation 3.
pub(crate) fn client_header() -> Header {
    Header {
        flags: Flags::CLIENT,
        source: Party::Any,
        destination: Party::Node(NodeId::MIN),
        source_incarnation: Incarnation(3),
        ..header()
    }
}

/// From node 1 to that client.
pub(crate) fn to_client() -> Header {
    Header { destination: Party::Any, destination_incarnation: Incarnation(3), ..header() }
}

/// From a client that knows nothing yet.
pub(crate) fn stranger() -> Header {
    Header {
        cluster_tag: 0,
        destination: Party::Any,
        source_incarnation: Incarnation::UNKNOWN,
        destination_incarnation: Incarnation::UNKNOWN,
        packet: PacketNumber(1),
        ..client_header()
    }
}

/// A datagram of these frames.
pub(crate) fn datagram(header: &Header, frames: &[Frame<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out, header);
    for frame in frames {
        let before = out.len();
        frame.encode(&mut out);
        assert_eq!(out.len() - before, frame.encoded_bytes());
        if frame.is_ack_eliciting() {
            add_flags(&mut out, Flags::ACK_ELICITING);
        }
    }
    finish(&mut out, CLUSTER);
    out
}

/// A case whose fields are those the decoder finds.
pub(crate) fn accepted(name: &str, bytes: Vec<u8>) -> Case {
    Case {
        name: name.to_owned(),
        kind: Kind::Datagram,
        fields: print_datagram(&bytes, Some(CLUSTER)).fields.as_slice().to_vec(),
        bytes,
        cluster: CLUSTER,
        context: BTreeMap::new(),
        keys: BTreeMap::new(),
        expect: "accept".to_owned(),
    }
}

pub(crate) fn node_description() -> Description {
    Description {
        version_min: 1,
        version_max: 1,
        features: 0,
        store: StoreId([0x51; 16]),
        boot_nonce: BootNonce([0x61; 16]),
        cluster: CLUSTER,
        election_timeout_min_us: 250_000,
        election_timeout_max_us: 500_000,
        heartbeat_us: 25_000,
        datagram_bytes_max: 65_507,
        credit_bytes: 1 << 24,
        greeting: Greeting::Plain,
    }
}

pub(crate) fn client_description() -> Description {
    Description {
        store: StoreId::ZERO,
        boot_nonce: BootNonce([0x62; 16]),
        cluster: ClusterId::ZERO,
        election_timeout_min_us: 0,
        election_timeout_max_us: 0,
        heartbeat_us: 0,
        ..node_description()
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![accepted("datagram-without-frames", datagram(&header(), &[]))];
    cases.extend(handshake());
    cases.extend(link());
    cases.extend(calls());
    cases.extend(composed());
    cases
}

// [W-14] [W-22] [W-24] [W-25]
fn handshake() -> Vec<Case> {
    let hello = |description| Frame::Hello(Hello { nonce_a: NONCE_A, description });
    let hello_ack =
        |description| Frame::HelloAck(HelloAck { nonce_a: NONCE_A, nonce_b: NONCE_B, description });
    let confirm = Frame::Confirm(Confirm { nonce_a: NONCE_A, nonce_b: NONCE_B });
    let padded = |header: &Header, frames: &[Frame<'_>]| {
        let mut out = Vec::new();
        begin(&mut out, header);
        frames.iter().for_each(|frame| frame.encode(&mut out));
        pad_to(&mut out, HELLO_DATAGRAM_BYTES);
        assert_eq!(out.len(), HELLO_DATAGRAM_BYTES);
        finish(&mut out, CLUSTER);
        out
    };
    let known_node = Header { destination_incarnation: Incarnation::UNKNOWN, ..header() };
    let knows_cluster = Header { cluster_tag: CLUSTER.tag(), packet: PacketNumber(2), ..stranger() };
    let to_stranger = Header { destination_incarnation: Incarnation::UNKNOWN, ..to_client() };
    let blank = Description {
        cluster: ClusterId::ZERO,
        greeting: Greeting::Founding { digest: 0xcbf2_9ce4_8422_2325 },
        ..node_description()
    };
    let welcome = Frame::Welcome(Welcome { nonce_a: NONCE_A, incarnation: Incarnation(3) });
    vec![
        accepted("client-hello", padded(&stranger(), &[hello(client_description())])),
        accepted(
            "client-hello-ack",
            datagram(&Header { cluster_tag: 0, ..to_stranger }, &[hello_ack(node_description())]),
        ),
        accepted("client-confirm", {
            let to_node = Header {
                destination: Party::Node(NodeId::MIN),
                destination_incarnation: Incarnation(7),
                ..knows_cluster
            };
            padded(&to_node, &[hello(client_description()), confirm])
        }),
        accepted("client-welcome", datagram(&to_stranger, &[welcome])),
        accepted(
            "seal-alone",
            datagram(&header(), &[Frame::Seal(SealOffer { session: 1 << 31, message: [9; 48] })]),
        ),
        accepted(
            "seal-refused",
            datagram(
                &Header { cluster_tag: 0, ..to_stranger },
                &[Frame::SealRefused { reason: SealRefusal::SealRequired }],
            ),
        ),
        accepted("node-hello", padded(&known_node, &[hello(node_description())])),
        accepted("node-hello-ack", datagram(&header(), &[hello_ack(node_description())])),
        accepted("confirm-alone", datagram(&header(), &[confirm])),
        accepted("founding-hello", {
            let header = Header { cluster_tag: 0, destination: Party::Any, ..known_node };
            padded(&header, &[hello(blank)])
        }),
        accepted("version", {
            let header = Header { cluster_tag: 0, ..to_stranger };
            datagram(&header, &[Frame::Version { min: 1, max: 1 }])
        }),
        accepted(
            "stale-incarnation",
            datagram(&known_node, &[Frame::StaleIncarnation { current: Incarnation(7) }]),
        ),
    ]
}

// [W-30] [W-34]
fn link() -> Vec<Case> {
    let probe = Header { flags: Flags::PROBE, ..header() };
    let many: Vec<Span> = (0..32).rev().map(|n| Span::new(1000 * n + 1, 1000 * n + 1 + n)).collect();
    vec![
        accepted("padding", datagram(&header(), &[Frame::Padding { bytes: 70 }])),
        accepted(
            "ack-of-one",
            datagram(&header(), &[Frame::Ack(Ack { delay_us: 0, packets: Ranges::of(&[Span::new(1, 1)]) })]),
        ),
        accepted(
            "ack-of-32-ranges",
            datagram(&header(), &[Frame::Ack(Ack { delay_us: 16_384, packets: Ranges::of(&many) })]),
        ),
        accepted("credit", datagram(&header(), &[Frame::Credit { bytes_total: (1 << 62) - 1 }])),
        accepted("mtu-probe", datagram(&probe, &[Frame::MtuProbe { bytes: 100 }])),
        accepted("unknown-flags", datagram(&Header { flags: Flags(0xe0), ..header() }, &[])),
        accepted(
            "largest-numbers",
            datagram(
                &Header {
                    source: Party::Node(NodeId::MAX),
                    source_incarnation: Incarnation(u32::MAX),
                    destination_incarnation: Incarnation(u32::MAX),
                    packet: PacketNumber((1 << 62) - 1),
                    ..header()
                },
                &[Frame::Cancel { call: CallId((1 << 62) - 1) }],
            ),
        ),
    ]
}

// [W-36] [W-37] [W-40] [W-41]
fn calls() -> Vec<Case> {
    let call = CallId(70);
    let part = Fragment { total_bytes: 1000, offset: 990, bytes: &[0x70; 10] };
    let body: &[u8] = &[0x44, 0];
    let finished = [Span::new(60, 70), Span::new(1, 58)];
    let frames = [
        ("request-again", Frame::Request { call, class: Class::Again, body }),
        ("request-once", Frame::Request { call, class: Class::Once, body: &[0x40, 0] }),
        ("request-with-empty-body", Frame::Request { call, class: Class::Again, body: &[] }),
        ("request-fragment-again", Frame::RequestFragment { call, class: Class::Again, part }),
        ("request-fragment-once", Frame::RequestFragment { call, class: Class::Once, part }),
        ("reply", Frame::Reply { call, body: &[0x81, 0] }),
        ("reply-fragment", Frame::ReplyFragment { call, part }),
        ("cancel", Frame::Cancel { call }),
        ("finished", Frame::Finished { calls: Ranges::of(&finished) }),
        ("call-refused-busy", Frame::CallRefused { call, reason: CallRefusal::Busy }),
        ("call-refused-link-unknown", Frame::CallRefused { call, reason: CallRefusal::LinkUnknown }),
        ("call-refused-too-large", Frame::CallRefused { call, reason: CallRefusal::TooLarge }),
        ("call-refused-reply-too-large", Frame::CallRefused { call, reason: CallRefusal::REPLY_TOO_LARGE }),
        ("call-refused-later-reason", Frame::CallRefused { call, reason: CallRefusal::Other(200) }),
        ("notice", Frame::Notice { body: &[0x08, 0, 5, 9] }),
    ];
    frames.iter().map(|(name, frame)| accepted(name, datagram(&header(), &[*frame]))).collect()
}

// [W-9] [W-10] [W-45] [W-48] [W-49]
fn composed() -> Vec<Case> {
    let spans = [Span::new(8, 10), Span::new(5, 5), Span::new(1, 2)];
    let three = [
        Frame::Ack(Ack { delay_us: 25, packets: Ranges::of(&spans) }),
        Frame::Cancel { call: CallId(70) },
        Frame::Notice { body: &[7, 8] },
    ];
    let mut greased = Vec::new();
    begin(&mut greased, &header());
    for frame_type in [0x9f, 0xbf, 0xdf, 0xff] {
        greased.extend_from_slice(&[frame_type, 3, 1, 2, 3]);
    }
    Frame::Cancel { call: CallId(70) }.encode(&mut greased);
    add_flags(&mut greased, Flags::ACK_ELICITING);
    finish(&mut greased, CLUSTER);
    let mut trailing = Vec::new();
    begin(&mut trailing, &header());
    trailing.extend_from_slice(&[0x05, 4, 1, 2, 0xee, 0xee]);
    finish(&mut trailing, CLUSTER);
    vec![
        accepted("three-frames", datagram(&header(), &three)),
        accepted("grease-is-skipped", greased),
        accepted("trailing-bytes-of-a-frame-are-ignored", trailing),
        accepted(
            "heartbeat",
            datagram(&Header { packet: PacketNumber(1_000_000), ..header() }, &heartbeat().as_frame()),
        ),
        accepted(
            "append-one-entry",
            datagram(&Header { packet: PacketNumber(1_000_000), ..header() }, &append_one_entry().as_frame()),
        ),
        accepted(
            "client-propose",
            datagram(&Header { packet: PacketNumber(4), ..client_header() }, &propose().as_frame()),
        ),
        accepted("client-applied", datagram(&to_client(), &applied().as_frame())),
    ]
}

/// A frame with a body of its own.
struct Spoken {
    body: Vec<u8>,
    as_frame: for<'a> fn(&'a [u8]) -> Frame<'a>,
}

impl Spoken {
    fn as_frame(&self) -> [Frame<'_>; 1] {
        [(self.as_frame)(&self.body)]
    }
}

fn heartbeat() -> Spoken {
    let heartbeat = Heartbeat { term: Term(5), round: Round(100_000), commit: Index(1_000_000) };
    let mut body = Vec::new();
    encode_message(GroupId(0), &Message::Heartbeat(heartbeat), &mut body);
    Spoken { body, as_frame: |body| Frame::Notice { body } }
}

fn append_one_entry() -> Spoken {
    let payload = Payload::Command([0x55; 100].into());
    let entry = Entry::new(CLUSTER, Index(1_000_001), Term(5), payload, 0);
    let append = Append {
        term: Term(5),
        attempt: 0,
        prev_index: Index(1_000_000),
        prev_term: Term(5),
        commit: Index(1_000_000),
        chain: entry.chain,
        entries: vec![AppendEntry { term: entry.term, payload: entry.payload }],
    };
    let mut body = Vec::new();
    encode_message(GroupId(0), &Message::Append(append), &mut body);
    Spoken { body, as_frame: |body| Frame::Request { call: CallId(1_000_000), class: Class::Again, body } }
}

fn propose() -> Spoken {
    let propose = Propose {
        session: SessionId(Index(1_000_000)),
        sequence: Sequence(7),
        finished: Ranges::of(&[Span { first: 1, last: 6 }]),
        command: b"hello",
    };
    let mut body = Vec::new();
    encode_request(GroupId(0), &ClientRequest::Propose(propose), &mut body);
    Spoken { body, as_frame: |body| Frame::Request { call: CallId(3), class: Class::Once, body } }
}

fn applied() -> Spoken {
    let outcome = Outcome { index: Index(1_000_001), term: Term(5), result: b"world" };
    let mut body = Vec::new();
    encode_reply(GroupId(0), &ClientReply::Applied(outcome), &mut body);
    Spoken { body, as_frame: |body| Frame::Reply { call: CallId(3), body } }
}
