//! `bench kv`: reads and writes of a running cluster, by closed loops or at a fixed rate.
//!
//! A closed loop asks again when it was answered; its latencies hide what a stalled cluster would have done to
//! others. With `--rate` each operation has an instant at which it should begin, and its latency counts from
//! there whether or not a client was free (no coordinated omission).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use raftgram::kv::{self, Query};
use raftgram::wire::client::ReadLevel;
use serde::Serialize;
use slog::{Logger, info, warn};

use super::baseline;
use super::chain::Chain;
use super::floor::{AgainstFloor, FloorSettings, Piece};
use super::history::History;
use super::load::{Load, MARK_BYTES, Tally};
use super::report::{Figures, Latency};
use super::socket;
use super::sockets::Sockets;
use crate::error::{CliError, Code};
use crate::interrupt::Interrupt;
use crate::kv::Freshness;
use crate::output::Format;
use crate::reach::Reach;
use crate::status;
use crate::units::{Bytes, Share, Span};

/// How long an operation may take unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the floor packs into a datagram, if values leave it the choice.
const FLOOR_PACK_BYTES: u64 = 1400;

/// The largest value that the floor sends, in one datagram.
const FLOOR_SIZE_MAX: u64 = 60_000;

/// Measure a running cluster. Writes to keys under `bench/`.
#[derive(Debug, Args)]
pub(crate) struct Kv {
    /// Operations under way at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// Sockets that they share, each with a link of its own. The requests of one socket share datagrams.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// The size of a value.
    #[arg(long, value_name = "BYTES", default_value = "100B")]
    size: Bytes,
    /// This share of operations are linearizable reads.
    #[arg(long, value_name = "P", default_value = "0%")]
    reads: Share,
    #[command(flatten)]
    freshness: Freshness,
    /// Measure this long.
    #[arg(long, value_name = "SPAN", default_value = "10s")]
    duration: Span,
    /// Load this long before measuring.
    #[arg(long, value_name = "SPAN", default_value = "1s")]
    warm_up: Span,
    /// Begin this many operations a second, whether or not earlier ones were answered.
    #[arg(long, value_name = "R")]
    rate: Option<u32>,
    /// How many keys.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Draw keys and kinds from this seed; without it from a random one, which is printed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Compare with an earlier run's JSON.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Exit 7 when, against the baseline, throughput is lower or p50 or p99 higher by more than this share.
    #[arg(long, value_name = "P", requires = "baseline")]
    regression: Option<Share>,
    /// Measure this in turn with the cluster, and print ratios.
    #[arg(long, value_name = "WHAT", value_enum)]
    profile: Option<Profile>,
    /// How many turns of each.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=99))]
    pairs: u16,
    /// The floor syncs, as nodes do that run without --no-fsync.
    #[arg(long, requires = "profile")]
    floor_fsync: bool,
    /// Write the latency distribution here.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Record every operation here, a JSON line each, for a linearizability check.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// What is measured in turn with the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// `bench chain` in the same shape: four processes that only move datagrams.
    Floor,
}

/// What every turn of a measurement shares.
struct Run<'a> {
    reach: &'a Reach,
    timeout: Duration,
    seed: u64,
    history: Option<&'a History>,
    interrupt: &'a Interrupt,
    format: Format,
}

/// What the figures were taken with.
#[derive(Debug, Serialize)]
struct Settings {
    nodes: usize,
    /// Whether the nodes sync, if they tell.
    fsync: Option<bool>,
    clients: u16,
    value_bytes: u64,
    /// The highest smoothed loss of the leader's links.
    loss: Option<f64>,
    /// The slowest of the leader's links.
    rtt_us: Option<u64>,
    reads: String,
    /// How they are asked for.
    read_level: String,
    loop_kind: &'static str,
    rate: Option<u32>,
    keys: u64,
    seed: u64,
    connections: u16,
    duration: String,
    warm_up: String,
    timeout: String,
    cluster: String,
    pinned: Option<Vec<usize>>,
    /// Datagrams that this machine's kernel dropped for want of buffer during the run, all programs together.
    kernel_drops: Option<u64>,
    socket_buffers: BTreeMap<&'static str, u64>,
    build: &'static str,
    version: &'static str,
}

impl Kv {
    pub(crate) fn run(self, reach: &Reach, format: Format, logger: &Logger) -> Result<(), CliError> {
        self.check()?;
        let interrupt = Interrupt::install()?;
        let seed = self.seed.map_or_else(|| raftgram::run::random_rng().map(|mut rng| rng.next_u64()), Ok);
        let seed = seed.map_err(|error| CliError::io("drawing a seed", &error))?;
        let baseline = self.baseline.as_deref().map(baseline::read).transpose()?;
        let history = self.history.as_deref().map(History::create).transpose()?;
        let timeout = reach.timeout_or(TIMEOUT);
        // A cluster that does not answer at all is one failure, not a million.
        let query = Query::Get { key: b"" }.to_bytes();
        reach.wait(reach.connect()?.read(query, ReadLevel::Linearizable, timeout), timeout)?;
        if cfg!(debug_assertions) {
            warn!(logger, "this is a debug build; for figures use `cargo build --release`");
        }
        info!(logger, "loading"; "clients" => self.clients, "warm_up" => %self.warm_up, "duration" => %self.duration,
            "seed" => seed);
        let drops_before = socket::kernel_drops_of_all();
        let run = Run { reach, timeout, seed, history: history.as_ref(), interrupt: &interrupt, format };
        let (tally, elapsed, floor) = match self.profile {
            None => {
                let (tally, elapsed) = self.measure(&run)?;
                (tally, elapsed, None)
            }
            Some(Profile::Floor) => self.measure_in_turn(&run, logger)?,
        };
        let kernel_drops =
            socket::kernel_drops_of_all().zip(drops_before).map(|(after, before)| after - before);
        if let Some(history) = history {
            history.finish()?;
        }
        if let Some(error) = &tally.first {
            warn!(logger, "operations failed"; "errors" => tally.errors, "unknown" => tally.unknown, "first" => %error);
        }
        let settings = self.settings(reach, seed, timeout, kernel_drops)?;
        let Tally { latencies, errors, unknown, .. } = tally;
        let figures = Figures { latencies, errors, unknown, elapsed, settings };
        if let Some(file) = &self.hgrm {
            figures.write_hgrm(file)?;
        }
        figures.answer_beside(format, baseline.as_ref(), floor, self.regression.map(|share| share.fraction()))
    }

