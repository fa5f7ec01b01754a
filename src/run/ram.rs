//! A data folder in memory, for nodes that are gone when their process is: tests and demonstrations.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::{Disk, DiskError, MemoryDisk, SharedDisk};

/// Files in memory. Clones are the same files, so that a node can be started again on what another has left.
#[derive(Clone, Debug, Default)]
pub struct RamDisk(Arc<Mutex<MemoryDisk>>);

impl RamDisk {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Each operation is whole by itself, so that a panic in another leaves nothing half-done.
    fn lock(&self) -> MutexGuard<'_, MemoryDisk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedDisk for RamDisk {
    fn share(&self) -> Result<Self, DiskError> {
        Ok(self.clone())
    }
}

impl Disk for RamDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.lock().list()
    }

    fn file_bytes(&mut self, file: &str) -> Result<u64, DiskError> {
        self.lock().file_bytes(file)
    }

    fn create(&mut self, file: &str) -> Result<(), DiskError> {
        self.lock().create(file)
    }

    fn read_at(&mut self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.lock().read_at(file, offset, out)
    }

    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.lock().write_at(file, offset, bytes)
    }

    fn sync(&mut self, file: &str) -> Result<(), DiskError> {
        self.lock().sync(file)
    }

    fn shorten(&mut self, file: &str, bytes: u64) -> Result<(), DiskError> {
        self.lock().shorten(file, bytes)
    }

    fn remove(&mut self, file: &str) -> Result<(), DiskError> {
        self.lock().remove(file)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.lock().rename(from, to)
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        self.lock().sync_folder()
    }
}
