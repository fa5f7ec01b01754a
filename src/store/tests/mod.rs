//! The store's tests: the conformance suite on both disks, crashes, torn writes, flipped bits, failing disks.

mod conform;
mod crash;
mod damage;
mod fault;
mod peers;
mod refound;
mod refusal;
mod repair;
mod snapshot;
mod tear;

use crate::store::batch::Batch;
use crate::store::conformance::{CHECK_SEGMENT_BYTES, Log, format, founding, open_options};
use crate::store::memory::MemoryDisk;
use crate::store::open::OpenOptions;
use crate::store::store::Store;
use crate::types::ClusterId;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

/// A formatted and founded folder, in use.
fn founded() -> Store<MemoryDisk> {
    founded_with(CHECK_SEGMENT_BYTES)
}

/// The same with segments of this length.
fn founded_with(segment_bytes: u64) -> Store<MemoryDisk> {
    let mut disk = MemoryDisk::new();
    format(&mut disk);
    let (mut store, _) = Store::open(disk, OpenOptions { segment_bytes, ..open_options() }).unwrap();
    store.record_founding(&founding(CLUSTER)).unwrap();
    store
}

/// Makes entries of these lengths durable in one batch.
fn append(store: &mut Store<MemoryDisk>, log: &mut Log, term: u64, lengths: &[usize]) {
    let batch = Batch { entries: log.append(term, lengths), ..Batch::default() };
    store.persist(&batch).unwrap();
}
