//! Nodes and clusters as scripts see them: real processes, real sockets, every exit code that they can reach.

#[path = "support/guide.rs"]
mod guide;
#[path = "cluster/guides.rs"]
mod guides;
#[path = "cluster/lab.rs"]
mod lab;
#[path = "support/ports.rs"]
mod ports;
mod support;
#[path = "support/cluster.rs"]
mod up;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::Value;
use support::{command, json, raftgram};
use up::{Cluster, free_ports, kill, turn, wait_until};

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Exit code and error code of a failed command.
fn fault(output: &std::process::Output) -> (i32, String) {
    let (code, document) = json(output);
    (code, document["error"]["code"].as_str().unwrap_or_else(|| panic!("{document}")).to_owned())
}

#[test]
fn a_cluster_serves_until_it_is_told_to_stop() {
    let cluster = Cluster::up(&["--temp"]);
    let (code, document) = json(&cluster.run(&["--json", "kv", "put", "color", "blue sky"]));
    assert_eq!((code, &document["key"], &document["value"]), (0, &"color".into(), &"blue sky".into()));
    assert!(document["index"].is_u64() && document["term"].is_u64());
    assert_eq!(stdout(&cluster.run(&["kv", "get", "color"])), "blue sky\n");
    assert_eq!(stdout(&cluster.run(&["kv", "get", "color", "--raw"])), "blue sky");
    for level in ["linearizable", "lease"] {
        assert_eq!(stdout(&cluster.run(&["kv", "get", "color", "--level", level])), "blue sky\n");
    }

    assert_eq!(fault(&cluster.run(&["--json", "kv", "get", "shape"])), (4, "not-found".into()));
    assert_eq!(fault(&cluster.run(&["--json", "kv", "delete", "shape"])), (4, "not-found".into()));
    assert_eq!(
        fault(&cluster.run(&["--json", "kv", "cas", "color", "red", "x"])),
        (4, "compare-failed".into())
    );
    assert_eq!(cluster.run(&["kv", "cas", "color", "blue sky", "red"]).status.code(), Some(0));
    assert_eq!(stdout(&cluster.run(&["kv", "list"])), "color\tred\n");
    assert_eq!(cluster.run(&["kv", "delete", "color"]).status.code(), Some(0));
    assert_eq!(stdout(&cluster.run(&["kv", "list"])), "");

    watches_tell_what_becomes_of_keys(&cluster);

    let (code, document) = json(&cluster.run(&["--json", "status"]));
    let nodes = document["nodes"].as_array().unwrap();
    assert_eq!((code, nodes.len()), (0, 3));
    let leader = nodes.iter().find(|node| node["role"] == "leader").unwrap();
    assert_eq!(leader["id"], document["leader"]);
    for key in
        ["addr", "term", "commit", "applied", "last", "incarnation", "retransmits", "duplicates", "drops"]
    {
        assert!(!leader[key].is_null(), "{key}");
    }
    assert_eq!(leader["voters"], Value::from([1, 2, 3].as_slice()));
    assert_eq!(cluster.run(&["status", "--check"]).status.code(), Some(0));

    cluster.signal("-TERM");
    assert_eq!(cluster.end(), (Some(0), String::new()));
}

