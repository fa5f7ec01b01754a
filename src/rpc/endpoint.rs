//! The room's face: commands in, datagrams in, time in; outputs out.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use crate::mutant::{self, Mutant};
use crate::rng::Rng;
use crate::rpc::body::OutBody;
use crate::rpc::config::{ConfigError, Local, RpcConfig};
use crate::rpc::core::Core;
use crate::rpc::event::{CallError, CloseReason, Event, LinkId, Output, PeerInfo, SendErrorKind, Token};
use crate::rpc::link::Link;
use crate::rpc::stats::{LinkStats, RpcLoad, RpcStats};
use crate::time::Instant;
use crate::types::{BootNonce, CallId, ClusterId, Incarnation, NodeId, PacketNumber};
use crate::wire::{CallRefusal, Class, DropReason};

/// The whole room: every link of one node or client.
///
/// After any mutation drain [`Self::poll_output`] until `None`. Call [`Self::flush`] at the end of each turn, when
/// everything that arrived was handed in and everything it led to was said: it packs datagrams. A driver that
/// forgets is asked to by [`Self::poll_timeout`].
#[derive(Debug)]
pub struct Rpc {
    pub(super) core: Core,
    pub(super) links: BTreeMap<LinkId, Box<Link>>,
    /// Links with an adopted node at the other end.
    pub(super) by_node: BTreeMap<NodeId, LinkId>,
    /// Links with a client at the other end, by the incarnation it was given.
    pub(super) by_client: BTreeMap<Incarnation, LinkId>,
    pub(super) by_client_nonce: BTreeMap<BootNonce, LinkId>,
    /// The link last opened or moved to an address.
    pub(super) by_address: BTreeMap<SocketAddr, LinkId>,
    /// Handshakes of this end under way, by nonce.
    pub(super) greetings: BTreeMap<u64, LinkId>,
    last_now: Instant,
}

