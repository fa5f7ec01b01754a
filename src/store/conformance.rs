//! Checks that every [`Disk`] must pass, and the store on top of it.
//!
//! An implementor calls [`check`] from a test of its own. A failed check panics and says what was expected. What
//! a power cut does cannot be asked of a real disk here: [`MemoryDisk`](crate::store::MemoryDisk) plays it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::entry::{Entry, Payload};
use crate::founding::FoundingRecord;
use crate::machine::{Frozen, Sink, SinkClosed, Source as _};
use crate::membership::{Member, Members, Membership};
use crate::snapshot::SnapshotId;
use crate::store::adopt::{Adopted, LogAfter};
use crate::store::batch::Batch;
use crate::store::block::BLOCK_BYTES;
use crate::store::disk::{Disk, DiskErrorKind};
use crate::store::error::{DamageKind, FormatError, OpenError, StoreError};
use crate::store::open::{FormatOptions, OpenOptions, Recovered};
use crate::store::recover::Tail;
use crate::store::snapshot::{self, SnapshotHead};
use crate::store::store::{PeerSeen, Store, Upkeep};
use crate::types::{BootNonce, ClusterId, HardState, Identity, Incarnation, Index, NodeId, StoreId, Term};

/// An implementation under test.
pub trait Subject {
    /// The disk it makes.
    type Disk: Disk;

    /// A new, empty folder.
    fn empty(&mut self) -> Self::Disk;

    /// The folder as the next process would find it: whatever the disk kept in memory is dropped.
    fn restarted(&mut self, disk: Self::Disk) -> Self::Disk;
}

/// Runs all checks.
///
/// # Panics
/// When one fails.
pub fn check<S: Subject>(subject: &mut S) {
    names_are_made_taken_and_removed(&mut subject.empty());
    content_is_read_where_it_was_written(subject);
    a_renamed_file_takes_the_place_of_another(subject);
    a_snapshot_is_recovered_with_the_log_after_it(subject);
    a_folder_is_formatted_once(&mut subject.empty());
    what_was_persisted_is_recovered(subject);
    truncations_are_recovered(subject);
    entries_larger_than_a_segment_are_recovered(subject);
    identity_outlives_boots(subject);
    the_spare_is_made_ahead(subject);
    damage_is_refused_with_its_place(subject);
}

/// The segment length of these checks: short, so that many segments come and go.
pub const CHECK_SEGMENT_BYTES: u64 = 16 * 1024;

const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
const STORE: StoreId = StoreId([0x51; 16]);

fn names_are_made_taken_and_removed<D: Disk>(disk: &mut D) {
    let ours = |disk: &mut D| {
        let mut names = disk.list().expect("a folder can be listed");
        names.retain(|name| name.starts_with("log-"));
        names.sort();
        names
    };
    let (first, second) = ("log-0000000000000001", "log-0000000000000002");
    assert_eq!(ours(disk), [""; 0]);
    disk.create(second).expect("a free name can be made");
    disk.create(first).expect("a free name can be made");
    assert_eq!(disk.create(first).map_err(|e| e.kind), Err(DiskErrorKind::Exists));
    assert_eq!(disk.file_bytes(first), Ok(0));
    disk.sync_folder().expect("names can be synced");
    assert_eq!(ours(disk), [first, second]);
    disk.remove(first).expect("a file can be removed");
    assert_eq!(ours(disk), [second]);
    let missing = [
        disk.remove(first),
        disk.sync(first),
        disk.write_at(first, 0, b"x"),
        disk.read_at(first, 0, &mut [0]),
        disk.file_bytes(first).map(|_| ()),
        disk.shorten(first, 0),
    ];
    for result in missing {
        assert_eq!(result.map_err(|e| e.kind), Err(DiskErrorKind::Missing));
    }
    disk.create(first).expect("a removed name is free");
    assert_eq!(disk.file_bytes(first), Ok(0));
}

