//! A snapshot takes the place of the log below it.

use crate::mutant::{self, Mutant};
use crate::snapshot::SnapshotMeta;
use crate::store::disk::{Disk, DiskErrorKind};
use crate::store::error::StoreError;
use crate::store::segment::SegmentRef;
use crate::store::spare::Spare;
use crate::store::store::{Active, Store};
use crate::types::Index;

/// What becomes of the log when a snapshot is adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogAfter {
    /// It holds the snapshot's entry and goes on; segments that end at or below it are removed.
    Kept,
    /// It ends before the snapshot or differs from it: it is removed and begins anew after it.
    Begun,
    /// It is damaged below the snapshot or around it: what can be read behind stays as it is, until a truncation takes
    /// its place.
    Spared,
}

/// What came of adopting a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// The record names it.
    Yes {
        /// The one it replaced, whose file may be removed.
        replaced: Option<SnapshotMeta>,
    },
    /// One at least as new stands already; nothing was changed (S1).
    NotNewer,
}

impl<D: Disk> Store<D> {
    /// The snapshot that the record names.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotMeta> {
        self.record.snapshot
    }

    /// Names a snapshot whose file is durable, and only then removes what it makes needless of the log. One record
    /// carries both, so there is no moment at which the log ends below the snapshot (S2). [`StoreError::Full`] has
    /// changed nothing.
    ///
    /// # Panics
    /// When the log is to be kept and does not reach the snapshot.
    pub fn adopt_snapshot(&mut self, meta: SnapshotMeta, log: LogAfter) -> Result<Adopted, StoreError> {
        self.check_alive()?;
        let replaced = self.record.snapshot.filter(|_| !self.has_lost_snapshot);
        if replaced.is_some_and(|held| held.id.index >= meta.id.index) {
            return Ok(Adopted::NotNewer);
        }
        let dropped = match log {
            LogAfter::Kept => {
                assert!(meta.id.index <= self.last, "snapshot {meta} beyond the last entry {}", self.last);
                self.drop_segments_through(meta.id.index)
            }
            LogAfter::Spared => {
                assert!(self.has_holes, "a whole log goes on after snapshot {meta} or begins anew");
                let id = meta.id;
                (self.last, self.last_term, self.last_chain) = (id.index, id.term, Some(id.chain));
                self.marked = id.index;
                self.drop_segments_through(id.index)
            }
            LogAfter::Begun => self.begin_log_after(&meta)?,
        };
        self.record.snapshot = Some(meta);
        self.has_lost_snapshot = false;
        if mutant::is(Mutant::S2) {
            self.remove_segments(&dropped)?;
            self.write_record()?;
            return Ok(Adopted::Yes { replaced });
        }
        self.write_record()?;
        self.remove_segments(&dropped)?;
        Ok(Adopted::Yes { replaced })
    }

    /// Removes the files of segments that no record names any more. One that is missing was found so at the boot, and
    /// what it held has come from elsewhere.
    pub(super) fn remove_segments(&mut self, dropped: &[SegmentRef]) -> Result<(), StoreError> {
        dropped.iter().try_for_each(|segment| match self.disk.remove(&segment.generation.file()) {
            Err(error) if error.kind == DiskErrorKind::Missing => Ok(()),
            removed => self.guard(removed),
        })
    }

    /// Takes the segments without entries above `index` off the list. The active one always stays.
    fn drop_segments_through(&mut self, index: Index) -> Vec<SegmentRef> {
        let segments = &mut self.record.segments;
        // Entries above the next one's base are cut.
        let needless = segments.windows(2).take_while(|pair| pair[1].base <= index).count();
        segments.drain(..needless).collect()
    }

    /// Goes on in the spare segment, right after the snapshot; all others are dropped.
    pub(super) fn begin_log_after(&mut self, meta: &SnapshotMeta) -> Result<Vec<SegmentRef>, StoreError> {
        let filled = self.spare.fill_all(&mut self.disk, self.segment_bytes, self.record.syncing);
        self.filled(filled)?;
        let fresh = SegmentRef {
            generation: self.spare.generation,
            base: meta.id.index,
            first_batch: self.next_batch,
            durable_bytes: 0,
            file_bytes: self.spare.filled(),
        };
        let dropped = core::mem::replace(&mut self.record.segments, vec![fresh]);
        self.active = Active { file: fresh.generation.file(), bytes: self.spare.filled(), offset: 0 };
        self.spare = Spare::planned(fresh.generation.next());
        self.last = meta.id.index;
        self.last_term = meta.id.term;
        self.last_chain = Some(meta.id.chain);
        self.marked = meta.id.index;
        self.has_holes = false;
        Ok(dropped)
    }
}
