//! The handshake at its initiator: hello, confirm, and what their answers lead to.

use core::net::SocketAddr;
use core::time::Duration;

use crate::rpc::config::LocalRole;
use crate::rpc::core::Core;
use crate::rpc::cover::Cover;
use crate::rpc::endpoint::Rpc;
use crate::rpc::event::{CloseReason, LinkId};
use crate::rpc::hello::{Envelope, peer_of};
use crate::rpc::link::{Answerer, Handshake, Link, Step};
use crate::time::Instant;
use crate::types::{Incarnation, NodeId};
use crate::wire::{
    self, Confirm, Description, Frame, HELLO_DATAGRAM_BYTES, Header, Hello, HelloAck, Party, SealOffer,
    VERSION, Welcome,
};

impl Rpc {
    /// Begins a handshake on a link, or lets the one under way go on.
    pub(super) fn greet(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.handshake.is_none() {
            let nonce_a = self.core.rng.next_u64();
            self.greetings.insert(nonce_a, id);
            link.handshake =
                Some(Handshake { nonce_a, step: Step::Hello, tries: 0, sent_at: now, next_at: now });
        }
        self.send_greeting(now, id);
    }

    /// Sends the datagram of the step that the link's handshake is in, if it is due.
    pub(super) fn send_greeting(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let Some(mut handshake) = link.handshake.filter(|handshake| handshake.next_at <= now) else {
            return;
        };
        if matches!(handshake.step, Step::Confirm(_)) && handshake.tries >= CONFIRMS_MAX {
            // The cookie has aged, or its maker has restarted.
            self.greetings.remove(&handshake.nonce_a);
            let nonce_a = self.core.rng.next_u64();
            self.greetings.insert(nonce_a, id);
            handshake = Handshake { nonce_a, step: Step::Hello, tries: 0, sent_at: now, next_at: now };
        }
        let core = &mut self.core;
        // Jitter keeps two ends that greet each other from falling into step.
        let wait = retry_after(core, handshake.tries);
        handshake.next_at = now + core.rng.duration_between(wait * 3 / 4, wait * 5 / 4);
        handshake.tries += 1;
        handshake.sent_at = now;
        link.handshake = Some(handshake);
        link.last_hello_at = now;
        let number = link.take_number();
        let mut bytes = core.buffer();
        wire::begin(&mut bytes, &greeting_header(core, link, &handshake, number));
        let description = core.description();
        Frame::Hello(Hello { nonce_a: handshake.nonce_a, description }).encode(&mut bytes);
        let cover = match handshake.step {
            Step::Hello => core.greeting_cover(handshake.tries - 1),
            Step::Confirm(Answerer { nonce_b, cover, .. }) => {
                Frame::Confirm(Confirm { nonce_a: handshake.nonce_a, nonce_b }).encode(&mut bytes);
                if let (Cover::Key(_), Some(initiation)) = (cover, &link.seal.initiation) {
                    Frame::Seal(initiation.offer).encode(&mut bytes);
                }
                cover
            }
        };
        // `[W-22]`
        let seal_bytes = if cover == Cover::Plain { 0 } else { core.seal_bytes() };
        wire::pad_to(&mut bytes, HELLO_DATAGRAM_BYTES - seal_bytes);
        let (to, cluster) = (link.address, core.local.cluster);
        core.transmit(to, bytes, cluster, cover);
    }