fn watches_tell_what_becomes_of_keys(cluster: &Cluster) {
    let address = cluster.port.to_string();
    let mut command =
        command(&["--json-stream", "--cluster", &address, "kv", "watch", "col", "--count", "2"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let began = next();
    assert_eq!((&began["event"], &began["prefix"]), (&"watching".into(), &"col".into()));
    for put in [["color", "green"], ["shape", "round"], ["colt", "45"]] {
        assert_eq!(cluster.run(&["kv", "put", put[0], put[1]]).status.code(), Some(0));
    }
    for (key, value) in [("color", "green"), ("colt", "45")] {
        let event = next();
        assert_eq!(
            (&event["event"], &event["key"], &event["value"]),
            (&"put".into(), &key.into(), &value.into())
        );
        assert!(event["index"].as_u64() > began["after"].as_u64() && event["term"].is_u64());
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));

    // What has been, in a pipe and as one document; and a document without an end.
    let after = began["after"].to_string();
    let from =
        |flags: &[&str]| cluster.run(&[flags, &["kv", "watch", "--after", &after, "--count", "2"]].concat());
    let text = stdout(&from(&[]));
    assert!(text.contains("\tput\tcolor\tgreen\n") && text.ends_with("\tput\tshape\tround\n"), "{text}");
    let (code, document) = json(&from(&["--json"]));
    assert_eq!((code, document["events"].as_array().unwrap().len()), (0, 2));
    assert_eq!(fault(&cluster.run(&["--json", "kv", "watch"])), (2, "usage".into()));
    for key in ["colt", "shape", "color"] {
        cluster.run(&["kv", "delete", key]);
    }
}

#[test]
fn commands_from_stdin_are_carried_out_in_order_and_the_first_failure_is_the_exit_code() {
    let cluster = Cluster::up(&["--temp"]);
    let address = cluster.port.to_string();
    let feed = |flags: &[&str], lines: &str| {
        let mut command = command(&[&["--cluster", &address], flags, &["kv"]].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = feed(&[], "put a 1\nput b 'two words'\n# a comment\n\nget b\nget c\nget a\n");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(4), "two words\n1\n"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 6: there is no key `c`"), "{output:?}");

    let output = feed(&["--json"], "get a\nnonsense\nget a\n");
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        (&lines[0]["value"], &lines[1]["error"]["code"], &lines[2]["value"]),
        (&"1".into(), &"usage".into(), &"1".into())
    );
}

#[test]
fn large_values_work_and_larger_ones_are_refused() {
    let cluster = Cluster::up(&["--temp"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("value");
    let put = |bytes: usize| {
        std::fs::write(&file, vec![b'v'; bytes]).unwrap();
        cluster.run(&["--json", "kv", "put", "big", "--from", file.to_str().unwrap()])
    };
    assert_eq!(put(1 << 20).status.code(), Some(0));
    assert_eq!(cluster.run(&["kv", "get", "big", "--raw"]).stdout, vec![b'v'; 1 << 20]);
    assert_eq!(fault(&put((1 << 20) + 1)), (1, "too-large".into()));
}

#[test]
fn without_a_quorum_there_is_no_leader_and_without_nodes_nobody_is_reached() {
    let cluster = Cluster::up(&["--temp"]);
    assert_eq!(cluster.run(&["kv", "put", "a", "1"]).status.code(), Some(0));
    kill(cluster.pids[0], "-KILL");
    kill(cluster.pids[1], "-KILL");
    wait_until("the node that is left has no leader", || {
        cluster.run(&["status", "--check", "--timeout", "300ms"]).status.code() == Some(5)
    });
    assert_eq!(
        fault(&cluster.run(&["--json", "--timeout", "500ms", "kv", "put", "a", "2"])),
        (5, "no-leader".into())
    );
    let (code, document) = json(&cluster.run(&["--json", "status", "--timeout", "300ms"]));
    let reachable = document["nodes"].as_array().unwrap().iter().filter(|node| node["reachable"] == true);
    assert_eq!((code, document["leader"].is_null(), reachable.count()), (0, true, 1));

    let port = cluster.port;
    cluster.signal("-KILL");
    assert_eq!(cluster.end().0, None, "the last node dies with the process that keeps it");
    let address = port.to_string();
    let nobody = |arguments: &[&str]| {
        raftgram(&[&["--json", "--cluster", &address, "--timeout", "300ms"], arguments].concat())
    };
    assert_eq!(fault(&nobody(&["kv", "get", "a"])), (3, "unreachable".into()));
    assert_eq!(fault(&nobody(&["status"])), (3, "unreachable".into()));
    assert_eq!(fault(&nobody(&["bench", "kv", "--duration", "1s"])), (3, "unreachable".into()));
    let (_, document) = json(&nobody(&["kv", "get", "a"]));
    assert_eq!(document["error"]["address"], format!("127.0.0.1:{port}"));
    assert!(document["error"]["elapsed_ms"].as_u64().unwrap() >= 300);
}

#[test]
fn a_second_start_comes_back_with_the_data_and_a_wiped_minority_only_joins() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let arguments = ["--dir", dir.to_str().unwrap()];
    let cluster = Cluster::up(&arguments);
    let port = cluster.port;
    assert_eq!(cluster.run(&["kv", "put", "kept", "yes"]).status.code(), Some(0));

    let second = raftgram(&["--json", "cluster", "up", "--temp", "--port", &port.to_string()]);
    let (code, document) = json(&second);
    assert_eq!((code, &document["error"]["address"]), (1, &format!("127.0.0.1:{port}").into()));
    cluster.signal("-INT");
    assert_eq!(cluster.end().0, Some(0));

    std::fs::remove_dir_all(dir.join("3")).unwrap();
    let cluster = Cluster::up_at(port, &arguments);
    assert_eq!(stdout(&cluster.run(&["kv", "get", "kept"])), "yes\n");
    let (code, document) =
        json(&cluster.run(&["--json", "bench", "kv", "--duration", "200ms", "--warm-up", "10ms"]));
    assert_eq!((code, &document["settings"]["nodes"]), (0, &3.into()));
    assert!(document["ops"].as_u64().unwrap() > 0);
    cluster.signal("-TERM");
    assert_eq!(cluster.end().0, Some(0));
}

/// One node's flags, without its plan for a blank folder.
struct Flags {
    listen: String,
    voters: String,
    data: String,
}

impl Flags {
    fn refused(&self, more: &[&str]) -> (i32, String) {
        fault(&raftgram(&[&self.base()[..], more].concat()))
    }

    fn base(&self) -> Vec<&str> {
        let Self { listen, voters, data } = self;
        vec!["--json", "node", "--id", "1", "--listen", listen, "--voters", voters, "--data", data]
    }
}

#[test]
fn a_node_refuses_flags_and_folders_it_cannot_start_with() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports(1);
    let data = folder.path().join("1").to_str().unwrap().to_owned();
    let mut flags = Flags { listen: port.to_string(), voters: format!("1={port}"), data };
    assert_eq!(flags.refused(&[]), (6, "corrupt".into()), "an empty folder and no flag");
    assert_eq!(flags.refused(&["--bootstrap", "--join"]), (2, "usage".into()));
    assert_eq!(flags.refused(&["--loss", "0.2", "--bootstrap"]), (2, "usage".into()));
    flags.voters = format!("2={port}");
    assert_eq!(flags.refused(&["--bootstrap"]), (2, "usage".into()), "a founder that is no voter");

    flags.voters = format!("1={port}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    flags.data = file.join("data").to_str().unwrap().to_owned();
    assert_eq!(flags.refused(&["--bootstrap"]), (1, "failed".into()), "a folder that cannot be made");
}

#[test]
fn a_node_refuses_what_another_one_holds_and_what_is_not_its_own() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports(1);
    let data = folder.path().join("1");
    let flags = Flags {
        listen: port.to_string(),
        voters: format!("1={port}"),
        data: data.to_str().unwrap().to_owned(),
    };
    let mut running = command(&[&flags.base()[..], &["--bootstrap", "--log-level", "error"]].concat())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the node leads", || {
        raftgram(&["--cluster", &flags.listen, "status", "--check", "--timeout", "300ms"]).status.success()
    });
    let elsewhere = Flags { listen: free_ports(1).to_string(), voters: flags.voters.clone(), ..flags };
    assert_eq!(elsewhere.refused(&[]), (1, "failed".into()), "another daemon holds the folder");
    let mine = folder.path().join("mine").to_str().unwrap().to_owned();
    let flags = Flags { listen: port.to_string(), data: mine, ..elsewhere };
    let (code, document) = json(&raftgram(&[&flags.base()[..], &["--bootstrap"]].concat()));
    let address = format!("127.0.0.1:{port}");
    assert_eq!((code, &document["error"]["address"]), (1, &address.into()), "the port is taken");

    kill(running.id(), "-TERM");
    assert_eq!(running.wait().unwrap().code(), Some(0));
    let flags = Flags { data: data.to_str().unwrap().to_owned(), ..flags };
    let foreign = flags.refused(&["--cluster-id", &"ab".repeat(16)]);
    assert_eq!(foreign, (1, "failed".into()), "the folder of another cluster");

    std::fs::remove_file(data.join("hard-state-a")).unwrap();
    std::fs::remove_file(data.join("hard-state-b")).unwrap();
    assert_eq!(flags.refused(&[]), (6, "corrupt".into()), "a log without its hard state");
}

