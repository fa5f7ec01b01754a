//! `node`: one node in the foreground, until it is told to stop or cannot go on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use raftgram::handle;
use raftgram::kv;
use raftgram::node::{LiveFaults, LoadError, NodeConfig, PullConfig};
use raftgram::rpc::{SealConfig, WireLevel};
use raftgram::run::boot::{self, IfBlank, NodeOptions, StartError};
use raftgram::run::node::RunError;
use raftgram::seal::SealMode;
use raftgram::store::{Fsync, OpenError, SEGMENT_BYTES, SnapshotError};
use raftgram::types::{ClusterId, NodeId};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use slog::{Logger, info, warn};

use crate::address::Address;
use crate::beacon;
use crate::error::{CliError, Code};
use crate::faults::Faults;
use crate::http::Face;
use crate::key;
use crate::log::{Dial, Turn};
use crate::output::Format;
use crate::supervise;
use crate::tempo::Tempo;
use crate::units::{Bytes, Share};
use crate::wire::cluster_id;

/// Run one node in the foreground. SIGTERM and Ctrl-C hand leadership over and exit 0; SIGUSR1 logs one level more,
/// SIGUSR2 one level less.
#[derive(Debug, Args)]
pub(crate) struct Node {
    /// The node's number, 1 to 65534.
    #[arg(long, value_name = "N", value_parser = node_id)]
    id: NodeId,
    /// Where to listen.
    #[arg(long, value_name = "ADDR")]
    listen: Address,
    /// Hear clients here, too, on a socket of their own: then they are in no node's way. Name these addresses to them.
    #[arg(long, value_name = "ADDR")]
    client_listen: Option<Address>,
    /// How to speak with other nodes, the same way on all of them. TCP is for comparison only: one lost packet holds up
    /// all that was sent after it. Clients speak UDP either way.
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    transport: Transport,
    /// Where others reach it, if that is not where it listens.
    #[arg(long, value_name = "ADDR")]
    advertise: Option<Address>,
    /// Send to a node here instead of where it advertises.
    #[arg(long, value_name = "ID=ADDR", value_parser = node_at)]
    route: Vec<(NodeId, Address)>,
    /// All voters, this node included: read when the data folder is blank.
    #[arg(long, value_name = "1=ADDR,2=ADDR,3=ADDR", value_delimiter = ',', required = true, value_parser = node_at)]
    voters: Vec<(NodeId, Address)>,
    /// The data folder.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Found a cluster together with all other voters, if the data folder is blank.
    #[arg(long, conflicts_with = "join")]
    bootstrap: bool,
    /// Join the cluster that the voters belong to, if the data folder is blank.
    #[arg(long)]
    join: bool,
    /// Refuse to start on the data of another cluster.
    #[arg(long, value_name = "ID", value_parser = cluster_id)]
    cluster_id: Option<ClusterId>,
    /// Which datagrams to take: plain ones, both, or sealed ones only. With --key: sealed ones only.
    #[arg(long, value_enum, value_name = "MODE")]
    seal: Option<Seal>,
    /// Append the secrets of all sessions to this file, for `wire decode --key`: whoever reads it can read the traffic.
    #[arg(long, value_name = "FILE")]
    key_log: Option<PathBuf>,
    /// Write without waiting for the disk: for measurements only, a machine crash loses data.
    #[arg(long)]
    no_fsync: bool,
    /// Record what the node sends, gets and becomes, in a file for each of its boots; `trace` reads them.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Serve a dashboard, /metrics, /health and /ready here, to be looked at and not to change anything.
    #[arg(long, value_name = "ADDR")]
    http: Option<Address>,
    /// Answer `raftgram discover` on this network, at this multicast group or address: tells whoever asks the members'
    /// addresses and the cluster's id.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = beacon::GROUP)]
    beacon: Option<Address>,
    /// Pull snapshots from other nodes no faster than this, per second.
    #[arg(long, value_name = "SIZE")]
    pull_rate: Option<Bytes>,
    /// Keep so much of the log that a snapshot covers, for followers that are a little behind.
    #[arg(long, value_name = "SIZE")]
    log_tail: Option<Bytes>,
    /// Answer lease reads without asking the others, which is safe while no node's clock runs more than this fast or
    /// slow. Suspended time counts, but the clock of a virtual machine stands still while its host has stopped, moved
    /// or restored it: not there. Without it lease reads are served as linearizable reads.
    #[arg(long, value_name = "P")]
    lease_drift: Option<Share>,
    #[command(flatten)]
    tempo: Tempo,
    /// Let administrators put faults on this node's links while it runs: `raftgram fault`. For experiments.
    #[arg(long)]
    allow_faults: bool,
    #[command(flatten)]
    faults: Faults,
    /// Say hello as the version after this one would: for tests of rolling upgrades.
    #[arg(long, hide = true)]
    next_wire_level: bool,
    /// Stop when stdin closes, so that no node outlives the process that started it.
    #[arg(long, hide = true)]
    leashed: bool,
}

