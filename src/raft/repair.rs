//! A log with a hole in it: what a node may still do, and how the hole is filled (design: repair).
//!
//! # What is known
//! The disk gave an intact beginning, perhaps intact entries behind one or more holes, and perhaps the place and term
//! of the last entry that was ever durable there. The beginning is this node's log; the rest is *kept*. Nothing of it
//! is given up for what is missing: an acknowledged entry may be one of a quorum's few copies.
//!
//! # What a damaged node does
//! - It does not campaign, and takes no order to.
//! - It votes as if nothing were missing, where it knows its last (term, index): what it once acknowledged is no
//!   further than that. Where it does not know, it grants nothing.
//! - It acknowledges only what lies before the first hole. An append that would fill the hole waits unanswered, so the
//!   leader neither streams into it nor probes in a loop.
//! - It asks the leader first, and every other member in turn, for what it lacks; and serves what it has, like any
//!   node.
//!
//! # The question is the declaration
//! A [`RangeRequest`] says where the damage begins. A leader that gets one takes back what the sender acknowledged
//! beyond, and ignores acknowledgements of appends sent before: they are from before the damage was found. So the one
//! message that has to reach the leader before anything can go on is also the one that is repeated until it did. The
//! numbers of questions count over boots, so the first of a boot is known as such.
//!
//! # What is believed
//! - Entries from anyone whose chain leads from this log's end *into the next intact entry*: the chain covers place,
//!   term and content, so they are what was lost.
//! - At the end of the log, entries from anyone, if the last has the *index and term* that the end is known to have
//!   had: logs that agree in that agree in all before (Raft paper §5.3).
//! - What the leader of the current term says of its own log. Entries of it that do *not* lead into what is kept show
//!   that what is kept was never committed (leader completeness): it is cut. So is the last entry before the hole,
//!   with the hole, where that log differs there already or ends before.
//! - Where the end is unknown, only the leader's word, up to an index that it has committed in its own term, told after
//!   it took back this node's acknowledgements: all that this node ever helped to commit is in there.
//! - A snapshot of any node: what it covers is committed. Kept entries stay if the chain goes on from it.
//!
//! # Nothing is half mended
//! What comes is held in memory. When nothing is missing any more, one disk write puts it, with all that was kept, in
//! the place of what is damaged; until that is durable, a crash finds what this boot found.

use std::collections::{BTreeSet, VecDeque};

use super::Raft;
use super::config::Base;
use super::log::append_bytes;
use super::output::{Alarm, Output, ReplyToken};
use super::progress::Change;
use super::role::Role;
use crate::entry::Entry;
use crate::message::{
    Append, AppendEntry, AppendOutcome, AppendReply, Message, RangeOutcome, RangeReply, RangeRequest,
};
use crate::mutant::{self, Mutant};
use crate::remains::{LogEnd, Remains};
use crate::time::Instant;
use crate::types::{Identity, Index, NodeId, Term};

/// Bytes of entries in one answer; one entry always goes.
const RANGE_BYTES_MAX: usize = 64 << 10;

/// Appends that wait for the end of the repair.
pub(super) const PARKED_MAX: usize = 16;

/// A repair under way.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Repair {
    /// Intact entries behind the log's end, ascending, with holes between them.
    kept: VecDeque<Entry>,
    /// The last entry that was durable here, as far as known.
    end: Option<LogEnd>,
    /// What came of the first hole: chained to the log's end, and not believed yet.
    fetched: Vec<Entry>,
    /// Numbers the questions; the upper part is the boot's.
    question: u64,
    /// Whom the open question went to, for which first entry, and when.
    asked: Option<(NodeId, Index, Instant)>,
    /// When to ask next.
    ask_at: Instant,
    /// Who could not help since something came.
    failed: BTreeSet<NodeId>,
    /// Appends of the leader that reach into the hole.
    parked: VecDeque<(Append, ReplyToken)>,
}

/// What is missing first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    /// Everything before an intact entry.
    Before(Index),
    /// Everything up to an end that is known.
    Through(LogEnd),
    /// Nobody knows how much.
    Open,
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// It goes on from what was here.
    Yes,
    /// It goes on from something else than the log's end.
    Contradicts,
    /// It is of no use: its question is overtaken, or it does not go on from what somebody else sent.
    No,
}

/// How a repair stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairStatus {
    /// The first entry that is missing.
    pub first: Index,
    /// The last one before the next that is here; nothing when that cannot be told.
    pub last: Option<Index>,
    /// Entries of these that have come.
    pub fetched: u64,
    /// Who is asked.
    pub from: Option<NodeId>,
}

