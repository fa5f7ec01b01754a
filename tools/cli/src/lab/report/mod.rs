//! The report of an experiment: a page, and the same pictures as files.
//!
//! From a run folder ([`crate::lab::run_folder`]) come
//! - `report.html`, one file that opens from disk and asks nobody for anything: charts, the space–time diagram of the
//!   first repeat that has a trace, every figure in a table, and what it takes to run it again ([`page`]);
//! - each chart as `NAME.svg` and `NAME.png` ([`charts`]);
//! - `diagram-pNrN.html` for each trace.
//!
//! Nothing in `run.json` or the rows changes, so a folder can be rendered again by a later version. Several folders
//! make one report in which each is a system of its own ([`Summary::compared`]), to lay two runs over each other.

mod charts;
mod page;
mod summary;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::diagram::{self, History};
use crate::error::{CliError, Code};
use crate::lab::run_folder::RunFolder;
use crate::output::{Format, file_error};
use crate::picture;

use summary::Summary;

/// A trace larger than this has a page of its own only, so that the report opens at once.
const EMBEDDED_ARROWS_MAX: usize = 200_000;
/// Of larger traces a reader makes a diagram of a part: `trace diagram`.
const TRACE_BYTES_MAX: u64 = 1 << 30;

/// Make the report of a run folder again, or one report of several.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Folders that `lab run` wrote; of several one report is made, in which they can be compared.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Put the report here. Needed for several folders; one folder keeps its own.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Rendered {
    report: String,
    pictures: Vec<String>,
    diagrams: Vec<String>,
}

impl Report {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        let out = match (&self.out, self.dirs.as_slice()) {
            (Some(out), _) => out.clone(),
            (None, [dir]) => dir.clone(),
            (None, _) => {
                let hint = "--out DIR says where a report of several folders goes";
                return Err(CliError::usage("several folders and no --out").hint(hint));
            }
        };
        let rendered = render_all(&self.dirs, &out)?;
        format.answer(&rendered, |_| {
            format!("{}: {} pictures as SVG and PNG\n", rendered.report, rendered.pictures.len())
        })
    }
}

/// Makes the report of one folder, in it.
pub(crate) fn render(dir: &Path) -> Result<(), CliError> {
    render_all(&[dir.to_path_buf()], dir).map(|_| ())
}

fn render_all(dirs: &[PathBuf], out: &Path) -> Result<Rendered, CliError> {
    let folders = dirs.iter().map(|dir| RunFolder::open(dir)).collect::<Result<Vec<_>, _>>()?;
    std::fs::create_dir_all(out).map_err(|error| file_error(out, "making the folder", &error))?;
    let write = |name: &str, bytes: &[u8]| {
        let file = out.join(name);
        std::fs::write(&file, bytes).map_err(|error| file_error(&file, "writing", &error))
    };
    let traced = traces(&folders)?;
    let summary = Summary::compared(folders);
    let charts = charts::charts(&summary);
    let mut pictures = Vec::new();
    for chart in &charts {
        let scene = chart.scene();
        write(&format!("{}.svg", chart.name), picture::svg(&scene).as_bytes())?;
        let bytes = picture::png(&scene);
        let bytes = bytes.ok_or_else(|| CliError::new(Code::Failed, "a picture is too large"))?;
        write(&format!("{}.png", chart.name), &bytes)?;
        pictures.push(chart.name.clone());
    }
    let mut diagrams = Vec::new();
    for traced in &traced {
        write(&traced.name, diagram::page(&traced.history).as_bytes())?;
        diagrams.push(traced.name.clone());
    }
    if let Some(first) = traced.first() {
        let still = diagram::still(&first.history, first.history.first_window(STILL_ARROWS));
        write("diagram.svg", picture::svg(&still).as_bytes())?;
        if let Some(bytes) = picture::png(&still) {
            write("diagram.png", &bytes)?;
        }
        pictures.push("diagram".to_owned());
    }
    let shown = traced.iter().find(|traced| traced.history.arrows.len() <= EMBEDDED_ARROWS_MAX);
    let page = page::page(&summary, &charts, shown, &diagrams);
    write("report.html", page.as_bytes())?;
    Ok(Rendered { report: out.join("report.html").display().to_string(), pictures, diagrams })
}

/// The picture of a diagram shows about so many arrows.
const STILL_ARROWS: usize = 120;

/// The trace of one repeat.
struct Traced {
    /// Of its page.
    name: String,
    /// Which point it is, in words.
    label: String,
    history: History,
}

/// The traces that the folders name; one that is gone is passed over, since a folder may be kept without them.
fn traces(folders: &[RunFolder]) -> Result<Vec<Traced>, CliError> {
    let mut traced = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        for point in &folder.points {
            let Some(path) = point.trace.as_ref().map(|trace| folder.dir.join(trace)) else { continue };
            let files = trace_files(&path)?;
            let bytes: u64 = files.iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
            if files.is_empty() || bytes > TRACE_BYTES_MAX {
                continue;
            }
            let whose = if number == 0 { String::new() } else { format!("-{number}") };
            traced.push(Traced {
                name: format!("diagram-p{}r{}{whose}.html", point.point, point.repeat),
                label: format!("{} {}, repeat {}", point.system, point.label, point.repeat),
                history: diagram::gather(&files)?,
            });
        }
    }
    Ok(traced)
}

fn trace_files(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let Ok(inside) = std::fs::read_dir(path) else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for item in inside {
        let file = item.map_err(|error| file_error(path, "reading the folder", &error))?.path();
        if file.extension().is_some_and(|ending| ending == "jsonl") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
