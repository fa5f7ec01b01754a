//! Clusters that grow, shrink, lose a disk and are restarted node by node, by the commands an operator gives.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use raftgram::wire::status::Standing;
use serde_json::Value;

use crate::cluster::{Cluster, Start, loopback};
use crate::load::Load;
use crate::process::{Process, eventually, refused, run, setting};
use crate::support::{command, json};

/// A command of `member` or `leader` that must succeed: its document.
#[track_caller]
fn carried_out(cluster: &Cluster, arguments: &[&str]) -> Value {
    let names = cluster.names();
    let output = run(&[&["--json", "--timeout", "55s", "--cluster", &names], arguments].concat());
    let (code, document) = json(&output);
    assert_eq!(code, 0, "{arguments:?}: {document}\n{}", String::from_utf8_lossy(&output.stderr));
    document
}

#[track_caller]
fn refusal(cluster: &Cluster, arguments: &[&str]) -> (i32, String) {
    let names = cluster.names();
    let (code, error) = refused(&[&["--cluster", &names], arguments].concat());
    let has_way_out = error["hint"].as_str().is_some_and(|hint| !hint.is_empty());
    assert!(has_way_out, "{arguments:?} says no way out: {error}");
    (code, error["code"].as_str().unwrap().to_owned())
}

fn at(cluster: &Cluster, id: u16) -> String {
    format!("{id}={}", cluster.address(id))
}

fn numbers(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

fn grow(cluster: &mut Cluster, id: u16) {
    cluster.start(id, Start::Join);
    // The leader says hello for two seconds, which a node's start may take on a busy machine.
    eventually("the node has joined", || cluster.log(id).contains("no member yet").then_some(()));
    let added = carried_out(cluster, &["member", "add", &at(cluster, id)]);
    assert!(numbers(&added["learners"]).contains(&u64::from(id)), "{added}");
    let promoted = carried_out(cluster, &["member", "promote", &id.to_string()]);
    assert!(numbers(&promoted["voters"]).contains(&u64::from(id)), "{promoted}");
    cluster.set_members(cluster.ids().chain([id]).collect());
}

fn shrink(cluster: &mut Cluster, id: u16) {
    let removed = carried_out(cluster, &["member", "remove", &id.to_string()]);
    assert!(!numbers(&removed["voters"]).contains(&u64::from(id)), "{removed}");
    eventually("the removed node says so", || {
        cluster.log(id).contains("was removed from the cluster").then_some(())
    });
    let told = cluster.status(id).expect("it still answers");
    assert_eq!(told.standing, Standing::Removed);
    cluster.set_members(cluster.ids().filter(|member| *member != id).collect());
    cluster.stop(id);
}

#[test]
fn a_cluster_grows_to_five_and_shrinks_to_three_under_load_and_loss() {
    let mut cluster = Cluster::with_spares(loopback(), 3, 5);
    for id in 1..=5 {
        cluster.add_flags(id, ["--loss", "10%", "--seed", &(70 + id).to_string()]);
    }
    cluster.start_all(Start::Bootstrap);
    cluster.leader();
    let load = Load::start(cluster.addresses(), 2);
    load.wait_for(20);
    let history = cluster.dir().join("history.jsonl");
    let bench = ["--json", "--cluster", &cluster.names(), "bench", "kv", "--clients", "3", "--keys", "5"];
    let more =
        ["--reads", "50%", "--warm-up", "0s", "--duration", "20s", "--history", history.to_str().unwrap()];
    let mut bench = command(&[&bench[..], &more[..]].concat());
    let mut bench = Process::start(bench.stdout(Stdio::null()), &cluster.dir().join("bench"));
    grow(&mut cluster, 4);
    load.wait_for(20);
    grow(&mut cluster, 5);
    load.wait_for(20);
    // A founder that leads, most likely, and another founder.
    let (leader, _) = cluster.leader();
    shrink(&mut cluster, leader);
    load.wait_for(20);
    let other = cluster.ids().find(|id| *id <= 3).unwrap();
    shrink(&mut cluster, other);
    load.wait_for(20);
    assert_eq!(bench.wait().code(), Some(0), "the bench had failed operations");
    let list = carried_out(&cluster, &["member", "list"]);
    assert_eq!(
        (&list["settled"], list["members"].as_array().unwrap().len()),
        (&Value::from(true), 3),
        "{list}"
    );
    let verdict = run(&["check", history.to_str().unwrap()]);
    assert_eq!(verdict.status.code(), Some(0), "{verdict:?}");
    cluster.assert_holds(&load.stop());
}

/// The recipe of docs/membership.md: `kill -9`, an empty folder, `--join`, `member replace`; also when it was
/// interrupted before.
#[test]
fn a_killed_and_wiped_node_is_replaced_and_the_replacement_can_be_resumed() {
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), 2);
    for (round, id) in [3, 1, 2].into_iter().enumerate() {
        load.wait_for(20);
        let before = cluster.status(id).unwrap().store;
        cluster.kill(id);
        std::fs::remove_dir_all(cluster.data(id)).unwrap();
        // Nobody is there yet: nothing is removed for a node that could not take the place.
        if round == 0 {
            assert_eq!(
                refusal(&cluster, &["member", "replace", &at(&cluster, id)]),
                (3, "silent".to_owned())
            );
        }
        cluster.start(id, Start::Join);
        eventually("it knows that it does not count", || {
            cluster.status(id).filter(|status| status.standing == Standing::Replaced)
        });
        // As far as an interrupted command may have come.
        if round > 0 {
            carried_out(&cluster, &["member", "remove", &id.to_string()]);
        }
        if round > 1 {
            carried_out(&cluster, &["member", "add", &at(&cluster, id), "--no-wait"]);
        }
        let replaced = carried_out(&cluster, &["member", "replace", &at(&cluster, id)]);
        assert_eq!(numbers(&replaced["voters"]), [1, 2, 3], "{replaced}");
        assert_ne!(cluster.status(id).unwrap().store, before);
    }
    // Again, with nothing left to do.
    let again = carried_out(&cluster, &["member", "replace", &at(&cluster, 2)]);
    assert!(again["done"].as_str().unwrap().contains("it had"), "{again}");
    cluster.assert_holds(&load.stop());
}

