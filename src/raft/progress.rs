//! A leader's view of one peer.
//!
//! ```text
//!            accepted                       next below the log's base
//!  probe ───────────────▶ replicate      ─────────────────────────────▶ snapshot
//!    ▲                        │                                            │
//!    └────────────────────────┴────────────────────────────────────────────┘
//!     refused · evicted · silent for a maximum election timeout · call failed
//! ```
//! One question decides each transition: *does the leader know where the two logs part?* While it does not, it asks
//! with one append at a time; once it does, it streams.
//!
//! *Probe*: one append at a time finds where the logs part; each has its own attempt number, and answers to an
//! older attempt move nothing back. *Replicate*: appends are pipelined up to a window by count and by bytes.
//! *Snapshot*: the log no longer holds what the peer needs; a snapshot is offered until it does (see `snapshot`).
//!
//! # What makes late and doubled answers harmless
//! `match_index` only rises within a term: an acceptance is a fact about the peer's disk that later events of the
//! term cannot undo, but for damage that the peer itself tells of ([`Progress::take_back`]). `next_index` is a guess,
//! and only a refusal of the *running* attempt may lower it, never to or below the match: a refusal with prev at or
//! below it was sent before the acceptance that raised it (wire.md §4). A probe that was answered begins the next
//! with a new number, so its copies are old at once.
//!
//! # Backtracking, an example
//! ```text
//!  index      1 2 3 4 5 6 7 8
//!  leader     1 1 1 4 4 5 5 6      probes with prev 7 of term 5
//!  follower   1 1 1 2 2 2 2        refuses: at 7 I have term 2, from index 4 on
//!  leader     has no term 2; its last entry of a lower term is 3, and 4 - 1 is 3
//!                                  probes with prev 3 of term 1: found
//! ```
//! Had the leader entries of term 2 as well, its last one there would have been the place: entries of one term have
//! one maker, so both logs hold the same ones from the term's first on, as far as each reaches (log matching, Raft
//! paper §5.3). Each refusal thus strikes out a whole term of one of the two logs.
//!
//! # Why the attempt travels in pipelined appends too
//! A follower keeps an early append only if others of the same attempt can still fill the hole (see `follower`).
//! It knows that they can when it has accepted one of that attempt: only then did the leader start to stream.

use core::time::Duration;
use std::collections::VecDeque;

use super::config::RaftConfig;
use super::log::{Log, append_bytes};
use crate::message::{Append, SnapshotOfferReply, SnapshotOutcome};
use crate::mutant::{self, Mutant};
use crate::snapshot::SnapshotMeta;
use crate::time::Instant;
use crate::types::{Identity, Index, Round, Term};

/// Unanswered appends, oldest first.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Window {
    /// The last index and the size of each.
    appends: VecDeque<(Index, usize)>,
    /// The sum of the sizes.
    bytes: usize,
}

impl Window {
    /// How many are unanswered.
    pub(super) fn count(&self) -> usize {
        self.appends.len()
    }

    /// The bytes of entries in them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// By count and by bytes; an append larger than the byte bound goes when nothing else is out.
    fn has_room(&self, config: &RaftConfig) -> bool {
        self.appends.len() < config.inflight_appends_max && self.bytes < config.inflight_bytes_max
    }

    /// Appends are sent in order; only their answers may come in any.
    fn push(&mut self, last: Index, bytes: usize) {
        assert!(self.appends.back().is_none_or(|(before, _)| *before < last), "appends follow each other");
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// An acknowledgement covers everything below it: the bytes of appends whose own answer was lost or is late
    /// are given back too (L12).
    fn release_through(&mut self, match_index: Index) {
        while let Some((last, bytes)) = self.appends.front().copied() {
            if last > match_index {
                break;
            }
            self.appends.pop_front();
            if last == match_index || !mutant::is(Mutant::L12) {
                self.bytes -= bytes;
            }
        }
        assert!(!self.appends.is_empty() || self.bytes == 0, "{} bytes in no append", self.bytes);
    }
}

/// How entries go to a peer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) enum State {
    Probe {
        /// True while the attempt is unanswered.
        is_out: bool,
    },
    Replicate(Window),
    Snapshot(Offer),
}

/// The snapshot that a peer is to get.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Offer {
    /// Which; none until one was offered.
    pub(super) meta: Option<SnapshotMeta>,
    /// How far the peer is with it.
    pub(super) outcome: Option<SnapshotOutcome>,
    /// True while an offer is unanswered.
    is_out: bool,
    /// Set when this interval's offer was sent, until the next heartbeat.
    is_told: bool,
    /// When proposals were first slowed for it.
    slowed: Option<Instant>,
}

