//! A data folder on a real file system.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::{Disk, DiskError, DiskErrorKind, KernelBoot, Operation, SharedDisk};

/// The file whose lock says that a process uses the folder. It stays when the process ends; the lock does not.
const LOCK: &str = "lock";

/// One folder of the file system, with its files open from their first use on.
#[derive(Debug)]
pub struct FolderDisk {
    path: PathBuf,
    /// Held open to sync the names in it.
    folder: File,
    /// Held for as long as the folder may be written.
    lock: Option<Arc<Lock>>,
    files: BTreeMap<String, File>,
}

/// The locked file. To close it would not do: a process that is started at that moment inherits it, lock and all,
/// and keeps it until it has become its program.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A lock that cannot be let go ends with the last process that has the file open.
        let _ = self.0.unlock();
    }
}

impl FolderDisk {
    /// Takes the folder for this process alone, and makes it where it is missing.
    ///
    /// [`DiskErrorKind::Locked`] when another process holds it.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let named = |error: Error| disk_error(Operation::Folder, &path.display().to_string(), &error);
        create_folder(path).map_err(named)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(named)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(named(error)),
            Err(TryLockError::WouldBlock) => {
                let (operation, file) = (Operation::Folder, path.display().to_string());
                return Err(DiskError { operation, file, kind: DiskErrorKind::Locked, code: None });
            }
        }
        let folder = File::open(path).map_err(named)?;
        Ok(Self { path: path.to_owned(), folder, lock: Some(Arc::new(Lock(lock))), files: BTreeMap::new() })
    }

    /// A second way into the folder, for another thread of this process; it shares the lock. Neither may use a file
    /// that the other removes or renames.
    pub fn share(&self) -> Result<Self, DiskError> {
        let named = |error: Error| disk_error(Operation::Folder, &self.path.display().to_string(), &error);
        let folder = self.folder.try_clone().map_err(named)?;
        Ok(Self { path: self.path.clone(), folder, lock: self.lock.clone(), files: BTreeMap::new() })
    }

    /// Closes all files; each is opened again when it is next used. One that another way into the folder removes
    /// keeps its room on the disk for as long as it is open here.
    pub fn close_files(&mut self) {
        self.files.clear();
    }

    /// Looks at a folder without taking it; every change is refused. A process that uses the folder meanwhile may
    /// be caught in the middle of a write.
    pub fn open_read_only(path: &Path) -> Result<Self, DiskError> {
        let named = |error: Error| disk_error(Operation::Folder, &path.display().to_string(), &error);
        let folder = File::open(path).map_err(named)?;
        fs::read_dir(path).map_err(named)?;
        Ok(Self { path: path.to_owned(), folder, lock: None, files: BTreeMap::new() })
    }

    /// The open file of this name.
    fn file(&mut self, operation: Operation, name: &str) -> Result<&File, DiskError> {
        if !self.files.contains_key(name) {
            let opened = OpenOptions::new().read(true).write(self.lock.is_some()).open(self.path.join(name));
            let file = opened.map_err(|error| disk_error(operation, name, &error))?;
            self.files.insert(name.to_owned(), file);
        }
        Ok(&self.files[name])
    }

    fn with<T>(
        &mut self,
        operation: Operation,
        name: &str,
        work: impl FnOnce(&File) -> Result<T, Error>,
    ) -> Result<T, DiskError> {
        let file = self.file(operation, name)?;
        work(file).map_err(|error| disk_error(operation, name, &error))
    }

    fn check_writable(&self, operation: Operation, name: &str) -> Result<(), DiskError> {
        match self.lock {
            Some(_) => Ok(()),
            None => {
                let file = name.to_owned();
                Err(DiskError { operation, file, kind: DiskErrorKind::Denied, code: None })
            }
        }
    }
}

impl SharedDisk for FolderDisk {
    fn share(&self) -> Result<Self, DiskError> {
        Self::share(self)
    }

    fn close_files(&mut self) {
        Self::close_files(self);
    }
}

impl Disk for FolderDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        let read = || -> Result<Vec<String>, Error> {
            let names = fs::read_dir(&self.path)?.map(|item| item.map(|item| item.file_name().into_string()));
            // A name that is not UTF-8 is none of ours.
            Ok(names.collect::<Result<Vec<_>, Error>>()?.into_iter().flatten().collect())
        };
        read().map_err(|error| disk_error(Operation::Folder, &self.path.display().to_string(), &error))
    }

    fn file_bytes(&mut self, file: &str) -> Result<u64, DiskError> {
        self.with(Operation::Read, file, |file| file.metadata().map(|metadata| metadata.len()))
    }

    fn create(&mut self, file: &str) -> Result<(), DiskError> {
        self.check_writable(Operation::Create, file)?;
        let made = OpenOptions::new().read(true).write(true).create_new(true).open(self.path.join(file));
        let made = made.map_err(|error| disk_error(Operation::Create, file, &error))?;
        self.files.insert(file.to_owned(), made);
        Ok(())
    }

    fn read_at(&mut self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.with(Operation::Read, file, |file| file.read_exact_at(out, offset))
    }

    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.check_writable(Operation::Write, file)?;
        self.with(Operation::Write, file, |file| file.write_all_at(bytes, offset))
    }

    fn sync(&mut self, file: &str) -> Result<(), DiskError> {
        self.with(Operation::Sync, file, File::sync_data)
    }

    fn shorten(&mut self, file: &str, bytes: u64) -> Result<(), DiskError> {
        self.check_writable(Operation::Shorten, file)?;
        self.with(Operation::Shorten, file, |file| file.set_len(bytes))
    }

    fn remove(&mut self, file: &str) -> Result<(), DiskError> {
        self.check_writable(Operation::Remove, file)?;
        self.files.remove(file);
        fs::remove_file(self.path.join(file)).map_err(|error| disk_error(Operation::Remove, file, &error))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.check_writable(Operation::Rename, from)?;
        fs::rename(self.path.join(from), self.path.join(to))
            .map_err(|error| disk_error(Operation::Rename, from, &error))?;
        self.files.remove(to);
        if let Some(file) = self.files.remove(from) {
            self.files.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn sync_folder(&mut self) -> Result<(), DiskError> {
        self.folder.sync_all().map_err(|error| disk_error(Operation::SyncFolder, "", &error))
    }
}

/// The kernel's boot id; `None` where the system has none to tell.
#[must_use]
pub fn kernel_boot() -> Option<KernelBoot> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(KernelBoot(number.to_be_bytes()))
}

