//! `kv` without a command: a line editor on a terminal, one command per line from a pipe.

use std::io::{BufRead as _, IsTerminal as _};

use clap::Parser;
use rustyline::error::ReadlineError;

use super::{Operation, Store};
use crate::error::CliError;
use crate::output::Format;

const HELP: &str = "put KEY VALUE, get KEY, delete KEY, cas KEY OLD NEW, list [PREFIX], help, quit\n\
Quote words that hold spaces: put greeting 'good morning'\n";

/// One line, read as the arguments of `raftgram kv` are.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true, name = "")]
struct Line {
    #[command(subcommand)]
    operation: Operation,
}

/// What a line asks for.
#[derive(Debug)]
enum Asked {
    Nothing,
    Help,
    Quit,
    Operation(Operation),
}

/// Runs lines until the end of the input.
pub(super) fn run(store: &Store<'_>, format: Format) -> Result<(), CliError> {
    if std::io::stdin().is_terminal() { edit(store, format) } else { read(store, format) }
}

/// A failed line says so and does not end the shell.
fn edit(store: &Store<'_>, format: Format) -> Result<(), CliError> {
    let fault =
        |error: ReadlineError| CliError::new(crate::error::Code::Failed, format!("the terminal: {error}"));
    let mut editor = rustyline::DefaultEditor::new().map_err(fault)?;
    eprint!("speaking to {}\n{HELP}", store.reach);
    loop {
        let line = match editor.readline("raftgram> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(fault(error)),
        };
        // A history that cannot be kept is no reason to stop.
        let _ = editor.add_history_entry(&line);
        let done = match parse(&line) {
            Ok(Asked::Quit) => return Ok(()),
            Ok(Asked::Nothing) => Ok(()),
            Ok(Asked::Help) => crate::output::write(HELP),
            Ok(Asked::Operation(operation)) => store.carry_out(operation, format),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            format.failure(&error);
        }
    }
}

/// All lines are carried out, in order; the exit code is that of the first that failed. As JSON each answer and
/// failure is one line, whichever way JSON was asked for: the answers of many commands are a stream.
fn read(store: &Store<'_>, format: Format) -> Result<(), CliError> {
    let format = if format.is_json() { Format::JsonStream } else { format };
    let mut first = None;
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|error| CliError::io("reading stdin", &error))?;
        let done = match parse(&line) {
            Ok(Asked::Quit) => break,
            Ok(Asked::Nothing) => Ok(()),
            Ok(Asked::Help) => crate::output::write(HELP),
            Ok(Asked::Operation(operation)) => store.carry_out(operation, format),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            let error = CliError { message: format!("line {}: {}", number + 1, error.message), ..error };
            format.failure(&error);
            first.get_or_insert(error);
        }
    }
    match first {
        None => Ok(()),
        Some(error) => Err(error.already_reported()),
    }
}

fn parse(line: &str) -> Result<Asked, CliError> {
    let words = split(line).map_err(CliError::usage)?;
    match words.first().map(String::as_str) {
        None => Ok(Asked::Nothing),
        Some("help" | "?") => Ok(Asked::Help),
        Some("quit" | "exit") => Ok(Asked::Quit),
        Some(_) => match Line::try_parse_from(&words) {
            Ok(line) => Ok(Asked::Operation(line.operation)),
            Err(error) => {
                let text = error.render().to_string();
                let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
                let message = first.split_whitespace().collect::<Vec<_>>().join(" ");
                Err(CliError::usage(message).hint("`help` lists the commands"))
            }
        },
    }
}

/// Words at spaces; quotes of either kind keep spaces, a backslash outside single quotes keeps the next character.
/// What begins with `#` is a comment.
fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                let next = chars.next().ok_or("a backslash ends the line")?;
                word.get_or_insert_default().push(next);
            }
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a {open} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let words = |line: &str| split(line).unwrap();
        assert_eq!(words("put a  b"), ["put", "a", "b"]);
        assert_eq!(words("put 'a b' \"c \\\" d\" e\\ f"), ["put", "a b", "c \" d", "e f"]);
        assert_eq!(words("put a ''"), ["put", "a", ""]);
        assert_eq!(words("# nothing"), [""; 0]);
        assert_eq!(words("get a#b # rest"), ["get", "a#b"]);
        assert_eq!(split("put 'a"), Err("a ' is not closed".into()));
        assert_eq!(split("put a\\"), Err("a backslash ends the line".into()));
    }

    #[test]
    fn a_line_is_read_as_the_arguments_are() {
        assert!(matches!(parse("get k --level local"), Ok(Asked::Operation(Operation::Get { .. }))));
        assert!(matches!(parse("  "), Ok(Asked::Nothing)));
        assert!(matches!(parse("exit"), Ok(Asked::Quit)));
        let error = parse("fetch k").unwrap_err();
        assert_eq!((error.code.exit(), error.message.as_str()), (2, "unrecognized subcommand 'fetch'"));
    }
}
