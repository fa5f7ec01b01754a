//! Many seeds on many threads. What comes out does not depend on how they were shared out.

use std::any::Any;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{IsTerminal as _, Write as _};
use std::panic;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use raftgram::hash::Fnv1a;
use raftgram::mutant::Mutant;
use raftgram::sim::workload::{HistoryEvent, Keep, KvWorkload};
use raftgram::sim::{Config, Counts, Report, run_with};
use raftgram::trace::Payloads;

use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::sim::files;

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(200);

/// The seeds to run, and how.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) first: u64,
    pub(super) end: u64,
    /// Of each run, but for the seed.
    pub(super) config: Config,
    pub(super) mutant: Option<Mutant>,
    pub(super) threads: usize,
    /// Whether seeds above the first violation are of no interest.
    pub(super) until_first: bool,
    pub(super) keeps_history: bool,
    pub(super) trace: Option<PathBuf>,
    pub(super) payloads: Payloads,
}

/// What came of all.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) first_seed: u64,
    pub(super) seeds: u64,
    pub(super) violations: u64,
    /// The run of the lowest seed that shows one.
    pub(super) first: Option<Report>,
    pub(super) events: u64,
    pub(super) time: Duration,
    /// The hashes of all runs, in the order of their seeds.
    pub(super) trace_hash: u64,
    pub(super) operations: Counts,
    pub(super) elapsed: Duration,
    /// The time that all threads took together.
    pub(super) busy: Duration,
    pub(super) threads: usize,
    pub(super) history: Option<Vec<HistoryEvent>>,
}

/// What the threads share.
struct Shared {
    next: AtomicU64,
    /// The lowest seed with a violation so far.
    lowest: AtomicU64,
    done: AtomicU64,
    reports: Mutex<BTreeMap<u64, (Report, Vec<HistoryEvent>)>>,
}

impl Sweep {
    pub(super) fn run(&self) -> Result<Judged, CliError> {
        let interrupt = Interrupt::install()?;
        let hook = panic::take_hook();
        // A node that panics is a finding, which the report tells.
        panic::set_hook(Box::new(|_| {}));
        let shared = Shared {
            next: AtomicU64::new(self.first),
            lowest: AtomicU64::new(u64::MAX),
            done: AtomicU64::new(0),
            reports: Mutex::new(BTreeMap::new()),
        };
        let began = Instant::now();
        let threads = self.threads.min(usize::try_from(self.end - self.first).unwrap_or(usize::MAX));
        let busy = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..threads).map(|_| scope.spawn(|| self.work(&shared, &interrupt))).collect();
            self.watch(&shared, began, || workers.iter().all(thread::ScopedJoinHandle::is_finished));
            workers.into_iter().map(|worker| worker.join()).collect::<Result<Vec<_>, _>>()
        });
        panic::set_hook(hook);
        let busy = busy.map_err(|panic| internal(&*panic))?.into_iter().collect::<Result<Vec<_>, _>>()?;
        if interrupt.is_raised() {
            return Err(CliError::new(crate::error::Code::Interrupted, "stopped by a signal"));
        }
        Ok(self.sum(shared, began.elapsed(), busy.iter().sum(), threads))
    }

    /// Runs seeds until there are none.
    fn work(&self, shared: &Shared, interrupt: &Interrupt) -> Result<Duration, CliError> {
        activate(self.mutant);
        let began = Instant::now();
        let keep = if self.keeps_history { Keep::History } else { Keep::Nothing };
        loop {
            let seed = shared.next.fetch_add(1, Ordering::Relaxed);
            let is_needless = self.until_first && seed > shared.lowest.load(Ordering::Relaxed);
            if seed >= self.end || is_needless || interrupt.is_raised() {
                return Ok(began.elapsed());
            }
            let trace = self.trace.as_deref().map(files::Trace::create).transpose()?;
            let (report, workload) = run_with(
                Config { seed, ..self.config },
                |rng| KvWorkload::new(rng, keep),
                |sim| {
                    if let Some(trace) = &trace {
                        let trace = trace.clone();
                        sim.record(self.payloads, move |event| trace.tell(event));
                    }
                },
            );
            trace.map_or(Ok(()), files::Trace::finish)?;
            if report.violation.is_some() {
                shared.lowest.fetch_min(seed, Ordering::Relaxed);
            }
            let mut reports = shared.reports.lock().unwrap_or_else(PoisonError::into_inner);
            reports.insert(seed, (report, workload.events().to_vec()));
            drop(reports);
            shared.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Draws the bar until all is done; on a terminal only.
    fn watch(&self, shared: &Shared, began: Instant, is_over: impl Fn() -> bool) {
        let total = self.end - self.first;
        if !std::io::stderr().is_terminal() || total < 2 {
            return;
        }
        while !is_over() {
            thread::sleep(TICK);
            let done = shared.done.load(Ordering::Relaxed);
            let rate = done as f64 / began.elapsed().as_secs_f64().max(1e-9);
            let full = usize::try_from(done * 30 / total).unwrap_or(30);
            let bad = if shared.lowest.load(Ordering::Relaxed) < u64::MAX { ", violations" } else { "" };
            let (bar, rest) = ("#".repeat(full), ".".repeat(30 - full.min(30)));
            let line = format!("\r[{bar}{rest}] {done}/{total} seeds, {rate:.1}/s{bad} ");
            // The bar is a courtesy: a terminal that is gone changes nothing.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }

    fn sum(&self, shared: Shared, elapsed: Duration, busy: Duration, threads: usize) -> Judged {
        let lowest = shared.lowest.into_inner();
        let mut reports = shared.reports.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.until_first {
            reports.retain(|seed, _| *seed <= lowest);
        }
        let mut judged = Judged {
            first_seed: self.first,
            seeds: reports.len() as u64,
            violations: 0,
            first: None,
            events: 0,
            time: Duration::ZERO,
            trace_hash: 0,
            operations: Counts::default(),
            elapsed,
            busy,
            threads,
            history: None,
        };
        let mut hash = Fnv1a::default();
        for (report, history) in reports.into_values() {
            hash = hash.u64(report.trace_hash);
            judged.events += report.events;
            judged.time += report.time;
            judged.operations = judged.operations + report.operations;
            if self.keeps_history {
                judged.history = Some(history);
            }
            if report.violation.is_some() {
                judged.violations += 1;
                judged.first.get_or_insert(report);
            }
        }
        judged.trace_hash = hash.finish();
        judged
    }
}

#[cfg(feature = "mutants")]
fn activate(mutant: Option<Mutant>) {
    raftgram::mutant::activate(mutant);
}

/// The command line has refused any.
#[cfg(not(feature = "mutants"))]
fn activate(_: Option<Mutant>) {}

fn internal(panic: &(dyn Any + Send)) -> CliError {
    let text = panic.downcast_ref::<String>().map_or("a worker panicked", String::as_str);
    CliError::new(crate::error::Code::Failed, format!("internal: {text}"))
}

/// As many threads as there are processors.
pub(super) fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A seed for somebody who does not care which, short enough to type.
pub(crate) fn any_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}
