//! Reads of every level from real nodes, and replicas that say how far they agree.

use raftgram::ReadLevel;
use raftgram::kv::Command;

use crate::cluster::{Cluster, Start, connect, loopback, read};
use crate::load::Load;
use crate::process::{PATIENCE, eventually, refused, run};
use crate::support::json;

#[test]
fn any_node_answers_linearizable_reads_and_the_leader_answers_under_its_lease() {
    let mut cluster = Cluster::stopped(loopback(), 3);
    cluster.ids().for_each(|id| cluster.add_flags(id, ["--lease-drift", "1%"]));
    cluster.start_all(Start::Bootstrap);
    cluster.leader();
    let writer = connect(cluster.addresses());
    let nodes: Vec<_> = cluster.ids().map(|id| connect(&[cluster.address(id)])).collect();
    for value in 0..100_u32 {
        let text = value.to_string();
        let put = Command::Put { key: b"k", value: text.as_bytes() };
        writer.propose(put.to_bytes(), PATIENCE).wait(PATIENCE * 2).unwrap().unwrap();
        for node in &nodes {
            assert_eq!(read(node, "k", ReadLevel::AnyNode).as_ref(), Some(&text));
        }
        assert_eq!(read(&writer, "k", ReadLevel::Lease).as_ref(), Some(&text));
    }
    for id in cluster.ids() {
        let address = cluster.address(id).to_string();
        let got = run(&["--cluster", &address, "kv", "get", "k", "--any-node"]);
        assert_eq!((got.status.code(), &got.stdout[..]), (Some(0), &b"99\n"[..]), "{got:?}");
    }
    let (code, error) =
        refused(&["--cluster", &cluster.names(), "kv", "get", "k", "--any-node", "--level", "lease"]);
    assert_eq!(code, 2, "{error}");
    // A leader that leaves takes its lease along.
    for _ in 0..3 {
        let (leader, _) = cluster.leader();
        cluster.stop(leader);
        let put = Command::Put { key: b"k", value: b"later" };
        writer.propose(put.to_bytes(), PATIENCE).wait(PATIENCE * 2).unwrap().unwrap();
        assert_eq!(read(&writer, "k", ReadLevel::Lease).as_deref(), Some("later"));
        cluster.start(leader, Start::AsItIs);
        cluster.wait_until_caught_up(leader);
    }
}

#[test]
fn clocks_that_may_drift_too_far_leave_no_leases() {
    let address = crate::cluster::free_addresses(loopback(), 1)[0].to_string();
    let dir = tempfile::tempdir().unwrap();
    let (data, voters) = (dir.path().join("data"), format!("1={address}"));
    let node = ["node", "--id", "1", "--listen", &address, "--voters", &voters, "--bootstrap"];
    let more = ["--data", data.to_str().unwrap(), "--lease-drift", "90%"];
    let (code, error) = refused(&[&node[..], &more].concat());
    assert!(code != 0 && error.to_string().contains("drift"), "{error}");
    assert!(!data.exists(), "{error}");
}

#[test]
fn replicas_tell_each_other_how_far_they_agree() {
    let cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), 4);
    load.wait_for(300);
    load.stop();
    eventually("all nodes know that others came to the same", || {
        let statuses = cluster.statuses();
        let is_known = |agreed: u64| agreed >= 256;
        (statuses.len() == 3 && statuses.values().all(|status| is_known(status.agreed.0))).then_some(())
    });
    let (code, shown) = json(&run(&["--json", "--cluster", &cluster.names(), "status", "--check"]));
    assert_eq!(code, 0, "{shown}");
    for node in shown["nodes"].as_array().unwrap() {
        assert!(node["agreed"].as_u64() >= Some(256), "{node}");
        assert_eq!(node["divergences"].as_array().map(Vec::len), Some(0), "{node}");
    }
}
