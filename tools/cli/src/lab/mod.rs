//! Experiments: a scenario runs on the simulator or on node processes, and leaves a folder that reports are made of.

pub(crate) mod report;
pub(crate) mod run_folder;

use clap::Subcommand;

use crate::error::CliError;
use crate::output::Format;

/// Experiments with pictures: a cluster under faults, and what clients saw of it.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    Report(report::Report),
}

impl Lab {
    pub(crate) fn run(self, format: Format) -> Result<(), CliError> {
        match self {
            Self::Report(report) => report.run(format),
        }
    }
}
