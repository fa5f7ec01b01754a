//! A folder that becomes another cluster's: whatever is cut short, it is wholly the one's or wholly the other's.

use crate::entry::Payload;
use crate::founding::FoundingRecord;
use crate::machine::{Frozen, Sink, SinkClosed};
use crate::membership::{Member, Membership};
use crate::rng::Rng;
use crate::store::batch::Batch;
use crate::store::conformance::{Log, format_options, founding, open_options};
use crate::store::error::{DamageKind, OpenError};
use crate::store::memory::{DiskFault, MemoryDisk};
use crate::store::open::FormatOptions;
use crate::store::record::KernelBoot;
use crate::store::refound::{NEW_RECORD, Survey, refound};
use crate::store::snapshot::SnapshotError;
use crate::store::store::Store;
use crate::store::tests::{CLUSTER, append, founded};
use crate::types::{ClusterId, HardState, Incarnation, Index, NodeId, StoreId, Term};

const NEW_STORE: StoreId = StoreId([0x99; 16]);
const NEW_CLUSTER: ClusterId = ClusterId([0xee; 16]);

struct State;

impl Frozen for State {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        sink.put(b"the state of a survivor")
    }
}

fn options() -> FormatOptions {
    FormatOptions { store: NEW_STORE, first_incarnation: Incarnation(77), ..format_options() }
}

fn forced() -> FoundingRecord {
    let member = Member { store: NEW_STORE, address: "127.0.0.1:7101".to_owned() };
    let membership = Membership::of_voters([(NodeId::MIN, member)].into());
    FoundingRecord { cluster: NEW_CLUSTER, membership }
}

/// A folder with a few entries, and the last of them.
fn survivor() -> (MemoryDisk, Log) {
    let (mut store, mut log) = (founded(), Log::default());
    append(&mut store, &mut log, 3, &[10, 5_000, 0, 77]);
    let hard_state = Some(HardState { term: Term(9), vote: None });
    store.persist(&Batch { hard_state, ..Batch::default() }).unwrap();
    (store.into_disk(), log)
}

fn read(disk: &mut MemoryDisk) -> Result<Survey, OpenError> {
    Survey::read(disk, KernelBoot::default())
}

#[test]
fn a_survivors_folder_begins_a_cluster_with_all_that_it_held() {
    let (mut disk, log) = survivor();
    let survey = read(&mut disk).unwrap();
    assert_eq!(survey.entries, log.entries);
    assert_eq!(
        (survey.settled().index, survey.last().index, survey.last().term),
        (Index(0), Index(4), Term(3))
    );
    assert_eq!(survey.memberships().collect::<Vec<_>>(), [&founding(CLUSTER).membership]);
    let meta = refound(&mut disk, &survey, options(), &forced(), &State).unwrap();
    assert_eq!((meta.id.index, meta.id.term), (Index(5), Term(3)));
    let (mut store, recovered) = Store::open(disk, open_options()).unwrap();
    assert_eq!((recovered.store, recovered.cluster), (NEW_STORE, NEW_CLUSTER));
    assert_eq!(recovered.incarnation, Incarnation(78), "the boots of a new store are counted anew");
    assert_eq!(recovered.hard_state, HardState { term: Term(9), vote: None }, "no term is ever used twice");
    assert_eq!(recovered.founding, Some(forced()));
    assert_eq!(
        recovered.snapshot.map(|file| (file.meta, file.head.membership)),
        Some((meta, forced().membership))
    );
    assert!(recovered.entries.is_empty() && recovered.peers.is_empty() && recovered.damage.is_empty());
    // It goes on as any store does.
    let entry = crate::entry::Entry::new(NEW_CLUSTER, Index(6), Term(10), Payload::Noop, meta.id.chain);
    store.persist(&Batch { entries: vec![entry.clone()], ..Batch::default() }).unwrap();
    let (_, recovered) = Store::open(store.into_disk(), open_options()).unwrap();
    assert_eq!(recovered.entries, [entry]);
}

/// Which of the two clusters the folder is of, and that it is so wholly: as a node that boots would find it.
fn boot(mut disk: MemoryDisk, log: &Log) -> ClusterId {
    let survey = read(&mut disk).expect("no crash leaves a folder that cannot be recovered again");
    let (store, recovered) =
        Store::open(disk, open_options()).expect("no crash leaves a folder that does not boot");
    assert_eq!(survey.record().cluster, recovered.cluster);
    assert!(
        !store.disk().file_names().any(|name| name == NEW_RECORD),
        "a record that counts for nothing stays"
    );
    match recovered.cluster {
        CLUSTER => assert_eq!((recovered.entries, recovered.snapshot), (log.entries.clone(), None)),
        NEW_CLUSTER => assert_eq!((recovered.founding, recovered.store), (Some(forced()), NEW_STORE)),
        other => panic!("a folder of cluster {other}"),
    }
    recovered.cluster
}

#[test]
fn a_recovery_cut_short_anywhere_leaves_one_cluster_or_the_other_and_can_be_said_again() {
    let (disk, log) = survivor();
    let mut rng = Rng::from_seed(5);
    let (mut step, mut old, mut new) = (0, 0, 0);
    loop {
        let mut crashing = disk.clone();
        let survey = read(&mut crashing).unwrap();
        step += 1;
        crashing.set_fault(crashing.operations() + step, DiskFault::Stop);
        let done = refound(&mut crashing, &survey, options(), &forced(), &State);
        let is_over = done.is_ok();
        let mut killed = crashing.clone();
        killed.revive();
        boot(killed, &log);
        crashing.crash(&mut rng);
        match boot(crashing.clone(), &log) {
            CLUSTER => {
                assert!(!is_over, "what was reported done is durable");
                let survey = read(&mut crashing).unwrap();
                refound(&mut crashing, &survey, options(), &forced(), &State).unwrap();
                assert_eq!(boot(crashing, &log), NEW_CLUSTER);
                old += 1;
            }
            _ => new += 1,
        }
        if is_over {
            break;
        }
    }
    assert!(old > 10 && new > 2, "{old} crashes before the step, {new} after it");
}

#[test]
fn a_full_disk_changes_nothing_and_damage_is_refused_with_the_place() {
    let (mut disk, log) = survivor();
    let survey = read(&mut disk).unwrap();
    let mut full = disk.clone();
    let bytes: u64 = disk.file_names().filter_map(|name| disk.content(name)).map(|it| it.len() as u64).sum();
    full.set_capacity(Some(bytes + 9_000));
    assert_eq!(refound(&mut full, &survey, options(), &forced(), &State), Err(SnapshotError::Full));
    full.set_capacity(None);
    assert_eq!(boot(full, &log), CLUSTER);
    let segment = survey.record().segments.last().unwrap().generation.file();
    disk.rot(&segment, |bytes| bytes[200] ^= 4);
    let Err(OpenError::Damaged(damage)) = read(&mut disk) else { panic!("damage was passed over") };
    assert_eq!((damage.file, damage.what), (segment, DamageKind::Body));
}
