//! A node's state, and what changed of it between two looks.

use std::sync::Arc;

use crate::membership::Membership;
use crate::raft::{Raft, RoleKind};
use crate::time::Instant;
use crate::trace::event::{Change, Event, What};
use crate::types::{HardState, Index, NodeId, Term};

/// What a node holds at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its term, durable or not.
    pub term: Term,
    /// Whom it voted for in that term, durable or not.
    pub vote: Option<NodeId>,
    /// What it is.
    pub role: RoleKind,
    /// Whom it takes for the leader.
    pub leader: Option<NodeId>,
    /// Its commit index.
    pub commit: Index,
    /// The index that the log begins after.
    pub base: Index,
    /// Its last index.
    pub last_index: Index,
    /// That entry's term.
    pub last_term: Term,
    /// What its disk holds.
    pub durable: Durable,
    /// Who is in, by the latest membership in its log.
    pub members: Arc<Members>,
}

/// What a node's disk is known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The term.
    pub term: Term,
    /// The vote.
    pub vote: Option<NodeId>,
    /// The last index.
    pub last_index: Index,
}

/// Who is in a cluster, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The entry that holds the membership; 0 for the founding record's.
    pub index: Index,
    /// Those who vote.
    pub voters: Vec<NodeId>,
    /// Those who vote until the joint membership ends.
    pub outgoing: Vec<NodeId>,
    /// Those who only receive.
    pub learners: Vec<NodeId>,
}

impl Members {
    fn of(raft: &Raft) -> Self {
        let membership = raft.membership();
        Self {
            index: raft.membership_index(),
            voters: membership.voters.keys().copied().collect(),
            outgoing: membership.outgoing.keys().copied().collect(),
            learners: membership.learners.keys().copied().collect(),
        }
    }
}

impl State {
    /// A node's state now.
    #[must_use]
    pub fn of(raft: &Raft) -> Self {
        Self::with_members(raft, Arc::new(Members::of(raft)))
    }

    fn with_members(raft: &Raft, members: Arc<Members>) -> Self {
        let node = |state: HardState| state.vote.map(|vote| vote.node);
        let (hard_state, durable) = (raft.hard_state(), raft.durable_hard_state());
        Self {
            term: hard_state.term,
            vote: node(hard_state),
            role: raft.role(),
            leader: raft.leader(),
            commit: raft.commit(),
            base: raft.base().index,
            last_index: raft.last_index(),
            last_term: raft.last_term(),
            durable: Durable { term: durable.term, vote: node(durable), last_index: raft.durable_index() },
            members,
        }
    }
}

/// Tells what changed of one node, from one boot to its end.
#[derive(Clone, Debug)]
pub struct Observer {
    node: NodeId,
    /// What was told last, and the membership it names.
    last: Option<(State, Arc<Membership>)>,
}

impl Observer {
    /// An observer of a node that has just booted. Its first look tells what was restored; the boot itself is told
    /// before.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self { node, last: None }
    }

    /// Looks at the node and tells `tell` what changed since the last look, an event for each thing. All of them
    /// show the state at this look.
    pub fn observe(&mut self, at: Instant, raft: &Raft, tell: &mut dyn FnMut(Event)) {
        let node = Some(self.node);
        let Some((last, membership)) = &self.last else {
            let state = State::of(raft);
            tell(Event { at, node, what: What::Change(Change::Restored, state.clone()) });
            self.last = Some((state, Arc::clone(raft.membership())));
            return;
        };
        let is_same =
            raft.membership_index() == last.members.index && Arc::ptr_eq(raft.membership(), membership);
        let members = if is_same { Arc::clone(&last.members) } else { Arc::new(Members::of(raft)) };
        let state = State::with_members(raft, members);
        if state == *last {
            return;
        }
        let log = log_change(last, &state, raft);
        for change in Change::ALL.into_iter().filter(|change| has_changed(*change, last, &state, log)) {
            tell(Event { at, node, what: What::Change(change, state.clone()) });
        }
        self.last = Some((state, Arc::clone(raft.membership())));
    }
}

/// What happened at the log's end: its last entry of before is still there, or it is not.
fn log_change(last: &State, state: &State, raft: &Raft) -> Option<Change> {
    let stands = last.last_index <= state.base || raft.term_at(last.last_index) == Some(last.last_term);
    match (stands, last.last_index == state.last_index) {
        (false, _) => Some(Change::Truncate),
        (true, false) => Some(Change::Append),
        (true, true) => None,
    }
}

fn has_changed(change: Change, last: &State, state: &State, log: Option<Change>) -> bool {
    match change {
        Change::Restored => false,
        Change::Term => last.term != state.term,
        // With a new term the old vote is gone, which is no vote of its own.
        Change::Vote if last.term != state.term => state.vote.is_some(),
        Change::Vote => last.vote != state.vote,
        Change::Role => last.role != state.role,
        Change::Leader => last.leader != state.leader,
        Change::Append | Change::Truncate => log == Some(change),
        Change::Compact => last.base != state.base,
        Change::Membership => last.members != state.members,
        Change::Durable => last.durable != state.durable,
        Change::Commit => last.commit != state.commit,
    }
}
