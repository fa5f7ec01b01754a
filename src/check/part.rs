//! The operations of one key, and the views of them that a search takes.

use std::collections::BTreeMap;

use super::history::{History, Operation, Outcome};
use super::model::{Effect, Model};

/// An operation as one search sees it.
#[derive(Debug)]
pub(super) struct Move<'a, M: Model> {
    pub(super) call: &'a M::Call,
    /// None when it is unknown.
    pub(super) answer: Option<&'a M::Answer>,
    pub(super) effect: Effect<M::State>,
    pub(super) invoked: u64,
    /// The return by which it must have taken effect; none when it need not.
    pub(super) until: Option<u64>,
    pub(super) origin: Origin,
}

/// Where an operation may have taken effect besides in the order that is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nowhere.
    Inside,
    /// Before it: the operation was open where the segment begins, whose first state may be its doing.
    Across,
}

/// The operations of one key that may have taken effect, without pending ones that changed nothing.
#[derive(Debug)]
pub(super) struct Part<'a, M: Model> {
    pub(super) key: &'a str,
    /// By invocation.
    pub(super) operations: Vec<Known<'a, M>>,
}

/// An operation and what is known of it.
#[derive(Debug)]
pub(super) struct Known<'a, M: Model> {
    pub(super) operation: &'a Operation<M::Call, M::Answer>,
    pub(super) effect: Effect<M::State>,
}

impl<M: Model> Known<'_, M> {
    /// Its return, if it surely took effect.
    pub(super) fn until(&self) -> Option<u64> {
        match self.operation.outcome {
            Outcome::Ok(_) => self.operation.returned,
            Outcome::Failed | Outcome::Unknown => None,
        }
    }

    pub(super) const fn is_observer(&self) -> bool {
        matches!(self.effect, Effect::Observes { .. })
    }
}

impl<'a, M: Model> Part<'a, M> {
    /// The parts of a history, by key.
    pub(super) fn split(history: &'a History<M::Call, M::Answer>, model: &M) -> Vec<Self> {
        let mut parts = BTreeMap::<&str, Vec<Known<'a, M>>>::new();
        for operation in history.operations() {
            let answer = match &operation.outcome {
                Outcome::Ok(answer) => Some(answer),
                Outcome::Unknown => None,
                Outcome::Failed => continue,
            };
            let known = Known { operation, effect: model.effect(&operation.call, answer) };
            if answer.is_some() || !known.is_observer() {
                parts.entry(&operation.key).or_default().push(known);
            }
        }
        parts.into_iter().map(|(key, operations)| Self { key, operations }).collect()
    }

    /// Everything.
    pub(super) fn moves(&self) -> Vec<Move<'a, M>> {
        self.segment(0, u64::MAX).map(|known| known.to_move(0, u64::MAX)).collect()
    }

    /// What may have taken effect between these events: invoked before `end`, and not returned before `begin`.
    /// Observers that overlap a bound say nothing about what is between.
    pub(super) fn segment(&self, begin: u64, end: u64) -> impl Iterator<Item = &Known<'a, M>> {
        let invoked = self.operations.iter().take_while(move |known| known.operation.invoked <= end);
        invoked.filter(move |known| {
            let overlaps_bound =
                known.operation.invoked < begin || known.until().is_some_and(|until| until > end);
            known.until().is_none_or(|until| until >= begin) && !(known.is_observer() && overlaps_bound)
        })
    }
}

impl<'a, M: Model> Known<'a, M> {
    /// As a search of the segment between these events sees it.
    pub(super) fn to_move(&self, begin: u64, end: u64) -> Move<'a, M> {
        let operation = self.operation;
        Move {
            call: &operation.call,
            answer: match &operation.outcome {
                Outcome::Ok(answer) => Some(answer),
                Outcome::Failed | Outcome::Unknown => None,
            },
            effect: self.effect.clone(),
            invoked: operation.invoked,
            until: self.until().filter(|&until| until <= end),
            origin: if operation.invoked < begin { Origin::Across } else { Origin::Inside },
        }
    }
}
