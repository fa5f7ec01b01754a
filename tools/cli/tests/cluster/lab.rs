//! Experiments and faults as scripts see them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json as value};

use crate::support::{command, json, raftgram};
use crate::up::{Cluster, free_ports, is_running, kill, turn, wait_until};

const SMALL: &str = r#"
name = "small"
title = "A small one"
duration = "500ms"
warm-up = "100ms"
trace = "50ms"
[load]
rate = 100
[[fault]]
at = "100ms"
for = "200ms"
do = "crash"
node = "follower"
"#;

fn scenario(dir: &Path, text: &str) -> String {
    let file = dir.join("small.toml");
    fs::write(&file, text).unwrap();
    file.to_string_lossy().into_owned()
}

fn rows(dir: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn run_json(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("run.json")).unwrap()).unwrap()
}

#[test]
fn systems_that_cannot_be_measured_here_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str, why: &str| {
        let mut run = command(&["lab", "run", &scenario(folder.path(), text)]);
        // Where no tool is found; without root that comes first.
        let output = run.env("PATH", folder.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    };
    refused(
        "systems = [\"etdc\"]",
        "small.toml:1: `systems` in the scenario: `etdc` is none of raftgram, raftgram-tcp, \
         etcd, did you mean `etcd`?",
    );
    refused("systems = [\"etcd\", \"etcd\"]", "`etcd` stands there twice");
    refused("systems = [\"etcd\"]", "other systems than raftgram are measured in namespaces only");
    let there = "on = \"namespaces\"\nsystems = [\"etcd\"]\n";
    refused(
        &format!("{there}[links]\nloss = \"1%\"\njitter = \"1ms\""),
        "in namespaces the only fault is loss",
    );
    refused(&format!("{there}[sweep]\nmtu = [\"1200B\"]"), "`mtu` cannot be varied in namespaces");
    refused(&format!("{there}[load]\nrate = 7"), "etcd is measured with synced puts in a closed loop only");
    let why = if rustix::process::geteuid().is_root() { "needs `ip`" } else { "need root" };
    refused(there, why);
}

#[test]
fn an_experiment_on_the_simulator_repeats_to_the_last_digit() {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario(folder.path(), SMALL);
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let out = |dir: &Path| dir.to_string_lossy().into_owned();
    let arguments =
        ["--json", "lab", "run", &file, "--seed", "7", "--sweep", "loss=0,10", "--out", &out(&one)];
    let (code, document) = json(&raftgram(&arguments));
    assert_eq!((code, &document["seed"], &document["runs"]), (0, &7.into(), &2.into()), "{document}");
    // The folder holds all that is needed.
    let again = one.join("scenario.toml").to_string_lossy().into_owned();
    let (code, _) = json(&raftgram(&["--json", "lab", "run", &again, "--out", &out(&other)]));
    assert_eq!(code, 0);
    for name in
        ["points.jsonl", "series.csv", "events.jsonl", "nodes.jsonl", "hgrm/p1.hgrm", "traces/p0r0.jsonl"]
    {
        let [one, other] = [&one, &other].map(|dir| fs::read(dir.join(name)).unwrap());
        assert!(!one.is_empty() && one == other, "{name} differs");
    }
    let run = run_json(&one);
    let told = ["state", "on", "is_deterministic"].map(|key| run[key].clone());
    assert_eq!(told, [value!("complete"), value!("simulator"), value!(true)]);
    let points = rows(&one, "points.jsonl");
    assert_eq!([&points[0]["ops"], &points[1]["x"]], [&Value::from(50), &Value::from(0.1)]);
    let kinds: Vec<Value> = rows(&one, "events.jsonl").iter().map(|row| row["kind"].clone()).collect();
    assert!(["leader", "crash", "start"].iter().all(|kind| kinds.contains(&Value::from(*kind))), "{kinds:?}");
    let trace = one.join("traces/p0r0.jsonl").to_string_lossy().into_owned();
    assert_eq!(raftgram(&["trace", "check", &trace]).status.code(), Some(0));
    let (code, compared) = json(&raftgram(&["--json", "lab", "compare", &out(&one), &out(&other)]));
    assert_eq!((code, compared["points"].as_array().map(Vec::len)), (0, Some(2)));
    assert_eq!(
        (&compared["points"][0]["p50_ms"]["ratio"], &compared["settings"]),
        (&1.0.into(), &Value::Array(vec![]))
    );
}

#[test]
fn an_experiment_that_cannot_be_is_refused_with_line_and_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| {
        let (code, document) = json(&raftgram(&[&["--json", "lab"], arguments].concat()));
        let error = &document["error"];
        (
            code,
            format!(
                "{}: {}",
                error["address"].as_str().unwrap_or(""),
                error["message"].as_str().unwrap_or("")
            ),
        )
    };
    let file = scenario(folder.path(), "nodes = 3\n[links]\nlos = \"5%\"\n");
    let line = format!("{file}:3: there is no `los` in links, did you mean `loss`?");
    assert_eq!(refused(&["run", &file]), (2, line));
    assert_eq!(refused(&["run", "los-sweep"]).0, 4);
    let sweep = "--sweep lost=1: `lost` cannot be varied, did you mean `loss`?";
    assert_eq!(refused(&["run", "mtu", "--sweep", "lost=1"]), (2, format!(": {sweep}")));
    assert_eq!(refused(&["run", "slow-disk", "--on", "processes"]).0, 2);
    let out = folder.path().to_string_lossy().into_owned();
    assert_eq!(refused(&["run", "mtu", "--out", &out]).1, format!("{out}: the folder is not empty"));
    assert_eq!(refused(&["compare", &out, &out]).0, 1);
}

