//! Random frames, messages and headers. Small numbers and the largest ones come often.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::cursor::VARINT_MAX;
use crate::entry::Payload;
use crate::membership::{Member, Members, Membership};
use crate::message::{
    Append, AppendEntry, AppendOutcome, AppendReply, Heartbeat, HeartbeatReply, Message, RangeOutcome,
    RangeReply, RangeRequest, ReadIndex, ReadIndexReply, ReadProbe, SnapshotOffer, SnapshotOfferReply,
    SnapshotOutcome, Transfer, TransferReply, VoteReply, VoteRequest,
};
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::types::{
    BootNonce, CallId, ClusterId, Incarnation, Index, NodeId, PacketNumber, Round, StoreId, Term,
};
use crate::wire::body::NUMBER_MAX;
use crate::wire::{
    Ack, CallRefusal, Class, Confirm, Description, Flags, Fragment, Frame, Greeting, Header, Hello, HelloAck,
    Party, Ranges, SealOffer, SealRefusal, Span, Welcome,
};

pub(super) const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

/// A frame's bytes, and how it shows itself: frames borrow, so a strategy cannot hand them out.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) shown: String,
}

impl Encoded {
    fn of(frame: Frame<'_>) -> Self {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(bytes.len(), frame.encoded_bytes(), "{frame:?}");
        Self { bytes, shown: format!("{frame:?}") }
    }
}

pub(super) fn varint() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..100, 0..=VARINT_MAX, Just(VARINT_MAX), Just(63), Just(64)]
}

/// A term or an index.
pub(super) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..100, 0..=NUMBER_MAX, Just(NUMBER_MAX)]
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..max)
}

/// Descending ranges that do not touch.
pub(super) fn spans(min: usize) -> impl Strategy<Value = Vec<Span>> {
    vec((0u64..1000, 0u64..1000), min..=32).prop_map(|steps| {
        let mut next = 0;
        let mut spans: Vec<Span> = Vec::new();
        for (gap, length) in steps {
            let span = Span::new(next + gap, next + gap + length);
            next = span.last + 2;
            spans.push(span);
        }
        spans.reverse();
        spans
    })
}

pub(super) fn header() -> impl Strategy<Value = Header> {
    let party = || {
        prop_oneof![(1..=65_534u16).prop_map(|id| Party::Node(NodeId::new(id).unwrap())), Just(Party::Any)]
    };
    let flags = any::<u8>().prop_map(|bits| Flags(bits & !Flags::SEALED.0));
    let tag = prop_oneof![Just(0), Just(CLUSTER.tag())];
    (flags, tag, party(), party(), any::<u32>(), any::<u32>(), 1..=VARINT_MAX).prop_map(
        |(flags, cluster_tag, source, destination, from, to, packet)| Header {
            flags,
            cluster_tag,
            source,
            destination,
            source_incarnation: Incarnation(from),
            destination_incarnation: Incarnation(to),
            packet: PacketNumber(packet),
        },
    )
}

fn description() -> impl Strategy<Value = Description> {
    let ids = any::<([u8; 16], [u8; 16], [u8; 16])>();
    let greeting =
        prop_oneof![Just(Greeting::Plain), any::<u64>().prop_map(|digest| Greeting::Founding { digest })];
    (any::<(u8, u8, u64, u16)>(), ids, [varint(), varint(), varint(), varint()], greeting).prop_map(
        |((version_min, version_max, features, datagram_bytes_max), ids, spans, greeting)| Description {
            version_min,
            version_max,
            features,
            store: StoreId(ids.0),
            boot_nonce: BootNonce(ids.1),
            cluster: ClusterId(ids.2),
            election_timeout_min_us: spans[0],
            election_timeout_max_us: spans[1],
            heartbeat_us: spans[2],
            datagram_bytes_max,
            credit_bytes: spans[3],
            greeting,
        },
    )
}

pub(super) fn frame() -> impl Strategy<Value = Encoded> {
    prop_oneof![handshake_frame(), link_frame(), call_frame()]
}

