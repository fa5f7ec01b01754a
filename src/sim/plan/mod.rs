//! What goes wrong in a run, drawn from its seed.
//!
//! A plan is called whenever one of its timers is due and does a *deed*: something befalls a link, a node, a disk or a
//! client, and a later timer takes it back. It decides by what it finds (who leads, who is up), so the same deed can
//! hit where it hurts. An *ambush* waits for something to happen at a node and strikes it, or another one, right then
//! or a moment later.
//!
//! # What it never does
//! The checks demand that nothing acknowledged is lost, so a plan stays within what Raft and its repair can bear: at
//! any time at most a minority of the nodes has lost data in whatever way; a node that is whole again may be hit
//! again, and so may others. Records that the other nodes hold may be damaged on all nodes at once. Everything else
//! may hit all nodes at once, too. Where an operator lets nodes come and go (`members`), it alone takes data away, and
//! of no more than one voter at a time.

pub(super) mod adversary;
mod ambush;
mod deeds;
mod disjoint;
mod disks;
mod members;
mod mix;
mod past;
mod reads;
mod snapshots;
mod streams;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ambush::{Ambush, Strike};
use members::Operator;
use mix::{Mix, is_weather};
use past::Past;
use streams::Streams;

use super::faults::{Fault, FaultSet};
use super::network::End;
use super::settings::Settings;
use super::simulation::Simulation;
use super::storage::DiskProfile;
use crate::machine::Machine;
use crate::rng::Rng;
use crate::session::Limits;
use crate::store::{MemoryDisk, OpenError};
use crate::trace::NoteKind;
use crate::types::Incarnation;

/// The plan's timers are numbered from here on.
const TOKEN: u64 = 1 << 63;

/// What a timer is for.
#[derive(Clone, Debug)]
enum Later {
    /// The next deed.
    Deed,
    /// Wait in another ambush.
    Ambush,
    /// An ambush's strike that comes a moment after.
    Strike(u16, Strike),
    /// What a node hears becomes older, or its own words are lost.
    Past(Past),
    Start(u16),
    Unblock(Vec<(End, End)>),
    CalmLinks(Vec<(End, End)>),
    CalmDisk(u16),
    FreeDisk(u16),
    CalmSocket(u16),
    CalmClock(u16),
    /// The next snapshot, or another mark for them.
    Snapshot,
    DisjointRot,
    /// The next change of the membership.
    Members,
    /// What befalls a leader in the midst of one.
    Upset(u16),
}

/// The faults of a run; see the module's page.
pub(super) struct Plan {
    /// Draws when things happen; what a deed does is drawn from its own stream.
    rng: Rng,
    streams: Streams,
    /// How many deeds and ambushes there were.
    deeds_done: u64,
    ambushes_laid: u64,
    mix: Mix,
    /// The deeds that the mix has, each as often as it is to be drawn.
    deeds: Vec<Fault>,
    pending: BTreeMap<u64, Later>,
    tokens: u64,
    is_over: bool,
    disk: DiskProfile,
    nodes: u16,
    /// Nodes that lost data by what was done to them and are not known to be whole again.
    spoiled: BTreeSet<u16>,
    /// Of those, the ones that are not to be started again.
    retired: BTreeSet<u16>,
    /// Copies of folders, and the boot they were taken in.
    backups: BTreeMap<u16, (Incarnation, MemoryDisk)>,
    ambush: Option<Ambush>,
    glances: Vec<ambush::Glance>,
    /// How often each kind struck.
    counts: BTreeMap<Fault, u64>,
    /// A node refused its data folder though nothing was done to it.
    refusal: Option<(u16, OpenError)>,
    /// Decides about snapshots, in runs that have them. It draws for itself, so that runs without are as they were.
    snapshots: Option<Rng>,
    /// The same for damage on several nodes at once.
    disjoint: Option<Rng>,
    /// The same for the membership.
    operator: Option<Operator>,
    /// The same for how clients read.
    reads: Option<Rng>,
    client_crashes: VecDeque<usize>,
    floods: VecDeque<(usize, u64)>,
}