impl Repair {
    pub(super) fn new(remains: Remains, question: u64, now: Instant) -> Self {
        Self {
            kept: remains.entries.into(),
            end: remains.end,
            fetched: Vec::new(),
            question,
            asked: None,
            ask_at: now,
            failed: BTreeSet::new(),
            parked: VecDeque::new(),
        }
    }

    /// The last entry that was ever durable here, if that is known.
    pub(super) fn end(&self) -> Option<LogEnd> {
        self.end
    }

    pub(super) fn kept(&self) -> &VecDeque<Entry> {
        &self.kept
    }

    /// What is missing first; nothing when the log, which ends with `last`, is whole.
    fn gap(&self, last: Index) -> Option<Gap> {
        match (self.kept.front(), self.end) {
            (Some(next), _) => Some(Gap::Before(next.index)),
            (None, Some(end)) => (end.index > last).then_some(Gap::Through(end)),
            (None, None) => Some(Gap::Open),
        }
    }

    /// This node could not help.
    fn failed(&mut self, who: NodeId) {
        self.failed.insert(who);
        self.asked = None;
    }

    pub(super) fn deadline(&self, patience: core::time::Duration) -> Instant {
        self.asked.map_or(self.ask_at, |(_, _, since)| since + patience)
    }
}

impl Raft {
    /// How a repair stands, while the log has a hole.
    #[must_use]
    pub fn repair(&self) -> Option<RepairStatus> {
        let repair = self.repair.as_ref()?;
        let last = match repair.gap(self.log.last_index()) {
            Some(Gap::Before(next)) => Some(next.prev()),
            Some(Gap::Through(end)) => Some(end.index),
            Some(Gap::Open) | None => None,
        };
        Some(RepairStatus {
            first: self.log.last_index().next(),
            last,
            fetched: repair.fetched.len() as u64,
            from: repair.asked.map(|(from, ..)| from),
        })
    }

    /// The end of this node's log as elections compare it: of a damaged one, what it was. Nothing when that is not
    /// known: then no log is known to hold as much.
    pub(super) fn log_end(&self) -> Option<LogEnd> {
        let log = LogEnd { index: self.log.last_index(), term: self.log.last_term() };
        match &self.repair {
            None => Some(log),
            Some(_) if mutant::is(Mutant::I11) => Some(log),
            Some(repair) => repair.end(),
        }
    }

    // --- Asking.

    /// Asks, or gives up a question that nobody answers.
    pub(super) fn advance_repair(&mut self, now: Instant) {
        let patience = self.config.election_timeout_max;
        let Some(repair) = &mut self.repair else { return };
        if let Some((from, _, since)) = repair.asked
            && now.saturating_since(since) >= patience
        {
            repair.failed(from);
            self.durable.tell(Output::CancelRequests { to: from });
        }
        self.ask_range(now);
    }

    fn ask_range(&mut self, now: Instant) {
        let (last, term) = (self.log.last_index(), self.term());
        let Some(to) = self.repair.as_ref().and_then(|repair| self.range_source(repair)) else {
            return self.pause_repair(now);
        };
        let Some(repair) = &mut self.repair else { return };
        if repair.asked.is_some() || now < repair.ask_at {
            return;
        }
        let first = Index(last.0 + repair.fetched.len() as u64).next();
        let through = match repair.gap(last) {
            Some(Gap::Before(next)) => next.prev(),
            Some(Gap::Through(end)) => end.index,
            Some(Gap::Open) | None => Index(0),
        };
        repair.question += 1;
        repair.asked = Some((to, first, now));
        // What is in the log again and not mended on disk does not count either.
        let (question, damaged_from) = (repair.question, self.durable.index().next());
        let range = RangeRequest { term, question, damaged_from, first, last: through };
        self.durable.send(Output::Request { to, message: Message::Range(range) });
    }

    /// The leader first, since it has to know; then the others, one after the other. Only a leader can say where a log
    /// of unknown length ends.
    fn range_source(&self, repair: &Repair) -> Option<NodeId> {
        let own = self.config.identity.node;
        let leader = self.leader().filter(|leader| *leader != own && !repair.failed.contains(leader));
        if leader.is_some() || repair.gap(self.log.last_index()) == Some(Gap::Open) {
            return leader;
        }
        let members = self.log.membership().iter().map(|(id, _)| id);
        members.filter(|id| *id != own).find(|id| !repair.failed.contains(id))
    }

