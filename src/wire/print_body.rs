//! The fields of bodies, one function for each family.

use crate::cursor::CursorError;
use crate::entry::Payload;
use crate::membership::{Members, Membership};
use crate::message::{
    Append, AppendOutcome, AppendReply, Message, RangeOutcome, RangeReply, SnapshotOutcome, VoteRequest,
};
use crate::snapshot::SnapshotMeta;
use crate::wire::body::body_kind;
use crate::wire::client::{
    ClientReply, ClientRequest, Outcome, ReadLevel, RefusalCode, decode_reply, decode_request,
};
use crate::wire::digest::decode_digests;
use crate::wire::fault::{FaultLinks, FaultRequest};
use crate::wire::peer::decode_message;
use crate::wire::print::{Fields, Hex};
use crate::wire::print_member;
use crate::wire::status::NodeStatus;
use crate::wire::transfer::{PullReply, decode_pull, decode_pull_reply};

pub(super) fn peer(body: &[u8], fields: &mut Fields) -> Result<(), CursorError> {
    match body.first() {
        Some(&body_kind::SNAPSHOT_PULL) => return pull(body, fields),
        Some(&body_kind::SNAPSHOT_DATA) => return pull_reply(body, fields),
        Some(&body_kind::STATE_DIGESTS) => return digests(body, fields),
        _ => {}
    }
    let (group, message) = decode_message(body)?;
    fields.put("kind", message_name(&message));
    fields.put("group", group);
    fields.put("term", message.term());
    match &message {
        Message::PreVote(m) | Message::Vote(m) => put_vote(m, fields),
        Message::PreVoteReply(m) | Message::VoteReply(m) => {
            fields.put("campaign_term", m.campaign_term);
            fields.put("campaign", m.campaign);
            fields.put("is_granted", m.is_granted);
        }
        Message::Append(m) => put_append(m, fields),
        Message::AppendReply(m) => put_append_reply(m, fields),
        Message::Heartbeat(m) => {
            fields.put("round", m.round);
            fields.put("commit", m.commit);
        }
        Message::HeartbeatReply(m) => fields.put("round", m.round),
        Message::ReadProbe(m) | Message::ReadProbeReply(m) => fields.put("round", m.round),
        Message::Transfer(m) => {
            fields.put("incarnation", m.incarnation);
            fields.put("last_index", m.last_index);
        }
        Message::TransferReply(m) => fields.put("is_taken", m.is_taken),
        Message::SnapshotOffer(m) => put_meta(&m.meta, fields),
        Message::SnapshotOfferReply(m) => {
            fields.put("index", m.index);
            fields.put("match_index", m.match_index);
            match m.outcome {
                SnapshotOutcome::Pulling { bytes } => {
                    fields.put("outcome", "pulling");
                    fields.put("bytes", bytes);
                }
                SnapshotOutcome::Transferred => fields.put("outcome", "transferred"),
                SnapshotOutcome::Installed => fields.put("outcome", "installed"),
            }
        }
        Message::Range(m) => {
            fields.put("question", m.question);
            fields.put("damaged_from", m.damaged_from);
            fields.put("first", m.first);
            fields.put("last", m.last);
        }
        Message::RangeReply(m) => put_range_reply(m, fields),
        Message::ReadIndex(m) => fields.put("question", m.question),
        Message::ReadIndexReply(m) => {
            fields.put("question", m.question);
            if let Some(index) = m.index {
                fields.put("index", index);
            }
        }
    }
    Ok(())
}

fn put_range_reply(m: &RangeReply, fields: &mut Fields) {
    fields.put("question", m.question);
    if let Some(commit) = m.commit {
        fields.put("commit", commit);
    }
    match &m.outcome {
        RangeOutcome::Entries { entries, chain } => {
            fields.put("outcome", "entries");
            fields.put("entries", entries.len());
            fields.put("chain", format_args!("{chain:08x}"));
        }
        RangeOutcome::Covered { meta } => {
            fields.put("outcome", "covered");
            put_meta(meta, fields);
        }
        RangeOutcome::Nothing => fields.put("outcome", "nothing"),
    }
}

