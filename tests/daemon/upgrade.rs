//! Versions side by side: what an older program says to a newer folder, and nodes of two wire levels in one cluster.

use std::fs;
use std::path::Path;

use raftgram::kv::Command;

use crate::cluster::{Cluster, Start, connect};
use crate::load::Load;
use crate::process::{PATIENCE, run_command};

/// What is done to a file's bytes.
type Change = fn(&mut [u8]);

/// Changes every file of this kind in a folder.
fn change(folder: &Path, prefix: &str, change: Change) {
    for item in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if item.file_name().to_str().unwrap().starts_with(prefix) {
            let mut content = fs::read(item.path()).unwrap();
            change(&mut content);
            fs::write(item.path(), content).unwrap();
        }
    }
}

fn put_crc(content: &mut [u8], at: usize, crc: u32) {
    content[at..at + 4].copy_from_slice(&crc.to_be_bytes());
}

/// As a program of the next version would have written its hard state, log and snapshot, as far as their version
/// fields and the checksums over them go.
fn newer_hard_state(content: &mut [u8]) {
    content[5] = 2;
    let body = u32::from_be_bytes(content[8..12].try_into().unwrap()) as usize;
    let covered = [&content[..12], &content[16..16 + body]].concat();
    put_crc(content, 12, crc32fast::hash(&covered));
}

fn newer_log(content: &mut [u8]) {
    // A spare segment has no batch.
    if content[0] != 0 {
        content[21] = 2;
        let crc = crc32fast::hash(&content[8..128]);
        put_crc(content, 4, crc);
    }
}

fn newer_snapshot(content: &mut [u8]) {
    let trailer = content.len() - 32;
    content[trailer + 5] = 2;
    let crc = crc32fast::hash(&content[trailer..trailer + 28]);
    put_crc(content, trailer + 28, crc);
}

#[test]
fn a_folder_of_a_newer_program_is_refused_with_a_clear_word_and_left_alone() {
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), 1);
    load.wait_for(20);
    load.stop();
    let taken = crate::process::run(&["--cluster", &cluster.names(), "snapshot", "take"]);
    assert_eq!(taken.status.code(), Some(0), "{taken:?}");
    // The log goes on after the snapshot.
    let put = Command::Put { key: b"after", value: b"the snapshot" };
    connect(cluster.addresses()).propose(put.to_bytes(), PATIENCE).wait(PATIENCE).unwrap().unwrap();
    cluster.stop_all();
    let newer: [(&str, Change, &str); 3] = [
        ("hard-state-", newer_hard_state, "the data folder has format version 2"),
        ("log-", newer_log, "the log has format version 2"),
        ("snapshot-", newer_snapshot, "the snapshot has format version 2"),
    ];
    for (id, (prefix, make_newer, said)) in (1..).zip(newer) {
        change(cluster.data(id), prefix, make_newer);
        let content = || {
            let items = fs::read_dir(cluster.data(id)).unwrap().map(|item| item.unwrap().path());
            items.map(|path| (fs::read(&path).unwrap(), path)).collect::<std::collections::BTreeSet<_>>()
        };
        let before = content();
        let refused = run_command(&mut cluster.command(id, Start::AsItIs));
        let text = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(text.contains(said) && text.contains("a newer program"), "{text}");
        assert!(content() == before, "{prefix}: a refused start changed the folder");
        let (code, error) =
            crate::process::refused(&["inspect", cluster.data(id).to_str().unwrap(), "--verify"]);
        assert!(code == 1 && error["message"].as_str().unwrap().contains(said), "{code}: {error}");
    }
}

#[test]
fn two_wire_levels_serve_together_through_a_rolling_upgrade() {
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), 3);
    for id in cluster.ids() {
        load.wait_for(50);
        cluster.stop(id);
        cluster.add_flags(id, ["--next-wire-level"]);
        cluster.start(id, Start::AsItIs);
        cluster.wait_until_caught_up(id);
    }
    load.wait_for(50);
    let written = load.stop();
    cluster.assert_holds(&written);
}
