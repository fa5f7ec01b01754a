//! Bodies that nodes send each other: the consensus messages.
//!
//! Terms and indexes that lie close to another field are sent as distances, so that an append of one entry
//! spends 24 bytes beside the datagram's header. `[W-45]` `[W-47]`

use crate::cursor::{CursorError, Reader, Writer};
use crate::entry::Payload;
use crate::message::{
    Append, AppendEntry, AppendOutcome, AppendReply, Heartbeat, HeartbeatReply, Message, RangeOutcome,
    RangeReply, RangeRequest, ReadIndex, ReadIndexReply, ReadProbe, SnapshotOffer, SnapshotOfferReply,
    SnapshotOutcome, Transfer, TransferReply, VoteReply, VoteRequest,
};
use crate::types::{GroupId, Incarnation, Index, Round, Term};
use crate::wire::body::{NUMBER_MAX, begin_body, body_kind as k, read_bool, read_index, read_term};
use crate::wire::transfer::{put_meta, read_meta};

/// Appends the body of a message.
///
/// # Panics
/// When an append's prev term or an entry's term is above the append's own, or a number does not fit a varint:
/// no leader makes such a message.
pub fn encode_message(group: GroupId, message: &Message, out: &mut Vec<u8>) {
    begin_body(kind_of(message), group, out);
    match message {
        Message::PreVote(m) | Message::Vote(m) => encode_vote(m, out),
        Message::PreVoteReply(m) | Message::VoteReply(m) => {
            put_numbers(out, [m.term.0, m.campaign_term.0, m.campaign]);
            out.put_u8(u8::from(m.is_granted));
        }
        Message::Append(m) => encode_append(m, out),
        Message::AppendReply(m) => encode_append_reply(m, out),
        Message::Heartbeat(m) => put_numbers(out, [m.term.0, m.round.0, m.commit.0]),
        Message::HeartbeatReply(m) => put_numbers(out, [m.term.0, m.round.0]),
        Message::ReadProbe(m) | Message::ReadProbeReply(m) => put_numbers(out, [m.term.0, m.round.0]),
        Message::Transfer(m) => {
            out.put_varint(m.term.0);
            out.put_u32(m.incarnation.0);
            out.put_varint(m.last_index.0);
        }
        Message::TransferReply(m) => {
            out.put_varint(m.term.0);
            out.put_u8(u8::from(m.is_taken));
        }
        Message::SnapshotOffer(m) => {
            out.put_varint(m.term.0);
            put_meta(out, &m.meta);
        }
        Message::SnapshotOfferReply(m) => encode_offer_reply(m, out),
        Message::Range(m) => {
            put_numbers(out, [m.term.0, m.question, m.damaged_from.0, m.first.0, m.last.0]);
        }
        Message::RangeReply(m) => encode_range_reply(m, out),
        Message::ReadIndex(m) => put_numbers(out, [m.term.0, m.question]),
        Message::ReadIndexReply(m) => {
            put_numbers(out, [m.term.0, m.question]);
            out.put_u8(u8::from(m.index.is_some()));
            out.put_varint(m.index.unwrap_or_default().0);
        }
    }
}

