//! Reports of run folders: what is made of which rows, and the page in a browser.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::browser::{Browser, Mouse};
use crate::support::{json as document, raftgram};

const LOSSES: [f64; 3] = [0.0, 0.05, 0.2];

/// A folder of a loss sweep with two repeats, whose latencies grow with the loss.
fn run_folder(parent: &Path, name: &str) -> PathBuf {
    let folder = parent.join(name);
    std::fs::create_dir_all(folder.join("traces")).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let run = json!({
        "format": 1, "name": "loss-sweep", "title": "Commit latency <against> loss", "about": "What loss costs.",
        "state": "partial", "why_partial": "interrupted", "on": "simulator", "is_deterministic": true, "seed": 7,
        "repeats": 2, "axis": {"key": "loss", "label": "datagrams lost", "unit": "share", "values": LOSSES},
        "systems": ["raftgram"], "runs_planned": 8, "runs_done": 6, "began_unix_us": 1, "elapsed_s": 3.5,
        "command": "raftgram lab run loss-sweep --seed 7", "version": "0.1.0", "build": "debug", "commit": null,
        "is_modified": false,
        "host": {"kernel": "Linux", "processors": 2, "processor": "one", "memory_bytes": 1_u64 << 31,
            "socket_buffers": {"rmem_max": 212_992}},
        "settings": {"nodes": 3, "fsync": true, "clients": 8, "value_bytes": 100, "reads": 0.0, "rate": null,
            "keys": 1000, "timeout_us": 5_000_000, "warm_up_us": 0, "duration_us": 5_000_000,
            "election_timeout_min_us": 250_000, "election_timeout_max_us": 500_000, "heartbeat_us": 25_000,
            "faults": ["loss 5%"]},
    });
    write("run.json", run.to_string());
    let (mut points, mut series) =
        (String::new(), String::from("point,repeat,second,ops,errors,unknown,p50_us,p90_us,p99_us,max_us\n"));
    for (point, loss) in LOSSES.into_iter().enumerate() {
        for repeat in 0..2 {
            points += &format!("{}\n", row(point, repeat, loss));
            for second in 0..5 {
                series += &format!("{point},{repeat},{second},{},0,0,400,900,1500,4000\n", 500 - 100 * point);
            }
        }
    }
    write("points.jsonl", points);
    write("series.csv", series);
    let event = |at_us: u64, kind: &str, term: Option<u64>| {
        let (node, text) = (term.map(|_| 2), if term.is_none() { "loss 5%" } else { "" });
        let event = json!({"point": 1, "repeat": 0, "at_us": at_us, "kind": kind, "node": node, "term": term,
            "text": text});
        format!("{event}\n")
    };
    let told = [event(1_000_000, "fault", None), event(2_000_000, "heal", None)];
    write("events.jsonl", told.concat() + &event(3_000_000, "leader", Some(2)));
    let node = json!({
        "point": 1, "repeat": 0, "node": 1, "role": "leader", "term": 2, "commit": 9, "applied": 9,
        "datagrams_sent": 10, "bytes_sent": 99, "datagrams_received": 9, "accepted": 8, "retransmits": 1,
        "duplicates": 1, "drops": {"replay": 3}, "rtt_us": 200, "loss": 0.05,
    });
    write("nodes.jsonl", format!("{node}\n"));
    folder
}

fn row(point: usize, repeat: usize, loss: f64) -> Value {
    let slow = 1.0 + 40.0 * loss + 0.1 * repeat as f64;
    let count = |value: f64| value as u64;
    let bucket = |us: f64, count: u64| json!([(us * slow * 1e3) as u64, count]);
    json!({
        "point": point, "repeat": repeat, "system": "raftgram", "x": loss, "label": format!("{}%", loss * 100.0),
        "seed": 7 + repeat, "measured_us": 5_000_000, "ops": 2000, "errors": 0, "unknown": 1,
        "ops_per_s": 400.0 / slow,
        "latency_us": {"p50": 400.0 * slow, "p90": 900.0 * slow, "p99": 1500.0 * slow, "p999": 3000.0 * slow,
            "max": 4000.0 * slow, "mean": 500.0 * slow},
        "histogram_ns": [bucket(400.0, 1000), bucket(900.0, 900), bucket(1500.0, 90), bucket(3000.0, 10)],
        "commits": 2000, "datagrams": count(12_000.0 * slow), "datagram_bytes": count(800_000.0 * slow),
        "retransmits": count(600.0 * loss), "duplicates": count(60.0 * loss),
        "elections": 1, "leader_changes": 1, "failovers_us": [300_000 + 1000 * repeat],
        "longest_gap_us": 310_000, "trace_hash": null,
        "trace": if point == 0 && repeat == 0 { json!("traces/p0r0.jsonl") } else { Value::Null },
    })
}

fn report(arguments: &[&str]) -> (i32, Value) {
    document(&raftgram(&[&["--json", "lab", "report"], arguments].concat()))
}

