//! `cluster up`: n node processes on loopback, one terminal.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use raftgram::client::Answer;
use raftgram::kv::Query;
use raftgram::wire::client::ReadLevel;
use serde::Serialize;
use slog::{Logger, info, warn};

use super::folders::{self, Start};
use super::processes::{self, Process};
use crate::error::{CliError, Code};
use crate::faults::Faults;
use crate::interrupt::Interrupt;
use crate::key;
use crate::log::LogSettings;
use crate::node::Transport;
use crate::output::{self, Format};
use crate::reach::Reach;
use crate::tempo::Tempo;
use crate::units::{Share, Span};

/// How often the processes and the signal are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Start a cluster on loopback and keep it until Ctrl-C or SIGTERM. Prints `ready ADDR,…` once a leader serves.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// How many nodes.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=255))]
    nodes: u16,
    /// Node i keeps its data in DIR/i.
    #[arg(long, value_name = "DIR", default_value = "raftgram-data")]
    dir: PathBuf,
    /// Keep the data in a temporary folder and remove it at the end.
    #[arg(long, conflicts_with = "dir")]
    temp: bool,
    /// Node i listens on this port + i - 1.
    #[arg(long, value_name = "PORT", default_value_t = 7101, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Node i serves its dashboard and metrics over HTTP at this port + i - 1; see `node --http`.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    http: Option<u16>,
    /// The address to listen on.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// How the nodes speak with each other. TCP is for comparison only; clients speak UDP either way.
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    transport: Transport,
    /// Write without waiting for the disk: for measurements only, a machine crash loses data.
    #[arg(long)]
    no_fsync: bool,
    /// Lease reads, while no node's clock runs more than this fast or slow; see `node --lease-drift`.
    #[arg(long, value_name = "P")]
    lease_drift: Option<Share>,
    /// Wait this long for a leader.
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    patience: Span,
    /// Record what the nodes send, get and become, in a file for each boot of each; `trace` reads them.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    #[command(flatten)]
    tempo: Tempo,
    /// Let administrators put faults on links while the nodes run: `raftgram fault`. For experiments.
    #[arg(long)]
    allow_faults: bool,
    #[command(flatten)]
    faults: Faults,
}

#[derive(Debug, Serialize)]
struct Ready {
    event: &'static str,
    nodes: Vec<ReadyNode>,
}

#[derive(Debug, Serialize)]
struct ReadyNode {
    id: u16,
    addr: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<SocketAddr>,
    pid: u32,
}

impl Up {
    pub(crate) fn run(
        self,
        reach: &Reach,
        format: Format,
        log: LogSettings,
        logger: &Logger,
    ) -> Result<(), CliError> {
        let addresses = self.addresses(self.port)?;
        let http = self.http.map(|port| self.addresses(port)).transpose()?.unwrap_or_default();
        self.check_http_ports(&http)?;
        self.faults.links()?;
        check_ports(&addresses, self.transport)?;
        if let Some(file) = reach.key_file() {
            key::load(file)?;
        }
        let temporary = self.temp.then(tempfile::tempdir).transpose();
        let temporary = temporary.map_err(|error| CliError::io("making a temporary folder", &error))?;
        let dir = temporary.as_ref().map_or(self.dir.as_path(), |folder| folder.path());
        let ids = 1..=self.nodes;
        let starts = folders::plan(&folders::look(dir, ids.clone())?);
        tell_plan(&starts, dir, logger);

        let interrupt = Interrupt::install()?;
        let mut nodes = Vec::new();
        for (id, start) in ids.zip(&starts) {
            nodes.push(Process::start(
                id,
                &self.arguments(id, *start, dir, &addresses, log, reach.key_file()),
                log.format,
            )?);
        }
        let served = self.wait_until_served(reach, &addresses, &mut nodes, &interrupt);
        let served = served.and_then(|served| match served {
            Served::Yes => announce(format, &addresses, &http, &nodes)
                .and_then(|()| keep(&mut nodes, &interrupt, logger)),
            Served::Interrupted => Ok(()),
        });
        let ended_well = processes::stop(&mut nodes);
        served?;
        if !ended_well {
            return Err(CliError::new(Code::Failed, "a node did not stop well; its log above says why"));
        }
        Ok(())
    }

