//! Bodies of peers and clients: round trips, arbitrary bytes, domains.

use proptest::collection::vec;
use proptest::prelude::*;

use super::strategies::{membership, message, number, spans, varint};
use crate::cursor::{CursorError, VARINT_MAX, Writer};
use crate::founding::FoundingRecord;
use crate::membership::Members;
use crate::message::Message;
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::types::{ClusterId, GroupId, Incarnation, Index, NodeId, Sequence, SessionId, StoreId, Term};
use crate::wire::Ranges;
use crate::wire::body::{BodyFamily, NUMBER_MAX, body_kind, family};
use crate::wire::client::{
    ClientReply, ClientRequest, LeaderHint, Outcome, Propose, ReadLevel, RefusalCode, decode_reply,
    decode_request, encode_reply, encode_request,
};
use crate::wire::peer::{decode_message, encode_message};
use crate::wire::print::print_body;
use crate::wire::status::{
    Divergence, DivergenceKind, DropCount, NodeRole, NodeStatus, PeerStatus, RepairStatus, Standing,
    TransferStatus,
};
use crate::wire::watch::{FILTER_BYTES_MAX, WATCH_WAIT_MAX_US, Watch, WatchEvent, Watched};

fn request_bytes(request: &ClientRequest<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    encode_request(GroupId(3), request, &mut body);
    body
}

fn reply_bytes(reply: &ClientReply<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    encode_reply(GroupId(3), reply, &mut body);
    body
}

