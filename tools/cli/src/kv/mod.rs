//! `kv`: reads and writes of the replicated key–value store, one at a time, from a shell or from stdin.

mod shell;
mod show;
mod watch;

use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use raftgram::client::Answer;
use raftgram::handle::Client;
use raftgram::kv::{self, Command, CommandResult, Query};
use raftgram::types::{Index, Term};
use raftgram::wire::client::ReadLevel;

use crate::error::{CliError, Code};
use crate::output::{Format, file_error};
use crate::reach::Reach;
use show::{Listed, Row, Shown, text};

/// How long an operation may take unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Rows of one page of a list: enough to save round trips, few enough to keep each answer short.
const PAGE_ROWS: u64 = 256;

/// Read and write the key-value store. Without a command: a shell, or commands from stdin when that is no terminal.
#[derive(Debug, Args)]
pub(crate) struct Kv {
    #[command(subcommand)]
    operation: Option<Operation>,
}

/// One read or write.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    /// Set a key.
    Put {
        key: OsString,
        /// The value; without it, --from says where it is.
        #[arg(required_unless_present = "from", conflicts_with = "from")]
        value: Option<OsString>,
        /// Read the value from this file; `-` is stdin.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Print what a key holds; exit 4 when it is missing.
    Get {
        key: OsString,
        #[command(flatten)]
        read: Freshness,
        /// Print no newline behind the value.
        #[arg(long)]
        raw: bool,
    },
    /// Remove a key; exit 4 when it is missing.
    Delete { key: OsString },
    /// Set a key if it holds OLD; exit 4 when it does not.
    Cas {
        key: OsString,
        /// What it must hold.
        old: OsString,
        /// What it shall hold.
        new: OsString,
    },
    /// Print all keys with this prefix and what they hold.
    List {
        #[arg(default_value = "")]
        prefix: OsString,
        /// Print at most this many.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        read: Freshness,
    },
    /// Print what becomes of keys with this prefix, as it happens.
    Watch(watch::Watched),
}

/// How fresh answers must be, and who may give them.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Freshness {
    /// How fresh the answer must be.
    #[arg(long, value_enum, default_value = "linearizable")]
    level: Level,
    /// Ask any node instead of the leader; it asks the leader how fresh it must be.
    #[arg(long)]
    any_node: bool,
}

impl Freshness {
    pub(crate) fn wire(self) -> Result<ReadLevel, CliError> {
        match (self.level, self.any_node) {
            (Level::Linearizable, true) => Ok(ReadLevel::AnyNode),
            (Level::Lease, true) => {
                Err(CliError::usage("only the leader has a lease")
                    .hint("leave out --any-node, or --level lease"))
            }
            (level, _) => Ok(level.wire()),
        }
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.level.to_possible_value();
        f.write_str(level.as_ref().map_or("linearizable", |level| level.get_name()))?;
        if self.any_node { f.write_str(" at any node") } else { Ok(()) }
    }
}

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// It shows every write that was answered before.
    Linearizable,
    /// The leader answers under its lease.
    Lease,
    /// Whatever the node that is asked has applied.
    Local,
}

impl Level {
    const fn wire(self) -> ReadLevel {
        match self {
            Self::Linearizable => ReadLevel::Linearizable,
            Self::Lease => ReadLevel::Lease,
            Self::Local => ReadLevel::Local,
        }
    }
}

impl Kv {
    pub(crate) fn run(self, reach: &Reach, format: Format) -> Result<(), CliError> {
        let store = Store { client: reach.connect()?, reach, timeout: reach.timeout_or(TIMEOUT) };
        match self.operation {
            Some(operation) => store.carry_out(operation, format),
            None => shell::run(&store, format),
        }
    }
}

/// The store as one client sees it.
struct Store<'a> {
    client: Client,
    reach: &'a Reach,
    timeout: Duration,
}

