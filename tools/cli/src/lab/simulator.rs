//! One repeat of one point in virtual time: a simulation with every check on, the load and the faults as timers of it.
//!
//! What it measures is protocol, network and disk: processors cost nothing there. Equal tasks give equal rows.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use raftgram::client::{OperationId, Outcome};
use raftgram::kv::{Command, Kv, Query};
use raftgram::raft::RoleKind;
use raftgram::rng::Rng;
use raftgram::rpc::RpcStats;
use raftgram::sim::invariant::Language;
use raftgram::sim::{Crash, DiskProfile, End, Settings, Simulation};
use raftgram::time::Instant;
use raftgram::wire::DropReason;
use raftgram::wire::client::ReadLevel;

use super::meter::{Ended, Grounds, Measured, Meter};
use super::plan::{Occurrence, Task, occurrences};
use super::run_folder::{EventKind, NodeCounts};
use super::scenario::{Between, Deed, Links, Scenario};
use super::traced::Traced;
use crate::bench::load::{outcome, value};
use crate::error::{CliError, Code};
use crate::interrupt::Interrupt;

/// The timer of the load. Those of faults come after it: begin, end, and the crash after a handover.
const LOAD: u64 = 0;
const BEGIN: u64 = 1;
const END: u64 = 2;
const DOWN: u64 = 3;
const KINDS: u64 = 3;

/// How often a run looks whether it was interrupted, in events.
const LOOK_EVERY: u64 = 4096;

/// How long a leader that is told to stop gets for handing over.
const HANDOVER: Duration = Duration::from_millis(100);

/// Runs a task. `trace` is told what happens.
pub(crate) fn measure(
    task: &Task,
    trace: Option<Traced>,
    interrupt: &Interrupt,
) -> Result<Measured, CliError> {
    // A node that breaks an assertion of its own is a finding like any other.
    let run = || Run::new(task).and_then(|run| run.finish(trace, interrupt));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(violation(task, text.unwrap_or("a panic without words")))
    })
}

fn violation(task: &Task, text: &str) -> CliError {
    let text = format!("{} repeat {}, seed {}: {text}", task.label, task.repeat, task.seed);
    CliError::new(Code::Violation, text)
        .hint("a simulation repeats: the same scenario and seed show it again")
}

/// An operation under way.
struct Open {
    client: usize,
    /// When it was due.
    began: Instant,
}

struct Run<'a> {
    task: &'a Task,
    scenario: &'a Scenario,
    sim: Simulation<Kv>,
    rng: Rng,
    meter: Meter,
    /// The begin and the end of the measured span.
    from: Instant,
    until: Instant,
    plan: Vec<Occurrence>,
    /// Whom each occurrence under way befell.
    struck: BTreeMap<usize, Option<u16>>,
    free: Vec<usize>,
    /// Operations that are due and found no client free.
    due: VecDeque<Instant>,
    begun: u64,
    open: BTreeMap<(usize, OperationId), Open>,
    /// What nodes counted in boots that have ended, and what is to be left out.
    counted: Vec<Counts>,
    commit_from: u64,
}

/// Counts of one node since the measured span began.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    stats: Sum,
    left_out: Sum,
}

/// The counts that are added up.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    sent: u64,
    sent_bytes: u64,
    received: u64,
    accepted: u64,
    retransmits: u64,
    duplicates: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl Sum {
    fn of(stats: &RpcStats) -> Self {
        Self {
            sent: stats.transmitted,
            sent_bytes: stats.transmitted_bytes,
            received: stats.received,
            accepted: stats.accepted,
            retransmits: stats.retransmits,
            duplicates: stats.duplicates,
            drops: stats.drops,
        }
    }

    fn combine(self, other: Self, how: fn(u64, u64) -> u64) -> Self {
        let mut drops = self.drops;
        drops.iter_mut().zip(other.drops).for_each(|(one, other)| *one = how(*one, other));
        Self {
            sent: how(self.sent, other.sent),
            sent_bytes: how(self.sent_bytes, other.sent_bytes),
            received: how(self.received, other.received),
            accepted: how(self.accepted, other.accepted),
            retransmits: how(self.retransmits, other.retransmits),
            duplicates: how(self.duplicates, other.duplicates),
            drops,
        }
    }
}