    fn addresses(&self, port: u16) -> Result<Vec<SocketAddr>, CliError> {
        let last = u32::from(port) + u32::from(self.nodes) - 1;
        if last > u32::from(u16::MAX) {
            let message = format!("{} nodes from port {} need ports up to {last}", self.nodes, port);
            return Err(CliError::usage(message).hint("the highest port is 65535"));
        }
        Ok((0..self.nodes).map(|place| SocketAddr::new(self.address, port + place)).collect())
    }

    /// Found before any node is started, as the nodes' own are.
    fn check_http_ports(&self, addresses: &[SocketAddr]) -> Result<(), CliError> {
        for address in addresses {
            TcpListener::bind(address).map_err(|error| {
                CliError::new(Code::Failed, format!("the port cannot be used: {error}"))
                    .at(address)
                    .hint("another program may listen there; choose other ports with --http")
            })?;
        }
        Ok(())
    }

    /// The arguments of `raftgram node` for node `id`.
    fn arguments(
        &self,
        id: u16,
        start: Start,
        dir: &Path,
        addresses: &[SocketAddr],
        log: LogSettings,
        key_file: Option<&Path>,
    ) -> Vec<String> {
        let voters: Vec<String> =
            (1..).zip(addresses).map(|(id, address): (u16, _)| format!("{id}={address}")).collect();
        let listen = addresses[usize::from(id) - 1].to_string();
        let data = folders::folder(dir, id).to_string_lossy().into_owned();
        let pairs = [
            ("--id", id.to_string()),
            ("--listen", listen),
            ("--voters", voters.join(",")),
            ("--data", data),
            ("--log-level", log.level.to_string()),
            ("--log-format", log.format.to_string()),
        ];
        let mut arguments: Vec<String> =
            pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        // The cluster may have been founded at other ports.
        let others = (1..).zip(addresses).filter(|(other, _): &(u16, _)| *other != id);
        arguments
            .extend(others.flat_map(|(other, address)| ["--route".to_owned(), format!("{other}={address}")]));
        arguments.extend(start.flag().map(str::to_owned));
        arguments.extend(self.transport.arguments());
        arguments.extend(self.no_fsync.then(|| "--no-fsync".to_owned()));
        arguments.extend(self.tempo.arguments());
        arguments.extend(self.allow_faults.then(|| "--allow-faults".to_owned()));
        arguments.extend(
            self.lease_drift.into_iter().flat_map(|drift| ["--lease-drift".to_owned(), drift.to_string()]),
        );
        let http = self.http.map(|port| SocketAddr::new(self.address, port + id - 1));
        arguments.extend(http.into_iter().flat_map(|at| ["--http".to_owned(), at.to_string()]));
        let record = self.record.as_ref().map(|dir| dir.to_string_lossy().into_owned());
        arguments.extend(record.into_iter().flat_map(|dir| ["--record".to_owned(), dir]));
        arguments.extend(self.faults.arguments(u64::from(id)));
        if let Some(file) = key_file {
            arguments.extend(["--key".to_owned(), file.to_string_lossy().into_owned()]);
        }
        arguments.push("--leashed".to_owned());
        arguments
    }

