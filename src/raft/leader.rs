//! What a leader does: Raft paper §5.3, §5.4.2 and §8, with check-quorum (thesis §6.2) and the disk gate.
//!
//! # Sending
//! Nothing is sent when a command is proposed. Appends are made when the driver polls outputs, from wherever each
//! peer's progress stands, so the proposals of one turn share appends, and a peer that just answered is served in
//! the same turn. They go out beside the leader's own disk write (thesis §10.2.1): a commit costs the slower of one
//! round trip and one sync, not their sum.
//!
//! # Committing
//! An index is committed when a quorum holds it durably and its entry is of the current term (Raft paper §5.4.2).
//! The leader is one member of that quorum like any other, by what its disk has finished (L9); with its disk slow,
//! the others may commit without it.
//!
//! # Staying
//! Heartbeats are notices: one datagram there, one back, never repeated. They carry a round, so that their answers
//! confirm reads, and the commit index as far as the receiver is known to hold the log. Every answer of this term
//! extends the leader's stay by one maximum election timeout (E7); a disk that hangs ends it (E16).
//!
//! # Calls that never end
//! The transport re-sends requests until they are answered, cancelled or given up. This file does not rely on it: a
//! peer that is silent for a maximum election timeout, or that rebooted, is probed afresh, and everything that was
//! open to it is cancelled first, so nothing piles up at a dead peer (L11).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Raft;
use super::lease::Rounds;
use super::output::{Output, ProposeError};
use super::progress::{Change, Progress, Refusal};
use super::quorum;
use super::read::Reads;
use super::role::{Leader, Role};
use crate::entry::Payload;
use crate::message::{AppendOutcome, AppendReply, Heartbeat, HeartbeatReply, Message};
use crate::mutant::{self, Mutant};
use crate::time::{Instant, earliest};
use crate::types::{Identity, Index, NodeId, Round, Term};

/// Later than anything.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

impl Raft {
    /// Offers a command. It is in the log when this returns, under the index and term that the caller must both
    /// find again among the committed entries before it answers anyone (L15).
    pub fn propose(&mut self, now: Instant, payload: Payload) -> Result<(Index, Term), ProposeError> {
        let before = self.begin(now);
        let leader = self.leader();
        let Role::Leader(state) = &self.role else { return Err(ProposeError::NotLeader { leader }) };
        if !matches!(payload, Payload::Command(_)) {
            return Err(ProposeError::NotACommand);
        }
        // Thesis §3.10: the target could never catch up with a log that grows.
        if let Some(transfer) = &state.transfer {
            return Err(ProposeError::Transferring { to: transfer.to });
        }
        // The reserve stays for the cluster's own entries, or a log full of uncommitted proposals could never be
        // committed by a new leader (I8).
        let bytes_max = self.config.log_bytes_max - self.config.log_bytes_reserve;
        let bytes = self.log.bytes();
        if bytes >= bytes_max {
            return Err(ProposeError::LogFull { bytes, bytes_max });
        }
        if !self.pace_allows(now) {
            return Err(ProposeError::Slowed);
        }
        let index = self.log.append(self.hard_state.term, payload);
        assert_eq!(self.log.last_index(), index, "a proposal goes to the end");
        self.pace_took(now, self.log.bytes() - bytes);
        assert!(index > self.commit, "proposed {index}, committed is {}", self.commit);
        self.end(before);
        Ok((index, self.hard_state.term))
    }

    /// Raft paper §5.2 and §8: heartbeats at once, and a no-op, whose commit commits all before it.
    pub(super) fn become_leader(&mut self, now: Instant) {
        let own = self.config.identity;
        assert!(matches!(self.role, Role::Candidate(_)), "a {} cannot lead", self.role.kind());
        let client_bytes_max = self.config.log_bytes_max - self.config.log_bytes_reserve;
        if mutant::is(Mutant::I8) && self.log.bytes() >= client_bytes_max {
            return self.become_follower(now, None);
        }
        assert_eq!(self.hard_state.vote, Some(own), "a leader voted for itself");
        assert!(self.durable.is_hard_state_durable(), "a leader's own vote is durable");
        // Vote requests that are still open are overtaken by having won.
        self.leave_role();
        let next_index = self.log.last_index().next();
        let membership = Arc::clone(self.log.membership());
        let peers = membership.iter().filter(|(id, _)| *id != own.node);
        let progress: BTreeMap<NodeId, Progress> = peers
            .map(|(node, member)| {
                (node, Progress::new(Identity { node, store: member.store }, next_index, now))
            })
            .collect();
        let start = self.log.append(self.hard_state.term, Payload::Noop);
        assert_eq!(start, next_index, "the no-op is the term's first entry");
        assert!(!progress.contains_key(&own.node), "a leader sends nothing to itself");
        self.role = Role::Leader(Box::new(Leader {
            progress,
            start,
            round: Round(0),
            rounds: Rounds::default(),
            heartbeat_due: now,
            reads: Reads::default(),
            transfer: None,
            pace: super::pace::Pace::default(),
            attempts: 0,
            is_leaving: false,
        }));
        assert_eq!(self.ruler.leader, None, "term {} has a leader", self.term());
        self.ruler.leader = Some(own);
        self.election_deadline = None;
        // Its own leadership makes it sticky from here on, and nothing else does when that ends.
        self.leader_heard = None;
        self.send_heartbeats(now);
    }

