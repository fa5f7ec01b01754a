//! Sealed runs, beside plain ones of the same seeds.

use core::time::Duration;

use super::MS;
use crate::client::{Answer, ClientError};
use crate::kv::{Command, Kv, Query};
use crate::rng::Rng;
use crate::seal::SealMode;
use crate::sim::plan::adversary::pretended;
use crate::sim::workload::{Keep, KvWorkload};
use crate::sim::{Config, End, Fault, FaultSet, Report, Settings, Simulation, run};
use crate::time::Instant;
use crate::types::{Index, Term};
use crate::wire::client::ReadLevel;
use crate::wire::{DropReason, Flags};

fn kv(config: Config) -> Report {
    run(config, |rng| KvWorkload::new(rng, Keep::Nothing)).0
}

fn config(seed: u64, seal: SealMode) -> Config {
    Config { time: Duration::from_secs(4), seal, ..Config::new(seed) }
}

fn simulation(seed: u64, seal: SealMode) -> Simulation<Kv> {
    Simulation::new(Settings { seal, ..Settings::new(seed, 3) }, Kv::new)
}

/// All that came of a run: what each client was told and when, and each node's log and state.
type Outcome = (Vec<(Instant, usize, Result<Answer, ClientError>)>, Vec<(Term, Index, Index, Option<u64>)>);

/// Clients that each do one thing after another on a network that does what it is told.
fn undisturbed(seed: u64, seal: SealMode) -> Outcome {
    let mut sim = simulation(seed, seal);
    sim.found();
    for _ in 0..3 {
        sim.add_client();
    }
    let mut rng = Rng::from_seed(seed);
    let mut told = Vec::new();
    (0..4).for_each(|client| sim.set_timer(MS, client));
    while told.len() < 400 {
        assert!(sim.step(), "{:?}", sim.violation());
        while let Some(client) = sim.poll_timer() {
            let key = [b'a' + rng.below(4) as u8];
            if rng.chance(0.5) {
                let value = vec![rng.next_u64() as u8; 1 + rng.below(3_000) as usize];
                let put = Command::Put { key: &key, value: &value }.to_bytes();
                sim.propose(client as usize, put, 5_000 * MS);
            } else {
                let get = Query::Get { key: &key }.to_bytes();
                sim.read(client as usize, get, ReadLevel::Linearizable, 5_000 * MS);
            }
        }
        while let Some(ended) = sim.poll_ended() {
            told.push((sim.now(), ended.client, ended.result));
            sim.set_timer(rng.duration_between(MS, 30 * MS), ended.client as u64);
        }
    }
    sim.run_for(500 * MS);
    assert_eq!(sim.violation(), None);
    let nodes = (1..=3).map(|node| {
        let node = sim.node(node).unwrap();
        let raft = node.raft();
        let chain = node.machine().effects().last().map(|effect| effect.chain);
        (raft.term(), raft.last_index(), raft.commit(), chain)
    });
    let nodes = nodes.collect();
    (told, nodes)
}

/// Issue 7: one more datagram to each handshake and sixteen more bytes to each datagram are all the difference, and
/// where nothing goes by chance they make none.
#[test]
fn undisturbed_a_sealed_run_is_the_plain_one_to_the_nanosecond() {
    for seed in 0..12 {
        let (plain, sealed) = (undisturbed(seed, SealMode::Off), undisturbed(seed, SealMode::Require));
        let differs = plain.0.iter().zip(&sealed.0).position(|(plain, sealed)| plain != sealed);
        let differs = differs.map(|at| (&plain.0[at], &sealed.0[at]));
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(plain.1, sealed.1, "seed {seed}");
    }
}

/// Issue 7: where chance befalls datagrams, it befalls others when there are others. The verdict is the same, and what
/// it rests on: all was answered or is known to be unknown, nothing that was told is lost, all members are equal.
#[test]
fn sealed_and_plain_clusters_stand_the_same_faults() {
    for seed in 0..24 {
        let (plain, sealed) = (kv(config(seed, SealMode::Off)), kv(config(seed, SealMode::Require)));
        assert_eq!((&plain.violation, &sealed.violation), (&None, &None), "{plain}\n{sealed}");
        assert_eq!(plain.chosen, sealed.chosen);
    }
}

