//! `sim`: seeds through the simulator, on all processors, with every check on.

#[cfg(feature = "mutants")]
mod campaign;
mod files;
mod sweep;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use raftgram::seal::SealMode;
use raftgram::sim::{Config, FaultSet, NODES_MAX, Report};
use raftgram::trace::Payloads;
use serde::Serialize;

use crate::error::{CliError, Code};
use crate::output::{self, Format};
use crate::units::Span;
pub(crate) use sweep::any_seed;
use sweep::{Judged, Sweep};

/// The most nodes, as the parser counts.
const MOST: i64 = NODES_MAX as i64;

/// Run whole clusters in virtual time, each from a seed, under faults and with every check on.
#[derive(Debug, Args)]
#[command(
    after_help = "The same seed, nodes, time, faults and seal give the same run on every machine; trace_hash shows it. \
Exit 7 when a property does not hold, with the line that replays it."
)]
pub(crate) struct Sim {
    /// How many nodes.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=MOST))]
    nodes: u16,
    /// Run this seed; without it and --seeds one is drawn, and printed.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run the seeds from A up to, and without, B.
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// How long faults are done in each run, in virtual time.
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    time: Span,
    /// The faults to draw from: all, none, or a list.
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = faults)]
    faults: FaultSet,
    /// Seal all datagrams, with keys drawn from the seed; without faults on the network this changes nothing that
    /// clients see.
    #[arg(long)]
    sealed: bool,
    /// Switch on a known bug, to see it caught.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Run every known bug until a check catches it, each from the first seed on.
    #[cfg(feature = "mutants")]
    #[arg(long, conflicts_with_all = ["mutant", "history", "first"])]
    mutants: bool,
    /// Write what came of each mutant as a table to this file.
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "FILE", requires = "mutants")]
    table: Option<PathBuf>,
    /// Write which seed catches which mutant to this file.
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "FILE", requires = "mutants")]
    record: Option<PathBuf>,
    /// Stop at the lowest seed that shows a violation.
    #[arg(long)]
    first: bool,
    /// Use this many threads; without it, as many as there are processors. The result does not depend on it.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Write all that happens to this file, an event a line (docs/trace.md); with one seed only.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Let the trace hold the bytes of all datagrams, for `trace pcap`.
    #[arg(long, requires = "trace")]
    payloads: bool,
    /// Write what clients saw to this file, for `check`; with one seed only.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// A range of seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seeds {
    first: u64,
    end: u64,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, end) = text.split_once("..").ok_or_else(|| format!("`{text}` is not written A..B"))?;
        let number =
            |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no seed: a number below 2^64"));
        let seeds = Self { first: number(first)?, end: number(end)? };
        if seeds.first >= seeds.end {
            return Err(format!("`{text}` holds no seed: write the lower one first; {end} is not run"));
        }
        Ok(seeds)
    }
}

fn faults(text: &str) -> Result<FaultSet, String> {
    text.parse().map_err(|error: raftgram::sim::UnknownFault| error.to_string())
}

/// What came of it, for programs.
#[derive(Debug, Serialize)]
struct Shown {
    seeds: u64,
    violations: u64,
    sim_seconds: f64,
    events: u64,
    trace_hash: String,
    operations: u64,
    operations_ok: u64,
    elapsed_s: f64,
    seeds_per_s: f64,
    events_per_s: f64,
    /// Virtual seconds for each second of one thread.
    real_time_ratio: f64,
    first: Option<First>,
    #[serde(flatten)]
    failure: Option<serde_json::Value>,
}

/// The violation of the lowest seed.
#[derive(Debug, Serialize)]
struct First {
    seed: u64,
    invariant: u8,
    name: &'static str,
    text: String,
    replay: String,
}

