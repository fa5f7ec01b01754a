//! What must wait for the disk, waits here.
//!
//! Changes of the hard state and of the log are *staged*; [`Durable::issue`] gathers them into one batch with a
//! ticket. Tickets are finished in order, so "durable with ticket t" means everything staged up to then. A batch
//! that carries a hard state is issued only when no other such batch is in flight: whatever changes meanwhile
//! piles up into the next one, so a slow disk writes only the newest hard state (design.md §6).
//!
//! Outputs are held by ticket:
//! - every message carries the sender's term, so none leaves before the hard state that holds the term is durable
//!   (design.md §7 rules 1 and 2);
//! - an acceptance of entries leaves only when they are durable (§7 rules 3 and 5);
//! - appends of the leader's own entries do not wait for its log write (§7 rule 4; thesis §10.2.1).
//!
//! # Why FIFO tickets are enough
//! The disk finishes batches in the order in which they were issued, and everything staged before a batch is in it
//! or in one before. So "wait for ticket t" is the strongest thing anyone needs to say, and a held output needs one
//! number: the largest ticket of the things it shows. No output looks at the disk's state again when it leaves,
//! except an acceptance, which may name more than it was promised for.
//!
//! # Truncation
//! A follower may cut entries whose write is under way, and put others at their place (Raft paper §5.3). The old
//! write still completes, later, and would vouch for the new entries (L4, the "ABA" of etcd's asynchronous
//! storage). So a cut lowers, in every batch in flight, the index that its completion will raise the durable index
//! to. Nothing else has to be remembered: tickets say when, `through` says what.
//!
//! # Overtaken promises
//! When a newer term is staged, held requests of the old one are dropped and held answers turn into refusals that
//! carry the new term: what they promised belonged to a leader or candidate that is overtaken.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::log::Log;
use super::output::{Install, Output, ReplyToken, Ticket};
use crate::message::{
    AppendOutcome, AppendReply, HeartbeatReply, Message, RangeReply, ReadIndexReply, SnapshotOfferReply,
};
use crate::mutant::{self, Mutant};
use crate::snapshot::SnapshotMeta;
use crate::time::Instant;
use crate::types::{HardState, Index, NodeId, Term};

/// Answers and requests that wait for the disk, at most. Further ones are lost, as any message may be; a caller
/// that still wants its answer asks again.
const HELD_MAX: usize = 16_384;

/// An output that waits.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) enum Held {
    /// Complete as it stands.
    Output(Output),
    /// An append's acceptance; the index it names is the best one known when it leaves.
    Accepted(Accepted),
}

/// What the disk may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskLog {
    /// Entries too.
    Whole,
    /// None, until its hole is filled in memory.
    Damaged,
}

/// An append that is in the log and waits to be acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    pub(super) token: ReplyToken,
    pub(super) attempt: u64,
    pub(super) prev_index: Index,
    /// The last index the append verified; durable when this leaves.
    pub(super) through: Index,
}

/// A batch the disk has not finished.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Write {
    ticket: Ticket,
    issued: Instant,
    hard_state: Option<HardState>,
    is_install: bool,
    /// The last entry that becomes durable with it. Lowered by a truncation: the late completion of a write whose
    /// entries are gone must not vouch for what replaced them (L4).
    through: Option<Index>,
}

/// What is staged, in flight, durable, and held.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Durable {
    /// Names the batch that is being gathered.
    next: Ticket,
    /// This and all before are durable.
    done: Ticket,
    in_flight: VecDeque<Write>,
    /// Staged and not issued.
    staged_hard_state: Option<HardState>,
    staged_truncation: Option<Index>,
    /// A snapshot that takes the place of the whole log before it.
    staged_install: Option<SnapshotMeta>,
    /// Whether the disk is to keep what it holds behind that snapshot.
    is_log_spared: bool,
    /// The first entry not handed to the disk; at most `last + 1`.
    unissued: Index,
    /// The newest hard state is durable with this ticket.
    hard_state_ticket: Ticket,
    /// What the disk holds for certain.
    hard_state: HardState,
    /// The highest index whose entry, and all before, are durable. Lowered by truncation only.
    index: Index,
    held: BTreeMap<Ticket, Vec<Held>>,
    /// How many wait; at most [`HELD_MAX`].
    held_count: usize,
    /// Ready to leave.
    ready: VecDeque<Output>,
    /// The recent time of a write, leaning to the slow ones.
    sync_time: Duration,
}

