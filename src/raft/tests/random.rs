//! Seeds: a cluster under random loss, copies, delays, cuts, crashes, pauses, slow and hung disks, with clients;
//! then everything heals, and it must work again.

use core::time::Duration;

use super::cluster::{Cluster, Net, ms};
use super::members::Operator;
use super::{CLUSTER, command};
use crate::entry::{Entry, Payload};
use crate::membership::Membership;
use crate::raft::ReadId;
use crate::rng::Rng;
use crate::types::{Index, NodeId, Term};

/// Swarm testing: each seed has some faults much and others not at all.
fn faults(rng: &mut Rng) -> Net {
    let often = |rng: &mut Rng, most: f64| if rng.chance(0.5) { rng.unit() * most } else { 0.0 };
    let delay_max = if rng.chance(0.2) { ms(60) } else { Duration::from_micros(100 + rng.below(10_000)) };
    Net {
        loss: often(rng, 0.4),
        duplication: often(rng, 0.5),
        late: often(rng, 0.05),
        delay_min: Duration::from_micros(50),
        delay_max,
        resend: rng.chance(0.7).then_some(ms(3 + rng.below(30))),
    }
}

/// One thing that happens from outside.
fn disturb(cluster: &mut Cluster, rng: &mut Rng, step: u64) {
    let count = cluster.nodes.len() as u64;
    let any = |rng: &mut Rng, cluster: &Cluster| {
        *cluster.nodes.keys().nth(usize::try_from(rng.below(count)).unwrap()).unwrap()
    };
    let node = any(rng, cluster);
    match rng.below(100) {
        0..50 => {
            let to = cluster.leader().unwrap_or(node);
            cluster.propose(to, write(rng, step));
        }
        // Several, to whoever believes to lead: perhaps one that is cut off.
        50..70 => {
            for _ in 0..rng.below(6) {
                cluster.propose(node, write(rng, step));
            }
        }
        70..80 => {
            cluster.read(cluster.leader().unwrap_or(node), ReadId(step));
        }
        // Most files of one index are the same on every node.
        80..85 => {
            cluster.snapshot(node, u64::from(rng.chance(0.2)));
        }
        85 => cluster.crash(node),
        86 => cluster.crash(cluster.leader().unwrap_or(node)),
        87..91 => restart_all(cluster),
        91..93 => {
            let other = any(rng, cluster);
            cluster.cut.insert((node, other));
        }
        93 => cluster.isolate(cluster.leader().unwrap_or(node)),
        94..96 => cluster.cut.clear(),
        96 => {
            let pause = ms(rng.below(600));
            cluster.nodes.get_mut(&node).unwrap().paused_until = cluster.now + pause;
        }
        97 => {
            let disk = &mut cluster.nodes.get_mut(&node).unwrap().disk;
            disk.hangs = !disk.hangs && rng.chance(0.5);
            disk.delay_max = disk.delay_min + ms(rng.below(60));
        }
        98 => {
            cluster.transfer(cluster.leader().unwrap_or(node), None);
        }
        _ => cluster.net = faults(rng),
    }
}

/// Some are larger than an append may be: they go alone, and probes go without them.
fn write(rng: &mut Rng, step: u64) -> Payload {
    let padding = if rng.chance(0.4) { 100 } else { 0 };
    command(&format!("write {step} {:padding$}", ""))
}

fn restart_all(cluster: &mut Cluster) {
    let down: Vec<NodeId> =
        cluster.nodes.iter().filter(|(_, node)| node.raft.is_none()).map(|(id, _)| *id).collect();
    for node in down {
        cluster.start(node);
    }
}

/// Heals everything and shows that the cluster works (27): a leader, a new write everywhere, equal logs.
fn heal(cluster: &mut Cluster) {
    cluster.net = Net::calm();
    cluster.cut.clear();
    let now = cluster.now;
    for node in cluster.nodes.values_mut() {
        node.paused_until = node.paused_until.min(now);
        node.disk.hangs = false;
        node.disk.delay_max = node.disk.delay_min;
    }
    restart_all(cluster);
    // Ten maximum election timeouts.
    let mut is_written = false;
    for _ in 0..50 {
        cluster.run_for(ms(100));
        let Some(leader) = cluster.leader() else { continue };
        is_written = is_written || cluster.propose(leader, command("after"));
    }
    let states: Vec<String> = cluster.nodes.values().map(|n| n.raft.as_ref().unwrap().to_string()).collect();
    assert!(is_written, "no leader took a write after everything healed: {states:?}");
    cluster.run_for(ms(600));
    let leader = cluster.leader().expect("a leader stays");
    let (last, commit) = (cluster.raft(leader.as_u16()).last_index(), cluster.raft(leader.as_u16()).commit());
    assert_eq!(last, commit, "everything in the leader's log is committed");
    assert!(cluster.raft(leader.as_u16()).is_membership_settled(), "the membership is joint");
    let membership = cluster.raft(leader.as_u16()).membership();
    let members = cluster.nodes.iter().filter(|(node, _)| membership.contains(cluster.identity(**node)));
    for (node, state) in members {
        let raft = state.raft.as_ref().expect("all run");
        assert_eq!((raft.last_index(), raft.commit()), (last, commit), "{node} has not caught up");
        assert_eq!(state.disk.last_index(), last, "{node}'s disk has not caught up");
    }
    let ready = cluster.reads_ready;
    assert!(cluster.read(leader, ReadId(u64::MAX)), "the leader takes a read");
    cluster.run_for(ms(100));
    assert!(cluster.reads_ready > ready, "a read is confirmed");
}

