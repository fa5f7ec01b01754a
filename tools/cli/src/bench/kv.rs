//! `bench kv`: reads and writes of a running cluster, by closed loops or at a fixed rate.
//!
//! A closed loop asks again when it was answered; its latencies hide what a stalled cluster would have done to
//! others. With `--rate` each operation has an instant at which it should begin, and its latency counts from
//! there whether or not a client was free (no coordinated omission).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use raftgram::client::{Answer, ClientError, Outcome};
use raftgram::handle::Client;
use raftgram::kv::{self, Command, Query};
use raftgram::rng::Rng;
use raftgram::wire::client::ReadLevel;
use serde::Serialize;
use slog::{Logger, info, warn};

use super::baseline;
use super::history::{Function, History};
use super::report::{Figures, histogram};
use super::socket;
use crate::error::{CliError, Code};
use crate::interrupt::Interrupt;
use crate::output::Format;
use crate::reach::Reach;
use crate::status;
use crate::units::{Bytes, Share, Span};

/// How long an operation may take unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sockets and threads that the clients share; more than the leader's processors helps nobody.
const CONNECTIONS_MAX: usize = 8;

/// Measure a running cluster. Writes to keys under `bench/`.
#[derive(Debug, Args)]
pub(crate) struct Kv {
    /// Operations under way at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// The size of a value.
    #[arg(long, value_name = "BYTES", default_value = "100B")]
    size: Bytes,
    /// This share of operations are linearizable reads.
    #[arg(long, value_name = "P", default_value = "0%")]
    reads: Share,
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
    /// Write the latency distribution here.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Record every operation here, a JSON line each, for a linearizability check.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
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
    loop_kind: &'static str,
    rate: Option<u32>,
    keys: u64,
    seed: u64,
    connections: usize,
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

/// What one client found.
struct Tally {
    latencies: hdrhistogram::Histogram<u64>,
    errors: u64,
    unknown: u64,
    /// The first failure: the figures say how many, this says what.
    first: Option<ClientError>,
}

/// What all clients share.
struct Load<'a> {
    options: &'a Kv,
    timeout: Duration,
    seed: u64,
    began: Instant,
    measure_from: Instant,
    until: Instant,
    /// The number of the next operation, for open loops and for values that are never the same.
    next: AtomicU64,
    history: Option<&'a History>,
    interrupt: &'a Interrupt,
}

impl Kv {
    pub(crate) fn run(self, reach: &Reach, format: Format, logger: &Logger) -> Result<(), CliError> {
        self.check()?;
        let interrupt = Interrupt::install()?;
        let seed = self.seed.map_or_else(|| raftgram::run::random_rng().map(|mut rng| rng.next_u64()), Ok);
        let seed = seed.map_err(|error| CliError::io("drawing a seed", &error))?;
        let baseline = self.baseline.as_deref().map(baseline::read).transpose()?;
        let history = self.history.as_deref().map(History::create).transpose()?;
        let connections = usize::from(self.clients).min(CONNECTIONS_MAX);
        let clients = (0..connections).map(|_| reach.connect()).collect::<Result<Vec<_>, _>>()?;
        let timeout = reach.timeout_or(TIMEOUT);
        // A cluster that does not answer at all is one failure, not a million.
        reach.wait(
            clients[0].read(Query::Get { key: b"" }.to_bytes(), ReadLevel::Linearizable, timeout),
            timeout,
        )?;
        if cfg!(debug_assertions) {
            warn!(logger, "this is a debug build; for figures use `cargo build --release`");
        }
        info!(logger, "loading"; "clients" => self.clients, "warm_up" => %self.warm_up, "duration" => %self.duration,
            "seed" => seed);
        let drops_before = socket::kernel_drops_of_all();
        let began = Instant::now();
        let load = Load {
            options: &self,
            timeout,
            seed,
            began,
            measure_from: began + self.warm_up.0,
            until: began + self.warm_up.0 + self.duration.0,
            next: AtomicU64::new(0),
            history: history.as_ref(),
            interrupt: &interrupt,
        };
        let tally = load.run(&clients);
        let elapsed = load.measure_from.elapsed();
        let kernel_drops =
            socket::kernel_drops_of_all().zip(drops_before).map(|(after, before)| after - before);
        if let Some(history) = history {
            history.finish()?;
        }
        if interrupt.is_raised() {
            return Err(CliError::new(Code::Interrupted, "stopped before the end").after(began.elapsed()));
        }
        if let Some(error) = &tally.first {
            warn!(logger, "operations failed"; "errors" => tally.errors, "unknown" => tally.unknown, "first" => %error);
        }
        let settings = self.settings(reach, connections, seed, timeout, kernel_drops)?;
        let Tally { latencies, errors, unknown, .. } = tally;
        let figures = Figures { latencies, errors, unknown, elapsed, settings };
        if let Some(file) = &self.hgrm {
            figures.write_hgrm(file)?;
        }
        figures.answer_beside(format, baseline.as_ref())
    }

