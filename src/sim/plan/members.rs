//! The membership changes all the time (F27), by what a client asks for: nodes join and vote, move, are removed, the
//! leader among them, lose their data folders and come back with empty ones; leaders are told to hand over.
//!
//! What the operator asks for is often refused, and must be. What it does itself stays within what a cluster can bear:
//! it wipes nodes that are no members, and of four voters or more one, which it then replaces. It never waits for one
//! change to end before it asks for the next.

use core::time::Duration;

use super::mix::spoils;
use super::{Later, Plan, ends, paths};
use crate::client::OperationId;
use crate::machine::Machine;
use crate::membership::{Member, Membership, MembershipChange};
use crate::raft::RoleKind;
use crate::rng::Rng;
use crate::sim::faults::{Fault, FaultSet};
use crate::sim::server::Crash;
use crate::sim::settings::{NODES_MAX, Settings};
use crate::sim::simulation::Simulation;
use crate::types::{Identity, NodeId, StoreId};

/// The pause after a change is this much, more or less.
const PAUSE: Duration = Duration::from_millis(60);

/// How long a change may take to be taken and to settle; a client gives up then, which ends nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// "Whichever answers there."
const ANY_STORE: StoreId = StoreId([0; 16]);

/// Whoever changes the membership.
#[derive(Debug)]
pub(super) struct Operator {
    rng: Rng,
    /// As which client, once there is one.
    client: Option<usize>,
    /// What was asked for and has not ended.
    asked: Vec<OperationId>,
    /// A voter that lost its data and is still a voter.
    lost: Option<Identity>,
    /// How many times as long as usual it pauses.
    slowness: u32,
    /// Of twelve things that it asks for, so many are removals.
    removals: u64,
    /// The leader of the next change is in for something.
    lurks: bool,
}

/// Whether a run has an operator: not together with other damage to data, of which a minority of *all* nodes may have
/// some at a time.
pub(super) fn draw(enabled: FaultSet, chosen: FaultSet, settings: &mut Settings) -> Option<Operator> {
    let mut rng = Rng::from_seed(settings.seed ^ 0x4d45_4d42_4552);
    let is_spoiling = chosen.iter().any(spoils) || chosen.has(Fault::DisjointRot);
    if !enabled.has(Fault::Members) || is_spoiling || !rng.chance(0.5) {
        return None;
    }
    let spares = 1 + rng.below(3) as u16;
    settings.founders = settings.nodes;
    settings.nodes = (settings.nodes + spares).min(NODES_MAX);
    let slowness = [1, 3, 20][rng.below(3) as usize];
    let removals = [1, 3, 5][rng.below(3) as usize];
    Some(Operator { rng, client: None, asked: Vec::new(), lost: None, slowness, removals, lurks: false })
}

/// Whether a node is, with its present data folder, a member by the latest committed membership.
pub(super) fn is_member<M: Machine>(sim: &Simulation<M>, node: u16) -> bool {
    let Some(membership) = sim.committed_membership() else { return node <= sim.settings().founders };
    let Some(id) = NodeId::new(node) else { return false };
    match (membership.member(id), sim.store_of(node)) {
        (Some(member), Some(store)) => member.store == store,
        _ => false,
    }
}

/// Whether some node's newest membership, committed or not, has this one with its present data folder. What is about
/// to be a member may be a voter soon after, without being asked again.
fn is_named<M: Machine>(sim: &Simulation<M>, node: u16) -> bool {
    let (Some(id), store) = (NodeId::new(node), sim.store_of(node)) else { return false };
    let names = |other: u16| {
        let member = sim.node(other).and_then(|it| it.raft().membership().member(id));
        member.is_some_and(|member| Some(member.store) == store)
    };
    (1..=sim.nodes()).any(names)
}

impl Operator {
    /// Which client it is.
    pub(super) fn client(&self) -> Option<usize> {
        self.client
    }

    /// Something that it asked for has ended.
    pub(super) fn ended(&mut self, id: OperationId) {
        self.asked.retain(|asked| *asked != id);
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let at = self.rng.below(of.len().max(1) as u64) as usize;
        of.get(at).copied()
    }

    /// What to ask for next, of a leader with this membership.
    fn wish<M: Machine>(&mut self, sim: &mut Simulation<M>, now: &Membership) -> Option<MembershipChange> {
        let learners: Vec<NodeId> = now.learners.keys().copied().collect();
        let all: Vec<NodeId> = now.iter().map(|(id, _)| id).collect();
        if let Some(lost) = self.lost.filter(|_| self.rng.chance(0.3)) {
            // As if nothing had happened: it is the same number and the same address.
            let member = Member { store: ANY_STORE, address: sim.address(lost.node.as_u16()) };
            return Some(MembershipChange::Add { node: lost.node, member });
        }
        let drawn = self.rng.below(12);
        if drawn < self.removals {
            let lost = self.lost.map(|lost| lost.node);
            let node = lost.or_else(|| self.any(&all))?;
            return Some(MembershipChange::Remove { node });
        }
        match drawn {
            0..7 => {
                let node = 1 + self.rng.below(u64::from(sim.nodes())) as u16;
                self.prepare(sim, node);
                let member = Member { store: ANY_STORE, address: sim.address(node) };
                NodeId::new(node).map(|node| MembershipChange::Add { node, member })
            }
            7..11 => self.any(&learners).map(|node| MembershipChange::Promote { node }),
            _ => {
                let node = self.any(&all)?;
                let address = sim.address(node.as_u16());
                self.lose(sim, now);
                Some(MembershipChange::Move { node, address })
            }
        }
    }

