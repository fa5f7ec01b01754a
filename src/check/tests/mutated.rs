//! Small random histories, correct ones and mutated ones, each judged by the search and by brute force.

use std::collections::BTreeMap;

use super::super::{
    Answer, Budget, Call, History, Model, Operation, Outcome, Process, Register, Verdict, Window, check,
};
use super::{KeyHistory, brute, judge};
use crate::rng::Rng;

const OPERATIONS_MAX: u64 = 8;

/// An operation before it is put into a history: times are drawn apart, so that mutations can move them.
#[derive(Clone, Debug)]
struct Draft {
    call: Call,
    outcome: Outcome<Answer>,
    invoked: u64,
    returned: u64,
}

/// The mistakes of a faulty store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    None,
    ImpossibleValue,
    StaleRead,
    LostWrite,
    DoubledCas,
    SwappedPair,
}

const MUTATIONS: [Mutation; 6] = [
    Mutation::None,
    Mutation::ImpossibleValue,
    Mutation::StaleRead,
    Mutation::LostWrite,
    Mutation::DoubledCas,
    Mutation::SwappedPair,
];

/// Operations in the order in which they take effect on a correct register, each with times around its effect.
fn draw(rng: &mut Rng, appends: bool) -> Vec<Draft> {
    let count = 2 + rng.below(OPERATIONS_MAX - 1);
    let overlap = 4 + rng.below(60);
    let (mut state, mut drafts) = (None, Vec::new());
    for number in 0..count {
        let effect = 1_000 + number * 20;
        let call = draw_call(rng, &state, appends);
        let invoked = effect - rng.below(overlap);
        let mut returned = effect + 1 + rng.below(overlap);
        let after = Register::absent().step(&state, &call, None);
        let mut outcome = match (&call, &after) {
            (Call::Read, _) => Outcome::Ok(Answer::Value(state.clone())),
            (_, Some(_)) => Outcome::Ok(Answer::Done),
            (_, None) => Outcome::Failed,
        };
        let happens = rng.chance(0.7);
        if rng.chance(0.2) {
            (outcome, returned) = (Outcome::Unknown, effect + 1 + rng.below(400));
        }
        if outcome != Outcome::Unknown || happens {
            state = after.unwrap_or(state);
        }
        drafts.push(Draft { call, outcome, invoked, returned });
    }
    drafts
}

fn draw_call(rng: &mut Rng, state: &Option<String>, appends: bool) -> Call {
    let mut value = || rng.below(4).to_string();
    let (a, b) = (value(), value());
    match rng.below(if appends { 10 } else { 8 }) {
        0..=2 => Call::Read,
        3 | 4 => Call::Write(a),
        5 => Call::Delete,
        6 => Call::Cas { old: state.clone(), new: Some(a) },
        7 => Call::Cas { old: Some(a), new: Some(b) },
        _ => Call::Append(a),
    }
}

/// Applies a mutation somewhere; none where the history has no place for it.
fn mutate(rng: &mut Rng, drafts: &mut Vec<Draft>, mutation: Mutation) -> Option<()> {
    let is_read = |draft: &Draft| draft.call == Call::Read && matches!(draft.outcome, Outcome::Ok(_));
    let is_done = |draft: &Draft| draft.outcome == Outcome::Ok(Answer::Done);
    match mutation {
        Mutation::None => {}
        Mutation::ImpossibleValue => {
            let at = pick(rng, drafts, is_read)?;
            drafts[at].outcome = Outcome::Ok(Answer::Value(Some("never".to_owned())));
        }
        Mutation::StaleRead => {
            let at = pick(rng, drafts, is_read)?;
            let found = drafts[at].outcome.clone();
            let stale = |draft: &Draft| match &draft.call {
                Call::Write(value) => Some(Outcome::Ok(Answer::Value(Some(value.clone())))),
                _ => None,
            };
            let is_older = |draft: &Draft| stale(draft).is_some_and(|stale| stale != found);
            let older = pick(rng, &drafts[..at], is_older)?;
            drafts[at].outcome = stale(&drafts[older])?;
        }
        Mutation::LostWrite => {
            // Acknowledged, and the rest goes on as if it had not been.
            let at = pick(rng, drafts, |draft| draft.outcome == Outcome::Unknown)
                .or_else(|| pick(rng, drafts, |draft| draft.outcome == Outcome::Failed))?;
            drafts[at].outcome = Outcome::Ok(Answer::Done);
            if drafts[at].call == Call::Read {
                return None;
            }
        }
        Mutation::DoubledCas => {
            let at = pick(rng, drafts, |draft| is_done(draft) && matches!(draft.call, Call::Cas { .. }))?;
            let shift = rng.below(60);
            let mut again = drafts[at].clone();
            (again.invoked, again.returned) = (again.invoked + shift, again.returned + shift);
            drafts.push(again);
        }
        Mutation::SwappedPair => {
            let (one, other) = (pick(rng, drafts, |_| true)?, pick(rng, drafts, |_| true)?);
            if one == other {
                return None;
            }
            let (a, b) = (drafts[one].clone(), drafts[other].clone());
            (drafts[one].call, drafts[one].outcome) = (b.call, b.outcome);
            (drafts[other].call, drafts[other].outcome) = (a.call, a.outcome);
        }
    }
    Some(())
}

fn pick(rng: &mut Rng, drafts: &[Draft], fits: impl Fn(&Draft) -> bool) -> Option<usize> {
    let places: Vec<usize> = (0..drafts.len()).filter(|&at| fits(&drafts[at])).collect();
    let place = rng.below(places.len().max(1) as u64);
    places.get(usize::try_from(place).unwrap()).copied()
}

