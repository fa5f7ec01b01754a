//! Whole nodes and clients on one virtual clock: real wire bytes, real log format, seeded links and disks.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use raftgram::client::{Answer, Client, ClientConfig, ClientError, OperationId, Output as ClientOutput};
use raftgram::fault::{Link, LinkConfig};
use raftgram::kv::Kv;
use raftgram::node::founding::{Blank, Founding, Output as FoundingOutput, Plan};
use raftgram::node::{Node, NodeConfig, NodeStart, Output, PeerRecord, SnapshotJob, snapshot};
use raftgram::raft::{RoleKind, Ticket};
use raftgram::rng::Rng;
use raftgram::rpc::RpcConfig;
use raftgram::snapshot::SnapshotMeta;
use raftgram::store::{Batch, FormatOptions, LogAfter, MemoryDisk, OpenOptions, PeerSeen, Recovered, Store};
use raftgram::time::{Instant, earliest};
use raftgram::types::{BootNonce, Identity, Incarnation, NodeId, StoreId};
use slog::{Discard, Logger, o};

const SEGMENT_BYTES: u64 = 256 * 1024;

fn node_id(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

fn node_address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7100 + number))
}

fn client_address(number: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 20_000 + u16::try_from(number).unwrap()))
}

/// A disk write that has been asked for.
enum Job {
    Persist(Ticket, Batch),
    RecordPeer(StoreId, Incarnation, BootNonce),
    Snapshot(SnapshotJob<Kv>),
    Adopt(SnapshotMeta, LogAfter),
}

enum Life {
    Blank(Box<Founding>),
    Member(Box<Node<Kv>>),
}

/// A running node.
struct Running {
    life: Life,
    store: Store<MemoryDisk>,
    recovered: Recovered,
    jobs: VecDeque<(Instant, Job)>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    links_config: LinkConfig,
    disk_latency: Duration,
    nodes: BTreeMap<u16, Option<Running>>,
    disks: BTreeMap<u16, MemoryDisk>,
    /// Why a node gave up by itself.
    pub(crate) ended: BTreeMap<u16, String>,
    pub(crate) clients: Vec<Client>,
    pub(crate) answers: BTreeMap<(usize, OperationId), Result<Answer, ClientError>>,
    links: BTreeMap<(SocketAddr, SocketAddr), Link>,
    blocked: Vec<(u16, u16)>,
    /// Changes the settings of every node.
    pub(crate) tune: fn(&mut NodeConfig),
}

impl World {
    pub(crate) fn new(seed: u64, links_config: LinkConfig) -> Self {
        Self {
            now: Instant::from_nanos(1_000_000),
            rng: Rng::from_seed(seed),
            links_config,
            disk_latency: Duration::from_micros(200),
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            ended: BTreeMap::new(),
            clients: Vec::new(),
            answers: BTreeMap::new(),
            links: BTreeMap::new(),
            blocked: Vec::new(),
            tune: |_| {},
        }
    }

    /// Three founders and one client.
    pub(crate) fn founded(seed: u64, links_config: LinkConfig) -> Self {
        let mut world = Self::new(seed, links_config);
        for number in 1..=3 {
            world.start(number);
        }
        world.add_client();
        world.run_until("a leader serves", |world| world.leader().is_some());
        world
    }

    fn voters() -> BTreeMap<NodeId, String> {
        (1..=3).map(|number| (node_id(number), node_address(number).to_string())).collect()
    }

    /// Starts a node on its disk, or on an empty one, which it takes as a founder does.
    pub(crate) fn start(&mut self, number: u16) {
        let mut disk = self.disks.remove(&number).unwrap_or_default();
        if disk.file_names().next().is_none() {
            let options = FormatOptions {
                store: StoreId(self.rng.bytes16()),
                first_incarnation: Incarnation(self.rng.below(1 << 20) as u32 + 1),
                segment_bytes: SEGMENT_BYTES,
            };
            Store::format(&mut disk, options).unwrap();
        }
        let running = self.boot(number, disk);
        self.nodes.insert(number, Some(running));
    }

