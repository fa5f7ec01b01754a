//! Events of a machine, one after the other.

use std::collections::VecDeque;
use std::time::Duration;

use super::client::Client;
use super::error::CallError;
use super::typed::GRACE;
use crate::client::{Answer, WatchedEvent};
use crate::types::Index;

/// A way through what the machine carries out: [`Client::watch`]. Nothing is asked while nobody calls
/// [`Watch::next`], so a watch that rests for long may find itself
/// [compacted](crate::ClientError::Compacted): then the state must be read anew.
#[derive(Debug)]
pub struct Watch<'a> {
    client: &'a Client,
    filter: Vec<u8>,
    after: Index,
    waiting: VecDeque<WatchedEvent>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(client: &'a Client, after: Index, filter: Vec<u8>) -> Self {
        Self { client, filter, after, waiting: VecDeque::new() }
    }

    /// The next event; `None` when a node has answered, and nothing came in time.
    ///
    /// # Errors
    /// [`CallError`], also when no node has answered in time; the watch goes on where it was when it is asked again.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<WatchedEvent>, CallError> {
        if let Some(event) = self.waiting.pop_front() {
            return Ok(Some(event));
        }
        let pending = self.client.watch_once(self.after, self.filter.clone(), timeout);
        let Answer::Watched { through, events } = pending.wait(timeout + GRACE)?? else {
            return Err(CallError::Unreadable);
        };
        self.after = through;
        self.waiting = events.into();
        Ok(self.waiting.pop_front())
    }

    /// The index after which the next question begins, once all events that were told are taken.
    #[must_use]
    pub const fn through(&self) -> Index {
        self.after
    }
}
