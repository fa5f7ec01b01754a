//! A run's operations as they began and ended, a JSON line each, for a linearizability check.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use raftgram::client::{ClientError, Outcome};
use serde::Serialize;

use crate::error::CliError;
use crate::output::file_error;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Function {
    Read,
    Write,
}

/// A file that many clients write to. Lines stand in the order of their times.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    began: Instant,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    out: BufWriter<File>,
    lines: u64,
    failed: Option<std::io::Error>,
}

/// An operation that has begun.
#[derive(Debug)]
pub(super) struct Open {
    process: u64,
    function: Function,
    key: String,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    index: u64,
    time_ns: u64,
    process: u64,
    r#type: &'static str,
    f: Function,
    key: &'a str,
    value: Option<&'a str>,
    session: Option<u64>,
    seq: Option<u64>,
    node: Option<u16>,
}

impl History {
    /// A new file; one that is there is overwritten.
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        let file = File::create(path).map_err(|error| file_error(path, "making the history", &error))?;
        let log = Log { out: BufWriter::new(file), lines: 0, failed: None };
        Ok(Self { path: path.to_owned(), began: Instant::now(), log: Mutex::new(log) })
    }

    /// An operation begins.
    pub(super) fn invoke(&self, process: u64, function: Function, key: &str, value: Option<String>) -> Open {
        let open = Open { process, function, key: key.to_owned() };
        self.line(&open, "invoke", value.as_deref());
        open
    }

    /// It has ended: `ok`, `fail` when it certainly did nothing, `info` when nobody knows.
    pub(super) fn complete(
        &self,
        open: Open,
        ended: &Result<(), (ClientError, Outcome)>,
        value: Option<String>,
    ) {
        let kind = match ended {
            Ok(()) => "ok",
            Err((_, Outcome::NotSent)) => "fail",
            Err((_, Outcome::Unknown)) => "info",
        };
        self.line(&open, kind, value.as_deref());
    }

    /// Everything is in the file, or the failure to write it is told.
    pub(super) fn finish(self) -> Result<(), CliError> {
        let mut log = self.log.into_inner().unwrap_or_else(PoisonError::into_inner);
        let flushed = log.out.flush();
        match log.failed.map_or(flushed, Err) {
            Ok(()) => Ok(()),
            Err(error) => Err(file_error(&self.path, "writing the history", &error)),
        }
    }

    fn line(&self, open: &Open, kind: &'static str, value: Option<&str>) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that a later line has a later time.
        let time_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (index, process, f, key) = (log.lines, open.process, open.function, open.key.as_str());
        let line = Line {
            index,
            time_ns,
            process,
            r#type: kind,
            f,
            key,
            value,
            session: None,
            seq: None,
            node: None,
        };
        let text = serde_json::to_string(&line).unwrap_or_default();
        log.lines += 1;
        if let Err(error) = writeln!(log.out, "{text}") {
            log.failed.get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_the_keys_that_a_checker_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let history = History::create(&path).unwrap();
        let write = history.invoke(3, Function::Write, "k", Some("v".into()));
        history.complete(write, &Err((ClientError::Busy, Outcome::Unknown)), Some("v".into()));
        let read = history.invoke(4, Function::Read, "k", None);
        history.complete(read, &Ok(()), None);
        history.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["invoke", "info", "invoke", "ok"]);
        let indexes: Vec<u64> = lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
        assert_eq!(indexes, [0, 1, 2, 3]);
        assert_eq!(
            (&lines[1]["f"], &lines[1]["process"], &lines[1]["value"]),
            (&"write".into(), &3.into(), &"v".into())
        );
        assert!(lines[3]["value"].is_null());
    }
}