fn content_is_read_where_it_was_written<S: Subject>(subject: &mut S) {
    let file = "log-0000000000000001";
    let mut disk = subject.empty();
    disk.create(file).expect("a free name can be made");
    disk.write_at(file, 10_000, b"far").expect("a file grows");
    disk.write_at(file, 2, b"near").expect("a hole is written");
    disk.sync(file).expect("content can be synced");
    disk.sync_folder().expect("names can be synced");
    let mut disk = subject.restarted(disk);
    assert_eq!(disk.file_bytes(file), Ok(10_003));
    let mut bytes = vec![0xff; 10_003];
    disk.read_at(file, 0, &mut bytes).expect("a whole file can be read");
    assert_eq!((&bytes[..7], &bytes[10_000..]), (&b"\0\0near\0"[..], &b"far"[..]));
    assert!(bytes[7..10_000].iter().all(|byte| *byte == 0), "a hole reads as zeros");
    assert!(disk.read_at(file, 10_001, &mut [0; 3]).is_err(), "a read past the end fails");
    disk.shorten(file, 4).expect("a file can be cut");
    disk.write_at(file, 6, b"!").expect("a cut file grows again");
    let mut bytes = [0xff; 7];
    disk.read_at(file, 0, &mut bytes).expect("a whole file can be read");
    assert_eq!(&bytes, b"\0\0ne\0\0!", "what was cut off does not come back");
}

fn a_renamed_file_takes_the_place_of_another<S: Subject>(subject: &mut S) {
    let (from, to) = ("writing-0000000000000001", "snapshot-0000000000000001");
    let mut disk = subject.empty();
    assert_eq!(disk.rename(from, to).map_err(|e| e.kind), Err(DiskErrorKind::Missing));
    for (file, content) in [(to, &b"the old one"[..]), (from, b"new")] {
        disk.create(file).expect("a free name can be made");
        disk.write_at(file, 0, content).expect("a file can be written");
        disk.sync(file).expect("content can be synced");
    }
    disk.rename(from, to).expect("a file can be renamed");
    assert_eq!(disk.file_bytes(from).map_err(|e| e.kind), Err(DiskErrorKind::Missing));
    assert_eq!(disk.file_bytes(to), Ok(3));
    disk.write_at(to, 3, b"er").expect("a renamed file can be written");
    disk.sync(to).expect("a renamed file can be synced");
    disk.create(from).expect("the old name is free");
    disk.sync_folder().expect("names can be synced");
    let mut disk = subject.restarted(disk);
    let mut bytes = [0; 5];
    disk.read_at(to, 0, &mut bytes).expect("a renamed file can be read");
    assert_eq!((&bytes, disk.file_bytes(from)), (b"newer", Ok(0)));
}

fn a_snapshot_is_recovered_with_the_log_after_it<S: Subject>(subject: &mut S) {
    let mut store = founded(subject);
    let mut log = Log::default();
    for _ in 0..6 {
        let batch = Batch { entries: log.append(1, &[5_000]), ..Batch::default() };
        store.persist(&batch).expect("durable");
    }
    let covered = &log.entries[4];
    let id = SnapshotId { index: covered.index, term: covered.term, chain: covered.chain };
    let head = SnapshotHead { cluster: CLUSTER, id, membership: founding(CLUSTER).membership };
    let meta = snapshot::write(store.disk_mut(), &head, &FixedState).expect("there is room");
    assert_eq!(store.adopt_snapshot(meta, LogAfter::Kept), Ok(Adopted::Yes { replaced: None }));
    let (mut store, recovered) = reopen(subject, store);
    assert_eq!(recovered.entries, log.entries[5..]);
    let file = recovered.snapshot.expect("the record names it");
    assert_eq!((file.meta, &file.head), (meta, &head));
    let mut state = [0; 6];
    assert_eq!(file.body(store.disk_mut()).take(&mut state), Ok(5));
    assert_eq!(&state[..5], b"state");
}

struct FixedState;

impl Frozen for FixedState {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        sink.put(b"state")
    }
}

fn a_folder_is_formatted_once<D: Disk>(disk: &mut D) {
    format(disk);
    let again = Store::format(disk, format_options());
    assert!(matches!(again, Err(FormatError::NotEmpty { .. })), "{again:?}");
}

