//! A datagram of the peer's current incarnation, applied to its link frame by frame.

use crate::mutant::{self, Mutant};
use crate::rpc::callee::Admission;
use crate::rpc::caller::ReplyPart;
use crate::rpc::config::ReplayProtection;
use crate::rpc::core::Core;
use crate::rpc::event::{CallFailure, Event, Token};
use crate::rpc::hello::Greetings;
use crate::rpc::link::Link;
use crate::rpc::replay::ReplayWindow;
use crate::rpc::sent::SentFrame;
use crate::time::Instant;
use crate::types::CallId;
use crate::wire::{Ack, CallRefusal, Class, DropReason, Flags, Fragment, Frame, Frames, Header, Party};

use core::time::Duration;

impl Link {
    /// The replay check. `[W-28]`
    pub(super) fn admit_packet(&mut self, header: &Header, core: &Core) -> Result<(), DropReason> {
        self.admit_by(core, |window| window.admit(header.packet.0))
    }

    /// The replay check of a datagram outside the link's session. One that is to nobody in particular may have been
    /// sent to another, in numbers that are counted apart from the link's. `[W-74]`
    pub(super) fn admit_outside(&mut self, header: &Header, core: &Core) -> Result<(), DropReason> {
        match header.destination {
            Party::Any => self.admit_by(core, |window| window.admit_uncounted(header.packet.0)),
            Party::Node(_) => self.admit_packet(header, core),
        }
    }

    fn admit_by(
        &mut self,
        core: &Core,
        admits: impl FnOnce(&mut ReplayWindow) -> bool,
    ) -> Result<(), DropReason> {
        match core.config.replay {
            ReplayProtection::Window if !admits(&mut self.replay) => Err(DropReason::Replay),
            _ => Ok(()),
        }
    }

    /// Applies the frames; those of a handshake are left in `greetings`. The packet is noted for acknowledgement only
    /// when every frame was applied: acknowledged means applied. `[W-29]`
    pub(super) fn on_frames(
        &mut self,
        now: Instant,
        core: &mut Core,
        header: &Header,
        frames: Frames<'_>,
        greetings: &mut Greetings,
    ) -> Result<(), DropReason> {
        self.note_heard(now, core);
        let mut is_ack_eliciting = header.flags.contains(Flags::ACK_ELICITING);
        let mut verdict = Ok(());
        for frame in frames {
            is_ack_eliciting |= frame.is_ack_eliciting();
            if verdict.is_err() && !matches!(frame, Frame::Ack(_)) {
                // Acknowledgements of a datagram over a limit still count: they are what makes room.
                continue;
            }
            if let Err(reason) = self.on_frame(now, core, &frame, greetings) {
                verdict = Err(reason);
            }
        }
        self.recount(core);
        if verdict.is_ok() {
            self.received.note(now, header.packet.0, is_ack_eliciting);
            if header.flags.contains(Flags::PROBE) {
                self.received.hurry();
            }
        }
        verdict
    }

    fn on_frame(
        &mut self,
        now: Instant,
        core: &mut Core,
        frame: &Frame<'_>,
        greetings: &mut Greetings,
    ) -> Result<(), DropReason> {
        match *frame {
            Frame::Ack(ref ack) => self.on_ack(now, core, ack),
            Frame::Request { call, class, body } => return self.on_request(now, core, call, class, body),
            Frame::RequestFragment { call, class, part } => {
                return self.on_request_part(now, core, call, class, &part);
            }
            Frame::Reply { call, body } => {
                let alike = if mutant::is(Mutant::U3) { self.caller.alike(call) } else { None };
                let call = alike.unwrap_or(call);
                if let Some(ended) = self.caller.end(call) {
                    self.credit_used -= ended.charged_bytes;
                    core.event(Event::Reply { link: self.id, call, body: body.to_vec() });
                }
            }
            Frame::ReplyFragment { call, part } => return self.on_reply_part(core, call, &part),
            Frame::Notice { body } => core.event(Event::Notice { link: self.id, body: body.to_vec() }),
            Frame::Cancel { call } => {
                let closed = self.callee.close(call);
                self.on_closed_call(core, call, closed.was_executing, closed.charged_bytes);
            }
            Frame::Finished { calls } => {
                for span in calls.iter() {
                    for (call, closed) in self.callee.close_range(span.first, span.last) {
                        self.on_closed_call(core, call, closed.was_executing, closed.charged_bytes);
                    }
                }
            }
            Frame::CallRefused { call, reason } => self.on_refused(core, call, reason),
            Frame::Credit { bytes_total } => {
                if let Some(peer) = &mut self.peer {
                    peer.credit_bytes = peer.credit_bytes.max(bytes_total);
                }
            }
            Frame::Padding { .. } | Frame::MtuProbe { .. } => {}
            _ => greetings.note(frame),
        }
        Ok(())
    }

    fn on_closed_call(&mut self, core: &mut Core, call: CallId, was_executing: bool, charged_bytes: u64) {
        self.credit_used -= charged_bytes;
        if was_executing {
            core.event(Event::Cancelled { token: self.token(call) });
        }
    }

    fn token(&self, call: CallId) -> Token {
        Token { link: self.id, epoch: self.epoch, call }
    }

