//! The wire seen by people: datagrams taken apart, test vectors printed and held against other decoders.

mod capture;
mod decode;
pub(crate) mod opener;
mod vectors;

use std::path::Path;

use clap::Subcommand;

pub(crate) use decode::cluster_id;

use crate::error::CliError;
use crate::output::Format;

/// Datagrams and test vectors.
#[derive(Debug, Subcommand)]
pub(crate) enum Wire {
    /// Take datagrams apart: every field, and why a receiver would drop it.
    Decode(decode::Decode),
    /// Print the test vectors, or hold another decoder against them.
    Vectors(vectors::Vectors),
}

impl Wire {
    pub(crate) fn run(&self, key_file: Option<&Path>, format: Format) -> Result<(), CliError> {
        match self {
            Self::Decode(decode) => decode.run(key_file, format),
            Self::Vectors(vectors) => vectors.run(format),
        }
    }
}

/// Any bytes as a capture.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(bytes: &[u8]) {
    drop(capture::read(bytes));
}
