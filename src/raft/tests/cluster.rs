//! A whole cluster in virtual time: real cores, memory disks that finish late and forget what they did not finish,
//! and a network that loses, doubles, delays, reorders and cuts. One seed decides everything.

use core::fmt::Write as _;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::checks::Checks;
use super::disk::{Batch, Disk};
use super::members::store_of;
use super::node::Node;
use super::{CLUSTER, id};
use crate::entry::{Entry, Payload};
use crate::membership::Membership;
use crate::message::Message;
use crate::raft::{Output, Raft, RaftConfig, ReadId, ReplyToken, RoleKind, Ticket};
use crate::rng::Rng;
use crate::snapshot::SnapshotMeta;
use crate::time::Instant;
use crate::types::{HardState, Incarnation, Index, NodeId, Term};

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How links behave.
#[derive(Clone, Debug)]
pub(super) struct Net {
    pub(super) loss: f64,
    pub(super) duplication: f64,
    /// A further copy comes seconds later, when terms and leaders have changed.
    pub(super) late: f64,
    pub(super) delay_min: Duration,
    pub(super) delay_max: Duration,
    /// A call is sent again after this, until it is answered or cancelled; `None` sends once.
    pub(super) resend: Option<Duration>,
}

impl Net {
    pub(super) fn calm() -> Self {
        let delay = Duration::from_micros(50);
        Self {
            loss: 0.0,
            duplication: 0.0,
            late: 0.0,
            delay_min: delay,
            delay_max: delay,
            resend: Some(ms(5)),
        }
    }
}

#[derive(Debug)]
pub(super) enum Event {
    /// A message arrives; `call` names the caller's call if it wants an answer, or is answered.
    Deliver {
        from: NodeId,
        to: NodeId,
        from_boot: u32,
        message: Message,
        call: Option<u64>,
    },
    Resend {
        node: NodeId,
        boot: u32,
        call: u64,
    },
    Persisted {
        node: NodeId,
        boot: u32,
        ticket: Ticket,
    },
    Connected {
        node: NodeId,
        to: NodeId,
    },
    /// This node's own snapshot is durable.
    Written {
        node: NodeId,
        boot: u32,
        meta: SnapshotMeta,
    },
    /// A range of a snapshot may have come.
    Pulled {
        node: NodeId,
        boot: u32,
        meta: SnapshotMeta,
    },
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) net: Net,
    /// Links that carry nothing, from and to.
    pub(super) cut: BTreeSet<(NodeId, NodeId)>,
    pub(super) checks: Checks,
    /// Every event's text runs through FNV-1a: equal runs have equal hashes.
    pub(super) trace_hash: u64,
    pub(super) events: u64,
    /// Lines, when a script wants to see them.
    pub(super) trace: Option<String>,
    /// Reads asked for and not answered, each with the highest commit index known anywhere at that time.
    reads: BTreeMap<(NodeId, ReadId), Index>,
    pub(super) reads_ready: u64,
    pub(super) writes_committed: u64,
    pub(super) leader_changes: u64,
    pub(super) alarms: u64,
    /// The membership in every snapshot file that was ever written.
    pub(super) files: BTreeMap<SnapshotMeta, Membership>,
    pub(super) compactions: u64,
    pub(super) installs: u64,
    tune: fn(&mut RaftConfig),
    queue: BTreeMap<(Instant, u64), Event>,
    scheduled: u64,
    /// Which call an answer belongs to: the caller, its boot, its call.
    tokens: BTreeMap<ReplyToken, (NodeId, u32, u64)>,
    next_call: u64,
    /// Which data folder a boot ran on.
    folders: BTreeMap<(NodeId, u32), u8>,
}

impl Cluster {
    /// Nodes 1 to `count`, all voters, all just booted with empty disks.
    pub(super) fn new(seed: u64, count: u16) -> Self {
        let numbers: Vec<u16> = (1..=count).collect();
        Self::with(seed, super::voters(&numbers), |_| {})
    }

    pub(super) fn with(seed: u64, membership: Membership, tune: fn(&mut RaftConfig)) -> Self {
        Self::with_log(seed, membership, &[], tune)
    }