fn pull(body: &[u8], fields: &mut Fields) -> Result<(), CursorError> {
    let (group, pull) = decode_pull(body)?;
    fields.put("kind", "snapshot-pull");
    fields.put("group", group);
    put_meta(&pull.meta, fields);
    fields.put("offset", pull.offset);
    fields.put("length", pull.length);
    Ok(())
}

/// `[W-92]`
fn digests(body: &[u8], fields: &mut Fields) -> Result<(), CursorError> {
    let (group, digests) = decode_digests(body)?;
    fields.put("kind", "state-digests");
    fields.put("group", group);
    fields.put("layout", digests.layout);
    for (place, window) in digests.windows.iter().enumerate() {
        fields.within(&format!("window{place}"), |fields| {
            fields.put("span", window.span);
            fields.put("last", window.last);
            fields.put("digest", format_args!("{:08x}", window.digest));
        });
    }
    if let Some((format, index, digest)) = digests.snapshot {
        fields.put("snapshot_format", format);
        fields.put("snapshot_index", index);
        fields.put("snapshot_digest", format_args!("{digest:016x}"));
    }
    Ok(())
}

fn pull_reply(body: &[u8], fields: &mut Fields) -> Result<(), CursorError> {
    let (group, reply) = decode_pull_reply(body)?;
    fields.put("kind", "snapshot-data");
    fields.put("group", group);
    match reply {
        PullReply::Data { digest, offset, bytes } => {
            fields.put("outcome", "data");
            fields.put("digest", format_args!("{digest:016x}"));
            fields.put("offset", offset);
            fields.put("content", Hex(bytes));
        }
        PullReply::NotHere => fields.put("outcome", "not-here"),
    }
    Ok(())
}

fn put_meta(meta: &SnapshotMeta, fields: &mut Fields) {
    fields.put("index", meta.id.index);
    fields.put("index_term", meta.id.term);
    fields.put("chain", format_args!("{:08x}", meta.id.chain));
    fields.put("bytes", meta.bytes);
    fields.put("digest", format_args!("{:016x}", meta.digest));
}

pub(super) fn request(body: &[u8], fields: &mut Fields) -> Result<(), CursorError> {
    let (group, request) = decode_request(body)?;
    fields.put("kind", request_name(&request));
    fields.put("group", group);
    match &request {
        ClientRequest::OpenSession | ClientRequest::Status | ClientRequest::Founding => {}
        ClientRequest::TakeSnapshot { through } => fields.put("through", through),
        ClientRequest::ChangeMembership(request) => print_member::change(request, fields),
        ClientRequest::Members { of } => print_member::changed(*of, fields),
        ClientRequest::TransferLeadership { to } => {
            fields.put("to", to.map_or_else(|| "any".to_owned(), |to| to.to_string()));
        }
        ClientRequest::Watch(watch) => {
            fields.put("after", watch.after);
            fields.put("wait_us", watch.wait_us);
            fields.put("filter", Hex(watch.filter));
        }
        ClientRequest::SetFaults(request) => put_faults(request, fields),
        ClientRequest::CloseSession { session } => fields.put("session", session.0),
        ClientRequest::Propose(propose) => {
            fields.put("session", propose.session.0);
            fields.put("sequence", propose.sequence);
            fields.put("finished", propose.finished);
            fields.put("command", Hex(propose.command));
        }
        ClientRequest::Read { level, query } => {
            let level = match level {
                ReadLevel::Linearizable => "linearizable",
                ReadLevel::Lease => "lease",
                ReadLevel::Local => "local",
                ReadLevel::AnyNode => "any-node",
            };
            fields.put("level", level);
            fields.put("query", Hex(query));
        }
    }
    Ok(())
}

