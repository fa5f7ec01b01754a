//! Snapshots: forgetting what one covers, offering it to those who are too far behind, taking one in the place of the
//! log (Raft paper §7).
//!
//! # Compaction
//! The node takes snapshots when the log says so, writes them in its own time and tells this room by
//! [`Raft::compact`]. From then on the entries that it covers may go. Not all do: a tail of bounded size stays for
//! followers that are a little behind, and what a peer needs next stays as long as that peer moves and the log takes
//! at most half its bound. What is gone is gone: no append is ever made from a prev that the log does not know (L10).
//!
//! # A transfer, step by step
//! 1. The leader finds that a peer's next entry is gone. It offers its newest snapshot: term, place, size, digest.
//! 2. The peer recognises the leader of the term, as from an append (a candidate steps down, S10). If its log has the
//!    very entry that the snapshot ends with, the log is equal up to there (§5.3), and nothing is transferred. If it
//!    has committed further, it says so (S1). Otherwise it asks its node to get the file.
//! 3. The offer is repeated with every heartbeat. Its answers tell how far the transfer is, and are contact like any
//!    other answer (S8). The leader goes on offering the same file as long as the peer moves, even if it has a newer
//!    one: else a slow transfer would begin again and again.
//!    When the log nevertheless runs out of room for what must follow, proposals slow down: see `pace`.
//! 4. The file is whole and verified, the machine can be put in its state: *transferred*. The node asks by
//!    [`Raft::handle_snapshot_installed`] whether it is still wanted. The log is replaced, in memory at once, on disk
//!    in ticket order with everything else. When that is durable the snapshot is *installed*, and acknowledged.
//! 5. The leader probes after it.
//!
//! # Why copies and late ones do no harm
//! An offer is a statement about committed entries, true for ever. Its answer names what the sender holds durably
//! *and* knows as committed: every leader of that term or a later one has it too (§5.4.3), so the match it gives is
//! true whenever it arrives.

use std::sync::Arc;

use super::Raft;
use super::config::Base;
use super::output::{Alarm, Output, ReplyToken};
use super::progress::Change;
use super::role::Role;
use crate::membership::Membership;
use crate::message::{Message, SnapshotOffer, SnapshotOfferReply, SnapshotOutcome};
use crate::mutant::{self, Mutant};
use crate::snapshot::SnapshotMeta;
use crate::time::Instant;
use crate::types::{Identity, Index, NodeId, Term};

/// A peer that neither matched more nor got more of a snapshot for this many maximum election timeouts stands still:
/// the log is not kept for it any more, and it may be offered another snapshot. A source that is busy writing one
/// of its own, or a receiver that fills its machine, takes seconds.
const STALL_TIMEOUTS: u32 = 10;

/// A snapshot that this node's driver was asked to get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiving {
    pub(super) meta: SnapshotMeta,
    /// Who offered it last, and in which term.
    from: NodeId,
    term: Term,
    pub(super) progress: ReceiveProgress,
}

/// How much of a snapshot is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveProgress {
    /// So many bytes of the file.
    Bytes(u64),
    /// All of it.
    Whole,
}

/// What the log says to a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// All of it is committed here.
    Covered,
    /// The log holds the entry that it ends with, and so all before.
    Matches,
    /// The log does not lead to it.
    Needed,
    /// It contradicts what is settled here.
    Unsound,
}

impl Raft {
    /// A snapshot of this node's own state is on disk, with all that it covers. The log may begin after it from now
    /// on. One that is older than what the log begins with already is ignored.
    ///
    /// # Panics
    /// When it is of something that is not committed here, or of another log.
    pub fn compact(&mut self, now: Instant, meta: SnapshotMeta) {
        let before = self.begin(now);
        let index = meta.id.index;
        assert!(index <= self.commit, "a snapshot through {index}, committed is {}", self.commit);
        let is_newer = self.snapshot.is_none_or(|held| held.id.index < index);
        if is_newer && index >= self.log.base().index {
            let place = (self.log.term_at(index), self.log.chain_at(index));
            assert_eq!(
                place,
                (Some(meta.id.term), Some(meta.id.chain)),
                "a snapshot of another log at {index}"
            );
            self.snapshot = Some(meta);
            self.compact_to = self.log.tail_base(index, self.config.log_tail_bytes);
            self.advance_base(now);
        }
        self.end(before);
    }

    /// Moves the log's base up, a bounded share at a time, as far as the snapshot, the disk and the peers allow.
    /// True when it did something.
    pub(super) fn advance_base(&mut self, now: Instant) -> bool {
        let mut is_forgetting = self.log.free_some();
        if self.compact_to <= self.log.base().index {
            return is_forgetting;
        }
        let target =
            self.compact_to.min(self.durable.index()).min(self.pinned(now).unwrap_or(self.compact_to));
        if target > self.log.base().index {
            self.log.compact_towards(target);
            is_forgetting = true;
        }
        assert!(self.log.base().index <= self.commit, "base {} above the commit", self.log.base().index);
        is_forgetting
    }

