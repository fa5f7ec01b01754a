//! Snapshots often enough to be in the way of everything else.

use core::time::Duration;

use super::streams::Streams;
use super::{Later, Plan};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::sim::faults::{Fault, FaultSet};
use crate::sim::settings::Settings;
use crate::sim::simulation::Simulation;

/// How long until a leader is looked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a run has snapshots, and what decides about them.
pub(super) fn draw(enabled: FaultSet, settings: &mut Settings) -> Option<Rng> {
    let mut rng = Rng::from_seed(settings.seed ^ 0x534e_4150);
    if !enabled.has(Fault::Snapshots) || !rng.chance(0.5) {
        return None;
    }
    settings.log_tail_bytes = [0, 4 << 10, settings.log_tail_bytes][rng.below(3) as usize];
    settings.pull.bytes_per_second =
        [64 << 10, 1 << 20, settings.pull.bytes_per_second][rng.below(3) as usize];
    // Small segments are dropped more often.
    let mut sizes = Streams::new(settings.seed).of(Fault::Snapshots, 0);
    if sizes.chance(0.5) {
        settings.segment_bytes = 4096 << sizes.below(3);
    }
    Some(rng)
}

impl Plan {
    /// Sets the mark at which all nodes take snapshots; later another one, or a node takes one out of turn.
    pub(super) fn snapshot<M: Machine>(&mut self, sim: &mut Simulation<M>) {
        let Some(rng) = &mut self.snapshots else { return };
        let is_first = !self.counts.contains_key(&Fault::Snapshots);
        let mut pause = PAUSE;
        if is_first || rng.chance(0.3) {
            // A small state is written after a sixteenth of it.
            let snapshot_bytes = (32 << 10) << rng.below(6);
            let is_set = sim.change_limits(|limits| limits.snapshot_bytes = snapshot_bytes);
            *self.counts.entry(Fault::Snapshots).or_default() += u64::from(is_set);
            if !is_set && is_first {
                self.counts.remove(&Fault::Snapshots);
            }
        } else {
            let node = 1 + rng.below(u64::from(sim.nodes())) as u16;
            sim.take_snapshot(node);
        }
        if self.counts.contains_key(&Fault::Snapshots) {
            pause = rng.duration_between(PAUSE, PAUSE * 40);
        }
        self.later(sim, pause, Later::Snapshot);
    }
}