fn what_was_persisted_is_recovered<S: Subject>(subject: &mut S) {
    let mut store = founded(subject);
    let mut log = Log::default();
    for term in 1..=3 {
        let hard_state = HardState { term: Term(term), vote: Some(voter()) };
        store.persist(&Batch { hard_state: Some(hard_state), ..Batch::default() }).expect("durable");
        for bytes in [0, 1, 300, 4_000, 9_000] {
            let batch = Batch { entries: log.append(term, &[bytes, bytes / 2]), ..Batch::default() };
            store.persist(&batch).expect("durable");
        }
        let (mut reopened, recovered) = reopen(subject, store);
        assert_eq!(recovered.entries, log.entries);
        assert_eq!(recovered.hard_state, hard_state);
        assert_eq!(recovered.tail, Tail::Whole);
        reopened.quiet().expect("a quiet store says so");
        store = reopened;
    }
}

fn truncations_are_recovered<S: Subject>(subject: &mut S) {
    let mut store = founded(subject);
    let mut log = Log::default();
    store.persist(&Batch { entries: log.append(1, &[10; 40]), ..Batch::default() }).expect("durable");
    for (term, from) in [(2, 35), (3, 20), (4, 20), (5, 1)] {
        log.entries.truncate(from as usize - 1);
        let entries = log.append(term, &[700; 12]);
        let batch = Batch { truncate_from: Some(Index(from)), entries, ..Batch::default() };
        store.persist(&batch).expect("durable");
        let (reopened, recovered) = reopen(subject, store);
        assert_eq!(recovered.entries, log.entries);
        store = reopened;
    }
    let nothing_left = Batch { truncate_from: Some(Index(1)), ..Batch::default() };
    store.persist(&nothing_left).expect("durable");
    let (_, recovered) = reopen(subject, store);
    assert_eq!(recovered.entries, []);
}

fn entries_larger_than_a_segment_are_recovered<S: Subject>(subject: &mut S) {
    let mut store = founded(subject);
    let mut log = Log::default();
    for bytes in [CHECK_SEGMENT_BYTES as usize - 1, 300_000, 5] {
        let batch = Batch { entries: log.append(1, &[bytes]), ..Batch::default() };
        store.persist(&batch).expect("durable");
    }
    let (_, recovered) = reopen(subject, store);
    assert_eq!(recovered.entries, log.entries);
}

fn identity_outlives_boots<S: Subject>(subject: &mut S) {
    let store = founded(subject);
    let first_boot = store.incarnation();
    let (mut store, recovered) = reopen(subject, store);
    assert!(recovered.incarnation > first_boot, "every boot has a number of its own");
    assert_eq!((recovered.store, recovered.founding), (STORE, Some(founding(CLUSTER))));

    let other = founding(ClusterId([0xc2; 16]));
    let refused = store.record_founding(&other);
    assert_eq!(refused, Err(StoreError::AlreadyFounded { cluster: CLUSTER }));

    let (peer, nonce, none) = (StoreId([0x99; 16]), BootNonce([7; 16]), BTreeSet::new());
    assert_eq!(store.record_peer(peer, Incarnation(5), nonce, &none), Ok(PeerSeen::Adopted));
    let (mut store, recovered) = reopen(subject, store);
    let known = recovered.peers[&peer];
    assert_eq!((known.incarnation, known.nonce), (Incarnation(5), nonce));
    assert_eq!(store.record_peer(peer, Incarnation(5), nonce, &none), Ok(PeerSeen::Adopted));
    for (incarnation, nonce) in [(4, nonce), (5, BootNonce([8; 16]))] {
        assert_eq!(
            store.record_peer(peer, Incarnation(incarnation), nonce, &none),
            Ok(PeerSeen::Copy { known })
        );
    }
}

fn the_spare_is_made_ahead<S: Subject>(subject: &mut S) {
    let mut store = founded(subject);
    assert!(!store.has_spare());
    while store.maintain().expect("there is room") == Upkeep::More {}
    assert!(store.has_spare());
    let (store, _) = reopen(subject, store);
    assert!(!store.has_spare(), "a boot goes on in the spare");
}