struct Summary {
    trace_hash: u64,
    events: u64,
    writes: u64,
    reads: u64,
    elections: u64,
    compactions: u64,
    installs: u64,
    changes: u64,
    wipes: u64,
}

/// Whether an operator changes the membership meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Members {
    Stay,
    Change,
}

/// A log that begins with memberships, so that snapshots have one to carry.
fn moved_twice(voters: &Membership) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for index in 1..=4 {
        let mut moved = voters.clone();
        moved.voters.values_mut().for_each(|member| member.address = format!("moved{index}:1"));
        let payload = if index % 2 == 0 { Payload::Membership(moved.into()) } else { command("between") };
        let chain = entries.last().map_or(0, |entry| entry.chain);
        entries.push(Entry::new(CLUSTER, Index(index), Term(1), payload, chain));
    }
    entries
}

fn run(seed: u64, steps: u64, members: Members) -> Summary {
    let mut rng = Rng::from_seed(seed);
    let count = match members {
        Members::Stay => [3, 5][usize::from(rng.chance(0.5))],
        Members::Change => 1 + rng.below(4) as u16,
    };
    let voters = super::voters(&(1..=count).collect::<Vec<_>>());
    let mut cluster = Cluster::with_log(seed, voters.clone(), &moved_twice(&voters), |config| {
        // Small bounds, so that they are met, and short timeouts, so that leaders come and go.
        config.election_timeout_min = ms(60);
        config.election_timeout_max = ms(120);
        config.heartbeat_interval = ms(10);
        config.disk_hang_timeout = ms(500);
        config.append_bytes_max = 60;
        config.inflight_appends_max = 6;
        config.reorder_bytes_max = 700;
        config.log_tail_bytes = 400;
    });
    cluster.trace = std::env::var_os("RAFT_TRACE").map(|_| String::new());
    cluster.net = faults(&mut rng);
    let mut operator = Operator::default();
    let ended = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
        for step in 0..steps {
            disturb(&mut cluster, &mut rng, step);
            if members == Members::Change && rng.chance(0.3) {
                operator.act(&mut cluster, &mut rng);
            }
            cluster.run_for(Duration::from_micros(rng.below(30_000)));
        }
        heal(&mut cluster);
    }));
    if let Some(trace) = &cluster.trace {
        println!("{trace}");
    }
    assert!(ended.is_ok(), "seed {seed} breaks, or does not heal");
    assert_eq!(cluster.alarms, 0, "seed {seed}: sound nodes raise no alarm");
    Summary {
        trace_hash: cluster.trace_hash,
        events: cluster.events,
        writes: cluster.writes_committed,
        reads: cluster.reads_ready,
        elections: cluster.leader_changes,
        compactions: cluster.compactions,
        installs: cluster.installs,
        changes: operator.taken,
        wipes: operator.wipes,
    }
}

/// Prints the seed of a run that fails; `RAFT_SEED` runs one, `RAFT_SEEDS` another number of them.
#[test]
fn random_faults_break_no_invariant_and_heal() {
    let seeds = seeds(400);
    let count = seeds.end - seeds.start;
    let (mut events, mut writes, mut reads, mut elections) = (0, 0, 0, 0);
    let (mut compactions, mut installs) = (0, 0);
    for seed in seeds {
        let Ok(summary) = std::panic::catch_unwind(|| run(seed, 250, Members::Stay)) else {
            panic!("seed {seed} fails: run again with RAFT_SEED={seed}");
        };
        events += summary.events;
        writes += summary.writes;
        reads += summary.reads;
        elections += summary.elections;
        compactions += summary.compactions;
        installs += summary.installs;
    }
    println!("{count} seeds: {events} events, {writes} writes, {reads} reads, {elections} elections");
    println!("{compactions} compactions, {installs} installs");
    // The faults leave room for work, or the checks would see nothing.
    assert!(writes > 10 * count && reads > count && elections > 2 * count, "{writes} {reads} {elections}");
    assert!(compactions > 2 * count && installs > count / 10, "{compactions} {installs}");
}

fn seeds(count: u64) -> core::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("RAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RAFT_SEEDS").unwrap_or(count),
    }
}

/// The same, while nodes come and go, one at a time (M1 to M12 in whatever order they come).
#[test]
fn random_faults_and_changes_of_the_membership_break_no_invariant_and_heal() {
    let seeds = seeds(400);
    let count = seeds.end - seeds.start;
    let (mut writes, mut changes, mut wipes, mut installs) = (0, 0, 0, 0);
    for seed in seeds {
        let Ok(summary) = std::panic::catch_unwind(|| run(seed, 300, Members::Change)) else {
            panic!("seed {seed} fails: run again with RAFT_SEED={seed}");
        };
        writes += summary.writes;
        changes += summary.changes;
        wipes += summary.wipes;
        installs += summary.installs;
    }
    println!("{count} seeds: {writes} writes, {changes} changes, {wipes} wiped folders, {installs} installs");
    assert!(writes > 10 * count && changes > 3 * count && wipes > count / 4, "{writes} {changes} {wipes}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 7, 1234] {
        for members in [Members::Stay, Members::Change] {
            assert_eq!(run(seed, 150, members).trace_hash, run(seed, 150, members).trace_hash);
        }
    }
    assert_ne!(run(1, 150, Members::Stay).trace_hash, run(2, 150, Members::Stay).trace_hash);
}
