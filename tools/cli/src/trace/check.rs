//! `trace check`: does every line stand?

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use raftgram::trace::{Checker, Counts};
use serde::Serialize;

use crate::error::{CliError, Code};
use crate::output::{Format, file_error};

/// The longest line that any trace has: a datagram's payload takes two digits a byte.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Read traces, hold every line against the schema, and count what happened. Exit 6 if a line does not stand.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Files that `node --record` or `sim --trace` wrote; `-` is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Checked {
    files: Vec<CheckedFile>,
}

#[derive(Debug, Serialize)]
struct CheckedFile {
    file: String,
    lines: u64,
    events: BTreeMap<&'static str, u64>,
    datagrams: BTreeMap<String, u64>,
    retransmissions: u64,
    left_out: u64,
}

impl Check {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        let files: Result<Vec<_>, _> = self.files.iter().map(|file| check(file)).collect();
        let checked = Checked { files: files? };
        format.answer(&checked, |format| checked.text(format))
    }
}

fn check(file: &Path) -> Result<CheckedFile, CliError> {
    let counts = if file == Path::new("-") {
        read(file, io::stdin().lock())
    } else {
        let opened = File::open(file).map_err(|error| file_error(file, "reading the trace", &error))?;
        read(file, BufReader::new(opened))
    }?;
    Ok(CheckedFile::of(file, &counts))
}

/// Line by line, for traces grow large.
fn read(file: &Path, mut from: impl BufRead) -> Result<Counts, CliError> {
    let mut checker = Checker::default();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let taken = io::Read::take(&mut from, LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let taken = taken.map_err(|error| file_error(file, "reading the trace", &error))?;
        let fault =
            |why: String| CliError::new(Code::Corrupt, why).at(format!("{}:{number}", file.display()));
        if taken == 0 {
            break;
        }
        let text = std::str::from_utf8(&line).map_err(|_| fault("this is no UTF-8 text".to_owned()))?;
        let Some(text) = text.strip_suffix('\n') else {
            let why = if taken as u64 == LINE_BYTES_MAX {
                "no line is as long as this"
            } else {
                "the line is cut off"
            };
            return Err(fault(why.to_owned()));
        };
        checker.line(text).map_err(|why| fault(why.to_string()))?;
    }
    if checker.counts().lines() == 0 {
        let why = "this is empty, and a trace has a header at least";
        return Err(CliError::new(Code::Corrupt, why).at(format!("{}:1", file.display())));
    }
    Ok(checker.counts().clone())
}

impl CheckedFile {
    fn of(file: &Path, counts: &Counts) -> Self {
        let outcome = |(&(outcome, reason), &count): (&(&str, Option<&str>), &u64)| {
            let name = reason.map_or_else(|| outcome.to_owned(), |reason| format!("{outcome}-{reason}"));
            (name, count)
        };
        Self {
            file: file.display().to_string(),
            lines: counts.lines(),
            events: counts.events.clone(),
            datagrams: counts.datagrams.iter().map(outcome).collect(),
            retransmissions: counts.retransmissions,
            left_out: counts.left_out,
        }
    }
}

impl Checked {
    /// A column for each file, a row for each thing that was counted in any.
    fn text(&self, format: Format) -> String {
        let mut rows: BTreeMap<(u8, &str), Vec<u64>> = BTreeMap::new();
        for (place, file) in self.files.iter().enumerate() {
            let events = file.events.iter().map(|(name, count)| ((1, *name), *count));
            let datagrams = file.datagrams.iter().map(|(name, count)| ((2, name.as_str()), *count));
            let totals = [
                ((0, "lines"), file.lines),
                ((3, "sent again"), file.retransmissions),
                ((4, "left out"), file.left_out),
            ];
            for (row, count) in totals.into_iter().chain(events).chain(datagrams) {
                rows.entry(row).or_insert_with(|| vec![0; self.files.len()])[place] = count;
            }
        }
        let headings: Vec<&str> =
            ["counted"].into_iter().chain(self.files.iter().map(|file| file.file.as_str())).collect();
        let row = |((kind, name), counts): (&(u8, &str), &Vec<u64>)| {
            let name = if *kind == 2 { format!("datagram {name}") } else { (*name).to_owned() };
            [name].into_iter().chain(counts.iter().map(u64::to_string)).collect()
        };
        format.table(&headings, &rows.iter().map(row).collect::<Vec<_>>())
    }
}
