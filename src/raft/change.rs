//! Changing who is in the cluster: joint consensus (Raft paper §6) with learners first (thesis §4.2.1).
//!
//! # The way of a change
//! 1. A leader is asked. It refuses while it does not know what is committed (M1), while another change runs (M11),
//!    while leadership is being handed over, and when the asker saw another membership than the one in force.
//! 2. Who does not vote comes and goes in one entry. A change of the voters begins with a *joint* entry: from then on
//!    a majority of the old voters and one of the new are needed for everything, so neither can decide alone.
//! 3. The entry acts from the moment it is in a log, committed or not, and no more when it is cut off (M3). That is
//!    kept by `log`; who needs the membership asks there each time.
//! 4. When the joint entry is committed, whoever leads appends the one that leaves it, once: after that its own log
//!    is not joint any more (M2).
//! 5. When that is committed, those who are not in it are let go.
//!
//! # Why no change before an entry of the own term is committed
//! A new leader's commit index may lag behind. What looks to it like the committed membership may be one that a
//! leader before it has changed already, and the two successors of one membership need not share a quorum (Ongaro,
//! raft-dev 2015). With an entry of its own term committed, everything before it is, and the log's latest membership
//! was the only one.
//!
//! # What must be true of the moment
//! A change of voters that could not be committed would wedge the cluster in a joint membership. So the voters that
//! were heard lately must make a quorum of both halves (M7), and a learner is promoted only when it has nearly
//! everything (M12): else the next commits would wait for it.
//!
//! # Those who go
//! A removed node is sent to until a moment after the entry that leaves it out is committed, so that in most cases it
//! learns of that; then everything open to it is given up (M9). If it does not learn of it, it asks for pre-votes now
//! and then, which changes nothing anywhere (E13).
//!
//! A leader that removes itself goes on until the leaving entry is committed, by the others' disks alone (M8). Then it
//! hands over to whoever holds most, and steps down also if that fails.
//!
//! While the leaving entry is not committed for all it knows, an outgoing voter that has it still campaigns: its log
//! may be the longest of those alive, so nobody else could win (thesis §4.2.2). It counts by the entry all the same:
//! not itself.

use core::fmt;
use std::sync::Arc;

use super::Raft;
use super::output::Output;
use super::progress::Progress;
use super::quorum;
use super::role::{Leader, Role, TransferState};
use crate::entry::Payload;
use crate::membership::{Membership, MembershipChange, MembershipError};
use crate::mutant::{self, Mutant};
use crate::time::Instant;
use crate::types::{Identity, Index, NodeId};

/// Why a membership was not changed. None of these had any effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeError {
    /// Ask the leader.
    NotLeader {
        /// Who that is, as far as known.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over; ask the next leader.
    Transferring {
        /// To whom.
        to: NodeId,
    },
    /// The leader is new and does not know yet what is committed; ask again in a moment.
    NotReady,
    /// Another change has not ended: wait for it.
    Running {
        /// The entry that began it, or that leaves the joint membership.
        index: Index,
    },
    /// The membership is not the one the caller saw.
    Version {
        /// What the caller saw.
        expected: Index,
        /// What is in force.
        actual: Index,
    },
    /// The membership in force and the change do not go together.
    Unfit(MembershipError),
    /// The learner was not heard of within an election timeout.
    Silent {
        /// Which.
        node: NodeId,
    },
    /// The learner lacks too many entries to vote.
    NotCaughtUp {
        /// Which.
        node: NodeId,
        /// How many.
        lag: u64,
    },
    /// The voters heard of within an election timeout could not commit it.
    QuorumAtRisk {
        /// How many of the voters were heard, of the half that has too few.
        alive: usize,
        /// How many must be.
        needed: usize,
    },
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader, {leader} is"),
            Self::NotLeader { leader: None } => f.write_str("not the leader, and none is known"),
            Self::Transferring { to } => write!(f, "leadership is being handed to {to}"),
            Self::NotReady => f.write_str("the leader is new and does not know yet what is committed"),
            Self::Running { index } => write!(f, "the change at index {index} has not ended"),
            Self::Version { expected, actual } => {
                write!(f, "the membership is that of index {actual}, not of {expected}")
            }
            Self::Unfit(error) => error.fmt(f),
            Self::Silent { node } => write!(f, "{node} does not answer"),
            Self::NotCaughtUp { node, lag } => write!(f, "{node} lacks {lag} entries"),
            Self::QuorumAtRisk { alive, needed } => {
                write!(f, "{alive} voters answer, {needed} are needed for it")
            }
        }
    }
}

