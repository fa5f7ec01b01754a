//! Datagrams under a key: whose they are, and what they hold in plain.

use crate::rpc::cover::Cover;
use crate::rpc::endpoint::Rpc;
use crate::rpc::event::Event;
use crate::rpc::hello::Envelope;
use crate::rpc::link_seal::Sealed;
use crate::seal::{KeyId, MAC_BYTES, Phase, SessionId, TAG_BYTES};
use crate::time::Instant;
use crate::types::{ClusterId, Incarnation};
use crate::wire::{self, DropReason, Flags, Frame, HEADER_BYTES, HELLO_DATAGRAM_BYTES, Party, SealRefusal};

impl Rpc {
    /// A datagram with the flag SEALED, for this end and its cluster.
    pub(super) fn receive_sealed(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        if self.core.keys().is_none() {
            self.refuse(now, envelope, SealRefusal::NoSeal);
            return Err(DropReason::Crc);
        }
        if bytes.len() < HEADER_BYTES + TAG_BYTES {
            return Err(DropReason::Crc);
        }
        match SessionId::parse(wire::seal_id(bytes)) {
            Err(key) => self.receive_under_key(now, envelope, bytes, key),
            Ok(session) => {
                let mut opened = std::mem::take(&mut self.core.scratch.opened);
                let verdict = self.receive_under_session(now, envelope, bytes, session, &mut opened);
                self.core.scratch.opened = opened;
                verdict
            }
        }
    }

    /// A handshake's datagram: its MAC is checked, and nothing of it is secret. `[W-74]`
    fn receive_under_key(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        bytes: &[u8],
        key: KeyId,
    ) -> Result<(), DropReason> {
        let cluster = wire::cluster_in_force(bytes, self.core.local.cluster);
        let (covered, mac) = bytes.split_at(bytes.len() - MAC_BYTES);
        let slot = self
            .core
            .keys()
            .and_then(|keys| keys.find(key).filter(|&slot| keys.verifies(slot, &cluster.0, covered, mac)));
        let Some(slot) = slot.filter(|&slot| self.core.may_speak_as(slot, envelope.header.source)) else {
            self.refuse(now, envelope, SealRefusal::KeyUnknown);
            return Err(DropReason::Crc);
        };
        self.receive_open(now, &Envelope { cover: Cover::Key(slot), ..*envelope }, covered)
    }

    /// A link's datagram. `[W-73]`
    fn receive_under_session(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        bytes: &[u8],
        session: SessionId,
        opened: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        let Some(&id) = self.core.seals.sessions.get(&session) else {
            self.hint_lost_session(now, envelope, session);
            return Err(DropReason::Crc);
        };
        let link = self.links.get_mut(&id).ok_or(DropReason::Crc)?;
        opened.clear();
        opened.extend_from_slice(bytes);
        let associated = wire::associated(bytes, self.core.local.cluster);
        let is_odd = envelope.header.flags.contains(Flags::KEY_PHASE);
        let sealed = Sealed {
            id: session,
            phase: if is_odd { Phase::Odd } else { Phase::Even },
            packet: envelope.header.packet.0,
            associated: &associated,
        };
        let keep = link.keep_lost(&self.core);
        let text = &mut opened[HEADER_BYTES..];
        if !link.seal.open((now, keep), &mut self.core, &sealed, text) {
            return Err(DropReason::Crc);
        }
        opened.truncate(bytes.len() - TAG_BYTES);
        self.receive_open(now, &Envelope { cover: Cover::Session(session), ..*envelope }, opened)
    }

    /// Whoever sends under a session that this end does not know had it with an earlier boot, or from a link that is
    /// gone. It is told to greet again, under the key that the session's id is marked with. `[W-23]` `[W-72]`
    fn hint_lost_session(&mut self, now: Instant, envelope: &Envelope, session: SessionId) {
        let header = &envelope.header;
        let is_greeting_it = match header.source {
            // The welcome may merely be behind.
            Party::Node(_) => self
                .greetings
                .values()
                .any(|id| self.links.get(id).is_some_and(|link| link.seal.initiation.is_some())),
            Party::Any => header.source_incarnation == Incarnation::UNKNOWN,
        };
        let is_parked = match header.source {
            Party::Node(node) => {
                let id = self.by_node.get(&node);
                id.and_then(|id| self.links.get(id)).is_some_and(|link| link.is_parked)
            }
            Party::Any => false,
        };
        if !is_greeting_it && !is_parked {
            self.send_stale(now, &Envelope { cover: Cover::Session(session), ..*envelope });
        }
    }

    /// A plain datagram where only sealed ones are taken: its sender is told, if it greets; and a client takes note
    /// of being told so itself. `[W-77]`
    pub(super) fn refuse_plain(&mut self, now: Instant, envelope: &Envelope, bytes: &[u8]) {
        if wire::verify_crc(bytes, self.core.local.cluster).is_err() {
            return;
        }
        let Ok(mut frames) = wire::frames(&envelope.header, bytes) else {
            return;
        };
        match frames.next() {
            Some(Frame::SealRefused { reason }) => self.on_seal_refused(envelope, reason),
            Some(Frame::Hello(_)) => self.refuse(now, envelope, SealRefusal::SealRequired),
            _ => {}
        }
    }

    /// Passes on what anyone may have said. `[W-77]`
    pub(super) fn on_seal_refused(&mut self, envelope: &Envelope, reason: SealRefusal) {
        let greeting = self.greetings.values().find(|id| {
            self.links.get(id).is_some_and(|link| link.address == envelope.from && link.peer.is_none())
        });
        if let Some(&link) = greeting {
            self.core.event(Event::Refused { link, reason });
        }
    }

    /// Says in plain why a greeting is dropped: to a client only, and in a smaller datagram. `[W-77]`
    fn refuse(&mut self, now: Instant, envelope: &Envelope, reason: SealRefusal) {
        let header = &envelope.header;
        let is_hello = envelope.bytes >= HELLO_DATAGRAM_BYTES && header.cluster_tag == 0;
        if !is_hello || self.core.is_client() || !self.core.may_hint(now, envelope.from) {
            return;
        }
        let number = self.number_for(envelope);
        let core = &mut self.core;
        let mut bytes = core.buffer();
        let answer = core.stray_header(0, header.source, header.source_incarnation, number);
        wire::begin(&mut bytes, &answer);
        Frame::SealRefused { reason }.encode(&mut bytes);
        core.transmit(envelope.from, bytes, ClusterId::ZERO, Cover::Plain);
    }
}
