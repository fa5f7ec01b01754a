//! The measuring commands: that they measure, say with what, and can tell a regression. No figure is judged here.

use serde_json::Value;

use crate::cluster::{Cluster, alone};
use crate::process::run;

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn measured(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every operation of the run is in the history, and the checker accepts it.
#[test]
fn a_measured_run_leaves_a_history_that_is_linearizable() {
    let cluster = Cluster::founded();
    let history = cluster.dir().join("history.jsonl");
    let names = cluster.names();
    let load = format!(
        "--json --cluster {names} bench kv --clients 24 --connections 3 --reads 30% --keys 5 --warm-up 0 \
         --duration 700ms"
    );
    let told = measured(&[&words(&load)[..], &["--history", history.to_str().unwrap()]].concat());
    assert!(told["ops"].as_u64().unwrap() > 24, "{told}");
    assert_eq!((told["errors"].as_u64(), told["unknown"].as_u64()), (Some(0), Some(0)), "{told}");
    assert_eq!(
        (told["settings"]["clients"].as_u64(), told["settings"]["connections"].as_u64()),
        (Some(24), Some(3))
    );
    let lines = std::fs::read_to_string(&history).unwrap().lines().count() as u64;
    assert_eq!(lines, 2 * told["ops"].as_u64().unwrap(), "a line for each beginning and each end");
    let judged = run(&["check", history.to_str().unwrap()]);
    assert!(judged.status.success(), "{judged:?}");
}

#[test]
fn figures_stand_beside_the_floor_and_a_baseline_and_a_regression_is_told() {
    let cluster = Cluster::founded();
    let names = cluster.names();
    let load = format!("--json --cluster {names} bench kv --clients 8 --warm-up 10ms --duration 100ms");
    let load = words(&load);
    let told = measured(&[&load[..], &["--profile", "floor", "--pairs", "2", "--floor-fsync"]].concat());
    let floor = &told["floor"];
    assert_eq!(floor["pairs"], 2, "{told}");
    assert_eq!(floor["settings"]["fsync"], true);
    for figure in ["ops_per_s", "p50", "p99"] {
        assert!(floor[figure]["ratio"].as_f64().unwrap() > 0.0, "{told}");
        assert!(floor[figure]["low"].as_f64() <= floor[figure]["high"].as_f64(), "{told}");
    }
    let baseline = cluster.dir().join("baseline.json");
    let against = |ops_per_s: f64, share: &str| {
        let latency_us = serde_json::json!({"p50": 1e9, "p99": 1e9});
        let earlier = serde_json::json!({"ops_per_s": ops_per_s, "latency_us": latency_us});
        std::fs::write(&baseline, earlier.to_string()).unwrap();
        let beside = ["--baseline", baseline.to_str().unwrap(), "--regression", share];
        run(&[&load[..], &beside].concat()).status.code()
    };
    assert_eq!(against(0.001, "10%"), Some(0));
    assert_eq!(against(1e12, "10%"), Some(7));
}

#[test]
fn the_floor_is_measured_in_each_shape_and_says_which() {
    let _alone = alone();
    let quick = ["--json", "bench", "chain", "--warm-up", "10ms", "--duration", "100ms"];
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    for (flags, clients, fsync) in [
        (&[][..], 1, false),
        (&["--clients", "64"], 64, false),
        (&["--clients", "100", "--client-packs", "--size", "256B"], 100, false),
        (&["--clients", "16", "--fsync", "--dir", dir], 16, true),
    ] {
        let told = measured(&[&quick[..], flags].concat());
        assert!(told["ops"].as_u64().unwrap() > 0, "{told}");
        let settings = &told["settings"];
        assert_eq!((settings["clients"].as_u64(), settings["fsync"].as_bool()), (Some(clients), Some(fsync)));
        assert!(settings["ping_pong_p50_us"].as_f64().unwrap() > 0.0, "{told}");
    }
    for refused in [&["--size", "7B"][..], &["--size", "2KiB"], &["--pack", "8MiB"], &["--duration", "0"]] {
        let output = run(&[&["bench", "chain"], refused].concat());
        assert_eq!(output.status.code(), Some(2), "{refused:?}: {output:?}");
    }
}
