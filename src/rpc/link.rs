//! One link: everything between this end and one peer, across the peer's restarts.

use core::net::SocketAddr;
use core::ops::Range;
use core::time::Duration;
use std::collections::VecDeque;

use crate::rpc::body::Cut;
use crate::rpc::callee::{Callee, CalleeBounds};
use crate::rpc::caller::Caller;
use crate::rpc::core::Core;
use crate::rpc::event::{Event, LinkId, PeerInfo};
use crate::rpc::probe::Probe;
use crate::rpc::received::Received;
use crate::rpc::replay::ReplayWindow;
use crate::rpc::rtt::Rtt;
use crate::rpc::sent::{SentFrame, SentPackets};
use crate::rpc::stats::{LinkCounters, LinkStats};
use crate::rpc::window::{LossMeter, Window, WindowBounds};
use crate::time::{Instant, earliest};
use crate::types::{CallId, ClusterId, Incarnation, NodeId, PacketNumber};
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
    pub(super) last_heard: Instant,
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
            last_heard: now,
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
        core.next_packet = core.next_packet.max(self.next_packet);
        if let Some(at) = self.armed.take() {
            core.deadlines.remove(&(at, self.id));
        }
    }

    /// Enters its next deadline into the room's table, unless an earlier entry will do.
    pub(super) fn rearm(&mut self, core: &mut Core) {
        let Some(next) = self.deadline(core) else {
            return;
        };
        match self.armed {
            Some(at) if at <= next => return,
            Some(at) => {
                core.deadlines.remove(&(at, self.id));
            }
            None => {}
        }
        self.armed = Some(next);
        core.deadlines.insert((next, self.id));
    }

    /// The largest body for this peer, in either direction.
    pub(super) fn body_bytes_max(&self, core: &Core) -> usize {
        let credit = self.peer.map_or(u64::MAX, |peer| peer.credit_bytes);
        core.config.body_bytes_max.min(usize::try_from(credit).unwrap_or(usize::MAX))
    }

    /// How bodies are cut for it.
    pub(super) fn cut(&self) -> Cut {
        Cut::of(self.datagram_bytes_max)
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
    /// sent, calls served, packets in flight. Packet numbers, call ids and the measured path go on.
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
        self.epoch += 1;
        self.received = Received::default();
        self.replay = ReplayWindow::new();
        self.sent = SentPackets::new(self.next_packet);
        self.probe = Probe::default();
        self.callee = Callee::default();
        self.credit_used = 0;
        self.copies.clear();
        self.notices.clear();
        self.notice_copies.clear();
        let failed = self.caller.on_new_pair(Cut::of(self.datagram_bytes_max));
        for (call, reason) in failed {
            core.event(Event::CallFailed { link: self.id, call, reason });
        }
        self.recount(core);
        core.event(Event::Connected { link: self.id, peer: peer.info });
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

    /// The next moment at which [`Self::on_timeout`] has something to do.
    pub(super) fn deadline(&self, core: &Core) -> Option<Instant> {
        let mut next = self.handshake.map(|handshake| handshake.next_at);
        if !self.is_open() {
            return next;
        }
        next = earliest(next, self.sent.loss_at());
        if self.sent.in_flight_count() > 0 {
            next = earliest(next, Some(self.probe_at(core)));
        }
        next = earliest(next, self.keep_at(core));
        next = earliest(next, self.copies.front().map(|copy| copy.0));
        next = earliest(next, self.notice_copies.front().map(|copy| copy.0));
        earliest(next, self.idle_at(core))
    }

    /// When the next probe is due, if anything is in flight.
    pub(super) fn probe_at(&self, core: &Core) -> Instant {
        if self.is_silent {
            return self.probe.last_sent() + core.heartbeat();
        }
        self.probe.at(self.rtt.probe_timeout(core.config.granularity), core.probe_timeout_max())
    }

    /// When a ping is due because calls wait for answers, the peer is to be told of finished calls, or a client
    /// would be forgotten.
    pub(super) fn keep_at(&self, core: &Core) -> Option<Instant> {
        if self.sent.in_flight_count() > 0 {
            return None;
        }
        let quiet_since = self.last_heard.max(self.probe.last_sent());
        if self.caller.open_count() > 0 || !self.caller.finished.is_empty() {
            return Some(quiet_since + core.heartbeat());
        }
        core.is_client().then(|| quiet_since + core.config.client_idle_max / 3)
    }

    /// When a client's link is closed.
    pub(super) fn idle_at(&self, core: &Core) -> Option<Instant> {
        let is_client = self.peer.is_some_and(|peer| peer.info.identity.is_none());
        is_client.then(|| self.last_heard + core.config.client_idle_max)
    }

    /// Whatever is due by now, except the handshake's timer and a client's idle close, which are the room's.
    pub(super) fn on_timeout(&mut self, now: Instant, core: &mut Core) {
        if !self.is_open() {
            return;
        }
        if self.sent.loss_at().is_some_and(|at| at <= now) {
            self.detect_lost(now, core);
        }
        if self.sent.in_flight_count() > 0 && self.probe_at(core) <= now {
            self.on_probe_timeout(now, core);
        }
        if self.keep_at(core).is_some_and(|at| at <= now) {
            self.wants_ping = true;
        }
        while let Some(&(at, number)) = self.copies.front() {
            if at > now {
                break;
            }
            self.copies.pop_front();
            let frames: Vec<SentFrame> = self.sent.frames_in_flight_of(number).collect();
            for frame in frames {
                self.is_copying |= self.repeat(frame);
            }
        }
    }

    /// RFC 9002 §6.2.4: a probe repeats what is in flight, oldest first, as much as one datagram holds, and declares
    /// nothing lost.
    fn on_probe_timeout(&mut self, now: Instant, core: &mut Core) {
        self.counters.probes += 1;
        self.probe.on_timeout();
        let is_long = now.saturating_since(self.last_heard) >= core.heartbeat();
        if self.probe.count() >= SILENT_AFTER && is_long && !self.is_silent {
            self.is_silent = true;
            core.event(Event::Silent { link: self.id });
        }
        if self.is_silent {
            let mut lost = std::mem::take(&mut core.scratch.lost);
            self.sent.abandon_all_but(SILENT_PACKETS_MAX, &mut lost);
            self.repeat_lost(&lost);
            core.scratch.lost = lost;
        }
        self.probes_due = 1;
        let mut frames = std::mem::take(&mut core.scratch.frames);
        frames.clear();
        frames.extend(self.sent.in_flight_frames().take(PROBE_FRAMES_MAX));
        // The queues take repeated bodies at the front, so the oldest goes in last.
        for &frame in frames.iter().rev() {
            self.repeat(frame);
        }
        core.scratch.frames = frames;
        // Should none of it be wanted any more, something must go out all the same, or the timer stays due.
        self.wants_ping = true;
    }

    /// Has a frame sent again in whatever packet comes next; false when it is no longer wanted.
    pub(super) fn repeat(&mut self, frame: SentFrame) -> bool {
        match frame {
            SentFrame::Request { call, part } => self.caller.repeat(call, |body| body.repeat_part(part)),
            SentFrame::Reply { call, part } => self.callee.repeat(call, |body| body.repeat_part(part)),
            SentFrame::Cancel { call } => self.caller.on_cancel_lost(call),
            SentFrame::Refused { call } => self.callee.on_refusal_lost(call),
            SentFrame::Finished { low, high } => {
                self.caller.finished.insert(low, high);
                true
            }
            SentFrame::Ping => false,
        }
    }

    /// Declares packets lost and has their frames sent again, unless a later packet carries them.
    pub(super) fn detect_lost(&mut self, now: Instant, core: &mut Core) {
        let mut lost = std::mem::take(&mut core.scratch.lost);
        lost.clear();
        let loss_delay = self.rtt.loss_delay(core.config.granularity);
        let count = self.sent.detect_lost(now, loss_delay, self.rtt.min(), &mut lost);
        self.loss.note(0, count);
        self.repeat_lost(&lost);
        core.scratch.lost = lost;
    }

    /// The queues take repeated bodies at the front, so the oldest goes in last.
    fn repeat_lost(&mut self, lost: &[(u64, SentFrame)]) {
        for &(number, frame) in lost.iter().rev() {
            match frame {
                SentFrame::Request { call, part } => {
                    self.caller.repeat(call, |body| body.on_lost(part, number));
                }
                SentFrame::Reply { call, part } => {
                    self.callee.repeat(call, |body| body.on_lost(part, number));
                }
                other => {
                    self.repeat(other);
                }
            }
        }
    }

    /// The socket says that datagrams of this size do not go out: fall back to what every path takes, and cut large
    /// bodies anew.
    pub(super) fn on_too_long(&mut self) {
        if self.datagram_bytes_max <= SAFE_DATAGRAM_BYTES {
            return;
        }
        self.datagram_bytes_max = SAFE_DATAGRAM_BYTES;
        let cut = self.cut();
        self.caller.cut_anew(cut);
        self.callee.cut_anew(cut);
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
        }
    }

    /// How long lost packets are remembered, to notice that they were not.
    pub(super) fn keep_lost(&self, core: &Core) -> Duration {
        3 * self.rtt.probe_timeout(core.config.granularity)
    }
}

fn is_same_incarnation(a: &Peer, b: &Peer) -> bool {
    (a.info.identity, a.info.incarnation, a.info.boot_nonce)
        == (b.info.identity, b.info.incarnation, b.info.boot_nonce)
}

/// Probe timeouts without an acknowledgement before a peer may count as silent: falling back after three would cost
/// a p99 of 46 ms instead of 3 ms at 30 % loss.
const SILENT_AFTER: u32 = 8;
/// A datagram holds no more frames worth repeating at once.
const PROBE_FRAMES_MAX: usize = 32;
/// A silent peer is not sent a packet more for each probe that is remembered.
const SILENT_PACKETS_MAX: usize = 64;
/// What QUIC asks of every path (RFC 9000 §14).
const SAFE_DATAGRAM_BYTES: usize = 1200;
