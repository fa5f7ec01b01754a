//! Who may raise a term, and who may go on leading: what keeps elections from being held without need, and leaders
//! that nobody can reach from staying (14 and 28).
//!
//! - A term begins with a campaign: no node is ever seen in a term that nobody stood for.
//! - A voter that heard a leader within the shortest election timeout, by its own clock, votes only in a campaign
//!   that a leader ordered.
//! - A campaign counts as ordered if the leader of the term before sent the order to this boot of the candidate.
//! - A leader that gets nothing from a quorum steps down.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::quorum;
use super::subject::Subject;
use super::violation::{Broken, hold};
use crate::message::Message;
use crate::node::Timing;
use crate::raft::RoleKind;
use crate::time::Instant;
use crate::types::{HardState, Identity, Incarnation, NodeId, Term};
use crate::wire::body::body_kind as k;
use crate::wire::peer::decode_message;
use crate::wire::{self, Frame, Header, Party};

/// Longest election timeouts without a word from a quorum after which nobody leads any more. One by the leader's
/// clock, which may run at half speed, and room to spare.
const SILENT_TIMEOUTS: u32 = 3;

/// What elections go by.
#[derive(Debug)]
pub(super) struct Contact {
    timing: Timing,
    /// When a node was last handed a datagram of another.
    heard: BTreeMap<(NodeId, NodeId), Instant>,
    seen: BTreeMap<NodeId, Seen>,
    /// Terms that somebody stood for.
    campaigned: BTreeSet<Term>,
    /// Orders to campaign: the leader's term, and the boot that it was sent to.
    orders: BTreeSet<(Term, NodeId, Incarnation)>,
    /// Terms whose campaign was ordered.
    ordered: BTreeSet<Term>,
}

/// A running node as last seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    hard_state: HardState,
    leads_since: Option<Instant>,
}

impl Contact {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            timing,
            heard: BTreeMap::new(),
            seen: BTreeMap::new(),
            campaigned: BTreeSet::new(),
            orders: BTreeSet::new(),
            ordered: BTreeSet::new(),
        }
    }

    pub(super) fn stopped(&mut self, node: NodeId) {
        self.seen.remove(&node);
    }

    /// A datagram comes to a node.
    pub(super) fn received(&mut self, now: Instant, node: NodeId, bytes: &[u8]) {
        if let Ok(Header { source: Party::Node(from), .. }) = wire::parse_header(bytes) {
            self.heard.insert((node, from), now);
        }
    }

    /// A node has recorded a peer's boot. What that peer said meanwhile is heard only now, so the account begins anew.
    pub(super) fn recorded(&mut self, now: Instant, node: NodeId) {
        if let Some(Seen { leads_since: Some(since), .. }) = self.seen.get_mut(&node) {
            *since = now;
        }
    }

    /// An event has touched a node.
    pub(super) fn turned(&mut self, now: Instant, node: &impl Subject) -> Result<(), Broken> {
        let (own, after, role) = (node.identity(), node.hard_state(), node.role());
        let before = *self.seen.entry(own.node).or_insert(Seen { hard_state: after, leads_since: None });
        if matches!(role, RoleKind::Candidate | RoleKind::Leader) {
            self.campaigned.insert(after.term);
        }
        if before.hard_state != after {
            self.check_term(before.hard_state, node)?;
        }
        let stays = before.hard_state.term == after.term;
        let since = before.leads_since.filter(|_| stays).unwrap_or(now);
        let leads_since = (role == RoleKind::Leader).then_some(since);
        self.seen.insert(own.node, Seen { hard_state: after, leads_since });
        if leads_since.is_some_and(|since| now.saturating_since(since) > self.silence_max()) {
            self.check_leader(now, since, node)?;
        }
        Ok(())
    }

    /// 14: where a new term and a new vote come from.
    fn check_term(&self, before: HardState, node: &impl Subject) -> Result<(), Broken> {
        let HardState { term, vote } = node.hard_state();
        hold!(
            term == before.term || self.campaigned.contains(&term),
            CampaignMembership,
            "goes from term {} to {term}, for which nobody stands",
            before.term
        );
        let min = self.timing.election_timeout_min;
        let is_sticky = node.leader_silence().is_some_and(|silence| silence < min);
        // Once a leader of the new term is heard, nobody can tell any more when the old one was.
        let helps_another = vote.is_some_and(|vote| vote != node.identity()) && !node.knows_leader();
        hold!(
            !(helps_another && is_sticky) || self.ordered.contains(&term),
            CampaignMembership,
            "votes {vote:?} in term {term}, {:?} after it heard a leader, and nobody ordered that",
            node.leader_silence()
        );
        Ok(())
    }

    /// 28: a leader hears a quorum.
    fn check_leader(&self, now: Instant, since: Instant, node: &impl Subject) -> Result<(), Broken> {
        let (own, silence_max) = (node.identity(), self.silence_max());
        let hears = |who: Identity| {
            let heard = || self.heard.get(&(own.node, who.node)).copied().unwrap_or(Instant::ZERO);
            who == own || now.saturating_since(heard().max(since)) <= silence_max
        };
        hold!(
            quorum::is_quorum(node.membership().0, hears),
            LivenessOfCore,
            "leads term {} on, {silence_max:?} without a word from a quorum",
            node.hard_state().term
        );
        Ok(())
    }

    fn silence_max(&self) -> Duration {
        self.timing.election_timeout_max * SILENT_TIMEOUTS
    }

    /// 14: a frame leaves a node.
    pub(super) fn sent(&mut self, sender: NodeId, header: &Header, frame: &Frame<'_>) -> Result<(), Broken> {
        let Frame::Request { body, .. } = frame else { return Ok(()) };
        if !matches!(body.first(), Some(&(k::TRANSFER | k::VOTE))) {
            return Ok(());
        }
        match (decode_message(body).ok().map(|(_, message)| message), header.destination) {
            (Some(Message::Transfer(order)), Party::Node(to)) => {
                self.orders.insert((order.term, to, order.incarnation));
            }
            (Some(Message::Vote(vote)), _) if vote.is_transfer && !self.ordered.contains(&vote.term) => {
                let order = (Term(vote.term.0.saturating_sub(1)), sender, header.source_incarnation);
                hold!(
                    self.orders.contains(&order),
                    CampaignMembership,
                    "says that its campaign for term {} was ordered, and it was not",
                    vote.term
                );
                self.ordered.insert(vote.term);
            }
            _ => {}
        }
        Ok(())
    }
}
