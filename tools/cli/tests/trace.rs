//! `raftgram trace` from outside: good files are counted, bad ones refused with file, line and reason.

#[path = "support/browser.rs"]
#[expect(dead_code, reason = "nobody takes a picture of these pages")]
mod browser;
#[path = "trace/diagram.rs"]
mod diagram;
#[path = "trace/perfetto.rs"]
mod perfetto;
#[path = "trace/report.rs"]
mod report;
mod support;

use serde_json::Value;
use support::{json, raftgram};

/// A file of lines that docs/trace.md shows.
fn good() -> String {
    let docs = include_str!("../../../docs/trace.md");
    let begin = [
        "{\"name\":\"trace\",\"node\":null",
        "{\"name\":\"boot\"",
        "{\"name\":\"datagram\"",
        "{\"name\":\"gap\"",
    ];
    begin.map(|begin| docs.lines().rfind(|line| line.starts_with(begin)).unwrap().to_owned() + "\n").concat()
}

fn written(text: &[u8]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.jsonl");
    std::fs::write(&path, text).unwrap();
    let name = path.to_str().unwrap().to_owned();
    (folder, name)
}

#[test]
fn a_good_file_is_counted() {
    let (_folder, file) = written(good().as_bytes());
    let (code, document) = json(&raftgram(&["--json", "trace", "check", &file, &file]));
    assert_eq!(code, 0, "{document}");
    assert_eq!(document["files"].as_array().unwrap().len(), 2);
    let counts = &document["files"][0];
    assert_eq!((&counts["file"], &counts["lines"]), (&Value::from(file.as_str()), &Value::from(4)));
    assert_eq!(counts["events"], serde_json::json!({"trace": 1, "boot": 1, "datagram": 1, "gap": 1}));
    assert_eq!(counts["datagrams"], serde_json::json!({"dropped-short": 1}));
    assert_eq!((&counts["retransmissions"], &counts["left_out"]), (&Value::from(0), &Value::from(17)));
    let plain = raftgram(&["trace", "check", &file]);
    let text = String::from_utf8(plain.stdout).unwrap();
    assert!(text.lines().any(|line| line == "datagram dropped-short\t1"), "{text}");
}

#[test]
fn a_bad_file_exits_6_with_file_line_and_reason() {
    let good = good();
    let last = good.lines().count();
    let cases: [(Vec<u8>, usize, &str); 7] = [
        (b"".to_vec(), 1, "empty"),
        (good.as_bytes()[..good.len() - 1].to_vec(), last, "cut off"),
        (good.replace("\"events\"", "\"event\"").into_bytes(), last, "`events` is missing"),
        (good.replace("\"time_ns\":4", "\"time_ns\":1").into_bytes(), last, "time runs back"),
        (
            good.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>().into_bytes(),
            1,
            "one header",
        ),
        ([good.as_bytes(), b"\xff\n"].concat(), last + 1, "no UTF-8"),
        ([good.as_bytes(), &[b' '; 2_000_000][..]].concat(), last + 1, "no line is as long"),
    ];
    for (text, line, why) in cases {
        let (_folder, file) = written(&text);
        let (code, document) = json(&raftgram(&["--json", "trace", "check", &file]));
        let error = &document["error"];
        assert_eq!((code, &error["code"]), (6, &Value::from("corrupt")), "{document}");
        assert_eq!(error["address"], format!("{file}:{line}"), "{document}");
        assert!(error["message"].as_str().unwrap().contains(why), "{document}");
    }
    let (code, document) = json(&raftgram(&["--json", "trace", "check", "/nonexistent/trace"]));
    assert_eq!((code, &document["error"]["address"]), (1, &Value::from("/nonexistent/trace")));
}

/// The lines of docs/trace.md that show a datagram whole, and who sees one go.
fn datagrams() -> String {
    let docs = include_str!("../../../docs/trace.md");
    let header = docs.lines().find(|line| line.starts_with("{\"name\":\"trace\",\"node\":1")).unwrap();
    let shown =
        docs.lines().filter(|line| line.starts_with("{\"name\":\"datagram\"") && line.contains("payload"));
    [header].into_iter().chain(shown).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_recording_becomes_a_capture_that_wire_decode_reads() {
    let (folder, file) = written(datagrams().as_bytes());
    let out = folder.path().join("out.pcapng");
    let out = out.to_str().unwrap();
    let (code, document) = json(&raftgram(&["--json", "trace", "pcap", &file, "--out", out]));
    assert_eq!(code, 0, "{document}");
    assert_eq!(
        (&document["packets"], &document["comments"]),
        (&Value::from(2), &Value::from(1)),
        "{document}"
    );
    let bytes = std::fs::read(out).unwrap();
    let comment = b"dropped by node 1: short";
    assert!(bytes.windows(comment.len()).any(|window| window == comment));
    let (code, decoded) = json(&raftgram(&["--json", "wire", "decode", out]));
    assert_eq!((code, &decoded["others"]), (0, &Value::from(0)), "{decoded}");
    let first = &decoded["datagrams"][0];
    assert_eq!(
        (&first["from"], &first["to"]),
        (&Value::from("127.0.0.1:7101"), &Value::from("127.0.0.1:7102"))
    );
    assert_eq!(first["fields"]["packet"], "106", "{first}");
    assert_eq!(decoded["datagrams"][1]["drop"], "short", "{decoded}");
}

#[test]
fn a_recording_that_ends_within_a_line_is_shown_to_there() {
    let text = datagrams();
    let (folder, file) = written(&text.as_bytes()[..text.len() - 9]);
    let out = folder.path().join("out.pcapng");
    let (code, document) =
        json(&raftgram(&["--json", "trace", "pcap", &file, "--out", out.to_str().unwrap()]));
    assert_eq!((code, &document["packets"]), (0, &Value::from(1)), "{document}");
}

#[test]
fn what_cannot_become_a_capture_says_why() {
    let (folder, file) = written(datagrams().replace(",\"payload\":", ",\"load\":").as_bytes());
    let out = folder.path().join("out.pcapng");
    let out = out.to_str().unwrap();
    let (code, document) = json(&raftgram(&["--json", "trace", "pcap", &file, "--out", out]));
    assert_eq!((code, &document["error"]["address"]), (6, &Value::from(format!("{file}:2"))), "{document}");
    let lines: Vec<String> =
        datagrams().lines().map(|line| line.split(",\"payload\"").next().unwrap().to_owned()).collect();
    let without: String = lines
        .iter()
        .enumerate()
        .map(|(at, line)| format!("{line}{}\n", if at == 0 { "" } else { "}}" }))
        .collect();
    let (_folder, file) = written(without.as_bytes());
    let (code, document) = json(&raftgram(&["--json", "trace", "pcap", &file, "--out", out]));
    assert_eq!(code, 1, "{document}");
    assert!(document["error"]["message"].as_str().unwrap().contains("--payloads"), "{document}");
    let (code, document) = json(&raftgram(&["--json", "trace", "pcap", "-", "--out", out]));
    assert_eq!(code, 2, "{document}");
    let (code, _) = json(&raftgram(&["--json", "trace", "pcap", "/nonexistent/trace", "--out", out]));
    assert_eq!(code, 1);
}
