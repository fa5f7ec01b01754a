//! Snapshot files: written once, whole, and never changed.
//!
//! ```text
//! snapshot-0000000000001f40                    the state through index 8000, named by the hard-state record
//! writing-0000000000001f40                     the same while it is written; worth nothing after a crash
//! incoming-0000000000001f40-5e0c…              pulled from another node, in any order of its bytes
//! ```
//!
//! **The file** is content, table and trailer. The content, *head* and *body*, is cut into blocks of 64 KiB; the table
//! holds a CRC-32 for each; the trailer says how long the content is and carries the digest over the table. Nothing in
//! it is of one node, so two nodes' files for one index are equal, and the length alone tells where each part begins
//! ([`Layout`]).
//!
//! **Writing** ([`write()`]) goes to a temporary name, which is synced, renamed, and its new name synced (S3, D7). It
//! counts when the hard-state record names it ([`crate::store::Store::adopt_snapshot`]); a boot removes what no record
//! names. So a crash at any point leaves the snapshot of before.
//!
//! **Pulling** ([`Incoming`]) needs no account of its own: after a crash the table, which is pulled first, tells which
//! blocks are there (S6). The file is synced, checked whole and renamed before anyone adopts it.
//!
//! **Reading** ([`SnapshotFile`]) checks table and trailer at once and every block when its turn comes.
//!
//! **Backups** are such files, taken out of the cluster: [`open_alone`] trusts nothing but the file itself.

mod copy;
mod incoming;
mod layout;
mod read;
mod write;

use core::fmt;

pub(super) use copy::write_under_head;
pub use copy::{copy_in, open_alone, verify_alone};
pub use incoming::Incoming;
pub use layout::{Layout, SnapshotHead};
pub use read::{BodySource, Checked, SnapshotFile, read_range};
pub use write::write;

use crate::snapshot::{FORMAT_VERSION, SnapshotMeta};
use crate::store::disk::{Disk, DiskError, DiskErrorKind};
use crate::store::error::Damage;
use crate::types::Index;

/// Why something was not done with a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// The disk has no room. Nothing is lost, and it may be tried again.
    Full,
    /// The file's content is not what was written.
    Damaged(Damage),
    /// The peer: no snapshot file has such a length, or its content is of another snapshot or cluster.
    Foreign,
    /// The peer or the caller: a newer program wrote the file.
    Newer {
        /// Its format version.
        found: u16,
    },
    /// The caller broke the writing off; nothing is left behind.
    Interrupted,
    /// The disk failed; nothing more may be concluded about it.
    Failed(DiskError),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the disk is full: no room for a snapshot"),
            Self::Damaged(damage) => write!(f, "damaged: {damage}"),
            Self::Foreign => f.write_str("the file is of another snapshot or cluster"),
            Self::Newer { found } => {
                write!(
                    f,
                    "the snapshot has format version {found}, this program knows up to {FORMAT_VERSION}"
                )
            }
            Self::Interrupted => f.write_str("the snapshot was not written to its end"),
            Self::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for SnapshotError {}

impl From<DiskError> for SnapshotError {
    fn from(error: DiskError) -> Self {
        match error.kind {
            DiskErrorKind::Full => Self::Full,
            _ => Self::Failed(error),
        }
    }
}

impl From<Damage> for SnapshotError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// The name of a finished snapshot.
#[must_use]
pub fn file_of(index: Index) -> String {
    format!("snapshot-{:016x}", index.0)
}

fn writing_file(index: Index) -> String {
    format!("writing-{:016x}", index.0)
}

fn incoming_file(meta: &SnapshotMeta) -> String {
    format!("incoming-{:016x}-{:016x}", meta.id.index.0, meta.digest)
}

/// Whether a name is one of a snapshot's, finished or not.
pub(super) fn is_own(file: &str) -> bool {
    index_of("snapshot-", file).is_some() || is_writing(file) || incoming_index(file).is_some()
}

fn is_writing(file: &str) -> bool {
    index_of("writing-", file).is_some()
}

fn incoming_index(file: &str) -> Option<Index> {
    let (place, digest) = file.rsplit_once('-')?;
    let is_digest = digest.len() == 16 && u64::from_str_radix(digest, 16).is_ok();
    index_of("incoming-", place).filter(|_| is_digest)
}

fn index_of(prefix: &str, file: &str) -> Option<Index> {
    let digits = file.strip_prefix(prefix).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().map(Index)
}

/// Removes what no boot needs: files half written, snapshots that the record does not name, and what was pulled of
/// one that is no newer.
pub(super) fn remove_unneeded<D: Disk>(
    disk: &mut D,
    files: &[String],
    named: Option<&SnapshotMeta>,
) -> Result<(), DiskError> {
    let named = named.map_or(Index(0), |meta| meta.id.index);
    for file in files {
        let is_unneeded = is_writing(file)
            || index_of("snapshot-", file).is_some_and(|index| index != named)
            || incoming_index(file).is_some_and(|index| index <= named);
        if is_unneeded {
            disk.remove(file)?;
        }
    }
    Ok(())
}

/// Makes of a damaged snapshot one that is being pulled: its blocks that are intact need not come again.
pub(super) fn keep_blocks<D: Disk>(disk: &mut D, meta: &SnapshotMeta) -> Result<(), DiskError> {
    let file = file_of(meta.id.index);
    if !disk.list()?.contains(&file) {
        return Ok(());
    }
    if disk.file_bytes(&file)? == meta.bytes {
        disk.rename(&file, &incoming_file(meta))?;
    } else {
        disk.remove(&file)?;
    }
    disk.sync_folder()
}

/// Removes the file of a snapshot that another has replaced; harmless when it is gone.
pub fn remove<D: Disk>(disk: &mut D, meta: &SnapshotMeta) -> Result<(), DiskError> {
    match disk.remove(&file_of(meta.id.index)) {
        Err(error) if error.kind == DiskErrorKind::Missing => Ok(()),
        removed => removed,
    }
}