/// Reads the body of a message. Memory taken is bounded by a multiple of the body's length.
pub fn decode_message(body: &[u8]) -> Result<(GroupId, Message), CursorError> {
    let mut reader = Reader::new(body);
    let r = &mut reader;
    let kind = r.u8()?;
    let group = GroupId(r.varint()?);
    let message = match kind {
        k::PRE_VOTE => Message::PreVote(decode_vote(r)?),
        k::VOTE => Message::Vote(decode_vote(r)?),
        k::PRE_VOTE_REPLY => Message::PreVoteReply(decode_vote_reply(r)?),
        k::VOTE_REPLY => Message::VoteReply(decode_vote_reply(r)?),
        k::APPEND => Message::Append(decode_append(r)?),
        k::APPEND_REPLY => Message::AppendReply(decode_append_reply(r)?),
        k::HEARTBEAT => Message::Heartbeat(Heartbeat {
            term: read_term(r)?,
            round: Round(r.varint()?),
            commit: read_index(r)?,
        }),
        k::HEARTBEAT_REPLY => {
            Message::HeartbeatReply(HeartbeatReply { term: read_term(r)?, round: Round(r.varint()?) })
        }
        k::READ_PROBE => Message::ReadProbe(decode_probe(r)?),
        k::READ_PROBE_REPLY => Message::ReadProbeReply(decode_probe(r)?),
        k::TRANSFER => Message::Transfer(Transfer {
            term: read_term(r)?,
            incarnation: Incarnation(r.u32()?),
            last_index: read_index(r)?,
        }),
        k::TRANSFER_REPLY => {
            Message::TransferReply(TransferReply { term: read_term(r)?, is_taken: read_bool(r)? })
        }
        k::SNAPSHOT_OFFER => {
            Message::SnapshotOffer(SnapshotOffer { term: read_term(r)?, meta: read_meta(r)? })
        }
        k::SNAPSHOT_OFFER_REPLY => Message::SnapshotOfferReply(decode_offer_reply(r)?),
        k::RANGE => Message::Range(decode_range(r)?),
        k::RANGE_REPLY => Message::RangeReply(decode_range_reply(r)?),
        k::READ_INDEX => Message::ReadIndex(ReadIndex { term: read_term(r)?, question: r.varint()? }),
        k::READ_INDEX_REPLY => Message::ReadIndexReply(decode_read_index_reply(r)?),
        _ => return Err(CursorError::Value),
    };
    Ok((group, message))
}

const fn kind_of(message: &Message) -> u8 {
    match message {
        Message::PreVote(_) => k::PRE_VOTE,
        Message::PreVoteReply(_) => k::PRE_VOTE_REPLY,
        Message::Vote(_) => k::VOTE,
        Message::VoteReply(_) => k::VOTE_REPLY,
        Message::Append(_) => k::APPEND,
        Message::AppendReply(_) => k::APPEND_REPLY,
        Message::Heartbeat(_) => k::HEARTBEAT,
        Message::HeartbeatReply(_) => k::HEARTBEAT_REPLY,
        Message::ReadProbe(_) => k::READ_PROBE,
        Message::ReadProbeReply(_) => k::READ_PROBE_REPLY,
        Message::Transfer(_) => k::TRANSFER,
        Message::TransferReply(_) => k::TRANSFER_REPLY,
        Message::SnapshotOffer(_) => k::SNAPSHOT_OFFER,
        Message::SnapshotOfferReply(_) => k::SNAPSHOT_OFFER_REPLY,
        Message::Range(_) => k::RANGE,
        Message::RangeReply(_) => k::RANGE_REPLY,
        Message::ReadIndex(_) => k::READ_INDEX,
        Message::ReadIndexReply(_) => k::READ_INDEX_REPLY,
    }
}

fn put_numbers<const N: usize>(out: &mut Vec<u8>, numbers: [u64; N]) {
    for number in numbers {
        out.put_varint(number);
    }
}

fn encode_vote(m: &VoteRequest, out: &mut Vec<u8>) {
    put_numbers(out, [m.term.0, m.campaign_term.0, m.campaign, m.last_index.0, m.last_term.0]);
    out.put_u8(u8::from(m.is_transfer));
}

fn decode_vote(r: &mut Reader<'_>) -> Result<VoteRequest, CursorError> {
    Ok(VoteRequest {
        term: read_term(r)?,
        campaign_term: read_term(r)?,
        campaign: r.varint()?,
        last_index: read_index(r)?,
        last_term: read_term(r)?,
        is_transfer: read_bool(r)?,
    })
}

fn decode_vote_reply(r: &mut Reader<'_>) -> Result<VoteReply, CursorError> {
    Ok(VoteReply {
        term: read_term(r)?,
        campaign_term: read_term(r)?,
        campaign: r.varint()?,
        is_granted: read_bool(r)?,
    })
}

