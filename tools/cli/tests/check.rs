//! `raftgram check` from outside: recorded histories with known verdicts, and what each verdict prints.

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use support::{command, json, raftgram};

/// The same on every machine; a step takes well under a microsecond, so this is far below a second.
const STEPS_MAX: u64 = 20_000;

fn recorded(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/linearizability").join(file)
}

fn format_of(file: &str) -> &'static str {
    if file.starts_with("etcd/") { "jepsen" } else { "porcupine-kv" }
}

#[test]
fn every_recorded_history_is_judged_as_is_known() {
    let verdicts = std::fs::read_to_string(recorded("verdicts.tsv")).unwrap();
    let known: Vec<(&str, &str)> =
        verdicts.lines().skip(1).map(|line| line.split_once('\t').unwrap()).collect();
    assert_eq!(known.len(), 56);
    for (file, verdict) in known {
        let path = recorded(file);
        let (code, judged) =
            json(&raftgram(&["--json", "check", "--format", format_of(file), path.to_str().unwrap()]));
        let (expected, exit) = match verdict {
            "true" => ("linearizable", 0),
            "false" => ("not linearizable", 7),
            other => panic!("{file} has the verdict {other}"),
        };
        assert_eq!((&judged["verdict"], code), (&Value::from(expected), exit), "{file}");
        let steps = judged["steps"].as_u64().unwrap();
        assert!(steps <= STEPS_MAX, "{file} took {steps} steps");
        assert_eq!(judged["window"].is_null(), code == 0, "{file}");
        println!("{file}\t{steps}\t{}", judged["window"]["operations"].as_array().map_or(0, Vec::len));
    }
}

const STALE: &str = r#"{"index":0,"time_ns":5,"process":1,"type":"invoke","f":"write","key":"k","value":"a"}
{"index":1,"time_ns":6,"process":1,"type":"ok","f":"write","key":"k","value":"a"}
{"index":2,"time_ns":6,"process":1,"type":"invoke","f":"write","key":"k","value":"b"}
{"index":3,"time_ns":7,"process":1,"type":"ok","f":"write","key":"k","value":"b"}
{"index":4,"time_ns":8,"process":2,"type":"invoke","f":"read","key":"k","value":null}
{"index":5,"time_ns":9,"process":2,"type":"ok","f":"read","key":"k","value":"a"}
"#;

fn written(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    std::fs::write(&path, text).unwrap();
    let name = path.to_str().unwrap().to_owned();
    (folder, name)
}

#[test]
fn a_violation_exits_7_and_shows_its_window() {
    let (_folder, file) = written(STALE);
    let plain = raftgram(&["check", &file]);
    assert_eq!(plain.status.code(), Some(7));
    let shown = String::from_utf8(plain.stdout).unwrap();
    let expected = "not linearizable\nkey k, whatever it held before: no order explains event 5\n\
        invoked\treturned\tprocess\tcall\toutcome\n2\t3\t1\twrite \"b\"\tok\n4\t5\t2\tread\t\"a\"\n";
    assert_eq!(shown, expected);
    let said = String::from_utf8(plain.stderr).unwrap();
    assert_eq!(said, format!("error: {file}: no order explains event 5 on key k\n"));

    let (code, judged) = json(&raftgram(&["--json", "check", &file]));
    assert_eq!((code, &judged["error"]["code"]), (7, &Value::from("violation")));
    let window = &judged["window"];
    assert_eq!((&window["key"], &window["fails_at"]), (&Value::from("k"), &Value::from(5)));
    assert_eq!(window["operations"][1]["outcome"], "\"a\"");
}

#[test]
fn a_good_history_may_come_from_stdin() {
    let good = STALE.replace("\"value\":\"a\"}\n{\"index\":2", "\"value\":\"a\"}\n\n{\"index\":2");
    let good = good.trim_end().replacen(
        "\"read\",\"key\":\"k\",\"value\":\"a\"",
        "\"read\",\"key\":\"k\",\"value\":\"b\"",
        1,
    );
    let mut child = command(&["check", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(good.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"linearizable\n"[..]));
}

#[test]
fn too_few_steps_exit_8() {
    let (_folder, file) = written(STALE);
    let plain = raftgram(&["check", "--steps", "1", &file]);
    assert_eq!((plain.status.code(), plain.stdout.as_slice()), (Some(8), &b"unknown\n"[..]));
    let (code, judged) = json(&raftgram(&["--json", "check", "--steps", "1", &file]));
    assert_eq!((code, &judged["verdict"]), (8, &Value::from("unknown")));
    assert_eq!(judged["error"]["code"], "inconclusive");
    assert_eq!(judged["error"]["hint"], "give more with --steps");
}

#[test]
fn a_malformed_history_exits_6_with_file_line_and_reason() {
    let (_folder, file) =
        written(&STALE.replace("\"process\":2,\"type\":\"ok\"", "\"process\":9,\"type\":\"ok\""));
    let (code, document) = json(&raftgram(&["--json", "check", &file]));
    assert_eq!((code, &document["error"]["code"]), (6, &Value::from("corrupt")));
    assert_eq!(document["error"]["message"], "process 9 has no operation open");
    assert_eq!(document["error"]["address"], format!("{file}:6"));
    std::fs::write(&file, [b"\n\n".as_slice(), &[0xff]].concat()).unwrap();
    let (code, document) = json(&raftgram(&["--json", "check", &file]));
    assert_eq!((code, &document["error"]["message"]), (6, &Value::from("this is no UTF-8 text")));
    assert_eq!(document["error"]["address"], format!("{file}:3"));
    let (code, document) = json(&raftgram(&["--json", "check", "/no/such/file"]));
    assert_eq!((code, &document["error"]["address"]), (1, &Value::from("/no/such/file")));
}
