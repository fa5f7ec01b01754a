//! What one seed does of all that it may: every seed has its own mix of faults, and its own strengths.
//!
//! A run in which everything goes wrong at once gets nowhere, and finds little. So half of what is enabled is left
//! out of each run, and what is in comes with a strength drawn over orders of magnitude.

use core::time::Duration;

use super::streams::Streams;
use crate::fault::{Bursts, Distribution, LinkConfig, Rate, Replay};
use crate::node::{Limits, Timing};
use crate::rng::Rng;
use crate::session::Limits as Bounds;
use crate::sim::faults::{Fault, FaultSet};
use crate::sim::settings::Settings;
use crate::sim::storage::DiskProfile;

/// The faults of one run.
#[derive(Clone, Debug)]
pub(super) struct Mix {
    /// What it does.
    pub(super) chosen: FaultSet,
    /// The mean time from one deed to the next.
    pub(super) gap: Duration,
    /// The mean time a fault lasts.
    pub(super) span: Duration,
    /// What links do when nothing is done to them.
    pub(super) calm: LinkConfig,
}

impl Mix {
    /// Draws a run's faults from those enabled, and sets what has to be set before it begins.
    pub(super) fn draw(enabled: FaultSet, settings: &mut Settings, rng: &mut Rng, streams: Streams) -> Self {
        let share = match rng.below(10) {
            0 => 0.1,
            1 => 0.9,
            _ => 0.4,
        };
        let is_own = |fault: &Fault| {
            matches!(fault, Fault::Snapshots | Fault::DisjointRot | Fault::Members | Fault::Reads)
        };
        let is_drawn = |fault: &Fault| !is_own(fault) && streams.of(*fault, 0).chance(share);
        let chosen: FaultSet = enabled.iter().filter(is_drawn).collect();
        // A repair takes long, and a wiped folder never comes back, so most runs go without.
        let is_spoiling = rng.chance(0.3);
        let chosen: FaultSet = chosen.iter().filter(|fault| is_spoiling || !spoils(*fault)).collect();
        settings.link.delay = magnitude(rng, Duration::from_micros(20), Duration::from_millis(4));
        // At the shortest pause most of what happens without a leader is clients asking for one.
        settings.client.retry_pause = Duration::from_millis([5, 25, 100][rng.below(3) as usize]);
        if chosen.has(Fault::Churn) {
            settings.timing = churn(&mut own(streams, Fault::Churn), settings.link.delay);
        }
        if chosen.has(Fault::SmallLimits) {
            let rng = &mut own(streams, Fault::SmallLimits);
            settings.limits = small_limits(rng, &settings.timing);
            settings.apply_count_max = [1, 3, settings.apply_count_max][rng.below(3) as usize];
            // Not fewer than there are clients, or they would turn each other out before they write anything.
            let sessions_max = 5 + rng.below(6);
            settings.session_limits = rng.chance(0.5).then_some(Bounds { sessions_max, ..Bounds::FOUNDING });
        }
        let rng_of_disks = &mut own(streams, Fault::SlowDisk);
        if chosen.has(Fault::SlowDisk) && !chosen.has(Fault::SmallLimits) && rng_of_disks.chance(0.4) {
            // Not a fault that ends: the cluster has to live with such disks. With small windows it could not.
            // A commit takes less than a client waits before it asks again, or no answer would ever find it waiting.
            let latency_max = magnitude(rng_of_disks, Duration::from_millis(4), Duration::from_millis(128));
            settings.disk = DiskProfile { latency_min: latency_max * 3 / 4, latency_max };
            let hang = &mut settings.limits.disk_hang_timeout;
            *hang = (*hang).max(latency_max * 6);
        }
        let longest = settings.timing.election_timeout_max;
        Self {
            chosen,
            gap: magnitude(rng, longest / 8, longest * 10),
            span: magnitude(rng, longest / 4, longest * 6),
            calm: settings.link.clone(),
        }
    }

    /// What links may do for a while: some of the chosen faults, in some strength.
    pub(super) fn weather(&self, streams: Streams, number: u64) -> LinkConfig {
        let mut link = self.calm.clone();
        for fault in LINK_FAULTS.into_iter().filter(|fault| self.chosen.has(*fault)) {
            let rng = &mut streams.of(fault, number).fork();
            if rng.chance(0.6) {
                spoil(&mut link, fault, rng);
            }
        }
        link
    }
}

/// What a kind draws from before the run, beside whether it is chosen at all.
fn own(streams: Streams, fault: Fault) -> Rng {
    streams.of(fault, 0).fork()
}