    fn on_request(
        &mut self,
        now: Instant,
        core: &mut Core,
        call: CallId,
        class: Class,
        body: &[u8],
    ) -> Result<(), DropReason> {
        if self.callee.is_choked() {
            return Err(DropReason::OverLimit);
        }
        let bounds = self.callee_bounds(core);
        let patience = core.config.granularity;
        let admission = self.callee.on_request(call, body, &bounds, |answer| answer.is_late(now, patience));
        self.on_admission(core, call, class, admission);
        Ok(())
    }

    fn on_request_part(
        &mut self,
        now: Instant,
        core: &mut Core,
        call: CallId,
        class: Class,
        part: &Fragment<'_>,
    ) -> Result<(), DropReason> {
        // More than was ever granted, or than any receiver takes, is no honest mistake. `[W-40]`
        let is_over = part.total_bytes > core.config.credit_bytes || part.total_bytes > TOTAL_BYTES_MAX;
        if is_over || self.callee.is_choked() {
            return Err(DropReason::OverLimit);
        }
        let bounds = self.callee_bounds(core);
        let patience = core.config.granularity;
        let admission =
            self.callee.on_request_part(call, class, part, &bounds, |answer| answer.is_late(now, patience));
        self.on_admission(core, call, class, admission);
        Ok(())
    }

    fn on_admission(&mut self, core: &mut Core, call: CallId, class: Class, admission: Admission) {
        match admission {
            Admission::Whole(body) => {
                let token = self.token(call);
                core.event(Event::Request { token, link: self.id, class, body });
            }
            Admission::Arriving | Admission::Refused => {}
            Admission::Repeated => self.count_duplicate(core),
            Admission::AnswerAgain => {
                self.count_duplicate(core);
                self.callee.repeat(call, |body| body.repeat_part(body.first_part()));
            }
        }
    }

    /// Whoever repeats itself waits for a word.
    fn count_duplicate(&mut self, core: &mut Core) {
        self.received.hurry();
        self.counters.duplicates += 1;
        core.stats.duplicates += 1;
    }

    fn on_reply_part(
        &mut self,
        core: &mut Core,
        call: CallId,
        part: &Fragment<'_>,
    ) -> Result<(), DropReason> {
        let room_bytes = self.arriving_room(core);
        match self.caller.on_reply_part(call, part, core.config.body_bytes_max, room_bytes) {
            ReplyPart::Pending => {}
            ReplyPart::Whole(body, charged_bytes) => {
                self.credit_used -= charged_bytes;
                core.event(Event::Reply { link: self.id, call, body });
            }
            ReplyPart::TooLarge => {
                // The call was carried out, and its answer cannot be had.
                self.caller.cancel(call);
                let reason = CallFailure::OutcomeUnknown;
                core.event(Event::CallFailed { link: self.id, call, reason });
            }
        }
        Ok(())
    }

    fn on_refused(&mut self, core: &mut Core, call: CallId, reason: CallRefusal) {
        let Some(ended) = self.caller.end(call) else {
            return;
        };
        self.credit_used -= ended.charged_bytes;
        let reason = match reason {
            CallRefusal::Busy => CallFailure::Busy,
            CallRefusal::TooLarge => CallFailure::TooLarge,
            // `[W-39]`; and what a later version means by its reasons is not known to mean "not carried out".
            CallRefusal::LinkUnknown | CallRefusal::Other(_) => CallFailure::OutcomeUnknown,
        };
        core.event(Event::CallFailed { link: self.id, call, reason });
    }

    fn on_ack(&mut self, now: Instant, core: &mut Core, ack: &Ack<'_>) {
        let mut acked = std::mem::take(&mut core.scratch.acked);
        acked.clear();
        let outcome = self.sent.on_ack(ack.packets.iter(), &mut acked);
        for &frame in &acked {
            self.on_frame_acked(frame);
        }
        core.scratch.acked = acked;
        if outcome.count == 0 {
            return;
        }
        self.probe.on_ack();
        if let Some(span) = ack.packets.iter().next() {
            self.seal.on_acked(span.last);
        }
        self.counters.spurious += u64::from(outcome.spurious_count);
        if let Some(sent_at) = outcome.largest_sent_at {
            let latest = now.saturating_since(sent_at);
            self.rtt.sample(now, latest, Duration::from_micros(ack.delay_us).min(latest));
        }
        self.loss.note(outcome.count, 0);
        self.detect_lost(now, core);
        self.window.on_ack(now, &self.rtt, core.config.granularity);
        self.sent.trim(now, self.keep_lost(core));
    }

    fn on_frame_acked(&mut self, frame: SentFrame) {
        match frame {
            SentFrame::Request { call, part } => {
                if let Some(open) = self.caller.get_mut(call) {
                    open.body.on_acked(part);
                }
            }
            SentFrame::Reply { call, part } => {
                self.credit_used -= self.callee.on_answer_acked(call, part);
            }
            SentFrame::Cancel { call } => self.credit_used -= self.caller.on_cancel_acked(call),
            SentFrame::Refused { call } => self.callee.on_refusal_acked(call),
            SentFrame::Finished { .. } | SentFrame::Ping => {}
        }
    }
}

/// 18 MiB: no receiver takes a larger body. `[W-40]`
const TOTAL_BYTES_MAX: u64 = 18 << 20;
