//! Configurations: which operations have taken effect, and the state they led to.

use std::collections::BTreeSet;

/// A set of small numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bits {
    /// Numbers below 64, as almost always.
    One(u64),
    /// More.
    Many(Box<[u64]>),
}

impl Bits {
    /// An empty set of numbers below `bound`.
    pub(super) fn below(bound: usize) -> Self {
        match bound.div_ceil(64) {
            0 | 1 => Self::One(0),
            words => Self::Many(vec![0; words].into_boxed_slice()),
        }
    }

    pub(super) fn set(&mut self, number: usize) {
        *self.word(number) |= 1 << (number % 64);
    }

    pub(super) fn clear(&mut self, number: usize) {
        *self.word(number) &= !(1 << (number % 64));
    }

    fn word(&mut self, number: usize) -> &mut u64 {
        match self {
            Self::One(word) => {
                assert!(number < 64, "{number} is in no set of one word");
                word
            }
            Self::Many(words) => &mut words[number / 64],
        }
    }
}

/// Who may take effect next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Next {
    /// Everyone.
    Anyone,
    /// One that depends on the state: a pending operation led to it, and only an observer makes that worth it.
    Observer,
}

/// What tells configurations apart that have passed the same returns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Configuration {
    /// The state's number.
    pub(super) state: u32,
    /// The slots of those that took effect and whose return has not been passed.
    pub(super) ahead: Bits,
    pub(super) next: Next,
}

/// Configurations that need not be explored again.
#[derive(Debug)]
pub(super) struct Seen(Vec<BTreeSet<Configuration>>);

impl Seen {
    /// For this many returns.
    pub(super) fn new(returns: usize) -> Self {
        Self(vec![BTreeSet::new(); returns])
    }

    /// Remembers a configuration that waits for this return. False when it, or one that allows more, was known.
    pub(super) fn insert(&mut self, waits_for: usize, configuration: Configuration) -> bool {
        let seen = &mut self.0[waits_for];
        if configuration.next == Next::Observer {
            let wider = Configuration { next: Next::Anyone, ..configuration.clone() };
            if seen.contains(&wider) {
                return false;
            }
        }
        seen.insert(configuration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_numbers_of_any_size() {
        for (bound, number) in [(1, 0), (64, 63), (65, 64), (1000, 999)] {
            let mut bits = Bits::below(bound);
            bits.set(number);
            assert_ne!(bits, Bits::below(bound), "{number}");
            bits.clear(number);
            assert_eq!(bits, Bits::below(bound), "{number}");
        }
    }

    #[test]
    fn a_configuration_that_allows_more_stands_for_one_that_allows_less() {
        let of = |next| Configuration { state: 1, ahead: Bits::below(3), next };
        let mut seen = Seen::new(2);
        assert!(seen.insert(0, of(Next::Observer)));
        assert!(seen.insert(0, of(Next::Anyone)));
        assert!(!seen.insert(0, of(Next::Observer)));
        assert!(seen.insert(1, of(Next::Observer)));
    }
}
