//! What clients ask, and what they are answered.

use super::{DiskRoom, LiveFaults, Node, NodeEvent, Output};
use crate::entry::Payload;
use crate::machine::Machine;
use crate::raft::{ProposeError, ReadError, ReadId, RoleKind};
use crate::rpc::Token;
use crate::session::{Command, Limits, Ranges};
use crate::time::Instant;
use crate::types::{GroupId, Index, Term};
use crate::wire::client::{
    ClientReply, ClientRequest, LeaderHint, Outcome, Propose, ReadLevel, RefusalCode, decode_request,
    encode_reply,
};
use crate::wire::fault::FaultRequest;

/// A read on its way.
#[derive(Debug)]
pub(super) struct PendingRead {
    pub(super) token: Token,
    pub(super) query: Vec<u8>,
}

/// All of an answer but the machine's result usually takes no more, and grows no vector.
const USUAL_BYTES: usize = 32;

impl<M: Machine> Node<M> {
    /// Serves one request of a client, or of a blank node.
    pub(super) fn serve(&mut self, now: Instant, token: Token, body: &[u8]) {
        let Ok((group, request)) = decode_request(body) else {
            return self.refuse(
                now,
                token,
                RefusalCode::UnknownBody,
                "this node does not know such a request",
            );
        };
        if group != GroupId(0) {
            return self.refuse(now, token, RefusalCode::Unavailable, "this node serves group 0 only");
        }
        match request {
            ClientRequest::OpenSession => self.propose(now, token, &Command::Open),
            ClientRequest::CloseSession { session } => self.propose(now, token, &Command::Close { session }),
            ClientRequest::Propose(propose) => self.propose_write(now, token, &propose),
            ClientRequest::Read { level: ReadLevel::Local, query } => self.answer_read(now, token, query),
            ClientRequest::Read { level, query } => self.read(now, token, level, query.to_vec()),
            ClientRequest::Status => {
                let status = Box::new(self.status());
                self.answer(now, token, &ClientReply::Status(status));
            }
            ClientRequest::ChangeMembership(request) => {
                if self.may_change_cluster(now, token) {
                    self.serve_change(now, token, request);
                }
            }
            ClientRequest::Members { of } => self.serve_members(now, token, of),
            ClientRequest::TransferLeadership { to } => {
                if self.may_change_cluster(now, token) {
                    self.serve_transfer(now, token, to);
                }
            }
            ClientRequest::Watch(watch) => self.serve_watch(now, token, &watch),
            ClientRequest::SetFaults(request) => self.serve_faults(now, token, request),
            ClientRequest::TakeSnapshot { through } => {
                if through == Index(0) && !self.may_change_cluster(now, token) {
                    return;
                }
                if through == Index(0) {
                    self.take_snapshot();
                }
                self.answer(now, token, &self.snapshot_state());
            }
            ClientRequest::Founding => match self.founding.clone() {
                Some(record) => self.answer(now, token, &ClientReply::Founded(record)),
                None => {
                    self.refuse(now, token, RefusalCode::Unavailable, "this node joined and has no record")
                }
            },
        }
    }

    /// Faults are the driver's: the links are below this node. `[W-111]`
    fn serve_faults(&mut self, now: Instant, token: Token, request: FaultRequest) {
        if !self.may_change_cluster(now, token) {
            return;
        }
        if self.config.live_faults == LiveFaults::Refused {
            let text = "this node was not started with --allow-faults";
            return self.refuse(now, token, RefusalCode::NotAllowed, text);
        }
        self.outputs.push_back(Output::Event(NodeEvent::FaultsAsked(Box::new(request))));
        self.answer(now, token, &ClientReply::FaultsSet);
    }

    /// Proposes other limits of sessions and snapshots for the whole cluster. They are in force from the entry on that
    /// they become.
    ///
    /// # Errors
    /// When this node does not lead, or cannot take proposals.
    pub fn propose_limits(&mut self, now: Instant, limits: Limits) -> Result<(Index, Term), ProposeError> {
        let command = Command::SetLimits(limits).to_bytes();
        self.raft.propose(now, Payload::Command(command.into()))
    }

