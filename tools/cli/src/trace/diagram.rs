//! `trace diagram`: recorded events as a space–time diagram.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::diagram::{self, History, Window};
use crate::error::{CliError, Code};
use crate::output::{Format, file_error};
use crate::picture;
use crate::units::Span;

/// Draw a space-time diagram: each node a line, each datagram an arrow, with those that were lost or sent again.
///
/// The name's end says what is made: .html is a page that opens from disk, in which a window of time moves over all of
/// it; .svg and .png are pictures, .mmd is a sequence diagram for Mermaid, of one window.
#[derive(Debug, Args)]
pub(crate) struct Diagram {
    /// Files that `node --record`, `cluster up --record` or `sim --trace` wrote.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write it here; a file that is there is overwritten.
    #[arg(long, value_name = "FILE.html|.svg|.png|.mmd")]
    out: PathBuf,
    /// Where the window begins, from the first event on; without it, shortly before the first leader.
    #[arg(long, value_name = "SPAN")]
    from: Option<Span>,
    /// Where the window ends.
    #[arg(long, value_name = "SPAN", requires = "from")]
    to: Option<Span>,
}

#[derive(Debug, Serialize)]
struct Drawn {
    file: String,
    nodes: usize,
    datagrams: usize,
    /// Of those, in the window; a page shows all.
    shown: usize,
    states: usize,
    left_out: u64,
    span_ms: f64,
}

/// What the name of a file asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Page,
    Svg,
    Png,
    Mermaid,
}

impl Kind {
    fn of(file: &Path) -> Result<Self, CliError> {
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("html" | "htm") => Ok(Self::Page),
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            Some("mmd" | "mermaid") => Ok(Self::Mermaid),
            _ => Err(CliError::usage("the name must end in .html, .svg, .png or .mmd").at(file.display())),
        }
    }

    /// How many arrows a picture of it holds.
    const fn arrows_max(self) -> usize {
        match self {
            Self::Page => usize::MAX,
            Self::Svg | Self::Png => diagram::STILL_ARROWS_MAX,
            Self::Mermaid => diagram::MERMAID_ARROWS_MAX,
        }
    }
}

/// Without --from and --to a picture shows about so many arrows.
const WINDOW_ARROWS: usize = 120;

impl Diagram {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        let kind = Kind::of(&self.out)?;
        if self.from.zip(self.to).is_some_and(|(from, to)| from.0 >= to.0) {
            return Err(CliError::usage("the window ends before it begins: --to must be after --from"));
        }
        let history = diagram::gather(&self.files)?;
        let window = if kind == Kind::Page {
            Window { from_ns: 0, to_ns: history.end_ns }
        } else {
            self.window(&history)?
        };
        let shown = history.within(window).count();
        if shown > kind.arrows_max() {
            let why = format!("{shown} datagrams in this window, and a picture shows {}", kind.arrows_max());
            return Err(CliError::usage(why).hint("name a shorter one with --from and --to, or write a page"));
        }
        let bytes = match kind {
            Kind::Page => diagram::page(&history).into_bytes(),
            Kind::Svg => picture::svg(&diagram::still(&history, window)).into_bytes(),
            Kind::Png => picture::png(&diagram::still(&history, window))
                .ok_or_else(|| CliError::new(Code::Failed, "the picture is too large"))?,
            Kind::Mermaid => diagram::mermaid(&history, window).into_bytes(),
        };
        std::fs::write(&self.out, bytes).map_err(|error| file_error(&self.out, "writing", &error))?;
        let drawn = Drawn {
            file: self.out.display().to_string(),
            nodes: history.lanes.iter().filter(|lane| lane.is_node).count(),
            datagrams: history.arrows.len(),
            shown,
            states: history.states.len(),
            left_out: history.left_out,
            span_ms: history.end_ns as f64 / 1e6,
        };
        format.answer(&drawn, |_| {
            format!(
                "{}: {} of {} datagrams of {} nodes over {:.0} ms\n",
                drawn.file, drawn.shown, drawn.datagrams, drawn.nodes, drawn.span_ms
            )
        })
    }

    fn window(&self, history: &History) -> Result<Window, CliError> {
        let Some(from) = self.from else { return Ok(history.first_window(WINDOW_ARROWS)) };
        let nanos = |span: Span| u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX);
        let from_ns = nanos(from);
        let to_ns = self.to.map_or(history.end_ns, nanos).min(history.end_ns);
        if from_ns >= to_ns {
            let why = format!("the trace ends {} ms after its begin", history.end_ns / 1_000_000);
            return Err(CliError::usage(why).hint("--from must be before that"));
        }
        Ok(Window { from_ns, to_ns })
    }
}
