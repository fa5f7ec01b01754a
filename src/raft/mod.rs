//! Consensus: elections, replication, reads. Pure and deterministic: messages, time and finished disk writes come
//! in, messages and disk writes go out.
//!
//! # The protocol in prose
//! Time is cut into *terms*. In each, at most one node leads, because a candidate needs the votes of a quorum and
//! each voter has one vote a term, durable before it is told (Raft paper §5.2). A follower that hears no leader
//! for an election timeout first asks around whether it could win (*pre-vote*, thesis §9.6), and only then raises
//! the term. Voters that hear a leader help nobody to depose it (thesis §4.2.3), and a leader that no longer
//! hears a quorum stops leading by itself (*check-quorum*, thesis §6.2). These three belong together and cannot
//! be switched apart.
//!
//! Clients' commands go into the leader's log. The leader sends each follower the entries after those the two have
//! in common; the follower takes them only if its log agrees at the entry before (§5.3), and acknowledges when
//! they are durable. An entry of the leader's own term that is durable on a quorum is committed, and all before it
//! (§5.4.2). A candidate whose log lacks committed entries gets no quorum (§5.4.1), so what is committed stays.
//!
//! # One write, step by step
//! 1. `propose` puts the command at the log's end under the leader's term. Nothing is sent yet.
//! 2. The driver drains: one `Persist` with all that is new in the log, one `Append` per peer that may have one.
//! 3. A follower finds prev in its log, adds the entries, hands them to its disk, and holds its answer.
//! 4. Its disk is done: `handle_persisted` lets the answer go. The leader's own disk works at the same time.
//! 5. The leader learns that a quorum has the entry, durably, raises the commit index and tells the driver.
//! 6. Followers learn the commit index with the next append or heartbeat.
//!
//! # One election, step by step
//! 1. The leader dies. A follower's timer runs out first, drawn at random; it becomes a pre-candidate and asks.
//! 2. The others heard no leader for a minimum election timeout either, and hold no more than it does: they would.
//! 3. It raises the term, votes for itself, waits for its disk, and asks for votes.
//! 4. The others adopt the term and vote, both in one record; the answer waits for their disks.
//! 5. A quorum voted: it leads. Heartbeats and a no-op go out at once, and with the no-op's commit it knows what
//!    was committed before it.
//!
//! # What this room expects of messages
//! Nothing. Any message may be lost, doubled, delayed for minutes or reordered with any other. Each carries what
//! makes a late copy harmless: term, campaign, attempt, round. Requests are calls that the transport re-sends until
//! they are answered or cancelled; even that is not relied on.
//!
//! What a peer says is never trusted to be sane either. Numbers beyond what the wire carries, or that contradict
//! each other, are dropped with an [`Alarm`] before any rule looks at them, and a message that would break a rule
//! if it were believed (a second leader of a term, a conflict with a committed entry, a wrong chain value) has no
//! effect but an alarm. The node's *own* invariants, on the other hand, are asserted everywhere: continuing with a
//! broken one could only spread the damage.
//!
//! # The files
//! | file | holds |
//! |---|---|
//! | `role` | what a node is; entering and leaving each role |
//! | `election` | timers, pre-votes, votes |
//! | `follower`, `reorder` | appends and heartbeats received; appends that came early |
//! | `leader`, `progress` | appends and heartbeats sent; what is known of each peer |
//! | `read`, `asked`, `lease` | linearizable reads: at the leader, at a follower, without a round |
//! | `change` | who is in: joint memberships, begun and left |
//! | `transfer` | handing leadership over |
//! | `snapshot` | forgetting what a snapshot covers; offering one, taking one in the place of the log |
//! | `repair` | a log with a hole: what it may still do, and how it is filled |
//! | `log`, `durable` | the entries; what the disk has, and what waits for it |
//! | `quorum` | counting |
//! | `plausible`, [`invariant`] | what is believed of others; what must be true of oneself |
//!
//! # The messages, and why copies of them do no harm
//! | message | a late or doubled one |
//! |---|---|
//! | pre-vote | changes nothing at the receiver |
//! | vote | gets the same answer in its term, a refusal after it |
//! | their replies | name campaign and term; who granted is a set |
//! | append | is skipped where the log has its entries already; cuts only real conflicts |
//! | its acceptance | raises the match or leaves it |
//! | its refusal, eviction | counts only for the running attempt and above the match |
//! | heartbeat | tells a commit index that never falls |
//! | its reply, read probe's reply | names a round, which confirms nothing that was asked later |
//! | read index question | is one more read at the leader; changes nothing |
//! | its reply | names the question, and an index that stays right for the reads that came before |
//! | transfer | is for one term, one boot, and taken once |
//! | snapshot offer | tells of what is committed for ever; installed once |
//! | its reply | names what is committed and durable at its sender, which stays so |
//! | range question | takes back a match, which only costs a probe; is answered anew |
//! | its reply | names the question; is believed for its chain, not for its sender |
//!
//! # Driving it
//! Commands ([`Raft::propose`], [`Raft::read`], [`Raft::change_membership`], [`Raft::transfer_leadership`]) and
//! `handle_*` take `now`. After any of them, or several, drain [`Raft::poll_output`]; appends and disk writes are made
//! there, so a turn's proposals share them. [`Raft::poll_timeout`] says when [`Raft::handle_timeout`] is due; calling
//! it early is harmless. Hand over queued input before timeouts that fell due meanwhile, or a paused leader would
//! depose itself.
//!
//! What must wait for the disk is held inside until [`Raft::handle_persisted`]: see `durable`.

