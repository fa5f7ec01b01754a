//! A small set of sequences, kept as ranges.

use core::fmt;

use crate::cursor::{CursorError, Reader, VARINT_MAX, Writer};
use crate::types::Sequence;

/// The most ranges one message tells and one session remembers.
pub const RANGES_MAX: usize = 32;

/// Sequences as inclusive ranges, ascending and never touching, at most [`RANGES_MAX`] of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The set of these (first, last) pairs, or `None` when they are not what `Self` promises or hold a
    /// sequence that is 0 or does not fit a varint.
    #[must_use]
    pub fn from_pairs(pairs: &[(u64, u64)]) -> Option<Self> {
        let mut floor = 1;
        for &(first, last) in pairs {
            if first < floor || last < first || last > VARINT_MAX {
                return None;
            }
            floor = last + 2;
        }
        (pairs.len() <= RANGES_MAX).then(|| Self(pairs.to_vec()))
    }

    /// The (first, last) pairs, ascending.
    #[must_use]
    pub fn pairs(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// True when nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when the sequence is in it.
    #[must_use]
    pub fn contains(&self, sequence: Sequence) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= sequence.0);
        after > 0 && sequence.0 <= self.0[after - 1].1
    }

    /// True when every sequence of `first..=last` is in it.
    fn covers(&self, (first, last): (u64, u64)) -> bool {
        let after = self.0.partition_point(|&(start, _)| start <= first);
        after > 0 && last <= self.0[after - 1].1
    }

    /// Adds a range, unless that would take more than [`RANGES_MAX`] ranges; says whether it is in now.
    pub fn insert(&mut self, first: Sequence, last: Sequence) -> bool {
        let (first, last) = (first.0, last.0);
        assert!(
            0 < first && first <= last && last <= VARINT_MAX,
            "{first}..={last} is no range of sequences"
        );
        // Everything from `start` to `end` overlaps the new range or touches it, and becomes one with it.
        let start = self.0.partition_point(|&(_, end)| end < first - 1);
        let end = self.0.partition_point(|&(begin, _)| begin <= last + 1);
        if start == end {
            if self.0.len() == RANGES_MAX {
                return false;
            }
            self.0.insert(start, (first, last));
            return true;
        }
        let merged = (self.0[start].0.min(first), self.0[end - 1].1.max(last));
        self.0[start] = merged;
        self.0.drain(start + 1..end);
        true
    }

    /// Adds the ranges of another set, lowest first, as far as [`RANGES_MAX`] allows; returns those that brought
    /// something and are in now.
    pub(super) fn merge(&mut self, other: &Self) -> Vec<(u64, u64)> {
        let is_new = |&(first, last): &(u64, u64)| {
            !self.covers((first, last)) && self.insert(Sequence(first), Sequence(last))
        };
        other.0.iter().copied().filter(is_new).collect()
    }

    /// Appends count, then for each range the gap since the one before and its length less one.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.0.len() as u64);
        let mut floor = 1;
        for &(first, last) in &self.0 {
            out.put_varint(first - floor);
            out.put_varint(last - first);
            floor = last + 2;
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CursorError> {
        let count = reader.varint()?;
        if count > RANGES_MAX as u64 {
            return Err(CursorError::Value);
        }
        let mut pairs = Vec::new();
        let mut floor = 1;
        for _ in 0..count {
            // Neither sum can wrap: the three terms are below 2^62 each.
            let first = floor + reader.varint()?;
            let last = first + reader.varint()?;
            if last > VARINT_MAX {
                return Err(CursorError::Value);
            }
            pairs.push((first, last));
            floor = last + 2;
        }
        Ok(Self(pairs))
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (place, (first, last)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { " " };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
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
    fn neighbours_become_one_range() {
        let mut ranges = Ranges::default();
        for sequence in [5, 1, 3, 2, 9, 4] {
            assert!(ranges.insert(Sequence(sequence), Sequence(sequence)));
        }
        assert_eq!(ranges.to_string(), "[1-5 9]");
        assert!(ranges.insert(Sequence(2), Sequence(20)));
        assert_eq!(ranges.pairs(), [(1, 20)]);
    }

    #[test]
    fn a_range_too_many_is_refused_and_one_that_closes_a_gap_is_not() {
        let mut ranges = Ranges::default();
        for n in 0..RANGES_MAX as u64 {
            assert!(ranges.insert(Sequence(1 + 2 * n), Sequence(1 + 2 * n)));
        }
        let full = ranges.clone();
        assert!(!ranges.insert(Sequence(100), Sequence(100)));
        assert_eq!(ranges, full);
        assert!(ranges.insert(Sequence(2), Sequence(2)));
        assert!(ranges.insert(Sequence(100), Sequence(100)));
    }

    #[test]
    fn pairs_out_of_order_touching_or_out_of_range_are_refused() {
        for pairs in [&[(0, 1)][..], &[(2, 1)], &[(1, 2), (3, 4)], &[(5, 6), (1, 2)], &[(1, VARINT_MAX + 1)]]
        {
            assert_eq!(Ranges::from_pairs(pairs), None, "{pairs:?}");
        }
        let many: Vec<_> = (0..=RANGES_MAX as u64).map(|n| (1 + 2 * n, 1 + 2 * n)).collect();
        assert_eq!(Ranges::from_pairs(&many), None);
        assert!(Ranges::from_pairs(&many[1..]).is_some());
    }

    proptest! {
        #[test]
        fn ranges_hold_what_a_plain_set_holds(inserted in prop::collection::vec((1u64..60, 0u64..6), 0..40)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (first, more) in inserted {
                prop_assert!(ranges.insert(Sequence(first), Sequence(first + more)));
                set.extend(first..=first + more);
                prop_assert_eq!(Ranges::from_pairs(ranges.pairs()), Some(ranges.clone()));
            }
            for sequence in 0..70 {
                prop_assert_eq!(ranges.contains(Sequence(sequence)), set.contains(&sequence));
            }
            let mut bytes = Vec::new();
            ranges.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Ranges::decode(&mut reader), Ok(ranges));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_decode_to_nothing_or_to_what_they_encode(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(ranges) = Ranges::decode(&mut reader) {
                prop_assert_eq!(Ranges::from_pairs(ranges.pairs()), Some(ranges.clone()));
                let mut again = Vec::new();
                ranges.encode(&mut again);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.rest().len()]);
            }
        }
    }
}
