//! `lab run`: every point and repeat of a scenario, on its ground, into a run folder.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use raftgram::node::Timing;
use serde::Serialize;

use super::meter::Measured;
use super::namespaces::Network;
use super::plan::{self, Task};
use super::run_folder::{Axis, FORMAT, Ground, Point, Run, Settings, State, Writer};
use super::scenario::{Scenario, Sweep, SweepKey, System};
use super::traced::Traced;
use super::{catalog, etcd, host, namespaces, processes, report, simulator};
use crate::bench::report::{Latency, hgrm, histogram};
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::output::Format;
use crate::units::Span;

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(200);

/// The width of the bar.
const BAR: usize = 30;

/// Run an experiment, and leave a folder with all it came to and a report.
#[derive(Debug, Args)]
#[command(
    after_help = "On the simulator the same scenario and seed give the same figures on every machine; processors cost \
nothing there. On processes nothing is deterministic: figures are those of this machine, and repeats give intervals."
)]
pub(crate) struct RunCommand {
    /// A scenario of `lab list`, or a TOML file.
    #[arg(value_name = "NAME|FILE")]
    scenario: String,
    /// Vary this instead, such as `loss=0,1,5,10,20,30`.
    #[arg(long, value_name = "KEY=VALUES")]
    sweep: Option<String>,
    /// Run it on this instead.
    #[arg(long, value_enum, value_name = "GROUND")]
    on: Option<On>,
    /// Draw everything from this seed; without it from the scenario's, or from a random one, which is printed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// So many repeats of each point, each from a seed of its own.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: Option<u32>,
    /// Measure this long.
    #[arg(long, value_name = "SPAN")]
    duration: Option<Span>,
    /// The run folder; without it one named after scenario and seed, under `lab-runs`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Use this many threads, on the simulator; without it, as many as there are processors.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// What to run it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum On {
    /// Virtual time.
    Simulator,
    /// Node processes on loopback.
    Processes,
    /// Node processes in network namespaces, with loss by nftables; needs root.
    Namespaces,
}

/// What came of it, for programs.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    dir: &'a Path,
    state: State,
    seed: u64,
    runs: u32,
    points: Vec<Row>,
}

/// One point, all repeats together.
#[derive(Debug, Serialize)]
struct Row {
    system: String,
    label: String,
    ops: u64,
    ops_per_s: f64,
    errors: u64,
    unknown: u64,
    latency_us: Option<Latency>,
    leader_changes: u64,
    longest_gap_us: u64,
}

impl RunCommand {
    pub(crate) fn run(self, format: Format) -> Result<(), CliError> {
        let mut scenario = catalog::find(&self.scenario)?;
        self.apply(&mut scenario)?;
        let seed = self.seed.or(scenario.seed).unwrap_or_else(crate::sim::any_seed);
        scenario.seed = Some(seed);
        let (axis, tasks) = plan::tasks(&scenario, seed)?;
        let dir = match &self.out {
            Some(dir) => dir.clone(),
            None => free_folder(&scenario.name, seed),
        };
        match scenario.on {
            Ground::Simulator => {}
            Ground::Processes => processes::check(&scenario)?,
            Ground::Namespaces => namespaces::check(&scenario)?,
        }
        let interrupt = Interrupt::install()?;
        let mut lab = Lab::begin(&dir, &scenario, seed, axis, &tasks, self.repeat_line(seed))?;
        let ended = match scenario.on {
            Ground::Simulator => self.run_simulated(&mut lab, &tasks, &interrupt, format),
            Ground::Processes | Ground::Namespaces => run_processes(&mut lab, &tasks, &interrupt, format),
        };
        let shown = lab.end(ended.as_ref().err())?;
        // Also of what was cut short: a partial report says that it is one.
        let rendered = report::render(&dir);
        ended.map_err(|error| error.at(dir.display()))?;
        rendered?;
        format.answer(&shown, |format| shown.text(format))
    }

    /// What flags change of the scenario.
    fn apply(&self, scenario: &mut Scenario) -> Result<(), CliError> {
        if let Some(text) = &self.sweep {
            scenario.sweep = Some(sweep(text)?);
        }
        if let Some(on) = self.on {
            scenario.on = match on {
                On::Simulator => Ground::Simulator,
                On::Processes => Ground::Processes,
                On::Namespaces => Ground::Namespaces,
            };
        }
        scenario.repeats = self.repeats.unwrap_or(scenario.repeats);
        if let Some(duration) = self.duration {
            scenario.duration = duration;
        }
        if scenario.duration.0.is_zero() {
            return Err(CliError::usage("--duration must be longer than nothing"));
        }
        Ok(())
    }