    /// One run of the load.
    fn measure(&self, run: &Run<'_>) -> Result<(Tally, Duration), CliError> {
        let sockets = Sockets::open(run.reach, usize::from(self.sockets()))?;
        let level = self.freshness.wire()?;
        let began = Instant::now();
        let done = AtomicU64::new(0);
        let load = Load {
            clients: usize::from(self.clients),
            value_bytes: self.size.0,
            reads: self.reads.fraction(),
            level,
            keys: self.keys,
            rate: self.rate,
            timeout: run.timeout,
            seed: run.seed,
            began,
            measure_from: began + self.warm_up.0,
            until: began + self.warm_up.0 + self.duration.0,
            history: run.history,
            interrupt: run.interrupt,
            done: &done,
        };
        let tally = load.run_watched(sockets, run.format)?;
        if run.interrupt.is_raised() {
            return Err(CliError::new(Code::Interrupted, "stopped before the end").after(began.elapsed()));
        }
        Ok((tally, load.measure_from.elapsed()))
    }

    /// The floor and the cluster in turn.
    fn measure_in_turn(
        &self,
        run: &Run<'_>,
        logger: &Logger,
    ) -> Result<(Tally, Duration, Option<AgainstFloor>), CliError> {
        let settings = FloorSettings {
            fsync: self.floor_fsync,
            value_bytes: self.size.0,
            pack_bytes: FLOOR_PACK_BYTES.max(self.size.0 + 8),
            client_packs: self.sockets() < self.clients,
        };
        let chain = Chain::beside(&settings, self.clients, self.duration, self.warm_up);
        let (mut all, mut elapsed, mut pairs) = (Tally::new(), Duration::ZERO, Vec::new());
        for pair in 1..=self.pairs {
            let floor = chain.piece(run.interrupt)?;
            let (tally, took) = self.measure(run)?;
            let ops_per_s = tally.latencies.len() as f64 / took.as_secs_f64();
            let cluster = Piece::new(ops_per_s, &Latency::of(&tally.latencies));
            info!(logger, "measured"; "pair" => pair, "floor_ops_per_s" => floor.ops_per_s, "ops_per_s" => ops_per_s);
            pairs.push((floor, cluster));
            all.merge(tally);
            elapsed += took;
        }
        Ok((all, elapsed, Some(AgainstFloor::new(&pairs, settings))))
    }

    fn sockets(&self) -> u16 {
        self.connections.min(self.clients)
    }

    fn check(&self) -> Result<(), CliError> {
        if self.duration.0.is_zero() {
            return Err(CliError::usage("--duration must be longer than nothing"));
        }
        if self.profile.is_some() && (self.rate.is_some() || self.reads.fraction() > 0.0) {
            return Err(CliError::usage("--profile floor is for writes in closed loops")
                .hint("leave out --rate and --reads"));
        }
        if self.profile.is_some() && self.size.0 > FLOOR_SIZE_MAX {
            let text = format!("--profile floor knows no values of {}", self.size);
            return Err(CliError::usage(text).hint(format!("at most {}", Bytes(FLOOR_SIZE_MAX))));
        }
        if self.rate == Some(0) {
            return Err(CliError::usage("--rate must be at least 1"));
        }
        if self.size.0 > kv::VALUE_BYTES_MAX as u64 {
            return Err(CliError::usage(format!("--size {} is more than a value may have", self.size))
                .hint(format!("at most {}", Bytes(kv::VALUE_BYTES_MAX as u64))));
        }
        if self.history.is_some() && self.size.0 < MARK_BYTES {
            return Err(CliError::usage(format!("--history needs values of at least {MARK_BYTES} bytes"))
                .hint("each write must be told from every other"));
        }
        Ok(())
    }

    fn settings(
        &self,
        reach: &Reach,
        seed: u64,
        timeout: Duration,
        kernel_drops: Option<u64>,
    ) -> Result<Settings, CliError> {
        let cluster = status::ask(reach)?;
        let leader = cluster.nodes.iter().find(|row| row.id.is_some() && row.id == cluster.leader);
        let leader = leader.and_then(|row| row.told.as_ref());
        Ok(Settings {
            nodes: leader.map_or(0, |told| told.voters.len()),
            fsync: None,
            clients: self.clients,
            value_bytes: self.size.0,
            loss: leader.map(|told| f64::from(told.loss_ppm_max()) / 1e6),
            rtt_us: leader.and_then(|told| told.rtt_us),
            reads: self.reads.to_string(),
            read_level: self.freshness.to_string(),
            loop_kind: if self.rate.is_some() { "open" } else { "closed" },
            rate: self.rate,
            keys: self.keys,
            seed,
            connections: self.sockets(),
            duration: self.duration.to_string(),
            warm_up: self.warm_up.to_string(),
            timeout: Span(timeout).to_string(),
            cluster: reach.to_string(),
            pinned: None,
            kernel_drops,
            socket_buffers: socket::buffer_bounds(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            version: env!("CARGO_PKG_VERSION"),
        })
    }
}
