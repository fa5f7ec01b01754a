//! Processes that end with the test that started them, and waiting for what they do.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::command;

/// How long anything may take before the test calls it stuck. Far beyond what a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until there is something to see.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process that is killed and reaped when it is dropped, however the test ends.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts it with its stderr behind what the file already holds.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        Self { child: command.stderr(log).spawn().unwrap() }
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; it has not been reaped, so the number is still its own.
    pub(crate) fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its end, which must come.
#[track_caller]
pub(crate) fn run(arguments: &[&str]) -> Output {
    run_command(&mut command(arguments))
}

/// The same with its environment and input set.
#[track_caller]
pub(crate) fn run_command(command: &mut Command) -> Output {
    let mut process =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map(|child| Process { child });
    let process = process.as_mut().unwrap();
    // What is printed here fits a pipe, so that nobody waits for a reader.
    let status = process.wait();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    std::io::Read::read_to_end(process.child.stdout.as_mut().unwrap(), &mut stdout).unwrap();
    std::io::Read::read_to_end(process.child.stderr.as_mut().unwrap(), &mut stderr).unwrap();
    Output { status, stdout, stderr }
}

/// Runs a command that must fail: its exit code and the `error` of its document.
#[track_caller]
pub(crate) fn refused(arguments: &[&str]) -> (i32, Value) {
    let output = run(&[&["--json"], arguments].concat());
    let document: Result<Value, _> = serde_json::from_slice(&output.stdout);
    let mut document = document.unwrap_or_else(|error| panic!("no document ({error}): {output:?}"));
    assert!(document["error"].is_object(), "{document}");
    (output.status.code().unwrap(), document["error"].take())
}

/// True while a process of this number exists and is no zombie: nobody may be there to reap it.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    !after_name.is_empty() && !after_name.trim_start().starts_with(['Z', 'X'])
}

/// A number from the environment: how long a long form is.
pub(crate) fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
