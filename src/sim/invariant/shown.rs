//! What each datagram shows, against the sender's disk at that moment: invariants 10, 11, 14 and 16.
//!
//! A reply may be sent again long after it was made, so what it says is compared with the disk of *its* term where
//! that differs from the disk of now: votes are remembered by term, and an acknowledgement of an earlier term speaks of
//! a log that may have been cut since.

use super::cores::Cores;
use super::folders::Folders;
use super::operations::Operations;
use super::oracle::Oracle;
use super::shadow::Shadow;
use super::violation::{Broken, hold};
use crate::cursor::Reader;
use crate::message::{AppendOutcome, AppendReply, Message, SnapshotOfferReply, VoteReply, VoteRequest};
use crate::types::{Identity, NodeId, Term};
use crate::wire::body::{BodyFamily, body_kind as k, family};
use crate::wire::client::{ClientReply, decode_reply};
use crate::wire::peer::decode_message;
use crate::wire::{Frame, Header, Party};

/// What is known when a datagram leaves.
pub(super) struct Known<'a> {
    pub(super) oracle: &'a Oracle,
    pub(super) folders: &'a Folders,
    pub(super) cores: &'a Cores,
    pub(super) operations: &'a Operations,
}

impl Known<'_> {
    /// The header: 14, a node speaks as the boot that its disk counted.
    pub(super) fn check_header(&self, shadow: &Shadow, header: &Header) -> Result<(), Broken> {
        let (said, held) = (header.source_incarnation, shadow.incarnation());
        // A blank node asks for the founding record as a client does, under a number that it is given.
        hold!(
            said == held || header.source == Party::Any,
            CampaignMembership,
            "speaks as boot {said}, its disk counted {held}"
        );
        Ok(())
    }

    /// One frame.
    pub(super) fn check_frame(
        &self,
        shadow: &Shadow,
        header: &Header,
        frame: &Frame<'_>,
    ) -> Result<(), Broken> {
        let body = match frame {
            Frame::Request { body, .. } | Frame::Reply { body, .. } | Frame::Notice { body } => *body,
            // The first fragment begins with kind, group and term.
            Frame::RequestFragment { part, .. } if part.offset == 0 => part.bytes,
            _ => return Ok(()),
        };
        match family(body) {
            Some(BodyFamily::Peer) => self.check_message(shadow, header, body),
            Some(BodyFamily::ClientReply) => self.check_reply(body),
            Some(BodyFamily::ClientRequest) | None => Ok(()),
        }
    }

    fn check_message(&self, shadow: &Shadow, header: &Header, body: &[u8]) -> Result<(), Broken> {
        if let Some(&(k::SNAPSHOT_PULL | k::SNAPSHOT_DATA | k::STATE_DIGESTS)) = body.first() {
            // They name files and entries, and no term.
            return Ok(());
        }
        let Some(term) = term_of(body) else { return Ok(()) };
        let held = shadow.hard_state();
        hold!(term <= held.term, DurableBeforeShown, "shows term {term}, its disk has {held}");
        match body.first() {
            Some(&(k::VOTE | k::VOTE_REPLY | k::APPEND_REPLY | k::SNAPSHOT_OFFER_REPLY)) => {}
            Some(&(k::APPEND | k::HEARTBEAT | k::READ_PROBE | k::TRANSFER | k::SNAPSHOT_OFFER)) => {
                return self.check_leader(shadow.identity(), term);
            }
            _ => return Ok(()),
        }
        match decode_message(body) {
            Ok((_, Message::Vote(vote))) => self.check_campaign(shadow.identity(), vote),
            Ok((_, Message::VoteReply(reply))) => self.check_vote(shadow.identity(), header, reply),
            Ok((_, Message::AppendReply(reply))) => self.check_acknowledgement(shadow, reply),
            Ok((_, Message::SnapshotOfferReply(reply))) => check_offer_reply(shadow, reply),
            _ => Ok(()),
        }
    }

    /// 1: only a term's leader speaks as such.
    fn check_leader(&self, sender: Identity, term: Term) -> Result<(), Broken> {
        let leader = self.oracle.leader(term).map(|leader| leader.identity);
        // A node that was elected and deposed in one turn is seen by nobody, and what it said meanwhile still goes out.
        let is_it = leader.is_none_or(|leader| leader == sender);
        hold!(is_it, ElectionSafety, "speaks as leader of term {term}, that is {leader:?}");
        Ok(())
    }

    /// 10: a candidate asks when its own vote is durable.
    fn check_campaign(&self, sender: Identity, vote: VoteRequest) -> Result<(), Broken> {
        let held = self.oracle.vote(vote.term, sender);
        hold!(
            held == Some(sender),
            DurableBeforeShown,
            "asks for votes of term {}, its disk had its own vote as {held:?}",
            vote.term
        );
        Ok(())
    }

    /// 10: a granted vote is durable.
    fn check_vote(&self, sender: Identity, header: &Header, reply: VoteReply) -> Result<(), Broken> {
        if !reply.is_granted {
            return Ok(());
        }
        let held = self.oracle.vote(reply.campaign_term, sender);
        let Party::Node(candidate) = header.destination else { return Ok(()) };
        hold!(
            held.is_some_and(|vote| vote.node == candidate),
            DurableBeforeShown,
            "grants {candidate} its vote of term {}, its disk had {held:?}",
            reply.campaign_term
        );
        Ok(())
    }

    /// 11: what is acknowledged is on the disk, and is what the leader has.
    fn check_acknowledgement(&self, shadow: &Shadow, reply: AppendReply) -> Result<(), Broken> {
        let AppendOutcome::Accepted { match_index } = reply.outcome else { return Ok(()) };
        if reply.term != shadow.hard_state().term {
            return Ok(());
        }
        let log = shadow.log();
        if match_index < log.base().index {
            return Ok(());
        }
        let held = log.at(match_index);
        hold!(
            held.is_some(),
            DurableBeforeAcknowledged,
            "acknowledges {match_index}, its disk ends at {}",
            log.last()
        );
        let Some(leader) = self.oracle.leader(reply.term).map(|leader| leader.identity.node) else {
            return Ok(());
        };
        let Some(leads) = self.leader_log(leader, reply.term) else { return Ok(()) };
        hold!(
            match_index < leads.base().index || leads.at(match_index) == held,
            DurableBeforeAcknowledged,
            "acknowledges {match_index} of term {}, its disk has {held:?}, {leader} {:?}",
            reply.term,
            leads.at(match_index)
        );
        Ok(())
    }

    fn leader_log(&self, leader: NodeId, term: Term) -> Option<&super::marks::Marks> {
        let still_leads = self.cores.leads(leader) == Some(term);
        still_leads.then(|| self.cores.log_of(leader)).flatten()
    }

    /// 16: a client is told of effects only, and of each what it came to.
    fn check_reply(&self, body: &[u8]) -> Result<(), Broken> {
        if body.first() != Some(&k::APPLIED) {
            return Ok(());
        }
        match decode_reply(body) {
            Ok((_, ClientReply::Applied(outcome))) => {
                self.operations.check_reply(outcome.index, outcome.term, outcome.result)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn shadow(&self, node: NodeId) -> Option<&Shadow> {
        self.folders.of(node)
    }
}

/// The term of a message's sender stands first in every body, after kind and group.
/// 11: what is acknowledged instead of a snapshot is on the disk. It is committed, so it stays there.
fn check_offer_reply(shadow: &Shadow, reply: SnapshotOfferReply) -> Result<(), Broken> {
    let (held, last) = (reply.match_index, shadow.log().last());
    hold!(
        held <= last,
        DurableBeforeAcknowledged,
        "acknowledges {held} when offered a snapshot, its disk ends at {last}"
    );
    Ok(())
}

fn term_of(body: &[u8]) -> Option<Term> {
    let mut reader = Reader::new(body);
    reader.u8().ok()?;
    reader.varint().ok()?;
    reader.varint().ok().map(Term)
}