impl Rpc {
    /// A room without links.
    pub fn new(config: RpcConfig, local: Local, rng: Rng, now: Instant) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            core: Core::new(config, local, rng),
            links: BTreeMap::new(),
            by_node: BTreeMap::new(),
            by_client: BTreeMap::new(),
            by_client_nonce: BTreeMap::new(),
            by_address: BTreeMap::new(),
            greetings: BTreeMap::new(),
            last_now: now,
        })
    }

    // --- Commands.

    /// Opens a link to whoever is at the address, or only to the node expected there. Where there is one already, it
    /// is that one: by the node, moved to this address unless it is heard from another, or by the address.
    pub fn connect(&mut self, now: Instant, address: SocketAddr, expect: Option<NodeId>) -> LinkId {
        self.last_now = now;
        let known = self.link_for(address, expect);
        let id = known.unwrap_or_else(|| self.new_link(now, address));
        if let Some(link) = self.links.get_mut(&id) {
            link.expect = expect.or(link.expect);
            // Whoever named the address, the node itself is heard from where it is.
            let is_heard = link.peer.is_some() && !link.is_silent && !link.is_parked;
            if is_heard && link.address != address {
                return id;
            }
        }
        self.move_link(id, address);
        self.greet(now, id);
        self.touch(id);
        id
    }

    fn link_for(&self, address: SocketAddr, expect: Option<NodeId>) -> Option<LinkId> {
        let by_address = || {
            let link = self.links.get(self.by_address.get(&address)?)?;
            let is_node = link.peer.is_none_or(|peer| peer.info.identity.is_some());
            let is_expected =
                expect.is_none() || link.peer.is_none() && link.expect.is_none_or(|it| Some(it) == expect);
            (is_node && is_expected).then_some(link.id)
        };
        let by_node = expect.and_then(|node| self.by_node.get(&node).copied());
        let by_wish = || {
            let mut links = self.links.values();
            links
                .find(|link| expect.is_some() && link.peer.is_none() && link.expect == expect)
                .map(|link| link.id)
        };
        by_node.or_else(by_wish).or_else(by_address)
    }

    fn move_link(&mut self, id: LinkId, address: SocketAddr) {
        if let Some(link) = self.links.get_mut(&id) {
            if link.address != address && self.by_address.get(&link.address) == Some(&id) {
                self.by_address.remove(&link.address);
            }
            link.move_to(address);
            self.by_address.insert(address, id);
        }
    }

    /// Ends a link: its open calls fail, its tokens go stale. What must be remembered of a node's incarnation, so
    /// that no call is carried out twice should it come back, is kept.
    pub fn close(&mut self, now: Instant, id: LinkId) {
        self.last_now = now;
        if self.links.get(&id).is_some_and(|link| !link.is_parked) {
            self.close_link(id, CloseReason::Local);
        }
    }

    /// Moves a link to another address, where the peer has to prove itself; calls go on meanwhile.
    pub fn set_address(&mut self, now: Instant, id: LinkId, address: SocketAddr) {
        self.last_now = now;
        if self.links.get(&id).is_some_and(|link| link.address != address) {
            self.move_link(id, address);
            self.greet(now, id);
            self.touch(id);
        }
    }

    /// Makes a call; it is sent at the next flush, or as soon as the link is open. It ends exactly once: by
    /// [`Event::Reply`], by [`Event::CallFailed`] or by [`Self::cancel`].
    pub fn call(
        &mut self,
        now: Instant,
        id: LinkId,
        class: Class,
        body: Vec<u8>,
    ) -> Result<CallId, CallError> {
        self.last_now = now;
        let core = &mut self.core;
        let link = self.links.get_mut(&id).filter(|link| !link.is_parked || link.handshake.is_some());
        let link = link.ok_or(CallError::UnknownLink)?;
        let bytes_max = link.body_bytes_max(core);
        if body.len() > bytes_max {
            return Err(CallError::TooLarge { bytes_max });
        }
        if link.caller.table_count() >= core.config.calls_open_max
            || link.caller.body_bytes() + body.len() > core.config.call_bytes_max
        {
            return Err(CallError::Busy);
        }
        let call = link.take_call_id(core);
        link.caller.open(call, class, OutBody::new(body, link.cut()));
        self.touch(id);
        Ok(call)
    }

    /// Ends a call without an answer; true when it was open. The callee is told, but may have carried it out.
    pub fn cancel(&mut self, now: Instant, id: LinkId, call: CallId) -> bool {
        self.last_now = now;
        let was_open = self.links.get_mut(&id).is_some_and(|link| {
            let was_open = link.caller.cancel(call);
            link.recount(&mut self.core);
            was_open
        });
        if was_open {
            self.touch(id);
        }
        was_open
    }

    /// Answers a request; false when nobody waits for the answer any more.
    pub fn reply(&mut self, now: Instant, token: Token, body: Vec<u8>) -> bool {
        self.last_now = now;
        let Some(link) = self.links.get_mut(&token.link).filter(|link| link.epoch == token.epoch) else {
            return false;
        };
        if body.len() > link.body_bytes_max(&self.core) {
            let is_executing = link.callee.is_executing(token.call);
            if is_executing {
                link.callee.refuse(token.call, REPLY_TOO_LARGE);
                self.touch(token.link);
            }
            return is_executing;
        }
        let was_taken = link.callee.reply(token.call, OutBody::new(body, link.cut()));
        if was_taken {
            self.touch(token.link);
        }
        was_taken
    }

    /// Says something once; it may get lost, and on a lossy link come twice. When too many wait, the oldest goes.
    pub fn notice(&mut self, now: Instant, id: LinkId, body: Vec<u8>) -> Result<(), CallError> {
        self.last_now = now;
        let core = &self.core;
        let link = self.links.get_mut(&id).filter(|link| link.is_open()).ok_or(CallError::UnknownLink)?;
        let bytes_max = link.cut().whole_max;
        if body.len() > bytes_max {
            return Err(CallError::TooLarge { bytes_max });
        }
        if link.notices.len() >= core.config.notices_max {
            link.notices.pop_front();
        }
        link.notices.push_back(body);
        self.touch(id);
        Ok(())
    }

    /// Gives back a transmitted datagram's vector.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        self.core.recycle(bytes);
    }

    // --- Input.

    /// Takes in a datagram, whatever it holds; tells why, if it drops it. `received` grows by one, and so does
    /// either `accepted` or one of `drops`.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Option<DropReason> {
        self.last_now = now;
        self.core.stats.received += 1;
        let dropped = self.receive(now, from, bytes).err();
        match dropped {
            None => self.core.stats.accepted += 1,
            Some(reason) => self.core.stats.count_drop(reason),
        }
        dropped
    }

    /// Whatever is due by now. Harmless when nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.last_now = now;
        while let Some(&(at, id)) = self.core.deadlines.first() {
            if at > now {
                break;
            }
            self.core.deadlines.pop_first();
            self.on_deadline(now, id);
        }
        self.flush(now);
    }

    /// The socket did not send a datagram: a loss like any other, but for its size.
    pub fn handle_send_error(&mut self, now: Instant, to: SocketAddr, kind: SendErrorKind) {
        self.last_now = now;
        self.core.stats.send_errors += 1;
        if mutant::is(Mutant::U12)
            && let Some(&id) = self.by_address.get(&to)
        {
            return self.close_link(id, CloseReason::Local);
        }
        if kind == SendErrorKind::MessageTooLong {
            let links = self.links.values_mut().filter(|link| link.address == to);
            links.for_each(|link| link.on_too_long());
        }
    }

    /// The end of a turn: packs all that is due into datagrams.
    pub fn flush(&mut self, now: Instant) {
        self.last_now = now;
        let mut dirty = std::mem::take(&mut self.core.dirty);
        for id in dirty.drain(..) {
            if let Some(link) = self.links.get_mut(&id) {
                link.is_dirty = false;
                link.pack(now, &mut self.core);
                let is_greeter = self.core.is_client() || !link.is_client();
                if link.seal.is_exhausted() && is_greeter && link.is_open() {
                    self.greet(now, id);
                }
            }
            if let Some(link) = self.links.get_mut(&id) {
                link.rearm(&mut self.core);
            }
        }
        self.core.dirty = dirty;
    }

    // --- Output.

    /// The next output, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called at the latest; it may turn out to be early.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.core.dirty.is_empty() {
            self.core.deadlines.first().map(|(at, _)| *at)
        } else {
            Some(self.last_now)
        }
    }

    // --- Getters.

    /// Counters of the room.
    #[must_use]
    pub fn stats(&self) -> &RpcStats {
        &self.core.stats
    }

    /// What the room holds.
    #[must_use]
    pub fn load(&self) -> RpcLoad {
        RpcLoad {
            links: self.links.len() - self.by_client.len(),
            clients: self.by_client.len(),
            greetings: self.greetings.len(),
            arriving_bytes: self.core.arriving_bytes,
        }
    }

    /// State and counters of a link.
    #[must_use]
    pub fn link_stats(&self, id: LinkId) -> Option<LinkStats> {
        self.links.get(&id).map(|link| link.stats())
    }

    /// The proven peer of a link.
    #[must_use]
    pub fn peer(&self, id: LinkId) -> Option<PeerInfo> {
        self.links.get(&id)?.peer.map(|peer| peer.info)
    }

    /// The link to a node, once it was proven.
    #[must_use]
    pub fn link_to(&self, node: NodeId) -> Option<LinkId> {
        self.by_node.get(&node).copied().filter(|id| self.links.get(id).is_some_and(|link| link.is_open()))
    }

    /// All links, in order.
    pub fn links(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.links.values().filter(|link| !link.is_parked).map(|link| link.id)
    }

    /// The cluster: of a node its own, of a client the one it learned; zero when there is none.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.core.local.cluster
    }

    /// The largest body that goes to this peer in one datagram, as call, reply or notice.
    #[must_use]
    pub fn whole_body_bytes_max(&self, id: LinkId) -> Option<usize> {
        self.links.get(&id).map(|link| link.cut().whole_max)
    }

    /// The lowest packet number never used: what a successor of this room in the same process begins with.
    #[must_use]
    pub fn next_packet(&self) -> PacketNumber {
        let links = self.links.values().map(|link| link.next_packet);
        PacketNumber(links.fold(self.core.next_packet, u64::max))
    }

    /// Bytes being put together in the room, and credit of the peer in use on the link.
    #[cfg(test)]
    pub(super) fn arriving_bytes_and_credit(&self, id: LinkId) -> (usize, u64) {
        (self.core.arriving_bytes, self.links.get(&id).map_or(0, |link| link.credit_used))
    }

    // --- Inside.

    /// Marks a link as having something to send or to wait for.
    pub(super) fn touch(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_dirty) {
            link.is_dirty = true;
            self.core.dirty.push(id);
        }
    }

    pub(super) fn new_link(&mut self, now: Instant, address: SocketAddr) -> LinkId {
        let id = self.core.next_link();
        let before = self.by_address.insert(address, id).and_then(|id| self.links.get(&id));
        // What the link before may still say to this address it says in lower numbers. `[W-3]`
        let first_packet =
            before.map_or(0, |link| link.next_packet + NUMBERS_LEFT).max(self.core.next_packet);
        self.links.insert(id, Box::new(Link::new(now, id, address, first_packet, &self.core)));
        id
    }

    /// Ends a link. One to a node whose incarnation was adopted is parked, not forgotten, when its owner closes it.
    pub(super) fn close_link(&mut self, id: LinkId, reason: CloseReason) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let is_parked =
            reason == CloseReason::Local && link.peer.is_some_and(|peer| peer.info.identity.is_some());
        for (call, failure) in link.caller.fail_all() {
            self.core.event(Event::CallFailed { link: id, call, reason: failure });
        }
        if let Some(handshake) = link.handshake.take() {
            self.greetings.remove(&handshake.nonce_a);
        }
        link.recount(&mut self.core);
        self.core.event(Event::Closed { link: id, reason });
        if is_parked {
            link.park();
            return;
        }
        if let Some(mut link) = self.links.remove(&id) {
            link.forget(&mut self.core);
            self.by_node.retain(|_, known| *known != id);
            if self.by_address.get(&link.address) == Some(&id) {
                self.by_address.remove(&link.address);
            }
            if let Some(peer) = link.peer.filter(|peer| peer.info.identity.is_none()) {
                self.by_client.remove(&peer.info.incarnation);
                self.by_client_nonce.remove(&peer.info.boot_nonce);
            }
        }
    }

    fn on_deadline(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.armed = None;
        if link.idle_at(&self.core).is_some_and(|at| at <= now) {
            self.close_link(id, CloseReason::Idle);
            return;
        }
        link.on_timeout(now, &mut self.core);
        // A silent peer may have restarted, or its links may have been forgotten: greet it, at the pace of hellos.
        let is_greeter = self.core.is_client() || !link.is_client();
        if link.is_silent && link.handshake.is_none() && is_greeter {
            self.greet(now, id);
        }
        self.send_greeting(now, id);
        self.touch(id);
    }
}

/// The call was carried out and its answer is larger than the caller takes: not one of the wire's three reasons, all
/// of which mean "not carried out" or "not known".
const REPLY_TOO_LARGE: CallRefusal = CallRefusal::Other(4);

/// The packet numbers that are left to a link when another one is made to its address: enough for the greetings that it
/// may still send, and few enough for the replay window of a peer that takes both links' datagrams for one sender's.
const NUMBERS_LEFT: u64 = 512;
