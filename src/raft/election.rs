//! Elections: Raft paper §5.2 and §5.4.1, with pre-vote (thesis §9.6), leader stickiness (thesis §4.2.3) and
//! timers that allow for slow disks.
//!
//! ```text
//!  follower ──timeout──▶ pre-candidate ──quorum would vote──▶ candidate ──quorum voted──▶ leader
//!     ▲   ◀──higher term, or a leader of this one──┘   ◀──────────────┘                     │
//!     └──────────────────────── higher term, no quorum heard, disk hangs ◀──────────────────┘
//! ```
//!
//! # Why three rules belong together
//! *Pre-vote* keeps a node that was cut off from raising the term again and again: it asks first, and asking changes
//! nothing anywhere (E11, E12). *Stickiness* makes voters that hear a leader answer no, so a node that lost only its
//! own link to the leader deposes nobody (E5). Both would keep a leader that nobody can reach in office; so the
//! leader must find out by itself that it lost its quorum (*check-quorum*, E7). And a node whose term is ahead must
//! be able to say so to a leader it no longer listens to, or both wait for ever: every answer carries the term (E8,
//! E9).
//!
//! # Slow disks
//! A vote or a term is shown to nobody before it is durable (E1, E2), and a sync may take longer than an election
//! timeout (I7). Three rules keep that from preventing elections, or from causing them:
//! - nobody campaigns while a term or vote of its own is being written;
//! - a voter's timer begins when its vote is durable: the write was not a leader's silence;
//! - a candidate's timer begins when its own vote is durable, and allows for the voters' disks, which are likely
//!   as slow as its own.

use std::collections::BTreeSet;

use super::Raft;
use super::config::NUMBER_MAX;
use super::output::{Output, ReplyToken};
use super::quorum;
use super::role::{Campaign, Role};
use crate::membership::Membership;
use crate::message::{Message, VoteReply, VoteRequest};
use crate::mutant::{self, Mutant};
use crate::remains::LogEnd;
use crate::time::Instant;
use crate::types::{HardState, Identity, NodeId, Term};

/// A candidate waits this many of its own sync times longer than the election timeout: its own vote, the voters'
/// votes and the first entry are written one after the other (I7). A sync counts for at most half of what counts as
/// hanging.
const CANDIDATE_SYNCS: u32 = 4;

/// Whether a campaign was ordered by a leader that hands over. The voters are told, since stickiness protects a
/// leader against others, not against itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Timeout,
    Transfer,
}

impl Raft {
    /// Raft paper §5.2: drawn anew each time, so that split votes do not repeat.
    pub(super) fn restart_election_timer(&mut self, now: Instant) {
        let (min, max) = (self.config.election_timeout_min, self.config.election_timeout_max);
        self.election_deadline = Some(now + self.rng.duration_between(min, max));
    }

    /// The election timeout passed without a leader or a decision.
    pub(super) fn handle_election_timeout(&mut self, now: Instant) {
        assert!(!matches!(self.role, Role::Leader(_)), "a leader has no election timeout");
        assert!(self.election_deadline.is_some_and(|deadline| deadline <= now), "the timer is not due");
        if !self.durable.is_hard_state_durable() && !mutant::is(Mutant::I7) {
            // A slow sync must not cause an election. The timer runs again when the write is done.
            self.election_deadline = None;
            return;
        }
        // Also for those that may not campaign: they wait for a leader, and look again later.
        self.restart_election_timer(now);
        if self.may_campaign(now) {
            self.start_pre_campaign(now);
        } else if !matches!(self.role, Role::Follower(_)) {
            self.become_follower(now, None);
        }
    }

    /// Only who may count by its own log campaigns (E13, E18), never while a vote or term is
    /// being written, nor with a disk that hangs: it would win and stop the cluster again (E16); nor with a hole in its
    /// log, which it could not lead with.
    pub(super) fn may_campaign(&self, now: Instant) -> bool {
        self.may_stand()
            && self.durable.is_hard_state_durable()
            && !self.is_disk_hanging(now)
            && self.repair.is_none()
            && self.term().0 < NUMBER_MAX
    }

    /// Asks around whether an election could be won. Term and vote stay as they are.
    fn start_pre_campaign(&mut self, now: Instant) {
        let before = self.hard_state;
        assert!(self.may_campaign(now), "{} must not ask for votes", self.config.identity);
        assert_eq!(self.durable.hard_state(), before, "asking shows the term");
        self.leave_role();
        self.campaigns += 1;
        let granted = BTreeSet::from([self.config.identity]);
        self.role = Role::PreCandidate(Campaign { number: self.campaigns, granted });
        self.request_votes(Message::PreVote, self.term().next(), Cause::Timeout);
        assert_eq!(self.hard_state, before, "a pre-vote raises no term");
        self.count_votes(now);
    }

