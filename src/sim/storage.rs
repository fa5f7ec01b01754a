//! A node's disk in the simulation: one that outlives its store, and takes time.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use crate::founding::FoundingRecord;
use crate::machine::Machine;
use crate::node::{PeerRecord, SnapshotDone, SnapshotJob};
use crate::raft::Ticket;
use crate::rng::Rng;
use crate::snapshot::SnapshotMeta;
use crate::store::{
    Adopted, Batch, Disk, DiskError, LogAfter, MemoryDisk, PeerSeen, SnapshotError, Store, StoreError,
};
use crate::time::Instant;
use crate::types::{BootNonce, ClusterId, Incarnation, StoreId};

/// Bytes of entries beyond which a batch takes in no further request.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// How long a disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskProfile {
    /// The quickest write.
    pub latency_min: Duration,
    /// The slowest one.
    pub latency_max: Duration,
}

impl Default for DiskProfile {
    fn default() -> Self {
        Self { latency_min: Duration::from_micros(100), latency_max: Duration::from_micros(400) }
    }
}

/// A disk that stays with its machine while stores come and go, so that a failed boot does not take it along.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedDisk(Rc<RefCell<MemoryDisk>>);

impl SharedDisk {
    /// With this on it.
    pub(super) fn of(disk: MemoryDisk) -> Self {
        Self(Rc::new(RefCell::new(disk)))
    }

    /// Works on the disk itself.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut MemoryDisk) -> T) -> T {
        work(&mut self.0.borrow_mut())
    }
}

impl Disk for SharedDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.0.borrow_mut().list()
    }

    fn file_bytes(&mut self, file: &str) -> Result<u64, DiskError> {
        self.0.borrow_mut().file_bytes(file)
    }

    fn create(&mut self, file: &str) -> Result<(), DiskError> {
        self.0.borrow_mut().create(file)
    }

    fn read_at(&mut self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.0.borrow_mut().read_at(file, offset, out)
    }

    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.borrow_mut().write_at(file, offset, bytes)
    }

    fn sync(&mut self, file: &str) -> Result<(), DiskError> {
        self.0.borrow_mut().sync(file)
    }

    fn shorten(&mut self, file: &str, bytes: u64) -> Result<(), DiskError> {
        self.0.borrow_mut().shorten(file, bytes)
    }

    fn remove(&mut self, file: &str) -> Result<(), DiskError> {
        self.0.borrow_mut().remove(file)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.0.borrow_mut().rename(from, to)
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        self.0.borrow_mut().sync_folder()
    }
}

/// A write that a node asked for.
#[derive(Debug)]
pub(super) enum Job {
    Persist { ticket: Ticket, batch: Batch },
    Adopt { meta: SnapshotMeta, log: LogAfter },
    RecordPeer { store: StoreId, incarnation: Incarnation, nonce: BootNonce, kept: BTreeSet<StoreId> },
    Found(FoundingRecord),
    Join(ClusterId),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Persisted {
        ticket: Ticket,
        batch: Batch,
    },
    Adopted {
        meta: SnapshotMeta,
        log: LogAfter,
        adopted: Adopted,
    },
    PeerRecorded {
        store: StoreId,
        incarnation: Incarnation,
        nonce: BootNonce,
        seen: PeerRecord,
    },
    Founded,
    /// No room; to be tried again.
    Full(Job),
    /// The disk has failed, and with it the node.
    Failed(StoreError),
}

/// The writes that wait, and the one under way: what the disk thread of a real node does.
#[derive(Debug, Default)]
pub(super) struct Writer {
    waiting: VecDeque<Job>,
    current: Option<Job>,
    /// Until when the disk does not answer.
    hangs_until: Instant,
    /// When something was written last.
    pub(super) wrote: Instant,
}

