//! The state machine that the log drives.

use crate::types::Index;

/// A deterministic state machine: the same commands in the same order give the same results and the same state
/// on every node. It must not read clocks, random numbers or anything else outside its state.
pub trait Machine {
    /// Carries out a committed command and returns its result.
    ///
    /// It is called once per entry and node life, in log order. A panic here ends the node: every replica would
    /// see the same command.
    fn apply(&mut self, index: Index, command: &[u8]) -> Vec<u8>;

    /// Answers a read without changing anything.
    fn query(&self, query: &[u8]) -> Vec<u8>;
}
