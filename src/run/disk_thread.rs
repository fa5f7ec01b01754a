//! Durable writes beside the event loop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::Waker;

use crate::node::{DiskRoom, PeerRecord};
use crate::raft::Ticket;
use crate::snapshot::SnapshotMeta;
use crate::store::{Adopted, Batch, Disk, LogAfter, PeerSeen, Store, StoreError, Upkeep};
use crate::types::{BootNonce, Incarnation, StoreId};

/// How long nothing must be asked for until the log's synced mark is carried on.
const QUIET: Duration = Duration::from_millis(50);

/// Bytes of entries beyond which a batch takes in no further request: what came first should not wait for all that
/// came later.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// How often room for another segment is looked for when there was none.
const ROOM_PAUSE: Duration = Duration::from_millis(500);

/// How often a write that found the disk full is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// What the loop asks for.
#[derive(Debug)]
pub(super) enum Job {
    /// Make this durable.
    Persist { ticket: Ticket, batch: Batch },
    /// Make this snapshot the one in force.
    Adopt { meta: SnapshotMeta, log: LogAfter },
    /// Make this peer's boot durable.
    RecordPeer { store: StoreId, incarnation: Incarnation, nonce: BootNonce },
}

/// What has been done.
#[derive(Debug)]
pub(super) enum Done {
    /// This write and all before it are durable.
    Persisted { ticket: Ticket },
    /// The snapshot is in force, or not newer.
    Adopted { meta: SnapshotMeta, adopted: Adopted },
    /// The peer's boot is durable, or was refused.
    PeerRecorded { store: StoreId, incarnation: Incarnation, nonce: BootNonce, seen: PeerRecord },
    /// Whether there is room for the log beyond the segment in use.
    Room(DiskRoom),
    /// The disk has no room; the write is tried again until it has.
    Full,
    /// The disk has failed; nothing more will be done.
    Failed(StoreError),
    /// The thread broke an invariant; nothing more will be done.
    Panicked,
}

/// Where writes are made durable: on a thread of their own, or in place.
#[derive(Debug)]
pub(super) enum Writer<D> {
    Thread { jobs: Sender<Job>, report: Arc<Report>, thread: JoinHandle<Store<D>> },
    InPlace { store: Box<Store<D>>, done: Vec<Done> },
}

impl<D: Disk + Send + 'static> Writer<D> {
    /// A thread that wakes the loop through `waker` whenever something is done.
    pub(super) fn thread(store: Store<D>, waker: Arc<Waker>) -> io::Result<Self> {
        let (jobs, receiver) = channel();
        let report =
            Arc::new(Report { done: Mutex::new(Vec::new()), waker, is_over: AtomicBool::new(false) });
        let of_thread = Arc::clone(&report);
        let thread = thread::Builder::new().name("raftgram-disk".to_owned()).spawn(move || {
            let _told = TellPanic(Arc::clone(&of_thread));
            serve(store, &receiver, &of_thread)
        })?;
        Ok(Self::Thread { jobs, report, thread })
    }

    /// No thread: each write is done when it is asked for.
    pub(super) fn in_place(store: Store<D>) -> Self {
        Self::InPlace { store: Box::new(store), done: Vec::new() }
    }

    pub(super) fn ask(&mut self, job: Job) {
        match self {
            // The thread ends only after a failure or a panic, which it has reported.
            Self::Thread { jobs, .. } => drop(jobs.send(job)),
            Self::InPlace { store, done } => done.push(carry_out(store, &job)),
        }
    }

    /// What has been done since the last look, in order, into an empty list.
    pub(super) fn take_done(&mut self, into: &mut Vec<Done>) {
        match self {
            Self::Thread { report, .. } => {
                std::mem::swap(&mut *report.done.lock().unwrap_or_else(PoisonError::into_inner), into);
            }
            Self::InPlace { done, .. } => std::mem::swap(done, into),
        }
    }

    /// Finishes what was asked for and gives the store back; `None` when its thread panicked.
    pub(super) fn stop(self) -> Option<Store<D>> {
        match self {
            Self::Thread { jobs, report, thread } => {
                drop(jobs);
                report.is_over.store(true, Ordering::Relaxed);
                thread.join().ok()
            }
            Self::InPlace { store, .. } => Some(*store),
        }
    }
}

