//! Handing leadership over (thesis §3.10).
//!
//! The leader stops taking proposals, brings the target up to its own last index and orders it to campaign. The
//! target skips the pre-vote, and its vote requests say that they were ordered, so voters set leader stickiness
//! aside. If no newer term shows up within a maximum election timeout, the leader takes proposals again.
//!
//! An order is a privileged election, so it must not be replayed (E15). It names the term, the target's boot and an
//! index that the target must hold. Following it ends the term at the target, so a copy is of an older one.

use super::Raft;
use super::election::Cause;
use super::output::{Output, ReplyToken, TransferError};
use super::progress::Progress;
use super::role::{Role, TransferState};
use crate::membership::MEMBERS_MAX;
use crate::message::{Message, Transfer, TransferReply};
use crate::mutant::{self, Mutant};
use crate::time::Instant;
use crate::types::{Identity, Incarnation, Index, NodeId};

/// Boots that are remembered; beyond, those of strangers are forgotten.
pub(super) const CONNECTED_MAX: usize = 2 * MEMBERS_MAX;

impl Raft {
    /// Hands leadership to this voter, or to the one that holds most of the log. Proposals are refused until it
    /// is done or a maximum election timeout has passed; then this node leads on.
    pub fn transfer_leadership(&mut self, now: Instant, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let before = self.begin(now);
        let known = self.leader();
        let Role::Leader(leader) = &self.role else { return Err(TransferError::NotLeader { leader: known }) };
        if let Some(transfer) = &leader.transfer {
            return Err(TransferError::Transferring { to: transfer.to });
        }
        let to = self.transfer_target(to).ok_or(TransferError::NoTarget)?;
        assert_ne!(to, self.config.identity.node, "a leader has no progress of itself");
        let deadline = now + self.config.election_timeout_max;
        let Role::Leader(leader) = &mut self.role else { panic!("the role was a leader's above") };
        // The order itself goes out from `advance_transfer`, perhaps in this very drain.
        leader.transfer = Some(TransferState { to, deadline, is_sent: false });
        self.end(before);
        Ok(to)
    }

    /// A voter whose incarnation is known: the wanted one, if it was heard within an election timeout; else of those
    /// that were heard, or of all if none was, the furthest; the lowest id of equals. An order to a dead one would stop
    /// the writes for nothing.
    pub(super) fn transfer_target(&self, wanted: Option<NodeId>) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let voters = &self.log.membership().voters;
        let patience = self.config.election_timeout_max;
        let is_heard = |progress: &Progress| self.now.saturating_since(progress.heard) < patience;
        leader
            .progress
            .iter()
            .filter(|(id, progress)| wanted.is_none_or(|wanted| wanted == **id && is_heard(progress)))
            .filter(|(id, progress)| {
                voters.contains_key(id) && self.incarnations.contains_key(&progress.identity)
            })
            .max_by_key(|(id, it)| (is_heard(it), it.match_index, core::cmp::Reverse(**id)))
            .map(|(id, _)| *id)
    }

    /// The order goes out once the target has the whole log: with less it could not win against voters that hold
    /// more (Raft paper §5.4.1).
    pub(super) fn advance_transfer(&mut self) {
        let last_index = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = leader.transfer.as_mut().filter(|transfer| !transfer.is_sent) else { return };
        let to = transfer.to;
        if leader.progress.get(&to).is_some_and(|progress| progress.match_index == last_index) {
            transfer.is_sent = true;
            leader.rounds.void_lease();
            self.order_campaign(to, last_index);
        }
    }

    /// The order binds the target's present boot; the driver told it by a proven hello.
    fn order_campaign(&mut self, to: NodeId, last_index: Index) {
        assert_ne!(to, self.config.identity.node, "a node does not order itself");
        assert!(last_index <= self.log.last_index(), "an order for {last_index}, beyond the log");
        let Some(member) = self.log.membership().member(to) else { return };
        let who = Identity { node: to, store: member.store };
        let Some(incarnation) = self.incarnations.get(&who).copied() else { return };
        let order = Transfer { term: self.term(), incarnation, last_index };
        self.durable.send(Output::Request { to, message: Message::Transfer(order) });
    }

    /// Thesis §3.10: the leader resumes when the target did not take over in time.
    pub(super) fn expire_transfer(&mut self, now: Instant) {
        if let Role::Leader(leader) = &mut self.role {
            leader.transfer.take_if(|transfer| now >= transfer.deadline);
        }
    }

    /// The disk gate (E16): one try to hand over to whoever holds most, then silence. The order names what that
    /// voter holds; whether it is enough, the voters decide.
    pub(super) fn give_up_for_disk(&mut self, now: Instant) {
        let target = self.transfer_target(None);
        let Role::Leader(leader) = &self.role else { panic!("only a leader gives up leading") };
        let order = target.and_then(|to| leader.progress.get(&to).map(|p| (to, p.match_index)));
        self.become_follower(now, None);
        if let Some((to, match_index)) = order {
            self.order_campaign(to, match_index);
        }
    }

    /// The order counts if it is of this term's leader, for this boot, and names an index the log has (E15). It is
    /// answered in the leader's term, before the new one begins.
    pub(super) fn handle_transfer(
        &mut self,
        now: Instant,
        from: Identity,
        m: Transfer,
        token: Option<ReplyToken>,
    ) {
        if m.term == self.term() && !self.accept_leader(now, from) {
            return;
        }
        let is_fresh = m.term == self.term() && m.incarnation == self.config.incarnation;
        let is_taken = (is_fresh || mutant::is(Mutant::E15))
            && m.incarnation != Incarnation::UNKNOWN
            && m.last_index <= self.log.last_index()
            && self.may_campaign(now);
        assert!(
            !is_taken || self.durable.hard_state() == self.hard_state,
            "{} is not durable",
            self.hard_state
        );
        let reply = TransferReply { term: self.term(), is_taken };
        self.reply(token, Message::TransferReply(reply));
        if is_taken {
            self.start_campaign(now, Cause::Transfer);
        }
    }

    /// A refused order leaves this node leading. A taken one changes nothing yet: the newer term does, when it shows
    /// up, and if it does not, the transfer expires.
    pub(super) fn handle_transfer_reply(&mut self, from: Identity, m: TransferReply) {
        if m.term != self.term() || m.is_taken {
            return;
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.transfer.take_if(|transfer| transfer.to == from.node && transfer.is_sent);
        }
    }

    /// The driver learned, by a proven hello, which boot of this store it talks to. A new boot has forgotten what
    /// was asked of the old one.
    pub fn handle_connected(&mut self, now: Instant, who: Identity, incarnation: Incarnation) {
        let before = self.begin(now);
        // One that is to become a member connects before.
        if self.incarnations.len() >= CONNECTED_MAX {
            let membership = self.log.membership();
            self.incarnations.retain(|who, _| membership.contains(*who));
        }
        let known = self.incarnations.insert(who, incarnation);
        if known.is_some_and(|known| known != incarnation) && self.progress_of(who).is_some() {
            self.give_up_calls(who.node);
        }
        self.end(before);
    }
}
