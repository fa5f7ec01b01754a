//! Bodies: one of every kind, and those that are malformed.

use std::collections::BTreeMap;

use raftgram::entry::Payload;
use raftgram::founding::FoundingRecord;
use raftgram::membership::{Member, Members, Membership};
use raftgram::message::{
    Append, AppendEntry, AppendOutcome, AppendReply, Heartbeat, HeartbeatReply, Message, RangeOutcome,
    RangeReply, RangeRequest, ReadIndex, ReadIndexReply, ReadProbe, SnapshotOffer, SnapshotOfferReply,
    SnapshotOutcome, Transfer, TransferReply, VoteReply, VoteRequest,
};
use raftgram::snapshot::{SnapshotId, SnapshotMeta};
use raftgram::types::{GroupId, Incarnation, Index, NodeId, Round, Sequence, SessionId, StoreId, Term};
use raftgram::wire::client::{
    ClientReply, ClientRequest, LeaderHint, Outcome, Propose, ReadLevel, RefusalCode, encode_reply,
    encode_request,
};
use raftgram::wire::digest::{LAYOUT, StateDigests, WindowDigest, encode_digests};
use raftgram::wire::peer::encode_message;
use raftgram::wire::print::print_body;
use raftgram::wire::status::{
    Divergence, DivergenceKind, DropCount, NodeRole, NodeStatus, PeerStatus, RepairStatus, Standing,
    TransferStatus,
};
use raftgram::wire::transfer::{Pull, PullReply, encode_pull, encode_pull_reply};
use raftgram::wire::watch::{Watch, WatchEvent, Watched};
use raftgram::wire::{Ranges, Span};

use super::case::{Case, Kind};
use super::datagrams::CLUSTER;
use super::members;

fn case(name: &str, bytes: Vec<u8>, expect: &str) -> Case {
    let fields = if expect == "accept" { print_body(&bytes).as_slice().to_vec() } else { Vec::new() };
    Case {
        name: format!("body-{name}"),
        kind: Kind::Body,
        bytes,
        cluster: CLUSTER,
        context: BTreeMap::new(),
        keys: BTreeMap::new(),
        fields,
        expect: expect.to_owned(),
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, message) in messages() {
        let mut body = Vec::new();
        encode_message(GroupId(0), &message, &mut body);
        cases.push(case(name, body, "accept"));
    }
    for (name, body) in transfer_bodies() {
        cases.push(case(name, body, "accept"));
    }
    for (name, request) in requests().into_iter().chain(members::requests()) {
        let mut body = Vec::new();
        encode_request(GroupId(0), &request, &mut body);
        cases.push(case(name, body, "accept"));
    }
    for (name, reply) in replies().into_iter().chain(members::replies()) {
        let mut body = Vec::new();
        encode_reply(GroupId(0), &reply, &mut body);
        cases.push(case(name, body, "accept"));
    }
    cases.extend(malformed());
    cases
}

// [W-42] [W-43] [W-44] [W-46] [W-48] [W-54] [W-55] [W-61] [W-62]
fn malformed() -> Vec<Case> {
    let mut above = vec![0x08, 0];
    above.extend_from_slice(&(0xc000_0000_0000_0000u64 | 1 << 60).to_be_bytes());
    above.push(0);
    let mut other_group = vec![0x08, 0x40];
    other_group.extend_from_slice(&[0x40, 5, 9]);
    let rows: [(&str, Vec<u8>, &str); 25] = [
        ("empty", vec![], "malformed"),
        ("grease", vec![0x3f, 0, 1], "malformed"),
        ("unknown-request", vec![0x7f, 0], "malformed"),
        ("unknown-reply", vec![0xbf, 0], "malformed"),
        ("no-family", vec![0xc0, 0], "malformed"),
        ("term-of-2-to-the-60", above, "malformed"),
        ("cut-short", vec![0x07, 0, 5, 9], "malformed"),
        ("trailing-bytes-are-ignored", vec![0x08, 0, 5, 9, 0xee], "accept"),
        ("neither-yes-nor-no", vec![0x0c, 0, 5, 2], "malformed"),
        ("long-varint", vec![0x08, 0, 0x40, 5, 9], "malformed"),
        ("session-0", vec![0x41, 0, 0], "malformed"),
        ("sequence-0", vec![0x42, 0, 9, 0, 0], "malformed"),
        ("33-ranges", vec![0x42, 0, 9, 1, 33], "malformed"),
        ("pull-within-the-file", pull_of(40, 60), "accept"),
        ("digests-of-an-odd-window", vec![0x18, 0, 1, 1, 0x40, 64, 0x40, 65, 0, 0, 0, 1, 0], "malformed"),
        ("pull-beyond-the-file", pull_of(41, 60), "malformed"),
        ("pull-of-nothing", pull_of(40, 0), "malformed"),
        (
            "offer-of-a-snapshot-of-nothing",
            [vec![0x10, 0, 5, 0, 0], vec![0; 4], vec![9], vec![0; 8]].concat(),
            "malformed",
        ),
        ("range-of-one-entry", vec![0x14, 0, 5, 7, 9, 12, 12], "accept"),
        ("range-of-nothing", vec![0x14, 0, 5, 7, 9, 12, 11], "malformed"),
        ("range-before-the-damage", vec![0x14, 0, 5, 7, 9, 8, 0], "malformed"),
        ("range-from-0", vec![0x14, 0, 5, 7, 0, 8, 0], "malformed"),
        ("range-reply-of-no-leader-with-a-commit", vec![0x15, 0, 5, 7, 0, 9, 2], "malformed"),
        (
            "range-reply-with-an-entry-of-a-later-term",
            vec![0x15, 0, 5, 7, 0, 0, 0, 1, 2, 3, 4, 0x18, 0],
            "malformed",
        ),
        ("membership-without-voters", [vec![0x8b, 0], vec![7; 16], vec![0, 0, 0]].concat(), "malformed"),
    ];
    rows.into_iter().map(|(name, bytes, expect)| case(name, bytes, expect)).collect()
}