    /// The line that runs it again.
    fn repeat_line(&self, seed: u64) -> String {
        let mut line = format!("raftgram lab run {} --seed {seed}", self.scenario);
        let on = self.on.and_then(|on| on.to_possible_value()).map(|on| on.get_name().to_owned());
        let flags = [
            ("--sweep", self.sweep.clone()),
            ("--on", on),
            ("--repeats", self.repeats.map(|count| count.to_string())),
            ("--duration", self.duration.map(|span| span.to_string())),
        ];
        for (flag, text) in flags.into_iter().filter_map(|(flag, text)| Some((flag, text?))) {
            line += &format!(" {flag} {text}");
        }
        line
    }

    /// All tasks on some threads; rows are written in the order of the tasks.
    fn run_simulated(
        &self,
        lab: &mut Lab,
        tasks: &[Task],
        interrupt: &Interrupt,
        format: Format,
    ) -> Result<(), CliError> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.map_or(processors, usize::from).min(tasks.len());
        let next = AtomicUsize::new(0);
        let done = Finished::default();
        let dir = lab.dir().to_path_buf();
        let hook = std::panic::take_hook();
        // A node that panics is a finding, which is told in its place.
        std::panic::set_hook(Box::new(|_| {}));
        let work = || {
            while let place = next.fetch_add(1, Ordering::Relaxed)
                && let Some(task) = tasks.get(place)
            {
                let result =
                    trace_of(&dir, task).and_then(|trace| simulator::measure(task, trace, interrupt));
                if result.is_err() {
                    next.store(tasks.len(), Ordering::Relaxed);
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).insert(place, result);
            }
        };
        let ended = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let is_over = || workers.iter().all(thread::ScopedJoinHandle::is_finished);
            let written = write_in_order(lab, tasks, &done, is_over, format);
            // After a failure nobody needs the rest.
            next.store(tasks.len(), Ordering::Relaxed);
            written
        });
        std::panic::set_hook(hook);
        ended
    }
}

/// What threads have finished, by the place of its task.
type Finished = Mutex<BTreeMap<usize, Result<Measured, CliError>>>;

/// Writes what is finished, in the order of the tasks, until nobody works any more.
fn write_in_order(
    lab: &mut Lab,
    tasks: &[Task],
    done: &Finished,
    is_over: impl Fn() -> bool,
    format: Format,
) -> Result<(), CliError> {
    let take = |place| done.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
    let mut bar = Bar::new(tasks.len(), format);
    let mut written = 0;
    loop {
        // Asked first: what is finished by then is all there is.
        let was_over = is_over();
        while let Some(result) = take(written) {
            lab.write(&result?, format)?;
            written += 1;
        }
        bar.draw(written, tasks.get(written));
        if was_over {
            break;
        }
        thread::park_timeout(TICK);
    }
    let rest = std::mem::take(&mut *done.lock().unwrap_or_else(PoisonError::into_inner));
    rest.into_values().find_map(Result::err).map_or(Ok(()), Err)
}

/// One task after the other: they would only measure each other.
fn run_processes(
    lab: &mut Lab,
    tasks: &[Task],
    interrupt: &Interrupt,
    format: Format,
) -> Result<(), CliError> {
    let mut bar = Bar::new(tasks.len(), format);
    for (done, task) in tasks.iter().enumerate() {
        bar.draw(done, Some(task));
        let dir = lab.dir().to_path_buf();
        let measured = match task.scenario.on {
            Ground::Namespaces => in_namespaces(task, &dir, interrupt)?,
            _ => processes::measure(task, &dir, None, interrupt)?,
        };
        lab.write(&measured, format)?;
    }
    Ok(())
}

/// In a network of its own, which ends with the task.
fn in_namespaces(task: &Task, dir: &Path, interrupt: &Interrupt) -> Result<Measured, CliError> {
    let network = Arc::new(Network::new(task.scenario.nodes)?);
    let mut measured = network.at_clients(|| match task.system {
        System::Etcd => {
            let data = tempfile::Builder::new().prefix("data-").tempdir_in(dir);
            let data = data.map_err(|error| CliError::io("making a folder for the members' data", &error))?;
            etcd::measure(task, data.path(), &network, interrupt)
        }
        System::Raftgram | System::RaftgramTcp => processes::measure(task, dir, Some(&network), interrupt),
    })?;
    // What the rules dropped, beside what was asked for: a rule that does nothing looks like a system that bears all.
    for (node, passed) in measured.nodes.iter_mut().zip(network.passed()?) {
        node.drops.insert("netfilter".to_owned(), passed.lost);
        node.packets_passed = Some(passed.passed);
    }
    Ok(measured)
}