fn handshake_frame() -> impl Strategy<Value = Encoded> {
    (0..8, any::<(u64, u64, u32, u8, u8)>(), description()).prop_map(
        |(which, (nonce_a, nonce_b, incarnation, min, max), description)| {
            Encoded::of(match which {
                0 => Frame::Hello(Hello { nonce_a, description }),
                1 => Frame::HelloAck(HelloAck { nonce_a, nonce_b, description }),
                2 => Frame::Confirm(Confirm { nonce_a, nonce_b }),
                3 => Frame::Welcome(Welcome { nonce_a, incarnation: Incarnation(incarnation) }),
                4 => Frame::Version { min, max },
                5 => Frame::Seal(SealOffer { session: incarnation, message: [max; 48] }),
                6 => Frame::SealRefused { reason: refusal(max) },
                _ => Frame::StaleIncarnation { current: Incarnation(incarnation) },
            })
        },
    )
}

fn refusal(code: u8) -> SealRefusal {
    match code {
        1 => SealRefusal::SealRequired,
        2 => SealRefusal::KeyUnknown,
        3 => SealRefusal::NoSeal,
        code => SealRefusal::Other(code),
    }
}

fn link_frame() -> impl Strategy<Value = Encoded> {
    (0..4, varint(), spans(1), 0usize..200).prop_map(|(which, number, spans, bytes)| {
        Encoded::of(match which {
            0 => Frame::Padding { bytes },
            1 => Frame::Ack(Ack { delay_us: number, packets: Ranges::of(&spans) }),
            2 => Frame::Credit { bytes_total: number },
            _ => Frame::MtuProbe { bytes },
        })
    })
}

fn call_frame() -> impl Strategy<Value = Encoded> {
    let class = prop_oneof![Just(Class::Again), Just(Class::Once)];
    (0..8, varint(), class, bytes(200), spans(1), 0u64..1000, any::<u8>()).prop_map(
        |(which, call, class, body, spans, offset, code)| {
            let call = CallId(call);
            let part_bytes: &[u8] = if body.is_empty() { &[9] } else { &body };
            let total_bytes = offset + part_bytes.len() as u64 + u64::from(code);
            let part = Fragment { total_bytes, offset, bytes: part_bytes };
            let reason = match code {
                1 => CallRefusal::Busy,
                2 => CallRefusal::LinkUnknown,
                3 => CallRefusal::TooLarge,
                code => CallRefusal::Other(code),
            };
            Encoded::of(match which {
                0 => Frame::Request { call, class, body: &body },
                1 => Frame::RequestFragment { call, class, part },
                2 => Frame::Reply { call, body: &body },
                3 => Frame::ReplyFragment { call, part },
                4 => Frame::Cancel { call },
                5 => Frame::Finished { calls: Ranges::of(&spans) },
                6 => Frame::CallRefused { call, reason },
                _ => Frame::Notice { body: &body },
            })
        },
    )
}

pub(super) fn membership() -> impl Strategy<Value = Membership> {
    let members = |ids: std::ops::Range<u16>, min: usize| {
        vec((ids, any::<[u8; 16]>(), "[a-z]{1,9}:[0-9]{1,5}"), min..4).prop_map(|rows| {
            rows.into_iter()
                .map(|(id, store, address)| {
                    (NodeId::new(id).unwrap(), Member { store: StoreId(store), address })
                })
                .collect::<Members>()
        })
    };
    (members(1..100, 1), members(100..200, 0), members(200..65_535, 0))
        .prop_map(|(voters, outgoing, learners)| Membership { voters, outgoing, learners })
}

fn append() -> impl Strategy<Value = Append> {
    let payload = prop_oneof![
        4 => bytes(200).prop_map(|bytes| Payload::Command(bytes.into())),
        1 => Just(Payload::Noop),
        1 => membership().prop_map(|membership| Payload::Membership(membership.into())),
    ];
    let entries = vec((number(), payload), 0..6);
    (number(), varint(), number(), number(), number(), any::<u32>(), entries).prop_map(
        |(term, attempt, prev_index, prev_term, commit, chain, entries)| Append {
            term: Term(term),
            attempt,
            prev_index: Index(prev_index),
            // No entry is of a higher term than the leader that sends it.
            prev_term: Term(prev_term.min(term)),
            commit: Index(commit),
            entries: entries
                .into_iter()
                .map(|(entry_term, payload)| AppendEntry { term: Term(entry_term.min(term)), payload })
                .collect(),
            chain,
        },
    )
}

