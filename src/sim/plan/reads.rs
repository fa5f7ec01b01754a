//! Reads of all levels, leases, and replicas that compare what they come to.

use super::Plan;
use crate::raft::RaftConfig;
use crate::rng::Rng;
use crate::sim::faults::{Fault, FaultSet};
use crate::sim::settings::Settings;
use crate::wire::client::ReadLevel;

/// Clocks that run at half to double speed, as the fault does it, are apart by no more than those of this drift: the
/// slowest runs at a quarter of the speed of the fastest.
const DRIFT_OF_CLOCKS_PPM: u32 = 600_000;

/// Whether a run has such reads, and what decides about them.
pub(super) fn draw(enabled: FaultSet, chosen: FaultSet, settings: &mut Settings) -> Option<Rng> {
    let mut rng = Rng::from_seed(settings.seed ^ 0x5245_4144);
    if !enabled.has(Fault::Reads) || !rng.chance(0.5) {
        return None;
    }
    settings.digest_interval = rng.chance(0.5).then_some(core::time::Duration::from_millis(200));
    let drift = if chosen.has(Fault::Clock) { DRIFT_OF_CLOCKS_PPM } else { rng.below(100_000) as u32 };
    // Timers so short that hardly a lease is left go without.
    let timing = &settings.timing;
    let lease = RaftConfig::lease_of(timing.election_timeout_min, drift);
    settings.lease_drift_ppm = (lease >= timing.heartbeat_interval * 2).then_some(drift);
    Some(rng)
}

impl Plan {
    /// How the next read is asked for.
    pub(in crate::sim) fn read_level(&mut self) -> ReadLevel {
        let Some(rng) = &mut self.reads else { return ReadLevel::Linearizable };
        let levels = [ReadLevel::Linearizable, ReadLevel::Lease, ReadLevel::AnyNode];
        levels[rng.below(3) as usize]
    }

    /// Whether clocks may do more than run fast or slow: what leases rest on says nothing of jumps.
    pub(super) fn may_jump(&self, settings: &Settings) -> bool {
        settings.lease_drift_ppm.is_none()
    }
}