impl Plan {
    /// Draws the plan of a run, and changes the settings where it has to.
    pub(super) fn draw(enabled: FaultSet, settings: &mut Settings, mut rng: Rng) -> Self {
        let streams = Streams::new(rng.next_u64());
        let mut mix = Mix::draw(enabled, settings, &mut rng, streams);
        let snapshots = snapshots::draw(enabled, settings);
        if snapshots.is_some() {
            mix.chosen = mix.chosen.with(Fault::Snapshots);
        }
        let reads = reads::draw(enabled, mix.chosen, settings);
        if reads.is_some() {
            mix.chosen = mix.chosen.with(Fault::Reads);
        }
        let disjoint = disjoint::draw(enabled, settings);
        if disjoint.is_some() {
            mix.chosen = mix.chosen.with(Fault::DisjointRot);
        }
        let operator = members::draw(enabled, mix.chosen, settings);
        if operator.is_some() {
            mix.chosen = mix.chosen.with(Fault::Members);
        }
        let is_deed = |fault: &Fault| {
            let is_standing = matches!(fault, Fault::Churn | Fault::SmallLimits | Fault::Ambush);
            let is_own =
                matches!(fault, Fault::Snapshots | Fault::DisjointRot | Fault::Members | Fault::Reads);
            !is_standing && !is_own && !is_weather(*fault)
        };
        let mut deeds: Vec<Fault> = mix.chosen.iter().filter(is_deed).collect();
        // One deed stands for all that links do at once.
        deeds.extend(mix.chosen.iter().find(|fault| is_weather(*fault)));
        let glances = (0..settings.nodes).map(|_| ambush::Glance::default()).collect();
        Self {
            rng,
            streams,
            deeds_done: 0,
            ambushes_laid: 0,
            mix,
            deeds,
            pending: BTreeMap::new(),
            tokens: TOKEN,
            is_over: false,
            disk: settings.disk,
            nodes: settings.nodes,
            spoiled: BTreeSet::new(),
            retired: BTreeSet::new(),
            backups: BTreeMap::new(),
            ambush: None,
            glances,
            counts: BTreeMap::new(),
            refusal: None,
            snapshots,
            disjoint,
            operator,
            reads,
            client_crashes: VecDeque::new(),
            floods: VecDeque::new(),
        }
    }

    /// What the run does, for its report.
    pub(super) fn chosen(&self) -> FaultSet {
        self.mix.chosen
    }

    /// Whether a node can never take part again, because of what was done to its data, or is no member.
    pub(super) fn has_lost<M: Machine>(&self, sim: &Simulation<M>, node: u16) -> bool {
        if self.operator.is_some() {
            return !members::is_member(sim, node);
        }
        self.spoiled.contains(&node) && (self.retired.contains(&node) || sim.node(node).is_none())
    }

    /// Whether a timer is the plan's.
    pub(super) const fn owns(token: u64) -> bool {
        token >= TOKEN
    }

    /// Begins with faults, or goes on with them after [`Self::heal`].
    pub(super) fn begin<M: Machine>(&mut self, sim: &mut Simulation<M>) {
        self.is_over = false;
        if self.mix.chosen.has(Fault::Captured) || self.mix.chosen.has(Fault::Forge) {
            sim.tap(400);
        }
        if !self.deeds.is_empty() {
            self.next_deed(sim);
        }
        if self.mix.chosen.has(Fault::Ambush) {
            self.lay_ambush(sim.settings().timing.election_timeout_max);
        }
        if self.snapshots.is_some() {
            self.later(sim, Duration::ZERO, Later::Snapshot);
        }
        if self.operator.is_some() {
            self.later(sim, Duration::ZERO, Later::Members);
        }
        if self.disjoint.is_some() {
            self.later(sim, Duration::from_secs(2), Later::DisjointRot);
        }
    }