    /// A node that is to be added runs, perhaps with an empty folder.
    fn prepare<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16) {
        let is_free = !is_member(sim, node) && !is_named(sim, node);
        let is_wiped = sim.down(node).is_none() && is_free && self.rng.chance(0.5);
        if is_wiped && sim.committed_membership().is_some() {
            sim.wipe(node);
        }
        if sim.down(node).is_some() && !is_member(sim, node) {
            // A disk fault may hit this start like any other; it is tried again.
            let _ = sim.join(node);
        }
    }

    /// A voter loses its data, if the others are enough even if one more is about to go.
    fn lose<M: Machine>(&mut self, sim: &mut Simulation<M>, now: &Membership) {
        let voters: Vec<NodeId> = now.voters.keys().copied().collect();
        let Some(node) = self.any(&voters) else { return };
        let is_bearable = self.lost.is_none() && voters.len() >= 4 && !now.is_joint() && self.is_idle();
        let agrees = |number: u16| sim.node(number).is_some_and(|it| **it.raft().membership() == *now);
        let is_quiet =
            now.iter().all(|(id, _)| agrees(id.as_u16())) && sim.committed_membership() == Some(now);
        let Some(member) = now.voters.get(&node).filter(|_| is_bearable && is_quiet) else { return };
        self.lost = Some(Identity { node, store: member.store });
        sim.wipe(node.as_u16());
        let _ = sim.join(node.as_u16());
    }
}

impl Plan {
    /// The operator asks for something.
    pub(super) fn change_members<M: Machine>(&mut self, sim: &mut Simulation<M>) {
        let Some(operator) = &mut self.operator else { return };
        let client = *operator.client.get_or_insert_with(|| sim.add_client());
        let committed = sim.committed_membership();
        operator.lost.take_if(|lost| committed.is_some_and(|committed| !committed.contains(*lost)));
        let leader = sim.leader().and_then(|leader| sim.node(leader));
        if let Some(now) = leader.map(|leader| Membership::clone(leader.raft().membership()))
            && operator.asked.len() < 3
        {
            if operator.rng.chance(0.1) {
                let voters: Vec<NodeId> = now.iter().map(|(id, _)| id).collect();
                let to = operator.any(&voters);
                operator.asked.push(sim.hand_over(client, to, PATIENCE));
            } else if let Some(change) = operator.wish(sim, &now) {
                *self.counts.entry(Fault::Members).or_default() += 1;
                operator.lurks = operator.rng.chance(0.3);
                operator.asked.push(sim.change_membership(client, None, change, PATIENCE));
            }
        }
        let pause = operator.rng.duration_between(Duration::ZERO, PAUSE * 2 * operator.slowness);
        self.later(sim, pause, Later::Members);
    }

    /// After each event: a leader has begun a change, or is about to leave a joint membership.
    pub(super) fn look_for_change<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16) {
        let Some(operator) = self.operator.as_mut().filter(|operator| operator.lurks) else { return };
        let raft = sim.node(node).map(crate::node::Node::raft);
        if raft.is_some_and(|raft| raft.role() == RoleKind::Leader && !raft.is_membership_settled()) {
            operator.lurks = false;
            let moments = operator.rng.below(5) as u32;
            let wait = self.mix.calm.delay * moments + Duration::from_micros(operator.rng.below(50));
            self.later(sim, wait, Later::Upset(node));
        }
    }

    /// A leader is cut off, stopped or ended in the midst of a change.
    pub(super) fn upset<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16) {
        let Some(operator) = &mut self.operator else { return };
        let span = operator.rng.duration_between(Duration::ZERO, self.mix.span * 2);
        match operator.rng.below(4) {
            0 => sim.pause(node, span),
            1 => {
                sim.crash(node, Crash::Kill);
                self.later(sim, span, Later::Start(node));
            }
            _ => {
                let (one, all) = (ends([node]), ends(1..=sim.nodes()));
                let cut = [paths(&one, &all), paths(&all, &one)].concat();
                self.block(sim, cut, span);
            }
        }
    }

    /// Takes note of an operation that has ended; true when it was the operator's.
    pub(in crate::sim) fn operation_ended(&mut self, client: usize, id: OperationId) -> bool {
        let Some(operator) = self.operator.as_mut().filter(|it| it.client() == Some(client)) else {
            return false;
        };
        operator.ended(id);
        true
    }

    /// Whether nodes come and go.
    pub(in crate::sim) fn changes_members(&self) -> bool {
        self.operator.is_some()
    }

    /// Whether a client is no part of the workload.
    pub(in crate::sim) fn has_client(&self, client: usize) -> bool {
        self.operator.as_ref().is_some_and(|it| it.client() == Some(client))
    }

    /// Whether no change of the membership is under way that the operator waits for.
    pub(in crate::sim) fn is_idle(&self) -> bool {
        self.operator.as_ref().is_none_or(Operator::is_idle)
    }
}