    pub(super) fn on_hello_ack(&mut self, now: Instant, envelope: &Envelope, ack: &HelloAck) {
        let header = &envelope.header;
        // Only the handshake under way is answered. `[W-16]`
        let (Some(&id), Party::Node(node)) = (self.greetings.get(&ack.nonce_a), header.source) else {
            return;
        };
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let Some(handshake) = link.handshake else {
            return;
        };
        // One session comes of a handshake: the first sealed answer is the one that is confirmed. `[W-75]`
        if matches!(handshake.step, Step::Confirm(Answerer { cover: Cover::Key(_), .. })) {
            return;
        }
        if link.expect.is_some_and(|expected| expected != node) || header.source_incarnation.0 == 0 {
            return;
        }
        // A blank node has nothing for a client yet; it is greeted again until it has.
        if self.core.is_client() && ack.description.cluster.is_zero() {
            return;
        }
        let answerer = Answerer {
            node,
            incarnation: header.source_incarnation,
            nonce_b: ack.nonce_b,
            description: ack.description,
            cover: envelope.cover,
        };
        if let Some(reason) = refusal(&self.core, &answerer, envelope.from) {
            self.close_link(id, reason);
            return;
        }
        // A client's number is worth something only at the boot that gave it: under another one it may be somebody
        // else's, whose link would judge the confirm. So the new boot is greeted again, without a number. `[W-19]`
        let is_of_another_boot = link.peer.is_some_and(|peer| peer.info.incarnation != answerer.incarnation);
        if self.core.is_client() && is_of_another_boot && link.local_incarnation != Incarnation::UNKNOWN {
            link.local_incarnation = Incarnation::UNKNOWN;
            link.handshake = None;
            self.greetings.remove(&handshake.nonce_a);
            self.touch(id);
            return self.greet(now, id);
        }
        if matches!(handshake.step, Step::Hello) && handshake.tries == 1 {
            let round_trip = now.saturating_since(handshake.sent_at);
            link.rtt.sample(now, round_trip, Duration::ZERO);
        }
        link.handshake =
            Some(Handshake { step: Step::Confirm(answerer), tries: 0, next_at: now, ..handshake });
        if self.core.is_client() {
            // `[W-26]`
            self.core.learn_cluster(ack.description.cluster);
        }
        if let Some(other) = self.other_link_to(id, node) {
            // The peer has moved: what leads to where it was goes on where it answered.
            if self.links.get(&other).is_some_and(|link| link.is_silent) {
                self.set_address(now, other, envelope.from);
            }
            self.close_link(id, CloseReason::SameAs(other));
            return;
        }
        self.prepare_confirm(id, &answerer, ack);
        self.send_greeting(now, id);
        self.touch(id);
    }

    /// Begins the seal's handshake, if the answer was sealed.
    fn prepare_confirm(&mut self, id: LinkId, answerer: &Answerer, ack: &HelloAck) {
        let (Cover::Key(slot), Some(link)) = (answerer.cover, self.links.get(&id)) else {
            return;
        };
        let Some(handshake) = &link.handshake else {
            return;
        };
        let header = greeting_header(&self.core, link, handshake, 1);
        let nonces = Confirm { nonce_a: ack.nonce_a, nonce_b: ack.nonce_b };
        self.initiate_seal(id, slot, &header, nonces);
    }

    /// Another link that leads to this node already.
    fn other_link_to(&self, id: LinkId, node: NodeId) -> Option<LinkId> {
        self.by_node.get(&node).copied().filter(|other| *other != id)
    }

    pub(super) fn on_welcome(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        welcome: &Welcome,
        offer: Option<&SealOffer>,
    ) {
        let Some(&id) = self.greetings.get(&welcome.nonce_a) else {
            return;
        };
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let Some(Handshake { step: Step::Confirm(answerer), nonce_a, .. }) = link.handshake else {
            return;
        };
        let header = &envelope.header;
        let source = (Party::Node(answerer.node), answerer.incarnation);
        if (header.source, header.source_incarnation) != source || welcome.incarnation.0 == 0 {
            return;
        }
        let address = link.address;
        // A handshake that was sealed ends sealed.
        let session = match answerer.cover {
            Cover::Plain => None,
            _ if envelope.cover == Cover::Plain => return,
            _ => match offer.and_then(|offer| self.finish_seal(id, nonce_a, offer)) {
                Some(session) => Some(session),
                None => return,
            },
        };
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        self.greetings.remove(&nonce_a);
        let trust = self.core.trust(answerer.cover);
        let peer = peer_of(Some(source), nonce_a, &answerer.description, address, trust);
        let local = if self.core.is_client() { welcome.incarnation } else { self.core.incarnation() };
        link.set_cluster(if self.core.is_client() {
            answerer.description.cluster
        } else {
            self.core.local.cluster
        });
        link.adopt(now, &mut self.core, peer, local);
        if let Some(session) = session {
            link.seal.use_now(&mut self.core, id, session);
            // The answerer seals with it when it has seen it.
            link.wants_ping = true;
        }
        self.by_node.insert(answerer.node, id);
        self.by_address.insert(address, id);
        self.touch(id);
    }

