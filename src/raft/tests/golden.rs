//! Scripts: commands in, what the cluster said and how it stood out.
//!
//! A script under `tests/raft/` is a list of blocks, each a line `> command` and the lines it printed. The runner
//! replays the commands and compares; with `UPDATE_GOLDEN` set it writes what it saw. Lines beginning with `#` are
//! comments. Heartbeats and connects are left out of what is printed, and copies of a message. A node is `n1`,
//! `leader`, or `first` and `second` of the others.
//!
//! | command | does |
//! |---|---|
//! | `cluster N SEED` | N voters, just booted |
//! | `run MS` | lets time pass and prints what happened |
//! | `lead` | lets time pass until a leader has committed, and prints what happened |
//! | `settle` | the same and 40 ms more, and prints nothing |
//! | `propose NODE TEXT`, `read NODE ID`, `transfer NODE NODE` | commands to a node |
//! | `join NODE` | a blank node starts, which is no member |
//! | `add NODE NODE`, `promote NODE NODE`, `remove NODE NODE` | asks the first to do so with the second |
//! | `cut NODE NODE`, `isolate NODE`, `heal` | links |
//! | `crash NODE`, `start NODE`, `hang NODE`, `unhang NODE`, `pause NODE MS` | nodes and disks |
//! | `state`, `log` | prints every node, every log |

use core::fmt::Write as _;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::cluster::{Cluster, ms};
use super::{command, id};
use crate::membership::{Member, Membership, MembershipChange};
use crate::raft::ReadId;
use crate::types::{HardState, Index, NodeId};

#[test]
fn scripts_print_what_they_printed_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft");
    let mut scripts: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 8, "{scripts:?}");
    for script in scripts {
        let expected = std::fs::read_to_string(&script).unwrap();
        let printed = replay(&expected);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&script, printed).unwrap();
        } else {
            let name = script.file_name().unwrap().to_string_lossy();
            for (number, (was, is)) in (1..).zip(expected.lines().zip(printed.lines())) {
                assert_eq!(is, was, "{name}:{number}");
            }
            assert_eq!(printed, expected, "{name}");
        }
    }
}

fn replay(script: &str) -> String {
    let mut printed = String::new();
    let mut cluster = None;
    let mut seen = BTreeSet::new();
    for line in script.lines().filter(|line| line.starts_with(['#', '>'])) {
        let Some(words) = line.strip_prefix("> ") else {
            writeln!(printed, "{line}").unwrap();
            continue;
        };
        if cluster.is_some() {
            printed.push('\n');
        }
        writeln!(printed, "{line}").unwrap();
        let words: Vec<&str> = words.split(' ').collect();
        if let ["cluster", count, seed] = words[..] {
            let mut new = Cluster::new(seed.parse().unwrap(), count.parse().unwrap());
            new.trace = Some(String::new());
            cluster = Some(new);
        } else {
            execute(
                cluster.as_mut().expect("a script begins with `cluster`"),
                &words,
                &mut seen,
                &mut printed,
            );
        }
    }
    printed
}

fn execute(cluster: &mut Cluster, words: &[&str], seen: &mut BTreeSet<String>, out: &mut String) {
    let leader = cluster.leader();
    let others: Vec<NodeId> = cluster.nodes.keys().copied().filter(|node| Some(*node) != leader).collect();
    let node = |word: &str| -> NodeId {
        match word {
            "leader" => leader.expect("there is a leader"),
            "first" => others[0],
            "second" => others[1],
            _ => id(word.strip_prefix('n').unwrap().parse().unwrap()),
        }
    };
    match words {
        ["run", span] => cluster.run_for(ms(span.parse().unwrap())),
        ["lead"] => lead(cluster),
        ["settle"] => {
            lead(cluster);
            cluster.run_for(ms(40));
            cluster.trace = Some(String::new());
        }
        ["propose", to, text] => note_refusal(cluster.propose(node(to), command(text)), out),
        ["read", from, number] => {
            note_refusal(cluster.read(node(from), ReadId(number.parse().unwrap())), out);
        }
        ["transfer", from, to] => note_refusal(cluster.transfer(node(from), Some(node(to))), out),
        ["join", a] => {
            cluster.add(node(a), Membership::default(), HardState::default(), Vec::new());
        }
        ["add" | "promote" | "remove", to, which] => {
            let which = node(which);
            let change = match words[0] {
                "promote" => MembershipChange::Promote { node: which },
                "remove" => MembershipChange::Remove { node: which },
                _ => {
                    let store = cluster.identity(which).store;
                    let member = Member { store, address: format!("{which}:1") };
                    MembershipChange::Add { node: which, member }
                }
            };
            // What came of it is in the trace.
            let _ = cluster.change(node(to), &change);
        }
        ["cut", a, b] => cluster.cut_link(node(a).as_u16(), node(b).as_u16()),
        ["isolate", a] => cluster.isolate(node(a)),
        ["heal"] => cluster.cut.clear(),
        ["crash", a] => cluster.crash(node(a)),
        ["start", a] => cluster.start(node(a)),
        ["hang", a] => cluster.disk(node(a).as_u16()).hangs = true,
        ["unhang", a] => cluster.disk(node(a).as_u16()).hangs = false,
        ["pause", a, span] => {
            cluster.nodes.get_mut(&node(a)).unwrap().paused_until = cluster.now + ms(span.parse().unwrap());
        }
        ["state"] => print_state(cluster, out),
        ["log"] => print_logs(cluster, out),
        other => panic!("unknown command {other:?}"),
    }
    let trace = core::mem::take(cluster.trace.as_mut().unwrap());
    let is_hidden =
        |line: &str| [" heartbeat", " connected ", " beat "].iter().any(|word| line.contains(word));
    for line in trace.lines().filter(|line| !is_hidden(line)) {
        let (_, what) = line.split_once(' ').expect("a line begins with its time");
        if !what.contains('>') || seen.insert(what.to_owned()) {
            writeln!(out, "{line}").unwrap();
        }
    }
}

fn lead(cluster: &mut Cluster) {
    let leads = |c: &Cluster| c.leader().is_some_and(|l| c.raft(l.as_u16()).is_settled_leader());
    assert!(cluster.run_until(ms(10_000), leads), "no leader");
}

fn note_refusal(is_taken: bool, out: &mut String) {
    if !is_taken {
        out.push_str("refused\n");
    }
}

fn print_state(cluster: &Cluster, out: &mut String) {
    for (id, node) in &cluster.nodes {
        match &node.raft {
            None => writeln!(out, "{id} down").unwrap(),
            Some(raft) => {
                writeln!(out, "{raft}").unwrap();
                for peer in raft.peers() {
                    let (to, matched, next) = (peer.identity.node, peer.match_index, peer.next_index);
                    writeln!(out, "  {to} {:?} match={matched} next={next}", peer.kind).unwrap();
                }
            }
        }
    }
    writeln!(
        out,
        "reads answered: {}, writes acknowledged: {}",
        cluster.reads_ready, cluster.writes_committed
    )
    .unwrap();
}

fn print_logs(cluster: &Cluster, out: &mut String) {
    for (id, node) in &cluster.nodes {
        let Some(raft) = &node.raft else { continue };
        let terms: Vec<String> = raft.entries_from(Index(1)).map(|entry| entry.term.to_string()).collect();
        let durable: Vec<String> = node.disk.entries.iter().map(|entry| entry.term.to_string()).collect();
        writeln!(out, "{id} memory [{}] disk [{}]", terms.join(" "), durable.join(" ")).unwrap();
    }
}