impl<'a> Run<'a> {
    fn new(task: &'a Task) -> Result<Self, CliError> {
        let scenario = &task.scenario;
        let mut settings = Settings::new(task.seed, scenario.nodes);
        settings.language = Language::Kv;
        settings.log_tail_bytes = usize::try_from(scenario.log_tail.0).unwrap_or(usize::MAX);
        settings.disk = profile(scenario.disk.0, scenario.fsync);
        let sim = Simulation::new(settings, Kv::new);
        Ok(Self {
            task,
            scenario,
            sim,
            rng: Rng::from_seed(task.seed ^ 0x1ab_1ab),
            meter: Meter::new(task),
            from: Instant::ZERO,
            until: Instant::ZERO,
            plan: occurrences(scenario),
            struck: BTreeMap::new(),
            free: Vec::new(),
            due: VecDeque::new(),
            begun: 0,
            open: BTreeMap::new(),
            counted: vec![Counts::default(); usize::from(scenario.nodes)],
            commit_from: 0,
        })
    }

    fn finish(mut self, trace: Option<Traced>, interrupt: &Interrupt) -> Result<Measured, CliError> {
        let trace = trace.map(|trace| Rc::new(RefCell::new(trace)));
        if let Some(trace) = &trace {
            let trace = Rc::clone(trace);
            let payloads = trace.borrow().payloads();
            self.sim.record(payloads, move |event| trace.borrow_mut().tell(event));
        }
        self.begin();
        if let Some(trace) = &trace {
            let first = self.plan.first().map_or(Duration::ZERO, |occurrence| occurrence.at);
            trace.borrow_mut().set_window(self.from + first);
        }
        let mut is_measured = false;
        let mut steps = 0;
        while self.sim.now() < self.until {
            if !is_measured && self.sim.now() >= self.from {
                is_measured = true;
                self.leave_out_the_warm_up();
            }
            self.sim.step();
            if let Some(found) = self.sim.violation() {
                return Err(violation(self.task, &found.to_string()));
            }
            self.after_step();
            steps += 1;
            if steps % LOOK_EVERY == 0 && interrupt.is_raised() {
                return Err(CliError::new(Code::Interrupted, "stopped before the end"));
            }
        }
        let grounds =
            self.grounds(trace.as_ref().map(|trace| trace.borrow_mut().finish()).transpose()?.flatten());
        Ok(self.meter.finish(self.task, "raftgram", grounds))
    }

    /// Founds the cluster on clear links, sets them, and starts the clients.
    fn begin(&mut self) {
        self.sim.found();
        let clients = usize::from(self.scenario.load.clients);
        while self.sim.clients() < clients {
            self.sim.add_client();
        }
        self.set_links(&self.scenario.links.clone(), None);
        self.free = (0..clients).rev().collect();
        let now = self.sim.now();
        self.from = now + self.scenario.warm_up.0;
        self.until = self.from + self.scenario.duration.0;
        for (place, occurrence) in (0..).zip(&self.plan) {
            let begin = self.scenario.warm_up.0 + occurrence.at;
            self.sim.set_timer(begin, BEGIN + KINDS * place);
        }
        if let Some(leader) = self.sim.leader() {
            self.look_at(leader);
        }
        match self.scenario.load.rate {
            Some(_) => self.sim.set_timer(self.spacing(), LOAD),
            None => self.due.extend(std::iter::repeat_n(now, clients)),
        }
        self.begin_due();
    }

    fn spacing(&self) -> Duration {
        Duration::from_secs(1) / self.scenario.load.rate.unwrap_or(1).max(1)
    }

