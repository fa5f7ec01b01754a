//! The checks a datagram passes before its frames are read, in the order of wire-spec.md section 3.

use core::net::SocketAddr;

use crate::mutant::{self, Mutant};
use crate::rpc::config::LocalRole;
use crate::rpc::cover::Cover;
use crate::rpc::endpoint::Rpc;
use crate::rpc::event::LinkId;
use crate::rpc::hello::{Envelope, Greetings};
use crate::time::Instant;
use crate::types::{Incarnation, PacketNumber};
use crate::wire::{self, DropReason, Flags, Frame, HELLO_DATAGRAM_BYTES, Header, Party};

impl Rpc {
    /// The checks of wire-spec.md section 3, in their order. `[W-2]`
    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Result<(), DropReason> {
        let parsed = wire::parse_header(bytes);
        let header = match parsed {
            Ok(header) => header,
            Err(reason) => {
                if reason == DropReason::Version {
                    self.send_version(now, &stranger(from, bytes.len()));
                }
                return Err(reason);
            }
        };
        let envelope = Envelope { from, header, bytes: bytes.len(), cover: Cover::Plain };
        let own = self.core.local.cluster;
        if header.cluster_tag != 0 && (header.cluster_tag != self.core.tag || own.is_zero()) {
            return Err(DropReason::ClusterTag);
        }
        if header.destination != Party::Any && header.destination != self.core.party() {
            return Err(DropReason::Destination);
        }
        // For a client that had this address before; a node is named, except in a first hello.
        let names_incarnation = header.destination_incarnation != Incarnation::UNKNOWN;
        if header.destination == Party::Any && names_incarnation && !self.core.is_client() {
            return Err(DropReason::Destination);
        }
        if header.flags.contains(Flags::SEALED) {
            return self.receive_sealed(now, &envelope, bytes);
        }
        if !self.takes_plain() {
            self.refuse_plain(now, &envelope, bytes);
            return Err(DropReason::Crc);
        }
        wire::verify_crc(bytes, own)?;
        self.receive_open(now, &envelope, bytes)
    }

    /// The checks that follow when the datagram is known to be whole; `bytes` are its header and its frames in plain.
    pub(super) fn receive_open(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let header = envelope.header;
        let known = self.link_of(&header).filter(|_| !is_client_greeting(envelope, bytes));
        self.check_cover(envelope, known)?;
        let is_current = self.check_destination_incarnation(&header, known);
        if !is_current && header.destination_incarnation != Incarnation::UNKNOWN {
            self.hint(now, envelope, bytes);
            return Err(DropReason::StaleDestinationIncarnation);
        }
        let is_of_link = !matches!(envelope.cover, Cover::Key(_));
        match known.filter(|_| is_of_link && header.destination_incarnation != Incarnation::UNKNOWN) {
            Some(id) => self.receive_on_link(now, envelope, bytes, id),
            None => self.receive_stray(now, envelope, bytes, known),
        }
    }

    /// A session's datagrams are its link's, and a link that has a session takes no others; a key's are a
    /// handshake's, of which each is read once. `[W-74]` `[W-78]`
    fn check_cover(&mut self, envelope: &Envelope, known: Option<LinkId>) -> Result<(), DropReason> {
        let link = known.and_then(|id| self.links.get_mut(&id));
        match (envelope.cover, link) {
            (Cover::Plain, Some(link)) if link.seal.is_sealed() => Err(DropReason::Crc),
            (Cover::Key(_), Some(link)) => link.admit_outside(&envelope.header, &self.core),
            (Cover::Session(id), link) => {
                let owner = self.core.seals.sessions.get(&id).copied();
                let is_owners = link.is_none_or(|link| Some(link.id) == owner);
                if is_owners { Ok(()) } else { Err(DropReason::StaleSourceIncarnation) }
            }
            _ => Ok(()),
        }
    }

    /// The open link that this source incarnation belongs to.
    fn link_of(&self, header: &Header) -> Option<LinkId> {
        let id = match header.source {
            Party::Node(node) => self.by_node.get(&node),
            Party::Any => self.by_client.get(&header.source_incarnation),
        };
        let link = self.links.get(id?).filter(|link| link.is_open())?;
        let peer = link.peer.as_ref()?;
        (peer.info.incarnation == header.source_incarnation && link.tag == header.cluster_tag)
            .then_some(link.id)
    }

    fn check_destination_incarnation(&self, header: &Header, known: Option<LinkId>) -> bool {
        let own = match self.core.local.role {
            LocalRole::Node { incarnation, .. } => incarnation,
            // A client has an incarnation per link; before a peer is adopted again it may have changed.
            LocalRole::Client => {
                let link = known.or_else(|| match header.source {
                    Party::Node(node) => self.by_node.get(&node).copied(),
                    Party::Any => None,
                });
                let link = link.and_then(|id| self.links.get(&id));
                link.map_or(Incarnation::UNKNOWN, |link| link.local_incarnation)
            }
        };
        header.destination_incarnation == own || mutant::is(Mutant::U5)
    }