    /// The progress of the store that counts for this node id; of no other. A wiped node has forgotten what its
    /// former store acknowledged, so neither one's word may stand for the other's.
    pub(super) fn progress_of(&mut self, from: Identity) -> Option<&mut Progress> {
        let Role::Leader(leader) = &mut self.role else { return None };
        leader.progress.get_mut(&from.node).filter(|it| it.identity == from || mutant::is(Mutant::M5))
    }

    /// Sends what every peer may have, in order of node id so that equal seeds give equal runs. Called when outputs
    /// are polled, so proposals of one turn share appends.
    pub(super) fn replicate(&mut self, now: Instant) {
        let Role::Leader(leader) = &mut self.role else { return };
        let term = self.hard_state.term;
        for (id, progress) in &mut leader.progress {
            while let Some(append) = progress.next_append(now, &self.log, &self.config, term, self.commit) {
                self.durable.send(Output::Request { to: *id, message: Message::Append(append) });
            }
        }
    }

    /// Raft paper §5.3. Copies and late answers are harmless: a match only rises, and a refusal must be of the
    /// running attempt and above the match (wire.md §4).
    pub(super) fn handle_append_reply(&mut self, now: Instant, from: Identity, m: AppendReply) {
        if m.term != self.term() {
            return;
        }
        let last = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        assert!(leader.start <= last, "the no-op at {} is in the log", leader.start);
        let is_its = |p: &&mut Progress| p.identity == from || mutant::is(Mutant::M5);
        let Some(progress) = leader.progress.get_mut(&from.node).filter(is_its) else { return };
        // Whatever it says of the append, it is of this term and alive (thesis §6.2).
        progress.heard = now;
        let change = match m.outcome {
            // Nobody can hold more of this leader's log than it does.
            AppendOutcome::Accepted { match_index } if match_index > last => Change::Nothing,
            AppendOutcome::Accepted { match_index } => progress.accepted(now, m.attempt, match_index),
            AppendOutcome::Refused { prev_index, conflict_term, conflict_index, .. } => {
                progress.refused(&self.log, m.attempt, Refusal { prev_index, conflict_term, conflict_index })
            }
            AppendOutcome::Evicted { prev_index } => progress.evicted(m.attempt, prev_index),
        };
        match change {
            Change::Nothing => {}
            Change::Advanced => self.advance_commit(),
            Change::Reprobe => self.durable.tell(Output::CancelRequests { to: from.node }),
        }
    }

    /// Raft paper §5.3 and §5.4.2: an entry is committed when a quorum holds it durably *and* it is of the
    /// current term; those before it come along (figure 8). The leader counts itself by what its own disk holds
    /// (L9).
    pub(super) fn advance_commit(&mut self) {
        let own = self.config.identity;
        let is_own_disk_asked = !mutant::is(Mutant::L9);
        let durable = if is_own_disk_asked { self.durable.index() } else { self.log.last_index() };
        let Role::Leader(leader) = &self.role else { return };
        let match_of = |who: Identity| {
            if who == own {
                return Some(durable);
            }
            leader.progress.get(&who.node).filter(|progress| progress.identity == who).map(|p| p.match_index)
        };
        let Some(reached) = quorum::reached(self.log.membership(), match_of) else { return };
        assert!(reached <= self.log.last_index(), "a quorum holds {reached}, beyond the leader's log");
        let is_of_own_term = self.log.term_at(reached) == Some(self.hard_state.term);
        if reached > self.commit && (is_of_own_term || mutant::is(Mutant::L1)) {
            self.commit_through(reached);
        }
    }