impl Durable {
    /// All of it is durable at the start.
    pub(super) fn new(hard_state: HardState, last: Index) -> Self {
        Self {
            next: Ticket(1),
            done: Ticket(0),
            in_flight: VecDeque::new(),
            staged_hard_state: None,
            staged_truncation: None,
            staged_install: None,
            is_log_spared: false,
            unissued: last.next(),
            hard_state_ticket: Ticket(0),
            hard_state,
            index: last,
            held: BTreeMap::new(),
            held_count: 0,
            ready: VecDeque::new(),
            sync_time: Duration::ZERO,
        }
    }

    /// How far the log is durable: what this node may acknowledge, and what a leader counts of itself.
    pub(super) fn index(&self) -> Index {
        self.index
    }

    /// Term and vote as a crash at this moment would leave them, at least.
    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// How long a write takes here lately; a candidate allows for it.
    pub(super) fn sync_time(&self) -> Duration {
        self.sync_time
    }

    /// True when messages may show the term and vote by which this node acts.
    pub(super) fn is_hard_state_durable(&self) -> bool {
        self.hard_state_ticket <= self.done
    }

    /// When the oldest unfinished write was issued.
    pub(super) fn oldest_issued(&self) -> Option<Instant> {
        self.in_flight.front().map(|write| write.issued)
    }

    /// The last ticket handed out.
    pub(super) fn last_issued(&self) -> Ticket {
        Ticket(self.next.0 - 1)
    }

    /// The newest term or vote; it replaces one that is staged already. What replaced was never shown to anyone:
    /// every message since then waits for this same ticket.
    pub(super) fn stage_hard_state(&mut self, hard_state: HardState) {
        assert!(hard_state.term >= self.hard_state.term, "{hard_state} after {}", self.hard_state);
        let newest = self.newest_hard_state();
        assert!(hard_state.term >= newest.term, "{hard_state} after {newest}");
        assert!(hard_state.term > Term(0), "term 0 needs no record");
        let is_newer_term = newest.term < hard_state.term;
        self.staged_hard_state = Some(hard_state);
        self.hard_state_ticket = self.next;
        if is_newer_term {
            self.overtake(hard_state.term);
        }
    }

    /// As the node acts by it: staged, else under way, else durable.
    fn newest_hard_state(&self) -> HardState {
        let in_flight = self.in_flight.iter().rev().find_map(|write| write.hard_state);
        self.staged_hard_state.or(in_flight).unwrap_or(self.hard_state)
    }

    /// The log was cut from `from` on: neither what is durable nor what is under way reaches beyond it now.
    pub(super) fn stage_truncation(&mut self, from: Index) {
        assert!(from > Index(0), "nothing lies before the log");
        if from < self.unissued {
            self.unissued = from;
            self.staged_truncation = Some(self.staged_truncation.map_or(from, |staged| staged.min(from)));
        }
        self.index = self.index.min(from.prev());
        for write in self.in_flight.iter_mut().filter(|_| !mutant::is(Mutant::L4)) {
            write.through = write.through.map(|through| through.min(from.prev()));
        }
        assert!(self.index < from, "durable {} after a cut from {from}", self.index);
        assert!(self.unissued <= from || self.staged_truncation.is_none_or(|t| t <= from), "cut from {from}");
    }

    /// A snapshot takes the place of the log, of which nothing beyond `settled` counted for anyone. What is under
    /// way still reaches the disk and is replaced there with the rest, so it vouches for nothing beyond it either.
    pub(super) fn stage_install(&mut self, meta: SnapshotMeta, settled: Index) {
        let through = meta.id.index;
        assert!(settled < through, "a snapshot through {through} is not newer than {settled}");
        self.index = self.index.min(settled);
        for write in &mut self.in_flight {
            write.through = write.through.map(|through| through.min(settled));
        }
        self.staged_truncation = None;
        self.staged_install = Some(meta);
        self.unissued = through.next();
    }