    fn receive_on_link(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        bytes: &[u8],
        id: LinkId,
    ) -> Result<(), DropReason> {
        let Some(link) = self.links.get_mut(&id) else {
            return Err(DropReason::StaleSourceIncarnation);
        };
        link.admit_packet(&envelope.header, &self.core)?;
        let frames = wire::frames(&envelope.header, bytes)?;
        if envelope.bytes > self.core.config.datagram_bytes_max {
            return Err(DropReason::OverLimit);
        }
        let mut greetings = Greetings::default();
        let verdict = link.on_frames(now, &mut self.core, &envelope.header, frames, &mut greetings);
        self.touch(id);
        verdict?;
        if greetings.is_empty() {
            return Ok(());
        }
        self.on_greetings(now, envelope, &greetings, Some(id))
    }

    /// A datagram outside any link: only a handshake's frames are read. `[W-15]`
    fn receive_stray(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        bytes: &[u8],
        known: Option<LinkId>,
    ) -> Result<(), DropReason> {
        let mut greetings = Greetings::default();
        let mut has_others = false;
        for frame in wire::frames(&envelope.header, bytes)? {
            has_others |= is_of_a_link(&frame);
            greetings.note(&frame);
        }
        let is_under_no_tag = envelope.header.cluster_tag == 0;
        if is_under_no_tag
            && !self.core.is_client()
            && !self.core.local.cluster.is_zero()
            && !greetings.is_for_strangers()
        {
            return Err(DropReason::ClusterTag);
        }
        if has_others || greetings.is_empty() {
            self.hint(now, envelope, bytes);
            return Err(match known {
                Some(_) => DropReason::StaleDestinationIncarnation,
                None => DropReason::StaleSourceIncarnation,
            });
        }
        if envelope.bytes > self.core.config.datagram_bytes_max {
            return Err(DropReason::OverLimit);
        }
        self.on_greetings(now, envelope, &greetings, known)
    }

    /// Hints that this end has another incarnation, or does not know the sender's, if the datagram is one that its
    /// sender would miss: never for acknowledgements, so that hints do not answer hints.
    fn hint(&mut self, now: Instant, envelope: &Envelope, bytes: &[u8]) {
        let Ok(mut frames) = wire::frames(&envelope.header, bytes) else {
            return;
        };
        let is_parked = match envelope.header.source {
            Party::Node(node) => self.by_node.get(&node),
            Party::Any => None,
        };
        let is_parked = is_parked.and_then(|id| self.links.get(id)).is_some_and(|link| link.is_parked);
        let would_be_missed = envelope.header.flags.contains(Flags::ACK_ELICITING)
            || frames.any(|frame| matches!(frame, Frame::Notice { .. }));
        if would_be_missed && !is_parked {
            self.send_stale(now, envelope);
        }
    }
}

/// A client that greets names the number it had from this node's earlier boot, and another client may have it from
/// this boot: a greeting is of no link, whatever it names. `[W-15]`
fn is_client_greeting(envelope: &Envelope, bytes: &[u8]) -> bool {
    let header = &envelope.header;
    header.source == Party::Any
        && !matches!(envelope.cover, Cover::Session(_))
        && !header.flags.contains(Flags::ACK_ELICITING)
        && envelope.bytes >= HELLO_DATAGRAM_BYTES
        && wire::frames(header, bytes)
            .is_ok_and(|mut frames| frames.any(|frame| matches!(frame, Frame::Hello(_))))
}

fn is_of_a_link(frame: &Frame<'_>) -> bool {
    !matches!(
        frame,
        Frame::Hello(_)
            | Frame::HelloAck(_)
            | Frame::Confirm(_)
            | Frame::Welcome(_)
            | Frame::Version { .. }
            | Frame::StaleIncarnation { .. }
            | Frame::Seal(_)
            | Frame::SealRefused { .. }
            | Frame::Padding { .. }
    )
}

/// An envelope for who speaks another version: its header says nothing that is understood.
fn stranger(from: SocketAddr, bytes: usize) -> Envelope {
    Envelope {
        from,
        header: Header {
            flags: Flags::NONE,
            cluster_tag: 0,
            source: Party::Any,
            destination: Party::Any,
            source_incarnation: Incarnation::UNKNOWN,
            destination_incarnation: Incarnation::UNKNOWN,
            packet: PacketNumber(0),
        },
        bytes,
        cover: Cover::Plain,
    }
}
