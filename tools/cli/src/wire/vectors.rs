//! `wire vectors`: the test vectors that this program was built with, and another decoder held against them.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{CliError, Code};
use crate::output::{self, Format};
use crate::units::Span;

const FILES: [&str; 5] = [
    include_str!("../../../../tests/vectors/bodies.jsonl"),
    include_str!("../../../../tests/vectors/datagrams.jsonl"),
    include_str!("../../../../tests/vectors/drops.jsonl"),
    include_str!("../../../../tests/vectors/sealed.jsonl"),
    include_str!("../../../../tests/vectors/steps.jsonl"),
];

/// What a decoder under test is not told.
const ANSWERS: [&str; 2] = ["expect", "fields"];

/// Print the test vectors, one JSON object a line (wire-spec.md section 13), or hold a decoder against them.
#[derive(Debug, Args)]
#[command(
    after_help = "CMD is run once by the shell. It reads one vector a line, without `expect` and `fields`, \
and writes one line each: the word that `expect` has, or an object with `expect` and, if it likes, `fields`."
)]
pub(crate) struct Vectors {
    /// Check this decoder; exit 7 when it differs.
    #[arg(long, value_name = "CMD")]
    check: Option<String>,
    /// Wait this long for the decoder's next answer.
    #[arg(long, value_name = "SPAN", default_value = "10s", requires = "check")]
    patience: Span,
}

/// One answer that is not what the vector expects.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    name: String,
    what: String,
    expected: String,
    found: String,
}

impl Vectors {
    pub(crate) fn run(&self, format: Format) -> Result<(), CliError> {
        match &self.check {
            Some(command) => self.check(command, format),
            None => print(format),
        }
    }

    fn check(&self, command: &str, format: Format) -> Result<(), CliError> {
        let vectors = vectors();
        let answers = self.ask(command, &vectors)?;
        let differences: Vec<Difference> =
            vectors.iter().zip(&answers).flat_map(|(vector, answer)| differences(vector, answer)).collect();
        #[derive(Serialize)]
        struct Checked<'a> {
            vectors: usize,
            differences: &'a [Difference],
        }
        if differences.is_empty() {
            let checked = Checked { vectors: vectors.len(), differences: &differences };
            return format.answer(&checked, |_| format!("{} vectors agree\n", vectors.len()));
        }
        let first = &differences[0];
        let message = format!(
            "{} differences in {} vectors, the first in {}: {} is {}, not {}",
            differences.len(),
            vectors.len(),
            first.name,
            first.what,
            first.found,
            first.expected
        );
        if !format.is_json() {
            let cells =
                |d: &Difference| vec![d.name.clone(), d.what.clone(), d.expected.clone(), d.found.clone()];
            let rows: Vec<Vec<String>> = differences.iter().map(cells).collect();
            output::write(&format.table(&["vector", "what", "expected", "found"], &rows))?;
        }
        Err(CliError::new(Code::Violation, message).at(command))
    }

    /// The decoder's answers, one for each vector.
    fn ask(
        &self,
        command: &str,
        vectors: &[Map<String, Value>],
    ) -> Result<Vec<Map<String, Value>>, CliError> {
        let began = Instant::now();
        let fault = |message: String| CliError::new(Code::Failed, message).at(command).after(began.elapsed());
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().map_err(|error| fault(format!("starting the decoder: {error}")))?;
        let lines = converse(&mut child, vectors);
        let mut answers = Vec::new();
        for vector in vectors {
            let line = lines.recv_timeout(self.patience.0).map_err(|error| {
                let _ = child.kill();
                let why = match error {
                    RecvTimeoutError::Timeout => format!("no answer within {}", self.patience),
                    RecvTimeoutError::Disconnected => "no more answers".to_owned(),
                };
                let name = vector["name"].as_str().unwrap_or_default();
                fault(format!("{why}: {} of {} given, {name} is next", answers.len(), vectors.len()))
            });
            answers.push(read_answer(&line?).map_err(fault)?);
        }
        // All is answered; how the decoder ends is its own affair.
        let _ = child.kill();
        let _ = child.wait();
        Ok(answers)
    }
}