    fn propose_write(&mut self, now: Instant, token: Token, propose: &Propose<'_>) {
        if propose.command.len() > self.config.command_bytes_max {
            let bytes_max = self.config.command_bytes_max as u64;
            return self.answer(now, token, &ClientReply::TooLarge { bytes_max });
        }
        let mut pairs: Vec<(u64, u64)> =
            propose.finished.iter().map(|span| (span.first, span.last)).collect();
        pairs.reverse();
        let Some(finished) = Ranges::from_pairs(&pairs) else {
            return self.refuse(now, token, RefusalCode::MalformedBody, "finished ranges are out of order");
        };
        let Propose { session, sequence, command, .. } = *propose;
        self.propose(now, token, &Command::Write { session, sequence, finished, command });
    }

    fn propose(&mut self, now: Instant, token: Token, command: &Command<'_>) {
        if self.writes.is_full_for(token.link(), self.pace.waiting_max(self.config.waiting_max)) {
            return self.busy(now, token);
        }
        let name = match command {
            Command::Write { session, sequence, .. } => Some((*session, *sequence)),
            _ => None,
        };
        if name.is_some_and(|name| self.writes.join(name, token)) {
            return;
        }
        if self.room == DiskRoom::Low && self.raft.role() == RoleKind::Leader {
            let text = "the leader's disk is nearly full: it is read-only until there is room";
            return self.refuse(now, token, RefusalCode::Unavailable, text);
        }
        let payload = Payload::Command(command.to_bytes().into());
        match self.raft.propose(now, payload) {
            Ok(at) => self.writes.insert(now, at, name, token),
            Err(ProposeError::NotLeader { .. }) => self.redirect(now, token),
            Err(_) => self.busy(now, token),
        }
    }

    /// A lease read that finds no lease is an ordinary one. `[W-50]` One that any node may answer costs a follower a
    /// question to its leader. `[W-90]`
    fn read(&mut self, now: Instant, token: Token, level: ReadLevel, query: Vec<u8>) {
        if self.reads.len() + self.confirmed_reads.len() >= self.config.waiting_max {
            return self.busy(now, token);
        }
        let id = ReadId(self.next_read);
        self.next_read += 1;
        if level == ReadLevel::Lease
            && let Some(index) = self.raft.lease(now)
        {
            self.confirmed_reads.insert((index, id), PendingRead { token, query });
            return;
        }
        let asked = match level {
            ReadLevel::AnyNode => self.raft.read_here(now, id),
            _ => self.raft.read(now, id),
        };
        match asked {
            Ok(()) => {
                self.reads.insert(id, PendingRead { token, query });
            }
            Err(ReadError::NotLeader { .. }) => self.redirect(now, token),
            Err(_) => self.busy(now, token),
        }
    }

    /// Answers from what is applied here.
    pub(super) fn answer_read(&mut self, now: Instant, token: Token, query: &[u8]) {
        let result = self.machine.query(query);
        let outcome = Outcome { index: self.applied, term: self.raft.term(), result: &result };
        self.answer(now, token, &ClientReply::Read(outcome));
    }

    /// Sends the client to the leader, if one is known that is not this node.
    pub(super) fn redirect(&mut self, now: Instant, token: Token) {
        let membership = self.raft.membership();
        let leader = self.raft.leader().filter(|leader| *leader != self.identity.node);
        let address = leader.and_then(|node| Some((node, membership.member(node)?.address.clone())));
        let hint = address.as_ref().map(|(node, address)| LeaderHint { node: *node, address });
        self.answer(now, token, &ClientReply::Redirect { leader: hint });
    }

    /// No longer the leader: what waits here may be overwritten, and another node can tell. The clients' retries
    /// carry the same session and sequence.
    pub(super) fn send_waiting_clients_away(&mut self, now: Instant) {
        for token in self.writes.take_all() {
            self.redirect(now, token);
        }
    }

    pub(super) fn busy(&mut self, now: Instant, token: Token) {
        let pause = self.pace.pause(self.writes.len());
        let retry_after_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.answer(now, token, &ClientReply::Busy { retry_after_us });
    }

    pub(super) fn refuse(&mut self, now: Instant, token: Token, code: RefusalCode, text: &str) {
        self.answer(now, token, &ClientReply::Refused { code, text });
    }

    pub(super) fn answer(&mut self, now: Instant, token: Token, reply: &ClientReply<'_>) {
        let carried = match reply {
            ClientReply::Applied(it) | ClientReply::Read(it) => it.result.len(),
            _ => 0,
        };
        let mut body = Vec::with_capacity(USUAL_BYTES + carried);
        encode_reply(GroupId(0), reply, &mut body);
        self.rpc.reply(now, token, body);
    }
}
