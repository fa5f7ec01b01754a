//! What the store asks of a disk: named files in one folder, positional reads and writes, and two kinds of sync.
//!
//! Three things hold for every disk, and `conformance` checks them: what was synced is there after a crash, if
//! the folder was synced after the file was made; what was not synced may be there whole, in part (any subset of
//! its 512-byte sectors) or not at all; bytes never written read as zero.

use core::fmt;

/// One data folder.
pub trait Disk {
    /// The names of all files, in any order.
    fn list(&mut self) -> Result<Vec<String>, DiskError>;

    /// How long a file is.
    fn file_bytes(&mut self, file: &str) -> Result<u64, DiskError>;

    /// Makes a new, empty file; refuses a name that is taken.
    fn create(&mut self, file: &str) -> Result<(), DiskError>;

    /// Fills `out` from this offset; a file that ends before is an error.
    fn read_at(&mut self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), DiskError>;

    /// Writes all of `bytes` at this offset, lengthening the file where needed.
    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes the file's content and length durable (fdatasync). After a failure nothing may be concluded about
    /// what is on the disk, and asking again proves nothing.
    fn sync(&mut self, file: &str) -> Result<(), DiskError>;

    /// Cuts a file to this length, which it must have reached before.
    fn shorten(&mut self, file: &str, bytes: u64) -> Result<(), DiskError>;

    /// Removes a file.
    fn remove(&mut self, file: &str) -> Result<(), DiskError>;

    /// Gives a file another name, in place of a file that may have it.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Makes all creations, removals and new names so far durable.
    fn sync_folder(&mut self) -> Result<(), DiskError>;
}

/// A disk that a node can run on: its two threads use it at the same time, each by a way of its own.
pub trait SharedDisk: Disk + Send + Sized + 'static {
    /// A second way to the same files, for another thread of this process. Neither uses a file that the other removes
    /// or renames.
    fn share(&self) -> Result<Self, DiskError>;

    /// Lets go of what is held open, where anything is; each file is opened again when it is next used.
    fn close_files(&mut self) {}
}

/// A disk that its owner only lends out: to a store, and takes back whatever comes of it.
impl<D: Disk + ?Sized> Disk for &mut D {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        (**self).list()
    }

    fn file_bytes(&mut self, file: &str) -> Result<u64, DiskError> {
        (**self).file_bytes(file)
    }

    fn create(&mut self, file: &str) -> Result<(), DiskError> {
        (**self).create(file)
    }

    fn read_at(&mut self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        (**self).read_at(file, offset, out)
    }

    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        (**self).write_at(file, offset, bytes)
    }

    fn sync(&mut self, file: &str) -> Result<(), DiskError> {
        (**self).sync(file)
    }

    fn shorten(&mut self, file: &str, bytes: u64) -> Result<(), DiskError> {
        (**self).shorten(file, bytes)
    }

    fn remove(&mut self, file: &str) -> Result<(), DiskError> {
        (**self).remove(file)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        (**self).rename(from, to)
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        (**self).sync_folder()
    }
}

/// A disk whose writes are left to the kernel, for a run that syncs nothing: a sync of a little has to wait for all
/// that others wrote without one.
#[derive(Debug)]
pub struct Unsynced<D>(pub D);

impl<D: Disk> Disk for Unsynced<D> {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.0.list()
    }

    fn file_bytes(&mut self, file: &str) -> Result<u64, DiskError> {
        self.0.file_bytes(file)
    }

    fn create(&mut self, file: &str) -> Result<(), DiskError> {
        self.0.create(file)
    }

    fn read_at(&mut self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.0.read_at(file, offset, out)
    }

    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.write_at(file, offset, bytes)
    }

    fn sync(&mut self, _file: &str) -> Result<(), DiskError> {
        Ok(())
    }

    fn shorten(&mut self, file: &str, bytes: u64) -> Result<(), DiskError> {
        self.0.shorten(file, bytes)
    }

    fn remove(&mut self, file: &str) -> Result<(), DiskError> {
        self.0.remove(file)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.0.rename(from, to)
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

/// What was asked of the disk when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening, locking or listing the folder.
    Folder,
    /// Making a file.
    Create,
    /// Reading, or asking for a length.
    Read,
    /// Writing.
    Write,
    /// Making content durable.
    Sync,
    /// Cutting a file short.
    Shorten,
    /// Removing a file.
    Remove,
    /// Giving a file another name.
    Rename,
    /// Making names durable.
    SyncFolder,
}

/// How it failed, as far as anyone acts differently on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskErrorKind {
    /// No space, no inode or no quota left.
    Full,
    /// No such file.
    Missing,
    /// The name is taken.
    Exists,
    /// Another process holds the folder.
    Locked,
    /// No permission, or the file system is read-only.
    Denied,
    /// Anything else: an I/O error.
    Failed,
}

/// A disk operation that failed. It can be cloned, because a store that met one repeats it for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// What was asked.
    pub operation: Operation,
    /// Of which file; for the folder its path or nothing.
    pub file: String,
    /// How it failed.
    pub kind: DiskErrorKind,
    /// The operating system's number for it, where there is one.
    pub code: Option<i32>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "open the data folder",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Shorten => "shorten",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::SyncFolder => "sync the data folder",
        })
    }
}

impl fmt::Display for DiskErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full",
            Self::Missing => "no such file",
            Self::Exists => "the name is taken",
            Self::Locked => "another process holds the folder",
            Self::Denied => "permission denied or read-only",
            Self::Failed => "i/o error",
        })
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.operation)?;
        if !self.file.is_empty() {
            write!(f, " {}", self.file)?;
        }
        write!(f, ": {}", self.kind)?;
        match self.code {
            Some(code) => write!(f, " (os error {code})"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for DiskError {}
