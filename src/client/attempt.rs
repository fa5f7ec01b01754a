//! Attempts: sending an operation, judging its answer, trying again.

use std::net::SocketAddr;
use std::time::Duration;

use super::admin::CHANGE_PATIENCE;
use super::operation::{Answer, Kind, Operation, OperationId, Place};
use super::{Client, ClientError, Outcome, Output, Phase, Server, Session};
use crate::rpc::{CallError, CallFailure, CloseReason, LinkId, PeerInfo};
use crate::session::{OPEN_MAX, Window};
use crate::time::Instant;
use crate::types::{CallId, GroupId, NodeId, SessionId};
use crate::wire::Class;
use crate::wire::client::{
    ClientReply, ClientRequest, LeaderHint, Outcome as Reached, Propose, ReadLevel, RefusalCode,
    decode_reply, encode_request,
};
use crate::wire::transfer::{Pull, PullReply, decode_pull_reply, encode_pull};
use crate::wire::{Ranges, Span};

/// How long the client's own opening of a session may take before the writes that wait for it give up by their
/// own deadlines; it is tried again as long as any waits.
const OPEN_SESSION_TIMEOUT: Duration = Duration::from_secs(3600);

/// How often the pause after failed calls is doubled: up to 64 times the pause between rounds.
const FAILURE_DOUBLINGS_MAX: u32 = 6;

impl Server {
    pub(super) const fn new(address: SocketAddr, link: LinkId, node: Option<NodeId>) -> Self {
        Self { address, link, node, is_silent: false }
    }
}

