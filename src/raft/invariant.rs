//! What is true of a node after every step, and of every step.
//!
//! Checked after each command and each `handle_*` in builds with debug assertions, so every test of every room
//! above runs under it. Numbers name the invariants of a whole cluster that these are one node's share of:
//!
//! | number | of a cluster | one node's share |
//! |---|---|---|
//! | 1 | one leader a term | it leads only with its own vote durable, and never twice in a term |
//! | 2 | leaders only append | its log does not shrink while it leads |
//! | 4 | leaders hold what is committed | its commit index lies within its log |
//! | 7 | what is committed stays | the chain value at the commit index of before is what it was |
//! | 8 | base, snapshot, commit, last and durable are ordered | so, but for what a snapshot being put in place covers |
//! | 9 | term, vote within a term, and commit never go back | so, in memory and on disk |
//! | 10 | votes and terms are durable before they are shown | a candidate counts, a leader leads, only then |
//! | 12 | a leader counts itself by its disk | the durable index lies within the log |
//! | 14 | only members campaign, by their latest membership | the membership in force is one in the log |
//! | 23 | memory is bounded | buffers, windows and reads are within their bounds |
//!
//! The remaining ones need two nodes to compare; `tests/checks.rs` does that.
//!
//! The checks cost a few comparisons and one pass over the peers, not over the log: the log's own rules are
//! asserted where entries are added and removed.

use super::Raft;
use super::config::NUMBER_MAX;
use super::progress::State;
use super::role::{Leader, Role};
use crate::types::{HardState, Index, Term};

/// What a step is compared with: the little of a state that a sound step may not take back.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    hard_state: HardState,
    durable_hard_state: HardState,
    commit: Index,
    commit_chain: Option<u32>,
    last: Index,
    base: Index,
    leads: Option<Term>,
}

impl Observation {
    /// A node as it is now.
    #[must_use]
    pub fn of(raft: &Raft) -> Self {
        Self {
            hard_state: raft.hard_state,
            durable_hard_state: raft.durable.hard_state(),
            commit: raft.commit,
            commit_chain: raft.log.chain_at(raft.commit),
            last: raft.log.last_index(),
            base: raft.log.base().index,
            leads: matches!(raft.role, Role::Leader(_)).then_some(raft.hard_state.term),
        }
    }
}

/// The state alone.
///
/// # Panics
/// When it is broken.
pub fn check(raft: &Raft) {
    let own = raft.config.identity;
    let HardState { term, vote } = raft.hard_state;
    let (base, commit, last) = (raft.log.base().index, raft.commit, raft.log.last_index());
    // Ordering (8).
    assert!(base <= commit, "{own}: base {base} above commit {commit}");
    assert!(commit <= last, "{own}: commit {commit} above last {last}");
    assert!(raft.durable.index() <= last, "{own}: durable {} above last {last}", raft.durable.index());
    let is_installing = raft.durable.is_installing();
    assert!(
        is_installing || raft.durable.index() >= base,
        "{own}: durable {} below base {base}",
        raft.durable.index()
    );
    let snapshot = raft.snapshot.map(|meta| meta.id.index);
    assert!(snapshot.is_none_or(|index| base <= index && index <= commit), "{own}: snapshot {snapshot:?}");
    assert!(raft.receiving.is_none_or(|r| r.meta.id.index > base), "{own}: receives what it has");
    assert!(raft.log.last_term() <= term, "{own}: last term {} above {term}", raft.log.last_term());
    assert!(raft.log.membership_index() <= last, "{own}: a membership beyond the log's end {last}");
    assert!(term.0 <= NUMBER_MAX, "{own}: term {term} does not fit the wire");
    assert!(raft.ruler.verified <= last, "{own}: verified {} above {last}", raft.ruler.verified);
    if let Some(repair) = &raft.repair {
        assert!(matches!(raft.role, Role::Follower(_)), "{own}: a damaged log and a {}", raft.role.kind());
        let first = repair.kept().front().map(|entry| entry.index);
        assert!(first.is_none_or(|first| first > last.next()), "{own}: kept from {first:?}, last {last}");
        assert!(repair.kept().iter().is_sorted_by(|a, b| a.index < b.index), "{own}: kept out of order");
    }
    let durable = raft.durable.hard_state();
    assert!(durable.term <= term, "{own}: {durable} is durable in term {term}");
    if raft.durable.is_hard_state_durable() {
        assert_eq!(durable, raft.hard_state, "{own}: the durable hard state is the newest");
    }
    match &raft.role {
        // What is verified, waits or is anchored belongs to the one leader it follows.
        Role::Follower(follower) => {
            assert_ne!(follower.leader, Some(own), "{own} follows itself");
            let known = raft.ruler.leader;
            assert!(
                follower.leader.is_none() || follower.leader == known,
                "{own} follows another than {known:?}"
            );
            let (bytes, bytes_max) = (follower.reorder.bytes(), raft.config.reorder_bytes_max);
            assert!(bytes <= bytes_max, "{own}: {bytes} of {bytes_max} bytes out of order");
            let first = follower.reorder.first();
            assert!(first.is_none_or(|first| first > last), "{own}: {first:?} waits at {last}");
            assert!(first.is_none() || follower.anchor.is_some(), "{own}: appends wait for no attempt");
        }
        Role::PreCandidate(campaign) => {
            assert!(campaign.granted.contains(&own), "{own}: a pre-candidate counts itself");
            assert!(raft.election_deadline.is_some(), "{own}: a pre-candidate waits for ever");
        }
        Role::Candidate(campaign) => {
            assert_eq!(vote, Some(own), "{own}: a candidate voted for itself");
            // Vote durable before it is counted (10).
            let counts_itself = campaign.granted.contains(&own);
            assert_eq!(counts_itself, raft.durable.is_hard_state_durable(), "{own}: {durable}");
            assert_eq!(raft.election_deadline.is_some(), counts_itself, "{own}: timer of an unwritten vote");
        }
        Role::Leader(leader) => check_leader(raft, leader),
    }
}