#[test]
fn what_cannot_be_is_refused_with_the_reason_and_a_way_out_and_changes_nothing() {
    let mut cluster = Cluster::with_spares(loopback(), 3, 5);
    cluster.start_all(Start::Bootstrap);
    let (leader, _) = cluster.leader();
    let before = carried_out(&cluster, &["member", "list"]);
    let nowhere = at(&cluster, 5);
    let said = |cluster: &Cluster, arguments: &[&str]| refusal(cluster, arguments);
    assert_eq!(said(&cluster, &["member", "add", &nowhere]), (3, "silent".to_owned()));
    assert_eq!(said(&cluster, &["member", "update", &nowhere]), (4, "unknown".to_owned()));
    assert_eq!(said(&cluster, &["member", "promote", "4"]), (4, "unknown".to_owned()));
    assert_eq!(said(&cluster, &["member", "remove", "9"]), (4, "unknown".to_owned()));
    assert_eq!(said(&cluster, &["leader", "transfer", "9"]), (4, "unknown".to_owned()));
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    let stale = ["member", "remove", &follower.to_string(), "--if-version", "999999"];
    assert_eq!(said(&cluster, &stale), (4, "version".to_owned()));
    let wrong = format!("4={}", cluster.address(follower));
    assert_eq!(said(&cluster, &["member", "add", &wrong]), (1, "other-node".to_owned()));
    // A learner that lags, for it is stopped.
    cluster.start(4, Start::Join);
    eventually("the node has joined", || cluster.log(4).contains("no member yet").then_some(()));
    carried_out(&cluster, &["member", "add", &at(&cluster, 4)]);
    cluster.kill(4);
    eventually("the leader misses it", || {
        let list = carried_out(&cluster, &["member", "list"]);
        let rows = list["members"].as_array().unwrap();
        rows.iter().any(|row| row["id"] == 4 && row["heard"] == false).then_some(())
    });
    assert_eq!(said(&cluster, &["member", "promote", "4"]), (3, "unheard".to_owned()));
    carried_out(&cluster, &["member", "remove", "4"]);
    // With one follower dead the other cannot go.
    cluster.kill(follower);
    let other = (1..=3).find(|id| *id != leader && *id != follower).unwrap();
    eventually("the leader misses it", || {
        let list = carried_out(&cluster, &["member", "list"]);
        let rows = list["members"].as_array().unwrap();
        rows.iter().any(|row| row["id"] == follower && row["heard"] == false).then_some(())
    });
    assert_eq!(said(&cluster, &["member", "remove", &other.to_string()]), (5, "quorum-at-risk".to_owned()));
    let after = carried_out(&cluster, &["member", "list"]);
    assert_eq!(after["members"].as_array().unwrap().len(), before["members"].as_array().unwrap().len());
    carried_out(&cluster, &["member", "remove", &follower.to_string()]);
    let left = carried_out(&cluster, &["member", "list"]);
    assert_eq!((&left["settled"], left["members"].as_array().unwrap().len()), (&Value::from(true), 2));
    // Both that are left serve, and one can be told to lead.
    let transferred = carried_out(&cluster, &["leader", "transfer", &other.to_string()]);
    assert_eq!(transferred["leader"], other);
}

