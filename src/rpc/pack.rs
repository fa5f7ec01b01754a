//! The end of a turn: what a link has to say, packed into as few datagrams as hold it.
//!
//! Order: acknowledgement, refusals, cancellations, finished ranges, notices, whole replies, whole requests, and only
//! then fragments, which also leave an eighth of the window to the rest. `[W-32]` So control traffic never waits
//! behind bulk.

use crate::mutant::{self, Mutant};
use crate::rpc::config::DuplicateMode;
use crate::rpc::core::Core;
use crate::rpc::cover::Cover;
use crate::rpc::link::Link;
use crate::rpc::sent::SentFrame;
use crate::time::Instant;
use crate::wire::{self, Ack, Flags, Fragment, Frame, HEADER_BYTES, RANGES_MAX, Ranges, Span};

/// A datagram being filled.
struct Packing {
    bytes: Vec<u8>,
    limit: usize,
    number: u64,
    now: Instant,
    /// What must arrive of it.
    frames: Vec<SentFrame>,
}

/// Why a queue stops being packed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Its front does not fit into this datagram, but into the next.
    Full,
    /// The window is closed.
    Window,
}

impl Packing {
    /// Appends the frame if it fits.
    fn put(&mut self, frame: &Frame<'_>) -> bool {
        let fits = self.bytes.len() + frame.encoded_bytes() <= self.limit;
        if fits {
            frame.encode(&mut self.bytes);
        }
        fits
    }
}

impl Link {
    /// Packs all that is due and that the window lets through.
    pub(super) fn pack(&mut self, now: Instant, core: &mut Core) {
        self.seal.expire(now, core);
        if !self.is_open() || self.seal.is_exhausted() {
            return;
        }
        let Some(peer) = self.peer else {
            return;
        };
        while self.has_due(now, core) && !self.seal.is_exhausted() {
            let mut packing = Packing {
                bytes: core.buffer(),
                limit: self.datagram_bytes_max - self.seal_bytes
                    + if mutant::is(Mutant::U10) { HEADER_BYTES } else { 0 },
                number: self.next_packet,
                now,
                frames: std::mem::take(&mut core.scratch.frames),
            };
            packing.frames.clear();
            wire::begin(&mut packing.bytes, &self.header(core, &peer, packing.number));
            self.fill(&mut packing, core);
            let is_empty = packing.bytes.len() == HEADER_BYTES;
            self.send_off(packing, core);
            if is_empty {
                break;
            }
        }
        self.probes_due = 0;
        self.is_copying = false;
    }

    /// True when there is anything to say, sendable or not.
    fn has_due(&self, now: Instant, core: &Core) -> bool {
        self.received.due_at(self.ack_delay(core)).is_some_and(|at| at <= now)
            || self.wants_ping
            || self.notice_copies.front().is_some_and(|copy| copy.0 <= now)
            || !self.notices.is_empty()
            || !self.caller.small.is_empty()
            || !self.callee.small.is_empty()
            || !self.caller.cancels.is_empty()
            || !self.callee.refusals.is_empty()
            || !self.caller.large.is_empty()
            || !self.callee.large.is_empty()
    }

    fn fill(&mut self, packing: &mut Packing, core: &mut Core) {
        if self.received.is_owed() {
            let mut spans = std::mem::take(&mut core.scratch.spans);
            let delay_us = self.received.take_ack(packing.now, &mut spans);
            let packets = Ranges::of(&spans);
            let is_put = packing.put(&Frame::Ack(Ack { delay_us, packets }));
            assert!(is_put, "an ack of {} ranges in {} bytes", spans.len(), packing.limit);
            core.scratch.spans = spans;
        }
        self.put_control(packing);
        self.put_notices(packing, core);
        let stop = self
            .put_small_replies(packing, core)
            .or_else(|| self.put_small_requests(packing, core))
            .or_else(|| self.put_large_replies(packing, core))
            .or_else(|| self.put_large_requests(packing, core));
        if stop == Some(Stop::Window) {
            self.window.note_limiting();
        }
        if self.wants_ping {
            self.put_ping(packing);
        }
    }

    /// Asks for an acknowledgement, unless something in the datagram does: the answer is an ack and nothing else
    /// `[W-34]`. It is long enough for a stale-incarnation hint in return, which is never larger than what it
    /// answers.
    fn put_ping(&mut self, packing: &mut Packing) {
        if packing.frames.is_empty() {
            self.put_finished(packing);
            if !packing.put(&Frame::MtuProbe { bytes: PING_BYTES }) {
                return;
            }
            wire::add_flags(&mut packing.bytes, Flags::PROBE);
            packing.frames.push(SentFrame::Ping);
        }
        self.wants_ping = false;
    }

