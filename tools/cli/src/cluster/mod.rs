//! `cluster`: several nodes on this machine.

mod folders;
pub(crate) mod processes;
mod up;

use clap::Subcommand;
use slog::Logger;

use crate::error::CliError;
use crate::log::LogLevel;
use crate::output::Format;
use crate::reach::Reach;

/// Several nodes on this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Start a cluster on loopback and keep it until Ctrl-C or SIGTERM.
    Up(up::Up),
}

impl Cluster {
    pub(crate) fn run(
        self,
        reach: &Reach,
        format: Format,
        level: LogLevel,
        logger: &Logger,
    ) -> Result<(), CliError> {
        match self {
            Self::Up(up) => up.run(reach, format, level, logger),
        }
    }
}
