//! A node's own place in the cluster: member, not yet, or no more.
//!
//! A removed node is sent the log for a moment longer, so that in most cases it reads there that it is removed. One
//! that was away at that time hears nobody when it comes back, and asks: the members' answer is a hint that only keeps
//! it from asking for votes which nobody would give. It listens on, in case it is taken in again. `[W-85]`

use std::sync::Arc;

use slog::{info, warn};

use super::admin::address_of;
use super::links::Peer;
use super::{Node, NodeEvent, Output};
use crate::machine::Machine;
use crate::membership::Membership;
use crate::message::Message;
use crate::raft::RoleKind;
use crate::rpc::LinkId;
use crate::time::Instant;
use crate::types::{CallId, GroupId, Index, NodeId};
use crate::wire::Class;
use crate::wire::client::{ClientReply, ClientRequest, decode_reply, encode_request};
use crate::wire::status::Standing;

/// What a node knows of its place.
#[derive(Debug)]
pub(super) struct Place {
    /// The membership that the links follow.
    followed: Arc<Membership>,
    /// Links to nodes that are no members may be left.
    has_strangers: bool,
    /// True once a membership held this very store.
    was_member: bool,
    /// A committed membership without this node, of this version, that a member told of.
    excluded: Option<(Index, Standing)>,
    /// What the owner was told last.
    told: Standing,
    /// Since when nobody leads, as far as this node knows.
    leaderless_since: Option<Instant>,
    /// When the members are asked next.
    ask_at: Instant,
    calls: Vec<(LinkId, CallId)>,
}

/// A node that hears no leader asks the members about itself after so many election timeouts, and again as often.
const ASK_TIMEOUTS: u32 = 4;

/// A node that is no member and was not heard for so many election timeouts has gone.
const SILENT_TIMEOUTS: u32 = 10;

impl Place {
    pub(super) fn new(followed: Arc<Membership>, was_member: bool) -> Self {
        Self {
            followed,
            has_strangers: false,
            was_member,
            excluded: None,
            told: Standing::Member,
            leaderless_since: None,
            ask_at: Instant::ZERO,
            calls: Vec::new(),
        }
    }
}