    fn check(&self) -> Result<(), CliError> {
        if self.duration.0.is_zero() {
            return Err(CliError::usage("--duration must be longer than nothing"));
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
        connections: usize,
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
            loop_kind: if self.rate.is_some() { "open" } else { "closed" },
            rate: self.rate,
            keys: self.keys,
            seed,
            connections,
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

/// A value begins with its operation's number.
const MARK_BYTES: u64 = 16;

impl Load<'_> {
    fn run(&self, clients: &[Client]) -> Tally {
        thread::scope(|scope| {
            let loops = (0..self.options.clients)
                .map(|place| (place, &clients[usize::from(place) % clients.len()]))
                .map(|(place, client)| scope.spawn(move || self.client(place, client)))
                .collect::<Vec<_>>();
            let mut all = Tally { latencies: histogram(), errors: 0, unknown: 0, first: None };
            for one in loops {
                // A client's loop has nothing of its own that panics; what does is a broken invariant below.
                let tally = one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                all.latencies += &tally.latencies;
                all.errors += tally.errors;
                all.unknown += tally.unknown;
                all.first = all.first.or(tally.first);
            }
            all
        })
    }

    /// One loop: at most one operation under way. After one of unknown outcome its process number is retired.
    fn client(&self, place: u16, client: &Client) -> Tally {
        let mut rng = Rng::from_seed(self.seed ^ (u64::from(place) + 1));
        let mut process = u64::from(place);
        let mut tally = Tally { latencies: histogram(), errors: 0, unknown: 0, first: None };
        while !self.interrupt.is_raised() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let should_begin = self.options.rate.map(|rate| {
                self.began
                    + Duration::from_nanos((u128::from(number) * 1_000_000_000 / u128::from(rate)) as u64)
            });
            if let Some(wait) = should_begin.and_then(|at| at.checked_duration_since(Instant::now())) {
                thread::sleep(wait);
            }
            let began = should_begin.unwrap_or_else(Instant::now);
            if began >= self.until {
                break;
            }
            let ended = self.operation(client, number, process, &mut rng);
            if matches!(ended, Err((_, Outcome::Unknown))) {
                process += u64::from(self.options.clients);
            }
            if began >= self.measure_from {
                tally.add(ended, began.elapsed());
            }
        }
        tally
    }

    fn operation(
        &self,
        client: &Client,
        number: u64,
        process: u64,
        rng: &mut Rng,
    ) -> Result<(), (ClientError, Outcome)> {
        let key = format!("bench/{}", rng.below(self.options.keys));
        if rng.chance(self.options.reads.fraction()) {
            let open = self.history.map(|history| history.invoke(process, Function::Read, &key, None));
            let query = Query::Get { key: key.as_bytes() }.to_bytes();
            let ended = wait(client.read(query, ReadLevel::Linearizable, self.timeout), self.timeout);
            let found = ended.as_ref().ok().map(read_value);
            // A read changes nothing: one without an answer has failed, it is not unknown.
            let ended = ended.map(drop).map_err(|error| (error, Outcome::NotSent));
            if let (Some(history), Some(open)) = (self.history, open) {
                history.complete(open, &ended, found.flatten());
            }
            return ended;
        }
        let value = value(number, self.seed, self.options.size.0);
        let open =
            self.history.map(|history| history.invoke(process, Function::Write, &key, Some(value.clone())));
        let command = Command::Put { key: key.as_bytes(), value: value.as_bytes() }.to_bytes();
        let ended = wait(client.propose(command, self.timeout), self.timeout).map(drop).map_err(|error| {
            let outcome = outcome(&error);
            (error, outcome)
        });
        if let (Some(history), Some(open)) = (self.history, open) {
            history.complete(open, &ended, Some(value));
        }
        ended
    }
}

impl Tally {
    fn add(&mut self, ended: Result<(), (ClientError, Outcome)>, latency: Duration) {
        match ended {
            Ok(()) => {
                self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
            }
            Err((error, outcome)) => {
                match outcome {
                    Outcome::Unknown => self.unknown += 1,
                    Outcome::NotSent => self.errors += 1,
                }
                self.first.get_or_insert(error);
            }
        }
    }
}

fn wait(
    pending: raftgram::handle::Pending<raftgram::handle::OperationResult>,
    timeout: Duration,
) -> Result<Answer, ClientError> {
    // The client ends every operation at its deadline; one that does not is as good as one of unknown outcome.
    pending.wait(timeout + Duration::from_secs(5)).unwrap_or(Err(ClientError::TimedOut {
        outcome: Outcome::Unknown,
        phase: raftgram::client::Phase::Answer,
    }))
}

/// Whether a write that failed may have happened.
fn outcome(error: &ClientError) -> Outcome {
    match error {
        ClientError::TimedOut { outcome, .. } | ClientError::SessionExpired { outcome } => *outcome,
        ClientError::BadReply => Outcome::Unknown,
        _ => Outcome::NotSent,
    }
}

fn read_value(answer: &Answer) -> Option<String> {
    let Answer::Read { result, .. } = answer else { return None };
    match kv::Answer::decode(result) {
        Ok(kv::Answer::Found { value, .. }) => Some(String::from_utf8_lossy(value).into_owned()),
        _ => None,
    }
}

/// A value of this size; from 16 bytes on no other operation of any run has the same.
fn value(number: u64, seed: u64, bytes: u64) -> String {
    let mark = format!("{:08x}{:08x}", seed as u32, number as u32);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut value = mark;
    value.truncate(bytes);
    value.extend(std::iter::repeat_n('.', bytes - value.len()));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_differ() {
        assert_eq!(value(1, 2, 20), "0000000200000001....");
        assert_eq!(value(1, 2, 3), "000");
        assert_ne!(value(1, 2, MARK_BYTES), value(2, 2, MARK_BYTES));
    }

    #[test]
    fn only_an_operation_that_was_sent_is_unknown() {
        assert_eq!(outcome(&ClientError::Busy), Outcome::NotSent);
        assert_eq!(outcome(&ClientError::SessionExpired { outcome: Outcome::Unknown }), Outcome::Unknown);
    }
}
