//! What is sent to those who have no link here: hints. Each is smaller than what it answers, and an address gets few.

use crate::rpc::cover::Cover;
use crate::rpc::endpoint::Rpc;
use crate::rpc::event::LinkId;
use crate::rpc::hello::Envelope;
use crate::time::Instant;
use crate::types::{ClusterId, Incarnation};
use crate::wire::{self, Frame, HELLO_DATAGRAM_BYTES, Party, VERSION};

impl Rpc {
    /// Tells a greeter of a later version what is spoken here. Only a datagram as large as a hello is answered, so
    /// that two ends never answer each other's answers. `[W-24]`
    pub(super) fn send_version(&mut self, now: Instant, envelope: &Envelope) {
        let Some(cover) = self.core.answering_cover(envelope.cover) else {
            return;
        };
        if envelope.bytes < HELLO_DATAGRAM_BYTES || !self.core.may_hint(now, envelope.from) {
            return;
        }
        let number = self.number_for(envelope);
        let core = &mut self.core;
        let mut bytes = core.buffer();
        wire::begin(&mut bytes, &core.stray_header(0, Party::Any, Incarnation::UNKNOWN, number));
        Frame::Version { min: VERSION, max: VERSION }.encode(&mut bytes);
        core.transmit(envelope.from, bytes, ClusterId::ZERO, cover);
    }

    /// Hints that the sender should say hello again. `[W-22]` `[W-23]`
    pub(super) fn send_stale(&mut self, now: Instant, envelope: &Envelope) {
        let Some(cover) = self.core.answering_cover(envelope.cover) else {
            return;
        };
        let seal_bytes = if cover == Cover::Plain { 0 } else { self.core.seal_bytes() };
        if envelope.bytes < STALE_BYTES + seal_bytes
            || self.core.is_client()
            || !self.core.may_hint(now, envelope.from)
        {
            return;
        }
        let header = &envelope.header;
        let number = self.number_for(envelope);
        let core = &mut self.core;
        let mut bytes = core.buffer();
        let answer = core.stray_header(header.cluster_tag, header.source, header.source_incarnation, number);
        wire::begin(&mut bytes, &answer);
        Frame::StaleIncarnation { current: core.incarnation() }.encode(&mut bytes);
        assert_eq!(bytes.len(), STALE_BYTES, "a stale-incarnation datagram");
        let cluster = core.local.cluster;
        core.transmit(envelope.from, bytes, cluster, cover);
    }

    /// A packet number for an answer outside any link: none is used twice towards one address. Who has a link here
    /// looks at the numbers it has seen of it, and more than one may have spoken from an address in turn: the answer
    /// has the next number of the asker's own link. A node's is that of its name, wherever the question came from:
    /// an answer in another number, brought to it from elsewhere, would move its window. A client's number may be
    /// another's by now. `[W-3]`
    pub(super) fn number_for(&mut self, envelope: &Envelope) -> u64 {
        let lives_there = |id: &&LinkId| self.links.get(id).is_some_and(|link| link.address == envelope.from);
        let asker = match envelope.header.source {
            Party::Node(node) => self.by_node.get(&node),
            Party::Any => self.by_client.get(&envelope.header.source_incarnation).filter(lives_there),
        };
        let id = asker.or_else(|| self.by_address.get(&envelope.from));
        match id.and_then(|id| self.links.get_mut(id)) {
            Some(link) => link.take_number(),
            None => self.core.stray_number(),
        }
    }
}

/// A header and a stale-incarnation frame.
const STALE_BYTES: usize = wire::HEADER_BYTES + 6;
