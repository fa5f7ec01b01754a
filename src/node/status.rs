//! A node's account of itself.

use super::Node;
use crate::histogram::Histogram;
use crate::machine::Machine;
use crate::membership::Membership;
use crate::message::SnapshotOutcome;
use crate::raft::RoleKind;
use crate::rpc::{LinkStats, Rpc};
use crate::session::Sessions;
use crate::snapshot::SnapshotMeta;
use crate::types::{ClusterId, Index, NodeId};
use crate::wire::DropReason;
use crate::wire::status::{
    DropCount, NodeRole, NodeStatus, PeerStatus, RepairStatus, STATUS_ROWS_MAX, TransferStatus,
};

/// What a node keeps for others, by count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLoad {
    /// Clients that wait for an entry.
    pub writes: usize,
    /// Reads that wait for confirmation or for the machine.
    pub reads: usize,
    /// Requests of peers that Raft has not answered.
    pub peer_tokens: usize,
    /// Requests to peers that are open.
    pub raft_calls: usize,
}

impl<M: Machine> Node<M> {
    /// The cluster this node is part of.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.rpc.cluster()
    }

    /// The session table, for looking at.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The layer below, for looking at.
    #[must_use]
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// How much waits here.
    #[must_use]
    pub fn load(&self) -> NodeLoad {
        NodeLoad {
            writes: self.writes.len(),
            reads: self.reads.len() + self.confirmed_reads.len(),
            peer_tokens: self.peer_tokens.len(),
            raft_calls: self.raft_calls.len(),
        }
    }

    /// How long writes that were proposed here took until they were applied and answered, since the boot.
    #[must_use]
    pub fn commits(&self) -> &Histogram {
        &self.commits
    }

    /// The counters of each link to another node, by its id.
    pub fn links(&self) -> impl Iterator<Item = (NodeId, LinkStats)> {
        self.peers.iter().filter_map(|(node, peer)| Some((*node, self.rpc.link_stats(peer.link)?)))
    }

    /// How the node is.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let membership = self.raft.membership();
        let role = match self.raft.role() {
            RoleKind::Leader => NodeRole::Leader,
            RoleKind::Candidate => NodeRole::Candidate,
            RoleKind::PreCandidate => NodeRole::PreCandidate,
            RoleKind::Follower if !membership.is_voter(self.identity) => NodeRole::Learner,
            RoleKind::Follower => NodeRole::Follower,
        };
        let stats = self.rpc.stats();
        let (agreed, divergences) = self.digests.status();
        NodeStatus {
            node: self.identity.node,
            address: self.config.advertise.clone(),
            role,
            term: self.raft.term(),
            commit: self.commit,
            applied: self.applied,
            last: self.raft.last_index(),
            incarnation: self.incarnation,
            cluster: self.cluster(),
            store: self.identity.store,
            leader: self.raft.leader(),
            membership: membership.is_valid().then(|| Membership::clone(membership)),
            peers: self.peer_status(),
            received: stats.received,
            accepted: stats.accepted,
            retransmits: stats.retransmits,
            duplicates: stats.duplicates,
            drops: DropReason::ALL
                .into_iter()
                .map(|reason| DropCount { reason: reason.name().to_owned(), count: stats.dropped(reason) })
                .collect(),
            snapshot: self.snapshot().map_or(Index(0), |meta| meta.id.index),
            transfers: self.transfer_status(),
            damage: self.damage_found,
            repair: self.raft.repair().map(|repair| RepairStatus {
                first: repair.first,
                last: repair.last,
                fetched: repair.fetched,
                from: repair.from,
            }),
            version: self.raft.membership_index(),
            standing: self.standing(),
            agreed,
            divergences,
            sent: stats.transmitted,
            sent_bytes: stats.transmitted_bytes,
        }
    }

    /// What comes here, and what a leader was told by those it offers a snapshot to.
    fn transfer_status(&self) -> Vec<TransferStatus> {
        let row = |to, meta: SnapshotMeta, bytes, is_transferred| {
            let (index, bytes_total) = (meta.id.index, meta.bytes);
            TransferStatus { to, index, bytes, bytes_total, is_transferred }
        };
        let own = self.identity.node;
        let incoming = self.receiving().map(|(meta, bytes, is_whole)| row(own, meta, bytes, is_whole));
        let outgoing = self.raft.peers().filter_map(|peer| {
            let offer = peer.offer?;
            let (bytes, is_transferred) = match offer.outcome {
                None => (0, false),
                Some(SnapshotOutcome::Pulling { bytes }) => (bytes, false),
                Some(SnapshotOutcome::Transferred | SnapshotOutcome::Installed) => (offer.meta.bytes, true),
            };
            Some(row(peer.identity.node, offer.meta, bytes, is_transferred))
        });
        incoming.into_iter().chain(outgoing).take(STATUS_ROWS_MAX).collect()
    }

    fn peer_status(&self) -> Vec<PeerStatus> {
        let row = |(node, link)| {
            let stats = self.rpc.link_stats(link)?;
            Some(PeerStatus {
                node,
                rtt_us: stats.srtt.map_or(0, |srtt| u64::try_from(srtt.as_micros()).unwrap_or(u64::MAX)),
                retransmits: stats.retransmits,
                loss_ppm: (stats.loss * 1e6) as u32,
            })
        };
        // Whoever says hello has a link, and members come first.
        let members = self.raft.membership();
        let is_member = |node: &NodeId| members.member(*node).is_some();
        let links = self.peers.iter().map(|(node, peer)| (*node, peer.link));
        let (first, rest): (Vec<_>, Vec<_>) = links.partition(|(node, _)| is_member(node));
        first.into_iter().chain(rest).filter_map(row).take(STATUS_ROWS_MAX).collect()
    }
}
