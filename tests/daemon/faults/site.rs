//! Nodes that run wherever a fault wants them: behind `strace`, inside a network namespace, on a small disk.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::history::prefixed;
use crate::process::{Process, eventually, run_command};
use crate::support::command;

/// One node.
struct Node {
    address: SocketAddr,
    data: PathBuf,
    log: PathBuf,
    /// What its command stands behind.
    within: Vec<String>,
    process: Option<Process>,
}

/// Nodes 1 to n and where their clients run. Dropped in this order: processes, what is mounted, folders.
pub(super) struct Site {
    nodes: Vec<Node>,
    /// What a client's command stands behind.
    pub(super) outside: Vec<String>,
    mounts: Vec<SmallDisk>,
    pub(super) dir: TempDir,
}

impl Site {
    /// Nodes at these addresses, none of which runs.
    pub(super) fn new(addresses: &[SocketAddr], within: impl Fn(usize) -> Vec<String>) -> Self {
        let dir = tempfile::Builder::new().prefix("raftgram-faults-").tempdir().unwrap();
        let node = |(place, address): (usize, &SocketAddr)| {
            let path = |what: &str| dir.path().join(format!("{what}-{}", place + 1));
            let (data, log, within) = (path("data"), path("log"), within(place + 1));
            Node { address: *address, data, log, within, process: None }
        };
        let nodes = addresses.iter().enumerate().map(node).collect();
        Self { nodes, outside: Vec::new(), mounts: Vec::new(), dir }
    }

    /// Puts a node on a disk of its own, of this size.
    pub(super) fn mount(&mut self, id: usize, mib: u64) {
        let disk = SmallDisk::mount(self.data(id), mib);
        self.mounts.push(disk);
    }

    pub(super) fn ids(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.nodes.len()
    }

    pub(super) fn data(&self, id: usize) -> &Path {
        &self.nodes[id - 1].data
    }

    pub(super) fn ip(&self, id: usize) -> IpAddr {
        self.nodes[id - 1].address.ip()
    }

    pub(super) fn names(&self) -> String {
        crate::cluster::names(&self.nodes.iter().map(|node| node.address).collect::<Vec<_>>())
    }

    /// Starts a node; `traced` are words of a tracer that runs it.
    pub(super) fn start(&mut self, id: usize, flags: &[&str], traced: &[&str]) {
        let voters: Vec<String> =
            self.ids().map(|id| format!("{id}={}", self.nodes[id - 1].address)).collect();
        let node = &mut self.nodes[id - 1];
        assert!(node.process.is_none(), "node {id} was started already");
        let mut inner = command(&["node", "--id", &id.to_string()]);
        inner.arg("--listen").arg(node.address.to_string()).arg("--voters").arg(voters.join(","));
        inner.arg("--data").arg(&node.data).args(flags).arg("--leashed").env("NO_COLOR", "1");
        let words = node.within.iter().map(String::as_str).chain(traced.iter().copied()).collect::<Vec<_>>();
        let mut outer = prefixed(&words, &inner);
        outer.stdin(Stdio::piped()).stdout(Stdio::null());
        node.process = Some(Process::start(&mut outer, &node.log));
    }

    pub(super) fn pid(&self, id: usize) -> u32 {
        self.nodes[id - 1].process.as_ref().expect("the node runs").pid()
    }

    pub(super) fn signal(&mut self, id: usize, signal: Signal) {
        self.nodes[id - 1].process.as_mut().expect("the node runs").signal(signal);
    }

    pub(super) fn ended(&mut self, id: usize) -> Option<ExitStatus> {
        self.nodes[id - 1].process.as_mut().expect("the node was started").ended()
    }

    /// Waits for the end of a node that ends by itself, and takes note of it.
    #[track_caller]
    pub(super) fn reap(&mut self, id: usize) -> ExitStatus {
        let status = eventually("the node ends", || self.ended(id));
        self.nodes[id - 1].process = None;
        status
    }

    /// `kill -9`, reaped. A node that is traced outlives its tracer, so it goes first.
    pub(super) fn kill(&mut self, id: usize) {
        let Some(mut process) = self.nodes[id - 1].process.take() else { return };
        let tracer = process.pid();
        let children = std::fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            let pid = child.parse().ok().and_then(Pid::from_raw).expect("the kernel lists numbers");
            // It may have ended a moment ago.
            let _ = kill_process(pid, Signal::KILL);
            process.wait();
        }
    }

    /// Runs the program where clients are.
    #[track_caller]
    pub(super) fn ask(&self, arguments: &[&str]) -> (i32, Value) {
        let words: Vec<&str> = self.outside.iter().map(String::as_str).collect();
        let inner = command(&[&["--json", "--cluster", &self.names()], arguments].concat());
        let output = run_command(&mut prefixed(&words, &inner));
        (output.status.code().unwrap_or(-1), serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    /// Waits until every node is reached, follows one leader, and has applied what was committed when this began.
    #[track_caller]
    pub(super) fn wait_until_whole(&self) {
        let mut goal = 0;
        eventually("all nodes are whole", || {
            let (_, status) = self.ask(&["--timeout", "1s", "status"]);
            let nodes = status["nodes"].as_array()?;
            let number = |node: &Value, name: &str| node[name].as_u64().unwrap_or(0);
            goal = if goal == 0 { nodes.iter().map(|it| number(it, "commit")).max()? } else { goal };
            let is_whole = |node: &Value| {
                node["reachable"] == true
                    && number(node, "applied") >= goal.max(1)
                    && node["repair"].is_null()
            };
            (!status["leader"].is_null() && nodes.iter().all(is_whole)).then_some(())
        });
    }

    pub(super) fn log(&self, id: usize) -> String {
        std::fs::read_to_string(&self.nodes[id - 1].log).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for id in self.ids() {
                let log = self.log(id);
                let lines: Vec<&str> = log.lines().collect();
                eprintln!(
                    "--- end of the log of node {id}\n{}",
                    lines[lines.len().saturating_sub(20)..].join("\n")
                );
            }
        }
    }
}

/// True for a process that a signal ended, or that tells of it as a shell does.
pub(super) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9) || status.code() == Some(137)
}

/// A file system in memory, in the place of a node's folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, mib: u64) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(folder);
        assert!(command.status().unwrap().success(), "a tmpfs at {}", folder.display());
        Self(folder.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: its node may be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
