//! The calls a peer makes on one link: what was taken in, what is being answered, and what must never be taken in
//! again.
//!
//! An id is in one of four places: never seen; *open* (arriving in fragments, with the owner, or its reply on the
//! way); *refused*, until the refusal is acknowledged; *closed*. It only ever moves forward, and closed ids are kept
//! as ranges for the life of the incarnation pair, so that no copy, however late, is carried out again. An id is
//! closed when its reply is acknowledged, which means that the caller has it; when it is refused; when its caller
//! cancels it; and when its caller names it in a finished range. `[W-36]` `[W-37]` `[W-41]` Calls of class `again` are
//! treated alike, which `[W-38]` permits.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::rpc::body::{Cut, OutBody};
use crate::rpc::ranges::RangeSet;
use crate::rpc::reassembly::Reassembly;
use crate::time::Instant;
use crate::types::CallId;
use crate::wire::{CallRefusal, Class, Fragment};

/// One open call.
#[derive(Debug)]
pub(super) enum Served {
    /// Its fragments are arriving.
    Arriving { class: Class, request: Box<Reassembly> },
    /// The owner has it.
    Executing,
    /// Its answer is on the way; the reply cache is the set of these.
    Replying(Answer),
}

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: OutBody,
    /// Bytes of credit it holds.
    pub(super) charged_bytes: u64,
    /// When a part of it was last sent.
    pub(super) sent_at: Instant,
}

impl Answer {
    /// Sent a while ago and in one part: worth sending again when its request comes again, at no more cost than that.
    pub(super) fn is_late(&self, now: Instant, patience: Duration) -> bool {
        !self.body.is_split() && self.sent_at + patience <= now
    }
}

/// What becomes of a request that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is new, and whole: hand it to the owner.
    Whole(Vec<u8>),
    /// It is new, and more is to come.
    Arriving,
    /// It was here before.
    Repeated,
    /// It was here before and its answer is on the way, last sent a while ago: that answer goes out again.
    AnswerAgain,
    /// It is not taken in.
    Refused,
}

/// What bounds the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct CalleeBounds {
    pub(super) calls_max: usize,
    pub(super) reply_bytes_max: usize,
    pub(super) body_bytes_max: usize,
    /// What may still be put together: the credit granted and the room's own bound.
    pub(super) room_bytes: usize,
}

/// All calls of one peer incarnation.
#[derive(Debug, Default)]
pub(super) struct Callee {
    open: BTreeMap<CallId, Served>,
    closed: RangeSet,
    /// Calls with a whole answer due.
    pub(super) small: VecDeque<CallId>,
    /// Calls with fragments of an answer due.
    pub(super) large: VecDeque<CallId>,
    refused: BTreeMap<CallId, CallRefusal>,
    /// Refusals due.
    pub(super) refusals: VecDeque<CallId>,
    reply_bytes: usize,
    arriving_bytes: usize,
}

impl Callee {
    /// Calls open.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Bytes being put together.
    pub(super) fn arriving_bytes(&self) -> usize {
        self.arriving_bytes
    }

    /// Ranges of calls that are closed.
    #[cfg(test)]
    pub(super) fn closed_count(&self) -> usize {
        self.closed.len()
    }

    /// Too many refusals wait for an acknowledgement: nothing may be taken in that could be refused.
    pub(super) fn is_choked(&self) -> bool {
        self.refused.len() >= REFUSED_MAX
    }

    /// A whole request arrived.
    pub(super) fn on_request(
        &mut self,
        call: CallId,
        body: &[u8],
        bounds: &CalleeBounds,
        is_late: impl FnOnce(&Answer) -> bool,
    ) -> Admission {
        if let Some(known) = self.admit(call, bounds, is_late) {
            return known;
        }
        if body.len() > bounds.body_bytes_max {
            return self.refuse(call, CallRefusal::TooLarge);
        }
        // What came of it in fragments is not needed any more.
        if let Some(Served::Arriving { request, .. }) = self.open.insert(call, Served::Executing) {
            self.arriving_bytes -= request.total_bytes();
        }
        Admission::Whole(body.to_vec())
    }

