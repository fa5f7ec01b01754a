//! Datagrams that are dropped: by their bytes alone, and by what the receiver knows.

use std::collections::BTreeMap;

use raftgram::types::{CallId, ClusterId, Incarnation, NodeId, PacketNumber};
use raftgram::wire::datagram::checksum;
use raftgram::wire::{Class, DropReason, Flags, Fragment, Frame, HEADER_BYTES, Header, Party, begin, finish};

use super::case::{Case, Kind};
use super::datagrams::{CLUSTER, accepted, client_header, datagram, header};

fn dropped(name: &str, bytes: Vec<u8>, reason: DropReason) -> Case {
    Case {
        name: name.to_owned(),
        kind: Kind::Datagram,
        bytes,
        cluster: CLUSTER,
        context: BTreeMap::new(),
        keys: BTreeMap::new(),
        fields: Vec::new(),
        expect: reason.name().to_owned(),
    }
}

/// A good datagram with these bytes put in its place, under a checksum that is right again.
fn patched(at: usize, patch: &[u8]) -> Vec<u8> {
    let mut bytes = datagram(&header(), &[Frame::Cancel { call: CallId(70) }]);
    bytes[at..at + patch.len()].copy_from_slice(patch);
    let crc = checksum(&bytes, CLUSTER);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// A datagram of these raw bytes for frames.
fn raw(frames: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    begin(&mut bytes, &header());
    bytes.extend_from_slice(frames);
    finish(&mut bytes, CLUSTER);
    bytes
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = headers();
    cases.extend(malformed_frames());
    cases.extend(unknown_frames());
    cases
}

// [W-2] [W-3] [W-4] [W-5]
fn headers() -> Vec<Case> {
    let good = datagram(&header(), &[Frame::Cancel { call: CallId(70) }]);
    let with = |at: usize, patch: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + patch.len()].copy_from_slice(patch);
        bytes
    };
    let mut longer = good.clone();
    longer.extend_from_slice(&[0, 0]);
    let zero_crc = with(4, &[0; 4]);
    let mut of_no_cluster = Vec::new();
    begin(&mut of_no_cluster, &Header { cluster_tag: 0, ..header() });
    let crc = checksum(&of_no_cluster, CLUSTER);
    of_no_cluster[4..8].copy_from_slice(&crc.to_be_bytes());
    let sealed = patched(3, &[Flags::SEALED.0]);
    use DropReason as R;
    vec![
        dropped("no-bytes", vec![], R::Short),
        dropped("one-byte-less-than-a-header", good[..31].to_vec(), R::Short),
        dropped("json", br#"{"term": 1, "candidate": "a stray datagram of 2015"}"#.to_vec(), R::Magic),
        dropped("other-magic", patched(1, &[0x53]), R::Magic),
        dropped("version-0", patched(2, &[0]), R::Version),
        dropped("version-2", patched(2, &[2]), R::Version),
        dropped(
            "other-cluster",
            {
                let other = ClusterId([0xee; 16]);
                let mut bytes = Vec::new();
                begin(&mut bytes, &Header { cluster_tag: other.tag(), ..header() });
                finish(&mut bytes, other);
                bytes
            },
            R::ClusterTag,
        ),
        dropped("from-node-0", patched(12, &[0, 0]), R::Destination),
        dropped("to-node-0", patched(14, &[0, 0]), R::Destination),
        dropped("zero-crc", zero_crc, R::Crc),
        dropped("all-ones-crc", with(4, &[0xff; 4]), R::Crc),
        dropped("two-bytes-too-long", longer, R::Crc),
        dropped("same-tag-other-id", of_no_cluster, R::Crc),
        dropped("sealed", sealed, R::Crc),
        dropped("packet-0", patched(24, &0u64.to_be_bytes()), R::Replay),
        dropped("packet-2-to-the-62", patched(24, &(1u64 << 62).to_be_bytes()), R::Replay),
        dropped("packet-of-all-ones", patched(24, &u64::MAX.to_be_bytes()), R::Replay),
    ]
}

