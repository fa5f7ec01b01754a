//! What befalls links, processes, clocks and clients.

use core::time::Duration;

use super::mix::magnitude;
use super::{Later, Plan, ends, paths};
use crate::machine::Machine;
use crate::sim::faults::Fault;
use crate::sim::network::End;
use crate::sim::server::Crash;
use crate::sim::simulation::Simulation;
use crate::sim::storage::DiskProfile;

impl Plan {
    /// Does something of this kind.
    pub(super) fn strike<M: Machine>(&mut self, sim: &mut Simulation<M>, fault: Fault) {
        let node = self.any_node(sim);
        let span = self.about(self.mix.span);
        match fault {
            Fault::Partition => self.partition(sim, node, span),
            Fault::OneWay => self.cut_one_way(sim, node, span),
            Fault::Clog => self.clog(sim, node, span),
            Fault::Mtu | Fault::Socket => {
                let (errors, mtu) = if fault == Fault::Mtu { (0.0, Some(1_000)) } else { (0.3, None) };
                sim.set_socket(node, errors, mtu);
                self.later(sim, span, Later::CalmSocket(node));
            }
            Fault::Kill => self.crash_some(sim, node, Crash::Kill),
            Fault::PowerCut => self.crash_some(sim, node, Crash::PowerCut),
            Fault::Pause => {
                let span = magnitude(&mut self.rng, Duration::from_millis(10), Duration::from_secs(60));
                sim.pause(node, span);
            }
            Fault::SlowDisk => {
                let latency_max = magnitude(&mut self.rng, Duration::from_millis(1), Duration::from_secs(1));
                sim.set_disk(node, DiskProfile { latency_min: latency_max / 8, latency_max });
                self.later(sim, span, Later::CalmDisk(node));
            }
            Fault::HungDisk => {
                let span = magnitude(&mut self.rng, Duration::from_millis(100), Duration::from_secs(10));
                sim.hang_disk(node, span);
            }
            Fault::DiskError => self.fail_disk(sim, node),
            Fault::FullDisk => self.fill_disk(sim, node, span),
            Fault::Rot | Fault::Misdirect | Fault::MissingFile | Fault::Wipe | Fault::OldBackup => {
                self.spoil(sim, node, fault);
            }
            Fault::Clock => {
                sim.set_clock_rate(node, 0.5 + self.rng.unit() * 1.5);
                if self.rng.chance(0.3) && self.may_jump(sim.settings()) {
                    sim.jump_clock(node, span);
                }
                self.later(sim, span, Later::CalmClock(node));
            }
            Fault::ClientCrash => {
                if sim.clients() > 0 {
                    let client = self.rng.below(sim.clients() as u64) as usize;
                    self.client_crashes.push_back(client);
                }
            }
            Fault::Flood => {
                if sim.clients() > 0 {
                    let client = self.rng.below(sim.clients() as u64) as usize;
                    self.floods.push_back((client, 10 + self.rng.below(50)));
                }
            }
            Fault::Forge => self.forge(sim),
            Fault::Past => self.put_into_the_past(sim, node),
            Fault::Captured => self.play_captured(sim),
            Fault::Transfer => {
                if let Some(leader) = sim.leader() {
                    sim.transfer_leadership(leader);
                }
            }
            _ => self.change_weather(sim, node, span),
        }
    }

    fn change_weather<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16, span: Duration) {
        let (nodes, clients) = (ends(1..=sim.nodes()), sim.client_ends());
        let paths = match self.rng.below(4) {
            0 => paths(&nodes, &nodes),
            1 => [paths(&nodes, &clients), paths(&clients, &nodes)].concat(),
            2 => [paths(&ends([node]), &nodes), paths(&nodes, &ends([node]))].concat(),
            _ => {
                let other = self.any_node(sim);
                paths(&ends([node]), &ends([other]))
            }
        };
        let weather = self.mix.weather(self.streams, self.deeds_done);
        for (from, to) in &paths {
            sim.set_link(*from, *to, weather.clone());
        }
        self.later(sim, span, Later::CalmLinks(paths));
    }

    pub(super) fn block<M: Machine>(
        &mut self,
        sim: &mut Simulation<M>,
        paths: Vec<(End, End)>,
        span: Duration,
    ) {
        for (from, to) in &paths {
            sim.block(*from, *to);
        }
        self.later(sim, span, Later::Unblock(paths));
    }

    /// Cuts nodes off from each other both ways: one, a group, all, or those of a chain that are not neighbours.
    fn partition<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16, span: Duration) {
        let all: Vec<u16> = (1..=sim.nodes()).collect();
        let (left, right): (Vec<u16>, Vec<u16>) = match self.rng.below(4) {
            0 | 1 => (vec![node], all.iter().copied().filter(|other| *other != node).collect()),
            2 => all.iter().partition(|_| self.rng.chance(0.5)),
            _ => {
                let is_far = |(a, b): &(End, End)| match (a, b) {
                    (End::Node(a), End::Node(b)) => a.abs_diff(*b) > 1,
                    _ => false,
                };
                let all = ends(all);
                let far = paths(&all, &all).into_iter().filter(is_far).collect();
                return self.block(sim, far, span);
            }
        };
        let (left, mut right) = (ends(left), ends(right));
        if self.rng.chance(0.3) {
            right.extend(sim.client_ends());
        }
        let cut = [paths(&left, &right), paths(&right, &left)].concat();
        self.block(sim, cut, span);
    }

    /// Cuts paths one way: all to a node, all from it, or any of all.
    fn cut_one_way<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16, span: Duration) {
        let (all, one) = (ends(1..=sim.nodes()), ends([node]));
        let cut = match self.rng.below(3) {
            0 => paths(&one, &all),
            1 => paths(&all, &one),
            _ => {
                let share = self.rng.unit();
                paths(&all, &all).into_iter().filter(|_| self.rng.chance(share)).collect()
            }
        };
        self.block(sim, cut, span);
    }

    /// A path delivers nothing for a while, and then everything at once.
    fn clog<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16, span: Duration) {
        let other = self.any_node(sim);
        let clogged = crate::fault::LinkConfig { delay: span, ..self.mix.calm.clone() };
        let paths = paths(&ends([node]), &ends([other]));
        for (from, to) in &paths {
            sim.set_link(*from, *to, clogged.clone());
        }
        self.later(sim, span / 2, Later::CalmLinks(paths));
    }

    fn crash_some<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16, crash: Crash) {
        let nodes: Vec<u16> = match self.rng.below(8) {
            0 => (1..=sim.nodes()).collect(),
            1 => (1..=sim.nodes()).filter(|_| self.rng.chance(0.5)).collect(),
            _ => vec![node],
        };
        for node in nodes {
            let effects = self.rng.below(12) as u32;
            self.crash(sim, node, crash, effects);
        }
    }

    /// Crashes a node, at once or after so many effects, and starts it later.
    pub(super) fn crash<M: Machine>(
        &mut self,
        sim: &mut Simulation<M>,
        node: u16,
        crash: Crash,
        effects: u32,
    ) {
        if effects == 0 || self.rng.chance(0.5) {
            sim.crash(node, crash);
            let span = self.about(self.mix.span);
            self.later(sim, span, Later::Start(node));
        } else {
            // Its end is noticed when it comes.
            sim.crash_after(node, effects, crash);
        }
    }
}
