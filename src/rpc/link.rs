//! One link: everything between this end and one peer, across the peer's restarts.

use core::net::SocketAddr;
use core::ops::Range;
use std::collections::VecDeque;

use crate::mutant::{self, Mutant};
use crate::rpc::body::Cut;
use crate::rpc::callee::{Callee, CalleeBounds};
use crate::rpc::caller::Caller;
use crate::rpc::core::Core;
use crate::rpc::cover::Cover;
use crate::rpc::event::{Event, LinkId, PeerInfo};
use crate::rpc::link_seal::LinkSeal;
use crate::rpc::probe::Probe;
use crate::rpc::received::Received;
use crate::rpc::replay::ReplayWindow;
use crate::rpc::rtt::Rtt;
use crate::rpc::sent::SentPackets;
use crate::rpc::stats::{LinkCounters, LinkStats};
use crate::rpc::window::{LossMeter, Window, WindowBounds};
use crate::time::Instant;
use crate::types::{BootNonce, CallId, ClusterId, Identity, Incarnation, NodeId, PacketNumber};
use crate::wire::{Description, Header, Party};

/// A handshake under way at its initiator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake {
    pub(super) nonce_a: u64,
    pub(super) step: Step,
    /// Datagrams sent in this step.
    pub(super) tries: u32,
    pub(super) sent_at: Instant,
    /// When the step's datagram goes out (again).
    pub(super) next_at: Instant,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Hello is out.
    Hello,
    /// Hello-ack came; confirm is out.
    Confirm(Answerer),
}

/// Who answered a hello: proven to be at the address, not yet adopted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answerer {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) nonce_b: u64,
    pub(super) description: Description,
    /// What its answer was covered by; the confirm is covered likewise.
    pub(super) cover: Cover,
}

/// The adopted other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) info: PeerInfo,
    pub(super) party: Party,
    /// The handshake that adopted it.
    pub(super) nonce_a: u64,
    /// Bytes of unfinished large bodies it takes.
    pub(super) credit_bytes: u64,
    pub(super) datagram_bytes_max: usize,
}

/// One link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) address: SocketAddr,
    /// The node the owner expects there.
    pub(super) expect: Option<NodeId>,
    /// Set by a proven handshake only, and never unset.
    pub(super) peer: Option<Peer>,
    pub(super) handshake: Option<Handshake>,
    /// The owner closed it, and it is kept for what it must remember of its peer's incarnation.
    pub(super) is_parked: bool,
    /// The cluster under whose tag its datagrams go; zero between blank nodes.
    pub(super) cluster: ClusterId,
    /// Its tag.
    pub(super) tag: u32,
    /// This end's incarnation on the link: a client has one per link.
    pub(super) local_incarnation: Incarnation,
    /// Counts incarnation pairs; tokens carry it.
    pub(super) epoch: u32,
    /// Never restarts, also not for another incarnation of the peer.
    pub(super) next_packet: u64,
    pub(super) received: Received,
    pub(super) replay: ReplayWindow,
    pub(super) seal: LinkSeal,
    pub(super) sent: SentPackets,
    pub(super) rtt: Rtt,
    pub(super) probe: Probe,
    pub(super) window: Window,
    pub(super) loss: LossMeter,
    /// Bytes of the peer's credit in use.
    pub(super) credit_used: u64,
    pub(super) caller: Caller,
    /// Ids for calls, unique in the room and consecutive on the link, so that closed ones make few ranges.
    call_ids: Range<u64>,
    pub(super) callee: Callee,
    pub(super) notices: VecDeque<Vec<u8>>,
    /// Packets and notices to be sent a second time. `[W-33]`
    pub(super) copies: VecDeque<(Instant, u64)>,
    pub(super) notice_copies: VecDeque<(Instant, Vec<u8>)>,
    /// The datagram size, lowered when the socket says so.
    pub(super) datagram_bytes_max: usize,
    /// What the seal takes of it.
    pub(super) seal_bytes: usize,
    pub(super) last_heard: Instant,
    /// When the peer's present boot was adopted.
    adopted_at: Instant,
    /// When the cookie was made by which it was adopted: handshakes that began earlier are late.
    pub(super) greeted_at: Instant,
    /// The boot of a copy of its data folder that the owner was told of last.
    copy_told: Option<(Incarnation, BootNonce)>,
    pub(super) last_hello_at: Instant,
    /// A frame that asks for an acknowledgement and says nothing is due.
    pub(super) wants_ping: bool,
    /// What is packed next repeats a packet; it is not repeated in turn.
    pub(super) is_copying: bool,
    /// Datagrams that may go out beyond the window: probes.
    pub(super) probes_due: u32,
    pub(super) is_silent: bool,
    pub(super) counters: LinkCounters,
    /// Its entry in the table of deadlines.
    pub(super) armed: Option<Instant>,
    pub(super) is_dirty: bool,
    /// What of `core.arriving_bytes` is this link's.
    arriving_counted: usize,
}