/// One peer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Progress {
    /// The store that counts; answers of another store of this id do not.
    pub(super) identity: Identity,
    /// The highest index known equal and durable there; only rises within a term.
    pub(super) match_index: Index,
    /// The next index to send; above `match_index`.
    pub(super) next_index: Index,
    pub(super) state: State,
    /// Numbers the probing attempts, from 0 in each term; pipelined appends carry the one that found the match.
    pub(super) attempt: u64,
    /// The last answer of this term to an append or heartbeat; set to the election's moment at first.
    pub(super) heard: Instant,
    /// Since when a request is unanswered, with none answered after it.
    pub(super) asked: Option<Instant>,
    /// The highest round this peer answered.
    pub(super) acked_round: Round,
    /// The read probe that is unanswered; at most one, so a dead peer collects none.
    pub(super) probe_out: Option<Round>,
    /// When its match rose last, or more of a snapshot reached it; set to the election's moment at first.
    pub(super) moved: Instant,
    /// Set when a call to it failed, until the next heartbeat, so that a peer that cannot be reached is not
    /// tried in a loop.
    pub(super) is_paused: bool,
    /// Answers to earlier attempts are from before the peer found its log damaged, and acknowledge nothing.
    attempt_floor: u64,
    /// The boot in which it told of damage last.
    damaged_boot: Option<u64>,
    /// It is no member any more, and is given up then.
    pub(super) retire_at: Option<Instant>,
}

/// A refusal's hints, see [`crate::message::AppendOutcome::Refused`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) prev_index: Index,
    pub(super) conflict_term: Term,
    pub(super) conflict_index: Index,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    /// `match_index` rose.
    Advanced,
    /// Probing starts again; what is open to the peer is overtaken.
    Reprobe,
}

impl Progress {
    /// A new leader knows nothing of a peer and guesses that the log matches up to its own end before this term
    /// (Raft paper, figure 2: nextIndex).
    pub(super) fn new(identity: Identity, next_index: Index, now: Instant) -> Self {
        assert!(next_index > Index(0), "there is no entry 0 to send");
        Self {
            identity,
            match_index: Index(0),
            next_index,
            state: State::Probe { is_out: false },
            attempt: 0,
            heard: now,
            moved: now,
            asked: None,
            acked_round: Round(0),
            probe_out: None,
            is_paused: false,
            attempt_floor: 0,
            damaged_boot: None,
            retire_at: None,
        }
    }

    /// A peer that came in while this leader was in office. Its attempts begin where those of peers that went have
    /// ended: the same store may have been one of them, and what it answered then acknowledges nothing now.
    pub(super) fn of_later(identity: Identity, next_index: Index, now: Instant, attempt: u64) -> Self {
        Self { attempt, attempt_floor: attempt, ..Self::new(identity, next_index, now) }
    }

    /// The peer's log is damaged after `through`: what it acknowledged beyond is not there any more. This alone lowers
    /// a match, and what was acknowledged before cannot raise it again.
    pub(super) fn take_back(&mut self, boot: u64, through: Index) -> Change {
        if self.damaged_boot == Some(boot) && self.match_index <= through {
            return Change::Nothing;
        }
        self.damaged_boot = Some(boot);
        self.match_index = self.match_index.min(through);
        self.attempt_floor = self.attempt + 1;
        if let State::Snapshot(_) = self.state {
            self.attempt += 1;
            return Change::Nothing;
        }
        self.probe_from(self.next_index.min(through.next()));
        Change::Reprobe
    }

    /// The next append this peer may be sent, if any.
    pub(super) fn next_append(
        &mut self,
        now: Instant,
        log: &Log,
        config: &RaftConfig,
        term: Term,
        commit: Index,
    ) -> Option<Append> {
        let may_send = match &self.state {
            State::Probe { is_out } => !is_out,
            State::Replicate(window) => self.next_index <= log.last_index() && window.has_room(config),
            State::Snapshot(_) => false,
        };
        if self.is_paused || !may_send {
            return None;
        }
        let prev_index = self.next_index.prev();
        // Never an append whose prev the log does not know (L10).
        let is_forgotten_sent = mutant::is(Mutant::L10);
        let Some(prev_term) = log.term_at(prev_index).or(is_forgotten_sent.then_some(Term(0))) else {
            self.state = State::Snapshot(Offer::default());
            return None;
        };
        let (entries, bytes) = match &self.state {
            // A probe that is refused wasted its entries: carry none that needs more than one datagram.
            State::Probe { .. } if self.is_next_large(log, config) => (Vec::new(), 0),
            _ => log.batch(self.next_index, config.append_bytes_max),
        };
        let last = Index(prev_index.0 + entries.len() as u64);
        let chain = log.chain_at(last).expect("the batch is in the log");
        match &mut self.state {
            State::Probe { is_out } => *is_out = true,
            State::Replicate(window) => {
                assert!(last > prev_index, "a pipelined append holds entries");
                window.push(last, bytes);
                self.next_index = last.next();
            }
            State::Snapshot(_) => unreachable!("no append is sent in this state"),
        }
        self.asked.get_or_insert(now);
        Some(Append { term, attempt: self.attempt, prev_index, prev_term, commit, entries, chain })
    }

