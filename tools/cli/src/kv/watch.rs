//! `kv watch`: what becomes of keys, as it happens.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Instant;

use clap::Args;
use raftgram::client::{ClientError, WatchedEvent};
use raftgram::handle::CallError;
use raftgram::kv::{self, Command, Query};
use raftgram::types::{Index, Term};
use raftgram::wire::client::ReadLevel;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::show::{put_bytes, text};
use super::{Store, strange};
use crate::error::{CliError, Code};
use crate::output::{Format, write};
use crate::reach::meaning;
use crate::units::Span;

/// What to watch, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Watched {
    /// What the keys begin with.
    #[arg(default_value = "")]
    prefix: OsString,
    /// Begin after this entry instead of now; what is too old is answered `compacted`.
    #[arg(long, value_name = "INDEX")]
    after: Option<u64>,
    /// Stop after this many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after this long.
    #[arg(long = "for", value_name = "SPAN")]
    span: Option<Span>,
}

/// What became of one key.
struct Event {
    key: Vec<u8>,
    /// None: it was deleted.
    value: Option<Vec<u8>>,
    index: Index,
    term: Term,
}

/// All of them, for one document.
#[derive(Serialize)]
struct Document {
    prefix: String,
    after: u64,
    through: u64,
    events: Vec<Event>,
}

/// The first line of a stream: from here on nothing is missed.
#[derive(Serialize)]
struct Began {
    event: &'static str,
    prefix: String,
    after: u64,
}

impl Store<'_> {
    /// Prints events until it is told to stop, or the cluster is away for longer than the timeout.
    pub(super) fn watch(&self, watched: Watched, format: Format) -> Result<(), CliError> {
        let Watched { prefix, after, count, span } = watched;
        if format == Format::Json && count.is_none() && span.is_none() {
            return Err(CliError::usage("one JSON document needs an end")
                .hint("--count N or --for SPAN says when, or --json-stream prints each event as it comes"));
        }
        let prefix = prefix.into_vec();
        let after = match after {
            Some(index) => Index(index),
            None => self.present(&prefix)?,
        };
        let mut document =
            Document { prefix: text(&prefix), after: after.0, through: after.0, events: Vec::new() };
        let began = Began { event: "watching", prefix: text(&prefix), after: after.0 };
        match format {
            Format::JsonStream => format.event(&began)?,
            Format::Terminal => eprintln!("watching `{}` after entry {after}; Ctrl-C ends it", text(&prefix)),
            Format::Json | Format::Plain => {}
        }
        let until = span.map(|span| Instant::now() + span.0);
        let mut events = self.client.watch(after, prefix);
        let mut seen = 0;
        while count.is_none_or(|count| seen < count) {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let patience = left.map_or(self.timeout, |left| left.min(self.timeout));
            let event = match events.next(patience) {
                Ok(Some(event)) => Event::of(&event)?,
                Ok(None) => continue,
                Err(CallError::Client(error)) => return Err(self.fault(&error)),
                Err(error) => return Err(CliError::new(Code::Failed, error.to_string())),
            };
            seen += 1;
            match format {
                Format::Json => document.events.push(event),
                Format::JsonStream => format.event(&event)?,
                Format::Terminal | Format::Plain => write(&event.line())?,
            }
        }
        document.through = events.through().0;
        if format == Format::Json { format.answer(&document, |_| String::new()) } else { Ok(()) }
    }

    /// The entry that a watch begins after that shall see everything from now on.
    fn present(&self, prefix: &[u8]) -> Result<Index, CliError> {
        let query = Query::List { prefix, after: None, rows_max: 1, bytes_max: 1 };
        self.ask(&query, ReadLevel::Linearizable, |_, index, _| Ok(index))
    }

    fn fault(&self, error: &ClientError) -> CliError {
        let fault = meaning(error).at(self.reach);
        match error {
            ClientError::Compacted { .. } => fault.hint(
                "`raftgram kv list --json` shows the present state and its index, to go on with by --after",
            ),
            _ => fault,
        }
    }
}

impl Event {
    fn of(watched: &WatchedEvent) -> Result<Self, CliError> {
        let WatchedEvent { index, term, event } = watched;
        let (key, value) = match Command::decode(event).map_err(|_| strange())? {
            Command::Put { key, value } => (key.to_vec(), Some(value.to_vec())),
            Command::Delete { key } => (key.to_vec(), None),
            kv::Command::Cas { .. } => return Err(strange()),
        };
        Ok(Self { key, value, index: *index, term: *term })
    }

    fn line(&self) -> String {
        match &self.value {
            Some(value) => format!("{}\tput\t{}\t{}\n", self.index, text(&self.key), text(value)),
            None => format!("{}\tdelete\t{}\n", self.index, text(&self.key)),
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("event", if self.value.is_some() { "put" } else { "delete" })?;
        put_bytes(&mut map, ["key", "key_hex"], &self.key)?;
        if let Some(value) = &self.value {
            put_bytes(&mut map, ["value", "value_hex"], value)?;
        }
        map.serialize_entry("index", &self.index.0)?;
        map.serialize_entry("term", &self.term.0)?;
        map.end()
    }
}