/// Raft paper, figure 2, "Leaders" and "Volatile state on leaders".
fn check_leader(raft: &Raft, leader: &Leader) {
    let own = raft.config.identity;
    let (term, last) = (raft.term(), raft.log.last_index());
    assert_eq!(raft.hard_state.vote, Some(own), "{own}: a leader voted for itself");
    assert_eq!(raft.ruler.leader, Some(own), "{own} leads term {term} and knows another leader");
    assert!(raft.durable.is_hard_state_durable(), "{own} leads term {term} without a durable vote");
    assert!(raft.election_deadline.is_none(), "{own}: a leader waits for an election");
    let is_start_held = leader.start < raft.log.base().index || raft.log.term_at(leader.start) == Some(term);
    assert!(is_start_held, "{own}: no no-op at {}", leader.start);
    assert_eq!(raft.log.last_term(), term, "{own}: the log of a leader ends in its term");
    assert!(!leader.progress.contains_key(&own.node), "{own} has a progress of itself");
    assert!(leader.reads.round().is_none_or(|round| round <= leader.round), "{own}: a round of the future");
    assert!(leader.reads.count() <= raft.config.reads_max, "{own}: {} reads", leader.reads.count());
    for (id, progress) in &leader.progress {
        let (matched, next) = (progress.match_index, progress.next_index);
        assert_eq!(progress.identity.node, *id, "{own}: progress under the wrong id");
        assert!(matched < next, "{own}: {id} match {matched}, next {next}");
        assert!(next <= last.next(), "{own}: {id} next {next}, last {last}");
        assert!(progress.acked_round <= leader.round, "{own}: {id} answered a round of the future");
        if let State::Replicate(window) = &progress.state {
            let (count, max) = (window.count(), raft.config.inflight_appends_max);
            assert!(count <= max, "{own}: {count} of {max} appends to {id}");
            // An idle window is empty (L12).
            assert!(matched < last || window.bytes() == 0, "{own}: {} idle bytes to {id}", window.bytes());
        }
    }
}

/// The step from a state observed before.
///
/// # Panics
/// When it is not one that a sound node makes.
pub fn check_step(before: &Observation, raft: &Raft) {
    let own = raft.config.identity;
    let after = Observation::of(raft);
    // Monotone: term, vote within a term, commit (9).
    assert!(after.hard_state.term >= before.hard_state.term, "{own}: {before:?} to {after:?}");
    if after.hard_state.term == before.hard_state.term && before.hard_state.vote.is_some() {
        assert_eq!(after.hard_state.vote, before.hard_state.vote, "{own}: a second vote in a term");
    }
    assert!(after.commit >= before.commit, "{own}: commit fell from {} to {}", before.commit, after.commit);
    assert!(
        after.durable_hard_state.term >= before.durable_hard_state.term,
        "{own}: {before:?} to {after:?}"
    );
    // What was committed stays as it was (7); the chain value vouches for all before it. Below the base it cannot be
    // looked at any more.
    assert!(
        before.commit < raft.log.base().index || raft.log.chain_at(before.commit) == before.commit_chain,
        "{own}: entry {} changed",
        before.commit
    );
    assert!(raft.log.base().index >= before.base, "{own}: the base fell from {}", before.base);
    // Leaders append only (2), and never lead a second time in a term.
    if before.leads.is_some() && before.leads == after.leads {
        assert!(after.last >= before.last, "{own}: a leader's log fell to {}", after.last);
    }
    if after.leads.is_some() && before.leads != after.leads {
        assert!(before.leads.is_none(), "{own}: leads {:?} right after {:?}", after.leads, before.leads);
    }
}
