//! The handshake at its answerer: hello, hello-ack, hello again with confirm, welcome.
//!
//! Nothing is stored for whoever has not returned the cookie, and nothing is adopted before it. Every step may be
//! lost, doubled or late: a hello is answered as often as it comes, a confirm for what is open already gets its
//! welcome again, and adopting the same incarnation twice changes nothing. So when two hellos cross and both go
//! through, no harm is done; the rule that the lower one stands (`[W-18]`) only saves datagrams.

use core::net::SocketAddr;
use core::time::Duration;

use crate::cursor::Writer;
use crate::mutant::{self, Mutant};
use crate::rpc::config::LocalRole;
use crate::rpc::core::Core;
use crate::rpc::cover::Cover;
use crate::rpc::endpoint::Rpc;
use crate::rpc::event::{CloseReason, LinkId, PeerInfo};
use crate::rpc::greet::retry_after;
use crate::rpc::link::{Link, Peer, Step};
use crate::rpc::link_seal::Answered;
use crate::rpc::offer::Answering;
use crate::seal::Trust;
use crate::time::Instant;
use crate::types::{ClusterId, Identity, Incarnation, NodeId};
use crate::wire::{
    self, Confirm, Description, DropReason, Frame, HELLO_DATAGRAM_BYTES, Header, Hello, HelloAck, Party,
    SealOffer, SealRefusal, VERSION, Welcome,
};

/// The handshake frames of one datagram.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Greetings {
    hello: Option<Hello>,
    ack: Option<HelloAck>,
    confirm: Option<Confirm>,
    welcome: Option<Welcome>,
    stale: Option<Incarnation>,
    offer: Option<SealOffer>,
    refusal: Option<SealRefusal>,
    has_version: bool,
}

impl Greetings {
    pub(super) fn note(&mut self, frame: &Frame<'_>) {
        match frame {
            Frame::Hello(hello) => self.hello = Some(*hello),
            Frame::HelloAck(ack) => self.ack = Some(*ack),
            Frame::Confirm(confirm) => self.confirm = Some(*confirm),
            Frame::Welcome(welcome) => self.welcome = Some(*welcome),
            Frame::StaleIncarnation { current } => self.stale = Some(*current),
            Frame::Seal(offer) => self.offer = Some(*offer),
            Frame::SealRefused { reason } => self.refusal = Some(*reason),
            Frame::Version { .. } => self.has_version = true,
            _ => {}
        }
    }

    /// True when there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.hello.is_none()
            && self.ack.is_none()
            && self.confirm.is_none()
            && self.welcome.is_none()
            && self.stale.is_none()
            && self.refusal.is_none()
            && !self.has_version
    }

    /// True when one may come under tag 0 to a node that has a cluster. `[W-14]`
    pub(super) fn is_for_strangers(&self) -> bool {
        (self.hello.is_some() && self.confirm.is_none()) || self.has_version
    }
}

/// A datagram of a handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    pub(super) from: SocketAddr,
    pub(super) header: Header,
    /// The size it came in.
    pub(super) bytes: usize,
    pub(super) cover: Cover,
}

impl Rpc {
    /// Acts on the handshake frames of a datagram. `known` is the link whose current incarnation sent it.
    pub(super) fn on_greetings(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        greetings: &Greetings,
        known: Option<LinkId>,
    ) -> Result<(), DropReason> {
        if matches!(envelope.cover, Cover::Session(_)) {
            return Ok(());
        }
        if let Some(reason) = greetings.refusal {
            self.on_seal_refused(envelope, reason);
        }
        if let Some(ack) = greetings.ack {
            self.on_hello_ack(now, envelope, &ack);
        }
        if let Some(welcome) = greetings.welcome {
            self.on_welcome(now, envelope, &welcome, greetings.offer.as_ref());
        }
        if let Some(current) = greetings.stale {
            self.on_stale(now, envelope, current, known);
        }
        match (greetings.hello, greetings.confirm) {
            (Some(hello), Some(confirm)) if hello.nonce_a == confirm.nonce_a => {
                self.on_confirm(now, envelope, &hello, confirm, greetings.offer.as_ref())
            }
            (Some(hello), None) => self.on_hello(now, envelope, &hello),
            _ => Ok(()),
        }
    }

