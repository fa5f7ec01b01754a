//! Writing a snapshot taken here.

use super::layout::{SnapshotHead, encode_tail};
use super::{SnapshotError, file_of, writing_file};
use crate::machine::{Frozen, Sink, SinkClosed};
use crate::mutant::{self, Mutant};
use crate::snapshot::{BLOCK_BYTES, SnapshotMeta};
use crate::store::disk::{Disk, DiskError};

/// Writes head and body into a file of their own and makes it durable, name and all. No record names it yet.
///
/// Without room nothing is left behind. A file of the same snapshot that stands there already is replaced by its equal.
pub fn write<D: Disk>(
    disk: &mut D,
    head: &SnapshotHead,
    body: &dyn Frozen,
) -> Result<SnapshotMeta, SnapshotError> {
    write_with(disk, head, |blocks| body.write(blocks).map_err(|_| SnapshotError::Interrupted))
}

/// The same with a body from anywhere.
pub(super) fn write_with<D: Disk>(
    disk: &mut D,
    head: &SnapshotHead,
    fill: impl FnOnce(&mut Blocks<'_, D>) -> Result<(), SnapshotError>,
) -> Result<SnapshotMeta, SnapshotError> {
    let file = writing_file(head.id.index);
    // Left by an attempt that found no room and could not clean up either.
    if disk.list()?.contains(&file) {
        disk.remove(&file)?;
    }
    let written = write_file(disk, &file, head, fill);
    if matches!(written, Err(SnapshotError::Full | SnapshotError::Interrupted)) {
        disk.remove(&file)?;
    }
    let meta = written?;
    disk.rename(&file, &file_of(head.id.index))?;
    disk.sync_folder()?;
    Ok(meta)
}

fn write_file<D: Disk>(
    disk: &mut D,
    file: &str,
    head: &SnapshotHead,
    fill: impl FnOnce(&mut Blocks<'_, D>) -> Result<(), SnapshotError>,
) -> Result<SnapshotMeta, SnapshotError> {
    disk.create(file)?;
    let mut blocks = Blocks {
        disk,
        file,
        block: Vec::with_capacity(BLOCK_BYTES),
        written: 0,
        table: Vec::new(),
        failed: None,
    };
    let streamed = blocks.put_bytes(&head.encode()).and_then(|()| fill(&mut blocks));
    let Blocks { block, written, mut table, failed, .. } = blocks;
    if let Some(error) = failed {
        return Err(error.into());
    }
    streamed?;
    if !block.is_empty() {
        table.push(crc32fast::hash(&block));
        disk.write_at(file, written, &block)?;
    }
    let content_bytes = written + block.len() as u64;
    let (tail, digest) = encode_tail(content_bytes, &table);
    disk.write_at(file, content_bytes, &tail)?;
    if !mutant::is(Mutant::S3) {
        disk.sync(file)?;
    }
    Ok(SnapshotMeta { id: head.id, bytes: content_bytes + tail.len() as u64, digest })
}

/// Content on its way into blocks.
pub(super) struct Blocks<'a, D> {
    disk: &'a mut D,
    file: &'a str,
    /// The block being filled.
    block: Vec<u8>,
    /// Bytes of the blocks before it.
    written: u64,
    table: Vec<u32>,
    failed: Option<DiskError>,
}

impl<D: Disk> Blocks<'_, D> {
    /// The disk that is written to, for reading.
    pub(super) fn disk(&mut self) -> &mut D {
        self.disk
    }

    pub(super) fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.put(bytes).map_err(|_| SnapshotError::Interrupted)
    }
}

impl<D: Disk> Sink for Blocks<'_, D> {
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), SinkClosed> {
        while !bytes.is_empty() {
            if self.failed.is_some() {
                return Err(SinkClosed);
            }
            let (piece, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(piece);
            bytes = rest;
            if self.block.len() == BLOCK_BYTES {
                self.table.push(crc32fast::hash(&self.block));
                self.failed = self.disk.write_at(self.file, self.written, &self.block).err();
                self.written += BLOCK_BYTES as u64;
                self.block.clear();
            }
        }
        Ok(())
    }
}
