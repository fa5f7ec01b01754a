//! The README's first command: a cluster from one terminal.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::{alone, free_addresses, loopback, names};
use crate::process::{PATIENCE, Process, eventually, is_running, run};
use crate::support::{command, json};

/// `cluster up` and the lines of its stdout.
struct Up {
    process: Process,
    lines: Receiver<String>,
    /// As `--cluster` takes them.
    cluster: String,
}

impl Up {
    fn start(dir: &Path, flags: &[&str]) -> Self {
        let addresses = free_addresses(loopback(), 3);
        let (host, port) = (addresses[0].ip().to_string(), addresses[0].port().to_string());
        let mut command = command(&["cluster", "up", "-n", "3", "--address", &host, "--port", &port]);
        command.arg("--dir").arg(dir.join("data")).args(flags).stdout(Stdio::piped());
        let mut process = Process::start(&mut command, &dir.join("log"));
        let stdout = BufReader::new(process.child().stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Nobody listens to the rest once the test is over.
                let _ = send.send(line);
            }
        });
        Self { process, lines, cluster: names(&addresses) }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// The pids in the `ready` event.
    fn pids(&self) -> Vec<u32> {
        let event: Value = serde_json::from_str(&self.line()).unwrap();
        assert_eq!(event["event"], "ready");
        let nodes = event["nodes"].as_array().unwrap();
        let addresses: Vec<&str> = nodes.iter().map(|node| node["addr"].as_str().unwrap()).collect();
        assert_eq!(addresses.join(","), self.cluster);
        nodes.iter().map(|node| u32::try_from(node["pid"].as_u64().unwrap()).unwrap()).collect()
    }

    /// Exit code and stdout of `kv` in a process of its own.
    fn kv(&self, arguments: &[&str]) -> (i32, String) {
        let output = run(&[&["--cluster", &self.cluster, "kv"], arguments].concat());
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }
}

fn ok(stdout: &str) -> (i32, String) {
    (0, stdout.to_owned())
}

#[test]
fn the_readme_s_first_command_serves_and_a_second_run_comes_back_with_the_data() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut up = Up::start(dir.path(), &[]);
    assert_eq!(up.line(), format!("ready {}", up.cluster));
    assert_eq!(up.kv(&["put", "greeting", "hello"]), ok(""));
    assert_eq!(up.kv(&["get", "greeting"]), ok("hello\n"));
    assert_eq!(up.kv(&["cas", "greeting", "hello", "hello again"]), ok(""));
    assert_eq!(up.kv(&["cas", "greeting", "hello", "never"]).0, 4);
    assert_eq!(up.kv(&["put", "gone", "soon"]), ok(""));
    assert_eq!(up.kv(&["delete", "gone"]), ok(""));
    assert_eq!(up.kv(&["delete", "gone"]).0, 4);
    assert_eq!(up.kv(&["get", "gone"]).0, 4);
    assert_eq!(up.kv(&["put", "great", "stuff"]), ok(""));
    assert_eq!(up.kv(&["list", "gre"]), ok("great\tstuff\ngreeting\thello again\n"));
    for level in ["linearizable", "local"] {
        let read = || (up.kv(&["get", "greeting", "--level", level]) == ok("hello again\n")).then_some(());
        eventually("a read at this level sees the write", read);
    }
    let (code, document) = json(&run(&["--json", "--cluster", &up.cluster, "kv", "get", "greeting"]));
    assert_eq!((code, &document["value"]), (0, &Value::from("hello again")));
    assert!(document["index"].as_u64().unwrap() > 0 && document["term"].as_u64().unwrap() > 0, "{document}");
    one_leads(&up.cluster);
    up.process.signal(Signal::TERM);
    assert_eq!(up.process.wait().code(), Some(0));

    let mut up = Up::start(dir.path(), &[]);
    assert_eq!(up.line(), format!("ready {}", up.cluster));
    assert_eq!(up.kv(&["list"]), ok("great\tstuff\ngreeting\thello again\n"));
    up.process.signal(Signal::INT);
    assert_eq!(up.process.wait().code(), Some(0));
}

#[test]
fn over_tcp_the_same_cluster_serves_sealed_and_goes_on_without_one_of_its_nodes() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key").to_string_lossy().into_owned();
    assert!(run(&["key", "new", &key]).status.success());
    let up = Up::start(dir.path(), &["--json-stream", "--transport", "tcp", "--key", &key]);
    let pids = up.pids();
    let kv = |arguments: &[&str]| up.kv(&[&["--key", &key], arguments].concat());
    assert_eq!(kv(&["put", "greeting", "hello"]), ok(""));
    // Who leads is not asked: in one of two such runs it is the leader, and in both there is a quorum.
    kill_process(Pid::from_raw(i32::try_from(pids[0]).unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(kv(&["put", "greeting", "hello again"]), ok(""));
    assert_eq!(kv(&["get", "greeting"]), ok("hello again\n"));
}

/// `status --json` has a row for each node, and one of them leads.
fn one_leads(cluster: &str) {
    eventually("status shows one leader", || {
        let (code, document) = json(&run(&["--json", "--cluster", cluster, "status"]));
        assert_eq!(code, 0);
        let nodes = document["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 3);
        for node in nodes {
            assert_eq!(
                (&node["reachable"], &node["voters"]),
                (&Value::from(true), &Value::from(vec![1, 2, 3]))
            );
        }
        let leaders: Vec<&Value> =
            nodes.iter().filter(|node| node["role"] == "leader").map(|node| &node["id"]).collect();
        (leaders == [&document["leader"]]).then_some(())
    });
    assert_eq!(run(&["--cluster", cluster, "status", "--check"]).status.code(), Some(0));
}

#[test]
fn no_node_outlives_the_cluster_that_started_it_however_that_ends() {
    let _alone = alone();
    for end in [Signal::TERM, Signal::KILL] {
        let dir = tempfile::tempdir().unwrap();
        let mut up = Up::start(dir.path(), &["--json-stream"]);
        let pids = up.pids();
        assert!(pids.len() == 3 && pids.iter().all(|pid| is_running(*pid)), "{pids:?}");
        up.process.signal(end);
        let status = up.process.wait();
        assert_eq!(status.code(), (end == Signal::TERM).then_some(0), "{status}");
        eventually("all nodes end", || pids.iter().all(|pid| !is_running(*pid)).then_some(()));
    }
}
