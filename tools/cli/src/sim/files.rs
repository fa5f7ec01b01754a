//! What a run leaves behind in files.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use raftgram::check::Call;
use raftgram::sim::workload::{HistoryEvent, HistoryKind};
use raftgram::trace::Event;
use serde::Serialize;

use crate::error::CliError;
use crate::output::file_error;

/// A trace that is being written.
#[derive(Clone)]
pub(super) struct Trace {
    path: PathBuf,
    out: Rc<RefCell<(BufWriter<File>, Option<io::Error>)>>,
}

impl Trace {
    /// A new file; one that is there is overwritten.
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        let file = File::create(path).map_err(|error| file_error(path, "making the trace", &error))?;
        Ok(Self { path: path.to_owned(), out: Rc::new(RefCell::new((BufWriter::new(file), None))) })
    }

    /// Writes a line; the first failure is kept for the end.
    pub(super) fn tell(&self, event: &Event) {
        let (out, failed) = &mut *self.out.borrow_mut();
        if failed.is_none() {
            *failed = writeln!(out, "{}", event.to_line().trim_end()).err();
        }
    }

    /// Everything was told.
    pub(super) fn finish(self) -> Result<(), CliError> {
        let (out, failed) = &mut *self.out.borrow_mut();
        let result = failed.take().map_or_else(|| out.flush(), Err);
        result.map_err(|error| file_error(&self.path, "writing the trace", &error))
    }
}

/// A line, as `check` reads it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    index: usize,
    time_ns: u64,
    process: u64,
    r#type: &'static str,
    f: &'static str,
    key: &'a str,
    value: serde_json::Value,
}

/// Writes a history in the format of `check`.
pub(super) fn write_history(path: &Path, events: &[HistoryEvent]) -> Result<(), CliError> {
    let mut text = String::new();
    for (index, event) in events.iter().enumerate() {
        let line = line(index, event);
        text +=
            &serde_json::to_string(&line).map_err(|error| CliError::io("writing a line", &error.into()))?;
        text.push('\n');
    }
    fs::write(path, text).map_err(|error| file_error(path, "writing the history", &error))
}

fn line(index: usize, event: &HistoryEvent) -> Line<'_> {
    let is_read_answer = event.kind == HistoryKind::Ok && event.call == Call::Read;
    let (f, value) = match &event.call {
        Call::Read if is_read_answer => ("read", serde_json::json!(event.read)),
        Call::Read => ("read", serde_json::Value::Null),
        Call::Write(value) | Call::Append(value) => ("write", serde_json::json!(value)),
        Call::Delete => ("delete", serde_json::Value::Null),
        Call::Cas { old, new } => ("cas", serde_json::json!([old, new])),
    };
    let r#type = match event.kind {
        HistoryKind::Invoke => "invoke",
        HistoryKind::Ok => "ok",
        HistoryKind::Fail => "fail",
        HistoryKind::Info => "info",
    };
    Line { index, time_ns: event.at.as_nanos(), process: event.process.0, r#type, f, key: &event.key, value }
}
