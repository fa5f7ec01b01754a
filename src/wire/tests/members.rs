//! Bodies about the membership and its leader: round trips, and what no encoder writes.

use proptest::prelude::*;

use super::strategies::{membership, number, varint};
use crate::cursor::CursorError;
use crate::membership::{Member, MembershipChange};
use crate::types::{GroupId, Index, NodeId, StoreId, Term};
use crate::wire::client::{
    ClientReply, ClientRequest, decode_reply, decode_request, encode_reply, encode_request,
};
use crate::wire::fault::{FAULT_MS_MAX, FaultLinks, FaultRequest, LinkFaults, WHOLE_PPM};
use crate::wire::member::{
    ChangeOutcome, ChangeRefusal, ChangeRequest, Changed, MemberProgress, MembershipState,
};

fn node() -> impl Strategy<Value = NodeId> {
    (1..65_535u16).prop_map(|number| NodeId::new(number).unwrap())
}

fn change() -> impl Strategy<Value = MembershipChange> {
    (0..4, node(), any::<[u8; 16]>(), "[a-z]{1,9}:[0-9]{1,5}").prop_map(|(which, node, store, address)| {
        match which {
            0 => MembershipChange::Add { node, member: Member { store: StoreId(store), address } },
            1 => MembershipChange::Promote { node },
            2 => MembershipChange::Remove { node },
            _ => MembershipChange::Move { node, address },
        }
    })
}

fn refusal() -> impl Strategy<Value = ChangeRefusal> {
    (1..=255u8, node(), number(), number()).prop_map(|(code, node, first, second)| match code {
        1 => ChangeRefusal::Running { index: Index(first) },
        2 => ChangeRefusal::Version { expected: Index(first), actual: Index(second) },
        3 => ChangeRefusal::Unknown { node },
        4 => ChangeRefusal::Taken { node },
        5 => ChangeRefusal::StoreInUse { node },
        6 => ChangeRefusal::NotCaughtUp { node, lag: second },
        7 => ChangeRefusal::QuorumAtRisk { alive: first, needed: second },
        8 => ChangeRefusal::LastVoter,
        9 => ChangeRefusal::TooMany,
        10 => ChangeRefusal::Address,
        11 => ChangeRefusal::Silent,
        12 => ChangeRefusal::OtherNode { node },
        13 => ChangeRefusal::OtherCluster,
        14 => ChangeRefusal::OtherStore,
        15 => ChangeRefusal::NoTarget,
        16 => ChangeRefusal::Unheard { node },
        code => ChangeRefusal::Other(code),
    })
}

fn state() -> impl Strategy<Value = MembershipState> {
    let rows = proptest::collection::vec((node(), number(), varint(), any::<(bool, bool)>()), 0..5);
    let numbers = (number(), number(), number());
    (membership(), rows, numbers, 0..4usize, (node(), prop::option::of(node()), any::<bool>())).prop_map(
        |(membership, rows, (term, commit, version), outcome, (leader, transferring, is_settled))| {
            let member = |(node, at, lag, (is_heard, is_caught_up))| MemberProgress {
                node,
                match_index: Index(at),
                lag,
                is_heard,
                is_caught_up,
            };
            use ChangeOutcome::{NotAsked, Pending, Settled, Superseded};
            MembershipState {
                leader,
                term: Term(term),
                commit: Index(commit),
                version: Index(version),
                is_settled,
                outcome: [NotAsked, Pending, Settled, Superseded][outcome],
                transferring,
                membership,
                members: rows.into_iter().map(member).collect(),
            }
        },
    )
}

fn request_round_trips(request: &ClientRequest<'_>) {
    let (mut body, mut again) = (Vec::new(), Vec::new());
    encode_request(GroupId(3), request, &mut body);
    let (group, read) = decode_request(&body).unwrap();
    assert_eq!((group, &read), (GroupId(3), request));
    encode_request(group, &read, &mut again);
    assert_eq!(again, body);
}