/// The way back to the loop.
#[derive(Debug)]
pub(super) struct Report {
    done: Mutex<Vec<Done>>,
    waker: Arc<Waker>,
    /// Set when the loop has hung up: a disk that is still full is not waited for.
    is_over: AtomicBool,
}

impl Report {
    fn send(&self, done: Done) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        // It fails only when the loop is gone, and then nobody waits.
        drop(self.waker.wake());
    }
}

/// Tells the loop when the thread panics: a node without a disk must end, not go on as if its disk were slow.
struct TellPanic(Arc<Report>);

impl Drop for TellPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.send(Done::Panicked);
        }
    }
}

/// Serves jobs until the loop hangs up or the disk fails.
fn serve<D: Disk>(mut store: Store<D>, jobs: &Receiver<Job>, report: &Report) -> Store<D> {
    let mut next = None;
    let mut room = DiskRoom::Enough;
    loop {
        let job = match next.take() {
            Some(job) => job,
            None => match wait(&mut store, jobs, &mut room, report) {
                Ok(Some(job)) => job,
                Ok(None) => return store,
                Err(error) => {
                    report.send(Done::Failed(error));
                    return store;
                }
            },
        };
        let (job, left) = gather(job, jobs);
        next = left;
        let mut done = carry_out(&mut store, &job);
        if matches!(done, Done::Failed(StoreError::Full)) {
            report.send(Done::Full);
            while matches!(done, Done::Failed(StoreError::Full)) && !report.is_over.load(Ordering::Relaxed) {
                thread::park_timeout(FULL_PAUSE);
                done = carry_out(&mut store, &job);
            }
        }
        let has_failed = matches!(done, Done::Failed(_));
        report.send(done);
        if has_failed {
            return store;
        }
    }
}

