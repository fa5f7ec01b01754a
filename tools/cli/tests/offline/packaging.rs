//! What is in packaging/ says nothing that the program does not know.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{json, raftgram};

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(packaging(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_service_s_settings_are_settings() {
    let file = packaging("systemd/raftgram.toml");
    let arguments = ["--json", "--config", file.to_str().unwrap(), "config", "show", "node"];
    let (code, shown) = json(&raftgram(&arguments));
    assert_eq!(code, 0, "{shown}");
    let of_file: Vec<&str> = shown["settings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|setting| setting["source"] == "file")
        .map(|setting| setting["key"].as_str().unwrap())
        .collect();
    assert_eq!(
        of_file,
        ["node.id", "node.listen", "node.voters", "node.data", "node.bootstrap", "node.http"]
    );
}

#[test]
fn the_containers_environment_is_made_of_settings() {
    let (_, shown) = json(&raftgram(&["--json", "config", "show"]));
    let known: BTreeSet<&str> = shown["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|setting| setting["env"].as_str().unwrap())
        .collect();
    let text = read("docker/compose.yml");
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("RAFTGRAM_")).collect();
    assert!(named.len() > 6, "{named:?}");
    assert_eq!(named.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "no such settings");
}

#[test]
fn the_unit_is_one_and_keeps_the_node_to_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("raftgram.service");
    // The program is where the package puts it only once it is installed, and its manual is as well.
    let text = read("systemd/raftgram.service").replace("/usr/bin/raftgram", env!("CARGO_BIN_EXE_raftgram"));
    fs::write(&unit, text.replace("man:raftgram-node(1) ", "")).unwrap();
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&unit).output();
    let Ok(verified) = analyze(&["verify"]) else {
        let _ = writeln!(std::io::stderr(), "skipped: the unit by systemd-analyze: it is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("raftgram.service"), "{said}");
    // The exposure in tenths, of 100; what can only be told of running units is left out.
    let judged = analyze(&["security", "--offline=true", "--threshold=20"]).unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

/// The package's files belong to root; the node runs as a user that is in no group of root's.
#[test]
fn the_service_s_user_can_read_its_settings_once_the_package_is_installed() {
    let unit = read("systemd/raftgram.service");
    assert!(unit.contains("User=raftgram\n") && unit.contains("--config /etc/raftgram/raftgram.toml node\n"));
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let settings = assets.iter().find(|asset| asset[1].as_str() == Some("etc/raftgram/")).unwrap();
    assert_eq!(settings[2].as_str(), Some("644"));
}

#[test]
fn each_container_has_an_address_of_its_own_that_the_others_were_told() {
    let text = read("docker/compose.yml");
    let behind = |mark: &str| -> Vec<String> {
        let ends = |c: char| !(c.is_ascii_digit() || c == '.');
        let address = |rest: &str| rest.split(ends).next().unwrap().to_owned();
        text.split(mark).skip(1).map(address).collect()
    };
    let voters = text.lines().find_map(|line| line.trim().strip_prefix("RAFTGRAM_NODE_VOTERS: ")).unwrap();
    let voters: Vec<String> =
        voters.split(',').map(|voter| voter.split(['=', ':']).nth(1).unwrap().to_owned()).collect();
    assert_eq!(voters.len(), 3);
    assert_eq!(behind("ipv4_address: "), voters);
    assert_eq!(behind("RAFTGRAM_NODE_ADVERTISE: \""), voters);
    // Who reaches this port sees the cluster: on the host, nobody from elsewhere.
    assert_eq!(text.matches("ports: [\"127.0.0.1:").count(), text.matches("ports: ").count());
}

#[test]
fn what_the_debian_package_takes_is_there_or_is_made_by_its_script() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let deb = manifest["package"]["metadata"]["deb"].as_table().unwrap();
    let script = read("deb/build");
    let assets = deb["assets"].as_array().unwrap();
    assert!(assets.len() > 5);
    for asset in assets {
        let source = asset[0].as_str().unwrap();
        let is_made = source
            .strip_prefix("../../target/deb/")
            .map(|made| script.contains(made.split('/').next().unwrap()));
        let fixed = source.split('*').next().unwrap();
        let is_there = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixed).exists();
        assert!(is_made.unwrap_or(is_there || source == "target/release/raftgram"), "{source} is nowhere");
    }
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(deb["maintainer-scripts"].as_str().unwrap()).is_dir());
}
