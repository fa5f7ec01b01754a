//! The wire seen by people: datagrams taken apart.

mod capture;
mod decode;

use clap::Subcommand;

use crate::error::CliError;
use crate::output::Format;

/// Datagrams and test vectors.
#[derive(Debug, Subcommand)]
pub(crate) enum Wire {
    /// Take datagrams apart: every field, and why a receiver would drop it.
    Decode(decode::Decode),
}

impl Wire {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        match self {
            Self::Decode(decode) => decode.run(format),
        }
    }
}
