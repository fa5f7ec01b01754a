//! One repeat of one point on real node processes, over loopback or in a network of namespaces, in real time. Nothing
//! of it is deterministic.
//!
//! One thread is the clients: a loop around the client's machine, so that a latency is measured where it ends. Another
//! one, the `overseer`, keeps the processes, does to them what the plan says, and asks them how they are. The faults of
//! links are those of `raftgram fault`: inside the nodes, without root, and ending by themselves should this program
//! die. The processes end with this one, however it ends: they hang on a pipe of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use raftgram::client::{Client, ClientConfig, OperationId, Outcome, Output};
use raftgram::kv::{Command, Query};
use raftgram::rng::Rng;
use raftgram::run::client::{hear, open};
use raftgram::run::net::Net;
use raftgram::wire::client::ReadLevel;

use super::meter::{Ended, Measured, Meter};
use super::namespaces::Network;
use super::overseer::{Note, Overseer};
use super::plan::Task;
use super::scenario::{Deed, Scenario, SweepKey};
use crate::bench::load::{outcome, value};
use crate::error::{CliError, Code};
use crate::interrupt::Interrupt;

/// How often the loop of the clients looks up.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// How long operations under way at the end are waited for.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// What only the simulator can do.
pub(crate) fn check(scenario: &Scenario) -> Result<(), CliError> {
    let refuse = |what: &str| {
        Err(CliError::usage(format!(
            "{what} is for the simulator: no disk of a real machine is slow on demand"
        ))
        .hint("leave out --on processes"))
    };
    if scenario.faults.iter().any(|fault| matches!(fault.deed, Deed::SlowDisk(_))) {
        return refuse("`slow-disk`");
    }
    if scenario.sweep.as_ref().is_some_and(|sweep| sweep.key == SweepKey::Disk) {
        return refuse("varying `disk`");
    }
    Ok(())
}

/// Runs a task. Its nodes keep their data below `dir`, for as long as it runs.
pub(crate) fn measure(
    task: &Task,
    dir: &Path,
    network: Option<&Arc<Network>>,
    interrupt: &Interrupt,
) -> Result<Measured, CliError> {
    let data = tempfile::Builder::new().prefix("data-").tempdir_in(dir);
    let data = data.map_err(|error| CliError::io("making a folder for the nodes' data", &error))?;
    let addresses = match network {
        Some(network) => network.addresses(),
        None => free_addresses(task.scenario.nodes)?,
    };
    let mut overseer = Overseer::start(task, data.path(), addresses.clone(), network.cloned())?;
    overseer.wait_until_served(interrupt)?;
    overseer.set_standing_faults()?;
    // Between namespaces systems are compared, and only one of them could record.
    if network.is_none() {
        overseer.record(dir);
    }
    let from = Instant::now() + task.scenario.warm_up.0;
    let is_over = AtomicBool::new(false);
    let (notes, noted) = channel();
    thread::scope(|scope| {
        let overseen = scope.spawn(|| overseer.oversee(from, &notes, &is_over));
        let load = Load::new(task, from);
        let meter = load.and_then(|load| load.run(&addresses, &noted, interrupt));
        is_over.store(true, Ordering::Relaxed);
        // The overseer breaks only on a broken invariant of our own.
        let grounds = overseen.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let mut meter = meter?;
        noted.try_iter().for_each(|note| note.tell(&mut meter));
        Ok(meter.finish(task, task.system.name(), grounds))
    })
}

/// Ports of loopback that nobody uses at the moment.
fn free_addresses(count: u16) -> Result<Vec<SocketAddr>, CliError> {
    let bind = |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let sockets: Result<Vec<UdpSocket>, _> = (0..count).map(bind).collect();
    let addresses = sockets.and_then(|sockets| sockets.iter().map(UdpSocket::local_addr).collect());
    addresses.map_err(|error| CliError::io("looking for free ports", &error))
}

/// An operation under way.
struct Open {
    /// When it was due.
    began: Instant,
}

/// All clients of a run.
struct Load<'a> {
    task: &'a Task,
    scenario: &'a Scenario,
    rng: Rng,
    meter: Meter,
    began: Instant,
    from: Instant,
    until: Instant,
    free: usize,
    due: VecDeque<Instant>,
    /// When the next operation of an open loop is due.
    next_due: Instant,
    begun: u64,
    open: BTreeMap<OperationId, Open>,
}

