//! A node's account of itself.

use super::Node;
use crate::machine::Machine;
use crate::membership::Membership;
use crate::raft::RoleKind;
use crate::types::ClusterId;
use crate::wire::DropReason;
use crate::wire::status::{DropCount, NodeRole, NodeStatus, PeerStatus};

impl<M: Machine> Node<M> {
    /// The cluster this node is part of.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.rpc.cluster()
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
        }
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
        self.peers.iter().map(|(node, peer)| (*node, peer.link)).filter_map(row).collect()
    }
}