pub(super) fn membership() -> Membership {
    let members = |ids: &[u16]| -> Members {
        let member =
            |id: &u16| Member { store: StoreId([*id as u8; 16]), address: format!("10.0.0.{id}:7101") };
        ids.iter().map(|id| (NodeId::new(*id).unwrap(), member(id))).collect()
    };
    Membership { voters: members(&[1, 2, 3]), outgoing: members(&[1, 4]), learners: members(&[9]) }
}

fn founders() -> Membership {
    Membership { outgoing: Members::new(), learners: Members::new(), ..membership() }
}

fn meta() -> SnapshotMeta {
    let id = SnapshotId { index: Index(900_000), term: Term(4), chain: 0x1234_5678 };
    SnapshotMeta { id, bytes: 1 << 20, digest: 0x0123_4567_89ab_cdef }
}

// [W-54] [W-55] [W-56]
fn transfer_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let body = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        out
    };
    let pull = Pull { meta: meta(), offset: 131_072, length: 65_536 };
    let data = PullReply::Data { digest: meta().digest, offset: 131_072, bytes: b"the bytes" };
    // [W-92] [W-93]
    let window = |span, last| WindowDigest { span, last: Index(last), digest: 0x0102_0304 };
    let windows = vec![window(64, 1_000_000), window(4_096, 999_424)];
    let snapshot = Some((1, Index(900_000), 0x0102_0304_0506_0708));
    let digests = StateDigests { layout: LAYOUT, windows, snapshot };
    let bare = StateDigests { layout: LAYOUT, ..StateDigests::default() };
    vec![
        ("state-digests", body(&|out| encode_digests(GroupId(0), &digests, out))),
        ("state-digests-of-nothing", body(&|out| encode_digests(GroupId(0), &bare, out))),
        ("snapshot-pull", body(&|out| encode_pull(GroupId(0), &pull, out))),
        ("snapshot-data", body(&|out| encode_pull_reply(GroupId(0), &data, out))),
        ("snapshot-not-here", body(&|out| encode_pull_reply(GroupId(0), &PullReply::NotHere, out))),
    ]
}

/// A pull of this range of a file of 100 bytes.
fn pull_of(offset: u8, length: u8) -> Vec<u8> {
    [vec![0x12, 0, 9, 4, 0, 0, 0, 1, 0x40, 100], vec![0; 8], vec![offset, length]].concat()
}

