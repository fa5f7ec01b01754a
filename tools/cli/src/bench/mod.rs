//! Measuring. Every figure stands beside the settings it was taken with; a figure without them is nobody's.

mod baseline;
mod chain;
mod echo;
mod floor;
mod history;
mod kv;
mod link;
pub(crate) mod load;
mod peer;
pub(crate) mod report;
mod rpc;
pub(crate) mod socket;
mod sockets;
mod udp;

pub(crate) use socket::kernel_drops_of_all;

use clap::Subcommand;
use slog::Logger;

use crate::error::CliError;
use crate::output::Format;
use crate::reach::Reach;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Ping-pong between two processes over loopback UDP: the floor under every commit.
    Udp(udp::Udp),
    /// Four processes that only move datagrams, as a commit does: the floor under every Raft.
    Chain(chain::Chain),
    /// Calls between two ends of the RPC layer, plain and sealed in turns.
    Rpc(rpc::Rpc),
    /// Reads and writes of a running cluster.
    Kv(kv::Kv),
    /// The other process of `bench udp`.
    #[command(hide = true)]
    UdpEcho(echo::Echo),
    /// Another process of `bench chain`.
    #[command(hide = true)]
    ChainLink(link::Link),
}

impl Bench {
    pub(crate) fn run(self, reach: &Reach, format: Format, logger: &Logger) -> Result<(), CliError> {
        match self {
            Self::Chain(chain) => chain.run(format, logger),
            Self::ChainLink(link) => link.run(),
            Self::Kv(kv) => kv.run(reach, format, logger),
            Self::Rpc(rpc) => rpc.run(format, logger),
            Self::Udp(udp) => udp.run(format, logger),
            Self::UdpEcho(echo) => echo.run(),
        }
    }
}