pub(super) fn reply(body: &[u8], fields: &mut Fields) -> Result<(), CursorError> {
    let (group, reply) = decode_reply(body)?;
    fields.put("kind", reply_name(&reply));
    fields.put("group", group);
    match &reply {
        ClientReply::SessionClosed
        | ClientReply::SessionExpired
        | ClientReply::SequenceFinished
        | ClientReply::FaultsSet => {}
        ClientReply::SessionOpened { session } => fields.put("session", session.0),
        ClientReply::Applied(outcome) | ClientReply::Read(outcome) => {
            let Outcome { index, term, result } = outcome;
            fields.put("index", index);
            fields.put("term", term);
            fields.put("result", Hex(result));
        }
        ClientReply::Status(status) => put_status(status, fields),
        ClientReply::Redirect { leader: None } => fields.put("leader", "unknown"),
        ClientReply::Redirect { leader: Some(leader) } => {
            fields.put("leader", leader.node);
            fields.put("address", leader.address);
        }
        ClientReply::Busy { retry_after_us } => fields.put("retry_after_us", retry_after_us),
        ClientReply::TooLarge { bytes_max } => fields.put("bytes_max", bytes_max),
        ClientReply::Refused { code, text } => {
            put_refusal(*code, fields);
            fields.put("text", text);
        }
        ClientReply::SnapshotState { taken, in_force } => {
            fields.put("taken", taken);
            if let Some(meta) = in_force {
                put_meta(meta, fields);
            }
        }
        ClientReply::Changed(changed) => print_member::changed(Some(*changed), fields),
        ClientReply::Members(state) => print_member::state(state, fields),
        ClientReply::ChangeRefused { reason, text } => {
            print_member::refusal(*reason, fields);
            fields.put("text", text);
        }
        ClientReply::Transferring { to, term } => {
            fields.put("to", to);
            fields.put("term", term);
        }
        ClientReply::Watched(watched) => {
            fields.put("through", watched.through);
            for (place, event) in watched.events.iter().enumerate() {
                fields.within(&format!("event{place}"), |fields| {
                    fields.put("index", event.index);
                    fields.put("term", event.term);
                    fields.put("event", Hex(event.event));
                });
            }
        }
        ClientReply::Compacted { oldest } => fields.put("oldest", oldest),
        ClientReply::Founded(record) => {
            fields.put("cluster", record.cluster);
            put_membership(&record.membership, fields);
        }
    }
    Ok(())
}

/// The kind of a message's body.
#[must_use]
pub const fn message_name(message: &Message) -> &'static str {
    match message {
        Message::PreVote(_) => "pre-vote",
        Message::PreVoteReply(_) => "pre-vote-reply",
        Message::Vote(_) => "vote",
        Message::VoteReply(_) => "vote-reply",
        Message::Append(_) => "append",
        Message::AppendReply(_) => "append-reply",
        Message::Heartbeat(_) => "heartbeat",
        Message::HeartbeatReply(_) => "heartbeat-reply",
        Message::ReadProbe(_) => "read-probe",
        Message::ReadProbeReply(_) => "read-probe-reply",
        Message::Transfer(_) => "transfer",
        Message::TransferReply(_) => "transfer-reply",
        Message::SnapshotOffer(_) => "snapshot-offer",
        Message::SnapshotOfferReply(_) => "snapshot-offer-reply",
        Message::Range(_) => "range",
        Message::RangeReply(_) => "range-reply",
        Message::ReadIndex(_) => "read-index",
        Message::ReadIndexReply(_) => "read-index-reply",
    }
}

