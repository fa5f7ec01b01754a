//! The command tree. Each option can also come from the environment or a file; config.rs adds those sources, so
//! that they are the same for every command.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::address::Address;
use crate::backup;
use crate::bench;
use crate::check;
use crate::cluster;
use crate::discover;
use crate::docs;
use crate::doctor;
use crate::fault;
use crate::inspect;
use crate::key;
use crate::kv;
use crate::lab;
use crate::leader;
use crate::log::{LogFormat, LogLevel, LogSettings};
use crate::member;
use crate::node;
use crate::output::{Format, Json};
use crate::proxy;
use crate::reach::Reach;
use crate::recover;
use crate::sim;
use crate::snapshot;
use crate::status;
use crate::top;
use crate::trace;
use crate::units::Span;
use crate::wire;

/// Raft over UDP: node, client, load generator and wire tools.
#[derive(Debug, Parser)]
#[command(name = "raftgram", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable or timed out, 4 not found or compare \
failed, 5 no leader or no quorum, 6 corrupt data, 7 a checked property is violated, 8 inconclusive, 130 interrupted.";

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Print one JSON document, also for a failure.
    #[arg(long, global = true, conflicts_with = "json_stream")]
    json: bool,
    /// Print a JSON document per line as things happen.
    #[arg(long, global = true)]
    json_stream: bool,
    /// Read defaults from this TOML file.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any of the cluster's nodes; a bare port is on loopback. Without it: 7101,7102,7103.
    #[arg(long, global = true, value_name = "A,B,C", value_delimiter = ',')]
    cluster: Vec<Address>,
    /// Give up after this long.
    #[arg(long, global = true, value_name = "SPAN")]
    timeout: Option<Span>,
    /// The key file of a sealed cluster; its keys never stand on a command line.
    #[arg(
        id = "key_file",
        long = "key",
        global = true,
        value_name = "FILE",
        env = "RAFTGRAM_KEY_FILE",
        hide_env_values = true
    )]
    key_file: Option<PathBuf>,
    /// Log this much to stderr.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,
    /// How log lines are written.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

impl Global {
    /// The cluster to speak to.
    pub(crate) fn reach(&self) -> Reach {
        Reach::new(&self.cluster, self.timeout, self.key_file.clone())
    }

    /// The key file, if one was named.
    pub(crate) fn key_file(&self) -> Option<&Path> {
        self.key_file.as_deref()
    }

    /// How to log.
    pub(crate) fn log(&self) -> LogSettings {
        LogSettings { level: self.log_level, format: self.log_format }
    }

    /// How to write answers.
    pub(crate) fn format(&self) -> Format {
        Format::choose(match (self.json, self.json_stream) {
            (true, _) => Json::Document,
            (_, true) => Json::Stream,
            _ => Json::No,
        })
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Several nodes on this machine.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Run one node in the foreground.
    Node(Box<node::Node>),
    /// Read and write the key-value store.
    Kv(kv::Kv),
    /// Show a row per node, unreachable ones included.
    Status(status::Status),
    Top(top::Top),
    Member(member::Member),
    Leader(leader::Leader),
    Snapshot(snapshot::Snapshot),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Recover(recover::Recover),
    /// Measure, and print the settings beside every figure.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Judge whether a recorded history is linearizable.
    Check(check::Check),
    #[command(subcommand)]
    Fault(fault::Fault),
    /// Keys for sealed clusters.
    #[command(subcommand)]
    Key(key::KeyCommand),
    #[command(subcommand)]
    Lab(lab::Lab),
    Proxy(Box<proxy::Proxy>),
    /// Run clusters in virtual time under faults, from seeds.
    Sim(sim::Sim),
    /// What nodes and simulations recorded.
    #[command(subcommand)]
    Trace(trace::Trace),
    /// Datagrams and test vectors.
    #[command(subcommand)]
    Wire(wire::Wire),
    /// Look at the data folder of a node that is not running.
    Inspect(inspect::Inspect),
    /// Look at what this machine gives a node, and how to give it more.
    Doctor(doctor::Doctor),
    /// List the nodes on this network that answer, and how to join them.
    Discover(discover::Discover),
    /// Show where each setting comes from.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell.
    Completions(docs::Completions),
    /// Write manual pages into a folder.
    Man(docs::Man),
}

/// Questions about settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting: flags over RAFTGRAM_* environment over the TOML file over defaults.
    Show {
        /// Only settings that begin with this, such as `bench-udp`.
        prefix: Option<String>,
    },
}
