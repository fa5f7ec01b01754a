//! From a datagram's bytes to its event.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::message::{AppendOutcome, Message, RangeOutcome, SnapshotOutcome, VoteReply, VoteRequest};
use crate::time::Instant;
use crate::trace::event::{DatagramEvent, Event, Frame, Outcome, Parties, What};
use crate::types::{CallId, Incarnation, Index, NodeId};
use crate::wire::body::{BodyFamily, body_kind, family};
use crate::wire::client::{ClientReply, ClientRequest, decode_reply, decode_request};
use crate::wire::peer::decode_message;
use crate::wire::print::{message_name, reply_name, request_name};
use crate::wire::{self, DropReason, Flags, Frame as WireFrame};

/// How many frames of calls are remembered for each path, to recognise those that are sent again. What is sent
/// again after as many others passes for new.
const REMEMBERED_MAX: usize = 4096;

/// How many paths are remembered; when more are used, all are forgotten.
const PATHS_MAX: usize = 4096;

/// Whether events hold the bytes of their datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payloads {
    /// All of them, for captures.
    Kept,
    /// None.
    LeftOut,
}

/// A datagram that somebody saw.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// When.
    pub at: Instant,
    /// Who, if a node did.
    pub seen_by: Option<NodeId>,
    /// Where it was sent from.
    pub from: SocketAddr,
    /// Where it was sent to.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// What it would have been in plain, if it was sealed and somebody could open it.
    pub opened: Option<&'a [u8]>,
    /// What became of it.
    pub outcome: Outcome,
}

/// Makes events of datagrams. It remembers what was sent, to tell what is sent again.
#[derive(Clone, Debug)]
pub struct Datagrams {
    payloads: Payloads,
    sent: BTreeMap<Path, BTreeSet<Piece>>,
}

/// One way of a link, for one boot of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Path {
    from: SocketAddr,
    to: SocketAddr,
    incarnation: Incarnation,
}

/// What of a call is sent again as it is. The oldest call is the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    call: CallId,
    frame_type: u8,
    offset: u64,
}

impl Datagrams {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(payloads: Payloads) -> Self {
        Self { payloads, sent: BTreeMap::new() }
    }

    /// The event of a datagram; checksums are not looked at.
    #[must_use]
    pub fn read(&mut self, sight: &Sight<'_>) -> Event {
        let Sight { at, seen_by, from, to, bytes, opened, outcome } = *sight;
        let mut event = DatagramEvent {
            outcome,
            from_address: from,
            to_address: to,
            bytes: bytes.len() as u64,
            header: None,
            is_retransmission: (outcome == Outcome::Sent).then_some(false),
            kind: Cow::Borrowed("unreadable"),
            frames: Vec::new(),
            frames_left_out: 0,
            payload: (self.payloads == Payloads::Kept).then(|| bytes.to_vec()),
        };
        let plain = opened.unwrap_or(bytes);
        if let Ok(header) = wire::parse_header(plain) {
            event.header = Some(Parties {
                from: header.source,
                to: header.destination,
                from_incarnation: header.source_incarnation,
                to_incarnation: header.destination_incarnation,
                packet: header.packet,
            });
            let path = Path { from, to, incarnation: header.source_incarnation };
            event.kind = match frames_of(&header, plain) {
                Ok(frames) => self.read_frames(frames, path, &mut event),
                Err(why) => Cow::Borrowed(why),
            };
        }
        Event { at, node: seen_by, what: What::Datagram(Box::new(event)) }
    }

    /// Lists the frames; says what the datagram is above all.
    fn read_frames(
        &mut self,
        frames: wire::Frames<'_>,
        path: Path,
        event: &mut DatagramEvent,
    ) -> Cow<'static, str> {
        for frame in frames.filter(|frame| !matches!(frame, WireFrame::Padding { .. })) {
            if event.outcome == Outcome::Sent && self.was_sent(path, &frame) {
                event.is_retransmission = Some(true);
            }
            if event.frames.len() < DatagramEvent::FRAMES_MAX {
                event.frames.push(summary(&frame));
            } else {
                event.frames_left_out += 1;
            }
        }
        let kind = event.frames.iter().find_map(|frame| frame.kind.clone());
        let first = || event.frames.first().map(|frame| frame.name.clone());
        kind.or_else(first).unwrap_or(Cow::Borrowed("padding"))
    }

    /// Takes note of what of a call is sent; true when it was sent before.
    fn was_sent(&mut self, path: Path, frame: &WireFrame<'_>) -> bool {
        let (call, offset) = match *frame {
            WireFrame::Request { call, .. }
            | WireFrame::Reply { call, .. }
            | WireFrame::Cancel { call }
            | WireFrame::CallRefused { call, .. } => (call, 0),
            WireFrame::RequestFragment { call, part, .. } | WireFrame::ReplyFragment { call, part } => {
                (call, part.offset)
            }
            _ => return false,
        };
        let piece = Piece { call, frame_type: frame.frame_type(), offset };
        if self.sent.len() >= PATHS_MAX && !self.sent.contains_key(&path) {
            self.sent.clear();
        }
        let sent = self.sent.entry(path).or_default();
        let is_new = sent.insert(piece);
        if sent.len() > REMEMBERED_MAX {
            sent.pop_first();
        }
        !is_new
    }
}

