//! Nodes that die and nodes that sleep, under write load.

use std::io::Write as _;
use std::time::{Duration, Instant};

use raftgram::kv::Command;

use crate::cluster::{Cluster, Start, connect};
use crate::load::Load;
use crate::process::{PATIENCE, setting};

const WRITERS: usize = 4;

#[test]
fn leaders_killed_under_load_lose_no_acknowledged_write_and_apply_none_twice() {
    let kills = setting("RAFTGRAM_KILLS", 20);
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), WRITERS);
    let mut times = Vec::new();
    for _ in 0..kills {
        let (leader, term) = cluster.leader();
        load.wait_for_term(term);
        let killed = Instant::now();
        cluster.kill(leader);
        // An answer that the dead leader had sent is of its term; the first of a later one ends the outage.
        times.extend(load.first_beyond(term).checked_duration_since(killed));
        cluster.start(leader, Start::AsItIs);
        cluster.wait_until_caught_up(leader);
    }
    load.wait_for(100);
    let total = load.total();
    let written = load.stop();
    cluster.assert_holds(&written);
    assert!(total >= kills, "{total} writes are no load for {kills} kills");
    report(kills, total, &mut times);
}

fn report(kills: u64, writes: u64, times: &mut [Duration]) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_millis();
    // To the terminal, past what the test harness keeps to itself.
    let _ = writeln!(
        std::io::stderr(),
        "{kills} leaders killed under {writes} writes; from the kill to the first write acknowledged after it, ms: \
         min {} median {} p99 {} max {}",
        at(0.0),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[test]
fn a_restart_of_all_nodes_keeps_all_data() {
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), WRITERS);
    load.wait_for(200);
    let mut written = load.stop();
    let boots = cluster.statuses();
    // Once as a power switch does it, once as an operator does.
    cluster.ids().for_each(|id| cluster.kill(id));
    cluster.start_all(Start::AsItIs);
    cluster.assert_holds(&written);
    let client = connect(cluster.addresses());
    let put = Command::Put { key: b"between", value: b"restarts" };
    client.propose(put.to_bytes(), PATIENCE).wait(PATIENCE).unwrap().unwrap();
    written.insert("between".into(), "restarts".into());
    cluster.stop_all();
    cluster.start_all(Start::AsItIs);
    cluster.assert_holds(&written);
    for (id, status) in cluster.statuses() {
        let before = boots[&id].incarnation;
        assert_eq!(status.incarnation.0, before.0 + 2, "boots of node {id}, counted through two restarts");
    }
}
