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
}

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
                *outcome = Some(take_effect(&mut held[*key], call));
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

#[track_caller]
fn assert_steps(shape: &Shape, steps_max: u64) {
    let history = generate(shape, 1);
    let mut budget = Budget::steps(steps_max);
    let verdict = check(&history, &Register::absent(), &mut budget);
    println!("{} steps", budget.spent());
    assert_eq!(verdict, Verdict::Linearizable);
}

#[test]
fn a_hundred_thousand_operations_take_a_few_steps_each() {
    let shape =
        Shape { operations: 100_000, processes: 50, keys: 100, values: u64::MAX, pending: 0.001 };
    assert_steps(&shape, 1_000_000);
}

#[test]
fn few_values_and_one_busy_key() {
    let shape = Shape { operations: 5_000, processes: 50, keys: 1, values: u64::MAX, pending: 0.001 };
    assert_steps(&shape, 10_000_000);
}

#[test]
fn few_values() {
    let shape = Shape { operations: 100_000, processes: 50, keys: 100, values: 5, pending: 0.01 };
    assert_steps(&shape, 10_000_000);
}
