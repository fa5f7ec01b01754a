//! What can go wrong, split by blame: the caller's use, the folder's content, the disk's working.

use core::fmt;

use crate::store::block::LOG_VERSION;
use crate::store::disk::DiskError;
use crate::types::{ClusterId, Index, StoreId};

/// Bytes that were once durable and are not what was written, or not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, by its name in the data folder.
    pub file: String,
    /// The first bad byte, or the start of the smallest checked piece that holds it.
    pub offset: u64,
    /// What is wrong there.
    pub what: DamageKind,
}

/// What is wrong with damaged bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// A file that the hard-state record names is not there.
    MissingFile,
    /// The file ends before content that was durable.
    ShortFile {
        /// How long it is.
        bytes: u64,
    },
    /// A batch header fails its checksum, and no write cut short looks like that.
    Header,
    /// A batch header is intact and belongs elsewhere: another cluster, store, segment or place.
    Misplaced,
    /// A batch's content fails its checksum, and no write cut short looks like that.
    Body,
    /// A batch is gone or unfinished though later content proves that it was durable.
    Lost,
    /// A batch is intact and its entries cannot be read.
    Malformed,
    /// A batch's entries do not follow what stands before them.
    Gap {
        /// The index that had to come next.
        expected: Index,
    },
    /// An entry's chain value does not fit the entries before it.
    Chain {
        /// The entry.
        index: Index,
    },
    /// A batch was written under a later hard-state record than the one found: both its copies are stale.
    HardStateOlder {
        /// The sequence that the batch saw.
        needed: u64,
        /// The highest sequence found.
        found: u64,
    },
    /// No copy of the hard-state record can be read.
    HardState,
    /// One copy of the hard-state record is bad; the other is whole, and the next boot rewrites this one.
    HardStateCopy,
    /// A newer program wrote a batch: it is no damage, see [`OpenError::NewerFormat`].
    Newer {
        /// The log's format version.
        found: u16,
    },
    /// The file goes on after its content.
    LongFile {
        /// How long it is.
        bytes: u64,
    },
    /// A snapshot's table of checksums, or its trailer, is not what was written.
    Table,
    /// A block of a snapshot fails its checksum.
    Block,
    /// A snapshot's content is intact and is not the state that the record names.
    OtherSnapshot,
}

impl DamageKind {
    /// Whether other nodes can make it good: they hold the same log and state, but nobody else's term and vote; and
    /// of two intact things that contradict each other they cannot say which is right.
    #[must_use]
    pub fn is_repairable(&self) -> bool {
        !matches!(self, Self::HardState | Self::HardStateOlder { .. } | Self::Gap { .. } | Self::Chain { .. })
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingFile => f.write_str("the file is missing"),
            Self::ShortFile { bytes } => write!(f, "the file ends at byte {bytes}, before durable content"),
            Self::Header => f.write_str("a batch header fails its checksum"),
            Self::Misplaced => f.write_str("a batch belongs to another place"),
            Self::Body => f.write_str("a batch fails its checksum"),
            Self::Lost => f.write_str("a batch is lost before durable content"),
            Self::Malformed => f.write_str("entries of an intact batch cannot be read"),
            Self::Gap { expected } => write!(f, "entry {expected} had to come next"),
            Self::Chain { index } => write!(f, "the chain value of entry {index} does not fit"),
            Self::HardStateOlder { needed, found } => {
                write!(f, "written under hard-state record {needed}, but only {found} is found")
            }
            Self::HardState => f.write_str("no copy of the hard-state record can be read"),
            Self::HardStateCopy => {
                f.write_str("this copy of the hard-state record is bad, the other one is whole")
            }
            Self::Newer { found } => write!(f, "a batch has format version {found}"),
            Self::LongFile { bytes } => write!(f, "the file goes on to byte {bytes}, after its content"),
            Self::Table => f.write_str("the snapshot's table of checksums is bad"),
            Self::Block => f.write_str("a block of the snapshot fails its checksum"),
            Self::OtherSnapshot => f.write_str("the snapshot is not the one that the record names"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.what)
    }
}

