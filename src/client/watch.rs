//! Watching: one question after the other, at whichever node answers, until there is something to tell.
//!
//! An operation is one wait of the application: it ends with the first answer that holds events, or with none when its
//! time is over. Inside it each question waits at a node for [`WAIT_MAX`] at most, so that a node that died meanwhile
//! is noticed soon after; the next one goes on where the last answer was complete. A node that no longer knows what
//! came next is passed over for another one that may, and only when all have said so is the watch compacted.

use std::time::Duration;

use super::operation::{Answer, Kind, OperationId, WatchedEvent};
use super::{Client, ClientError};
use crate::time::Instant;
use crate::types::Index;
use crate::wire::watch::{FILTER_BYTES_MAX, Watch, Watched};

/// How long a question waits at a node.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What an application waits for.
#[derive(Debug)]
pub(super) struct Watching {
    /// Where to go on.
    pub(super) after: Index,
    filter: Vec<u8>,
    /// How long the question under way waits.
    pub(super) wait: Duration,
    /// How many nodes in a row did not know what came next.
    compacted_count: usize,
    /// Whether a node has said that nothing came through `after`.
    is_known: bool,
}

impl Watching {
    pub(super) fn request(&self) -> Watch<'_> {
        let wait_us = u64::try_from(self.wait.as_micros()).expect("a second at most");
        Watch { after: self.after, wait_us, filter: &self.filter }
    }

    pub(super) const fn is_passed_over(&self) -> bool {
        self.compacted_count > 0
    }

    /// A question waits no longer than its answer can still come in time.
    pub(super) fn begin_attempt(&mut self, left: Duration, attempt_timeout: Duration) {
        self.wait = left.saturating_sub(attempt_timeout).min(WAIT_MAX);
    }
}

impl Client {
    /// Waits for what the machine carries out after this entry and that the filter lets through, in the machine's own
    /// language. It ends with [`Answer::Watched`], which holds nothing when nothing came before the deadline.
    pub fn watch(&mut self, after: Index, filter: Vec<u8>, deadline: Instant) -> OperationId {
        if filter.len() > FILTER_BYTES_MAX {
            let bytes_max = FILTER_BYTES_MAX as u64;
            return self.refuse(ClientError::TooLarge { bytes_max });
        }
        let watching = Watching { after, filter, wait: Duration::ZERO, compacted_count: 0, is_known: false };
        self.begin(Kind::Watch(watching), deadline)
    }

    /// What was carried out, or nothing for now. `[W-101]`
    pub(super) fn on_watched(&mut self, now: Instant, id: OperationId, watched: &Watched<'_>) {
        let attempt_timeout = self.config.attempt_timeout;
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let deadline = operation.deadline;
        let Kind::Watch(watching) = &mut operation.kind else {
            return self.end(id, Err(ClientError::BadReply));
        };
        if watched.through < watching.after
            || watched.events.first().is_some_and(|it| it.index <= watching.after)
        {
            return self.end(id, Err(ClientError::BadReply));
        }
        (watching.after, watching.compacted_count, watching.is_known) = (watched.through, 0, true);
        if watched.events.is_empty() && now + attempt_timeout < deadline {
            self.ready.push_back(id);
            return;
        }
        let events = watched.events.iter().map(|event| WatchedEvent {
            index: event.index,
            term: event.term,
            event: event.event.to_vec(),
        });
        let events = events.collect();
        self.end(id, Ok(Answer::Watched { through: watched.through, events }));
    }

    /// What a watch comes to that was answered before its time was over, and has nothing to tell.
    pub(super) fn rest_of_watch(&self, id: OperationId) -> Option<Answer> {
        let operation = self.operations.get(&id)?;
        match &operation.kind {
            Kind::Watch(watching) if watching.is_known => {
                Some(Answer::Watched { through: watching.after, events: Vec::new() })
            }
            _ => None,
        }
    }

    /// This node does not know what came next; another one may. `[W-102]`
    pub(super) fn on_compacted(&mut self, id: OperationId, oldest: Index) {
        let server_count = self.servers.len();
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Kind::Watch(watching) = &mut operation.kind else {
            return self.end(id, Err(ClientError::BadReply));
        };
        watching.compacted_count += 1;
        if watching.compacted_count >= server_count {
            return self.end(id, Err(ClientError::Compacted { oldest }));
        }
        self.ready.push_back(id);
    }

    /// The node that has shown to lead, or the others in turn once one did not know what came next.
    pub(super) fn server_to_watch(&mut self, is_passed_over: bool) -> usize {
        if is_passed_over { self.next_in_turn() } else { self.pick_server() }
    }
}
