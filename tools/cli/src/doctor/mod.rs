//! `doctor`: what this machine gives a node, and what would give it more.
//!
//! Each look is a finding with a verdict: *good*; *note*, which is worth knowing and no fault; *poor*, which costs
//! speed or datagrams; *bad*, with which a node cannot do its work. Nothing is changed; hints say what would.

mod disk;
mod machine;
mod network;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::address::Address;
use crate::error::{CliError, Code};
use crate::output::Format;

/// Look at what this machine gives a node, and how to give it more. Exits 1 when something is bad.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The folder where a node keeps or will keep its data.
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    /// The address where a node listens or will listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7101")]
    listen: Address,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Note,
    Poor,
    Bad,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Poor => "poor",
            Self::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    found: String,
    /// What would make it better, or what to keep in mind.
    hint: Option<String>,
}

impl Finding {
    fn new(what: impl Into<String>, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { what: what.into(), verdict, found: found.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// A good thing, or this verdict with this hint.
    fn judged(what: &str, found: String, fault: Option<(Verdict, String)>) -> Self {
        match fault {
            None => Self::new(what, Verdict::Good, found),
            Some((verdict, hint)) => Self::new(what, verdict, found).hint(hint),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    worst: Verdict,
    findings: Vec<Finding>,
}

impl Doctor {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        let mut findings = network::look(self.listen.resolve()?);
        findings.extend(machine::look());
        findings.extend(disk::look(&self.data));
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Good);
        let report = Report { worst, findings };
        format.answer(&report, |format| report.text(format))?;
        match report.worst {
            // The rows have said it; scripts have the exit code.
            Verdict::Bad => Err(CliError::new(Code::Failed, "something is bad").already_reported()),
            _ => Ok(()),
        }
    }
}

impl Report {
    fn text(&self, format: Format) -> String {
        let row = |finding: &Finding| {
            vec![finding.verdict.name().to_owned(), finding.what.clone(), finding.found.clone()]
        };
        let rows: Vec<Vec<String>> = self.findings.iter().map(row).collect();
        let mut text = format.table(&["verdict", "what", "found"], &rows);
        for finding in &self.findings {
            if let Some(hint) = &finding.hint {
                text.push_str(&format!("\n{}: {hint}\n", finding.what));
            }
        }
        text
    }
}

/// The first line of a file of the kernel's; none where there is no such file.
fn kernel_says(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A failure of the look itself, as a finding.
fn unknown(what: &str, error: &dyn std::fmt::Display) -> Finding {
    Finding::new(what, Verdict::Note, format!("cannot be told: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_verdict_and_hints_follow_the_table() {
        let findings = vec![
            Finding::new("a", Verdict::Good, "1"),
            Finding::judged("b", "2".to_owned(), Some((Verdict::Poor, "raise it".to_owned()))),
        ];
        let report = Report { worst: Verdict::Poor, findings };
        let text = report.text(Format::Plain);
        assert_eq!(text, "verdict\twhat\tfound\ngood\ta\t1\npoor\tb\t2\n\nb: raise it\n");
        assert!(
            Verdict::Bad > Verdict::Poor && Verdict::Poor > Verdict::Note && Verdict::Note > Verdict::Good
        );
    }
}
