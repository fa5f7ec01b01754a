//! The part of a failed history that shows the failure.

use std::fmt;

use super::Budget;
use super::history::Operation;
use super::model::Model;
use super::part::{Known, Part};
use super::search::{End, Search};

/// Operations on one key that no order explains. Those that overlap the window's beginning may also have taken effect
/// before it, those without a return in it may not have taken effect at all, and still there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window<C, A> {
    key: String,
    begins_at: u64,
    operations: Vec<Operation<C, A>>,
    fails_at: u64,
}

impl<C, A> Window<C, A> {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The event before which everything is left out. From 0 on the window fails from the key's first state, else from
    /// every state that any operation leaves.
    #[must_use]
    pub const fn begins_at(&self) -> u64 {
        self.begins_at
    }

    /// The operations, in the order of their invocations.
    #[must_use]
    pub fn operations(&self) -> &[Operation<C, A>] {
        &self.operations
    }

    /// The number of the return up to which the history cannot be explained. Up to the one before it can, unless the
    /// budget was spent before that was shown.
    #[must_use]
    pub const fn fails_at(&self) -> u64 {
        self.fails_at
    }
}

impl<C: fmt::Display, A: fmt::Display> fmt::Display for Window<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = if self.begins_at == 0 { "from its first state on" } else { "whatever it held before" };
        write!(f, "key {}, {before}: no order explains event {}", self.key, self.fails_at)?;
        self.operations.iter().try_for_each(|operation| write!(f, "\n  {operation}"))
    }
}

/// The smallest window that the budget lets find of a part that `search` got stuck in.
pub(super) fn smallest<M: Model>(
    model: &M,
    part: &Part<'_, M>,
    search: Search<'_, M>,
    budget: &mut Budget,
) -> Window<M::Call, M::Answer> {
    let mut shrinking = Shrinking { model, part, budget };
    let (end, search) = shrinking.shortest_prefix(search);
    let (begin, starts) = shrinking.latest_begin(end, search.states().cloned().collect());
    let kept = shrinking.without_idle_observers(begin, end, &starts);
    Window {
        key: part.key.to_owned(),
        begins_at: begin,
        operations: kept.into_iter().map(|known| known.operation.clone()).collect(),
        fails_at: end,
    }
}

/// One part while it is cut down. Whatever the budget is too short to show to fail is kept.
struct Shrinking<'p, 'a, M: Model> {
    model: &'p M,
    part: &'p Part<'a, M>,
    budget: &'p mut Budget,
}

impl<'p, 'a, M: Model> Shrinking<'p, 'a, M> {
    /// The first return such that what was invoked before it cannot be explained, and the search that shows it.
    fn shortest_prefix(&mut self, search: Search<'p, M>) -> (u64, Search<'p, M>)
    where
        'a: 'p,
    {
        let mut ends: Vec<u64> = self.part.operations.iter().filter_map(Known::until).collect();
        ends.sort_unstable();
        // Every prefix below the furthest return was explained by some order on the way.
        let mut low = ends.partition_point(|&end| end < search.furthest());
        let (mut high, mut shown) = (ends.len() - 1, search);
        let mut stride = 1;
        while low < high {
            // Near the furthest return first, for there it is most often; halving from where striding failed.
            let middle = (low + stride - 1).min(low + (high - low) / 2);
            match self.prefix_fails(ends[middle]) {
                Some(search) => (high, shown, stride) = (middle, search, usize::MAX / 2),
                None => (low, stride) = (middle + 1, stride.saturating_mul(2).min(usize::MAX / 4)),
            }
        }
        (ends[high], shown)
    }

    fn prefix_fails(&mut self, end: u64) -> Option<Search<'p, M>>
    where
        'a: 'p,
    {
        let moves = self.part.segment(0, end).map(|known| known.to_move(0, end)).collect();
        let mut search = Search::new(self.model, moves);
        (search.run([self.model.initial()], self.budget) == End::Stuck).then_some(search)
    }

    /// The last event such that what follows it fails from every state; 0 and the first state if there is none.
    fn latest_begin(&mut self, end: u64, states: Vec<M::State>) -> (u64, Vec<M::State>) {
        let invoked_last = |known: &&Known<'a, M>| known.until() == Some(end);
        let last = self.part.operations.iter().find(invoked_last);
        let last_invoked = last.map_or(0, |known| known.operation.invoked);
        // Cutting right after a return leaves out most; not inside the operation whose return is to be explained.
        let mut begins: Vec<u64> = self.part.operations.iter().filter_map(Known::until).collect();
        begins.retain(|&begin| begin < last_invoked);
        begins.sort_unstable();
        for &begin in begins.iter().rev() {
            let kept = self.part.segment(begin + 1, end).collect::<Vec<_>>();
            match self.fails(&kept, begin + 1, end, &states) {
                End::Stuck => return (begin + 1, states),
                End::Explained => {}
                End::OutOfSteps => break,
            }
        }
        (0, vec![self.model.initial()])
    }

    /// The window without observers that add nothing. Others stay: without a change that happened the rest would
    /// fail for want of it.
    fn without_idle_observers(&mut self, begin: u64, end: u64, starts: &[M::State]) -> Vec<&'p Known<'a, M>> {
        let mut kept: Vec<_> = self.part.segment(begin, end).collect();
        for at in (0..kept.len()).rev() {
            let known = kept[at];
            if known.is_observer() && known.until() != Some(end) {
                kept.remove(at);
                if self.fails(&kept, begin, end, starts) != End::Stuck {
                    kept.insert(at, known);
                }
            }
        }
        kept
    }

    fn fails(&mut self, kept: &[&Known<'a, M>], begin: u64, end: u64, starts: &[M::State]) -> End {
        let moves = kept.iter().map(|known| known.to_move(begin, end)).collect();
        Search::new(self.model, moves).run(starts.iter().cloned(), self.budget)
    }
}
