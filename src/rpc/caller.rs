//! The calls this end makes on one link.
//!
//! A call is open from `call` to its reply, its failure or its cancellation, and ends exactly once. Its id is never
//! reused. What the callee cannot know of by acknowledging a reply, it is told: a cancelled call by a cancel frame,
//! one that was cancelled before it was sent by a finished range.

use std::collections::{BTreeMap, VecDeque};

use crate::rpc::body::{Cut, OutBody};
use crate::rpc::event::CallFailure;
use crate::rpc::ranges::RangeSet;
use crate::rpc::reassembly::Reassembly;
use crate::types::CallId;
use crate::wire::{Class, Fragment};

/// One open call.
#[derive(Debug)]
pub(super) struct OutCall {
    pub(super) class: Class,
    pub(super) body: OutBody,
    /// Bytes of credit it holds: set when its first fragment is sent.
    pub(super) charged_bytes: u64,
    reply: Option<Box<Reassembly>>,
}

/// What became of a reply fragment.
#[derive(Debug)]
pub(super) enum ReplyPart {
    /// More is to come, or nobody waits for it.
    Pending,
    /// The reply is whole and the call has ended; the credit that it held.
    Whole(Vec<u8>, u64),
    /// The reply is larger than this end takes; the call must end.
    TooLarge,
}

/// All calls of this end on one link.
#[derive(Debug, Default)]
pub(super) struct Caller {
    open: BTreeMap<CallId, OutCall>,
    /// Calls with a whole body due.
    pub(super) small: VecDeque<CallId>,
    /// Calls with fragments due.
    pub(super) large: VecDeque<CallId>,
    /// Cancelled calls whose cancellation the peer has not acknowledged, and the credit they still hold.
    cancelled: BTreeMap<CallId, u64>,
    /// Cancel frames due.
    pub(super) cancels: VecDeque<CallId>,
    /// Ids that ended without the peer knowing of them.
    pub(super) finished: RangeSet,
    body_bytes: usize,
    /// Bytes of replies being put together.
    reply_bytes: usize,
}

impl Caller {
    /// Opens a call under an id never used before.
    pub(super) fn open(&mut self, call: CallId, class: Class, body: OutBody) {
        self.body_bytes += body.total_bytes();
        self.enqueue(call, body.is_split());
        self.open.insert(call, OutCall { class, body, charged_bytes: 0, reply: None });
    }

    fn enqueue(&mut self, call: CallId, is_split: bool) {
        if is_split { self.large.push_back(call) } else { self.small.push_back(call) }
    }

    /// Open calls, not counting cancelled ones.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Open calls and cancellations on their way: what bounds the table.
    pub(super) fn table_count(&self) -> usize {
        self.open.len() + self.cancelled.len()
    }

    /// Bytes of open calls.
    pub(super) fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Bytes of replies being put together.
    pub(super) fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// An open call's body.
    pub(super) fn body(&self, call: CallId) -> Option<&OutBody> {
        self.open.get(&call).map(|open| &open.body)
    }

    /// An open call.
    pub(super) fn get_mut(&mut self, call: CallId) -> Option<&mut OutCall> {
        self.open.get_mut(&call)
    }

    /// The first open call whose id ends in the same four bits.
    pub(super) fn alike(&self, call: CallId) -> Option<CallId> {
        self.open.keys().find(|open| open.0 % 16 == call.0 % 16).copied()
    }

    /// Ends an open call.
    pub(super) fn end(&mut self, call: CallId) -> Option<OutCall> {
        let ended = self.open.remove(&call)?;
        self.body_bytes -= ended.body.total_bytes();
        self.reply_bytes -= ended.reply.as_ref().map_or(0, |reply| reply.total_bytes());
        Some(ended)
    }

    /// Ends an open call at its owner's wish, and sees to it that the peer learns of it. False when it was not open.
    pub(super) fn cancel(&mut self, call: CallId) -> bool {
        let Some(ended) = self.end(call) else {
            return false;
        };
        if ended.body.was_sent() {
            self.cancelled.insert(call, ended.charged_bytes);
            self.cancels.push_back(call);
        } else {
            self.finished.insert(call.0, call.0);
        }
        true
    }