    /// The lowest index that a peer which moves needs as its prev, while the log has room for that.
    fn pinned(&self, now: Instant) -> Option<Index> {
        let Role::Leader(leader) = &self.role else { return None };
        if self.log.bytes() > self.config.log_bytes_max / 2 {
            return None;
        }
        let patience = self.config.election_timeout_max * STALL_TIMEOUTS;
        leader.progress.values().filter_map(|progress| progress.pin(now, patience)).min()
    }

    /// The file of this snapshot cannot be read here any more: it is offered to nobody until
    /// [`Self::compact`] names another (S4).
    pub fn handle_snapshot_lost(&mut self, now: Instant, meta: SnapshotMeta) {
        let before = self.begin(now);
        self.snapshot.take_if(|held| *held == meta);
        if let Role::Leader(leader) = &mut self.role {
            leader.progress.values_mut().for_each(|progress| progress.withdraw(meta));
        }
        self.end(before);
    }

    /// Sends an offer to every peer that waits for one.
    pub(super) fn offer_snapshots(&mut self, now: Instant) {
        let patience = self.config.election_timeout_max * STALL_TIMEOUTS;
        let term = self.hard_state.term;
        let Role::Leader(leader) = &mut self.role else { return };
        for (id, progress) in &mut leader.progress {
            if let Some(meta) = progress.next_offer(now, self.snapshot, patience) {
                assert!(meta.id.index <= self.commit, "offering {}, committed is {}", meta.id, self.commit);
                let message = Message::SnapshotOffer(SnapshotOffer { term, meta });
                self.durable.send(Output::Request { to: *id, message });
            }
        }
    }

    /// Raft paper §7, figure 13, but for the bytes, which the receiver asks for.
    pub(super) fn handle_snapshot_offer(
        &mut self,
        now: Instant,
        from: Identity,
        m: SnapshotOffer,
        token: Option<ReplyToken>,
    ) {
        assert!(m.term <= self.term(), "a higher term was adopted before");
        let index = m.meta.id.index;
        let mut outcome = SnapshotOutcome::Pulling { bytes: 0 };
        if m.term == self.term() {
            if !self.accept_leader(now, from) {
                return;
            }
            let fit = self.fit(m.meta);
            if fit == Fit::Unsound {
                self.durable.tell(Output::Alarm(Alarm::SettledConflict { from, index }));
                return;
            }
            if fit == Fit::Matches {
                self.ruler.verified = self.ruler.verified.max(index);
                // Only what is committed is in a snapshot.
                self.commit_through(index);
            }
            outcome =
                if fit == Fit::Needed { self.receive(from.node, m) } else { SnapshotOutcome::Installed };
        }
        self.drop_covered_pull();
        let match_index = self.commit.min(self.durable.index());
        if outcome == SnapshotOutcome::Installed && match_index < index {
            // It is in the log or in place; the disk still works on it.
            outcome = SnapshotOutcome::Transferred;
        }
        let reply = SnapshotOfferReply { term: self.term(), index, match_index, outcome };
        self.reply(token, Message::SnapshotOfferReply(reply));
    }

    /// Compares a snapshot with the log; changes nothing.
    fn fit(&self, meta: SnapshotMeta) -> Fit {
        let index = meta.id.index;
        let is_settled = index <= self.commit.max(self.ruler.verified);
        if mutant::is(Mutant::S1) {
            return Fit::Needed;
        }
        if index < self.log.base().index {
            return Fit::Covered;
        }
        match (self.log.term_at(index), self.log.chain_at(index)) {
            (Some(term), Some(chain)) if term == meta.id.term && chain == meta.id.chain => {
                if index <= self.commit { Fit::Covered } else { Fit::Matches }
            }
            // Equal terms are equal entries, unless one of the two logs is damaged.
            (Some(term), _) if is_settled || term == meta.id.term => Fit::Unsound,
            _ => Fit::Needed,
        }
    }

    /// Asks the driver for it, if that is not done. A file that is whole is not given up for another: it is about
    /// to be installed, and the leader can go on from there, or offers again. Nor is one given up for an older offer
    /// of the same leader, which is a late copy.
    fn receive(&mut self, from: NodeId, m: SnapshotOffer) -> SnapshotOutcome {
        let known = self.receiving.filter(|known| known.meta == m.meta);
        let is_kept = known.is_none()
            && self.receiving.is_some_and(|other| {
                let is_late = (other.from, other.term) == (from, m.term) && other.meta.id > m.meta.id;
                other.progress == ReceiveProgress::Whole || is_late
            });
        if is_kept {
            return SnapshotOutcome::Pulling { bytes: 0 };
        }
        let progress = known.map_or(ReceiveProgress::Bytes(0), |known| known.progress);
        self.receiving = Some(Receiving { meta: m.meta, from, term: m.term, progress });
        if known.is_none_or(|known| known.from != from) {
            self.durable.tell(Output::PullSnapshot { from, meta: m.meta });
        }
        match progress {
            ReceiveProgress::Bytes(bytes) => SnapshotOutcome::Pulling { bytes },
            ReceiveProgress::Whole => SnapshotOutcome::Transferred,
        }
    }

