//! Linearizable reads at a node that does not lead: it asks its leader which index they must reach (thesis §6.4).
//!
//! The leader treats the question like a read of its own: it confirms its leadership by a round that begins after the
//! question came, and tells the commit index of the round's start. The follower answers its clients when it has applied
//! that far. What was acknowledged before a read was asked for lies at or below the index, whoever applies it, and that
//! stays true for ever; so an answer may be as late as it likes.
//!
//! One question is out at a time, for all reads that came before it was sent; reads that come later wait for the next,
//! because the answer may rest on a round that began before them. Each question has a number that none had before, of
//! any boot, so a copy of an answer is known as such (R2). Only a leader answers with an index, and nobody passes a
//! question on (R7): a node that does not lead says so at once, and the reads fail. They fail as well when the leader
//! changes, and when it is silent for a maximum election timeout; their clients are then sent elsewhere, and nothing
//! was carried out.

use super::Raft;
use super::output::{Output, ReadError, ReadId, ReplyToken};
use super::read::Asker;
use super::role::Role;
use crate::message::{Message, ReadIndex, ReadIndexReply};
use crate::time::Instant;
use crate::types::{Identity, NodeId};

/// The reads that wait for a leader's word.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct AskedReads {
    /// For the next question.
    waiting: Vec<ReadId>,
    out: Option<Question>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Question {
    number: u64,
    to: NodeId,
    since: Instant,
    /// All of them came before the question was sent.
    ids: Vec<ReadId>,
}

impl AskedReads {
    fn count(&self) -> usize {
        self.waiting.len() + self.out.as_ref().map_or(0, |out| out.ids.len())
    }

    /// All that are not answered, in the order they came.
    pub(super) fn into_ids(self) -> impl Iterator<Item = ReadId> {
        self.out.map(|out| out.ids).unwrap_or_default().into_iter().chain(self.waiting)
    }

    /// When the question that is out is given up.
    pub(super) fn deadline(&self, patience: core::time::Duration) -> Option<Instant> {
        self.out.as_ref().map(|out| out.since + patience)
    }
}

impl Raft {
    /// Asks for a linearizable read at this node, whether it leads or follows; answered like one by [`Self::read`].
    pub fn read_here(&mut self, now: Instant, id: ReadId) -> Result<(), ReadError> {
        let Role::Follower(follower) = &self.role else { return self.read(now, id) };
        if follower.leader.is_none() {
            return Err(ReadError::NotLeader { leader: None });
        }
        let before = self.begin(now);
        let reads_max = self.config.reads_max;
        let Role::Follower(follower) = &mut self.role else { panic!("the role was a follower's above") };
        if follower.reads.count() >= reads_max {
            return Err(ReadError::Busy);
        }
        follower.reads.waiting.push(id);
        self.end(before);
        Ok(())
    }

    /// Sends the next question when none is out, and gives up one that nobody answers.
    pub(super) fn advance_asked_reads(&mut self, now: Instant) {
        let (term, patience) = (self.term(), self.config.election_timeout_max);
        let Role::Follower(follower) = &mut self.role else { return };
        if let Some(out) = follower.reads.out.take_if(|out| now.saturating_since(out.since) >= patience) {
            self.durable.tell(Output::CancelRequests { to: out.to });
            self.fail_reads(out.ids);
        }
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader else { return };
        if follower.reads.out.is_some() || follower.reads.waiting.is_empty() {
            return;
        }
        let ids = core::mem::take(&mut follower.reads.waiting);
        self.read_question += 1;
        let (number, to) = (self.read_question, leader.node);
        follower.reads.out = Some(Question { number, to, since: now, ids });
        let message = Message::ReadIndex(ReadIndex { term, question: number });
        self.durable.send(Output::Request { to, message });
    }

    /// Joins the reads that wait here for a round. Whoever does not lead says so, and asks nobody else (R7).
    pub(super) fn handle_read_index(&mut self, from: Identity, m: ReadIndex, token: Option<ReplyToken>) {
        let Some(token) = token else { return };
        let is_member = self.log.membership().contains(from);
        let reads_max = self.config.reads_max;
        match &mut self.role {
            Role::Leader(leader) if is_member && leader.reads.count() < reads_max => {
                leader.reads.wait(Asker::Peer { token, question: m.question });
            }
            _ => self.reply_read_index(token, m.question, None),
        }
    }

    pub(super) fn reply_read_index(
        &mut self,
        token: ReplyToken,
        question: u64,
        index: Option<crate::types::Index>,
    ) {
        let reply = ReadIndexReply { term: self.term(), question, index };
        self.reply(Some(token), Message::ReadIndexReply(reply));
    }

    /// The answer to the question that is out, from whom it was put to.
    pub(super) fn handle_read_index_reply(&mut self, from: Identity, m: ReadIndexReply) {
        if m.term != self.term() {
            return;
        }
        let Role::Follower(follower) = &mut self.role else { return };
        let answered = follower.reads.out.take_if(|out| out.number == m.question && out.to == from.node);
        let Some(out) = answered else { return };
        match m.index {
            None => self.fail_reads(out.ids),
            Some(index) => {
                out.ids.into_iter().for_each(|id| self.durable.tell(Output::ReadReady { id, index }));
            }
        }
    }

    /// A question to this node was lost with its link.
    pub(super) fn read_index_call_failed(&mut self, to: NodeId) {
        let Role::Follower(follower) = &mut self.role else { return };
        if let Some(out) = follower.reads.out.take_if(|out| out.to == to) {
            self.fail_reads(out.ids);
        }
    }

    fn fail_reads(&mut self, ids: Vec<ReadId>) {
        ids.into_iter().for_each(|id| self.durable.tell(Output::ReadFailed { id }));
    }
}
