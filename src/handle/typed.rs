//! Commands and queries as values, for machines that speak [`Codec`] as [`Fold`](crate::machine::Fold) does.

use std::time::Duration;

use super::client::Client;
use super::error::CallError;
use crate::client::Answer;
use crate::machine::Codec;
use crate::wire::client::ReadLevel;

/// How much longer than its own deadline an operation is waited for: the client ends it by itself.
pub(super) const GRACE: Duration = Duration::from_secs(1);

impl Client {
    /// Has a command carried out, and waits for its result.
    ///
    /// # Errors
    /// [`CallError`]; the client's says whether the command may have been carried out all the same.
    pub fn apply<R: Codec>(&self, command: &impl Codec, timeout: Duration) -> Result<R, CallError> {
        match self.propose(command.to_bytes(), timeout).wait(timeout + GRACE)?? {
            Answer::Applied { result, .. } => read(&result),
            _ => Err(CallError::Unreadable),
        }
    }

    /// Asks the machine, and waits for its answer, which shows every command that was answered before.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn ask<A: Codec>(&self, query: &impl Codec, timeout: Duration) -> Result<A, CallError> {
        let pending = self.read(query.to_bytes(), ReadLevel::Linearizable, timeout);
        match pending.wait(timeout + GRACE)?? {
            Answer::Read { result, .. } => read(&result),
            _ => Err(CallError::Unreadable),
        }
    }
}

fn read<T: Codec>(result: &[u8]) -> Result<T, CallError> {
    match Option::<T>::from_bytes(result) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(CallError::NotUnderstood),
        Err(_) => Err(CallError::Unreadable),
    }
}