impl Store<'_> {
    /// Carries one operation out and prints its answer.
    fn carry_out(&self, operation: Operation, format: Format) -> Result<(), CliError> {
        match operation {
            Operation::Put { key, value, from } => {
                let value = match (value, from) {
                    (Some(value), _) => value.into_vec(),
                    (None, file) => read_value(&file.unwrap_or_else(|| "-".into()))?,
                };
                let key = key.into_vec();
                let (_, index, term) = self.write(&Command::Put { key: &key, value: &value })?;
                let shown = Shown::new(&key, Some(&value), index, term);
                format.answer(&shown, |format| shown.done(format))
            }
            Operation::Get { key, read, raw } => self.get(&key.into_vec(), read.wire()?, raw, format),
            Operation::Delete { key } => {
                let key = key.into_vec();
                let (result, index, term) = self.write(&Command::Delete { key: &key })?;
                match result {
                    CommandResult::Done { previous: None } => Err(missing(&key)),
                    _ => {
                        let shown = Shown::new(&key, None, index, term);
                        format.answer(&shown, |format| shown.done(format))
                    }
                }
            }
            Operation::Cas { key, old, new } => {
                let (key, old, new) = (key.into_vec(), old.into_vec(), new.into_vec());
                let (result, index, term) =
                    self.write(&Command::Cas { key: &key, old: Some(&old), new: &new })?;
                match result {
                    CommandResult::CompareFailed { previous } => Err(differs(&key, previous.as_ref())),
                    _ => {
                        let shown = Shown::new(&key, Some(&new), index, term);
                        format.answer(&shown, |format| shown.done(format))
                    }
                }
            }
            Operation::List { prefix, limit, read } => {
                self.list(&prefix.into_vec(), limit, read.wire()?, format)
            }
            Operation::Watch(watched) => self.watch(watched, format),
        }
    }

    fn write(&self, command: &Command<'_>) -> Result<(CommandResult, Index, Term), CliError> {
        let refusal = |refusal: kv::Refusal| CliError::new(Code::TooLarge, refusal.to_string());
        command.check().map_err(refusal)?;
        let pending = self.client.propose(command.to_bytes(), self.timeout);
        let Answer::Applied { index, term, result } = self.reach.wait(pending, self.timeout)? else {
            return Err(strange());
        };
        match CommandResult::decode(&result).map_err(|_| strange())? {
            CommandResult::Refused(refused) => Err(refusal(refused)),
            result => Ok((result, index, term)),
        }
    }

    /// Asks, and hands the answer's bytes to `read`.
    fn ask<T>(
        &self,
        query: &Query<'_>,
        level: ReadLevel,
        read: impl FnOnce(kv::Answer<'_>, Index, Term) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let pending = self.client.read(query.to_bytes(), level, self.timeout);
        let Answer::Read { index, term, result } = self.reach.wait(pending, self.timeout)? else {
            return Err(strange());
        };
        match kv::Answer::decode(&result).map_err(|_| strange())? {
            kv::Answer::Refused(refused) => Err(CliError::new(Code::TooLarge, refused.to_string())),
            answer => read(answer, index, term),
        }
    }

    fn get(&self, key: &[u8], level: ReadLevel, raw: bool, format: Format) -> Result<(), CliError> {
        self.ask(&Query::Get { key }, level, |answer, index, term| match answer {
            kv::Answer::Missing => Err(missing(key)),
            kv::Answer::Found { value, .. } if format.is_json() => {
                format.answer(&Shown::new(key, Some(value), index, term), |_| String::new())
            }
            kv::Answer::Found { value, .. } => {
                let line_end: &[u8] = if raw { b"" } else { b"\n" };
                crate::output::write_bytes(&[value, line_end].concat())
            }
            _ => Err(strange()),
        })
    }

    /// Page after page: each is as fresh as `level` says, but writes may come between two of them.
    fn list(
        &self,
        prefix: &[u8],
        limit: Option<u64>,
        level: ReadLevel,
        format: Format,
    ) -> Result<(), CliError> {
        let mut listed = Listed::new(prefix);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let left = limit.map_or(PAGE_ROWS, |limit| limit - listed.items.len() as u64);
            if left == 0 {
                break;
            }
            let query = Query::List {
                prefix,
                after: after.as_deref(),
                rows_max: left.min(PAGE_ROWS),
                bytes_max: kv::PAGE_BYTES_MAX,
            };
            let next = self.ask(&query, level, |answer, index, term| match answer {
                kv::Answer::Page { rows, is_last } => {
                    listed.items.extend(rows.iter().map(Row::of));
                    (listed.index, listed.term) = (index.0, term.0);
                    Ok(rows.last().filter(|_| !is_last).map(|row| row.key.to_vec()))
                }
                _ => Err(strange()),
            })?;
            after = next;
            if after.is_none() {
                break;
            }
        }
        format.answer(&listed, |format| listed.text(format))
    }
}

fn read_value(file: &Path) -> Result<Vec<u8>, CliError> {
    if file != Path::new("-") {
        return std::fs::read(file).map_err(|error| file_error(file, "reading the value", &error));
    }
    let mut value = Vec::new();
    std::io::stdin().read_to_end(&mut value).map_err(|error| CliError::io("reading stdin", &error))?;
    Ok(value)
}

fn missing(key: &[u8]) -> CliError {
    CliError::new(Code::NotFound, format!("there is no key `{}`", text(key)))
}

fn differs(key: &[u8], previous: Option<&kv::Previous>) -> CliError {
    let holds = match previous {
        None => "is missing".to_owned(),
        Some(kv::Previous { index, value: Some(value) }) => {
            format!("holds `{}` since entry {index}", text(value))
        }
        Some(kv::Previous { index, value: None }) => format!("holds another, long value since entry {index}"),
    };
    CliError::new(Code::CompareFailed, format!("`{}` {holds}", text(key)))
}

/// The answer does not fit the question: another program, or another version, serves there.
fn strange() -> CliError {
    CliError::new(Code::Failed, "the cluster's answer is not a key-value store's")
        .hint("does the cluster run another machine, or a newer raftgram?")
}