fn frames_of<'a>(header: &wire::Header, bytes: &'a [u8]) -> Result<wire::Frames<'a>, &'static str> {
    if header.flags.contains(Flags::SEALED) {
        return Err("sealed");
    }
    wire::frames(header, bytes).map_err(|reason| match reason {
        DropReason::UnknownCriticalFrame => "unknown",
        _ => "malformed",
    })
}

fn summary(frame: &WireFrame<'_>) -> Frame {
    let mut summary = Frame { name: Cow::Borrowed(frame.name()), ..Frame::default() };
    match *frame {
        WireFrame::Request { call, class, body } => {
            summary.call = Some(call);
            summary.class = Some(class);
            put_body(body, &mut summary);
        }
        WireFrame::Reply { call, body } => {
            summary.call = Some(call);
            put_body(body, &mut summary);
        }
        WireFrame::RequestFragment { call, class, ref part } => {
            summary.call = Some(call);
            summary.class = Some(class);
            put_fragment(part, &mut summary);
        }
        WireFrame::ReplyFragment { call, ref part } => {
            summary.call = Some(call);
            put_fragment(part, &mut summary);
        }
        WireFrame::Cancel { call } => summary.call = Some(call),
        WireFrame::CallRefused { call, reason } => {
            summary.call = Some(call);
            summary.answer = Some(Cow::Owned(reason.to_string().replace(' ', "-")));
        }
        WireFrame::Notice { body } => put_body(body, &mut summary),
        WireFrame::Ack(ref ack) => {
            put(&mut summary, &[("largest", ack.packets.largest().unwrap_or(0)), ("delay_us", ack.delay_us)]);
        }
        WireFrame::Credit { bytes_total } => put(&mut summary, &[("bytes_total", bytes_total)]),
        WireFrame::Welcome(welcome) => {
            put(&mut summary, &[("incarnation", u64::from(welcome.incarnation.0))]);
        }
        WireFrame::StaleIncarnation { current } => {
            put(&mut summary, &[("incarnation", u64::from(current.0))]);
        }
        _ => {}
    }
    summary
}

