//! Commands that need no node: `wire decode`, `wire vectors` and `inspect`, seen from outside the process.

#[path = "offline/packaging.rs"]
mod packaging;
mod support;

use std::path::Path;

use raftgram::entry::{Entry, Payload};
use raftgram::founding::FoundingRecord;
use raftgram::membership::{Member, Membership};
use raftgram::run::disk::FolderDisk;
use raftgram::store::{Batch, FormatOptions, OpenOptions, Store};
use raftgram::types::{ClusterId, HardState, Incarnation, Index, NodeId, PacketNumber, StoreId, Term};
use raftgram::wire::{Flags, Header, Party, begin, finish};
use serde_json::Value;
use support::{command, json, raftgram};

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

fn datagram(cluster: ClusterId) -> Vec<u8> {
    let header = Header {
        flags: Flags(0),
        cluster_tag: cluster.tag(),
        source: Party::Node(NodeId::MIN),
        destination: Party::Any,
        source_incarnation: Incarnation(7),
        destination_incarnation: Incarnation(0),
        packet: PacketNumber(5),
    };
    let mut out = Vec::new();
    begin(&mut out, &header);
    finish(&mut out, cluster);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_datagram_is_taken_apart_and_judged() {
    let whole = hex(&datagram(CLUSTER));
    let cluster = CLUSTER.to_string();
    let (code, document) = json(&raftgram(&["--json", "wire", "decode", &whole, "--cluster-id", &cluster]));
    assert_eq!((code, &document["verdict"], &document["drop"]), (0, &Value::from("accept"), &Value::Null));
    assert_eq!(document["fields"]["packet"], "5");
    assert_eq!(document["fields"]["source"], "n1");

    let (_, document) = json(&raftgram(&["--json", "wire", "decode", &whole]));
    assert_eq!(document["verdict"], "unverified");

    let mut flipped = datagram(CLUSTER);
    flipped[31] ^= 1;
    let (code, document) =
        json(&raftgram(&["--json", "wire", "decode", &hex(&flipped), "--cluster-id", &cluster]));
    assert_eq!(
        (code, &document["verdict"], &document["drop"]),
        (0, &Value::from("drop"), &Value::from("crc_or_seal"))
    );

    let (_, document) = json(&raftgram(&["--json", "wire", "decode", "a752"]));
    assert_eq!(document["drop"], "short");
}

#[test]
fn a_file_holds_lines_of_digits_or_the_bytes_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let digits = folder.path().join("digits");
    let one = hex(&datagram(ClusterId::ZERO));
    std::fs::write(&digits, format!("# two of them\n{one}\n\n{one}\n")).unwrap();
    let (_, document) = json(&raftgram(&["--json", "wire", "decode", digits.to_str().unwrap()]));
    let verdicts: Vec<&Value> =
        document["datagrams"].as_array().unwrap().iter().map(|d| &d["verdict"]).collect();
    assert_eq!(verdicts, ["accept", "accept"]);

    let bytes = folder.path().join("bytes");
    std::fs::write(&bytes, datagram(ClusterId::ZERO)).unwrap();
    let (_, document) = json(&raftgram(&["--json", "wire", "decode", bytes.to_str().unwrap()]));
    assert_eq!(document["verdict"], "accept");
}

#[test]
fn what_is_neither_digits_nor_a_file_is_a_usage_error() {
    let (code, document) = json(&raftgram(&["--json", "wire", "decode", "zz"]));
    assert_eq!(
        (code, &document["error"]["message"]),
        (2, &Value::from("`zz` is neither hexadecimal nor a file"))
    );
    let (code, _) = json(&raftgram(&["--json", "wire", "decode", "00", "--cluster-id", "12"]));
    assert_eq!(code, 2);
}

#[test]
fn a_cut_capture_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cut.pcap");
    std::fs::write(&file, [0xd4, 0xc3, 0xb2, 0xa1, 2, 0]).unwrap();
    let (code, document) = json(&raftgram(&["--json", "wire", "decode", file.to_str().unwrap()]));
    assert_eq!((code, &document["error"]["code"]), (6, &Value::from("corrupt")));
}