mod asked;
mod change;
mod config;
mod durable;
mod election;
mod follower;
pub mod invariant;
mod leader;
mod lease;
mod log;
mod output;
mod pace;
mod plausible;
mod progress;
mod quorum;
mod read;
mod reorder;
mod repair;
mod role;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::BTreeMap;

use crate::message::Message;
use crate::mutant::{self, Mutant};
use crate::rng::Rng;
use crate::snapshot::SnapshotMeta;
use crate::time::{Instant, earliest};
use crate::types::{HardState, Identity, Incarnation, Index, NodeId, Term};

pub use change::ChangeError;
pub use config::{Base, ConfigError, NUMBER_MAX, RaftConfig, Restored};
pub use lease::DRIFT_ONE;
pub use output::{
    Alarm, Install, Output, ProposeError, ReadError, ReadId, ReplyToken, RoleKind, Ticket, TransferError,
};
pub use repair::RepairStatus;
pub use snapshot::ReceiveProgress;
pub use status::{OfferStatus, PeerStatus, ProgressKind};

use durable::{DiskLog, Durable};
use invariant::Observation;
use lease::Timings;
use log::Log;
use repair::Repair;
use role::{Follower, Role, Ruler};
use snapshot::Receiving;

/// One node's part in one Raft group.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Raft {
    config: RaftConfig,
    rng: Rng,
    /// The latest moment any caller named; outputs are made at it.
    now: Instant,
    /// Term and vote as they act here. Changed only by `set_hard_state`, which stages them for the disk.
    hard_state: HardState,
    log: Log,
    /// Raised only by `commit_through`.
    commit: Index,
    durable: Durable,
    role: Role,
    /// Reset with each new term, and only then.
    ruler: Ruler,
    /// When to campaign. `None` for a leader, and while a term or vote is being written.
    election_deadline: Option<Instant>,
    /// The last sign of life of a leader in its term; makes votes sticky.
    leader_heard: Option<Instant>,
    /// No vote is granted before.
    quiet_until: Instant,
    /// The number of the last campaign, over all boots: an answer to one of an earlier boot is known as such.
    campaigns: u64,
    /// The boots of the stores that connected.
    incarnations: BTreeMap<Identity, Incarnation>,
    /// The newest snapshot on this node's disk: what a leader offers.
    snapshot: Option<SnapshotMeta>,
    /// How far that lets the log's base move.
    compact_to: Index,
    /// The snapshot that the driver is getting; it outlives roles and terms.
    receiving: Option<Receiving>,
    /// While the log has a hole.
    repair: Option<Repair>,
    /// Numbers the questions to leaders for read indexes; the upper part is the boot's.
    read_question: u64,
    /// What is known of others' clocks, for leases.
    timings: Timings,
    told: Told,
    /// Nothing was handed in since the last drain found nothing more to say.
    is_drained: bool,
}

/// What the driver was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    commit: Index,
    role: RoleKind,
    term: Term,
    leader: Option<NodeId>,
}