    /// Nobody is left to ask: all are asked again after a while.
    fn pause_repair(&mut self, now: Instant) {
        let pause = self.config.heartbeat_interval;
        let Some(repair) = self.repair.as_mut().filter(|repair| repair.asked.is_none()) else { return };
        if now >= repair.ask_at {
            repair.failed.clear();
            repair.ask_at = now + pause;
        }
    }

    /// A question to this node was lost with its link.
    pub(super) fn range_call_failed(&mut self, now: Instant, to: NodeId) {
        let pause = self.config.heartbeat_interval;
        if let Some(repair) = &mut self.repair
            && repair.asked.is_some_and(|(asked, ..)| asked == to)
        {
            repair.failed(to);
            // A transport that fails calls at once must not make a loop.
            repair.ask_at = repair.ask_at.max(now + pause);
        }
    }

    // --- Answering.

    /// Any node answers with what it has, in its log or behind a hole of its own. A leader first takes back what the
    /// asker acknowledged of what it has lost. `[W-64]`
    pub(super) fn handle_range(&mut self, from: Identity, m: RangeRequest, token: Option<ReplyToken>) {
        let boot = m.question >> 30;
        let is_taken_back =
            self.progress_of(from).map(|progress| progress.take_back(boot, m.damaged_from.prev()));
        if is_taken_back == Some(Change::Reprobe) {
            self.durable.tell(Output::CancelRequests { to: from.node });
        }
        let is_leader = matches!(self.role, Role::Leader(_));
        // A leader's log that ends earlier contradicts what the asker has before its hole.
        let ends_before = is_leader && m.first.prev() > self.log.last_index();
        let outcome = match ends_before {
            true => RangeOutcome::Entries { entries: Vec::new(), chain: self.log.last_chain() },
            false => self.range(m.first, m.last),
        };
        let commit = is_leader.then_some(self.commit);
        let reply = RangeReply { term: self.term(), question: m.question, commit, outcome };
        self.reply(token, Message::RangeReply(reply));
    }

    fn range(&self, first: Index, last: Index) -> RangeOutcome {
        let base = self.log.base().index;
        if first <= base {
            let covering = self.snapshot.filter(|meta| meta.id.index >= first);
            return covering.map_or(RangeOutcome::Nothing, |meta| RangeOutcome::Covered { meta });
        }
        let is_wanted = |index: Index| last == Index(0) || index <= last;
        let mut entries = Vec::new();
        let (mut bytes, mut at) = (0, first);
        let mut chain = self.log.chain_at(first.prev());
        while let Some(entry) = self.any_entry(at).filter(|entry| is_wanted(entry.index)) {
            bytes += append_bytes(&entry.payload);
            if !entries.is_empty() && bytes > RANGE_BYTES_MAX {
                break;
            }
            entries.push(AppendEntry { term: entry.term, payload: entry.payload.clone() });
            chain = Some(entry.chain);
            at = at.next();
        }
        chain.map_or(RangeOutcome::Nothing, |chain| RangeOutcome::Entries { entries, chain })
    }

    /// An entry of the log, or one that is kept behind a hole.
    fn any_entry(&self, index: Index) -> Option<&Entry> {
        self.log.entry(index).or_else(|| {
            let kept = &self.repair.as_ref()?.kept;
            let place = kept.partition_point(|entry| entry.index < index);
            kept.get(place).filter(|entry| entry.index == index)
        })
    }

    // --- Filling the hole.

    /// Takes in what another node has of the hole.
    pub(super) fn handle_range_reply(&mut self, now: Instant, from: Identity, m: RangeReply) {
        let is_leader = m.term == self.term() && m.commit.is_some() && self.leader() == Some(from.node);
        let Some(repair) = &mut self.repair else { return };
        let Some((asked, first, _)) = repair.asked.filter(|_| m.question == repair.question) else { return };
        if asked != from.node {
            return;
        }
        repair.asked = None;
        match m.outcome {
            RangeOutcome::Nothing => repair.failed(asked),
            RangeOutcome::Covered { meta } => {
                repair.failed(asked);
                if meta.id.index > self.log.last_index() {
                    self.receive_for_repair(asked, meta);
                }
            }
            RangeOutcome::Entries { entries, chain } => {
                let is_all = entries.is_empty();
                let taken = self.take_range(first, entries, chain);
                match taken {
                    Taken::Yes => self.fill(m.commit.filter(|_| is_leader), is_all),
                    Taken::Contradicts if is_leader => self.cut_contradicted(from),
                    Taken::Contradicts | Taken::No => {}
                }
                if let Some(repair) = self.repair.as_mut().filter(|_| is_all || taken != Taken::Yes) {
                    repair.failed(asked);
                }
            }
        }
        self.advance_repair(now);
    }

