//! Striking right when something has happened: most of what is known to break consensus needs a crash or a cut in the
//! moment after an election, an append or a commit, which random times hardly ever hit.

use super::{Later, Plan, ends, paths};
use crate::machine::Machine;
use crate::raft::RoleKind;
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
}

const TRIGGERS: [Trigger; 8] = [
    Trigger::Campaigns,
    Trigger::Elected,
    Trigger::Voted,
    Trigger::LeaderAppended,
    Trigger::FollowerAppended,
    Trigger::LeaderCommitted,
    Trigger::FollowerCommitted,
    Trigger::Truncated,
];

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strike {
    Crash(Crash, u32),
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
}

impl Plan {
    pub(super) fn lay_ambush(&mut self) {
        let trigger = TRIGGERS[self.rng.below(TRIGGERS.len() as u64) as usize];
        let strike = match self.rng.below(9) {
            0 => Strike::Crash(Crash::Kill, self.rng.below(4) as u32),
            1 => Strike::Crash(Crash::PowerCut, self.rng.below(4) as u32),
            2 | 3 => Strike::Isolate,
            4 => Strike::Mute,
            5 => Strike::Deafen,
            6 => Strike::LeaveOne,
            7 => Strike::Pause,
            _ => Strike::HangDisk,
        };
        let passes = if self.rng.chance(0.6) { 0 } else { self.rng.below(20) };
        self.ambush = Some(Ambush { trigger, strike, passes });
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
        };
        if !is_it {
            return;
        }
        match ambush.passes.checked_sub(1) {
            Some(passes) => self.ambush = Some(Ambush { passes, ..ambush }),
            None => self.spring(sim, node, ambush.strike),
        }
    }

    fn spring<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16, strike: Strike) {
        self.ambush = None;
        *self.counts.entry(Fault::Ambush).or_default() += 1;
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
        }
        // The next one at once, or after things have settled.
        let wait = if self.rng.chance(0.5) { core::time::Duration::ZERO } else { self.about(self.mix.gap) };
        self.later(sim, wait, Later::Ambush);
    }
}
