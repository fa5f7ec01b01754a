//! Crashes at any operation: what was shown is there afterwards, what was not is there whole or not at all.

use std::collections::BTreeSet;

use crate::entry::Entry;
use crate::rng::Rng;
use crate::store::batch::Batch;
use crate::store::conformance::{Log, format_options, founding, open_options};
use crate::store::error::{OpenError, StoreError};
use crate::store::memory::{DiskFault, MemoryDisk};
use crate::store::open::Recovered;
use crate::store::record::BootSeen;
use crate::store::store::{PeerSeen, Store};
use crate::store::tests::{CLUSTER, append, founded};
use crate::types::{BootNonce, HardState, Identity, Incarnation, Index, NodeId, StoreId, Term};

/// What the rest of the world was shown, and what an unfinished call may have left instead.
#[derive(Debug, Default)]
struct Shown {
    is_formatted: bool,
    is_founded: bool,
    hard_state: HardState,
    log: Log,
    incarnation: Incarnation,
    peer: Incarnation,
    /// The states that the call under way may leave, besides the one shown.
    maybe: Vec<(HardState, Vec<Entry>)>,
    maybe_peer: Incarnation,
}

const PEER: StoreId = StoreId([0x77; 16]);

/// Why a run ended early.
#[derive(Debug)]
struct Stopped;

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
        Self
    }
}

impl Shown {
    /// Formats if need be, boots, and holds what was recovered against what was shown.
    fn boot<'a>(&mut self, disk: &'a mut MemoryDisk) -> Result<Store<&'a mut MemoryDisk>, Stopped> {
        if !self.is_formatted {
            match Store::open(&mut *disk, open_options()) {
                Ok(_) => {}
                Err(OpenError::Disk(_)) => return Err(Stopped),
                Err(OpenError::NotFormatted | OpenError::FormatUnfinished) => {
                    Store::format(disk, format_options()).map_err(|_| Stopped)?;
                }
                Err(error) => panic!("a format cut short leaves {error:?}"),
            }
            self.is_formatted = true;
        }
        match Store::open(disk, open_options()) {
            Ok((mut store, recovered)) => {
                self.compare(recovered);
                store.record_founding(&founding(CLUSTER))?;
                self.is_founded = true;
                Ok(store)
            }
            Err(OpenError::Disk(_)) => Err(Stopped),
            Err(error) => panic!("no crash leaves {error:?}; shown was {self:?}"),
        }
    }

    fn compare(&mut self, recovered: Recovered) {
        assert!(recovered.incarnation > self.incarnation, "{} twice", recovered.incarnation);
        assert!(recovered.founding.is_some() || !self.is_founded, "the founding is forgotten");
        let found = (recovered.hard_state, recovered.entries);
        let shown = (self.hard_state, self.log.entries.clone());
        assert!(
            found == shown || self.maybe.contains(&found),
            "found {} and {} entries, shown {} and {}",
            found.0,
            found.1.len(),
            shown.0,
            shown.1.len()
        );
        let peer = recovered.peers.get(&PEER).map_or(Incarnation(0), |seen: &BootSeen| seen.incarnation);
        assert!(peer == self.peer || peer == self.maybe_peer, "peer {peer}, shown {}", self.peer);
        (self.hard_state, self.log.entries) = found;
        (self.peer, self.maybe_peer) = (peer, peer);
        self.incarnation = recovered.incarnation;
        self.maybe.clear();
    }

    /// Makes a random batch durable, and shows it.
    fn persist(&mut self, store: &mut Store<&mut MemoryDisk>, rng: &mut Rng) -> Result<(), Stopped> {
        let last = self.log.entries.len() as u64;
        let mut batch = Batch::default();
        let mut log = self.log.clone();
        let mut hard_state = self.hard_state;
        if rng.chance(0.3) {
            let node = NodeId::new(1 + rng.below(3) as u16).unwrap();
            let vote = Identity { node, store: StoreId([node.as_u16() as u8; 16]) };
            hard_state = HardState { term: self.hard_state.term.next(), vote: Some(vote) };
            batch.hard_state = Some(hard_state);
            self.maybe.push((hard_state, log.entries.clone()));
        }
        if last > 0 && rng.chance(0.2) {
            let from = 1 + rng.below(last);
            log.entries.truncate(from as usize - 1);
            batch.truncate_from = Some(Index(from));
            self.maybe.push((hard_state, log.entries.clone()));
        }
        if rng.chance(0.8) {
            let long = [20, 200, 3_000, 9_000, 20_000][rng.below(5) as usize];
            let lengths: Vec<usize> = (0..=rng.below(4)).map(|_| rng.below(long) as usize).collect();
            batch.entries = log.append(hard_state.term.0, &lengths);
            self.maybe.push((hard_state, log.entries.clone()));
        }
        store.persist(&batch)?;
        (self.hard_state, self.log) = (hard_state, log);
        self.maybe.clear();
        Ok(())
    }

    fn step(&mut self, store: &mut Store<&mut MemoryDisk>, rng: &mut Rng) -> Result<(), Stopped> {
        match rng.below(10) {
            0 => store.quiet()?,
            1 => {
                store.maintain()?;
            }
            2 => {
                self.maybe_peer = Incarnation(self.peer.0 + 1);
                let nonce = BootNonce([1; 16]);
                assert_eq!(
                    store.record_peer(PEER, self.maybe_peer, nonce, &BTreeSet::new())?,
                    PeerSeen::Adopted
                );
                self.peer = self.maybe_peer;
            }
            _ => self.persist(store, rng)?,
        }
        Ok(())
    }

    /// One life of a process: boot, work, and in one of four cases a clean end.
    fn live(&mut self, disk: &mut MemoryDisk, rng: &mut Rng, steps: u64) -> Result<(), Stopped> {
        let mut store = self.boot(disk)?;
        for _ in 0..steps {
            self.step(&mut store, rng)?;
        }
        if rng.chance(0.25) {
            store.shutdown()?;
        }
        Ok(())
    }
}

