//! The folder of one experiment: what `lab run` writes, and reports are made of.
//!
//! ```text
//! run.json       what was run on what, and whether it came to its end; see [`Run`]
//! scenario.toml  the scenario with every override in it: `lab run` of this file repeats the experiment
//! points.jsonl   a line per measured point and repeat, in the order they were run; see [`Point`]
//! series.csv     a line per second of each; see [`Second`]
//! events.jsonl   faults and elections; see [`Event`]
//! nodes.jsonl    what each node counted; see [`NodeCounts`]
//! hgrm/          the latency distribution of each point, all repeats together, for HdrHistogram's plotters
//! traces/        what happened, in the schema of docs/trace.md, where a point says so
//! ```
//!
//! Every row is flushed when it is written, and `run.json` says *partial* until the last one is: a run that is cut
//! short at any instant leaves a folder that can be read. Numbers name their unit last; shares are 0 to 1; times count
//! from the begin of the measured span, so those of the warm-up are negative. Readers ignore keys they do not know.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bench::report::{Latency, histogram};
use crate::error::{CliError, Code};
use crate::output::file_error;

/// The format that this version writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// What was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) format: u32,
    /// The scenario's name.
    pub(crate) name: String,
    pub(crate) title: String,
    /// What it shows, in a sentence or two.
    pub(crate) about: String,
    pub(crate) state: State,
    /// Why it did not come to its end.
    pub(crate) why_partial: Option<String>,
    pub(crate) on: Ground,
    pub(crate) is_deterministic: bool,
    pub(crate) seed: u64,
    pub(crate) repeats: u32,
    /// What is varied, if anything is.
    pub(crate) axis: Option<Axis>,
    /// What is measured at each value of it: a curve each.
    pub(crate) systems: Vec<String>,
    pub(crate) runs_planned: u32,
    pub(crate) runs_done: u32,
    pub(crate) began_unix_us: u64,
    pub(crate) elapsed_s: f64,
    /// The line that runs it again.
    pub(crate) command: String,
    pub(crate) version: String,
    pub(crate) build: String,
    /// The commit it was built from, where that is known.
    pub(crate) commit: Option<String>,
    /// Whether the sources had been changed since.
    pub(crate) is_modified: bool,
    pub(crate) host: Host,
    /// Other programs that were measured, with their versions.
    #[serde(default)]
    pub(crate) programs: Vec<String>,
    pub(crate) settings: Settings,
}

/// Whether a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Partial,
    Complete,
}

/// What an experiment runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ground {
    /// Virtual time, from a seed.
    Simulator,
    /// Node processes on this machine, in real time.
    Processes,
    /// The same, each in a network namespace of its own, where rules of the kernel lose packets.
    Namespaces,
}

/// What is varied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Axis {
    /// As `--sweep` names it.
    pub(crate) key: String,
    /// For people.
    pub(crate) label: String,
    pub(crate) unit: Unit,
    pub(crate) values: Vec<f64>,
}

/// What an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    /// A share of the whole, 0 to 1.
    Share,
    /// Seconds.
    S,
    Bytes,
    Count,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) kernel: String,
    pub(crate) processors: usize,
    pub(crate) processor: String,
    pub(crate) memory_bytes: u64,
    /// What a socket may ask for, by the kernel's names.
    pub(crate) socket_buffers: BTreeMap<String, u64>,
}

/// What all points share; a point differs in what its axis says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) nodes: u16,
    pub(crate) fsync: bool,
    pub(crate) clients: u16,
    pub(crate) value_bytes: u64,
    /// The share of operations that read.
    pub(crate) reads: f64,
    /// Operations a second of an open loop; a closed loop has none.
    pub(crate) rate: Option<u32>,
    pub(crate) keys: u64,
    pub(crate) timeout_us: u64,
    pub(crate) warm_up_us: u64,
    pub(crate) duration_us: u64,
    pub(crate) election_timeout_min_us: u64,
    pub(crate) election_timeout_max_us: u64,
    pub(crate) heartbeat_us: u64,
    /// The faults in words, one for each that stands all the time or is on the plan.
    pub(crate) faults: Vec<String>,
}