    fn on_hello(&mut self, now: Instant, envelope: &Envelope, hello: &Hello) -> Result<(), DropReason> {
        self.check_greeter(envelope, &hello.description)?;
        if let Some(&id) = self.greetings.get(&hello.nonce_a) {
            self.close_link(id, CloseReason::Oneself);
            return Ok(());
        }
        let header = &envelope.header;
        if header.source == self.core.party() || self.stands_against(now, envelope, &hello.description) {
            return Ok(());
        }
        if hello.description.version_min > VERSION || hello.description.version_max < VERSION {
            self.send_version(now, envelope);
            return Ok(());
        }
        if !self.core.may_answer_stray(now) {
            return Err(DropReason::OverLimit);
        }
        let nonce_b = self.core.cookies.make(now, envelope.from, &claims(header, hello));
        let number = self.number_for(envelope);
        let core = &mut self.core;
        let description = core.description();
        let mut bytes = core.buffer();
        let answer = core.stray_header(header.cluster_tag, header.source, header.source_incarnation, number);
        wire::begin(&mut bytes, &answer);
        Frame::HelloAck(HelloAck { nonce_a: hello.nonce_a, nonce_b, description }).encode(&mut bytes);
        if bytes.len() + core.seal_bytes() > envelope.bytes {
            core.recycle(bytes);
            return Err(DropReason::OverLimit);
        }
        let cluster = core.local.cluster;
        core.transmit(envelope.from, bytes, cluster, envelope.cover);
        Ok(())
    }

    /// Who may greet this end, under which tag and cluster. `[W-14]`
    fn check_greeter(&self, envelope: &Envelope, greeter: &Description) -> Result<(), DropReason> {
        if self.core.is_client() {
            return Err(DropReason::Destination);
        }
        let own = self.core.local.cluster;
        let is_under_own = envelope.header.cluster_tag != 0;
        let is_node = matches!(envelope.header.source, Party::Node(_));
        let is_stranger = !greeter.cluster.is_zero() && greeter.cluster != own;
        if (is_under_own || is_node) && is_stranger {
            return Err(DropReason::ClusterTag);
        }
        Ok(())
    }

    /// `[W-18]`: when this end greets the same peer on the same path, and is the lower of the two, the peer's hello
    /// is ignored; when it is the higher, its own gives way for a while.
    fn stands_against(&mut self, now: Instant, envelope: &Envelope, greeter: &Description) -> bool {
        let (LocalRole::Node { identity, .. }, Party::Node(node)) =
            (self.core.local.role, envelope.header.source)
        else {
            return false;
        };
        if envelope.header.cluster_tag != self.core.tag {
            return false;
        }
        let theirs = Identity { node, store: greeter.store };
        let wait = retry_after(&self.core, u32::MAX);
        for id in self.greetings.values() {
            let Some(link) = self.links.get_mut(id) else {
                continue;
            };
            let is_same_path = link.address == envelope.from
                && link.expect.is_none_or(|expected| expected == node)
                && link.peer.is_none_or(|peer| peer.party == Party::Node(node));
            let Some(handshake) = link.handshake.as_mut().filter(|_| is_same_path) else {
                continue;
            };
            if identity < theirs {
                return true;
            }
            if matches!(handshake.step, Step::Hello) {
                handshake.next_at = handshake.next_at.max(now + wait / 4);
            }
        }
        false
    }

    fn on_confirm(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        hello: &Hello,
        confirm: Confirm,
        offer: Option<&SealOffer>,
    ) -> Result<(), DropReason> {
        self.check_greeter(envelope, &hello.description)?;
        let header = &envelope.header;
        let claims = claims(header, hello);
        // `[W-17]`: the hello stands before the confirm again, because nothing of it was stored.
        let age = self
            .core
            .cookies
            .age(now, envelope.from, &claims, confirm.nonce_b)
            .or(mutant::is(Mutant::I9).then_some(Duration::ZERO))
            .ok_or(DropReason::StaleSourceIncarnation)?;
        let answering = match envelope.cover {
            Cover::Plain => None,
            _ => Some(self.answer_seal(envelope, hello, confirm, offer)?),
        };
        let answering = match answering {
            Some(Answering::Ignore) => return Ok(()),
            Some(Answering::Again(id, offer)) => {
                let adopted = self.links.get(&id).and_then(|link| link.peer);
                let incarnation = adopted.map_or(Incarnation::UNKNOWN, |peer| peer.info.incarnation);
                self.send_welcome(envelope, hello, id, incarnation, Some(offer));
                return Ok(());
            }
            Some(Answering::Fresh(session, offer)) => Some((session, offer)),
            None => None,
        };
        let (id, incarnation) = match header.source {
            Party::Node(node) => {
                let id = self.link_of_greeter(now, envelope, node, &hello.description, age)?;
                (id, header.source_incarnation)
            }
            Party::Any => self.client_of_greeter(now, envelope, hello, age)?,
        };
        self.adopt_greeter(now, envelope, hello, id, incarnation, age);
        let offer = answering.as_ref().map(|(_, offer)| *offer);
        if let Some((session, offer)) = answering {
            let answered = Answered { nonce_a: hello.nonce_a, packet: header.packet.0, offer };
            self.install_answered(id, answered, *session);
        }
        self.send_welcome(envelope, hello, id, incarnation, offer);
        Ok(())
    }

