//! `bench rpc`: calls between two ends of the RPC layer, plain and sealed in turns.
//!
//! Both ends run in one thread, so what a datagram costs is the time of the run over the number of datagrams: made,
//! sent, received and applied, and its part of the acknowledgements. The two kinds take turns of a few hundredths of a
//! second, so that whatever else the machine does befalls both alike.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use raftgram::rng::Rng;
use raftgram::rpc::{Event, LinkId, Local, LocalRole, Output, Rpc as Room, RpcConfig, SealConfig};
use raftgram::run::random_rng;
use raftgram::seal::{Entropy, Key, KeyRing, KeyRole, SealMode, Secret, suite};
use raftgram::types::{BootNonce, CallId, ClusterId, Identity, Incarnation, NodeId, PacketNumber, StoreId};
use raftgram::wire::{Class, Greeting};
use serde::Serialize;
use slog::{Logger, info, warn};

use crate::bench::report::{Latency, histogram};
use crate::bench::socket::{self, Buffers, Waiting};
use crate::error::{CliError, Code};
use crate::interrupt::Interrupt;
use crate::output::Format;
use crate::units::{Bytes, Span};

/// How long one kind runs before it is the other's turn.
const TURN: Duration = Duration::from_millis(40);

/// A call that takes so long is counted as lost, and ends the measurement.
const PATIENCE: Duration = Duration::from_secs(2);

/// The largest body: that of an entry.
const SIZE_MAX: u64 = 16 << 20;

/// Calls between two ends of the RPC layer, plain and sealed in turns: what a datagram costs, and the seal.
#[derive(Debug, Args)]
pub(crate) struct Rpc {
    /// Measure each kind this long.
    #[arg(long, value_name = "SPAN", default_value = "3s")]
    duration: Span,
    /// Call this long before measuring.
    #[arg(long, value_name = "SPAN", default_value = "500ms")]
    warm_up: Span,
    /// The size of a call and of its answer.
    #[arg(long, value_name = "BYTES", default_value = "100B")]
    size: Bytes,
    /// Calls under way at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=512))]
    clients: u16,
    /// What carries the datagrams.
    #[arg(long, value_enum, default_value = "udp")]
    transport: Transport,
    /// Keep the measurement on this processor.
    #[arg(long, value_name = "N")]
    pin: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// Two sockets of the loopback address.
    Udp,
    /// Nothing: what is left is this layer's own work.
    Memory,
}

#[derive(Debug, Serialize)]
struct Settings {
    nodes: u8,
    fsync: bool,
    clients: u16,
    value_bytes: u64,
    loss: f64,
    rtt_us: Option<f64>,
    transport: &'static str,
    datagram_bytes_max: usize,
    cipher: &'static str,
    duration: String,
    warm_up: String,
    turn_ms: u128,
    threads: u8,
    pinned: Option<Vec<usize>>,
    kernel_drops: Option<u64>,
    socket_buffers: Option<Buffers>,
    build: &'static str,
    version: &'static str,
}

/// What one kind did.
#[derive(Debug, Serialize)]
struct Figures {
    ops: u64,
    errors: u64,
    unknown: u64,
    ops_per_s: f64,
    latency_us: Latency,
    datagrams: u64,
    bytes_per_datagram: f64,
    ns_per_datagram: f64,
}

/// The plain figures stand where those of every bench do.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    plain: Figures,
    sealed: Figures,
    /// Calls a second, sealed over plain.
    sealed_of_plain: f64,
    /// What a datagram costs more.
    seal_ns_per_datagram: f64,
    settings: Settings,
}