/// The kind of a client's request.
#[must_use]
pub const fn request_name(request: &ClientRequest<'_>) -> &'static str {
    match request {
        ClientRequest::OpenSession => "open-session",
        ClientRequest::CloseSession { .. } => "close-session",
        ClientRequest::Propose(_) => "propose",
        ClientRequest::Read { .. } => "read",
        ClientRequest::Status => "status",
        ClientRequest::Founding => "founding",
        ClientRequest::TakeSnapshot { .. } => "take-snapshot",
        ClientRequest::ChangeMembership(_) => "change-membership",
        ClientRequest::Members { .. } => "members",
        ClientRequest::TransferLeadership { .. } => "transfer-leadership",
        ClientRequest::Watch(_) => "watch",
        ClientRequest::SetFaults(_) => "set-faults",
    }
}

/// The kind of an answer to a client.
#[must_use]
pub const fn reply_name(reply: &ClientReply<'_>) -> &'static str {
    match reply {
        ClientReply::SessionOpened { .. } => "session-opened",
        ClientReply::SessionClosed => "session-closed",
        ClientReply::Applied(_) => "applied",
        ClientReply::Read(_) => "read",
        ClientReply::Status(_) => "status",
        ClientReply::Redirect { .. } => "redirect",
        ClientReply::Busy { .. } => "busy",
        ClientReply::SessionExpired => "session-expired",
        ClientReply::SequenceFinished => "sequence-finished",
        ClientReply::TooLarge { .. } => "too-large",
        ClientReply::Refused { .. } => "refused",
        ClientReply::Founded(_) => "founded",
        ClientReply::SnapshotState { .. } => "snapshot-state",
        ClientReply::Changed(_) => "changed",
        ClientReply::Members(_) => "membership-state",
        ClientReply::ChangeRefused { .. } => "change-refused",
        ClientReply::Transferring { .. } => "transferring",
        ClientReply::Watched(_) => "watched",
        ClientReply::Compacted { .. } => "compacted",
        ClientReply::FaultsSet => "faults-set",
    }
}

fn put_faults(request: &FaultRequest, fields: &mut Fields) {
    let FaultRequest::Set { links, lasting_ms, faults } = request else {
        return fields.put("faults", "clear");
    };
    fields.put("faults", "set");
    fields.put("lasting_ms", lasting_ms);
    match links {
        FaultLinks::Nodes => fields.put("links", "nodes"),
        FaultLinks::Clients => fields.put("links", "clients"),
        FaultLinks::Node(node) => {
            fields.put("links", "node");
            fields.put("node", node);
        }
    }
    fields.put("is_blocked", faults.is_blocked);
    let [to_bad, to_good, bad, good] = faults.burst_ppm;
    for (name, number) in [
        ("mtu", faults.mtu),
        ("loss_ppm", faults.loss_ppm),
        ("to_bad_ppm", to_bad),
        ("to_good_ppm", to_good),
        ("loss_bad_ppm", bad),
        ("loss_good_ppm", good),
        ("delay_us", faults.delay_us),
        ("jitter_us", faults.jitter_us),
        ("duplicate_ppm", faults.duplicate_ppm),
        ("reorder_ppm", faults.reorder_ppm),
        ("reorder_delay_us", faults.reorder_delay_us),
        ("corrupt_ppm", faults.corrupt_ppm),
    ] {
        fields.put(name, number);
    }
}

fn put_vote(m: &VoteRequest, fields: &mut Fields) {
    fields.put("campaign_term", m.campaign_term);
    fields.put("campaign", m.campaign);
    fields.put("last_index", m.last_index);
    fields.put("last_term", m.last_term);
    fields.put("is_transfer", m.is_transfer);
}

fn put_append(m: &Append, fields: &mut Fields) {
    fields.put("attempt", m.attempt);
    fields.put("prev_index", m.prev_index);
    fields.put("prev_term", m.prev_term);
    fields.put("commit", m.commit);
    fields.put("chain", format_args!("{:08x}", m.chain));
    for (place, entry) in m.entries.iter().enumerate() {
        fields.within(&format!("entry{place}"), |fields| {
            fields.put("term", entry.term);
            match &entry.payload {
                Payload::Noop => fields.put("kind", "noop"),
                Payload::Command(bytes) => {
                    fields.put("kind", "command");
                    fields.put("content", Hex(bytes));
                }
                Payload::Membership(membership) => {
                    fields.put("kind", "membership");
                    put_membership(membership, fields);
                }
            }
        });
    }
}

fn put_append_reply(m: &AppendReply, fields: &mut Fields) {
    fields.put("attempt", m.attempt);
    match m.outcome {
        AppendOutcome::Accepted { match_index } => {
            fields.put("outcome", "accepted");
            fields.put("match_index", match_index);
        }
        AppendOutcome::Refused { prev_index, conflict_term, conflict_index, last_index } => {
            fields.put("outcome", "refused");
            fields.put("prev_index", prev_index);
            fields.put("conflict_term", conflict_term);
            fields.put("conflict_index", conflict_index);
            fields.put("last_index", last_index);
        }
        AppendOutcome::Evicted { prev_index } => {
            fields.put("outcome", "evicted");
            fields.put("prev_index", prev_index);
        }
    }
}

pub(super) fn put_membership(membership: &Membership, fields: &mut Fields) {
    let list = |part: &Members| {
        let rows = part.iter().map(|(id, member)| format!("{id}={}@{}", member.address, member.store));
        rows.collect::<Vec<_>>().join(" ")
    };
    fields.put("voters", list(&membership.voters));
    fields.put("outgoing", list(&membership.outgoing));
    fields.put("learners", list(&membership.learners));
}

fn put_refusal(code: RefusalCode, fields: &mut Fields) {
    match code {
        RefusalCode::UnknownBody => fields.put("code", "unknown-body"),
        RefusalCode::MalformedBody => fields.put("code", "malformed-body"),
        RefusalCode::Unavailable => fields.put("code", "unavailable"),
        RefusalCode::NotAllowed => fields.put("code", "not-allowed"),
        RefusalCode::Other(code) => fields.put("code", code),
    }
}

fn put_status(status: &NodeStatus, fields: &mut Fields) {
    fields.put("node", status.node);
    fields.put("address", &status.address);
    fields.put("role", status.role.name());
    fields.put("term", status.term);
    fields.put("commit", status.commit);
    fields.put("applied", status.applied);
    fields.put("last", status.last);
    fields.put("incarnation", status.incarnation);
    fields.put("cluster", status.cluster);
    fields.put("store", status.store);
    fields.put("leader", status.leader.map_or_else(|| "unknown".to_owned(), |id| id.to_string()));
    if let Some(membership) = &status.membership {
        put_membership(membership, fields);
    }
    for (place, peer) in status.peers.iter().enumerate() {
        fields.within(&format!("peer{place}"), |fields| {
            fields.put("node", peer.node);
            fields.put("rtt_us", peer.rtt_us);
            fields.put("retransmits", peer.retransmits);
            fields.put("loss_ppm", peer.loss_ppm);
        });
    }
    fields.put("received", status.received);
    fields.put("accepted", status.accepted);
    fields.put("retransmits", status.retransmits);
    fields.put("duplicates", status.duplicates);
    fields.within("drops", |fields| {
        status.drops.iter().for_each(|drop| fields.put(&drop.reason, drop.count));
    });
    fields.put("snapshot", status.snapshot);
    for (place, transfer) in status.transfers.iter().enumerate() {
        fields.within(&format!("transfer{place}"), |fields| {
            fields.put("to", transfer.to);
            fields.put("index", transfer.index);
            fields.put("bytes", transfer.bytes);
            fields.put("bytes_total", transfer.bytes_total);
            fields.put("is_transferred", transfer.is_transferred);
        });
    }
    fields.put("damage", status.damage);
    if let Some(repair) = &status.repair {
        fields.put("hole_first", repair.first);
        fields.put("hole_last", repair.last.map_or(0, |last| last.0));
        fields.put("hole_fetched", repair.fetched);
        fields.put("hole_from", repair.from.map_or_else(|| "none".to_owned(), |id| id.to_string()));
    }
    fields.put("version", status.version);
    fields.put("standing", status.standing.name());
    fields.put("agreed", status.agreed);
    if !status.divergences.is_empty() {
        let differences: Vec<String> = status.divergences.iter().map(ToString::to_string).collect();
        fields.put("divergences", differences.join("; "));
    }
    fields.put("sent", status.sent);
    fields.put("sent_bytes", status.sent_bytes);
}
