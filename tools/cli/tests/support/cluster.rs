//! A cluster of real processes, one at a time: clusters that share two processors only test each other's patience.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ports::first_free;
use super::{command, raftgram};

/// Nothing here takes longer, on the slowest machine that runs tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// `cluster up`, ready.
pub(crate) struct Cluster {
    child: Child,
    pub(crate) port: u16,
    pub(crate) pids: Vec<u32>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts three nodes with these further arguments and waits until they serve.
    pub(crate) fn up(arguments: &[&str]) -> Self {
        let turn = turn();
        Self::start(turn, free_ports(3), arguments)
    }

    /// The same, on these ports.
    pub(crate) fn up_at(port: u16, arguments: &[&str]) -> Self {
        Self::start(turn(), port, arguments)
    }

    fn start(turn: MutexGuard<'static, ()>, port: u16, arguments: &[&str]) -> Self {
        let text = port.to_string();
        let mut command =
            command(&["--json-stream", "--log-level", "error", "cluster", "up", "--port", &text]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        assert_eq!(ready["event"], "ready", "{line}");
        let nodes = ready["nodes"].as_array().unwrap();
        let pids = nodes.iter().map(|node| u32::try_from(node["pid"].as_u64().unwrap()).unwrap()).collect();
        assert_eq!(nodes[0]["addr"], format!("127.0.0.1:{port}"));
        Self { child, port, pids, _turn: turn }
    }

    /// Runs a command against any of the nodes.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let all: Vec<String> = (self.port..self.port + 3).map(|port| port.to_string()).collect();
        raftgram(&[&["--cluster", &all.join(",")], arguments].concat())
    }

    /// Sends a signal to the process that keeps the nodes.
    pub(crate) fn signal(&self, signal: &str) {
        kill(self.child.id(), signal);
    }

    /// Waits for its end: exit code (none when a signal ended it) and what it still printed.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.child.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        for pid in &self.pids {
            wait_until(&format!("node process {pid} has ended"), || !is_running(*pid));
        }
        (status.code(), rest)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // After a failed test the nodes die with their parent.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until no other test of this program has processes running. Ports are looked for after that.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first of `count` ports in a row that nobody uses, never given out before: a cluster may come back to its own.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 1200).expect("below 1200") * 10;
    // Below those the kernel gives to sockets that ask for none.
    first_free((0..1200).map(|_| 20_000 + (own + NEXT.fetch_add(10, Ordering::Relaxed)) % 12_000), count)
}

pub(crate) fn kill(pid: u32, signal: &str) {
    let status = std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill {signal} {pid}");
}

/// True while the process exists and is no zombie.
pub(crate) fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status
        .rsplit(')')
        .next()
        .is_some_and(|fields| !fields.is_empty() && !fields.trim_start().starts_with('Z'))
}

/// Looks again and again until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
