//! What goes to stdout: a table on a terminal, tab-separated text in a pipe, one JSON document, or a JSON line
//! per event.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::error::{CliError, Code};

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people: aligned columns, bold headings unless `NO_COLOR` is set.
    Terminal,
    /// For pipes: tabs, no decoration.
    Plain,
    /// One document.
    Json,
    /// One document per line, as things happen.
    JsonStream,
}

impl Format {
    /// JSON when asked for, otherwise what suits stdout.
    pub(crate) fn choose(json: Json) -> Self {
        match json {
            Json::Document => Self::Json,
            Json::Stream => Self::JsonStream,
            Json::No if io::stdout().is_terminal() => Self::Terminal,
            Json::No => Self::Plain,
        }
    }

    /// True when the reader is a program that parses JSON.
    pub(crate) const fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::JsonStream)
    }

    /// Writes an answer: the document in JSON, else the text.
    pub(crate) fn answer(
        self,
        document: &impl Serialize,
        text: impl FnOnce(Self) -> String,
    ) -> Result<(), CliError> {
        match self {
            Self::Json => write(&(json(document, serde_json::to_string_pretty) + "\n")),
            Self::JsonStream => self.event(document),
            Self::Terminal | Self::Plain => write(&text(self)),
        }
    }

    /// Writes one event of a stream, at once.
    pub(crate) fn event(self, document: &impl Serialize) -> Result<(), CliError> {
        write(&(json(document, serde_json::to_string) + "\n"))
    }

    /// Writes a failure where its reader looks: stdout for JSON, stderr for people.
    pub(crate) fn failure(self, error: &CliError) {
        if error.is_reported {
            return;
        }
        // When not even this can be written, the exit code is all that is left to say.
        let _ = match self {
            Self::Json => write(&(json(&error.document(), serde_json::to_string_pretty) + "\n")),
            Self::JsonStream => self.event(&error.document()),
            Self::Terminal | Self::Plain => {
                let _ = writeln!(io::stderr(), "{error}");
                Ok(())
            }
        };
    }

    /// Columns under headings.
    pub(crate) fn table(self, headings: &[&str], rows: &[Vec<String>]) -> String {
        if self != Self::Terminal {
            let lines = rows.iter().map(|row| row.join("\t"));
            return [headings.join("\t")].into_iter().chain(lines).map(|line| line + "\n").collect();
        }
        let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
        let width = |(column, heading): (usize, &&str)| {
            cells(column).map(|cell| cell.chars().count()).chain([heading.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = headings.iter().enumerate().map(width).collect();
        let line = |row: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<String> =
                row.zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        let mut out = bold(&line(&mut headings.iter().copied())) + "\n";
        for row in rows {
            out += &(line(&mut row.iter().map(String::as_str)) + "\n");
        }
        out
    }
}

/// Which kind of JSON was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    No,
    Document,
    Stream,
}

/// Writes text to stdout, all of it or a failure.
pub(crate) fn write(text: &str) -> Result<(), CliError> {
    write_bytes(text.as_bytes())
}

/// Writes bytes to stdout, all of them or a failure.
pub(crate) fn write_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        // The reader has seen enough (`raftgram … | head`); that is no failure of ours.
        io::ErrorKind::BrokenPipe => std::process::exit(0),
        _ => CliError::io("writing to stdout", &error),
    })
}

fn json<T: Serialize>(document: &T, render: fn(&T) -> serde_json::Result<String>) -> String {
    // Our documents have text keys and finite numbers only, so rendering cannot fail.
    render(document)
        .unwrap_or_else(|error| format!(r#"{{"error":{{"code":"failed","message":"internal: {error}"}}}}"#))
}

fn bold(text: &str) -> String {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if is_plain { text.to_owned() } else { format!("\x1b[1m{text}\x1b[0m") }
}

/// The failure of a file operation, with the file named.
pub(crate) fn file_error(file: &std::path::Path, what: &str, error: &io::Error) -> CliError {
    CliError::new(Code::Failed, format!("{what}: {error}")).at(file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_tabs_and_a_terminal_columns() {
        let rows = [vec!["1".to_owned(), "leader".to_owned()], vec!["22".to_owned(), "-".to_owned()]];
        assert_eq!(Format::Plain.table(&["id", "role"], &rows), "id\trole\n1\tleader\n22\t-\n");
        let shown = Format::Terminal.table(&["id", "role"], &rows);
        assert!(shown.ends_with("\n1   leader\n22  -\n"), "{shown:?}");
    }
}