#[test]
fn no_crash_loses_what_was_shown_or_shows_half_of_a_change_e1_i3_i5_d5_d7() {
    for seed in 0..5_000 {
        let mut rng = Rng::from_seed(seed);
        let mut disk = MemoryDisk::new();
        let mut shown = Shown::default();
        for _ in 0..6 {
            if rng.chance(0.8) {
                let at = disk.operations() + rng.below(80);
                disk.set_fault(at, DiskFault::Stop);
            }
            let steps = rng.below(12);
            // Whether it was stopped or came to its end: the process is gone, or the whole machine is.
            let _ended_early = shown.live(&mut disk, &mut rng, steps).is_err();
            if rng.chance(0.5) {
                disk.crash(&mut rng);
            } else {
                disk.revive();
            }
        }
    }
}

#[test]
fn every_single_operation_may_be_the_last_one_e1_e2_i4() {
    let run = |stop_at: Option<u64>, crash_seed: u64| {
        let mut rng = Rng::from_seed(3);
        let mut disk = MemoryDisk::new();
        let mut shown = Shown::default();
        if let Some(at) = stop_at {
            disk.set_fault(at, DiskFault::Stop);
        }
        let mut was_stopped = false;
        for _ in 0..3 {
            was_stopped |= shown.live(&mut disk, &mut rng, 12).is_err();
            if was_stopped {
                break;
            }
        }
        let operations = disk.operations();
        match crash_seed {
            0 => disk.revive(),
            1 => disk.crash_keeping(|_, _| false, |_| false),
            2 => disk.crash_keeping(|_, _| true, |_| false),
            seed => disk.crash(&mut Rng::from_seed(seed)),
        }
        shown.boot(&mut disk).unwrap();
        // What the boot has shown is durable, too.
        disk.crash_keeping(|_, _| false, |_| false);
        shown.boot(&mut disk).unwrap();
        (operations, was_stopped)
    };
    let (operations, was_stopped) = run(None, 0);
    assert!(!was_stopped && operations > 100, "{operations} operations");
    for at in 0..operations {
        for crash_seed in 0..6 {
            let (_, was_stopped) = run(Some(at), crash_seed);
            assert!(was_stopped, "operation {at} stopped nothing");
        }
    }
}

