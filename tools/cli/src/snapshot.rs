//! `snapshot take`: every node named writes its state down and drops the log below.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use raftgram::client::Answer;
use raftgram::handle::Client;
use raftgram::snapshot::SnapshotMeta;
use raftgram::types::Index;
use serde::Serialize;

use crate::error::{CliError, Code};
use crate::output::Format;
use crate::reach::Reach;

/// How long a node may take unless told otherwise: a large state is written at the speed of its disk.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks at a node that writes.
const PAUSE: Duration = Duration::from_millis(20);

/// Snapshots of the replicated state.
#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    operation: Operation,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Operation {
    /// Have each node named by --cluster write a snapshot of what it has applied and drop the log below it.
    Take,
}

/// One node's snapshot.
#[derive(Debug, Serialize)]
struct Row {
    addr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<Taken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Taken {
    index: u64,
    term: u64,
    bytes: u64,
    digest: String,
}

impl Taken {
    fn of(meta: &SnapshotMeta) -> Self {
        let (index, term) = (meta.id.index.0, meta.id.term.0);
        Self { index, term, bytes: meta.bytes, digest: format!("{:016x}", meta.digest) }
    }
}

#[derive(Debug, Serialize)]
struct Rows {
    nodes: Vec<Row>,
}

impl Snapshot {
    pub(crate) fn run(&self, reach: &Reach, format: Format) -> Result<(), CliError> {
        let Operation::Take = self.operation;
        let began = Instant::now();
        let client = reach.connect()?;
        let mut nodes = Vec::new();
        let mut fault: Option<CliError> = None;
        for (server, address) in reach.addresses.iter().enumerate() {
            let deadline = Instant::now() + reach.timeout_or(TIMEOUT);
            let row = |snapshot, error| Row { addr: address.to_string(), snapshot, error };
            match take(reach, &client, server, deadline) {
                Ok(meta) => nodes.push(row(Some(Taken::of(&meta)), None)),
                Err(error) => {
                    nodes.push(row(None, Some(error.to_string())));
                    fault = fault.or_else(|| Some(error.at(address).after(began.elapsed())));
                }
            }
        }
        let rows = Rows { nodes };
        match fault {
            // One document: the failure names the node.
            Some(fault) if format.is_json() => Err(fault),
            fault => {
                format.answer(&rows, |format| rows.text(format))?;
                fault.map_or(Ok(()), Err)
            }
        }
    }
}

/// Has one node take a snapshot, and waits until it or a later one is in force.
pub(crate) fn take(
    reach: &Reach,
    client: &Client,
    server: usize,
    deadline: Instant,
) -> Result<SnapshotMeta, CliError> {
    let mut through = Index(0);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CliError::new(Code::TimedOut, "the snapshot is not finished in time")
                .hint("it goes on by itself; --timeout waits longer"));
        }
        let (taken, in_force) = match reach.wait(client.take_snapshot(server, through, left), left)? {
            Answer::Snapshot { taken, in_force } => (taken, in_force),
            other => unreachable!("a snapshot was asked for, not {other:?}"),
        };
        if taken == Index(0) {
            return Err(CliError::new(Code::Failed, "the node has applied nothing yet"));
        }
        if taken < through {
            return Err(CliError::new(Code::Failed, "the node could not write its snapshot")
                .hint("is its disk full? its log says why"));
        }
        // The first answer says through which index; what is taken later is another one's.
        through = if through == Index(0) { taken } else { through };
        if let Some(meta) = in_force.filter(|meta| meta.id.index >= through) {
            return Ok(meta);
        }
        std::thread::sleep(PAUSE);
    }
}

impl Rows {
    fn text(&self, format: Format) -> String {
        let cells = self.nodes.iter().map(|row| match (&row.snapshot, &row.error) {
            (Some(taken), _) => vec![
                row.addr.clone(),
                taken.index.to_string(),
                taken.term.to_string(),
                taken.bytes.to_string(),
                taken.digest.clone(),
            ],
            (None, error) => {
                let error = error.clone().unwrap_or_default();
                vec![row.addr.clone(), error, String::new(), String::new(), String::new()]
            }
        });
        format.table(&["address", "index", "term", "bytes", "digest"], &cells.collect::<Vec<_>>())
    }
}