impl Sim {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        let seeds = self.range()?;
        let sweep = Sweep {
            first: seeds.first,
            end: seeds.end,
            config: Config {
                nodes: self.nodes,
                time: self.time.0,
                faults: self.faults,
                seal: if self.sealed { SealMode::Require } else { SealMode::Off },
                ..Config::new(seeds.first)
            },
            mutant: self.mutant()?,
            threads: self.threads.map_or_else(sweep::processors, usize::from),
            until_first: self.first,
            keeps_history: self.history.is_some(),
            trace: self.trace.clone(),
            payloads: if self.payloads { Payloads::Kept } else { Payloads::LeftOut },
        };
        #[cfg(feature = "mutants")]
        if self.mutants {
            return campaign::run(&sweep, format, self.table.as_deref(), self.record.as_deref());
        }
        let judged = sweep.run()?;
        if let (Some(path), Some(events)) = (&self.history, &judged.history) {
            files::write_history(path, events)?;
        }
        self.show(format, &judged)
    }

    fn range(&self) -> Result<Seeds, CliError> {
        let seeds = match (self.seed, self.seeds) {
            (_, Some(seeds)) => seeds,
            (Some(u64::MAX), None) => return Err(CliError::usage("the highest seed is 2^64 - 2")),
            (Some(seed), None) => Seeds { first: seed, end: seed + 1 },
            (None, None) => {
                let seed = sweep::any_seed();
                Seeds { first: seed, end: seed + 1 }
            }
        };
        if (self.history.is_some() || self.trace.is_some()) && seeds.end - seeds.first > 1 {
            return Err(CliError::usage("--history and --trace are for one run: give one --seed"));
        }
        if self.time.0 > Duration::from_secs(24 * 3600) {
            return Err(CliError::usage("--time is longer than a day"));
        }
        Ok(seeds)
    }

    #[cfg(feature = "mutants")]
    fn mutant(&self) -> Result<Option<raftgram::mutant::Mutant>, CliError> {
        use raftgram::mutant::Mutant;
        let Some(name) = &self.mutant else { return Ok(None) };
        let names = || Mutant::ALL.iter().map(|mutant| mutant.name()).collect::<Vec<_>>().join(", ");
        let unknown =
            || CliError::usage(format!("no mutant is called `{name}`")).hint(format!("one of {}", names()));
        Mutant::from_name(name).map(Some).ok_or_else(unknown)
    }

    #[cfg(not(feature = "mutants"))]
    fn mutant(&self) -> Result<Option<raftgram::mutant::Mutant>, CliError> {
        if self.mutant.is_none() {
            return Ok(None);
        }
        let hint = "cargo build --release -p raftgram-cli --features mutants";
        Err(CliError::usage("this build has no mutants").hint(format!("build one that has: {hint}")))
    }

    /// The line that runs one seed again.
    fn replay(&self, seed: u64) -> String {
        let Self { nodes, time, faults, .. } = self;
        let mutant = self.mutant.as_ref().map_or_else(String::new, |name| format!(" --mutant {name}"));
        let sealed = if self.sealed { " --sealed" } else { "" };
        format!("raftgram sim --nodes {nodes} --seed {seed} --time {time} --faults {faults}{sealed}{mutant}")
    }

    fn show(&self, format: Format, judged: &Judged) -> Result<(), CliError> {
        let first = judged.first.as_ref().map(|report| self.first(report));
        let error = first.as_ref().map(|first| {
            let message = format!("seed {}: {}", first.seed, first.text);
            CliError::new(Code::Violation, message).hint(format!("replay it: {}", first.replay))
        });
        let elapsed = judged.elapsed.as_secs_f64().max(1e-9);
        let sim_seconds = judged.time.as_secs_f64();
        let shown = Shown {
            seeds: judged.seeds,
            violations: judged.violations,
            sim_seconds,
            events: judged.events,
            trace_hash: format!("{:016x}", judged.trace_hash),
            operations: judged.operations.total(),
            operations_ok: judged.operations.ok,
            elapsed_s: elapsed,
            seeds_per_s: judged.seeds as f64 / elapsed,
            events_per_s: judged.events as f64 / elapsed,
            real_time_ratio: sim_seconds / judged.busy.as_secs_f64().max(1e-9),
            first,
            failure: error.as_ref().and_then(|error| serde_json::to_value(error.document()).ok()),
        };
        if format.is_json() {
            format.answer(&shown, |_| String::new())?;
            return error.map_or(Ok(()), |error| Err(error.already_reported()));
        }
        output::write(&self.text(&shown, judged))?;
        error.map_or(Ok(()), Err)
    }

    fn first(&self, report: &Report) -> First {
        let violation = report.violation.as_ref();
        let invariant =
            violation.map_or(raftgram::sim::invariant::Invariant::OwnAssertion, |it| it.invariant);
        First {
            seed: report.config.seed,
            invariant: invariant.number(),
            name: invariant.name(),
            text: violation.map_or_else(String::new, ToString::to_string),
            replay: self.replay(report.config.seed),
        }
    }

    fn text(&self, shown: &Shown, judged: &Judged) -> String {
        let Shown { seeds, violations, events, trace_hash, .. } = shown;
        let what = if *seeds == 1 { format!("seed {}", judged.first_seed) } else { format!("{seeds} seeds") };
        let threads = judged.threads;
        format!(
            "{what}, {violations} violations, trace hash {trace_hash}\n\
             {:.0} virtual seconds of {} nodes, {events} events, {} operations ({} answered)\n\
             {:.1} s on {threads} threads: {:.1} seeds/s, {:.0} events/s, {:.0} x real time per thread\n",
            shown.sim_seconds,
            self.nodes,
            shown.operations,
            shown.operations_ok,
            shown.elapsed_s,
            shown.seeds_per_s,
            shown.events_per_s,
            shown.real_time_ratio,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_seeds_are_read_and_bad_ones_say_why() {
        assert_eq!("3..7".parse(), Ok(Seeds { first: 3, end: 7 }));
        for (text, why) in
            [("7", "A..B"), ("7..7", "no seed"), ("9..7", "no seed"), ("a..7", "`a`"), ("1..x", "`x`")]
        {
            assert!(text.parse::<Seeds>().is_err_and(|error| error.contains(why)), "{text}");
        }
    }
}
