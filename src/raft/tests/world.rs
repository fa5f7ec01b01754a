//! A world without chance: a few cores, their disks, and a bag of messages. Nothing happens by itself; whoever
//! drives it chooses the next [`Action`], so every order of events that asynchrony allows can be had.
//!
//! - A message stays in the bag until it is delivered; one that never is, is lost. Delivering it twice is a copy.
//! - A disk finishes its writes in order, one per action.
//! - Time moves only when a timer is fired that is not due yet, for all nodes at once. A timer that is due may fire
//!   at any later moment, or never.
//! - A node that reboots finds on its disk what was finished, and perhaps the first few of the unfinished writes.
//! - Replies reach whatever boot of the caller runs: the core must not rely on the transport to tell boots apart.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::checks::Checks;
use super::cluster::ms;
use super::disk::{Batch, Disk};
use super::node::Node;
use super::{CLUSTER, command, digest, id, identity, voters};
use crate::message::{Delivery, Message};
use crate::raft::role::Role;
use crate::raft::{Output, Raft, RaftConfig, ReplyToken, Restored, RoleKind};
use crate::rng::Rng;
use crate::time::Instant;
use crate::types::{Incarnation, Index, NodeId};

/// The election timeout, shortest and longest: what is drawn must not matter.
const TIMEOUT: Duration = ms(100);

/// One thing that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The message at this place of the bag arrives.
    Deliver(usize),
    /// It arrives, and another copy of it stays under way.
    Duplicate(usize),
    /// The node's oldest unfinished write is finished.
    Persist(NodeId),
    /// The election timeout passes; a leader hears no quorum for as long and steps down.
    Timeout(NodeId),
    /// A leader's heartbeat is due.
    Beat(NodeId),
    /// The node crashes and boots; so many of its unfinished writes reached the disk.
    Reboot(NodeId, usize),
    /// A client offers a command to this leader.
    Propose(NodeId),
}

/// A message under way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) message: Arc<Message>,
    digest: u64,
}

impl fmt::Display for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{} {}", self.from, self.to, self.message)
    }
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) bag: Vec<Flight>,
    pub(super) checks: Checks,
    now: Instant,
    /// Each node's digest as of the moment it was last touched, with that moment.
    digests: BTreeMap<NodeId, (Instant, u64)>,
    tune: fn(&mut RaftConfig),
    /// Heartbeats are lost, each and every one: for worlds that are to be small.
    pub(super) loses_heartbeats: bool,
    /// What a node says is not compared with what its disk holds at that moment (10, 11), so that only the harm
    /// done by saying it too early shows.
    pub(super) trusts_senders: bool,
}

impl World {
    /// Voters 1 to `count`, just booted with empty disks.
    pub(super) fn new(count: u16, tune: fn(&mut RaftConfig)) -> Self {
        let membership = voters(&(1..=count).collect::<Vec<_>>());
        let node = |number| (id(number), Node::down(membership.clone(), Disk::default()));
        let mut world = Self {
            nodes: (1..=count).map(node).collect(),
            bag: Vec::new(),
            checks: Checks::default(),
            now: Instant::ZERO,
            digests: BTreeMap::new(),
            tune,
            loses_heartbeats: false,
            trusts_senders: false,
        };
        for number in 1..=count {
            world.boot(id(number));
        }
        world
    }

    pub(super) fn raft(&self, node: NodeId) -> &Raft {
        self.nodes[&node].raft.as_ref().expect("every node runs")
    }

    fn raft_mut(&mut self, node: NodeId) -> &mut Raft {
        self.nodes.get_mut(&node).unwrap().raft.as_mut().expect("every node runs")
    }

    fn boot(&mut self, node: NodeId) {
        let state = self.nodes.get_mut(&node).unwrap();
        state.boot += 1;
        let mut config = RaftConfig::new(identity(node.as_u16()), Incarnation(state.boot), CLUSTER);
        config.election_timeout_min = TIMEOUT;
        config.election_timeout_max = TIMEOUT;
        config.heartbeat_interval = TIMEOUT / 2;
        // Timeouts pass while writes are under way, and no disk here hangs.
        config.disk_hang_timeout = Duration::from_secs(3_600);
        (self.tune)(&mut config);
        let restored =
            Restored::new(state.disk.hard_state, state.membership.clone(), state.disk.entries.clone());
        state.raft = Some(Raft::new(config, restored, Rng::from_seed(0), self.now));
        state.applied = Index(0);
        self.checks.booted(node);
        self.settle(node);
    }

