//! A snapshot on its way here, written as its bytes come.

use core::ops::Range;

use super::layout::{Layout, decode_tail};
use super::read::SnapshotFile;
use super::{SnapshotError, file_of, incoming_file};
use crate::mutant::{self, Mutant};
use crate::snapshot::SnapshotMeta;
use crate::store::disk::Disk;
use crate::types::ClusterId;

/// Bytes that are copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// Bytes written between two syncs, which is what a power cut can cost.
const SYNC_BYTES: u64 = 16 << 20;

/// A file that is being filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    meta: SnapshotMeta,
    layout: Layout,
    file: String,
    unsynced: u64,
}

impl Incoming {
    /// Goes on with what is here of this file, or begins it.
    pub fn open<D: Disk>(disk: &mut D, meta: SnapshotMeta) -> Result<Self, SnapshotError> {
        let layout = Layout::of_file(meta.bytes).ok_or(SnapshotError::Foreign)?;
        let file = incoming_file(&meta);
        if disk.list()?.contains(&file) {
            renew(disk, &file)?;
        } else {
            disk.create(&file)?;
            disk.sync_folder()?;
        }
        Ok(Self { meta, layout, file, unsynced: 0 })
    }

    /// Which file.
    #[must_use]
    pub fn meta(&self) -> SnapshotMeta {
        self.meta
    }

    /// The ranges of bytes that are not here or not right, lowest first. While the tail is not, nothing can be told
    /// about the blocks: then it is the only one. Reads all that is here.
    pub fn missing<D: Disk>(&self, disk: &mut D) -> Result<Vec<Range<u64>>, SnapshotError> {
        let here = disk.file_bytes(&self.file)?;
        let tail_place = self.layout.tail();
        // Nothing is taken for a length that somebody offered and nobody has sent.
        if here != self.meta.bytes {
            return Ok(vec![tail_place]);
        }
        let mut tail = vec![0; (tail_place.end - tail_place.start) as usize];
        disk.read_at(&self.file, tail_place.start, &mut tail)?;
        let Ok(table) = decode_tail(&self.layout, self.meta.digest, &tail) else {
            return Ok(vec![tail_place]);
        };
        let mut missing: Vec<Range<u64>> = Vec::new();
        let mut block = Vec::new();
        for (number, crc) in (0..self.layout.blocks).zip(&table) {
            let place = self.layout.block(number);
            block.resize((place.end - place.start) as usize, 0);
            disk.read_at(&self.file, place.start, &mut block)?;
            if crc32fast::hash(&block) == *crc || mutant::is(Mutant::S6) {
                continue;
            }
            match missing.last_mut() {
                Some(last) if last.end == place.start => last.end = place.end,
                _ => missing.push(place),
            }
        }
        Ok(missing)
    }

    /// Writes bytes at their place in the file; writing them twice does no harm.
    ///
    /// # Panics
    /// Beyond the file's end: the caller bounds what it asks for.
    pub fn write<D: Disk>(&mut self, disk: &mut D, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        let end = offset + bytes.len() as u64;
        assert!(end <= self.meta.bytes, "bytes {offset} to {end} of {}", self.meta.bytes);
        disk.write_at(&self.file, offset, bytes)?;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            disk.sync(&self.file)?;
        }
        Ok(())
    }

    /// Makes the file durable, checks all of it and gives it its final name; no record names it yet. After
    /// [`SnapshotError::Damaged`], [`Self::missing`] tells what to pull again.
    pub fn finish<D: Disk>(&self, disk: &mut D, cluster: ClusterId) -> Result<SnapshotFile, SnapshotError> {
        disk.sync(&self.file)?;
        let opened = SnapshotFile::open_as(disk, &self.file, self.meta)?;
        opened.verify_as(disk, &self.file)?;
        if opened.head.cluster != cluster {
            return Err(SnapshotError::Foreign);
        }
        disk.rename(&self.file, &file_of(self.meta.id.index))?;
        disk.sync_folder()?;
        Ok(opened)
    }

    /// Removes what is here.
    pub fn discard<D: Disk>(self, disk: &mut D) -> Result<(), SnapshotError> {
        disk.remove(&self.file)?;
        Ok(())
    }
}

/// Writes what a file holds over itself. Of an earlier boot's writes the last sync may have failed: then they are in
/// the page cache only, pass for written, and no later sync would write them.
fn renew<D: Disk>(disk: &mut D, file: &str) -> Result<(), SnapshotError> {
    let bytes = disk.file_bytes(file)?;
    let mut piece = Vec::new();
    for offset in (0..bytes).step_by(COPY_BYTES as usize) {
        piece.resize(COPY_BYTES.min(bytes - offset) as usize, 0);
        disk.read_at(file, offset, &mut piece)?;
        disk.write_at(file, offset, &piece)?;
    }
    Ok(())
}