    /// Raft paper §5.2: a new term, the own vote, a question to every voter. The vote must be durable first (E2),
    /// so the questions are held, the own vote is counted only then, and the timer waits too.
    pub(super) fn start_campaign(&mut self, now: Instant, cause: Cause) {
        assert!(self.may_campaign(now), "{} must not campaign", self.config.identity);
        let granted = match &self.role {
            Role::PreCandidate(campaign) if mutant::is(Mutant::E10) => campaign.granted.clone(),
            _ => BTreeSet::new(),
        };
        self.leave_role();
        let term = self.term().next();
        self.set_hard_state(HardState { term, vote: Some(self.config.identity) });
        self.campaigns += 1;
        self.role = Role::Candidate(Campaign { number: self.campaigns, granted });
        // Runs once the vote is durable: the write takes its time from nobody.
        if !mutant::is(Mutant::I7) {
            self.election_deadline = None;
        }
        self.request_votes(Message::Vote, term, cause);
    }

    /// One question to every voter, of both halves while joint (Raft paper §6). A learner is never asked.
    fn request_votes(&mut self, message: fn(VoteRequest) -> Message, campaign_term: Term, cause: Cause) {
        assert!(campaign_term >= self.term(), "a campaign for {campaign_term} in term {}", self.term());
        assert!(campaign_term.0 <= NUMBER_MAX, "term {campaign_term} does not fit the wire");
        let request = VoteRequest {
            term: self.term(),
            campaign_term,
            campaign: self.campaigns,
            last_index: self.log.last_index(),
            last_term: self.log.last_term(),
            is_transfer: cause == Cause::Transfer,
        };
        let membership = self.campaign_membership();
        let voters: BTreeSet<NodeId> =
            membership.voters.keys().chain(membership.outgoing.keys()).copied().collect();
        assert!(self.may_stand(), "a campaign of a node that is no voter");
        for to in voters {
            if to != self.config.identity.node {
                self.durable.send(Output::Request { to, message: message(request) });
            }
        }
    }

    /// The newest term and vote are durable: what waited for them goes on, timers included.
    pub(super) fn handle_hard_state_durable(&mut self, now: Instant) {
        let own = self.config.identity;
        assert_eq!(self.durable.hard_state(), self.hard_state, "the newest is durable");
        match &mut self.role {
            Role::Candidate(campaign) => {
                assert_eq!(self.durable.hard_state().vote, Some(own), "a candidate voted for itself");
                campaign.granted.insert(own);
                self.restart_election_timer(now);
                let deadline = self.election_deadline.expect("just set");
                // The time of a disk that hung, which may do so no more, must not keep everyone waiting.
                let sync_time = self.durable.sync_time().min(self.config.disk_hang_timeout / 2);
                self.election_deadline = Some(deadline + sync_time * CANDIDATE_SYNCS);
                self.count_votes(now);
            }
            // The time its vote or term took to be written is not time in which a leader was silent. A leader
            // that showed itself meanwhile has set the timer already.
            Role::Follower(_) | Role::PreCandidate(_) => {
                if self.election_deadline.is_none() {
                    self.restart_election_timer(now);
                }
            }
            Role::Leader(_) => panic!("a leader of term {} had an unwritten term or vote", self.term()),
        }
    }

    /// Answers without changing anything: neither term, nor vote, nor timer (E11). The answer carries our term,
    /// so that an asker that lags behind learns it (E8).
    pub(super) fn handle_pre_vote(
        &mut self,
        now: Instant,
        from: Identity,
        m: VoteRequest,
        token: Option<ReplyToken>,
    ) {
        assert_eq!(m.campaign_term, m.term.next(), "checked as plausible");
        // A term that this voter has reached already was, or may be, voted in: no election could be won there.
        let is_granted = m.campaign_term > self.term() && !self.is_sticky(now) && self.is_worthy(from, m);
        let reply = Message::PreVoteReply(self.vote_reply(m, is_granted));
        if mutant::is(Mutant::E8) && m.term < self.term() {
            return;
        }
        self.reply(token, reply);
        if mutant::is(Mutant::E11) && m.campaign_term > self.term() {
            self.adopt_term(now, m.campaign_term);
        }
    }

    /// Raft paper §5.2: one vote per term, first come first served, durable before it is told (E1).
    pub(super) fn handle_vote(
        &mut self,
        now: Instant,
        from: Identity,
        m: VoteRequest,
        token: Option<ReplyToken>,
    ) {
        assert_eq!(m.campaign_term, m.term, "checked as plausible");
        // Lower: the candidate is overtaken. Higher: stickiness kept the term from being heeded.
        let is_granted = m.campaign_term == self.term()
            && self.may_vote_now(now, m)
            && self.hard_state.vote.is_none_or(|vote| vote == from)
            && self.is_worthy(from, m);
        if is_granted && self.hard_state.vote.is_none() {
            assert!(!matches!(self.role, Role::Candidate(_) | Role::Leader(_)), "they voted for themselves");
            if matches!(self.role, Role::PreCandidate(_)) {
                // Someone is ahead in the term this node only learned of: help that one.
                self.become_follower(now, None);
            }
            self.set_hard_state(HardState { vote: Some(from), ..self.hard_state });
            // Runs again once the vote is durable.
            self.election_deadline = None;
        }
        assert!(!is_granted || self.hard_state.vote == Some(from), "granted {from}, {}", self.hard_state);
        let reply = Message::VoteReply(self.vote_reply(m, is_granted));
        self.reply(token, reply);
    }

