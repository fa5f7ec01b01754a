//! Linearizable reads by ReadIndex (thesis §6.4).
//!
//! A read may be answered from the machine at index i if the node led *after* the read was asked for, and i was
//! its commit index then. Leadership is shown by a quorum's answers to one *round*: a number that no earlier
//! heartbeat or probe of the term bore, so that a late answer never confirms a later read (R2). Reads that arrive
//! while a round is out wait for the next one. Heartbeats draw from the same numbers, so an answer to a later
//! heartbeat confirms as well, should a probe be lost.
//!
//! # Why the commit index of the round's start
//! Everything that was acknowledged to anyone before a read was asked for is at or below the commit index of whoever
//! led then. If a quorum answers a round that began after the read, no other leader can have been elected before
//! the round began, so that leader was this one, and its own commit index covers the acknowledgements. This needs
//! the commit index to be current, which it is only after the first commit of the own term (Raft paper §8, R1).
//!
//! # What a late answer can do
//! A round's number is given out once, and the answers repeat it. An answer proves leadership at some moment after
//! the round was given out, whenever it arrives, so it may confirm reads of that round or of an earlier one, and no
//! others. This holds for every copy of it.
//!
//! Reads that other nodes ask about join the same rounds; see `asked`. Reads without a round are in `lease`.

use super::Raft;
use super::output::{Output, ReadError, ReadId, ReplyToken};
use super::quorum;
use super::role::Role;
use crate::message::{Message, ReadProbe};
use crate::mutant::{self, Mutant};
use crate::time::Instant;
use crate::types::{Identity, Index, Round};

/// The reads of one leader.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Reads {
    /// They join the next round.
    waiting: Vec<Asker>,
    out: Option<ReadRound>,
}

/// Who waits for a read to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The driver.
    Own(ReadId),
    /// Another node, which has reads of its own.
    Peer { token: ReplyToken, question: u64 },
}

/// The reads that one round confirms.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct ReadRound {
    round: Round,
    /// The commit index when the round began, after every one of these reads was asked for.
    index: Index,
    askers: Vec<Asker>,
}

impl Reads {
    /// Joins the next round.
    pub(super) fn wait(&mut self, asker: Asker) {
        self.waiting.push(asker);
    }

    /// How many are not answered.
    pub(super) fn count(&self) -> usize {
        self.waiting.len() + self.out.as_ref().map_or(0, |out| out.askers.len())
    }

    /// All that are not answered, in the order they came.
    pub(super) fn into_askers(self) -> impl Iterator<Item = Asker> {
        self.out.map(|out| out.askers).unwrap_or_default().into_iter().chain(self.waiting)
    }

    /// The round that is out.
    pub(super) fn round(&self) -> Option<Round> {
        self.out.as_ref().map(|out| out.round)
    }
}

impl Raft {
    /// Asks for a linearizable read; answered by `ReadReady` or `ReadFailed`.
    pub fn read(&mut self, now: Instant, id: ReadId) -> Result<(), ReadError> {
        let before = self.begin(now);
        let leader = self.leader();
        let Role::Leader(state) = &mut self.role else { return Err(ReadError::NotLeader { leader }) };
        if state.reads.count() >= self.config.reads_max {
            return Err(ReadError::Busy);
        }
        state.reads.wait(Asker::Own(id));
        self.end(before);
        Ok(())
    }

    /// Starts the next round when none is out. Until an entry of the own term is committed the commit index may
    /// lag behind what former leaders committed (Raft paper §8, R1): reads wait.
    pub(super) fn advance_reads(&mut self, now: Instant) {
        let span = self.config.election_timeout_max;
        let Role::Leader(leader) = &mut self.role else { return };
        // One round at a time: a read that arrives now gets a round that begins after it, never one that is out.
        let has_committed = self.commit >= leader.start || mutant::is(Mutant::R1);
        if leader.reads.out.is_none() && !leader.reads.waiting.is_empty() && has_committed {
            let round = leader.next_round(now, span);
            let askers = core::mem::take(&mut leader.reads.waiting);
            assert!(
                leader.progress.values().all(|p| p.acked_round < round),
                "round {round} was answered before"
            );
            leader.reads.out = Some(ReadRound { round, index: self.commit, askers });
        }
        self.confirm_reads();
        self.send_read_probes(now);
    }

    /// At most one probe is open per voter; the next goes when it is answered, so a dead voter collects none.
    fn send_read_probes(&mut self, now: Instant) {
        let term = self.term();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(round) = leader.reads.round() else { return };
        for (id, progress) in &mut leader.progress {
            let is_due = progress.acked_round < round && progress.probe_out.is_none() && !progress.is_paused;
            if is_due && self.log.membership().is_voter(progress.identity) {
                progress.probe_out = Some(round);
                progress.asked.get_or_insert(now);
                let message = Message::ReadProbe(ReadProbe { term, round });
                self.durable.send(Output::Request { to: *id, message });
            }
        }
    }

    /// Confirms the round that is out when a quorum answered it or a later one.
    pub(super) fn confirm_reads(&mut self) {
        let own = self.config.identity;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.reads.out.is_none() {
            return;
        }
        let acked = |who: Identity| {
            // A leader needs no message to know that it is alive; a single voter is its own quorum.
            if who == own { Some(Round(u64::MAX)) } else { leader.acked_round(who) }
        };
        let reached = quorum::reached(self.log.membership(), acked);
        let Some(out) = leader.reads.out.take_if(|out| reached.is_some_and(|round| round >= out.round))
        else {
            return;
        };
        assert!(
            out.index >= leader.start || mutant::is(Mutant::R1),
            "read index {} before the own term's {}",
            out.index,
            leader.start
        );
        for asker in out.askers {
            self.tell_read(asker, Some(out.index));
        }
    }

    /// Tells whoever asked that a read may be answered at this index, or that it is not confirmed.
    pub(super) fn tell_read(&mut self, asker: Asker, index: Option<Index>) {
        match (asker, index) {
            (Asker::Own(id), Some(index)) => self.durable.tell(Output::ReadReady { id, index }),
            (Asker::Own(id), None) => self.durable.tell(Output::ReadFailed { id }),
            (Asker::Peer { token, question }, index) => self.reply_read_index(token, question, index),
        }
    }

    /// Tells the read, and the voter's next probe may go. It is no sign of life for check-quorum, which counts
    /// answers to appends and heartbeats only.
    pub(super) fn handle_read_probe_reply(&mut self, now: Instant, from: Identity, m: ReadProbe) {
        if m.term != self.term() {
            return;
        }
        self.handle_round_answer(from, m.round);
        if let Some(progress) = self.progress_of(from) {
            progress.answered(now);
        }
    }

    /// An answer of the current term. A round that was never given out proves nothing.
    pub(super) fn handle_round_answer(&mut self, from: Identity, round: Round) {
        let Role::Leader(leader) = &self.role else { return };
        if round > leader.round {
            return;
        }
        assert!(round <= leader.round, "round {round} of {}", leader.round);
        let round = if mutant::is(Mutant::R2) { leader.round } else { round };
        if let Some(progress) = self.progress_of(from) {
            progress.acked(round);
            self.confirm_reads();
        }
    }
}
