//! Between the RPC layer and Raft: messages in, messages and disk writes out.

use core::mem::discriminant;
use core::time::Duration;

use slog::{debug, error, info};

use super::links::{HELD_MAX, Standing};
use super::{Node, NodeEvent, Output};
use crate::machine::Machine;
use crate::message::{Delivery, Message};
use crate::mutant::{self, Mutant};
use crate::raft::{Alarm, Output as RaftOutput, ReplyToken, RoleKind};
use crate::rpc::{Event, LinkId, Token};
use crate::time::Instant;
use crate::types::{GroupId, NodeId};
use crate::wire::Class;
use crate::wire::body::{BodyFamily, body_kind, family};
use crate::wire::peer::{decode_message, encode_message};

/// The most requests of peers that may wait for Raft's answer; beyond it the oldest is forgotten, and its caller
/// asks again.
pub const PEER_TOKENS_MAX: usize = 16_384;

/// An alarm that goes on is written to the log again after this.
const ALARM_PAUSE: Duration = Duration::from_secs(10);

/// The alarm that was logged last: what is wrong may be found at each heartbeat.
#[derive(Debug, Default)]
pub(super) struct Alarms(Option<(Instant, Alarm)>);

impl Alarms {
    fn is_due(&mut self, now: Instant, alarm: Alarm) -> bool {
        let is_known = self.0.is_some_and(|(at, last)| {
            discriminant(&last) == discriminant(&alarm) && now.saturating_since(at) < ALARM_PAUSE
        });
        if !is_known {
            self.0 = Some((now, alarm));
        }
        !is_known
    }
}

