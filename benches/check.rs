//! What it costs to judge a history of 100,000 operations on 100 keys by 50 processes.
//!
//! `cargo bench --bench check`. Prints the steps that the search takes first, then criterion's times.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use raftgram::check::{Answer, Budget, Call, History, Outcome, Process, Register, Verdict, check};
use raftgram::rng::Rng;

const OPERATIONS: usize = 100_000;
const PROCESSES: u64 = 50;
const KEYS: u64 = 100;
/// One operation in a thousand ends unknown.
const PENDING: f64 = 0.001;

/// What a process does.
enum Doing {
    Nothing,
    /// Not yet in effect.
    Waits(u64, Call),
    Returns(Outcome<Answer>),
}

/// How the registers behave.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Registers {
    Correct,
    /// One read in the last fifth finds a value that was never written.
    Wrong,
}

fn history(registers: Registers) -> History<Call, Answer> {
    let mut rng = Rng::from_seed(1);
    let mut held = vec![None::<String>; KEYS as usize];
    let mut history = History::new();
    let mut is_wrong = registers == Registers::Wrong;
    let mut processes: Vec<(u64, Doing)> = (0..PROCESSES).map(|id| (id, Doing::Nothing)).collect();
    let mut ids = PROCESSES;
    while history.operations().len() < OPERATIONS {
        let (id, doing) = &mut processes[rng.below(PROCESSES) as usize];
        *doing = match std::mem::replace(doing, Doing::Nothing) {
            Doing::Nothing => {
                let (key, value) = (rng.below(KEYS), history.operations().len().to_string());
                let call = match rng.below(10) {
                    0..=4 => Call::Read,
                    5..=8 => Call::Write(value),
                    _ => Call::Cas { old: held[key as usize].clone(), new: Some(value) },
                };
                history.invoke(Process(*id), key.to_string(), call.clone()).expect("nothing is open");
                Doing::Waits(key, call)
            }
            Doing::Waits(key, call) => {
                let held = &mut held[key as usize];
                let is_late = history.operations().len() > OPERATIONS / 5 * 4;
                Doing::Returns(match call {
                    Call::Read if is_late && std::mem::take(&mut is_wrong) => {
                        Outcome::Ok(Answer::Value(Some("never".to_owned())))
                    }
                    Call::Read => Outcome::Ok(Answer::Value(held.clone())),
                    Call::Cas { old, .. } if old != *held => Outcome::Failed,
                    Call::Write(value) | Call::Cas { new: Some(value), .. } => {
                        *held = Some(value);
                        Outcome::Ok(Answer::Done)
                    }
                    other => unreachable!("{other} is not called"),
                })
            }
            Doing::Returns(outcome) => {
                let outcome = if rng.chance(PENDING) { Outcome::Unknown } else { outcome };
                let is_pending = outcome == Outcome::Unknown;
                history.complete(Process(*id), outcome).expect("it is open");
                if is_pending {
                    *id = ids;
                    ids += 1;
                }
                Doing::Nothing
            }
        };
    }
    history
}

fn hundred_thousand(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("100,000 operations");
    group.sample_size(10);
    for (name, registers) in [("correct", Registers::Correct), ("one wrong read", Registers::Wrong)] {
        let history = history(registers);
        let mut budget = Budget::default();
        let verdict = check(&history, &Register::absent(), &mut budget);
        assert_eq!(verdict == Verdict::Linearizable, registers == Registers::Correct, "{verdict:?}");
        println!("{name}: {} steps", budget.spent());
        group.bench_function(name, |bencher| {
            bencher.iter(|| check(black_box(&history), &Register::absent(), &mut Budget::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, hundred_thousand);
criterion_main!(benches);