    fn boot(&mut self, number: u16, disk: MemoryDisk) -> Running {
        let options = OpenOptions { segment_bytes: SEGMENT_BYTES, ..OpenOptions::default() };
        let (mut store, recovered) = Store::open(disk, options).expect("the folder opens");
        let boot_nonce = BootNonce(self.rng.bytes16());
        let life = if recovered.cluster.is_zero() {
            let identity = Identity { node: node_id(number), store: recovered.store };
            let blank = Blank { identity, incarnation: recovered.incarnation, boot_nonce };
            let contacts: Vec<_> = (1..=3)
                .filter(|other| *other != number)
                .map(|other| (Some(node_id(other)), node_address(other)))
                .collect();
            let plan = Plan::Found { voters: Self::voters() };
            let config = RpcConfig::default();
            Life::Blank(Box::new(Founding::new(plan, blank, &contacts, config, self.rng.fork(), self.now)))
        } else {
            let mut machine = Kv::new();
            let snapshot = recovered.snapshot.as_ref().map(|file| {
                snapshot::load(store.disk_mut(), file, &mut machine).expect("the snapshot loads")
            });
            let start = NodeStart {
                store: recovered.store,
                incarnation: recovered.incarnation,
                boot_nonce,
                cluster: recovered.cluster,
                founding: recovered.founding.clone(),
                hard_state: recovered.hard_state,
                snapshot,
                entries: recovered.entries.clone(),
            };
            let mut config = NodeConfig::new(node_id(number), node_address(number).to_string());
            (self.tune)(&mut config);
            let logger = Logger::root(Discard, o!());
            Life::Member(Box::new(Node::new(config, start, machine, &logger, self.rng.fork(), self.now)))
        };
        Running { life, store, recovered, jobs: VecDeque::new() }
    }

    /// Ends a node's process at once; what it wrote but did not sync is lost.
    pub(crate) fn crash(&mut self, number: u16) {
        if let Some(running) = self.nodes.insert(number, None).flatten() {
            let mut disk = running.store.into_disk();
            disk.crash(&mut self.rng);
            self.disks.insert(number, disk);
        }
    }

    /// Ends a node's process at once; the machine goes on, and so does what it wrote.
    pub(crate) fn kill(&mut self, number: u16) {
        if let Some(running) = self.nodes.insert(number, None).flatten() {
            self.disks.insert(number, running.store.into_disk());
        }
    }

    /// Has a running node take a snapshot of what it has applied.
    pub(crate) fn take_snapshot(&mut self, number: u16) {
        if let Some(Some(Running { life: Life::Member(node), .. })) = self.nodes.get_mut(&number) {
            node.take_snapshot();
        }
        self.turn_node(number);
    }

    /// The disk of a running node, for damage.
    pub(crate) fn disk(&mut self, number: u16) -> &mut MemoryDisk {
        self.nodes.get_mut(&number).unwrap().as_mut().expect("it runs").store.disk_mut()
    }

    /// Ends a node and loses its disk.
    pub(crate) fn wipe(&mut self, number: u16) {
        self.nodes.insert(number, None);
        self.disks.remove(&number);
    }

    /// Drops everything from one node to another.
    pub(crate) fn block(&mut self, from: u16, to: u16) {
        self.blocked.push((from, to));
    }

    pub(crate) fn unblock_all(&mut self) {
        self.blocked.clear();
    }

    pub(crate) fn add_client(&mut self) -> usize {
        let addresses: Vec<SocketAddr> = (1..=3).map(node_address).collect();
        let client = Client::new(ClientConfig::default(), &addresses, self.rng.fork(), self.now);
        self.clients.push(client);
        self.clients.len() - 1
    }

    pub(crate) fn node(&self, number: u16) -> Option<&Node<Kv>> {
        match self.nodes.get(&number)? {
            Some(Running { life: Life::Member(node), .. }) => Some(node),
            _ => None,
        }
    }

