//! How a datagram is covered: by a checksum, by the MAC of a key, or by a session's cipher.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use crate::mutant::{self, Mutant};
use crate::rng::Rng;
use crate::rpc::config::{LocalRole, SealConfig};
use crate::rpc::core::Core;
use crate::rpc::event::{LinkId, Output};
use crate::seal::{
    Entropy, KeyRing, KeyRole, KeySlot, MAC_BYTES, Phase, SealMode, Secret, Session, SessionId, SessionKeys,
    TAG_BYTES, Trust,
};
use crate::types::ClusterId;
use crate::wire::{self, Flags, HEADER_BYTES, Party};

/// What a datagram that was taken in, or is to go out, is covered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    /// A checksum, which anyone can compute.
    Plain,
    /// The MAC of a key: a handshake's.
    Key(KeySlot),
    /// A session's cipher.
    Session(SessionId),
}

/// What the whole room needs for the seal.
#[derive(Debug, Default)]
pub(super) struct Seals {
    entropy: Option<Entropy>,
    /// Whose session an id is: all of this end's that are open.
    pub(super) sessions: BTreeMap<SessionId, LinkId>,
    next_own: u32,
}

impl Seals {
    /// Leaves `rng` as it is, so that whatever else the room draws is the same sealed and plain. What is drawn here is
    /// no secret: ids, and the salt that keeps apart whoever shares a seed.
    pub(super) fn new(config: &SealConfig, rng: &Rng) -> Self {
        let mut rng = rng.clone().fork();
        let entropy = config.entropy.as_ref().filter(|_| config.mode != SealMode::Off);
        let entropy = entropy.map(|entropy| entropy.fork(&mut rng));
        let next_own = rng.next_u64() as u32;
        Self { entropy, sessions: BTreeMap::new(), next_own }
    }
}

impl Core {
    /// The keys, unless nothing is sealed here.
    pub(super) fn keys(&self) -> Option<&KeyRing> {
        self.config.seal.keys.as_deref().filter(|_| self.config.seal.mode != SealMode::Off)
    }

    /// Bytes that the seal takes of each datagram. Reserved also where a link is plain while both kinds are taken,
    /// so that bodies need not be cut anew when that changes.
    pub(super) fn seal_bytes(&self) -> usize {
        if self.config.seal.mode == SealMode::Off { 0 } else { TAG_BYTES }
    }

    /// A fresh ephemeral key.
    ///
    /// # Panics
    /// When nothing is sealed here.
    pub(super) fn draw_secret(&mut self) -> Secret {
        let keys = self.config.seal.keys.as_ref().expect("only with keys is anything sealed");
        let entropy = self.seals.entropy.as_mut().expect("a sealing room was given entropy");
        entropy.draw(keys.suite())
    }

    /// A session of these keys.
    ///
    /// # Panics
    /// When nothing is sealed here.
    pub(super) fn session(&self, made_of: SessionKeys) -> Session {
        let seal = &self.config.seal;
        if let Some(log) = &seal.key_log {
            log.note(made_of.id_in, &made_of.receiving);
            log.note(made_of.id_out, &made_of.sending);
        }
        Session::new(seal.keys.as_ref().expect("only with keys is anything sealed").suite(), made_of)
    }

    /// An id for a session, not in use. `[W-72]`
    pub(super) fn next_session(&mut self, slot: KeySlot) -> Option<SessionId> {
        let key = self.keys()?.id(slot);
        loop {
            self.seals.next_own = self.seals.next_own.wrapping_add(1);
            let id = SessionId::new(key, self.seals.next_own);
            if !self.seals.sessions.contains_key(&id) {
                return Some(id);
            }
        }
    }

    /// How this end covers a greeting: sealed where it may be; in the mode that takes both, every other time, for
    /// the peer may be one that knows no seal. `[W-78]`
    pub(super) fn greeting_cover(&self, tries: u32) -> Cover {
        let Some(keys) = self.keys() else {
            return Cover::Plain;
        };
        let slot = match self.local.role {
            LocalRole::Node { .. } => keys.for_node(),
            LocalRole::Client => Some(keys.for_client()),
        };
        match (slot, self.config.seal.mode) {
            (Some(slot), SealMode::Require) => Cover::Key(slot),
            (Some(slot), _) if tries.is_multiple_of(2) => Cover::Key(slot),
            _ => Cover::Plain,
        }
    }

    /// How the answer to what came so is covered, outside any session.
    pub(super) fn answering_cover(&self, cover: Cover) -> Option<Cover> {
        match cover {
            Cover::Plain | Cover::Key(_) => Some(cover),
            Cover::Session(id) => self.keys()?.find_marked(id.mark()).map(Cover::Key),
        }
    }

    /// What a peer that came so has proved.
    pub(super) fn trust(&self, cover: Cover) -> Trust {
        match (cover, self.keys()) {
            (Cover::Key(slot), Some(keys)) => Trust::Key(keys.role(slot)),
            _ => Trust::None,
        }
    }

    /// True when the holder of this key may be that party, towards this end: a node holds the cluster's; only a
    /// client, which has nothing better, takes the word of a client's key for a node's. `[W-71]`
    pub(super) fn may_speak_as(&self, slot: KeySlot, source: Party) -> bool {
        let role = self.keys().map(|keys| keys.role(slot));
        source == Party::Any || self.is_client() || role == Some(KeyRole::Cluster)
    }

    /// Closes a datagram outside any session and hands it out. `[W-4]` `[W-74]`
    pub(super) fn transmit(&mut self, to: SocketAddr, mut bytes: Vec<u8>, cluster: ClusterId, cover: Cover) {
        match (cover, self.config.seal.keys.as_ref()) {
            (Cover::Key(slot), Some(keys)) => {
                wire::mark_sealed(&mut bytes, Flags::NONE, keys.id(slot).0);
                let mac = keys.mac(slot, &wire::cluster_in_force(&bytes, cluster).0, &bytes);
                bytes.extend_from_slice(&mac);
            }
            _ => wire::finish(&mut bytes, cluster),
        }
        self.hand_out(to, bytes);
    }

    /// Closes a datagram of a session and hands it out. `[W-73]`
    pub(super) fn transmit_sealed(
        &mut self,
        to: SocketAddr,
        mut bytes: Vec<u8>,
        cluster: ClusterId,
        session: &mut Session,
        packet: u64,
    ) {
        let keys = self.config.seal.keys.as_ref().expect("a session is begun with keys");
        let flags = match session.phase_for(keys.suite(), packet) {
            Phase::Even => Flags::NONE,
            Phase::Odd => Flags::KEY_PHASE,
        };
        wire::mark_sealed(&mut bytes, flags, session.id_out().0);
        let associated = wire::associated(&bytes, cluster);
        let tag = session.seal(packet, &associated, &mut bytes[HEADER_BYTES..]);
        bytes.extend_from_slice(&tag);
        self.hand_out(to, bytes);
    }

    /// No datagram is larger than the limit, whatever it holds. `[W-11]`
    fn hand_out(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        assert!(
            bytes.len() <= self.config.datagram_bytes_max || mutant::is(Mutant::U10),
            "a datagram of {} bytes above the limit of {}",
            bytes.len(),
            self.config.datagram_bytes_max
        );
        self.stats.transmitted += 1;
        self.stats.transmitted_bytes += bytes.len() as u64;
        self.outputs.push_back(Output::Transmit { to, bytes });
    }
}

/// A MAC is as long as a tag, so that room is reckoned alike.
const _: () = assert!(MAC_BYTES == TAG_BYTES);
