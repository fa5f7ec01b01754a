//! Keeps the node processes of an experiment: starts them, does to them what the plan says, and asks how they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use raftgram::client::{Answer, ClientConfig};
use raftgram::handle::{Client, OperationResult, Pending};
use raftgram::kv::Query;
use raftgram::rng::Rng;
use raftgram::types::{Index, NodeId};
use raftgram::wire::client::ReadLevel;
use raftgram::wire::fault::{FaultLinks, FaultRequest, LinkFaults};
use raftgram::wire::status::{NodeRole, NodeStatus};

use super::meter::{Grounds, Meter};
use super::namespaces::Network;
use super::plan::{Occurrence, Task, occurrences};
use super::processes::since_us;
use super::recording::Recording;
use super::run_folder::{EventKind, NodeCounts};
use super::scenario::{Between, Deed, Links, System};
use super::simulator::blocked;
use crate::cluster::processes::Process;
use crate::error::{CliError, Code};
use crate::fault::wire_faults;
use crate::interrupt::Interrupt;
use crate::log::LogFormat;
use crate::node::Transport;
use crate::reach::meaning;

/// How long nodes may take until a leader serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a node may take to answer a question; one that is down does not.
const ANSWER: Duration = Duration::from_millis(500);

/// Between two looks at the nodes.
const LOOK: Duration = Duration::from_millis(25);

/// How long faults last beyond the run, should this program die.
const BEYOND: Duration = Duration::from_secs(10);

/// Something that the overseer saw or did.
#[derive(Debug)]
pub(crate) enum Note {
    Leads { at_us: i64, node: u16, term: u64 },
    Term { at_us: i64, node: u16, term: u64 },
    Event { at_us: i64, kind: EventKind, node: Option<u16>, text: String },
}

impl Note {
    pub(crate) fn tell(self, meter: &mut Meter) {
        match self {
            Self::Leads { at_us, node, term } => meter.leads(at_us, node, term),
            Self::Term { at_us, node, term } => meter.sees_term(at_us, node, term),
            Self::Event { at_us, kind, node, text } => meter.event(at_us, kind, node, None, text),
        }
    }
}

/// A node, while its process runs and while it does not.
#[derive(Debug)]
struct Keeper {
    process: Option<Process>,
    client: Client,
    /// The question that is under way.
    asked: Option<Pending<OperationResult>>,
    told: Option<NodeStatus>,
    counts: Sum,
    /// Of boots that have ended, and of the warm-up.
    past: Sum,
    left_out: Sum,
    commit_from: u64,
}

/// What a node counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    received: u64,
    accepted: u64,
    sent: u64,
    sent_bytes: u64,
    retransmits: u64,
    duplicates: u64,
    drops: BTreeMap<String, u64>,
}

impl Sum {
    fn of(status: &NodeStatus) -> Self {
        Self {
            received: status.received,
            accepted: status.accepted,
            sent: status.sent,
            sent_bytes: status.sent_bytes,
            retransmits: status.retransmits,
            duplicates: status.duplicates,
            drops: status.drops.iter().map(|drop| (drop.reason.clone(), drop.count)).collect(),
        }
    }