impl Raft {
    /// A node at its start, a follower of nobody yet.
    ///
    /// # Panics
    /// When the settings are not valid, or what was restored contradicts itself.
    #[must_use]
    pub fn new(config: RaftConfig, restored: Restored, rng: Rng, now: Instant) -> Self {
        config.validate().expect("the caller validated the settings");
        let Restored { hard_state, membership, base, snapshot, entries, remains } = restored;
        let log = Log::restore(config.cluster, base, membership, entries);
        let commit = snapshot.map_or(base, |meta| meta.id.into()).index;
        if let Some(id) = snapshot.map(|meta| meta.id) {
            let place = (log.term_at(id.index), log.chain_at(id.index));
            assert_eq!(
                place,
                (Some(id.term), Some(id.chain)),
                "the log does not lead over the snapshot {id}"
            );
        }
        let is_blank = hard_state.term == Term(0) && log.last_index() == Index(0);
        let quiet_until = if is_blank { now } else { now + config.election_timeout_min };
        let durable = Durable::new(hard_state, log.last_index());
        let told = Told { commit, role: RoleKind::Follower, term: hard_state.term, leader: None };
        // An incarnation has 32 bits: the sum stays below what a varint holds for 2^30 campaigns a boot.
        let campaigns = u64::from(config.incarnation.0) << 30;
        let mut raft = Self {
            config,
            rng,
            now,
            hard_state,
            log,
            commit,
            durable,
            role: Role::Follower(Follower::default()),
            ruler: Ruler::default(),
            election_deadline: None,
            leader_heard: None,
            quiet_until,
            campaigns,
            incarnations: BTreeMap::new(),
            snapshot,
            compact_to: base.index,
            receiving: None,
            repair: remains.map(|remains| Repair::new(remains, campaigns, now)),
            read_question: campaigns,
            timings: Timings::default(),
            told,
            is_drained: false,
        };
        raft.restart_election_timer(now);
        assert_eq!(raft.durable.index(), raft.log.last_index(), "what was restored is durable");
        assert_eq!(raft.durable.hard_state(), raft.hard_state, "what was restored is durable");
        invariant::check(&raft);
        raft
    }

    /// A message from this member of the cluster; `token` names the call it came by, if it wants an answer.
    pub fn handle_message(
        &mut self,
        now: Instant,
        from: Identity,
        message: Message,
        token: Option<ReplyToken>,
    ) {
        let before = self.begin(now);
        if from.node == self.config.identity.node
            || !(plausible::is_plausible(&message) || mutant::is(Mutant::U16))
        {
            self.durable.tell(Output::Alarm(Alarm::Implausible { from }));
        } else {
            self.heed_term(now, &message);
            self.dispatch(now, from, message, token);
        }
        self.end(before);
    }

    /// Raft paper §5.1: whoever sees a higher term adopts it and follows. Two requests are exempt: a pre-vote
    /// changes nothing (E11), and a vote request is not heeded while leader stickiness holds.
    fn heed_term(&mut self, now: Instant, message: &Message) {
        let is_heeded = match message {
            Message::PreVote(_) => false,
            Message::Vote(m) => self.may_vote_now(now, *m),
            Message::HeartbeatReply(_) => !mutant::is(Mutant::E14),
            _ => true,
        };
        if is_heeded && message.term() > self.term() {
            self.adopt_term(now, message.term());
        }
    }

    /// Every message here is of this term or a lower one, but for requests that were not heeded.
    fn dispatch(&mut self, now: Instant, from: Identity, message: Message, token: Option<ReplyToken>) {
        let asks_for_votes = matches!(message, Message::PreVote(_) | Message::Vote(_));
        if mutant::is(Mutant::E9) && message.term() < self.term() && !asks_for_votes {
            return;
        }
        match message {
            Message::PreVote(m) => self.handle_pre_vote(now, from, m, token),
            Message::PreVoteReply(m) => self.handle_pre_vote_reply(now, from, m),
            Message::Vote(m) => self.handle_vote(now, from, m, token),
            Message::VoteReply(m) => self.handle_vote_reply(now, from, m),
            Message::Append(m) => self.handle_append(now, from, m, token),
            Message::AppendReply(m) => self.handle_append_reply(now, from, m),
            Message::Heartbeat(m) => self.handle_heartbeat(now, from, m),
            Message::HeartbeatReply(m) => self.handle_heartbeat_reply(now, from, m),
            Message::ReadProbe(m) => self.handle_read_probe(now, from, m, token),
            Message::ReadProbeReply(m) => self.handle_read_probe_reply(now, from, m),
            Message::Transfer(m) => self.handle_transfer(now, from, m, token),
            Message::TransferReply(m) => self.handle_transfer_reply(from, m),
            Message::SnapshotOffer(m) => self.handle_snapshot_offer(now, from, m, token),
            Message::SnapshotOfferReply(m) => self.handle_snapshot_offer_reply(now, from, m),
            Message::Range(m) => self.handle_range(from, m, token),
            Message::RangeReply(m) => self.handle_range_reply(now, from, m),
            Message::ReadIndex(m) => self.handle_read_index(from, m, token),
            Message::ReadIndexReply(m) => self.handle_read_index_reply(from, m),
        }
    }

