//! Datagrams that are dropped: by their bytes alone, and by what the receiver knows.

use std::collections::BTreeMap;

use raftgram::types::{CallId, ClusterId, Incarnation, NodeId, PacketNumber};
use raftgram::wire::datagram::checksum;
use raftgram::wire::{Class, DropReason, Flags, Fragment, Frame, Header, Party, begin, finish};

use super::case::{Case, Kind};
use super::datagrams::{CLUSTER, accepted, client_header, datagram, header};

fn dropped(name: &str, bytes: Vec<u8>, reason: DropReason) -> Case {
    Case {
        name: name.to_owned(),
        kind: Kind::Datagram,
        bytes,
        cluster: CLUSTER,
        context: BTreeMap::new(),
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
        ("unassigned-type", &[0x0a, 0]),
    ];
    rows.iter().map(|(name, frames)| dropped(name, raw(frames), DropReason::UnknownCriticalFrame)).collect()
}

/// The receiver of every step is node 2 in incarnation 7 of the cluster. Its link to node 1 was opened with
/// `peer_incarnation`; `largest_packet` is the highest number seen on it, and every one below was seen too.
// [W-11] [W-14] [W-15] [W-21] [W-28] [W-40]
pub(crate) fn steps() -> Vec<Case> {
    let context = BTreeMap::from([
        ("node".to_owned(), 2),
        ("incarnation".to_owned(), 7),
        ("peer_incarnation".to_owned(), 7),
        ("largest_packet".to_owned(), 5000),
        ("datagram_bytes_max".to_owned(), 1200),
        ("credit_bytes".to_owned(), 1 << 16),
    ]);
    let step = |name: &str, header: Header, frames: &[Frame<'_>], expect: &str| Case {
        kind: Kind::ExchangeStep,
        context: context.clone(),
        expect: expect.to_owned(),
        ..accepted(&format!("step-{name}"), datagram(&header, frames))
    };
    let next = Header { packet: PacketNumber(5001), ..header() };
    let request = [Frame::Request { call: CallId(1), class: Class::Again, body: &[0x44, 0] }];
    let part = |total_bytes| {
        let part = Fragment { total_bytes, offset: 0, bytes: &[1, 2, 3] };
        [Frame::RequestFragment { call: CallId(1), class: Class::Again, part }]
    };
    let node = |id| Party::Node(NodeId::new(id).unwrap());
    use DropReason as R;
    let rows: [(&str, Header, &[Frame<'_>], &str); 16] = [
        ("next-packet", next, &request, "accept"),
        ("far-ahead", Header { packet: PacketNumber(1 << 40), ..next }, &request, "accept"),
        ("largest-datagram", next, &[Frame::Padding { bytes: 1200 - 32 - 3 }], "accept"),
        ("large-body", next, &part(1 << 16), "accept"),
        ("body-past-the-credit", next, &part((1 << 16) + 1), R::OverLimit.name()),
        ("body-of-2-to-the-62-less-1", next, &part((1 << 62) - 1), R::OverLimit.name()),
        ("request-under-tag-0", Header { cluster_tag: 0, ..next }, &request, R::ClusterTag.name()),
        ("other-node", Header { destination: node(3), ..next }, &request, R::Destination.name()),
        (
            "earlier-incarnation-of-the-receiver",
            Header { destination_incarnation: Incarnation(6), ..next },
            &request,
            R::StaleDestinationIncarnation.name(),
        ),
        (
            "incarnation-0-of-the-receiver",
            Header { destination_incarnation: Incarnation::UNKNOWN, ..next },
            &request,
            R::StaleDestinationIncarnation.name(),
        ),
        (
            "earlier-incarnation-of-the-sender",
            Header { source_incarnation: Incarnation(6), ..next },
            &request,
            R::StaleSourceIncarnation.name(),
        ),
        (
            "later-incarnation-of-the-sender-without-hello",
            Header { source_incarnation: Incarnation(8), ..next },
            &request,
            R::StaleSourceIncarnation.name(),
        ),
        (
            "client-never-welcomed",
            Header { destination: node(2), ..client_header() },
            &request,
            R::StaleSourceIncarnation.name(),
        ),
        ("packet-seen", Header { packet: PacketNumber(5000), ..next }, &request, R::Replay.name()),
        (
            "packet-below-the-window",
            Header { packet: PacketNumber(2952), ..next },
            &request,
            R::Replay.name(),
        ),
        ("datagram-too-large", next, &[Frame::Padding { bytes: 1200 - 32 - 2 }], R::OverLimit.name()),
    ];
    rows.into_iter().map(|(name, header, frames, expect)| step(name, header, frames, expect)).collect()
}
