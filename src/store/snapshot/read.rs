//! Reading a snapshot file: as a state, as ranges of bytes, or to check it.

use core::ops::Range;
use std::sync::Arc;

use super::layout::{Layout, SnapshotHead, TRAILER_BYTES, Trailer, decode_tail, read_trailer};
use super::{SnapshotError, file_of};
use crate::machine::{RestoreError, Source};
use crate::mutant::{self, Mutant};
use crate::snapshot::SnapshotMeta;
use crate::store::disk::{Disk, DiskErrorKind};
use crate::store::error::{Damage, DamageKind};

/// A file whose length, table, trailer and head are right; its body is checked block by block when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Which file.
    pub meta: SnapshotMeta,
    /// What it says of itself.
    pub head: SnapshotHead,
    pub(super) layout: Layout,
    pub(super) table: Vec<u32>,
    /// Where the body begins.
    pub(super) body: u64,
}

impl SnapshotFile {
    /// Opens the finished snapshot of this name.
    pub fn open<D: Disk>(disk: &mut D, meta: SnapshotMeta) -> Result<Self, SnapshotError> {
        Self::open_as(disk, &file_of(meta.id.index), meta)
    }

    pub(super) fn open_as<D: Disk>(
        disk: &mut D,
        file: &str,
        meta: SnapshotMeta,
    ) -> Result<Self, SnapshotError> {
        let opened = Self::open_nameless(disk, file, meta)?;
        if opened.head.id == meta.id { Ok(opened) } else { Err(SnapshotError::Foreign) }
    }

    /// Opens a file of this length and digest, whatever it covers.
    pub(super) fn open_nameless<D: Disk>(
        disk: &mut D,
        file: &str,
        meta: SnapshotMeta,
    ) -> Result<Self, SnapshotError> {
        let layout = Layout::of_file(meta.bytes).ok_or(SnapshotError::Foreign)?;
        let table = read_table(disk, file, &meta, &layout)?;
        let head = {
            let mut source = ContentSource::new(disk, file, &layout, &table);
            let decoded = SnapshotHead::decode(&mut source);
            match (source.failed, decoded) {
                (Some(error), _) => return Err(error),
                (None, Err(_)) => return Err(SnapshotError::Foreign),
                (None, Ok(decoded)) => decoded,
            }
        };
        let (head, body) = head;
        let meta = SnapshotMeta { id: head.id, ..meta };
        Ok(Self { meta, head, layout, table, body })
    }

    /// The body, from its first byte.
    pub fn body<'a, D: Disk>(&'a self, disk: &'a mut D) -> BodySource<'a, D> {
        self.body_of(disk, &file_of(self.meta.id.index))
    }

    /// The body of a file that was opened alone.
    pub fn body_of<'a, D: Disk>(&'a self, disk: &'a mut D, file: &str) -> BodySource<'a, D> {
        let mut content = ContentSource::new(disk, file, &self.layout, &self.table);
        content.at = self.body;
        BodySource { content }
    }

    /// Checks every block.
    pub fn verify<D: Disk>(&self, disk: &mut D) -> Result<(), SnapshotError> {
        self.verify_as(disk, &file_of(self.meta.id.index))
    }

    pub(super) fn verify_as<D: Disk>(&self, disk: &mut D, file: &str) -> Result<(), SnapshotError> {
        (0..self.layout.blocks)
            .try_for_each(|number| read_block(disk, file, &self.layout, &self.table, number).map(drop))
    }
}

/// The body of a snapshot as a source of a state.
pub struct BodySource<'a, D> {
    content: ContentSource<'a, D>,
}

impl<D> BodySource<'_, D> {
    /// Why a read failed, when one did.
    #[must_use]
    pub fn failure(self) -> Option<SnapshotError> {
        self.content.failed
    }
}

impl<D: Disk> Source for BodySource<'_, D> {
    fn take(&mut self, out: &mut [u8]) -> Result<usize, RestoreError> {
        self.content.take(out)
    }
}

/// Head and body, each block checked before any of its bytes is given out.
struct ContentSource<'a, D> {
    disk: &'a mut D,
    file: String,
    layout: &'a Layout,
    table: &'a [u32],
    /// The next byte to give out.
    at: u64,
    /// The block read last, and where it stands.
    block: Vec<u8>,
    place: Range<u64>,
    failed: Option<SnapshotError>,
}

impl<'a, D: Disk> ContentSource<'a, D> {
    fn new(disk: &'a mut D, file: impl Into<String>, layout: &'a Layout, table: &'a [u32]) -> Self {
        let file = file.into();
        Self { disk, file, layout, table, at: 0, block: Vec::new(), place: 0..0, failed: None }
    }

