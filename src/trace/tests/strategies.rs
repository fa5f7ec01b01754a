//! Events drawn at random.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::raft::RoleKind;
use crate::time::Instant;
use crate::trace::datagram::NUMBERS;
use crate::trace::{
    Boot, Change, DatagramEvent, Durable, Event, Frame, Header, Loss, Members, NoteKind, Outcome, Parties,
    Source, State, What,
};
use crate::types::{CallId, ClusterId, Incarnation, Index, NodeId, PacketNumber, StoreId, Term};
use crate::wire::{Class, DropReason, Party};

pub(super) fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), option::of(node()), node(), what()).prop_map(|(at, seen_by, owner, what)| {
        let is_owned = matches!(what, What::Boot(_) | What::Change(..));
        Event { at: Instant::from_nanos(at), node: if is_owned { Some(owner) } else { seen_by }, what }
    })
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        header().prop_map(What::Header),
        (any::<u32>(), any::<[u8; 16]>(), address()).prop_map(|(incarnation, store, address)| {
            What::Boot(Boot { incarnation: Incarnation(incarnation), store: StoreId(store), address })
        }),
        (select(&Change::ALL[..]), state()).prop_map(|(change, state)| What::Change(change, state)),
        datagram().prop_map(|datagram| What::Datagram(Box::new(datagram))),
        any::<u64>().prop_map(|events| What::Gap { events }),
        (select(&NoteKind::ALL[..]), any::<String>()).prop_map(|(kind, text)| What::Note(kind, text)),
    ]
}

fn header() -> impl Strategy<Value = Header> {
    let simulation = any::<u64>().prop_map(|seed| Source::Simulation { seed });
    let live = (any::<u32>(), any::<u64>())
        .prop_map(|(incarnation, unix_us)| Source::Node { incarnation: Incarnation(incarnation), unix_us });
    (prop_oneof![simulation, live], option::of(any::<[u8; 16]>()))
        .prop_map(|(source, cluster)| Header { source, cluster: cluster.map(ClusterId) })
}

fn state() -> impl Strategy<Value = State> {
    let roles = [RoleKind::Follower, RoleKind::PreCandidate, RoleKind::Candidate, RoleKind::Leader];
    let nodes = || vec(node(), 0..4);
    let members =
        (any::<u64>(), nodes(), nodes(), nodes()).prop_map(|(index, voters, outgoing, learners)| {
            Arc::new(Members { index: Index(index), voters, outgoing, learners })
        });
    let durable = (any::<u64>(), option::of(node()), any::<u64>()).prop_map(|(term, vote, last)| Durable {
        term: Term(term),
        vote,
        last_index: Index(last),
    });
    let who = (option::of(node()), option::of(node()), select(roles.to_vec()));
    (any::<[u64; 5]>(), who, durable, members).prop_map(
        |(numbers, (vote, leader, role), durable, members)| {
            let [term, commit, base, last_index, last_term] = numbers;
            State {
                term: Term(term),
                vote,
                role,
                leader,
                commit: Index(commit),
                base: Index(base),
                last_index: Index(last_index),
                last_term: Term(last_term),
                durable,
                members,
            }
        },
    )
}

fn datagram() -> impl Strategy<Value = DatagramEvent> {
    let outcome = prop_oneof![
        select(vec![
            Outcome::Sent,
            Outcome::Delivered,
            Outcome::Duplicated,
            Outcome::Damaged,
            Outcome::Refused
        ]),
        select(&DropReason::ALL[..]).prop_map(Outcome::Dropped),
        select(&Loss::ALL[..]).prop_map(Outcome::Lost),
    ];
    let parties = (option::of(node()), option::of(node()), any::<u32>(), any::<u32>(), any::<u64>());
    let header = parties.prop_map(|(from, to, from_incarnation, to_incarnation, packet)| Parties {
        from: from.map_or(Party::Any, Party::Node),
        to: to.map_or(Party::Any, Party::Node),
        from_incarnation: Incarnation(from_incarnation),
        to_incarnation: Incarnation(to_incarnation),
        packet: PacketNumber(packet),
    });
    let size = prop_oneof![any::<u64>().prop_map(Err), vec(any::<u8>(), 0..40).prop_map(Ok)];
    let content = (word(), vec(frame(), 0..4), prop_oneof![Just(0), any::<u64>()]);
    let ends = (outcome, address(), address(), option::of(header), option::of(any::<bool>()));
    (ends, size, content).prop_map(|(ends, size, (kind, frames, frames_left_out))| {
        let (outcome, from_address, to_address, header, is_retransmission) = ends;
        let (bytes, payload) = match size {
            Ok(payload) => (payload.len() as u64, Some(payload)),
            Err(bytes) => (bytes, None),
        };
        DatagramEvent {
            outcome,
            from_address,
            to_address,
            bytes,
            header,
            is_retransmission,
            kind,
            frames,
            frames_left_out,
            payload,
        }
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let numbers = subsequence(NUMBERS.to_vec(), 0..6).prop_flat_map(|names| {
        let values = vec(any::<u64>(), names.len());
        (Just(names), values)
            .prop_map(|(names, values)| names.into_iter().map(Cow::Borrowed).zip(values).collect::<Vec<_>>())
    });
    let class = option::of(select(vec![Class::Again, Class::Once]));
    let words = (word(), option::of(word()), option::of(word()));
    (words, option::of(any::<u64>()), class, numbers).prop_map(
        |((name, kind, answer), call, class, numbers)| Frame {
            name,
            call: call.map(CallId),
            class,
            kind,
            answer,
            numbers,
        },
    )
}

fn word() -> impl Strategy<Value = Cow<'static, str>> {
    "[a-z0-9-]{1,12}".prop_map(Cow::Owned)
}

fn node() -> impl Strategy<Value = NodeId> {
    (1..=65_534_u16).prop_map(|number| NodeId::new(number).unwrap())
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(SocketAddr::from),
    ]
}
