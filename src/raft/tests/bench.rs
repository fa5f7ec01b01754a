//! One node, fed by hand: node 1, unless a test says otherwise, with peers that exist only as messages.

use core::ops::RangeInclusive;
use core::time::Duration;

use super::{CLUSTER, identity, log_of, voters};
use crate::entry::Entry;
use crate::membership::Membership;
use crate::message::{
    Append, AppendEntry, AppendOutcome, AppendReply, Heartbeat, HeartbeatReply, Message, ReadProbe,
    VoteReply, VoteRequest,
};
use crate::raft::{Alarm, Base, Output, Raft, RaftConfig, ReplyToken, Restored, RoleKind, Ticket};
use crate::remains::{LogEnd, Remains};
use crate::rng::Rng;
use crate::snapshot::SnapshotMeta;
use crate::time::Instant;
use crate::types::{HardState, Identity, Incarnation, Index, NodeId, Round, Term};

/// What a node finds on its disk.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) membership: Membership,
    pub(super) hard_state: HardState,
    pub(super) base: Base,
    pub(super) snapshot: Option<SnapshotMeta>,
    pub(super) entries: Vec<Entry>,
    pub(super) remains: Option<Remains>,
    pub(super) incarnation: u32,
    pub(super) tune: fn(&mut RaftConfig),
}

impl Setup {
    /// Voters 1 to `count`, nothing on disk.
    pub(super) fn voters(count: u16) -> Self {
        Self {
            membership: voters(&(1..=count).collect::<Vec<_>>()),
            hard_state: HardState::default(),
            base: Base::default(),
            snapshot: None,
            entries: Vec::new(),
            remains: None,
            incarnation: 1,
            tune: |_| {},
        }
    }

    /// Entries of these terms, in the last one's term if no other is set later.
    pub(super) fn log(mut self, terms: &[u64]) -> Self {
        self.entries = log_of(terms);
        self.hard_state.term = Term(terms.last().copied().unwrap_or(0));
        self
    }

    pub(super) fn term(mut self, term: u64) -> Self {
        self.hard_state.term = Term(term);
        self
    }

    pub(super) fn vote(mut self, node: u16) -> Self {
        self.hard_state.vote = Some(identity(node));
        self
    }

    pub(super) fn membership(mut self, membership: Membership) -> Self {
        self.membership = membership;
        self
    }

    /// Of the log so far the entries in these ranges cannot be read; whether its end is known.
    pub(super) fn damaged(mut self, holes: &[RangeInclusive<u64>], is_end_known: bool) -> Self {
        let end = self.entries.last().map(LogEnd::of).filter(|_| is_end_known);
        let is_lost = |entry: &Entry| holes.iter().any(|hole| hole.contains(&entry.index.0));
        let first = holes.iter().map(|hole| *hole.start()).min().unwrap();
        let mut entries = core::mem::take(&mut self.entries);
        entries.retain(|entry| !is_lost(entry));
        let (before, behind) = entries.into_iter().partition(|entry| entry.index.0 < first);
        self.entries = before;
        self.remains = Some(Remains { entries: behind, end });
        self
    }

    pub(super) fn tune(mut self, tune: fn(&mut RaftConfig)) -> Self {
        self.tune = tune;
        self
    }

    /// Node 1, long enough after its boot to vote.
    pub(super) fn boot(self) -> Bench {
        let mut bench = self.boot_now();
        bench.now += bench.raft.config().election_timeout_min;
        bench
    }

    pub(super) fn boot_now(self) -> Bench {
        let mut config = RaftConfig::new(identity(1), Incarnation(self.incarnation), CLUSTER);
        (self.tune)(&mut config);
        let restored = Restored {
            hard_state: self.hard_state,
            membership: self.membership,
            base: self.base,
            snapshot: self.snapshot,
            entries: self.entries,
            remains: self.remains,
        };
        let now = Instant::from_nanos(1_000_000_000);
        let raft = Raft::new(config, restored, Rng::from_seed(1), now);
        Bench { raft, now, disk: DiskMode::AtOnce, unfinished: Vec::new(), token: 0 }
    }

    /// Node 1 as leader of the next term, its no-op durable here and nowhere acknowledged. Returns the outputs
    /// of its first moment too.
    pub(super) fn lead(self) -> (Bench, Vec<Output>) {
        let mut bench = self.boot();
        let outputs = bench.win();
        (bench, outputs)
    }
}

/// When disk writes finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskMode {
    AtOnce,
    ByHand,
}

pub(super) struct Bench {
    pub(super) raft: Raft,
    pub(super) now: Instant,
    pub(super) disk: DiskMode,
    pub(super) unfinished: Vec<Ticket>,
    token: u64,
}

