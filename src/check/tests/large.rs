//! Histories of many operations: bounded by steps, which are the same on every machine.

use super::super::{Answer, Budget, Call, Outcome, Process, Register, Verdict, check};
use super::KeyHistory;
use crate::rng::Rng;

/// What a generated history looks like.
struct Shape {
    operations: usize,
    processes: u64,
    keys: u64,
    /// How many different values are written to a key; fewer make more orders possible.
    values: u64,
    pending: f64,
    /// From this operation on, the next read finds what the key held first.
    stale_from: usize,
}

const PLAIN: Shape = Shape {
    operations: 100_000,
    processes: 50,
    keys: 100,
    values: u64::MAX,
    pending: 0.001,
    stale_from: usize::MAX,
};

/// What a process has open.
struct Open {
    key: usize,
    call: Call,
    /// Set when it takes effect.
    outcome: Option<Outcome<Answer>>,
}

/// A history of correct registers: each operation takes effect somewhere between its events.
fn generate(shape: &Shape, seed: u64) -> KeyHistory {
    let mut rng = Rng::from_seed(seed);
    let mut held = vec![None::<String>; usize::try_from(shape.keys).unwrap()];
    let (mut history, mut written, mut retired) = (KeyHistory::new(), 0u64, 0);
    let mut first = vec![None; held.len()];
    let mut stale_from = shape.stale_from;
    let mut processes: Vec<(u64, Option<Open>)> = (0..shape.processes).map(|id| (id, None)).collect();
    while history.operations().len() < shape.operations {
        let at = usize::try_from(rng.below(shape.processes)).unwrap();
        let (id, open) = &mut processes[at];
        match open {
            None => {
                let key = usize::try_from(rng.below(shape.keys)).unwrap();
                written += 1;
                let value = (written % shape.values).to_string();
                let call = match rng.below(10) {
                    0..=4 => Call::Read,
                    5..=7 => Call::Write(value),
                    8 => Call::Cas { old: held[key].clone(), new: Some(value) },
                    _ => Call::Delete,
                };
                history.invoke(Process(*id), key.to_string(), call.clone()).unwrap();
                *open = Some(Open { key, call, outcome: None });
            }
            Some(Open { key, call, outcome: outcome @ None }) => {
                let mut answer = take_effect(&mut held[*key], call);
                if first[*key].is_none() {
                    first[*key].clone_from(&held[*key]);
                }
                if *call == Call::Read && history.operations().len() >= stale_from {
                    answer = Outcome::Ok(Answer::Value(first[*key].clone()));
                    stale_from = usize::MAX;
                }
                *outcome = Some(answer);
            }
            Some(Open { outcome: Some(outcome), .. }) => {
                let is_pending = rng.chance(shape.pending);
                let outcome = if is_pending { Outcome::Unknown } else { outcome.clone() };
                history.complete(Process(*id), outcome).unwrap();
                *open = None;
                if is_pending {
                    retired += 1;
                    *id = shape.processes + retired;
                }
            }
        }
    }
    history
}

fn take_effect(held: &mut Option<String>, call: &Call) -> Outcome<Answer> {
    match call {
        Call::Read => return Outcome::Ok(Answer::Value(held.clone())),
        Call::Write(value) => *held = Some(value.clone()),
        Call::Delete => *held = None,
        Call::Cas { old, new } if old == held => held.clone_from(new),
        Call::Cas { .. } => return Outcome::Failed,
        Call::Append(_) => unreachable!("none is generated"),
    }
    Outcome::Ok(Answer::Done)
}

fn judge_in_steps(shape: &Shape, seed: u64, steps_max: u64) -> Verdict<Call, Answer> {
    let history = generate(shape, seed);
    let mut budget = Budget::steps(steps_max);
    let verdict = check(&history, &Register::absent(), &mut budget);
    println!("seed {seed}: {} steps", budget.spent());
    verdict
}

#[test]
fn a_hundred_thousand_operations_take_a_few_steps_each() {
    for seed in 1..=3 {
        assert_eq!(judge_in_steps(&PLAIN, seed, 200_000), Verdict::Linearizable, "seed {seed}");
    }
}

#[test]
fn few_values_and_many_pending_operations_take_hardly_more() {
    let shape = Shape { values: 5, pending: 0.01, ..PLAIN };
    for seed in 1..=3 {
        assert_eq!(judge_in_steps(&shape, seed, 200_000), Verdict::Linearizable, "seed {seed}");
    }
}

#[test]
fn one_key_that_twenty_processes_fight_for_is_judged() {
    let shape = Shape { operations: 5_000, processes: 20, keys: 1, ..PLAIN };
    for seed in 1..=3 {
        assert_eq!(judge_in_steps(&shape, seed, 200_000), Verdict::Linearizable, "seed {seed}");
    }
}

#[test]
fn one_stale_read_in_a_hundred_thousand_operations_is_found_and_cut_out() {
    let shape = Shape { stale_from: 80_000, ..PLAIN };
    for seed in 1..=3 {
        let verdict = judge_in_steps(&shape, seed, 1_000_000);
        let Verdict::NotLinearizable(window) = verdict else { panic!("seed {seed}: {verdict:?}") };
        assert!(window.operations().len() <= 4, "seed {seed}: {window}");
    }
}
