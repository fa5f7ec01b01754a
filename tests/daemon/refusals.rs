//! Bad input: each refusal names the thing, has the exit code that scripts rely on, and leaves nothing half-done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{Cluster, Start, free_addresses, loopback};
use crate::process::{Process, eventually, refused, run, run_command};
use crate::support::{command, json, raftgram};

/// The arguments of a node that would run, to be spoilt; later ones are added.
fn node<'a>(address: &'a str, voters: &'a str, data: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let flags =
        ["node", "--id", "1", "--listen", address, "--voters", voters, "--data", data.to_str().unwrap()];
    [&flags, more].concat()
}

/// One free address and a voter list with this node alone.
fn lone() -> (String, String) {
    let address = free_addresses(loopback(), 1)[0].to_string();
    let voters = format!("1={address}");
    (address, voters)
}

/// Every file below a folder with its content.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let items = std::fs::read_dir(folder).unwrap().map(|item| item.unwrap());
    items.map(|item| (item.file_name().into_string().unwrap(), std::fs::read(item.path()).unwrap())).collect()
}

#[track_caller]
fn assert_says(error: &Value, parts: &[&str]) {
    let said = error.to_string();
    for part in parts {
        assert!(said.contains(part), "`{part}` is missing in {said}");
    }
}

#[test]
fn a_wrong_command_line_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (address, voters) = lone();
    let twice = format!("{voters},{voters}");
    let other = voters.replace("1=", "2=");
    let good = |more| node(&address, &voters, &data, more);
    let cases: [(Vec<&str>, &[&str]); 14] = [
        (node(&address, &other, &data, &["--bootstrap"]), &["n1", "--voters"]),
        (node(&address, &twice, &data, &["--bootstrap"]), &["node 1 twice"]),
        (node(&address, "1", &data, &["--bootstrap"]), &["`1` is not ID=ADDR"]),
        (node("127.0.0.1:99999", &voters, &data, &["--bootstrap"]), &["127.0.0.1:99999"]),
        (node("nonsense", &voters, &data, &["--bootstrap"]), &["nonsense"]),
        (node("0.0.0.0:7101", &voters, &data, &["--bootstrap"]), &["0.0.0.0:7101", "--advertise"]),
        (good(&["--bootstrap", "--join"]), &["--bootstrap", "--join"]),
        (good(&["--bootstrap", "--loss", "101%"]), &["101%"]),
        (good(&["--bootstrap", "--cluster-id", "xyz"]), &["xyz"]),
        (good(&["--bootstrap", "--bogus"]), &["--bogus"]),
        (vec!["node", "--id", "0"], &["`0` is no node number"]),
        (vec!["node", "--id", "1"], &["--voters"]),
        (vec!["kv", "cas", "key", "old"], &["<NEW>"]),
        (vec!["cluster", "up", "-n", "0"], &["-n", "0"]),
    ];
    for (arguments, parts) in cases {
        let (code, error) = refused(&arguments);
        assert_eq!((code, &error["code"]), (2, &Value::from("usage")), "{arguments:?}: {error}");
        assert_says(&error, parts);
        assert!(!data.exists(), "{arguments:?} made the data folder");
    }
}

#[test]
fn a_wrong_configuration_file_is_refused_with_its_name_and_setting() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("raftgram.toml"));
    let (address, voters) = lone();
    let asked = node(&address, &voters, &data, &["--bootstrap", "--config", file.to_str().unwrap()]);
    for (text, parts) in [
        (None, &["raftgram.toml"][..]),
        (Some("[node]\nvoter = 1\n"), &["raftgram.toml", "node.voter"]),
        (Some("[node\n"), &["raftgram.toml", "line 1"]),
        (Some("[node]\nloss = \"much\"\n"), &["much"]),
    ] {
        text.into_iter().for_each(|text| std::fs::write(&file, text).unwrap());
        let (code, error) = refused(&asked);
        assert_eq!(code, 2, "{error}");
        assert_says(&error, parts);
        assert!(!data.exists(), "{text:?}");
    }
}

