//! Several trace files as one: events in the order of their times.

use std::path::{Path, PathBuf};

use raftgram::trace::{Event, Header, Source, What};

use crate::error::{CliError, Code};
use crate::trace::lines::{AtCut, Lines};

/// Files that are read side by side.
pub(crate) struct Inputs(Vec<Input>);

/// One file, and where its reading has come to.
struct Input {
    path: PathBuf,
    lines: Lines,
    next: Option<Event>,
    header: Header,
}

/// An event, and whose it is.
pub(crate) struct Seen<'a> {
    /// Since 1970 for a live node, else since the simulation's begin.
    pub(crate) time_ns: u64,
    pub(crate) event: Event,
    pub(crate) header: &'a Header,
    pub(crate) path: &'a Path,
}

impl Input {
    fn open(path: &Path) -> Result<Self, CliError> {
        let mut lines = Lines::open(path, AtCut::End)?;
        let first = lines.next()?;
        let Some(Event { what: What::Header(header), .. }) = first else {
            let why = "a trace begins with its header";
            return Err(CliError::new(Code::Corrupt, why).at(format!("{}:1", path.display())));
        };
        let next = lines.next()?;
        Ok(Self { path: path.to_owned(), lines, next, header })
    }

    fn next_ns(&self) -> Option<u64> {
        let zero_ns = match self.header.source {
            Source::Simulation { .. } => 0,
            Source::Node { unix_us, .. } => unix_us.saturating_mul(1000),
        };
        self.next.as_ref().map(|event| zero_ns.saturating_add(event.at.as_nanos()))
    }
}

impl Inputs {
    /// Opens all of them and reads their headers.
    pub(crate) fn open(files: &[PathBuf]) -> Result<Self, CliError> {
        files.iter().map(|path| Input::open(path)).collect::<Result<_, _>>().map(Self)
    }

    /// What the files say of themselves.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &Header> {
        self.0.iter().map(|input| &input.header)
    }

    /// The earliest event that was not taken yet; none at the end of all.
    pub(crate) fn next(&mut self) -> Result<Option<Seen<'_>>, CliError> {
        let times = self.0.iter().enumerate().filter_map(|(place, input)| Some((input.next_ns()?, place)));
        let Some((time_ns, place)) = times.min() else { return Ok(None) };
        let input = &mut self.0[place];
        let following = input.lines.next()?;
        let event = std::mem::replace(&mut input.next, following);
        let seen = event.map(|event| Seen { time_ns, event, header: &input.header, path: &input.path });
        Ok(seen)
    }
}
