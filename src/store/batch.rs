//! What a caller wants to be durable.

use crate::entry::Entry;
use crate::types::{HardState, Index};

/// One request to the store: it is durable as a whole when `persist` returns, in the order hard state,
/// truncation, entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The new term and vote, if they changed.
    pub hard_state: Option<HardState>,
    /// Drop the entries from this index on, before anything is appended.
    pub truncate_from: Option<Index>,
    /// Append these; they follow the last entry left, without a gap.
    pub entries: Vec<Entry>,
}

impl Batch {
    /// True when there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hard_state.is_none() && self.truncate_from.is_none() && self.entries.is_empty()
    }

    /// How many bytes of content the entries carry: what to bound when batches are merged.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.payload.content_bytes()).sum()
    }

    /// Adds a later request, so that one write serves both: the newer hard state wins, a later truncation drops
    /// queued entries and reaches the disk only where it goes below them.
    ///
    /// # Panics
    /// When the later entries do not follow what is left: requests were merged out of order.
    pub fn merge(&mut self, later: Self) {
        if later.hard_state.is_some() {
            self.hard_state = later.hard_state;
        }
        if let Some(from) = later.truncate_from {
            self.entries.retain(|entry| entry.index < from);
            if self.entries.is_empty() {
                self.truncate_from = Some(self.truncate_from.map_or(from, |first| first.min(from)));
            }
        }
        if let (Some(last), Some(first)) = (self.entries.last(), later.entries.first()) {
            assert_eq!(first.index, last.index.next(), "entries merged out of order");
        }
        self.entries.extend(later.entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Payload;
    use crate::types::{ClusterId, Term};

    fn batch(truncate_from: Option<u64>, term: u64, indexes: core::ops::RangeInclusive<u64>) -> Batch {
        let entry = |i| Entry::new(ClusterId([1; 16]), Index(i), Term(term), Payload::Noop, 0);
        Batch {
            hard_state: None,
            truncate_from: truncate_from.map(Index),
            entries: indexes.map(entry).collect(),
        }
    }

    fn shape(batch: &Batch) -> (Option<u64>, Vec<(u64, u64)>) {
        let entries = batch.entries.iter().map(|e| (e.index.0, e.term.0)).collect();
        (batch.truncate_from.map(|i| i.0), entries)
    }

    #[test]
    fn a_truncation_within_the_queue_never_reaches_the_disk() {
        let mut queued = batch(None, 1, 5..=8);
        queued.merge(batch(Some(7), 2, 7..=7));
        assert_eq!(shape(&queued), (None, vec![(5, 1), (6, 1), (7, 2)]));
    }

    #[test]
    fn a_truncation_below_the_queue_drops_all_of_it() {
        let mut queued = batch(Some(5), 1, 5..=6);
        queued.merge(batch(Some(3), 2, 3..=3));
        assert_eq!(shape(&queued), (Some(3), vec![(3, 2)]));
        queued.merge(batch(Some(4), 3, 4..=4));
        assert_eq!(shape(&queued), (Some(3), vec![(3, 2), (4, 3)]));
    }

    #[test]
    fn the_newer_hard_state_wins_and_an_absent_one_keeps_the_older() {
        let with =
            |term| Batch { hard_state: Some(HardState { term: Term(term), vote: None }), ..Batch::default() };
        let mut queued = with(3);
        queued.merge(with(4));
        queued.merge(batch(None, 4, 1..=1));
        assert_eq!(queued.hard_state.map(|h| h.term), Some(Term(4)));
    }
}