    /// The log on disk has a hole after what is durable. What takes its place, and all behind it, is complete in the
    /// log now, and goes to the disk in one write.
    pub(super) fn stage_mend(&mut self) {
        let from = self.unissued;
        self.staged_truncation = Some(self.staged_truncation.map_or(from, |staged| staged.min(from)));
    }

    /// What the disk holds behind the snapshot being installed stays there, damaged as it is, until it is mended.
    pub(super) fn spare_log(&mut self) {
        self.is_log_spared = self.staged_install.is_some();
    }

    /// True from the moment a snapshot is in place in memory until it is on disk too: meanwhile less is durable than
    /// the log's base says.
    pub(super) fn is_installing(&self) -> bool {
        self.staged_install.is_some() || self.in_flight.iter().any(|write| write.is_install)
    }

    /// The ticket with which the entry at `index`, which the log holds, is durable: that of the first batch in
    /// flight that covers it, else that of the next.
    pub(super) fn ticket_of(&self, index: Index) -> Ticket {
        if index <= self.index {
            return self.done;
        }
        let covers = |write: &&Write| write.through.is_some_and(|through| through >= index);
        self.in_flight.iter().find(covers).map_or(self.next, |write| write.ticket)
    }

    /// Sends once the hard state is durable, at once if it is.
    pub(super) fn send(&mut self, output: Output) {
        if self.is_hard_state_durable() || mutant::is(Mutant::E2) {
            self.ready.push_back(output);
        } else {
            self.hold(self.hard_state_ticket, Held::Output(output));
        }
    }

    /// Queues what shows no message's term: nothing holds it.
    pub(super) fn tell(&mut self, output: Output) {
        self.ready.push_back(output);
    }

    /// Acknowledges entries once they, and the hard state, are durable. `verified` as in [`Self::release`].
    pub(super) fn accept(&mut self, accepted: Accepted, verified: Index) {
        assert!(accepted.through >= accepted.prev_index, "an append verifies at least its prev");
        let ticket = self.ticket_of(accepted.through).max(self.hard_state_ticket);
        if ticket <= self.done {
            let output = self.acceptance(accepted, verified);
            self.ready.push_back(output);
        } else {
            self.hold(ticket, Held::Accepted(accepted));
        }
    }

    /// Waits for the ticket; within one ticket, in the order of arrival.
    fn hold(&mut self, ticket: Ticket, held: Held) {
        assert!(ticket > self.done, "{ticket} is done, nothing waits for it");
        if let Some(peer) = heartbeat_answered(&held) {
            // While the disk hangs one answer per peer is kept: the next heartbeat's round says more.
            self.retain_held(|other| heartbeat_answered(other) != Some(peer));
        }
        if self.held_count < HELD_MAX {
            self.held.entry(ticket).or_default().push(held);
            self.held_count += 1;
        }
        assert!(self.held_count <= HELD_MAX, "{} of {HELD_MAX} outputs wait", self.held_count);
        assert!(ticket <= self.next, "{ticket} is beyond the batch being gathered, {}", self.next);
    }

    /// Drops what does not pass, and counts again.
    fn retain_held(&mut self, mut keeps: impl FnMut(&Held) -> bool) {
        for queue in self.held.values_mut() {
            queue.retain(&mut keeps);
        }
        self.held_count = self.held.values().map(Vec::len).sum();
    }

    /// Requests of a role that ended do not go out any more.
    pub(super) fn drop_requests(&mut self) {
        self.retain_held(|held| !matches!(held, Held::Output(Output::Request { .. })));
    }

    /// Turns what was promised in an older term into what may still be said in `term`.
    fn overtake(&mut self, term: Term) {
        assert_eq!(self.hard_state_ticket, self.next, "the new term is staged, not issued");
        let held = core::mem::take(&mut self.held);
        let kept: Vec<Held> = held.into_values().flatten().filter_map(|held| overtaken(held, term)).collect();
        self.held_count = kept.len();
        if !kept.is_empty() {
            self.held.insert(self.hard_state_ticket, kept);
        }
    }

