//! The known bugs, each with the seed that catches it, and the same seeds without any bug. `docs/mutants.md` has the
//! table, and the command that writes the file of seeds anew when the simulator has changed.

use std::collections::BTreeSet;
use std::panic;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use raftgram::mutant::{self, Mutant};
use raftgram::sim::workload::{Keep, KvWorkload};
use raftgram::sim::{Config, Violation, run};

const SEEDS: &str = include_str!("seeds/mutants.txt");

/// A line of the file.
#[derive(Clone, Copy, Debug)]
struct Recorded {
    mutant: Mutant,
    nodes: u16,
    time: Duration,
    seed: u64,
}

fn recorded() -> Vec<Recorded> {
    let lines = SEEDS.lines().filter(|line| !line.starts_with('#') && !line.ends_with("seed=none"));
    lines.map(|line| parse(line).unwrap_or_else(|| panic!("not a line of this file: {line}"))).collect()
}

fn parse(line: &str) -> Option<Recorded> {
    let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Some(Recorded {
        mutant: Mutant::from_name(field("mutant")?)?,
        nodes: field("nodes")?.parse().ok()?,
        time: Duration::from_secs(field("time_s")?.parse().ok()?),
        seed: field("seed")?.parse().ok()?,
    })
}

/// What one run shows with this mutant on. The switch is this thread's own.
fn run_with(mutant: Option<Mutant>, it: Recorded) -> Option<Violation> {
    mutant::activate(mutant);
    let config = Config { nodes: it.nodes, time: it.time, ..Config::new(it.seed) };
    let (report, _) = run(config, |rng| KvWorkload::new(rng, Keep::Nothing));
    mutant::activate(None);
    report.violation
}

/// Does this for each on all processors; gives back what it complains of.
fn complaints<T: Copy + Send + Sync>(all: &[T], judge: impl Fn(T) -> Option<String> + Sync) -> Vec<String> {
    let queue = Mutex::new(all.iter().copied());
    let found = Mutex::new(Vec::new());
    let next = || queue.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(one) = next() {
                    found.lock().unwrap().extend(judge(one));
                }
            });
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn every_mutant_is_caught_by_its_seed_and_nothing_else_is() {
    // A node that panics is a finding here, and not worth a line.
    panic::set_hook(Box::new(|_| {}));
    let all = recorded();
    let missed = complaints(&all, |it| match run_with(Some(it.mutant), it) {
        Some(_) => None,
        None => Some(format!("{} is not caught by seed {}", it.mutant, it.seed)),
    });
    let runs: BTreeSet<(u16, Duration, u64)> = all.iter().map(|it| (it.nodes, it.time, it.seed)).collect();
    let runs: Vec<_> = runs.into_iter().collect();
    let false_alarms = complaints(&runs, |(nodes, time, seed)| {
        let it = Recorded { mutant: Mutant::E1, nodes, time, seed };
        run_with(None, it).map(|violation| format!("without a mutant seed {seed} shows: {violation}"))
    });
    let _ = panic::take_hook();
    assert_eq!([missed, false_alarms].concat(), Vec::<String>::new());
}

/// A bug that no seed has shown yet is listed as such, so that nobody takes it for caught.
#[test]
fn every_mutant_is_listed() {
    let listed =
        |mutant: &Mutant| SEEDS.lines().filter(|line| line.starts_with(&format!("mutant={mutant} "))).count();
    let strange: Vec<_> = Mutant::ALL.iter().filter(|mutant| listed(mutant) != 1).collect();
    assert!(strange.is_empty(), "these have no line of their own, or several: {strange:?}");
    let missing: Vec<&str> = SEEDS.lines().filter(|line| line.ends_with("seed=none")).collect();
    println!("{} of {} mutants are not caught yet: {missing:?}", missing.len(), Mutant::ALL.len());
}
