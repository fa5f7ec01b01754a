//! A set of 64-bit numbers kept as inclusive ranges: packet numbers received, call ids closed, bytes reassembled.

use core::fmt;

/// Ascending, disjoint, never adjacent ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    /// Adds `low..=high`; true when any of it was missing.
    pub(super) fn insert(&mut self, low: u64, high: u64) -> bool {
        assert!(low <= high, "range {low}..={high} runs backwards");
        match self.ranges.last_mut() {
            None => {
                self.ranges.push((low, high));
                return true;
            }
            // The common case is the next number, or one a little beyond a gap.
            Some(last) if low > last.1.saturating_add(1) => {
                self.ranges.push((low, high));
                return true;
            }
            Some(last) if low >= last.0 => {
                let grew = high > last.1;
                last.1 = last.1.max(high);
                return grew;
            }
            Some(_) => {}
        }
        self.insert_below(low, high)
    }

    fn insert_below(&mut self, low: u64, high: u64) -> bool {
        let from = self.ranges.partition_point(|range| range.1.saturating_add(1) < low);
        let to = self.ranges.partition_point(|range| range.0 <= high.saturating_add(1));
        if from == to {
            self.ranges.insert(from, (low, high));
            return true;
        }
        let merged = (low.min(self.ranges[from].0), high.max(self.ranges[to - 1].1));
        if to - from == 1 && merged == self.ranges[from] {
            return false;
        }
        self.ranges[from] = merged;
        self.ranges.drain(from + 1..to);
        true
    }

    /// True when the number is in the set.
    pub(super) fn contains(&self, number: u64) -> bool {
        match self.ranges.last() {
            Some(last) if number > last.1 => false,
            Some(last) if number >= last.0 => true,
            _ => {
                let at = self.ranges.partition_point(|range| range.1 < number);
                self.ranges.get(at).is_some_and(|range| range.0 <= number)
            }
        }
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// True when the set holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The largest number in it.
    pub(super) fn largest(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.1)
    }

    /// The ranges, ascending.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }

    /// Forgets the lowest ranges until at most `count` are left.
    pub(super) fn keep_highest(&mut self, count: usize) {
        let extra = self.ranges.len().saturating_sub(count);
        self.ranges.drain(..extra);
    }

    /// Closes the lowest gaps until at most `count` ranges are left: numbers are added, never forgotten.
    pub(super) fn close_lowest_gaps(&mut self, count: usize) {
        let extra = self.ranges.len().saturating_sub(count.max(1));
        if extra > 0 {
            let low = self.ranges[0].0;
            self.ranges.drain(..extra);
            self.ranges[0].0 = low;
        }
    }

    /// Takes out the lowest range.
    pub(super) fn pop_lowest(&mut self) -> Option<(u64, u64)> {
        if self.ranges.is_empty() { None } else { Some(self.ranges.remove(0)) }
    }
}

impl fmt::Display for RangeSet {
    /// `[1-4 7 9-10]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, (low, high)) in self.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            if low == high {
                write!(f, "{space}{low}")?;
            } else {
                write!(f, "{space}{low}-{high}")?;
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn neighbours_grow_together() {
        let mut set = RangeSet::default();
        assert!(set.insert(5, 5));
        assert!(set.insert(7, 8));
        assert!(!set.insert(7, 7));
        assert_eq!(set.to_string(), "[5 7-8]");
        assert!(set.insert(6, 6));
        assert_eq!(set.to_string(), "[5-8]");
        assert!(set.insert(u64::MAX, u64::MAX));
        assert!(set.insert(0, 0));
        assert_eq!(set.to_string(), "[0 5-8 18446744073709551615]");
    }

    #[test]
    fn a_full_set_forgets_the_lowest_or_closes_the_lowest_gaps() {
        let mut set = RangeSet::default();
        for number in [1, 3, 5, 7] {
            set.insert(number, number);
        }
        let mut closed = set.clone();
        set.keep_highest(2);
        assert_eq!(set.to_string(), "[5 7]");
        closed.close_lowest_gaps(2);
        assert_eq!(closed.to_string(), "[1-5 7]");
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(inserts in prop::collection::vec((0u64..200, 0u64..12), 0..60)) {
            let mut set = RangeSet::default();
            let mut plain = BTreeSet::new();
            for (low, more) in inserts {
                let before = plain.len();
                plain.extend(low..=low + more);
                prop_assert_eq!(set.insert(low, low + more), plain.len() > before);
                prop_assert_eq!(set.largest(), plain.last().copied());
                for number in 0..220 {
                    prop_assert_eq!(set.contains(number), plain.contains(&number));
                }
                for (a, b) in set.ranges.iter().zip(set.ranges.iter().skip(1)) {
                    prop_assert!(a.1 + 1 < b.0, "{} touches", set);
                }
            }
        }
    }
}
