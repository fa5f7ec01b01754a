//! IPv6, and values as long as they may be.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};

use raftgram::ReadLevel;
use serde_json::Value;

use crate::cluster::{Cluster, Start, connect, read};
use crate::process::{refused, run};
use crate::support::raftgram;

const VALUE_BYTES_MAX: usize = 1 << 20;

#[test]
fn a_cluster_on_ipv6_serves() {
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let mut cluster = Cluster::stopped(IpAddr::V6(Ipv6Addr::LOCALHOST), 3);
    cluster.start_all(Start::Bootstrap);
    let (leader, _) = cluster.leader();
    let names = cluster.names();
    assert!(names.starts_with("[::1]:"), "{names}");
    let kv = |arguments: &[&str]| run(&[&["--cluster", &names, "kv"], arguments].concat());
    assert_eq!(kv(&["put", "k", "v"]).status.code(), Some(0));
    cluster.kill(leader);
    assert_eq!(kv(&["put", "k", "w"]).status.code(), Some(0));
    cluster.start(leader, Start::AsItIs);
    cluster.assert_holds(&[("k".to_owned(), "w".to_owned())].into());
}

#[test]
fn a_value_of_a_mebibyte_is_kept_and_a_longer_one_is_refused() {
    let mut cluster = Cluster::founded();
    let (names, dir) = (cluster.names(), tempfile::tempdir().unwrap());
    let file = dir.path().join("value");
    let from = file.to_str().unwrap();
    let value: String = (0..VALUE_BYTES_MAX).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    std::fs::write(&file, &value).unwrap();
    let put = ["--cluster", &names, "kv", "put", "long", "--from", from];
    assert_eq!(raftgram(&put).status.code(), Some(0));
    let got = raftgram(&["--cluster", &names, "kv", "get", "long", "--raw"]);
    assert!(got.stdout == value.as_bytes(), "{} bytes came back", got.stdout.len());

    std::fs::write(&file, value.clone() + "x").unwrap();
    let (code, error) = refused(&put);
    assert_eq!((code, &error["code"]), (1, &Value::from("too-large")), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("1048577 bytes is longer than 1048576"), "{message}");
    assert_eq!(refused(&["--cluster", &names, "kv", "put", &"k".repeat(4097), "v"]).1["code"], "too-large");

    cluster.stop_all();
    cluster.start_all(Start::AsItIs);
    // Through a quorum first: before the new leader commits, nobody knows how much is committed.
    let held = read(&connect(cluster.addresses()), "long", ReadLevel::Linearizable);
    assert!(held.as_ref() == Some(&value), "the cluster holds {:?} bytes", held.map(|held| held.len()));
    for id in cluster.ids() {
        cluster.wait_until_caught_up(id);
        let held = read(&connect(&[cluster.address(id)]), "long", ReadLevel::Local);
        assert!(held.as_ref() == Some(&value), "node {id} holds {:?} bytes", held.map(|held| held.len()));
    }
}