    fn put_control(&mut self, packing: &mut Packing) {
        while let Some(&call) = self.callee.refusals.front() {
            if let Some(reason) = self.callee.refusal(call) {
                if !packing.put(&Frame::CallRefused { call, reason }) {
                    return;
                }
                packing.frames.push(SentFrame::Refused { call });
            }
            self.callee.refusals.pop_front();
        }
        while let Some(&call) = self.caller.cancels.front() {
            if !packing.put(&Frame::Cancel { call }) {
                return;
            }
            packing.frames.push(SentFrame::Cancel { call });
            self.caller.cancels.pop_front();
        }
        // Finished ranges ride on requests, before them, so that the callee makes room first.
        if !self.caller.small.is_empty() || !self.caller.large.is_empty() {
            self.put_finished(packing);
        }
    }

    /// Names the lowest finished ranges. `[W-37]`
    fn put_finished(&mut self, packing: &mut Packing) {
        if self.caller.finished.is_empty() {
            return;
        }
        let mut spans = [Span { first: 0, last: 0 }; RANGES_MAX];
        let count = self.caller.finished.len().min(RANGES_MAX);
        for (span, (first, last)) in spans[..count].iter_mut().rev().zip(self.caller.finished.iter()) {
            *span = Span { first, last };
        }
        if !packing.put(&Frame::Finished { calls: Ranges::of(&spans[..count]) }) {
            return;
        }
        for _ in 0..count {
            if let Some((low, high)) = self.caller.finished.pop_lowest() {
                packing.frames.push(SentFrame::Finished { low, high });
            }
        }
    }

    fn put_notices(&mut self, packing: &mut Packing, core: &Core) {
        while let Some((at, body)) = self.notice_copies.front() {
            if *at > packing.now || !packing.put(&Frame::Notice { body }) {
                break;
            }
            self.notice_copies.pop_front();
        }
        while let Some(body) = self.notices.front() {
            if !packing.put(&Frame::Notice { body }) {
                return;
            }
            if let Some(body) = self.notices.pop_front()
                && self.is_duplicating(core)
                && self.notice_copies.len() < COPIES_MAX
            {
                self.notice_copies.push_back((packing.now + core.config.granularity, body));
            }
        }
    }

    /// True while small datagrams are sent twice. `[W-33]`
    fn is_duplicating(&self, core: &Core) -> bool {
        self.loss.is_high() && core.config.duplicate == DuplicateMode::Adaptive
    }

    fn put_small_replies(&mut self, packing: &mut Packing, core: &mut Core) -> Option<Stop> {
        while let Some(&call) = self.callee.small.front() {
            let has_room = self.has_window(packing, 0);
            if let Some(answer) = self.callee.answer_mut(call)
                && let Some(part) = answer.body.due()
            {
                if !has_room {
                    return Some(Stop::Window);
                }
                if !packing.put(&Frame::Reply { call, body: answer.body.slice(part).1 }) {
                    return Some(Stop::Full);
                }
                answer.sent_at = packing.now;
                let was_sent = answer.body.mark_sent(part, packing.number);
                packing.frames.push(SentFrame::Reply { call, part });
                self.count_sent(was_sent, core);
            }
            self.callee.small.pop_front();
        }
        None
    }

    fn put_small_requests(&mut self, packing: &mut Packing, core: &mut Core) -> Option<Stop> {
        while let Some(&call) = self.caller.small.front() {
            let has_room = self.has_window(packing, 0);
            if let Some(open) = self.caller.get_mut(call)
                && let Some(part) = open.body.due()
            {
                if !has_room {
                    return Some(Stop::Window);
                }
                let body = open.body.slice(part).1;
                if !packing.put(&Frame::Request { call, class: open.class, body }) {
                    return Some(Stop::Full);
                }
                let was_sent = open.body.mark_sent(part, packing.number);
                packing.frames.push(SentFrame::Request { call, part });
                self.count_sent(was_sent, core);
            }
            self.caller.small.pop_front();
        }
        None
    }

    fn put_large_replies(&mut self, packing: &mut Packing, core: &mut Core) -> Option<Stop> {
        while let Some(&call) = self.callee.large.front() {
            let has_room = self.has_window(packing, self.window.bytes() / 8);
            let credit_left = self.credit_left();
            if let Some(answer) = self.callee.answer_mut(call)
                && let Some(part) = answer.body.due()
            {
                let total = answer.body.total_bytes() as u64;
                let charge = if answer.charged_bytes == 0 { total } else { 0 };
                if !has_room || charge > credit_left {
                    return Some(Stop::Window);
                }
                let (offset, bytes) = answer.body.slice(part);
                let part_frame = Fragment { total_bytes: total, offset, bytes };
                if !packing.put(&Frame::ReplyFragment { call, part: part_frame }) {
                    return Some(Stop::Full);
                }
                answer.charged_bytes = total;
                answer.sent_at = packing.now;
                let was_sent = answer.body.mark_sent(part, packing.number);
                self.note_part(SentFrame::Reply { call, part }, charge, was_sent, packing, core);
                continue;
            }
            self.callee.large.pop_front();
        }
        None
    }

