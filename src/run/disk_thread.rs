//! Durable writes beside the event loop.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::Waker;

use crate::node::{DiskRoom, PeerRecord};
use crate::raft::Ticket;
use crate::run::clock::Clock;
use crate::snapshot::SnapshotMeta;
use crate::store::{Adopted, Batch, Disk, LogAfter, PeerSeen, Store, StoreError, Upkeep};
use crate::time::Instant;
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
    RecordPeer { store: StoreId, incarnation: Incarnation, nonce: BootNonce, kept: BTreeSet<StoreId> },
}

/// What has been done.
#[derive(Debug)]
pub(super) enum Done {
    /// This write and all before it are durable; it took so long.
    Persisted { ticket: Ticket, took: Duration },
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
    InPlace(Box<InPlace<D>>),
}

/// Writes that are done when they are asked for, and upkeep between the turns of the loop.
#[derive(Debug)]
pub(super) struct InPlace<D> {
    store: Store<D>,
    done: Vec<Done>,
    /// What found no room, and all that came after it.
    stuck: VecDeque<Job>,
    room: DiskRoom,
    /// When to look for room again.
    look_at: Instant,
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
        Self::InPlace(Box::new(InPlace {
            store,
            done: Vec::new(),
            stuck: VecDeque::new(),
            room: DiskRoom::Enough,
            look_at: Instant::ZERO,
        }))
    }

    pub(super) fn ask(&mut self, job: Job) {
        match self {
            // The thread ends only after a failure or a panic, which it has reported.
            Self::Thread { jobs, .. } => drop(jobs.send(job)),
            Self::InPlace(in_place) => {
                in_place.stuck.push_back(job);
                if in_place.stuck.len() == 1 && in_place.try_stuck() {
                    in_place.done.push(Done::Full);
                }
            }
        }
    }

    /// Does what is due beside what is asked for, one bounded step of it.
    pub(super) fn keep_up(&mut self, now: Instant) {
        if let Self::InPlace(in_place) = self {
            in_place.keep_up(now);
        }
    }

    /// When to call [`Self::keep_up`] next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Thread { .. } => None,
            Self::InPlace(in_place) => in_place.is_wanting().then_some(in_place.look_at),
        }
    }

    /// What has been done since the last look, in order, into an empty list.
    pub(super) fn take_done(&mut self, into: &mut Vec<Done>) {
        match self {
            Self::Thread { report, .. } => {
                std::mem::swap(&mut *report.done.lock().unwrap_or_else(PoisonError::into_inner), into);
            }
            Self::InPlace(in_place) => std::mem::swap(&mut in_place.done, into),
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
            Self::InPlace(in_place) => Some(in_place.store),
        }
    }
}

impl<D: Disk> InPlace<D> {
    /// Does the jobs in their order; true when the first of those left found no room.
    fn try_stuck(&mut self) -> bool {
        while let Some(job) = self.stuck.front() {
            match carry_out(&mut self.store, job) {
                Done::Failed(StoreError::Full) => return true,
                done => self.done.push(done),
            }
            self.stuck.pop_front();
        }
        false
    }

    /// Something waits for room, or the next segment has not been made.
    fn is_wanting(&self) -> bool {
        !self.stuck.is_empty() || !self.store.has_spare()
    }