/// Makes the folder and each missing one above it, all with durable names.
fn create_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folder(parent)?;
    }
    match fs::create_dir(path) {
        // Another process may have been quicker; the lock decides between the two.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn disk_error(operation: Operation, file: &str, error: &Error) -> DiskError {
    let kind = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskErrorKind::Full,
        ErrorKind::NotFound => DiskErrorKind::Missing,
        ErrorKind::AlreadyExists => DiskErrorKind::Exists,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => DiskErrorKind::Denied,
        _ => DiskErrorKind::Failed,
    };
    DiskError { operation, file: file.to_owned(), kind, code: error.raw_os_error() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{self, Subject};

    /// Folders of their own under the system's temporary one, removed at the end.
    struct TemporaryFolders {
        root: PathBuf,
        count: u32,
    }

    impl TemporaryFolders {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("raftgram-{name}-{}", std::process::id()));
            // Left by a process of this number that was killed.
            if root.exists() {
                fs::remove_dir_all(&root).unwrap();
            }
            Self { root, count: 0 }
        }

        fn next_path(&mut self) -> PathBuf {
            self.count += 1;
            self.root.join(format!("{}", self.count)).join("data")
        }
    }

    impl Drop for TemporaryFolders {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.root).unwrap();
        }
    }

    impl Subject for TemporaryFolders {
        type Disk = FolderDisk;

        fn empty(&mut self) -> FolderDisk {
            FolderDisk::open(&self.next_path()).unwrap()
        }

        fn restarted(&mut self, disk: FolderDisk) -> FolderDisk {
            let path = disk.path.clone();
            drop(disk);
            FolderDisk::open(&path).unwrap()
        }
    }

    #[test]
    fn a_real_folder_conforms() {
        conformance::check(&mut TemporaryFolders::new("conform"));
    }

    #[test]
    fn a_folder_that_is_held_cannot_be_taken() {
        let mut folders = TemporaryFolders::new("held");
        let path = folders.next_path();
        let held = FolderDisk::open(&path).unwrap();
        let refused = FolderDisk::open(&path).unwrap_err();
        assert_eq!((refused.kind, refused.operation), (DiskErrorKind::Locked, Operation::Folder));
        let text = refused.to_string();
        assert!(text.contains("another process holds the folder") && text.contains("data"), "{text}");
        drop(held);
        FolderDisk::open(&path).unwrap();
    }

    #[test]
    fn a_folder_is_free_with_its_last_user_though_a_started_process_has_its_files_yet() {
        let mut folders = TemporaryFolders::new("inherited");
        let path = folders.next_path();
        let held = FolderDisk::open(&path).unwrap();
        let inherited = held.lock.as_ref().unwrap().0.try_clone().unwrap();
        let shared = held.share().unwrap();
        drop(held);
        assert_eq!(FolderDisk::open(&path).unwrap_err().kind, DiskErrorKind::Locked);
        drop(shared);
        FolderDisk::open(&path).unwrap();
        drop(inherited);
    }

    #[test]
    fn a_folder_opened_to_read_is_never_changed_nor_made() {
        let mut folders = TemporaryFolders::new("read");
        let path = folders.next_path();
        assert_eq!(FolderDisk::open_read_only(&path).unwrap_err().kind, DiskErrorKind::Missing);
        let mut held = FolderDisk::open(&path).unwrap();
        held.create("log-0000000000000001").unwrap();
        let mut seen = FolderDisk::open_read_only(&path).unwrap();
        assert_eq!(seen.file_bytes("log-0000000000000001"), Ok(0));
        let changes = [
            seen.create("x"),
            seen.write_at("log-0000000000000001", 0, b"x"),
            seen.shorten("log-0000000000000001", 0),
            seen.remove("log-0000000000000001"),
        ];
        for change in changes {
            assert_eq!(change.map_err(|error| error.kind), Err(DiskErrorKind::Denied));
        }
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let mut folders = TemporaryFolders::new("way");
        let path = folders.next_path();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "no folder").unwrap();
        let refused = FolderDisk::open(&path).unwrap_err();
        assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
    }
}
