//! A cluster of node processes: started one by one, looked at through their own status, gone with the test.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raftgram::kv::{self, Query};
use raftgram::wire::status::{NodeRole, NodeStatus};
use raftgram::{Answer, Client, ClientConfig, ReadLevel};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::ports::first_free;
use crate::process::{PATIENCE, Process, eventually};
use crate::support::command;

/// Held while a cluster runs: two cores carry one of them.
static ALONE: Mutex<()> = Mutex::new(());

/// How long a node may take to tell its status before it counts as silent.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// What a node is told about a blank folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Bootstrap,
    Join,
    AsItIs,
}

/// Waits for the other clusters of this test process to be gone.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    // A test that failed has dropped its processes; the next may run.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One node, running or not.
#[derive(Debug)]
struct Node {
    data: PathBuf,
    log: PathBuf,
    /// Flags of this node alone.
    flags: Vec<String>,
    process: Option<Process>,
}

/// Nodes 1 to n. Fields are dropped in their order: the processes, then their data, then the lock.
pub(crate) struct Cluster {
    nodes: BTreeMap<u16, Node>,
    addresses: Vec<SocketAddr>,
    /// Who founds it: the first ones.
    founders: u16,
    /// Who is looked at; the others may not even run.
    members: Vec<u16>,
    /// Asks for statuses; made at the first question, since it would be heard by nodes that count what they hear.
    watcher: OnceCell<Client>,
    /// How this test's own clients speak to it.
    client: ClientConfig,
    dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    /// A cluster of three that serves.
    pub(crate) fn founded() -> Self {
        let mut cluster = Self::stopped(loopback(), 3);
        cluster.start_all(Start::Bootstrap);
        cluster.leader();
        cluster
    }

    /// Nodes that have not been started.
    pub(crate) fn stopped(host: IpAddr, count: u16) -> Self {
        let alone = alone();
        let dir = tempfile::Builder::new().prefix("raftgram-daemon-").tempdir().unwrap();
        let addresses = free_addresses(host, count);
        let node = |id: u16| {
            let place = |what: &str| dir.path().join(format!("{what}-{id}"));
            (id, Node { data: place("data"), log: place("log"), flags: Vec::new(), process: None })
        };
        Self {
            nodes: (1..=count).map(node).collect(),
            addresses,
            founders: count,
            members: (1..=count).collect(),
            watcher: OnceCell::new(),
            client: ClientConfig::default(),
            dir,
            _alone: alone,
        }
    }

    /// Nodes that have not been started, of which only the first ones found the cluster.
    pub(crate) fn with_spares(host: IpAddr, founders: u16, count: u16) -> Self {
        let mut cluster = Self::stopped(host, count);
        cluster.founders = founders;
        cluster.set_members((1..=founders).collect());
        cluster
    }

