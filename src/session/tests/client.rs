//! The client's window against the table, over a path that loses, doubles and reorders.

use super::*;
use crate::rng::Rng;

const WRITES: u64 = 400;

/// Copies under way in one direction.
struct Path<T>(Vec<T>);

impl<T: Clone> Path<T> {
    /// Takes out any one, and at times leaves it in as well, to come again.
    fn take(&mut self, rng: &mut Rng) -> Option<T> {
        if self.0.is_empty() {
            return None;
        }
        let place = usize::try_from(rng.below(self.0.len() as u64)).unwrap();
        let taken = if rng.chance(0.2) { self.0[place].clone() } else { self.0.swap_remove(place) };
        Some(taken)
    }

    fn put(&mut self, rng: &mut Rng, item: T) {
        if rng.chance(0.7) {
            self.0.push(item);
        }
    }
}

/// Runs one client until all its writes are answered; returns the replica, the answers and how many refusals
/// for a full window there were.
fn run(seed: u64, open_max: usize, window_max: u64) -> (Replica, Vec<Outcome>, u64) {
    let mut rng = Rng::from_seed(seed);
    let mut replica = Replica::with(Limits { window_max, ..Limits::FOUNDING });
    let session = replica.open();
    let mut window = Window::new(open_max);
    let (mut requests, mut replies) = (Path(Vec::new()), Path(Vec::new()));
    let (mut open, mut answers, mut full) = (Vec::new(), Vec::new(), 0);
    for _ in 0..1_000_000 {
        if answers.len() as u64 == WRITES {
            return (replica, answers, full);
        }
        // A new write while there is room, or the retry of any open one with what is finished by then.
        let has_more = (answers.len() + open.len()) as u64 != WRITES;
        if let Some(sequence) = has_more.then(|| window.open()).flatten() {
            open.push(sequence);
        }
        let sequence = open[usize::try_from(rng.below(open.len() as u64)).unwrap()];
        requests.put(&mut rng, (sequence, window.finished().clone()));
        if let Some((sequence, finished)) = requests.take(&mut rng) {
            let text = sequence.to_string();
            let command = Command::Write { session, sequence, finished, command: text.as_bytes() };
            let outcome = replica.apply(&command);
            full += u64::from(outcome == Outcome::WindowFull);
            replies.put(&mut rng, (sequence, outcome));
        }
        if let Some((sequence, outcome @ Outcome::Applied { .. })) = replies.take(&mut rng)
            && let Some(place) = open.iter().position(|&other| other == sequence)
        {
            open.swap_remove(place);
            window.finish(sequence);
            answers.push(outcome);
        }
    }
    panic!("seed {seed}: {} of {WRITES} writes answered", answers.len());
}

#[test]
fn u1_every_write_of_a_lossy_client_takes_effect_exactly_once() {
    for seed in 0..20 {
        let (replica, answers, full) = run(seed, OPEN_MAX, OPEN_MAX as u64);
        assert_eq!(replica.effects() as u64, WRITES, "seed {seed}");
        assert_eq!(full, 0, "seed {seed}: the table holds results of open sequences only");
        for answer in &answers {
            let (index, _, result) = result_of(answer);
            let effect = replica.machine.0.iter().find(|(at, _)| *at == index).unwrap();
            assert_eq!(&*result, format!("{index}:{}", String::from_utf8_lossy(&effect.1)).as_bytes());
        }
    }
}

#[test]
fn a_client_with_more_open_than_the_window_takes_gets_every_write_through() {
    for seed in 0..20 {
        let (replica, _, full) = run(seed, OPEN_MAX, 3);
        assert_eq!(replica.effects() as u64, WRITES, "seed {seed}");
        assert!(full > 0, "seed {seed} never met a full window");
    }
}
