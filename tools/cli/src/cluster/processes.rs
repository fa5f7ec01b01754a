//! Node processes: started, their logs prefixed, stopped together.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::CliError;
use crate::log::LogFormat;

/// A node that is told to stop hands leadership over and syncs; beyond this it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// One node process. Dropping it kills it; `stop` is kinder.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: u16,
    child: Child,
    ended: Option<ExitStatus>,
    /// Writes the log lines; ends with the process.
    log: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    /// Starts `raftgram node` with these arguments.
    pub(crate) fn start(id: u16, arguments: &[String], format: LogFormat) -> Result<Self, CliError> {
        let own = std::env::current_exe().map_err(|error| CliError::io("finding the own program", &error))?;
        let mut command = Command::new(&own);
        command.arg("node").args(arguments);
        // Its stdin is a pipe that closes when this process dies, however it dies: that is its leash. A process
        // group of its own keeps the terminal's Ctrl-C from reaching it twice.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RAFTGRAM_"))
        {
            command.env_remove(name);
        }
        let mut child = command
            .spawn()
            .map_err(|error| CliError::io(format!("starting node {id}"), &error).at(own.display()))?;
        let log =
            child.stderr.take().map(|stderr| std::thread::spawn(move || pass_lines(id, stderr, format)));
        Ok(Self { id, child, ended: None, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            // A process that cannot be asked about is still ours to kill.
            self.ended = self.child.try_wait().unwrap_or(None);
        }
        self.ended
    }

    /// Asks it to hand leadership over and end.
    pub(crate) fn tell_to_stop(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Has it record from now on in this folder, or no more. It may have ended, and then nothing is to be recorded.
    pub(crate) fn record(&mut self, folder: Option<&Path>) {
        let line =
            folder.map_or_else(|| "record\n".to_owned(), |folder| format!("record {}\n", folder.display()));
        if let Some(leash) = &mut self.child.stdin {
            drop(leash.write_all(line.as_bytes()));
        }
    }

    /// Lets it stand still.
    pub(crate) fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            // It may end in this very moment.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if let Some(log) = self.log.take() {
            // The last lines tell why it ended.
            let _ = log.join();
        }
    }
}

/// Stops all: told at once, waited for together, killed when they take too long. True when each ended well.
pub(super) fn stop(processes: &mut [Process]) -> bool {
    processes.iter_mut().for_each(Process::tell_to_stop);
    let deadline = Instant::now() + STOP_MAX;
    while processes.iter_mut().any(|process| process.ended().is_none()) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    processes.iter_mut().all(|process| process.ended().is_some_and(|status| status.success()))
}

/// Lines of text say whose they are; documents do so themselves.
fn pass_lines(id: u16, stderr: ChildStderr, format: LogFormat) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let line = match format {
            LogFormat::Text => format!("[{id}] {line}\n"),
            LogFormat::Json => format!("{line}\n"),
        };
        // Where nobody reads stderr, the nodes still run.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