impl Bench {
    /// Everything the node wants done, disk writes finished as `disk` says.
    pub(super) fn drain(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.raft.poll_output() {
            if let Output::Persist { ticket, .. } = &output {
                self.unfinished.push(*ticket);
                if self.disk == DiskMode::AtOnce {
                    let ticket = self.unfinished.pop().unwrap();
                    self.raft.handle_persisted(self.now, ticket);
                }
            }
            outputs.push(output);
        }
        outputs
    }

    /// The disk finishes its oldest write.
    pub(super) fn sync(&mut self) -> Vec<Output> {
        let ticket = self.unfinished.remove(0);
        self.raft.handle_persisted(self.now, ticket);
        self.drain()
    }

    pub(super) fn receive(&mut self, from: u16, message: Message) -> Vec<Output> {
        self.receive_from(identity(from), message)
    }

    pub(super) fn receive_from(&mut self, from: Identity, message: Message) -> Vec<Output> {
        self.token += 1;
        self.raft.handle_message(self.now, from, message, Some(ReplyToken(self.token)));
        self.drain()
    }

    /// Time passes and every timer fires when it is due.
    pub(super) fn wait(&mut self, span: Duration) -> Vec<Output> {
        let end = self.now + span;
        let mut outputs = self.drain();
        while let Some(due) = self.raft.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.raft.handle_timeout(self.now);
            outputs.extend(self.drain());
        }
        self.now = end;
        outputs
    }

    /// Time passes until the next timer has fired.
    pub(super) fn wait_for_timer(&mut self) -> Vec<Output> {
        self.now = self.now.max(self.raft.poll_timeout().expect("a timer runs"));
        self.raft.handle_timeout(self.now);
        self.drain()
    }

    /// Times out and gets every peer's vote.
    pub(super) fn win(&mut self) -> Vec<Output> {
        let mut outputs = self.drain();
        outputs.extend(self.wait_for_timer());
        let peers: Vec<u16> =
            self.raft.membership().iter().map(|(id, _)| id.as_u16()).filter(|id| *id != 1).collect();
        for _ in 0..2 {
            for peer in &peers {
                for request in requests_to(&outputs, *peer) {
                    if let Some(grant) = grant(&request) {
                        outputs.extend(self.receive(*peer, grant));
                    }
                }
            }
        }
        assert_eq!(self.raft.role(), RoleKind::Leader, "{}", self.raft);
        outputs
    }

    /// A peer acknowledges everything through `index` in the attempt it was asked in.
    pub(super) fn accept(&mut self, from: u16, attempt: u64, index: u64) -> Vec<Output> {
        let outcome = AppendOutcome::Accepted { match_index: Index(index) };
        let reply = AppendReply { term: self.raft.term(), attempt, outcome };
        self.receive(from, Message::AppendReply(reply))
    }

    /// A peer refuses an append.
    pub(super) fn refuse(&mut self, from: u16, attempt: u64, prev: u64, conflict: (u64, u64)) -> Vec<Output> {
        let outcome = AppendOutcome::Refused {
            prev_index: Index(prev),
            conflict_term: Term(conflict.1),
            conflict_index: Index(conflict.0),
            last_index: Index(conflict.0),
        };
        let reply = AppendReply { term: self.raft.term(), attempt, outcome };
        self.receive(from, Message::AppendReply(reply))
    }

    /// A peer hears heartbeats of this round.
    pub(super) fn hear(&mut self, from: u16, round: u64) -> Vec<Output> {
        let reply = HeartbeatReply { term: self.raft.term(), round: Round(round) };
        self.receive(from, Message::HeartbeatReply(reply))
    }

    pub(super) fn state(&self) -> String {
        self.raft.to_string()
    }
}

/// The yes to a vote or pre-vote request.
pub(super) fn grant(request: &Message) -> Option<Message> {
    let reply = |m: &VoteRequest| VoteReply {
        term: m.term,
        campaign_term: m.campaign_term,
        campaign: m.campaign,
        is_granted: true,
    };
    match request {
        Message::PreVote(m) => Some(Message::PreVoteReply(reply(m))),
        Message::Vote(m) => Some(Message::VoteReply(reply(m))),
        _ => None,
    }
}

pub(super) fn requests_to(outputs: &[Output], peer: u16) -> Vec<Message> {
    let request = |output: &Output| match output {
        Output::Request { to, message } if to.as_u16() == peer => Some(message.clone()),
        _ => None,
    };
    outputs.iter().filter_map(request).collect()
}