    /// One notice per peer. It tells of the commit index no more than that peer is known to hold: the peer may
    /// have other entries beyond (L2).
    fn send_heartbeats(&mut self, now: Instant) {
        let term = self.term();
        let span = self.config.election_timeout_max;
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.next_round(now, span);
        leader.heartbeat_due = now + self.config.heartbeat_interval;
        for (id, progress) in &mut leader.progress {
            progress.heartbeat_sent();
            let commit = self.commit.min(progress.match_index);
            assert!(commit <= self.commit, "a heartbeat tells of {commit}, committed is {}", self.commit);
            let message = Message::Heartbeat(Heartbeat { term, round, commit });
            self.durable.send(Output::Notice { to: *id, message });
        }
    }

    /// A sign of life of this term, and perhaps a read's confirmation.
    pub(super) fn handle_heartbeat_reply(&mut self, now: Instant, from: Identity, m: HeartbeatReply) {
        if m.term != self.term() && !(mutant::is(Mutant::E14) && m.term > self.term()) {
            return;
        }
        if let Some(progress) = self.progress_of(from) {
            progress.heard = now;
        }
        self.handle_round_answer(from, m.round);
    }

    /// The gates come first: a leader that must not lead sends nothing more.
    pub(super) fn handle_leader_timeout(&mut self, now: Instant) {
        assert!(matches!(self.role, Role::Leader(_)), "a {} has no such timers", self.role.kind());
        if self.is_disk_hanging(now) {
            self.give_up_for_disk(now);
            return;
        }
        if self.quorum_deadline().is_some_and(|deadline| now >= deadline) {
            self.become_follower(now, None);
            return;
        }
        self.expire_transfer(now);
        let Role::Leader(leader) = &self.role else { return };
        if now >= leader.heartbeat_due {
            self.restart_silent_peers(now);
            self.send_heartbeats(now);
        }
    }

    /// The earliest of heartbeat, transfer's end, lost quorum and hanging disk.
    pub(super) fn leader_deadline(&self) -> Option<Instant> {
        let Role::Leader(leader) = &self.role else { return None };
        let transfer = leader.transfer.map(|transfer| transfer.deadline);
        let disk = self.durable.oldest_issued().map(|issued| issued + self.config.disk_hang_timeout);
        let liveness = earliest(self.quorum_deadline(), disk);
        earliest(earliest(Some(leader.heartbeat_due), transfer), liveness)
    }

    /// Check-quorum (thesis §6.2, E7): until when this node may lead. A quorum, of both halves of a joint
    /// membership, answered appends or heartbeats of this term within one maximum election timeout before.
    fn quorum_deadline(&self) -> Option<Instant> {
        let own = self.config.identity;
        let Role::Leader(leader) = &self.role else { return None };
        if mutant::is(Mutant::E7) {
            return None;
        }
        let heard = |who: Identity| {
            // It always hears itself.
            if who == own {
                return Some(NEVER);
            }
            leader.progress.get(&who.node).filter(|progress| progress.identity == who).map(|p| p.heard)
        };
        let heard = quorum::reached(self.log.membership(), heard)?;
        Some(heard + self.config.election_timeout_max)
    }

    /// A disk that takes no writes must not keep the leadership, nor win it (E16). The oldest write counts: a disk
    /// that is slow but finishes one after the other is not hanging, however long its queue.
    pub(super) fn is_disk_hanging(&self, now: Instant) -> bool {
        let hang = self.config.disk_hang_timeout;
        self.durable.oldest_issued().is_some_and(|issued| now.saturating_since(issued) >= hang)
    }

    /// A call to this peer that never ends must not stop replication for ever (L11): when nothing was answered
    /// for a maximum election timeout, what is open is given up and probing starts again.
    fn restart_silent_peers(&mut self, now: Instant) {
        let patience = self.config.election_timeout_max;
        let Role::Leader(leader) = &mut self.role else { return };
        for (id, progress) in &mut leader.progress {
            if progress.asked.is_some_and(|asked| now.saturating_since(asked) >= patience) {
                progress.restart();
                self.durable.tell(Output::CancelRequests { to: *id });
            }
        }
    }

    /// What was open to this peer is void: it rebooted and has forgotten it, or cannot be reached. It is tried
    /// again at the next heartbeat and not before, or a transport that fails calls at once would make a loop.
    pub(super) fn give_up_calls(&mut self, to: NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        progress.restart();
        progress.is_paused = true;
        self.durable.tell(Output::CancelRequests { to });
    }
}