    fn put_large_requests(&mut self, packing: &mut Packing, core: &mut Core) -> Option<Stop> {
        while let Some(&call) = self.caller.large.front() {
            let has_room = self.has_window(packing, self.window.bytes() / 8);
            let credit_left = self.credit_left();
            if let Some(open) = self.caller.get_mut(call)
                && let Some(part) = open.body.due()
            {
                let total = open.body.total_bytes() as u64;
                let charge = if open.charged_bytes == 0 { total } else { 0 };
                if !has_room || charge > credit_left {
                    return Some(Stop::Window);
                }
                let (offset, bytes) = open.body.slice(part);
                let part_frame = Fragment { total_bytes: total, offset, bytes };
                let frame = Frame::RequestFragment { call, class: open.class, part: part_frame };
                if !packing.put(&frame) {
                    return Some(Stop::Full);
                }
                open.charged_bytes = total;
                let was_sent = open.body.mark_sent(part, packing.number);
                self.note_part(SentFrame::Request { call, part }, charge, was_sent, packing, core);
                continue;
            }
            self.caller.large.pop_front();
        }
        None
    }

    fn note_part(
        &mut self,
        frame: SentFrame,
        charge: u64,
        was_sent: bool,
        packing: &mut Packing,
        core: &mut Core,
    ) {
        self.credit_used += charge;
        packing.frames.push(frame);
        self.count_sent(was_sent, core);
    }

    fn count_sent(&mut self, was_sent: bool, core: &mut Core) {
        self.counters.retransmits += u64::from(was_sent);
        core.stats.retransmits += u64::from(was_sent);
    }

    /// True when the window, less what is kept for others, takes more, or a probe is due. A silent peer is sent
    /// nothing but probes.
    fn has_window(&self, packing: &Packing, kept_bytes: usize) -> bool {
        let used = self.sent.in_flight_bytes() + packing.bytes.len() + kept_bytes;
        let is_open = used < self.window.bytes() && !self.is_silent;
        !self.sent.is_full() && (is_open || self.probes_due > 0)
    }

    fn credit_left(&self) -> u64 {
        self.peer.map_or(0, |peer| peer.credit_bytes.saturating_sub(self.credit_used))
    }

    /// Hands the datagram out, if it holds anything, and remembers what must arrive of it.
    fn send_off(&mut self, mut packing: Packing, core: &mut Core) {
        let Packing { number, now, .. } = packing;
        if packing.bytes.len() == HEADER_BYTES {
            core.scratch.frames = packing.frames;
            core.recycle(packing.bytes);
            return;
        }
        self.next_packet = number + 1;
        let size = packing.bytes.len();
        self.sent.record(number, now, size, &packing.frames);
        // Frames that must arrive are just those that ask for an acknowledgement. `[W-30]`
        if !packing.frames.is_empty() {
            wire::add_flags(&mut packing.bytes, Flags::ACK_ELICITING);
            self.probe.on_sent(now, &mut core.rng);
            self.probes_due = self.probes_due.saturating_sub(1);
            self.plan_copy(&packing, core);
        }
        core.scratch.frames = packing.frames;
        if self.seal.is_sealed() {
            self.seal.transmit(core, self.address, packing.bytes, self.cluster, number);
        } else {
            core.transmit(self.address, packing.bytes, self.cluster, Cover::Plain);
        }
    }

    /// In duplicate mode a small datagram on a little used link goes out again after G unless it is acknowledged by
    /// then. `[W-33]`
    fn plan_copy(&mut self, packing: &Packing, core: &Core) {
        let is_little_used = self.sent.in_flight_count() <= LITTLE_USED_MAX
            && self.caller.large.is_empty()
            && self.callee.large.is_empty();
        if self.is_duplicating(core)
            && is_little_used
            && packing.bytes.len() <= COPIED_BYTES_MAX
            && self.copies.len() < COPIES_MAX
            && !self.is_copying
        {
            self.copies.push_back((packing.now + core.config.granularity, packing.number));
        }
    }
}

const PING_BYTES: usize = 8;
const COPIES_MAX: usize = 16;
const LITTLE_USED_MAX: usize = 4;
const COPIED_BYTES_MAX: usize = 600;
