//! Small worlds, complete: a leader in every network that 3 or 4 nodes can have.
//!
//! A network is a directed graph: an arrow is a link that carries everything, a missing one carries nothing. Two
//! graphs that differ only in the names of the followers are one case, so a graph counts once up to isomorphism
//! with the leader marked: 36 cases of 3 nodes, 752 of 4.
//!
//! Each case starts with a leader and every link up. Then the links fall to the graph's, for many election timeouts
//! with clients writing all along; then they heal. Every invariant is checked after every event, whatever the
//! graph (safety). Where some majority is connected pairwise and both ways, a leader must be found, commit, and
//! stay (liveness, invariant 28): the nodes outside the majority hear some and are heard by some, which is what
//! pre-vote, stickiness and check-quorum exist for. No graph is exempt. And where the leader itself is connected
//! both ways with a majority, pairwise or not, it must not lose its office (E5 in general). In all other graphs
//! nothing is promised but that they heal.

use core::time::Duration;
use std::collections::BTreeSet;

use super::cluster::{Cluster, ms};
use super::{command, voters};
use crate::types::{Index, NodeId};

const TIMEOUT_MAX: Duration = ms(120);

/// Within so many maximum election timeouts a leader must lead and commit.
const FOUND_TIMEOUTS_MAX: u32 = 10;

/// For so many more it must stay.
const STAY_TIMEOUTS: u32 = 20;

/// A directed graph; node 0 is the leader at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Graph {
    count: usize,
    /// Bit `from * count + to` says that `from` reaches `to`; there are no loops.
    links: u16,
}

impl Graph {
    fn has(self, from: usize, to: usize) -> bool {
        self.links & self.bit(from, to) != 0
    }

    fn bit(self, from: usize, to: usize) -> u16 {
        1 << (from * self.count + to)
    }

    fn pairs(self) -> impl Iterator<Item = (usize, usize)> {
        let ends = move |from| (0..self.count).filter(move |to| *to != from).map(move |to| (from, to));
        (0..self.count).flat_map(ends)
    }

    /// The same graph under other names.
    fn renamed(self, names: &[usize]) -> Self {
        let mut other = Self { links: 0, ..self };
        for (from, to) in self.pairs().filter(|(from, to)| self.has(*from, *to)) {
            other.links |= other.bit(names[from], names[to]);
        }
        other
    }

    /// True when each of these reaches each other.
    fn is_mutual(self, nodes: u16) -> bool {
        let among = |(from, to): &(usize, usize)| nodes & (1 << from) != 0 && nodes & (1 << to) != 0;
        self.pairs().filter(among).all(|(from, to)| self.has(from, to))
    }

    /// True when some majority is connected pairwise and both ways.
    fn has_mutual_majority(self) -> bool {
        let quorum = self.count as u32 / 2 + 1;
        (0..1u16 << self.count).any(|nodes| nodes.count_ones() >= quorum && self.is_mutual(nodes))
    }

    /// True when the first leader and its mutual neighbours are a majority.
    fn keeps_leader(self) -> bool {
        let neighbours = (1..self.count).filter(|node| self.has(0, *node) && self.has(*node, 0)).count();
        neighbours + 1 > self.count / 2
    }
}

