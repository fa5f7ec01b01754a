//! Experiments in network namespaces: they measure what they say, under loss that was counted, and leave nothing
//! behind.

use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use super::{can_run, works};
use crate::cluster::alone;
use crate::process::{Process, eventually, run};
use crate::support::{command, json};

/// Each system that is here, under heavy loss, for a moment.
fn scenario(dir: &Path, duration: &str) -> String {
    let etcd = if works("etcd") { ", \"etcd\"" } else { "" };
    let text = format!(
        "name = \"small\"\non = \"namespaces\"\nsystems = [\"raftgram\", \"raftgram-tcp\"{etcd}]\n\
         warm-up = \"100ms\"\nduration = \"{duration}\"\n[load]\nclients = 64\n[links]\nloss = \"10%\"\n"
    );
    let file = dir.join("small.toml");
    std::fs::write(&file, text).unwrap();
    file.to_string_lossy().into_owned()
}

#[test]
fn systems_in_namespaces_are_measured_under_the_loss_that_was_asked_for() {
    if !can_run("an experiment in namespaces", &["ip", "nft"]) {
        return;
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (scenario(dir.path(), "1500ms"), dir.path().join("out"));
    let (code, document) = json(&run(&["--json", "lab", "run", &file, "--out", &out.to_string_lossy()]));
    assert_eq!(code, 0, "{document}");
    let points = document["points"].as_array().unwrap();
    // How much is done in a moment is the machine's business; somebody does something.
    assert!(points.iter().any(|point| point["ops"].as_u64() > Some(0)), "{document}");
    let nodes = std::fs::read_to_string(out.join("nodes.jsonl")).unwrap();
    let rows: Vec<Value> = nodes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 3 * points.len());
    let sum = |count: fn(&Value) -> &Value| rows.iter().map(|row| count(row).as_u64().unwrap()).sum::<u64>();
    let (lost, passed) = (sum(|row| &row["drops"]["netfilter"]), sum(|row| &row["packets_passed"]));
    // A tenth, give or take far more than chance does.
    assert!((passed / 30..passed / 3).contains(&lost), "{lost} lost, {passed} passed");
}

#[test]
fn an_experiment_that_is_stopped_leaves_neither_a_process_nor_a_namespace() {
    if !can_run("an experiment in namespaces", &["ip", "nft"]) {
        return;
    }
    let _alone = alone();
    for signal in [Signal::INT, Signal::KILL] {
        let dir = tempfile::tempdir().unwrap();
        let (file, out) = (scenario(dir.path(), "60s"), dir.path().join("out"));
        let mut command = command(&["lab", "run", &file, "--out", &out.to_string_lossy()]);
        let mut lab = Process::start(command.stdout(Stdio::null()), &dir.path().join("log"));
        let (holder, data) = (format!("raftgram-lab-{}", lab.pid()), out.to_string_lossy().into_owned());
        // The shells that hold the four namespaces, and the nodes in them; the lab itself names the folder, too.
        let there = || (processes_with(&holder), processes_with(&data));
        eventually("the cluster runs", || (there() == (4, 4)).then_some(()));
        lab.signal(signal);
        let status = lab.wait();
        assert_eq!(status.code(), (signal == Signal::INT).then_some(130), "{status}");
        eventually("all of it ends", || (there() == (0, 0)).then_some(()));
        let text = std::fs::read_to_string(out.join("run.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["state"], "partial");
    }
}

/// How many processes have this in one of their words.
fn processes_with(part: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(part)).count()
}
