//! What a link does when time passes: its deadlines, and how what got lost is sent again.

use core::time::Duration;

use crate::rpc::callee::Callee;
use crate::rpc::caller::Caller;
use crate::rpc::core::Core;
use crate::rpc::event::Event;
use crate::rpc::link::Link;
use crate::rpc::sent::SentFrame;
use crate::time::{Instant, earliest};

impl Link {
    /// Whatever is due by now, except the handshake's timer and a client's idle close, which are the room's.
    pub(super) fn on_timeout(&mut self, now: Instant, core: &mut Core) {
        if !self.is_open() || self.seal.is_exhausted() {
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

    /// RFC 9002 §6.2.4, `[W-31]`: a probe repeats what is in flight, oldest first, as much as one datagram holds,
    /// and declares nothing lost.
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
        let mut room_bytes = self.datagram_bytes_max;
        for frame in self.sent.in_flight_frames() {
            let bytes = frame_bytes(&self.caller, &self.callee, frame);
            if bytes > room_bytes || frames.len() >= PROBE_FRAMES_MAX {
                break;
            }
            room_bytes -= bytes;
            frames.push(frame);
        }
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

    /// The next moment at which [`Self::on_timeout`] has something to do.
    pub(super) fn deadline(&self, core: &Core) -> Option<Instant> {
        let mut next = self.handshake.map(|handshake| handshake.next_at);
        if !self.is_open() {
            return next;
        }
        // Nothing can be sent before another handshake.
        if self.seal.is_exhausted() {
            return earliest(next, self.idle_at(core));
        }
        next = earliest(next, self.sent.loss_at());
        next = earliest(next, self.received.due_at(self.ack_delay(core)));
        if self.sent.in_flight_count() > 0 {
            next = earliest(next, Some(self.probe_at(core)));
        }
        next = earliest(next, self.keep_at(core));
        next = earliest(next, self.copies.front().map(|copy| copy.0));
        next = earliest(next, self.notice_copies.front().map(|copy| copy.0));
        earliest(next, self.idle_at(core))
    }

    /// How long an acknowledgement may wait for something to ride on, at either end. Where much gets lost, not at all:
    /// how soon a loss is mended decides there what is reached.
    pub(super) fn ack_delay(&self, core: &Core) -> Duration {
        if self.loss.is_high() { Duration::ZERO } else { core.config.ack_delay_max }
    }

    /// When the next probe is due, if anything is in flight. A silent client is not probed: it has most likely
    /// ended, and one that lives asks again for what it still wants.
    pub(super) fn probe_at(&self, core: &Core) -> Instant {
        if self.is_silent {
            return self.idle_at(core).unwrap_or(self.probe.last_sent() + core.heartbeat());
        }
        let ack_delay = self.ack_delay(core);
        let unscaled = self.rtt.probe_timeout(core.config.granularity, ack_delay);
        self.probe.at(self.rtt.ack_expected_after(ack_delay), unscaled, core.probe_timeout_max())
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

    /// How long lost packets are remembered, to notice that they were not.
    pub(super) fn keep_lost(&self, core: &Core) -> Duration {
        3 * self.rtt.probe_timeout(core.config.granularity, core.config.ack_delay_max)
    }
}

/// About how much a frame takes when it is repeated; nothing when it is no longer wanted.
fn frame_bytes(caller: &Caller, callee: &Callee, frame: SentFrame) -> usize {
    let (body, part) = match frame {
        SentFrame::Request { call, part } => (caller.body(call), part),
        SentFrame::Reply { call, part } => (callee.body(call), part),
        _ => return SMALL_FRAME_BYTES,
    };
    body.map_or(0, |body| body.pending_bytes(part))
}

/// Probe timeouts without an acknowledgement before a peer may count as silent: falling back after three would cost
/// a p99 of 46 ms instead of 3 ms at 30 % loss.
const SILENT_AFTER: u32 = 8;
/// A cancel, a refusal, a range.
const SMALL_FRAME_BYTES: usize = 16;
/// A datagram holds no more frames worth repeating at once.
const PROBE_FRAMES_MAX: usize = 32;
/// A silent peer is not sent a packet more for each probe that is remembered.
const SILENT_PACKETS_MAX: usize = 64;
/// What QUIC asks of every path (RFC 9000 §14).
const SAFE_DATAGRAM_BYTES: usize = 1200;
