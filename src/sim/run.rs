//! One run from its seed to its verdict: found, then some times over do harm, heal, and see whether all still stands.

use core::time::Duration;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::clients::Ended;
use super::faults::FaultSet;
use super::invariant::{Invariant, Violation};
use super::plan::Plan;
use super::report::{Counts, Report};
use super::settings::{NODES_MAX, Settings};
use super::simulation::Simulation;
use super::workload::{Outcome, Process, Processes, Request, Workload};
use crate::client::{Answer, ClientError, OperationId, Outcome as Known};
use crate::rng::Rng;
use crate::seal::{PACKETS_PER_PHASE_MAX, SealMode};
use crate::time::Instant;
use crate::trace::NoteKind;

/// See [`Runner::slack`]; for disks that take no time.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an entry that waits in the log may take.
const ENTRY_PATIENCE: Duration = Duration::from_millis(20);

/// A run's faults come in so many spells at most; the cluster is healed after each.
const SPELLS_MAX: u64 = 4;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Decides every draw.
    pub seed: u64,
    /// How many nodes, 1 to [`NODES_MAX`].
    pub nodes: u16,
    /// How long faults are done. Founding and healing come on top.
    pub time: Duration,
    /// The faults to choose from.
    pub faults: FaultSet,
    /// How many clients do one thing after the other.
    pub clients: u16,
    /// How many operations all of them begin in a second, if they are answered.
    pub operations_per_s: u32,
    /// Whether datagrams are sealed. That needs the feature `seal`.
    pub seal: SealMode,
}

impl Config {
    /// Three nodes, thirty seconds, every fault.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: 3,
            time: Duration::from_secs(30),
            faults: FaultSet::all(),
            clients: 4,
            operations_per_s: 64,
            seal: SealMode::Off,
        }
    }
}

/// Runs a seed with a workload. `make` draws the workload from the seed.
///
/// # Panics
/// When there are no clients, or too many nodes.
pub fn run<W: Workload + 'static>(config: Config, make: impl FnOnce(&mut Rng) -> W) -> (Report, W) {
    run_with(config, make, |_| {})
}

/// As [`run`], of a simulation that `prepare` was given first: to [`record`](Simulation::record) it.
///
/// # Panics
/// When there are no clients, or too many nodes.
pub fn run_with<W: Workload + 'static>(
    config: Config,
    make: impl FnOnce(&mut Rng) -> W,
    prepare: impl FnOnce(&mut Simulation<W::Machine>),
) -> (Report, W) {
    assert!((1..=NODES_MAX).contains(&config.nodes), "{} nodes, not 1 to {NODES_MAX}", config.nodes);
    assert!((1..=32).contains(&config.clients), "{} clients, not 1 to 32", config.clients);
    let mut runner = Runner::new(config, make);
    prepare(&mut runner.sim);
    // A node that breaks an assertion of its own is a finding like any other. Nothing of it is used afterwards.
    let result = catch_unwind(AssertUnwindSafe(|| runner.run()));
    let violation = match result {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
            Some(runner.violation(Invariant::OwnAssertion, text.to_owned()))
        }
    };
    if let Some(violation) = &violation {
        let place = violation.node.map(|node| usize::from(node.as_u16()) - 1);
        runner.sim.record_note(NoteKind::Violation, place, || violation.to_string());
    }
    (runner.report(violation), runner.workload)
}

/// Something a client has under way.
#[derive(Debug)]
struct Open {
    process: Process,
    is_write: bool,
    began: Instant,
}

struct Runner<W: Workload> {
    config: Config,
    sim: Simulation<W::Machine>,
    plan: Plan,
    workload: W,
    rng: Rng,
    processes: Processes,
    open: BTreeMap<(usize, OperationId), Open>,
    /// How long an operation may take.
    patience: Duration,
    /// How long the founding, and each step of the healing, may take beside what the timers say.
    slack: Duration,
    is_working: bool,
    counts: Counts,
    /// The latest beginnings of a write and a read that were answered.
    write_began: Instant,
    read_began: Instant,
}