impl Client {
    /// Sends an operation to where it should go, or leaves it to wait for what it lacks.
    pub(super) fn attempt(&mut self, now: Instant, id: OperationId) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        if let Kind::Write { place, .. } = &mut operation.kind
            && place.is_none()
        {
            // Whoever has waited longer goes first.
            let is_first = self.parked.first().is_none_or(|first| *first > id);
            *place = if is_first { self.find_place() } else { None };
            if place.is_none() {
                self.parked.insert(id);
                self.operations.insert(id, operation);
                return;
            }
        }
        let (server, class) = match &operation.kind {
            Kind::Status { server }
            | Kind::TakeSnapshot { server, .. }
            | Kind::SetFaults { server, .. }
            | Kind::Pull { server, .. } => (*server, Class::Again),
            // Told to ask any node, it asks them in turn; one that could not answer named the leader, if it knew it.
            Kind::Read { level: ReadLevel::AnyNode, .. } if operation.attempt_count == 0 => {
                (self.next_in_turn(), Class::Again)
            }
            Kind::Read { .. } => (self.pick_server(), Class::Again),
            Kind::Write { .. } | Kind::OpenSession => (self.pick_server(), Class::Once),
            Kind::Admin(admin) => {
                (self.pick_server(), if admin.is_deed() { Class::Once } else { Class::Again })
            }
        };
        let patience = self.patience(server, &operation.kind);
        let link = self.servers[server].link;
        let body = self.encode(&operation.kind);
        match self.rpc.call(now, link, class, body) {
            Ok(call) => {
                operation.call = Some((link, call));
                operation.attempt_count += 1;
                self.calls.insert((link, call), id);
                let until = (now + patience).min(operation.deadline);
                self.operations.insert(id, operation);
                self.set_timer(id, until);
            }
            Err(CallError::TooLarge { bytes_max }) => {
                self.operations.insert(id, operation);
                self.end(id, Err(ClientError::TooLarge { bytes_max: bytes_max as u64 }));
            }
            Err(CallError::Busy) => {
                // Trying again before a call has ended would be in vain; should none end, the timer asks.
                operation.call = None;
                let until = (now + self.config.attempt_timeout).min(operation.deadline);
                self.operations.insert(id, operation);
                self.crowded.insert(id);
                self.set_timer(id, until);
            }
            Err(CallError::UnknownLink) => {
                self.forget_leader(link);
                self.operations.insert(id, operation);
                self.retry_after(now, id, self.config.retry_pause);
            }
        }
    }

    fn encode(&self, kind: &Kind) -> Vec<u8> {
        let mut body = Vec::new();
        let group = GroupId(0);
        match kind {
            Kind::OpenSession => encode_request(group, &ClientRequest::OpenSession, &mut body),
            Kind::Status { .. } => encode_request(group, &ClientRequest::Status, &mut body),
            Kind::TakeSnapshot { through, .. } => {
                encode_request(group, &ClientRequest::TakeSnapshot { through: *through }, &mut body);
            }
            Kind::SetFaults { request, .. } => {
                encode_request(group, &ClientRequest::SetFaults(*request), &mut body);
            }
            Kind::Pull { pull, .. } => encode_pull(group, pull, &mut body),
            Kind::Admin(admin) => encode_request(group, &admin.request(), &mut body),
            Kind::Read { query, level } => {
                encode_request(group, &ClientRequest::Read { level: *level, query }, &mut body);
            }
            Kind::Write { command, place } => {
                let place = place.expect("a write is encoded after it got its place");
                let session = &self.sessions[&place.session];
                let pairs = session.window.finished().pairs();
                let spans: Vec<Span> =
                    pairs.iter().rev().map(|&(first, last)| Span::new(first, last)).collect();
                let (sequence, finished) = (place.sequence, Ranges::of(&spans));
                let propose = Propose { session: session.id, sequence, finished, command };
                encode_request(group, &ClientRequest::Propose(propose), &mut body);
            }
        }
        body
    }

    /// The believed leader, or the next server in turn.
    fn pick_server(&mut self) -> usize {
        self.leader.unwrap_or_else(|| self.next_in_turn())
    }

    fn next_in_turn(&mut self) -> usize {
        let server = self.next_server;
        self.next_server = (server + 1) % self.servers.len();
        server
    }

    /// How long an attempt at this server waits. A silent one is asked, because only an answer would show that it
    /// is back, but not waited for when another could do: whatever it sends, however late, ends the silence.
    fn patience(&self, server: usize, kind: &Kind) -> Duration {
        let could_another = !matches!(kind, Kind::Status { .. });
        let is_vain = could_another && self.servers[server].is_silent;
        match kind {
            _ if is_vain => self.config.retry_pause,
            // One that has never answered may not be there at all.
            Kind::Admin(admin) if admin.is_deed() && self.servers[server].node.is_some() => {
                self.config.attempt_timeout.max(CHANGE_PATIENCE)
            }
            _ => self.config.attempt_timeout,
        }
    }

    /// A link has gone silent: what it led to is not asked, nor believed to lead, until it is heard again. What
    /// waits for an answer there asks elsewhere: should the node be slow rather than dead, the others say that it
    /// leads, and the session keeps a second attempt from taking effect.
    pub(super) fn on_silent(&mut self, now: Instant, link: LinkId) {
        self.forget_leader(link);
        let Some(server) = self.servers.iter().position(|server| server.link == link) else { return };
        self.servers[server].is_silent = true;
        let here = (link, CallId(0))..=(link, CallId(u64::MAX));
        let waiting: Vec<_> = self.calls.range(here).map(|(call, id)| (*call, *id)).collect();
        for (call, id) in waiting {
            // Nobody else can say how this node is.
            let is_movable =
                |it: &Operation| !matches!(it.kind, Kind::Status { server: about } if about == server);
            if self.operations.get(&id).is_some_and(is_movable) {
                self.cancel(now, Some(call));
                self.retry_after(now, id, Duration::ZERO);
            }
        }
    }

    pub(super) fn on_sign_of_life(&mut self, link: LinkId) {
        if let Some(server) = self.servers.iter_mut().find(|server| server.link == link) {
            server.is_silent = false;
        }
    }

    pub(super) fn on_connected(&mut self, link: LinkId, peer: &PeerInfo) {
        self.on_sign_of_life(link);
        let node = peer.identity.map(|identity| identity.node);
        if let Some(server) = self.servers.iter_mut().find(|server| server.link == link) {
            server.node = node;
        }
    }

    /// A link is gone for good; its server is reached by another one from now on.
    pub(super) fn on_closed(&mut self, now: Instant, link: LinkId, reason: CloseReason) {
        let Some(server) = self.servers.iter_mut().find(|server| server.link == link) else { return };
        match reason {
            CloseReason::SameAs(other) => server.link = other,
            // Asking again would get the same answer; the other servers may do.
            CloseReason::ForeignCluster { .. } | CloseReason::Version { .. } => server.node = None,
            _ => server.link = self.rpc.connect(now, server.address, None),
        }
    }

    pub(super) fn on_reply(&mut self, now: Instant, id: OperationId, link: LinkId, body: &[u8]) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.call = None;
            operation.answered_count += 1;
            operation.failed_count = 0;
        }
        self.on_sign_of_life(link);
        if let Some(Operation { kind: Kind::Pull { pull, .. }, .. }) = self.operations.get(&id) {
            let answer = answer_to_pull(*pull, body).ok_or(ClientError::BadReply);
            return self.end(id, answer);
        }
        let Ok((_, reply)) = decode_reply(body) else {
            return self.end(id, Err(ClientError::BadReply));
        };
        match reply {
            ClientReply::SessionOpened { session } => self.on_session_opened(id, link, session),
            ClientReply::Applied(Reached { index, term, result }) => {
                self.believe_in(link);
                self.end(id, Ok(Answer::Applied { index, term, result: result.to_vec() }));
            }
            ClientReply::Read(Reached { index, term, result }) => {
                self.end(id, Ok(Answer::Read { index, term, result: result.to_vec() }));
            }
            ClientReply::Status(status) => self.end(id, Ok(Answer::Status(status))),
            ClientReply::SnapshotState { taken, in_force } => {
                self.end(id, Ok(Answer::Snapshot { taken, in_force }));
            }
            ClientReply::FaultsSet => self.end(id, Ok(Answer::FaultsSet)),
            ClientReply::Changed(changed) => {
                self.believe_in(link);
                self.on_changed(now, id, changed);
            }
            ClientReply::Members(state) => self.on_members(now, id, state),
            ClientReply::ChangeRefused { reason, text } => self.on_change_refused(now, id, reason, text),
            ClientReply::Transferring { to, term } => self.on_transferring(now, id, to, term),
            ClientReply::Redirect { leader } => self.on_redirect(now, id, link, leader),
            ClientReply::Busy { retry_after_us } => {
                self.retry_after(now, id, Duration::from_micros(retry_after_us).max(self.config.retry_pause));
            }
            ClientReply::SessionExpired => self.on_session_expired(id),
            ClientReply::TooLarge { bytes_max } => self.end(id, Err(ClientError::TooLarge { bytes_max })),
            // A node of an earlier version knows no such level: the leader answers.
            ClientReply::Refused { code: RefusalCode::UnknownBody, .. } if self.falls_back(id) => {
                self.ready.push_back(id);
            }
            ClientReply::Refused { text, .. } => {
                self.end(id, Err(ClientError::Refused { reason: text.to_owned() }));
            }
            // Not what was asked for, or a sequence that this client says it has the answer of.
            ClientReply::SessionClosed | ClientReply::SequenceFinished | ClientReply::Founded(_) => {
                self.end(id, Err(ClientError::BadReply));
            }
        }
    }

    /// Makes of a read that any node may answer an ordinary one.
    fn falls_back(&mut self, id: OperationId) -> bool {
        match self.operations.get_mut(&id).map(|operation| &mut operation.kind) {
            Some(Kind::Read { level: level @ ReadLevel::AnyNode, .. }) => {
                *level = ReadLevel::Linearizable;
                true
            }
            _ => false,
        }
    }

    fn on_redirect(&mut self, now: Instant, id: OperationId, link: LinkId, leader: Option<LeaderHint<'_>>) {
        self.forget_leader(link);
        let Some(LeaderHint { node, address }) = leader else {
            return self.retry_after(now, id, self.config.retry_pause);
        };
        let known = self.servers.iter().position(|server| server.node == Some(node));
        if let Some(server) = known {
            self.follow_server(now, server, address);
        }
        let server = known.or_else(|| self.add_server(now, node, address));
        match server {
            // A node that names the very node that sent us away, or one that has gone silent: an election is going on.
            Some(server) if self.servers[server].link == link || self.servers[server].is_silent => {
                self.retry_after(now, id, self.config.retry_pause);
            }
            Some(server) => {
                self.leader = Some(server);
                self.ready.push_back(id);
            }
            None => self.retry_after(now, id, self.config.retry_pause),
        }
    }

    /// A node that is silent where it was known, and advertises another address, has most likely moved there.
    fn follow_server(&mut self, now: Instant, server: usize, address: &str) {
        let it = &mut self.servers[server];
        if let Some(address) = address.parse().ok().filter(|address| it.is_silent && it.address != *address) {
            it.address = address;
            it.link = self.rpc.connect(now, address, it.node);
        }
    }

    /// Adds the node that a redirect named; `None` when its address is a name that this client cannot use.
    fn add_server(&mut self, now: Instant, node: NodeId, address: &str) -> Option<usize> {
        let address = address.parse().ok()?;
        let link = match self.servers.iter().position(|server| server.address == address) {
            Some(server) => return Some(server),
            None => self.rpc.connect(now, address, Some(node)),
        };
        self.servers.push(Server::new(address, link, Some(node)));
        Some(self.servers.len() - 1)
    }

    fn believe_in(&mut self, link: LinkId) {
        if self.leader.is_none_or(|leader| self.servers[leader].link != link) {
            self.leader = self.servers.iter().position(|server| server.link == link);
        }
    }

    pub(super) fn forget_leader(&mut self, link: LinkId) {
        if self.leader.is_some_and(|leader| self.servers[leader].link == link) {
            self.leader = None;
        }
    }

    /// Room for one more write in any of the sessions.
    fn find_place(&mut self) -> Option<Place> {
        self.sessions
            .iter_mut()
            .find_map(|(id, session)| session.window.open().map(|sequence| Place { session: *id, sequence }))
    }

    fn open_session(&mut self, now: Instant) {
        if self.opening.is_none() && self.sessions.len() < self.config.sessions_max {
            self.opening = Some(self.begin_own(Kind::OpenSession, now + OPEN_SESSION_TIMEOUT));
        }
    }

    fn on_session_opened(&mut self, id: OperationId, link: LinkId, session: SessionId) {
        self.believe_in(link);
        self.remove(id);
        // The answer to an attempt that had been given up opened a session that nobody will use; the cluster lets
        // the longest idle go.
        if self.opening == Some(id) {
            self.opening = None;
            self.sessions.insert(id, Session { id: session, window: Window::new(OPEN_MAX) });
        }
    }

    /// The cluster has evicted a session. Nothing sent under it may be sent again under another.
    fn on_session_expired(&mut self, id: OperationId) {
        let Some(place) = self.operations.get(&id).and_then(Operation::place) else {
            return self.end(id, Err(ClientError::BadReply));
        };
        // One attempt, answered by a refusal: it was certainly not carried out.
        let is_sure = self.operations.get(&id).is_some_and(|operation| operation.attempt_count == 1);
        let outcome = if is_sure { Outcome::NotSent } else { Outcome::Unknown };
        self.end(id, Err(ClientError::SessionExpired { outcome }));
        let is_of_it =
            |operation: &Operation| operation.place().is_some_and(|other| other.session == place.session);
        let sent: Vec<OperationId> =
            self.operations.iter().filter(|(_, operation)| is_of_it(operation)).map(|(id, _)| *id).collect();
        for other in sent {
            self.end_or_move(other);
        }
        self.sessions.remove(&place.session);
    }

    /// Its session has expired: what was sent under it has an unknown outcome, what never was gets another place.
    fn end_or_move(&mut self, id: OperationId) {
        if let Some(Operation { kind: Kind::Write { place, .. }, attempt_count: 0, .. }) =
            self.operations.get_mut(&id)
        {
            *place = None;
            self.crowded.remove(&id);
            self.ready.push_back(id);
            return;
        }
        self.end(id, Err(ClientError::SessionExpired { outcome: Outcome::Unknown }));
    }

    /// The call below has ended without an answer. What it carried may have been carried out; the session or the
    /// nature of a read makes asking again harmless.
    pub(super) fn on_call_failed(
        &mut self,
        now: Instant,
        id: OperationId,
        link: LinkId,
        reason: CallFailure,
    ) {
        match reason {
            CallFailure::Busy => self.retry_after(now, id, self.config.retry_pause),
            CallFailure::TooLarge => {
                let bytes_max = self.config.rpc.body_bytes_max as u64;
                self.end(id, Err(ClientError::TooLarge { bytes_max }));
            }
            CallFailure::OutcomeUnknown | CallFailure::PeerRestarted | CallFailure::LinkClosed => {
                self.forget_leader(link);
                if let Some(operation) = self.operations.get_mut(&id) {
                    operation.failed_count += 1;
                }
                self.retry_after(now, id, self.failure_pause(id));
            }
        }
    }

    /// The first failed call is made again at once, for another node may answer it; each round of failures that no
    /// answer ends doubles the pause, for the cause may be one that stays.
    fn failure_pause(&self, id: OperationId) -> Duration {
        let rounds = |count: u32| count / self.servers.len().max(1) as u32;
        match self.operations.get(&id).map_or(0, |operation| operation.failed_count) {
            0 | 1 => Duration::ZERO,
            count => self.config.retry_pause * (1 << rounds(count).min(FAILURE_DOUBLINGS_MAX)),
        }
    }

    /// The operation's timer fired: its deadline, the end of an attempt, or the end of a pause.
    pub(super) fn operation_timed_out(&mut self, now: Instant, id: OperationId) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let call = operation.call.take();
        if now >= operation.deadline {
            let outcome = if operation.may_take_effect() && operation.attempt_count > 0 {
                Outcome::Unknown
            } else {
                Outcome::NotSent
            };
            let phase = self.phase(call.is_some());
            self.cancel(now, call);
            return self.end(id, Err(ClientError::TimedOut { outcome, phase }));
        }
        let deadline = operation.deadline;
        if let Some((link, _)) = call {
            self.forget_leader(link);
        }
        self.cancel(now, call);
        self.crowded.remove(&id);
        self.set_timer(id, deadline);
        self.ready.push_back(id);
    }

    fn phase(&self, was_asking: bool) -> Phase {
        if self.servers.iter().all(|server| server.node.is_none()) {
            self.seal_refused.map_or(Phase::Connecting, Phase::SealRefused)
        } else if was_asking && self.leader.is_some() {
            Phase::Answer
        } else {
            Phase::NoLeader
        }
    }

    /// Lets the operation rest, then attempts it again.
    pub(super) fn retry_after(&mut self, now: Instant, id: OperationId, pause: Duration) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        operation.call = None;
        if pause.is_zero() {
            self.ready.push_back(id);
            return;
        }
        let at = (now + pause).min(operation.deadline);
        self.set_timer(id, at);
    }

    fn set_timer(&mut self, id: OperationId, at: Instant) {
        if let Some(operation) = self.operations.get_mut(&id) {
            self.timers.remove(&(operation.timer, id));
            operation.timer = at;
            self.timers.insert((at, id));
        }
    }

    fn cancel(&mut self, now: Instant, call: Option<(LinkId, CallId)>) {
        if let Some((link, call)) = call {
            self.calls.remove(&(link, call));
            self.rpc.cancel(now, link, call);
        }
    }

    pub(super) fn end(&mut self, id: OperationId, result: Result<Answer, ClientError>) {
        if !self.remove(id) {
            return;
        }
        if let Err(error) = &result
            && self.opening == Some(id)
        {
            // What the session cannot have, the writes that wait for it cannot have either.
            self.opening = None;
            let error = error.clone();
            for parked in core::mem::take(&mut self.parked) {
                self.end(parked, Err(error.clone()));
            }
            return;
        }
        self.outputs.push_back(Output::Done { id, result });
    }

    /// Forgets the operation; false when it had ended before.
    fn remove(&mut self, id: OperationId) -> bool {
        let Some(operation) = self.operations.remove(&id) else { return false };
        self.timers.remove(&(operation.timer, id));
        self.parked.remove(&id);
        self.crowded.remove(&id);
        if let Some(call) = operation.call {
            self.calls.remove(&call);
        }
        if let Some(place) = operation.place()
            && let Some(session) = self.sessions.get_mut(&place.session)
        {
            session.window.finish(place.sequence);
        }
        true
    }

    /// The write that waits longest, if a session has room for it; if none has, another session is asked for.
    pub(super) fn unpark(&mut self, now: Instant) -> Option<OperationId> {
        if self.parked.is_empty() {
            return None;
        }
        if self.sessions.values().any(|session| session.window.open_count() < OPEN_MAX) {
            return self.parked.pop_first();
        }
        self.open_session(now);
        self.ready.pop_front()
    }

    /// A call has ended: one more may be made.
    pub(super) fn make_room(&mut self) {
        self.ready.extend(self.crowded.pop_first());
    }
}

/// What the body says of the range asked for; an old node refuses the question, which is an answer to another one.
fn answer_to_pull(pull: Pull, body: &[u8]) -> Option<Answer> {
    match decode_pull_reply(body).ok()?.1 {
        PullReply::NotHere => Some(Answer::Range { bytes: None }),
        PullReply::Data { digest, offset, bytes } => {
            let is_it =
                (digest, offset) == (pull.meta.digest, pull.offset) && bytes.len() == pull.length as usize;
            is_it.then(|| Answer::Range { bytes: Some(bytes.to_vec()) })
        }
    }
}
