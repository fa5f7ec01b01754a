//! Snapshots on their way between real nodes, whose ends die. `RAFTGRAM_TRANSFER_MIB` (16) is how much travels.

use raftgram::kv::Command;
use raftgram::{Answer, Client};

use crate::cluster::{Cluster, Start, connect, read};
use crate::process::{PATIENCE, eventually, run, setting};
use crate::support::json;

const VALUE_BYTES: usize = 256 * 1024;

/// A value that its number makes.
fn value(number: u64) -> Vec<u8> {
    (0..VALUE_BYTES).map(|at| b'a' + ((at as u64 * 31 + number * 7 + at as u64 / 253) % 26) as u8).collect()
}

fn key(number: u64) -> String {
    format!("large-{number}")
}

fn put(client: &Client, number: u64) {
    let (key, value) = (key(number), value(number));
    let put = Command::Put { key: key.as_bytes(), value: &value };
    let answer = client.propose(put.to_bytes(), PATIENCE).wait(PATIENCE * 2).unwrap();
    assert!(matches!(answer, Ok(Answer::Applied { .. })), "{answer:?}");
}

/// Bytes of the snapshot that this node has, and the whole of it, by its own status.
fn received(cluster: &Cluster, id: u16) -> Option<(u64, u64)> {
    let status = cluster.status(id)?;
    let own = status.transfers.iter().find(|transfer| transfer.to.as_u16() == id)?;
    Some((own.bytes, own.bytes_total))
}

/// Far behind for good: what it needs is in no log any more.
fn fill(cluster: &mut Cluster, away: u16, mib: u64) -> u64 {
    cluster.kill(away);
    let others: Vec<_> = cluster.ids().filter(|id| *id != away).map(|id| cluster.address(id)).collect();
    let client = connect(&others);
    let values = (mib << 20) / VALUE_BYTES as u64;
    (0..values).for_each(|number| put(&client, number));
    // Each takes what it has applied, and a follower may be behind.
    cluster.ids().filter(|id| *id != away).for_each(|id| cluster.wait_until_caught_up(id));
    let (code, taken) =
        json(&run(&["--json", "--cluster", &crate::cluster::names(&others), "snapshot", "take"]));
    assert_eq!(code, 0, "{taken}");
    let metas: Vec<_> = taken["nodes"].as_array().unwrap().iter().map(|node| &node["snapshot"]).collect();
    assert_eq!(metas[0], metas[1], "both hold the same file");
    // A restart finds the log to begin with the snapshot, so that only that can help.
    cluster.ids().filter(|id| *id != away).for_each(|id| cluster.stop(id));
    cluster.ids().filter(|id| *id != away).for_each(|id| cluster.start(id, Start::AsItIs));
    cluster.leader();
    values
}

#[test]
fn a_transfer_resumes_when_the_receiver_dies_and_when_the_leader_dies() {
    let mib = setting("RAFTGRAM_TRANSFER_MIB", 16);
    let mut cluster = Cluster::founded();
    for id in cluster.ids() {
        // Slow enough to be cut twice.
        cluster.add_flags(id, ["--pull-rate", &format!("{}MiB", (mib / 4).clamp(1, 64))]);
        cluster.add_flags(id, ["--log-tail", "0B"]);
    }
    cluster.stop_all();
    cluster.start_all(Start::AsItIs);
    let (leader, _) = cluster.leader();
    let away = cluster.ids().find(|id| *id != leader).unwrap();
    let values = fill(&mut cluster, away, mib);
    cluster.start(away, Start::AsItIs);
    let share = |parts: u64| {
        move |cluster: &Cluster| {
            received(cluster, away).filter(|(bytes, whole)| *bytes * 100 >= whole * parts)
        }
    };
    let (before, whole) = eventually("a quarter is there", || share(25)(&cluster));
    cluster.kill(away);
    cluster.start(away, Start::AsItIs);
    // The first that it tells after its restart counts what was there.
    let (after, _) =
        eventually("the transfer goes on", || received(&cluster, away).filter(|(bytes, _)| *bytes > 0));
    assert!(after >= before, "{after} of {whole} after a restart at {before}");
    eventually("half is there", || share(50)(&cluster));
    let (leader, _) = cluster.leader();
    let (before, _) = received(&cluster, away).unwrap_or((whole, whole));
    cluster.kill(leader);
    let resumed = eventually("the transfer goes on under the next leader", || {
        let status = cluster.status(away)?;
        match status.transfers.iter().find(|transfer| transfer.to.as_u16() == away) {
            Some(own) => (own.bytes > before).then_some(own.bytes),
            None => (status.applied.0 > values).then_some(whole),
        }
    });
    assert!(resumed >= before, "{resumed} after {before}");
    eventually("the node has everything", || cluster.status(away).filter(|status| status.applied.0 > values));
    cluster.start(leader, Start::AsItIs);
    cluster.leader();
    cluster.wait_until_caught_up(away);
    let client = connect(&[cluster.address(away)]);
    for number in 0..values {
        let held = read(&client, &key(number), raftgram::ReadLevel::Local);
        assert!(held.is_some_and(|held| held.as_bytes() == value(number)), "{}", key(number));
    }
}