    /// The peer acknowledged a cancellation; the credit that the call held.
    pub(super) fn on_cancel_acked(&mut self, call: CallId) -> u64 {
        self.cancelled.remove(&call).unwrap_or(0)
    }

    /// A cancel frame was lost; true when it goes out again.
    pub(super) fn on_cancel_lost(&mut self, call: CallId) -> bool {
        let must_repeat = self.cancelled.contains_key(&call) && !self.cancels.contains(&call);
        if must_repeat {
            self.cancels.push_back(call);
        }
        must_repeat
    }

    /// A part must go out again.
    pub(super) fn repeat(&mut self, call: CallId, must_repeat: impl FnOnce(&mut OutBody) -> bool) -> bool {
        let Some(open) = self.open.get_mut(&call) else {
            return false;
        };
        if !must_repeat(&mut open.body) {
            return false;
        }
        // What is repeated goes before what is new.
        let queue = if open.body.is_split() { &mut self.large } else { &mut self.small };
        if queue.front() != Some(&call) {
            queue.push_front(call);
        }
        true
    }

    /// A part of a reply. `room_bytes` is what this end may still take in.
    pub(super) fn on_reply_part(
        &mut self,
        call: CallId,
        part: &Fragment<'_>,
        body_bytes_max: usize,
        room_bytes: usize,
    ) -> ReplyPart {
        let Some(open) = self.open.get_mut(&call) else {
            return ReplyPart::Pending;
        };
        let reply = match &mut open.reply {
            Some(reply) => reply,
            none => {
                let Some(total) = usize::try_from(part.total_bytes)
                    .ok()
                    .filter(|&total| total <= body_bytes_max && total <= room_bytes)
                else {
                    return ReplyPart::TooLarge;
                };
                self.reply_bytes += total;
                none.insert(Box::new(Reassembly::new(total)))
            }
        };
        if reply.add(part) != Ok(true) {
            return ReplyPart::Pending;
        }
        let Some(mut ended) = self.end(call) else {
            return ReplyPart::Pending;
        };
        match ended.reply.take() {
            Some(reply) => ReplyPart::Whole(reply.into_bytes(), ended.charged_bytes),
            None => ReplyPart::Pending,
        }
    }

    /// The incarnation pair changed: calls that were sent belong to the earlier one and fail, in order; the others
    /// go to the new one, cut as `cut` says.
    pub(super) fn on_new_pair(&mut self, cut: Cut) -> Vec<(CallId, CallFailure)> {
        let open = std::mem::take(&mut self.open);
        *self = Self::default();
        let mut failed = Vec::new();
        for (call, ended) in open {
            if ended.body.was_sent() {
                failed.push((call, lost_with_its_pair(ended.class)));
                continue;
            }
            let body = OutBody::new(ended.body.into_bytes(), cut);
            self.body_bytes += body.total_bytes();
            self.enqueue(call, body.is_split());
            self.open.insert(call, OutCall { class: ended.class, body, charged_bytes: 0, reply: None });
        }
        failed
    }

    /// The link is closed: every open call fails, in order. Should the same pair of incarnations meet again, the
    /// peer is told of the calls it may have begun to receive.
    pub(super) fn fail_all(&mut self) -> Vec<(CallId, CallFailure)> {
        let mut failed = Vec::new();
        while let Some((&call, open)) = self.open.first_key_value() {
            let was_sent = open.body.was_sent();
            let reason = if was_sent { lost_with_its_pair(open.class) } else { CallFailure::LinkClosed };
            failed.push((call, reason));
            self.cancel(call);
        }
        failed
    }

    /// The path takes smaller datagrams: bodies not fully acknowledged are cut anew.
    pub(super) fn cut_anew(&mut self, cut: Cut) {
        let open = std::mem::take(&mut self.open);
        self.small.clear();
        self.large.clear();
        for (call, mut ended) in open {
            if !ended.body.is_acked() {
                ended.body = ended.body.cut_anew(cut);
                self.enqueue(call, ended.body.is_split());
            }
            self.open.insert(call, ended);
        }
    }
}

/// Wire.md §4: open `once` calls end as outcome unknown, and only the replicated session may retry.
fn lost_with_its_pair(class: Class) -> CallFailure {
    match class {
        Class::Once => CallFailure::OutcomeUnknown,
        Class::Again => CallFailure::PeerRestarted,
    }
}