/// One repeat of one point. A point is a system at a value of the axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) point: u32,
    pub(crate) repeat: u32,
    pub(crate) system: String,
    /// The value of the axis.
    pub(crate) x: Option<f64>,
    pub(crate) label: String,
    pub(crate) seed: u64,
    pub(crate) measured_us: u64,
    /// Operations that succeeded in the measured span.
    pub(crate) ops: u64,
    pub(crate) errors: u64,
    /// Those of which nobody knows whether they happened.
    pub(crate) unknown: u64,
    pub(crate) ops_per_s: f64,
    /// None when no operation succeeded.
    pub(crate) latency_us: Option<Latency>,
    /// Values in nanoseconds, to three digits, and how many: adding counts merges repeats.
    pub(crate) histogram_ns: Vec<(u64, u64)>,
    /// Entries that were committed.
    pub(crate) commits: u64,
    /// What nodes sent, to each other and to clients; unknown for other systems.
    pub(crate) datagrams: Option<u64>,
    pub(crate) datagram_bytes: Option<u64>,
    /// Parts of bodies that were sent again.
    pub(crate) retransmits: Option<u64>,
    /// Calls that came more than once.
    pub(crate) duplicates: Option<u64>,
    /// Terms that began.
    pub(crate) elections: u64,
    /// How often another node led.
    pub(crate) leader_changes: u64,
    /// Each time without a leader that could commit, up to the first commit of the next.
    pub(crate) failovers_us: Vec<u64>,
    /// The longest time in which no operation was answered.
    pub(crate) longest_gap_us: u64,
    /// The simulator's hash of all that happened.
    pub(crate) trace_hash: Option<String>,
    /// Where its trace is, from the folder on.
    pub(crate) trace: Option<String>,
}

impl Point {
    /// Its latencies again, as far as three digits tell.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        let mut all = histogram();
        for &(value, count) in &self.histogram_ns {
            all.saturating_record_n(value, count);
        }
        all
    }
}

/// The values of a histogram and how many of each.
pub(crate) fn pairs(latencies: &Histogram<u64>) -> Vec<(u64, u64)> {
    latencies.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

/// One second of a point: what ended in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Second {
    pub(crate) point: u32,
    pub(crate) repeat: u32,
    /// The second from `second` on; negative in the warm-up.
    pub(crate) second: i64,
    pub(crate) ops: u64,
    pub(crate) errors: u64,
    pub(crate) unknown: u64,
    /// p50, p90, p99 and the highest, in microseconds; none without an operation that succeeded.
    pub(crate) latency_us: Option<[f64; 4]>,
}

/// The first line of `series.csv`.
const SERIES_HEADER: &str = "point,repeat,second,ops,errors,unknown,p50_us,p90_us,p99_us,max_us";

impl Second {
    fn line(&self) -> String {
        let Self { point, repeat, second, ops, errors, unknown, latency_us } = self;
        let mut line = format!("{point},{repeat},{second},{ops},{errors},{unknown}");
        for place in 0..4 {
            // Writing to a String cannot fail.
            let _ = match latency_us {
                Some(values) => write!(line, ",{:.1}", values[place]),
                None => write!(line, ","),
            };
        }
        line
    }

    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [point, repeat, second, ops, errors, unknown, latencies @ ..] = fields.as_slice() else {
            return None;
        };
        let latencies: Vec<f64> = latencies.iter().filter_map(|text| text.parse().ok()).collect();
        Some(Self {
            point: point.parse().ok()?,
            repeat: repeat.parse().ok()?,
            second: second.parse().ok()?,
            ops: ops.parse().ok()?,
            errors: errors.parse().ok()?,
            unknown: unknown.parse().ok()?,
            latency_us: latencies.try_into().ok(),
        })
    }
}

/// Something that befell the cluster, or that it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) point: u32,
    pub(crate) repeat: u32,
    pub(crate) at_us: i64,
    pub(crate) kind: EventKind,
    pub(crate) node: Option<u16>,
    pub(crate) term: Option<u64>,
    /// For people. A fault and its end have the same.
    pub(crate) text: String,
}

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EventKind {
    /// A fault begins.
    Fault,
    /// It ends.
    Heal,
    Crash,
    Start,
    Pause,
    Resume,
    /// The node leads in the term.
    Leader,
    /// Nobody leads.
    NoLeader,
    /// A term began.
    Election,
    Membership,
    Note,
}

/// What a node counted over one repeat of one point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeCounts {
    pub(crate) point: u32,
    pub(crate) repeat: u32,
    pub(crate) node: u16,
    pub(crate) role: String,
    pub(crate) term: u64,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
    pub(crate) datagrams_sent: Option<u64>,
    pub(crate) bytes_sent: Option<u64>,
    pub(crate) datagrams_received: u64,
    pub(crate) accepted: u64,
    pub(crate) retransmits: u64,
    pub(crate) duplicates: u64,
    /// What came to it from other nodes, where the kernel's rules count that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) packets_passed: Option<u64>,
    /// By reason, those that are not zero; `netfilter` for what the kernel's rules lost.
    pub(crate) drops: BTreeMap<String, u64>,
    /// Of its slowest link.
    pub(crate) rtt_us: Option<u64>,
    /// Of its worst link.
    pub(crate) loss: Option<f64>,
}

/// A folder that was read.
#[derive(Clone, Debug)]
pub(crate) struct RunFolder {
    pub(crate) dir: PathBuf,
    pub(crate) run: Run,
    pub(crate) points: Vec<Point>,
    pub(crate) seconds: Vec<Second>,
    pub(crate) events: Vec<Event>,
    pub(crate) nodes: Vec<NodeCounts>,
}

