//! The open store: durable writes, one at a time.

use std::collections::BTreeSet;

use crate::entry::Entry;
use crate::founding::FoundingRecord;
use crate::mutant::{self, Mutant};
use crate::store::batch::Batch;
use crate::store::block::{BLOCK_BYTES, Encoder, Header};
use crate::store::disk::{Disk, DiskError, DiskErrorKind};
use crate::store::error::StoreError;
use crate::store::record::{
    self, BootSeen, PEERS_MAX, Record, SEGMENTS_CROWDED, SEGMENTS_MAX, Stop, Syncing,
};
use crate::store::segment::SegmentRef;
use crate::store::snapshot;
use crate::store::spare::{FillError, Spare};
use crate::types::{BootNonce, ClusterId, HardState, Incarnation, Index, StoreId, Term};

/// Content beyond which what takes the place of a cut log is written in a further batch.
const PIECE_BYTES: usize = 4 << 20;

/// What another store's boot means beside those seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerSeen {
    /// It is the highest one, and that is durable.
    Adopted,
    /// It is lower, or equal with another nonce: one of two copies of a folder is speaking. Nothing was changed.
    Copy {
        /// The boot that was adopted before.
        known: BootSeen,
    },
}

/// Whether [`Store::maintain`] has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// The spare segment is ready.
    Done,
    /// It is, and the log nearly takes as many segments as it may ([`SEGMENTS_CROWDED`] of [`SEGMENTS_MAX`]): a
    /// snapshot is wanted, whatever the bytes say. Small batches in small segments come to this.
    Crowded {
        /// How many it takes.
        segments: usize,
    },
    /// Call again when there is time.
    More,
}

/// Where the log goes on.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub(super) file: String,
    /// The file's length.
    pub(super) bytes: u64,
    /// Everything below was written, and synced unless the run does not sync.
    pub(super) offset: u64,
}

/// A data folder in use. Its driver makes one call at a time and may merge what queued up meanwhile.
///
/// After [`StoreError::Failed`] every later call returns the same: a write or sync that failed leaves a disk of
/// which nothing is known, and only a new boot that reads it again can know more (E4, D3, L16).
#[derive(Debug)]
pub struct Store<D> {
    pub(super) disk: D,
    /// The record on the disk.
    pub(super) record: Record,
    /// The copy to write first.
    pub(super) stalest: usize,
    /// The log's last segment, which `record.segments` names last.
    pub(super) active: Active,
    pub(super) spare: Spare,
    pub(super) segment_bytes: u64,
    /// The last entry of the log; with its chain value, unless a truncation made that unknown.
    pub(super) last: Index,
    pub(super) last_term: Term,
    pub(super) last_chain: Option<u32>,
    /// What the disk says of itself has been synced: the mark in its last batch, or what the record tells.
    pub(super) marked: Index,
    pub(super) next_batch: u64,
    pub(super) encoder: Encoder,
    pub(super) record_bytes: Vec<u8>,
    /// The log on the disk goes on behind a hole. Nothing is added to it until a truncation takes out the hole and
    /// all behind it, together with what takes their place.
    pub(super) has_holes: bool,
    /// The snapshot that the record names cannot be read.
    pub(super) has_lost_snapshot: bool,
    pub(super) failed: Option<DiskError>,
}