const LINK_FAULTS: [Fault; 11] = [
    Fault::Loss,
    Fault::Burst,
    Fault::Duplicate,
    Fault::Replay,
    Fault::Reorder,
    Fault::Jitter,
    Fault::Corrupt,
    Fault::ZeroCrc,
    Fault::Truncate,
    Fault::Extend,
    Fault::Rate,
];

/// Whether any of these is drawn by [`Mix::weather`].
pub(super) fn is_weather(fault: Fault) -> bool {
    LINK_FAULTS.contains(&fault)
}

/// Whether it may cost a node its data.
pub(super) fn spoils(fault: Fault) -> bool {
    matches!(fault, Fault::Rot | Fault::Misdirect | Fault::MissingFile | Fault::Wipe | Fault::OldBackup)
}

fn spoil(link: &mut LinkConfig, fault: Fault, rng: &mut Rng) {
    match fault {
        Fault::Loss => link.loss = [0.01, 0.05, 0.2, 0.4, 0.65][rng.below(5) as usize],
        Fault::Burst => {
            link.bursts = Some(Bursts {
                p: 0.001 + rng.unit() * 0.05,
                r: 0.02 + rng.unit() * 0.3,
                loss_bad: 0.5 + rng.unit() * 0.5,
                loss_good: 0.0,
            });
        }
        Fault::Duplicate => link.duplicate = [0.01, 0.1, 0.5][rng.below(3) as usize],
        Fault::Replay => {
            let after_max = magnitude(rng, Duration::from_millis(10), Duration::from_secs(180));
            let after_min = Duration::from_millis(1);
            link.replay = Some(Replay { chance: 0.005 + rng.unit() * 0.05, after_min, after_max });
        }
        Fault::Reorder => {
            link.reorder = 0.01 + rng.unit() * 0.3;
            link.reorder_delay = magnitude(rng, Duration::from_micros(100), Duration::from_millis(300));
        }
        Fault::Jitter => {
            link.jitter = magnitude(rng, Duration::from_micros(20), Duration::from_millis(60));
            link.distribution = Distribution::Exponential;
        }
        Fault::Corrupt => {
            link.corrupt = [0.001, 0.02, 0.3][rng.below(3) as usize];
            link.corrupt_bits_max = 1 + rng.below(8);
        }
        Fault::ZeroCrc => link.zero_crc = 0.02,
        Fault::Truncate => link.truncate = 0.02,
        Fault::Extend => link.extend = 0.02,
        Fault::Rate => {
            link.rate = Some(Rate {
                bytes_per_s: 20_000 + rng.below(200_000),
                queue_packets_max: 4 + rng.below(60) as usize,
                queue_bytes_max: 4_000 + rng.below(60_000) as usize,
            });
        }
        _ => {}
    }
}

/// Timers so short that elections are common, and still far longer than a round trip.
fn churn(rng: &mut Rng, delay: Duration) -> Timing {
    let least = (delay * 12).max(Duration::from_millis(12));
    let min = magnitude(rng, least, Duration::from_millis(150).max(least));
    let max = min + min.mul_f64(0.2 + rng.unit());
    Timing {
        election_timeout_min: min,
        election_timeout_max: max,
        heartbeat_interval: min / (3 + rng.below(7) as u32),
    }
}

fn small_limits(rng: &mut Rng, timing: &Timing) -> Limits {
    let mut limits = Limits::default();
    let mut one_of = |values: [usize; 3]| values[rng.below(3) as usize];
    limits.append_bytes_max = one_of([1, 200, limits.append_bytes_max]);
    limits.inflight_appends_max = one_of([1, 3, limits.inflight_appends_max]);
    limits.inflight_bytes_max = one_of([1, 400, limits.inflight_bytes_max]);
    limits.reorder_bytes_max = one_of([0, 400, limits.reorder_bytes_max]);
    limits.reads_max = one_of([1, 3, limits.reads_max]);
    if rng.chance(0.15) {
        (limits.log_bytes_max, limits.log_bytes_reserve) = (30_000, 6_000);
    }
    limits.disk_hang_timeout = timing.election_timeout_max.max(Duration::from_millis(500));
    limits
}

/// A span whose magnitude is drawn, not itself: a tenth is as likely as ten times.
pub(super) fn magnitude(rng: &mut Rng, min: Duration, max: Duration) -> Duration {
    let (mut low, high) = (min, max.max(min));
    // Doublings instead of a logarithm, whose last bit differs between platforms.
    let mut doublings = 0;
    while low * 2 <= high && doublings < 40 {
        low *= 2;
        doublings += 1;
    }
    let from = min * (1 << rng.below(doublings + 1));
    rng.duration_between(from, (from * 2).min(high).max(from))
}
