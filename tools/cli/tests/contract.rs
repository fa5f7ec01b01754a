//! What scripts rely on: exit codes, JSON keys, and failures as documents, seen from outside the process.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{command, json, raftgram};

#[test]
fn a_wrong_command_line_exits_2_and_is_a_document_when_asked() {
    for arguments in [
        &["nonsense"][..],
        &[],
        &["bench"],
        &["bench", "udp", "--size", "x"],
        &["bench", "udp", "--size", "3"],
    ] {
        let plain = raftgram(arguments);
        assert_eq!(plain.status.code(), Some(2), "{arguments:?}");
        assert!(plain.stdout.is_empty() && !plain.stderr.is_empty(), "{plain:?}");
        let (code, document) = json(&raftgram(&[&["--json"], arguments].concat()));
        assert_eq!((code, &document["error"]["code"]), (2, &Value::from("usage")), "{arguments:?}");
        let keys: Vec<&String> = document["error"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["address", "code", "elapsed_ms", "hint", "message"]);
    }
}

#[test]
fn a_stream_ends_in_a_failure_on_one_line() {
    let output = raftgram(&["--json-stream", "bench", "udp", "--size", "3"]);
    assert_eq!(output.stdout.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert_eq!(json(&output).1["error"]["message"], "--size 3 is not between 8 and 65507 bytes");
}

#[test]
fn a_machine_that_refuses_exits_1_and_names_the_thing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("pages");
    let (code, document) = json(&raftgram(&["--json", "man", below.to_str().unwrap()]));
    assert_eq!((code, &document["error"]["code"]), (1, &Value::from("failed")));
    assert_eq!(document["error"]["address"], below.to_str().unwrap());
}

#[test]
fn help_and_version_are_answers() {
    for arguments in [&["--help"][..], &["--version"], &["bench", "udp", "--help"]] {
        let output = raftgram(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn a_ping_pong_prints_its_figures_with_their_settings() {
    let folder = tempfile::tempdir().unwrap();
    let hgrm = folder.path().join("udp.hgrm");
    let short = ["--json", "bench", "udp", "--warm-up", "10ms", "--duration", "100ms", "--size", "100"];
    let (code, document) = json(&raftgram(&[&short[..], &["--hgrm", hgrm.to_str().unwrap()]].concat()));
    assert_eq!(code, 0);
    assert!(document["ops"].as_u64().unwrap() > 0);
    assert!(document["ops_per_s"].as_f64().unwrap() > 0.0);
    assert!(document["errors"].is_u64() && document["unknown"].is_u64());
    for quantile in ["p50", "p90", "p99", "p999", "max"] {
        assert!(document["latency_us"][quantile].as_f64().unwrap() > 0.0, "{quantile}");
    }
    let settings = document["settings"].as_object().unwrap();
    for key in [
        "nodes",
        "fsync",
        "clients",
        "value_bytes",
        "loss",
        "rtt_us",
        "pinned",
        "warm_up",
        "kernel_drops",
        "socket_buffers",
    ] {
        assert!(settings.contains_key(key), "{key}");
    }
    assert_eq!(settings["value_bytes"], 100);
    assert!(std::fs::read_to_string(hgrm).unwrap().contains("#[Max"));
}

#[test]
fn an_interrupted_measurement_exits_130() {
    let mut command = command(&["--json", "bench", "udp", "--warm-up", "0", "--duration", "1h"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The line that says it measures comes after the signals were taken over.
    wait_for_line(&mut child, "measuring");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let (code, document) = json(&output);
    assert_eq!((code, &document["error"]["code"]), (130, &Value::from("interrupted")));
    assert!(document["error"]["elapsed_ms"].is_u64());
}

#[test]
fn the_second_process_of_a_ping_pong_dies_with_its_parent() {
    let mut command = command(&["bench", "udp", "--warm-up", "0", "--duration", "1h"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_line(&mut child, "measuring");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let Ok(echo) = std::fs::read_to_string(children) else {
        // Only Linux, and only some kernels, tell a process's children.
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    };
    let echo = echo.trim().to_owned();
    assert!(!echo.is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_running(&echo) {
        assert!(Instant::now() < deadline, "process {echo} outlives its parent");
        std::thread::yield_now();
    }
}

/// True while the process exists and is no zombie: nobody may be there to reap it.
fn is_running(process: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).unwrap_or_default();
    status
        .rsplit(')')
        .next()
        .is_some_and(|fields| !fields.is_empty() && !fields.trim_start().starts_with('Z'))
}

/// Reads stderr up to a line with this word; the rest stays readable.
fn wait_for_line(child: &mut std::process::Child, word: &str) {
    use std::io::Read as _;
    let stderr = child.stderr.as_mut().unwrap();
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&seen).contains(word) {
        assert_eq!(stderr.read(&mut byte).unwrap(), 1, "ended after {:?}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
}

#[test]
fn settings_come_from_flags_over_environment_over_file_over_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raftgram.toml");
    std::fs::write(&file, "log-level = \"warn\"\n[bench-udp]\nsize = \"1KiB\"\nduration = \"9s\"\n").unwrap();
    let mut command = command(&["--json", "--config", file.to_str().unwrap(), "config", "show"]);
    let output = command.env("RAFTGRAM_BENCH_UDP_DURATION", "8s").output().unwrap();
    let (code, document) = json(&output);
    assert_eq!(code, 0);
    let setting = |key: &str| {
        let list = document["settings"].as_array().unwrap();
        let found = list.iter().find(|setting| setting["key"] == key).unwrap();
        (found["value"].as_str().unwrap().to_owned(), found["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(setting("json"), ("true".into(), "flag".into()));
    assert_eq!(setting("bench-udp.duration"), ("8s".into(), "environment".into()));
    assert_eq!(setting("bench-udp.size"), ("1KiB".into(), "file".into()));
    assert_eq!(setting("log-level"), ("warn".into(), "file".into()));
    assert_eq!(setting("bench-udp.patience"), ("100ms".into(), "default".into()));
}

#[test]
fn a_wrong_file_is_named_with_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raftgram.toml");
    std::fs::write(&file, "[bench-udp]\nsise = 1\n").unwrap();
    let asked = ["--json", "--config", file.to_str().unwrap(), "config", "show"];
    let (code, document) = json(&raftgram(&asked));
    assert_eq!(code, 2);
    assert_eq!(document["error"]["message"], "`bench-udp.sise`: there is no such setting");
    assert_eq!(document["error"]["address"], file.to_str().unwrap());
    let missing = folder.path().join("none.toml");
    let (code, document) =
        json(&raftgram(&["--json", "--config", missing.to_str().unwrap(), "config", "show"]));
    assert_eq!((code, &document["error"]["address"]), (2, &Value::from(missing.to_str().unwrap())));
}

#[test]
fn the_environment_may_ask_for_json() {
    let output = command(&["nonsense"]).env("RAFTGRAM_JSON", "1").output().unwrap();
    assert_eq!(json(&output).1["error"]["code"], "usage");
    let output = command(&["config", "show", "json"]).env("RAFTGRAM_JSON", "yes").output().unwrap();
    assert_eq!(json(&output).1["settings"][0]["source"], "environment");
}

#[test]
fn completions_and_pages_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = raftgram(&["completions", shell]);
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("bench"),
            "{shell}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(raftgram(&["man", folder.path().to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(folder.path().join("raftgram-bench-udp.1")).unwrap();
    assert!(page.contains("Ping"), "{page}");
}
