//! `lab compare`: two run folders, point by point, with the spread of their repeats.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::run_folder::{Point, RunFolder};
use crate::error::{CliError, Code};
use crate::output::Format;

/// Compare two run folders, point by point. Repeats give intervals; what lies within them is no difference.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The folder that is compared with.
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The other one.
    #[arg(value_name = "AFTER")]
    after: PathBuf,
}

/// A figure of a point: the mean of its repeats and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Figure {
    mean: f64,
    min: f64,
    max: f64,
}

impl Figure {
    fn of(values: &[f64]) -> Option<Self> {
        let min = values.iter().copied().reduce(f64::min)?;
        let max = values.iter().copied().reduce(f64::max)?;
        Some(Self { mean: values.iter().sum::<f64>() / values.len() as f64, min, max })
    }

    /// Whether the two intervals have nothing in common.
    fn is_apart_from(&self, other: &Self) -> bool {
        self.max < other.min || other.max < self.min
    }
}

#[derive(Debug, Serialize)]
struct Pair {
    before: Option<Figure>,
    after: Option<Figure>,
    /// After, as so many times before.
    ratio: Option<f64>,
    /// More than the repeats explain.
    differs: bool,
}

impl Pair {
    fn of(before: &[&Point], after: &[&Point], figure: fn(&Point) -> Option<f64>) -> Self {
        let values = |points: &[&Point]| points.iter().filter_map(|point| figure(point)).collect::<Vec<_>>();
        let (before, after) = (Figure::of(&values(before)), Figure::of(&values(after)));
        let both = before.zip(after);
        Self {
            before,
            after,
            ratio: both
                .filter(|(before, _)| before.mean != 0.0)
                .map(|(before, after)| after.mean / before.mean),
            differs: both.map_or(before != after, |(before, after)| before.is_apart_from(&after)),
        }
    }

    fn cells(&self) -> [String; 3] {
        let shown = |figure: &Option<Figure>| {
            figure.map_or_else(
                || "-".to_owned(),
                |it| format!("{:.2} ({:.2} to {:.2})", it.mean, it.min, it.max),
            )
        };
        let ratio = self.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2} x"));
        let mark = if self.differs { " *" } else { "" };
        [shown(&self.before), shown(&self.after), ratio + mark]
    }
}

#[derive(Debug, Serialize)]
struct Row {
    system: String,
    label: String,
    ops_per_s: Pair,
    p50_ms: Pair,
    p99_ms: Pair,
    longest_gap_ms: Pair,
}

#[derive(Debug, Serialize)]
struct Compared {
    /// Settings that are not the same in both.
    settings: Vec<String>,
    points: Vec<Row>,
    /// Points that only one of the two has.
    left_out: u64,
}

impl Compare {
    pub(crate) fn run(self, format: Format) -> Result<(), CliError> {
        let (before, after) = (RunFolder::open(&self.before)?, RunFolder::open(&self.after)?);
        let compared = compare(&before, &after);
        if compared.points.is_empty() {
            return Err(CliError::new(Code::Failed, "the two folders have no point in common")
                .at(self.after.display())
                .hint("points are compared by system and value; `lab run` takes the same --sweep twice"));
        }
        format.answer(&compared, |format| compared.text(format))
    }
}

fn compare(before: &RunFolder, after: &RunFolder) -> Compared {
    let mut names: Vec<(&str, &str)> = Vec::new();
    for point in &before.points {
        let name = (point.system.as_str(), point.label.as_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let of = |folder: &'_ RunFolder, name: (&str, &str)| -> Vec<Point> {
        let is_it = |point: &&Point| (point.system.as_str(), point.label.as_str()) == name;
        folder.points.iter().filter(is_it).cloned().collect()
    };
    let mut points = Vec::new();
    for name in &names {
        let (one, other) = (of(before, *name), of(after, *name));
        if other.is_empty() {
            continue;
        }
        let (one, other): (Vec<&Point>, Vec<&Point>) = (one.iter().collect(), other.iter().collect());
        let pair = |figure| Pair::of(&one, &other, figure);
        points.push(Row {
            system: name.0.to_owned(),
            label: name.1.to_owned(),
            ops_per_s: pair(|point| Some(point.ops_per_s)),
            p50_ms: pair(|point| point.latency_us.map(|it| it.p50 / 1000.0)),
            p99_ms: pair(|point| point.latency_us.map(|it| it.p99 / 1000.0)),
            longest_gap_ms: pair(|point| Some(point.longest_gap_us as f64 / 1000.0)),
        });
    }
    let is_new = |point: &&Point| !names.contains(&(point.system.as_str(), point.label.as_str()));
    let only_after = after.points.iter().filter(is_new).count();
    Compared {
        settings: differences(before, after),
        left_out: (names.len() - points.len() + only_after) as u64,
        points,
    }
}

/// What makes the two runs differ before anything is measured.
fn differences(before: &RunFolder, after: &RunFolder) -> Vec<String> {
    let flat = |folder: &RunFolder| {
        let run = serde_json::to_value(&folder.run).unwrap_or_default();
        let mut all = Vec::new();
        for part in ["settings", "host"] {
            let fields = run.get(part).and_then(|it| it.as_object()).into_iter().flatten();
            all.extend(fields.map(|(key, value)| (key.clone(), value.to_string())));
        }
        let own = ["name", "on", "seed", "repeats", "version", "build", "commit", "is_modified", "state"];
        all.extend(own.iter().map(|key| ((*key).to_owned(), run[*key].to_string())));
        all
    };
    let (one, other) = (flat(before), flat(after));
    let pairs = one.iter().filter_map(|(key, value)| {
        let (_, theirs) = other.iter().find(|(other, _)| other == key)?;
        (value != theirs).then(|| format!("{key}: {value} before, {theirs} after"))
    });
    pairs.collect()
}

impl Compared {
    fn text(&self, format: Format) -> String {
        let mut rows = Vec::new();
        for row in &self.points {
            let figures = [
                ("ops/s", &row.ops_per_s),
                ("p50 ms", &row.p50_ms),
                ("p99 ms", &row.p99_ms),
                ("longest gap ms", &row.longest_gap_ms),
            ];
            for (name, pair) in figures {
                let [before, after, ratio] = pair.cells();
                rows.push(vec![row.system.clone(), row.label.clone(), name.to_owned(), before, after, ratio]);
            }
        }
        let table = format.table(&["system", "point", "figure", "before", "after", "ratio"], &rows);
        let settings: String = self.settings.iter().map(|line| format!("differs: {line}\n")).collect();
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!("{count} points are in one of the two only\n"),
        };
        format!("{table}* the repeats of the two do not overlap\n{settings}{left_out}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_repeats_do_not_explain_is_a_difference() {
        let figure = |values: &[f64]| Figure::of(values).unwrap();
        assert!(!figure(&[1.0, 3.0]).is_apart_from(&figure(&[2.9, 5.0])));
        assert!(figure(&[1.0, 2.0]).is_apart_from(&figure(&[2.5])));
        assert_eq!(figure(&[1.0, 3.0]).mean, 2.0);
        assert_eq!(Figure::of(&[]), None);
    }
}
