//! A quorum is gone for good: a survivor's folder begins a new cluster, and the old one's nodes stay outside.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use raftgram::kv::Command;
use raftgram::wire::status::NodeRole;

use crate::cluster::{Cluster, Start, connect};
use crate::load::Load;
use crate::process::{PATIENCE, eventually, refused, run, run_command};
use crate::support::{command, json};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let items = fs::read_dir(folder).unwrap().map(Result::unwrap);
    items.map(|item| (item.file_name().into_string().unwrap(), fs::read(item.path()).unwrap())).collect()
}

/// Stopped after some load, the third a while before the others: what it lacks was acknowledged without it.
fn three_with_a_laggard() -> (Cluster, BTreeMap<String, String>) {
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), 4);
    load.wait_for(100);
    cluster.stop(3);
    load.wait_for(100);
    let acknowledged = load.stop();
    cluster.stop(1);
    cluster.stop(2);
    (cluster, acknowledged)
}

/// What two of three hold is all; what one holds may not be. Looking changes nothing.
fn look_at_all(cluster: &Cluster) {
    let [one, two, three] = [1, 2, 3].map(|id| cluster.data(id).to_owned());
    let before = [content(&one), content(&two), content(&three)];
    let all = cluster.voters();
    let survey = |folders: &[&Path]| {
        let named = folders.iter().flat_map(|folder| ["--data", text(folder)]);
        let flags = ["--json", "recover", "--dry-run", "--voters", &all];
        let arguments: Vec<&str> = flags.into_iter().chain(named).collect();
        let (code, shown) = json(&run(&arguments));
        assert_eq!(code, 0, "{shown}");
        shown
    };
    let alone = survey(&[&three]);
    assert_eq!((alone["is_complete"].as_bool(), alone["node"].as_u64()), (Some(false), Some(3)), "{alone}");
    let both = survey(&[&three, &two]);
    assert_eq!((both["is_complete"].as_bool(), both["node"].as_u64()), (Some(true), Some(2)), "{both}");
    assert!(both["last"].as_u64() > alone["last"].as_u64(), "{both}");
    assert_eq!([content(&one), content(&two), content(&three)].map(no_lock), before.map(no_lock));
}

/// Two nodes with empty folders join the survivor and become voters.
fn grow_again(cluster: &mut Cluster) {
    let survivor = cluster.address(1);
    cluster.stop(2);
    cluster.stop(3);
    // Who has asked the old cluster does not believe another one.
    cluster.set_client(raftgram::ClientConfig::default());
    for id in [2, 3] {
        fs::remove_dir_all(cluster.data(id)).unwrap();
        cluster.start(id, Start::Join);
        eventually("the node has joined", || cluster.log(id).contains("no member yet").then_some(()));
        let added = format!("{id}={}", cluster.address(id));
        for change in [["add", &added], ["promote", &id.to_string()]] {
            let arguments =
                [&["--json", "--timeout", "55s", "--cluster", &survivor.to_string(), "member"], &change[..]];
            let (code, shown) = json(&run(&arguments.concat()));
            assert_eq!(code, 0, "{change:?}: {shown}");
        }
    }
    cluster.kill(1);
    cluster.leader();
    cluster.start(1, Start::AsItIs);
}

