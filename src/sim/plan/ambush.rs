//! Striking right when something has happened: most of what is known to break consensus needs a crash or a cut in the
//! moment after an election, an append or a commit, which random times hardly ever hit.

use core::time::Duration;

use super::mix::{magnitude, spoils};
use super::{Later, Plan, ends, paths};
use crate::machine::Machine;
use crate::raft::RoleKind;
use crate::rng::Rng;
use crate::sim::faults::Fault;
use crate::sim::server::Crash;
use crate::sim::simulation::Simulation;
use crate::types::{Index, NodeId, Term};

/// What an ambush waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    Campaigns,
    Elected,
    Voted,
    LeaderAppended,
    FollowerAppended,
    LeaderCommitted,
    FollowerCommitted,
    Truncated,
    /// A follower holds appends that came before their predecessors.
    Waits,
}

const TRIGGERS: [Trigger; 9] = [
    Trigger::Campaigns,
    Trigger::Elected,
    Trigger::Voted,
    Trigger::LeaderAppended,
    Trigger::FollowerAppended,
    Trigger::LeaderCommitted,
    Trigger::FollowerCommitted,
    Trigger::Truncated,
    Trigger::Waits,
];

/// Who is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prey {
    /// Where it happened.
    Itself,
    /// Who leads, or led last.
    Leader,
    /// Any other.
    Another,
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strike {
    Crash(Crash, u32),
    /// What spoils a folder, if the run has that.
    Spoil,
    Isolate,
    Mute,
    Deafen,
    /// Cut off from all but one.
    LeaveOne,
    Pause,
    HangDisk,
}

/// Somebody lies in wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ambush {
    trigger: Trigger,
    strike: Strike,
    prey: Prey,
    /// How long after.
    delay: Duration,
    /// How many times it lets pass.
    passes: u64,
}

/// A node as last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Glance {
    term: Term,
    vote: Option<NodeId>,
    is_leader: bool,
    is_candidate: bool,
    last: Index,
    commit: Index,
    waits: bool,
}

impl Plan {
    pub(super) fn lay_ambush(&mut self, longest: Duration) {
        self.ambushes_laid += 1;
        let rng = &mut self.streams.of(Fault::Ambush, self.ambushes_laid);
        let trigger = TRIGGERS[rng.below(TRIGGERS.len() as u64) as usize];
        let strike = match rng.below(10) {
            0 => Strike::Crash(Crash::Kill, rng.below(4) as u32),
            1 => Strike::Crash(Crash::PowerCut, rng.below(4) as u32),
            2 | 3 => Strike::Isolate,
            4 => Strike::Mute,
            5 => Strike::Deafen,
            6 => Strike::LeaveOne,
            7 => Strike::Pause,
            8 => Strike::HangDisk,
            _ => Strike::Spoil,
        };
        let prey = match rng.below(5) {
            0..3 => Prey::Itself,
            3 => Prey::Leader,
            _ => Prey::Another,
        };
        let is_at_once = rng.chance(0.6);
        let delay = magnitude(rng, Duration::from_micros(50), longest);
        let passes = if rng.chance(0.6) { 0 } else { rng.below(20) };
        let delay = if is_at_once { Duration::ZERO } else { delay };
        self.ambush = Some(Ambush { trigger, strike, prey, delay, passes });
    }

