//! Who may found a cluster, and who must not found it again (scenarios I1, E3).

use raftgram::wire::status::NodeRole;

use crate::cluster::{Cluster, Start, loopback};
use crate::load::Load;
use crate::process::{Process, eventually, refused, run};

/// A write that must not be taken; its exit code.
fn put_in_vain(cluster: &Cluster) -> i32 {
    let (code, error) = refused(&["--cluster", &cluster.names(), "--timeout", "1s", "kv", "put", "k", "v"]);
    assert!([3, 5].contains(&code), "{error}");
    code
}

#[test]
fn two_of_three_nodes_wiped_and_restarted_do_not_form_a_cluster() {
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), 1);
    load.wait_for(20);
    let written = load.stop();
    let before = cluster.statuses();
    cluster.stop_all();
    for id in [1, 2] {
        std::fs::remove_dir_all(cluster.data(id)).unwrap();
        cluster.start(id, Start::Bootstrap);
    }
    // While the one that remembers is down, the two wait for it and serve nothing.
    for id in [1, 2] {
        eventually("the wiped node waits as a blank one", || cluster.log(id).rfind("plan: found").map(drop));
    }
    put_in_vain(&cluster);
    for id in [1, 2] {
        assert!(cluster.process(id).ended().is_none(), "node {id} waits");
        let is_founded = cluster.status(id).is_some_and(|status| status.role != NodeRole::Blank);
        assert!(!is_founded, "node {id} founded a cluster without node 3");
    }
    // When it comes back they learn that the cluster is founded, and end.
    cluster.start(3, Start::AsItIs);
    for id in [1, 2] {
        assert_eq!(cluster.process(id).wait().code(), Some(1));
        let (log, cluster_id) = (cluster.log(id), before[&3].cluster);
        let last = log.lines().rev().find(|line| line.starts_with("error: ")).unwrap();
        for part in ["already founded", &cluster_id.to_string(), &cluster.address(3).to_string()] {
            assert!(last.contains(part), "`{part}` is missing in: {last}");
        }
        cluster.kill(id);
        // Nor does trying again help.
        let (address, voters) = (cluster.address(id).to_string(), cluster.voters());
        let (id, data) = (id.to_string(), cluster.data(id).to_str().unwrap());
        let flags = ["--id", &id, "--listen", &address, "--voters", &voters, "--data", data, "--bootstrap"];
        let (code, error) = refused(&[&["node"], &flags[..]].concat());
        assert_eq!(code, 1, "{error}");
        assert!(error["message"].as_str().unwrap().starts_with("already founded"), "{error}");
    }
    put_in_vain(&cluster);
    let survivor = cluster.status(3).unwrap();
    assert_eq!((survivor.cluster, survivor.store), (before[&3].cluster, before[&3].store));
    assert_ne!(survivor.role, NodeRole::Leader);
    let list = run(&["--cluster", &cluster.address(3).to_string(), "kv", "list", "--level", "local"]);
    assert_eq!(list.status.code(), Some(0), "the data is still there: {list:?}");
    assert!(survivor.last >= before[&3].last && !written.is_empty());
}

#[test]
fn nodes_with_different_lists_of_voters_say_so_and_found_once_the_lists_agree() {
    let mut cluster = Cluster::stopped(loopback(), 3);
    cluster.start(1, Start::Bootstrap);
    cluster.start(3, Start::Bootstrap);
    let mistyped = cluster.voters().replace("3=", "4=");
    let log = cluster.dir().join("mistyped");
    let mut mistaken = Process::start(&mut cluster.command_with(2, Start::Bootstrap, &mistyped), &log);
    let of_others = |cluster: &Cluster| cluster.log(1).contains("another list of voters");
    eventually("the others say that node 2 has another list", || of_others(&cluster).then_some(()));
    let own = || std::fs::read_to_string(&log).unwrap().contains("another list of voters");
    eventually("node 2 says that the others have another list", || own().then_some(()));
    put_in_vain(&cluster);
    assert!(mistaken.ended().is_none(), "it waits for the lists to agree");
    drop(mistaken);
    cluster.start(2, Start::Bootstrap);
    cluster.leader();
    let load = Load::start(cluster.addresses(), 1);
    load.wait_for(5);
    cluster.assert_holds(&load.stop());
}
