//! `check`: is a recorded history linearizable?

mod jepsen;
mod jsonl;
mod porcupine;
mod reader;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use raftgram::check::{self, Answer, Budget, Call, Operation, Register, Verdict, Window};
use serde::Serialize;

use crate::check::reader::Malformed;
use crate::error::{CliError, Code};
use crate::output::{self, Format, file_error};

/// Judge whether a recorded history is linearizable: exit 7 if it is not, 8 if the steps did not suffice.
#[derive(Debug, Args)]
#[command(
    after_help = "A jsonl history, as --history writes it, has an event a line: {\"index\":0,\"time_ns\":0,\
\"process\":3,\"type\":\"invoke|ok|fail|info\",\"f\":\"read|write|cas|delete\",\"key\":\"k\",\"value\":...}. \
The value of a cas is [old,new], null is an absent key; `fail` did nothing, `info` may have, and its process does \
nothing more."
)]
pub(crate) struct Check {
    /// The history; `-` is stdin.
    file: PathBuf,
    /// How it is written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "jsonl")]
    format: Notation,
    /// Give up after this many steps of the search; ten million take seconds and some hundred MiB.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000_000)]
    steps: u64,
}

/// Ways to write a history down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Notation {
    /// A JSON object per line, on any number of registers.
    Jsonl,
    /// A log of Jepsen's, on one register with compare and set.
    Jepsen,
    /// Porcupine's records of a store with get, put and append.
    PorcupineKv,
}

#[derive(Debug, Serialize)]
struct Judged<'a> {
    verdict: &'static str,
    operations: usize,
    steps: u64,
    window: Option<ShownWindow<'a>>,
    /// Says again, where every failure says it, why the exit code is not 0.
    #[serde(flatten)]
    failure: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct ShownWindow<'a> {
    key: &'a str,
    begins_at: u64,
    fails_at: u64,
    operations: Vec<ShownOperation>,
}

#[derive(Debug, Serialize)]
struct ShownOperation {
    process: u64,
    invoked: u64,
    returned: Option<u64>,
    call: String,
    outcome: String,
}

impl Check {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        let text = self.read()?;
        let read = match self.format {
            Notation::Jsonl => jsonl::read(&text),
            Notation::Jepsen => jepsen::read(&text),
            Notation::PorcupineKv => porcupine::read(&text),
        };
        let history = read.map_err(|malformed| self.malformed(&malformed))?;
        let mut budget = Budget::steps(self.steps);
        let verdict = check::check(&history, &self.model(), &mut budget);
        let (operations, steps) = (history.operations().len(), budget.spent());
        let judged = |verdict, window| Judged { verdict, operations, steps, window, failure: None };
        match &verdict {
            Verdict::Linearizable => show(format, judged("linearizable", None), None),
            Verdict::NotLinearizable(window) => {
                let message =
                    format!("no order explains event {} on key {}", window.fails_at(), window.key());
                let error = CliError::new(Code::Violation, message).at(self.file.display());
                show(format, judged("not linearizable", Some(ShownWindow::of(window))), Some(error))
            }
            Verdict::Unknown => {
                let error = CliError::new(Code::Inconclusive, format!("no verdict in {steps} steps"));
                let error = error.at(self.file.display()).hint("give more with --steps");
                show(format, judged("unknown", None), Some(error))
            }
        }
    }

    const fn model(&self) -> Register {
        match self.format {
            Notation::Jsonl | Notation::Jepsen => Register::absent(),
            Notation::PorcupineKv => Register::empty(),
        }
    }

    fn read(&self) -> Result<String, CliError> {
        let mut bytes = Vec::new();
        if self.file == Path::new("-") {
            let read = std::io::stdin().read_to_end(&mut bytes);
            read.map_err(|error| CliError::io("reading stdin", &error))?;
        } else {
            bytes = std::fs::read(&self.file)
                .map_err(|error| file_error(&self.file, "reading the history", &error))?;
        }
        String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
            self.malformed(&Malformed { line, why: "this is no UTF-8 text".to_owned() })
        })
    }

    fn malformed(&self, malformed: &Malformed) -> CliError {
        let hint = "--format says how the history is written: jsonl, jepsen or porcupine-kv";
        let place = format!("{}:{}", self.file.display(), malformed.line);
        CliError::new(Code::Corrupt, malformed.why.clone()).at(place).hint(hint)
    }
}

/// Any bytes as a history in every notation, and what can be read judged with few steps.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (read, model) in [
        (jsonl::read as fn(&str) -> _, Register::absent()),
        (jepsen::read, Register::absent()),
        (porcupine::read, Register::empty()),
    ] {
        if let Ok(history) = read(&text) {
            check::check(&history, &model, &mut Budget::steps(1000));
        }
    }
}

/// Writes the verdict to stdout; a failure says so on stderr too, or in the document.
fn show(format: Format, mut judged: Judged<'_>, error: Option<CliError>) -> Result<(), CliError> {
    if format.is_json() {
        judged.failure = error.as_ref().and_then(|error| serde_json::to_value(error.document()).ok());
        format.answer(&judged, |_| String::new())?;
        return error.map_or(Ok(()), |error| Err(error.already_reported()));
    }
    let mut text = format!("{}\n", judged.verdict);
    if let Some(window) = &judged.window {
        text += &window.text(format);
    }
    output::write(&text)?;
    error.map_or(Ok(()), Err)
}

impl<'a> ShownWindow<'a> {
    fn of(window: &'a Window<Call, Answer>) -> Self {
        let operations = window.operations().iter().map(ShownOperation::of);
        let (begins_at, fails_at) = (window.begins_at(), window.fails_at());
        Self { key: window.key(), begins_at, fails_at, operations: operations.collect() }
    }

    fn text(&self, format: Format) -> String {
        let rows: Vec<Vec<String>> = self.operations.iter().map(ShownOperation::cells).collect();
        let before = if self.begins_at == 0 { "from its first state on" } else { "whatever it held before" };
        format!("key {}, {before}: no order explains event {}\n", self.key, self.fails_at)
            + &format.table(&["invoked", "returned", "process", "call", "outcome"], &rows)
    }
}

impl ShownOperation {
    fn of(operation: &Operation<Call, Answer>) -> Self {
        Self {
            process: operation.process.0,
            invoked: operation.invoked,
            returned: operation.returned,
            call: operation.call.to_string(),
            outcome: operation.outcome.to_string(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let returned = self.returned.map_or_else(|| "-".to_owned(), |returned| returned.to_string());
        let (call, outcome) = (self.call.clone(), self.outcome.clone());
        vec![self.invoked.to_string(), returned, self.process.to_string(), call, outcome]
    }
}
