//! Recorded traces, as docs/trace.md describes them.

mod check;
mod chrome;
mod diagram;
pub(crate) mod input;
mod lines;
mod packet;
mod pcap;
mod perfetto;

use std::path::Path;

use clap::Subcommand;

use crate::error::CliError;
use crate::output::Format;

/// What nodes and simulations recorded.
#[derive(Debug, Subcommand)]
pub(crate) enum Trace {
    /// Read traces, hold every line against the schema, and count what happened. Exit 6 if a line does not stand.
    Check(check::Check),
    /// Make a pcapng file of recorded datagrams, with what became of each as a comment.
    Pcap(pcap::Pcap),
    Diagram(diagram::Diagram),
    Perfetto(perfetto::Perfetto),
}

impl Trace {
    pub(crate) fn run(&self, key_file: Option<&Path>, format: Format) -> Result<(), CliError> {
        match self {
            Self::Check(check) => check.run(format),
            Self::Pcap(pcap) => pcap.run(key_file, format),
            Self::Diagram(diagram) => diagram.run(format),
            Self::Perfetto(perfetto) => perfetto.run(format),
        }
    }
}
