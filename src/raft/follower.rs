//! What a follower does with its leader's messages: Raft paper §5.3, figure 2 "AppendEntries RPC", made safe
//! against copies, delay and reordering.
//!
//! # An append's way
//! 1. *Term*: a lower one is refused with ours; a higher one was adopted before this file sees the message.
//! 2. *Leader*: the first that shows itself in a term is the term's leader; a second is an alarm, since election
//!    safety (Raft paper §5.2) excludes it.
//! 3. *Place*: prev within the log and of the right term, or refused with a hint where to probe (§5.3). Beyond the
//!    log's end it may be early rather than wrong: see `reorder`.
//! 4. *Entries*: those the log has, by index and term, are skipped (log matching, §5.3); from the first real
//!    conflict on the log is cut; the rest is added.
//! 5. *Chain*: the sender's chain value for the last entry must come out. It vouches for every entry up to there,
//!    so damage on either side is found before it spreads.
//! 6. *Commit*: as far as this very message verified, never further (figure 2, step 5; L2).
//! 7. *Answer*: once all of it is durable.
//!
//! Steps 3 to 5 only look (`check_append`); the log changes after all of them passed.

use super::Raft;
use super::durable::Accepted;
use super::output::{Alarm, Output, ReplyToken};
use super::reorder::Waiting;
use super::role::Role;
use crate::entry::Entry;
use crate::message::{Append, AppendOutcome, AppendReply, Heartbeat, HeartbeatReply, Message, ReadProbe};
use crate::mutant::{self, Mutant};
use crate::time::Instant;
use crate::types::{Identity, Index, Term};

/// What the log says to an append.
enum Check {
    /// The prev is beyond the log's end.
    Gap,
    /// The log has another entry at prev.
    Conflict,
    /// The append fits: truncate here if need be, then add these.
    Fits { truncate_from: Option<Index>, missing: Vec<Entry> },
    /// It cannot come from a sound leader.
    Unsound(Alarm),
}

impl Raft {
    /// A message that only the leader of `term`, the current one, sends. False when it must have no effect.
    pub(super) fn accept_leader(&mut self, now: Instant, from: Identity) -> bool {
        assert_ne!(from.node, self.config.identity.node, "checked on arrival");
        if let Some(known) = self.ruler.leader.filter(|known| *known != from) {
            let alarm = Alarm::TwoLeaders { term: self.term(), known, claimed: from };
            self.durable.tell(Output::Alarm(alarm));
            return false;
        }
        self.ruler.leader = Some(from);
        match &mut self.role {
            Role::Leader(_) => panic!("a leader knows itself as the leader of term {}", self.term()),
            Role::Follower(follower) => follower.leader = Some(from),
            // Raft paper §5.2: a candidate that hears the leader of its term recognises it.
            Role::PreCandidate(_) | Role::Candidate(_) => self.become_follower(now, Some(from)),
        }
        self.leader_heard = Some(now);
        self.restart_election_timer(now);
        true
    }

    /// Figure 2, "AppendEntries RPC", receiver implementation.
    pub(super) fn handle_append(
        &mut self,
        now: Instant,
        from: Identity,
        m: Append,
        token: Option<ReplyToken>,
    ) {
        assert!(m.term <= self.term(), "a higher term was adopted before");
        if m.term < self.term() && !mutant::is(Mutant::U6) {
            // Raft paper §5.1: a stale leader is told the term; what it sent is not looked at.
            self.refuse(&m, token);
            return;
        }
        if !self.accept_leader(now, from) {
            return;
        }
        self.take_append(from, m, token);
        self.drain_reorder(from);
    }

    /// Splices, refuses or keeps one append of the current leader.
    fn take_append(&mut self, from: Identity, m: Append, token: Option<ReplyToken>) {
        match self.check_append(from, &m) {
            // What follows the hole is not added to, so nothing can close this one either.
            Check::Gap if self.repair.is_some() => self.refuse(&m, token),
            Check::Gap => self.keep_or_refuse(m, token),
            Check::Conflict => self.refuse(&m, token),
            Check::Unsound(alarm) => self.durable.tell(Output::Alarm(alarm)),
            Check::Fits { truncate_from: None, missing } if !self.may_take(&m, &missing) => {
                self.verify_beginning(&m);
                self.park(m, token);
            }
            Check::Fits { truncate_from, missing } => {
                if let Some(index) = truncate_from {
                    self.truncate(index);
                    // The cut takes the hole along, and whatever lies behind: the leader never had it.
                    self.end_repair();
                }
                for entry in missing {
                    self.log.push(entry);
                }
                self.acknowledge(&m, token);
            }
        }
    }