#[test]
fn a_port_in_use_is_named_and_the_folder_stays_blank() {
    let dir = tempfile::tempdir().unwrap();
    let (address, voters) = lone();
    let _holder = UdpSocket::bind(&address).unwrap();
    let (code, error) = refused(&node(&address, &voters, dir.path(), &["--bootstrap"]));
    assert_eq!((code, &error["address"]), (1, &Value::from(address.as_str())), "{error}");
    assert_says(&error, &["cannot listen", "another port"]);
    let (code, error) = refused(&node(&address, &voters, dir.path(), &[]));
    assert_eq!((code, &error["address"]), (1, &Value::from(address.as_str())), "{error}");
    assert!(content(dir.path()).keys().all(|file| file == "lock"), "{:?}", content(dir.path()).keys());
    let (host, port) = address.rsplit_once(':').unwrap();
    let up = ["cluster", "up", "--address", host, "--port", port, "--dir", dir.path().to_str().unwrap()];
    let (code, error) = refused(&up);
    assert_eq!((code, &error["address"]), (1, &Value::from(address.as_str())), "{error}");
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (address, voters) = lone();
    let file = dir.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    // The last stands where not even root makes folders.
    for data in [file.clone(), file.join("below"), "/proc/raftgram-data".into()] {
        let (code, error) = refused(&node(&address, &voters, &data, &["--bootstrap"]));
        assert_eq!((code, &error["address"]), (1, &Value::from(data.to_str().unwrap())), "{error}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

#[test]
fn an_empty_or_missing_folder_without_a_plan_exits_6_and_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (address, voters) = lone();
    let missing = dir.path().join("missing");
    for data in [dir.path(), &missing] {
        let (code, error) = refused(&node(&address, &voters, data, &[]));
        assert_eq!((code, &error["code"]), (6, &Value::from("corrupt")), "{error}");
        assert_eq!(error["address"], data.to_str().unwrap());
        assert_says(&error, &["--bootstrap", "--join"]);
    }
    assert!(!missing.exists(), "being refused made the folder");
}

/// A cluster of one with some data, stopped.
fn stopped_lone_cluster() -> Cluster {
    let mut cluster = Cluster::stopped(loopback(), 1);
    cluster.start(1, Start::Bootstrap);
    for key in ["a", "b", "c"] {
        let output = run(&["--cluster", &cluster.names(), "kv", "put", key, "value"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    cluster.stop(1);
    cluster
}

#[test]
fn a_folder_of_another_cluster_or_in_use_is_refused_and_unharmed() {
    let mut cluster = stopped_lone_cluster();
    let (address, voters) = (cluster.address(1).to_string(), cluster.voters());
    let data = cluster.data(1).to_owned();
    let strange = "0123456789abcdef0123456789abcdef";
    let before = content(&data);
    let (code, error) = refused(&node(&address, &voters, &data, &["--cluster-id", strange]));
    assert_eq!((code, &error["code"]), (1, &Value::from("failed")), "{error}");
    assert_says(&error, &[strange, "belongs to cluster", data.to_str().unwrap()]);
    assert!(content(&data) == before, "being refused changed the folder");

    cluster.start(1, Start::AsItIs);
    cluster.leader();
    let (elsewhere, _) = lone();
    let (code, error) = refused(&node(&elsewhere, &voters, &data, &[]));
    assert_eq!((code, &error["address"]), (1, &Value::from(data.to_str().unwrap())), "{error}");
    assert_says(&error, &["in use", "another --data"]);
    let output = run(&["--cluster", &address, "kv", "get", "c"]);
    assert_eq!(output.stdout, b"value\n", "the first daemon goes on: {output:?}");
}

#[test]
fn a_cluster_id_beside_founding_is_refused_before_anything_is_founded() {
    let dir = tempfile::tempdir().unwrap();
    let (address, voters) = lone();
    let strange = "0123456789abcdef0123456789abcdef";
    let more = ["--bootstrap", "--cluster-id", strange];
    let (code, error) = refused(&node(&address, &voters, dir.path(), &more));
    assert_eq!(code, 2, "{error}");
    assert_says(&error, &["an id of its own"]);
    let (code, _) = refused(&node(&address, &voters, dir.path(), &[]));
    assert_eq!(code, 6, "nothing was founded");
}

#[test]
fn a_node_joins_the_cluster_asked_for_and_no_other() {
    let cluster = {
        let mut cluster = Cluster::stopped(loopback(), 1);
        cluster.start(1, Start::Bootstrap);
        cluster.leader();
        cluster
    };
    let (address, right) = (free_addresses(loopback(), 1)[0].to_string(), cluster.status(1).unwrap().cluster);
    let (voters, dir) = (cluster.voters(), tempfile::tempdir().unwrap());
    let wrong = "0123456789abcdef0123456789abcdef";
    let flags = ["node", "--id", "2", "--listen", &address, "--voters", &voters, "--join", "--leashed"];
    let join = |id: &str| {
        [&flags[..], &["--data", dir.path().to_str().unwrap(), "--cluster-id", id]].concat().join(" ")
    };
    // Twice: the first time formats the folder, which then is of no cluster.
    for _ in 0..2 {
        let asked = join(wrong);
        let mut command = command(&["--json"]);
        let output = run_command(command.args(asked.split(' ')).stdin(Stdio::piped()));
        let (code, document) = json(&output);
        assert_eq!(code, 1, "{document}");
        assert_says(&document, &[wrong, &right.to_string(), "nothing was joined"]);
    }
    let asked = join(&right.to_string());
    let log = dir.path().join("stderr");
    let mut joiner = Process::start(command(&[]).args(asked.split(' ')).stdin(Stdio::piped()), &log);
    eventually("it joins", || std::fs::read_to_string(&log).unwrap().contains("joined").then_some(()));
    joiner.signal(Signal::TERM);
    assert_eq!(joiner.wait().code(), Some(0));
}

#[test]
fn a_damaged_log_exits_6_and_names_file_and_byte() {
    let cluster = stopped_lone_cluster();
    let (address, voters, data) = (cluster.address(1).to_string(), cluster.voters(), cluster.data(1));
    let files = content(data);
    // The segment that holds the three writes: the one with the most bytes that are not zero.
    let filled = |bytes: &Vec<u8>| bytes.iter().filter(|byte| **byte != 0).count();
    let logs = files.iter().filter(|(name, _)| name.starts_with("log-"));
    let (name, bytes) = logs.max_by_key(|(_, bytes)| filled(bytes)).unwrap();
    let file = std::fs::File::options().write(true).open(data.join(name)).unwrap();
    file.write_all_at(&[bytes[140] ^ 1], 140).unwrap();
    for _ in 0..2 {
        let (code, error) = refused(&node(&address, &voters, data, &[]));
        assert_eq!((code, &error["code"]), (6, &Value::from("corrupt")), "{error}");
        assert_says(&error, &[name, "at byte 0", data.to_str().unwrap()]);
    }
    let (code, error) = refused(&["inspect", data.to_str().unwrap(), "--verify"]);
    assert_eq!((code, &error["address"]), (6, &Value::from(data.join(name).to_str().unwrap())));
    file.write_all_at(&[bytes[140]], 140).unwrap();
    assert_eq!(raftgram(&["inspect", data.to_str().unwrap(), "--verify"]).status.code(), Some(0));
}

#[test]
fn a_log_without_its_hard_state_exits_6_even_when_founding_is_asked_for() {
    let cluster = stopped_lone_cluster();
    let (address, voters, data) = (cluster.address(1).to_string(), cluster.voters(), cluster.data(1));
    for copy in ["hard-state-a", "hard-state-b"] {
        std::fs::remove_file(data.join(copy)).unwrap();
    }
    let before = content(data);
    for more in [&[][..], &["--bootstrap"], &["--join"]] {
        let (code, error) = refused(&node(&address, &voters, data, more));
        assert_eq!((code, &error["code"]), (6, &Value::from("corrupt")), "{error}");
        assert_says(&error, &["hard state is missing", "log-"]);
    }
    assert!(content(data) == before, "being refused changed the folder");
}

#[test]
fn every_exit_code_is_reached_by_what_it_stands_for() {
    let mut cluster = Cluster::founded();
    let names = cluster.names();
    let kv = |more: &[&str]| {
        run(&[&["--cluster", &names, "--timeout", "5s", "kv"], more].concat()).status.code().unwrap()
    };
    let mut seen = BTreeSet::from([kv(&["put", "k", "v"])]);
    assert_eq!(seen, BTreeSet::from([0]));
    let code_of = |arguments: &[&str]| refused(arguments).0;
    seen.insert(code_of(&["man", "/proc/raftgram-pages"]));
    seen.insert(code_of(&["kv", "get"]));
    // Somebody is there and never answers.
    let silent = UdpSocket::bind(SocketAddr::new(loopback(), 0)).unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let (code, error) = refused(&["--cluster", &silent, "--timeout", "300ms", "kv", "get", "k"]);
    assert_says(&error, &["unreachable", &silent, "elapsed_ms"]);
    assert!(error["elapsed_ms"].as_u64().unwrap() >= 300, "{error}");
    seen.insert(code);
    assert_eq!(code_of(&["--cluster", &silent, "--timeout", "300ms", "status"]), 3);
    seen.insert(kv(&["get", "nothing"]));
    assert_eq!((kv(&["cas", "k", "w", "x"]), kv(&["delete", "nothing"])), (4, 4));
    let (leader, _) = cluster.leader();
    cluster.ids().filter(|id| *id != leader).for_each(|id| cluster.kill(id));
    // The one that is left leads nobody as soon as it notices.
    let left = cluster.address(leader).to_string();
    let put = ["--cluster", &left, "--timeout", "2s", "kv", "put", "k", "w"];
    eventually("a lone node says that there is no leader", || (code_of(&put) == 5).then_some(()));
    let (code, document) = json(&run(&["--json", "--cluster", &left, "status", "--check"]));
    assert_says(&document, &["no-leader"]);
    seen.insert(code);
    let dir = tempfile::tempdir().unwrap();
    let (address, voters) = lone();
    seen.insert(code_of(&node(&address, &voters, dir.path(), &[])));
    seen.insert(code_of(&["wire", "vectors", "--check", "yes nonsense"]));
    seen.insert(interrupted());
    assert_eq!(seen, BTreeSet::from([0, 1, 2, 3, 4, 5, 6, 7, 130]));
}

/// The exit code of a measurement that is told to stop.
fn interrupted() -> i32 {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut command = command(&["--json", "bench", "udp", "--warm-up", "0", "--duration", "1h"]);
    let mut bench = Process::start(command.stdout(Stdio::null()), &log);
    // It says that it measures after it has taken the signals over.
    let measures = || std::fs::read_to_string(&log).unwrap().contains("measuring").then_some(());
    eventually("the measurement begins", measures);
    bench.signal(Signal::INT);
    bench.wait().code().unwrap()
}