#[test]
fn vectors_are_lines_and_one_document_on_request() {
    let plain = raftgram(&["wire", "vectors"]);
    let lines: Vec<Value> = String::from_utf8(plain.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (code, document) = json(&raftgram(&["--json", "wire", "vectors"]));
    assert_eq!((code, document["vectors"].as_array().unwrap()), (0, &lines));
}

#[test]
fn a_decoder_that_differs_exits_7_and_one_that_agrees_0() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers");
    let (_, document) = json(&raftgram(&["--json", "wire", "vectors"]));
    let vectors = document["vectors"].as_array().unwrap();
    let mut lines: Vec<String> =
        vectors.iter().map(|vector| vector["expect"].as_str().unwrap().to_owned()).collect();
    let command = format!("cat {}", answers.display());
    let check = |lines: &[String]| {
        std::fs::write(&answers, lines.join("\n") + "\n").unwrap();
        json(&raftgram(&["--json", "wire", "vectors", "--check", &command]))
    };
    let (code, document) = check(&lines);
    assert_eq!((code, document["vectors"].as_u64()), (0, Some(lines.len() as u64)));
    lines[3] = "nonsense".to_owned();
    let (code, document) = check(&lines);
    assert_eq!((code, &document["error"]["code"]), (7, &Value::from("violation")));
    let message = document["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("1 differences") && message.contains("nonsense"), "{message}");
    lines.pop();
    assert_eq!(check(&lines).0, 1, "an answer is missing");
}

/// A data folder with three entries, shut down cleanly.
fn data_folder(path: &Path) {
    let store_id = StoreId([0x51; 16]);
    let mut disk = FolderDisk::open(path).unwrap();
    let options =
        FormatOptions { store: store_id, first_incarnation: Incarnation(40), segment_bytes: 64 * 1024 };
    Store::format(&mut disk, options).unwrap();
    let options = OpenOptions { segment_bytes: 64 * 1024, ..OpenOptions::default() };
    let (mut store, _) = Store::open(disk, options).unwrap();
    let member = Member { store: store_id, address: "127.0.0.1:7101".into() };
    let membership = Membership::of_voters([(NodeId::MIN, member)].into());
    store.record_founding(&FoundingRecord { cluster: CLUSTER, membership }).unwrap();
    let mut entries: Vec<Entry> = Vec::new();
    for (index, payload) in
        [Payload::Noop, Payload::Command(b"abc"[..].into()), Payload::Noop].into_iter().enumerate()
    {
        let prev_chain = entries.last().map_or(0, |last| last.chain);
        entries.push(Entry::new(CLUSTER, Index(index as u64 + 1), Term(2), payload, prev_chain));
    }
    let hard_state = Some(HardState { term: Term(2), vote: None });
    store.persist(&Batch { hard_state, truncate_from: None, entries }).unwrap();
    store.shutdown().unwrap();
}

#[test]
fn a_folder_is_shown_without_being_changed() {
    let folder = tempfile::tempdir().unwrap();
    data_folder(folder.path());
    let content = |folder: &Path| {
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| (std::fs::read(&file).unwrap(), file)).collect::<Vec<_>>()
    };
    let before = content(folder.path());
    let dir = folder.path().to_str().unwrap();

    let (code, document) = json(&raftgram(&["--json", "inspect", dir]));
    assert_eq!(
        (code, &document["log"]["last"], &document["log"]["intact"]),
        (0, &Value::from(3), &Value::from(true))
    );
    assert_eq!(document["meta"]["cluster"], CLUSTER.to_string());
    assert_eq!(
        (&document["meta"]["term"], &document["meta"]["incarnation"]),
        (&Value::from(2), &Value::from(41))
    );

    let (_, document) = json(&raftgram(&["--json", "inspect", dir, "log"]));
    let kinds: Vec<&Value> =
        document["entries"].as_array().unwrap().iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["noop", "command", "noop"]);

    let (code, document) = json(&raftgram(&["--json", "inspect", dir, "--verify"]));
    assert_eq!((code, &document["meta"]), (0, &Value::Null));
    let plain = raftgram(&["inspect", dir, "meta"]);
    assert!(String::from_utf8_lossy(&plain.stdout).contains("stopped\tcleanly"), "{plain:?}");
    assert_eq!(content(folder.path()), before);
}

#[test]
fn damage_exits_6_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    data_folder(folder.path());
    let is_log = |name: &str| name.starts_with("log-");
    let names = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap());
    let mut logs: Vec<String> = names.filter(|name| is_log(name)).collect();
    logs.sort();
    // A bit of the first batch's entries, behind its header.
    let file = folder.path().join(&logs[0]);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[140] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    for part in [&["--verify"][..], &["log"], &[]] {
        let (code, document) =
            json(&raftgram(&[&["--json", "inspect", folder.path().to_str().unwrap()], part].concat()));
        assert_eq!((code, &document["error"]["code"]), (6, &Value::from("corrupt")), "{part:?}");
        assert_eq!(document["error"]["address"], file.to_str().unwrap());
        let message = document["error"]["message"].as_str().unwrap();
        assert!(message.contains("at byte 0"), "{message}");
    }
}

#[test]
fn each_part_is_verified_by_itself_and_a_bad_copy_is_told_with_its_first_bad_byte() {
    let folder = tempfile::tempdir().unwrap();
    data_folder(folder.path());
    let dir = folder.path().to_str().unwrap();
    let verify =
        |part: &[&str]| json(&raftgram(&[&["--json", "inspect", dir], part, &["--verify"]].concat()));
    let parts: [&[&str]; 4] = [&[], &["meta"], &["log"], &["snapshot"]];
    for part in parts {
        assert_eq!(verify(part).0, 0, "{part:?}");
    }
    let (_, log) = verify(&["log"]);
    assert_eq!((&log["log"]["last"], &log["log"]["intact"]), (&Value::from(3), &Value::from(true)));
    let flip = |name: &str, at: usize| {
        let file = folder.path().join(name);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    };
    for (name, at) in [("hard-state-a", 57), ("hard-state-b", 3)] {
        flip(name, at);
        let place = folder.path().join(name);
        for part in [&["meta"][..], &[]] {
            let (code, document) = verify(part);
            let error = &document["error"];
            assert_eq!((code, &error["address"]), (6, &Value::from(place.to_str().unwrap())), "{part:?}");
            assert!(error["message"].as_str().unwrap().contains(&format!("at byte {at}")), "{error}");
        }
        // A start would mend it, so a plain look goes on and shows it.
        let (code, document) = json(&raftgram(&["--json", "inspect", dir]));
        assert_eq!(code, 0, "{document}");
        assert_eq!(verify(&["log"]).0, 0);
        flip(name, at);
    }
}

#[test]
fn a_folder_that_was_never_a_nodes_is_a_plain_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (code, document) = json(&raftgram(&["--json", "inspect", folder.path().to_str().unwrap()]));
    assert_eq!((code, &document["error"]["code"]), (1, &Value::from("failed")));
    let missing = folder.path().join("none");
    let (code, _) = json(&command(&["--json", "inspect", missing.to_str().unwrap()]).output().unwrap());
    assert_eq!(code, 1);
    assert!(!missing.exists(), "looking made a folder");
}