    /// Has the block in which the next byte stands.
    fn load(&mut self) -> Result<(), RestoreError> {
        if self.place.contains(&self.at) {
            return Ok(());
        }
        let number = self.at / crate::snapshot::BLOCK_BYTES as u64;
        match read_block(self.disk, &self.file, self.layout, self.table, number) {
            Ok(block) => {
                (self.block, self.place) = (block, self.layout.block(number));
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error);
                Err(RestoreError::Unreadable)
            }
        }
    }
}

impl<D: Disk> Source for ContentSource<'_, D> {
    fn take(&mut self, out: &mut [u8]) -> Result<usize, RestoreError> {
        let mut taken = 0;
        while taken < out.len() && self.at < self.layout.content_bytes {
            self.load()?;
            let from = (self.at - self.place.start) as usize;
            let count = (out.len() - taken).min(self.block.len() - from);
            out[taken..taken + count].copy_from_slice(&self.block[from..from + count]);
            taken += count;
            self.at += count as u64;
        }
        Ok(taken)
    }
}

fn damaged(file: &str, offset: u64, what: DamageKind) -> SnapshotError {
    Damage { file: file.to_owned(), offset, what }.into()
}

fn read_table<D: Disk>(
    disk: &mut D,
    file: &str,
    meta: &SnapshotMeta,
    layout: &Layout,
) -> Result<Vec<u32>, SnapshotError> {
    let bytes = match disk.file_bytes(file) {
        Err(error) if error.kind == DiskErrorKind::Missing => {
            return Err(damaged(file, 0, DamageKind::MissingFile));
        }
        bytes => bytes?,
    };
    if bytes < meta.bytes {
        return Err(damaged(file, bytes, DamageKind::ShortFile { bytes }));
    }
    if bytes > meta.bytes {
        return Err(damaged(file, meta.bytes, DamageKind::LongFile { bytes }));
    }
    let place = layout.tail();
    let mut tail = vec![0; (place.end - place.start) as usize];
    disk.read_at(file, place.start, &mut tail)?;
    decode_tail(layout, meta.digest, &tail).map_err(|offset| {
        match read_trailer(&tail[tail.len() - TRAILER_BYTES as usize..]) {
            Trailer::Newer { version } => SnapshotError::Newer { found: version },
            _ => damaged(file, place.start + offset, DamageKind::Table),
        }
    })
}

pub(super) fn read_block<D: Disk>(
    disk: &mut D,
    file: &str,
    layout: &Layout,
    table: &[u32],
    number: u64,
) -> Result<Vec<u8>, SnapshotError> {
    let place = layout.block(number);
    let mut block = vec![0; (place.end - place.start) as usize];
    disk.read_at(file, place.start, &mut block)?;
    if crc32fast::hash(&block) != table[number as usize] && !mutant::is(Mutant::S6) {
        return Err(damaged(file, place.start, DamageKind::Block));
    }
    Ok(block)
}

/// The checksums of a finished snapshot, which were found to be right: kept from one range to the next, since reading
/// and checking them takes longer than a range does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    meta: SnapshotMeta,
    table: Arc<[u32]>,
}

/// Bytes of a finished snapshot, for a node that pulls it; the blocks they lie in are checked, so that damage is found
/// where it is. `None` when this very file is not here (any more). `checked` spares reading the table, unless it is
/// the table that is asked for or of another file.
pub fn read_range<D: Disk>(
    disk: &mut D,
    meta: &SnapshotMeta,
    range: Range<u64>,
    checked: &mut Option<Checked>,
) -> Result<Option<Vec<u8>>, SnapshotError> {
    let file = file_of(meta.id.index);
    match disk.file_bytes(&file) {
        Err(error) if error.kind == DiskErrorKind::Missing => return Ok(None),
        Ok(bytes) if bytes != meta.bytes || range.end > bytes || range.start > range.end => return Ok(None),
        bytes => bytes?,
    };
    let layout = Layout::of_file(meta.bytes).ok_or(SnapshotError::Foreign)?;
    let table = match checked.take() {
        Some(known) if known.meta == *meta && range.end <= layout.content_bytes => known.table,
        _ => read_table(disk, &file, meta, &layout)?.into(),
    };
    *checked = Some(Checked { meta: *meta, table: Arc::clone(&table) });
    let mut out = vec![0; (range.end - range.start) as usize];
    disk.read_at(&file, range.start, &mut out)?;
    let block_bytes = crate::snapshot::BLOCK_BYTES as u64;
    let last = range.end.min(layout.content_bytes);
    for number in range.start / block_bytes..last.div_ceil(block_bytes) {
        let place = layout.block(number);
        let is_here = place.start >= range.start && place.end <= range.end;
        if !is_here {
            read_block(disk, &file, &layout, &table, number)?;
            continue;
        }
        let bytes = &out[(place.start - range.start) as usize..(place.end - range.start) as usize];
        if crc32fast::hash(bytes) != table[number as usize] {
            return Err(damaged(&file, place.start, DamageKind::Block));
        }
    }
    Ok(Some(out))
}