    /// All nodes find these entries on their disks.
    pub(super) fn with_log(
        seed: u64,
        membership: Membership,
        entries: &[Entry],
        tune: fn(&mut RaftConfig),
    ) -> Self {
        let mut cluster = Self {
            now: Instant::ZERO,
            rng: Rng::from_seed(seed),
            nodes: BTreeMap::new(),
            net: Net::calm(),
            cut: BTreeSet::new(),
            checks: Checks::default(),
            trace_hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            trace: None,
            reads: BTreeMap::new(),
            reads_ready: 0,
            writes_committed: 0,
            leader_changes: 0,
            alarms: 0,
            files: BTreeMap::new(),
            compactions: 0,
            installs: 0,
            tune,
            queue: BTreeMap::new(),
            scheduled: 0,
            tokens: BTreeMap::new(),
            next_call: 0,
            folders: BTreeMap::new(),
        };
        for (node, _) in membership.iter() {
            let term = entries.last().map_or(Term(0), |entry| entry.term);
            cluster.add(node, membership.clone(), HardState { term, vote: None }, entries.to_vec());
        }
        cluster
    }

    /// Starts a node that finds this on its disk.
    pub(super) fn add(
        &mut self,
        node: NodeId,
        membership: Membership,
        hard_state: HardState,
        entries: Vec<Entry>,
    ) {
        let disk = Disk { hard_state, entries, delay_min: ms(1), delay_max: ms(1), ..Disk::default() };
        self.nodes.insert(node, Node::down(membership, disk));
        self.start(node);
    }