impl<M: Machine> Node<M> {
    /// What this node is to the cluster, by the latest membership that it knows to be committed.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let membership = self.raft.membership();
        let version = self.raft.membership_index();
        if let Some((excluded, standing)) = self.place.excluded
            && self.is_news(excluded)
        {
            return standing;
        }
        if membership.contains(self.identity) {
            Standing::Member
        } else if version > self.raft.commit() && self.place.was_member {
            // It may yet be reverted.
            Standing::Member
        } else {
            self.standing_outside(membership)
        }
    }

    /// True for a membership of this version that is later than what this node's own log tells.
    fn is_news(&self, version: Index) -> bool {
        version > self.raft.membership_index() || !self.raft.membership().is_valid()
    }

    fn standing_outside(&self, membership: &Membership) -> Standing {
        if membership.member(self.identity.node).is_some() {
            Standing::Replaced
        } else if self.place.was_member {
            Standing::Removed
        } else {
            Standing::Joining
        }
    }

    /// True for messages that a node which is no member spares the others.
    pub(super) fn is_vain(&self, message: &Message) -> bool {
        matches!(message, Message::PreVote(_)) && self.place.excluded.is_some() && !self.is_member()
    }

    /// Somebody has a link who may be no member.
    pub(super) fn note_stranger(&mut self) {
        self.place.has_strangers = true;
    }

    fn is_member(&self) -> bool {
        self.standing() == Standing::Member
    }

    /// Lets the links follow the membership in force, and tells the owner when this node's own place changes.
    pub(super) fn follow_membership(&mut self, now: Instant) {
        if !Arc::ptr_eq(&self.place.followed, self.raft.membership()) {
            self.place.followed = Arc::clone(self.raft.membership());
            self.place.was_member |= self.place.followed.contains(self.identity);
            self.place.has_strangers = true;
            info!(self.log, "membership"; "version" => %self.raft.membership_index(),
                "members" => %self.place.followed);
            self.connect_members(now);
            self.move_members(now);
        }
        self.close_strangers(now);
        self.tell_standing();
        self.ask_members(now);
    }

    /// A member is reached at another address: the store that counts proved itself there before that was proposed.
    fn move_members(&mut self, now: Instant) {
        let membership = Arc::clone(self.raft.membership());
        for (id, member) in membership.iter().filter(|(id, _)| *id != self.identity.node) {
            let Some(address) = address_of(&self.config, id, &member.address) else { continue };
            let Some(Peer { link, dialed, .. }) = self.peers.get_mut(&id) else { continue };
            let earlier = dialed.replace(address);
            let is_there = self.rpc.peer(*link).is_some_and(|peer| peer.address == address);
            if earlier.is_some_and(|earlier| earlier != address) && !is_there {
                info!(self.log, "a member is reached at another address"; "member" => %id, "address" => %address);
                self.rpc.set_address(now, *link, address);
            }
        }
    }

    /// Those who are not in the membership are let go of when that is certain, Raft is done with them, and nothing is
    /// heard of them: the membership of a log that lags may not hold the very leader that sends the rest. Who is
    /// not a member yet by its own log lags for sure.
    fn close_strangers(&mut self, now: Instant) {
        let is_new = matches!(self.standing(), Standing::Joining | Standing::Replaced);
        if !self.place.has_strangers || is_new || !self.raft.is_membership_settled() {
            return;
        }
        let membership = self.raft.membership();
        let silence = self.config.timing.election_timeout_max * SILENT_TIMEOUTS;
        let in_use: Vec<NodeId> = self.raft.peers().map(|peer| peer.identity.node).collect();
        let is_wanted = |id: &NodeId, peer: &Peer| {
            let heard = self.rpc.link_stats(peer.link).map(|stats| stats.heard);
            let is_leader = self.raft.leader() == Some(*id);
            is_leader
                || in_use.contains(id)
                || heard.is_some_and(|heard| now.saturating_since(heard) < silence)
        };
        let strangers = self.peers.iter().filter(|(id, _)| membership.member(**id).is_none());
        let (wanted, done): (Vec<_>, Vec<_>) = strangers.partition(|(id, peer)| is_wanted(id, peer));
        self.place.has_strangers = !wanted.is_empty();
        let done: Vec<NodeId> = done.into_iter().map(|(id, _)| *id).collect();
        for id in done {
            if let Some(peer) = self.peers.remove(&id) {
                info!(self.log, "link closed: no member any more"; "node" => %id);
                self.rpc.close(now, peer.link);
            }
        }
    }

    fn tell_standing(&mut self) {
        let standing = self.standing();
        if core::mem::replace(&mut self.place.told, standing) == standing {
            return;
        }
        let (node, at) = (self.identity.node.as_u16(), &self.config.advertise);
        match standing {
            Standing::Member => info!(self.log, "this node is a member of the cluster"),
            Standing::Joining => {
                info!(self.log, "this node is no member yet: a membership change takes it in";
                "command" => format!("raftgram member add {node}={at}"))
            }
            Standing::Removed => {
                warn!(self.log, "this node was removed from the cluster: stop it, or take it in again";
                "command" => format!("raftgram member add {node}={at}"))
            }
            Standing::Replaced => {
                warn!(self.log, "another data folder is the member of this node's number, so this \
                node does not count: stop it, or put it in the other's place";
                "command" => format!("raftgram member replace {node}={at}"))
            }
        }
        self.outputs.push_back(Output::Event(NodeEvent::Standing(standing)));
    }

    /// Asks the members about this node when it hears no leader for long; or when it has joined and some member speaks
    /// to it, as to a wiped one of the same number, and its log tells nothing.
    fn ask_members(&mut self, now: Instant) {
        let is_lost = self.place.told == Standing::Joining && !self.peers.is_empty();
        let is_led = self.raft.role() == RoleKind::Leader || self.raft.leader().is_some();
        let is_led = is_led && !is_lost;
        if is_led {
            self.place.leaderless_since = None;
            return self.drop_questions(now);
        }
        let pause = self.config.timing.election_timeout_max * ASK_TIMEOUTS;
        let since = *self.place.leaderless_since.get_or_insert(now);
        if now.saturating_since(since) < pause || now < self.place.ask_at {
            return;
        }
        self.place.ask_at = now + pause;
        self.drop_questions(now);
        let mut body = Vec::new();
        encode_request(GroupId(0), &ClientRequest::Members { of: None }, &mut body);
        for peer in self.peers.values() {
            if let Ok(call) = self.rpc.call(now, peer.link, Class::Again, body.clone()) {
                self.place.calls.push((peer.link, call));
            }
        }
    }

    fn drop_questions(&mut self, now: Instant) {
        for (link, call) in core::mem::take(&mut self.place.calls) {
            self.rpc.cancel(now, link, call);
        }
    }

    /// True when the call was a question about this node's place; it has ended, perhaps with an answer.
    pub(super) fn on_place_told(&mut self, link: LinkId, call: CallId, answer: Option<&[u8]>) -> bool {
        let Some(place) = self.place.calls.iter().position(|asked| *asked == (link, call)) else {
            return false;
        };
        self.place.calls.swap_remove(place);
        if let Some(Ok((_, ClientReply::Members(state)))) = answer.map(decode_reply)
            && state.is_settled
            && self.is_news(state.version)
            && !state.membership.contains(self.identity)
        {
            self.place.excluded = Some((state.version, self.standing_outside(&state.membership)));
        }
        true
    }
}
