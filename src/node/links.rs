//! Who is behind each link, and who is listened to.

use std::net::SocketAddr;
use std::time::Duration;

use slog::{debug, warn};

use super::admin::address_of;
use super::{Node, NodeEvent, Output};
use crate::machine::Machine;
use crate::rpc::{LinkId, PeerInfo, Token};
use crate::time::Instant;
use crate::types::{BootNonce, Identity, Incarnation, NodeId, StoreId};

/// The most messages held back while a peer's boot is being recorded; the rest is dropped, as the network may do.
pub(super) const HELD_MAX: usize = 1024;

/// A member's link.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) link: LinkId,
    pub(super) standing: Standing,
    /// Where this node looked for it last.
    pub(super) dialed: Option<SocketAddr>,
}

/// What is known of who is behind a link.
#[derive(Debug)]
pub(super) enum Standing {
    /// Nobody has answered yet, or the link is down.
    Unknown,
    /// It has shown who it is; that is being made durable, and what it says waits.
    Recording { identity: Identity, boot: (Incarnation, BootNonce), held: Vec<(Option<Token>, Vec<u8>)> },
    /// It is listened to.
    Adopted { identity: Identity },
    /// Its store is a copy, or could not be recorded: it is neither listened to nor told anything.
    Ignored,
}

impl<M: Machine> Node<M> {
    /// Says hello to every member that has no link yet.
    pub(super) fn connect_members(&mut self, now: Instant) {
        let members: Vec<(NodeId, Option<SocketAddr>)> = self
            .raft
            .membership()
            .iter()
            .filter(|(id, _)| *id != self.identity.node && !self.peers.contains_key(id))
            .map(|(id, member)| (id, address_of(&self.config, id, &member.address)))
            .collect();
        for (id, address) in members {
            // A name that the driver could not resolve: the member may still say hello itself.
            let Some(address) = address else { continue };
            let link = self.rpc.connect(now, address, Some(id));
            self.peers.insert(id, Peer { link, standing: Standing::Unknown, dialed: Some(address) });
        }
    }

    pub(super) fn on_connected(&mut self, link: LinkId, info: &PeerInfo) {
        let Some(identity) = info.identity else { return };
        if info.cluster.is_zero() {
            return;
        }
        debug!(self.log, "link open"; "peer" => %identity, "incarnation" => %info.incarnation);
        self.note_timing(identity, info.election_timeout_min);
        let boot = (info.incarnation, info.boot_nonce);
        let standing = Standing::Recording { identity, boot, held: Vec::new() };
        self.warn_of_another_store(identity);
        self.note_stranger();
        let dialed = self.peers.get(&identity.node).and_then(|peer| peer.dialed);
        self.peers.insert(identity.node, Peer { link, standing, dialed });
        self.outputs.push_back(Output::RecordPeer {
            store: identity.store,
            incarnation: info.incarnation,
            nonce: info.boot_nonce,
        });
    }

    /// A wiped node, most likely: what it says is not the member's word, and it is counted nowhere (M6).
    fn warn_of_another_store(&self, found: Identity) {
        if let Some(member) = self.raft.membership().member(found.node)
            && member.store != found.store
        {
            warn!(self.log, "a member answers with another data folder and does not count; if its data is lost, \
                replace it"; "found" => %found, "member" => %member.store,
                "command" => format!("raftgram member replace {}={}", found.node.as_u16(), member.address));
        }
    }

    /// A leader's lease rests on how long voters keep silent.
    fn note_timing(&mut self, who: Identity, election_timeout_min: Duration) {
        let did_agree = self.raft.timings_agree();
        self.raft.handle_timing(who, election_timeout_min);
        if did_agree && !self.raft.timings_agree() && self.config.lease_drift_ppm.is_some() {
            warn!(self.log, "no leases: a voter has another minimum election timeout; give all nodes the same";
                "peer" => %who, "its_ms" => election_timeout_min.as_millis());
        }
    }

    /// Tells what came of an [`Output::RecordPeer`], which is named by its fields: two boots that differ in their
    /// nonce alone are told apart.
    pub fn handle_peer_recorded(
        &mut self,
        now: Instant,
        store: StoreId,
        incarnation: Incarnation,
        nonce: BootNonce,
        seen: PeerRecord,
    ) {
        let waiting = self.peers.values_mut().find(|peer| match &peer.standing {
            Standing::Recording { identity, boot, .. } => {
                identity.store == store && *boot == (incarnation, nonce)
            }
            _ => false,
        });
        let Some(peer) = waiting else { return };
        let Standing::Recording { identity, boot, held } =
            std::mem::replace(&mut peer.standing, Standing::Ignored)
        else {
            unreachable!("found as recording");
        };
        let link = peer.link;
        match seen {
            PeerRecord::Copy => self.warn_copy(identity, boot.0),
            PeerRecord::NoRoom => {
                warn!(self.log, "too many data folders seen; this one is not listened to"; "peer" => %identity);
            }
            PeerRecord::Adopted => {
                peer.standing = Standing::Adopted { identity };
                self.raft.handle_connected(now, identity, boot.0);
                self.outputs.push_back(Output::Event(NodeEvent::PeerConnected { peer: identity }));
                for (token, body) in held {
                    self.on_peer_message(now, link, token, body);
                }
            }
        }
    }

    pub(super) fn on_closed(&mut self, link: LinkId) {
        if let Some(peer) = self.peers.values_mut().find(|peer| peer.link == link) {
            peer.standing = Standing::Unknown;
        }
    }

    /// The standing of whoever is behind a member's link.
    pub(super) fn standing_of(&mut self, link: LinkId) -> Option<&mut Standing> {
        self.peers.values_mut().find(|peer| peer.link == link).map(|peer| &mut peer.standing)
    }

    /// The link to a node that may be asked: not to one whose answers would be ignored.
    pub(super) fn heeded_link(&self, node: NodeId) -> Option<LinkId> {
        let peer = self.peers.get(&node)?;
        (!matches!(peer.standing, Standing::Ignored)).then_some(peer.link)
    }

    /// The link to a node of which it is settled that it is no copy.
    pub(super) fn adopted_link(&self, node: NodeId) -> Option<LinkId> {
        let peer = self.peers.get(&node)?;
        matches!(peer.standing, Standing::Adopted { .. }).then_some(peer.link)
    }
}

/// What recording a peer's boot came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRecord {
    /// It is the highest one of its store, and that is durable.
    Adopted,
    /// A higher one is known, or an equal one with another nonce.
    Copy,
    /// The store is not known and the table of stores is full.
    NoRoom,
}
