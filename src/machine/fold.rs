//! A machine that is a value and a function.

use core::fmt;
use std::sync::Arc;

use super::{Codec, Frozen, Machine, RestoreError, Sink, SinkClosed, Source};
use crate::types::Index;

/// A machine made of a first state and a function that folds commands into it.
///
/// Queries are answered with the whole state unless [`Fold::with_query`] says how. A snapshot copies the state: for one
/// of more than a few megabytes write a [`Machine`] that shares, see [`LayeredMap`](crate::layered::LayeredMap).
///
/// Results and answers are bytes `1 ‖ the value`, or `0` where the command or query could not be read, which changes
/// nothing; `Client::apply` and `Client::ask` know that.
///
/// ```
/// use raftgram::machine::{Fold, Machine};
/// use raftgram::types::Index;
///
/// let mut sum = Fold::new(0_i64, |sum, add: i64| {
///     *sum += add;
///     *sum
/// });
/// let add_five = [20];
/// assert_eq!(sum.apply(Index(1), &add_five), [1, 20]);
/// ```
pub struct Fold<S> {
    first: S,
    state: S,
    apply: Arc<Apply<S>>,
    query: Arc<Query<S>>,
}

type Apply<S> = dyn Fn(&mut S, &[u8]) -> Vec<u8> + Send + Sync;
type Query<S> = dyn Fn(&S, &[u8]) -> Vec<u8> + Send + Sync;

impl<S: Codec + Clone + Send + 'static> Fold<S> {
    /// The machine that begins with `first`. `apply` must depend on its arguments alone, as [`Machine::apply`] must.
    pub fn new<C: Codec, R: Codec>(first: S, apply: impl Fn(&mut S, C) -> R + Send + Sync + 'static) -> Self {
        Self {
            state: first.clone(),
            first,
            apply: Arc::new(move |state, command| {
                C::from_bytes(command).ok().map(|command| apply(state, command)).to_bytes()
            }),
            query: Arc::new(|state, _| Some(state.clone()).to_bytes()),
        }
    }

    /// The same, with queries of its own.
    #[must_use]
    pub fn with_query<Q: Codec, A: Codec>(self, query: impl Fn(&S, Q) -> A + Send + Sync + 'static) -> Self {
        let query = move |state: &S, bytes: &[u8]| {
            Q::from_bytes(bytes).ok().map(|question| query(state, question)).to_bytes()
        };
        Self { query: Arc::new(query), ..self }
    }
}

impl<S: Codec + Clone + Send + 'static> Machine for Fold<S> {
    fn apply(&mut self, _index: Index, command: &[u8]) -> Vec<u8> {
        (self.apply)(&mut self.state, command)
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        (self.query)(&self.state, query)
    }

    fn freeze(&mut self) -> Box<dyn Frozen> {
        Box::new(FrozenFold(self.state.clone()))
    }

    fn blank(&self) -> Self {
        let (first, state) = (self.first.clone(), self.first.clone());
        Self { first, state, apply: Arc::clone(&self.apply), query: Arc::clone(&self.query) }
    }

    fn restore(&mut self, source: &mut dyn Source) -> Result<(), RestoreError> {
        const PIECE_BYTES: usize = 64 * 1024;
        let mut bytes = Vec::new();
        loop {
            let start = bytes.len();
            bytes.resize(start + PIECE_BYTES, 0);
            let count = source.take(&mut bytes[start..])?;
            bytes.truncate(start + count);
            if count < PIECE_BYTES {
                break;
            }
        }
        self.state = S::from_bytes(&bytes)?;
        Ok(())
    }
}

impl<S: fmt::Debug> fmt::Debug for Fold<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fold").field("state", &self.state).finish_non_exhaustive()
    }
}

struct FrozenFold<S>(S);

impl<S: Codec + Send> Frozen for FrozenFold<S> {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        sink.put(&self.0.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Stock = BTreeMap<String, u64>;

    fn stock() -> Fold<Stock> {
        let fold = Fold::new(Stock::new(), |stock, (name, count): (String, u64)| {
            let held = stock.entry(name).or_default();
            *held += count;
            *held
        });
        fold.with_query(|stock: &Stock, name: String| stock.get(&name).copied())
    }

    fn add(machine: &mut Fold<Stock>, name: &str, count: u64) -> Vec<u8> {
        machine.apply(Index(1), &(name.to_owned(), count).to_bytes())
    }

    #[test]
    fn commands_are_folded_and_queries_answered() {
        let mut machine = stock();
        add(&mut machine, "bolt", 3);
        assert_eq!(add(&mut machine, "bolt", 4), Some(7_u64).to_bytes());
        assert_eq!(machine.query(&"bolt".to_owned().to_bytes()), Some(Some(7_u64)).to_bytes());
        assert_eq!(machine.query(&"nut".to_owned().to_bytes()), Some(None::<u64>).to_bytes());
    }

    #[test]
    fn what_is_no_command_changes_nothing_and_says_so() {
        let mut machine = stock();
        assert_eq!(machine.apply(Index(1), b"\xff"), None::<u64>.to_bytes());
        assert_eq!(machine.state, Stock::new());
        assert_eq!(machine.query(b""), None::<u64>.to_bytes());
    }

    #[test]
    fn a_state_comes_back_and_the_frozen_one_stays_what_it_was() {
        let mut machine = stock();
        (0..10_000).for_each(|number| drop(add(&mut machine, &format!("part {number}"), number)));
        let frozen = machine.freeze();
        add(&mut machine, "late", 1);
        let mut bytes = Vec::new();
        frozen.write(&mut bytes).unwrap();
        let mut other = machine.blank();
        assert_eq!(other.state, Stock::new());
        other.restore(&mut &bytes[..]).unwrap();
        assert_eq!((other.state.len(), machine.state.len()), (10_000, 10_001));
        bytes.push(0);
        assert_eq!(other.restore(&mut &bytes[..]), Err(RestoreError::Trailing));
    }
}