    /// A hint, never more: say hello again and leave everything as it is until that is proven. `[W-23]`
    pub(super) fn on_stale(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        current: Incarnation,
        known: Option<LinkId>,
    ) {
        let Party::Node(node) = envelope.header.source else {
            return;
        };
        let Some(id) = known.or_else(|| self.by_node.get(&node).copied()) else {
            return;
        };
        let Some(link) = self.links.get(&id) else {
            return;
        };
        // A late word of an earlier boot; unless nothing is heard of the present one, for another data folder may have
        // come in its place, and counts its boots by itself.
        let is_heard = now.saturating_since(link.last_heard) < HEARD_HEARTBEATS * self.core.heartbeat();
        let is_old = is_heard && link.peer.is_some_and(|peer| current < peer.info.incarnation);
        let is_recent =
            link.last_hello_at != Instant::ZERO && now.saturating_since(link.last_hello_at) < HINT_WAIT;
        // A sealed link takes no plain hint.
        let is_plain = link.seal.is_sealed() && envelope.cover == Cover::Plain;
        if is_old || is_plain || is_recent || link.handshake.is_some() || link.is_parked {
            return;
        }
        self.greet(now, id);
        // It is repeated until it is answered, whatever else the link has to do.
        self.touch(id);
    }
}

/// What an initiator does not go on with.
fn refusal(core: &Core, answerer: &Answerer, from: SocketAddr) -> Option<CloseReason> {
    let Description { version_min, version_max, cluster, .. } = answerer.description;
    if version_min > VERSION || version_max < VERSION {
        return Some(CloseReason::Version { min: version_min, max: version_max });
    }
    let own = core.local.cluster;
    match core.local.role {
        LocalRole::Client if !own.is_zero() && cluster != own => {
            Some(CloseReason::ForeignCluster { expected: own, found: cluster })
        }
        LocalRole::Client => None,
        LocalRole::Node { .. } if own.is_zero() && !cluster.is_zero() => {
            let source = Some((Party::Node(answerer.node), answerer.incarnation));
            let trust = core.trust(answerer.cover);
            let peer = peer_of(source, 0, &answerer.description, from, trust).info;
            Some(CloseReason::AlreadyFounded { cluster, peer })
        }
        LocalRole::Node { .. } => None,
    }
}

/// The header of a hello or confirm.
fn greeting_header(core: &Core, link: &Link, handshake: &Handshake, number: u64) -> Header {
    let (destination, destination_incarnation) = match handshake.step {
        Step::Confirm(answerer) => (Party::Node(answerer.node), answerer.incarnation),
        Step::Hello => {
            let party = link.peer.map(|peer| peer.party).or(link.expect.map(Party::Node));
            (party.unwrap_or(Party::Any), Incarnation::UNKNOWN)
        }
    };
    // A client says hello under tag 0, and confirms under the tag it was told. `[W-14]`
    let tag = match handshake.step {
        Step::Confirm(answerer) if core.is_client() => answerer.description.cluster.tag(),
        Step::Hello if core.is_client() => 0,
        _ => core.tag,
    };
    Header {
        source_incarnation: link.local_incarnation,
        ..core.stray_header(tag, destination, destination_incarnation, number)
    }
}

/// The wait before a step's next datagram, after so many: half as long again each time.
pub(super) fn retry_after(core: &Core, tries: u32) -> Duration {
    let mut wait = core.config.hello_retry_min;
    for _ in 0..tries.min(RETRY_STEPS_MAX) {
        wait = (wait + wait / 2).min(core.config.hello_retry_max);
    }
    wait
}

const RETRY_STEPS_MAX: u32 = 40;
/// Confirms without a welcome before the handshake starts over.
const CONFIRMS_MAX: u32 = 5;
/// A peer that was heard within so many heartbeat intervals is there.
const HEARD_HEARTBEATS: u32 = 4;
const HINT_WAIT: Duration = Duration::from_millis(5);