    fn combine(&self, other: &Self, how: fn(u64, u64) -> u64) -> Self {
        let reasons = self.drops.keys().chain(other.drops.keys());
        let count = |sum: &Self, reason: &String| sum.drops.get(reason).copied().unwrap_or(0);
        Self {
            received: how(self.received, other.received),
            accepted: how(self.accepted, other.accepted),
            sent: how(self.sent, other.sent),
            sent_bytes: how(self.sent_bytes, other.sent_bytes),
            retransmits: how(self.retransmits, other.retransmits),
            duplicates: how(self.duplicates, other.duplicates),
            drops: reasons.map(|it| (it.clone(), how(count(self, it), count(other, it)))).collect(),
        }
    }
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Overseer {
    task: Task,
    addresses: Vec<SocketAddr>,
    /// Where nodes run, if not on loopback.
    network: Option<Arc<Network>>,
    data: PathBuf,
    keepers: Vec<Keeper>,
    /// A client of all nodes.
    client: Client,
    rng: Rng,
    plan: Vec<Occurrence>,
    struck: BTreeMap<usize, Option<u16>>,
    /// The window that nodes record, if they do.
    recording: Option<Recording>,
    /// When all of it is over.
    ends: Instant,
}

impl Overseer {
    /// Starts all nodes.
    pub(crate) fn start(
        task: &Task,
        data: &Path,
        addresses: Vec<SocketAddr>,
        network: Option<Arc<Network>>,
    ) -> Result<Self, CliError> {
        let connect = |addresses: &[SocketAddr]| {
            Client::connect(addresses, ClientConfig::default())
                .map_err(|error| CliError::io("opening a client's socket", &error))
        };
        let mut overseer = Self {
            task: task.clone(),
            data: data.to_path_buf(),
            keepers: Vec::new(),
            client: connect(&addresses)?,
            addresses,
            network,
            rng: Rng::from_seed(task.seed ^ 0xfa17),
            plan: occurrences(&task.scenario),
            struck: BTreeMap::new(),
            recording: None,
            ends: Instant::now() + PATIENCE + task.scenario.warm_up.0 + task.scenario.duration.0,
        };
        for node in 1..=task.scenario.nodes {
            overseer.keepers.push(Keeper {
                process: Some(overseer.process(node, true)?),
                client: connect(&[overseer.address(node)])?,
                asked: None,
                told: None,
                counts: Sum::default(),
                past: Sum::default(),
                left_out: Sum::default(),
                commit_from: 0,
            });
        }
        Ok(overseer)
    }

    fn address(&self, node: u16) -> SocketAddr {
        self.addresses[usize::from(node) - 1]
    }

    fn process(&self, node: u16, is_first: bool) -> Result<Process, CliError> {
        let start = || Process::start(node, &self.arguments(node, is_first), LogFormat::Text);
        self.network.as_ref().map_or_else(start, |network| network.at_node(node, start))
    }

    fn arguments(&self, node: u16, is_first: bool) -> Vec<String> {
        let scenario = &self.task.scenario;
        let voters: Vec<String> =
            (1..).zip(&self.addresses).map(|(id, at): (u16, _)| format!("{id}={at}")).collect();
        let pairs = [
            ("--id", node.to_string()),
            ("--listen", self.address(node).to_string()),
            ("--voters", voters.join(",")),
            ("--data", self.data.join(node.to_string()).to_string_lossy().into_owned()),
            ("--log-tail", scenario.log_tail.to_string()),
            ("--log-level", "error".to_owned()),
        ];
        let pairs = pairs.into_iter().flat_map(|(flag, text)| [flag.to_owned(), text]);
        let flags = [
            (self.network.is_none(), "--allow-faults"),
            (true, "--leashed"),
            (is_first, "--bootstrap"),
            (!scenario.fsync, "--no-fsync"),
        ];
        let flags = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.to_owned());
        let transport = if self.task.system == System::RaftgramTcp { Transport::Tcp } else { Transport::Udp };
        pairs.chain(flags).chain(transport.arguments()).collect()
    }

    /// Waits for the first leader.
    pub(crate) fn wait_until_served(&mut self, interrupt: &Interrupt) -> Result<(), CliError> {
        let query = Query::Get { key: b"" }.to_bytes();
        let read = self.client.read(query, ReadLevel::Linearizable, PATIENCE);
        loop {
            match read.wait(LOOK) {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(meaning(&error)),
                Err(_) if interrupt.is_raised() => {
                    return Err(CliError::new(Code::Interrupted, "stopped before the end"));
                }
                Err(_) => {}
            }
            for (node, keeper) in (1..).zip(&mut self.keepers) {
                let node: u16 = node;
                if let Some(status) = keeper.process.as_mut().and_then(Process::ended) {
                    let text = format!(
                        "node {node} ended before the cluster served ({status}); its log above says why"
                    );
                    return Err(CliError::new(Code::Failed, text));
                }
            }
        }
    }