impl RunFolder {
    /// Reads a folder. A last line that was cut off by the end of the run is left out.
    pub(crate) fn open(dir: &Path) -> Result<Self, CliError> {
        let file = dir.join("run.json");
        let text = fs::read_to_string(&file).map_err(|error| {
            let hint = "a run folder is what `raftgram lab run --out DIR` writes";
            file_error(&file, "reading", &error).hint(hint)
        })?;
        let run: Run = serde_json::from_str(&text).map_err(|error| {
            CliError::new(Code::Corrupt, format!("not a run's description: {error}")).at(file.display())
        })?;
        if run.format != FORMAT {
            let text = format!("run folder of format {}, this version reads {FORMAT}", run.format);
            return Err(CliError::new(Code::Failed, text).at(file.display()));
        }
        let seconds = read_lines(&dir.join("series.csv"))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            run,
            points: read_rows(&dir.join("points.jsonl"))?,
            seconds: seconds.lines().skip(1).filter_map(Second::read).collect(),
            events: read_rows(&dir.join("events.jsonl"))?,
            nodes: read_rows(&dir.join("nodes.jsonl"))?,
        })
    }
}

fn read_lines(file: &Path) -> Result<String, CliError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(file_error(file, "reading", &error)),
    }
}

fn read_rows<T: DeserializeOwned>(file: &Path) -> Result<Vec<T>, CliError> {
    let text = read_lines(file)?;
    let mut rows = Vec::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        match serde_json::from_str(line) {
            Ok(row) => rows.push(row),
            Err(_) if !line.ends_with('\n') => {}
            Err(error) => {
                let text = format!("line {number} is no row of this file: {error}");
                return Err(CliError::new(Code::Corrupt, text).at(file.display()));
            }
        }
    }
    Ok(rows)
}

/// A folder that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    points: File,
    seconds: File,
    events: File,
    nodes: File,
}

impl Writer {
    /// Makes the folder; one that holds something already is refused.
    pub(crate) fn create(dir: &Path, run: &Run, scenario: &str) -> Result<Self, CliError> {
        fs::create_dir_all(dir).map_err(|error| file_error(dir, "making the run folder", &error))?;
        let mut inside = fs::read_dir(dir).map_err(|error| file_error(dir, "reading", &error))?;
        if inside.next().is_some() {
            return Err(CliError::usage("the folder is not empty")
                .at(dir.display())
                .hint("name another with --out"));
        }
        let create = |name: &str| {
            let file = dir.join(name);
            OpenOptions::new()
                .append(true)
                .create_new(true)
                .open(&file)
                .map_err(|error| file_error(&file, "creating", &error))
        };
        let mut writer = Self {
            dir: dir.to_path_buf(),
            points: create("points.jsonl")?,
            seconds: create("series.csv")?,
            events: create("events.jsonl")?,
            nodes: create("nodes.jsonl")?,
        };
        append(&mut writer.seconds, dir, SERIES_HEADER)?;
        writer.put("scenario.toml", scenario)?;
        writer.describe(run)?;
        Ok(writer)
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Replaces `run.json`, at once: whoever reads meanwhile sees the former or this one.
    pub(crate) fn describe(&self, run: &Run) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(run)
            .map_err(|error| CliError::new(Code::Failed, format!("internal: {error}")))?;
        self.put("run.json.tmp", &(text + "\n"))?;
        let (from, to) = (self.dir.join("run.json.tmp"), self.dir.join("run.json"));
        fs::rename(&from, &to).map_err(|error| file_error(&to, "writing", &error))
    }

    /// Writes a whole file of the folder.
    pub(crate) fn put(&self, name: &str, text: &str) -> Result<(), CliError> {
        let file = self.dir.join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(|error| file_error(parent, "making a folder", &error))?;
        }
        fs::write(&file, text).map_err(|error| file_error(&file, "writing", &error))
    }

    pub(crate) fn point(&mut self, point: &Point) -> Result<(), CliError> {
        append_row(&mut self.points, &self.dir, point)
    }

    pub(crate) fn second(&mut self, second: &Second) -> Result<(), CliError> {
        append(&mut self.seconds, &self.dir, &second.line())
    }

    pub(crate) fn event(&mut self, event: &Event) -> Result<(), CliError> {
        append_row(&mut self.events, &self.dir, event)
    }

    pub(crate) fn node(&mut self, node: &NodeCounts) -> Result<(), CliError> {
        append_row(&mut self.nodes, &self.dir, node)
    }
}

fn append_row<T: Serialize>(file: &mut File, dir: &Path, row: &T) -> Result<(), CliError> {
    let line = serde_json::to_string(row)
        .map_err(|error| CliError::new(Code::Failed, format!("internal: {error}")))?;
    append(file, dir, &line)
}

/// One write, so that a line is there whole or is the last one.
fn append(file: &mut File, dir: &Path, line: &str) -> Result<(), CliError> {
    file.write_all(format!("{line}\n").as_bytes()).map_err(|error| file_error(dir, "writing a row", &error))
}
