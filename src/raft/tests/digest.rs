//! What tells two states of the explorer's world apart: everything that can change what happens next, and nothing
//! else. Equal digests mean equal futures.
//!
//! Left out or made canonical, and why that loses nothing:
//! - Moments count relative to now: a world that is later by an hour behaves the same. An age above the election
//!   timeout, or a deadline that has passed, differ from others of their kind in nothing.
//! - Tickets count from the last finished one.
//! - The generator: the longest and the shortest timeout are equal here, so what it draws does not matter.
//! - Rounds that peers answered: this world reads nothing.
//! - What the driver was told: it follows from the rest once outputs are drained.

use core::fmt::{self, Write as _};
use core::hash::{Hash, Hasher};
use core::time::Duration;
use std::hash::DefaultHasher;

use super::checks::Checks;
use super::node::Node;
use crate::raft::Raft;
use crate::raft::progress::{Progress, State};
use crate::raft::role::Role;
use crate::time::Instant;
use crate::types::{HardState, NodeId};

/// Hashes text without keeping it.
struct Text(DefaultHasher);

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// For what is rare or made once: by its debug text, which shows every field.
pub(super) fn of_text(what: fmt::Arguments<'_>) -> u64 {
    let mut text = Text(DefaultHasher::new());
    text.write_fmt(what).unwrap();
    text.0.finish()
}

/// One node with its disk.
pub(super) fn of_node(node: &Node, now: Instant) -> u64 {
    let mut hasher = DefaultHasher::new();
    let state = &mut hasher;
    node.boot.hash(state);
    hard_state(node.disk.hard_state, state);
    node.disk.entries.last().map(|entry| (entry.index, entry.chain)).hash(state);
    for batch in &node.disk.pending {
        batch.hard_state.is_some().hash(state);
        hard_state(batch.hard_state.unwrap_or_default(), state);
        batch.truncate_from.hash(state);
        // The chain value of the last entry vouches for those before it.
        (batch.entries.len(), batch.entries.last().map(|entry| (entry.index, entry.chain))).hash(state);
    }
    if let Some(raft) = &node.raft {
        core(raft, now, state);
    }
    hasher.finish()
}

/// A world: its nodes, its bag, and what the checks remember of its past.
pub(super) fn of_past(checks: &Checks, bag: u64, nodes: &[u64]) -> u64 {
    let mut hasher = DefaultHasher::new();
    checks.hash_into(&mut hasher);
    (bag, nodes).hash(&mut hasher);
    hasher.finish()
}

fn core(raft: &Raft, now: Instant, state: &mut impl Hasher) {
    let patience = raft.config.election_timeout_max;
    hard_state(raft.hard_state, state);
    (raft.log.last_index(), raft.log.last_chain(), raft.commit).hash(state);
    raft.durable.hash_into(now, state);
    raft.ruler.leader.hash(state);
    raft.ruler.verified.hash(state);
    raft.campaigns.hash(state);
    raft.election_deadline.map(|deadline| deadline.saturating_since(now)).hash(state);
    raft.leader_heard.map(|heard| age(heard, now, patience)).hash(state);
    raft.quiet_until.saturating_since(now).hash(state);
    (raft.role.kind() as u8).hash(state);
    match &raft.role {
        Role::Follower(follower) => {
            (follower.leader, follower.anchor).hash(state);
            if follower.reorder.count() > 0 {
                of_text(format_args!("{:?}", follower.reorder)).hash(state);
            }
        }
        Role::PreCandidate(campaign) | Role::Candidate(campaign) => {
            (campaign.number, &campaign.granted).hash(state);
        }
        Role::Leader(leader) => {
            (leader.start, leader.round).hash(state);
            leader.heartbeat_due.saturating_since(now).hash(state);
            assert!(leader.reads.count() == 0 && leader.transfer.is_none(), "this world has none");
            for (peer, progress) in &leader.progress {
                of_progress(*peer, progress, now, patience, state);
            }
        }
    }
}

fn of_progress(peer: NodeId, progress: &Progress, now: Instant, patience: Duration, state: &mut impl Hasher) {
    (peer, progress.match_index, progress.next_index, progress.attempt).hash(state);
    age(progress.heard, now, patience).hash(state);
    progress.asked.map(|asked| age(asked, now, patience)).hash(state);
    progress.is_paused.hash(state);
    match &progress.state {
        State::Probe { is_out } => is_out.hash(state),
        State::Replicate(window) => (2, window.count(), window.bytes()).hash(state),
        State::Snapshot(_) => panic!("no snapshots here"),
    }
}

fn hard_state(hard_state: HardState, state: &mut impl Hasher) {
    (hard_state.term, hard_state.vote).hash(state);
}

fn age(since: Instant, now: Instant, max: Duration) -> Duration {
    now.saturating_since(since).min(max)
}
