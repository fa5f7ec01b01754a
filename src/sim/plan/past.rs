//! A node that lives in the past: what it hears is true and long over.
//!
//! What the others say comes to it later and later, so slowly that nobody notices a silence. Then its own words are
//! lost, and the others go on without it, while the answers to what it said before still come in. Whoever takes an
//! answer for a sign of the present is wrong then, for many election timeouts on end.

use core::time::Duration;

use super::{Later, Plan, ends, paths};
use crate::fault::LinkConfig;
use crate::machine::Machine;
use crate::sim::simulation::Simulation;

/// One node's way into the past.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    node: u16,
    /// How much later than now it hears.
    delay: Duration,
    step: Duration,
    steps_left: u32,
}

impl Plan {
    pub(super) fn put_into_the_past<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16) {
        // Each step is a silence of two of them.
        let step = sim.settings().timing.election_timeout_min / 3;
        let steps_left = 3 + self.rng.below(18) as u32;
        self.go_on_in_the_past(sim, Past { node, delay: self.mix.calm.delay, step, steps_left });
    }

    pub(super) fn go_on_in_the_past<M: Machine>(&mut self, sim: &mut Simulation<M>, past: Past) {
        let Past { node, delay, step, steps_left } = past;
        let (one, all) = (ends([node]), ends(1..=sim.nodes()));
        if steps_left == 0 {
            self.block(sim, paths(&one, &all), delay);
            return self.later(sim, delay, Later::CalmLinks(paths(&all, &one)));
        }
        let late = LinkConfig { delay, ..self.mix.calm.clone() };
        for (from, to) in paths(&all, &one) {
            sim.set_link(from, to, late.clone());
        }
        let next = Past { delay: delay + step, steps_left: steps_left - 1, ..past };
        self.later(sim, step, Later::Past(next));
    }
}