    /// The link on which a proven node is adopted.
    fn link_of_greeter(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        node: NodeId,
        greeter: &Description,
        cookie_age: Duration,
    ) -> Result<LinkId, DropReason> {
        let header = &envelope.header;
        if header.source == self.core.party() || header.source_incarnation.0 == 0 {
            return Err(DropReason::StaleSourceIncarnation);
        }
        if let Some(&id) = self.by_node.get(&node) {
            let link = self.links.get_mut(&id).ok_or(DropReason::OverLimit)?;
            if may_take_over(now, &self.core, link, header, greeter) {
                return Ok(id);
            }
            let boot = (header.source_incarnation, greeter.boot_nonce);
            link.note_copy(&mut self.core, now - cookie_age, Identity { node, store: greeter.store }, boot);
            return Err(DropReason::StaleSourceIncarnation);
        }
        let waiting = self.greetings.values().copied().find(|id| {
            self.links.get(id).is_some_and(|link| {
                link.peer.is_none()
                    && (link.expect == Some(node) || (link.expect.is_none() && link.address == envelope.from))
            })
        });
        if let Some(id) = waiting {
            return Ok(id);
        }
        if self.links.len() - self.by_client.len() >= self.core.config.links_max {
            return Err(DropReason::OverLimit);
        }
        Ok(self.new_link(now, envelope.from))
    }

    /// The link on which a proven client is adopted, and its incarnation: the one it had if it names it or repeats
    /// its confirm, otherwise one never given before. A confirm that is late, because the client greeted anew since,
    /// changes nothing. `[W-19]`
    fn client_of_greeter(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        hello: &Hello,
        cookie_age: Duration,
    ) -> Result<(LinkId, Incarnation), DropReason> {
        let nonce = hello.description.boot_nonce;
        let known = self.by_client_nonce.get(&nonce).copied();
        if let Some((id, link)) = known.and_then(|id| self.links.get(&id).map(|link| (id, link)))
            && let Some(peer) = link.peer
        {
            let named = envelope.header.source_incarnation == peer.info.incarnation;
            if named || peer.nonce_a == hello.nonce_a {
                return Ok((id, peer.info.incarnation));
            }
            if now - cookie_age < link.greeted_at {
                return Err(DropReason::StaleSourceIncarnation);
            }
            self.close_link(id, CloseReason::Replaced);
        }
        self.make_room_for_client(now)?;
        let incarnation = self.core.next_client().ok_or(DropReason::OverLimit)?;
        let id = self.new_link(now, envelope.from);
        self.by_client.insert(incarnation, id);
        self.by_client_nonce.insert(nonce, id);
        Ok((id, incarnation))
    }

    /// The client silent longest gives way when the table is full.
    fn make_room_for_client(&mut self, now: Instant) -> Result<(), DropReason> {
        if self.by_client.len() < self.core.config.clients_max {
            return Ok(());
        }
        let oldest = self
            .by_client
            .values()
            .filter_map(|id| self.links.get(id))
            .map(|link| (link.last_heard, link.id))
            .min()
            .filter(|(heard, _)| now.saturating_since(*heard) >= CLIENT_SILENCE_MIN);
        let (_, id) = oldest.ok_or(DropReason::OverLimit)?;
        self.close_link(id, CloseReason::Idle);
        Ok(())
    }