    /// Adds an answer to what came before it, if its chain leads there. `[W-63]`
    fn take_range(&mut self, first: Index, entries: Vec<AppendEntry>, chain: u32) -> Taken {
        let (cluster, term) = (self.config.cluster, self.term());
        let last = LogEnd { index: self.log.last_index(), term: self.log.last_term() };
        let mut before = self.log.last_chain();
        let Some(repair) = &mut self.repair else { return Taken::No };
        let mut end = last;
        if let Some(entry) = repair.fetched.last() {
            (end, before) = (LogEnd::of(entry), entry.chain);
        }
        if end.index.next() != first {
            // An append has moved the log's end meanwhile.
            return Taken::No;
        }
        let mut came = Vec::with_capacity(entries.len());
        for AppendEntry { term: of_entry, payload } in entries {
            if of_entry < end.term || of_entry > term {
                break;
            }
            let entry = Entry::new(cluster, end.index.next(), of_entry, payload, before);
            (end, before) = (LogEnd::of(&entry), entry.chain);
            came.push(entry);
        }
        if before != chain {
            // The two logs differ before or in the range. What came from others may be the wrong part.
            let is_first = repair.fetched.is_empty();
            repair.fetched.clear();
            return if is_first { Taken::Contradicts } else { Taken::No };
        }
        if !came.is_empty() {
            repair.failed.clear();
        }
        repair.fetched.append(&mut came);
        Taken::Yes
    }

    /// The leader's log has no such entry where this one ends. So that was never committed, nor was what followed it:
    /// the cut takes the hole along, as one by an append does.
    fn cut_contradicted(&mut self, from: Identity) {
        let index = self.log.last_index();
        if index <= self.commit.max(self.ruler.verified) {
            self.durable.tell(Output::Alarm(Alarm::SettledConflict { from, index }));
            return;
        }
        self.truncate(index);
        self.end_repair();
    }

    /// Moves what is proven into the log, hole by hole. `leads` is the commit index of a leader that sent the last of
    /// it, and `is_all` tells that it has nothing more.
    fn fill(&mut self, leads: Option<Index>, is_all: bool) {
        while let Some(gap) = self.repair.as_ref().and_then(|repair| repair.gap(self.log.last_index())) {
            let is_filled = match gap {
                Gap::Before(next) => self.fill_before(next, leads, is_all),
                Gap::Through(end) => self.fill_through(end, leads, is_all),
                Gap::Open => self.fill_open(leads),
            };
            if !is_filled {
                return;
            }
        }
        self.end_repair();
    }

    /// The term and chain value of what was fetched at an index, the log's end included.
    fn fetched_at(&self, index: Index) -> Option<(Term, u32)> {
        let last = self.log.last_index();
        match index.0.checked_sub(last.0)? {
            0 => Some((self.log.last_term(), self.log.last_chain())),
            place => {
                let entry = self.repair.as_ref()?.fetched.get(usize::try_from(place).ok()? - 1)?;
                Some((entry.term, entry.chain))
            }
        }
    }

    fn fill_before(&mut self, next: Index, leads: Option<Index>, is_all: bool) -> bool {
        let met = self.fetched_at(next.prev());
        let Some(repair) = &self.repair else { return false };
        let Some((term, chain)) = met else {
            return leads.is_some() && is_all && self.give_up_kept();
        };
        let front = &repair.kept[0];
        if front.term >= term && front.is_chained_to(self.config.cluster, chain) {
            self.take_fetched(next.prev());
            self.take_kept();
            return true;
        }
        if leads.is_some() {
            return self.give_up_kept();
        }
        self.distrust_fetched()
    }

    fn fill_through(&mut self, end: LogEnd, leads: Option<Index>, is_all: bool) -> bool {
        match self.fetched_at(end.index) {
            Some((term, _)) if term == end.term => {
                self.take_fetched(end.index);
                true
            }
            None if leads.is_none() || !is_all => false,
            _ if leads.is_some() => self.give_up_kept(),
            _ => self.distrust_fetched(),
        }
    }

    /// The leader's log through what it committed in its own term holds whatever this node helped to commit.
    fn fill_open(&mut self, leads: Option<Index>) -> bool {
        let Some(commit) = leads else { return false };
        let term_there = self.log.term_at(commit).or_else(|| self.fetched_at(commit).map(|(term, _)| term));
        if term_there != Some(self.term()) {
            return false;
        }
        self.give_up_kept()
    }

