//! What a leader believes of its peers, against what they said to it.
//!
//! A leader's account of a peer rests on that peer's answers *of its own term* and on nothing else: how far their logs
//! are equal and durable there (11), when it was heard (28), which round of a read it confirmed (21). An answer of
//! another term, an answer to something else, or silence, adds nothing. What arrives is counted before the node decides
//! whether it takes it in, so copies and forgeries count here too: the account is generous, never strict.

use std::collections::BTreeMap;

use super::violation::{Broken, hold};
use crate::message::{AppendOutcome, AppendReply, HeartbeatReply, Message, ReadProbe, SnapshotOfferReply};
use crate::raft::PeerStatus;
use crate::time::Instant;
use crate::types::{Identity, Index, NodeId, Round, Term};
use crate::wire::body::body_kind as k;
use crate::wire::peer::decode_message;
use crate::wire::{self, Frame, Header, Party};

/// What a leader hears of a follower.
const ANSWERS: [u8; 4] = [k::APPEND_REPLY, k::HEARTBEAT_REPLY, k::READ_PROBE_REPLY, k::SNAPSHOT_OFFER_REPLY];

/// All leaders' accounts.
#[derive(Debug, Default)]
pub(super) struct Beliefs {
    leaders: BTreeMap<NodeId, Leads>,
}

/// One leader, while it leads.
#[derive(Debug)]
struct Leads {
    term: Term,
    peers: BTreeMap<NodeId, Said>,
    /// What they said in the event that goes on.
    just_now: BTreeMap<NodeId, Said>,
    /// The stores that it sends to.
    stores: Vec<Identity>,
}

/// What one peer said in the leader's term.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    match_index: Index,
    round: Round,
    /// Whether it answered an append, heartbeat or offer since that was seen to count last.
    has_answered: bool,
    /// When the leader thinks it did so last.
    heard: Option<Instant>,
}

impl Beliefs {
    pub(super) fn stopped(&mut self, node: NodeId) {
        self.leaders.remove(&node);
    }

    /// A datagram comes to a node.
    pub(super) fn received(&mut self, node: NodeId, bytes: &[u8]) {
        let Some(leads) = self.leaders.get_mut(&node) else { return };
        let Ok(header @ Header { source: Party::Node(from), .. }) = wire::parse_header(bytes) else { return };
        let Ok(frames) = wire::frames(&header, bytes) else { return };
        for frame in frames {
            let (Frame::Reply { body, .. } | Frame::Notice { body }) = frame else { continue };
            if !body.first().is_some_and(|kind| ANSWERS.contains(kind)) {
                continue;
            }
            if let Ok((_, message)) = decode_message(body)
                && message.term() == leads.term
            {
                leads.peers.entry(from).or_default().hear(&message);
                leads.just_now.entry(from).or_default().hear(&message);
            }
        }
    }

    /// An event has touched a node, which leads this term and believes this of its peers, or does not lead.
    pub(super) fn turned(
        &mut self,
        node: NodeId,
        leads: Option<Term>,
        peers: impl Iterator<Item = PeerStatus>,
    ) -> Result<(), Broken> {
        let Some(term) = leads else {
            self.leaders.remove(&node);
            return Ok(());
        };
        let fresh = || Leads { term, peers: BTreeMap::new(), just_now: BTreeMap::new(), stores: Vec::new() };
        let leads = self.leaders.entry(node).or_insert_with(fresh);
        if leads.term != term {
            *leads = fresh();
        }
        let count = leads.stores.len();
        let before = core::mem::replace(&mut leads.stores, Vec::with_capacity(count));
        let just_now = core::mem::take(&mut leads.just_now);
        for peer in peers {
            let id = peer.identity.node;
            leads.stores.push(peer.identity);
            if !before.contains(&peer.identity) {
                // It came in, or another store has taken its place: what was said before is another's.
                leads.peers.insert(id, just_now.get(&id).copied().unwrap_or_default());
            }
            leads.peers.entry(id).or_default().check(term, &peer)?;
        }
        Ok(())
    }
}

impl Said {
    fn hear(&mut self, message: &Message) {
        match message {
            Message::AppendReply(AppendReply { outcome, .. }) => {
                self.has_answered = true;
                if let AppendOutcome::Accepted { match_index } = outcome {
                    self.match_index = self.match_index.max(*match_index);
                }
            }
            Message::HeartbeatReply(HeartbeatReply { round, .. }) => {
                self.has_answered = true;
                self.round = self.round.max(*round);
            }
            Message::SnapshotOfferReply(SnapshotOfferReply { match_index, .. }) => {
                self.has_answered = true;
                self.match_index = self.match_index.max(*match_index);
            }
            Message::ReadProbeReply(ReadProbe { round, .. }) => self.round = self.round.max(*round),
            _ => {}
        }
    }

    fn check(&mut self, term: Term, peer: &PeerStatus) -> Result<(), Broken> {
        let who = peer.identity;
        hold!(
            peer.match_index <= self.match_index,
            DurableBeforeAcknowledged,
            "leads term {term} and takes {who} to hold {}, which acknowledged {}",
            peer.match_index,
            self.match_index
        );
        hold!(
            peer.acked_round <= self.round,
            ReadIndex,
            "leads term {term} and takes round {} for confirmed by {who}, which answered {}",
            peer.acked_round,
            self.round
        );
        // The election's own moment comes first.
        let is_news = self.heard.is_some_and(|heard| heard < peer.heard);
        hold!(
            !is_news || self.has_answered,
            LivenessOfCore,
            "leads term {term} on a word of {who}, which answered nothing of that term"
        );
        if is_news {
            self.has_answered = false;
        }
        self.heard = Some(peer.heard);
        Ok(())
    }
}