fn damage_is_refused_with_its_place<S: Subject>(subject: &mut S) {
    let mut store = founded(subject);
    let mut log = Log::default();
    for _ in 0..3 {
        let batch = Batch { entries: log.append(1, &[100]), ..Batch::default() };
        store.persist(&batch).expect("durable");
    }
    let active = store.record.segments.last().map(|segment| segment.generation.file());
    let file = active.expect("every boot names a segment");
    let mut disk = store.into_disk();
    let mut byte = [0];
    let place = BLOCK_BYTES as u64 + 200;
    disk.read_at(&file, place, &mut byte).expect("the log can be read");
    disk.write_at(&file, place, &[byte[0] ^ 1]).expect("the log can be written");
    disk.sync(&file).expect("the log can be synced");
    let disk = subject.restarted(disk);
    match Store::open(disk, open_options()).map(|(_, recovered)| recovered) {
        Err(OpenError::Damaged(damage)) => {
            let found = (damage.file.as_str(), damage.offset, damage.what);
            assert_eq!(found, (file.as_str(), BLOCK_BYTES as u64, DamageKind::Body));
        }
        other => panic!("a flipped bit before the last batch is damage, not {other:?}"),
    }
}

/// A log that entries are appended to, chained as a leader would.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
}

impl Log {
    /// Appends commands of these lengths and returns the new entries.
    pub(super) fn append(&mut self, term: u64, lengths: &[usize]) -> Vec<Entry> {
        let start = self.entries.len();
        for length in lengths {
            let index = Index(self.entries.len() as u64 + 1);
            let prev_chain = self.entries.last().map_or(0, |last| last.chain);
            let fill = (index.0 as u8).wrapping_mul(31) ^ term as u8;
            let payload = match *length {
                0 => Payload::Noop,
                length => Payload::Command(Arc::from(vec![fill; length])),
            };
            self.entries.push(Entry::new(CLUSTER, index, Term(term), payload, prev_chain));
        }
        self.entries[start..].to_vec()
    }
}

pub(super) fn format_options() -> FormatOptions {
    let first_incarnation = Incarnation(1000);
    FormatOptions { store: STORE, first_incarnation, segment_bytes: CHECK_SEGMENT_BYTES }
}

pub(super) fn open_options() -> OpenOptions {
    OpenOptions { segment_bytes: CHECK_SEGMENT_BYTES, ..OpenOptions::default() }
}

/// A founding record long enough that the hard-state record spans several sectors and can be torn.
pub(super) fn founding(cluster: ClusterId) -> FoundingRecord {
    let address = |id: NodeId| {
        format!("{}.{id}.example:7100", "a-name-of-forty-letters-in-one-sector-or-more".repeat(4))
    };
    let ids = (1..=5).filter_map(NodeId::new);
    let store_of = |id: NodeId| if id == NodeId::MIN { STORE } else { StoreId([id.as_u16() as u8; 16]) };
    let members: Members = ids.map(|id| (id, Member { store: store_of(id), address: address(id) })).collect();
    FoundingRecord { cluster, membership: Membership::of_voters(members) }
}

pub(super) fn voter() -> Identity {
    Identity { node: NodeId::MIN, store: STORE }
}

pub(super) fn format<D: Disk>(disk: &mut D) {
    Store::format(disk, format_options()).expect("an empty folder can be formatted");
}

/// A store that belongs to a cluster and has an empty log.
fn founded<S: Subject>(subject: &mut S) -> Store<S::Disk> {
    let mut disk = subject.empty();
    format(&mut disk);
    let (mut store, recovered) = Store::open(disk, open_options()).expect("a formatted folder opens");
    assert!(recovered.cluster.is_zero() && recovered.entries.is_empty());
    store.record_founding(&founding(CLUSTER)).expect("a blank store can be founded");
    store
}

fn reopen<S: Subject>(subject: &mut S, store: Store<S::Disk>) -> (Store<S::Disk>, Recovered) {
    let disk = subject.restarted(store.into_disk());
    Store::open(disk, open_options()).expect("a folder opens after a kill")
}