// [W-1] [W-7] [W-8] [W-12] [W-13]; scenario U18
fn malformed_frames() -> Vec<Case> {
    let rows: [(&str, &[u8]); 17] = [
        ("type-without-length", &[0x16]),
        ("length-past-the-end", &[0x16, 3, 1, 2]),
        ("length-of-2-to-the-62-less-1", &[0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("length-in-a-longer-form", &[0x16, 0x40, 1, 9]),
        ("length-cut-in-the-middle", &[0x16, 0x7f]),
        ("empty-cancel", &[0x16, 0]),
        ("call-id-in-a-longer-form", &[0x16, 2, 0x40, 9]),
        ("ack-of-nothing", &[0x07, 2, 0, 0]),
        ("ack-of-33-ranges", &[0x07, 4, 0, 33, 9, 0]),
        ("ack-below-zero", &[0x07, 4, 0, 1, 5, 6]),
        ("ack-gap-below-zero", &[0x07, 6, 0, 2, 5, 1, 3, 0]),
        ("ack-with-fewer-ranges-than-it-says", &[0x07, 4, 0, 2, 5, 1]),
        ("finished-of-nothing", &[0x17, 1, 0]),
        ("empty-fragment", &[0x12, 3, 9, 5, 0]),
        ("fragment-past-its-total", &[0x12, 5, 9, 2, 1, 0xaa, 0xbb]),
        ("welcome-cut-short", &[0x04, 11, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
        ("malformed-behind-unknown", &[0x1f, 0, 0x16, 0]),
    ];
    rows.iter().map(|(name, frames)| dropped(name, raw(frames), DropReason::MalformedFrame)).collect()
}

// [W-8] [W-9]; scenario U17
fn unknown_frames() -> Vec<Case> {
    let rows: [(&str, &[u8]); 4] = [
        ("critical-grease", &[0x1f, 0]),
        ("critical-grease-behind-a-good-frame", &[0x16, 1, 7, 0x7f, 2, 1, 2]),
        ("critical-grease-before-a-good-frame", &[0x3f, 1, 9, 0x16, 1, 7]),
        ("unassigned-type", &[0x0c, 0]),
    ];
    rows.iter().map(|(name, frames)| dropped(name, raw(frames), DropReason::UnknownCriticalFrame)).collect()
}

/// The receiver of every step is node 2 in incarnation 7 of the cluster. Its link to node 1 was opened with
/// `peer_incarnation`; `largest_packet` is the highest number seen on it, and every one below was seen too.
fn step(name: &str, header: Header, frames: &[Frame<'_>], expect: &str) -> Case {
    let context = [
        ("node", 2),
        ("incarnation", 7),
        ("peer_incarnation", 7),
        ("largest_packet", 5000),
        ("datagram_bytes_max", 1200),
        ("credit_bytes", 1 << 16),
    ];
    Case {
        kind: Kind::ExchangeStep,
        context: context.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        keys: BTreeMap::new(),
        expect: expect.to_owned(),
        ..accepted(&format!("step-{name}"), datagram(&header, frames))
    }
}

pub(crate) fn steps() -> Vec<Case> {
    let mut steps = steps_by_header();
    steps.extend(steps_by_size());
    steps
}

// [W-3] [W-14] [W-15] [W-21] [W-28]; scenarios U4 and U5
fn steps_by_header() -> Vec<Case> {
    let next = Header { packet: PacketNumber(5001), ..header() };
    let to = |id| Header { destination: Party::Node(NodeId::new(id).unwrap()), ..next };
    let to_incarnation = |n| Header { destination_incarnation: Incarnation(n), ..next };
    let of_incarnation = |n| Header { source_incarnation: Incarnation(n), ..next };
    let packet = |n| Header { packet: PacketNumber(n), ..next };
    let of_client = Header { destination: to(2).destination, ..client_header() };
    let stale_destination = DropReason::StaleDestinationIncarnation.name();
    let stale_source = DropReason::StaleSourceIncarnation.name();
    let rows = [
        ("next-packet", next, "accept"),
        ("far-ahead", packet(1 << 40), "accept"),
        ("request-under-tag-0", Header { cluster_tag: 0, ..next }, DropReason::ClusterTag.name()),
        ("other-node", to(3), DropReason::Destination.name()),
        ("earlier-incarnation-of-the-receiver", to_incarnation(6), stale_destination),
        ("incarnation-0-of-the-receiver", to_incarnation(0), stale_destination),
        ("earlier-incarnation-of-the-sender", of_incarnation(6), stale_source),
        ("later-incarnation-of-the-sender-without-hello", of_incarnation(8), stale_source),
        ("client-never-welcomed", of_client, stale_source),
        ("packet-seen", packet(5000), DropReason::Replay.name()),
        ("packet-below-the-window", packet(2952), DropReason::Replay.name()),
    ];
    let request = [Frame::Request { call: CallId(1), class: Class::Again, body: &[0x44, 0] }];
    rows.into_iter().map(|(name, header, expect)| step(name, header, &request, expect)).collect()
}

// [W-11] [W-40]
fn steps_by_size() -> Vec<Case> {
    let next = Header { packet: PacketNumber(5001), ..header() };
    let part = |total_bytes| {
        let part = Fragment { total_bytes, offset: 0, bytes: &[1, 2, 3] };
        Frame::RequestFragment { call: CallId(1), class: Class::Again, part }
    };
    // A frame of this size has a length of two bytes.
    let padding = |datagram_bytes| Frame::Padding { bytes: datagram_bytes - HEADER_BYTES - 3 };
    let over_limit = DropReason::OverLimit.name();
    let rows = [
        ("largest-datagram", padding(1200), "accept"),
        ("datagram-too-large", padding(1201), over_limit),
        ("large-body", part(1 << 16), "accept"),
        ("body-past-the-credit", part((1 << 16) + 1), over_limit),
        ("body-of-2-to-the-62-less-1", part((1 << 62) - 1), over_limit),
    ];
    rows.into_iter().map(|(name, frame, expect)| step(name, next, &[frame], expect)).collect()
}
