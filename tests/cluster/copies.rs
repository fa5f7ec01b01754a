//! Requests of which several copies are under way, each a call of its own: one effect, and one answer (U1).
//!
//! A *lane* is a key and one request on it at a time. A lane's request finds its last one's value there, or nothing: a
//! second effect would find itself.

use std::collections::BTreeMap;

use raftgram::kv::{Command, CommandResult};
use raftgram::rpc::LinkId;
use raftgram::types::{CallId, GroupId, Index, Sequence, SessionId};
use raftgram::wire::client::{ClientReply, ClientRequest, Propose, decode_reply, encode_request};
use raftgram::wire::{Ranges, Span};

/// A request and its copies.
struct Request {
    sequence: u64,
    /// Copies that have neither an answer nor been given up.
    open: usize,
    /// What the first answer said; every other must say the same.
    applied: Option<(Index, Vec<u8>)>,
}

/// The requests of all lanes, and what came of them. `T` is a time at which a copy is given up.
pub(crate) struct Copies<T> {
    lanes: u64,
    /// By lane.
    requests: BTreeMap<u64, Request>,
    /// By call: its lane, and when it is given up.
    open: BTreeMap<(LinkId, CallId), (u64, T)>,
    session: Option<SessionId>,
    /// Requests that were begun.
    begun: u64,
    pub(crate) answers: u64,
    pub(crate) redirects: u64,
}

impl<T: Copy + PartialOrd> Copies<T> {
    /// No requests, and as many lanes; lane 0 asks for a session.
    pub(crate) fn new(lanes: u64) -> Self {
        let (requests, open) = (BTreeMap::new(), BTreeMap::new());
        let mut copies = Self { lanes, requests, open, session: None, begun: 0, answers: 0, redirects: 0 };
        copies.insert(0, 1);
        copies
    }

    fn insert(&mut self, lane: u64, sequence: u64) {
        self.requests.insert(lane, Request { sequence, open: 0, applied: None });
    }

    /// True when a session is open and nobody asks for another. Then requests may begin.
    pub(crate) fn has_session(&mut self) -> bool {
        if self.session.is_none() || self.begun == 0 && !self.is_idle(0) {
            return false;
        }
        if self.begun == 0 {
            self.requests.clear();
        }
        true
    }

    /// True when none of the lane's copies is under way.
    pub(crate) fn is_idle(&self, lane: u64) -> bool {
        self.requests.get(&lane).is_none_or(|request| request.open == 0)
    }

    /// What the lane asks for.
    pub(crate) fn body(&self, lane: u64) -> Vec<u8> {
        let sequence = self.requests[&lane].sequence;
        let value = sequence.to_string();
        let before = (sequence > self.lanes).then(|| (sequence - self.lanes).to_string());
        let key = format!("lane-{lane}");
        let (old, new) = (before.as_deref().map(str::as_bytes), value.as_bytes());
        let command = Command::Cas { key: key.as_bytes(), old, new }.to_bytes();
        let lowest = self.requests.values().map(|request| request.sequence).min().unwrap_or(sequence);
        let told = [Span { first: 1, last: lowest.saturating_sub(1) }];
        let finished = Ranges::of(if lowest > 1 { &told[..] } else { &[] });
        let asked = match self.session {
            None => ClientRequest::OpenSession,
            Some(session) => {
                let sequence = Sequence(sequence);
                ClientRequest::Propose(Propose { session, sequence, finished, command: &command })
            }
        };
        let mut body = Vec::new();
        encode_request(GroupId(0), &asked, &mut body);
        body
    }

    /// A copy of the lane's request is under way.
    pub(crate) fn sent(&mut self, lane: u64, copy: (LinkId, CallId), until: T) {
        self.open.insert(copy, (lane, until));
        self.requests.get_mut(&lane).expect("the lane asks for something").open += 1;
    }

    /// A copy was answered, maybe after it was given up.
    pub(crate) fn answered(&mut self, copy: (LinkId, CallId), body: &[u8]) {
        if let Some((lane, _)) = self.open.get(&copy) {
            self.take(*lane, &decode_reply(body).expect("nodes write what can be read").1);
            self.end(copy);
        }
    }

    fn take(&mut self, lane: u64, reply: &ClientReply<'_>) {
        self.answers += 1;
        match reply {
            // Several may be opened; one is enough.
            ClientReply::SessionOpened { session } => self.session = self.session.or(Some(*session)),
            ClientReply::Applied(outcome) => {
                let request = self.requests.get_mut(&lane).expect("it has a copy");
                let result = CommandResult::decode(outcome.result).expect("nodes write what can be read");
                let what = format!("request {}: {result:?} at {}", request.sequence, outcome.index);
                assert!(matches!(result, CommandResult::Done { .. }), "a second effect was tried: {what}");
                let told = (outcome.index, outcome.result.to_vec());
                let first = request.applied.get_or_insert_with(|| told.clone());
                assert_eq!(*first, told, "two answers to one request: {what}");
            }
            ClientReply::Redirect { .. } | ClientReply::Busy { .. } | ClientReply::Refused { .. } => {
                self.redirects += 1;
            }
            other => panic!("lane {lane} was answered with {other:?}"),
        }
    }

    /// A copy is under way no more.
    pub(crate) fn end(&mut self, copy: (LinkId, CallId)) {
        let ended = self.open.remove(&copy);
        if let Some(request) = ended.and_then(|(lane, _)| self.requests.get_mut(&lane)) {
            request.open -= 1;
        }
    }

    /// The copies to be given up now.
    pub(crate) fn late(&self, now: T) -> Vec<(LinkId, CallId)> {
        let late = self.open.iter().filter(|(_, (_, until))| now >= *until);
        late.map(|(copy, _)| *copy).collect()
    }

    /// Ends an idle lane's request if it is answered, and begins its next one. Returns whether one ended, and whether
    /// there is something to be sent.
    pub(crate) fn go_on(&mut self, lane: u64, total: u64) -> (bool, bool) {
        if !self.is_idle(lane) {
            return (false, false);
        }
        let is_done = self.requests.get(&lane).is_some_and(|request| request.applied.is_some());
        if is_done {
            self.requests.remove(&lane);
        }
        // A lane's next request rests on its last one; lanes take their turns in order.
        if !self.requests.contains_key(&lane) && self.begun < total && self.begun % self.lanes == lane {
            self.begun += 1;
            self.insert(lane, self.begun);
        }
        (is_done, self.requests.contains_key(&lane))
    }

    /// Each lane's key, and what must stand there after so many requests.
    pub(crate) fn ends(&self, total: u64) -> impl Iterator<Item = (String, String)> + use<T> {
        let lanes = self.lanes;
        (0..lanes.min(total)).map(move |lane| {
            let last = (total - lane - 1) / lanes * lanes + lane + 1;
            (format!("lane-{lane}"), last.to_string())
        })
    }
}