    /// Gathers what is staged into one batch, if there is anything and the disk may have it.
    pub(super) fn issue(&mut self, now: Instant, log: &Log, disk_log: DiskLog) -> Option<Output> {
        let has_entries = self.unissued <= log.last_index() && disk_log == DiskLog::Whole;
        let has_change = self.staged_truncation.is_some() || self.staged_install.is_some() || has_entries;
        if self.staged_hard_state.is_none() && !has_change {
            return None;
        }
        // One hard-state write at a time; entries staged after it must not overtake it either.
        let hard_state_in_flight = self.in_flight.iter().any(|write| write.hard_state.is_some());
        if self.staged_hard_state.is_some() && hard_state_in_flight {
            return None;
        }
        let ticket = self.next;
        self.next = Ticket(ticket.0 + 1);
        let hard_state = self.staged_hard_state.take();
        let entries: Vec<_> =
            if has_entries { log.entries_from(self.unissued).cloned().collect() } else { Vec::new() };
        assert_eq!(entries.is_empty(), !has_entries, "entries from {} on", self.unissued);
        assert!(
            entries.first().is_none_or(|first| first.index == self.unissued),
            "a hole at {}",
            self.unissued
        );
        assert!(hard_state.is_none() || self.hard_state_ticket == ticket, "{ticket} carries the hard state");
        let is_log_spared = core::mem::take(&mut self.is_log_spared);
        let install = self.staged_install.take().map(|meta| Install { meta, is_log_spared });
        // Whoever has the snapshot has all that it covers.
        let through = entries.last().map(|entry| entry.index).or(install.map(|it| it.meta.id.index));
        if has_entries {
            self.unissued = log.last_index().next();
        }
        let is_install = install.is_some();
        self.in_flight.push_back(Write { ticket, issued: now, hard_state, is_install, through });
        let truncate_from = self.staged_truncation.take();
        Some(Output::Persist { ticket, hard_state, install, truncate_from, entries })
    }

    /// The disk finished this ticket, and so all before it. True when that made the newest hard state durable.
    ///
    /// # Panics
    /// When the ticket was never issued.
    pub(super) fn complete(&mut self, now: Instant, ticket: Ticket) -> bool {
        assert!(ticket < self.next, "{ticket} was never issued, {} is next", self.next);
        let was_durable = self.is_hard_state_durable();
        while self.in_flight.front().is_some_and(|write| write.ticket <= ticket) {
            let Some(write) = self.in_flight.pop_front() else { break };
            assert!(write.ticket > self.done, "{} after {}", write.ticket, self.done);
            self.done = write.ticket;
            if let Some(hard_state) = write.hard_state {
                assert!(hard_state.term >= self.hard_state.term, "{hard_state} after {}", self.hard_state);
                self.hard_state = hard_state;
            }
            if let Some(through) = write.through {
                self.index = self.index.max(through);
            }
            let sample = now.saturating_since(write.issued);
            self.sync_time = sample.max((self.sync_time * 7 + sample) / 8);
        }
        assert!(self.done < self.next, "{} is done before it was issued", self.done);
        assert!(self.index < self.unissued, "durable {} was never issued", self.index);
        !was_durable && self.is_hard_state_durable()
    }

