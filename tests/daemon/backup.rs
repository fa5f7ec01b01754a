//! The way back: a backup of a running cluster, a new cluster from it, and what is refused on the way. [W-66]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use raftgram::kv::Command;

use crate::cluster::{Cluster, Start, connect, list};
use crate::load::Load;
use crate::process::{PATIENCE, eventually, refused, run, run_command};
use crate::support::json;

/// How many writers a load has here.
const WRITERS: usize = 4;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Restores the file into the folder of this node.
#[track_caller]
fn restore(cluster: &Cluster, id: u16, file: &Path) {
    let restored = run(&["--json", "restore", text(file), "--data", text(cluster.data(id))]);
    assert_eq!(restored.status.code(), Some(0), "{restored:?}");
}

/// A backup of a cluster with some data, which is gone afterwards; the folder goes with the first value.
fn backup_of_some() -> (tempfile::TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("some.backup");
    let cluster = Cluster::founded();
    let put = Command::Put { key: b"kept", value: b"safe" };
    connect(cluster.addresses()).propose(put.to_bytes(), PATIENCE).wait(PATIENCE).unwrap().unwrap();
    let (code, shown) = json(&run(&["--json", "--cluster", &cluster.names(), "backup", text(&file)]));
    assert_eq!(code, 0, "{shown}");
    (dir, file, shown["cluster"].as_str().unwrap().to_owned())
}

