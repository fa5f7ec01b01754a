//! The way into an event loop from other threads: a queue, and a wake-up when it was empty.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;

/// A queue that any thread fills and one event loop empties.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: Mutex<Queue<T>>,
    waker: Arc<Waker>,
}

#[derive(Debug)]
struct Queue<T> {
    items: Vec<T>,
    is_closed: bool,
}

impl<T> Mailbox<T> {
    /// A mailbox whose arrivals wake the loop behind `waker`.
    #[must_use]
    pub fn new(waker: Arc<Waker>) -> Self {
        Self { queue: Mutex::new(Queue { items: Vec::new(), is_closed: false }), waker }
    }

    /// Puts an item in; gives it back when the loop has ended.
    pub fn send(&self, item: T) -> Result<(), T> {
        let mut queue = self.lock();
        if queue.is_closed {
            return Err(item);
        }
        let was_empty = queue.items.is_empty();
        queue.items.push(item);
        drop(queue);
        // Whoever found it empty wakes the loop for all that follow until the loop takes them.
        if was_empty {
            self.wake();
        }
        Ok(())
    }

    /// Takes everything, in order, into `items`, which should be empty: its memory is used for what comes next.
    pub fn take(&self, items: &mut Vec<T>) {
        std::mem::swap(&mut self.lock().items, items);
    }

    /// Refuses items from now on and returns those not taken.
    pub fn close(&self) -> Vec<T> {
        let mut queue = self.lock();
        queue.is_closed = true;
        std::mem::take(&mut queue.items)
    }

    /// Wakes the loop. It can fail only when the poll is gone, and then nobody is left to be woken.
    fn wake(&self) {
        drop(self.waker.wake());
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes a mailbox when its loop ends, by whatever way: whoever waits for what is left in it is told.
#[derive(Debug)]
pub struct CloseOnDrop<T>(pub Arc<Mailbox<T>>);

impl<T> Drop for CloseOnDrop<T> {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll, Token};
    use std::time::Duration;

    #[test]
    fn what_is_sent_wakes_the_loop_and_comes_in_order() {
        let mut poll = Poll::new().unwrap();
        let mailbox = Mailbox::new(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|n| mailbox.send(n).unwrap()));
            let mut all = Vec::new();
            let mut events = Events::with_capacity(1);
            while all.len() < 100 {
                poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
                assert!(!events.is_empty(), "no wake-up after {} items", all.len());
                let mut some = Vec::new();
                mailbox.take(&mut some);
                all.append(&mut some);
            }
            assert_eq!(all, (0..100).collect::<Vec<_>>());
        });
    }

    /// What is left in the mailbox of a loop that panicked must be dropped, or its senders wait for ever.
    #[test]
    fn a_loop_that_panics_closes_its_mailbox() {
        let poll = Poll::new().unwrap();
        let mailbox = Arc::new(Mailbox::new(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap())));
        let waits = Arc::new(());
        mailbox.send(Arc::clone(&waits)).unwrap();
        let of_loop = Arc::clone(&mailbox);
        let ended = std::thread::Builder::new().spawn(move || {
            let _closed_at_end = CloseOnDrop(of_loop);
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(ended.unwrap().join().is_err());
        assert_eq!(Arc::strong_count(&waits), 1, "it is still in the mailbox");
        assert!(mailbox.send(Arc::clone(&waits)).is_err());
    }

    #[test]
    fn a_closed_mailbox_gives_back_what_it_cannot_deliver() {
        let poll = Poll::new().unwrap();
        let mailbox = Mailbox::new(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        mailbox.send(1).unwrap();
        assert_eq!(mailbox.close(), [1]);
        assert_eq!(mailbox.send(2), Err(2));
    }
}