impl Link {
    pub(super) fn new(now: Instant, id: LinkId, address: SocketAddr, first_packet: u64, core: &Core) -> Self {
        let config = &core.config;
        let bounds = WindowBounds { bytes_min: config.window_bytes_min, bytes_max: config.window_bytes_max };
        Self {
            id,
            address,
            expect: None,
            peer: None,
            handshake: None,
            is_parked: false,
            cluster: core.local.cluster,
            tag: core.tag,
            local_incarnation: core.incarnation(),
            epoch: 0,
            next_packet: first_packet,
            received: Received::default(),
            replay: ReplayWindow::new(),
            seal: LinkSeal::default(),
            sent: SentPackets::new(first_packet),
            rtt: Rtt::new(config.rtt_guess),
            probe: Probe::default(),
            window: Window::new(bounds),
            loss: LossMeter::default(),
            credit_used: 0,
            caller: Caller::default(),
            call_ids: 0..0,
            callee: Callee::default(),
            notices: VecDeque::new(),
            copies: VecDeque::new(),
            notice_copies: VecDeque::new(),
            datagram_bytes_max: config.datagram_bytes_max,
            seal_bytes: core.seal_bytes(),
            last_heard: now,
            adopted_at: now,
            greeted_at: Instant::ZERO,
            copy_told: None,
            last_hello_at: Instant::ZERO,
            wants_ping: false,
            is_copying: false,
            probes_due: 0,
            is_silent: false,
            counters: LinkCounters::default(),
            armed: None,
            is_dirty: false,
            arriving_counted: 0,
        }
    }

