//! Scenarios by name, and the table against a naive model.

mod client;
mod model;
mod scenarios;

use std::sync::Arc;

use super::*;
use crate::machine::{Frozen, Machine, RestoreError, Source};
use crate::types::{Index, Sequence, SessionId, Term};

/// A machine that shows every effect: each command is kept, and the answer names its place.
#[derive(Default)]
struct Effects(Vec<(Index, Vec<u8>)>);

impl Machine for Effects {
    fn apply(&mut self, index: Index, command: &[u8]) -> Vec<u8> {
        self.0.push((index, command.to_vec()));
        format!("{index}:{}", String::from_utf8_lossy(command)).into_bytes()
    }

    fn query(&self, _query: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn freeze(&mut self) -> Box<dyn Frozen> {
        unreachable!("the table does not freeze its machine")
    }

    fn blank(&self) -> Self {
        Self::default()
    }

    fn restore(&mut self, _: &mut dyn Source) -> Result<(), RestoreError> {
        unreachable!("nor restore it")
    }
}

/// One replica: table and machine, fed with a log of its own numbering.
#[derive(Default)]
struct Replica {
    sessions: Sessions,
    machine: Effects,
    last: Index,
}

impl Replica {
    fn with(limits: Limits) -> Self {
        let mut replica = Self::default();
        assert_eq!(replica.apply(&Command::SetLimits(limits)), Outcome::LimitsSet(limits));
        replica
    }

    fn apply(&mut self, command: &Command<'_>) -> Outcome {
        self.apply_bytes(&command.to_bytes())
    }

    fn apply_bytes(&mut self, bytes: &[u8]) -> Outcome {
        self.last = self.last.next();
        let term = Term(1 + self.last.0 / 10);
        self.sessions.apply(self.last, term, bytes, &mut self.machine)
    }

    fn open(&mut self) -> SessionId {
        match self.apply(&Command::Open) {
            Outcome::Opened { session } => session,
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, session: SessionId, sequence: u64, finished: &[(u64, u64)]) -> Outcome {
        let text = format!("{session}/{sequence}");
        self.apply(&write(session, sequence, finished, text.as_bytes()))
    }

    fn effects(&self) -> usize {
        self.machine.0.len()
    }
}

fn write<'a>(session: SessionId, sequence: u64, finished: &[(u64, u64)], command: &'a [u8]) -> Command<'a> {
    let finished = Ranges::from_pairs(finished).unwrap();
    Command::Write { session, sequence: Sequence(sequence), finished, command }
}

fn small_limits() -> Limits {
    Limits {
        sessions_max: 3,
        window_max: 3,
        window_bytes_max: 1000,
        bytes_max: 3000,
        snapshot_bytes: 1 << 20,
    }
}

fn result_of(outcome: &Outcome) -> (Index, Term, Arc<[u8]>) {
    match outcome {
        Outcome::Applied { index, term, result, .. } => (*index, *term, result.clone()),
        other => panic!("not applied: {other:?}"),
    }
}