    /// True when the next entry needs more than one datagram.
    fn is_next_large(&self, log: &Log, config: &RaftConfig) -> bool {
        log.entry(self.next_index).is_some_and(|entry| append_bytes(&entry.payload) > config.append_bytes_max)
    }

    /// The peer holds everything up to `match_index`, durably. Idempotent: the index only rises.
    pub(super) fn accepted(&mut self, now: Instant, attempt: u64, match_index: Index) -> Change {
        if attempt < self.attempt_floor {
            return Change::Nothing;
        }
        let is_advanced = self.raise_match(now, match_index);
        match &mut self.state {
            State::Probe { is_out: true } if attempt == self.attempt => {
                self.next_index = self.match_index.next();
                self.state = State::Replicate(Window::default());
            }
            // An older attempt's answer moved the match past the running one, whose refusal would now be
            // ignored: ask again from the better place.
            State::Probe { .. } if self.match_index >= self.next_index => {
                self.probe_from(self.match_index.next());
            }
            State::Replicate(window) => {
                window.release_through(self.match_index);
                self.next_index = self.next_index.max(self.match_index.next());
            }
            // The offers go on: their answers tell whether appends can.
            State::Snapshot(_) => self.next_index = self.next_index.max(self.match_index.next()),
            State::Probe { .. } => {}
        }
        self.answered(now);
        assert!(self.match_index < self.next_index, "match {}, next {}", self.match_index, self.next_index);
        assert!(self.match_index >= match_index, "a match never falls");
        if is_advanced { Change::Advanced } else { Change::Nothing }
    }

    /// The peer has no such prev. Ignored when the attempt is an old one, or when prev is known to match: then the
    /// refusal is older than the acceptance (wire.md §4: a refused append is not idempotent).
    pub(super) fn refused(&mut self, log: &Log, attempt: u64, refusal: Refusal) -> Change {
        let is_offered = matches!(self.state, State::Snapshot(_));
        if is_offered || attempt != self.attempt || refusal.prev_index <= self.match_index {
            return Change::Nothing;
        }
        if refusal.prev_index >= self.next_index {
            return Change::Nothing;
        }
        self.probe_from(self.backtrack(log, refusal));
        Change::Reprobe
    }

    /// Fast backtracking (Raft paper §5.3, end), one probe per diverged term. The peer holds `conflict_term` from
    /// `conflict_index` to at least the refused prev. Where this log has that term too, the logs agree up to its
    /// last entry of it here. Where not, all of the peer's entries of it must go, and all of ours of later terms
    /// cannot be there.
    fn backtrack(&self, log: &Log, refusal: Refusal) -> Index {
        let Refusal { prev_index, conflict_term, conflict_index } = refusal;
        let before = prev_index.prev();
        let prev = if conflict_term == Term(0) {
            before.min(conflict_index.prev())
        } else {
            let ours = before.min(log.last_index_through(conflict_term));
            let has_term = log.term_at(ours) == Some(conflict_term);
            if has_term { ours } else { ours.min(conflict_index.prev()) }
        };
        let next_index = prev.max(self.match_index).next();
        assert!(next_index <= prev_index, "backtracking from {prev_index} to {next_index}");
        next_index
    }

    /// The peer had kept an append out of order and dropped it.
    pub(super) fn evicted(&mut self, attempt: u64, prev_index: Index) -> Change {
        let is_offered = matches!(self.state, State::Snapshot(_));
        if is_offered || attempt != self.attempt || prev_index < self.match_index {
            return Change::Nothing;
        }
        self.probe_from(self.match_index.next());
        Change::Reprobe
    }

    /// Nothing that is open to the peer counts any more.
    pub(super) fn restart(&mut self) {
        let next_index = match &mut self.state {
            State::Probe { .. } => self.next_index,
            State::Replicate(_) => self.match_index.next(),
            // What it has of the snapshot outlives its boot.
            State::Snapshot(offer) => {
                offer.is_out = false;
                (self.probe_out, self.asked) = (None, None);
                return;
            }
        };
        self.probe_from(next_index);
    }

    /// Starts the next attempt here. What is open belongs to older ones.
    fn probe_from(&mut self, next_index: Index) {
        assert!(next_index > Index(0), "there is no entry 0 to send");
        assert!(next_index > self.match_index, "next {next_index} is at or below match {}", self.match_index);
        self.next_index = next_index;
        self.attempt += 1;
        self.state = State::Probe { is_out: false };
        self.probe_out = None;
        self.asked = None;
    }

