//! Whole runs from seeds.

use core::time::Duration;

use crate::sim::workload::{HistoryKind, Keep, KvWorkload};
use crate::sim::{Config, FaultSet, Report, run};

fn kv(config: Config) -> Report {
    run(config, |rng| KvWorkload::new(rng, Keep::Nothing)).0
}

fn short(seed: u64) -> Config {
    Config { time: Duration::from_secs(5), ..Config::new(seed) }
}

#[test]
fn a_seed_gives_the_same_run_twice_and_another_seed_another() {
    for seed in 0..4 {
        assert_eq!(kv(short(seed)), kv(short(seed)));
        assert_ne!(kv(short(seed)).trace_hash, kv(short(seed + 100)).trace_hash);
    }
}

/// Scenarios §5 asks for this much in each virtual second.
#[test]
fn without_faults_every_operation_is_answered_and_a_lot_happens() {
    let report = kv(Config { faults: FaultSet::NONE, ..short(1) });
    assert_eq!(report.violation, None);
    let seconds = report.time.as_secs_f64();
    assert!(report.operations.ok as f64 >= 50.0 * seconds, "{report}");
    assert!(report.events as f64 >= 1_000.0 * seconds, "{report}");
    assert_eq!((report.operations.unknown, report.lost_nodes), (0, 0), "{report}");
}

#[test]
fn clusters_of_every_size_stand_every_fault() {
    for (seed, nodes) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 7)] {
        let report = kv(Config { nodes, ..short(seed) });
        assert_eq!(report.violation, None, "{report}");
    }
}

#[test]
fn each_fault_alone_is_stood() {
    for (seed, fault) in crate::sim::Fault::ALL.iter().enumerate() {
        let config = Config { faults: FaultSet::NONE.with(*fault), ..short(seed as u64) };
        let report = kv(Config { time: Duration::from_secs(3), ..config });
        assert_eq!(report.violation, None, "{}: {report}", fault.name());
    }
}

#[test]
fn a_history_has_a_beginning_for_every_end() {
    let (report, workload) = run(short(3), |rng| KvWorkload::new(rng, Keep::History));
    assert_eq!(report.violation, None, "{report}");
    let begun = workload.events().iter().filter(|event| event.kind == HistoryKind::Invoke).count();
    assert_eq!(workload.events().len(), begun * 2, "everything has ended");
    assert_eq!(begun as u64, report.operations.total());
}