#[test]
fn without_faults_every_operation_of_a_sealed_run_is_answered() {
    for seed in 0..6 {
        for seal in [SealMode::Off, SealMode::Require] {
            let report = kv(Config { faults: FaultSet::NONE, ..config(seed, seal) });
            let operations = report.operations;
            assert_eq!((report.violation, operations.failed, operations.unknown), (None, 0, 0), "{seal:?}");
            assert!(operations.ok > 100, "{operations:?}");
        }
    }
}

#[test]
fn clusters_that_take_both_kinds_stand_every_fault() {
    for seed in 0..8 {
        let report = kv(config(seed, SealMode::Accept));
        assert_eq!(report.violation, None, "{report}");
    }
}

#[test]
fn a_sealed_run_can_be_played_again() {
    for seed in 0..4 {
        assert_eq!(kv(config(seed, SealMode::Require)), kv(config(seed, SealMode::Require)));
    }
}

/// Scenarios F26, U16: with a plain cluster this is another story, see the adversary's page.
#[test]
fn altered_replayed_and_forged_datagrams_do_nothing_to_a_sealed_cluster() {
    let mut faults = FaultSet::NONE;
    for fault in [Fault::Forge, Fault::Captured, Fault::Replay, Fault::Corrupt, Fault::ZeroCrc] {
        faults = faults.with(fault);
    }
    let mut forged = 0;
    for seed in 0..8 {
        let report = kv(Config { faults, ..config(seed, SealMode::Require) });
        assert_eq!(report.violation, None, "{report}");
        forged += report.struck.get(&Fault::Forge).copied().unwrap_or(0);
    }
    assert!(forged >= 10, "{forged} times");
}

/// What all nodes have dropped for this reason.
fn dropped(sim: &Simulation<Kv>, reason: DropReason) -> u64 {
    (1..=3).map(|node| sim.node(node).unwrap().rpc().stats().dropped(reason)).sum()
}

fn dropped_in_all(sim: &Simulation<Kv>) -> u64 {
    DropReason::ALL.into_iter().map(|reason| dropped(sim, reason)).sum()
}

/// Says a thousand things in members' names, in numbers that they have not used yet; and what was dropped before.
fn impersonate(seal: SealMode) -> (Simulation<Kv>, u64) {
    let mut sim = simulation(3, seal);
    sim.tap(60);
    sim.found();
    super::put(&mut sim, b"before");
    sim.run_for(500 * MS);
    let cluster = sim.node(1).unwrap().cluster();
    let is_of_nodes =
        |(from, to, _): &&(End, End, Vec<u8>)| matches!((from, to), (End::Node(_), End::Node(_)));
    let heard: Vec<_> = sim.tapped().filter(is_of_nodes).cloned().collect();
    let dropped_before = dropped_in_all(&sim);
    let mut rng = Rng::from_seed(1);
    for n in 0..1_000 {
        let (from, to, bytes) = &heard[rng.below(heard.len() as u64) as usize];
        sim.inject(*from, *to, pretended(bytes, cluster, &mut rng), n * Duration::from_micros(50));
    }
    sim.run_for(2_000 * MS);
    (sim, dropped_before)
}

#[test]
fn who_could_speak_as_any_member_of_a_plain_cluster_cannot_to_a_sealed_one() {
    let (mut sealed, before) = impersonate(SealMode::Require);
    // Beside them a few answers to them, which their supposed senders have no use for.
    let count = dropped_in_all(&sealed) - before;
    assert!((1_000..1_010).contains(&count), "{count} dropped of 1000");
    assert!(dropped(&sealed, DropReason::Crc) > 700, "the rest has no whole header, or another's");
    super::put(&mut sealed, b"after");
    assert_eq!(sealed.violation(), None);
    assert_eq!(sealed.node(1).unwrap().raft().term(), Term(1), "nobody was made to vote");
    // The same words move plain nodes, and the checks find a vote that nobody asked for.
    let (plain, _) = impersonate(SealMode::Off);
    assert!(plain.violation().is_some());
}

/// The checks open what is sent: without their keys nothing could be looked at.
#[test]
fn the_checks_see_what_is_sealed() {
    let mut sim = simulation(5, SealMode::Require);
    sim.tap(10_000);
    sim.found();
    super::put(&mut sim, b"v");
    assert!(sim.tapped().len() > 50);
    assert!(sim.tapped().all(|(_, _, bytes)| Flags(bytes[3]).contains(Flags::SEALED)));
}