#[test]
fn one_survivor_of_three_serves_again_and_the_old_nodes_stay_outside() {
    let (mut cluster, acknowledged) = three_with_a_laggard();
    let [one, three] = [1, 3].map(|id| cluster.data(id).to_owned());
    let voters = format!("1={}", cluster.address(1));
    look_at_all(&cluster);

    let arguments =
        ["--json", "recover", "--data", text(&one), "--data", text(&three), "--voters", &voters, "--yes"];
    let (code, shown) = json(&run(&arguments));
    assert_eq!((code, shown["recovered"].as_bool()), (0, Some(true)), "{shown}");
    assert_eq!(shown["is_complete"].as_bool(), Some(true), "{shown}");
    // It serves alone, at once, with every acknowledged write; the others are of another cluster for ever.
    cluster.start(1, Start::AsItIs);
    cluster.start(2, Start::AsItIs);
    cluster.start(3, Start::AsItIs);
    let survivor = [cluster.address(1)];
    let leads = |status: raftgram::wire::status::NodeStatus| {
        (status.role == NodeRole::Leader && status.commit == status.last).then_some(status)
    };
    let status = eventually("the survivor leads", || Cluster::plain_status(survivor[0]).and_then(leads));
    assert_eq!(Some(status.cluster.to_string().as_str()), shown["cluster"].as_str());
    assert_eq!(status.membership.map(|membership| membership.iter().count()), Some(1));
    let client = connect(&survivor);
    let store = crate::cluster::list(&client, raftgram::ReadLevel::Linearizable);
    assert_eq!(store, acknowledged);
    let put = Command::Put { key: b"after", value: b"the recovery" };
    client.propose(put.to_bytes(), PATIENCE).wait(PATIENCE * 2).unwrap().unwrap();
    let old = eventually("the old nodes lead each other", || {
        cluster.status(2).filter(|status| status.leader.is_some_and(|leader| leader.as_u16() != 1))
    });
    assert_ne!(old.cluster, status.cluster);
    // The recovered folder is one like any other: it restarts, and a second recovery finds all of it.
    cluster.stop(1);
    let (code, again) =
        json(&run(&["--json", "recover", "--data", text(&one), "--voters", &voters, "--yes"]));
    assert_eq!((code, again["is_complete"].as_bool()), (0, Some(true)), "{again}");
    assert_eq!(again["old_cluster"], shown["cluster"]);
    cluster.start(1, Start::AsItIs);
    eventually("the survivor leads again", || Cluster::plain_status(survivor[0]).and_then(leads));
    let mut expected = acknowledged;
    expected.insert("after".into(), "the recovery".into());
    assert_eq!(crate::cluster::list(&connect(&survivor), raftgram::ReadLevel::Linearizable), expected);
    grow_again(&mut cluster);
    cluster.assert_holds(&expected);
}

/// The lock's file is made by whoever looks first.
fn no_lock(mut content: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    content.remove("lock");
    content
}

#[test]
fn what_cannot_or_must_not_be_recovered_is_refused_and_nothing_is_changed() {
    let mut cluster = Cluster::founded();
    let put = Command::Put { key: b"kept", value: b"safe" };
    connect(cluster.addresses()).propose(put.to_bytes(), PATIENCE).wait(PATIENCE).unwrap().unwrap();
    let data = cluster.data(2).to_owned();
    let voters = cluster.voters();
    let recover = |folder: &Path, voters: &str, more: &[&str]| {
        refused(&[&["recover", "--data", text(folder), "--voters", voters], more].concat())
    };
    let says = |(code, error): (i32, serde_json::Value), expected: i32, part: &str| {
        assert_eq!(code, expected, "{error}");
        assert!(error.to_string().contains(part), "`{part}` is missing in {error}");
    };
    says(recover(&data, &voters, &["--yes"]), 1, "in use");
    cluster.stop(2);
    let before = content(&data);
    says(recover(&data, &voters, &[]), 2, "--yes");
    says(recover(&data, "1=7101", &["--yes"]), 2, "n2");
    says(recover(&data, "2=7101,2=7102", &["--yes"]), 2, "twice");
    let other = "00112233445566778899aabbccddeeff";
    says(recover(&data, &voters, &["--yes", "--cluster-id", other]), 1, other);
    let none = cluster.dir().join("none");
    says(recover(&none, &voters, &["--yes"]), 1, "no such folder");
    assert!(!none.exists(), "looking made a folder");
    fs::create_dir(&none).unwrap();
    says(recover(&none, &voters, &["--yes"]), 1, "no cluster");
    // Whoever does not say the word changes nothing.
    let mut asking = command(&["recover", "--data", text(&data), "--voters", &voters]);
    asking.stdin(Stdio::null());
    let unsaid = run_command(&mut asking);
    assert_eq!(unsaid.status.code(), Some(1), "{unsaid:?}");
    assert!(String::from_utf8_lossy(&unsaid.stderr).contains("nothing was changed"), "{unsaid:?}");
    assert!(content(&data) == before, "a refused recovery changed the folder");
    // Damage of the only survivor.
    let mut logs: Vec<_> = before.keys().filter(|name| name.starts_with("log-")).collect();
    logs.sort();
    let log = data.join(logs[0]);
    let mut bytes = fs::read(&log).unwrap();
    bytes[150] ^= 1;
    fs::File::create(&log).unwrap().write_all(&bytes).unwrap();
    says(recover(&data, &voters, &["--yes"]), 6, "another survivor");
}
