//! Snapshots as backups: a file that stands by itself, put into a folder, and given to a new cluster.

use super::layout::{Layout, SnapshotHead, TRAILER_BYTES, Trailer, read_trailer};
use super::read::{SnapshotFile, read_block};
use super::write::write_with;
use super::{SnapshotError, file_of};
use crate::snapshot::{BLOCK_BYTES, SnapshotId, SnapshotMeta};
use crate::store::disk::Disk;
use crate::store::error::{Damage, DamageKind};

/// Bytes copied between two looks at the disk.
const PIECE_BYTES: u64 = 1 << 20;

/// Opens a file that no record names, such as a backup: its trailer says which snapshot it is. Table, trailer and
/// head are checked, by their own word; [`verify_alone`] checks the rest.
pub fn open_alone<D: Disk>(disk: &mut D, file: &str) -> Result<SnapshotFile, SnapshotError> {
    let bytes = disk.file_bytes(file)?;
    let damaged = |offset, what| Damage { file: file.to_owned(), offset, what };
    // What is cut ends where another file's table might: only the end itself tells.
    let layout = Layout::of_file(bytes).ok_or_else(|| damaged(bytes, DamageKind::ShortFile { bytes }))?;
    let mut trailer = vec![0; TRAILER_BYTES as usize];
    disk.read_at(file, bytes - TRAILER_BYTES, &mut trailer)?;
    let digest = match read_trailer(&trailer) {
        Trailer::Known { content_bytes, digest } if content_bytes == layout.content_bytes => digest,
        Trailer::Newer { version } => return Err(SnapshotError::Newer { found: version }),
        _ => return Err(damaged(bytes - TRAILER_BYTES, DamageKind::Table).into()),
    };
    SnapshotFile::open_nameless(disk, file, SnapshotMeta { id: SnapshotId::default(), bytes, digest })
}

/// Checks every block of a file that was opened alone.
pub fn verify_alone<D: Disk>(disk: &mut D, name: &str, file: &SnapshotFile) -> Result<(), SnapshotError> {
    file.verify_as(disk, name)
}

/// Copies a file that was opened alone into a folder, under its final name, durable but for the name, and checks the
/// copy.
pub fn copy_in<S: Disk, D: Disk>(
    from: &mut S,
    name: &str,
    file: &SnapshotFile,
    to: &mut D,
) -> Result<(), SnapshotError> {
    let copy = file_of(file.meta.id.index);
    to.create(&copy)?;
    let mut piece = Vec::new();
    let mut offset = 0;
    while offset < file.meta.bytes {
        piece.resize(PIECE_BYTES.min(file.meta.bytes - offset) as usize, 0);
        from.read_at(name, offset, &mut piece)?;
        to.write_at(&copy, offset, &piece)?;
        offset += piece.len() as u64;
    }
    to.sync(&copy)?;
    SnapshotFile::open(to, file.meta)?.verify(to)
}

/// Writes the same state under another head: that of the cluster that begins with it, one entry further on, so that
/// the two files have two names. Durable, name and all.
pub(in crate::store) fn write_under_head<D: Disk>(
    disk: &mut D,
    file: &SnapshotFile,
    head: &SnapshotHead,
) -> Result<SnapshotMeta, SnapshotError> {
    let name = file_of(file.meta.id.index);
    assert_ne!(head.id.index, file.meta.id.index, "two snapshots of one name");
    write_with(disk, head, |blocks| {
        for number in 0..file.layout.blocks {
            let block = read_block(blocks.disk(), &name, &file.layout, &file.table, number)?;
            // The head may end in any block.
            let skipped = file.body.saturating_sub(number * BLOCK_BYTES as u64).min(block.len() as u64);
            blocks.put_bytes(&block[skipped as usize..])?;
        }
        Ok(())
    })
}