    /// A node that was asked for entries has only a snapshot that covers them. What a snapshot covers is committed,
    /// whoever has it. One that is being got is given up only if its source has another in its place.
    pub(super) fn receive_for_repair(&mut self, from: NodeId, meta: SnapshotMeta) {
        let is_replaced = |held: &Receiving| {
            held.from == from && held.meta != meta && held.progress != ReceiveProgress::Whole
        };
        if self.receiving.as_ref().is_none_or(is_replaced) {
            let term = self.term();
            self.receiving = Some(Receiving { meta, from, term, progress: ReceiveProgress::Bytes(0) });
            self.durable.tell(Output::PullSnapshot { from, meta });
        }
    }

    /// The log came to hold, by other ways, what a snapshot was pulled for.
    pub(super) fn drop_covered_pull(&mut self) {
        let is_covered = |receiving: &mut Receiving| receiving.meta.id.index <= self.commit;
        if !mutant::is(Mutant::S1) && self.receiving.take_if(is_covered).is_some() {
            self.durable.tell(Output::CancelPull);
        }
    }

    /// So much of the snapshot asked for is here; less than before when it turned out to be damaged.
    pub fn handle_snapshot_progress(&mut self, now: Instant, meta: SnapshotMeta, progress: ReceiveProgress) {
        let before = self.begin(now);
        if let Some(receiving) = self.receiving.as_mut().filter(|receiving| receiving.meta == meta) {
            receiving.progress = progress;
        }
        self.end(before);
    }

    /// The snapshot asked for is on disk, whole and verified, and the machine can be put in its state. True when it
    /// is to be: then the log has been replaced, and the driver must go on from `meta`'s index. False when the log
    /// leads further by itself (S1): the machine must stay as it is.
    pub fn handle_snapshot_installed(
        &mut self,
        now: Instant,
        meta: SnapshotMeta,
        membership: Membership,
    ) -> bool {
        let before = self.begin(now);
        let index = meta.id.index;
        self.receiving.take_if(|receiving| receiving.meta == meta);
        let fit = self.fit(meta);
        match fit {
            Fit::Covered | Fit::Unsound => {}
            Fit::Matches => self.commit_through(index),
            Fit::Needed => self.install(meta, membership),
        }
        // It may have learned, in the midst of a campaign, that it is not a voter any more.
        if matches!(self.role, Role::PreCandidate(_) | Role::Candidate(_)) && !self.may_stand() {
            self.become_follower(now, None);
        }
        self.end(before);
        fit == Fit::Needed
    }

    /// Raft paper §7, figure 13, steps 7 and 8.
    fn install(&mut self, meta: SnapshotMeta, membership: Membership) {
        let base = Base::from(meta.id);
        let settled = self.commit.max(self.ruler.verified);
        // Whoever won an election has what is committed, and whoever has it needs no snapshot of it.
        assert!(!matches!(self.role, Role::Leader(_)), "a leader of term {} takes a snapshot", self.term());
        assert!(base.index > settled, "a snapshot through {}, settled is {settled}", base.index);
        if base.term > self.term() {
            // It was offered in a term of which a crash left nothing here.
            self.adopt_term(self.now, base.term);
        }
        let kept = mutant::is(Mutant::M4).then(|| Arc::clone(self.log.membership()));
        self.log.reset(base, kept.unwrap_or_else(|| Arc::new(membership)));
        self.durable.stage_install(meta, settled);
        if self.repair_above(base) {
            self.durable.spare_log();
        }
        self.compact_to = base.index;
        self.snapshot = Some(meta);
        self.ruler.verified = base.index;
        self.commit_through(base.index);
        if let Role::Follower(follower) = &mut self.role {
            // What waits lies behind a hole that appends of that attempt will not fill.
            follower.anchor = None;
            let waiting = follower.reorder.take_all();
            self.evict(waiting);
        }
        assert_eq!(self.log.base(), base, "the log begins with the snapshot");
    }

    /// How far a peer is. Its match may lie above or below the snapshot: whatever it is, appends go on from there
    /// as soon as the log still has what follows.
    pub(super) fn handle_snapshot_offer_reply(
        &mut self,
        now: Instant,
        from: Identity,
        m: SnapshotOfferReply,
    ) {
        if m.term != self.term() {
            return;
        }
        let (last, base) = (self.log.last_index(), self.log.base().index);
        let Some(progress) = self.progress_of(from) else { return };
        progress.heard = now;
        // Nobody can hold more of this leader's log than it does.
        if m.match_index > last {
            return;
        }
        let before = progress.match_index;
        if progress.offer_answered(now, m, base) == Change::Reprobe {
            self.durable.tell(Output::CancelRequests { to: from.node });
        }
        if self.progress_of(from).is_some_and(|progress| progress.match_index > before) {
            self.advance_commit();
        }
    }
}
