//! A linearizability checker: is there an order in which the operations of a history could have taken effect, one
//! at a time, each somewhere between its invocation and its return?
//!
//! # Histories
//! A [`History`] is built from events in the order in which they were seen: a process invokes a call on a key, and
//! later it returns. `Ok` carries the answer. `Failed` says that the call certainly did nothing, so it is left out.
//! `Unknown`, or no return before the end, leaves the operation *pending*: it took effect at any time after its
//! invocation, or never; a pending read tells nothing. Keys are independent of each other, and a history is
//! linearizable if and only if it is so for each key (Herlihy and Wing 1990, locality), so each is judged alone.
//!
//! # The search
//! Wing and Gong's depth-first search with Lowe's memory (Testing for linearizability, 2017). A *configuration* is
//! a set of operations that have taken effect and the state they lead to. An operation may take effect next if it
//! was invoked before every return of those that have not. A configuration is explored once: its set is written as
//! the first return that it has not passed, and a bit for each operation that is open there, so its size grows with
//! the processes and not with the history. Four rules leave out orders that cannot be needed:
//! - a read that fits the state takes effect at once, for it changes nothing and can only become harder to place;
//! - pending operations are tried last, and of equal ones the first invoked;
//! - a pending operation is followed by one that depends on what it left, or else it might as well not have happened;
//! - a state that someone has yet to see, and that nothing left could bring back, is not overwritten, nor entered
//!   while another change is due before the last who must see it is invoked.
//!
//! # The verdict
//! [`Verdict::NotLinearizable`] comes with a [`Window`]: the shortest prefix that fails, cut at its beginning too as
//! far as it fails from *every* state that the key could be in there. The search has no clock; it is bounded by a
//! [`Budget`] of steps, and a history that exhausts it is [`Verdict::Unknown`]. A verdict depends on nothing but
//! history, model and budget.
//!
//! Left out: operations on several keys, and the order of a process's operations beyond their times (sequential
//! consistency).

mod configuration;
mod history;
mod model;
mod order;
mod part;
mod search;
mod states;
mod window;

#[cfg(test)]
mod tests;

pub use history::{History, HistoryError, Operation, Outcome, Process};
pub use model::{Answer, Call, Effect, Model, Register};
pub use window::Window;

use part::Part;
use search::{End, Search};

/// Judges a history by what one key of the model allows.
///
/// ```
/// use raftgram::check::{Answer, Budget, Call, History, Outcome, Process, Register, Verdict, check};
///
/// # fn main() -> Result<(), raftgram::check::HistoryError> {
/// let mut history = History::new();
/// history.invoke(Process(1), "k", Call::Write("a".into()))?;
/// history.complete(Process(1), Outcome::Ok(Answer::Done))?;
/// history.invoke(Process(2), "k", Call::Read)?;
/// history.complete(Process(2), Outcome::Ok(Answer::Value(None)))?;
/// match check(&history, &Register::absent(), &mut Budget::default()) {
///     Verdict::NotLinearizable(window) => assert_eq!(window.operations().len(), 2),
///     other => panic!("the write was lost: {other:?}"),
/// }
/// # Ok(()) }
/// ```
pub fn check<M: Model>(
    history: &History<M::Call, M::Answer>,
    model: &M,
    budget: &mut Budget,
) -> Verdict<M::Call, M::Answer> {
    let parts = Part::split(history, model);
    let (mut undecided, mut broken) = (Vec::new(), Vec::new());
    for (at, part) in parts.iter().enumerate() {
        // A fair share first: one hard key must not hide a violation that another shows at once.
        let mut share = budget.share(parts.len() - at);
        let mut search = Search::new(model, part.moves());
        match search.run([model.initial()], &mut share) {
            End::Explained => {}
            End::Stuck => broken.push((part, search)),
            End::OutOfSteps => undecided.push(part),
        }
        budget.charge(&share);
    }
    if broken.is_empty() {
        for part in undecided {
            let mut search = Search::new(model, part.moves());
            match search.run([model.initial()], budget) {
                End::Explained => {}
                End::Stuck => broken.push((part, search)),
                End::OutOfSteps => return Verdict::Unknown,
            }
        }
    }
    let windows = broken.into_iter().map(|(part, search)| window::smallest(model, part, search, budget));
    match windows.min_by_key(|window| window.operations().len()) {
        Some(window) => Verdict::NotLinearizable(window),
        None => Verdict::Linearizable,
    }
}

/// What a history is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<C, A> {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none, as these operations show.
    NotLinearizable(Window<C, A>),
    /// The budget was spent before either was shown.
    Unknown,
}

/// How many steps a check may take. Each asks the model once, and remembers at most one configuration of about 50
/// bytes, so a budget bounds time and memory alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Goes down by one with every step.
    left: u64,
    spent: u64,
}

impl Budget {
    /// A budget of this many steps.
    #[must_use]
    pub const fn steps(count: u64) -> Self {
        Self { left: count, spent: 0 }
    }

    /// Steps taken so far, by all checks that were given this budget.
    #[must_use]
    pub const fn spent(&self) -> u64 {
        self.spent
    }

    /// Takes one step, or says that none is left.
    fn step(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        self.spent += 1;
        true
    }

    /// An equal share of what is left, to be charged afterwards.
    fn share(&self, shares: usize) -> Self {
        Self::steps(self.left / shares as u64)
    }

    /// Takes off what a share spent.
    fn charge(&mut self, share: &Self) {
        assert!(share.spent <= self.left, "a share spent {} of {}", share.spent, self.left);
        self.left -= share.spent;
        self.spent += share.spent;
    }
}

impl Default for Budget {
    /// Ten million: seconds, and sixty times what a plain history of 100,000 operations takes.
    fn default() -> Self {
        Self::steps(10_000_000)
    }
}
