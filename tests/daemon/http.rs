//! A node as its operator sees it: over HTTP, by signals, in its log, from a service manager, and from a browser.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::browser::Browser;
use crate::cluster::{alone, free_addresses, loopback};
use crate::process::{PATIENCE, Process, eventually, run};
use crate::support::{command, json};

/// Status code and body of a GET, by a connection of its own.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What promtool has to say of a page; none where it is not installed.
fn promtool(page: &str) -> Option<String> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        let is_required = std::env::var("RAFTGRAM_TEST_PROMTOOL").is_ok_and(|value| value == "required");
        assert!(!is_required, "promtool is not installed");
        // Past the capture of tests' output: what was not checked must be seen not to have been.
        let _ = writeln!(std::io::stderr(), "skipped: /metrics by promtool: it is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some([output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

/// The value of a metric without labels.
fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}

/// All that the node of this address and name shows over HTTP, once it is ready.
#[track_caller]
fn assert_shows(address: SocketAddr, name: &str) {
    eventually("it is ready", || (get(address, "/ready") == (200, "ready\n".to_owned())).then_some(()));
    assert_eq!(get(address, "/health"), (200, "ok\n".to_owned()));
    assert_eq!(run(&["--cluster", name, "kv", "put", "a", "1"]).status.code(), Some(0));
    let (code, page) = get(address, "/metrics");
    assert_eq!((code, value(&page, "raftgram_leader")), (200, 1.0));
    assert!(
        value(&page, "raftgram_commit_seconds_count") >= 1.0
            && value(&page, "raftgram_fsync_seconds_count") >= 1.0
    );
    assert!(cfg!(not(target_os = "linux")) || value(&page, "raftgram_kernel_drops_total") == 0.0);
    if let Some(found) = promtool(&page) {
        assert_eq!(found, "", "promtool on\n{page}");
    }
    let status: Value = serde_json::from_str(&get(address, "/status").1).unwrap();
    assert_eq!((&status["node"]["role"], &status["node"]["id"]), (&Value::from("leader"), &Value::from(1)));

    // It shows and does nothing else.
    assert_eq!(get(address, "/nothing").0, 404);
    assert_eq!(get(address, "/strip?after=x").0, 400);
    assert_eq!(ask(address, "POST /health HTTP/1.1\r\nContent-Length: 0\r\n\r\n").0, 405);
    assert_eq!(ask(address, "hello\r\n\r\n").0, 400);
}

#[test]
fn an_operator_sees_a_node_and_turns_its_log_up_and_down() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let [address, beacon] = free_addresses(loopback(), 2)[..] else { panic!("two addresses") };
    let (name, log) = (address.to_string(), dir.path().join("log"));
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();

    let mut command =
        command(&["--log-format", "json", "node", "--id", "1", "--listen", &name, "--bootstrap"]);
    command.args(["--voters", &format!("1={name}"), "--http", &name, "--beacon", &beacon.to_string()]);
    command.arg("--data").arg(dir.path().join("data")).arg("--leashed").stdin(Stdio::piped());
    command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("WATCHDOG_USEC", "1000000");
    let mut node = Process::start(&mut command, &log);

    // The manager hears that it started, and then how it is.
    let hear = || {
        let mut bytes = [0; 512];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    assert_eq!(hear(), "READY=1\n");
    eventually("it tells that it leads", || {
        let told = hear();
        (told.starts_with("WATCHDOG=1\n") && told.contains("STATUS=leader in term 1, led by n1"))
            .then_some(())
    });

    assert_shows(address, &name);

    // Whoever looks for nodes finds it, and how to join it.
    let found = run(&["--json", "discover", "--at", &beacon.to_string(), "--timeout", "300ms"]);
    let (code, found) = json(&found);
    assert_eq!(
        (code, &found["nodes"][0]["addr"], &found["nodes"][0]["role"]),
        (0, &name.clone().into(), &"leader".into())
    );
    let join = found["clusters"][0]["join"].as_str().unwrap();
    assert!(
        join.starts_with(&format!("raftgram node --id 2 --listen HOST:PORT --voters 1={name} ")),
        "{join}"
    );

    // Its log is documents, and there is more of it, and less again, by signals.
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    };
    let turned =
        |to: &str| lines().iter().any(|line| line["msg"] == "the log level is changed" && line["to"] == to);
    node.signal(Signal::USR1);
    eventually("it logs at debug", || turned("debug").then_some(()));
    node.signal(Signal::USR2);
    eventually("it logs at info again", || {
        lines().iter().find(|line| line["by"] == "one level less").cloned()
    });
    assert!(lines().iter().all(|line| line["ts"].is_string() && line["level"].is_string()));

    node.signal(Signal::TERM);
    eventually("the manager hears that it stops", || hear().starts_with("STOPPING=1\n").then_some(()));
    assert_eq!(node.wait().code(), Some(0));
}

