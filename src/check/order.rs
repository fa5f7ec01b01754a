//! A sequence from which items are taken and put back in the reverse order, each in constant time.

/// Items `0..universe`, some of them in a sequence. Links of an item that was taken out stay as they were, so that
/// putting it back needs no search (Knuth's dancing links).
#[derive(Debug)]
pub(super) struct Order {
    /// By item; the last place stands for the end on both sides.
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Order {
    /// These items in this sequence.
    pub(super) fn new(universe: usize, sequence: impl IntoIterator<Item = usize>) -> Self {
        let end = universe;
        let mut order = Self { next: vec![end; universe + 1], previous: vec![end; universe + 1] };
        let mut last = end;
        for item in sequence {
            assert!(item < universe, "item {item} of {universe}");
            order.next[last] = item;
            order.previous[item] = last;
            last = item;
        }
        order.previous[end] = last;
        order
    }

    pub(super) fn first(&self) -> Option<usize> {
        self.after(self.next.len() - 1)
    }

    /// The item that follows this one, or followed it when it was taken out.
    pub(super) fn after(&self, item: usize) -> Option<usize> {
        let next = self.next[item];
        (next < self.next.len() - 1).then_some(next)
    }

    pub(super) fn take(&mut self, item: usize) {
        self.next[self.previous[item]] = self.next[item];
        self.previous[self.next[item]] = self.previous[item];
    }

    /// Undoes the last `take` that was not undone, which must be this item's.
    pub(super) fn put_back(&mut self, item: usize) {
        self.next[self.previous[item]] = item;
        self.previous[self.next[item]] = item;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(order: &Order) -> Vec<usize> {
        std::iter::successors(order.first(), |&item| order.after(item)).collect()
    }

    #[test]
    fn items_return_to_their_places() {
        let mut order = Order::new(5, [3, 0, 4, 1]);
        for item in [0, 4, 3] {
            order.take(item);
        }
        assert_eq!(items(&order), [1]);
        for item in [3, 4, 0] {
            order.put_back(item);
        }
        assert_eq!(items(&order), [3, 0, 4, 1]);
    }

    #[test]
    fn nothing_in_sequence_has_no_first() {
        assert_eq!(Order::new(2, []).first(), None);
    }
}
