//! What a run leaves behind in files.

use std::fs;
use std::path::Path;

use raftgram::check::Call;
use raftgram::sim::workload::{HistoryEvent, HistoryKind};
use serde::Serialize;

use crate::error::CliError;
use crate::output::file_error;

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
        text += &serde_json::to_string(&line).map_err(|error| CliError::io("writing a line", &error.into()))?;
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