pub(super) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        3 => append().prop_map(Message::Append),
        2 => range_reply().prop_map(Message::RangeReply),
        10 => small_message(),
    ]
}

// [W-62]
fn range_reply() -> impl Strategy<Value = RangeReply> {
    (append(), varint(), prop::option::of(number()), 0..3u8).prop_map(|(append, question, commit, which)| {
        let Append { term, entries, chain, .. } = append;
        let meta = SnapshotMeta {
            id: SnapshotId { index: Index(1 + question % 99), term: Term(3), chain },
            bytes: 9,
            digest: question,
        };
        let outcome = match which {
            0 => RangeOutcome::Entries { entries, chain },
            1 => RangeOutcome::Covered { meta },
            _ => RangeOutcome::Nothing,
        };
        RangeReply { term, question, commit: commit.map(Index), outcome }
    })
}

// [W-61]
fn range(term: Term, question: u64, indexes: [Index; 3], is_open: bool) -> RangeRequest {
    let [first, second, third] = indexes.map(|index| index.0);
    RangeRequest {
        term,
        question,
        damaged_from: Index(first.clamp(1, second.max(1))),
        first: Index(second.max(1)),
        last: if is_open { Index(0) } else { Index(second.max(third).max(1)) },
    }
}

fn small_message() -> impl Strategy<Value = Message> {
    let indexes = [number(), number(), number()];
    (0..21, [number(), number(), number()], indexes, varint(), any::<(u32, bool)>()).prop_map(
        |(which, terms, indexes, count, (incarnation, yes))| {
            let [term, campaign_term, other_term] = terms.map(Term);
            let [first, second, third] = indexes.map(Index);
            let round = Round(count);
            let vote = VoteRequest {
                term,
                campaign_term,
                campaign: count,
                last_index: first,
                last_term: other_term,
                is_transfer: yes,
            };
            let vote_reply = VoteReply { term, campaign_term, campaign: count, is_granted: yes };
            let append_reply = |outcome| Message::AppendReply(AppendReply { term, attempt: count, outcome });
            let offer_reply = |outcome| {
                let (index, match_index) = (first, second);
                Message::SnapshotOfferReply(SnapshotOfferReply { term, index, match_index, outcome })
            };
            match which {
                0 => Message::PreVote(vote),
                1 => Message::PreVoteReply(vote_reply),
                2 => Message::Vote(vote),
                3 => Message::VoteReply(vote_reply),
                4 => append_reply(AppendOutcome::Accepted { match_index: first }),
                5 => append_reply(AppendOutcome::Refused {
                    prev_index: first,
                    conflict_term: other_term,
                    conflict_index: second,
                    last_index: third,
                }),
                6 => append_reply(AppendOutcome::Evicted { prev_index: first }),
                7 => Message::Heartbeat(Heartbeat { term, round, commit: first }),
                8 => Message::HeartbeatReply(HeartbeatReply { term, round }),
                9 => Message::ReadProbe(ReadProbe { term, round }),
                10 => Message::ReadProbeReply(ReadProbe { term, round }),
                11 => Message::Transfer(Transfer {
                    term,
                    incarnation: Incarnation(incarnation),
                    last_index: first,
                }),
                12 => Message::SnapshotOffer(SnapshotOffer {
                    term,
                    meta: SnapshotMeta {
                        id: SnapshotId {
                            index: Index(first.0.max(1)),
                            term: Term(other_term.0.max(1)),
                            chain: incarnation,
                        },
                        bytes: count.max(1),
                        digest: count.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                    },
                }),
                13 => offer_reply(SnapshotOutcome::Pulling { bytes: count }),
                14 => offer_reply(SnapshotOutcome::Transferred),
                15 => offer_reply(SnapshotOutcome::Installed),
                16 => Message::Range(range(term, count, [first, second, third], yes)),
                17 => Message::ReadIndex(ReadIndex { term, question: count }),
                18 | 19 => Message::ReadIndexReply(ReadIndexReply {
                    term,
                    question: count,
                    index: yes.then_some(first),
                }),
                _ => Message::TransferReply(TransferReply { term, is_taken: yes }),
            }
        },
    )
}
