//! Invariants 26 to 28: what the run as a whole owes.

use core::time::Duration;
use std::collections::BTreeSet;

use super::quorum;
use super::subject::Subject;
use super::violation::{Broken, Invariant, Violation, hold};
use crate::membership::Membership;
use crate::node::Timing;
use crate::raft::RoleKind;
use crate::time::Instant;
use crate::types::{Identity, Index, NodeId};

/// Election timeouts within which a leader must stand.
pub const LEADER_TIMEOUTS: u32 = 10;

/// Connectivity graphs that need not make progress although a majority is mutually connected: none.
pub const EXEMPT: &[&str] = &[];

/// By when a healed cluster must have a leader: ten of its longest election timeouts. What else heals counts from the
/// last obstacle: `slack` is for what the run itself still has to undo, hung disks and paused nodes among it.
#[must_use]
pub fn leader_deadline(healed: Instant, timing: &Timing, slack: Duration) -> Instant {
    healed + timing.election_timeout_max * LEADER_TIMEOUTS + slack
}

/// By when all members must be equal and serve: as long again, and what it takes to send what they lack.
#[must_use]
pub fn rest_deadline(healed: Instant, timing: &Timing, slack: Duration) -> Instant {
    healed + timing.election_timeout_max * (2 * LEADER_TIMEOUTS) + 2 * slack
}

/// 26: two runs of one seed.
///
/// # Errors
/// When their traces differ.
pub fn check_determinism(at: Instant, first: u64, second: u64) -> Result<(), Violation> {
    if first == second {
        return Ok(());
    }
    let text = format!("one run's trace hashes to {first:016x}, the same seed's to {second:016x}");
    Err(Violation { invariant: Invariant::Determinism, node: None, at, text })
}

/// 28: the nodes of a mutually connected majority, where there is one: every two of them reach each other both ways,
/// and together they are a quorum. The largest such set, and among equal ones the one with the lowest ids.
#[must_use]
pub fn connected_core(
    membership: &Membership,
    is_up: impl Fn(NodeId) -> bool,
    reaches: impl Fn(NodeId, NodeId) -> bool,
) -> Option<BTreeSet<NodeId>> {
    let nodes: Vec<NodeId> = membership.iter().map(|(id, _)| id).filter(|id| is_up(*id)).collect();
    assert!(nodes.len() <= 16, "{} nodes have too many subsets", nodes.len());
    let mut best: Option<BTreeSet<NodeId>> = None;
    for subset in 1u32..1 << nodes.len() {
        let chosen: BTreeSet<NodeId> =
            nodes.iter().enumerate().filter(|(at, _)| subset >> at & 1 == 1).map(|(_, id)| *id).collect();
        let is_larger = best.as_ref().is_none_or(|best| chosen.len() > best.len());
        let is_mutual = || chosen.iter().all(|a| chosen.iter().all(|b| a == b || reaches(*a, *b)));
        let is_quorum = || quorum::is_quorum(membership, |who: Identity| chosen.contains(&who.node));
        if is_larger && is_mutual() && is_quorum() {
            best = Some(chosen);
        }
    }
    best
}

/// Whether a healed cluster has come to rest: one leader that all members follow, nothing that is not committed,
/// applied and equal everywhere, no joint membership.
pub(super) fn check_rest<'a, S: Subject + 'a>(
    nodes: impl Iterator<Item = &'a S> + Clone,
) -> Result<(), Broken> {
    let leader = nodes
        .clone()
        .filter(|node| node.role() == RoleKind::Leader)
        .max_by_key(|node| node.hard_state().term);
    let Some(leader) = leader else {
        hold!(false, LivenessAfterHeal, "nobody leads");
        return Ok(());
    };
    let (membership, _) = leader.membership();
    let (term, last) = (leader.hard_state().term, leader.last());
    hold!(!membership.is_joint(), LivenessAfterHeal, "the membership is still joint: {membership}");
    hold!(leader.commit() == last, LivenessAfterHeal, "{} of {last} is committed", leader.commit());
    for node in nodes.filter(|node| membership.contains(node.identity())) {
        let id = node.identity();
        hold!(
            node.hard_state().term == term,
            LivenessAfterHeal,
            "{id} is in term {}, the leader in {term}",
            node.hard_state().term
        );
        let is_equal = node.last() == last && node.mark(last) == leader.mark(last);
        hold!(is_equal, LivenessAfterHeal, "{id} has a log to {}, the leader to {last}", node.last());
        let (commit, applied): (Index, Index) = (node.commit(), node.applied());
        hold!(
            commit == last && applied == last,
            LivenessAfterHeal,
            "{id} has committed {commit} and applied {applied} of {last}"
        );
        hold!(
            node.sessions_hash() == leader.sessions_hash(),
            StateMachineSafety,
            "{id} has other sessions than the leader"
        );
    }
    Ok(())
}
