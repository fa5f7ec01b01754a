//! Leases: reads without a round of messages, for those who trust clocks to keep time within a bound (thesis §6.4.1).
//!
//! # Why a leader may know that no other was elected
//! A voter that heard this leader grants no vote for a minimum election timeout by its own clock (leader stickiness),
//! and does not campaign earlier either. It heard the heartbeat or probe of a round after that round was given out. So
//! when a quorum has answered a round, no other leader can be elected before that time has passed at one of them, since
//! any two quorums share a voter.
//!
//! # Whose clock
//! The time is counted here by this node's clock and there by the voter's. If no clock runs more than a share `d` fast
//! or slow, a minimum election timeout at the voter takes at least 1 / (1 + d) of it in truth, and what this node
//! counts as `(1 - d) / (1 + d)` of it is over by then. That is the lease; the bound is the operator's word, and
//! without one there is no lease. Steps of the wall clock do not matter, and the driver's clock must count the time
//! that a machine is suspended (R4). A guest that its hypervisor stops, moves or restores sees none of that time on any
//! clock of its own: its operator must not ask for leases.
//!
//! # From when
//! From the moment in which the round was given out, never from its answer: an answer may be late. Only the rounds of
//! one term count, so a former leadership proves nothing.
//!
//! # When there is none
//! - Before an entry of the own term is committed, as for every read (R1).
//! - For the rest of a term in which a transfer was ordered: the target campaigns at once, and voters set stickiness
//!   aside for it (R5, etcd-io/etcd#12704).
//! - While a voter says that it has another minimum election timeout: its silence would be shorter than what is counted
//!   here. A voter that is restarted with a shorter one is known only when it says hello, so election timeouts are
//!   changed while leases are off.
//!
//! A read that finds no lease is an ordinary one. `[W-95]`

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::Raft;
use super::quorum;
use super::role::{Leader, Role};
use crate::membership::MEMBERS_MAX;
use crate::mutant::{self, Mutant};
use crate::time::Instant;
use crate::types::{Identity, Index, Round};

/// Parts of one, in which a drift is told.
pub const DRIFT_ONE: u32 = 1_000_000;

/// When the rounds of one leader were given out.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Rounds {
    /// Ascending; of several in a short time the first, which is the safe one to count from.
    begun: VecDeque<(Round, Instant)>,
    /// Set for good when a transfer is ordered.
    is_lease_void: bool,
}

impl Rounds {
    /// A round is given out. Nothing is read by those that began `span` or longer ago.
    pub(super) fn begin(&mut self, round: Round, now: Instant, span: Duration) {
        let apart = span / 64;
        if self.begun.back().is_none_or(|(_, last)| now.saturating_since(*last) >= apart) {
            self.begun.push_back((round, now));
        }
        while self.begun.front().is_some_and(|(_, begun)| now.saturating_since(*begun) >= span) {
            self.begun.pop_front();
        }
    }

    /// When this round began, or one before it.
    pub(super) fn begun_at(&self, round: Round) -> Option<Instant> {
        let place = self.begun.partition_point(|(begun, _)| *begun <= round);
        self.begun.get(place.checked_sub(1)?).map(|(_, at)| *at)
    }

    /// A transfer was ordered: voters may elect another at any time.
    pub(super) fn void_lease(&mut self) {
        self.is_lease_void |= !mutant::is(Mutant::R5);
    }
}

/// The minimum election timeouts that other stores told.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Timings(pub(super) BTreeMap<Identity, Duration>);

impl Raft {
    /// The index at which a lease read may be answered once it is applied; nothing where there is no lease. `now` must
    /// have been sampled after the read was asked for.
    #[must_use]
    pub fn lease(&self, now: Instant) -> Option<Index> {
        let Role::Leader(leader) = &self.role else { return None };
        let is_held = self.commit >= leader.start && self.lease_end()? > now.max(self.now);
        is_held.then_some(self.commit)
    }

    /// Until when this leader's lease lasts, by its own clock.
    fn lease_end(&self) -> Option<Instant> {
        let own = self.config.identity;
        let length = self.config.lease()?;
        let Role::Leader(leader) = &self.role else { return None };
        if leader.rounds.is_lease_void || !self.timings_agree() {
            return None;
        }
        let acked = |who: Identity| {
            if who == own {
                return Some(leader.round);
            }
            // One that did not tell its timeout is not counted on.
            self.timings.0.get(&who).and_then(|_| leader.acked_round(who))
        };
        let round = quorum::reached(self.log.membership(), acked)?;
        Some(leader.rounds.begun_at(round)? + length)
    }

    /// No voter is known to keep silent for another time than this node reckons with.
    #[must_use]
    pub fn timings_agree(&self) -> bool {
        let membership = self.log.membership();
        let own = self.config.election_timeout_min;
        !self.timings.0.iter().any(|(who, timeout)| *timeout != own && membership.is_voter(*who))
    }

    /// A store told, in a proven hello, for how long it keeps silent at least.
    pub fn handle_timing(&mut self, who: Identity, election_timeout_min: Duration) {
        if self.timings.0.len() >= 2 * MEMBERS_MAX {
            let membership = self.log.membership();
            self.timings.0.retain(|who, _| membership.contains(*who));
        }
        self.timings.0.insert(who, election_timeout_min);
        self.is_drained = false;
    }
}

impl Leader {
    /// A number that no attempt of this term had, and when it was given out.
    pub(super) fn next_round(&mut self, now: Instant, span: Duration) -> Round {
        let before = self.round;
        self.round = before.next();
        assert!(self.round > before, "round {} was given out", self.round);
        self.rounds.begin(self.round, now, span);
        self.round
    }

    /// The highest round this very store answered.
    pub(super) fn acked_round(&self, who: Identity) -> Option<Round> {
        self.progress.get(&who.node).filter(|progress| progress.identity == who).map(|p| p.acked_round)
    }
}
