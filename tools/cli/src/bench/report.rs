//! The figures of a measurement as cli.md's keys, as lines for people and as an `.hgrm` file.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::bench::baseline::{Baseline, Compared};
use crate::bench::floor::AgainstFloor;
use crate::error::CliError;
use crate::output::{Format, file_error};

/// What one measurement found. `S` is what it was measured with.
#[derive(Debug)]
pub(crate) struct Figures<S> {
    /// Latencies of the operations that succeeded, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Operations that failed.
    pub(crate) errors: u64,
    /// Operations of which nobody knows whether they happened.
    pub(crate) unknown: u64,
    pub(crate) elapsed: Duration,
    pub(crate) settings: S,
}

/// A latency that people notice.
const STALL_NS: u64 = 150_000_000;

#[derive(Debug, Serialize)]
struct Document<'a, S> {
    ops: u64,
    errors: u64,
    unknown: u64,
    ops_per_s: f64,
    latency_us: Latency,
    /// Operations that took longer than 150 ms: percentiles of a closed loop hide stalls.
    over_150_ms: u64,
    settings: &'a S,
    /// How many times the baseline's figures these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Compared>,
    /// How they stand to the floor, measured in turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<AgainstFloor>,
}

/// Of the operations that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
}

impl Latency {
    /// In microseconds, of nanoseconds; zeros of none.
    pub(crate) fn of(latencies: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| us(latencies.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: us(latencies.max()),
            mean: latencies.mean() / 1000.0,
        }
    }

    /// The same, and none of none.
    pub(crate) fn of_any(latencies: &Histogram<u64>) -> Option<Self> {
        (!latencies.is_empty()).then(|| Self::of(latencies))
    }
}

/// A histogram from 100 ns to a minute with three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 60_000_000_000, 3)
        .expect("the bounds are in order and three digits are few")
}

impl<S: Serialize> Figures<S> {
    /// Prints the figures with their settings.
    pub(crate) fn answer(&self, format: Format) -> Result<(), CliError> {
        self.answer_beside(format, None, None, None)
    }

    /// Prints the figures with their settings, and how they stand against an earlier run and against the floor. Fails
    /// when they are worse than the earlier run's by more than `regression`.
    pub(super) fn answer_beside(
        &self,
        format: Format,
        baseline: Option<&Baseline>,
        floor: Option<AgainstFloor>,
        regression: Option<f64>,
    ) -> Result<(), CliError> {
        let mut document = self.document();
        document.floor = floor;
        document.baseline = baseline.map(|baseline| {
            baseline.compare(document.ops_per_s, document.latency_us.p50, document.latency_us.p99)
        });
        format.answer(&document, |format| {
            let Latency { p50, p90, p99, p999, max, .. } = document.latency_us;
            let shown = |us: f64| format!("{us:.1} us");
            let headings =
                ["ops", "ops/s", "errors", "unknown", "p50", "p90", "p99", "p99.9", "max", ">150 ms"];
            let counts = [document.ops, document.ops_per_s.round() as u64, self.errors, self.unknown];
            let row = counts
                .map(|count| count.to_string())
                .into_iter()
                .chain([p50, p90, p99, p999, max].map(shown))
                .chain([document.over_150_ms.to_string()]);
            let settings = serde_json::to_value(&self.settings).unwrap_or_default();
            let settings = settings.as_object().into_iter().flatten();
            let settings: Vec<Vec<String>> =
                settings.map(|(key, value)| vec![key.clone(), words(value)]).collect();
            let figures = format.table(&headings, &[row.collect()]);
            let floor = document.floor.as_ref().map(AgainstFloor::text).unwrap_or_default();
            let compared = document.baseline.as_ref().map(Compared::text).unwrap_or_default() + &floor;
            figures
                + &compared
                + "
" + &format.table(&["setting", "value"], &settings)
        })?;
        match (&document.baseline, regression) {
            (Some(compared), Some(share)) => compared.check(share),
            _ => Ok(()),
        }
    }

    fn document(&self) -> Document<'_, S> {
        let ops = self.latencies.len();
        Document {
            ops,
            errors: self.errors,
            unknown: self.unknown,
            ops_per_s: if self.elapsed.is_zero() { 0.0 } else { ops as f64 / self.elapsed.as_secs_f64() },
            latency_us: Latency::of(&self.latencies),
            settings: &self.settings,
            over_150_ms: self.latencies.count_between(STALL_NS + 1, u64::MAX),
            baseline: None,
            floor: None,
        }
    }

    /// Writes the percentile distribution in microseconds, in the format that HdrHistogram's plotters read.
    pub(crate) fn write_hgrm(&self, file: &Path) -> Result<(), CliError> {
        std::fs::write(file, hgrm(&self.latencies))
            .map_err(|error| file_error(file, "writing the histogram", &error))
    }
}

/// A setting as text: a list or a table on one line.
fn words(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key}={}", words(value))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// A percentile distribution in microseconds, as HdrHistogram's plotters read it.
pub(crate) fn hgrm(latencies: &Histogram<u64>) -> String {
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let us = |ns: u64| ns as f64 / 1000.0;
    for step in latencies.iter_quantiles(5) {
        let (value, quantile, count) = (
            us(step.value_iterated_to()),
            step.quantile_iterated_to(),
            count_below(latencies, step.value_iterated_to()),
        );
        // Writing to a String cannot fail.
        let _ = match quantile {
            1.0 => writeln!(out, "{value:12.3} {quantile:14.12} {count:10}"),
            _ => writeln!(out, "{value:12.3} {quantile:14.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile)),
        };
    }
    let (mean, deviation) = (latencies.mean() / 1000.0, latencies.stdev() / 1000.0);
    let _ = writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let _ =
        writeln!(out, "#[Max     = {:12.3}, Total count    = {:12}]", us(latencies.max()), latencies.len());
    let buckets = latencies.buckets();
    let _ = writeln!(
        out,
        "#[Buckets = {buckets:12}, SubBuckets     = {:12}]",
        latencies.distinct_values() / usize::from(buckets)
    );
    out
}

fn count_below(latencies: &Histogram<u64>, value: u64) -> u64 {
    latencies.count_between(0, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures<()> {
        let mut latencies = histogram();
        (1..=1000u64).for_each(|us| latencies.record(us * 1000).unwrap());
        Figures { latencies, errors: 1, unknown: 2, elapsed: Duration::from_secs(2), settings: () }
    }

    #[test]
    fn quantiles_are_in_microseconds() {
        let figures = figures();
        let document = figures.document();
        assert_eq!((document.ops, document.ops_per_s), (1000, 500.0));
        let Latency { p50, p99, max, .. } = document.latency_us;
        // Three significant digits: within a tenth of a per cent.
        assert!((499.0..=501.0).contains(&p50) && (989.0..=991.0).contains(&p99), "{p50} {p99}");
        assert!((1000.0..=1001.0).contains(&max), "{max}");
    }

    #[test]
    fn an_hgrm_file_ends_at_the_hundredth_percentile_with_every_count() {
        let text = hgrm(&figures().latencies);
        assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"));
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        let columns: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(columns[1..], ["1.000000000000", "1000"]);
    }

    #[test]
    fn nothing_measured_is_printed_as_nothing() {
        let empty =
            Figures { latencies: histogram(), errors: 0, unknown: 0, elapsed: Duration::ZERO, settings: () };
        assert_eq!(empty.document().ops_per_s, 0.0);
    }
}