    /// A damaged log takes nothing new, and acknowledges nothing that is not on disk.
    fn may_take(&self, m: &Append, missing: &[Entry]) -> bool {
        let through = Index(m.prev_index.0 + m.entries.len() as u64);
        self.repair.is_none() || (missing.is_empty() && through <= self.durable.index())
    }

    /// The log up to its hole equals the leader's, as far as this append reaches.
    fn verify_beginning(&mut self, m: &Append) {
        let through = Index(m.prev_index.0 + m.entries.len() as u64).min(self.log.last_index());
        self.ruler.verified = self.ruler.verified.max(through);
        self.commit_through(m.commit.min(through));
    }

    /// Compares an append with the log; changes nothing.
    fn check_append(&self, from: Identity, m: &Append) -> Check {
        let base = self.log.base();
        if m.prev_index > self.log.last_index() {
            return Check::Gap;
        }
        // What lies below the base is committed, hence equal.
        let covered = usize::try_from(base.index.0.saturating_sub(m.prev_index.0)).unwrap_or(usize::MAX);
        if covered > m.entries.len() {
            return Check::Fits { truncate_from: None, missing: Vec::new() };
        }
        let prev_index = m.prev_index.max(base.index);
        if covered == 0 && self.log.term_at(prev_index) != Some(m.prev_term) {
            return Check::Conflict;
        }
        assert!(prev_index <= self.log.last_index(), "prev {prev_index} is in the log or its base");
        let mut chain = self.log.chain_at(prev_index).expect("prev is in the log");
        let mut index = prev_index;
        let mut truncate_from = None;
        let mut missing: Vec<Entry> = Vec::new();
        for entry in &m.entries[covered..] {
            index = index.next();
            // Delete only on a real conflict (figure 2, step 3): a late, shorter append must not cut what a
            // longer one brought (L5).
            match self.log.term_at(index) {
                Some(term) if term == entry.term && missing.is_empty() => {
                    chain = self.log.chain_at(index).expect("its term is known");
                    continue;
                }
                Some(_) if missing.is_empty() => truncate_from = Some(index),
                _ => {}
            }
            let entry = Entry::new(self.config.cluster, index, entry.term, entry.payload.clone(), chain);
            chain = entry.chain;
            missing.push(entry);
        }
        // Neither what is committed nor what this leader itself sent before can be wrong by its word.
        let settled = self.commit.max(self.ruler.verified);
        if let Some(index) = truncate_from.filter(|index| *index <= settled) {
            return Check::Unsound(Alarm::SettledConflict { from, index });
        }
        assert_eq!(index.0, m.prev_index.0 + m.entries.len() as u64, "every entry was looked at");
        if chain != m.chain {
            return Check::Unsound(Alarm::ChainMismatch { from, index });
        }
        if mutant::is(Mutant::L5) && index < self.log.last_index() {
            truncate_from = truncate_from.or(Some(index.next()));
        }
        Check::Fits { truncate_from, missing }
    }

    /// The log equals the leader's through the append's last entry. Says so once that is durable.
    fn acknowledge(&mut self, m: &Append, token: Option<ReplyToken>) {
        let through = Index(m.prev_index.0 + m.entries.len() as u64);
        assert!(through <= self.log.last_index(), "verified {through} of {}", self.log.last_index());
        let is_current = m.term == self.hard_state.term || mutant::is(Mutant::U6);
        assert!(is_current, "only the current leader's appends are acknowledged, not of term {}", m.term);
        let Role::Follower(follower) = &mut self.role else { panic!("only followers acknowledge") };
        follower.anchor = follower.anchor.max(Some(m.attempt));
        self.ruler.verified = self.ruler.verified.max(through);
        if let Some(token) = token {
            let accepted = Accepted { token, attempt: m.attempt, prev_index: m.prev_index, through };
            self.durable.accept(accepted, self.ruler.verified);
        }
        // Figure 2, step 5: bounded by what *this* message verified, not by the log's end, which may belong to
        // another leader (L2).
        let bound = if mutant::is(Mutant::L2) { self.log.last_index() } else { through };
        self.commit_through(m.commit.min(bound));
    }