    /// Time as rows show it.
    fn at_us(&self) -> i64 {
        let (now, from) = (self.sim.now().as_nanos(), self.from.as_nanos());
        (i64::try_from(now).unwrap_or(i64::MAX) - i64::try_from(from).unwrap_or(i64::MAX)).div_euclid(1000)
    }

    fn after_step(&mut self) {
        while let Some(token) = self.sim.poll_timer() {
            match token {
                LOAD => {
                    self.due.push_back(self.sim.now());
                    self.sim.set_timer(self.spacing(), LOAD);
                    self.begin_due();
                }
                token => {
                    let place = ((token - BEGIN) / KINDS) as usize;
                    match BEGIN + (token - BEGIN) % KINDS {
                        BEGIN => self.strike(place),
                        END => self.end_fault(place),
                        _ => self.bring_down(self.struck.get(&place).copied().flatten().unwrap_or(1)),
                    }
                }
            }
        }
        if let Some(node) = self.sim.touched() {
            self.look_at(node);
        }
        while let Some(node) = self.sim.poll_fallen() {
            let why = self.sim.down(node).map_or_else(String::new, ToString::to_string);
            let at_us = self.at_us();
            self.meter.event(at_us, EventKind::Crash, Some(node), None, format!("node {node} ended: {why}"));
        }
        let mut has_ended = false;
        while let Some(ended) = self.sim.poll_ended() {
            let Some(open) = self.open.remove(&(ended.client, ended.id)) else { continue };
            let how = match &ended.result {
                Ok(_) => Ended::Ok,
                Err(error) => match outcome(error) {
                    Outcome::Unknown => Ended::Unknown,
                    Outcome::NotSent => Ended::Failed,
                },
            };
            let (at_us, now) = (self.at_us(), self.sim.now());
            self.meter.ended(at_us, now.saturating_since(open.began), how);
            self.free.push(open.client);
            if self.scenario.load.rate.is_none() {
                self.due.push_back(now);
            }
            has_ended = true;
        }
        if has_ended {
            self.begin_due();
        }
    }

    fn look_at(&mut self, node: u16) {
        let Some(raft) = self.sim.node(node).map(|node| node.raft()) else { return };
        let (term, leads) = (raft.term().0, raft.role() == RoleKind::Leader && raft.is_settled_leader());
        let at_us = self.at_us();
        self.meter.sees_term(at_us, node, term);
        if leads {
            self.meter.leads(at_us, node, term);
        }
    }

    /// Gives free clients what is due.
    fn begin_due(&mut self) {
        while let Some(client) = self.free.last().copied()
            && let Some(began) = self.due.pop_front()
        {
            self.free.pop();
            let load = &self.scenario.load;
            let key = format!("lab/{}", self.rng.below(load.keys));
            let timeout = self.scenario.timeout.0;
            let id = if self.rng.chance(load.reads.fraction()) {
                let query = Query::Get { key: key.as_bytes() }.to_bytes();
                self.sim.read(client, query, ReadLevel::Linearizable, timeout)
            } else {
                let value = value(self.begun, self.task.seed, load.value.0);
                let command = Command::Put { key: key.as_bytes(), value: value.as_bytes() };
                self.sim.propose(client, command.to_bytes(), timeout)
            };
            self.begun += 1;
            self.open.insert((client, id), Open { client, began });
        }
    }

    /// Sets what links do: all, or those from one node.
    fn set_links(&mut self, links: &Links, from: Option<u16>) {
        let config = links.config();
        let nodes = 1..=self.scenario.nodes;
        for (one, other) in nodes.clone().flat_map(|one| nodes.clone().map(move |other| (one, other))) {
            if one != other && from.is_none_or(|from| from == one) {
                self.sim.set_link(End::node(one), End::node(other), config.clone());
            }
        }
        if self.scenario.links.between == Between::All {
            let clients = self.sim.client_ends();
            for (node, client) in nodes.flat_map(|node| clients.iter().map(move |end| (node, *end))) {
                if from.is_none_or(|from| from == node) {
                    self.sim.set_link(End::node(node), client, config.clone());
                }
                if from.is_none() {
                    self.sim.set_link(client, End::node(node), config.clone());
                }
            }
        }
    }

