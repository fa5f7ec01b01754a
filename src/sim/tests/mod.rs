//! Runs of whole clusters, and single rules of the simulator itself.

mod faults;
mod runs;
#[cfg(feature = "seal")]
mod sealed;

use core::time::Duration;

use super::{Settings, Simulation};
use crate::kv::{Command, Kv};

const MS: Duration = Duration::from_millis(1);

fn founded(seed: u64) -> Simulation<Kv> {
    let mut sim = Simulation::new(Settings::new(seed, 3), Kv::new);
    sim.found();
    sim
}

fn put(sim: &mut Simulation<Kv>, value: &[u8]) {
    let id = sim.propose(0, Command::Put { key: b"k", value }.to_bytes(), 10_000 * MS);
    sim.finish(0, id).unwrap();
}
