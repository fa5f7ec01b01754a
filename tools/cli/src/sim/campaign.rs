//! `sim --mutants`: every known bug, each until a check catches it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use raftgram::mutant::Mutant;
use raftgram::sim::Report;
use raftgram::sim::invariant::Invariant;
use serde::Serialize;

use super::sweep::Sweep;
use crate::error::{CliError, Code};
use crate::output::{self, Format, file_error};

/// What the table says before its rows.
const TABLE_HEAD: &str = "\
# Mutants

A check that never failed may check nothing. So the bugs that broke other systems are kept in the code, each behind a
switch at the very place where raftgram keeps the rule (`src/mutant.rs`, feature `mutants`, never in a build that
serves), and the simulator has to catch every one of them: with the ordinary faults of `raftgram sim`, by the ordinary
checks. Neither knows which bug is on.

This page is written by

    cargo run --release -p raftgram-cli --features mutants -- sim --mutants \\
        --time 10s --seeds 0..20000 --table docs/mutants.md --record tests/seeds/mutants.txt

which takes the seeds in order, for each mutant from the first on, and stops at the one that shows a violation, but
shows none without the mutant.
`tests/mutants.rs` runs those seeds again in CI, with the mutant, which must be caught, and without, which must pass.
An invariant's number is that of `src/sim/invariant/mod.rs`; 0 is a node's own assertion. *Seeds* is how many were
needed.
";

/// Mutants, seeds and what came of them.
#[derive(Debug, Serialize)]
struct Shown {
    mutants: usize,
    caught: usize,
    /// Seeds needed for half of the mutants.
    seeds_median: u64,
    seeds_max: u64,
    elapsed_s: f64,
    rows: Vec<Row>,
}

/// One mutant.
#[derive(Debug, Serialize)]
struct Row {
    mutant: &'static str,
    summary: &'static str,
    /// The seed that caught it, and by which invariant.
    seed: Option<u64>,
    invariant: Option<u8>,
    name: Option<&'static str>,
    text: Option<String>,
    /// Seeds that were run, the catching one included.
    seeds: u64,
}

impl Row {
    fn new(mutant: Mutant, seeds: u64, caught: Option<&Report>) -> Self {
        let violation = caught.and_then(|report| report.violation.as_ref());
        let invariant = violation.map(|violation| violation.invariant);
        Self {
            mutant: mutant.name(),
            summary: mutant.summary().trim(),
            seed: caught.map(|report| report.config.seed),
            invariant: invariant.map(Invariant::number),
            name: invariant.map(Invariant::name),
            text: violation.map(ToString::to_string),
            seeds,
        }
    }

    /// For people who wait.
    fn line(&self) -> String {
        match (self.seed, &self.text) {
            (Some(seed), Some(text)) => {
                let text = text.lines().next().unwrap_or_default();
                format!("{:4} caught by seed {seed} ({} seeds): {text}\n", self.mutant, self.seeds)
            }
            _ => format!("{:4} not caught in {} seeds\n", self.mutant, self.seeds),
        }
    }
}

/// Runs each of these mutants over the sweep's seeds until it is caught.
pub(super) fn run(
    sweep: &Sweep,
    format: Format,
    table: Option<&Path>,
    record: Option<&Path>,
) -> Result<(), CliError> {
    let began = std::time::Instant::now();
    let mut rows = Vec::new();
    for &mutant in Mutant::ALL {
        let (seeds, caught) = catch(sweep, mutant)?;
        let row = Row::new(mutant, seeds, caught.as_ref());
        if !format.is_json() {
            output::write(&row.line())?;
        }
        rows.push(row);
    }
    if let Some(path) = table {
        write_file(path, &table_of(&rows, sweep))?;
    }
    if let Some(path) = record {
        write_file(path, &record_of(&rows, sweep))?;
    }
    let mut needed: Vec<u64> = rows.iter().filter(|row| row.seed.is_some()).map(|row| row.seeds).collect();
    needed.sort_unstable();
    let shown = Shown {
        mutants: rows.len(),
        caught: needed.len(),
        seeds_median: needed.get(needed.len() / 2).copied().unwrap_or_default(),
        seeds_max: needed.last().copied().unwrap_or_default(),
        elapsed_s: began.elapsed().as_secs_f64(),
        rows,
    };
    let (mutants, caught) = (shown.mutants, shown.caught);
    let Shown { seeds_median, seeds_max, elapsed_s, .. } = &shown;
    let text = format!(
        "{caught} of {mutants} mutants caught, median {seeds_median} seeds, most {seeds_max}, {elapsed_s:.0} s\n"
    );
    format.answer(&shown, |_| text)?;
    if caught < mutants {
        let message = format!("{} of {mutants} mutants were not caught", mutants - caught);
        return Err(CliError::new(Code::Violation, message).hint("give more seeds"));
    }
    Ok(())
}

/// The first seed that shows a violation with the mutant and none without, and how many were run.
fn catch(sweep: &Sweep, mutant: Mutant) -> Result<(u64, Option<Report>), CliError> {
    let mut first = sweep.first;
    while first < sweep.end {
        let judged = Sweep { first, mutant: Some(mutant), until_first: true, trace: None, ..*sweep }.run()?;
        let Some(caught) = judged.first else { break };
        let seed = caught.config.seed;
        let without = Sweep { first: seed, end: seed + 1, mutant: None, trace: None, ..*sweep }.run()?;
        if without.violations == 0 {
            return Ok((seed + 1 - sweep.first, Some(caught)));
        }
        first = seed + 1;
    }
    Ok((sweep.end - sweep.first, None))
}

fn table_of(rows: &[Row], sweep: &Sweep) -> String {
    let caught = rows.iter().filter(|row| row.seed.is_some()).count();
    let mut text = String::from(TABLE_HEAD);
    let (nodes, time) = (sweep.config.nodes, sweep.config.time);
    let _ = write!(
        text,
        "\n{caught} of {} caught, with {nodes} nodes and {time:?} of faults in each run.\n\n",
        rows.len()
    );
    text.push_str("| mutant | what goes wrong | caught by | seed | seeds |\n|---|---|---|---|---|\n");
    for row in rows {
        let Row { mutant, summary, seeds, .. } = row;
        let (by, seed) = match (row.invariant, row.name, row.seed) {
            (Some(number), Some(name), Some(seed)) => (format!("{number}: {name}"), seed.to_string()),
            _ => ("not caught".to_owned(), "-".to_owned()),
        };
        let _ = writeln!(text, "| {mutant} | {summary} | {by} | {seed} | {seeds} |");
    }
    text
}

fn record_of(rows: &[Row], sweep: &Sweep) -> String {
    let mut text =
        String::from("# Which seed catches which mutant; written by `raftgram sim --mutants --record`.\n");
    for row in rows {
        let (mutant, nodes, time_s) = (row.mutant, sweep.config.nodes, sweep.config.time.as_secs());
        let (Some(seed), Some(invariant)) = (row.seed, row.invariant) else {
            let _ = writeln!(text, "mutant={mutant} seed=none");
            continue;
        };
        let _ =
            writeln!(text, "mutant={mutant} nodes={nodes} time_s={time_s} seed={seed} invariant={invariant}");
    }
    text
}

fn write_file(path: &Path, text: &str) -> Result<(), CliError> {
    fs::write(path, text).map_err(|error| file_error(path, "writing", &error))
}