    fn strike(&mut self, place: usize) {
        let occurrence = self.plan[place].clone();
        let leader = self.sim.leader().or(self.meter.leader());
        let rng = &mut self.rng;
        let node = occurrence.node(self.scenario.nodes, leader, &mut |below| rng.below(below));
        let at_us = self.at_us();
        let kind = match occurrence.fault.deed {
            Deed::Crash | Deed::Restart => EventKind::Crash,
            Deed::Pause => EventKind::Pause,
            Deed::Snapshot | Deed::Transfer => EventKind::Note,
            _ => EventKind::Fault,
        };
        self.meter.event(at_us, kind, node, None, occurrence.fault.text(node));
        self.struck.insert(place, node);
        if let Some(until) = occurrence.until {
            self.sim.set_timer(until - occurrence.at, END + KINDS * place as u64);
        }
        let number = node.unwrap_or(1);
        match &occurrence.fault.deed {
            Deed::Crash => self.bring_down(number),
            Deed::Restart => {
                self.sim.transfer_leadership(number);
                self.sim.set_timer(HANDOVER.min(occurrence.fault.lasting.0 / 2), DOWN + KINDS * place as u64);
            }
            Deed::Pause => self.sim.pause(number, occurrence.fault.lasting.0),
            Deed::Partition(_) | Deed::Mute | Deed::Deaf => self.block(&occurrence.fault.deed, number),
            Deed::Links(links) => self.set_links(links, node),
            Deed::SlowDisk(sync) => self.sim.set_disk(number, profile(sync.0, true)),
            Deed::Snapshot => self.sim.take_snapshot(number),
            Deed::Transfer => {
                let leader = node.or(leader).unwrap_or(1);
                self.sim.transfer_leadership(leader);
            }
        }
    }

    /// Blocks what a fault blocks.
    fn block(&mut self, deed: &Deed, node: u16) {
        for (from, to) in blocked(deed, node, self.scenario.nodes) {
            self.sim.block(End::node(from), End::node(to));
        }
    }

    fn bring_down(&mut self, node: u16) {
        let counts = self.sim.node(node).map(|node| Sum::of(node.rpc().stats()));
        if let Some(counts) = counts {
            let all = &mut self.counted[usize::from(node) - 1].stats;
            *all = all.combine(counts, |one, other| one + other);
        }
        self.sim.crash(node, Crash::Kill);
    }

    fn end_fault(&mut self, place: usize) {
        let fault = self.plan[place].fault.clone();
        let Some(node) = self.struck.remove(&place) else { return };
        let number = node.unwrap_or(1);
        let kind = match fault.deed {
            Deed::Crash | Deed::Restart => EventKind::Start,
            Deed::Pause => EventKind::Resume,
            _ => EventKind::Heal,
        };
        let at_us = self.at_us();
        match &fault.deed {
            Deed::Crash | Deed::Restart => {
                if self.sim.down(number).is_some()
                    && let Err(error) = self.sim.start(number)
                {
                    self.meter.event(
                        at_us,
                        EventKind::Note,
                        node,
                        None,
                        format!("node {number} did not start: {error}"),
                    );
                }
            }
            Deed::Partition(_) | Deed::Mute | Deed::Deaf => {
                self.sim.unblock_all();
                // What another fault blocks stays so.
                for (place, node) in self.struck.clone() {
                    let deed = self.plan[place].fault.deed.clone();
                    self.block(&deed, node.unwrap_or(1));
                }
            }
            Deed::Links(_) => self.set_links(&self.scenario.links.clone(), node),
            Deed::SlowDisk(_) => {
                self.sim.set_disk(number, profile(self.scenario.disk.0, self.scenario.fsync))
            }
            _ => {}
        }
        self.meter.event(at_us, kind, node, None, fault.text(node));
    }

