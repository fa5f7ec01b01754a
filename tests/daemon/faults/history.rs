//! Clients that read, write and compare-and-set, what they saw, and the verdict on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::process::{Process, run};
use crate::support::command;

/// A load that writes its history.
pub(super) struct Clients {
    process: Process,
    history: PathBuf,
    log: PathBuf,
}

impl Clients {
    /// Starts them in front of `raftgram`: words of another program that runs it, or nothing.
    pub(super) fn start(within: &[&str], cluster: &str, dir: &Path) -> Self {
        let (history, log) = (dir.join("history.jsonl"), dir.join("clients.log"));
        let arguments = ["--cluster", cluster, "bench", "kv", "--clients", "6", "--connections", "3"];
        let pace =
            ["--reads", "40%", "--rate", "300", "--duration", "2h", "--warm-up", "0s", "--timeout", "30s"];
        let mut bench = prefixed(within, &command(&[&arguments[..], &pace, &["--keys", "8"]].concat()));
        bench.arg("--history").arg(&history).stdin(Stdio::null()).stdout(Stdio::null());
        let process = Process::start(&mut bench, &log);
        Self { process, history, log }
    }

    /// How far they are, in bytes of history.
    pub(super) fn written_bytes(&self) -> u64 {
        std::fs::metadata(&self.history).map_or(0, |file| file.len())
    }

    /// Ends them, and has what they saw judged.
    #[track_caller]
    pub(super) fn judge(mut self) {
        let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
        assert!(self.process.ended().is_none(), "the clients have ended:\n{}", log());
        self.process.signal(Signal::INT);
        self.process.wait();
        let judged = run(&["check", self.history.to_str().unwrap()]);
        let verdict = String::from_utf8_lossy(&judged.stdout).into_owned();
        let text = std::fs::read_to_string(&self.history).unwrap_or_default();
        let count = |kind: &str| text.matches(&format!("\"type\":\"{kind}\"")).count();
        eprintln!(
            "{} operations begun, {} answered, {} unknown: {}",
            count("invoke"),
            count("ok"),
            count("info"),
            verdict.lines().next().unwrap_or_default()
        );
        assert_eq!(judged.status.code(), Some(0), "{verdict}{}", String::from_utf8_lossy(&judged.stderr));
        assert!(count("ok") > 100, "too little was answered to judge by:\n{}", log());
    }
}

/// The same command, run by another program.
pub(super) fn prefixed(within: &[&str], inner: &Command) -> Command {
    let Some((program, arguments)) = within.split_first() else {
        let mut plain = Command::new(inner.get_program());
        copy(inner, &mut plain);
        return plain;
    };
    let mut outer = Command::new(program);
    outer.args(arguments).arg(inner.get_program());
    copy(inner, &mut outer);
    outer
}

fn copy(from: &Command, to: &mut Command) {
    to.args(from.get_args());
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
}
