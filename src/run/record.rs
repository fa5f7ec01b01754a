//! A live node's trace: what it saw, written to a file by a thread of its own.
//!
//! The loop hands over raw events; decoding and writing happen on the other side of a bounded queue. When the writer
//! cannot keep up, events are left out and counted, and the file says how many and where: the loop never waits.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the trace's wall clock comes from here"
)]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use slog::{Logger, info, warn};

use crate::raft::Raft;
use crate::rpc::SendErrorKind;
use crate::time::Instant;
use crate::trace::{
    Boot, Datagrams, Event, Header, NoteKind, Observer, Outcome, Payloads, Sight, Source, What,
};
use crate::types::{ClusterId, Incarnation, NodeId, StoreId};

/// The most events that wait for the writer; with datagrams of 1,200 bytes, 20 MiB.
const QUEUE_MAX: usize = 16_384;

/// Bytes of lines after which the writer writes, even if more events wait.
const CHUNK_BYTES: usize = 256 * 1024;

/// Which boot of which node is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// The node.
    pub node: NodeId,
    /// Its data folder.
    pub store: StoreId,
    /// Its boot.
    pub incarnation: Incarnation,
    /// Its cluster; zero when it is blank.
    pub cluster: ClusterId,
    /// Where its socket is bound.
    pub address: SocketAddr,
    /// Whether the bytes of datagrams are kept.
    pub payloads: Payloads,
}

/// The loop's end of a recording.
#[derive(Debug)]
pub struct Recorder {
    recorded: Recorded,
    observer: Observer,
    queue: Queue,
    writer: Option<JoinHandle<()>>,
}

/// The way to the writer.
#[derive(Debug)]
struct Queue {
    items: Option<SyncSender<Item>>,
    /// Events left out since the last that got through.
    left_out: u64,
}

/// What the loop saw.
#[derive(Debug)]
enum Item {
    Event(Event),
    Datagram { at: Instant, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>, outcome: Outcome },
}

impl Recorder {
    /// Begins the file `node-<id>-<incarnation>.jsonl` in `dir`, which is made if need be.
    ///
    /// # Errors
    /// When the folder or the file cannot be made; a file of this name is never touched.
    pub fn start(dir: &Path, recorded: Recorded, now: Instant, log: &Logger) -> io::Result<Self> {
        let Recorded { node, store, incarnation, cluster, address, payloads } = recorded;
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("node-{}-{incarnation}.jsonl", node.as_u16()));
        let file = File::create_new(&path)?;
        let (items, receiver) = sync_channel(QUEUE_MAX);
        let mut queue = Queue { items: Some(items), left_out: 0 };
        let source = Source::Node { incarnation, unix_us: unix_us_at_zero(now) };
        let header = Header { source, cluster: (!cluster.is_zero()).then_some(cluster) };
        queue.put(now, Item::Event(Event { at: now, node: Some(node), what: What::Header(header) }));
        let boot = Boot { incarnation, store, address };
        queue.put(now, Item::Event(Event { at: now, node: Some(node), what: What::Boot(boot) }));
        info!(log, "recording"; "file" => path.display().to_string());
        let of_thread = File::try_clone(&file)?;
        let log = log.clone();
        let writer = thread::Builder::new()
            .name("raftgram-record".to_owned())
            .spawn(move || Writer { file: of_thread, path, log, node, payloads }.run(&receiver))?;
        Ok(Self { recorded, observer: Observer::new(node), queue, writer: Some(writer) })
    }

    /// Tells what changed of the node since the last look.
    pub fn observe(&mut self, now: Instant, raft: &Raft) {
        let queue = &mut self.queue;
        self.observer.observe(now, raft, &mut |event| queue.put(now, Item::Event(event)));
    }

    /// A datagram that the node gives to its socket.
    pub fn sent(&mut self, now: Instant, to: SocketAddr, bytes: &[u8]) {
        self.datagram(now, self.recorded.address, to, bytes, Outcome::Sent);
    }

    /// A datagram that came, and what the node made of it.
    pub fn received(&mut self, now: Instant, from: SocketAddr, bytes: &[u8], outcome: Outcome) {
        self.datagram(now, from, self.recorded.address, bytes, outcome);
    }

    /// The socket did not take a datagram to there.
    pub fn send_failed(&mut self, now: Instant, to: SocketAddr, error: SendErrorKind) {
        let why = match error {
            SendErrorKind::MessageTooLong => "too long for the path",
            SendErrorKind::Other => "refused by the system",
        };
        self.note(now, NoteKind::SocketError, format!("a datagram to {to}: {why}"));
    }

    /// Something else.
    pub fn note(&mut self, now: Instant, kind: NoteKind, text: String) {
        let node = Some(self.recorded.node);
        self.queue.put(now, Item::Event(Event { at: now, node, what: What::Note(kind, text) }));
    }

    fn datagram(&mut self, at: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8], outcome: Outcome) {
        self.queue.put(at, Item::Datagram { at, from, to, bytes: bytes.to_vec(), outcome });
    }

    /// The node ended as it was told to: says so, and waits until all is written.
    pub fn stop(self, now: Instant) {
        let stopped = What::Note(NoteKind::Stop, String::new());
        let (gap, node) = (self.queue.gap(now), Some(self.recorded.node));
        for event in gap.into_iter().chain([Event { at: now, node, what: stopped }]) {
            if let Some(items) = &self.queue.items {
                // It fails only when the writer has given up, and has said so.
                drop(items.send(Item::Event(event)));
            }
        }
    }
}