fn trace_of(dir: &Path, task: &Task) -> Result<Option<Traced>, CliError> {
    let window = task.scenario.trace.0;
    if task.repeat > 0 || window.is_zero() {
        return Ok(None);
    }
    let name = format!("traces/p{}r{}.jsonl", task.point, task.repeat);
    Traced::create(dir, name, window).map(Some)
}

/// `loss=0,1,5` as a sweep.
fn sweep(text: &str) -> Result<Sweep, CliError> {
    let known = || SweepKey::ALL.iter().map(|key| key.name());
    let (name, values) = text.split_once('=').ok_or_else(|| {
        CliError::usage(format!("--sweep {text}: not KEY=VALUES")).hint("such as --sweep loss=0,1,5,10,20,30")
    })?;
    let key = SweepKey::ALL.into_iter().find(|key| key.name() == name).ok_or_else(|| {
        let near = super::parse::nearest(name, known());
        CliError::usage(format!("--sweep {text}: `{name}` cannot be varied{near}"))
            .hint(format!("one of {}", known().collect::<Vec<_>>().join(", ")))
    })?;
    Ok(Sweep { key, values: values.split(',').map(|value| value.trim().to_owned()).collect() })
}

/// The first folder of this name that is not there.
fn free_folder(name: &str, seed: u64) -> PathBuf {
    let name = |number: u32| match number {
        0 => format!("{name}-{seed}"),
        number => format!("{name}-{seed}-{number}"),
    };
    let folder = |number| Path::new("lab-runs").join(name(number));
    (0..u32::MAX).map(folder).find(|folder| !folder.exists()).unwrap_or_else(|| folder(u32::MAX))
}

/// An experiment under way.
struct Lab {
    writer: Writer,
    run: Run,
    points: Vec<Point>,
    began: Instant,
}

impl Lab {
    fn begin(
        dir: &Path,
        scenario: &Scenario,
        seed: u64,
        axis: Option<Axis>,
        tasks: &[Task],
        command: String,
    ) -> Result<Self, CliError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (commit, is_modified) = host::commit().unzip();
        let run = Run {
            format: FORMAT,
            name: scenario.name.clone(),
            title: scenario.title.clone(),
            about: scenario.about.clone(),
            state: State::Partial,
            why_partial: Some("still running, or ended without a word".to_owned()),
            on: scenario.on,
            is_deterministic: scenario.on == Ground::Simulator,
            seed,
            repeats: scenario.repeats,
            axis,
            systems: scenario.systems.iter().map(|system| system.name().to_owned()).collect(),
            runs_planned: u32::try_from(tasks.len()).unwrap_or(u32::MAX),
            runs_done: 0,
            began_unix_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
            elapsed_s: 0.0,
            command,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            commit,
            is_modified: is_modified.unwrap_or(false),
            host: host::host(),
            programs: scenario
                .systems
                .contains(&System::Etcd)
                .then(|| {
                    format!("etcd {}", etcd::version().unwrap_or_else(|| "of unknown version".to_owned()))
                })
                .into_iter()
                .collect(),
            settings: settings(scenario),
        };
        let writer = Writer::create(dir, &run, &scenario.to_toml())?;
        Ok(Self { writer, run, points: Vec::new(), began: Instant::now() })
    }

    fn dir(&self) -> &Path {
        self.writer.dir()
    }

    /// Writes what one repeat came to, and tells of it where programs read along.
    fn write(&mut self, measured: &Measured, format: Format) -> Result<(), CliError> {
        measured.seconds.iter().try_for_each(|row| self.writer.second(row))?;
        measured.events.iter().try_for_each(|row| self.writer.event(row))?;
        measured.nodes.iter().try_for_each(|row| self.writer.node(row))?;
        self.writer.point(&measured.point)?;
        self.run.runs_done += 1;
        if format == Format::JsonStream {
            format.event(&Done { event: "measured", point: &measured.point })?;
        }
        self.points.push(measured.point.clone());
        Ok(())
    }

    /// Says how it ended.
    fn end(&mut self, error: Option<&CliError>) -> Result<Shown<'_>, CliError> {
        let mut rows: BTreeMap<u32, Vec<&Point>> = BTreeMap::new();
        self.points.iter().for_each(|point| rows.entry(point.point).or_default().push(point));
        for (number, points) in &rows {
            let mut all = histogram();
            points.iter().for_each(|point| all += point.histogram());
            self.writer.put(&format!("hgrm/p{number}.hgrm"), &hgrm(&all))?;
        }
        self.run.state = if error.is_none() { State::Complete } else { State::Partial };
        self.run.why_partial = error.map(|error| error.message.clone());
        self.run.elapsed_s = self.began.elapsed().as_secs_f64();
        self.writer.describe(&self.run)?;
        Ok(Shown {
            dir: self.writer.dir(),
            state: self.run.state,
            seed: self.run.seed,
            runs: self.run.runs_done,
            points: rows.into_values().map(|points| Row::of(&points)).collect(),
        })
    }
}