    /// A fragment of a request arrived.
    pub(super) fn on_request_part(
        &mut self,
        call: CallId,
        class: Class,
        part: &Fragment<'_>,
        bounds: &CalleeBounds,
        is_late: impl FnOnce(&Answer) -> bool,
    ) -> Admission {
        if let Some(known) = self.admit(call, bounds, is_late) {
            return known;
        }
        if !self.open.contains_key(&call) {
            let total = usize::try_from(part.total_bytes).unwrap_or(usize::MAX);
            if total > bounds.body_bytes_max {
                return self.refuse(call, CallRefusal::TooLarge);
            }
            if total > bounds.room_bytes {
                return self.refuse(call, CallRefusal::Busy);
            }
            self.arriving_bytes += total;
            self.open.insert(call, Served::Arriving { class, request: Box::new(Reassembly::new(total)) });
        }
        match self.open.get_mut(&call) {
            Some(Served::Arriving { class: first, request }) if *first == class => match request.add(part) {
                Ok(true) => {}
                Ok(false) => return Admission::Arriving,
                Err(_) => return Admission::Repeated,
            },
            _ => return Admission::Repeated,
        }
        match self.open.insert(call, Served::Executing) {
            Some(Served::Arriving { request, .. }) => {
                self.arriving_bytes -= request.total_bytes();
                Admission::Whole(request.into_bytes())
            }
            _ => Admission::Repeated,
        }
    }

    /// What is known of a call whose request arrives; `None` when it may be taken in or goes on arriving.
    fn admit(
        &mut self,
        call: CallId,
        bounds: &CalleeBounds,
        is_late: impl FnOnce(&Answer) -> bool,
    ) -> Option<Admission> {
        match self.open.get(&call) {
            Some(Served::Arriving { .. }) => None,
            Some(Served::Executing) => Some(Admission::Repeated),
            Some(Served::Replying(answer)) if is_late(answer) => Some(Admission::AnswerAgain),
            Some(Served::Replying(_)) => Some(Admission::Repeated),
            None if self.closed.contains(call.0) => Some(Admission::Repeated),
            None if self.open.len() >= bounds.calls_max || self.reply_bytes >= bounds.reply_bytes_max => {
                Some(self.refuse(call, CallRefusal::Busy))
            }
            None => None,
        }
    }

    /// Closes the call unexecuted and has the caller told. Closing is what keeps a late copy from being carried out
    /// after the caller was told that it was not.
    pub(super) fn refuse(&mut self, call: CallId, reason: CallRefusal) -> Admission {
        self.close(call);
        self.refused.insert(call, reason);
        self.refusals.push_back(call);
        Admission::Refused
    }

    /// The owner answers; false when nobody waits.
    pub(super) fn reply(&mut self, call: CallId, body: OutBody) -> bool {
        match self.open.get_mut(&call) {
            Some(served @ Served::Executing) => {
                self.reply_bytes += body.total_bytes();
                let queue = if body.is_split() { &mut self.large } else { &mut self.small };
                queue.push_back(call);
                *served = Served::Replying(Answer { body, charged_bytes: 0, sent_at: Instant::ZERO });
                true
            }
            _ => false,
        }
    }

    /// True while the owner has the call.
    pub(super) fn is_executing(&self, call: CallId) -> bool {
        matches!(self.open.get(&call), Some(Served::Executing))
    }

    /// The body of the answer on its way.
    pub(super) fn body(&self, call: CallId) -> Option<&OutBody> {
        match self.open.get(&call) {
            Some(Served::Replying(answer)) => Some(&answer.body),
            _ => None,
        }
    }

    /// The answer on its way.
    pub(super) fn answer_mut(&mut self, call: CallId) -> Option<&mut Answer> {
        match self.open.get_mut(&call) {
            Some(Served::Replying(answer)) => Some(answer),
            _ => None,
        }
    }

    /// The reason of a refusal that is not acknowledged yet.
    pub(super) fn refusal(&self, call: CallId) -> Option<CallRefusal> {
        self.refused.get(&call).copied()
    }