    /// Does it and checks every invariant.
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Deliver(place) => {
                let flight = self.bag.swap_remove(place);
                self.deliver(flight);
            }
            Action::Duplicate(place) => self.deliver(self.bag[place].clone()),
            Action::Persist(node) => {
                let now = self.now;
                let state = self.nodes.get_mut(&node).unwrap();
                let batch = state.disk.pending.pop_front().expect("a write is under way");
                let ticket = batch.ticket;
                state.disk.apply(batch);
                self.raft_mut(node).handle_persisted(now, ticket);
                self.settle(node);
            }
            Action::Timeout(node) => {
                let raft = self.raft(node);
                let is_leader = raft.role() == RoleKind::Leader;
                let due = if is_leader { self.now + TIMEOUT } else { raft.poll_timeout().expect("a timer") };
                self.fire(node, due);
                assert!(!is_leader || self.raft(node).role() != RoleKind::Leader, "{node} heard nobody");
            }
            Action::Beat(node) => self.fire(node, self.raft(node).poll_timeout().expect("a heartbeat")),
            Action::Reboot(node, survivors) => {
                let state = self.nodes.get_mut(&node).unwrap();
                state.raft = None;
                for batch in core::mem::take(&mut state.disk.pending).into_iter().take(survivors) {
                    state.disk.apply(batch);
                }
                self.boot(node);
            }
            Action::Propose(node) => {
                let now = self.now;
                self.raft_mut(node).propose(now, command("write")).expect("a leader takes it");
                self.settle(node);
            }
        }
        self.remove_spent();
        // A request of a term that is over changes nothing: it arrives as soon as it is that late.
        while let Some(place) = self.bag.iter().position(|flight| self.is_late(flight)) {
            let flight = self.bag.swap_remove(place);
            self.deliver(flight);
            self.remove_spent();
        }
    }

    fn is_late(&self, flight: &Flight) -> bool {
        let is_reply = flight.message.delivery() == Delivery::Reply;
        !is_reply && flight.message.term() < self.raft(flight.to).term()
    }

    fn fire(&mut self, node: NodeId, due: Instant) {
        self.now = self.now.max(due);
        let now = self.now;
        self.raft_mut(node).handle_timeout(now);
        self.settle(node);
    }

    fn deliver(&mut self, flight: Flight) {
        let Flight { from, to, message, .. } = flight;
        // The caller is all that a reply needs to find its way, so equal states hold equal tokens.
        let token = ReplyToken(u64::from(from.as_u16()));
        let token = (message.delivery() == Delivery::Request).then_some(token);
        let now = self.now;
        self.raft_mut(to).handle_message(now, identity(from.as_u16()), Message::clone(&message), token);
        self.settle(to);
    }

    /// Drains a node's outputs and checks what it may have broken.
    fn settle(&mut self, node: NodeId) {
        while let Some(output) = self.raft_mut(node).poll_output() {
            let to = match &output {
                Output::Reply { token, .. } => Some(id(u16::try_from(token.0).unwrap())),
                Output::Request { to, .. } | Output::Notice { to, .. } => Some(*to),
                _ => None,
            };
            if !self.trusts_senders {
                self.checks.output(node, &self.nodes, &to, &output);
            }
            match output {
                Output::Reply { message, .. }
                | Output::Request { message, .. }
                | Output::Notice { message, .. } => {
                    self.send(node, to.expect("a message has a receiver"), message);
                }
                Output::Persist { ticket, hard_state, install, truncate_from, entries } => {
                    assert!(install.is_none(), "no snapshots here");
                    let disk = &mut self.nodes.get_mut(&node).unwrap().disk;
                    disk.pending.push_back(Batch {
                        ticket,
                        hard_state,
                        install: None,
                        truncate_from,
                        entries,
                    });
                }
                Output::Commit { index } => self.apply(node, index),
                Output::Alarm(alarm) => panic!("{node} raises an alarm: {alarm}"),
                // A message under way may always arrive, so there is nothing to cancel.
                Output::CancelRequests { .. } | Output::RoleChanged { .. } => {}
                Output::ReadReady { .. } | Output::ReadFailed { .. } => panic!("nobody reads here"),
                Output::PullSnapshot { .. } | Output::CancelPull => panic!("no snapshots here"),
            }
        }
        self.checks.after(node, &self.nodes);
        self.digests.insert(node, (self.now, digest::of_node(&self.nodes[&node], self.now)));
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        if self.loses_heartbeats && matches!(message, Message::Heartbeat(_)) {
            return;
        }
        let digest = digest::of_text(format_args!("{from}>{to} {message:?}"));
        self.bag.push(Flight { from, to, message: Arc::new(message), digest });
    }

    fn apply(&mut self, node: NodeId, index: Index) {
        let state = self.nodes.get_mut(&node).unwrap();
        let raft = state.raft.as_ref().unwrap();
        while state.applied < index {
            state.applied = state.applied.next();
            self.checks.applied(node, raft.entry(state.applied).expect("committed entries are there"));
        }
    }

    /// Takes out what can never have an effect again, so that worlds that differ in nothing else are one.
    fn remove_spent(&mut self) {
        let Self { bag, nodes, .. } = self;
        bag.retain(|flight| {
            let raft = nodes[&flight.to].raft.as_ref().expect("every node runs");
            let sender = nodes[&flight.from].raft.as_ref().expect("every node runs");
            !is_spent(sender, raft, &flight.message)
        });
    }

    /// Equal digests mean equal futures; see `digest`.
    pub(super) fn digest(&mut self) -> u64 {
        for (node, (at, digest)) in &mut self.digests {
            if *at != self.now {
                (*at, *digest) = (self.now, digest::of_node(&self.nodes[node], self.now));
            }
        }
        // The bag has no order.
        let bag = self.bag.iter().fold(0u64, |sum, flight| sum.wrapping_add(flight.digest));
        let nodes: Vec<u64> = self.digests.values().map(|(_, digest)| *digest).collect();
        digest::of_past(&self.checks, bag, &nodes)
    }

    /// For a reader: the action in words.
    pub(super) fn describe(&self, action: Action) -> String {
        match action {
            Action::Deliver(place) => self.bag[place].to_string(),
            Action::Duplicate(place) => format!("{} (a copy)", self.bag[place]),
            Action::Persist(node) => format!("persisted {node}"),
            Action::Timeout(node) => format!("timeout {node}"),
            Action::Beat(node) => format!("beat {node}"),
            Action::Reboot(node, survivors) => format!("reboot {node}, {survivors} writes survive"),
            Action::Propose(node) => format!("propose {node}"),
        }
    }
}

/// True when this can change nothing any more, whenever it comes. Terms never fall, a campaign that ended is never
/// taken up again, and nobody leads a term twice. A pre-vote changes nothing but by its answer.
///
/// Two things are taken out although they could: an answer to a heartbeat, which only lets a leader stay (leaders
/// here step down when they are told to), and the pre-vote of a campaign that ended, whose answer could at most tell
/// its sender a term.
fn is_spent(sender: &Raft, receiver: &Raft, message: &Message) -> bool {
    if let Message::PreVote(m) = message {
        return campaign(sender) != Some(m.campaign);
    }
    if message.term() > receiver.term() {
        return false;
    }
    match message {
        Message::PreVoteReply(m) | Message::VoteReply(m) => {
            !m.is_granted || campaign(receiver) != Some(m.campaign)
        }
        Message::AppendReply(m) => m.term < receiver.term() || receiver.role() != RoleKind::Leader,
        Message::HeartbeatReply(_) => true,
        _ => false,
    }
}

/// The number of the campaign that is running.
fn campaign(raft: &Raft) -> Option<u64> {
    match &raft.role {
        Role::PreCandidate(campaign) | Role::Candidate(campaign) => Some(campaign.number),
        Role::Follower(_) | Role::Leader(_) => None,
    }
}