/// Why a data folder was not formatted. Nothing in it was changed, except after [`FormatError::Disk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// The caller: the folder holds a store, or what is left of one.
    NotEmpty {
        /// One of the files that are there.
        file: String,
    },
    /// The disk; formatting again starts over.
    Disk(DiskError),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEmpty { file } => write!(f, "the data folder is not empty: it holds {file}"),
            Self::Disk(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for FormatError {}

/// Why a data folder was not opened. Whatever the reason, no durable content was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The caller: nothing was ever formatted here.
    NotFormatted,
    /// The caller: formatting was cut short, no node ever ran here; format again.
    FormatUnfinished,
    /// The caller: the folder belongs to another cluster than the one asked for.
    ForeignCluster {
        /// Whose it is; zero for none yet.
        found: ClusterId,
        /// The one asked for.
        expected: ClusterId,
    },
    /// The caller: a newer program wrote this folder.
    NewerFormat {
        /// Which part of it: each has a version of its own.
        part: Part,
        /// Its format version.
        found: u16,
        /// The highest version known here.
        known: u16,
    },
    /// The folder: a log stands here without its hard state; term and vote are lost.
    HardStateMissing {
        /// One of the log's files.
        beside: String,
    },
    /// The folder: the two hard-state files speak of two stores; one was copied in from elsewhere.
    TwoStores {
        /// The first file's.
        first: StoreId,
        /// The second file's.
        second: StoreId,
    },
    /// The folder: the two hard-state files have one sequence and different content; one is from a copy.
    CopiesDiffer {
        /// That sequence.
        sequence: u64,
    },
    /// The folder: it ran without fsync, stopped uncleanly, and the machine has been restarted since.
    UnsyncedStop,
    /// The folder: 2^32 - 1 boots are used up.
    BootsExhausted,
    /// The folder: durable content is damaged.
    Damaged(Damage),
    /// The disk: no room for the segment that every boot starts; nothing is lost.
    Full,
    /// The disk.
    Disk(DiskError),
}

/// The parts of a data folder that have a format version of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The hard-state record, and the folder as a whole.
    Folder,
    /// A segment of the log.
    Log,
    /// A snapshot.
    Snapshot,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "the data folder",
            Self::Log => "the log",
            Self::Snapshot => "the snapshot",
        })
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFormatted => f.write_str("the data folder was never formatted"),
            Self::FormatUnfinished => f.write_str("formatting the data folder was cut short"),
            Self::ForeignCluster { found, expected } if found.is_zero() => {
                write!(f, "the data folder belongs to no cluster yet, not to {expected}")
            }
            Self::ForeignCluster { found, expected } => {
                write!(f, "the data folder belongs to cluster {found}, not to {expected}")
            }
            Self::NewerFormat { part, found, known } => {
                write!(f, "a newer program wrote this: {part} has format version {found}, known here is {known}")
            }
            Self::HardStateMissing { beside } => {
                write!(f, "the hard state is missing beside {beside}: term and vote are lost")
            }
            Self::TwoStores { first, second } => {
                write!(f, "the hard-state files are of two stores, {first} and {second}")
            }
            Self::CopiesDiffer { sequence } => {
                write!(f, "the hard-state files differ under one sequence, {sequence}")
            }
            Self::UnsyncedStop => f.write_str(
                "the node ran without fsync and stopped uncleanly before the machine restarted: data may be lost",
            ),
            Self::BootsExhausted => f.write_str("the boot counter has reached its end"),
            Self::Damaged(damage) => write!(f, "damaged: {damage}"),
            Self::Full => f.write_str("the disk is full: no room for a log segment"),
            Self::Disk(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for OpenError {}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        match damage.what {
            DamageKind::Newer { found } => Self::NewerFormat { part: Part::Log, found, known: LOG_VERSION },
            _ => Self::Damaged(damage),
        }
    }
}

/// Why an open store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// The caller: the store already belongs to this cluster, and to one only.
    AlreadyFounded {
        /// That cluster.
        cluster: ClusterId,
    },
    /// The folder: the restored backup in it is not what was copied there; restore again.
    BackupDamaged,
    /// The caller: the table of stores seen holds its maximum.
    PeersFull,
    /// The disk has no room for another segment, or the log has its maximum of them. Nothing was written; the
    /// same call may be made again.
    Full,
    /// A write or sync failed. The store is done for: every later call returns this.
    Failed(DiskError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyFounded { cluster } => {
                write!(f, "already founded: this store is of cluster {cluster}")
            }
            Self::BackupDamaged => f.write_str("the restored backup is damaged: restore it again"),
            Self::PeersFull => f.write_str("the table of stores seen is full, and all of them are in use"),
            Self::Full => f.write_str("disk full: no room for another log segment"),
            Self::Failed(error) => write!(f, "the store has failed: {error}"),
        }
    }
}

impl core::error::Error for StoreError {}