    /// A refusal arrived.
    pub(super) fn on_refusal_acked(&mut self, call: CallId) {
        self.refused.remove(&call);
    }

    /// A refusal was lost; true when it goes out again.
    pub(super) fn on_refusal_lost(&mut self, call: CallId) -> bool {
        let must_repeat = self.refused.contains_key(&call) && !self.refusals.contains(&call);
        if must_repeat {
            self.refusals.push_back(call);
        }
        must_repeat
    }

    /// A part of an answer must go out again.
    pub(super) fn repeat(&mut self, call: CallId, must_repeat: impl FnOnce(&mut OutBody) -> bool) -> bool {
        let Some(Served::Replying(answer)) = self.open.get_mut(&call) else {
            return false;
        };
        if !must_repeat(&mut answer.body) {
            return false;
        }
        let queue = if answer.body.is_split() { &mut self.large } else { &mut self.small };
        if queue.front() != Some(&call) {
            queue.push_front(call);
        }
        true
    }

    /// A part of an answer arrived; when it was the last, the caller has it and the call is closed. Returns the
    /// credit set free.
    pub(super) fn on_answer_acked(&mut self, call: CallId, part: u32) -> u64 {
        let Some(answer) = self.answer_mut(call) else {
            return 0;
        };
        answer.body.on_acked(part);
        if answer.body.is_acked() { self.close(call).charged_bytes } else { 0 }
    }

    /// Closes a call for good, whatever was known of it.
    pub(super) fn close(&mut self, call: CallId) -> ClosedCall {
        self.closed.insert(call.0, call.0);
        // An honest caller leaves no more gaps than it has calls open. Closing a gap can only ever drop a request.
        self.closed.close_lowest_gaps(CLOSED_RANGES_MAX);
        self.forget_open(call)
    }

    /// Closes a range of calls; what was open of them is returned.
    pub(super) fn close_range(&mut self, low: u64, high: u64) -> Vec<(CallId, ClosedCall)> {
        self.closed.insert(low, high);
        self.closed.close_lowest_gaps(CLOSED_RANGES_MAX);
        let open: Vec<CallId> = self.open.range(CallId(low)..=CallId(high)).map(|(call, _)| *call).collect();
        open.into_iter().map(|call| (call, self.forget_open(call))).collect()
    }

    fn forget_open(&mut self, call: CallId) -> ClosedCall {
        match self.open.remove(&call) {
            None => ClosedCall { was_executing: false, charged_bytes: 0 },
            Some(Served::Executing) => ClosedCall { was_executing: true, charged_bytes: 0 },
            Some(Served::Arriving { request, .. }) => {
                self.arriving_bytes -= request.total_bytes();
                ClosedCall { was_executing: false, charged_bytes: 0 }
            }
            Some(Served::Replying(answer)) => {
                self.reply_bytes -= answer.body.total_bytes();
                ClosedCall { was_executing: false, charged_bytes: answer.charged_bytes }
            }
        }
    }

    /// The path takes smaller datagrams: answers not fully acknowledged are cut anew.
    pub(super) fn cut_anew(&mut self, cut: Cut) {
        self.small.clear();
        self.large.clear();
        let open = std::mem::take(&mut self.open);
        for (call, served) in open {
            let served = match served {
                Served::Replying(Answer { body, charged_bytes, sent_at }) => {
                    let body = body.cut_anew(cut);
                    let queue = if body.is_split() { &mut self.large } else { &mut self.small };
                    queue.push_back(call);
                    Served::Replying(Answer { body, charged_bytes, sent_at })
                }
                other => other,
            };
            self.open.insert(call, served);
        }
    }
}

/// What a call was when it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClosedCall {
    /// The owner had it: its token is stale.
    pub(super) was_executing: bool,
    /// Credit its answer held.
    pub(super) charged_bytes: u64,
}

pub(super) const REFUSED_MAX: usize = 1024;
pub(super) const CLOSED_RANGES_MAX: usize = 4096;
