//! Recordings of real nodes: every line stands, and the files of a cluster agree with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use raftgram::raft::RoleKind;
use raftgram::trace::{Change, Checker, DatagramEvent, Event, NoteKind, Outcome, Parties, What};
use raftgram::types::{Incarnation, NodeId, Term};
use raftgram::wire::Party;

use crate::cluster::{Cluster, Start};
use crate::load::Load;
use crate::process::run;
use crate::support::json;

/// One boot's file, every line of it checked.
struct File {
    node: NodeId,
    incarnation: Incarnation,
    events: Vec<Event>,
}

/// The recordings in a folder, in the order of nodes and boots.
#[track_caller]
fn read(dir: &Path) -> Vec<File> {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let file = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n'), "{} ends within a line", path.display());
        let mut checker = Checker::default();
        let event = |(at, line): (usize, &str)| {
            let place = format!("{}:{}", path.display(), at + 1);
            checker.line(line).unwrap_or_else(|why| panic!("{place}: {why}: {line}"))
        };
        let events: Vec<Event> = text.lines().enumerate().map(event).collect();
        assert_eq!(checker.counts().left_out, 0, "{}", path.display());
        let What::Boot(boot) = &events[1].what else { panic!("{} has no boot", path.display()) };
        File { node: events[1].node.unwrap(), incarnation: boot.incarnation, events }
    };
    names.iter().map(file).collect()
}

impl File {
    fn datagrams(&self) -> impl Iterator<Item = &DatagramEvent> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Datagram(datagram) => Some(&**datagram),
            _ => None,
        })
    }

    fn is_finished(&self) -> bool {
        matches!(self.events.last().unwrap().what, What::Note(NoteKind::Stop, _))
    }
}

/// What names a datagram among all of a cluster.
fn key(header: Parties) -> (u16, u32, u16, u64) {
    (header.from.as_u16(), header.from_incarnation.0, header.to.as_u16(), header.packet.0)
}

/// Every datagram of a node that another heard was sent by it, once; except for boots that were killed, whose last
/// lines may not have been written.
#[track_caller]
fn assert_heard_was_sent(files: &[File], killed: &[(u16, Incarnation)]) -> usize {
    let mut sent = BTreeSet::new();
    for file in files {
        for datagram in file.datagrams().filter(|datagram| datagram.outcome == Outcome::Sent) {
            let header = datagram.header.unwrap();
            if header.from != Party::Any {
                assert_eq!(header.from, Party::Node(file.node));
                assert_eq!(header.from_incarnation, file.incarnation);
            }
        }
        let all = file.datagrams().filter(|datagram| datagram.outcome == Outcome::Sent);
        sent.extend(all.map(|datagram| key(datagram.header.unwrap())));
    }
    let mut heard_count = 0;
    for file in files {
        for datagram in file.datagrams().filter(|datagram| datagram.outcome != Outcome::Sent) {
            let Some(header) = datagram.header.filter(|header| header.from != Party::Any) else { continue };
            if killed.contains(&(header.from.as_u16(), header.from_incarnation)) {
                continue;
            }
            assert!(sent.contains(&key(header)), "node {} heard {datagram:?}, which nobody sent", file.node);
            heard_count += 1;
        }
    }
    heard_count
}

/// No term has two leaders, and all that is committed is of one history as far as states tell.
#[track_caller]
fn assert_one_leader_a_term(files: &[File]) -> usize {
    let mut leaders: BTreeMap<Term, NodeId> = BTreeMap::new();
    for event in files.iter().flat_map(|file| &file.events) {
        let What::Change(Change::Role, state) = &event.what else { continue };
        if state.role == RoleKind::Leader {
            let node = event.node.unwrap();
            assert_eq!(*leaders.entry(state.term).or_insert(node), node, "two leaders in {event}");
        }
    }
    leaders.len()
}

#[test]
fn recordings_of_a_cluster_agree_with_each_other() {
    let mut cluster = Cluster::stopped(crate::cluster::loopback(), 3);
    let dir = cluster.dir().join("recorded");
    for id in 1..=3 {
        cluster.add_flags(id, ["--record", dir.to_str().unwrap()]);
    }
    cluster.start_all(Start::Bootstrap);
    cluster.leader();
    let load = Load::start(cluster.addresses(), 2);
    load.wait_for(30);
    let (leader, term) = cluster.leader();
    let killed = cluster.status(leader).unwrap().incarnation;
    cluster.kill(leader);
    load.first_beyond(term);
    cluster.start(leader, Start::AsItIs);
    load.wait_for(30);
    cluster.wait_until_caught_up(leader);
    load.stop();
    let commit = cluster.statuses().values().map(|status| status.commit).min().unwrap();
    cluster.stop_all();

    let files = read(&dir);
    assert_eq!(files.len(), 7, "two boots each for the founding, and one after the kill");
    assert!(assert_heard_was_sent(&files, &[(leader, killed)]) > 100);
    assert!(assert_one_leader_a_term(&files) >= 2, "one was killed");
    let last: BTreeMap<NodeId, &File> = files.iter().map(|file| (file.node, file)).collect();
    for file in last.values() {
        assert!(file.is_finished(), "the last boot of {} was told to stop", file.node);
        let commits = file.events.iter().filter_map(|event| match &event.what {
            What::Change(_, state) => Some(state.commit),
            _ => None,
        });
        assert!(commits.max().unwrap() >= commit, "{} had caught up with {commit}", file.node);
    }

    let mut arguments = vec!["--json", "trace", "check"];
    let names: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    arguments.extend(names.iter().map(String::as_str));
    let (code, document) = json(&run(&arguments));
    assert_eq!(code, 0, "{document}");
    let lines: u64 =
        document["files"].as_array().unwrap().iter().map(|file| file["lines"].as_u64().unwrap()).sum();
    assert_eq!(lines, files.iter().map(|file| file.events.len() as u64).sum::<u64>());
}

#[test]
fn a_folder_that_cannot_be_recorded_in_refuses_the_start() {
    let cluster = Cluster::stopped(crate::cluster::loopback(), 1);
    let file = cluster.dir().join("file");
    std::fs::write(&file, "").unwrap();
    let mut command = cluster.command(1, Start::Bootstrap);
    let output = command.arg("--record").arg(&file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(file.to_str().unwrap()) && said.contains("nothing can be recorded"), "{said}");
    assert!(!cluster.data(1).exists(), "nothing was begun");
}