    /// The disk finished this write and all before it.
    ///
    /// # Panics
    /// When the ticket was never issued.
    pub fn handle_persisted(&mut self, now: Instant, ticket: Ticket) {
        let before = self.begin(now);
        let is_hard_state_done = self.durable.complete(now, ticket);
        self.durable.release(self.ruler.verified);
        if is_hard_state_done {
            self.handle_hard_state_durable(now);
        }
        self.advance_commit();
        self.end(before);
    }

    /// The transport gave up a request to this node, because it restarted or cannot be reached.
    pub fn handle_call_failed(&mut self, now: Instant, to: NodeId) {
        let before = self.begin(now);
        self.give_up_calls(to);
        self.range_call_failed(now, to);
        self.read_index_call_failed(to);
        self.end(before);
    }

    /// Does what is due; harmless when nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        let before = self.begin(now);
        if matches!(self.role, Role::Leader(_)) {
            self.handle_leader_timeout(now);
        } else if self.election_deadline.is_some_and(|deadline| now >= deadline) {
            self.handle_election_timeout(now);
        }
        self.end(before);
    }

    /// When [`Self::handle_timeout`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let patience = self.config.election_timeout_max;
        let repair = self.repair.as_ref().map(|repair| repair.deadline(patience));
        let asked = match &self.role {
            Role::Follower(follower) => follower.reads.deadline(patience),
            _ => None,
        };
        earliest(earliest(self.leader_deadline().or(self.election_deadline), repair), asked)
    }

    /// The next thing to do; `None` when all is done. Appends and disk writes are made here, from everything that
    /// came in since the last drain.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.durable.pop() {
            return Some(output);
        }
        if self.is_drained {
            return None;
        }
        let has_more = self.pump();
        let output = self.durable.pop();
        self.is_drained = output.is_none() && !has_more;
        output
    }

    /// Turns what changed since the last drain into outputs. True when some of it was left for the next time.
    fn pump(&mut self) -> bool {
        let now = self.now;
        self.drop_covered_pull();
        self.advance_membership(now);
        let is_forgetting = self.advance_base(now);
        self.tell_role();
        self.tell_commit();
        // The disk's work begins before the network's, so the two overlap (thesis §10.2.1).
        let disk_log = if self.repair.is_some() { DiskLog::Damaged } else { DiskLog::Whole };
        if let Some(persist) = self.durable.issue(now, &self.log, disk_log) {
            self.durable.tell(persist);
        }
        self.replicate(now);
        self.offer_snapshots(now);
        self.advance_reads(now);
        self.advance_asked_reads(now);
        self.advance_transfer();
        self.advance_repair(now);
        is_forgetting
    }

    /// Once per drain: what changed and changed back in between is nobody's business.
    fn tell_role(&mut self) {
        let told =
            Told { commit: self.told.commit, role: self.role(), term: self.term(), leader: self.leader() };
        if told != self.told {
            self.told = told;
            let Told { role, term, leader, .. } = told;
            self.durable.tell(Output::RoleChanged { role, term, leader });
        }
    }

    /// Once per drain, the highest.
    fn tell_commit(&mut self) {
        assert!(self.told.commit <= self.commit, "told {}, committed {}", self.told.commit, self.commit);
        if self.told.commit < self.commit {
            self.told.commit = self.commit;
            self.durable.tell(Output::Commit { index: self.commit });
        }
    }

    /// Raises the commit index; it never falls.
    fn commit_through(&mut self, index: Index) {
        let before = self.commit;
        assert!(index <= self.log.last_index(), "commit {index}, last {}", self.log.last_index());
        self.commit = if mutant::is(Mutant::L6) { index } else { before.max(index) };
        assert!(self.commit >= before, "commit fell from {before} to {}", self.commit);
    }

    /// Answers a request, if it wants an answer.
    fn reply(&mut self, token: Option<ReplyToken>, message: Message) {
        if let Some(token) = token {
            self.durable.send(Output::Reply { token, message });
        }
    }

    /// Every command and `handle_*` begins and ends here: time never runs backwards inside, and each step is
    /// compared with the state before it.
    fn begin(&mut self, now: Instant) -> Observation {
        self.now = self.now.max(now);
        self.is_drained = false;
        Observation::of(self)
    }

    /// Checks the state and the step, where debug assertions are on.
    fn end(&self, before: Observation) {
        if cfg!(debug_assertions) {
            invariant::check(self);
            invariant::check_step(&before, self);
        }
    }
}