/// What carries datagrams between nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    #[default]
    Udp,
    Tcp,
}

impl Transport {
    /// As flags of `raftgram node`; none where nothing else is wanted.
    pub(crate) fn arguments(self) -> Vec<String> {
        match self {
            Self::Udp => Vec::new(),
            Self::Tcp => vec!["--transport".to_owned(), "tcp".to_owned()],
        }
    }
}

/// Which datagrams a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Seal {
    /// Plain ones only.
    Off,
    /// Both, and sealed ones are sent to whoever can read them: for the time of a change.
    Accept,
    /// Sealed ones only.
    Require,
}

impl Node {
    pub(crate) fn run(
        self,
        key_file: Option<&Path>,
        format: Format,
        logger: &Logger,
        dial: Dial,
    ) -> Result<(), CliError> {
        let (data, leashed, id) = (self.data.clone(), self.leashed, self.id);
        let http = self.http.as_ref().map(|address| Face::bind(address.resolve()?, logger)).transpose()?;
        let beacon_at = self.beacon.clone();
        let options = self.options(key_file, logger)?;
        let is_sealed = options.config.rpc.seal.mode != SealMode::Off;
        warn_of_openness(&options, logger);
        // Before the node starts: a signal that comes during its start is not lost.
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGUSR2])
            .map_err(|error| CliError::io("taking over signals", &error))?;
        let beacon = beacon_at.map(|address| beacon::Beacon::bind(address.resolve()?)).transpose()?;
        let node = handle::Node::start(options, kv::Kv::new()).map_err(|error| start_fault(&error))?;
        let http_address = http.as_ref().map(Face::address);
        if let Some(face) = http {
            face.serve(node.onlooker(), node.address())?;
        }
        if let Some(beacon) = beacon {
            beacon.answer(node.onlooker(), is_sealed, logger)?;
        }
        announce(format, id, node.address(), http_address)?;
        supervise::started(node.onlooker(), logger);
        let stop = node.stopper();
        let log = logger.clone();
        std::thread::spawn(move || {
            let mut is_stopping = false;
            for signal in signals.forever() {
                match signal {
                    SIGUSR1 => turn_log(&log, &dial, Turn::Up),
                    SIGUSR2 => turn_log(&log, &dial, Turn::Down),
                    // The second one ends the process at once: the first may wait for a handover.
                    _ if is_stopping => std::process::exit(i32::from(Code::Interrupted.exit())),
                    _ => {
                        is_stopping = true;
                        info!(log, "told to stop"; "signal" => signal);
                        supervise::stopping();
                        stop();
                    }
                }
            }
        });
        if leashed {
            follow_stdin(node.stopper(), node.recorder());
        }
        node.wait().map_err(|error| run_fault(&error).at(data.display()))
    }

    /// A key alone means that only sealed datagrams are taken.
    fn seal_config(&self, key_file: Option<&Path>) -> Result<SealConfig, CliError> {
        let mode = match (self.seal, key_file) {
            (Some(Seal::Off), _) | (None, None) => return Ok(SealConfig::default()),
            (Some(Seal::Accept), _) => SealMode::Accept,
            (Some(Seal::Require) | None, _) => SealMode::Require,
        };
        let Some(file) = key_file else {
            return Err(CliError::usage("sealed datagrams need a key")
                .hint("--key FILE names the key file; `raftgram key new FILE` makes one"));
        };
        let key_log = self.key_log.as_deref().map(key::log).transpose()?;
        Ok(SealConfig { key_log, ..SealConfig::with(mode, key::load(file)?) })
    }

    fn options(self, key_file: Option<&Path>, logger: &Logger) -> Result<NodeOptions, CliError> {
        let listen = self.listen.resolve()?;
        let advertise = match &self.advertise {
            Some(advertise) => advertise.to_string(),
            None if listen.ip().is_unspecified() => {
                return Err(CliError::usage(format!("nobody can reach a node at {listen}"))
                    .hint("--advertise says where others reach it"));
            }
            None => self.listen.to_string(),
        };
        let mut config = NodeConfig::new(self.id, advertise);
        if let Some(rate) = self.pull_rate {
            config.pull = PullConfig::at_rate(rate.0);
        }
        if let Some(tail) = self.log_tail {
            config.log_tail_bytes = usize::try_from(tail.0).unwrap_or(usize::MAX);
        }
        config.timing = self.tempo.timing();
        config.limits.disk_hang_timeout =
            config.limits.disk_hang_timeout.max(config.timing.election_timeout_max);
        config.lease_drift_ppm = self.lease_drift.map(Share::parts_per_million);
        if self.next_wire_level {
            config.rpc.wire_level = WireLevel::NEXT;
        }
        for (id, address) in &self.route {
            config.routes.insert(*id, address.resolve()?);
        }
        config.rpc.seal = self.seal_config(key_file)?;
        if self.allow_faults {
            config.live_faults = LiveFaults::Allowed;
        }
        let mut voters = BTreeMap::new();
        for (id, address) in &self.voters {
            if voters.insert(*id, address.to_string()).is_some() {
                return Err(CliError::usage(format!("--voters names node {} twice", id.as_u16())));
            }
        }
        let if_blank = match (self.bootstrap, self.join) {
            (true, _) => IfBlank::Bootstrap,
            (_, true) => IfBlank::Join,
            _ => IfBlank::Refuse,
        };
        let fsync = if self.no_fsync { Fsync::Off } else { Fsync::On };
        let client_listen = self.client_listen.as_ref().map(Address::resolve).transpose()?;
        let (cluster, faults, data) = (self.cluster_id, self.faults.links()?, self.data);
        Ok(NodeOptions {
            config,
            listen,
            client_listen,
            transport: match self.transport {
                Transport::Udp => boot::Transport::Udp,
                Transport::Tcp => boot::Transport::Tcp,
            },
            voters,
            data,
            if_blank,
            segment_bytes: SEGMENT_BYTES,
            cluster,
            fsync,
            faults,
            record: self.record,
            spin: self.tempo.spin(),
            logger: logger.clone(),
        })
    }
}