impl<D: Disk> Store<D> {
    /// Whose folder this is.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.record.store
    }

    /// The cluster it belongs to; zero before founding or joining.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.record.cluster
    }

    /// The number of this boot.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.record.incarnation
    }

    /// The durable term and vote.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.record.hard_state
    }

    /// The last durable entry's index.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.last
    }

    /// The error that ended this store, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<&DiskError> {
        self.failed.as_ref()
    }

    /// True while the spare segment is ready: writes go on even if the disk is full now. It is false after a boot
    /// and after each change of segment, until [`Self::maintain`] has made another; when that reports
    /// [`StoreError::Full`], a leader refuses proposals.
    #[must_use]
    pub fn has_spare(&self) -> bool {
        self.spare.is_ready(self.segment_bytes)
    }

    /// The disk below.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk below, for its owner to set faults on.
    #[must_use]
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Gives the disk back without a word to it, as a crash would.
    #[must_use]
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Makes the batch durable: hard state first, then the truncation, then the entries; only on `Ok` may
    /// anything that depends on it be shown. [`StoreError::Full`] has written nothing.
    ///
    /// A batch of entries costs one positional write and one sync. With a truncation all of it takes effect in one
    /// moment: no crash leaves a log that lacks both what was cut and what takes its place.
    ///
    /// # Panics
    /// When the entries do not follow the log, or the store belongs to no cluster and has no log to follow.
    pub fn persist(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.check_alive()?;
        let end = if self.has_holes { self.last.next() } else { self.last };
        let cut_from = batch.truncate_from.filter(|from| *from <= end);
        if let (Some(from), Some(snapshot)) = (cut_from, &self.record.snapshot) {
            let is_above = self.has_lost_snapshot || from > snapshot.id.index;
            assert!(is_above, "truncation from {from} reaches into snapshot {snapshot}");
        }
        assert!(
            !self.has_holes || batch.entries.is_empty() || cut_from.is_some(),
            "entries behind the hole after {}",
            self.last
        );
        self.check_entries(batch, cut_from);
        if let Some(from) = cut_from {
            return self.replace_from(from, batch);
        }
        let bytes = if batch.entries.is_empty() { 0 } else { self.encoder.stage(&batch.entries) as u64 };
        let needs_segment = self.active.offset + bytes > self.active.bytes && bytes > 0;
        if needs_segment {
            self.make_room(bytes)?;
        }
        self.set_hard_state(batch);
        if needs_segment {
            // One record carries both: term and vote, and the segment.
            self.start_segment(self.last, 0)?;
        } else if batch.hard_state.is_some() {
            self.write_record()?;
        }
        if let Some(last) = batch.entries.last() {
            self.write_batch(batch.entries[0].index, last.index, last.term)?;
            self.last_chain = Some(last.chain);
        }
        Ok(())
    }

    fn set_hard_state(&mut self, batch: &Batch) {
        let Some(hard_state) = batch.hard_state else { return };
        let old = self.record.hard_state;
        let keeps_vote = hard_state.term > old.term || old.vote.is_none() || hard_state.vote == old.vote;
        assert!(hard_state.term >= old.term && keeps_vote, "hard state {hard_state} after {old}");
        self.record.hard_state = hard_state;
    }

    /// Cuts the log and puts other entries in the place of what is cut: those are durable in a segment of their own
    /// before the record names it, and so takes all others out.
    fn replace_from(&mut self, from: Index, batch: &Batch) -> Result<(), StoreError> {
        let pieces = pieces(&batch.entries);
        let lengths = pieces.iter().map(|piece| self.encoder.stage(piece) as u64);
        let bytes: u64 = lengths.sum();
        self.make_room(bytes)?;
        let base = from.prev();
        let first_batch = self.next_batch;
        let file = self.spare.generation.file();
        let mut offset = 0;
        for piece in pieces {
            self.encoder.stage(piece);
            let (first, last) = (&piece[0], &piece[piece.len() - 1]);
            let header = Header {
                mark: base,
                generation: self.spare.generation,
                ..self.header(first.index, last.index, last.term)
            };
            offset = self.write_staged(&file, offset, header)?;
        }
        self.set_hard_state(batch);
        if self.has_lost_snapshot {
            self.record.snapshot = None;
        }
        self.start_segment_with(base, first_batch, offset)?;
        if let Some(last) = batch.entries.last() {
            (self.last, self.last_term, self.last_chain) = (last.index, last.term, Some(last.chain));
        }
        Ok(())
    }

    /// After 50 ms without a write: lets the disk tell that everything is synced, so that no later doubt falls
    /// on the last batch.
    pub fn quiet(&mut self) -> Result<(), StoreError> {
        self.check_alive()?;
        if self.marked == self.last || self.has_holes {
            return Ok(());
        }
        if self.active.offset + BLOCK_BYTES as u64 > self.active.bytes {
            // The record says the same, and needs no room in the segment.
            return self.write_record();
        }
        self.encoder.stage(&[]);
        self.write_batch(self.last.next(), self.last, self.last_term)
    }

    /// Does one bounded step (at most 1 MiB of zeros) towards the spare segment, to be called when nothing waits;
    /// what is not done by then is done when the segment is needed. [`StoreError::Full`] may be tried again.
    pub fn maintain(&mut self) -> Result<Upkeep, StoreError> {
        self.check_alive()?;
        if !self.has_spare() {
            let filled = self.spare.fill(&mut self.disk, self.segment_bytes, self.record.syncing);
            self.filled(filled)?;
        }
        let segments = self.record.segments.len();
        Ok(match self.has_spare() {
            false => Upkeep::More,
            true if segments >= SEGMENTS_CROWDED => Upkeep::Crowded { segments },
            true => Upkeep::Done,
        })
    }

    /// Ends the run: carries the mark on, syncs what a run without fsync left unsynced, records a clean stop.
    /// Nothing may be asked of the store afterwards.
    pub fn shutdown(&mut self) -> Result<(), StoreError> {
        match self.quiet() {
            // Without room for the mark the next run copies more of the log, and nothing is lost.
            Ok(()) | Err(StoreError::Full) => {}
            Err(error) => return Err(error),
        }
        if self.record.syncing != Syncing::Always {
            let synced = sync_all(&mut self.disk, &self.record).and_then(|()| self.disk.sync_folder());
            self.guard(synced)?;
        }
        self.record.stop = Stop::Clean;
        let written = self.write_copies(Sync::Now);
        self.guard(written)
    }

    /// Stores what the cluster was founded as, once: the same record again changes nothing, another is refused.
    ///
    /// # Panics
    /// When the record binds no member to this store: the caller has to look before.
    pub fn record_founding(&mut self, founding: &FoundingRecord) -> Result<(), StoreError> {
        self.check_alive()?;
        if self.record.founding.as_ref() == Some(founding) {
            return Ok(());
        }
        if !self.record.cluster.is_zero() {
            return Err(StoreError::AlreadyFounded { cluster: self.record.cluster });
        }
        let binds = founding.membership.iter().any(|(_, member)| member.store == self.record.store);
        assert!(binds || mutant::is(Mutant::I1), "a founding record without store {}", self.record.store);
        if self.is_restored() {
            return self.found_restored(founding);
        }
        self.record.cluster = founding.cluster;
        self.record.founding = Some(founding.clone());
        self.write_record()
    }

    /// Joins a cluster that others founded: stores its id, once.
    ///
    /// # Panics
    /// For the zero id.
    pub fn record_cluster(&mut self, cluster: ClusterId) -> Result<(), StoreError> {
        self.check_alive()?;
        assert!(!cluster.is_zero(), "no cluster has the zero id");
        assert!(!self.is_restored(), "what was restored founds a cluster, and joins none");
        if self.record.cluster == cluster {
            return Ok(());
        }
        if !self.record.cluster.is_zero() {
            return Err(StoreError::AlreadyFounded { cluster: self.record.cluster });
        }
        self.record.cluster = cluster;
        self.write_record()
    }

    /// Adopts the boot that another store has proven, unless it shows a copy. Durable before it returns.
    ///
    /// In a full table the newcomer takes the place of a store that is not one of `kept`: those whose word counts, or
    /// may count soon. Of one that is forgotten a copy would be taken for new, which nobody counts either.
    pub fn record_peer(
        &mut self,
        store: StoreId,
        incarnation: Incarnation,
        nonce: BootNonce,
        kept: &BTreeSet<StoreId>,
    ) -> Result<PeerSeen, StoreError> {
        self.check_alive()?;
        match self.record.peers.get(&store) {
            Some(known) if known.incarnation == incarnation && known.nonce == nonce => Ok(PeerSeen::Adopted),
            Some(known) if known.incarnation >= incarnation => Ok(PeerSeen::Copy { known: *known }),
            known => {
                if known.is_none() && self.record.peers.len() >= PEERS_MAX {
                    let forgotten = self.record.peers.keys().find(|store| !kept.contains(store)).copied();
                    self.record.peers.remove(&forgotten.ok_or(StoreError::PeersFull)?);
                }
                self.record.peers.insert(store, BootSeen { incarnation, nonce });
                self.write_record()?;
                Ok(PeerSeen::Adopted)
            }
        }
    }

    pub(super) fn check_alive(&self) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(StoreError::Failed(error.clone()));
        }
        // The record says "clean" from here on; a later write would make that a lie.
        assert_eq!(self.record.stop, Stop::Unclean, "store {} is used after its shutdown", self.record.store);
        Ok(())
    }

    /// Remembers the first failure for ever.
    pub(super) fn guard<T>(&mut self, result: Result<T, DiskError>) -> Result<T, StoreError> {
        result.map_err(|error| {
            self.failed = Some(error.clone());
            StoreError::Failed(error)
        })
    }

    pub(super) fn filled(&mut self, result: Result<(), FillError>) -> Result<(), StoreError> {
        match result {
            Ok(()) => Ok(()),
            Err(FillError::Full) => Err(StoreError::Full),
            Err(FillError::Failed(error)) => self.guard(Err(error)),
        }
    }

    /// The entries must follow what is left of the log, and each other.
    fn check_entries(&self, batch: &Batch, cut_from: Option<Index>) {
        if batch.entries.is_empty() {
            return;
        }
        let cluster = self.record.cluster;
        assert!(!cluster.is_zero(), "store {} has no cluster and no log", self.record.store);
        let mut last = cut_from.map_or(self.last, Index::prev);
        let mut prev_chain = match last {
            Index(0) => Some(0),
            _ if cut_from.is_some() => None,
            _ => self.last_chain,
        };
        for entry in &batch.entries {
            assert_eq!(entry.index, last.next(), "entries do not follow the log");
            if let Some(prev) = prev_chain {
                assert!(entry.is_chained_to(cluster, prev), "entry {entry} does not chain to {prev:#x}");
            }
            last = entry.index;
            prev_chain = Some(entry.chain);
        }
    }

    /// Has a spare segment that holds a batch of `bytes`, or reports that there is no room.
    fn make_room(&mut self, bytes: u64) -> Result<(), StoreError> {
        if self.record.segments.len() >= SEGMENTS_MAX {
            return Err(StoreError::Full);
        }
        let bytes = bytes.max(self.segment_bytes);
        let filled = self.spare.fill_all(&mut self.disk, bytes, self.record.syncing);
        self.filled(filled)
    }

    /// Goes on in the spare segment, which is empty.
    fn start_segment(&mut self, base: Index, written: u64) -> Result<(), StoreError> {
        self.start_segment_with(base, self.next_batch, written)
    }

    /// Goes on in the spare segment, which takes the entries after `base` and holds so many bytes of them already;
    /// what lies above in older ones is cut.
    fn start_segment_with(&mut self, base: Index, first_batch: u64, written: u64) -> Result<(), StoreError> {
        let is_live = |segment: &SegmentRef| segment.base < base;
        self.close_active();
        let was_active = self.record.segments.last().map(|last| last.generation);
        let segments = core::mem::take(&mut self.record.segments);
        let (live, dropped): (Vec<_>, Vec<_>) = segments.into_iter().partition(is_live);
        self.record.segments = live;
        // The one that was in use may hold damage behind what lives of it: it is left as it is.
        let was_whole = !core::mem::take(&mut self.has_holes);
        let sealed =
            self.record.segments.last_mut().filter(|last| was_whole && Some(last.generation) == was_active);
        let sealed = sealed.map(|last| {
            last.file_bytes = last.durable_bytes;
            *last
        });
        self.record.segments.push(SegmentRef {
            generation: self.spare.generation,
            base,
            first_batch,
            durable_bytes: written,
            file_bytes: self.spare.filled(),
        });
        self.active =
            Active { file: self.spare.generation.file(), bytes: self.spare.filled(), offset: written };
        self.spare = Spare::planned(self.spare.generation.next());
        self.has_lost_snapshot = false;
        self.write_record()?;
        if base != self.last {
            self.last_chain = None;
            self.last_term = Term(0);
        }
        self.last = base;
        self.marked = base;
        for segment in dropped {
            let removed = self.disk.remove(&segment.generation.file());
            self.guard(removed)?;
        }
        let Some(sealed) = sealed else { return Ok(()) };
        let cut = self.disk.shorten(&sealed.generation.file(), sealed.file_bytes);
        self.guard(cut)
    }

    /// Tells in the record how much of the active segment is durable.
    fn close_active(&mut self) {
        if self.has_holes {
            return;
        }
        let offset = self.active.offset;
        if let Some(active) = self.record.segments.last_mut() {
            active.durable_bytes = offset;
        }
    }

    /// Writes what is staged to the segment in use, and syncs it.
    fn write_batch(&mut self, first: Index, last: Index, last_term: Term) -> Result<(), StoreError> {
        assert!(self.last <= last && self.marked <= self.last, "mark {} of {}", self.marked, self.last);
        let header = self.header(first, last, last_term);
        let file = core::mem::take(&mut self.active.file);
        let written = self.write_staged(&file, self.active.offset, header);
        self.active.file = file;
        self.active.offset = written?;
        assert!(
            self.active.offset <= self.active.bytes,
            "batch ends at {} of {}",
            self.active.offset,
            self.active.bytes
        );
        self.marked = self.last;
        self.last = last;
        self.last_term = last_term;
        Ok(())
    }

    /// The header of the next batch in the segment in use.
    fn header(&self, first: Index, last: Index, last_term: Term) -> Header {
        let segment = self.record.segments.last().copied();
        Header {
            cluster: self.record.cluster,
            store: self.record.store,
            generation: segment.map_or(self.spare.generation, |segment| segment.generation),
            sequence: self.next_batch,
            blocks: 0,
            content_bytes: 0,
            first,
            last,
            last_term,
            mark: self.last,
            record: self.record.sequence,
            body_crc: 0,
        }
    }

    /// Writes what is staged, and syncs it; returns where it ends.
    fn write_staged(&mut self, file: &str, offset: u64, header: Header) -> Result<u64, StoreError> {
        let bytes = self.encoder.seal(header);
        let end = offset + bytes.len() as u64;
        let mut written = self.disk.write_at(file, offset, bytes);
        if mutant::is(Mutant::L16) {
            written = Ok(());
        }
        if self.record.syncing == Syncing::Always && !mutant::is(Mutant::D5) {
            written = written.and_then(|()| self.disk.sync(file));
        }
        if mutant::is(Mutant::D3) {
            written = written.or_else(|_| self.disk.sync(file));
        }
        self.guard(written)?;
        self.next_batch += 1;
        Ok(end)
    }

    pub(super) fn write_record(&mut self) -> Result<(), StoreError> {
        let mut sync = if self.record.syncing == Syncing::Always { Sync::Now } else { Sync::Later };
        if mutant::is(Mutant::E1) {
            let vote = self.record.hard_state.vote.take();
            let written = self.write_copies(sync);
            self.guard(written)?;
            (self.record.hard_state.vote, sync) = (vote, Sync::Later);
        }
        let written = self.write_copies(sync);
        if mutant::is(Mutant::E4) { Ok(()) } else { self.guard(written) }
    }

    /// Writes the next record to both files, the second only after the first is synced (E1, I4).
    pub(super) fn write_copies(&mut self, sync: Sync) -> Result<(), DiskError> {
        self.record.sequence += 1;
        self.close_active();
        self.record.encode(&mut self.record_bytes);
        let blocks = self.record_bytes.len().next_multiple_of(BLOCK_BYTES);
        self.record_bytes.resize(blocks, 0);
        for copy in [self.stalest, 1 - self.stalest] {
            self.disk.write_at(record::FILES[copy], 0, &self.record_bytes)?;
            if sync == Sync::Now {
                self.disk.sync(record::FILES[copy])?;
            }
            if mutant::is(Mutant::I4) {
                break;
            }
        }
        self.marked = self.last;
        Ok(())
    }
}

/// Makes durable what a record names and a run without fsync left to the kernel.
pub(super) fn sync_all<D: Disk>(disk: &mut D, record: &Record) -> Result<(), DiskError> {
    for segment in &record.segments {
        disk.sync(&segment.generation.file())?;
    }
    let Some(meta) = &record.snapshot else { return Ok(()) };
    match disk.sync(&snapshot::file_of(meta.id.index)) {
        // The boot, or an earlier one, has told.
        Err(error) if error.kind == DiskErrorKind::Missing => Ok(()),
        synced => synced,
    }
}

/// Entries as batches of bounded length.
fn pieces(entries: &[Entry]) -> Vec<&[Entry]> {
    let (mut pieces, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (place, entry) in entries.iter().enumerate() {
        bytes += entry.payload.content_bytes();
        if bytes >= PIECE_BYTES || place + 1 == entries.len() {
            pieces.push(&entries[start..=place]);
            (start, bytes) = (place + 1, 0);
        }
    }
    pieces
}

/// Whether a write of the record is made durable at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    Now,
    /// In a run without fsync.
    Later,
}
