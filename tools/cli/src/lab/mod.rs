//! Experiments: a scenario runs on the simulator or on node processes, and leaves a folder that reports are made of.
//!
//! A *scenario* (`scenario`, read by `parse`, the built-in ones in `catalog`) names a cluster, a load, standing and
//! planned faults, and what is varied. `plan` makes *points* of it, one for each value that is varied, each run some
//! times over (*repeats*), each repeat with a seed and a schedule of its own. A *ground* carries out one repeat:
//! `simulator` in virtual time, `processes` with real nodes in real time, on loopback or in a network of `namespaces`,
//! where nodes over TCP and `etcd` can be measured beside those over UDP. What clients saw and who led is counted by
//! `meter`, alike on every ground, and goes row by row into the `run_folder`.

mod catalog;
mod compare;
mod etcd;
mod host;
mod meter;
mod namespaces;
mod overseer;
mod parse;
mod plan;
mod processes;
mod recording;
pub(crate) mod report;
mod run;
pub(crate) mod run_folder;
mod scenario;
mod simulator;
mod traced;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::error::CliError;
use crate::output::Format;
pub(crate) use parse::{groups, nearest};

/// Experiments with pictures: a cluster under faults, and what clients saw of it.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Show the scenarios that come with the program.
    List(List),
    Run(Box<run::RunCommand>),
    Compare(compare::Compare),
    Report(report::Report),
}

impl Lab {
    pub(crate) fn run(self, format: Format) -> Result<(), CliError> {
        match self {
            Self::List(list) => list.run(format),
            Self::Run(run) => run.run(format),
            Self::Compare(compare) => compare.run(format),
            Self::Report(report) => report.run(format),
        }
    }
}

/// Show the scenarios that come with the program.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print this one as TOML, to begin one of one's own with.
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// One scenario.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    title: String,
    about: String,
    nodes: u16,
    /// What is varied.
    sweep: Option<String>,
    faults: Vec<String>,
}

impl List {
    fn run(self, format: Format) -> Result<(), CliError> {
        if let Some(name) = &self.name {
            let text = catalog::find(name)?.to_toml();
            return format.answer(&serde_json::json!({ "name": name, "toml": text }), |_| text.clone());
        }
        let listed = |scenario: scenario::Scenario| Listed {
            sweep: scenario
                .sweep
                .as_ref()
                .map(|sweep| format!("{}={}", sweep.key.name(), sweep.values.join(","))),
            faults: scenario.fault_words(),
            name: scenario.name,
            title: scenario.title,
            about: scenario.about,
            nodes: scenario.nodes,
        };
        let scenarios: Vec<Listed> = catalog::all()?.into_iter().map(listed).collect();
        format.answer(&serde_json::json!({ "scenarios": scenarios }), |format| {
            let row =
                |it: &Listed| vec![it.name.clone(), it.title.clone(), it.sweep.clone().unwrap_or_default()];
            format.table(&["scenario", "shows", "varies"], &scenarios.iter().map(row).collect::<Vec<_>>())
        })
    }
}
