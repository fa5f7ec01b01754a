//! One repeat of one point on etcd, beside raftgram's: as many members, in the same network, under the same load.
//!
//! The members are etcd's own program with its own defaults (heartbeat 100 ms, election timeout 1 s), which always
//! syncs; only where it listens and keeps its data is said. They hang on a pipe of this program and end with it.
//! Clients are spread over a few connections to the leader ([`load`]), which is to etcd's advantage: members that
//! follow pass what they are asked on to the leader, over the links that lose. Who leads is asked of each member
//! ([`Watch`]).

mod grpc;
mod load;

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::grpc::{Connection, Field};
use super::meter::{Grounds, Measured, Meter};
use super::namespaces::Network;
use super::plan::Task;
use super::processes::since_us;
use super::run_folder::NodeCounts;
use crate::error::{CliError, Code};
use crate::interrupt::Interrupt;
use crate::output::file_error;

/// How long members may take until one leads.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a member may take to say how it is, and between two such questions.
const ANSWER: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(25);

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// A shell that ends the member when our end of its stdin closes.
const LEASH: &str = r#""$@" </dev/null & child=$!; read -r _; kill -9 $child; wait $child"#;

/// What `etcd --version` calls itself.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("etcd").arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next()?.rsplit_once(' ').map(|(_, version)| version.to_owned())
}