fn decode_probe(r: &mut Reader<'_>) -> Result<ReadProbe, CursorError> {
    Ok(ReadProbe { term: read_term(r)?, round: Round(r.varint()?) })
}

fn encode_append(m: &Append, out: &mut Vec<u8>) {
    put_numbers(out, [m.term.0, m.attempt, m.prev_index.0, age(m.term, m.prev_term)]);
    out.put_zigzag(m.commit.0 as i64 - m.prev_index.0 as i64);
    out.put_u32(m.chain);
    put_entries(out, m.term, &m.entries);
}

/// Entries to the end of the body. `[W-47]`
fn put_entries(out: &mut Vec<u8>, term: Term, entries: &[AppendEntry]) {
    for entry in entries {
        out.put_varint(age(term, entry.term) << 2 | u64::from(entry.payload.kind()));
        match &entry.payload {
            Payload::Command(bytes) => out.put_prefixed(bytes),
            other => {
                let mut content = Vec::new();
                // A membership's own encoding is `[W-46]`.
                other.encode_content(&mut content);
                out.put_prefixed(&content);
            }
        }
    }
}

fn decode_append(r: &mut Reader<'_>) -> Result<Append, CursorError> {
    let term = read_term(r)?;
    let attempt = r.varint()?;
    let prev_index = read_index(r)?;
    let prev_term = term_of_age(term, r.varint()?)?;
    let commit = u64::try_from(prev_index.0 as i64 + r.zigzag()?).map_err(|_| CursorError::Value)?;
    if commit > NUMBER_MAX {
        return Err(CursorError::Value);
    }
    let chain = r.u32()?;
    let entries = read_entries(r, term)?;
    Ok(Append { term, attempt, prev_index, prev_term, commit: Index(commit), entries, chain })
}

fn read_entries(r: &mut Reader<'_>, term: Term) -> Result<Vec<AppendEntry>, CursorError> {
    let mut entries = Vec::new();
    while !r.is_empty() {
        let head = r.varint()?;
        let entry_term = term_of_age(term, head >> 2)?;
        let payload = Payload::decode_content((head & 3) as u8, r.prefixed()?)?;
        entries.push(AppendEntry { term: entry_term, payload });
    }
    Ok(entries)
}

/// An empty range is none, and what is asked for lies in what is damaged. `[W-61]`
fn decode_range(r: &mut Reader<'_>) -> Result<RangeRequest, CursorError> {
    let term = read_term(r)?;
    let question = r.varint()?;
    let (damaged_from, first, last) = (read_index(r)?, read_index(r)?, read_index(r)?);
    let is_open = last == Index(0);
    if damaged_from == Index(0) || first < damaged_from || (last < first && !is_open) {
        return Err(CursorError::Value);
    }
    Ok(RangeRequest { term, question, damaged_from, first, last })
}

const RANGE_ENTRIES: u8 = 0;
const RANGE_COVERED: u8 = 1;
const RANGE_NOTHING: u8 = 2;

/// `[W-62]`
fn encode_range_reply(m: &RangeReply, out: &mut Vec<u8>) {
    put_numbers(out, [m.term.0, m.question]);
    out.put_u8(u8::from(m.commit.is_some()));
    out.put_varint(m.commit.unwrap_or_default().0);
    match &m.outcome {
        RangeOutcome::Entries { entries, chain } => {
            out.put_u8(RANGE_ENTRIES);
            out.put_u32(*chain);
            put_entries(out, m.term, entries);
        }
        RangeOutcome::Covered { meta } => {
            out.put_u8(RANGE_COVERED);
            put_meta(out, meta);
        }
        RangeOutcome::Nothing => out.put_u8(RANGE_NOTHING),
    }
}