    /// Lets links be as the scenario says all the time.
    pub(crate) fn set_standing_faults(&mut self) -> Result<(), CliError> {
        if let Some(network) = &self.network {
            return network.lose(self.task.scenario.links.loss);
        }
        for node in 1..=self.task.scenario.nodes {
            wait(&self.set_standing_of(node))?;
        }
        Ok(())
    }

    /// The last of the requests is the one to wait for.
    fn set_standing_of(&self, node: u16) -> Pending<OperationResult> {
        let links = &self.task.scenario.links;
        let clients = links.between == Between::All;
        self.ask_for_links(node, links, clients)
    }

    fn ask_for_links(&self, node: u16, links: &Links, clients: bool) -> Pending<OperationResult> {
        let faults = wire_faults(&links.config());
        let between_nodes = self.set(node, FaultLinks::Nodes, faults);
        if clients { self.set(node, FaultLinks::Clients, faults) } else { between_nodes }
    }

    fn set(&self, node: u16, links: FaultLinks, faults: LinkFaults) -> Pending<OperationResult> {
        let lasting = self.ends.saturating_duration_since(Instant::now()) + BEYOND;
        let lasting_ms = u64::try_from(lasting.as_millis()).unwrap_or(1).max(1);
        let request = FaultRequest::Set { links, lasting_ms, faults };
        self.keepers[usize::from(node) - 1].client.set_faults(0, request, ANSWER * 4)
    }

    /// Lets nodes record a window, in files below `dir`.
    pub(crate) fn record(&mut self, dir: &Path) {
        let first = self.plan.first().map_or(Duration::ZERO, |occurrence| occurrence.at);
        self.recording = Recording::of(&self.task, dir, first);
    }

    /// Begins the recording when its time has come, and ends it.
    fn keep_recording(&mut self, now: Instant, from: Instant) {
        let Some(recording) = &mut self.recording else { return };
        if let Some(folder) = recording.turn(now, from) {
            for process in self.keepers.iter_mut().filter_map(|keeper| keeper.process.as_mut()) {
                process.record(folder);
            }
        }
    }

    /// Does what the plan says and looks at the nodes until it is over; gives what they counted.
    pub(crate) fn oversee(&mut self, from: Instant, notes: &Sender<Note>, is_over: &AtomicBool) -> Grounds {
        let mut begun = 0;
        let mut is_measured = false;
        while !is_over.load(Ordering::Relaxed) {
            let now = Instant::now();
            while self.plan.get(begun).is_some_and(|it| from + it.at <= now) {
                self.strike(begun, from, notes);
                begun += 1;
            }
            let ended: Vec<usize> = self.struck.keys().copied().collect();
            for place in ended {
                if self.plan[place].until.is_some_and(|until| from + until <= now) {
                    self.end_fault(place, from, notes);
                }
            }
            if !is_measured && now >= from {
                is_measured = true;
                self.leave_out_the_warm_up();
            }
            self.keep_recording(now, from);
            self.look(from, notes);
            std::thread::sleep(LOOK);
        }
        self.grounds()
    }

    fn strike(&mut self, place: usize, from: Instant, notes: &Sender<Note>) {
        let occurrence = self.plan[place].clone();
        let (nodes, leader) = (self.task.scenario.nodes, self.leader());
        let rng = &mut self.rng;
        let node = occurrence.node(nodes, leader, &mut |below| rng.below(below));
        let kind = match occurrence.fault.deed {
            Deed::Crash | Deed::Restart => EventKind::Crash,
            Deed::Pause => EventKind::Pause,
            Deed::Snapshot | Deed::Transfer => EventKind::Note,
            _ => EventKind::Fault,
        };
        event(notes, from, kind, node, occurrence.fault.text(node));
        self.struck.insert(place, node);
        let number = node.unwrap_or(1);
        let keeper = &mut self.keepers[usize::from(number) - 1];
        match &occurrence.fault.deed {
            Deed::Crash => keeper.process = None,
            Deed::Restart => keeper.process.iter_mut().for_each(Process::tell_to_stop),
            Deed::Pause => keeper.process.iter_mut().for_each(Process::pause),
            Deed::Partition(_) | Deed::Mute | Deed::Deaf => {
                let is_blocked = LinkFaults { is_blocked: true, ..LinkFaults::default() };
                self.set_paths(&blocked(&occurrence.fault.deed, number, nodes), is_blocked);
            }
            Deed::Links(links) => self.set_links(links, node),
            // Refused before the run.
            Deed::SlowDisk(_) => {}
            // Their ends are seen in the load, if at all.
            Deed::Snapshot => drop(keeper.client.take_snapshot(0, Index(0), ANSWER)),
            Deed::Transfer => drop(self.client.transfer_leadership(node.and_then(NodeId::new), ANSWER)),
        }
    }