fn put(summary: &mut Frame, numbers: &[(&'static str, u64)]) {
    summary.numbers.extend(numbers.iter().map(|&(name, number)| (Cow::Borrowed(name), number)));
}

fn put_fragment(part: &wire::Fragment<'_>, summary: &mut Frame) {
    let bytes = part.bytes.len() as u64;
    put(summary, &[("offset", part.offset), ("bytes", bytes), ("total_bytes", part.total_bytes)]);
}

fn put_body(body: &[u8], summary: &mut Frame) {
    let kind = match family(body) {
        Some(BodyFamily::Peer) => match body.first() {
            Some(&body_kind::SNAPSHOT_PULL) => Ok("snapshot-pull"),
            Some(&body_kind::SNAPSHOT_DATA) => Ok("snapshot-data"),
            Some(&body_kind::STATE_DIGESTS) => Ok("state-digests"),
            _ => decode_message(body).map(|(_, message)| put_message(&message, summary)),
        },
        Some(BodyFamily::ClientRequest) => decode_request(body).map(|(_, r)| put_request(&r, summary)),
        Some(BodyFamily::ClientReply) => decode_reply(body).map(|(_, r)| put_reply(&r, summary)),
        None => Ok("unknown"),
    };
    summary.kind = Some(Cow::Borrowed(kind.unwrap_or("malformed")));
    put(summary, &[("body_bytes", body.len() as u64)]);
}

fn put_read_index(index: Option<Index>, summary: &mut Frame) {
    match index {
        Some(index) => put(summary, &[("index", index.0)]),
        None => summary.answer = Some(Cow::Borrowed("refused")),
    }
}

fn put_message(message: &Message, summary: &mut Frame) -> &'static str {
    put(summary, &[("term", message.term().0)]);
    match message {
        Message::PreVote(m) | Message::Vote(m) => put_vote(m, summary),
        Message::PreVoteReply(m) | Message::VoteReply(m) => put_vote_reply(m, summary),
        Message::Append(m) => {
            let entries = m.entries.len() as u64;
            put(
                summary,
                &[("index", m.prev_index.0 + entries), ("attempt", m.attempt), ("entries", entries)],
            );
            let prev = [("prev_index", m.prev_index.0), ("prev_term", m.prev_term.0), ("commit", m.commit.0)];
            put(summary, &prev);
        }
        Message::AppendReply(m) => {
            let (answer, index) = match m.outcome {
                AppendOutcome::Accepted { match_index } => ("accepted", match_index),
                AppendOutcome::Refused { prev_index, .. } => ("refused", prev_index),
                AppendOutcome::Evicted { prev_index } => ("evicted", prev_index),
            };
            summary.answer = Some(Cow::Borrowed(answer));
            put(summary, &[("index", index.0), ("attempt", m.attempt)]);
            if let AppendOutcome::Refused { conflict_term, conflict_index, last_index, .. } = m.outcome {
                put(summary, &[("conflict_index", conflict_index.0), ("conflict_term", conflict_term.0)]);
                put(summary, &[("last_index", last_index.0)]);
            }
        }
        Message::Heartbeat(m) => put(summary, &[("index", m.commit.0), ("round", m.round.0)]),
        Message::HeartbeatReply(m) => put(summary, &[("round", m.round.0)]),
        Message::ReadProbe(m) | Message::ReadProbeReply(m) => put(summary, &[("round", m.round.0)]),
        Message::Transfer(m) => put(summary, &[("index", m.last_index.0)]),
        Message::TransferReply(m) => {
            summary.answer = Some(Cow::Borrowed(if m.is_taken { "taken" } else { "refused" }));
        }
        Message::SnapshotOffer(m) => {
            let (id, bytes) = (m.meta.id, m.meta.bytes);
            put(summary, &[("index", id.index.0), ("index_term", id.term.0), ("snapshot_bytes", bytes)]);
        }
        Message::SnapshotOfferReply(m) => {
            put(summary, &[("index", m.index.0), ("match_index", m.match_index.0)]);
            summary.answer = Some(Cow::Borrowed(match m.outcome {
                SnapshotOutcome::Pulling { bytes } => {
                    put(summary, &[("snapshot_bytes", bytes)]);
                    "pulling"
                }
                SnapshotOutcome::Transferred => "transferred",
                SnapshotOutcome::Installed => "installed",
            }));
        }
        Message::Range(m) => put(summary, &[("index", m.first.0), ("last_index", m.last.0)]),
        Message::RangeReply(m) => {
            summary.answer = Some(Cow::Borrowed(match &m.outcome {
                RangeOutcome::Entries { entries, .. } => {
                    put(summary, &[("entries", entries.len() as u64)]);
                    "entries"
                }
                RangeOutcome::Covered { meta } => {
                    put(summary, &[("index", meta.id.index.0)]);
                    "covered"
                }
                RangeOutcome::Nothing => "nothing",
            }));
        }
        Message::ReadIndex(_) => {}
        Message::ReadIndexReply(m) => put_read_index(m.index, summary),
    }
    message_name(message)
}

fn put_vote(m: &VoteRequest, summary: &mut Frame) {
    put(summary, &[("index", m.last_index.0), ("last_term", m.last_term.0)]);
    put(summary, &[("campaign_term", m.campaign_term.0), ("campaign", m.campaign)]);
    put(summary, &[("is_transfer", u64::from(m.is_transfer))]);
}

fn put_vote_reply(m: &VoteReply, summary: &mut Frame) {
    summary.answer = Some(Cow::Borrowed(if m.is_granted { "granted" } else { "refused" }));
    put(summary, &[("campaign_term", m.campaign_term.0), ("campaign", m.campaign)]);
}

fn put_request(request: &ClientRequest<'_>, summary: &mut Frame) -> &'static str {
    match request {
        ClientRequest::Propose(propose) => {
            put(summary, &[("session", propose.session.0.0), ("sequence", propose.sequence.0)]);
        }
        ClientRequest::CloseSession { session } => put(summary, &[("session", session.0.0)]),
        _ => {}
    }
    request_name(request)
}

fn put_reply(reply: &ClientReply<'_>, summary: &mut Frame) -> &'static str {
    match reply {
        ClientReply::SessionOpened { session } => put(summary, &[("session", session.0.0)]),
        ClientReply::Applied(outcome) | ClientReply::Read(outcome) => {
            put(summary, &[("term", outcome.term.0), ("index", outcome.index.0)]);
        }
        ClientReply::Redirect { leader } => {
            let leader = leader.map_or(0, |hint| hint.node.as_u16());
            put(summary, &[("leader", u64::from(leader))]);
        }
        _ => {}
    }
    reply_name(reply)
}

/// The names of every number that a frame may show.
pub(super) const NUMBERS: [&str; 29] = [
    "attempt",
    "body_bytes",
    "bytes",
    "bytes_total",
    "campaign",
    "campaign_term",
    "commit",
    "conflict_index",
    "conflict_term",
    "delay_us",
    "entries",
    "incarnation",
    "index",
    "index_term",
    "is_transfer",
    "largest",
    "last_index",
    "last_term",
    "leader",
    "match_index",
    "offset",
    "prev_index",
    "prev_term",
    "round",
    "sequence",
    "session",
    "snapshot_bytes",
    "term",
    "total_bytes",
];