    /// A request was answered: the peer is not silent, whatever else is open.
    pub(super) fn answered(&mut self, now: Instant) {
        let is_open = self.probe_out.is_some()
            || match &self.state {
                State::Probe { is_out } => *is_out,
                State::Replicate(window) => window.count() > 0,
                State::Snapshot(offer) => offer.is_out,
            };
        self.asked = is_open.then_some(now);
    }

    /// Raises the match; true when it rose.
    fn raise_match(&mut self, now: Instant, match_index: Index) -> bool {
        let is_advanced = match_index > self.match_index;
        if is_advanced {
            self.match_index = match_index;
            self.moved = now;
        }
        is_advanced
    }

    /// The index after which the log must be kept for this peer, if it moved within `patience`.
    pub(super) fn pin(&self, now: Instant, patience: Duration) -> Option<Index> {
        if now.saturating_since(self.moved) > patience {
            return None;
        }
        Some(match &self.state {
            State::Snapshot(Offer { meta: Some(meta), .. }) => meta.id.index,
            _ => self.match_index,
        })
    }

    /// Whether proposals are to be slowed so that the log still has what follows this peer's snapshot: it got more of
    /// it within `moved_within`, and they have not been for longer than `slowed_max`.
    pub(super) fn slows_proposals(
        &mut self,
        now: Instant,
        moved_within: Duration,
        slowed_max: Duration,
    ) -> bool {
        let State::Snapshot(offer) = &mut self.state else { return false };
        if offer.meta.is_none() || now.saturating_since(self.moved) > moved_within {
            return false;
        }
        now.saturating_since(*offer.slowed.get_or_insert(now)) <= slowed_max
    }

    /// A heartbeat goes out: an offer may go again, and a peer whose call failed is tried again.
    pub(super) fn heartbeat_sent(&mut self) {
        self.is_paused = false;
        if let State::Snapshot(offer) = &mut self.state {
            offer.is_told = false;
        }
    }

    /// The snapshot to offer now, if any: the same as before while the peer moves, else the newest.
    pub(super) fn next_offer(
        &mut self,
        now: Instant,
        newest: Option<SnapshotMeta>,
        patience: Duration,
    ) -> Option<SnapshotMeta> {
        let State::Snapshot(offer) = &mut self.state else { return None };
        if self.is_paused || offer.is_out || offer.is_told {
            return None;
        }
        let is_stuck = now.saturating_since(self.moved) > patience;
        if offer.meta.is_none_or(|meta| is_stuck || meta.id.index <= self.match_index) && offer.meta != newest
        {
            *offer = Offer { meta: newest, ..Offer::default() };
            self.moved = now;
        }
        let meta = offer.meta?;
        (offer.is_out, offer.is_told) = (true, true);
        self.asked.get_or_insert(now);
        Some(meta)
    }

    /// The file of this snapshot is gone.
    pub(super) fn withdraw(&mut self, meta: SnapshotMeta) {
        if let State::Snapshot(offer) = &mut self.state
            && offer.meta == Some(meta)
        {
            *offer = Offer::default();
        }
    }

    /// The peer told how far it is. `base` is where the log begins: when the peer holds that much, appends go on.
    pub(super) fn offer_answered(&mut self, now: Instant, m: SnapshotOfferReply, base: Index) -> Change {
        let is_advanced = self.raise_match(now, m.match_index);
        match &mut self.state {
            State::Snapshot(_) if self.match_index >= base => {
                self.probe_from(self.match_index.next());
                return Change::Reprobe;
            }
            State::Snapshot(offer) => {
                if offer.meta.is_some_and(|meta| meta.id.index == m.index) {
                    offer.is_out = false;
                    if offer.outcome != Some(m.outcome) || m.outcome == SnapshotOutcome::Transferred {
                        self.moved = now;
                    }
                    offer.outcome = Some(m.outcome);
                }
                self.next_index = self.next_index.max(self.match_index.next());
            }
            State::Probe { .. } if self.match_index >= self.next_index => {
                self.probe_from(self.match_index.next());
            }
            State::Probe { .. } => {}
            State::Replicate(window) => {
                window.release_through(self.match_index);
                self.next_index = self.next_index.max(self.match_index.next());
            }
        }
        self.answered(now);
        assert!(self.match_index < self.next_index, "match {}, next {}", self.match_index, self.next_index);
        if is_advanced { Change::Advanced } else { Change::Nothing }
    }

    /// The peer answered this round. An answer to an older one leaves what is known as it is (R2).
    pub(super) fn acked(&mut self, round: Round) {
        let before = self.acked_round;
        self.acked_round = self.acked_round.max(round);
        if self.probe_out.is_some_and(|out| out <= round) {
            self.probe_out = None;
        }
        assert!(self.acked_round >= before, "round {} after {before}", self.acked_round);
        assert!(self.probe_out.is_none_or(|out| out > round), "round {round} was answered");
    }
}