/// Feeds the questions in and hands the answers out, each from a thread of its own, because either pipe may fill.
fn converse(child: &mut Child, vectors: &[Map<String, Value>]) -> Receiver<String> {
    let questions: String = vectors.iter().map(question).collect();
    if let Some(mut stdin) = child.stdin.take() {
        std::thread::spawn(move || match stdin.write_all(questions.as_bytes()) {
            // A decoder that does not read to the end shows by its missing answers.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => eprintln!("feeding the decoder: {error}"),
            _ => {}
        });
    }
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let read = BufReader::new(stdout).lines().map_while(Result::ok);
            // Nobody listens any more once a difference in length was found.
            for line in read {
                let _ = sender.send(line);
            }
        });
    }
    lines
}

fn question(vector: &Map<String, Value>) -> String {
    let mut question = vector.clone();
    question.retain(|key, _| !ANSWERS.contains(&key.as_str()));
    format!("{}\n", Value::Object(question))
}

/// A bare word is short for an object that only has `expect`.
fn read_answer(line: &str) -> Result<Map<String, Value>, String> {
    if !line.trim_start().starts_with('{') {
        return Ok(Map::from_iter([("expect".to_owned(), Value::from(line.trim()))]));
    }
    serde_json::from_str(line).map_err(|error| format!("an answer is no JSON object ({error}): {line}"))
}

fn differences(vector: &Map<String, Value>, answer: &Map<String, Value>) -> Vec<Difference> {
    let name = vector["name"].as_str().unwrap_or_default();
    let text = |value: Option<&Value>| match value {
        None => "nothing".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let differ = |what: String, expected: Option<&Value>, found: Option<&Value>| {
        (expected != found).then(|| Difference {
            name: name.to_owned(),
            what,
            expected: text(expected),
            found: text(found),
        })
    };
    let verdict = differ("expect".to_owned(), vector.get("expect"), answer.get("expect"));
    let none = Map::new();
    let expected = vector.get("fields").and_then(Value::as_object).unwrap_or(&none);
    let found = answer.get("fields").and_then(Value::as_object);
    let fields = found.into_iter().flat_map(|found| {
        let strange = found.keys().filter(|key| !expected.contains_key(*key));
        expected
            .keys()
            .chain(strange)
            .filter_map(|key| differ(key.clone(), expected.get(key), found.get(key)))
    });
    verdict.into_iter().chain(fields).collect()
}

fn print(format: Format) -> Result<(), CliError> {
    if format != Format::Json {
        return FILES.iter().try_for_each(|file| output::write(file));
    }
    #[derive(Serialize)]
    struct All {
        vectors: Vec<Map<String, Value>>,
    }
    format.answer(&All { vectors: vectors() }, |_| String::new())
}

fn vectors() -> Vec<Map<String, Value>> {
    let lines = FILES.iter().flat_map(|file| file.lines());
    lines
        .map(|line| serde_json::from_str(line).expect("the vectors were checked when this was built"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn every_vector_file_is_built_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors");
        let files = std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
        let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
        let there: usize =
            files.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).map(lines).sum();
        assert_eq!(vectors().len(), there);
    }

    #[test]
    fn a_decoder_is_not_told_the_answer() {
        let vector = object(r#"{"name":"a","hex":"00","expect":"short","fields":{}}"#);
        assert_eq!(question(&vector), "{\"hex\":\"00\",\"name\":\"a\"}\n");
    }

    #[test]
    fn verdicts_must_agree_and_fields_where_given() {
        let vector = object(r#"{"name":"a","expect":"accept","fields":{"x":"1","y":"2"}}"#);
        assert_eq!(differences(&vector, &read_answer("accept").unwrap()), []);
        assert_eq!(differences(&vector, &read_answer("short").unwrap()).len(), 1);
        let answer = read_answer(r#"{"expect":"accept","fields":{"x":"1","y":"3","z":"4"}}"#).unwrap();
        let found: Vec<String> = differences(&vector, &answer).into_iter().map(|d| d.what).collect();
        assert_eq!(found, ["y", "z"]);
        assert!(read_answer("{").is_err());
    }
}