/// The next job; quiet moments are used to carry the synced mark on and to make the next segment. `None` when the
/// loop has hung up.
fn wait<D: Disk>(
    store: &mut Store<D>,
    jobs: &Receiver<Job>,
    room: &mut DiskRoom,
    report: &Report,
) -> Result<Option<Job>, StoreError> {
    let mut patience = Duration::ZERO;
    loop {
        match jobs.recv_timeout(patience) {
            Ok(job) => return Ok(Some(job)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let found = match store.maintain() {
            Ok(Upkeep::More) => continue,
            Ok(Upkeep::Done) => DiskRoom::Enough,
            // The segment in use still has room: time to tell before a write finds none.
            Err(StoreError::Full) => DiskRoom::Low,
            Err(error) => return Err(error),
        };
        if *room != found {
            *room = found;
            report.send(Done::Room(found));
        }
        if patience == Duration::ZERO {
            patience = QUIET;
            continue;
        }
        match store.quiet() {
            // The mark is carried on by the next write, which waits for room.
            Ok(()) | Err(StoreError::Full) => {}
            Err(error) => return Err(error),
        }
        match found {
            DiskRoom::Enough => return Ok(jobs.recv().ok()),
            DiskRoom::Low => patience = ROOM_PAUSE,
        }
    }
}

/// Merges what has queued up into one write, as far as it goes; gives back the job that does not fit.
fn gather(first: Job, jobs: &Receiver<Job>) -> (Job, Option<Job>) {
    let Job::Persist { mut ticket, mut batch } = first else { return (first, None) };
    let mut bytes = batch.content_bytes();
    while bytes < BATCH_BYTES_MAX {
        match jobs.try_recv() {
            Ok(Job::Persist { ticket: later, batch: more }) => {
                bytes += more.content_bytes();
                batch.merge(more);
                ticket = later;
            }
            Ok(other) => return (Job::Persist { ticket, batch }, Some(other)),
            Err(_) => break,
        }
    }
    (Job::Persist { ticket, batch }, None)
}

fn carry_out<D: Disk>(store: &mut Store<D>, job: &Job) -> Done {
    match *job {
        Job::Persist { ticket, ref batch } => match store.persist(batch) {
            Ok(()) => Done::Persisted { ticket },
            Err(error) => Done::Failed(error),
        },
        Job::Adopt { meta, log } => match store.adopt_snapshot(meta, log) {
            Ok(adopted) => Done::Adopted { meta, adopted },
            Err(error) => Done::Failed(error),
        },
        Job::RecordPeer { store: peer, incarnation, nonce } => {
            let seen = match store.record_peer(peer, incarnation, nonce) {
                Ok(PeerSeen::Adopted) => PeerRecord::Adopted,
                Ok(PeerSeen::Copy { .. }) => PeerRecord::Copy,
                // What peers show must not end the node.
                Err(StoreError::PeersFull) => PeerRecord::NoRoom,
                Err(error) => return Done::Failed(error),
            };
            Done::PeerRecorded { store: peer, incarnation, nonce, seen }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{FormatOptions, MemoryDisk, OpenOptions};
    use crate::types::{Index, Term};
    use mio::{Events, Poll, Token};

    /// The segment in use has room when the thread tells that there will be none after it (D4).
    #[test]
    fn a_disk_that_is_nearly_full_is_told_before_a_write_finds_it_full_d4() {
        let (mut disk, bytes) = (MemoryDisk::new(), 1 << 16);
        let options = FormatOptions {
            store: StoreId([1; 16]),
            first_incarnation: Incarnation(1),
            segment_bytes: bytes,
        };
        Store::format(&mut disk, options).unwrap();
        let opened = Store::open(disk, OpenOptions { segment_bytes: bytes, ..OpenOptions::default() });
        let (mut store, _) = opened.unwrap();
        // The spare of the folder's beginning is in use; there is no room for the next.
        let disk = store.disk();
        let used: usize = disk.file_names().filter_map(|name| disk.content(name)).map(<[u8]>::len).sum();
        store.disk_mut().set_capacity(Some(used as u64 + 100));
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut writer = Writer::thread(store, waker).unwrap();
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
        let mut done = Vec::new();
        writer.take_done(&mut done);
        assert!(matches!(done[..], [Done::Room(DiskRoom::Low)]), "{done:?}");
        done.clear();
        // Term and vote are still written.
        let hard_state = Some(crate::types::HardState { term: Term(1), vote: None });
        let batch = Batch { hard_state, ..Batch::default() };
        writer.ask(Job::Persist { ticket: crate::raft::Ticket::default(), batch });
        poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
        writer.take_done(&mut done);
        assert!(matches!(done[..], [Done::Persisted { .. }]), "{done:?}");
        writer.stop().unwrap();
    }

    /// A node whose disk thread is gone must end, not go on as one whose disk is slow.
    #[test]
    fn a_disk_thread_that_panics_says_so() {
        let mut disk = MemoryDisk::new();
        let options = FormatOptions {
            store: StoreId([1; 16]),
            first_incarnation: Incarnation(1),
            segment_bytes: 1 << 18,
        };
        Store::format(&mut disk, options).unwrap();
        let opened = Store::open(disk, OpenOptions { segment_bytes: 1 << 18, ..OpenOptions::default() });
        let (store, recovered) = opened.unwrap();
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut writer = Writer::thread(store, waker).unwrap();
        // An entry that leaves a gap breaks the store's contract.
        let entry =
            crate::entry::Entry::new(recovered.cluster, Index(7), Term(1), crate::entry::Payload::Noop, 0);
        let batch = Batch { entries: vec![entry], ..Batch::default() };
        let ticket = crate::raft::Ticket::default();
        writer.ask(Job::Persist { ticket, batch });
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
        let mut done = Vec::new();
        writer.take_done(&mut done);
        assert!(matches!(done[..], [Done::Panicked]), "{done:?}");
        assert!(writer.stop().is_none());
    }
}