    /// A timer is due.
    pub(super) fn timer<M: Machine>(&mut self, sim: &mut Simulation<M>, token: u64) {
        let Some(later) = self.pending.remove(&token) else { return };
        match later {
            Later::Start(node) => self.start(sim, node),
            Later::Unblock(paths) => paths.iter().for_each(|&(from, to)| sim.unblock(from, to)),
            Later::CalmLinks(paths) => {
                for (from, to) in paths {
                    sim.set_link(from, to, self.mix.calm.clone());
                }
            }
            Later::CalmDisk(node) => sim.set_disk(node, self.disk),
            Later::FreeDisk(node) => sim.with_disk(node, |disk| disk.set_capacity(None)),
            Later::CalmSocket(node) => sim.set_socket(node, 0.0, None),
            Later::CalmClock(node) => sim.set_clock_rate(node, 1.0),
            Later::Deed | Later::Ambush | Later::Strike(..) | Later::Past(_) if self.is_over => {}
            Later::Snapshot | Later::DisjointRot | Later::Members | Later::Upset(_) if self.is_over => {}
            Later::Upset(node) => self.upset(sim, node),
            Later::Members => self.change_members(sim),
            Later::Snapshot => self.snapshot(sim),
            Later::DisjointRot => self.rot_disjoint(sim),
            Later::Deed => {
                if let Some(limits) = sim.settings().session_limits {
                    sim.change_limits(|now| *now = Limits { snapshot_bytes: now.snapshot_bytes, ..limits });
                }
                self.deeds_done += 1;
                let fault = self.streams.pick(&self.deeds, self.deeds_done);
                *self.counts.entry(fault).or_default() += 1;
                sim.record_note(NoteKind::Fault, None, || fault.name().to_owned());
                let own = self.streams.of(fault, self.deeds_done);
                let shared = core::mem::replace(&mut self.rng, own);
                self.strike(sim, fault);
                self.rng = shared;
                self.next_deed(sim);
            }
            Later::Ambush => self.lay_ambush(sim.settings().timing.election_timeout_max),
            Later::Strike(node, strike) => self.spring(sim, node, strike),
            Later::Past(past) => self.go_on_in_the_past(sim, past),
        }
    }

    fn next_deed<M: Machine>(&mut self, sim: &mut Simulation<M>) {
        let gap = self.about(self.mix.gap);
        self.later(sim, gap, Later::Deed);
    }

    /// Ends all faults, and starts whoever can be started.
    pub(super) fn heal<M: Machine>(&mut self, sim: &mut Simulation<M>) {
        self.is_over = true;
        sim.record_note(NoteKind::Heal, None, || "all faults end".to_owned());
        self.ambush = None;
        self.pending.clear();
        sim.tap(0);
        sim.unblock_all();
        sim.set_links(&self.mix.calm);
        for node in 1..=sim.nodes() {
            sim.set_disk(node, self.disk);
            sim.with_disk(node, |disk| {
                disk.set_capacity(None);
                disk.clear_faults();
            });
            sim.end_trouble(node);
        }
        for node in 1..=sim.nodes() {
            self.start(sim, node);
        }
    }