    /// Asks over the wire until a leader has answered a linearizable read.
    fn wait_until_served(
        &self,
        reach: &Reach,
        addresses: &[SocketAddr],
        nodes: &mut [Process],
        interrupt: &Interrupt,
    ) -> Result<Served, CliError> {
        let began = Instant::now();
        let client = reach.connect_to(addresses)?;
        let read = client.read(Query::Get { key: b"" }.to_bytes(), ReadLevel::Linearizable, self.patience.0);
        let fault = |code, message: String| {
            CliError::new(code, message).after(began.elapsed()).hint("the nodes' logs above say why")
        };
        loop {
            match read.wait(LOOK) {
                Ok(Ok(Answer::Read { .. })) => return Ok(Served::Yes),
                Ok(Ok(_)) => {
                    return Err(fault(Code::Failed, "a node answered a read with something else".into()));
                }
                Ok(Err(error)) => return Err(fault(Code::NoLeader, error.to_string())),
                Err(_) if interrupt.is_raised() => return Ok(Served::Interrupted),
                Err(_) => {}
            }
            // A minority may be missing; a majority of the rest still elects a leader.
            let ended = nodes.iter_mut().filter_map(|node| Some((node.id, node.ended()?)));
            let ended: Vec<String> =
                ended.map(|(id, status)| format!("node {id} ended ({status})")).collect();
            if ended.len() * 2 >= nodes.len() {
                return Err(fault(Code::Failed, format!("no quorum is left: {}", ended.join(", "))));
            }
        }
    }
}

enum Served {
    Yes,
    Interrupted,
}

fn announce(
    format: Format,
    addresses: &[SocketAddr],
    http: &[SocketAddr],
    nodes: &[Process],
) -> Result<(), CliError> {
    if format.is_json() {
        let http_of = |process: &Process| http.get(usize::from(process.id) - 1).copied();
        let node = |(addr, process): (&SocketAddr, &Process)| ReadyNode {
            id: process.id,
            addr: *addr,
            http: http_of(process),
            pid: process.pid(),
        };
        let nodes = addresses.iter().zip(nodes).map(node).collect();
        return format.event(&Ready { event: "ready", nodes });
    }
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    output::write(&format!("ready {}\n", names.join(",")))
}

/// Until a signal comes or nobody is left. Nodes that end are told of and not started again.
fn keep(nodes: &mut [Process], interrupt: &Interrupt, logger: &Logger) -> Result<(), CliError> {
    let mut gone = vec![false; nodes.len()];
    while !interrupt.is_raised() {
        for (node, gone) in nodes.iter_mut().zip(&mut gone) {
            if let (Some(status), false) = (node.ended(), *gone) {
                *gone = true;
                warn!(logger, "a node has ended"; "node" => node.id, "how" => %status);
            }
        }
        if gone.iter().all(|gone| *gone) {
            return Err(CliError::new(Code::Failed, "all nodes have ended; their logs above say why"));
        }
        std::thread::sleep(LOOK);
    }
    info!(logger, "stopping all nodes");
    Ok(())
}

/// Ports in use are found before any node is started.
fn check_ports(addresses: &[SocketAddr], transport: Transport) -> Result<(), CliError> {
    for address in addresses {
        let tried = UdpSocket::bind(address).and_then(|_| match transport {
            Transport::Udp => Ok(()),
            Transport::Tcp => TcpListener::bind(address).map(drop),
        });
        tried.map_err(|error| {
            CliError::new(Code::Failed, format!("the port cannot be used: {error}"))
                .at(address)
                .hint("another cluster may be up; stop it, or choose other ports with --port")
        })?;
    }
    Ok(())
}

fn tell_plan(starts: &[Start], dir: &Path, logger: &Logger) {
    let joining: Vec<String> = (1..)
        .zip(starts)
        .filter(|(_, start)| **start == Start::Join)
        .map(|(id, _): (u16, _)| id.to_string())
        .collect();
    if starts.contains(&Start::Bootstrap) {
        info!(logger, "founding a cluster"; "nodes" => starts.len(), "dir" => %dir.display());
    }
    if !joining.is_empty() {
        warn!(logger, "blank data folders beside founded ones: these nodes lost their data and only listen until they \
            take their old place by `raftgram member replace ID=ADDR`"; "nodes" => joining.join(","),
            "dir" => %dir.display());
    }
}
