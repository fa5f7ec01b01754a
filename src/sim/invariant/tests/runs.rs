//! Sound nodes under faults break nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Language, leader_deadline, rest_deadline};
use crate::fault::LinkConfig;
use crate::kv::{Command, Kv, Query};
use crate::rng::Rng;
use crate::sim::{Crash, Settings, Simulation};
use crate::wire::client::ReadLevel;

const CLIENTS: u64 = 4;
const MS: Duration = Duration::from_millis(1);

struct Load {
    rng: Rng,
    written: u64,
    values: BTreeMap<u64, Vec<u8>>,
}

impl Load {
    fn new(seed: u64) -> Self {
        Self { rng: Rng::from_seed(seed), written: 0, values: BTreeMap::new() }
    }

    /// One operation at some client.
    fn ask(&mut self, sim: &mut Simulation<Kv>) {
        let client = self.rng.below(CLIENTS) as usize;
        let number = self.rng.below(5);
        let key = format!("k{number}");
        let key = key.as_bytes();
        self.written += 1;
        let value = format!("v{}", self.written).into_bytes();
        let patience = 2_000 * MS;
        let old = self.values.get(&number).map(Vec::as_slice);
        let command = match self.rng.below(10) {
            0..4 => {
                sim.read(client, Query::Get { key }.to_bytes(), ReadLevel::Linearizable, patience);
                return;
            }
            4 => Command::Delete { key },
            5..7 => Command::Cas { key, old, new: &value },
            _ => Command::Put { key, value: &value },
        };
        sim.propose(client, command.to_bytes(), patience);
        if matches!(command, Command::Put { .. }) {
            self.values.insert(number, value);
        }
    }
}

fn settings(seed: u64) -> Settings {
    Settings { language: Language::Kv, ..Settings::new(seed, 3) }
}

fn assert_sound(sim: &Simulation<Kv>) {
    if let Some(violation) = sim.violation() {
        panic!("{violation}\n{}", sim.describe());
    }
}

/// Restarts, loss, duplicates and late copies, with clients asking all the time; then peace, and everything is there.
#[test]
fn a_run_under_faults_keeps_every_invariant() {
    for seed in 0..12 {
        let mut sim = Simulation::new(settings(seed), Kv::new);
        sim.found();
        for _ in 1..CLIENTS {
            sim.add_client();
        }
        let mut rng = Rng::from_seed(seed ^ 0xfa);
        sim.set_links(&LinkConfig {
            loss: rng.unit() * 0.3,
            duplicate: 0.1,
            delay: 50 * MS / 1000,
            ..LinkConfig::default()
        });
        let mut load = Load::new(seed);
        for tick in 0..600u64 {
            load.ask(&mut sim);
            sim.run_for(10 * MS);
            assert_sound(&sim);
            let node = rng.below(3) as u16 + 1;
            match rng.below(60) {
                0 if sim.down(node).is_none() => sim.crash_after(node, rng.below(5) as u32, Crash::PowerCut),
                1 if sim.down(node).is_none() => sim.crash(node, Crash::Kill),
                2 => sim.pause(node, 400 * MS),
                3..10 if sim.down(node).is_some() => sim.start(node).unwrap(),
                _ => {}
            }
            if tick == 590 {
                sim.set_links(&settings(seed).link);
            }
        }
        heal(&mut sim);
    }
}

fn heal(sim: &mut Simulation<Kv>) {
    for node in 1..=3 {
        if sim.down(node).is_some() {
            sim.start(node).unwrap();
        }
    }
    let healed = sim.now();
    let timing = settings(0).timing;
    let deadline = leader_deadline(healed, &timing, 500 * MS);
    while sim.leader().is_none() && sim.now() < deadline {
        sim.step();
    }
    assert!(sim.leader().is_some(), "{}", sim.describe());
    let deadline = rest_deadline(healed, &timing, 3_000 * MS);
    while let Err(lack) = sim.are_at_rest(|_| true) {
        assert_sound(sim);
        assert!(sim.now() < deadline, "{lack}\n{}", sim.describe());
        sim.run_for(50 * MS);
    }
    // Operations of unknown outcome may still be under way; whatever becomes of them, they are at rest by then.
    sim.run_for(3_000 * MS);
    assert_sound(sim);
    sim.check_all(|_| true).unwrap();
}
