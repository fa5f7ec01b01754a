//! The table against a model that is slow and plainly right, under random logs.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What the naive table remembers of a session. Sequences are small enough to keep sets of them.
#[derive(Clone, Default)]
struct Naive {
    last_use: u64,
    finished: BTreeSet<u64>,
    results: BTreeMap<u64, (Index, Term, Vec<u8>)>,
}

impl Naive {
    fn bytes(&self) -> usize {
        self.results.values().map(|(_, _, result)| result.len()).sum()
    }
}

#[derive(Clone)]
struct Model {
    limits: Limits,
    sessions: BTreeMap<u64, Naive>,
}

impl Model {
    fn shrink(&mut self) {
        let is_over = |model: &Self| {
            let bytes: usize = model.sessions.values().map(Naive::bytes).sum();
            let has_others = model.sessions.len() > 1;
            model.sessions.len() as u64 > model.limits.sessions_max
                || (has_others && bytes as u64 > model.limits.bytes_max)
        };
        while is_over(self) {
            let idle = self.sessions.iter().min_by_key(|(_, session)| session.last_use).map(|(&id, _)| id);
            self.sessions.remove(&idle.unwrap());
        }
    }

    fn apply(&mut self, index: Index, term: Term, command: &Command<'_>) -> Outcome {
        let outcome = match command {
            Command::SetLimits(limits) => {
                self.limits = *limits;
                Outcome::LimitsSet(*limits)
            }
            Command::Open => {
                self.sessions.insert(index.0, Naive { last_use: index.0, ..Naive::default() });
                Outcome::Opened { session: SessionId(index) }
            }
            Command::Close { session } => {
                self.sessions.remove(&session.0.0);
                Outcome::Closed
            }
            Command::Expire { unused_since, sessions } => {
                let before = self.sessions.len();
                self.sessions.retain(|&id, session| {
                    !sessions.contains(&SessionId(Index(id))) || session.last_use > unused_since.0
                });
                Outcome::Expired { count: before - self.sessions.len() }
            }
            Command::Write { session, sequence, finished, command } => {
                let limits = self.limits;
                let Some(session) = self.sessions.get_mut(&session.0.0) else {
                    return Outcome::SessionExpired;
                };
                session.last_use = index.0;
                session.finished.extend((1..60).filter(|&n| finished.contains(Sequence(n))));
                let Naive { finished, results, .. } = session;
                results.retain(|sequence, _| !finished.contains(sequence));
                write(session, limits, (index, term), sequence.0, command)
            }
        };
        self.shrink();
        outcome
    }
}

fn write(
    naive: &mut Naive,
    limits: Limits,
    (index, term): (Index, Term),
    sequence: u64,
    command: &[u8],
) -> Outcome {
    if naive.finished.contains(&sequence) {
        return Outcome::Finished;
    }
    let is_repeat = naive.results.contains_key(&sequence);
    let is_full =
        naive.results.len() as u64 >= limits.window_max || naive.bytes() as u64 >= limits.window_bytes_max;
    if !is_repeat && is_full {
        return Outcome::WindowFull;
    }
    let result = Effects::default().apply(index, command);
    let (index, term, result) = naive.results.entry(sequence).or_insert((index, term, result)).clone();
    Outcome::Applied { index, term, result: result.into(), is_repeat }
}