/// The drafts as events, each operation by a process of its own.
fn history(drafts: &[Draft]) -> KeyHistory {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, draft) in drafts.iter().enumerate() {
        events.extend([(draft.invoked, false, at), (draft.returned, true, at)]);
    }
    events.sort_unstable();
    let mut history = History::new();
    for (_, is_return, at) in events {
        let process = Process(at as u64);
        if is_return {
            history.complete(process, drafts[at].outcome.clone()).unwrap();
        } else {
            history.invoke(process, "k", drafts[at].call.clone()).unwrap();
        }
    }
    history
}

/// What was seen before this event, with everything open then unfinished.
fn prefix(history: &KeyHistory, end: u64) -> Vec<Operation<Call, Answer>> {
    let begun = history.operations().iter().filter(|operation| operation.invoked < end);
    let cut = begun.map(|operation| match operation.outcome {
        Outcome::Ok(_) if operation.returned >= Some(end) => {
            Operation { outcome: Outcome::Unknown, ..operation.clone() }
        }
        _ => operation.clone(),
    });
    cut.collect()
}

/// A window must fail where it says, not before, and by itself.
fn assert_window(history: &KeyHistory, window: &Window<Call, Answer>, seed: u64) {
    let end = window.fails_at();
    assert!(!brute::is_linearizable(&prefix(history, end + 1), &None), "seed {seed}: {window}");
    assert!(brute::is_linearizable(&prefix(history, end), &None), "seed {seed}: {window}");
    let unfinished: Vec<Operation<Call, Answer>> = prefix(history, end + 1)
        .into_iter()
        .filter(|operation| window.operations().iter().any(|kept| kept.process == operation.process))
        .collect();
    if window.begins_at() == 0 {
        assert!(!brute::is_linearizable(&unfinished, &None), "seed {seed}: {window}");
        return;
    }
    for start in states_of(&prefix(history, end)) {
        for choice in 0..1u32 << unfinished.len() {
            // Any of those that are open where it begins may have taken effect before.
            let is_before = |at: usize| choice & (1 << at) != 0;
            let mut all = 0..unfinished.len();
            if all.clone().all(|at| !is_before(at) || unfinished[at].invoked < window.begins_at()) {
                let inside = all.by_ref().filter(|&at| !is_before(at));
                let inside: Vec<_> = inside.map(|at| unfinished[at].clone()).collect();
                assert!(!brute::is_linearizable(&inside, &start), "seed {seed}: {start:?} {window}");
            }
        }
    }
}

/// Every state that a register could hold after these, without appends.
fn states_of(operations: &[Operation<Call, Answer>]) -> Vec<Option<String>> {
    let changes = operations.iter().filter(|operation| operation.outcome != Outcome::Failed);
    let left = changes.filter_map(|operation| match &operation.call {
        Call::Write(value) => Some(Some(value.clone())),
        Call::Cas { new, .. } => Some(new.clone()),
        _ => None,
    });
    left.chain([None]).collect()
}

#[test]
fn mutated_histories_are_judged_as_by_brute_force() {
    let mut judged = BTreeMap::<(String, bool), u32>::new();
    for seed in 0..12_000 {
        let mut rng = Rng::from_seed(seed);
        let appends = seed % 4 == 0;
        let mutation = MUTATIONS[usize::try_from(seed).unwrap() % MUTATIONS.len()];
        let mut drafts = draw(&mut rng, appends);
        if mutate(&mut rng, &mut drafts, mutation).is_none() || drafts.len() as u64 > OPERATIONS_MAX {
            continue;
        }
        let history = history(&drafts);
        let truth = brute::is_linearizable(history.operations(), &None);
        match judge(&history) {
            Verdict::Linearizable => assert!(truth, "seed {seed}: {:#?}", history.operations()),
            Verdict::NotLinearizable(window) => {
                assert!(!truth, "seed {seed}: {:#?}", history.operations());
                if !appends {
                    assert_window(&history, &window, seed);
                }
            }
            Verdict::Unknown => panic!("seed {seed}: the budget is spent"),
        }
        assert!(truth || mutation != Mutation::None, "seed {seed}: a correct register is called wrong");
        *judged.entry((format!("{mutation:?}"), truth)).or_default() += 1;
    }
    println!("{judged:#?}");
    assert!(judged.values().sum::<u32>() >= 6_000, "{judged:?}");
    for mutation in &MUTATIONS[1..] {
        let wrong = judged.get(&(format!("{mutation:?}"), false)).copied().unwrap_or_default();
        assert!(wrong >= 100, "{mutation:?} made {wrong} histories that no order explains");
    }
}

#[test]
fn a_verdict_never_depends_on_the_budget_but_for_unknown() {
    for seed in 0..600 {
        let mut rng = Rng::from_seed(seed);
        let mut drafts = draw(&mut rng, false);
        let mutation = MUTATIONS[usize::try_from(seed).unwrap() % MUTATIONS.len()];
        if mutate(&mut rng, &mut drafts, mutation).is_none() {
            continue;
        }
        let history = history(&drafts);
        let is_linearizable = matches!(judge(&history), Verdict::Linearizable);
        for steps in 0..40 {
            let mut budget = Budget::steps(steps);
            match check(&history, &Register::absent(), &mut budget) {
                Verdict::Linearizable => assert!(is_linearizable, "seed {seed}, {steps} steps"),
                Verdict::NotLinearizable(_) => assert!(!is_linearizable, "seed {seed}, {steps} steps"),
                Verdict::Unknown => {}
            }
            assert!(budget.spent() <= steps, "seed {seed}: {} of {steps} steps", budget.spent());
        }
    }
}