    fn end_fault(&mut self, place: usize, from: Instant, notes: &Sender<Note>) {
        let fault = self.plan[place].fault.clone();
        let Some(node) = self.struck.remove(&place) else { return };
        let number = node.unwrap_or(1);
        let kind = match &fault.deed {
            Deed::Crash | Deed::Restart => {
                // One that was told to stop and takes longer than that is killed.
                self.keepers[usize::from(number) - 1].process = None;
                match self.process(number, false) {
                    Ok(mut process) => {
                        let recording = self.recording.as_ref().and_then(Recording::under_way);
                        recording.into_iter().for_each(|folder| process.record(Some(folder)));
                        self.keepers[usize::from(number) - 1].process = Some(process);
                        self.set_again(number);
                    }
                    Err(error) => event(notes, from, EventKind::Note, node, error.to_string()),
                }
                EventKind::Start
            }
            Deed::Pause => {
                self.keepers[usize::from(number) - 1].process.iter_mut().for_each(Process::resume);
                EventKind::Resume
            }
            Deed::Partition(_) | Deed::Mute | Deed::Deaf => {
                let standing = wire_faults(&self.task.scenario.links.config());
                self.set_paths(&blocked(&fault.deed, number, self.task.scenario.nodes), standing);
                EventKind::Heal
            }
            Deed::Links(_) => {
                self.set_links(&self.task.scenario.links.clone(), node);
                EventKind::Heal
            }
            Deed::SlowDisk(_) | Deed::Snapshot | Deed::Transfer => return,
        };
        event(notes, from, kind, node, fault.text(node));
    }

    /// A process that has just started knows of no faults: it is asked again until it hears.
    fn set_again(&self, node: u16) {
        drop(self.set_standing_of(node));
        for (place, whom) in &self.struck {
            let deed = &self.plan[*place].fault.deed;
            let is_blocked = LinkFaults { is_blocked: true, ..LinkFaults::default() };
            let paths = blocked(deed, whom.unwrap_or(1), self.task.scenario.nodes);
            self.set_paths(
                &paths.into_iter().filter(|(from, _)| *from == node).collect::<Vec<_>>(),
                is_blocked,
            );
        }
    }

    fn set_paths(&self, paths: &[(u16, u16)], faults: LinkFaults) {
        for (from, to) in paths {
            if let Some(to) = NodeId::new(*to) {
                drop(self.set(*from, FaultLinks::Node(to), faults));
            }
        }
    }

    fn set_links(&self, links: &Links, from: Option<u16>) {
        let clients = self.task.scenario.links.between == Between::All;
        for node in (1..=self.task.scenario.nodes).filter(|node| from.is_none_or(|from| from == *node)) {
            drop(self.ask_for_links(node, links, clients));
        }
    }

    /// Asks nodes how they are, and takes what those say that were asked before.
    fn look(&mut self, from: Instant, notes: &Sender<Note>) {
        for (node, keeper) in (1..).zip(&mut self.keepers) {
            if keeper.process.is_none() {
                keeper.asked = None;
                continue;
            }
            let answer = keeper.asked.as_ref().map(|asked| asked.wait(Duration::ZERO));
            match answer {
                Some(Ok(Ok(Answer::Status(status)))) => {
                    let at_us = since_us(from, Instant::now());
                    let (term, leads) = (status.term.0, status.role == NodeRole::Leader);
                    // The load's thread may be gone.
                    let _ = notes.send(Note::Term { at_us, node, term });
                    if leads {
                        let _ = notes.send(Note::Leads { at_us, node, term });
                    }
                    keeper.take(*status);
                    keeper.asked = None;
                }
                Some(Ok(_)) => keeper.asked = None,
                // It is still under way.
                Some(Err(_)) => continue,
                None => {}
            }
            keeper.asked = Some(keeper.client.status(0, ANSWER));
        }
    }