/// Every way to name the followers anew; the leader keeps its name.
fn follower_names(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![vec![0]];
    for next in 1..count {
        let longer = |names: &Vec<usize>| {
            let names = names.clone();
            (1..=names.len()).map(move |place| {
                let mut names = names.clone();
                names.insert(place, next);
                names
            })
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// One graph of each class of graphs that differ in the followers' names only: the least of its class.
fn graphs(count: usize) -> Vec<Graph> {
    let names = follower_names(count);
    let blank = Graph { count, links: 0 };
    let pairs: Vec<(usize, usize)> = blank.pairs().collect();
    let graph = |choice: u32| {
        let chosen = pairs.iter().enumerate().filter(|(i, _)| choice & (1 << i) != 0);
        Graph { links: chosen.map(|(_, (from, to))| blank.bit(*from, *to)).sum(), ..blank }
    };
    let is_least = |graph: &Graph| names.iter().all(|names| graph.renamed(names) >= *graph);
    (0..1u32 << pairs.len()).map(graph).filter(is_least).collect()
}

/// What happened in one graph.
struct Outcome {
    /// How long it took until a leader led that still led at the end; `None` when nobody led at the end, or
    /// nothing was committed any more.
    found_after: Option<Duration>,
    events: u64,
}

/// Offers a write to everyone who believes to lead, four times a timeout, and returns how many were committed.
fn write_for(cluster: &mut Cluster, timeouts: u32) -> u64 {
    let before = cluster.writes_committed;
    let nodes: Vec<NodeId> = cluster.nodes.keys().copied().collect();
    for _ in 0..4 * timeouts {
        for node in &nodes {
            cluster.propose(*node, command("load"));
        }
        cluster.run_for(TIMEOUT_MAX / 4);
    }
    cluster.writes_committed - before
}

fn settled_leader(cluster: &Cluster) -> Option<NodeId> {
    cluster.leader().filter(|leader| cluster.raft(leader.as_u16()).is_settled_leader())
}

fn run(seed: u64, graph: Graph) -> Outcome {
    let count = u16::try_from(graph.count).unwrap();
    let mut cluster = Cluster::with(seed, voters(&(1..=count).collect::<Vec<_>>()), |config| {
        config.election_timeout_min = TIMEOUT_MAX / 2;
        config.election_timeout_max = TIMEOUT_MAX;
        config.heartbeat_interval = TIMEOUT_MAX / 12;
    });
    assert!(cluster.run_until(TIMEOUT_MAX * 10, |c| settled_leader(c).is_some()), "no leader to begin with");
    write_for(&mut cluster, 1);
    let leader = cluster.leader().unwrap();
    let followers = cluster.nodes.keys().copied().filter(|node| *node != leader);
    let nodes: Vec<NodeId> = core::iter::once(leader).chain(followers).collect();
    let missing = graph.pairs().filter(|(from, to)| !graph.has(*from, *to));
    cluster.cut = missing.map(|(from, to)| (nodes[from], nodes[to])).collect();

    let began = cluster.now;
    let mut found = began;
    let mut changes = cluster.leader_changes;
    for _ in 0..4 * FOUND_TIMEOUTS_MAX {
        for node in &nodes {
            cluster.propose(*node, command("load"));
        }
        cluster.run_for(TIMEOUT_MAX / 4);
        if cluster.leader_changes != changes {
            changes = cluster.leader_changes;
            found = cluster.now;
        }
    }
    let committed = write_for(&mut cluster, STAY_TIMEOUTS);
    let stayed = cluster.leader_changes == changes && settled_leader(&cluster).is_some();
    // One write may be under way at the end.
    let is_live = stayed && committed >= u64::from(4 * STAY_TIMEOUTS - 1);
    heal(&mut cluster);
    assert_eq!(cluster.alarms, 0, "sound nodes raise no alarm");
    Outcome { found_after: is_live.then(|| found.saturating_since(began)), events: cluster.events }
}

/// Whatever the network was, once it is whole all nodes come to hold the same.
fn heal(cluster: &mut Cluster) {
    cluster.cut.clear();
    cluster.run_for(TIMEOUT_MAX * 5);
    assert!(write_for(cluster, 1) >= 3, "no write is committed after everything healed");
    let same = |c: &Cluster| -> BTreeSet<(Index, Index)> {
        let raft = |node: &NodeId| c.raft(node.as_u16());
        c.nodes.keys().map(|node| (raft(node).last_index(), raft(node).commit())).collect()
    };
    let is_converged =
        |c: &Cluster| same(c).len() == 1 && same(c).iter().all(|(last, commit)| last == commit);
    assert!(cluster.run_until(TIMEOUT_MAX * 5, is_converged), "not converged: {:?}", same(cluster));
}

fn check_all(count: usize, cases: usize, seeds: u64) {
    let graphs = graphs(count);
    assert_eq!(graphs.len(), cases, "graphs of {count} nodes with the leader marked");
    let (mut kept, mut found, mut beyond, mut events, mut longest) = (0, 0, 0, 0, Duration::ZERO);
    for (number, graph) in graphs.iter().enumerate() {
        let links: Vec<_> = graph.pairs().filter(|(from, to)| graph.has(*from, *to)).collect();
        for seed in 0..seeds {
            let case = format!("graph {number} of {count} nodes, seed {seed}, links {links:?}");
            let Ok(outcome) = std::panic::catch_unwind(|| run(seed, *graph)) else { panic!("{case}") };
            events += outcome.events;
            if graph.keeps_leader() {
                assert_eq!(outcome.found_after, Some(Duration::ZERO), "the leader lost its office: {case}");
                kept += 1;
            } else if graph.has_mutual_majority() {
                let found_after = outcome.found_after.unwrap_or_else(|| panic!("not live: {case}"));
                longest = longest.max(found_after);
                found += 1;
            } else if outcome.found_after.is_some() {
                beyond += 1;
            }
        }
    }
    println!(
        "{cases} graphs of {count} nodes, {seeds} seeds each, {events} events: {kept} runs kept their leader as \
         promised, {found} found another as promised, after at most {longest:?} ({TIMEOUT_MAX:?} is a timeout), \
         {beyond} beyond the promise"
    );
}

/// `GRAPH_SEEDS` runs each graph with so many seeds.
fn seeds(default: u64) -> u64 {
    std::env::var("GRAPH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn every_network_of_three_is_safe_and_live_where_a_majority_is_mutually_connected() {
    check_all(3, 36, seeds(8));
}

#[test]
fn every_network_of_four_is_safe_and_live_where_a_majority_is_mutually_connected() {
    check_all(4, 752, seeds(1));
}

#[test]
fn a_majority_counts_as_mutually_connected_only_both_ways_and_pairwise() {
    let both = |ends: &[(usize, usize)]| {
        let mut graph = Graph { count: 4, links: 0 };
        for (a, b) in ends {
            graph.links |= graph.bit(*a, *b) | graph.bit(*b, *a);
        }
        graph
    };
    let star = both(&[(0, 1), (0, 2), (0, 3)]);
    assert!(!star.has_mutual_majority(), "its ends do not hear each other");
    let triangle = both(&[(1, 2), (2, 3), (1, 3)]);
    assert!(triangle.has_mutual_majority());
    let one_way = Graph { links: triangle.links & !triangle.bit(3, 1), ..triangle };
    assert!(!one_way.has_mutual_majority());
}