impl core::error::Error for ChangeError {}

impl From<MembershipError> for ChangeError {
    fn from(error: MembershipError) -> Self {
        Self::Unfit(error)
    }
}

impl Raft {
    /// Begins a change of the membership. Gives the index of the entry that begins it: the change is done when that
    /// is committed and the membership settled. If it is so already, or will be when the joint membership is left,
    /// gives the version in force, whatever the caller saw: so asking again does no harm.
    ///
    /// `expected` is the version that the caller saw, the index of the entry that holds the membership; without it
    /// nothing is compared.
    pub fn change_membership(
        &mut self,
        now: Instant,
        expected: Option<Index>,
        change: &MembershipChange,
    ) -> Result<Index, ChangeError> {
        let before = self.begin(now);
        if !matches!(self.role, Role::Leader(_)) {
            return Err(ChangeError::NotLeader { leader: self.leader() });
        }
        if self.log.membership().has(change) {
            return Ok(self.membership_index());
        }
        self.check_change_allowed(expected)?;
        let next = self.log.membership().changed(change)?;
        if let MembershipChange::Promote { node } = change {
            self.check_caught_up(now, *node)?;
        }
        if next.is_joint() {
            self.check_quorum_heard(now, &next)?;
        }
        let index = self.append_membership(now, next);
        self.end(before);
        Ok(index)
    }

    /// True when the membership in force is committed, as far as this node knows, and not joint.
    #[must_use]
    pub fn is_membership_settled(&self) -> bool {
        self.log.membership_index() <= self.commit && !self.log.membership().is_joint()
    }

    /// Whether a leader may append a membership at all: one at a time, from what is committed for certain.
    fn check_change_allowed(&self, expected: Option<Index>) -> Result<(), ChangeError> {
        let Role::Leader(leader) = &self.role else { panic!("only a leader changes the membership") };
        if let Some(transfer) = &leader.transfer {
            return Err(ChangeError::Transferring { to: transfer.to });
        }
        if !self.knows_commit(leader) {
            return Err(ChangeError::NotReady);
        }
        let actual = self.log.membership_index();
        if !self.is_membership_settled() {
            return Err(ChangeError::Running { index: actual });
        }
        match expected.filter(|expected| *expected != actual) {
            Some(expected) => Err(ChangeError::Version { expected, actual }),
            None => Ok(()),
        }
    }

    /// An entry of the own term is committed, hence all before (M1).
    fn knows_commit(&self, leader: &Leader) -> bool {
        self.commit >= leader.start || mutant::is(Mutant::M1)
    }

    /// A learner that votes while it lacks much would make commits wait (M12). It also must know of the latest change:
    /// then it knows itself.
    fn check_caught_up(&self, now: Instant, node: NodeId) -> Result<(), ChangeError> {
        let Role::Leader(leader) = &self.role else { panic!("only a leader changes the membership") };
        let Some(progress) = leader.progress.get(&node) else {
            return Err(MembershipError::Unknown { node }.into());
        };
        if !self.is_heard(now, leader, progress) {
            return Err(ChangeError::Silent { node });
        }
        let lag = self.log.last_index().0 - progress.match_index.0;
        let is_far =
            lag > self.config.promotion_lag_max || progress.match_index < self.log.membership_index();
        if is_far { Err(ChangeError::NotCaughtUp { node, lag }) } else { Ok(()) }
    }

    /// True when this node leads and this learner could be promoted, as far as that depends on the learner.
    #[must_use]
    pub fn is_caught_up(&self, now: Instant, node: NodeId) -> bool {
        matches!(self.role, Role::Leader(_)) && self.check_caught_up(now, node).is_ok()
    }