/// Who listens beyond loopback and takes plain datagrams is told so at every start.
fn warn_of_openness(options: &NodeOptions, logger: &Logger) {
    let listens = [Some(options.listen), options.client_listen];
    let Some(listen) = listens.into_iter().flatten().find(|it| !it.ip().is_loopback()) else { return };
    match options.config.rpc.seal.mode {
        SealMode::Off => {
            warn!(logger, "listening beyond loopback without a key: whoever reaches this port can read and write";
                "listen" => %listen);
        }
        SealMode::Accept => {
            warn!(logger, "listening beyond loopback and accepting plain datagrams: whoever reaches this port can \
                read and write until --seal require"; "listen" => %listen);
        }
        SealMode::Require => {}
    }
}

/// Whoever may signal the process may change how much it logs.
fn turn_log(log: &Logger, dial: &Dial, turn: Turn) {
    let before = dial.level();
    if turn == Turn::Up {
        dial.turn(turn);
        info!(log, "the log level is changed"; "from" => %before, "to" => %dial.level());
    } else {
        info!(log, "the log level is changed"; "from" => %before, "by" => "one level less");
        dial.turn(turn);
    }
}

/// Says where it listens, to programs that read a stream; people read the log, and `--json` is one document.
fn announce(
    format: Format,
    id: NodeId,
    address: SocketAddr,
    http: Option<SocketAddr>,
) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Listening {
        event: &'static str,
        id: u16,
        addr: SocketAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        http: Option<SocketAddr>,
        pid: u32,
    }
    if format != Format::JsonStream {
        return Ok(());
    }
    format.event(&Listening {
        event: "listening",
        id: id.as_u16(),
        addr: address,
        http,
        pid: std::process::id(),
    })
}