pub(super) fn appends_to(outputs: &[Output], peer: u16) -> Vec<Append> {
    let append = |message| match message {
        Message::Append(append) => Some(append),
        _ => None,
    };
    requests_to(outputs, peer).into_iter().filter_map(append).collect()
}

/// The only answer.
pub(super) fn reply(outputs: &[Output]) -> Message {
    let [reply] = <[Message; 1]>::try_from(replies(outputs)).expect("one answer");
    reply
}

/// The answers among the outputs.
pub(super) fn replies(outputs: &[Output]) -> Vec<Message> {
    let reply = |output: &Output| match output {
        Output::Reply { message, .. } => Some(message.clone()),
        _ => None,
    };
    outputs.iter().filter_map(reply).collect()
}

pub(super) fn notices_to(outputs: &[Output], peer: u16) -> Vec<Message> {
    let notice = |output: &Output| match output {
        Output::Notice { to, message } if to.as_u16() == peer => Some(message.clone()),
        _ => None,
    };
    outputs.iter().filter_map(notice).collect()
}

/// Everything that leaves for other nodes, one way or another.
pub(super) fn traffic(outputs: &[Output]) -> Vec<&Message> {
    outputs.iter().filter_map(message_of).collect()
}

fn message_of(output: &Output) -> Option<&Message> {
    match output {
        Output::Request { message, .. } | Output::Reply { message, .. } | Output::Notice { message, .. } => {
            Some(message)
        }
        _ => None,
    }
}

pub(super) fn alarms(outputs: &[Output]) -> Vec<Alarm> {
    let alarm = |output: &Output| match output {
        Output::Alarm(alarm) => Some(*alarm),
        _ => None,
    };
    outputs.iter().filter_map(alarm).collect()
}

pub(super) fn cancelled(outputs: &[Output]) -> Vec<NodeId> {
    let cancel = |output: &Output| match output {
        Output::CancelRequests { to } => Some(*to),
        _ => None,
    };
    outputs.iter().filter_map(cancel).collect()
}

/// The outcomes of the append replies among the outputs.
pub(super) fn outcomes(outputs: &[Output]) -> Vec<AppendOutcome> {
    let outcome = |message| match message {
        Message::AppendReply(reply) => Some(reply.outcome),
        _ => None,
    };
    replies(outputs).into_iter().filter_map(outcome).collect()
}

pub(super) fn accepted(index: u64) -> AppendOutcome {
    AppendOutcome::Accepted { match_index: Index(index) }
}

/// Whether the only answer to a vote or pre-vote request says yes.
pub(super) fn is_granted(outputs: &[Output]) -> bool {
    match replies(outputs).as_slice() {
        [Message::VoteReply(reply) | Message::PreVoteReply(reply)] => reply.is_granted,
        other => panic!("not one answer: {other:?}"),
    }
}

/// A request for a vote in this term by a node whose log ends there.
pub(super) fn vote_request(term: u64, last: (u64, u64)) -> VoteRequest {
    VoteRequest {
        term: Term(term),
        campaign_term: Term(term),
        campaign: 1,
        last_index: Index(last.0),
        last_term: Term(last.1),
        is_transfer: false,
    }
}

pub(super) fn vote(term: u64, last: (u64, u64)) -> Message {
    Message::Vote(vote_request(term, last))
}

pub(super) fn transfer_vote(term: u64, last: (u64, u64)) -> Message {
    Message::Vote(VoteRequest { is_transfer: true, ..vote_request(term, last) })
}

/// A pre-vote of a node whose *current* term is this.
pub(super) fn pre_vote(term: u64, last: (u64, u64)) -> Message {
    Message::PreVote(VoteRequest { campaign_term: Term(term + 1), ..vote_request(term, last) })
}

pub(super) fn heartbeat(term: u64, round: u64, commit: u64) -> Message {
    Message::Heartbeat(Heartbeat { term: Term(term), round: Round(round), commit: Index(commit) })
}

pub(super) fn read_probe(term: u64, round: u64) -> ReadProbe {
    ReadProbe { term: Term(term), round: Round(round) }
}

/// The entries after `prev` of a leader whose log has these terms; everything else to be set by the test.
pub(super) fn append(term: u64, log: &[u64], prev: usize) -> Append {
    let entries = log_of(log);
    let before = prev.checked_sub(1).map(|position| &entries[position]);
    Append {
        term: Term(term),
        attempt: 0,
        prev_index: Index(prev as u64),
        prev_term: before.map_or(Term(0), |entry| entry.term),
        commit: Index(0),
        entries: entries[prev..]
            .iter()
            .map(|entry| AppendEntry { term: entry.term, payload: entry.payload.clone() })
            .collect(),
        chain: entries.last().map_or(0, |entry| entry.chain),
    }
}
