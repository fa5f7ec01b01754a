//! The client's side of a session: which sequences it has handed out, and which are finished.

use std::collections::BTreeSet;

use super::ranges::{RANGES_MAX, Ranges};
use crate::types::Sequence;

/// The most writes one session may have open. Between open sequences lie at most one range more than there are
/// of them, so the finished ones always fit into [`RANGES_MAX`] ranges, every write tells all of them, and the
/// table holds results of open sequences only.
pub const OPEN_MAX: usize = RANGES_MAX - 1;

/// Hands out the sequences of one session and keeps account of the finished ones.
#[derive(Clone, Debug)]
pub struct Window {
    next: Sequence,
    open: BTreeSet<Sequence>,
    open_max: usize,
    finished: Ranges,
}

impl Window {
    /// The window of a new session with up to `open_max` writes open at once.
    ///
    /// # Panics
    /// Unless `open_max` is 1 to [`OPEN_MAX`].
    #[must_use]
    pub fn new(open_max: usize) -> Self {
        assert!((1..=OPEN_MAX).contains(&open_max), "a window of {open_max} open writes");
        Self { next: Sequence(1), open: BTreeSet::new(), open_max, finished: Ranges::default() }
    }

    /// The next sequence, open from now on; `None` while the window is full.
    pub fn open(&mut self) -> Option<Sequence> {
        if self.open.len() == self.open_max {
            return None;
        }
        let sequence = self.next;
        self.next = sequence.next();
        self.open.insert(sequence);
        Some(sequence)
    }

    /// The answer to this sequence has come, or its caller gave up. After a later write is applied, no late copy
    /// of the given-up one can take effect. Without effect when it is not open.
    pub fn finish(&mut self, sequence: Sequence) {
        if self.open.remove(&sequence) {
            let is_in = self.finished.insert(sequence, sequence);
            assert!(
                is_in,
                "{} finished ranges between {} open",
                self.finished.pairs().len(),
                self.open.len()
            );
        }
    }

    /// How many writes are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// What the next write, or the retry of one, tells as finished.
    #[must_use]
    pub const fn finished(&self) -> &Ranges {
        &self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn sequences_start_at_one_and_a_full_window_hands_out_none() {
        let mut window = Window::new(2);
        assert_eq!(
            [window.open(), window.open(), window.open()],
            [Some(Sequence(1)), Some(Sequence(2)), None]
        );
        window.finish(Sequence(2));
        window.finish(Sequence(2));
        window.finish(Sequence(9));
        assert_eq!(window.finished().pairs(), [(2, 2)]);
        assert_eq!(window.open(), Some(Sequence(3)));
        assert_eq!(window.open_count(), 2);
    }

    #[test]
    fn the_finished_always_fit_whatever_the_order_of_answers() {
        let mut rng = Rng::from_seed(11);
        let mut window = Window::new(OPEN_MAX);
        let mut open = Vec::new();
        for _ in 0..10_000 {
            while let Some(sequence) = window.open() {
                open.push(sequence);
            }
            let place = usize::try_from(rng.below(open.len() as u64)).unwrap();
            window.finish(open.swap_remove(place));
            assert!(open.iter().all(|&sequence| !window.finished().contains(sequence)));
        }
        open.iter().for_each(|&sequence| window.finish(sequence));
        assert_eq!(window.finished().pairs().len(), 1);
    }

    #[test]
    fn the_worst_order_takes_every_range_there_is() {
        let mut window = Window::new(OPEN_MAX);
        for _ in 0..OPEN_MAX {
            window.open();
        }
        // Every even one finished leaves 16 open; opening and finishing further ones fills the gaps between.
        let mut odd = 2;
        while window.open_count() > 0 && odd <= 2 * OPEN_MAX as u64 {
            window.finish(Sequence(odd));
            window.open();
            odd += 2;
        }
        assert_eq!(window.open_count(), OPEN_MAX);
        assert_eq!(window.finished().pairs().len(), OPEN_MAX - 1);
    }
}
