//! What can be asked of a node without changing it.
//!
//! Everything here tells of memory, which may be ahead of the disk: a term may not be durable yet, the log's end
//! may be lost by a crash. What other nodes were told is never ahead of the disk. The commit index is a fact about
//! the cluster; after a restart it begins at the base and rises as soon as a leader shows how far it is.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use super::output::{RoleKind, Ticket};
use super::progress::{Offer, State};
use super::role::Role;
use super::snapshot::ReceiveProgress;
use super::{Base, Raft, RaftConfig};
use crate::entry::Entry;
use crate::membership::Membership;
use crate::message::SnapshotOutcome;
use crate::snapshot::SnapshotMeta;
use crate::time::Instant;
use crate::types::{HardState, Identity, Index, NodeId, Round, Term};

/// How entries go to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressKind {
    /// One at a time, until the match is found.
    Probe,
    /// Pipelined.
    Replicate,
    /// Not yet: the log no longer holds what the peer needs, and it is to get a snapshot.
    Snapshot,
}

/// A leader's view of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub identity: Identity,
    /// How entries go there.
    pub kind: ProgressKind,
    /// The highest index known equal and durable there.
    pub match_index: Index,
    /// The next index to send.
    pub next_index: Index,
    /// Unanswered pipelined appends.
    pub inflight_count: usize,
    /// Bytes of entries in them.
    pub inflight_bytes: usize,
    /// Its last answer in this term to an append, heartbeat or offer.
    pub heard: Instant,
    /// The highest round of heartbeats and read probes that it answered in this term.
    pub acked_round: Round,
    /// The snapshot it is to get.
    pub offer: Option<OfferStatus>,
}

/// How far a peer is with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferStatus {
    /// Which.
    pub meta: SnapshotMeta,
    /// What the peer said last; nothing until it answers.
    pub outcome: Option<SnapshotOutcome>,
}

impl Raft {
    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &RaftConfig {
        &self.config
    }

    /// The highest term seen; it may not be durable yet.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Term and vote; they may not be durable yet.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Term and vote as the disk has them for certain.
    #[must_use]
    pub fn durable_hard_state(&self) -> HardState {
        self.durable.hard_state()
    }

    /// What this node is. A learner, and a removed node, are followers.
    #[must_use]
    pub fn role(&self) -> RoleKind {
        self.role.kind()
    }

    /// Who leads the current term, as far as this node knows; itself, if it does.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.config.identity.node),
            Role::Follower(follower) => follower.leader.map(|leader| leader.node),
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// How long ago this node last heard a leader that it followed.
    #[must_use]
    pub fn leader_silence(&self) -> Option<Duration> {
        self.leader_heard.map(|heard| self.now.saturating_since(heard))
    }

    /// True when the log takes no more proposals, only the cluster's own entries.
    #[must_use]
    pub fn is_log_full(&self) -> bool {
        self.log.bytes() >= self.config.log_bytes_max - self.config.log_bytes_reserve
    }

    /// The end of the log.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.log.last_index()
    }

    /// The term there.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.log.last_term()
    }

    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The highest index that is durable here.
    #[must_use]
    pub fn durable_index(&self) -> Index {
        self.durable.index()
    }

    /// The last disk write asked for.
    #[must_use]
    pub fn last_ticket(&self) -> Ticket {
        self.durable.last_issued()
    }

    /// What lies before the log's first entry.
    #[must_use]
    pub fn base(&self) -> Base {
        self.log.base()
    }

    /// The newest snapshot on this node's disk.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotMeta> {
        self.snapshot
    }

    /// The snapshot that the driver is to get, and how much of it is here.
    #[must_use]
    pub fn receiving(&self) -> Option<(SnapshotMeta, ReceiveProgress)> {
        self.receiving.map(|receiving| (receiving.meta, receiving.progress))
    }

    /// True while a snapshot that took the log's place in memory is not durable in that place.
    #[must_use]
    pub fn is_installing(&self) -> bool {
        self.durable.is_installing()
    }

    /// Bytes that the log takes in memory.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// The membership in force: the latest in the log.
    #[must_use]
    pub fn membership(&self) -> &Arc<Membership> {
        self.log.membership()
    }

    /// The index of the entry that holds it.
    #[must_use]
    pub fn membership_index(&self) -> Index {
        self.log.membership_index()
    }

    /// The entry at this index, while the log holds it.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.entry(index)
    }

    /// The term at this index, also right before the log's first entry.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The entries from this index on, in order; those at or below the base are not held any more.
    pub fn entries_from(&self, from: Index) -> impl Iterator<Item = &Entry> {
        self.log.entries_from(from)
    }

    /// A leader's view of its peers, by id; of any other node nothing.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> {
        let leader = match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        };
        leader.into_iter().flat_map(|leader| leader.progress.values()).map(|progress| {
            let (kind, inflight_count, inflight_bytes) = match &progress.state {
                State::Probe { is_out } => (ProgressKind::Probe, usize::from(*is_out), 0),
                State::Replicate(window) => (ProgressKind::Replicate, window.count(), window.bytes()),
                State::Snapshot(_) => (ProgressKind::Snapshot, 0, 0),
            };
            let offer = match &progress.state {
                State::Snapshot(Offer { meta: Some(meta), outcome, .. }) => {
                    Some(OfferStatus { meta: *meta, outcome: *outcome })
                }
                _ => None,
            };
            PeerStatus {
                identity: progress.identity,
                kind,
                match_index: progress.match_index,
                next_index: progress.next_index,
                inflight_count,
                inflight_bytes,
                heard: progress.heard,
                acked_round: progress.acked_round,
                offer,
            }
        })
    }

    /// True when this node leads and has committed an entry of its own term: reads and commits are current.
    #[must_use]
    pub fn is_settled_leader(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if self.commit >= leader.start)
    }

    /// How many answers and requests wait for the disk; a number that stays high tells of a disk that hangs.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.durable.held_count()
    }

    /// How many out-of-order appends wait, and their bytes; above zero for longer than a retransmission takes, a
    /// leader lost interest or the network is worse than it looks.
    #[must_use]
    pub fn reordered(&self) -> (usize, usize) {
        match &self.role {
            Role::Follower(follower) => (follower.reorder.count(), follower.reorder.bytes()),
            _ => (0, 0),
        }
    }
}

impl fmt::Display for Raft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, term) = (self.config.identity.node, self.term());
        write!(f, "{node}@{term} {}", self.role())?;
        write!(f, " last={}@{} commit={}", self.last_index(), self.last_term(), self.commit)?;
        write!(f, " durable={}", self.durable_index())?;
        match self.leader() {
            Some(leader) if leader != node => write!(f, " leader={leader}"),
            _ => Ok(()),
        }
    }
}
