//! A machine that keeps account of what it was given.

use super::subject::{Effect, result_hash};
use crate::hash::Fnv1a;
use crate::machine::Machine;
use crate::types::Index;

/// Any machine, and with it a hash that chains every command and result: two that were given the same show the same
/// chain, whatever they keep inside.
#[derive(Clone, Debug, Default)]
pub struct Observed<M> {
    machine: M,
    effects: Vec<Effect>,
}

impl<M> Observed<M> {
    /// This machine, which was given nothing yet.
    #[must_use]
    pub fn new(machine: M) -> Self {
        Self { machine, effects: Vec::new() }
    }

    /// The machine.
    #[must_use]
    pub fn inner(&self) -> &M {
        &self.machine
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
        let before = self.effects.last().map_or(0, |effect| effect.chain);
        let result_hash = result_hash(&result);
        let command_crc = u64::from(crc32fast::hash(command));
        let chain = Fnv1a::default().u64(before).u64(index.0).u64(command_crc).u64(result_hash).finish();
        self.effects.push(Effect { index, chain, result: result_hash });
        result
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        self.machine.query(query)
    }
}