impl Writer {
    pub(super) fn ask(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Whether a write is under way that a crash can cut.
    pub(super) fn is_writing(&self) -> bool {
        self.current.is_some()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// Nothing finishes before this instant.
    pub(super) fn hang_until(&mut self, until: Instant) {
        self.hangs_until = self.hangs_until.max(until);
    }

    /// It answers again. True when it had not.
    pub(super) fn stop_hanging(&mut self) -> bool {
        std::mem::take(&mut self.hangs_until) > Instant::ZERO
    }

    /// Begins the next write if the disk is free; says when it will be done.
    pub(super) fn begin(&mut self, now: Instant, profile: DiskProfile, rng: &mut Rng) -> Option<Instant> {
        if self.current.is_some() {
            return None;
        }
        let mut job = self.waiting.pop_front()?;
        if let Job::Persist { ticket, batch } = &mut job {
            let mut bytes = batch.content_bytes();
            while bytes < BATCH_BYTES_MAX && matches!(self.waiting.front(), Some(Job::Persist { .. })) {
                let Some(Job::Persist { ticket: later, batch: more }) = self.waiting.pop_front() else {
                    break;
                };
                bytes += more.content_bytes();
                batch.merge(more);
                *ticket = later;
            }
        }
        self.current = Some(job);
        let latency = rng.duration_between(profile.latency_min, profile.latency_max);
        Some((now + latency).max(self.hangs_until))
    }

    /// When the write under way is really done, if the disk hangs now.
    pub(super) fn still_hangs(&self, now: Instant) -> Option<Instant> {
        (self.hangs_until > now).then_some(self.hangs_until)
    }

    /// What is being written to log and hard state, if that is under way.
    pub(super) fn batch(&self) -> Option<&Batch> {
        match &self.current {
            Some(Job::Persist { batch, .. }) => Some(batch),
            _ => None,
        }
    }

    /// The snapshot that is being put in force, if that is under way.
    pub(super) fn adoption(&self) -> Option<(&SnapshotMeta, LogAfter)> {
        match &self.current {
            Some(Job::Adopt { meta, log }) => Some((meta, *log)),
            _ => None,
        }
    }

    /// Carries out the write under way.
    pub(super) fn finish(&mut self, now: Instant, store: &mut Store<SharedDisk>) -> Option<Done> {
        let job = self.current.take()?;
        self.wrote = now;
        Some(carry_out(store, job))
    }

    /// A full disk is asked again.
    pub(super) fn put_back(&mut self, job: Job) {
        self.current = Some(job);
    }
}

/// What waits to be done with snapshot files, and what is under way: the snapshot thread of a real node.
#[derive(Debug)]
pub(super) struct SnapshotWriter<M> {
    waiting: VecDeque<SnapshotJob<M>>,
    current: Option<SnapshotJob<M>>,
}

impl<M> Default for SnapshotWriter<M> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), current: None }
    }
}

impl<M: Machine> SnapshotWriter<M> {
    pub(super) fn ask(&mut self, job: SnapshotJob<M>) {
        self.waiting.push_back(job);
    }

    /// Begins the next job if none is under way; says how long it takes.
    pub(super) fn begin(&mut self, profile: DiskProfile, rng: &mut Rng) -> Option<Duration> {
        if self.current.is_some() {
            return None;
        }
        self.current = Some(self.waiting.pop_front()?);
        Some(rng.duration_between(profile.latency_min, profile.latency_max))
    }

    /// Whether a job is under way that a crash can cut.
    pub(super) fn is_working(&self) -> bool {
        self.current.is_some()
    }

    /// Carries out the job under way.
    pub(super) fn finish(&mut self, mut disk: SharedDisk) -> Option<Result<SnapshotDone<M>, SnapshotError>> {
        Some(self.current.take()?.carry_out(&mut disk))
    }
}

fn carry_out(store: &mut Store<SharedDisk>, job: Job) -> Done {
    match job {
        Job::Persist { ticket, batch } => match store.persist(&batch) {
            Ok(()) => Done::Persisted { ticket, batch },
            Err(StoreError::Full) => Done::Full(Job::Persist { ticket, batch }),
            Err(error) => Done::Failed(error),
        },
        Job::Adopt { meta, log } => match store.adopt_snapshot(meta, log) {
            Ok(adopted) => Done::Adopted { meta, log, adopted },
            Err(StoreError::Full) => Done::Full(Job::Adopt { meta, log }),
            Err(error) => Done::Failed(error),
        },
        Job::RecordPeer { store: peer, incarnation, nonce, kept } => {
            let seen = match store.record_peer(peer, incarnation, nonce, &kept) {
                Ok(PeerSeen::Adopted) => PeerRecord::Adopted,
                Ok(PeerSeen::Copy { .. }) => PeerRecord::Copy,
                Err(StoreError::PeersFull) => PeerRecord::NoRoom,
                Err(error) => return Done::Failed(error),
            };
            Done::PeerRecorded { store: peer, incarnation, nonce, seen }
        }
        Job::Found(record) => match store.record_founding(&record) {
            Ok(()) => Done::Founded,
            Err(error) => Done::Failed(error),
        },
        Job::Join(cluster) => match store.record_cluster(cluster) {
            Ok(()) => Done::Founded,
            Err(error) => Done::Failed(error),
        },
    }
}