impl Rpc {
    pub(crate) fn run(self, format: Format, logger: &Logger) -> Result<(), CliError> {
        if self.size.0 > SIZE_MAX || self.duration.0.is_zero() {
            return Err(CliError::usage("--size is at most 16MiB, and --duration longer than nothing"));
        }
        let interrupt = Interrupt::install()?;
        if let Some(processor) = self.pin {
            socket::pin(processor)?;
        }
        if cfg!(debug_assertions) {
            warn!(logger, "this is a debug build; for figures use `cargo build --release`");
        }
        let sealed = self.config(true)?;
        let mut pairs = [self.pair(self.config(false)?)?, self.pair(sealed)?];
        let drops_before = socket::kernel_drops_of_all();
        info!(logger, "warming up"; "for" => %self.warm_up);
        self.play(&mut pairs, self.warm_up.0, &interrupt)?;
        pairs.iter_mut().for_each(Pair::forget);
        info!(logger, "measuring"; "for" => %self.duration, "each of" => 2);
        self.play(&mut pairs, self.duration.0, &interrupt)?;
        let kernel_drops =
            socket::kernel_drops_of_all().zip(drops_before).map(|(after, before)| after - before);
        let buffers = pairs[0].buffers;
        let [plain, sealed] = pairs.map(|pair| pair.figures());
        let document = Document {
            sealed_of_plain: sealed.ops_per_s / plain.ops_per_s,
            seal_ns_per_datagram: sealed.ns_per_datagram - plain.ns_per_datagram,
            settings: self.settings(buffers, kernel_drops),
            plain,
            sealed,
        };
        format.answer(&document, |format| {
            let rows = [("plain", &document.plain), ("sealed", &document.sealed)].map(|(kind, figures)| {
                let Figures { ops_per_s, latency_us, ns_per_datagram, bytes_per_datagram, .. } = figures;
                vec![
                    kind.to_owned(),
                    format!("{ops_per_s:.0}"),
                    format!("{:.1} us", latency_us.p50),
                    format!("{:.1} us", latency_us.p99),
                    format!("{ns_per_datagram:.0} ns"),
                    format!("{bytes_per_datagram:.0}"),
                ]
            });
            let headings = ["", "calls/s", "p50", "p99", "a datagram", "bytes"];
            let settings = serde_json::to_value(&document.settings).unwrap_or_default();
            let settings = settings.as_object().into_iter().flatten();
            let settings: Vec<Vec<String>> =
                settings.map(|(key, value)| vec![key.clone(), value.to_string()]).collect();
            format!(
                "{}sealed {:.1} % of plain, {:.0} ns more for each datagram\n\n{}",
                format.table(&headings, &rows),
                document.sealed_of_plain * 100.0,
                document.seal_ns_per_datagram,
                format.table(&["setting", "value"], &settings)
            )
        })
    }

    fn play(&self, pairs: &mut [Pair; 2], duration: Duration, interrupt: &Interrupt) -> Result<(), CliError> {
        while pairs.iter().any(|pair| pair.elapsed < duration) {
            for pair in &mut *pairs {
                pair.turn(usize::from(self.clients), self.size.0 as usize)?;
            }
            if interrupt.is_raised() {
                return Err(CliError::new(Code::Interrupted, "stopped before the end"));
            }
        }
        Ok(())
    }

    fn config(&self, is_sealed: bool) -> Result<RpcConfig, CliError> {
        let mut config = RpcConfig::default();
        if is_sealed {
            let suite = suite().ok_or_else(|| CliError::new(Code::Failed, "this build has no seal"))?;
            let mut rng = random_rng().map_err(|error| CliError::io("drawing a key", &error))?;
            let secret = Secret::new(core::array::from_fn(|_| rng.next_u64() as u8));
            let keys = KeyRing::new(suite, vec![Key { role: KeyRole::Cluster, secret }]);
            let keys = keys.map_err(|error| CliError::new(Code::Failed, error.to_string()))?;
            // What is measured here is nobody's secret.
            let entropy = Some(Entropy::new(Secret::new(core::array::from_fn(|_| rng.next_u64() as u8))));
            config.seal = SealConfig { entropy, ..SealConfig::with(SealMode::Require, Arc::new(keys)) };
        }
        Ok(config)
    }

    fn pair(&self, config: RpcConfig) -> Result<Pair, CliError> {
        let open = || socket::open(IpAddr::V4(Ipv4Addr::LOCALHOST), Waiting::Spinning);
        let (mut sockets, mut buffers) = ([None, None], None);
        let mut addresses = [1, 2].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        if self.transport == Transport::Udp {
            for (slot, address) in sockets.iter_mut().zip(&mut addresses) {
                let (socket, given) = open()?;
                *address =
                    socket.local_addr().map_err(|error| CliError::io("reading the own address", &error))?;
                (*slot, buffers) = (Some(socket), Some(given));
            }
        }
        Pair::new(config, sockets, addresses, buffers)
    }

