//! What happens to a node, queued for whoever selects on a descriptor.
//!
//! The descriptor is the reading end of a pipe that holds one byte while the queue holds anything. Byte and queue
//! change under one lock, so neither end ever waits.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raftgram::node::NodeEvent;
use serde_json::{Value, json};

use crate::json::event;

/// The most events kept for whoever asks late; further ones are counted and told as one.
const EVENTS_MAX: usize = 1024;

/// The queue of one node.
#[derive(Debug)]
pub(crate) struct Events {
    queue: Mutex<Queue>,
    filled: Condvar,
    reader: PipeReader,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Value>,
    lost: u64,
    is_ended: bool,
    writer: PipeWriter,
}

/// What [`Events::next`] found.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Event(Value),
    TimedOut,
    /// Everything was told, and nothing more will come.
    Ended,
}

impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let queue = Queue { waiting: VecDeque::new(), lost: 0, is_ended: false, writer };
        Ok(Self { queue: Mutex::new(queue), filled: Condvar::new(), reader })
    }

    /// Readable while an event waits.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    pub(crate) fn next(&self, timeout: Duration) -> io::Result<Next> {
        let queue = self.lock();
        let (mut queue, _) = self
            .filled
            .wait_timeout_while(queue, timeout, |queue| queue.waiting.is_empty() && !queue.is_ended)
            .unwrap_or_else(PoisonError::into_inner);
        let Some(event) = queue.waiting.pop_front() else {
            return Ok(if queue.is_ended { Next::Ended } else { Next::TimedOut });
        };
        if queue.lost > 0 {
            let lost = std::mem::take(&mut queue.lost);
            queue.waiting.push_back(json!({ "event": "lost", "count": lost }));
        }
        if queue.waiting.is_empty() {
            (&self.reader).read_exact(&mut [0])?;
        }
        Ok(Next::Event(event))
    }

    fn put(&self, queue: &mut Queue, event: Value) {
        let was_empty = queue.waiting.is_empty();
        queue.waiting.push_back(event);
        if was_empty {
            // It fails only when the reading end is gone, and then nobody selects on it.
            drop(queue.writer.write_all(&[0]));
        }
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node's end of the queue; that it is dropped tells that the node has ended.
pub(crate) struct Teller(pub(crate) Arc<Events>);

impl Teller {
    pub(crate) fn tell(&self, what: &NodeEvent) {
        let mut queue = self.0.lock();
        if queue.waiting.len() >= EVENTS_MAX {
            queue.lost += 1;
            return;
        }
        self.0.put(&mut queue, event(what));
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_ended = true;
        self.0.put(&mut queue, json!({ "event": "ended" }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftgram::NodeId;
    use raftgram::raft::RoleKind;
    use raftgram::types::Term;

    fn role(term: u64) -> NodeEvent {
        NodeEvent::RoleChanged { role: RoleKind::Leader, term: Term(term), leader: Some(NodeId::MIN) }
    }

    #[test]
    fn events_come_in_order_and_the_end_last() {
        let events = Arc::new(Events::new().unwrap());
        let teller = Teller(Arc::clone(&events));
        assert_eq!(events.next(Duration::ZERO).unwrap(), Next::TimedOut);
        teller.tell(&role(1));
        teller.tell(&role(2));
        drop(teller);
        for term in [1, 2] {
            let told = json!({ "event": "role", "role": "leader", "term": term, "leader": 1 });
            assert_eq!(events.next(Duration::ZERO).unwrap(), Next::Event(told));
        }
        assert_eq!(events.next(Duration::ZERO).unwrap(), Next::Event(json!({ "event": "ended" })));
        assert_eq!(events.next(Duration::from_secs(3600)).unwrap(), Next::Ended);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        let events = Arc::new(Events::new().unwrap());
        let teller = Teller(Arc::clone(&events));
        (0..EVENTS_MAX as u64 + 3).for_each(|term| teller.tell(&role(term)));
        for _ in 0..EVENTS_MAX {
            assert!(
                matches!(events.next(Duration::ZERO).unwrap(), Next::Event(told) if told["event"] == "role")
            );
        }
        let lost = json!({ "event": "lost", "count": 3 });
        assert_eq!(events.next(Duration::ZERO).unwrap(), Next::Event(lost));
        assert_eq!(events.next(Duration::ZERO).unwrap(), Next::TimedOut);
    }
}