#[test]
fn a_port_that_is_taken_and_a_network_without_nodes_are_told() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let address = free_addresses(loopback(), 1)[0];
    let name = address.to_string();
    let _taken = std::net::TcpListener::bind(address).unwrap();
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let voters = format!("1={name}");
    let arguments = [
        "--json",
        "node",
        "--id",
        "1",
        "--listen",
        &name,
        "--voters",
        &voters,
        "--data",
        &data,
        "--bootstrap",
    ];
    let (code, failure) = json(&run(&[&arguments[..], &["--http", &name]].concat()));
    assert_eq!((code, &failure["error"]["address"]), (1, &Value::from(name.clone())));
    assert!(!dir.path().join("data").exists(), "nothing was made before the refusal");

    let (code, failure) = json(&run(&["--json", "discover", "--at", &name, "--timeout", "50ms"]));
    assert_eq!((code, &failure["error"]["code"]), (4, &Value::from("not-found")));
    assert!(failure["error"]["hint"].as_str().unwrap().contains("--beacon"), "{failure}");
}

#[test]
fn the_dashboard_draws_a_cluster_that_works_under_loss() {
    let Some(mut browser) = Browser::start("the dashboard") else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let nodes = free_addresses(loopback(), 3);
    let (host, port) = (nodes[0].ip().to_string(), nodes[0].port().to_string());
    let mut up =
        command(&["--json-stream", "cluster", "up", "--address", &host, "--port", &port, "--http", &port]);
    up.args(["--temp", "--loss", "10%", "--seed", "7", "--no-fsync"]).stdout(Stdio::piped());
    let mut up = Process::start(&mut up, &dir.path().join("log"));
    let mut line = String::new();
    BufReader::new(up.child().stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["nodes"][2]["http"], Value::from(nodes[2].to_string()));

    browser.open(&format!("http://{}/", nodes[0]));
    let names = crate::cluster::names(&nodes);
    let load =
        ["--cluster", &names, "bench", "kv", "--clients", "4", "--duration", "1500ms", "--warm-up", "0s"];
    assert_eq!(run(&load).status.code(), Some(0));
    browser.wait_for("/^(leader|follower), term \\d+$/.test(document.getElementById('state').textContent)");
    browser.wait_for("document.querySelectorAll('#cluster circle').length === 3");
    browser.wait_for("document.querySelectorAll('#members tr').length === 4");
    browser.wait_for("document.querySelectorAll('#rates dd').length === 12");
    browser.wait_for("document.querySelectorAll('#spark polyline').length === 1");
    browser.wait_for("Number(document.getElementById('strip').dataset.shown) > 10");
    browser.eval("document.getElementById('pause').click()");
    assert_eq!(browser.eval("document.getElementById('pause').textContent"), "Go on");
    if let Ok(file) = std::env::var("RAFTGRAM_SCREENSHOT") {
        std::fs::write(file, browser.screenshot()).unwrap();
    }
    for width in [1280, 400] {
        browser.resize(width, 900);
        browser.wait_for("document.documentElement.scrollWidth <= innerWidth");
    }
    assert_eq!(browser.complaints(), [] as [String; 0]);
    let own = format!("http://{}/", nodes[0]);
    assert!(browser.requests().iter().all(|url| url.starts_with(&own)), "{:?}", browser.requests());

    // A node that dies is seen to be silent, and the page says so when its own node does.
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0));
    browser.wait_for("document.getElementById('state').textContent.startsWith('no answer')");
}