/// All nodes one after the other, each handing over what it leads: no write fails, no election is lost to a timeout.
#[test]
fn a_rolling_restart_under_load_loses_no_request() {
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), 4);
    load.wait_for(100);
    let (mut stalls, mut handovers) = (Vec::new(), 0);
    let (_, first) = cluster.leader();
    for id in [1, 2, 3] {
        let (leader, _) = cluster.leader();
        handovers += u64::from(leader == id);
        load.longest_stall();
        cluster.stop(id);
        load.wait_for(50);
        cluster.start(id, Start::AsItIs);
        cluster.wait_until_caught_up(id);
        eventually("all have caught up", || {
            let list = carried_out(&cluster, &["member", "list"]);
            let rows = list["members"].as_array().unwrap().clone();
            rows.iter().all(|row| row["leader"] == true || row["caught_up"] == true).then_some(())
        });
        stalls.push(load.longest_stall());
    }
    let (_, last) = cluster.leader();
    cluster.assert_holds(&load.stop());
    assert!(handovers >= 1, "a leader was restarted");
    assert_eq!(last - first, handovers, "terms beyond those of the handovers");
    let total: Duration = stalls.iter().sum();
    let milliseconds: Vec<u128> = stalls.iter().map(Duration::as_millis).collect();
    let _ = writeln!(
        std::io::stderr(),
        "rolling restart of 3 nodes, {handovers} handovers: longest time without an acknowledged write at each \
         restart, ms: {milliseconds:?}, {} in all",
        total.as_millis()
    );
    let most = setting("RAFTGRAM_STALL_MS", u64::MAX);
    assert!(total.as_millis() <= u128::from(most), "{total:?} in all");
}

/// A node that moved is found by all at its recorded address.
#[test]
fn a_node_is_moved_to_another_address() {
    let mut cluster = Cluster::with_spares(loopback(), 3, 4);
    cluster.start_all(Start::Bootstrap);
    let load = Load::start(cluster.addresses(), 1);
    load.wait_for(10);
    let (leader, _) = cluster.leader();
    let moved = (1..=3).find(|id| *id != leader).unwrap();
    let to = cluster.address(4);
    cluster.stop(moved);
    cluster.set_flags(moved, vec!["--listen".to_owned(), to.to_string()]);
    cluster.start(moved, Start::AsItIs);
    let names = cluster.names();
    eventually("it answers at its other address", || {
        let output = run(&["--json", "--cluster", &names, "member", "update", &format!("{moved}={to}")]);
        (output.status.code() == Some(0)).then_some(())
    });
    let list = carried_out(&cluster, &["member", "list"]);
    let rows = list["members"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["id"] == moved && row["addr"] == to.to_string().as_str()), "{list}");
    // It leads from there.
    eventually("it is told to lead", || {
        let output = run(&["--json", "--cluster", &names, "leader", "transfer", &moved.to_string()]);
        (output.status.code() == Some(0)).then_some(())
    });
    load.wait_for(20);
    load.stop();
}