impl<W: Workload + 'static> Runner<W> {
    fn new(config: Config, make: impl FnOnce(&mut Rng) -> W) -> Self {
        let mut rng = Rng::from_seed(config.seed ^ 0x5151_5151_5151_5151);
        let mut settings = Settings::new(config.seed, config.nodes);
        settings.language = W::LANGUAGE;
        settings.seal = config.seal;
        // Short phases change often; but no more than two of them can be under way at once, and with a window of a few
        // datagrams nobody is live. Who draws here does not shift what a plain run draws.
        let phases = [64, 500, 5_000, PACKETS_PER_PHASE_MAX];
        let packets = phases[Rng::from_seed(config.seed ^ 0x9a5e).below(4) as usize];
        settings.rpc.seal.packets_per_phase_max = packets;
        settings.client.rpc.seal.packets_per_phase_max = packets;
        let plan = Plan::draw(config.faults, &mut settings, rng.fork());
        let workload = make(&mut rng.fork());
        let patience = Duration::from_millis([400, 2_000, 10_000][rng.below(3) as usize]);
        // A write waits for a handful of syncs, an election and what follows it for a few dozen.
        let sync = settings.disk.latency_max;
        let (patience, slack) = (patience.max(sync * 20), PATIENCE + sync * 40);
        Self {
            config,
            sim: Simulation::new(settings, || W::machine()),
            plan,
            workload,
            rng,
            processes: Processes::default(),
            open: BTreeMap::new(),
            patience,
            slack,
            is_working: true,
            counts: Counts::default(),
            write_began: Instant::ZERO,
            read_began: Instant::ZERO,
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        for node in 1..=self.config.nodes {
            if let Err(error) = self.sim.start(node) {
                return Err(
                    self.violation(Invariant::Durability, format!("node {node} did not start: {error}"))
                );
            }
        }
        for _ in 0..self.config.clients {
            let client = self.sim.add_client();
            self.think(client);
        }
        // Now and then the founding has to stand it, too.
        if !self.rng.chance(0.2) {
            self.until(self.slack * 2, "founded, and a leader serves", |runner| {
                runner.sim.leader().is_some()
            })?;
        }
        // What stands still for ever is mostly set going again by the next fault, so that a run which demands life at
        // its end only sees what its very last faults did.
        let spells = 1 + self.rng.below(SPELLS_MAX) as u32;
        for spell in 0..spells {
            if spell > 0 {
                self.is_working = true;
                (0..self.sim.clients()).for_each(|client| self.think(client));
            }
            self.trouble(self.config.time / spells)?;
            self.plan.heal(&mut self.sim);
            self.live()?;
        }
        self.workload.judge().map_err(|text| self.violation(Invariant::Linearizability, text))
    }

    /// Faults for this long.
    fn trouble(&mut self, span: Duration) -> Result<(), Violation> {
        let end = self.sim.now() + span;
        self.plan.begin(&mut self.sim);
        while self.sim.now() < end {
            self.step()?;
        }
        if self.plan.wants_partial_graph() {
            self.live_in_part()?;
        }
        Ok(())
    }

    /// Healed, the cluster serves within ten election timeouts, and all its members become equal.
    fn live(&mut self) -> Result<(), Violation> {
        let since = self.sim.now();
        let timeouts = self.sim.settings().timing.election_timeout_max * 10;
        // It leads when the first entry of its term is committed, behind all that others left in its log.
        let queue = self.time_of_queue();
        self.until(timeouts + self.slack + queue, "a leader", |runner| runner.sim.leader().is_some())?;
        let is_served = |runner: &Self| runner.is_served(since, runner.read_began);
        let queue = queue.max(self.time_of_queue());
        self.until(timeouts + self.slack + self.patience + queue, "a write and a read", is_served)?;
        self.is_working = false;
        let patience = self.slack * 4 + self.patience + timeouts + queue;
        let is_idle = |runner: &Self| runner.open.is_empty() && runner.plan.is_idle();
        self.until(patience, "all operations end", is_idle)?;
        // One whose damage was found out on no file that mattered takes part, and may lead.
        let lost = self.lost();
        let is_quiet = |runner: &Self| {
            // Where nodes come and go, the last change may end only now.
            let lost = if runner.plan.changes_members() { &runner.lost() } else { &lost };
            let is_whole = |node: u16| !lost.contains(&node);
            let is_up = |node| runner.sim.node(node).is_some();
            (1..=runner.sim.nodes()).filter(|node| is_whole(*node)).all(is_up)
                && runner.sim.are_at_rest(is_whole).is_ok()
        };
        let rested = self.until(patience, "all members are equal", is_quiet);
        let lost = if self.plan.changes_members() { self.lost() } else { lost };
        let is_whole = |node: u16| !lost.contains(&node);
        if rested.as_ref().is_err_and(|it| it.invariant == Invariant::LivenessAfterHeal) {
            // What they lack is better said by whom it was found out.
            let at_rest = self.sim.are_at_rest(is_whole);
            at_rest
                .map_err(|it| Violation { text: format!("{}\n{}", it.text, self.sim.describe()), ..it })?;
        }
        rested?;
        self.sim.check_all(is_whole)
    }

    /// The nodes that need not take part any more.
    fn lost(&self) -> Vec<u16> {
        (1..=self.sim.nodes()).filter(|node| self.plan.has_lost(&self.sim, *node)).collect()
    }

    /// While only a majority is mutually connected, it makes progress.
    fn live_in_part(&mut self) -> Result<(), Violation> {
        self.plan.heal_to_partial_graph(&mut self.sim);
        let since = self.sim.now();
        let timeouts = self.sim.settings().timing.election_timeout_max * 20;
        let is_served = |runner: &Self| runner.is_served(since, since);
        self.until(
            timeouts + self.slack + self.patience + self.time_of_queue(),
            "a write in a mutually connected majority",
            is_served,
        )
        .map_err(|violation| match violation.invariant {
            Invariant::LivenessAfterHeal => Violation { invariant: Invariant::LivenessOfCore, ..violation },
            _ => violation,
        })
    }

    /// How long what waits in a log may hold up what comes after it: where a window of one append meets a slow link,
    /// a flood of clients is worked off at an entry a round trip.
    fn time_of_queue(&self) -> Duration {
        let rafts = (1..=self.sim.nodes()).filter_map(|node| Some(self.sim.node(node)?.raft()));
        let waiting = rafts.map(|raft| raft.last_index().0 - raft.commit().0).max().unwrap_or(0);
        ENTRY_PATIENCE * u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    /// True when a write and a read that began since then were answered, or no write can be, because nothing makes
    /// room in a full log: clients that wait for that hardly ever read.
    fn is_served(&self, since: Instant, read_began: Instant) -> bool {
        let leader = self.sim.leader().and_then(|leader| self.sim.node(leader));
        let is_full = leader.is_some_and(|leader| leader.raft().is_log_full());
        is_full || (self.write_began >= since && read_began >= since)
    }

    /// Goes on until this holds; that it does not in time is a violation.
    fn until(
        &mut self,
        patience: Duration,
        what: &str,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), Violation> {
        let deadline = self.sim.now() + patience;
        while !holds(self) {
            if self.sim.now() >= deadline {
                let text = format!("not within {patience:?}: {what}\n{}", self.sim.describe());
                return Err(self.violation(Invariant::LivenessAfterHeal, text));
            }
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.sim.step();
        self.plan.look(&mut self.sim);
        while let Some(node) = self.sim.poll_fallen() {
            self.plan.ended(&mut self.sim, node);
        }
        while let Some(ended) = self.sim.poll_ended() {
            if !self.plan.operation_ended(ended.client, ended.id) {
                self.on_ended(ended)?;
            }
        }
        while let Some(token) = self.sim.poll_timer() {
            if Plan::owns(token) {
                self.plan.timer(&mut self.sim, token);
            } else {
                self.begin(token as usize);
            }
        }
        self.trouble_clients()?;
        if let Some((node, error)) = self.plan.take_refusal() {
            let text = format!("node {node} refuses its folder, to which nothing was done: {error}");
            return Err(self.violation(Invariant::Durability, text));
        }
        self.sim.violation().cloned().map_or(Ok(()), Err)
    }

    fn think(&mut self, client: usize) {
        if self.plan.has_client(client) {
            return;
        }
        let mean =
            Duration::from_secs(1) * u32::from(self.config.clients) / self.config.operations_per_s.max(1);
        let pause = self.rng.duration_between(Duration::ZERO, mean * 2);
        self.sim.set_timer(pause, client as u64);
    }

    fn begin(&mut self, client: usize) {
        let process = self.processes.of(client);
        // A flood or a crash may have left it with two timers.
        if self.is_working && self.open.values().all(|open| open.process != process) {
            self.ask(client, process);
        }
    }

    fn ask(&mut self, client: usize, process: Process) {
        let began = self.sim.now();
        let request = self.workload.begin(began, process, &mut self.rng);
        let is_write = matches!(request, Request::Write(_));
        let id = match request {
            Request::Write(command) => self.sim.propose(client, command, self.patience),
            Request::Read(query) => {
                let level = self.plan.read_level();
                self.sim.read(client, query, level, self.patience)
            }
        };
        self.open.insert((client, id), Open { process, is_write, began });
    }

    fn on_ended(&mut self, ended: Ended) -> Result<(), Violation> {
        let Some(open) = self.open.remove(&(ended.client, ended.id)) else { return Ok(()) };
        let outcome = match &ended.result {
            Ok(Answer::Applied { result, .. }) if open.is_write => Outcome::Ok(&result[..]),
            Ok(Answer::Read { result, .. }) if !open.is_write => Outcome::Ok(&result[..]),
            Ok(other) => {
                let text = format!("{:?} was answered with {other:?}", open.process);
                return Err(self.violation(Invariant::AtMostOnce, text));
            }
            Err(
                ClientError::TimedOut { outcome: Known::NotSent, .. }
                | ClientError::SessionExpired { outcome: Known::NotSent }
                | ClientError::Busy
                | ClientError::TooLarge { .. },
            ) => Outcome::Failed,
            Err(_) => Outcome::Unknown,
        };
        match &outcome {
            Outcome::Ok(_) if open.is_write => self.write_began = self.write_began.max(open.began),
            Outcome::Ok(_) => self.read_began = self.read_began.max(open.began),
            Outcome::Failed | Outcome::Unknown => {}
        }
        self.close(open, outcome)?;
        if !self.open.keys().any(|(client, _)| *client == ended.client) {
            self.think(ended.client);
        }
        Ok(())
    }

    fn close(&mut self, open: Open, outcome: Outcome<&[u8]>) -> Result<(), Violation> {
        self.counts.count(&outcome);
        if matches!(outcome, Outcome::Unknown) {
            self.processes.retire(open.process);
        }
        let judged = self.workload.end(self.sim.now(), open.process, outcome);
        judged.map_err(|text| self.violation(Invariant::Linearizability, text))
    }

    /// What the plan wants done to clients.
    fn trouble_clients(&mut self) -> Result<(), Violation> {
        while let Some(client) = self.plan.poll_client_crash() {
            if self.plan.has_client(client) {
                continue;
            }
            let lost: Vec<_> = self.open.keys().filter(|(whose, _)| *whose == client).copied().collect();
            for key in lost {
                if let Some(open) = self.open.remove(&key) {
                    self.close(open, Outcome::Unknown)?;
                }
            }
            self.sim.restart_client(client);
            self.think(client);
        }
        while let Some((client, count)) = self.plan.poll_flood() {
            if self.plan.has_client(client) {
                continue;
            }
            for _ in 0..count {
                let process = self.processes.fresh();
                self.ask(client, process);
            }
        }
        Ok(())
    }

    fn violation(&self, invariant: Invariant, text: String) -> Violation {
        Violation { invariant, node: None, at: self.sim.now(), text }
    }

    fn report(&self, violation: Option<Violation>) -> Report {
        Report {
            config: self.config,
            violation,
            chosen: self.plan.chosen(),
            struck: self.plan.counts().clone(),
            events: self.sim.events(),
            time: self.sim.now().saturating_since(super::simulation::BEGIN),
            trace_hash: self.sim.trace_hash(),
            operations: self.counts,
            lost_nodes: (1..=self.config.nodes).filter(|node| self.plan.has_lost(&self.sim, *node)).count(),
        }
    }
}