    /// Raft paper §5.3, end: tells where to probe next.
    fn refuse(&mut self, m: &Append, token: Option<ReplyToken>) {
        let last_index = self.log.last_index();
        let (conflict_term, conflict_index) = match self.log.term_at(m.prev_index) {
            Some(term) if m.prev_index > self.log.base().index => (term, self.log.first_index_of(term)),
            _ => (Term(0), last_index.next()),
        };
        assert!(conflict_index <= last_index.next(), "hint {conflict_index}, last {last_index}");
        assert!(conflict_term <= self.term(), "hint of term {conflict_term} in {}", self.term());
        let prev_index = m.prev_index;
        let outcome = AppendOutcome::Refused { prev_index, conflict_term, conflict_index, last_index };
        self.reply_append(m, outcome, token);
    }

    /// An append beyond the log's end: one of the attempt that found the match has others under way before it and
    /// waits for them; any other is a probe that missed.
    fn keep_or_refuse(&mut self, m: Append, token: Option<ReplyToken>) {
        assert!(m.prev_index > self.log.last_index(), "{} is no hole", m.prev_index);
        let Role::Follower(follower) = &mut self.role else { panic!("only followers take appends") };
        if follower.anchor != Some(m.attempt) {
            self.refuse(&m, token);
            return;
        }
        assert_eq!(m.term, self.hard_state.term, "only the current leader's appends wait");
        let evicted = follower.reorder.insert(Waiting { append: m, token }, self.config.reorder_bytes_max);
        self.evict(evicted);
    }

    /// What waited for the hole to close goes through the full check again (I6).
    fn drain_reorder(&mut self, from: Identity) {
        loop {
            let last = self.log.last_index();
            let Role::Follower(follower) = &mut self.role else { return };
            let Some(Waiting { append, token }) = follower.reorder.take_ready(last) else { return };
            assert_eq!(append.term, self.hard_state.term, "the buffer belongs to one term");
            self.take_append(from, append, token);
        }
    }

    /// Answers appends that waited and had to go: a call left unanswered would be re-sent for ever, and the leader
    /// must learn that the hole will not be filled from here.
    pub(super) fn evict(&mut self, waiting: Vec<Waiting>) {
        for Waiting { append, token } in waiting {
            let outcome = AppendOutcome::Evicted { prev_index: append.prev_index };
            self.reply_append(&append, outcome, token);
        }
    }

    /// The attempt is repeated so that the leader knows an answer to an older one.
    fn reply_append(&mut self, m: &Append, outcome: AppendOutcome, token: Option<ReplyToken>) {
        let reply = AppendReply { term: self.term(), attempt: m.attempt, outcome };
        self.reply(token, Message::AppendReply(reply));
    }

    /// Removes a conflicting suffix. What waited behind the old one is answered and forgotten.
    pub(super) fn truncate(&mut self, index: Index) {
        assert!(index > self.commit, "truncating {index}, committed is {}", self.commit);
        self.log.truncate_from(index);
        self.durable.stage_truncation(index);
        assert!(self.ruler.verified < index, "truncating {index}, verified is {}", self.ruler.verified);
        let Role::Follower(follower) = &mut self.role else { panic!("only followers truncate") };
        let waiting = follower.reorder.take_all();
        self.evict(waiting);
    }

    /// Answered always, also when its term is old: silence would leave a node of a higher term outside for ever
    /// (E9). Repeating or reordering heartbeats changes nothing (L6).
    pub(super) fn handle_heartbeat(&mut self, now: Instant, from: Identity, m: Heartbeat) {
        assert!(m.term <= self.term(), "a higher term was adopted before");
        if m.term == self.term() {
            if !self.accept_leader(now, from) {
                return;
            }
            let last = self.log.last_index();
            let is_member = self.log.membership().contains(self.config.identity);
            if m.commit > last && self.repair.is_none() && is_member {
                // The leader counted an acknowledgement for what is not here (L7): a lost tail or a copied folder.
                // One that is no member has only taken the place of the folder that acknowledged.
                self.durable.tell(Output::Alarm(Alarm::LostTail { commit: m.commit, last }));
            }
            // The leader sends at most what it knows to match here.
            self.commit_through(m.commit.min(last));
        }
        let reply = HeartbeatReply { term: self.term(), round: m.round };
        let message = Message::HeartbeatReply(reply);
        self.durable.send(Output::Notice { to: from.node, message });
    }

    /// Thesis §6.4: still the leader? The answer is only the term and the round; whether they confirm anything is
    /// the leader's to say.
    pub(super) fn handle_read_probe(
        &mut self,
        now: Instant,
        from: Identity,
        m: ReadProbe,
        token: Option<ReplyToken>,
    ) {
        if m.term == self.term() && !self.accept_leader(now, from) {
            return;
        }
        let reply = ReadProbe { term: self.term(), round: m.round };
        self.reply(token, Message::ReadProbeReply(reply));
    }
}