    /// The campaign is repeated so that the answer to an earlier one is known as such (E10).
    fn vote_reply(&self, m: VoteRequest, is_granted: bool) -> VoteReply {
        VoteReply { term: self.term(), campaign_term: m.campaign_term, campaign: m.campaign, is_granted }
    }

    /// True when a vote request may be heeded at all, its term included: leader stickiness yields only to a
    /// transfer (thesis §4.2.3), silence after boot to nothing.
    pub(super) fn may_vote_now(&self, now: Instant, m: VoteRequest) -> bool {
        !self.is_quiet(now) && (m.is_transfer || !self.is_sticky(now))
    }

    /// For one minimum election timeout after boot this node may owe loyalty to a leader it has forgotten. With
    /// term 0 and an empty log it cannot have heard one.
    fn is_quiet(&self, now: Instant) -> bool {
        now < self.quiet_until
    }

    /// A node that leads, or heard a leader within the minimum election timeout, helps nobody to depose it.
    fn is_sticky(&self, now: Instant) -> bool {
        let min = self.config.election_timeout_min;
        let has_heard = self.leader_heard.is_some_and(|heard| now.saturating_since(heard) < min)
            && !mutant::is(Mutant::E5);
        has_heard || self.is_quiet(now) || matches!(self.role, Role::Leader(_))
    }

    /// Raft paper §5.4.1: the asker's log must hold at least what ours does, or did before it was damaged. One that
    /// is no voter by its own membership votes only when the asker's log holds more, since only then the asker's
    /// membership, by which it was asked, can be a newer one (E17).
    fn is_worthy(&self, from: Identity, m: VoteRequest) -> bool {
        let is_voter = self.log.membership().is_voter(self.config.identity);
        let Some(own) = self.log_end() else { return false };
        let theirs = LogEnd { index: m.last_index, term: m.last_term };
        let may_vote = is_voter || (theirs != own && !mutant::is(Mutant::E17));
        from != self.config.identity && theirs.covers(own) && may_vote
    }

    /// Thesis §9.6. Voters of lower terms count too: they will learn the term with the vote request.
    pub(super) fn handle_pre_vote_reply(&mut self, now: Instant, from: Identity, m: VoteReply) {
        let next_term = self.term().next();
        let Role::PreCandidate(campaign) = &mut self.role else { return };
        let is_current = m.campaign == campaign.number && m.campaign_term == next_term;
        if is_current && m.is_granted {
            campaign.granted.insert(from);
            self.count_votes(now);
        }
    }

    /// Raft paper §5.2. An answer counts for the campaign it was asked in and for no other, of whatever term.
    pub(super) fn handle_vote_reply(&mut self, now: Instant, from: Identity, m: VoteReply) {
        let term = self.term();
        let Role::Candidate(campaign) = &mut self.role else { return };
        let is_current = m.campaign == campaign.number && m.campaign_term == term && m.term == term;
        if is_current && m.is_granted {
            campaign.granted.insert(from);
            self.count_votes(now);
        }
    }

    /// The latest in the log, committed or not (E18).
    fn campaign_membership(&self) -> &Membership {
        let is_uncommitted = self.log.membership_index() > self.commit;
        let before = self.log.membership_before().filter(|_| is_uncommitted && mutant::is(Mutant::E18));
        before.unwrap_or_else(|| self.log.membership())
    }

    /// Only voters of the latest membership count, each by the store that it binds (I2, E18).
    fn count_votes(&mut self, now: Instant) {
        let (Role::PreCandidate(campaign) | Role::Candidate(campaign)) = &self.role else {
            panic!("a {} counts no votes", self.role.kind())
        };
        let has_granted = |who: Identity| {
            let is_named = |granted: &Identity| mutant::is(Mutant::I2) && granted.node == who.node;
            campaign.granted.contains(&who) || campaign.granted.iter().any(is_named)
        };
        if !quorum::is_quorum(self.campaign_membership(), has_granted) {
            return;
        }
        match self.role {
            // A pre-vote's majority only says that asking is worth it: the votes are asked for anew.
            Role::PreCandidate(_) if self.may_campaign(now) => self.start_campaign(now, Cause::Timeout),
            Role::Candidate(_) if self.durable.is_hard_state_durable() => self.become_leader(now),
            _ => {}
        }
    }
}