    /// The leader's log goes on differently here, or ends: what was lost or kept beyond was never committed, or is in
    /// what came from the leader. That takes its place.
    fn give_up_kept(&mut self) -> bool {
        let Some(repair) = &mut self.repair else { return false };
        repair.kept.clear();
        let through = Index(self.log.last_index().0 + repair.fetched.len() as u64);
        self.take_fetched(through);
        let end = LogEnd { index: self.log.last_index(), term: self.log.last_term() };
        if let Some(repair) = &mut self.repair {
            repair.end = Some(end);
        }
        true
    }

    /// Somebody's entries do not lead to what is kept: they are of another history, and so asked for anew.
    fn distrust_fetched(&mut self) -> bool {
        let pause = self.config.heartbeat_interval;
        if let Some(repair) = &mut self.repair {
            repair.fetched.clear();
            repair.ask_at = repair.ask_at.max(self.now + pause);
        }
        false
    }

    /// What was fetched up to an index is what was lost.
    fn take_fetched(&mut self, through: Index) {
        let Some(repair) = &mut self.repair else { return };
        for entry in core::mem::take(&mut repair.fetched) {
            if entry.index <= through {
                self.log.push(entry);
            }
        }
    }

    /// What is kept right after the log's end belongs to it again.
    fn take_kept(&mut self) {
        while let Some(repair) = &mut self.repair
            && repair.kept.front().is_some_and(|entry| entry.index == self.log.last_index().next())
            && let Some(entry) = repair.kept.pop_front()
        {
            self.log.push(entry);
        }
    }

    /// Nothing is missing any more, or what was is not wanted: the disk gets the whole from the first hole on.
    pub(super) fn end_repair(&mut self) {
        let Some(repair) = self.repair.take() else { return };
        self.durable.stage_mend();
        for (append, token) in repair.parked {
            self.evict_parked(&append, token);
        }
    }

    /// The leader is to probe again: what waited may fit now.
    fn evict_parked(&mut self, append: &Append, token: ReplyToken) {
        let outcome = AppendOutcome::Evicted { prev_index: append.prev_index };
        let reply = AppendReply { term: self.term(), attempt: append.attempt, outcome };
        self.reply(Some(token), Message::AppendReply(reply));
    }

    /// Keeps an append that reaches beyond what may be acknowledged. It is answered when the repair has ended; those
    /// before it are overtaken.
    pub(super) fn park(&mut self, append: Append, token: Option<ReplyToken>) {
        let (Some(repair), Some(token)) = (&mut self.repair, token) else { return };
        let bare = Append { entries: Vec::new(), ..append };
        repair.parked.push_back((bare, token));
        if repair.parked.len() > PARKED_MAX
            && let Some((oldest, token)) = repair.parked.pop_front()
        {
            self.evict_parked(&oldest, token);
        }
    }

    /// A snapshot takes the place of everything up to its base. What is kept beyond stays if the chain goes on from
    /// there. True when anything of the log on the disk is still needed.
    pub(super) fn repair_above(&mut self, base: Base) -> bool {
        let cluster = self.config.cluster;
        let Some(repair) = &mut self.repair else { return false };
        repair.fetched.clear();
        repair.failed.clear();
        let at = repair.kept.iter().find(|entry| entry.index == base.index);
        let is_other = at.is_some_and(|entry| (entry.term, entry.chain) != (base.term, base.chain));
        repair.kept.retain(|entry| entry.index > base.index);
        let next = repair.kept.front().filter(|entry| entry.index == base.index.next());
        let is_broken = next.is_some_and(|entry| !entry.is_chained_to(cluster, base.chain));
        if is_other || is_broken {
            // What the snapshot covers is committed, so what contradicts it never was.
            repair.kept.clear();
            repair.end = Some(LogEnd { index: base.index, term: base.term });
        }
        let is_needed = !repair.kept.is_empty() || repair.end.is_none_or(|end| end.index > base.index);
        self.take_kept();
        if self.repair.as_ref().is_some_and(|repair| repair.gap(self.log.last_index()).is_none()) {
            if is_needed {
                self.end_repair();
            } else {
                self.forget_repair();
            }
        }
        is_needed
    }

    /// The log begins anew behind a snapshot: nothing is left to mend.
    pub(super) fn forget_repair(&mut self) {
        let Some(repair) = self.repair.take() else { return };
        for (append, token) in repair.parked {
            self.evict_parked(&append, token);
        }
    }
}