    /// From now on these are the nodes that are looked at.
    pub(crate) fn set_members(&mut self, members: Vec<u16>) {
        self.members = members;
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u16> + use<> {
        self.members.clone().into_iter()
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn address(&self, id: u16) -> SocketAddr {
        self.addresses[usize::from(id) - 1]
    }

    /// As `--cluster` takes it.
    pub(crate) fn names(&self) -> String {
        names(&self.addresses)
    }

    /// As `--voters` takes it.
    pub(crate) fn voters(&self) -> String {
        let voter = |id| format!("{id}={}", self.address(id));
        (1..=self.founders).map(voter).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data(&self, id: u16) -> &Path {
        &self.nodes[&id].data
    }

    pub(crate) fn log(&self, id: u16) -> String {
        std::fs::read_to_string(&self.nodes[&id].log).unwrap_or_default()
    }

    /// Flags that this node gets at every start from now on.
    pub(crate) fn add_flags<S: ToString>(&mut self, id: u16, flags: impl IntoIterator<Item = S>) {
        self.nodes.get_mut(&id).unwrap().flags.extend(flags.into_iter().map(|flag| flag.to_string()));
    }

    /// The same instead of those it had.
    pub(crate) fn set_flags(&mut self, id: u16, flags: Vec<String>) {
        self.nodes.get_mut(&id).unwrap().flags = flags;
    }

    /// The test's own clients speak to it so from now on.
    pub(crate) fn set_client(&mut self, config: ClientConfig) {
        self.client = config;
        self.watcher = OnceCell::new();
    }

    /// What a node tells a client without a key.
    pub(crate) fn plain_status(address: SocketAddr) -> Option<NodeStatus> {
        match connect(&[address]).status(0, STATUS_TIMEOUT).wait(STATUS_TIMEOUT * 10) {
            Ok(Ok(Answer::Status(status))) => Some(*status),
            _ => None,
        }
    }

    /// The command that runs this node.
    pub(crate) fn command(&self, id: u16, start: Start) -> Command {
        self.command_with(id, start, &self.voters())
    }

    /// The same with a list of voters of its own.
    pub(crate) fn command_with(&self, id: u16, start: Start, voters: &str) -> Command {
        let mut command = command(&["node"]);
        command.arg("--id").arg(id.to_string());
        if !self.nodes[&id].flags.iter().any(|flag| flag == "--listen") {
            command.arg("--listen").arg(self.address(id).to_string());
        }
        command.arg("--voters").arg(voters).arg("--data").arg(self.data(id));
        command.args((start == Start::Bootstrap).then_some("--bootstrap"));
        command.args((start == Start::Join).then_some("--join"));
        command.args(&self.nodes[&id].flags);
        // The pipe is its leash: it ends with this process, even if that is killed.
        command.arg("--leashed").stdin(Stdio::piped()).stdout(Stdio::null());
        command.env("NO_COLOR", "1");
        command
    }

    pub(crate) fn start(&mut self, id: u16, start: Start) {
        let mut command = self.command(id, start);
        let node = self.nodes.get_mut(&id).unwrap();
        assert!(node.process.is_none(), "node {id} was started already");
        node.process = Some(Process::start(&mut command, &node.log));
    }

    pub(crate) fn start_all(&mut self, start: Start) {
        self.ids().for_each(|id| self.start(id, start));
    }

    pub(crate) fn process(&mut self, id: u16) -> &mut Process {
        self.nodes.get_mut(&id).unwrap().process.as_mut().unwrap()
    }

    /// `kill -9`, and reaped.
    pub(crate) fn kill(&mut self, id: u16) {
        self.nodes.get_mut(&id).unwrap().process = None;
    }

    /// SIGTERM; it must end well.
    #[track_caller]
    pub(crate) fn stop(&mut self, id: u16) {
        self.process(id).signal(Signal::TERM);
        self.wait_for_good_end(id);
    }

    /// SIGTERM to all at once.
    #[track_caller]
    pub(crate) fn stop_all(&mut self) {
        self.ids().for_each(|id| self.process(id).signal(Signal::TERM));
        self.ids().for_each(|id| self.wait_for_good_end(id));
    }

    #[track_caller]
    fn wait_for_good_end(&mut self, id: u16) {
        let status = self.process(id).wait();
        assert_eq!(status.code(), Some(0), "node {id} after SIGTERM; its log:\n{}", self.log(id));
        self.kill(id);
    }

    /// What each node says of itself now; the silent ones say nothing.
    pub(crate) fn statuses(&self) -> BTreeMap<u16, NodeStatus> {
        let watcher = self.watcher.get_or_init(|| connect_as(&self.client, &self.addresses));
        let asked: Vec<_> =
            self.ids().map(|id| (id, watcher.status(usize::from(id) - 1, STATUS_TIMEOUT))).collect();
        let answers = asked.into_iter().filter_map(|(id, pending)| match pending.wait(STATUS_TIMEOUT * 10) {
            Ok(Ok(Answer::Status(status))) => Some((id, *status)),
            Ok(_) => None,
            Err(error) => panic!("asking node {id} for its status did not end by its deadline: {error}"),
        });
        answers.collect()
    }

    pub(crate) fn status(&self, id: u16) -> Option<NodeStatus> {
        self.statuses().remove(&id)
    }

    /// The node that a majority follows, and its term, once there is one.
    #[track_caller]
    pub(crate) fn leader(&self) -> (u16, u64) {
        eventually("a majority follows a leader", || {
            let statuses = self.statuses();
            let leaders = statuses.iter().filter(|(_, status)| status.role == NodeRole::Leader);
            let (&id, leader) = leaders.max_by_key(|(_, status)| status.term)?;
            let follows = |status: &&NodeStatus| {
                status.term == leader.term && status.leader.is_some_and(|leader| leader.as_u16() == id)
            };
            let followers = statuses.values().filter(follows).count();
            (followers * 2 > self.members.len()).then_some((id, leader.term.0))
        })
    }

    /// Waits until this node has applied all that any node knew to be committed when this was called. After a
    /// restart of all, that is nothing until a leader has committed.
    #[track_caller]
    pub(crate) fn wait_until_caught_up(&self, id: u16) {
        let commit = self.statuses().values().map(|status| status.commit).max().unwrap();
        eventually(&format!("node {id} catches up with entry {commit}"), || {
            self.status(id).filter(|status| status.role != NodeRole::Blank && status.applied >= commit)
        });
    }

    /// Reads all of these through a quorum, and the whole store of every replica, which must be one.
    #[track_caller]
    pub(crate) fn assert_holds(&self, expected: &BTreeMap<String, String>) {
        let client = connect_as(&self.client, &self.addresses);
        for (key, value) in expected {
            let found = read(&client, key, ReadLevel::Linearizable);
            assert_eq!(found.as_ref(), Some(value), "{key}");
        }
        self.ids().for_each(|id| self.wait_until_caught_up(id));
        let stores: Vec<_> = self
            .ids()
            .map(|id| list(&connect_as(&self.client, &[self.address(id)]), ReadLevel::Local))
            .collect();
        for (id, store) in self.ids().zip(&stores) {
            assert_eq!(store, &stores[0], "node {id} against the first");
        }
        for (key, value) in expected {
            assert_eq!(stores[0].get(key), Some(value), "{key} in the replicas");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for id in self.nodes.keys().copied() {
                let log = self.log(id);
                let lines: Vec<&str> = log.lines().collect();
                eprintln!(
                    "--- log of node {id}, its end\n{}",
                    lines[lines.len().saturating_sub(30)..].join("\n")
                );
            }
        }
    }
}

/// A client of these nodes.
pub(crate) fn connect(addresses: &[SocketAddr]) -> Client {
    connect_as(&ClientConfig::default(), addresses)
}

/// A client of these nodes, with settings of its own.
pub(crate) fn connect_as(config: &ClientConfig, addresses: &[SocketAddr]) -> Client {
    Client::connect(addresses, config.clone()).unwrap()
}

pub(crate) fn names(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What a key holds.
#[track_caller]
pub(crate) fn read(client: &Client, key: &str, level: ReadLevel) -> Option<String> {
    let pending = client.read(Query::Get { key: key.as_bytes() }.to_bytes(), level, PATIENCE);
    let Answer::Read { result, .. } = pending.wait(PATIENCE * 2).unwrap().unwrap() else { panic!("no read") };
    match kv::Answer::decode(&result).unwrap() {
        kv::Answer::Missing => None,
        kv::Answer::Found { value, .. } => Some(String::from_utf8(value.to_vec()).unwrap()),
        other => panic!("get was answered with {other:?}"),
    }
}

/// All keys and values: one page holds what these tests write.
#[track_caller]
pub(crate) fn list(client: &Client, level: ReadLevel) -> BTreeMap<String, String> {
    let query = Query::List { prefix: b"", after: None, rows_max: u64::MAX, bytes_max: u64::MAX };
    let pending = client.read(query.to_bytes(), level, PATIENCE);
    let Answer::Read { result, .. } = pending.wait(PATIENCE * 2).unwrap().unwrap() else { panic!("no read") };
    let kv::Answer::Page { rows, is_last } = kv::Answer::decode(&result).unwrap() else { panic!("no page") };
    assert!(is_last, "more keys than a page holds");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    rows.iter().map(|row| (text(row.key), text(row.value))).collect()
}

/// A loopback address of this process's own, so that nobody else's ports are in the way.
pub(crate) fn loopback() -> IpAddr {
    if cfg!(not(target_os = "linux")) {
        // Elsewhere only the first address of the network answers.
        return Ipv4Addr::LOCALHOST.into();
    }
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (high & 63), middle, low).into()
}

/// Consecutive ports that are free at this moment, below those the kernel gives to sockets that ask for none.
pub(crate) fn free_addresses(host: IpAddr, count: u16) -> Vec<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two processes on one address begin at different places.
    let begin = 12_000 + u16::try_from(std::process::id() % 12_000).unwrap();
    let first = first_free((0..1000).map(|_| begin + NEXT.fetch_add(count, Ordering::Relaxed)), count);
    (first..first + count).map(|port| SocketAddr::new(host, port)).collect()
}