    /// Boots a node from its disk; its peers learn of the new boot a little later.
    pub(super) fn start(&mut self, node: NodeId) {
        let rng = self.rng.fork();
        let state = self.nodes.get_mut(&node).unwrap();
        assert!(state.raft.is_none(), "{node} runs already");
        state.boot += 1;
        self.folders.insert((node, state.boot), state.life);
        let own = store_of(node, state.life);
        let mut config = RaftConfig::new(own, Incarnation(state.boot), CLUSTER);
        (self.tune)(&mut config);
        let restored = state.disk.restored(&state.membership);
        state.raft = Some(Raft::new(config, restored, rng, self.now));
        state.applied = state.disk.snapshot.as_ref().map_or(Index(0), |(meta, _)| meta.id.index);
        state.disk.hangs = false;
        self.checks.booted(node);
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != node).collect();
        for other in others {
            self.schedule(ms(2), Event::Connected { node, to: other });
            self.schedule(ms(2), Event::Connected { node: other, to: node });
        }
        self.note(format_args!("start {node}"));
        self.settle(node);
    }

    /// Takes the power: of what the disk had not finished, any number of whole batches from the front may have
    /// reached it.
    pub(super) fn crash(&mut self, node: NodeId) {
        let state = self.nodes.get_mut(&node).unwrap();
        if state.raft.take().is_none() {
            return;
        }
        let survivors = self.rng.below(state.disk.pending.len() as u64 + 1);
        for _ in 0..survivors {
            let batch = state.disk.pending.pop_front().unwrap();
            state.disk.apply(batch);
        }
        state.disk.pending.clear();
        state.disk.busy_until = self.now;
        state.calls.clear();
        state.proposed.clear();
        state.paused_until = self.now;
        self.reads.retain(|(reader, _), _| *reader != node);
        self.note(format_args!("crash {node}"));
    }

    pub(super) fn raft(&self, node: u16) -> &Raft {
        self.nodes[&id(node)].raft.as_ref().expect("it runs")
    }

    pub(super) fn disk(&mut self, node: u16) -> &mut Disk {
        &mut self.nodes.get_mut(&id(node)).unwrap().disk
    }

    /// The leader of the highest term, if any runs.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let leads =
            |node: &Node| node.raft.as_ref().filter(|raft| raft.role() == RoleKind::Leader).map(Raft::term);
        let leaders = self.nodes.iter().filter_map(|(id, node)| leads(node).map(|term| (term, *id)));
        leaders.max().map(|(_, id)| id)
    }

    /// Cuts both directions between two nodes.
    pub(super) fn cut_link(&mut self, a: u16, b: u16) {
        self.cut.extend([(id(a), id(b)), (id(b), id(a))]);
    }

    /// Cuts a node off from all others.
    pub(super) fn isolate(&mut self, node: NodeId) {
        for other in self.nodes.keys().copied().filter(|other| *other != node).collect::<Vec<_>>() {
            self.cut.extend([(node, other), (other, node)]);
        }
    }

    /// A command, offered to this node; false when it did not take it.
    pub(super) fn propose(&mut self, node: NodeId, payload: Payload) -> bool {
        let now = self.now;
        let Some(state) = self.nodes.get_mut(&node).filter(|state| state.paused_until <= now) else {
            return false;
        };
        let Some(raft) = &mut state.raft else { return false };
        let Ok((index, term)) = raft.propose(now, payload) else { return false };
        state.proposed.insert(index, term);
        self.note(format_args!("propose {node} {index}@{term}"));
        self.settle(node);
        true
    }

    /// A linearizable read, asked of this node.
    pub(super) fn read(&mut self, node: NodeId, read: ReadId) -> bool {
        let now = self.now;
        let Some(state) = self.nodes.get_mut(&node).filter(|state| state.paused_until <= now) else {
            return false;
        };
        let Some(raft) = &mut state.raft else { return false };
        if raft.read(now, read).is_err() {
            return false;
        }
        self.reads.insert((node, read), self.checks.highest_commit());
        self.note(format_args!("read {node} {}", read.0));
        self.settle(node);
        true
    }

    /// Hands leadership over, to anyone.
    pub(super) fn transfer(&mut self, node: NodeId, to: Option<NodeId>) -> bool {
        let now = self.now;
        let Some(raft) = self.nodes.get_mut(&node).and_then(|state| state.raft.as_mut()) else {
            return false;
        };
        let is_taken = raft.transfer_leadership(now, to).is_ok();
        self.settle(node);
        is_taken
    }

    /// A message from nowhere, to a node that takes it for `from`'s.
    pub(super) fn inject(&mut self, from: u16, to: u16, message: Message) {
        let event = Event::Deliver { from: id(from), to: id(to), from_boot: 0, message, call: None };
        self.schedule(Duration::ZERO, event);
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until the condition holds; false when it does not within `span`.
    pub(super) fn run_until(&mut self, span: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + span;
        while !holds(self) {
            if !self.step(end) {
                self.now = end;
                return holds(self);
            }
        }
        true
    }

    /// The next event or timer before `end`; input before timers at the same moment, as a driver reads its queue
    /// first.
    fn step(&mut self, end: Instant) -> bool {
        let timer = self.next_timer();
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        match (next, timer) {
            (Some(at), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                let (_, event) = self.queue.pop_first().unwrap();
                self.now = self.now.max(at);
                self.handle(event);
                true
            }
            (_, Some((due, node))) if due <= end => {
                self.now = self.now.max(due);
                let now = self.now;
                let raft = self.nodes.get_mut(&node).unwrap().raft.as_mut().unwrap();
                let what = if raft.role() == RoleKind::Leader { "beat" } else { "timeout" };
                raft.handle_timeout(now);
                self.note(format_args!("{what} {node}"));
                self.settle(node);
                true
            }
            _ => false,
        }
    }

    fn next_timer(&self) -> Option<(Instant, NodeId)> {
        let due = |node: &Node| Some(node.raft.as_ref()?.poll_timeout()?.max(node.paused_until));
        self.nodes.iter().filter_map(|(id, node)| due(node).map(|due| (due, *id))).min()
    }

    pub(super) fn schedule(&mut self, after: Duration, event: Event) {
        self.scheduled += 1;
        self.queue.insert((self.now + after, self.scheduled), event);
    }

    fn handle(&mut self, event: Event) {
        let (node, boot) = match &event {
            Event::Deliver { to, .. } => (*to, None),
            Event::Resend { node, boot, .. }
            | Event::Persisted { node, boot, .. }
            | Event::Written { node, boot, .. }
            | Event::Pulled { node, boot, .. } => (*node, Some(*boot)),
            Event::Connected { to, .. } => (*to, None),
        };
        let now = self.now;
        let state = self.nodes.get_mut(&node).unwrap();
        let Some(raft) = &mut state.raft else { return };
        if boot.is_some_and(|boot| boot != state.boot) {
            return;
        }
        if state.paused_until > now {
            let rest = state.paused_until.saturating_since(now);
            self.schedule(rest, event);
            return;
        }
        match event {
            Event::Deliver { from, from_boot, message, call, .. } => {
                self.deliver(from, node, from_boot, message, call);
                return;
            }
            Event::Resend { call, .. } => {
                if let Some((to, message)) = state.calls.get(&call).cloned() {
                    self.send_call(node, to, call, message);
                }
                return;
            }
            Event::Persisted { ticket, .. } => {
                if state.disk.hangs {
                    self.schedule(ms(10), event);
                    return;
                }
                // Group commit: what came before is done with it.
                while state.disk.pending.front().is_some_and(|batch| batch.ticket <= ticket) {
                    let batch = state.disk.pending.pop_front().unwrap();
                    state.disk.apply(batch);
                }
                raft.handle_persisted(now, ticket);
                self.note(format_args!("persisted {node} {ticket}"));
            }
            Event::Written { meta, .. } => self.snapshot_written(node, meta),
            Event::Pulled { meta, .. } => self.snapshot_pulled(node, meta),
            Event::Connected { node: peer, .. } => {
                let incarnation = Incarnation(self.nodes[&peer].boot);
                let who = self.identity(peer);
                let state = self.nodes.get_mut(&node).unwrap();
                let had_calls = state.calls.values().any(|(to, _)| *to == peer);
                state.calls.retain(|_, (to, _)| *to != peer);
                let raft = state.raft.as_mut().unwrap();
                if had_calls {
                    raft.handle_call_failed(now, peer);
                }
                raft.handle_connected(now, who, incarnation);
                self.note(format_args!("connected {node} {peer}"));
            }
        }
        self.settle(node);
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, from_boot: u32, message: Message, call: Option<u64>) {
        use crate::message::Delivery;
        self.note(format_args!("{from}>{to} {message}"));
        let token = match (message.delivery(), call) {
            (Delivery::Request, Some(call)) => {
                self.next_call += 1;
                let token = ReplyToken(self.next_call);
                self.tokens.insert(token, (from, from_boot, call));
                Some(token)
            }
            (Delivery::Reply, Some(call)) => {
                // An answer after the first still reaches the core: it must not rely on the transport.
                self.nodes.get_mut(&to).unwrap().calls.remove(&call);
                None
            }
            _ => None,
        };
        let now = self.now;
        // What an earlier data folder said is said in its name.
        let who = match self.folders.get(&(from, from_boot)) {
            Some(life) => store_of(from, *life),
            None => self.identity(from),
        };
        let raft = self.nodes.get_mut(&to).unwrap().raft.as_mut().unwrap();
        raft.handle_message(now, who, message, token);
        self.settle(to);
    }

    /// Drains a node's outputs, then checks the whole cluster for what this node may have broken.
    pub(super) fn settle(&mut self, node: NodeId) {
        loop {
            let state = self.nodes.get_mut(&node).unwrap();
            let Some(output) = state.raft.as_mut().and_then(Raft::poll_output) else { break };
            self.checks.output(node, &self.nodes, &self.tokens_of(&output), &output);
            self.act(node, output);
        }
        self.checks.after(node, &self.nodes);
        self.events += 1;
    }

    /// Whom an answer goes to.
    fn tokens_of(&self, output: &Output) -> Option<NodeId> {
        match output {
            Output::Reply { token, .. } => self.tokens.get(token).map(|(caller, _, _)| *caller),
            Output::Request { to, .. } | Output::Notice { to, .. } => Some(*to),
            _ => None,
        }
    }

    fn act(&mut self, node: NodeId, output: Output) {
        match output {
            Output::Request { to, message } => {
                self.next_call += 1;
                let call = self.next_call;
                if self.net.resend.is_some() {
                    self.nodes.get_mut(&node).unwrap().calls.insert(call, (to, message.clone()));
                }
                self.send_call(node, to, call, message);
            }
            Output::Reply { token, message } => {
                let (caller, boot, call) = self.tokens.remove(&token).expect("one answer per token");
                if self.nodes[&caller].boot == boot {
                    self.transmit(node, caller, message, Some(call));
                }
            }
            Output::Notice { to, message } => self.transmit(node, to, message, None),
            Output::CancelRequests { to } => {
                self.nodes.get_mut(&node).unwrap().calls.retain(|_, (callee, _)| *callee != to);
            }
            Output::Persist { ticket, hard_state, install, truncate_from, entries } => {
                let install = install.map(|it| (it.meta, self.files[&it.meta].clone()));
                let disk = &mut self.nodes.get_mut(&node).unwrap().disk;
                disk.pending.push_back(Batch { ticket, hard_state, install, truncate_from, entries });
                let took = self.rng.duration_between(disk.delay_min, disk.delay_max);
                disk.busy_until = disk.busy_until.max(self.now) + took;
                let rest = disk.busy_until.saturating_since(self.now);
                let boot = self.nodes[&node].boot;
                self.schedule(rest, Event::Persisted { node, boot, ticket });
            }
            Output::Commit { index } => self.apply(node, index),
            Output::PullSnapshot { meta, .. } => self.start_pull(node, meta),
            Output::CancelPull => self.cancel_pull(node),
            Output::ReadReady { id, index } => {
                let floor = self.reads.remove(&(node, id)).expect("a read is answered once");
                assert!(index >= floor, "{node}: read at {index}, {floor} was committed when it was asked");
                self.reads_ready += 1;
            }
            Output::ReadFailed { id } => {
                self.reads.remove(&(node, id)).expect("a read is answered once");
            }
            Output::RoleChanged { role, term, leader } => {
                let leader = leader.map_or_else(|| "nobody".to_owned(), |leader| leader.to_string());
                self.note(format_args!("{node} is {role} in term {term}, led by {leader}"));
                if role == RoleKind::Leader {
                    self.leader_changes += 1;
                }
            }
            Output::Alarm(alarm) => {
                self.alarms += 1;
                self.note(format_args!("{node} alarm: {alarm}"));
            }
        }
    }

    fn apply(&mut self, node: NodeId, index: Index) {
        let state = self.nodes.get_mut(&node).unwrap();
        while state.applied < index {
            state.applied = state.applied.next();
            let entry =
                state.raft.as_ref().unwrap().entry(state.applied).expect("committed entries are there");
            self.checks.applied(node, entry);
            // A caller is told "done" only when index *and* term are those of its proposal (L15).
            if state.proposed.remove(&state.applied) == Some(entry.term) {
                self.writes_committed += 1;
            }
        }
    }

    fn send_call(&mut self, from: NodeId, to: NodeId, call: u64, message: Message) {
        if let Some(resend) = self.net.resend {
            let boot = self.nodes[&from].boot;
            self.schedule(resend, Event::Resend { node: from, boot, call });
        }
        self.transmit(from, to, message, Some(call));
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, message: Message, call: Option<u64>) {
        if self.cut.contains(&(from, to)) || !self.nodes.contains_key(&to) {
            return;
        }
        let copies = if self.rng.chance(self.net.duplication) { 2 } else { 1 };
        let from_boot = self.nodes[&from].boot;
        if self.rng.chance(self.net.late) {
            let delay = self.rng.duration_between(ms(300), ms(4_000));
            let message = message.clone();
            self.schedule(delay, Event::Deliver { from, to, from_boot, message, call });
        }
        for _ in 0..copies {
            if !self.rng.chance(self.net.loss) {
                let delay = self.rng.duration_between(self.net.delay_min, self.net.delay_max);
                let message = message.clone();
                self.schedule(delay, Event::Deliver { from, to, from_boot, message, call });
            }
        }
    }

    pub(super) fn note(&mut self, what: core::fmt::Arguments<'_>) {
        let line = format!("{} {what}\n", self.now);
        for byte in line.bytes() {
            self.trace_hash = (self.trace_hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if let Some(trace) = &mut self.trace {
            trace.write_str(&line).unwrap();
        }
    }
}
