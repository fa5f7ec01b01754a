//! The replay window: which of the last 2,048 packet numbers of one peer incarnation were seen.
//!
//! It saves work and keeps captured datagrams out. It is not what makes calls idempotent: every law of this room
//! holds with the window switched off, and the tests run both ways.

/// How many packet numbers below the largest are told apart.
const WINDOW_BITS: u64 = 2048;
const WORDS: usize = (WINDOW_BITS / 64) as usize;

/// A sliding bitmap over packet numbers; word `n / 64 % WORDS` holds number `n`.
#[derive(Clone, Debug)]
pub(super) struct ReplayWindow {
    /// The largest number seen; 0 before the first, because numbers start at 1.
    largest: u64,
    seen: [u64; WORDS],
}

impl ReplayWindow {
    pub(super) const fn new() -> Self {
        Self { largest: 0, seen: [0; WORDS] }
    }

    /// Notes the number; false when it was seen before or is too old to tell.
    pub(super) fn admit(&mut self, number: u64) -> bool {
        if number == 0 {
            return false;
        }
        if number > self.largest {
            self.slide_to(number);
        } else if self.largest - number >= WINDOW_BITS - 64 {
            // The word of `largest` is shared with numbers a whole window below it.
            return false;
        }
        let (word, bit) = place(number);
        let was_seen = self.seen[word] & bit != 0;
        self.seen[word] |= bit;
        !was_seen
    }

    /// The same for a number that may be of another count, and so must not move the window: above it, it is let
    /// through and not noted.
    pub(super) fn admit_uncounted(&mut self, number: u64) -> bool {
        number > self.largest || self.admit(number)
    }

    fn slide_to(&mut self, number: u64) {
        let from = self.largest / 64;
        let words = (number / 64 - from).min(WORDS as u64);
        for step in 1..=words {
            self.seen[((from + step) % WORDS as u64) as usize] = 0;
        }
        self.largest = number;
    }
}

fn place(number: u64) -> (usize, u64) {
    ((number / 64 % WORDS as u64) as usize, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_number_is_admitted_once() {
        let mut window = ReplayWindow::new();
        assert!(window.admit(1));
        assert!(!window.admit(1));
        assert!(window.admit(3));
        assert!(window.admit(2));
        assert!(!window.admit(2));
        assert!(!window.admit(0), "packet numbers start at 1");
    }

    #[test]
    fn what_fell_out_of_the_window_is_refused_although_unseen() {
        let mut window = ReplayWindow::new();
        assert!(window.admit(10_000));
        assert!(window.admit(10_000 - 1_900));
        assert!(!window.admit(10_000 - 2_048));
        assert!(window.admit(u64::MAX));
        assert!(!window.admit(u64::MAX));
    }

    proptest! {
        #[test]
        fn it_never_admits_twice_and_admits_whatever_is_recent(
            steps in prop::collection::vec((-2_100i64..300, 1usize..3), 1..400),
        ) {
            let mut window = ReplayWindow::new();
            let mut seen = BTreeSet::new();
            let mut largest = 5_000u64;
            for (step, copies) in steps {
                let number = largest.checked_add_signed(step).unwrap();
                for _ in 0..copies {
                    let is_new = seen.insert(number);
                    let is_recent = number + WINDOW_BITS - 64 > *seen.last().unwrap();
                    prop_assert_eq!(window.admit(number), is_new && is_recent);
                }
                largest = largest.max(number);
            }
        }
    }
}
