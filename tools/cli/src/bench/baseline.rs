//! An earlier run's figures, to set this run's beside.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{CliError, Code};
use crate::output::file_error;

/// Of an earlier run's document what is compared.
#[derive(Debug, Deserialize)]
pub(super) struct Baseline {
    ops_per_s: f64,
    latency_us: Latency,
}

#[derive(Debug, Deserialize)]
struct Latency {
    p50: f64,
    p99: f64,
}

/// How many times the earlier run's figure this run has.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    ops_per_s: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
}

/// Reads what `--json` printed.
pub(super) fn read(file: &Path) -> Result<Baseline, CliError> {
    let text =
        std::fs::read_to_string(file).map_err(|error| file_error(file, "reading the baseline", &error))?;
    serde_json::from_str(&text).map_err(|error| {
        CliError::usage(format!("not a bench's document: {error}"))
            .at(file.display())
            .hint("save one with `raftgram --json bench kv … > FILE`")
    })
}

impl Baseline {
    pub(super) fn compare(&self, ops_per_s: f64, p50: f64, p99: f64) -> Compared {
        let ratio = |now: f64, then: f64| (then > 0.0).then(|| now / then);
        Compared {
            ops_per_s: ratio(ops_per_s, self.ops_per_s),
            p50: ratio(p50, self.latency_us.p50),
            p99: ratio(p99, self.latency_us.p99),
        }
    }
}

impl Compared {
    /// Fails when throughput is lower, or a latency higher, by more than this share.
    pub(super) fn check(&self, share: f64) -> Result<(), CliError> {
        let fell = self.ops_per_s.is_some_and(|ratio| ratio < 1.0 - share);
        let rose = [self.p50, self.p99].into_iter().flatten().any(|ratio| ratio > 1.0 + share);
        if fell || rose {
            let text = format!("worse than the baseline by more than {:.0} %", share * 100.0);
            return Err(CliError::new(Code::Violation, text).hint(self.text().trim()));
        }
        Ok(())
    }

    /// One line for people.
    pub(super) fn text(&self) -> String {
        let times = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let (ops, p50, p99) = (times(self.ops_per_s), times(self.p50), times(self.p99));
        format!("against the baseline: ops/s x{ops}, p50 x{p50}, p99 x{p99}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_now_to_then_and_none_to_nothing() {
        let baseline = Baseline { ops_per_s: 100.0, latency_us: Latency { p50: 0.0, p99: 50.0 } };
        let compared = baseline.compare(150.0, 3.0, 25.0);
        assert_eq!(compared.text(), "against the baseline: ops/s x1.50, p50 x-, p99 x0.50\n");
    }

    #[test]
    fn more_than_the_share_is_a_regression_either_way() {
        let compared = |ops_per_s, p50, p99| Compared { ops_per_s: Some(ops_per_s), p50: Some(p50), p99 };
        assert!(compared(0.91, 1.09, Some(1.0)).check(0.1).is_ok());
        assert!(compared(1.5, 0.5, None).check(0.1).is_ok());
        for worse in [compared(0.89, 1.0, None), compared(1.0, 1.11, None), compared(1.0, 1.0, Some(2.0))] {
            assert_eq!(worse.check(0.1).unwrap_err().code.exit(), 7);
        }
    }

    #[test]
    fn a_file_that_is_no_document_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b.json");
        std::fs::write(&file, "{}").unwrap();
        let error = read(&file).unwrap_err();
        assert_eq!((error.code.exit(), error.address.as_deref()), (2, file.to_str()));
    }
}