impl<M: Machine> Node<M> {
    pub(super) fn on_rpc_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected { link, peer } => self.on_connected(link, &peer),
            Event::Closed { link, .. } => self.on_closed(link),
            Event::Request { token, link, body, .. } => {
                if body.first() == Some(&body_kind::SNAPSHOT_PULL) {
                    self.serve_pull(now, link, token, &body);
                } else if family(&body) == Some(BodyFamily::Peer) {
                    self.on_peer_message(now, link, Some(token), body);
                } else {
                    self.serve(now, token, &body);
                }
            }
            Event::Reply { link, call, body } => {
                if self.raft_calls.remove(&(link, call)).is_some() {
                    self.on_peer_message(now, link, None, body);
                } else if !self.on_place_told(link, call, Some(&body)) {
                    self.on_pull_reply(now, (link, call), &body);
                }
            }
            Event::CallFailed { link, call, .. } => {
                if let Some(to) = self.raft_calls.remove(&(link, call)) {
                    self.raft.handle_call_failed(now, to);
                } else if !self.on_place_told(link, call, None) {
                    self.on_pull_failed(now, (link, call));
                }
            }
            // A heartbeat held back until its sender is known would be stale; the next one comes soon.
            Event::Notice { link, body } => {
                if body.first() == Some(&body_kind::STATE_DIGESTS) {
                    self.on_digests(link, &body);
                } else if matches!(self.standing_of(link), Some(Standing::Adopted { .. })) {
                    self.on_peer_message(now, link, None, body);
                }
            }
            Event::Copied { identity, incarnation, .. } => self.warn_copy(identity, incarnation),
            // A reply to another cancelled request is ignored below, and silence is Raft's to notice.
            Event::Cancelled { token } => self.watches.forget(token),
            Event::Silent { .. } | Event::Heard { .. } | Event::Refused { .. } => {}
        }
    }

    /// Passes a message to Raft if its sender may speak, and holds it back while that is being settled.
    pub(super) fn on_peer_message(
        &mut self,
        now: Instant,
        link: LinkId,
        token: Option<Token>,
        body: Vec<u8>,
    ) {
        let identity = match self.standing_of(link) {
            Some(Standing::Adopted { identity }) => *identity,
            Some(Standing::Recording { held, .. }) if held.len() < HELD_MAX => {
                return held.push((token, body));
            }
            _ => return,
        };
        let Ok((GroupId(0), message)) = decode_message(&body) else {
            debug!(self.log, "a peer's message could not be read"; "peer" => %identity, "bytes" => body.len());
            return;
        };
        let token = token.map(|token| self.keep_peer_token(token));
        self.raft.handle_message(now, identity, message, token);
    }

    pub(super) fn keep_peer_token(&mut self, token: Token) -> ReplyToken {
        if self.peer_tokens.len() >= PEER_TOKENS_MAX {
            self.peer_tokens.pop_first();
        }
        let key = ReplyToken(self.next_token);
        self.next_token += 1;
        self.peer_tokens.insert(key, token);
        key
    }

    pub(super) fn on_raft_output(&mut self, now: Instant, output: RaftOutput) {
        match output {
            RaftOutput::Request { to, message } => self.send_request(now, to, &message),
            RaftOutput::Reply { token, message } => {
                if let Some(token) = self.peer_tokens.remove(&token) {
                    let body = encode(&message);
                    self.rpc.reply(now, token, body);
                }
            }
            RaftOutput::Notice { to, message } => {
                // What a leader says unasked rests on what it knows of this very boot: a copy must not hear it (D9).
                if let Some(link) = self.adopted_link(to)
                    && let Err(error) = self.rpc.notice(now, link, encode(&message))
                {
                    debug!(self.log, "notice not sent"; "to" => %to, "reason" => %error);
                }
            }
            RaftOutput::CancelRequests { to } => self.cancel_requests(now, to),
            RaftOutput::Persist { ticket, hard_state, install, truncate_from, entries } => {
                let hard_state = match install {
                    None => hard_state,
                    Some(install) => self.persist_install(ticket, hard_state, install),
                };
                self.outputs.push_back(Output::Persist { ticket, hard_state, truncate_from, entries });
            }
            RaftOutput::PullSnapshot { from, meta } => self.start_pull(now, from, meta),
            RaftOutput::CancelPull => self.cancel_pull(now),
            RaftOutput::Commit { index } => {
                assert!(index >= self.commit, "commit index {} fell to {index}", self.commit);
                self.commit = index;
            }
            RaftOutput::ReadReady { id, index } => {
                if let Some(read) = self.reads.remove(&id) {
                    if mutant::is(Mutant::R6) {
                        return self.answer_read(now, read.token, &read.query);
                    }
                    self.confirmed_reads.insert((index, id), read);
                }
            }
            RaftOutput::ReadFailed { id } => {
                if let Some(read) = self.reads.remove(&id) {
                    self.redirect(now, read.token);
                }
            }
            RaftOutput::RoleChanged { role, term, leader } => {
                info!(self.log, "role"; "role" => %role, "term" => %term,
                    "leader" => leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()));
                self.outputs.push_back(Output::Event(NodeEvent::RoleChanged { role, term, leader }));
                if role != RoleKind::Leader && !mutant::is(Mutant::L15) {
                    self.send_waiting_clients_away(now);
                }
            }
            RaftOutput::Alarm(alarm) => {
                if self.alarms.is_due(now, alarm) {
                    error!(self.log, "alarm"; "what" => %alarm);
                }
                self.outputs.push_back(Output::Event(NodeEvent::Alarm(alarm)));
            }
        }
    }

    fn send_request(&mut self, now: Instant, to: NodeId, message: &Message) {
        assert_eq!(message.delivery(), Delivery::Request, "{message} is no request");
        let link = self.heeded_link(to).filter(|_| !self.is_vain(message));
        let Some(link) = link else { return self.raft.handle_call_failed(now, to) };
        match self.rpc.call(now, link, Class::Again, encode(message)) {
            Ok(call) => {
                self.raft_calls.insert((link, call), to);
            }
            Err(_) => self.raft.handle_call_failed(now, to),
        }
    }

    fn cancel_requests(&mut self, now: Instant, to: NodeId) {
        let overtaken: Vec<_> =
            self.raft_calls.iter().filter(|(_, callee)| **callee == to).map(|(call, _)| *call).collect();
        for (link, call) in overtaken {
            self.raft_calls.remove(&(link, call));
            self.rpc.cancel(now, link, call);
        }
    }
}

/// Most messages without entries are shorter, and grow no vector.
const USUAL_BYTES: usize = 64;

/// An entry takes no more than its content and this, but for a very long one.
const ENTRY_BYTES: usize = 8;

fn encode(message: &Message) -> Vec<u8> {
    let carried = match message {
        Message::Append(it) => it.entries.iter().map(|it| ENTRY_BYTES + it.payload.content_bytes()).sum(),
        _ => 0,
    };
    let mut body = Vec::with_capacity(USUAL_BYTES + carried);
    encode_message(GroupId(0), message, &mut body);
    body
}
