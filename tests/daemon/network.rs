//! Networks that lose, double and reorder, and one that carries one way only.

use std::io::Write as _;
use std::time::{Duration, Instant};

use raftgram::fault::sigmas;
use raftgram::wire::status::NodeRole;

use crate::cluster::{Cluster, Start, loopback};
use crate::load::Load;
use crate::process::{eventually, setting};
use crate::relay::Relay;

const LOSS: f64 = 0.20;
const DUP: f64 = 0.05;
const REORDER: f64 = 0.05;

/// Paths with fewer datagrams say nothing about shares of a twentieth.
const COUNT_MIN: u64 = 1000;

/// What one node injected on one path, as it logged it when it stopped.
#[derive(Debug, Default)]
struct Injected {
    path: String,
    sent: u64,
    lost: u64,
    doubled: u64,
    held_back: u64,
}

impl Injected {
    /// All lines of a node's log that tell of injected faults.
    fn read(log: &str) -> Vec<Self> {
        log.lines().filter(|line| line.contains("faults injected")).map(Self::of_line).collect()
    }

    fn of_line(line: &str) -> Self {
        let field = |name: &str| {
            let (_, rest) = line.split_once(name).unwrap_or_else(|| panic!("no {name} in: {line}"));
            rest.split(", ").next().unwrap().trim().to_owned()
        };
        let counts = field("counts: ");
        let count = |name: &str| {
            let found = counts.split(' ').find_map(|count| count.strip_prefix(name)?.strip_prefix('='));
            found.map_or(0, |number| number.parse().unwrap())
        };
        let (sent, lost) = (count("sent"), count("dropped_loss"));
        Self {
            path: field("path: "),
            sent,
            lost,
            doubled: count("duplicated"),
            held_back: count("reordered"),
        }
    }

    /// Off what was asked for, in standard deviations: loss, duplication, reordering.
    fn sigmas(&self) -> [f64; 3] {
        let passed = self.sent - self.lost;
        [
            sigmas(self.lost, self.sent, LOSS),
            sigmas(self.doubled, passed, DUP),
            sigmas(self.held_back, passed + self.doubled, REORDER),
        ]
    }
}

#[test]
fn a_network_that_loses_a_fifth_commits_without_a_change_of_leader() {
    let span = Duration::from_secs(setting("RAFTGRAM_LOSSY_SECONDS", 10));
    let mut cluster = Cluster::stopped(loopback(), 3);
    for id in cluster.ids() {
        let faults = ["--loss", "20%", "--dup", "5%", "--reorder", "5%", "--seed"];
        cluster.add_flags(id, faults.iter().map(|flag| (*flag).to_owned()).chain([(20 + id).to_string()]));
    }
    cluster.start_all(Start::Bootstrap);
    let load = Load::start(cluster.addresses(), 4);
    load.wait_for(20);
    let (leader, before) = (cluster.leader(), load.total());
    let began = Instant::now();
    while began.elapsed() < span {
        load.wait_for(1);
    }
    let committed = load.total() - before;
    assert_eq!(cluster.leader(), leader, "node and term of the leader before and after {span:?}");
    let written = load.stop();
    cluster.assert_holds(&written);
    let addresses: Vec<String> = cluster.addresses().iter().map(ToString::to_string).collect();
    cluster.stop_all();
    let injected: Vec<Injected> = cluster.ids().flat_map(|id| Injected::read(&cluster.log(id))).collect();
    report(committed, span, &injected);
    let is_between_nodes = |path: &&Injected| addresses.iter().any(|a| path.path == format!("to {a}"));
    let busy = injected.iter().filter(is_between_nodes).filter(|path| path.sent >= COUNT_MIN).count();
    assert!(busy >= 4, "the leader and both others talked over {busy} paths");
    assert_as_asked(&injected);
}

/// The drops of all paths together are within three standard deviations. Of the many single counts that are
/// looked at some are further off by chance; none may be so far off that chance cannot explain it.
fn assert_as_asked(injected: &[Injected]) {
    let sum = |count: fn(&Injected) -> u64| injected.iter().map(count).sum::<u64>();
    let (sent, lost) = (sum(|path| path.sent), sum(|path| path.lost));
    let off = sigmas(lost, sent, LOSS);
    assert!(off <= 3.0, "{lost} of {sent} lost: {off:.1} sigma off {LOSS}");
    for path in injected.iter().filter(|path| path.sent >= COUNT_MIN) {
        assert!(path.sigmas().iter().all(|off| *off <= 5.0), "{path:?}: {:?}", path.sigmas());
    }
}

fn report(committed: u64, span: Duration, injected: &[Injected]) {
    let mut text =
        format!("{committed} writes in {span:?} at 20% loss, 5% duplication and reordering, one leader\n");
    for path in injected.iter().filter(|path| path.sent >= COUNT_MIN) {
        let [loss, dup, reorder] = path.sigmas();
        let Injected { path, sent, lost, doubled, held_back } = path;
        text += &format!(
            "  {path}: {sent} sent, {lost} lost ({loss:.1} sigma), {doubled} doubled ({dup:.1}), {held_back} held \
             back ({reorder:.1})\n"
        );
    }
    // To the terminal, past what the test harness keeps to itself.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

// E7
#[test]
fn a_leader_that_can_send_but_not_receive_steps_down_and_disturbs_nobody() {
    let mut cluster = Cluster::stopped(loopback(), 3);
    let pairs = [(1, 2), (1, 3), (2, 3)];
    let relays = pairs.map(|(near, far)| {
        let relay = Relay::start(Some(cluster.address(near)), cluster.address(far));
        cluster.add_flags(near, ["--route".to_owned(), format!("{far}={}", relay.faces_near)]);
        cluster.add_flags(far, ["--route".to_owned(), format!("{near}={}", relay.faces_far)]);
        ((near, far), relay)
    });
    cluster.start_all(Start::Bootstrap);
    let load = Load::start(cluster.addresses(), 2);
    load.wait_for(20);
    let (deaf, term) = cluster.leader();
    let to_and_from = |id: u16| {
        relays.iter().filter_map(move |((near, far), relay)| match () {
            () if *near == id => Some((&relay.inward, &relay.outward)),
            () if *far == id => Some((&relay.outward, &relay.inward)),
            () => None,
        })
    };
    let heard_from = || to_and_from(deaf).map(|(_, from)| from.passed()).sum::<u64>();
    let heard_before = heard_from();
    to_and_from(deaf).for_each(|(to, _)| to.set_cut(true));
    eventually("the deaf leader steps down", || {
        cluster.status(deaf).filter(|status| status.role != NodeRole::Leader).map(drop)
    });
    load.first_beyond(term);
    let (next, next_term) = cluster.leader();
    assert!(next != deaf && next_term > term, "node {next} leads term {next_term} after {deaf} and {term}");
    // The deaf node still talks, asking for votes it cannot hear of; nobody minds.
    let asked_before = heard_from();
    eventually("the deaf node goes on talking", || (heard_from() > asked_before + 20).then_some(()));
    load.wait_for(50);
    assert_eq!(cluster.leader(), (next, next_term));
    assert!(heard_from() > heard_before, "its datagrams came through all the time");
    to_and_from(deaf).for_each(|(to, _)| to.set_cut(false));
    cluster.wait_until_caught_up(deaf);
    cluster.assert_holds(&load.stop());
}