#[test]
fn an_entry_read_from_the_page_cache_is_durable_before_it_counts_i3() {
    let mut store = founded();
    let mut log = Log::default();
    // More than a boot would copy for tidiness alone.
    append(&mut store, &mut log, 1, &[5_000]);
    let sync = store.disk().operations() + 1;
    store.disk_mut().set_fault(sync, DiskFault::Stop);
    let unsynced = Batch { entries: log.append(1, &[100]), ..Batch::default() };
    store.persist(&unsynced).unwrap_err();
    let mut disk = store.into_disk();
    disk.revive();

    let (store, recovered) = Store::open(disk, open_options()).unwrap();
    assert_eq!(recovered.entries, log.entries, "the kill left the entry in the cache");
    let mut disk = store.into_disk();
    disk.crash_keeping(|_, _| false, |_| false);
    let (_, recovered) = Store::open(disk, open_options()).unwrap();
    assert_eq!(recovered.entries, log.entries, "and the power cut may not take it any more");
}

/// Boots the folder, stops the machine at each operation of that in turn, lets the power cut tear what was under
/// way in several ways, and expects the next boot to find the log.
fn assert_boot_may_stop_anywhere(disk: &MemoryDisk, log: &Log) {
    let operations = {
        let mut trial = disk.clone();
        Store::open(&mut trial, open_options()).unwrap();
        trial.operations()
    };
    let keeps: [fn(u64) -> bool; 4] =
        [|_| false, |sector| sector % 2 == 0, |sector| sector % 2 == 1, |sector| sector > 0];
    for at in disk.operations()..operations {
        for keep in keeps {
            let mut disk = disk.clone();
            disk.set_fault(at, DiskFault::Stop);
            assert!(Store::open(&mut disk, open_options()).is_err());
            disk.crash_keeping(|_, sector| keep(sector), |_| true);
            let (_, recovered) = Store::open(disk, open_options()).unwrap();
            assert_eq!(recovered.entries, log.entries, "stopped at {at} of {operations}");
        }
    }
}

#[test]
fn a_boot_on_a_record_that_was_never_synced_may_stop_anywhere_i4() {
    // The record of a vote is in one file's cache when the process is killed; nobody was ever shown it. A power cut
    // during the boot may take it again, but not the other copy with it, and a log copied under it bears no
    // witness against the folder.
    let mut store = founded();
    let mut log = Log::default();
    append(&mut store, &mut log, 1, &[100]);
    append(&mut store, &mut log, 1, &[100]);
    let sync = store.disk().operations() + 1;
    store.disk_mut().set_fault(sync, DiskFault::Stop);
    let vote = HardState { term: Term(5), vote: None };
    store.persist(&Batch { hard_state: Some(vote), ..Batch::default() }).unwrap_err();
    let mut disk = store.into_disk();
    disk.revive();
    assert_boot_may_stop_anywhere(&disk, &log);
}

#[test]
fn a_boot_on_the_only_copy_of_the_record_may_stop_anywhere_i4() {
    let mut store = founded();
    let mut log = Log::default();
    append(&mut store, &mut log, 1, &[100]);
    let disk = store.into_disk();
    for rotten in ["hard-state-a", "hard-state-b"] {
        let mut disk = disk.clone();
        disk.rot(rotten, |content| content[600] ^= 1);
        assert_boot_may_stop_anywhere(&disk, &log);
        disk.lose(rotten);
        assert_boot_may_stop_anywhere(&disk, &log);
    }
}

#[test]
fn three_hundred_short_runs_leave_few_files_and_all_entries() {
    let mut store = founded();
    let mut log = Log::default();
    for run in 0..300 {
        append(&mut store, &mut log, 1 + run / 10, &[10]);
        let (reopened, recovered) = Store::open(store.into_disk(), open_options()).unwrap();
        assert_eq!(recovered.entries, log.entries);
        store = reopened;
    }
    let files = store.disk().file_names().count();
    assert!(files <= 12, "{files} files for {} entries", log.entries.len());
}
