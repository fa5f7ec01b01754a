//! The data folder: what a node must not forget.
//!
//! A folder holds two copies of one *hard-state record* and a log in *segments*:
//!
//! ```text
//! hard-state-a  hard-state-b     term, vote, boot counter, cluster, stores seen, live segments
//! log-0000000000000007           batches of entries, 4 KiB-aligned, then zeros
//! log-0000000000000008           the spare: all zeros, named by no record yet
//! snapshot-0000000000001f40      the state through index 8000; the log goes on after it, see [`snapshot`]
//! ```
//!
//! **Writing.** [`Store::persist`] makes a batch durable before it returns. Entries alone cost one positional
//! write into a zero-filled segment and one sync. Term and vote go into the record, which is written to one file,
//! synced, written to the other, synced. A truncation, a full segment and every boot start a new segment; the
//! record names it with its *base*, and entries above a later segment's base are cut. So a truncation is one
//! record, and no block is ever written twice.
//!
//! **Reading.** [`Store::open`] takes the valid record with the highest sequence and reads the segments that it
//! names. Sealed segments must be whole up to the next base. In the last one the first bad batch is a *tear*, and
//! is cut, only if it shows a zero where no finished write leaves one and nothing says that it was ever durable:
//! no later batch, no length in the record. All else is *damage*, told with file and byte ([`Damage`]): refused, or
//! left as it is for a repair.
//! What lies above the highest synced mark may have been read from a page cache that a power cut would lose: it
//! is copied into a fresh segment and synced before the boot counts.
//!
//! **Failing.** A failed write or sync ends the store ([`StoreError::Failed`]); nothing is tried twice. Having no
//! room for a new segment is no failed write ([`StoreError::Full`]): nothing was written.
//!
//! Everything is sans-I/O over [`Disk`]; [`MemoryDisk`] loses what was not synced and fails where told, and
//! [`conformance`] holds the same checks against any implementation. `docs/data-folder.md` draws the bytes.
//!
//! **Compacting.** A snapshot's file is durable, name and all, before the record names it, and only then are segments
//! removed whose entries it covers: one record does both ([`Store::adopt_snapshot`]). A boot checks that the log above
//! continues the chain value in the snapshot.
//!
//! **Repair.** With [`OnDamage::Keep`] a damaged log opens with what stands before its first hole; what can be read
//! behind ([`Recovered::remains`]) stays on the disk untouched, and nothing but records is written until a truncation
//! brings, in one batch, what takes the place of the hole and all behind it. Entries that replace cut ones are
//! durable in a segment of their own before the record names it, so no crash leaves less than there was. A damaged
//! snapshot loses its name, not its blocks. Term and vote are nobody else's to give: a folder without them is
//! refused.

mod adopt;
mod batch;
mod block;
pub mod conformance;
mod disk;
mod error;
pub mod inspect;
mod memory;
mod open;
mod record;
mod recover;
mod refound;
mod restore;
mod salvage;
mod segment;
pub mod snapshot;
mod spare;
#[expect(clippy::module_inception, reason = "the room is named after the one thing it is about")]
mod store;
#[cfg(test)]
mod tests;

pub use adopt::{Adopted, LogAfter};
pub use batch::Batch;
pub use block::{Header, LOG_VERSION};
pub use disk::{Disk, DiskError, DiskErrorKind, Operation, SharedDisk, Unsynced};
pub use error::{Damage, DamageKind, FormatError, OpenError, Part, StoreError};
pub use memory::{DiskFault, MemoryDisk};
pub use open::{
    FIRST_INCARNATION_MAX, FormatOptions, Fsync, OnDamage, OpenOptions, Recovered, SEGMENT_BYTES,
};
pub use record::{
    BootSeen, FORMAT_VERSION, KernelBoot, PEERS_MAX, Record, SEGMENTS_CROWDED, SEGMENTS_MAX, Stop, Syncing,
};
pub use recover::Tail;
pub use refound::{Survey, refound};
pub use restore::RestoreError;
pub use segment::{FoundBatch, Generation, SegmentEnd, SegmentRef};
pub use snapshot::{SnapshotError, SnapshotFile, SnapshotHead};
pub use store::{PeerSeen, Store, Upkeep};