/// Reads a body as everything it might be, and writes what was read.
fn handle_all(body: &[u8]) {
    let _ = print_body(body);
    let mut again = Vec::new();
    if let Ok((group, message)) = decode_message(body) {
        encode_message(group, &message, &mut again);
        assert_eq!(decode_message(&again), Ok((group, message)));
        assert!(again.len() <= body.len(), "an encoding longer than what was read");
    }
    again.clear();
    if let Ok((group, request)) = decode_request(body) {
        encode_request(group, &request, &mut again);
        assert_eq!(decode_request(&again), Ok((group, request)));
    }
    again.clear();
    if let Ok((group, reply)) = decode_reply(body) {
        encode_reply(group, &reply, &mut again);
        assert_eq!(decode_reply(&again), Ok((group, reply)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    // [W-45] [W-46]; invariant 25
    #[test]
    fn messages_round_trip(group in varint(), message in message()) {
        let mut body = Vec::new();
        encode_message(GroupId(group), &message, &mut body);
        prop_assert_eq!(family(&body), Some(BodyFamily::Peer));
        let read = decode_message(&body).unwrap();
        prop_assert_eq!(&read, &(GroupId(group), message));
        let mut again = Vec::new();
        encode_message(read.0, &read.1, &mut again);
        prop_assert_eq!(again, body);
    }

    // Scenarios U16 and U18
    #[test]
    fn arbitrary_bodies_never_panic_and_what_is_read_can_be_written(
        kind in prop_oneof![0u8..0x10, 0x40u8..0x4a, 0x80u8..0x91, any::<u8>()],
        rest in vec(prop_oneof![0u8..8, any::<u8>()], 0..120),
    ) {
        let mut body = vec![kind, 0];
        body.extend_from_slice(&rest);
        handle_all(&body);
        handle_all(&rest);
    }

    #[test]
    fn mutated_messages_never_panic(
        message in message(),
        patches in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = Vec::new();
        encode_message(GroupId(0), &message, &mut body);
        for (place, byte) in patches {
            let place = place.index(body.len());
            body[place] = byte;
        }
        handle_all(&body);
        body.truncate(cut.index(body.len() + 1));
        handle_all(&body);
    }

    // [W-48]
    #[test]
    fn proposals_round_trip(
        session in 1..=NUMBER_MAX, sequence in 1..=VARINT_MAX, spans in spans(0), command in vec(any::<u8>(), 0..99)
    ) {
        let request = ClientRequest::Propose(Propose {
            session: SessionId(Index(session)),
            sequence: Sequence(sequence),
            finished: Ranges::of(&spans),
            command: &command,
        });
        let body = request_bytes(&request);
        prop_assert_eq!(family(&body), Some(BodyFamily::ClientRequest));
        let (group, read) = decode_request(&body).unwrap();
        prop_assert_eq!(group, GroupId(3));
        prop_assert_eq!(&read, &request);
        prop_assert_eq!(request_bytes(&read), body);
    }

    // [W-52]
    #[test]
    fn founding_records_round_trip(membership in membership(), cluster in any::<[u8; 16]>()) {
        prop_assume!(cluster != [0; 16]);
        let mut membership = membership;
        membership.outgoing = Members::new();
        membership.learners = Members::new();
        let reply = ClientReply::Founded(FoundingRecord { cluster: ClusterId(cluster), membership });
        let body = reply_bytes(&reply);
        prop_assert_eq!(decode_reply(&body), Ok((GroupId(3), reply)));
    }

    // [W-60]
    #[test]
    fn questions_for_a_snapshot_and_their_answers_round_trip(
        through in number(), bytes in varint(), digest in any::<u64>(), chain in any::<u32>(),
        is_in_force in any::<bool>(),
    ) {
        let request = ClientRequest::TakeSnapshot { through: Index(through) };
        let body = request_bytes(&request);
        prop_assert_eq!(decode_request(&body), Ok((GroupId(3), request)));
        let id = SnapshotId { index: Index(through), term: Term(through), chain };
        let in_force = is_in_force.then_some(SnapshotMeta { id, bytes, digest });
        let reply = ClientReply::SnapshotState { taken: Index(through), in_force };
        let body = reply_bytes(&reply);
        prop_assert_eq!(decode_reply(&body), Ok((GroupId(3), reply)));
    }

    // [W-49]
    #[test]
    fn replies_round_trip(
        which in 0..11, index in 1..=NUMBER_MAX, term in number(), count in varint(), node in 1..=65_534u16,
        bytes in vec(any::<u8>(), 0..99), text in "\\PC{0,60}", code in any::<u8>(),
    ) {
        let outcome = Outcome { index: Index(index), term: Term(term), result: &bytes };
        let hint = LeaderHint { node: NodeId::new(node).unwrap(), address: &text };
        let code = match code {
            1 => RefusalCode::UnknownBody,
            2 => RefusalCode::MalformedBody,
            3 => RefusalCode::Unavailable,
            4 => RefusalCode::NotAllowed,
            code => RefusalCode::Other(code),
        };
        let reply = match which {
            0 => ClientReply::SessionOpened { session: SessionId(Index(index)) },
            1 => ClientReply::SessionClosed,
            2 => ClientReply::Applied(outcome),
            3 => ClientReply::Read(outcome),
            4 => ClientReply::Redirect { leader: Some(hint) },
            5 => ClientReply::Redirect { leader: None },
            6 => ClientReply::Busy { retry_after_us: count },
            7 => ClientReply::SessionExpired,
            8 => ClientReply::SequenceFinished,
            9 => ClientReply::TooLarge { bytes_max: count },
            _ => ClientReply::Refused { code, text: &text },
        };
        let body = reply_bytes(&reply);
        prop_assert_eq!(family(&body), Some(BodyFamily::ClientReply));
        let (_, read) = decode_reply(&body).unwrap();
        prop_assert_eq!(&read, &reply);
        prop_assert_eq!(reply_bytes(&read), body);
    }

    // [W-51] [W-65]
    #[test]
    fn statuses_round_trip(
        membership in prop::option::of(membership()), numbers in [number(), number(), number(), number()],
        counts in [varint(), varint(), varint(), varint()], rows in 0..5u16, which in 0..6u8,
        leader in prop::option::of(1..=65_534u16),
    ) {
        let mut status = NodeStatus {
            node: NodeId::MIN,
            address: "[::1]:7101".to_owned(),
            role: NodeRole::Blank,
            term: Term(numbers[0]),
            commit: Index(numbers[1]),
            applied: Index(numbers[2]),
            last: Index(numbers[3]),
            incarnation: Incarnation(7),
            cluster: ClusterId([1; 16]),
            store: StoreId([2; 16]),
            leader: leader.and_then(NodeId::new),
            membership,
            peers: Vec::new(),
            received: counts[0],
            accepted: counts[1],
            retransmits: counts[2],
            duplicates: counts[3],
            drops: Vec::new(),
            snapshot: Index(numbers[2]),
            transfers: Vec::new(),
            damage: counts[1],
            repair: leader.map(|from| RepairStatus {
                first: Index(numbers[3].max(1)),
                last: (numbers[0] > 0).then_some(Index(numbers[0])),
                fetched: counts[0],
                from: NodeId::new(from),
            }),
            version: Index(numbers[1]),
            standing: [Standing::Member, Standing::Joining, Standing::Removed, Standing::Replaced]
                [usize::from(rows % 4)],
            agreed: Index(numbers[2]),
            divergences: Vec::new(),
            sent: counts[2],
            sent_bytes: counts[3],
        };
        status.role = [
            NodeRole::Blank, NodeRole::Follower, NodeRole::PreCandidate, NodeRole::Candidate, NodeRole::Leader,
            NodeRole::Learner,
        ][usize::from(which)];
        for row in 1..=rows {
            let node = NodeId::new(row).unwrap();
            status.peers.push(PeerStatus { node, rtt_us: counts[0], retransmits: 1, loss_ppm: 2 });
            status.transfers.push(TransferStatus {
                to: node,
                index: Index(numbers[1]),
                bytes: counts[2],
                bytes_total: counts[3],
                is_transferred: row % 2 == 0,
            });
            // [W-94]
            status.divergences.push(Divergence {
                node,
                kind: if row % 2 == 0 { DivergenceKind::Results } else { DivergenceKind::Snapshot },
                after: Index(numbers[1] / 2),
                through: Index(numbers[1] / 2 + 1),
            });
            status.drops.push(DropCount { reason: format!("reason-{row}"), count: counts[1] });
        }
        let body = reply_bytes(&ClientReply::Status(Box::new(status.clone())));
        prop_assert_eq!(decode_reply(&body), Ok((GroupId(3), ClientReply::Status(Box::new(status)))));
        let longer = [&body[..], &[9, 9, 9]].concat();
        prop_assert_eq!(decode_reply(&longer), decode_reply(&body));
    }
}

// [W-43]; scenario U16
#[test]
fn a_term_or_index_of_2_to_the_60_is_malformed_and_the_largest_can_be_counted_on_from() {
    let heartbeat_reply = |term: u64| {
        let mut body = vec![body_kind::HEARTBEAT_REPLY, 0];
        body.put_varint(term);
        body.put_varint(0);
        body
    };
    assert_eq!(decode_message(&heartbeat_reply(NUMBER_MAX + 1)), Err(CursorError::Value));
    let (group, Message::HeartbeatReply(mut largest)) = decode_message(&heartbeat_reply(NUMBER_MAX)).unwrap()
    else {
        panic!("a heartbeat reply")
    };
    largest.term = largest.term.next();
    encode_message(group, &Message::HeartbeatReply(largest), &mut Vec::new());
}

// [W-43]: distances lead nowhere outside the domain.
#[test]
fn an_append_whose_distances_leave_the_domain_is_malformed() {
    let append = |term: u64, prev_term_age: u64, prev_index: u64, commit: i64| {
        let mut body = vec![body_kind::APPEND, 0];
        [term, 0, prev_index, prev_term_age].into_iter().for_each(|number| body.put_varint(number));
        body.put_zigzag(commit);
        body.put_u32(0);
        body
    };
    assert!(decode_message(&append(5, 5, 10, -10)).is_ok());
    for body in [append(5, 6, 10, 0), append(5, 0, 10, -11), append(5, 0, NUMBER_MAX, 1)] {
        assert_eq!(decode_message(&body), Err(CursorError::Value));
    }
    let mut entry_of_a_negative_term = append(5, 0, 10, 0);
    entry_of_a_negative_term.extend_from_slice(&[6 << 2, 0]);
    assert_eq!(decode_message(&entry_of_a_negative_term), Err(CursorError::Value));
}

#[test]
fn an_append_takes_memory_for_no_more_entries_than_its_bytes_can_hold() {
    let mut body = vec![body_kind::APPEND, 0, 5, 0, 10, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&[0, 0].repeat(1000));
    let (_, Message::Append(append)) = decode_message(&body).unwrap() else { panic!("an append") };
    assert_eq!(append.entries.len(), 1000);
    assert!(append.entries.capacity() <= 2 * append.entries.len());
}

// [W-42]
#[test]
fn kinds_of_one_family_are_not_read_as_another() {
    let status = request_bytes(&ClientRequest::Status);
    assert!(decode_message(&status).is_err() && decode_reply(&status).is_err());
    for kind in [0x00, 0x3f, 0x7f, 0xbf, 0xc0, 0xff] {
        let body = [kind, 0, 1, 1, 1, 1];
        assert!(
            decode_message(&body).is_err() && decode_request(&body).is_err() && decode_reply(&body).is_err()
        );
    }
    assert_eq!(family(&[]), None);
}

// [W-101] [W-103]
#[test]
fn watches_outside_their_domain_are_malformed() {
    let request = |wait_us: u64, filter: &[u8]| {
        let mut body = vec![body_kind::WATCH, 0, 5];
        body.put_varint(wait_us);
        body.put_bytes(filter);
        body
    };
    let longest = request(WATCH_WAIT_MAX_US, &[b'k'; FILTER_BYTES_MAX]);
    let watch = Watch { after: Index(5), wait_us: WATCH_WAIT_MAX_US, filter: &[b'k'; FILTER_BYTES_MAX] };
    assert_eq!(decode_request(&longest), Ok((GroupId(0), ClientRequest::Watch(watch))));
    let too_long = [request(WATCH_WAIT_MAX_US + 1, b""), request(0, &[b'k'; FILTER_BYTES_MAX + 1])];
    for body in too_long {
        assert_eq!(decode_request(&body), Err(CursorError::Value));
    }
    let event = |index| WatchEvent { index: Index(index), term: Term(1), event: b"e" };
    for (through, indexes, is_good) in [(9, &[8, 9][..], true), (9, &[8, 10], false), (9, &[8, 8], false)] {
        let events = indexes.iter().map(|index| event(*index)).collect();
        let reply = ClientReply::Watched(Watched { through: Index(through), events });
        let body = reply_bytes(&reply);
        let read = decode_reply(&body).map(|(_, reply)| reply);
        assert_eq!(read, if is_good { Ok(reply) } else { Err(CursorError::Value) });
    }
    let many = [&[body_kind::WATCHED, 0, 9][..], &[0x50, 1]].concat();
    assert_eq!(decode_reply(&many), Err(CursorError::Value), "4,097 events");
}

// [W-44] [W-48] [W-50]
#[test]
fn requests_outside_their_domain_are_malformed() {
    for body in
        [&[0x41, 0, 0][..], &[0x42, 0, 1, 0, 0], &[0x42, 0, 0, 1, 0], &[0x43, 0, 4], &[0x42, 0, 1, 1, 33]]
    {
        assert_eq!(decode_request(body), Err(CursorError::Value), "{body:02x?}");
    }
    let read = ClientRequest::Read { level: ReadLevel::Lease, query: b"q" };
    assert_eq!(decode_request(&request_bytes(&read)), Ok((GroupId(3), read)));
    let mut longer = request_bytes(&ClientRequest::OpenSession);
    longer.push(0xee);
    assert_eq!(decode_request(&longer), Ok((GroupId(3), ClientRequest::OpenSession)));
}
