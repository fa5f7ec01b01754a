//! Snapshots of real nodes: taken under load, started from, looked at, damaged.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use raftgram::kv::Command;

use crate::cluster::{Cluster, Start, connect};
use crate::load::Load;
use crate::process::{PATIENCE, run};
use crate::repair::wait_until_repaired;
use crate::support::json;

/// The files of this kind in a node's folder.
fn files(cluster: &Cluster, id: u16, prefix: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(cluster.data(id)).unwrap().map(|item| item.unwrap().path());
    let mut found: Vec<PathBuf> =
        all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect();
    found.sort();
    found
}

#[test]
fn nodes_start_from_the_snapshots_that_were_taken_under_load_s2_s9() {
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), 4);
    let mut last = vec![0; 3];
    for _ in 0..3 {
        load.wait_for(200);
        let taken = run(&["--json", "--cluster", &cluster.names(), "snapshot", "take"]);
        let (code, answer) = json(&taken);
        assert_eq!(code, 0, "{answer}");
        for (node, last) in answer["nodes"].as_array().unwrap().iter().zip(&mut last) {
            let index = node["snapshot"]["index"].as_u64().unwrap();
            assert!(index > *last, "{answer}");
            *last = index;
        }
    }
    load.wait_for(100);
    let mut written = load.stop();
    cluster.ids().for_each(|id| cluster.kill(id));
    for id in cluster.ids() {
        assert_eq!(files(&cluster, id, "snapshot-").len(), 1, "the snapshots before are gone");
        let folder = cluster.data(id).to_str().unwrap().to_owned();
        let (code, shown) = json(&run(&["--json", "inspect", &folder, "snapshot"]));
        assert_eq!(
            (code, shown["snapshot"]["index"].as_u64()),
            (0, Some(last[usize::from(id) - 1])),
            "{shown}"
        );
        let (code, verified) = json(&run(&["--json", "inspect", &folder, "--verify"]));
        assert_eq!((code, &verified["log"]["snapshot"]), (0, &shown["snapshot"]["index"]), "{verified}");
    }
    cluster.start_all(Start::AsItIs);
    cluster.assert_holds(&written);
    let put = Command::Put { key: b"after", value: b"the restart" };
    connect(cluster.addresses()).propose(put.to_bytes(), PATIENCE).wait(PATIENCE).unwrap().unwrap();
    written.insert("after".into(), "the restart".into());
    cluster.stop_all();
    cluster.start_all(Start::AsItIs);
    cluster.assert_holds(&written);
    cluster.stop_all();

    // One bit of one node's snapshot: told with its place, and pulled from the others when the node starts.
    let file = files(&cluster, 1, "snapshot-").pop().unwrap();
    let damaged = OpenOptions::new().read(true).write(true).open(&file).unwrap();
    let mut byte = [0];
    damaged.read_exact_at(&mut byte, 300).unwrap();
    damaged.write_all_at(&[byte[0] ^ 4], 300).unwrap();
    let (code, fault) = json(&run(&["--json", "inspect", cluster.data(1).to_str().unwrap(), "--verify"]));
    let text = fault["error"]["message"].as_str().unwrap();
    assert_eq!(code, 6, "{fault}");
    assert!(text.contains("snapshot-") && text.contains("at byte 0"), "{fault}");
    cluster.start_all(Start::AsItIs);
    wait_until_repaired(&cluster, 1);
    cluster.assert_holds(&written);
}
