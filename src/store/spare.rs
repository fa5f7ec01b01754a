//! The next segment, zero-filled ahead of its use.
//!
//! Zero-filling beforehand halves the cost of a durable write, since no metadata changes when it happens. Having
//! no room for it is no failed write: the log goes on in the segment it has, and says that it is full.

use crate::store::disk::{Disk, DiskError, DiskErrorKind};
use crate::store::record::Syncing;
use crate::store::segment::Generation;

/// How much one step of [`Spare::fill`] writes.
const STEP_BYTES: u64 = 1024 * 1024;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A segment's file that no record names yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) generation: Generation,
    /// Zeros that stand in it.
    filled: u64,
    /// Content, length and name are durable, or need not be.
    is_durable: bool,
    /// The file was made.
    exists: bool,
}

/// What came of trying to make room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FillError {
    /// There is none; the spare can be filled further when there is.
    Full,
    /// The disk does not work.
    Failed(DiskError),
}

impl Spare {
    /// A spare that has to be made.
    pub(super) fn planned(generation: Generation) -> Self {
        Self { generation, filled: 0, is_durable: false, exists: false }
    }

    /// A file of zeros that was found at boot.
    pub(super) fn found(generation: Generation, bytes: u64) -> Self {
        Self { generation, filled: bytes, is_durable: false, exists: true }
    }

    /// True when it can take a log of this many bytes at once.
    pub(super) fn is_ready(&self, bytes: u64) -> bool {
        self.is_durable && self.filled >= bytes
    }

    /// Its length.
    pub(super) fn filled(&self) -> u64 {
        self.filled
    }

    /// Does one bounded step towards `bytes` zeros, the last of which makes file and name durable in a run that syncs.
    pub(super) fn fill<D: Disk>(
        &mut self,
        disk: &mut D,
        bytes: u64,
        syncing: Syncing,
    ) -> Result<(), FillError> {
        let file = self.generation.file();
        if !self.exists {
            room(disk.create(&file))?;
            self.exists = true;
        }
        let step_end = bytes.min(self.filled + STEP_BYTES);
        while self.filled < step_end {
            self.is_durable = false;
            let piece = (step_end - self.filled).min(ZEROS.len() as u64);
            room(disk.write_at(&file, self.filled, &ZEROS[..piece as usize]))?;
            self.filled += piece;
        }
        if self.filled >= bytes && !self.is_durable {
            match syncing {
                Syncing::Always => self.sync(disk, &file)?,
                Syncing::Never(_) => self.is_durable = true,
            }
        }
        Ok(())
    }

    /// Does all steps.
    pub(super) fn fill_all<D: Disk>(
        &mut self,
        disk: &mut D,
        bytes: u64,
        syncing: Syncing,
    ) -> Result<(), FillError> {
        while !self.is_ready(bytes) {
            self.fill(disk, bytes, syncing)?;
        }
        Ok(())
    }

    /// A sync that finds no room leaves a file of which nothing is known: it is given up, and the next attempt
    /// takes another name.
    fn sync<D: Disk>(&mut self, disk: &mut D, file: &str) -> Result<(), FillError> {
        let synced = room(disk.sync(file).and_then(|()| disk.sync_folder()));
        if synced == Err(FillError::Full) {
            room(disk.remove(file))?;
            *self = Self::planned(self.generation.next());
        }
        synced?;
        self.is_durable = true;
        Ok(())
    }
}

fn room(result: Result<(), DiskError>) -> Result<(), FillError> {
    result.map_err(|error| match error.kind {
        DiskErrorKind::Full => FillError::Full,
        _ => FillError::Failed(error),
    })
}
