//! What a node is, each role with the state that only it has, and the changes between them.
//!
//! State that must not outlive a role lives inside it and goes when it is left, so no forgotten field can carry a
//! tally into the next campaign (E10), an old leader's appends into a new term (I6), or a read into a time when
//! this node no longer leads. What must outlive a role, term, vote, log and commit index, lives in [`Raft`].
//!
//! [`Raft::leave_role`] is the one way out, whatever comes next: it answers, cancels and fails what the role still
//! owes.

use std::collections::{BTreeMap, BTreeSet};

use super::Raft;
use super::asked::AskedReads;
use super::lease::Rounds;
use super::output::{Output, RoleKind};
use super::pace::Pace;
use super::progress::Progress;
use super::read::Reads;
use super::reorder::Reorder;
use crate::mutant::{self, Mutant};
use crate::time::Instant;
use crate::types::{HardState, Identity, Index, NodeId, Round, Term};

/// The role, and what dies with it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) enum Role {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Box<Leader>),
}

/// A follower of one term; a new one at each change of term or leader, so nothing of the old leader is kept.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Follower {
    /// Whom it hears; none before the first message of the term's leader, and after an election timeout.
    pub(super) leader: Option<Identity>,
    /// The highest attempt that was accepted. An append of that attempt beyond the log's end follows others that
    /// are under way; one of a later attempt is a probe and must be answered now.
    pub(super) anchor: Option<u64>,
    pub(super) reorder: Reorder,
    /// Reads of this node's clients that its leader is asked about.
    pub(super) reads: AskedReads,
}

impl Follower {
    /// With nothing of a former leader.
    pub(super) fn of(leader: Option<Identity>) -> Self {
        Self { leader, ..Self::default() }
    }
}

/// The leader of the current term, whatever role this node has in it: a follower that campaigned in between has
/// not forgotten whom it followed, nor what it acknowledged.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Ruler {
    /// Set by the first append, heartbeat, read probe or transfer of the term, or by being elected; then fixed
    /// (Raft paper §5.2: at most one per term).
    pub(super) leader: Option<Identity>,
    /// How far this leader's appends were found or made equal; what may be acknowledged to it. It only rises.
    pub(super) verified: Index,
}

/// A campaign or pre-campaign; a new one each time, so no answer to an earlier one is counted (E10).
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Campaign {
    /// Numbers this node's campaigns, over all its boots.
    pub(super) number: u64,
    /// Who granted, by store: a set, so copies of an answer count once (wire.md §4).
    pub(super) granted: BTreeSet<Identity>,
}

/// A leader of one term.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Leader {
    /// Every other member, and those who were until lately.
    pub(super) progress: BTreeMap<NodeId, Progress>,
    /// The index of the no-op of this term: when it is committed, all before is (Raft paper §5.4.2, §8).
    pub(super) start: Index,
    /// The last round given out; heartbeats and read probes share the numbers.
    pub(super) round: Round,
    /// When they were given out.
    pub(super) rounds: Rounds,
    pub(super) heartbeat_due: Instant,
    pub(super) reads: Reads,
    pub(super) transfer: Option<TransferState>,
    pub(super) pace: Pace,
    /// Attempts of peers that come later begin here, above those of peers that were let go.
    pub(super) attempts: u64,
    /// Set when it is no voter any more and has begun to hand over.
    pub(super) is_leaving: bool,
}

/// A hand-over under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransferState {
    pub(super) to: NodeId,
    /// Proposals are taken again from then on, if this node still leads (thesis §3.10).
    pub(super) deadline: Instant,
    /// The order goes out once, when the target has everything.
    pub(super) is_sent: bool,
}

impl Role {
    /// Its name, for those outside.
    pub(super) fn kind(&self) -> RoleKind {
        match self {
            Self::Follower(_) => RoleKind::Follower,
            Self::PreCandidate(_) => RoleKind::PreCandidate,
            Self::Candidate(_) => RoleKind::Candidate,
            Self::Leader(_) => RoleKind::Leader,
        }
    }
}

impl Raft {
    /// Adopts a newer term, which is staged for the disk; the vote of the old one is forgotten with it.
    pub(super) fn adopt_term(&mut self, now: Instant, term: Term) {
        assert!(term > self.hard_state.term, "term {term} is not newer than {}", self.hard_state.term);
        self.set_hard_state(HardState { term, vote: None });
        self.become_follower(now, None);
        assert_eq!(self.hard_state.vote, None, "a new term, a new vote");
        assert!(matches!(self.role, Role::Follower(_)), "whoever sees a higher term follows");
    }

    /// The only place where term and vote change: the term never falls, and a vote is given once a term (Raft paper,
    /// figure 2).
    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        let before = self.hard_state;
        assert!(hard_state.term >= before.term, "{hard_state} after {before}");
        let is_vote_kept = before.vote.is_none() || hard_state.vote == before.vote;
        assert!(hard_state.term > before.term || is_vote_kept, "{hard_state} after {before}");
        if hard_state.term > before.term {
            self.ruler = Ruler::default();
        }
        self.hard_state = hard_state;
        self.durable.stage_hard_state(hard_state);
    }

    /// From any role, within the current term.
    pub(super) fn become_follower(&mut self, now: Instant, leader: Option<Identity>) {
        assert!(leader.is_none_or(|leader| leader != self.config.identity), "nobody follows itself");
        let was_follower = matches!(self.role, Role::Follower(_));
        let kept = match &mut self.role {
            Role::Follower(follower) if mutant::is(Mutant::I6) => core::mem::take(&mut follower.reorder),
            _ => Reorder::default(),
        };
        self.leave_role();
        self.role = Role::Follower(Follower { reorder: kept, ..Follower::of(leader) });
        if !was_follower {
            self.restart_election_timer(now);
        }
        assert_eq!(self.leader(), leader.map(|leader| leader.node), "follows whom it was told to");
    }

    /// Ends what only the present role may do: its requests are cancelled, its reads fail, its buffer is answered.
    pub(super) fn leave_role(&mut self) {
        // A blank follower stands in until the caller sets what comes next.
        let role = core::mem::replace(&mut self.role, Role::Follower(Follower::default()));
        match role {
            Role::Follower(mut follower) => {
                let waiting = follower.reorder.take_all();
                self.evict(waiting);
                follower.reads.into_ids().for_each(|id| self.durable.tell(Output::ReadFailed { id }));
            }
            Role::PreCandidate(_) | Role::Candidate(_) => self.cancel_requests(),
            Role::Leader(leader) => {
                self.cancel_requests();
                let index = mutant::is(Mutant::R3).then_some(self.commit);
                leader.reads.into_askers().for_each(|asker| self.tell_read(asker, index));
            }
        }
    }

    /// Stops the re-sending of everything that is open, to everyone: its term or campaign is overtaken.
    fn cancel_requests(&mut self) {
        self.durable.drop_requests();
        let own = self.config.identity.node;
        let peers: Vec<NodeId> =
            self.log.membership().iter().map(|(id, _)| id).filter(|id| *id != own).collect();
        for to in peers {
            self.durable.tell(Output::CancelRequests { to });
        }
    }
}
