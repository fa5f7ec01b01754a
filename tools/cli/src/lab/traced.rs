//! The trace of a simulated run, kept to a window: all of a run is more than anybody looks at.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use raftgram::time::Instant;
use raftgram::trace::{Event, Payloads, What};

use crate::error::CliError;
use crate::output::file_error;

/// How much of the window comes before what it is about.
pub(super) const LEAD: u32 = 5;

/// A trace that is being written. Outside the window it holds boots, faults and what became of nodes, and says how
/// much was left out.
#[derive(Debug)]
pub(crate) struct Traced {
    /// Its name in the run folder.
    name: String,
    path: PathBuf,
    out: BufWriter<File>,
    failed: Option<io::Error>,
    window: Duration,
    from: Option<Instant>,
    left_out: u64,
    last: Instant,
}

impl Traced {
    /// A new file in the folder.
    pub(crate) fn create(dir: &Path, name: String, window: Duration) -> Result<Self, CliError> {
        let path = dir.join(&name);
        let folder = path.parent().unwrap_or(dir);
        let file = fs::create_dir_all(folder).and_then(|()| File::create(&path));
        let file = file.map_err(|error| file_error(&path, "making the trace", &error))?;
        let out = BufWriter::new(file);
        Ok(Self { name, path, out, failed: None, window, from: None, left_out: 0, last: Instant::ZERO })
    }

    /// Diagrams decode frames, not bytes.
    pub(crate) const fn payloads(&self) -> Payloads {
        Payloads::LeftOut
    }

    /// What shall be seen: what happens from shortly before this instant on.
    pub(crate) fn set_window(&mut self, at: Instant) {
        let lead = self.window / LEAD;
        self.from = Some(Instant::from_nanos(at.as_nanos().saturating_sub(lead.as_nanos() as u64)));
    }

    /// Something happened.
    pub(crate) fn tell(&mut self, event: &Event) {
        self.last = event.at;
        let is_always = matches!(event.what, What::Header(_) | What::Boot(_) | What::Note(..));
        let is_inside = self.from.is_some_and(|from| event.at >= from && event.at < from + self.window);
        if !is_always && !is_inside {
            self.left_out += 1;
            return;
        }
        self.tell_gap(event.at);
        self.write(event);
    }

    fn tell_gap(&mut self, at: Instant) {
        if self.left_out > 0 {
            let what = What::Gap { events: std::mem::take(&mut self.left_out) };
            self.write(&Event { at, node: None, what });
        }
    }

    fn write(&mut self, event: &Event) {
        if self.failed.is_none() {
            self.failed = writeln!(self.out, "{}", event.to_line().trim_end()).err();
        }
    }

    /// Everything was told; gives its name.
    pub(crate) fn finish(&mut self) -> Result<Option<String>, CliError> {
        self.tell_gap(self.last);
        let result = self.failed.take().map_or_else(|| self.out.flush(), Err);
        result.map_err(|error| file_error(&self.path, "writing the trace", &error))?;
        Ok(Some(self.name.clone()))
    }
}