fn messages() -> Vec<(&'static str, Message)> {
    let term = Term(5);
    let vote = VoteRequest {
        term,
        campaign_term: Term(6),
        campaign: 3,
        last_index: Index(1_000_000),
        last_term: Term(4),
        is_transfer: false,
    };
    let vote_reply = VoteReply { term, campaign_term: Term(6), campaign: 3, is_granted: true };
    let append_reply = |outcome| Message::AppendReply(AppendReply { term, attempt: 2, outcome });
    let prev_index = Index(1_000_000);
    let refused = AppendOutcome::Refused {
        prev_index,
        conflict_term: Term(4),
        conflict_index: Index(999_990),
        last_index: Index(1_000_007),
    };
    let probe = ReadProbe { term, round: Round(77) };
    let offer_reply = |match_index, outcome| {
        let (index, match_index) = (meta().id.index, Index(match_index));
        Message::SnapshotOfferReply(SnapshotOfferReply { term, index, match_index, outcome })
    };
    // [W-61] [W-62]
    let question = 7 << 30 | 1;
    let range = |last| {
        let (damaged_from, first, last) = (Index(1_000_001), Index(1_000_003), Index(last));
        Message::Range(RangeRequest { term, question, damaged_from, first, last })
    };
    let range_reply = |commit, outcome| Message::RangeReply(RangeReply { term, question, commit, outcome });
    let read_index_reply = |index| Message::ReadIndexReply(ReadIndexReply { term, question, index });
    let Append { entries, chain, .. } = append();
    let entries = RangeOutcome::Entries { entries, chain };
    let nothing_behind = RangeOutcome::Entries { entries: Vec::new(), chain };
    vec![
        ("snapshot-offer", Message::SnapshotOffer(SnapshotOffer { term, meta: meta() })),
        ("snapshot-offer-reply-pulling", offer_reply(0, SnapshotOutcome::Pulling { bytes: 65_536 })),
        ("snapshot-offer-reply-transferred", offer_reply(0, SnapshotOutcome::Transferred)),
        ("snapshot-offer-reply-installed", offer_reply(900_000, SnapshotOutcome::Installed)),
        ("range", range(1_000_007)),
        ("range-to-no-known-end", range(0)),
        ("range-reply-entries", range_reply(None, entries)),
        ("range-reply-of-the-leader", range_reply(Some(Index(999_999)), nothing_behind)),
        ("range-reply-covered", range_reply(None, RangeOutcome::Covered { meta: meta() })),
        ("range-reply-nothing", range_reply(None, RangeOutcome::Nothing)),
        // [W-90] [W-91]
        ("read-index", Message::ReadIndex(ReadIndex { term, question })),
        ("read-index-reply", read_index_reply(Some(Index(1_000_000)))),
        ("read-index-reply-of-no-leader", read_index_reply(None)),
        ("pre-vote", Message::PreVote(vote)),
        ("pre-vote-reply", Message::PreVoteReply(vote_reply)),
        ("vote", Message::Vote(VoteRequest { term: Term(6), is_transfer: true, ..vote })),
        ("vote-reply", Message::VoteReply(VoteReply { is_granted: false, ..vote_reply })),
        ("append", Message::Append(append())),
        ("append-empty", Message::Append(Append { entries: vec![], commit: Index(0), ..append() })),
        ("append-reply-accepted", append_reply(AppendOutcome::Accepted { match_index: Index(1_000_003) })),
        ("append-reply-refused", append_reply(refused)),
        ("append-reply-evicted", append_reply(AppendOutcome::Evicted { prev_index })),
        ("heartbeat", Message::Heartbeat(Heartbeat { term, round: Round(9), commit: Index(1_000_000) })),
        ("heartbeat-reply", Message::HeartbeatReply(HeartbeatReply { term, round: Round(9) })),
        ("read-probe", Message::ReadProbe(probe)),
        ("read-probe-reply", Message::ReadProbeReply(probe)),
        (
            "transfer",
            Message::Transfer(Transfer { term, incarnation: Incarnation(7), last_index: Index(1_000_000) }),
        ),
        ("transfer-reply", Message::TransferReply(TransferReply { term, is_taken: true })),
    ]
}

fn append() -> Append {
    let entry = |term, payload| AppendEntry { term: Term(term), payload };
    Append {
        term: Term(5),
        attempt: 1,
        prev_index: Index(1_000_000),
        prev_term: Term(3),
        commit: Index(999_999),
        entries: vec![
            entry(4, Payload::Command((*b"put").into())),
            entry(5, Payload::Noop),
            entry(5, Payload::Membership(membership().into())),
        ],
        chain: 0x0102_0304,
    }
}

fn requests() -> Vec<(&'static str, ClientRequest<'static>)> {
    let session = SessionId(Index(1_000_000));
    let propose = Propose {
        session,
        sequence: Sequence(7),
        finished: Ranges::of(&[Span { first: 1, last: 6 }]),
        command: b"hello",
    };
    vec![
        ("open-session", ClientRequest::OpenSession),
        ("close-session", ClientRequest::CloseSession { session }),
        ("propose", ClientRequest::Propose(propose)),
        (
            "propose-first",
            ClientRequest::Propose(Propose { sequence: Sequence(1), finished: Ranges::EMPTY, ..propose }),
        ),
        ("read-linearizable", ClientRequest::Read { level: ReadLevel::Linearizable, query: b"?" }),
        ("read-lease", ClientRequest::Read { level: ReadLevel::Lease, query: b"?" }),
        ("read-local", ClientRequest::Read { level: ReadLevel::Local, query: b"" }),
        ("status", ClientRequest::Status),
        ("founding", ClientRequest::Founding),
        ("take-snapshot", ClientRequest::TakeSnapshot { through: Index(0) }),
        // [W-100]
        (
            "watch",
            ClientRequest::Watch(Watch { after: Index(1_000_000), wait_us: 1_000_000, filter: b"col" }),
        ),
        (
            "watch-all-and-wait-for-nothing",
            ClientRequest::Watch(Watch { after: Index(0), wait_us: 0, filter: b"" }),
        ),
    ]
}