/// One repeat, for programs that read along.
#[derive(Serialize)]
struct Done<'a> {
    event: &'static str,
    #[serde(flatten)]
    point: &'a Point,
}

fn settings(scenario: &Scenario) -> Settings {
    let timing = Timing::default();
    let us = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Settings {
        nodes: scenario.nodes,
        fsync: scenario.fsync,
        clients: scenario.load.clients,
        value_bytes: scenario.load.value.0,
        reads: scenario.load.reads.fraction(),
        rate: scenario.load.rate,
        keys: scenario.load.keys,
        timeout_us: us(scenario.timeout.0),
        warm_up_us: us(scenario.warm_up.0),
        duration_us: us(scenario.duration.0),
        election_timeout_min_us: us(timing.election_timeout_min),
        election_timeout_max_us: us(timing.election_timeout_max),
        heartbeat_us: us(timing.heartbeat_interval),
        faults: scenario.fault_words(),
    }
}

impl Row {
    fn of(points: &[&Point]) -> Self {
        let mut all = histogram();
        points.iter().for_each(|point| all += point.histogram());
        let sum = |count: fn(&Point) -> u64| points.iter().map(|point| count(point)).sum();
        Self {
            system: points.first().map_or_else(String::new, |point| point.system.clone()),
            label: points.first().map_or_else(String::new, |point| point.label.clone()),
            ops: sum(|point| point.ops),
            ops_per_s: points.iter().map(|point| point.ops_per_s).sum::<f64>() / points.len().max(1) as f64,
            errors: sum(|point| point.errors),
            unknown: sum(|point| point.unknown),
            latency_us: Latency::of_any(&all),
            leader_changes: sum(|point| point.leader_changes),
            longest_gap_us: points.iter().map(|point| point.longest_gap_us).max().unwrap_or(0),
        }
    }
}

impl Shown<'_> {
    fn text(&self, format: Format) -> String {
        let ms = |us: f64| format!("{:.2}", us / 1000.0);
        let row = |row: &Row| {
            let latency = |pick: fn(&Latency) -> f64| {
                row.latency_us.as_ref().map_or_else(|| "-".to_owned(), |it| ms(pick(it)))
            };
            vec![
                row.system.clone(),
                row.label.clone(),
                format!("{:.0}", row.ops_per_s),
                latency(|it| it.p50),
                latency(|it| it.p99),
                latency(|it| it.p999),
                latency(|it| it.max),
                ms(row.longest_gap_us as f64),
                row.leader_changes.to_string(),
                row.errors.to_string(),
                row.unknown.to_string(),
            ]
        };
        let headings = [
            "system",
            "point",
            "ops/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "longest gap ms",
            "leader changes",
            "errors",
            "unknown",
        ];
        let rows: Vec<Vec<String>> = self.points.iter().map(row).collect();
        format!(
            "{}\nseed {}, {} runs, in {}; open {}\n",
            format.table(&headings, &rows),
            self.seed,
            self.runs,
            self.dir.display(),
            self.dir.join("report.html").display()
        )
    }
}

/// How far it is, on a terminal.
struct Bar {
    total: usize,
    is_shown: bool,
    began: Instant,
}

impl Bar {
    fn new(total: usize, format: Format) -> Self {
        Self {
            total,
            is_shown: format == Format::Terminal && std::io::stderr().is_terminal(),
            began: Instant::now(),
        }
    }

    fn draw(&mut self, done: usize, next: Option<&Task>) {
        if !self.is_shown {
            return;
        }
        let full = (done * BAR).checked_div(self.total).unwrap_or(BAR);
        let (bar, rest) = ("#".repeat(full), ".".repeat(BAR - full));
        let elapsed = self.began.elapsed().as_secs_f64();
        let left = if done == 0 {
            String::new()
        } else {
            format!(", {:.0} s left", elapsed / done as f64 * (self.total - done) as f64)
        };
        let at = next.map_or_else(String::new, |task| format!(" {}", task.label));
        // The bar is a courtesy: a terminal that is gone changes nothing.
        let _ = write!(std::io::stderr(), "\r[{bar}{rest}] {done}/{}{at}{left} \x1b[K", self.total);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
