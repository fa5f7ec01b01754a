//! Recorded traces, as docs/trace.md describes them.

mod check;

use clap::Subcommand;

use crate::error::CliError;
use crate::output::Format;

/// What nodes and simulations recorded.
#[derive(Debug, Subcommand)]
pub(crate) enum Trace {
    /// Read traces, hold every line against the schema, and count what happened. Exit 6 if a line does not stand.
    Check(check::Check),
}

impl Trace {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        match self {
            Self::Check(check) => check.run(format),
        }
    }
}