    fn settings(&self, socket_buffers: Option<Buffers>, kernel_drops: Option<u64>) -> Settings {
        Settings {
            nodes: 2,
            fsync: false,
            clients: self.clients,
            value_bytes: self.size.0,
            loss: 0.0,
            rtt_us: None,
            transport: match self.transport {
                Transport::Udp => "udp over loopback",
                Transport::Memory => "memory",
            },
            datagram_bytes_max: RpcConfig::default().datagram_bytes_max,
            cipher: "AES-128-GCM",
            duration: self.duration.to_string(),
            warm_up: self.warm_up.to_string(),
            turn_ms: TURN.as_millis(),
            threads: 1,
            pinned: self.pin.map(|processor| vec![processor]),
            kernel_drops,
            socket_buffers,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Two ends and what lies between them.
struct Pair {
    ends: [Room; 2],
    sockets: [Option<UdpSocket>; 2],
    addresses: [SocketAddr; 2],
    buffers: Option<Buffers>,
    link: LinkId,
    zero: Instant,
    open: BTreeMap<CallId, Instant>,
    latencies: Histogram<u64>,
    errors: u64,
    datagrams: u64,
    bytes: u64,
    elapsed: Duration,
    received: Vec<u8>,
}

impl Pair {
    fn new(
        config: RpcConfig,
        sockets: [Option<UdpSocket>; 2],
        addresses: [SocketAddr; 2],
        buffers: Option<Buffers>,
    ) -> Result<Self, CliError> {
        let zero = Instant::now();
        let now = raftgram::time::Instant::from_nanos(1);
        let end = |id: u16| {
            let node = NodeId::new(id).unwrap_or(NodeId::MIN);
            let identity = Identity { node, store: StoreId([id as u8; 16]) };
            let local = Local {
                role: LocalRole::Node { identity, incarnation: Incarnation(1) },
                boot_nonce: BootNonce([id as u8; 16]),
                cluster: ClusterId([7; 16]),
                greeting: Greeting::Plain,
                election_timeout_min: Duration::from_millis(250),
                election_timeout_max: Duration::from_millis(500),
                heartbeat: Duration::from_millis(25),
                first_packet: PacketNumber(1),
            };
            Room::new(config.clone(), local, Rng::from_seed(u64::from(id)), now)
                .map_err(|error| CliError::new(Code::Failed, error.to_string()))
        };
        let mut ends = [end(1)?, end(2)?];
        let link = ends[0].connect(now, addresses[1], None);
        Ok(Self {
            ends,
            sockets,
            addresses,
            buffers,
            link,
            zero,
            open: BTreeMap::new(),
            latencies: histogram(),
            errors: 0,
            datagrams: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            received: vec![0; 65_536],
        })
    }

    /// Forgets what was counted.
    fn forget(&mut self) {
        self.latencies.reset();
        (self.errors, self.datagrams, self.bytes, self.elapsed) = (0, 0, 0, Duration::ZERO);
    }

    fn now(&self) -> raftgram::time::Instant {
        raftgram::time::Instant::from_nanos(1 + u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(0))
    }

    /// Calls for one turn, and then waits for what is open, so that nothing of it falls into the other's turn.
    fn turn(&mut self, depth: usize, size: usize) -> Result<(), CliError> {
        let began = Instant::now();
        loop {
            let is_calling = began.elapsed() < TURN;
            if !is_calling && self.open.is_empty() {
                break;
            }
            while is_calling && self.open.len() < depth {
                let now = self.now();
                match self.ends[0].call(now, self.link, Class::Once, vec![0xa5; size]) {
                    Ok(call) => drop(self.open.insert(call, Instant::now())),
                    // Not connected yet, or as much under way as may be.
                    Err(_) => break,
                }
            }
            self.exchange();
            if began.elapsed() > TURN + PATIENCE {
                return Err(CliError::new(
                    Code::Failed,
                    format!("{} calls are not answered", self.open.len()),
                ));
            }
        }
        self.elapsed += began.elapsed();
        Ok(())
    }

    /// Each end in turn takes what came, and sends what it has.
    fn exchange(&mut self) {
        for place in 0..2 {
            let now = self.now();
            while let Some((bytes, from)) = self.receive(place) {
                let datagram = &self.received[..bytes];
                self.ends[place].handle_datagram(now, from, datagram);
            }
            if self.ends[place].poll_timeout().is_some_and(|at| at <= now) {
                self.ends[place].handle_timeout(now);
            }
            self.settle(place);
        }
    }

    fn receive(&mut self, place: usize) -> Option<(usize, SocketAddr)> {
        self.sockets[place].as_ref()?.recv_from(&mut self.received).ok()
    }

    fn settle(&mut self, place: usize) {
        let now = self.now();
        self.ends[place].flush(now);
        while let Some(output) = self.ends[place].poll_output() {
            match output {
                Output::Transmit { to, bytes } => {
                    self.datagrams += 1;
                    self.bytes += bytes.len() as u64;
                    match &self.sockets[place] {
                        // A full buffer is loss, which the layer mends.
                        Some(socket) => drop(socket.send_to(&bytes, to)),
                        None => {
                            let from = self.addresses[place];
                            self.ends[1 - place].handle_datagram(now, from, &bytes);
                        }
                    }
                    self.ends[place].recycle(bytes);
                }
                Output::Event(Event::Request { token, body, .. }) => {
                    self.ends[place].reply(now, token, body);
                    self.ends[place].flush(now);
                }
                Output::Event(Event::Reply { call, .. }) => {
                    if let Some(began) = self.open.remove(&call) {
                        let latency = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        self.latencies.saturating_record(latency);
                    }
                }
                Output::Event(Event::CallFailed { call, .. }) => {
                    self.errors += u64::from(self.open.remove(&call).is_some());
                }
                Output::Event(_) => {}
            }
        }
    }

    fn figures(self) -> Figures {
        let (ops, datagrams, seconds) = (self.latencies.len(), self.datagrams, self.elapsed.as_secs_f64());
        Figures {
            ops,
            errors: self.errors,
            unknown: self.open.len() as u64,
            ops_per_s: ops as f64 / seconds,
            latency_us: Latency::of(&self.latencies),
            datagrams,
            bytes_per_datagram: self.bytes as f64 / datagrams as f64,
            ns_per_datagram: seconds * 1e9 / datagrams as f64,
        }
    }
}
