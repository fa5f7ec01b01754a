//! Trace files line by line, for they grow large.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use raftgram::trace::{Checker, Counts, Event};

use crate::error::{CliError, Code};
use crate::output::file_error;

/// The longest line that any trace has: a datagram's payload takes two digits a byte.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What to do where a file ends within a line, as that of a killed node may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtCut {
    /// It is damage.
    Refuse,
    /// It is the end.
    End,
}

/// A file that is being read; every line is held against the schema.
pub(super) struct Lines {
    path: PathBuf,
    from: Box<dyn BufRead>,
    at_cut: AtCut,
    checker: Checker,
    number: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Opens a file; `-` is stdin.
    pub(super) fn open(path: &Path, at_cut: AtCut) -> Result<Self, CliError> {
        let from: Box<dyn BufRead> = if path == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            let opened = File::open(path).map_err(|error| file_error(path, "reading the trace", &error))?;
            Box::new(BufReader::new(opened))
        };
        let checker = Checker::default();
        Ok(Self { path: path.to_owned(), from, at_cut, checker, number: 0, line: Vec::new() })
    }

    /// The next event; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Event>, CliError> {
        self.number += 1;
        self.line.clear();
        let taken = self.from.as_mut().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line);
        let taken = taken.map_err(|error| file_error(&self.path, "reading the trace", &error))?;
        if taken == 0 {
            return if self.number == 1 {
                Err(self.fault("this is empty, and a trace has a header at least"))
            } else {
                Ok(None)
            };
        }
        let Some(line) = self.line.strip_suffix(b"\n") else {
            return match self.at_cut {
                _ if taken as u64 == LINE_BYTES_MAX => Err(self.fault("no line is as long as this")),
                AtCut::Refuse => Err(self.fault("the line is cut off")),
                AtCut::End => Ok(None),
            };
        };
        let text = std::str::from_utf8(line).map_err(|_| self.fault("this is no UTF-8 text"))?;
        let read = self.checker.line(text);
        read.map(Some).map_err(|why| self.fault(&why.to_string()))
    }

    /// What was counted so far.
    pub(super) fn counts(&self) -> &Counts {
        self.checker.counts()
    }

    fn fault(&self, why: &str) -> CliError {
        CliError::new(Code::Corrupt, why).at(format!("{}:{}", self.path.display(), self.number))
    }
}
