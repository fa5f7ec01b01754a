//! The window of a run on processes that its nodes record, by the same rule as on the simulator: of the first repeat,
//! from shortly before the first fault on the plan, or from the begin of the measured span.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::plan::Task;
use super::traced::LEAD;

/// When nodes record, and where.
#[derive(Debug)]
pub(super) struct Recording {
    /// Its name in the run folder.
    name: String,
    folder: PathBuf,
    /// From the begin of the measured span on.
    begin: Duration,
    end: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    UnderWay,
    Over,
}

impl Recording {
    /// None where the scenario wants no trace, or another repeat has it. `first` is when the first fault strikes.
    pub(super) fn of(task: &Task, dir: &Path, first: Duration) -> Option<Self> {
        let window = task.scenario.trace.0;
        if task.repeat > 0 || window.is_zero() {
            return None;
        }
        let name = format!("traces/p{}r{}", task.point, task.repeat);
        let folder = std::path::absolute(dir.join(&name)).ok()?;
        // Its name goes to the nodes as a line.
        folder.to_str().filter(|text| !text.contains('\n'))?;
        let begin = first.saturating_sub(window / LEAD);
        Some(Self { name, folder, begin, end: begin + window, stage: Stage::Before })
    }

    /// What nodes are to be told now, if anything: to record there, or no more.
    pub(super) fn turn(&mut self, now: Instant, from: Instant) -> Option<Option<&Path>> {
        match self.stage {
            Stage::Before if now >= from + self.begin => {
                self.stage = Stage::UnderWay;
                Some(Some(&self.folder))
            }
            Stage::UnderWay if now >= from + self.end => {
                self.stage = Stage::Over;
                Some(None)
            }
            _ => None,
        }
    }

    /// Where a node records that starts now.
    pub(super) fn under_way(&self) -> Option<&Path> {
        (self.stage == Stage::UnderWay).then_some(&self.folder)
    }

    /// Its name, if there is anything in it.
    pub(super) fn told(&self) -> Option<String> {
        let mut inside = std::fs::read_dir(&self.folder).ok()?;
        inside.next().map(|_| self.name.clone())
    }
}
