//! Who is in the cluster of `cluster`: nodes that come, go, and lose their data folders; and an operator who sees to
//! that, at random, within what a cluster can bear: of its voters one at a time may have lost its data, while three or
//! more are left.

use super::cluster::{Cluster, ms};
use super::disk::Disk;
use super::node::Node;
use super::{id, identity};
use crate::membership::{Member, Membership, MembershipChange};
use crate::raft::ChangeError;
use crate::rng::Rng;
use crate::types::{HardState, Identity, Index, NodeId, StoreId};

/// Nodes have ids up to this.
const NODES_MAX: u64 = 6;

/// The data folder of this number of a node.
pub(super) fn store_of(node: NodeId, life: u8) -> Identity {
    let first = identity(node.as_u16());
    Identity { store: StoreId(first.store.0.map(|byte| byte + 16 * life)), ..first }
}

impl Cluster {
    /// Takes a node's data folder away; it starts as one that joins.
    pub(super) fn wipe(&mut self, node: NodeId) {
        self.crash(node);
        let state = self.nodes.get_mut(&node).unwrap();
        let disk = Disk { delay_min: ms(1), delay_max: ms(1), ..Disk::default() };
        let (boot, life) = (state.boot, state.life + 1);
        let wiped = Node { boot, life, ..Node::down(Membership::default(), disk) };
        let lost = core::mem::replace(state, wiped);
        self.checks.wiped(node, lost);
        self.start(node);
    }

    /// Who a node is, by its present data folder.
    pub(super) fn identity(&self, node: NodeId) -> Identity {
        store_of(node, self.nodes.get(&node).map_or(0, |state| state.life))
    }

    /// A change of the membership, asked of this node.
    pub(super) fn change(&mut self, node: NodeId, change: &MembershipChange) -> Result<Index, ChangeError> {
        let now = self.now;
        let state = self.nodes.get_mut(&node).filter(|state| state.paused_until <= now);
        let Some(raft) = state.and_then(|state| state.raft.as_mut()) else {
            return Err(ChangeError::NotLeader { leader: None });
        };
        let result = raft.change_membership(now, None, change);
        match &result {
            Ok(index) => self.note(format_args!("change {node} {change}: {index}")),
            Err(error) => self.note(format_args!("change {node} {change}: {error}")),
        }
        self.settle(node);
        result
    }

    /// The committed membership, as far as anyone knows it.
    fn committed(&self) -> Option<Membership> {
        self.checks.membership_at(self.checks.highest_commit())
    }
}

/// Whoever changes the membership.
#[derive(Debug, Default)]
pub(super) struct Operator {
    /// A voter that lost its data and is still a voter.
    lost: Option<Identity>,
    /// Changes that were taken, and changes of every kind.
    pub(super) taken: u64,
    pub(super) wipes: u64,
}

impl Operator {
    /// Does one thing, if the moment is right for it.
    pub(super) fn act(&mut self, cluster: &mut Cluster, rng: &mut Rng) {
        let Some(leader) = cluster.leader() else { return };
        let membership = Membership::clone(cluster.raft(leader.as_u16()).membership());
        let committed = cluster.committed();
        self.lost.take_if(|lost| committed.as_ref().is_some_and(|committed| !committed.contains(*lost)));
        let any = |rng: &mut Rng, of: Vec<NodeId>| {
            (!of.is_empty()).then(|| of[rng.below(of.len() as u64) as usize])
        };
        let change = match rng.below(12) {
            0..4 => {
                let node = id(1 + rng.below(NODES_MAX) as u16);
                self.prepare(cluster, node, rng);
                let member = Member { store: cluster.identity(node).store, address: format!("{node}:1") };
                Some(MembershipChange::Add { node, member })
            }
            4..7 => any(rng, membership.learners.keys().copied().collect())
                .map(|node| MembershipChange::Promote { node }),
            7..10 => {
                let all = membership.iter().map(|(id, _)| id).collect();
                let node = self.lost.map(|lost| lost.node).or_else(|| any(rng, all));
                node.map(|node| MembershipChange::Remove { node })
            }
            10 => any(rng, membership.iter().map(|(id, _)| id).collect())
                .map(|node| MembershipChange::Move { node, address: format!("moved{}:1", rng.below(3)) }),
            _ => {
                if let Some(node) = any(rng, membership.voters.keys().copied().collect()) {
                    self.lose(cluster, node, &membership);
                }
                None
            }
        };
        if let Some(change) = change {
            self.taken += u64::from(cluster.change(leader, &change).is_ok());
        }
    }

    /// A node that is to be added runs, perhaps with an empty folder.
    fn prepare(&mut self, cluster: &mut Cluster, node: NodeId, rng: &mut Rng) {
        let is_new = !cluster.nodes.contains_key(&node);
        if is_new {
            cluster.add(node, Membership::default(), HardState::default(), Vec::new());
        }
        let own = cluster.identity(node);
        let is_free = cluster.committed().is_some_and(|committed| !committed.contains(own));
        if !is_new && is_free && rng.chance(0.5) {
            cluster.wipe(node);
            self.wipes += 1;
        }
    }

    /// A voter loses its data, if the others are enough.
    fn lose(&mut self, cluster: &mut Cluster, node: NodeId, membership: &Membership) {
        let agrees = |state: &Node| {
            state
                .raft
                .as_ref()
                .is_some_and(|raft| **raft.membership() == *membership || !raft.membership().is_valid())
        };
        let is_bearable = self.lost.is_none() && membership.voters.len() >= 3 && !membership.is_joint();
        let members = cluster.nodes.iter().filter(|(id, _)| membership.member(**id).is_some());
        let is_quiet =
            members.map(|(_, state)| state).all(agrees) && cluster.committed().as_ref() == Some(membership);
        if is_bearable && is_quiet {
            self.lost = Some(cluster.identity(node));
            cluster.wipe(node);
            self.wipes += 1;
        }
    }
}
