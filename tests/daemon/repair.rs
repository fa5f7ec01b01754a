//! One flipped bit in each thing that a node keeps on its disk, in turn: found, and repaired or refused, and nothing
//! that was acknowledged is lost.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use raftgram::run::disk::FolderDisk;
use raftgram::store::inspect;

use crate::cluster::{Cluster, Start};
use crate::load::Load;
use crate::process::{eventually, run, run_command};
use crate::support::json;

/// Waits until a node runs, its log has no hole, and it has applied what the leader has committed.
pub(crate) fn wait_until_repaired(cluster: &Cluster, id: u16) {
    eventually("it is repaired", || {
        cluster.status(id).filter(|status| status.repair.is_none() && status.last.0 > 0)
    });
    cluster.wait_until_caught_up(id);
}

fn flip(file: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

/// The records of the log that hold entries: file and offset, in order.
fn records(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut disk = FolderDisk::open(folder).unwrap();
    let meta = inspect::meta(&mut disk).unwrap();
    let reports: Vec<_> = inspect::log(&mut disk, &meta).unwrap().map(Result::unwrap).collect();
    let rows = reports.iter().flat_map(|report| {
        let batches = report.batches.iter().filter(|batch| !batch.header.is_empty());
        batches.map(|batch| (folder.join(&report.file), batch.offset))
    });
    rows.collect()
}

fn snapshot_of(folder: &Path) -> PathBuf {
    let mut all = fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
    all.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snapshot-")).unwrap()
}

#[test]
fn a_flipped_bit_in_each_structure_of_a_node_is_found_and_repaired_or_refused_d2() {
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), 4);
    load.wait_for(200);
    let (code, taken) = json(&run(&["--json", "--cluster", &cluster.names(), "snapshot", "take"]));
    assert_eq!(code, 0, "{taken}");
    load.wait_for(300);
    let (node, folder) = (2, cluster.data(2).to_owned());

    // A record in the middle, its content and its header; the last one that was acknowledged.
    for (is_last, byte) in [(false, 140), (false, 9), (true, 140), (true, 9)] {
        cluster.kill(node);
        let all = records(&folder);
        let (file, offset) = &all[if is_last { all.len() - 1 } else { all.len() / 2 }];
        flip(file, offset + byte);
        let verified = json(&run(&["--json", "inspect", folder.to_str().unwrap(), "--verify"]));
        assert_eq!(verified.0, 6, "{}", verified.1);
        let text = verified.1["error"]["message"].as_str().unwrap();
        assert!(text.contains(file.file_name().unwrap().to_str().unwrap()), "{text}");
        cluster.start(node, Start::AsItIs);
        wait_until_repaired(&cluster, node);
        assert!(cluster.status(node).unwrap().damage > 0, "it was not told of");
        load.wait_for(50);
    }

    // The snapshot: its table, and a block.
    for from_end in [true, false] {
        // What the others still hold as log comes as log, and leaves no snapshot.
        let (code, taken) = json(&run(&["--json", "--cluster", &cluster.names(), "snapshot", "take"]));
        assert_eq!(code, 0, "{taken}");
        cluster.kill(node);
        let file = snapshot_of(&folder);
        let at = if from_end { fs::metadata(&file).unwrap().len() - 3 } else { 300 };
        flip(&file, at);
        cluster.start(node, Start::AsItIs);
        wait_until_repaired(&cluster, node);
        load.wait_for(50);
    }

    // One copy of the hard state: the other one stands in. Both: nobody else knows what is lost.
    cluster.kill(node);
    flip(&folder.join("hard-state-a"), 40);
    cluster.start(node, Start::AsItIs);
    wait_until_repaired(&cluster, node);
    let written = load.stop();
    cluster.kill(node);
    for copy in ["hard-state-a", "hard-state-b"] {
        flip(&folder.join(copy), 40);
    }
    let refused = run_command(&mut cluster.command(node, Start::AsItIs));
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    for copy in ["hard-state-a", "hard-state-b"] {
        flip(&folder.join(copy), 40);
    }
    cluster.start(node, Start::AsItIs);
    wait_until_repaired(&cluster, node);
    cluster.assert_holds(&written);
}
