//! Our own history lines, as `bench kv --history` writes them.

use raftgram::check::{Answer, Call, History};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

use super::reader::{self, Event, Function, Kind, Malformed, Value};

#[derive(Debug, Deserialize)]
struct Line {
    index: Option<u64>,
    time_ns: Option<u64>,
    process: u64,
    r#type: Kind,
    f: Function,
    key: String,
    /// None when it is left out, which is not the same as null.
    #[serde(default, deserialize_with = "present")]
    value: Option<Json>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// Reads a history. Values stay JSON, so that the text "1" and the number 1 differ.
pub(super) fn read(text: &str) -> Result<History<Call, Answer>, Malformed> {
    let (mut last_index, mut last_time) = (None, None);
    reader::read(text, |line| {
        let line: Line = serde_json::from_str(line).map_err(|error| reason(&error))?;
        // The order of lines is the order of events; a file that was shuffled would be judged wrongly.
        if line.index.is_some() && line.index <= last_index {
            return Err("`index` does not go up".to_owned());
        }
        if line.time_ns.is_some() && line.time_ns < last_time {
            return Err("`time_ns` goes back".to_owned());
        }
        (last_index, last_time) = (line.index.or(last_index), line.time_ns.or(last_time));
        let value = value(line.f, line.value)?;
        Ok(Event { process: line.process, key: line.key, kind: line.r#type, function: line.f, value })
    })
}

fn value(function: Function, value: Option<Json>) -> Result<Value, String> {
    let held = |value: Json| (!value.is_null()).then(|| value.to_string());
    Ok(match (function, value) {
        (_, None) => Value::Unsaid,
        (Function::Cas, Some(Json::Null)) => Value::Unsaid,
        (Function::Cas, Some(Json::Array(pair))) => match <[Json; 2]>::try_from(pair) {
            Ok([old, new]) => Value::Pair(held(old), held(new)),
            Err(pair) => return Err(format!("a cas value has two parts, not {}", pair.len())),
        },
        (Function::Cas, Some(other)) => return Err(format!("a cas value is [old,new], not {other}")),
        (_, Some(value)) => Value::Held(held(value)),
    })
}

/// The parser's reason without its place: the line is known, and within one line the column says less.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use raftgram::check::{Outcome, Process};

    use super::*;

    fn line(process: u64, kind: &str, f: &str, value: &str) -> String {
        format!(r#"{{"process":{process},"type":"{kind}","f":"{f}","key":"k","value":{value}}}"#)
    }

    #[track_caller]
    fn assert_refused(lines: &[String], why: &str) {
        let refused = read(&lines.join("\n")).unwrap_err();
        assert_eq!((refused.line, refused.why.as_str()), (lines.len(), why));
    }

    #[test]
    fn every_function_and_outcome_is_read() {
        let lines = [
            line(1, "invoke", "write", "\"1\""),
            line(2, "invoke", "cas", "[\"1\",null]"),
            line(1, "ok", "write", "\"1\""),
            line(2, "info", "cas", "null"),
            line(1, "invoke", "read", "null"),
            line(3, "invoke", "delete", "null"),
            line(1, "ok", "read", "1"),
            line(3, "fail", "delete", "null"),
        ];
        let history = read(&lines.join("\n")).unwrap();
        let shown: Vec<String> = history.operations().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "[0..2] process 1: write \"1\" -> ok",
                "[1..3] process 2: cas \"1\" absent -> unknown",
                "[4..6] process 1: read -> 1",
                "[5..7] process 3: delete -> failed",
            ]
        );
        assert_eq!(history.operations()[1].outcome, Outcome::Unknown);
        assert!(history.open(Process(3)).is_none());
    }

    #[test]
    fn what_fits_no_history_is_refused_with_its_line() {
        let write = line(1, "invoke", "write", "\"a\"");
        assert_refused(&[write.clone(), write.clone()], "process 1 has an operation open");
        assert_refused(&[line(1, "ok", "write", "\"a\"")], "process 1 has no operation open");
        let another = "process 1 returns from another call than it has open";
        assert_refused(&[write.clone(), line(1, "ok", "read", "\"a\"")], another);
        assert_refused(&[write, line(1, "ok", "write", "\"b\"")], "this is no return of `write \"a\"`");
        assert_refused(&[line(1, "invoke", "write", "null")], "a write needs a value");
        assert_refused(&[line(1, "invoke", "cas", "[1]")], "a cas value has two parts, not 1");
        assert_refused(&[line(1, "invoke", "cas", "7")], "a cas value is [old,new], not 7");
        assert_refused(
            &[line(1, "invoke", "append", "7")],
            "unknown variant `append`, expected one of `read`, `write`, `cas`, `delete`",
        );
        assert_refused(&["{".to_owned()], "EOF while parsing an object");
        let silent = line(1, "ok", "read", "7").replace(",\"value\":7", "");
        let read = line(1, "invoke", "read", "null");
        assert_refused(&[read, silent], "a read's return does not say what it found");
    }

    #[test]
    fn lines_out_of_order_are_refused() {
        let at = |index: u64, time_ns: u64, process: u64| {
            let line = line(process, "invoke", "read", "null");
            line.replacen('{', &format!("{{\"index\":{index},\"time_ns\":{time_ns},"), 1)
        };
        assert_refused(&[at(4, 0, 1), at(4, 1, 2)], "`index` does not go up");
        assert_refused(&[at(4, 7, 1), at(5, 6, 2)], "`time_ns` goes back");
        assert!(read(&[at(4, 7, 1), at(9, 7, 2)].join("\n")).is_ok());
    }
}