/// The pids of processes whose command line names this.
fn running_with(text: &str) -> Vec<u32> {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|it| it.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let names = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    };
    pids.filter(names).filter(|pid| is_running(*pid)).collect()
}

#[test]
fn an_experiment_on_processes_that_is_interrupted_leaves_a_partial_folder_and_nothing_else() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let text = SMALL.replace("[load]", "repeats = 100\non = \"processes\"\nfsync = false\n[load]");
    let text = text.replace("trace = \"50ms\"", "trace = \"300ms\"");
    let file = scenario(folder.path(), &text);
    let dir = folder.path().join("run");
    let out = dir.to_string_lossy().into_owned();
    let arguments =
        ["--json-stream", "--log-level", "error", "lab", "run", &file, "--seed", "1", "--out", &out];
    let mut child = command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let measured: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!((&measured["event"], &measured["errors"]), (&"measured".into(), &0.into()), "{measured}");
    assert!(measured["ops"].as_u64() > Some(25) && measured["commits"].as_u64() > Some(25), "{measured}");
    // What nodes sent, in their own words: at least an append and its answer for each commit.
    let figure = |name: &str| measured[name].as_u64().unwrap();
    assert!(figure("datagrams") > 2 * figure("commits"), "{measured}");
    assert!(figure("datagram_bytes") > 32 * figure("datagrams"), "{measured}");
    assert_eq!(measured["trace"], "traces/p0r0", "{measured}");
    let traces = fs::read_dir(dir.join("traces/p0r0")).unwrap().map(|it| it.unwrap().path());
    let traces: Vec<String> = traces.map(|path| path.to_string_lossy().into_owned()).collect();
    let picture = folder.path().join("picture.json").to_string_lossy().into_owned();
    let named = ["--json", "trace", "perfetto", "--out", &picture].map(str::to_owned);
    let arguments: Vec<String> = named.into_iter().chain(traces).collect();
    let (code, made) = json(&raftgram(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(code, 0, "{made}");
    assert!(made["committed"].as_u64() > Some(0) && made["answered"].as_u64() > Some(0), "{made}");
    wait_until("the next repeat has its nodes", || running_with(&out).len() >= 3);
    kill(child.id(), "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    wait_until("no process is left", || running_with(&out).is_empty());
    let run = run_json(&dir);
    assert_eq!((&run["state"], &run["why_partial"]), (&"partial".into(), &"stopped before the end".into()));
    assert_eq!(rows(&dir, "points.jsonl").len() as u64, run["runs_done"].as_u64().unwrap());
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("data-")), "{left:?}");
}

// [W-110] [W-111]
#[test]
fn faults_are_set_in_nodes_that_allow_it_and_end_by_themselves() {
    let port = free_ports(3);
    let plain = Cluster::up_at(port, &["--temp"]);
    let (code, document) = json(&plain.run(&["--json", "fault", "set", "--loss", "5%", "--for", "1s"]));
    assert_eq!(code, 1);
    let error = &document["error"];
    assert!(error["message"].as_str().unwrap().contains("--allow-faults"), "{error}");
    drop(plain);

    let cluster = Cluster::up(&["--temp", "--allow-faults"]);
    assert_eq!(cluster.run(&["fault", "set", "--for", "1s"]).status.code(), Some(2));
    assert_eq!(cluster.run(&["fault", "set", "--loss", "5%"]).status.code(), Some(2), "--for is a must");
    let leader = || json(&cluster.run(&["--json", "status"])).1["leader"].as_u64();
    let first = leader().expect("it serves");
    let others: Vec<String> = (1..=3).filter(|node| *node != first).map(|node| node.to_string()).collect();
    let groups = format!("{first}/{}", others.join(","));
    let (code, document) =
        json(&cluster.run(&["--json", "fault", "set", "--partition", &groups, "--for", "60s"]));
    assert_eq!((code, &document["nodes"]), (0, &Value::from([1, 2, 3].as_slice())));
    wait_until("another node leads", || leader().is_some_and(|now| now != first));
    assert_eq!(cluster.run(&["fault", "clear"]).status.code(), Some(0));
    let terms = || {
        let (_, document) = json(&cluster.run(&["--json", "status"]));
        let nodes = document["nodes"].as_array().unwrap().clone();
        nodes.iter().map(|node| node["term"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    wait_until("all are of one term again", || terms().windows(2).all(|pair| pair[0] == pair[1]));
    let set = ["fault", "set", "--from", "1", "--to", "2", "--loss", "100%", "--for", "1ms"];
    assert_eq!(cluster.run(&set).status.code(), Some(0));
    assert_eq!(cluster.run(&["kv", "put", "k", "v"]).status.code(), Some(0));
}
