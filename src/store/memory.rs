//! A disk in memory that loses what was not synced and fails where told.
//!
//! Writes go to a cache; `sync` moves a file's written sectors to the medium. [`MemoryDisk::crash`] is a power
//! cut: of each unsynced write any subset of its 512-byte sectors may have reached the medium, and any of the
//! unsynced creations and removals may be undone. A killed process loses nothing: take the disk out of the store
//! and open it again. Every operation is numbered, so that a fault can be set on each in turn.

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::rng::Rng;
use crate::store::block::SECTOR_BYTES;
use crate::store::disk::{Disk, DiskError, DiskErrorKind, Operation};

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// It fails. A write leaves its first half, a failed sync forgets what it was to sync: a second one would
    /// succeed and prove nothing (as ext4, XFS and Btrfs do).
    Fail,
    /// It finds no room. A write leaves its first half.
    Full,
    /// The machine stops during it: a write is all in the cache, nothing else has any effect, and every later
    /// operation fails until [`MemoryDisk::crash`] or [`MemoryDisk::revive`].
    Stop,
}

/// A number for a file that outlives its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileNumber(u64);

#[derive(Clone, Debug, Default)]
struct MemoryFile {
    cache: Vec<u8>,
    medium: Vec<u8>,
    /// Sectors written since the last sync, as ranges in the order of writing; they may overlap.
    unsynced: Vec<Range<usize>>,
    /// A failed sync has forgotten what it was to sync: the cache holds what no sync brings to the medium.
    has_forgotten: bool,
}

/// A whole folder in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    /// Shared with copies of the disk until either writes.
    files: BTreeMap<FileNumber, Arc<MemoryFile>>,
    /// Names are shared between the two: each sync of the folder copies them all.
    names: BTreeMap<Arc<str>, FileNumber>,
    names_on_medium: BTreeMap<Arc<str>, FileNumber>,
    files_made: u64,
    operations: u64,
    faults: BTreeMap<u64, DiskFault>,
    is_stopped: bool,
    capacity_bytes: Option<u64>,
}

impl MemoryDisk {
    /// An empty folder without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many operations were asked for so far; the next one has this number.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Sets a fault on the operation of this number.
    pub fn set_fault(&mut self, operation: u64, fault: DiskFault) {
        self.faults.insert(operation, fault);
    }