fn flip(file: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

#[test]
fn a_backup_taken_under_load_founds_a_new_cluster_with_every_write_acknowledged_before_it() {
    let (dir, file, acknowledged, old) = {
        let cluster = Cluster::founded();
        let load = Load::start(cluster.addresses(), WRITERS);
        load.wait_for(300);
        let acknowledged: Vec<u64> = (0..WRITERS).map(|place| load.acknowledged(place)).collect();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cluster.backup");
        let (code, shown) = json(&run(&["--json", "--cluster", &cluster.names(), "backup", text(&file)]));
        assert_eq!(code, 0, "{shown}");
        assert_eq!(shown["bytes"].as_u64(), Some(fs::metadata(&file).unwrap().len()), "{shown}");
        load.wait_for(50);
        load.stop();
        // The file stands, and is not replaced.
        let before = fs::read(&file).unwrap();
        let (code, error) = refused(&["--cluster", &cluster.names(), "backup", text(&file)]);
        assert_eq!((code, error["address"].as_str()), (1, Some(text(&file))), "{error}");
        assert_eq!(fs::read(&file).unwrap(), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left beside it");
        (dir, file, acknowledged, shown["cluster"].as_str().unwrap().to_owned())
    };
    let mut cluster = Cluster::stopped(crate::cluster::loopback(), 3);
    cluster.ids().for_each(|id| restore(&cluster, id, &file));
    drop(dir);
    cluster.start_all(Start::Bootstrap);
    cluster.leader();
    let store = list(&connect(cluster.addresses()), raftgram::ReadLevel::Linearizable);
    for (place, at_least) in acknowledged.iter().enumerate() {
        let held: u64 = store[&Load::key(place)].parse().unwrap();
        assert!(held >= *at_least, "writer {place}: {held} after the restore, {at_least} were acknowledged");
    }
    // It serves, survives a restart, and is another cluster of other stores.
    let put = Command::Put { key: b"after", value: b"the restore" };
    connect(cluster.addresses()).propose(put.to_bytes(), PATIENCE).wait(PATIENCE).unwrap().unwrap();
    let mut expected = store;
    expected.insert("after".into(), "the restore".into());
    cluster.stop_all();
    cluster.start_all(Start::AsItIs);
    cluster.assert_holds(&expected);
    cluster.stop_all();
    let mut stores = std::collections::BTreeSet::new();
    for id in cluster.ids() {
        let (code, shown) = json(&run(&["--json", "inspect", text(cluster.data(id))]));
        assert_eq!(code, 0, "{shown}");
        assert_ne!(shown["meta"]["cluster"].as_str(), Some(old.as_str()));
        assert!(stores.insert(shown["meta"]["store"].as_str().unwrap().to_owned()), "two nodes of one store");
    }
}

#[test]
fn a_backup_that_is_cut_or_altered_anywhere_is_refused_with_the_place_and_changes_nothing() {
    let (dir, file, _) = backup_of_some();
    let whole = fs::read(&file).unwrap();
    let data = dir.path().join("data");
    let broken = dir.path().join("broken.backup");
    let bytes = whole.len() as u64;
    for kept in [0, 1, 31, bytes / 2, bytes - 1] {
        fs::write(&broken, &whole[..kept as usize]).unwrap();
        let (code, error) = refused(&["restore", text(&broken), "--data", text(&data)]);
        assert_eq!((code, error["address"].as_str()), (6, Some(text(&broken))), "{kept} of {bytes}: {error}");
        assert!(error["message"].as_str().unwrap().contains("at byte"), "{kept} of {bytes}: {error}");
        assert!(!data.exists(), "{kept} of {bytes} made the folder");
    }
    for offset in (0..bytes).step_by(7) {
        fs::write(&broken, &whole).unwrap();
        flip(&broken, offset);
        let (code, error) = refused(&["restore", text(&broken), "--data", text(&data)]);
        assert_eq!(code, 6, "a bit of byte {offset}: {error}");
        assert!(!data.exists(), "a bit of byte {offset} made the folder");
    }
    fs::write(&broken, [&whole[..], &[0; 100]].concat()).unwrap();
    assert_eq!(refused(&["restore", text(&broken), "--data", text(&data)]).0, 6);
    let (code, _) = refused(&["restore", text(&dir.path().join("none")), "--data", text(&data)]);
    assert_eq!((code, data.exists()), (1, false));
}

#[test]
fn a_backup_of_another_cluster_and_a_folder_in_use_are_refused() {
    let (dir, file, cluster_id) = backup_of_some();
    let data = dir.path().join("data");
    let other = "00112233445566778899aabbccddeeff";
    let (code, error) = refused(&["restore", text(&file), "--data", text(&data), "--cluster-id", other]);
    assert_eq!((code, data.exists()), (1, false), "{error}");
    let said = error["message"].as_str().unwrap();
    assert!(said.contains(&cluster_id) && said.contains(other), "{error}");
    let arguments = ["restore", text(&file), "--data", text(&data), "--cluster-id", &cluster_id];
    assert_eq!(run(&arguments).status.code(), Some(0));
    let files = || {
        let items = fs::read_dir(&data).unwrap().map(|item| item.unwrap().path());
        items.map(|path| (fs::read(&path).unwrap(), path)).collect::<std::collections::BTreeSet<_>>()
    };
    let before = files();
    let (code, error) = refused(&arguments);
    assert_eq!((code, error["address"].as_str()), (1, Some(text(&data))), "{error}");
    assert!(files() == before, "a refused restore changed the folder");
}

#[test]
fn a_restored_folder_joins_nothing_and_founds_only_with_its_like() {
    let (_dir, file, _) = backup_of_some();
    let mut cluster = Cluster::stopped(crate::cluster::loopback(), 3);
    [1, 2].iter().for_each(|id| restore(&cluster, *id, &file));
    let alone = run_command(&mut cluster.command(1, Start::AsItIs));
    assert_eq!(alone.status.code(), Some(1), "{alone:?}");
    let mut join = cluster.command(1, Start::AsItIs);
    let joining = run_command(join.arg("--join"));
    assert_eq!(joining.status.code(), Some(1), "{joining:?}");
    // The third comes with an empty folder: nobody founds without the data, and the log says why.
    cluster.start_all(Start::Bootstrap);
    eventually("a founder tells of the other's backup", || {
        cluster.log(1).contains("not restored from the same backup").then_some(())
    });
    cluster.kill(3);
    fs::remove_dir_all(cluster.data(3)).unwrap();
    restore(&cluster, 3, &file);
    cluster.start(3, Start::Bootstrap);
    cluster.leader();
    cluster.assert_holds(&[("kept".to_owned(), "safe".to_owned())].into());
}

fn copy_folder(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(item.path(), to.join(item.file_name())).unwrap();
    }
}

/// D9, I12: what the node acknowledged since is not in the copy, so its word must not count.
#[test]
fn an_old_copy_of_a_data_folder_put_back_is_quarantined_until_the_newest_is_back_d9_i12() {
    let mut cluster = Cluster::founded();
    let (leader, _) = cluster.leader();
    let [one, other] = [1, 2, 3].into_iter().filter(|id| *id != leader).collect::<Vec<_>>()[..] else {
        panic!("two followers")
    };
    let [old, newest] = ["old", "newest"].map(|name| cluster.dir().join(name));
    cluster.stop(one);
    copy_folder(cluster.data(one), &old);
    let load = Load::start(cluster.addresses(), WRITERS);
    for _ in 0..2 {
        cluster.start(one, Start::AsItIs);
        cluster.wait_until_caught_up(one);
        load.wait_for(50);
        cluster.stop(one);
    }
    copy_folder(cluster.data(one), &newest);
    let data = cluster.data(one).to_owned();
    copy_folder(&old, &data);
    cluster.start(one, Start::AsItIs);
    eventually("one of the others tells of the copy", || {
        let tells = |id| cluster.log(id).contains("a copied data folder is speaking");
        (tells(leader) || tells(other)).then_some(())
    });
    load.wait_for(50);
    let written = load.stop();
    // With the copy alone there is no quorum: nothing is committed, and nobody is elected.
    cluster.stop(other);
    let names = crate::cluster::names(&[cluster.address(leader), cluster.address(one)]);
    let put = run(&["--json", "--cluster", &names, "--timeout", "3s", "kv", "put", "lost", "write"]);
    assert!(matches!(put.status.code(), Some(3 | 5)), "{put:?}");
    cluster.stop(one);
    copy_folder(&newest, &data);
    cluster.start(one, Start::AsItIs);
    cluster.start(other, Start::AsItIs);
    cluster.leader();
    cluster.assert_holds(&written);
}