    fn keep_up(&mut self, now: Instant) {
        if now < self.look_at || !self.is_wanting() {
            return;
        }
        if self.try_stuck() {
            self.look_at = now + FULL_PAUSE;
            return;
        }
        let found = match self.store.maintain() {
            Ok(Upkeep::More) => return,
            Ok(Upkeep::Done) => DiskRoom::Enough,
            Ok(Upkeep::Crowded { segments }) => DiskRoom::Crowded { segments },
            Err(StoreError::Full) => {
                self.look_at = now + ROOM_PAUSE;
                DiskRoom::Low
            }
            Err(error) => return self.done.push(Done::Failed(error)),
        };
        if self.room != found {
            self.room = found;
            self.done.push(Done::Room(found));
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
            Ok(Upkeep::Crowded { segments }) => DiskRoom::Crowded { segments },
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
            DiskRoom::Enough | DiskRoom::Crowded { .. } => return Ok(jobs.recv().ok()),
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
        Job::Persist { ticket, ref batch } => {
            let clock = Clock::start();
            match store.persist(batch) {
                Ok(()) => Done::Persisted { ticket, took: clock.now().saturating_since(Instant::ZERO) },
                Err(error) => Done::Failed(error),
            }
        }
        Job::Adopt { meta, log } => match store.adopt_snapshot(meta, log) {
            Ok(adopted) => Done::Adopted { meta, adopted },
            Err(error) => Done::Failed(error),
        },
        Job::RecordPeer { store: peer, incarnation, nonce, ref kept } => {
            let seen = match store.record_peer(peer, incarnation, nonce, kept) {
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
    use crate::types::{ClusterId, Index, Term};
    use mio::{Events, Poll, Token};

    /// A store in memory with short segments.
    fn opened() -> Store<MemoryDisk> {
        let (mut disk, segment_bytes) = (MemoryDisk::new(), 1 << 16);
        let (store, first_incarnation) = (StoreId([1; 16]), Incarnation(1));
        Store::format(&mut disk, FormatOptions { store, first_incarnation, segment_bytes }).unwrap();
        Store::open(disk, OpenOptions { segment_bytes, ..OpenOptions::default() }).unwrap().0
    }

    /// The segment in use has room when the thread tells that there will be none after it (D4).
    #[test]
    fn a_disk_that_is_nearly_full_is_told_before_a_write_finds_it_full_d4() {
        let mut store = opened();
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

    /// Writes in place wait for room like those of the thread, in their order, and the loop is told of both ends (D4).
    #[test]
    fn a_write_in_place_that_finds_no_room_waits_for_it_d4() {
        let mut store = opened();
        let cluster = ClusterId([2; 16]);
        store.record_cluster(cluster).unwrap();
        store.disk_mut().set_capacity(Some(0));
        let mut writer = Writer::in_place(store);
        let (mut now, mut done) = (Instant::ZERO, Vec::new());
        writer.keep_up(now);
        writer.take_done(&mut done);
        assert!(matches!(done[..], [Done::Room(DiskRoom::Low)]), "{done:?}");
        let mut chain = 0;
        let mut persist = |writer: &mut Writer<MemoryDisk>, index: u64| {
            let payload = crate::entry::Payload::Command(vec![7; 20_000].into());
            let entry = crate::entry::Entry::new(cluster, Index(index), Term(1), payload, chain);
            chain = entry.chain;
            let batch = Batch { entries: vec![entry], ..Batch::default() };
            writer.ask(Job::Persist { ticket: crate::raft::Ticket::default(), batch });
        };
        for index in 1..=5 {
            persist(&mut writer, index);
        }
        done.clear();
        writer.take_done(&mut done);
        let is_durable = |done: &Done| matches!(done, Done::Persisted { .. });
        let durable = done.iter().filter(|done| is_durable(done)).count();
        assert!((1..5).contains(&durable), "the segment in use has room for some: {done:?}");
        assert_eq!(done.iter().filter(|done| matches!(done, Done::Full)).count(), 1, "{done:?}");
        let Writer::InPlace(in_place) = &mut writer else { panic!("it was made in place") };
        in_place.store.disk_mut().set_capacity(None);
        now += ROOM_PAUSE;
        assert!(writer.poll_timeout().is_some_and(|at| at <= now));
        done.clear();
        while writer.poll_timeout().is_some_and(|at| at <= now) {
            writer.keep_up(now);
        }
        writer.take_done(&mut done);
        assert_eq!(done.iter().filter(|done| is_durable(done)).count(), 5 - durable, "{done:?}");
        assert!(matches!(done.last(), Some(Done::Room(DiskRoom::Enough))), "{done:?}");
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