fn decode_range_reply(r: &mut Reader<'_>) -> Result<RangeReply, CursorError> {
    let (term, question) = (read_term(r)?, r.varint()?);
    let (is_leader, commit) = (read_bool(r)?, read_index(r)?);
    if !is_leader && commit != Index(0) {
        return Err(CursorError::Value);
    }
    let outcome = match r.u8()? {
        RANGE_ENTRIES => {
            let chain = r.u32()?;
            RangeOutcome::Entries { entries: read_entries(r, term)?, chain }
        }
        RANGE_COVERED => RangeOutcome::Covered { meta: read_meta(r)? },
        RANGE_NOTHING => RangeOutcome::Nothing,
        _ => return Err(CursorError::Value),
    };
    Ok(RangeReply { term, question, commit: is_leader.then_some(commit), outcome })
}

/// Only who leads has an index. `[W-91]`
fn decode_read_index_reply(r: &mut Reader<'_>) -> Result<ReadIndexReply, CursorError> {
    let (term, question) = (read_term(r)?, r.varint()?);
    let (leads, index) = (read_bool(r)?, read_index(r)?);
    if !leads && index != Index(0) {
        return Err(CursorError::Value);
    }
    Ok(ReadIndexReply { term, question, index: leads.then_some(index) })
}

/// How far an entry's term lies below the leader's.
fn age(leader: Term, entry: Term) -> u64 {
    leader
        .0
        .checked_sub(entry.0)
        .unwrap_or_else(|| panic!("entry of term {entry} under a leader of term {leader}"))
}

fn term_of_age(leader: Term, age: u64) -> Result<Term, CursorError> {
    leader.0.checked_sub(age).map(Term).ok_or(CursorError::Value)
}

const PULLING: u8 = 0;
const TRANSFERRED: u8 = 1;
const INSTALLED: u8 = 2;

fn encode_offer_reply(m: &SnapshotOfferReply, out: &mut Vec<u8>) {
    put_numbers(out, [m.term.0, m.index.0, m.match_index.0]);
    match m.outcome {
        SnapshotOutcome::Pulling { bytes } => {
            out.put_u8(PULLING);
            out.put_varint(bytes);
        }
        SnapshotOutcome::Transferred => out.put_u8(TRANSFERRED),
        SnapshotOutcome::Installed => out.put_u8(INSTALLED),
    }
}

fn decode_offer_reply(r: &mut Reader<'_>) -> Result<SnapshotOfferReply, CursorError> {
    Ok(SnapshotOfferReply {
        term: read_term(r)?,
        index: read_index(r)?,
        match_index: read_index(r)?,
        outcome: match r.u8()? {
            PULLING => SnapshotOutcome::Pulling { bytes: r.varint()? },
            TRANSFERRED => SnapshotOutcome::Transferred,
            INSTALLED => SnapshotOutcome::Installed,
            _ => return Err(CursorError::Value),
        },
    })
}

const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;
const EVICTED: u8 = 2;

fn encode_append_reply(m: &AppendReply, out: &mut Vec<u8>) {
    put_numbers(out, [m.term.0, m.attempt]);
    match m.outcome {
        AppendOutcome::Accepted { match_index } => {
            out.put_u8(ACCEPTED);
            out.put_varint(match_index.0);
        }
        AppendOutcome::Refused { prev_index, conflict_term, conflict_index, last_index } => {
            out.put_u8(REFUSED);
            put_numbers(out, [prev_index.0, conflict_term.0, conflict_index.0, last_index.0]);
        }
        AppendOutcome::Evicted { prev_index } => {
            out.put_u8(EVICTED);
            out.put_varint(prev_index.0);
        }
    }
}

fn decode_append_reply(r: &mut Reader<'_>) -> Result<AppendReply, CursorError> {
    let term = read_term(r)?;
    let attempt = r.varint()?;
    let outcome = match r.u8()? {
        ACCEPTED => AppendOutcome::Accepted { match_index: read_index(r)? },
        REFUSED => AppendOutcome::Refused {
            prev_index: read_index(r)?,
            conflict_term: read_term(r)?,
            conflict_index: read_index(r)?,
            last_index: read_index(r)?,
        },
        EVICTED => AppendOutcome::Evicted { prev_index: read_index(r)? },
        _ => return Err(CursorError::Value),
    };
    Ok(AppendReply { term, attempt, outcome })
}