    /// The leader of the highest term that has committed in it.
    pub(crate) fn leader(&self) -> Option<u16> {
        (1..=3)
            .filter_map(|number| Some((number, self.node(number)?.raft())))
            .filter(|(_, raft)| raft.role() == RoleKind::Leader && raft.is_settled_leader())
            .max_by_key(|(_, raft)| raft.term())
            .map(|(number, _)| number)
    }

    /// Runs until `condition` holds.
    pub(crate) fn run_until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = self.now + Duration::from_secs(120);
        while !condition(self) {
            assert!(
                self.now < deadline,
                "not within 120 virtual seconds: {what}; {:?}\n{}",
                self.ended,
                self.describe()
            );
            self.step();
        }
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.next_time().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// A line per node, for failures.
    pub(crate) fn describe(&self) -> String {
        let line = |(number, running): (&u16, &Option<Running>)| match running {
            None => format!("n{number} down"),
            Some(Running { life: Life::Blank(_), .. }) => format!("n{number} blank"),
            Some(Running { life: Life::Member(node), .. }) => {
                let raft = node.raft();
                let place =
                    format!("last={}@{} commit={}", raft.last_index(), raft.last_term(), raft.commit());
                format!("n{number} {} term={} leader={:?} {place}", raft.role(), raft.term(), raft.leader())
            }
        };
        self.nodes.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Waits for one operation's end.
    pub(crate) fn finish(&mut self, client: usize, id: OperationId) -> Result<Answer, ClientError> {
        self.run_until("an operation ends", |world| world.answers.contains_key(&(client, id)));
        self.answers.remove(&(client, id)).unwrap()
    }

    fn next_time(&self) -> Option<Instant> {
        let mut next = None;
        for running in self.nodes.values().flatten() {
            let timeout = match &running.life {
                Life::Blank(founding) => founding.poll_timeout(),
                Life::Member(node) => node.poll_timeout(),
            };
            next = earliest(next, earliest(timeout, running.jobs.front().map(|(due, _)| *due)));
        }
        for client in &self.clients {
            next = earliest(next, client.poll_timeout());
        }
        self.links.values().fold(next, |next, link| earliest(next, link.poll_timeout()))
    }

    /// Goes to the next instant at which anything happens, and does all that happens then.
    pub(crate) fn step(&mut self) {
        let next = self.next_time().expect("something is always due");
        self.now = self.now.max(next) + Duration::from_nanos(1);
        self.deliver();
        self.write();
        let numbers: Vec<u16> = self.nodes.keys().copied().collect();
        for number in numbers {
            self.turn_node(number);
        }
        for number in 0..self.clients.len() {
            self.turn_client(number);
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let mut arrived = Vec::new();
        for (&(from, to), link) in &mut self.links {
            while let Some(bytes) = link.poll_output(now) {
                arrived.push((from, to, bytes));
            }
        }
        for (from, to, bytes) in arrived {
            if to.port() >= 20_000 {
                let client = &mut self.clients[usize::from(to.port()) - 20_000];
                client.handle_datagram(now, from, &bytes);
            } else if let Some(Some(running)) = self.nodes.get_mut(&(to.port() - 7100)) {
                match &mut running.life {
                    Life::Blank(founding) => founding.handle_datagram(now, from, &bytes),
                    Life::Member(node) => node.handle_datagram(now, from, &bytes),
                }
            }
        }
    }

    fn write(&mut self) {
        for running in self.nodes.values_mut().flatten() {
            while running.jobs.front().is_some_and(|(due, _)| *due <= self.now) {
                let (_, job) = running.jobs.pop_front().unwrap();
                let Life::Member(node) = &mut running.life else {
                    unreachable!("blank nodes write at the end")
                };
                match job {
                    Job::Persist(ticket, batch) => {
                        running.store.persist(&batch).expect("the disk works");
                        node.handle_persisted(self.now, ticket);
                    }
                    Job::Snapshot(job) => {
                        let done = job.carry_out(running.store.disk_mut()).expect("the disk works");
                        node.handle_snapshot_done(self.now, done);
                    }
                    Job::Adopt(meta, log) => {
                        let adopted = running.store.adopt_snapshot(meta, log).unwrap();
                        node.handle_snapshot_adopted(self.now, meta, adopted);
                    }
                    Job::RecordPeer(store, incarnation, nonce) => {
                        let seen = match running.store.record_peer(store, incarnation, nonce).unwrap() {
                            PeerSeen::Adopted => PeerRecord::Adopted,
                            PeerSeen::Copy { .. } => PeerRecord::Copy,
                        };
                        node.handle_peer_recorded(self.now, store, incarnation, nonce, seen);
                    }
                }
            }
        }
    }

    fn turn_node(&mut self, number: u16) {
        let now = self.now;
        let Some(Some(mut running)) = self.nodes.insert(number, None) else { return };
        let from = node_address(number);
        match &mut running.life {
            Life::Member(node) => {
                if node.poll_timeout().is_some_and(|at| at <= now) {
                    node.handle_timeout(now);
                }
                node.turn(now);
                while let Some(output) = node.poll_output() {
                    let due = now + self.disk_latency;
                    match output {
                        Output::Transmit { to, bytes } => self.transmit(from, to, bytes),
                        Output::Persist { ticket, hard_state, truncate_from, entries } => {
                            let batch = Batch { hard_state, truncate_from, entries };
                            running.jobs.push_back((due, Job::Persist(ticket, batch)));
                        }
                        Output::RecordPeer { store, incarnation, nonce } => {
                            running.jobs.push_back((due, Job::RecordPeer(store, incarnation, nonce)));
                        }
                        Output::Snapshot(job) => running.jobs.push_back((due, Job::Snapshot(job))),
                        Output::AdoptSnapshot { meta, log } => {
                            running.jobs.push_back((due, Job::Adopt(meta, log)));
                        }
                        _ => {}
                    }
                }
            }
            Life::Blank(founding) => {
                founding.handle_timeout(now);
                founding.turn(now);
                let mut end = None;
                while let Some(output) = founding.poll_output() {
                    match output {
                        FoundingOutput::Transmit { to, bytes } => self.transmit(from, to, bytes),
                        other => end = end.or(Some(other)),
                    }
                }
                match end {
                    Some(FoundingOutput::Founded(record)) => {
                        running.store.record_founding(&record).unwrap();
                        running = self.boot(number, running.store.into_disk());
                    }
                    Some(FoundingOutput::Notice(notice)) => {
                        self.ended.insert(number, notice.to_string());
                        self.disks.insert(number, running.store.into_disk());
                        return;
                    }
                    _ => {}
                }
            }
        }
        self.nodes.insert(number, Some(running));
    }

    fn turn_client(&mut self, number: usize) {
        let now = self.now;
        let client = &mut self.clients[number];
        if client.poll_timeout().is_some_and(|at| at <= now) {
            client.handle_timeout(now);
        }
        client.turn(now);
        while let Some(output) = self.clients[number].poll_output() {
            match output {
                ClientOutput::Transmit { to, bytes } => self.transmit(client_address(number), to, bytes),
                ClientOutput::Done { id, result } => {
                    let before = self.answers.insert((number, id), result);
                    assert!(before.is_none(), "{id} of client {number} ended twice");
                }
            }
        }
    }

    fn transmit(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        assert!(bytes.len() <= 1200, "a datagram of {} bytes", bytes.len());
        let pair = (from.port().wrapping_sub(7100), to.port().wrapping_sub(7100));
        if self.blocked.contains(&pair) {
            return;
        }
        let (config, rng) = (&self.links_config, &mut self.rng);
        let link = self.links.entry((from, to)).or_insert_with(|| Link::new(config.clone(), rng.fork()));
        link.send(self.now, bytes);
    }

    /// The boot identity that a node shows, for tests of restarts.
    pub(crate) fn incarnation(&self, number: u16) -> Option<Incarnation> {
        self.nodes.get(&number)?.as_ref().map(|running| running.recovered.incarnation)
    }
}