    /// To whom this leader is handing over.
    #[must_use]
    pub fn transferring(&self) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        leader.transfer.map(|transfer| transfer.to)
    }

    /// The voters heard of must be able to commit it, in both halves (M7).
    fn check_quorum_heard(&self, now: Instant, next: &Membership) -> Result<(), ChangeError> {
        let own = self.config.identity;
        let Role::Leader(leader) = &self.role else { panic!("only a leader changes the membership") };
        let is_alive = |who: Identity| {
            let progress = leader.progress.get(&who.node).filter(|progress| progress.identity == who);
            who == own || progress.is_some_and(|progress| self.is_heard(now, leader, progress))
        };
        for half in [&next.voters, &next.outgoing] {
            let (alive, needed) = quorum::count(half, is_alive);
            if alive < needed {
                return Err(ChangeError::QuorumAtRisk { alive, needed });
            }
        }
        Ok(())
    }

    /// It answered in this term what it was asked not long ago; that its leader was elected lately is no sign of its
    /// life, nor is an answer that lay waiting while the leader was paused.
    fn is_heard(&self, now: Instant, leader: &Leader, progress: &Progress) -> bool {
        let asked = leader.rounds.begun_at(progress.acked_round);
        asked.is_some_and(|asked| now.saturating_since(asked) < self.config.election_timeout_max)
    }

    /// It acts from here on.
    fn append_membership(&mut self, now: Instant, next: Membership) -> Index {
        assert!(self.log.membership_index() <= self.commit, "a second membership that is not committed");
        assert!(next.is_valid(), "{next}");
        let index = self.log.append(self.hard_state.term, Payload::Membership(Arc::new(next)));
        self.follow_membership(now);
        // It may need fewer.
        self.advance_commit();
        index
    }

    /// Gives every member a progress, of the store that counts.
    pub(super) fn follow_membership(&mut self, now: Instant) {
        let own = self.config.identity.node;
        let membership = Arc::clone(self.log.membership());
        let next_index = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        for (node, member) in membership.iter().filter(|(id, _)| *id != own) {
            let identity = Identity { node, store: member.store };
            match leader.progress.get_mut(&node) {
                Some(progress) if progress.identity == identity => progress.retire_at = None,
                known => {
                    if known.is_some() {
                        leader.drop_progress(node);
                        self.durable.tell(Output::CancelRequests { to: node });
                    }
                    let progress = Progress::of_later(identity, next_index, now, leader.attempts);
                    leader.progress.insert(node, progress);
                }
            }
        }
    }

    /// What a leader does next about the membership, as soon as it may.
    pub(super) fn advance_membership(&mut self, now: Instant) {
        let Role::Leader(leader) = &self.role else { return };
        let membership = Arc::clone(self.log.membership());
        if self.log.membership_index() > self.commit {
            return;
        }
        let is_known = self.knows_commit(leader);
        if membership.is_joint() && is_known && self.begins_leaving() {
            self.append_membership(now, membership.left());
            return;
        }
        if !membership.is_joint() && is_known {
            self.retire_others(now, &membership);
            if !membership.is_voter(self.config.identity) {
                self.leave_office(now);
            }
        }
    }

    /// Whoever leads ends what another began (M2).
    fn begins_leaving(&self) -> bool {
        let begun_in = self.log.term_at(self.log.membership_index());
        !mutant::is(Mutant::M2) || begun_in == Some(self.hard_state.term)
    }

    /// Those who are no members any more are given up a moment after that is committed, whatever is open to them (M9).
    fn retire_others(&mut self, now: Instant, membership: &Membership) {
        let patience = self.config.election_timeout_max;
        let Role::Leader(leader) = &mut self.role else { return };
        let mut retired = Vec::new();
        for (id, progress) in &mut leader.progress {
            if !membership.contains(progress.identity)
                && now >= *progress.retire_at.get_or_insert(now + patience)
            {
                retired.push(*id);
            }
        }
        for to in retired {
            leader.drop_progress(to);
            self.durable.tell(Output::CancelRequests { to });
        }
    }

    /// A leader that is no voter any more (M8): it tries to hand over, once.
    fn leave_office(&mut self, now: Instant) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.transfer.is_some() {
            return;
        }
        let target = if leader.is_leaving { None } else { self.transfer_target(None) };
        let deadline = now + self.config.election_timeout_max;
        match (target, &mut self.role) {
            (Some(to), Role::Leader(leader)) => {
                leader.is_leaving = true;
                leader.transfer = Some(TransferState { to, deadline, is_sent: false });
            }
            _ => self.become_follower(now, None),
        }
    }

    /// Whether this node counts, or may have to stand for those who do: by the latest membership in its log (E18), or
    /// by the one before while the latest is not known to be committed.
    pub(super) fn may_stand(&self) -> bool {
        let own = self.config.identity;
        let is_uncommitted = self.log.membership_index() > self.commit;
        let before = self.log.membership_before().filter(|_| is_uncommitted);
        if mutant::is(Mutant::E13) && !self.log.membership().contains(own) {
            return self.log.last_index() > Index(0);
        }
        self.log.membership().is_voter(own) || before.is_some_and(|before| before.is_voter(own))
    }
}

impl Leader {
    /// What comes for this node id from now on is of a later attempt: what was asked before acknowledges nothing.
    fn drop_progress(&mut self, node: NodeId) {
        if let Some(progress) = self.progress.remove(&node) {
            self.attempts = self.attempts.max(progress.attempt + 1);
        }
    }
}
