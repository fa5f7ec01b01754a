//! An answer that is on its way.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The answer to a proposal or a read: wait for it with [`Pending::wait`] or `.await` it, under any executor.
///
/// Dropping it does not take the request back: its outcome is then merely unknown to the caller.
#[derive(Debug)]
pub struct Pending<T> {
    slot: Arc<Slot<T>>,
}

/// The other end: whoever holds it owes the answer.
#[derive(Debug)]
pub(crate) struct Promise<T> {
    slot: Arc<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
enum State<T> {
    Empty(Option<Waker>),
    Filled(T),
    /// The answer was taken, or will never come because the promise was dropped.
    Gone,
}

/// A promise and what it promises.
pub(crate) fn pending<T>() -> (Promise<T>, Pending<T>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Empty(None)), filled: Condvar::new() });
    (Promise { slot: Arc::clone(&slot) }, Pending { slot })
}

/// Why [`Pending::wait`] has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// Not yet: it may be waited for again.
    TimedOut,
    /// Never: it was taken already, or the thread that owed it has ended.
    Gone,
}

impl std::fmt::Display for WaitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "no answer yet",
            Self::Gone => "no answer will come: it was taken or its thread has ended",
        })
    }
}

impl std::error::Error for WaitError {}

impl<T> Pending<T> {
    /// Waits at most `timeout` for the answer and takes it.
    pub fn wait(&self, timeout: Duration) -> Result<T, WaitError> {
        let state = self.slot.lock();
        let (mut state, _) = self
            .slot
            .filled
            .wait_timeout_while(state, timeout, |state| matches!(state, State::Empty(_)))
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Gone) {
            State::Filled(answer) => Ok(answer),
            State::Gone => Err(WaitError::Gone),
            empty @ State::Empty(_) => {
                *state = empty;
                Err(WaitError::TimedOut)
            }
        }
    }

    /// Takes the answer if it is there.
    pub fn try_take(&self) -> Result<T, WaitError> {
        self.wait(Duration::ZERO)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, WaitError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Filled(answer) => Poll::Ready(Ok(answer)),
            State::Gone => Poll::Ready(Err(WaitError::Gone)),
            State::Empty(_) => {
                *state = State::Empty(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl<T> Promise<T> {
    /// Gives the answer.
    pub(crate) fn keep(self, answer: T) {
        self.slot.fill(State::Filled(answer));
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if matches!(*self.slot.lock(), State::Empty(_)) {
            self.slot.fill(State::Gone);
        }
    }
}

impl<T> Slot<T> {
    /// A panic while the lock was held cannot leave a state half-written: each is replaced whole.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, filled: State<T>) {
        let before = std::mem::replace(&mut *self.lock(), filled);
        self.filled.notify_all();
        if let State::Empty(Some(waker)) = before {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn an_answer_is_taken_once() {
        let (promise, pending) = pending();
        assert_eq!(pending.try_take(), Err(WaitError::TimedOut));
        promise.keep(7);
        assert_eq!(pending.wait(Duration::ZERO), Ok(7));
        assert_eq!(pending.wait(Duration::ZERO), Err(WaitError::Gone));
    }

    #[test]
    fn a_dropped_promise_is_told_and_not_waited_for() {
        let (promise, pending) = pending::<u8>();
        drop(promise);
        assert_eq!(pending.wait(Duration::from_secs(3600)), Err(WaitError::Gone));
    }

    #[test]
    fn an_answer_wakes_the_task_that_awaits_it_and_the_thread_that_waits() {
        let (promise, mut waiting) = pending();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        assert_eq!(Pin::new(&mut waiting).poll(&mut context), Poll::Pending);
        promise.keep(8);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(Pin::new(&mut waiting).poll(&mut context), Poll::Ready(Ok(8)));

        let (promise, waiting) = pending();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| waiting.wait(Duration::from_secs(3600)));
            promise.keep(9);
            assert_eq!(waiter.join().unwrap(), Ok(9));
        });
    }
}