    /// Takes back all faults that have not happened.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// Bounds the sum of all file lengths; a write that lengthens a file beyond it finds the disk full.
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity_bytes = bytes;
    }

    /// The power fails and comes back; what was unsynced is kept or lost piece by piece as `rng` draws.
    pub fn crash(&mut self, rng: &mut Rng) {
        // One draw decides how much tends to survive, so that all, nothing and little all happen often.
        let share = [0.0, 0.1, 0.5, 0.9, 1.0][rng.below(5) as usize];
        let mut other = rng.fork();
        self.crash_keeping(|_, _| rng.chance(share), |_| other.chance(share));
    }

    /// The power fails and comes back; `keep_sector` decides for each unsynced sector of a file, in order, and
    /// `keep_name` for each name whose creation or removal was not synced.
    pub fn crash_keeping(
        &mut self,
        mut keep_sector: impl FnMut(&str, u64) -> bool,
        mut keep_name: impl FnMut(&str) -> bool,
    ) {
        let all: BTreeSet<Arc<str>> = self.names.keys().chain(self.names_on_medium.keys()).cloned().collect();
        for name in &all {
            let (cached, on_medium) = (self.names.get(name), self.names_on_medium.get(name));
            if cached != on_medium && keep_name(name) {
                match cached.copied() {
                    Some(number) => self.names_on_medium.insert(name.clone(), number),
                    None => self.names_on_medium.remove(name),
                };
            }
        }
        self.names.clone_from(&self.names_on_medium);
        for (name, number) in &self.names {
            if let Some(file) = self.files.get_mut(number).filter(|file| !file.is_on_medium()) {
                Arc::make_mut(file).crash(|sector| keep_sector(name, sector));
            }
        }
        self.drop_nameless();
        self.revive();
    }

    /// The machine goes on after [`DiskFault::Stop`] as if only the process had been killed: the cache is kept.
    pub fn revive(&mut self) {
        self.is_stopped = false;
        self.faults.clear();
    }

    /// A file's content as a reader sees it.
    #[must_use]
    pub fn content(&self, file: &str) -> Option<&[u8]> {
        self.names.get(file).and_then(|number| self.files.get(number)).map(|file| file.cache.as_slice())
    }

    /// The names of all files, in order.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(AsRef::as_ref)
    }

    /// Changes a file's content on the medium and in the cache alike, as bit rot or a meddling hand would.
    /// A file that is not there is made.
    pub fn rot(&mut self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let number = self.names.get(file).copied().unwrap_or_else(|| self.add_file(file));
        self.names_on_medium.insert(file.into(), number);
        let file = Arc::make_mut(self.files.entry(number).or_default());
        change(&mut file.cache);
        file.sync();
    }

    /// Takes a file away, durably.
    pub fn lose(&mut self, file: &str) {
        self.names.remove(file);
        self.names_on_medium.remove(file);
        self.drop_nameless();
    }

    fn add_file(&mut self, name: &str) -> FileNumber {
        self.files_made += 1;
        let number = FileNumber(self.files_made);
        self.files.insert(number, Arc::default());
        self.names.insert(name.into(), number);
        number
    }

    fn drop_nameless(&mut self) {
        let named: BTreeSet<FileNumber> =
            self.names.values().chain(self.names_on_medium.values()).copied().collect();
        self.files.retain(|number, _| named.contains(number));
    }

    /// Counts the operation and says what befalls it.
    fn meet(&mut self, operation: Operation, file: &str) -> Result<Option<DiskFault>, DiskError> {
        if self.is_stopped {
            return Err(error(operation, file, DiskErrorKind::Failed));
        }
        let fault = self.faults.remove(&self.operations);
        self.operations += 1;
        self.is_stopped = fault == Some(DiskFault::Stop);
        Ok(fault)
    }

    /// For operations that a fault leaves without effect.
    fn meet_or_fail(&mut self, operation: Operation, file: &str) -> Result<(), DiskError> {
        match self.meet(operation, file)? {
            None => Ok(()),
            Some(fault) => Err(error(operation, file, kind_of(fault))),
        }
    }

    fn number(&self, operation: Operation, file: &str) -> Result<FileNumber, DiskError> {
        self.names.get(file).copied().ok_or_else(|| error(operation, file, DiskErrorKind::Missing))
    }

    fn file(&self, operation: Operation, name: &str) -> Result<&MemoryFile, DiskError> {
        let number = self.number(operation, name)?;
        let file = self.files.get(&number).map(Arc::as_ref);
        file.ok_or_else(|| error(operation, name, DiskErrorKind::Missing))
    }

    fn file_mut(&mut self, operation: Operation, name: &str) -> Result<&mut MemoryFile, DiskError> {
        let number = self.number(operation, name)?;
        let file = self.files.get_mut(&number).map(Arc::make_mut);
        file.ok_or_else(|| error(operation, name, DiskErrorKind::Missing))
    }

    /// The sum of all file lengths.
    pub(super) fn total_bytes(&self) -> u64 {
        let named = self.names.values().filter_map(|number| self.files.get(number));
        named.map(|file| file.cache.len() as u64).sum()
    }
}

impl MemoryFile {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        // A hole is written, too: what stood there before a cut must not come back.
        let (first, after) = (offset.min(self.cache.len()) / SECTOR_BYTES, end.div_ceil(SECTOR_BYTES));
        put(&mut self.cache, offset, bytes);
        match self.unsynced.last_mut() {
            Some(last) if (last.start..=last.end).contains(&first) => last.end = last.end.max(after),
            _ => self.unsynced.push(first..after),
        }
    }

    fn sync(&mut self) {
        self.medium.clone_from(&self.cache);
        self.unsynced.clear();
        self.has_forgotten = false;
    }

    /// Syncs only what was written, which is quicker for long files.
    fn sync_written(&mut self) {
        self.medium.truncate(self.cache.len());
        for sectors in self.unsynced.drain(..) {
            let end = (sectors.end * SECTOR_BYTES).min(self.cache.len());
            let start = (sectors.start * SECTOR_BYTES).min(end);
            put(&mut self.medium, start, &self.cache[start..end]);
        }
        self.medium.resize(self.cache.len(), 0);
    }

    /// True when a power cut changes nothing.
    fn is_on_medium(&self) -> bool {
        self.unsynced.is_empty() && self.cache.len() == self.medium.len() && !self.has_forgotten
    }

    fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.cache.len());
        if start < end {
            put(&mut self.medium, start, &self.cache[start..end]);
        }
    }

    fn crash(&mut self, mut keep_sector: impl FnMut(u64) -> bool) {
        let was_shortened = self.cache.len() < self.medium.len();
        let unsynced: BTreeSet<usize> = self.unsynced.drain(..).flatten().collect();
        for sector in unsynced {
            if keep_sector(sector as u64) {
                self.keep(sector);
            }
        }
        // A cut that was not synced may or may not have happened; its last sector speaks for it.
        if was_shortened && keep_sector((self.cache.len() / SECTOR_BYTES) as u64) {
            self.medium.truncate(self.cache.len());
        }
        self.cache.clone_from(&self.medium);
        self.has_forgotten = false;
    }
}