#[test]
fn a_folder_becomes_a_page_and_a_picture_of_each_question() {
    let parent = tempfile::tempdir().unwrap();
    let folder = run_folder(parent.path(), "one");
    let (code, made) = report(&[folder.to_str().unwrap()]);
    assert_eq!(code, 0, "{made}");
    let pictures: Vec<&str> =
        made["pictures"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let expected = [
        "latency",
        "throughput",
        "percentiles",
        "datagrams-per-commit",
        "bytes-per-commit",
        "repetition",
        "failovers",
        "timeline-p1",
        "latency-over-time-p1",
    ];
    assert_eq!(pictures, expected);
    for name in pictures {
        let svg = std::fs::read_to_string(folder.join(format!("{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg ") && svg.contains("<style>"), "{name}");
        assert!(std::fs::read(folder.join(format!("{name}.png"))).unwrap().starts_with(b"\x89PNG"), "{name}");
    }
    let latency = std::fs::read_to_string(folder.join("latency.svg")).unwrap();
    assert!(latency.contains("5% p99: 4.58 ms (4.5 ms to 4.65 ms in 2 repeats)"), "{latency}");
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    for words in ["Commit latency &lt;against&gt; loss", "Partial:", "6 of 8 runs", "interrupted", "replay"] {
        assert!(page.contains(words), "{words}");
    }

    let other = run_folder(parent.path(), "two");
    let both = parent.path().join("both");
    let dirs = [folder.to_str().unwrap(), other.to_str().unwrap()];
    let (code, made) = report(&[&dirs[..], &["--out", both.to_str().unwrap()]].concat());
    assert_eq!(code, 0, "{made}");
    let latency = std::fs::read_to_string(both.join("latency.svg")).unwrap();
    assert!(latency.contains("one: raftgram p50") && latency.contains("two: raftgram p99"));

    assert_eq!(report(&dirs).0, 2);
    let (code, answer) = report(&["/nonexistent/run"]);
    assert_eq!((code, &answer["error"]["address"]), (1, &json!("/nonexistent/run/run.json")));
}

#[test]
fn a_reader_sees_charts_tips_and_the_diagram_in_light_and_dark() {
    let Some(mut browser) = Browser::start("the page of a report") else { return };
    let parent = tempfile::tempdir().unwrap();
    let folder = run_folder(parent.path(), "one");
    let trace = folder.join("traces/p0r0.jsonl");
    let ran = raftgram(&["sim", "--seed", "3", "--time", "1s", "--trace", trace.to_str().unwrap()]);
    assert!(ran.status.success(), "{ran:?}");
    let (code, made) = report(&[folder.to_str().unwrap()]);
    assert_eq!((code, &made["diagrams"]), (0, &json!(["diagram-p0r0.html"])), "{made}");
    browser.open_file(&folder.join("report.html"));
    browser.wait_for("document.querySelector('.spacetime').dataset.count > 0");
    assert_eq!(browser.eval("document.querySelectorAll('figure svg').length"), 9);
    let shown = "[...document.querySelectorAll('figure svg')].every((svg) => svg.getBoundingClientRect().width > 300)";
    assert_eq!(browser.eval(shown), true);

    let dot = browser.eval(
        "(() => { const dot = [...document.querySelectorAll('circle[data-tip]')]
            .find((dot) => dot.dataset.tip.startsWith('5% p99:'));
          dot.scrollIntoView({ block: 'center' }); const box = dot.getBoundingClientRect();
          return [box.left + box.width / 2, box.top + box.height / 2]; })()",
    );
    browser.mouse(Mouse::Move, dot[0].as_f64().unwrap(), dot[1].as_f64().unwrap());
    browser.wait_for("document.getElementById('point').textContent.startsWith('5% p99: 4.58 ms')");

    let ground = "getComputedStyle(document.body).backgroundColor";
    browser.prefer("dark");
    let dark = browser.eval(ground);
    browser.prefer("light");
    assert_ne!(browser.eval(ground), dark);
    browser.eval("document.getElementById('theme').click()");
    assert_eq!(browser.eval(ground), dark);

    // In a page with more in it the wheel belongs to the page until the reader clicks the diagram.
    let length =
        "document.querySelector('.spacetime').dataset.to - document.querySelector('.spacetime').dataset.from";
    let place = browser.eval(
        "(() => { const sheet = document.querySelector('.sheet'); sheet.scrollIntoView({ block: 'center' });
          const box = sheet.getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; })()",
    );
    let (x, y) = (place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
    let before = browser.eval(length).as_f64().unwrap();
    browser.click(x, y);
    browser.wheel(x, y, -120.0);
    browser.wait_for(&format!("{length} < {before}"));
    assert_eq!(browser.complaints(), [""; 0]);
    assert_eq!(browser.requests().len(), 1, "{:?}", browser.requests());
}