    /// Starts a node that is down and may be started.
    fn start<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16) {
        if sim.down(node).is_none() || self.retired.contains(&node) {
            return;
        }
        match sim.start(node) {
            Ok(()) => {}
            Err(OpenError::Disk(_) | OpenError::Full) => {
                sim.with_disk(node, MemoryDisk::revive);
                let soon = self.about(self.mix.span);
                self.later(sim, soon, Later::Start(node));
            }
            Err(_) if self.spoiled.contains(&node) => {
                self.retired.insert(node);
            }
            Err(error) => self.refusal = Some((node, error)),
        }
    }

    /// After each event: nodes that ended by themselves are started again, and an ambush may strike.
    pub(super) fn look<M: Machine>(&mut self, sim: &mut Simulation<M>) {
        let Some(node) = sim.touched() else { return };
        if sim.down(node).is_some() {
            return;
        }
        if self.ambush.is_some() {
            self.look_for_prey(sim, node);
        }
        self.look_for_change(sim, node);
    }

    /// A node has ended; it is started again unless that is planned already.
    pub(super) fn ended<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16) {
        let is_planned = self.pending.values().any(|later| matches!(later, Later::Start(n) if *n == node));
        if !is_planned && !self.retired.contains(&node) {
            let span = self.about(self.mix.span);
            self.later(sim, span, Later::Start(node));
        }
    }

    fn later<M: Machine>(&mut self, sim: &mut Simulation<M>, after: Duration, what: Later) {
        self.tokens += 1;
        self.pending.insert(self.tokens, what);
        sim.set_timer(after, self.tokens);
    }

    /// A span around this one: mostly shorter, now and then several times as long.
    fn about(&mut self, span: Duration) -> Duration {
        let (a, b) = (self.rng.unit(), self.rng.unit());
        span.mul_f64(0.05 + a * b * 4.0)
    }

    fn any_node<M: Machine>(&mut self, sim: &Simulation<M>) -> u16 {
        // Leaders are where it hurts.
        match sim.leader() {
            Some(leader) if self.rng.chance(0.4) => leader,
            _ => 1 + self.rng.below(u64::from(sim.nodes())) as u16,
        }
    }

    /// Whether one more node may lose its data.
    fn may_spoil<M: Machine>(&mut self, sim: &Simulation<M>, node: u16) -> bool {
        let is_whole = |node: &u16| is_whole(sim, *node);
        self.spoiled.retain(|node| self.retired.contains(node) || !is_whole(node));
        let minority = usize::from(sim.nodes() - 1) / 2;
        let is_founded = (1..=sim.nodes()).all(|node| sim.node(node).is_some() || sim.is_founded(node));
        // Where more were damaged, each in another place, nothing may be added before they have mended one another.
        let is_bearable = self.spoiled.len() + usize::from(!self.spoiled.contains(&node)) <= minority;
        is_founded && is_bearable
    }

    /// A node that refused its data folder though nothing was done to it.
    pub(super) fn take_refusal(&mut self) -> Option<(u16, OpenError)> {
        self.refusal.take()
    }

    /// A client that is to end.
    pub(super) fn poll_client_crash(&mut self) -> Option<usize> {
        self.client_crashes.pop_front()
    }

    /// A client that is to begin so many things at once.
    pub(super) fn poll_flood(&mut self) -> Option<(usize, u64)> {
        self.floods.pop_front()
    }

    /// Whether this run looks at life in a graph that is connected in part.
    pub(super) fn wants_partial_graph(&mut self) -> bool {
        let cuts = self.mix.chosen.has(Fault::OneWay) || self.mix.chosen.has(Fault::Partition);
        // What a damaged node lacks may lie on any other one.
        let has_core = self.spoiled.len() <= usize::from(self.nodes - 1) / 2;
        // Whose majority counts changes where nodes come and go.
        cuts && self.rng.chance(0.5) && has_core && self.operator.is_none()
    }

    /// Ends all faults but cuts: of the paths outside a majority that is whole, each is cut or not.
    pub(super) fn heal_to_partial_graph<M: Machine>(&mut self, sim: &mut Simulation<M>) {
        self.heal(sim);
        let up: Vec<u16> = (1..=sim.nodes()).filter(|node| !self.spoiled.contains(node)).collect();
        let quorum = usize::from(sim.nodes()) / 2 + 1;
        let mut core = up;
        while core.len() > quorum {
            let out = self.rng.below(core.len() as u64) as usize;
            core.swap_remove(out);
        }
        let (core, all) = (ends(core), ends(1..=sim.nodes()));
        let share = self.rng.unit();
        for (from, to) in paths(&all, &all) {
            let is_inside = core.contains(&from) && core.contains(&to);
            if !is_inside && self.rng.chance(share) {
                sim.block(from, to);
            }
        }
    }

    /// What struck, and how often.
    pub(super) fn counts(&self) -> &BTreeMap<Fault, u64> {
        &self.counts
    }
}

/// Whether a node holds all that is committed, durably, with no hole in its log.
fn is_whole<M: Machine>(sim: &Simulation<M>, node: u16) -> bool {
    let committed = sim.leader().and_then(|leader| sim.node(leader)).map(|leader| leader.raft().commit());
    let Some((node, committed)) = sim.node(node).zip(committed) else { return false };
    let raft = node.raft();
    raft.repair().is_none() && !raft.is_installing() && raft.durable_index() >= committed
}

/// Every path between different ends of these.
fn paths(from: &[End], to: &[End]) -> Vec<(End, End)> {
    let pair =
        |from: &End| to.iter().map(|to| (*from, *to)).filter(|(from, to)| from != to).collect::<Vec<_>>();
    from.iter().flat_map(pair).collect()
}

/// The ends of nodes by number.
fn ends(nodes: impl IntoIterator<Item = u16>) -> Vec<End> {
    nodes.into_iter().map(|node| End::Node(usize::from(node) - 1)).collect()
}