fn replies() -> Vec<(&'static str, ClientReply<'static>)> {
    let outcome = Outcome { index: Index(1_000_001), term: Term(5), result: b"world" };
    let leader = LeaderHint { node: NodeId::new(2).unwrap(), address: "10.0.0.2:7101" };
    vec![
        ("session-opened", ClientReply::SessionOpened { session: SessionId(Index(1_000_000)) }),
        ("session-closed", ClientReply::SessionClosed),
        ("applied", ClientReply::Applied(outcome)),
        ("read-result", ClientReply::Read(Outcome { result: b"", ..outcome })),
        ("node-status", ClientReply::Status(Box::new(status()))),
        ("redirect", ClientReply::Redirect { leader: Some(leader) }),
        ("redirect-to-nobody", ClientReply::Redirect { leader: None }),
        ("busy", ClientReply::Busy { retry_after_us: 5000 }),
        ("session-expired", ClientReply::SessionExpired),
        ("sequence-finished", ClientReply::SequenceFinished),
        ("too-large", ClientReply::TooLarge { bytes_max: 1 << 24 }),
        ("refused", ClientReply::Refused { code: RefusalCode::Unavailable, text: "leaving" }),
        ("refused-later-code", ClientReply::Refused { code: RefusalCode::Other(99), text: "" }),
        ("founded", ClientReply::Founded(FoundingRecord { cluster: CLUSTER, membership: founders() })),
        (
            "snapshot-state",
            ClientReply::SnapshotState { taken: Index(1_000_002), in_force: Some(snapshot()) },
        ),
        ("snapshot-state-none", ClientReply::SnapshotState { taken: Index(0), in_force: None }),
        // [W-101] [W-102] [W-104]
        ("watched", ClientReply::Watched(watched(&[(1_000_003, PUT_EVENT)]))),
        ("watched-two", ClientReply::Watched(watched(&[(1_000_003, PUT_EVENT), (1_000_007, b"\x01color")]))),
        ("watched-nothing", ClientReply::Watched(watched(&[]))),
        ("compacted", ClientReply::Compacted { oldest: Index(999_000) }),
    ]
}

/// `blue` put to `color`.
const PUT_EVENT: &[u8] = b"\x00\x05colorblue";

fn watched(events: &[(u64, &'static [u8])]) -> Watched<'static> {
    let event = |&(index, event)| WatchEvent { index: Index(index), term: Term(5), event };
    Watched { through: Index(1_000_007), events: events.iter().map(event).collect() }
}

fn snapshot() -> SnapshotMeta {
    let id = SnapshotId { index: Index(1_000_000), term: Term(5), chain: 0x5974_6b01 };
    SnapshotMeta { id, bytes: 1 << 20, digest: 0xcbf2_9ce4_8422_2325 }
}

fn status() -> NodeStatus {
    let node = NodeId::MIN;
    NodeStatus {
        node,
        address: "[::1]:7101".to_owned(),
        role: NodeRole::Leader,
        term: Term(5),
        commit: Index(1_000_000),
        applied: Index(999_999),
        last: Index(1_000_001),
        incarnation: Incarnation(7),
        cluster: CLUSTER,
        store: StoreId([1; 16]),
        leader: Some(node),
        membership: Some(founders()),
        peers: vec![PeerStatus { node: NodeId::new(2).unwrap(), rtt_us: 95, retransmits: 4, loss_ppm: 1000 }],
        received: 1010,
        accepted: 1000,
        retransmits: 4,
        duplicates: 2,
        drops: vec![
            DropCount { reason: "short".to_owned(), count: 7 },
            DropCount { reason: "replay".to_owned(), count: 3 },
        ],
        snapshot: Index(900_000),
        transfers: vec![TransferStatus {
            to: NodeId::new(3).unwrap(),
            index: Index(900_000),
            bytes: 65_536,
            bytes_total: 1 << 30,
            is_transferred: false,
        }],
        // [W-65]
        damage: 2,
        repair: Some(RepairStatus {
            first: Index(900_010),
            last: Some(Index(900_020)),
            fetched: 4,
            from: NodeId::new(3),
        }),
        // [W-85]
        version: Index(900_100),
        standing: Standing::Member,
        agreed: Index(999_936),
        divergences: vec![Divergence {
            node: NodeId::new(3).unwrap(),
            kind: DivergenceKind::Results,
            after: Index(999_872),
            through: Index(999_936),
        }],
        sent: 1_000_500,
        sent_bytes: 100_000_000,
    }
}
