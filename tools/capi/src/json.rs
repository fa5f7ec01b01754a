//! Status and events as JSON, with the names that `raftgram status --json` has.

use raftgram::membership::Members;
use raftgram::node::{DiskRoom, NodeEvent};
use raftgram::types::NodeId;
use raftgram::wire::status::NodeStatus;
use serde_json::{Map, Value, json};

/// A node's own account.
pub(crate) fn status(status: &NodeStatus) -> Value {
    let membership = status.membership.as_ref();
    let ids = |of: fn(&raftgram::membership::Membership) -> &Members| -> Vec<u16> {
        membership.map(|members| of(members).keys().map(|id| id.as_u16()).collect()).unwrap_or_default()
    };
    let drops: Map<String, Value> =
        status.drops.iter().map(|drop| (drop.reason.clone(), drop.count.into())).collect();
    let peers: Vec<Value> = status
        .peers
        .iter()
        .map(|peer| {
            json!({ "id": peer.node.as_u16(), "rtt_us": peer.rtt_us, "retransmits": peer.retransmits,
                "loss_ppm": peer.loss_ppm })
        })
        .collect();
    json!({
        "id": status.node.as_u16(),
        "addr": status.address,
        "role": status.role.name(),
        "term": status.term.0,
        "commit": status.commit.0,
        "applied": status.applied.0,
        "last": status.last.0,
        "incarnation": status.incarnation.0,
        "cluster": (!status.cluster.is_zero()).then(|| status.cluster.to_string()),
        "store": status.store.to_string(),
        "leader": status.leader.map(NodeId::as_u16),
        "voters": ids(|members| &members.voters),
        "learners": ids(|members| &members.learners),
        "outgoing": ids(|members| &members.outgoing),
        "version": status.version.0,
        "standing": status.standing.name(),
        "snapshot": status.snapshot.0,
        "damage": status.damage,
        "retransmits": status.retransmits,
        "duplicates": status.duplicates,
        "received": status.received,
        "accepted": status.accepted,
        "drops": drops,
        "peers": peers,
    })
}

/// One thing that happened.
pub(crate) fn event(event: &NodeEvent) -> Value {
    match event {
        NodeEvent::RoleChanged { role, term, leader } => json!({
            "event": "role", "role": role.to_string(), "term": term.0, "leader": leader.map(NodeId::as_u16),
        }),
        NodeEvent::PeerConnected { peer } => json!({ "event": "peer-connected", "peer": peer.node.as_u16() }),
        NodeEvent::CopiedFolder { peer, incarnation } => json!({
            "event": "copied-folder", "peer": peer.node.as_u16(), "incarnation": incarnation.0,
        }),
        NodeEvent::SnapshotTaken { meta } => {
            json!({ "event": "snapshot-taken", "index": meta.id.index.0, "bytes": meta.bytes })
        }
        NodeEvent::SnapshotInstalled { meta } => {
            json!({ "event": "snapshot-installed", "index": meta.id.index.0, "bytes": meta.bytes })
        }
        NodeEvent::SnapshotNotWritten { id } => {
            json!({ "event": "snapshot-not-written", "index": id.index.0 })
        }
        NodeEvent::DiskRoom(room) => json!({ "event": "disk-room", "low": *room == DiskRoom::Low }),
        NodeEvent::Damaged { damage } => json!({ "event": "damaged", "text": damage.to_string() }),
        NodeEvent::RepairBegan { after } => json!({ "event": "repair-began", "after": after.0 }),
        NodeEvent::RepairEnded { last } => json!({ "event": "repair-ended", "last": last.0 }),
        NodeEvent::Standing(standing) => json!({ "event": "standing", "standing": standing.name() }),
        NodeEvent::Diverged { peer, divergence } => json!({
            "event": "diverged", "peer": peer.node.as_u16(), "text": divergence.to_string(),
        }),
        NodeEvent::Alarm(alarm) => json!({ "event": "alarm", "text": alarm.to_string() }),
        // The enum may grow; what is new is told in its own words.
        other => json!({ "event": "other", "text": format!("{other:?}") }),
    }
}