    /// Compares a node with what it was, and strikes if that is what was waited for.
    pub(super) fn look_for_prey<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16) {
        let (Some(ambush), Some(it)) = (self.ambush, sim.node(node)) else { return };
        let raft = it.raft();
        let seen = Glance {
            term: raft.term(),
            vote: raft.hard_state().vote.map(|vote| vote.node),
            is_leader: raft.role() == RoleKind::Leader,
            is_candidate: raft.role() == RoleKind::Candidate,
            last: raft.last_index(),
            commit: raft.commit(),
            waits: raft.reordered().0 > 0,
        };
        let before = std::mem::replace(&mut self.glances[usize::from(node) - 1], seen);
        let is_it = match ambush.trigger {
            Trigger::Campaigns => seen.is_candidate && !before.is_candidate,
            Trigger::Elected => seen.is_leader && !before.is_leader,
            Trigger::Voted => seen.vote.is_some() && (seen.term, seen.vote) != (before.term, before.vote),
            Trigger::LeaderAppended => seen.is_leader && before.is_leader && seen.last > before.last,
            Trigger::FollowerAppended => !seen.is_leader && seen.last > before.last,
            Trigger::LeaderCommitted => seen.is_leader && before.is_leader && seen.commit > before.commit,
            Trigger::FollowerCommitted => !seen.is_leader && seen.commit > before.commit,
            Trigger::Truncated => seen.last < before.last,
            Trigger::Waits => seen.waits && !before.waits,
        };
        if !is_it {
            return;
        }
        match ambush.passes.checked_sub(1) {
            Some(passes) => self.ambush = Some(Ambush { passes, ..ambush }),
            None => {
                self.ambush = None;
                let prey = self.choose(sim, node, ambush.prey);
                if ambush.delay.is_zero() {
                    self.spring(sim, prey, ambush.strike);
                } else {
                    self.later(sim, ambush.delay, Later::Strike(prey, ambush.strike));
                }
            }
        }
    }

    fn choose<M: Machine>(&self, sim: &Simulation<M>, node: u16, prey: Prey) -> u16 {
        let leader = || sim.node(node)?.raft().leader().map(NodeId::as_u16).or_else(|| sim.leader());
        match prey {
            Prey::Itself => node,
            Prey::Leader => leader().unwrap_or(node),
            Prey::Another => 1 + self.ambush_stream().below(u64::from(sim.nodes())) as u16,
        }
    }

    fn ambush_stream(&self) -> Rng {
        self.streams.of(Fault::Ambush, self.ambushes_laid).fork()
    }

    pub(super) fn spring<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16, strike: Strike) {
        *self.counts.entry(Fault::Ambush).or_default() += 1;
        let own = self.ambush_stream();
        let shared = core::mem::replace(&mut self.rng, own);
        self.carry_out(sim, node, strike);
        self.rng = shared;
    }

    fn carry_out<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16, strike: Strike) {
        let span = self.about(self.mix.span);
        let (one, all) = (ends([node]), ends(1..=sim.nodes()));
        match strike {
            Strike::Crash(crash, effects) => self.crash(sim, node, crash, effects),
            Strike::Isolate => {
                let cut = [paths(&one, &all), paths(&all, &one)].concat();
                self.block(sim, cut, span);
            }
            Strike::Mute => self.block(sim, paths(&one, &all), span),
            Strike::Deafen => self.block(sim, paths(&all, &one), span),
            Strike::LeaveOne => {
                let kept = self.rng.below(u64::from(sim.nodes())) as usize;
                let others: Vec<_> =
                    all.into_iter().filter(|end| *end != crate::sim::End::Node(kept)).collect();
                let cut = [paths(&one, &others), paths(&others, &one)].concat();
                self.block(sim, cut, span);
            }
            Strike::Pause => sim.pause(node, span),
            Strike::HangDisk => sim.hang_disk(node, span),
            Strike::Spoil => {
                let kinds: Vec<Fault> = self.mix.chosen.iter().filter(|fault| spoils(*fault)).collect();
                if kinds.is_empty() {
                    self.crash(sim, node, Crash::PowerCut, 0);
                } else {
                    let kind = kinds[self.rng.below(kinds.len() as u64) as usize];
                    self.spoil(sim, node, kind);
                }
            }
        }
        // The next one at once, or after things have settled.
        let wait = if self.rng.chance(0.5) { Duration::ZERO } else { self.about(self.mix.gap) };
        self.later(sim, wait, Later::Ambush);
    }
}