    fn leader(&self) -> Option<u16> {
        let told = self
            .keepers
            .iter()
            .filter(|keeper| keeper.process.is_some())
            .filter_map(|keeper| keeper.told.as_ref());
        let leaders = told.filter(|status| status.role == NodeRole::Leader);
        leaders.max_by_key(|status| status.term).map(|status| status.node.as_u16())
    }

    fn leave_out_the_warm_up(&mut self) {
        for keeper in &mut self.keepers {
            keeper.left_out = keeper.past.combine(&keeper.counts, |one, other| one + other);
            keeper.commit_from = keeper.told.as_ref().map_or(0, |status| status.commit.0);
        }
    }

    fn grounds(&self) -> Grounds {
        let commit_from = self.keepers.iter().map(|keeper| keeper.commit_from).max().unwrap_or(0);
        let told = || self.keepers.iter().filter_map(|keeper| keeper.told.as_ref());
        let commit = told().map(|status| status.commit.0).max().unwrap_or(0);
        let nodes = (1..).zip(&self.keepers).map(|(node, keeper)| keeper.row(&self.task, node));
        let nodes: Vec<NodeCounts> = nodes.collect();
        let sum = |count: fn(&NodeCounts) -> Option<u64>| nodes.iter().map(count).sum();
        Grounds {
            commits: commit.saturating_sub(commit_from),
            datagrams: sum(|node| node.datagrams_sent),
            datagram_bytes: sum(|node| node.bytes_sent),
            trace_hash: None,
            trace: self.recording.as_ref().and_then(Recording::told),
            nodes,
        }
    }
}

impl Keeper {
    fn take(&mut self, status: NodeStatus) {
        let is_new_boot = self.told.as_ref().is_some_and(|told| told.incarnation != status.incarnation);
        if is_new_boot {
            self.past = self.past.combine(&self.counts, |one, other| one + other);
        }
        self.counts = Sum::of(&status);
        self.told = Some(status);
    }

    fn row(&self, task: &Task, node: u16) -> NodeCounts {
        let all = self.past.combine(&self.counts, |one, other| one + other);
        let sum = all.combine(&self.left_out, u64::saturating_sub);
        let told = self.told.as_ref().filter(|_| self.process.is_some());
        let peers = || told.iter().flat_map(|status| &status.peers);
        NodeCounts {
            point: task.point,
            repeat: task.repeat,
            node,
            role: told.map_or("down", |status| status.role.name()).to_owned(),
            term: told.map_or(0, |status| status.term.0),
            commit: told.map_or(0, |status| status.commit.0),
            applied: told.map_or(0, |status| status.applied.0),
            datagrams_sent: Some(sum.sent),
            bytes_sent: Some(sum.sent_bytes),
            datagrams_received: sum.received,
            accepted: sum.accepted,
            retransmits: sum.retransmits,
            duplicates: sum.duplicates,
            packets_passed: None,
            drops: sum.drops.into_iter().filter(|(_, count)| *count > 0).collect(),
            rtt_us: peers().map(|peer| peer.rtt_us).max(),
            loss: peers().map(|peer| f64::from(peer.loss_ppm) / 1e6).reduce(f64::max),
        }
    }
}

fn wait(pending: &Pending<OperationResult>) -> Result<(), CliError> {
    match pending.wait(ANSWER * 10) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(meaning(&error)),
        Err(_) => Err(CliError::new(Code::Unreachable, "a node does not answer")),
    }
}

fn event(notes: &Sender<Note>, from: Instant, kind: EventKind, node: Option<u16>, text: String) {
    let at_us = since_us(from, Instant::now());
    // The load's thread may be gone.
    let _ = notes.send(Note::Event { at_us, kind, node, text });
}