    fn adopt_greeter(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        hello: &Hello,
        id: LinkId,
        incarnation: Incarnation,
        cookie_age: Duration,
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        // A late copy of a confirm must not move the link back to where the peer was. `[W-27]`
        let is_late = link.peer.is_some_and(|peer| peer.info.incarnation == incarnation)
            && link.received.largest().is_some_and(|largest| largest > envelope.header.packet.0);
        if is_late {
            return;
        }
        if let Some(handshake) = link.handshake {
            self.greetings.remove(&handshake.nonce_a);
        }
        link.greeted_at = now - cookie_age;
        if link.rtt.measured().is_none() && cookie_age < Duration::from_secs(1) {
            link.rtt.sample(now, cookie_age, Duration::ZERO);
        }
        let is_tagged = envelope.header.cluster_tag != 0;
        link.set_cluster(if is_tagged { self.core.local.cluster } else { ClusterId::ZERO });
        let answerer = Some((envelope.header.source, incarnation));
        let trust = self.core.trust(envelope.cover);
        let peer = peer_of(answerer, hello.nonce_a, &hello.description, envelope.from, trust);
        let local = self.core.incarnation();
        let earlier = link.address;
        link.adopt(now, &mut self.core, peer, local);
        if earlier != envelope.from && self.by_address.get(&earlier) == Some(&id) {
            self.by_address.remove(&earlier);
        }
        if let Party::Node(node) = envelope.header.source {
            self.by_node.insert(node, id);
        }
        self.by_address.insert(envelope.from, id);
        self.touch(id);
    }

    fn send_welcome(
        &mut self,
        envelope: &Envelope,
        hello: &Hello,
        id: LinkId,
        incarnation: Incarnation,
        offer: Option<SealOffer>,
    ) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let number = link.take_number();
        let header = &envelope.header;
        let core = &mut self.core;
        // `[W-19]`
        let destination_incarnation = match header.source {
            Party::Node(_) => header.source_incarnation,
            Party::Any => Incarnation::UNKNOWN,
        };
        let answer = core.stray_header(header.cluster_tag, header.source, destination_incarnation, number);
        let mut bytes = core.buffer();
        wire::begin(&mut bytes, &answer);
        Frame::Welcome(Welcome { nonce_a: hello.nonce_a, incarnation }).encode(&mut bytes);
        if let Some(offer) = offer {
            Frame::Seal(offer).encode(&mut bytes);
        }
        let cluster = core.local.cluster;
        core.transmit(envelope.from, bytes, cluster, envelope.cover);
    }
}

/// Incarnations order the boots of one store. Of another store of the same id the link is only taken over when its
/// present peer is silent. `[W-21]`
fn may_take_over(now: Instant, core: &Core, link: &Link, header: &Header, greeter: &Description) -> bool {
    let Some(peer) = link.peer else {
        return true;
    };
    let is_same_store = peer.info.identity.is_some_and(|identity| identity.store == greeter.store);
    if !is_same_store {
        let silence = now.saturating_since(link.last_heard);
        return link.is_parked || silence >= TAKE_OVER_HEARTBEATS * core.heartbeat();
    }
    let (known, claimed) = (peer.info.incarnation, header.source_incarnation);
    let is_same_boot = claimed == known && peer.info.boot_nonce == greeter.boot_nonce;
    claimed > known || is_same_boot || mutant::is(Mutant::I9)
}

pub(super) fn peer_of(
    source: Option<(Party, Incarnation)>,
    nonce_a: u64,
    description: &Description,
    address: SocketAddr,
    trust: Trust,
) -> Peer {
    let (party, incarnation) = source.unwrap_or((Party::Any, Incarnation::UNKNOWN));
    let identity = match party {
        Party::Node(node) => Some(Identity { node, store: description.store }),
        Party::Any => None,
    };
    Peer {
        info: PeerInfo {
            identity,
            incarnation,
            boot_nonce: description.boot_nonce,
            cluster: description.cluster,
            greeting: description.greeting,
            election_timeout_min: Duration::from_micros(description.election_timeout_min_us),
            election_timeout_max: Duration::from_micros(description.election_timeout_max_us),
            heartbeat: Duration::from_micros(description.heartbeat_us),
            address,
            trust,
        },
        party,
        nonce_a,
        credit_bytes: description.credit_bytes,
        datagram_bytes_max: usize::from(description.datagram_bytes_max).max(HELLO_DATAGRAM_BYTES),
    }
}

/// What a cookie is bound to besides the address.
fn claims(header: &Header, hello: &Hello) -> Vec<u8> {
    let mut claims = Vec::with_capacity(64);
    claims.put_u64(hello.nonce_a);
    claims.put_u16(header.source.as_u16());
    claims.put_u32(header.source_incarnation.0);
    claims.put_bytes(&hello.description.store.0);
    claims.put_bytes(&hello.description.boot_nonce.0);
    claims
}

const CLIENT_SILENCE_MIN: Duration = Duration::from_secs(1);
const TAKE_OVER_HEARTBEATS: u32 = 4;