/// A step in terms that stay meaningful: sessions by their place among those ever opened.
#[derive(Clone, Debug)]
enum Step {
    SetLimits(Limits),
    Open,
    Close(usize),
    Expire { ago: u64, places: Vec<usize> },
    Write { place: usize, sequence: u64, finished: Vec<(u64, u64)>, bytes: usize },
    Garbage(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let limits = (1u64..5, 1u64..5, 1u64..60, 1u64..150).prop_map(
        |(sessions_max, window_max, window_bytes_max, bytes_max)| {
            Step::SetLimits(Limits {
                sessions_max,
                window_max,
                window_bytes_max,
                bytes_max,
                snapshot_bytes: 1,
            })
        },
    );
    let finished = prop::collection::vec((1u64..20, 0u64..4), 0..4);
    let write = (0usize..8, 1u64..12, finished, 0usize..40)
        .prop_map(|(place, sequence, finished, bytes)| Step::Write { place, sequence, finished, bytes });
    let expire = (0u64..20, prop::collection::vec(0usize..8, 0..4))
        .prop_map(|(ago, places)| Step::Expire { ago, places });
    let step = prop_oneof![
        1 => limits,
        4 => Just(Step::Open),
        1 => (0usize..8).prop_map(Step::Close),
        1 => expire,
        20 => write,
        1 => prop::collection::vec(5u8..99, 0..4).prop_map(Step::Garbage),
    ];
    prop::collection::vec(step, 1..120)
}

/// The command of a step; sessions are counted back from the newest.
fn with_command<T>(
    step: &Step,
    opened: &[SessionId],
    last: Index,
    then: impl FnOnce(&Command<'_>) -> T,
) -> T {
    let session = |place: usize| opened.iter().rev().nth(place).copied().unwrap_or(SessionId(Index(9999)));
    match step {
        Step::SetLimits(limits) => then(&Command::SetLimits(*limits)),
        Step::Open | Step::Garbage(_) => then(&Command::Open),
        Step::Close(place) => then(&Command::Close { session: session(*place) }),
        Step::Expire { ago, places } => {
            let places: BTreeSet<_> = places.iter().collect();
            let sessions = places.into_iter().map(|&place| session(place)).collect();
            then(&Command::Expire { unused_since: Index(last.0.saturating_sub(*ago)), sessions })
        }
        Step::Write { place, sequence, finished, bytes } => {
            let mut ranges = Ranges::default();
            for &(first, more) in finished {
                assert!(ranges.insert(Sequence(first), Sequence(first + more)));
            }
            let (session, sequence) = (session(*place), Sequence(*sequence));
            then(&Command::Write { session, sequence, finished: ranges, command: &vec![b'x'; *bytes] })
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Invariant 16 on top of equality with the model: no two effects of one (session, sequence), and all its
    /// answers identical.
    #[test]
    fn a_random_log_leads_where_the_model_says(steps in steps()) {
        let mut replica = Replica::default();
        let mut model = Model { limits: Limits::FOUNDING, sessions: BTreeMap::new() };
        let mut opened = Vec::new();
        let mut answers = BTreeMap::new();
        for step in &steps {
            let effects = replica.effects();
            if let Step::Garbage(bytes) = step {
                prop_assert!(matches!(replica.apply_bytes(bytes), Outcome::Malformed(_)));
                continue;
            }
            let (outcome, expected, written) = with_command(step, &opened, replica.last, |command| {
                let outcome = replica.apply(command);
                let expected = model.apply(replica.last, Term(1 + replica.last.0 / 10), command);
                let written = match command {
                    Command::Write { session, sequence, .. } => Some((*session, *sequence)),
                    _ => None,
                };
                (outcome, expected, written)
            });
            prop_assert_eq!(&outcome, &expected);
            if let Outcome::Opened { session } = outcome {
                opened.push(session);
            }
            let is_effect = matches!(outcome, Outcome::Applied { is_repeat: false, .. });
            prop_assert_eq!(replica.effects() - effects, usize::from(is_effect));
            if let (Some(write), Outcome::Applied { .. }) = (written, &outcome) {
                let answer = result_of(&outcome);
                let first: &(Index, _, _) = answers.entry(write).or_insert_with(|| answer.clone());
                prop_assert_eq!(first, &answer);
                prop_assert!(!is_effect || first.0 == replica.last, "a second effect");
            }
            check_table(&replica.sessions, &model)?;
        }
        check_codec(&replica.sessions)?;
    }
}

fn check_table(table: &Sessions, model: &Model) -> Result<(), TestCaseError> {
    let mut by_use: Vec<_> = model.sessions.iter().map(|(&id, session)| (session.last_use, id)).collect();
    by_use.sort_unstable();
    let idle: Vec<_> = table.idle().map(|(session, last_use)| (last_use.0, session.0.0)).collect();
    prop_assert_eq!(idle, by_use);
    prop_assert_eq!(table.bytes(), model.sessions.values().map(Naive::bytes).sum::<usize>() as u64);
    prop_assert!(table.len() as u64 <= table.limits().sessions_max);
    Ok(())
}

fn check_codec(table: &Sessions) -> Result<(), TestCaseError> {
    let mut bytes = Vec::new();
    prop_assert_eq!(table.clone().freeze().write(&mut bytes), Ok(()));
    let decoded = Sessions::restore(&mut &bytes[..]);
    // Equality covers the running sums, so they were right all along.
    prop_assert_eq!(decoded.as_ref(), Ok(table));
    let mut again = Vec::new();
    prop_assert_eq!(table.clone().freeze().write(&mut again), Ok(()));
    prop_assert_eq!(&again, &bytes);
    for cut in 0..bytes.len() {
        prop_assert!(Sessions::restore(&mut &bytes[..cut]).is_err());
    }
    Ok(())
}