impl<'a> Load<'a> {
    fn new(task: &'a Task, from: Instant) -> Result<Self, CliError> {
        let scenario = &task.scenario;
        let began = Instant::now();
        let clients = usize::from(scenario.load.clients);
        let due = if scenario.load.rate.is_none() { vec![began; clients] } else { Vec::new() };
        Ok(Self {
            task,
            scenario,
            rng: Rng::from_seed(task.seed ^ 0x1ab_1ab),
            meter: Meter::new(task),
            began,
            from,
            until: from + scenario.duration.0,
            free: clients,
            due: due.into(),
            next_due: began,
            begun: 0,
            open: BTreeMap::new(),
        })
    }

    fn run(
        mut self,
        addresses: &[SocketAddr],
        noted: &Receiver<Note>,
        interrupt: &Interrupt,
    ) -> Result<Meter, CliError> {
        let (mut client, mut net) = open(addresses, ClientConfig::default())
            .map_err(|error| CliError::io("opening the clients' socket", &error))?;
        loop {
            let now = Instant::now();
            if interrupt.is_raised() {
                return Err(
                    CliError::new(Code::Interrupted, "stopped before the end").after(self.began.elapsed())
                );
            }
            if now >= self.until && (self.open.is_empty() || now >= self.until + GRACE) {
                return Ok(self.meter);
            }
            noted.try_iter().for_each(|note| note.tell(&mut self.meter));
            let soon = self.next_wake(now);
            let wake = net.now() + soon.saturating_duration_since(now);
            net.wait(raftgram::time::earliest(client.poll_timeout(), Some(wake)))
                .map_err(|error| CliError::io("waiting for datagrams", &error))?;
            let now = hear(&mut client, &mut net);
            self.turn(&mut client, &mut net);
            net.send(|to, error| client.handle_send_error(now, to, error));
        }
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let look = now + LOOK;
        match self.scenario.load.rate {
            Some(_) if now < self.until => self.next_due.min(look),
            _ => look,
        }
    }

    /// Begins what is due, and again where that ended at once.
    fn turn(&mut self, client: &mut Client, net: &mut Net) {
        loop {
            self.begin_due(client, net);
            client.turn(net.now());
            let mut has_ended = false;
            while let Some(output) = client.poll_output() {
                match output {
                    Output::Transmit { to, bytes } => net.queue(to, bytes),
                    Output::Done { id, result } => {
                        has_ended = true;
                        let how = match &result {
                            Ok(_) => Ended::Ok,
                            Err(error) => match outcome(error) {
                                Outcome::Unknown => Ended::Unknown,
                                Outcome::NotSent => Ended::Failed,
                            },
                        };
                        self.end(id, how);
                    }
                }
            }
            if !has_ended {
                return;
            }
        }
    }

    fn end(&mut self, id: OperationId, how: Ended) {
        let Some(open) = self.open.remove(&id) else { return };
        let now = Instant::now();
        self.meter.ended(since_us(self.from, now), now.saturating_duration_since(open.began), how);
        self.free += 1;
        if self.scenario.load.rate.is_none() && now < self.until {
            self.due.push_back(now);
        }
    }

    fn begin_due(&mut self, client: &mut Client, net: &Net) {
        let now = Instant::now();
        if let Some(rate) = self.scenario.load.rate {
            while self.next_due <= now && self.next_due < self.until {
                self.due.push_back(self.next_due);
                self.next_due += Duration::from_secs(1) / rate.max(1);
            }
        }
        while self.free > 0
            && let Some(began) = self.due.pop_front()
        {
            self.free -= 1;
            let load = &self.scenario.load;
            let key = format!("lab/{}", self.rng.below(load.keys));
            let deadline = net.now() + self.scenario.timeout.0;
            let id = if self.rng.chance(load.reads.fraction()) {
                client.read(Query::Get { key: key.as_bytes() }.to_bytes(), ReadLevel::Linearizable, deadline)
            } else {
                let value = value(self.begun, self.task.seed, load.value.0);
                let command = Command::Put { key: key.as_bytes(), value: value.as_bytes() };
                client.propose(command.to_bytes(), deadline)
            };
            self.begun += 1;
            self.open.insert(id, Open { began });
        }
    }
}

/// Microseconds from one instant to another, which may be before it.
pub(crate) fn since_us(from: Instant, at: Instant) -> i64 {
    let us = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    match at.checked_duration_since(from) {
        Some(span) => us(span),
        None => -us(from.saturating_duration_since(at)),
    }
}