    fn leave_out_the_warm_up(&mut self) {
        for node in 1..=self.scenario.nodes {
            let now = self.sim.node(node).map_or_else(Sum::default, |node| Sum::of(node.rpc().stats()));
            let counts = &mut self.counted[usize::from(node) - 1];
            counts.left_out = counts.stats.combine(now, |one, other| one + other);
        }
        self.commit_from = self.commit();
    }

    fn commit(&self) -> u64 {
        let commits =
            (1..=self.scenario.nodes).filter_map(|node| Some(self.sim.node(node)?.raft().commit().0));
        commits.max().unwrap_or(0)
    }

    /// What nodes counted since the begin of the measured span.
    fn grounds(&self, trace: Option<String>) -> Grounds {
        let mut all = Sum::default();
        let mut nodes = Vec::new();
        for node in 1..=self.scenario.nodes {
            let running = self.sim.node(node);
            let now = running.map_or_else(Sum::default, |node| Sum::of(node.rpc().stats()));
            let counts = &self.counted[usize::from(node) - 1];
            let add = |one, other| one + other;
            let sum = counts.stats.combine(now, add).combine(counts.left_out, u64::saturating_sub);
            all = all.combine(sum, add);
            let status = running.map(|node| node.status());
            let peers = || status.iter().flat_map(|status| &status.peers);
            let drops = DropReason::ALL.iter().zip(sum.drops).filter(|(_, count)| *count > 0);
            nodes.push(NodeCounts {
                point: self.task.point,
                repeat: self.task.repeat,
                node,
                role: status
                    .as_ref()
                    .map_or_else(|| "down".to_owned(), |status| status.role.name().to_owned()),
                term: status.as_ref().map_or(0, |status| status.term.0),
                commit: status.as_ref().map_or(0, |status| status.commit.0),
                applied: status.as_ref().map_or(0, |status| status.applied.0),
                datagrams_sent: Some(sum.sent),
                bytes_sent: Some(sum.sent_bytes),
                datagrams_received: sum.received,
                accepted: sum.accepted,
                retransmits: sum.retransmits,
                duplicates: sum.duplicates,
                packets_passed: None,
                drops: drops.map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
                rtt_us: peers().map(|peer| peer.rtt_us).max(),
                loss: peers().map(|peer| f64::from(peer.loss_ppm) / 1e6).reduce(f64::max),
            });
        }
        Grounds {
            commits: self.commit().saturating_sub(self.commit_from),
            datagrams: Some(all.sent),
            datagram_bytes: Some(all.sent_bytes),
            trace_hash: Some(format!("{:016x}", self.sim.trace_hash())),
            trace,
            nodes,
        }
    }
}

fn profile(sync: Duration, fsync: bool) -> DiskProfile {
    // Around the mean, as disks do.
    let mean = if fsync { sync } else { Duration::from_micros(1) };
    DiskProfile { latency_min: mean.mul_f64(0.4), latency_max: mean.mul_f64(1.6) }
}

/// The links, one way each, on which nothing passes under this fault.
pub(crate) fn blocked(deed: &Deed, node: u16, nodes: u16) -> Vec<(u16, u16)> {
    let all =
        (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to))).filter(|(from, to)| from != to);
    let is_blocked = |&(from, to): &(u16, u16)| match deed {
        Deed::Partition(groups) if groups.is_empty() => from == node || to == node,
        Deed::Partition(groups) => {
            let group = |node: u16| groups.iter().position(|group| group.contains(&node));
            group(from).zip(group(to)).is_some_and(|(one, other)| one != other)
        }
        Deed::Mute => from == node,
        Deed::Deaf => to == node,
        _ => false,
    };
    all.filter(is_blocked).collect()
}