    /// True when datagrams other than the handshake's may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.peer.is_some() && !self.is_parked
    }

    /// True when a client is at the other end, or nobody yet: whoever greets there is not this end.
    pub(super) fn is_client(&self) -> bool {
        self.peer.is_none_or(|peer| peer.info.identity.is_none())
    }

    /// Sets the cluster under whose tag its datagrams go.
    pub(super) fn set_cluster(&mut self, cluster: ClusterId) {
        self.cluster = cluster;
        self.tag = cluster.tag();
    }

    /// Moves it to another address.
    pub(super) fn move_to(&mut self, address: SocketAddr) {
        self.address = address;
        if let Some(peer) = &mut self.peer {
            peer.info.address = address;
        }
    }

    /// Its owner closed it: it says nothing more and remembers what it must.
    pub(super) fn park(&mut self) {
        self.is_parked = true;
        self.notices.clear();
        self.notice_copies.clear();
        self.copies.clear();
        self.is_silent = false;
    }

    /// It is gone: what it used up stays used, what it held is given back.
    pub(super) fn forget(&mut self, core: &mut Core) {
        self.caller = Caller::default();
        self.callee = Callee::default();
        self.recount(core);
        self.seal.clear(core);
        core.next_packet = core.next_packet.max(self.next_packet);
        if let Some(at) = self.armed.take() {
            core.deadlines.remove(&(at, self.id));
        }
    }

    /// The largest body for this peer, in either direction.
    pub(super) fn body_bytes_max(&self, core: &Core) -> usize {
        let credit = self.peer.map_or(u64::MAX, |peer| peer.credit_bytes);
        core.config.body_bytes_max.min(usize::try_from(credit).unwrap_or(usize::MAX))
    }

    /// How bodies are cut for it.
    pub(super) fn cut(&self) -> Cut {
        Cut::of(self.datagram_bytes_max - self.seal_bytes)
    }

    /// The next packet number, used up.
    pub(super) fn take_number(&mut self) -> u64 {
        let number = self.next_packet;
        self.next_packet += 1;
        number
    }

    /// An id for a call, used up. `[W-35]`
    pub(super) fn take_call_id(&mut self, core: &mut Core) -> CallId {
        if self.call_ids.is_empty() {
            self.call_ids = core.next_call_ids();
        }
        let id = self.call_ids.start;
        self.call_ids.start += 1;
        CallId(id)
    }

    /// The header of a datagram inside the link.
    pub(super) fn header(&self, core: &Core, peer: &Peer, number: u64) -> Header {
        Header {
            flags: core.flags(),
            cluster_tag: self.tag,
            source: core.party(),
            destination: peer.party,
            source_incarnation: self.local_incarnation,
            destination_incarnation: peer.info.incarnation,
            packet: PacketNumber(number),
        }
    }

    /// Adopts a proven peer. For another incarnation pair everything that belonged to the earlier one ends: calls
    /// sent, calls served, packets in flight. Packet numbers, call ids and the measured path go on, and for the
    /// same pair everything does. `[W-20]`
    pub(super) fn adopt(&mut self, now: Instant, core: &mut Core, peer: Peer, local: Incarnation) {
        let is_same_pair = self.peer.is_some_and(|known| is_same_incarnation(&known, &peer))
            && self.local_incarnation == local;
        let was_parked = std::mem::take(&mut self.is_parked);
        self.handshake = None;
        self.note_heard(now, core);
        self.datagram_bytes_max = core.config.datagram_bytes_max.min(peer.datagram_bytes_max);
        self.address = peer.info.address;
        self.peer = Some(peer);
        if is_same_pair {
            if was_parked {
                core.event(Event::Connected { link: self.id, peer: peer.info });
            }
            return;
        }
        self.local_incarnation = local;
        self.adopted_at = now;
        self.epoch += 1;
        self.received = Received::default();
        self.replay = ReplayWindow::new();
        self.sent = SentPackets::new(self.next_packet);
        self.probe = Probe::default();
        self.seal.clear(core);
        self.callee = Callee::default();
        self.credit_used = 0;
        self.copies.clear();
        self.notices.clear();
        self.notice_copies.clear();
        let failed = self.caller.on_new_pair(self.cut());
        for (call, reason) in failed {
            core.event(Event::CallFailed { link: self.id, call, reason });
        }
        self.recount(core);
        core.event(Event::Connected { link: self.id, peer: peer.info });
    }

    /// A greeter of the peer's store is not adopted. It is a copy, and not a late word of an earlier boot, when it
    /// answered a cookie that was given at `since`, after the present boot was adopted: then both are alive.
    pub(super) fn note_copy(
        &mut self,
        core: &mut Core,
        since: Instant,
        identity: Identity,
        boot: (Incarnation, BootNonce),
    ) {
        let is_of_it = self.peer.is_some_and(|peer| peer.info.identity == Some(identity));
        if is_of_it && since > self.adopted_at && self.copy_told != Some(boot) {
            self.copy_told = Some(boot);
            core.event(Event::Copied { link: self.id, identity, incarnation: boot.0 });
        }
    }

    /// A datagram of the peer's current incarnation arrived.
    pub(super) fn note_heard(&mut self, now: Instant, core: &mut Core) {
        self.last_heard = now;
        if std::mem::take(&mut self.is_silent) {
            core.event(Event::Heard { link: self.id });
        }
    }

    /// Keeps the room's count of bytes being put together true.
    pub(super) fn recount(&mut self, core: &mut Core) {
        let counted = self.callee.arriving_bytes() + self.caller.reply_bytes();
        core.arriving_bytes = core.arriving_bytes - self.arriving_counted + counted;
        self.arriving_counted = counted;
    }

    /// Bytes of large bodies that may still begin to arrive.
    pub(super) fn arriving_room(&self, core: &Core) -> usize {
        let counted = self.callee.arriving_bytes() + self.caller.reply_bytes();
        let of_link = usize::try_from(core.config.credit_bytes).unwrap_or(usize::MAX).saturating_sub(counted);
        let elsewhere = core.arriving_bytes - self.arriving_counted;
        of_link.min(core.config.reassembly_bytes_max.saturating_sub(elsewhere + counted))
    }

    /// What bounds the peer's calls just now.
    pub(super) fn callee_bounds(&self, core: &Core) -> CalleeBounds {
        CalleeBounds {
            calls_max: core.config.calls_served_max,
            reply_bytes_max: core.config.reply_bytes_max,
            body_bytes_max: core.config.body_bytes_max,
            room_bytes: self.arriving_room(core),
        }
    }

    pub(super) fn stats(&self) -> LinkStats {
        LinkStats {
            srtt: self.rtt.measured(),
            retransmits: self.counters.retransmits,
            duplicates: self.counters.duplicates,
            probes: self.counters.probes,
            spurious: self.counters.spurious,
            loss: self.loss.share(),
            in_flight_bytes: self.sent.in_flight_bytes(),
            window_bytes: self.window.bytes(),
            calls_open: self.caller.open_count(),
            calls_served: self.callee.open_count(),
            heard: self.last_heard,
        }
    }
}

fn is_same_incarnation(a: &Peer, b: &Peer) -> bool {
    let is_same_boot = (a.info.incarnation, a.info.boot_nonce) == (b.info.incarnation, b.info.boot_nonce);
    a.info.identity == b.info.identity && (is_same_boot || mutant::is(Mutant::U4))
}