    /// Moves what the disk no longer holds back to the outputs. `verified` is how far this node knows its log to
    /// equal the leader's.
    pub(super) fn release(&mut self, verified: Index) {
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() > self.done {
                break;
            }
            for held in entry.remove() {
                self.held_count -= 1;
                let output = match held {
                    Held::Output(output) => output,
                    Held::Accepted(accepted) => self.acceptance(accepted, verified),
                };
                self.ready.push_back(output);
            }
        }
    }

    /// The answer names the highest index that is both verified and durable, which makes one answer do for those
    /// lost before it.
    fn acceptance(&self, accepted: Accepted, verified: Index) -> Output {
        let Accepted { token, attempt, through, .. } = accepted;
        assert!(through <= self.index, "acknowledging {through}, durable is {}", self.index);
        let bound = if mutant::is(Mutant::L3) { self.index } else { verified.min(self.index) };
        let match_index = through.max(bound);
        let outcome = AppendOutcome::Accepted { match_index };
        let reply = AppendReply { term: self.hard_state.term, attempt, outcome };
        Output::Reply { token, message: Message::AppendReply(reply) }
    }

    /// The next output that nothing holds.
    pub(super) fn pop(&mut self) -> Option<Output> {
        self.ready.pop_front()
    }

    /// How many outputs wait for the disk.
    pub(super) fn held_count(&self) -> usize {
        self.held_count
    }

    /// Everything that decides what happens next, tickets counted from the last finished one and moments from now.
    #[cfg(test)]
    pub(super) fn hash_into(&self, now: Instant, state: &mut impl core::hash::Hasher) {
        use core::hash::Hash as _;
        assert!(self.ready.is_empty(), "outputs are drained first");
        let ticket = |ticket: Ticket| ticket.0.saturating_sub(self.done.0);
        (ticket(self.next), ticket(self.hard_state_ticket), self.unissued, self.index).hash(state);
        (self.hard_state.term, self.hard_state.vote, self.staged_truncation, self.sync_time).hash(state);
        self.staged_hard_state.map(|staged| (staged.term, staged.vote)).hash(state);
        for write in &self.in_flight {
            let hard_state = write.hard_state.map(|written| (written.term, written.vote));
            (ticket(write.ticket), hard_state, write.through).hash(state);
            now.saturating_since(write.issued).hash(state);
        }
        for (at, held) in &self.held {
            (ticket(*at), format!("{held:?}")).hash(state);
        }
    }
}

/// The peer that this answers a heartbeat of.
fn heartbeat_answered(held: &Held) -> Option<NodeId> {
    match held {
        Held::Output(Output::Notice { to, message: Message::HeartbeatReply(_) }) => Some(*to),
        _ => None,
    }
}

/// What may still be said of this in a newer term: of requests and heartbeats nothing, of answers the term.
fn overtaken(held: Held, term: Term) -> Option<Held> {
    let output = match held {
        Held::Accepted(Accepted { token, attempt, prev_index, .. }) => {
            let reply = AppendReply { term, attempt, outcome: AppendOutcome::Evicted { prev_index } };
            Output::Reply { token, message: Message::AppendReply(reply) }
        }
        Held::Output(Output::Reply { token, message }) => {
            Output::Reply { token, message: overtaken_reply(message, term)? }
        }
        Held::Output(Output::Notice { to, message: Message::HeartbeatReply(m) }) => {
            Output::Notice { to, message: Message::HeartbeatReply(HeartbeatReply { term, ..m }) }
        }
        Held::Output(_) => return None,
    };
    Some(Held::Output(output))
}

/// The same answer, turned to "no" and carrying the newer term: whoever reads it follows the term first (Raft
/// paper §5.1) and does not look at the rest.
fn overtaken_reply(message: Message, term: Term) -> Option<Message> {
    Some(match message {
        Message::PreVoteReply(mut m) => {
            (m.term, m.is_granted) = (term, false);
            Message::PreVoteReply(m)
        }
        Message::VoteReply(mut m) => {
            (m.term, m.is_granted) = (term, false);
            Message::VoteReply(m)
        }
        Message::AppendReply(m) => Message::AppendReply(AppendReply { term, ..m }),
        Message::ReadProbeReply(mut m) => {
            m.term = term;
            Message::ReadProbeReply(m)
        }
        Message::ReadIndexReply(m) => Message::ReadIndexReply(ReadIndexReply { term, ..m }),
        Message::TransferReply(mut m) => {
            (m.term, m.is_taken) = (term, false);
            Message::TransferReply(m)
        }
        // What it holds is committed, so it holds it in every later term too.
        Message::SnapshotOfferReply(m) => Message::SnapshotOfferReply(SnapshotOfferReply { term, ..m }),
        // Its entries are what they are; only a leader's word is void.
        Message::RangeReply(m) => Message::RangeReply(RangeReply { term, commit: None, ..m }),
        _ => return None,
    })
}