/// Stops the node at the end of stdin: the other end of the pipe closes when its process dies, however it dies. Until
/// then the line `record DIR` begins a recording, and `record` ends it.
fn follow_stdin(stop: impl Fn() + Send + 'static, record: impl Fn(Option<PathBuf>) + Send + 'static) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            // What is no text is nobody's who holds the leash.
            let Ok(line) = line else { break };
            match line.split_once(' ') {
                Some(("record", folder)) => record(Some(folder.into())),
                None if line == "record" => record(None),
                _ => {}
            }
        }
        stop();
    });
}

pub(crate) fn node_id(text: &str) -> Result<NodeId, String> {
    let number = text.parse::<u16>().ok();
    number.and_then(NodeId::new).ok_or_else(|| format!("`{text}` is no node number: use 1 to 65534"))
}

pub(crate) fn node_at(text: &str) -> Result<(NodeId, Address), String> {
    let (id, address) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is not ID=ADDR, such as 1=7101"))?;
    Ok((node_id(id)?, address.parse()?))
}

/// A refused start, with the thing and the way out.
fn start_fault(error: &StartError) -> CliError {
    let text = error.to_string();
    match error {
        StartError::FolderBlank { folder } => CliError::new(Code::Corrupt, text).at(folder.display()).hint(
            "--bootstrap founds a new cluster, --join joins one; if this node had data, look for it before either",
        ),
        StartError::FolderRestored { folder } => CliError::new(Code::Failed, text)
            .at(folder.display())
            .hint("--bootstrap founds the new cluster, with all voters restored from the same backup"),
        StartError::FolderLocked { folder } => {
            CliError::new(Code::Failed, text).at(folder.display()).hint("stop the other node, or use another --data")
        }
        StartError::Bind { address, .. } => {
            CliError::new(Code::Failed, text).at(address).hint("another program may listen there; try another port")
        }
        StartError::Open { folder, error } => {
            let is_callers = matches!(
                error,
                OpenError::ForeignCluster { .. }
                    | OpenError::NewerFormat { .. }
                    | OpenError::FormatUnfinished
                    | OpenError::Full
                    | OpenError::Disk(_)
            );
            let code = if is_callers { Code::Failed } else { Code::Corrupt };
            let hint = match error {
                OpenError::Full => "make room on its disk; nothing in the folder is lost",
                _ => "`raftgram inspect` shows what the folder holds",
            };
            CliError::new(code, text).at(folder.display()).hint(hint)
        }
        StartError::Folder { folder, .. } | StartError::Record { folder, .. } => {
            CliError::new(Code::Failed, text).at(folder.display())
        }
        StartError::NotAVoter { .. } => CliError::usage(text).hint("--voters must list this node's --id too"),
        StartError::Config(_) => CliError::usage(text),
        StartError::Address { address, .. } => CliError::new(Code::Failed, text).at(address),
        _ => CliError::new(Code::Failed, text),
    }
}

fn run_fault(error: &RunError) -> CliError {
    let is_damaged =
        matches!(error, RunError::Snapshot(LoadError::File(SnapshotError::Damaged(_)) | LoadError::State(_)));
    match is_damaged {
        true => CliError::new(Code::Corrupt, error.to_string())
            .hint("the other nodes have the data; keep this folder until they are seen to be well"),
        false => CliError::new(Code::Failed, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_is_a_number_and_an_address() {
        let (id, address) = node_at("2=7102").unwrap();
        assert_eq!((id.as_u16(), address.to_string().as_str()), (2, "127.0.0.1:7102"));
        assert_eq!(node_at("7102"), Err("`7102` is not ID=ADDR, such as 1=7101".into()));
        assert_eq!(node_at("0=7102"), Err("`0` is no node number: use 1 to 65534".into()));
        assert!(node_at("1=host").is_err());
    }
}
