//! A body on its way in, put together from fragments in any order, doubled or overlapping.

use crate::rpc::ranges::RangeSet;
use crate::wire::Fragment;

/// What does not fit what was promised before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReassemblyError {
    /// A fragment names another total than the first one did.
    TotalChanged,
}

/// The bytes that arrived so far. Memory for the total is taken when the first fragment arrives, so the caller has
/// checked it against the credit it granted.
#[derive(Debug)]
pub(super) struct Reassembly {
    bytes: Vec<u8>,
    arrived: RangeSet,
}

impl Reassembly {
    /// Room for a body of this size. Zeroed memory is not touched before bytes arrive.
    pub(super) fn new(total_bytes: usize) -> Self {
        assert!(total_bytes > 0, "a fragment of nothing");
        Self { bytes: vec![0; total_bytes], arrived: RangeSet::default() }
    }

    /// The whole body's size.
    pub(super) fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes in a fragment; true when the body is whole. Bytes that had arrived stay as they were first.
    pub(super) fn add(&mut self, part: &Fragment<'_>) -> Result<bool, ReassemblyError> {
        if part.total_bytes != self.bytes.len() as u64 {
            return Err(ReassemblyError::TotalChanged);
        }
        // The decoder has checked that the fragment is not empty and ends within the total.
        let last = part.offset + part.bytes.len() as u64 - 1;
        let overlaps = self.arrived.iter().any(|(low, high)| low <= last && high >= part.offset);
        if overlaps {
            self.add_missing(part);
        } else {
            let from = part.offset as usize;
            self.bytes[from..from + part.bytes.len()].copy_from_slice(part.bytes);
        }
        self.arrived.insert(part.offset, last);
        Ok(self.is_whole())
    }

    fn add_missing(&mut self, part: &Fragment<'_>) {
        for (at, byte) in (part.offset..).zip(part.bytes) {
            if !self.arrived.contains(at) {
                self.bytes[at as usize] = *byte;
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.arrived.iter().next() == Some((0, self.bytes.len() as u64 - 1))
    }

    /// The body.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        assert!(self.is_whole(), "{} of {} bytes arrived", self.arrived, self.bytes.len());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(body: &[u8], offset: usize, length: usize) -> Fragment<'_> {
        Fragment {
            total_bytes: body.len() as u64,
            offset: offset as u64,
            bytes: &body[offset..offset + length],
        }
    }

    #[test]
    fn another_total_is_refused() {
        let mut reassembly = Reassembly::new(4);
        assert_eq!(reassembly.add(&part(b"abcde", 0, 2)), Err(ReassemblyError::TotalChanged));
        assert_eq!(reassembly.add(&part(b"abcd", 0, 4)), Ok(true));
    }

    #[test]
    fn bytes_that_arrived_are_not_overwritten() {
        let mut reassembly = Reassembly::new(4);
        assert_eq!(reassembly.add(&part(b"abcd", 1, 2)), Ok(false));
        assert_eq!(reassembly.add(&part(b"XXXX", 0, 4)), Ok(true));
        assert_eq!(reassembly.into_bytes(), b"XbcX");
    }

    proptest! {
        #[test]
        fn fragments_in_any_order_give_the_body(
            body in prop::collection::vec(any::<u8>(), 1..300),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 1usize..80), 0..80),
        ) {
            let mut reassembly = Reassembly::new(body.len());
            let mut is_whole = false;
            for (at, length) in cuts {
                let offset = at.index(body.len());
                let length = length.min(body.len() - offset);
                is_whole = reassembly.add(&part(&body, offset, length)).unwrap();
            }
            if !is_whole {
                prop_assert_eq!(reassembly.add(&part(&body, 0, body.len())), Ok(true));
            }
            prop_assert_eq!(reassembly.into_bytes(), body);
        }
    }
}
