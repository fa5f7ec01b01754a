//! The seal with real processes: who is heard, and changes of mode and of key under load.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raftgram::ClientConfig;
use raftgram::rpc::SealConfig;
use raftgram::run::keys::read_keys;
use raftgram::seal::SealMode;

use crate::cluster::{self, Cluster, Start, loopback};
use crate::load::Load;
use crate::process::{eventually, refused, run};

/// A fresh key beside the nodes' data.
pub(crate) fn new_key(folder: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let file = folder.join(name);
    let output = run(&[&["key", "new", file.to_str().unwrap()], flags].concat());
    assert!(output.status.success(), "{output:?}");
    file
}

/// A file with the lines of these, in order.
fn joined(folder: &Path, name: &str, files: &[&Path]) -> PathBuf {
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

pub(crate) fn client(mode: SealMode, file: &Path) -> ClientConfig {
    let mut config = ClientConfig::default();
    config.rpc.seal = SealConfig::with(mode, Arc::new(read_keys(file).unwrap()));
    config
}

pub(crate) fn flags(file: &Path, mode: &str) -> Vec<String> {
    ["--key", file.to_str().unwrap(), "--seal", mode].map(str::to_owned).to_vec()
}

/// A cluster of three that serves those who hold this key.
fn sealed(name: &str) -> (Cluster, PathBuf) {
    let mut cluster = Cluster::stopped(loopback(), 3);
    let file = new_key(cluster.dir(), name, &[]);
    for id in cluster.ids() {
        cluster.set_flags(id, flags(&file, "require"));
    }
    cluster.set_client(client(SealMode::Require, &file));
    cluster.start_all(Start::Bootstrap);
    cluster.leader();
    (cluster, file)
}

/// [W-82]: who holds a client's key reads and writes, and has no say in who is in the cluster.
#[test]
fn a_client_s_key_does_not_change_the_cluster_and_a_cluster_s_key_does() {
    let mut cluster = Cluster::with_spares(loopback(), 3, 4);
    let whole = new_key(cluster.dir(), "cluster.key", &[]);
    let app = new_key(cluster.dir(), "app.key", &["--client"]);
    let both = joined(cluster.dir(), "both.key", &[&whole, &app]);
    (1..=4).for_each(|id| cluster.set_flags(id, flags(&both, "require")));
    cluster.set_client(client(SealMode::Require, &whole));
    cluster.start_all(Start::Bootstrap);
    cluster.leader();
    // Node 4 is not there yet, and whoever asks it for a snapshot waits long.
    let founders = cluster::names(&cluster.addresses()[..3]);
    let (names, app, whole) = (founders, app.to_str().unwrap(), whole.to_str().unwrap());
    let added = format!("4={}", cluster.address(4));
    for command in [
        &["member", "remove", "3"][..],
        &["member", "add", &added],
        &["leader", "transfer"],
        &["snapshot", "take"],
    ] {
        let (code, error) = refused(&[&["--cluster", &names, "--key", app], command].concat());
        let words = error["message"].as_str().unwrap();
        assert!(code == 1 && words.contains("it takes a cluster key"), "{command:?}: {code}, {words}");
    }
    let as_app = |command: &[&str]| run(&[&["--cluster", &names, "--key", app], command].concat());
    assert!(as_app(&["kv", "put", "a", "b"]).status.success());
    let list = as_app(&["member", "list"]);
    assert!(list.status.success(), "looking is allowed: {list:?}");
    cluster.start(4, Start::Join);
    eventually("the node has joined", || cluster.log(4).contains("no member yet").then_some(()));
    for command in [&["member", "add", &added][..], &["member", "promote", "4"], &["leader", "transfer", "4"]]
    {
        let output = run(&[&["--cluster", &names, "--key", whole], command].concat());
        assert!(output.status.success(), "{command:?}: {output:?}");
    }
}

/// Each node in turn is stopped, started with these flags, and waited for.
fn roll(cluster: &mut Cluster, load: &Load, flags: &[String]) {
    for id in cluster.ids() {
        cluster.stop(id);
        cluster.set_flags(id, flags.to_vec());
        cluster.start(id, Start::AsItIs);
        load.wait_for(20);
        cluster.wait_until_caught_up(id);
    }
}

#[test]
fn a_sealed_cluster_serves_those_who_hold_a_key_and_tells_the_others() {
    let (cluster, file) = sealed("cluster.key");
    let names = cluster.names();
    let other = new_key(cluster.dir(), "other.key", &[]);
    let kv = |key: &Path, rest: &[&str]| {
        let front = ["--cluster", &names, "--key", key.to_str().unwrap(), "kv"];
        let output = run(&[&front, rest].concat());
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(kv(&file, &["put", "k", "v"]).0, 0);
    assert_eq!(kv(&file, &["get", "k"]), (0, "v\n".to_owned()));
    let refused = |more: &[&str]| {
        let (code, error) =
            refused(&[&["--cluster", &names, "--timeout", "1s"], more, &["kv", "get", "k"]].concat());
        assert_eq!(code, 3, "{error}");
        error["message"].as_str().unwrap().to_owned()
    };
    let plain = refused(&[]);
    assert!(plain.contains("takes sealed datagrams only"), "{plain}");
    let wrong = refused(&["--key", other.to_str().unwrap()]);
    assert!(wrong.contains("does not know this client's key"), "{wrong}");
    let secret = std::fs::read_to_string(&file).unwrap();
    let hex = secret.split_whitespace().nth(1).unwrap();
    for id in cluster.ids() {
        assert!(!cluster.log(id).contains(hex), "the key stands in the log of node {id}");
        let drops = cluster.status(id).unwrap().drops;
        assert!(
            drops.iter().any(|drop| drop.reason == "crc_or_seal" && drop.count > 0),
            "node {id}: {drops:?}"
        );
    }
}

// Issue 7: plain to sealed by rolling restart, and back, under load: no request is lost or done twice.
#[test]
fn a_cluster_is_sealed_by_rolling_restart_under_load() {
    let mut cluster = Cluster::founded();
    let file = new_key(cluster.dir(), "cluster.key", &[]);
    let both = client(SealMode::Accept, &file);
    cluster.set_client(both.clone());
    let load = Load::start_with(cluster.addresses(), 4, &both);
    load.wait_for(20);
    roll(&mut cluster, &load, &flags(&file, "accept"));
    roll(&mut cluster, &load, &flags(&file, "require"));
    let plain = Cluster::plain_status(cluster.address(1));
    assert!(plain.is_none(), "a plain client was answered: {plain:?}");
    let expected = load.stop();
    cluster.assert_holds(&expected);
}

// Issue 7: key to key, likewise.
#[test]
fn a_key_is_rotated_by_rolling_restart_under_load() {
    let (mut cluster, old) = sealed("old.key");
    let new = new_key(cluster.dir(), "new.key", &[]);
    let old_new = joined(cluster.dir(), "old-new.key", &[&old, &new]);
    let new_old = joined(cluster.dir(), "new-old.key", &[&new, &old]);
    let load = Load::start_with(cluster.addresses(), 2, &client(SealMode::Require, &old));
    load.wait_for(20);
    roll(&mut cluster, &load, &flags(&old_new, "require"));
    roll(&mut cluster, &load, &flags(&new_old, "require"));
    cluster.set_client(client(SealMode::Require, &new));
    let expected = load.stop();
    cluster.assert_holds(&expected);
    let load = Load::start_beyond(cluster.addresses(), 2, &client(SealMode::Require, &new), 2);
    load.wait_for(20);
    roll(&mut cluster, &load, &flags(&new, "require"));
    let mut all = expected;
    all.extend(load.stop());
    cluster.assert_holds(&all);
    let names = cluster.names();
    let (code, _) =
        refused(&["--cluster", &names, "--timeout", "1s", "--key", old.to_str().unwrap(), "kv", "get", "k"]);
    assert_eq!(code, 3, "the old key opens nothing any more");
}

#[test]
fn keys_are_refused_by_name_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let key = new_key(dir.path(), "key", &[]);
    let text = std::fs::read_to_string(&key).unwrap();
    let path = key.to_str().unwrap();
    let (code, error) = refused(&["key", "new", path]);
    assert!(code == 1 && error["message"].as_str().unwrap().contains("not overwritten"), "{error}");
    assert_eq!(std::fs::read_to_string(&key).unwrap(), text);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let data = dir.path().join("data");
    let node = |more: &[&str]| {
        let front =
            ["node", "--id", "1", "--listen", "127.0.0.1:1", "--voters", "1=127.0.0.1:1", "--bootstrap"];
        let data = ["--data", data.to_str().unwrap()];
        refused(&[&front[..], &data, more].concat())
    };
    let cases = [
        (refused(&["kv", "--key", path, "get", "a"]), 1, "mode 0644"),
        (node(&["--key", path]), 1, "mode 0644"),
        (refused(&["cluster", "up", "--temp", "--key", path]), 1, "mode 0644"),
        (node(&["--seal", "require"]), 2, "need a key"),
        (refused(&["kv", "--key", "/nowhere/key", "get", "a"]), 1, "/nowhere/key"),
    ];
    let hex = text.split_whitespace().nth(1).unwrap();
    for ((code, error), expected_code, words) in cases {
        let said = error.to_string();
        assert!(code == expected_code && said.contains(words), "{code}: {said}");
        assert!(!said.contains(&hex[..8]), "{said}");
    }
    let only_client = new_key(dir.path(), "client", &["--client"]);
    let (code, error) = node(&["--key", only_client.to_str().unwrap()]);
    assert!(code == 2 && error.to_string().contains("key of the cluster"), "{code}: {error}");
    assert!(!data.exists(), "a refused node made its folder");
}

/// Issue 7: whoever listens beyond loopback and takes plain datagrams is told the risk at each start.
#[test]
fn a_node_that_others_can_reach_and_fool_says_so_at_every_start() {
    let mut cluster = Cluster::stopped(loopback(), 1);
    let file = new_key(cluster.dir(), "cluster.key", &[]);
    let told = |cluster: &Cluster| {
        let log = cluster.log(1);
        let count = |words| log.matches(words).count();
        (count("without a key: whoever reaches"), count("accepting plain datagrams: whoever reaches"))
    };
    let everywhere = format!("0.0.0.0:{}", cluster.address(1).port());
    let here = cluster.address(1).to_string();
    let open = ["--listen", &everywhere, "--advertise", &here].map(str::to_owned);
    let cases = [
        (Vec::new(), (1, 0)),
        (Vec::new(), (2, 0)),
        (flags(&file, "accept"), (2, 1)),
        (flags(&file, "accept"), (2, 2)),
        (flags(&file, "require"), (2, 2)),
    ];
    for (place, (more, expected)) in cases.into_iter().enumerate() {
        let mode = if more.is_empty() { ClientConfig::default() } else { client(SealMode::Require, &file) };
        cluster.set_client(mode);
        cluster.set_flags(1, [&more[..], &open].concat());
        cluster.start(1, if place == 0 { Start::Bootstrap } else { Start::AsItIs });
        cluster.leader();
        cluster.stop(1);
        assert_eq!(told(&cluster), expected, "start {place}");
    }
}