impl Drop for Recorder {
    /// What waits is written, however the node ends.
    fn drop(&mut self) {
        self.queue.items = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has left a file that ends early, which is all that can be said.
            drop(writer.join());
        }
    }
}

impl Queue {
    /// Hands an item over if there is room; what is left out is told before the next that gets through.
    fn put(&mut self, now: Instant, item: Item) {
        if let Some(gap) = self.gap(now) {
            let left_out = std::mem::take(&mut self.left_out);
            if !self.offer(Item::Event(gap)) {
                self.left_out = left_out + 1;
                return;
            }
        }
        if !self.offer(item) {
            self.left_out += 1;
        }
    }

    fn gap(&self, at: Instant) -> Option<Event> {
        (self.left_out > 0).then_some(Event { at, node: None, what: What::Gap { events: self.left_out } })
    }

    fn offer(&mut self, item: Item) -> bool {
        match self.items.as_ref().map(|items| items.try_send(item)) {
            Some(Err(TrySendError::Full(_))) => false,
            Some(Err(TrySendError::Disconnected(_))) => {
                // The writer has given up and said why; nothing is counted for nobody.
                self.items = None;
                true
            }
            Some(Ok(())) | None => true,
        }
    }
}

/// The other end.
struct Writer {
    file: File,
    path: PathBuf,
    log: Logger,
    node: NodeId,
    payloads: Payloads,
}

impl Writer {
    /// Writes whole lines, at once whenever nothing more waits: a node that is killed leaves a file to its end.
    fn run(mut self, items: &Receiver<Item>) {
        let mut datagrams = Datagrams::new(self.payloads);
        let mut lines = String::new();
        let mut left_out = 0;
        loop {
            let next = match items.try_recv() {
                Ok(item) => Some(item),
                Err(TryRecvError::Disconnected) => None,
                Err(TryRecvError::Empty) => {
                    if !self.write(&mut lines) {
                        return;
                    }
                    items.recv().ok()
                }
            };
            let Some(item) = next else { break };
            let event = self.event(item, &mut datagrams);
            if let What::Gap { events } = event.what {
                left_out += events;
            }
            lines.push_str(&event.to_line());
            if lines.len() >= CHUNK_BYTES && !self.write(&mut lines) {
                return;
            }
        }
        if self.write(&mut lines) && left_out > 0 {
            warn!(self.log, "the recording has gaps: the disk or the machine was too slow for it";
                "file" => self.path.display().to_string(), "events_left_out" => left_out);
        }
    }

    fn event(&self, item: Item, datagrams: &mut Datagrams) -> Event {
        match item {
            Item::Event(event) => event,
            Item::Datagram { at, from, to, bytes, outcome } => {
                let seen_by = Some(self.node);
                datagrams.read(&Sight { at, seen_by, from, to, bytes: &bytes, opened: None, outcome })
            }
        }
    }

    /// Writes the lines and empties them; false when the file takes no more.
    fn write(&mut self, lines: &mut String) -> bool {
        let written = self.file.write_all(lines.as_bytes());
        lines.clear();
        if let Err(error) = &written {
            warn!(self.log, "the recording ends here: its file cannot be written";
                "file" => self.path.display().to_string(), "error" => %error);
        }
        written.is_ok()
    }
}

/// What the wall clock showed when the node's clock read zero.
fn unix_us_at_zero(now: Instant) -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock set before 1970 tells nothing.
    let unix_us = since_1970.map_or(0, |span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    unix_us.saturating_sub(now.as_nanos() / 1000)
}
