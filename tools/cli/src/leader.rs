//! `leader`: who leads, and handing that over.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use raftgram::client::Answer;
use raftgram::types::NodeId;
use serde::Serialize;

use crate::error::CliError;
use crate::node::node_id;
use crate::output::Format;
use crate::reach::Reach;

/// How long it may take unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Who leads.
#[derive(Debug, Args)]
pub(crate) struct Leader {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Hand leadership to a voter, or to the one that holds most of the log, and wait until it leads.
    Transfer {
        /// To whom.
        #[arg(value_name = "ID", value_parser = node_id)]
        node: Option<NodeId>,
    },
}

#[derive(Debug, Serialize)]
struct Transferred {
    leader: u16,
    term: u64,
    elapsed_ms: u64,
}

impl Leader {
    pub(crate) fn run(&self, reach: &Reach, format: Format) -> Result<(), CliError> {
        let Operation::Transfer { node } = self.operation;
        let began = Instant::now();
        let timeout = reach.timeout_or(TIMEOUT);
        let client = reach.connect()?;
        match reach.wait(client.transfer_leadership(node, timeout), timeout)? {
            Answer::Transferred { leader, term } => {
                let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                let transferred = Transferred { leader: leader.as_u16(), term: term.0, elapsed_ms };
                format.answer(&transferred, |_| {
                    format!("{} leads in term {}, after {elapsed_ms} ms\n", leader.as_u16(), term.0)
                })
            }
            other => unreachable!("a transfer was asked for, not {other:?}"),
        }
    }
}