impl Disk for MemoryDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.meet_or_fail(Operation::Folder, "")?;
        Ok(self.names.keys().map(|name| name.as_ref().to_owned()).collect())
    }

    fn file_bytes(&mut self, file: &str) -> Result<u64, DiskError> {
        self.meet_or_fail(Operation::Read, file)?;
        Ok(self.file(Operation::Read, file)?.cache.len() as u64)
    }

    fn create(&mut self, file: &str) -> Result<(), DiskError> {
        self.meet_or_fail(Operation::Create, file)?;
        if self.names.contains_key(file) {
            return Err(error(Operation::Create, file, DiskErrorKind::Exists));
        }
        self.add_file(file);
        Ok(())
    }

    fn read_at(&mut self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.meet_or_fail(Operation::Read, file)?;
        let content = &self.file(Operation::Read, file)?.cache;
        let start = offset as usize;
        match content.get(start..start + out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Err(error(Operation::Read, file, DiskErrorKind::Failed)),
        }
        Ok(())
    }

    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let fault = self.meet(Operation::Write, file)?;
        let capacity = self.capacity_bytes.map(|capacity| (capacity, self.total_bytes()));
        let memory_file = self.file_mut(Operation::Write, file)?;
        let growth = (offset + bytes.len() as u64).saturating_sub(memory_file.cache.len() as u64);
        let is_full = growth > 0 && capacity.is_some_and(|(capacity, total)| total + growth > capacity);
        let fault = fault.or(is_full.then_some(DiskFault::Full));
        let done = match fault {
            None | Some(DiskFault::Stop) => bytes,
            Some(DiskFault::Full | DiskFault::Fail) => &bytes[..bytes.len() / 2],
        };
        // The half that a full disk took must have fitted.
        if fault != Some(DiskFault::Full) || growth <= bytes.len() as u64 / 2 {
            memory_file.write(offset as usize, done);
        }
        match fault {
            None => Ok(()),
            Some(fault) => Err(error(Operation::Write, file, kind_of(fault))),
        }
    }

    fn sync(&mut self, file: &str) -> Result<(), DiskError> {
        let fault = self.meet(Operation::Sync, file)?;
        let memory_file = self.file_mut(Operation::Sync, file)?;
        match fault {
            None => {
                memory_file.sync_written();
                Ok(())
            }
            Some(fault) => {
                if fault != DiskFault::Stop {
                    memory_file.unsynced.clear();
                    memory_file.has_forgotten = true;
                }
                Err(error(Operation::Sync, file, kind_of(fault)))
            }
        }
    }

    fn shorten(&mut self, file: &str, bytes: u64) -> Result<(), DiskError> {
        self.meet_or_fail(Operation::Shorten, file)?;
        let memory_file = self.file_mut(Operation::Shorten, file)?;
        assert!(bytes <= memory_file.cache.len() as u64, "{file} is lengthened to {bytes}");
        memory_file.cache.truncate(bytes as usize);
        Ok(())
    }

    fn remove(&mut self, file: &str) -> Result<(), DiskError> {
        self.meet_or_fail(Operation::Remove, file)?;
        self.number(Operation::Remove, file)?;
        self.names.remove(file);
        self.drop_nameless();
        Ok(())
    }

    /// The two names are synced by `sync_folder` and until then kept or lost one by one: a disk may forget the old
    /// name before it has the new one.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.meet_or_fail(Operation::Rename, from)?;
        let number = self.number(Operation::Rename, from)?;
        self.names.remove(from);
        self.names.insert(to.into(), number);
        self.drop_nameless();
        Ok(())
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        self.meet_or_fail(Operation::SyncFolder, "")?;
        self.names_on_medium.clone_from(&self.names);
        self.drop_nameless();
        Ok(())
    }
}

/// Writes over what is there and appends the rest; a hole before it is filled with zeros.
fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset {
        content.resize(offset, 0);
    }
    let (over, beyond) = bytes.split_at(bytes.len().min(content.len() - offset));
    content[offset..offset + over.len()].copy_from_slice(over);
    content.extend_from_slice(beyond);
}

fn kind_of(fault: DiskFault) -> DiskErrorKind {
    match fault {
        DiskFault::Full => DiskErrorKind::Full,
        DiskFault::Fail | DiskFault::Stop => DiskErrorKind::Failed,
    }
}

fn error(operation: Operation, file: &str, kind: DiskErrorKind) -> DiskError {
    DiskError { operation, file: file.to_owned(), kind, code: None }
}
