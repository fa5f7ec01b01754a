//! `trace check`: does every line stand?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use raftgram::trace::Counts;
use serde::Serialize;

use crate::error::CliError;
use crate::output::Format;
use crate::trace::lines::{AtCut, Lines};

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
    let mut lines = Lines::open(file, AtCut::Refuse)?;
    while lines.next()?.is_some() {}
    Ok(CheckedFile::of(file, lines.counts()))
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