/// A terminal of its own, 110 by 40, in which a command runs; none where tmux is not installed.
struct Terminal(tempfile::TempDir);

impl Terminal {
    fn open(command: &str) -> Option<Self> {
        let found = std::process::Command::new("tmux").arg("-V").output();
        if !found.is_ok_and(|output| output.status.success()) {
            let is_required = std::env::var("RAFTGRAM_TEST_TMUX").is_ok_and(|value| value == "required");
            assert!(!is_required, "tmux is not installed");
            let _ = writeln!(std::io::stderr(), "skipped: the screen of top: tmux is not installed");
            return None;
        }
        let terminal = Self(tempfile::tempdir().unwrap());
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "110", "-y", "40", command]);
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new("tmux")
            .env("TMUX_TMPDIR", self.0.path())
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .arg("-u")
            .args(arguments)
            .output()
            .unwrap();
        stdout(&output)
    }

    fn shows(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn top_shows_who_leads_and_leaves_its_last_view() {
    let cluster = Cluster::up(&["--temp", "--loss", "5%"]);
    let ports: Vec<String> = (cluster.port..cluster.port + 3).map(|port| port.to_string()).collect();
    let program = env!("CARGO_BIN_EXE_raftgram");
    let ports = ports.join(",");
    // What stty tells at the end shows whether the terminal was put back.
    let line = format!("{program} top --cluster {ports} --interval 100ms; echo ended $?; stty -a; sleep 60");
    if let Some(terminal) = Terminal::open(&line) {
        for number in 0..5 {
            cluster.run(&["kv", "put", &format!("key{number}"), "value"]);
        }
        let is_live = |text: &str| {
            let lines = [" leads, term ", "commits/s", "3 of 3 nodes answer", "1 \u{2192} 2", "q quit"];
            lines.iter().all(|words| text.contains(words))
        };
        wait_until("top shows the cluster", || is_live(&terminal.shows()));
        terminal.tmux(&["send-keys", " "]);
        wait_until("top is held", || terminal.shows().contains("paused"));
        terminal.tmux(&["send-keys", "q"]);
        wait_until("top has ended", || terminal.shows().contains("ended 0"));
        let left = terminal.shows();
        assert!(left.contains(" leads, term ") && left.contains("follower"), "{left}");
        assert!(!left.contains("q quit") && left.contains(" icanon ") && left.contains(" echo "), "{left}");
    }
    let plain = cluster.run(&["top", "--interval", "100ms"]);
    assert!(plain.status.success() && stdout(&plain).contains(" leads, term "), "{plain:?}");
    let (code, view) = json(&cluster.run(&["--json", "top", "--interval", "100ms"]));
    assert_eq!((code, view["nodes"].as_array().unwrap().len()), (0, 3), "{view}");
    assert_eq!(fault(&cluster.run(&["--json", "top", "--interval", "1ms"])), (2, "usage".into()));
    cluster.signal("-TERM");
    assert_eq!(cluster.end().0, Some(0));
}
