//! Damage on several nodes at once that together they can make good.

use core::ops::{Range, RangeInclusive};
use core::time::Duration;

use super::{Later, Plan};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::sim::faults::{Fault, FaultSet};
use crate::sim::server::Crash;
use crate::sim::settings::Settings;
use crate::sim::simulation::Simulation;
use crate::store::{MemoryDisk, inspect};
use crate::types::Index;

/// The longest time from one time to the next.
const PAUSE: Duration = Duration::from_secs(8);

/// Whether a run has it, and what decides about it: a stream of its own, so that runs without are as they were.
pub(super) fn draw(enabled: FaultSet, settings: &Settings) -> Option<Rng> {
    let mut rng = Rng::from_seed(settings.seed ^ 0x4449_534a);
    (enabled.has(Fault::DisjointRot) && rng.chance(0.2)).then_some(rng)
}

impl Plan {
    /// Damages a record of each of several nodes, no two of one index, and each committed: so some other node has it.
    /// The last records stay as they are, or nobody could tell where the logs ended.
    pub(super) fn rot_disjoint<M: Machine>(&mut self, sim: &mut Simulation<M>) {
        let Some(mut rng) = self.disjoint.take() else { return };
        if self.may_spoil(sim, 1) && self.spoiled.is_empty() {
            self.rot_several(sim, &mut rng);
        }
        let pause = rng.duration_between(PAUSE / 4, PAUSE);
        self.later(sim, pause, Later::DisjointRot);
        self.disjoint = Some(rng);
    }

    fn rot_several<M: Machine>(&mut self, sim: &mut Simulation<M>, rng: &mut Rng) {
        let Some(commit) = sim.leader().and_then(|leader| sim.node(leader)).map(|node| node.raft().commit())
        else {
            return;
        };
        let mut taken: Vec<RangeInclusive<Index>> = Vec::new();
        for node in 1..=sim.nodes() {
            if sim.down(node).is_some() || rng.chance(0.2) {
                continue;
            }
            sim.crash(node, Crash::Kill);
            let span = rng.duration_between(Duration::ZERO, self.mix.span * 2);
            self.later(sim, span, Later::Start(node));
            let is_free = |range: &RangeInclusive<Index>| {
                *range.end() <= commit
                    && taken.iter().all(|other| other.end() < range.start() || range.end() < other.start())
            };
            let mut places = sim.with_disk(node, |disk| records(disk));
            places.pop();
            places.retain(|place| is_free(&place.range));
            if places.is_empty() {
                continue;
            }
            let Record { file, bytes, range } = places.swap_remove(rng.below(places.len() as u64) as usize);
            let bit = rng.below((bytes.end - bytes.start) * 8);
            let at = (bytes.start + bit / 8) as usize;
            sim.spoil_disk(node, |disk| disk.rot(&file, |content| content[at] ^= 1 << (bit % 8)));
            *self.counts.entry(Fault::DisjointRot).or_default() += 1;
            taken.push(range);
            self.spoiled.insert(node);
        }
    }
}

/// A record of the log: where it stands and what it holds.
struct Record {
    file: String,
    bytes: Range<u64>,
    range: RangeInclusive<Index>,
}

/// Every live record that holds entries, in order; none of a log that is damaged already.
fn records(disk: &MemoryDisk) -> Vec<Record> {
    let mut copy = disk.clone();
    if inspect::verify(&mut copy).is_err() {
        return Vec::new();
    }
    let Ok(meta) = inspect::meta(&mut copy) else { return Vec::new() };
    let Ok(reports) = inspect::log(&mut copy, &meta) else { return Vec::new() };
    let mut records = Vec::new();
    for report in reports.flatten() {
        let is_live = |index: Index| report.live_to.is_none_or(|to| index <= to);
        for batch in report.batches.iter().filter(|batch| !batch.header.is_empty()) {
            if is_live(batch.header.first) {
                records.push(Record {
                    file: report.file.clone(),
                    bytes: batch.offset..batch.offset + batch.header.bytes() as u64,
                    range: batch.header.first..=batch.header.last,
                });
            }
        }
    }
    records
}
