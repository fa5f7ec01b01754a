//! From a backup to a new cluster.
//!
//! A restored folder is blank but for its state: it has a store id of its own and no cluster, and its record names the
//! backup's file, byte for byte. So its node can do nothing but found a cluster, together with others that were
//! restored from the same backup; none of the cluster that the backup was taken of can ever know it.
//!
//! The founding counts as one more entry: the new cluster's first snapshot goes through the index after the backup's.
//! It is written beside the backup's file, then one record names it and everything else that changes.

use core::fmt;

use crate::founding::FoundingRecord;
use crate::snapshot::SnapshotId;
use crate::store::disk::Disk;
use crate::store::error::{FormatError, StoreError};
use crate::store::open::{self, FormatOptions};
use crate::store::recover;
use crate::store::snapshot::{self, SnapshotError, SnapshotFile, SnapshotHead};
use crate::store::store::Store;
use crate::types::HardState;

/// Why a backup was not put into a folder. Formatting again starts over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The folder.
    Folder(FormatError),
    /// The backup, or its copy.
    Backup(SnapshotError),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(error) => fmt::Display::fmt(error, f),
            Self::Backup(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for RestoreError {}

impl<D: Disk> Store<D> {
    /// Makes a store in an empty folder, with the state of a backup: `file` is what [`snapshot::open_alone`] found
    /// under `name` on `from`. Until all of it is durable the folder counts as never formatted.
    ///
    /// # Panics
    /// For options outside their domain.
    pub fn format_restored<S: Disk>(
        disk: &mut D,
        options: FormatOptions,
        from: &mut S,
        name: &str,
        file: &SnapshotFile,
    ) -> Result<(), RestoreError> {
        let files = open::check_empty(disk, options).map_err(RestoreError::Folder)?;
        let folder = |error| RestoreError::Folder(FormatError::Disk(error));
        open::begin_format(disk, &files).map_err(folder)?;
        snapshot::copy_in(from, name, file, disk).map_err(RestoreError::Backup)?;
        open::finish_format(disk, options, Some(file.meta)).map_err(folder)
    }

    /// True when the folder holds a backup's state and no cluster has begun with it.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        self.record.cluster.is_zero() && self.record.snapshot.is_some()
    }

    /// Gives the state of a backup to the cluster that is founded with it. The same record names the cluster, its
    /// first snapshot, a log that begins after it, and a term that no entry exceeds.
    pub(super) fn found_restored(&mut self, founding: &FoundingRecord) -> Result<(), StoreError> {
        let Some(backup) = self.record.snapshot else { return Ok(()) };
        let found = recover::find_snapshot(&mut self.disk, &self.record);
        let Ok(Some(file)) = found else { return Err(StoreError::BackupDamaged) };
        let id = SnapshotId { index: backup.id.index.next(), ..backup.id };
        let head = SnapshotHead { cluster: founding.cluster, id, membership: founding.membership.clone() };
        let written = match snapshot::write_under_head(&mut self.disk, &file, &head) {
            Ok(meta) => Ok(meta),
            Err(SnapshotError::Full) => return Err(StoreError::Full),
            Err(SnapshotError::Failed(error)) => Err(error),
            Err(_) => return Err(StoreError::BackupDamaged),
        };
        let meta = self.guard(written)?;
        let dropped = self.begin_log_after(&meta)?;
        self.record.snapshot = Some(meta);
        self.record.hard_state = HardState { term: id.term, vote: None };
        self.record.cluster = founding.cluster;
        self.record.founding = Some(founding.clone());
        self.write_record()?;
        self.remove_segments(&dropped)?;
        let removed = snapshot::remove(&mut self.disk, &backup);
        self.guard(removed)
    }
}
