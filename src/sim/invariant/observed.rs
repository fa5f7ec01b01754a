//! A machine that keeps account of what it was given.

use super::subject::{Effect, result_hash};
use crate::hash::Fnv1a;
use crate::machine::{Fields, Frozen, Machine, RestoreError, Sink, SinkClosed, Source};
use crate::types::Index;

/// Any machine, and with it a hash that chains every command and result: two that were given the same show the same
/// chain, whatever they keep inside. A snapshot takes the chain along.
#[derive(Clone, Debug, Default)]
pub struct Observed<M> {
    machine: M,
    /// The last effect in the snapshot that it was filled from.
    restored: Option<Effect>,
    effects: Vec<Effect>,
}

impl<M> Observed<M> {
    /// This machine, which was given nothing yet.
    #[must_use]
    pub fn new(machine: M) -> Self {
        Self { machine, restored: None, effects: Vec::new() }
    }

    /// The machine.
    #[must_use]
    pub fn inner(&self) -> &M {
        &self.machine
    }

    /// The last effect before those that it was given itself, if it was filled from a snapshot that had any.
    #[must_use]
    pub fn restored(&self) -> Option<Effect> {
        self.restored
    }

    fn last(&self) -> Option<Effect> {
        self.effects.last().copied().or(self.restored)
    }

    /// What it was given, in order.
    #[must_use]
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }
}

impl<M: Machine> Machine for Observed<M> {
    fn apply(&mut self, index: Index, command: &[u8]) -> Vec<u8> {
        let result = self.machine.apply(index, command);
        let before = self.last().map_or(0, |effect| effect.chain);
        let result_hash = result_hash(&result);
        let command_crc = u64::from(crc32fast::hash(command));
        let chain = Fnv1a::default().u64(before).u64(index.0).u64(command_crc).u64(result_hash).finish();
        self.effects.push(Effect { index, chain, result: result_hash });
        result
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        self.machine.query(query)
    }

    fn event(&self, filter: &[u8], command: &[u8], result: &[u8]) -> Option<Vec<u8>> {
        self.machine.event(filter, command, result)
    }

    fn state_bytes(&self) -> Option<u64> {
        self.machine.state_bytes()
    }

    fn freeze(&mut self) -> Box<dyn Frozen> {
        Box::new(FrozenObserved { last: self.last(), machine: self.machine.freeze() })
    }

    fn blank(&self) -> Self {
        Self::new(self.machine.blank())
    }

    fn restore(&mut self, source: &mut dyn Source) -> Result<(), RestoreError> {
        let mut fields = Fields::new(source);
        let (index, chain, result) = (Index(fields.number()?), fields.number()?, fields.number()?);
        self.restored = (index > Index(0)).then_some(Effect { index, chain, result });
        self.effects.clear();
        self.machine.restore(source)
    }
}

/// The last effect as three numbers, of index 0 for none, and the machine.
struct FrozenObserved {
    last: Option<Effect>,
    machine: Box<dyn Frozen>,
}

impl Frozen for FrozenObserved {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        let last = self.last.unwrap_or(Effect { index: Index(0), chain: 0, result: 0 });
        for number in [last.index.0, last.chain, last.result] {
            sink.put(&number.to_be_bytes())?;
        }
        self.machine.write(sink)
    }
}