fn reply_round_trips(reply: &ClientReply<'_>) {
    let (mut body, mut again) = (Vec::new(), Vec::new());
    encode_reply(GroupId(3), reply, &mut body);
    let (group, read) = decode_reply(&body).unwrap();
    assert_eq!((group, &read), (GroupId(3), reply));
    encode_reply(group, &read, &mut again);
    assert_eq!(again, body);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    // [W-79] [W-81] [W-84]
    #[test]
    fn questions_about_the_membership_round_trip(
        expected in prop::option::of(0..(1u64 << 60) - 1), change in change(),
        index in 1..1u64 << 60, term in number(), to in prop::option::of(node()),
    ) {
        let expected = expected.map(Index);
        request_round_trips(&ClientRequest::ChangeMembership(ChangeRequest { expected, change }));
        let term = (term > 0).then_some(Term(term));
        request_round_trips(&ClientRequest::Members { of: Some(Changed { index: Index(index), term }) });
        request_round_trips(&ClientRequest::Members { of: None });
        request_round_trips(&ClientRequest::TransferLeadership { to });
        request_round_trips(&ClientRequest::SetFaults(FaultRequest::Clear));
    }

    // [W-110]
    #[test]
    fn faults_round_trip(
        to in prop::option::of(node()), lasting_ms in 1..=FAULT_MS_MAX, is_blocked: bool,
        shares in prop::array::uniform8(0..=WHOLE_PPM), mtu in 0..1u64 << 62,
        spans in prop::array::uniform3(0..=FAULT_MS_MAX * 1000),
    ) {
        let links = to.map_or(if is_blocked { FaultLinks::Nodes } else { FaultLinks::Clients }, FaultLinks::Node);
        let [loss_ppm, to_bad, to_good, bad, good, duplicate_ppm, reorder_ppm, corrupt_ppm] = shares;
        let [delay_us, jitter_us, reorder_delay_us] = spans;
        let faults = LinkFaults {
            is_blocked, mtu, loss_ppm, burst_ppm: [to_bad, to_good, bad, good], delay_us, jitter_us, duplicate_ppm,
            reorder_ppm, reorder_delay_us, corrupt_ppm,
        };
        request_round_trips(&ClientRequest::SetFaults(FaultRequest::Set { links, lasting_ms, faults }));
    }

    // [W-80] [W-81]
    #[test]
    fn answers_about_the_membership_round_trip(
        state in state(), reason in refusal(), text in "[ -~]{0,200}", to in node(), numbers in (number(), number()),
    ) {
        reply_round_trips(&ClientReply::Members(Box::new(state)));
        reply_round_trips(&ClientReply::ChangeRefused { reason, text: &text });
        reply_round_trips(&ClientReply::Transferring { to, term: Term(numbers.0) });
        reply_round_trips(&ClientReply::FaultsSet);
        let term = (numbers.0 > 0).then_some(Term(numbers.0));
        reply_round_trips(&ClientReply::Changed(Changed { index: Index(numbers.1), term }));
    }
}

// [W-79] [W-80] [W-81] [W-110]
#[test]
fn what_no_encoder_writes_is_malformed() {
    let requests: [&[u8]; 8] = [
        // A change of no kind, of node 0, of an empty address; a transfer to a node that is none.
        &[0x47, 0, 0, 4, 0, 1],
        &[0x47, 0, 0, 1, 0, 0],
        &[0x47, 0, 0, 3, 0, 1, 0],
        &[0x49, 0, 0xff, 0xff],
        // Faults that are neither set nor cleared, for no time, of no kind of links, of a share above the whole.
        &[0x4c, 0, 2],
        &[0x4c, 0, 1, 0, 0],
        &[0x4c, 0, 1, 1, 3],
        &[0x4c, 0, 1, 1, 0, 0, 0, 0x80, 0x0f, 0x42, 0x41],
    ];
    for body in requests {
        assert_eq!(decode_request(body).map(|_| ()), Err(CursorError::Value), "{body:02x?}");
    }
    // Refused for no reason, an unknown node 0, a transfer to nobody.
    let replies: [&[u8]; 3] = [&[0x8f, 0, 0, 0, 0, 0], &[0x8f, 0, 3, 0, 0, 0], &[0x90, 0, 0, 0, 5]];
    for body in replies {
        assert_eq!(decode_reply(body).map(|_| ()), Err(CursorError::Value), "{body:02x?}");
    }
}