/// Runs a task. Members keep data and logs below `dir`.
pub(crate) fn measure(
    task: &Task,
    dir: &Path,
    network: &Network,
    interrupt: &Interrupt,
) -> Result<Measured, CliError> {
    let addresses: Vec<SocketAddr> =
        network.addresses().iter().map(|at| SocketAddr::new(at.ip(), CLIENT_PORT)).collect();
    let _members = (1..=task.scenario.nodes)
        .map(|node| network.at_node(node, || Member::start(node, &addresses, dir)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut watch = Watch::new(&addresses);
    watch.wait_for_a_leader(interrupt)?;
    network.lose(task.scenario.links.loss)?;
    let from = Instant::now() + task.scenario.warm_up.0;
    let meter = Mutex::new(Meter::new(task));
    let (is_over, leader) = (AtomicBool::new(false), AtomicU16::new(watch.leader));
    let ended = thread::scope(|scope| {
        let watching = scope.spawn(|| watch.until(&is_over, from, &meter, &leader));
        let ended = load::run(task, &addresses, from, &meter, &leader, interrupt);
        is_over.store(true, Ordering::Relaxed);
        // It breaks only on a broken invariant of our own.
        watching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ended
    });
    ended?;
    let meter = meter.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut measured = meter.finish(task, task.system.name(), watch.grounds(task));
    // It does not count them.
    (measured.point.retransmits, measured.point.duplicates) = (None, None);
    Ok(measured)
}

/// A member's process. Dropping it ends it.
#[derive(Debug)]
struct Member(Child);

impl Member {
    fn start(node: u16, addresses: &[SocketAddr], dir: &Path) -> Result<Self, CliError> {
        let url = |at: &SocketAddr, port: u16| format!("http://{}:{port}", at.ip());
        let named = |(id, at): (u16, &SocketAddr)| format!("n{id}={}", url(at, PEER_PORT));
        let cluster: Vec<String> = (1..).zip(addresses).map(named).collect();
        let at = &addresses[usize::from(node) - 1];
        let (client, peer) = (url(at, CLIENT_PORT), url(at, PEER_PORT));
        let data = dir.join(format!("etcd-{node}"));
        let log = dir.join(format!("etcd-{node}.log"));
        let file = std::fs::File::create(&log).map_err(|error| file_error(&log, "creating", &error))?;
        let mut command = Command::new("sh");
        let name = format!("raftgram-lab-{}", std::process::id());
        command.args(["-c", LEASH, &name, "etcd", "--logger", "zap", "--log-outputs", "stderr"]);
        command.args(["--name", &format!("n{node}"), "--initial-cluster-state", "new"]);
        command.args(["--initial-cluster", &cluster.join(",")]).arg("--data-dir").arg(&data);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).process_group(0);
        let child = command.spawn().map_err(|error| CliError::io(format!("starting etcd {node}"), &error))?;
        Ok(Self(child))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The leash lets go: its shell ends the member, and then itself.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// How a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Status {
    leads: bool,
    term: u64,
    index: u64,
}

/// Asks the members how they are.
#[derive(Debug)]
struct Watch {
    addresses: Vec<SocketAddr>,
    connections: Vec<Option<Connection>>,
    told: Vec<Status>,
    /// The last one known; 0 for none.
    leader: u16,
    index_from: Option<u64>,
}

impl Watch {
    fn new(addresses: &[SocketAddr]) -> Self {
        Self {
            addresses: addresses.to_vec(),
            connections: addresses.iter().map(|_| None).collect(),
            told: vec![Status::default(); addresses.len()],
            leader: 0,
            index_from: None,
        }
    }

    fn wait_for_a_leader(&mut self, interrupt: &Interrupt) -> Result<(), CliError> {
        let began = Instant::now();
        while self.leader == 0 {
            if interrupt.is_raised() {
                return Err(CliError::new(Code::Interrupted, "stopped before the end"));
            }
            if began.elapsed() > PATIENCE {
                let text = "no member of etcd came to lead; their logs in the run folder say why";
                return Err(CliError::new(Code::NoLeader, text).after(began.elapsed()));
            }
            thread::sleep(LOOK);
            self.look();
        }
        Ok(())
    }

    /// Looks until it is over, and tells of terms and leaders.
    fn until(&mut self, is_over: &AtomicBool, from: Instant, meter: &Mutex<Meter>, leader: &AtomicU16) {
        while !is_over.load(Ordering::Relaxed) {
            self.look();
            let at_us = since_us(from, Instant::now());
            if at_us >= 0 {
                let index = self.index();
                self.index_from.get_or_insert(index);
            }
            leader.store(self.leader, Ordering::Relaxed);
            let mut meter = meter.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (node, status) in (1..).zip(&self.told) {
                meter.sees_term(at_us, node, status.term);
                if node == self.leader {
                    meter.leads(at_us, node, status.term);
                }
            }
            drop(meter);
            thread::sleep(LOOK);
        }
    }

    /// One that does not answer stays as it was last seen, but for leading.
    fn look(&mut self) {
        for place in 0..self.addresses.len() {
            let status = self.ask(place);
            if status.is_none() {
                self.connections[place] = None;
            }
            let told = &mut self.told[place];
            *told = status.unwrap_or(Status { leads: false, ..*told });
        }
        self.leader = leader(&self.told, self.leader);
    }

    fn ask(&mut self, place: usize) -> Option<Status> {
        if self.connections[place].is_none() {
            self.connections[place] = Connection::open(self.addresses[place], ANSWER).ok();
        }
        let connection = self.connections[place].as_mut()?;
        let answer = connection.call("/etcdserverpb.Maintenance/Status", &[], ANSWER).ok()??;
        status(&answer)
    }

    fn index(&self) -> u64 {
        self.told.iter().map(|status| status.index).max().unwrap_or(0)
    }

    fn grounds(&self, task: &Task) -> Grounds {
        let row = |(node, status): (u16, &Status)| NodeCounts {
            point: task.point,
            repeat: task.repeat,
            node,
            role: if status.leads { "leader" } else { "follower" }.to_owned(),
            term: status.term,
            commit: status.index,
            applied: status.index,
            datagrams_sent: None,
            bytes_sent: None,
            datagrams_received: 0,
            accepted: 0,
            retransmits: 0,
            duplicates: 0,
            packets_passed: None,
            drops: std::collections::BTreeMap::new(),
            rtt_us: None,
            loss: None,
        };
        let commits = self.index().saturating_sub(self.index_from.unwrap_or(0));
        Grounds { commits, nodes: (1..).zip(&self.told).map(row).collect(), ..Grounds::default() }
    }
}

/// Who leads: of two that say so, the one of the later term, or who led before. A member tells of a term only when it
/// has applied something in it, so that two may say so in the same one; the former stops within its election timeout.
/// Without anybody it is who led last.
fn leader(told: &[Status], before: u16) -> u16 {
    let leaders = (1..).zip(told).filter(|(_, status)| status.leads);
    leaders.max_by_key(|(node, status)| (status.term, *node == before)).map_or(before, |(node, _)| node)
}

/// Reads `StatusResponse`: header (1) with the member's id (2), leader (4), index (5), term (6).
fn status(message: &[u8]) -> Option<Status> {
    let all = grpc::fields(message)?;
    let number = |fields: &std::collections::BTreeMap<u64, Field<'_>>, place: u64| match fields.get(&place) {
        Some(Field::Number(number)) => *number,
        _ => 0,
    };
    let Some(Field::Bytes(header)) = all.get(&1) else { return None };
    let member = number(&grpc::fields(header)?, 2);
    Some(Status {
        leads: member != 0 && number(&all, 4) == member,
        term: number(&all, 6),
        index: number(&all, 5),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_leads_that_names_itself() {
        let message = |leader: u8| {
            let header = grpc::bytes_field(1, &[1 << 3, 9, 2 << 3, 7]);
            [header, grpc::bytes_field(2, b"3.4.23"), vec![4 << 3, leader, 5 << 3, 12, 6 << 3, 3]].concat()
        };
        assert_eq!(status(&message(7)), Some(Status { leads: true, term: 3, index: 12 }));
        assert_eq!(status(&message(8)), Some(Status { leads: false, term: 3, index: 12 }));
        assert_eq!(status(b"\x0a\xff"), None);
    }

    #[test]
    fn a_leader_stays_one_until_another_is_of_a_later_term_or_it_says_no_more() {
        let told = |one: (bool, u64), other: (bool, u64)| {
            [one, other].map(|(leads, term)| Status { leads, term, index: 0 })
        };
        assert_eq!(leader(&told((true, 2), (true, 2)), 1), 1);
        assert_eq!(leader(&told((true, 2), (true, 3)), 1), 2);
        assert_eq!(leader(&told((false, 2), (true, 2)), 1), 2);
        assert_eq!(leader(&told((false, 2), (false, 2)), 1), 1);
    }
}
