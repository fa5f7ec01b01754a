//! What a durable write costs: one small batch on a real folder, and the same without a disk.
//!
//! `cargo bench --bench store`; the folder is made under the system's temporary one, `RAFTGRAM_BENCH_DIR` names
//! another place (a disk instead of a RAM file system).
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use raftgram::entry::{Entry, Payload};
use raftgram::run::disk::FolderDisk;
use raftgram::store::{Batch, Disk, FormatOptions, MemoryDisk, OpenOptions, SEGMENT_BYTES, Store, Upkeep};
use raftgram::types::{ClusterId, HardState, Incarnation, Index, StoreId, Term};

const CLUSTER: ClusterId = ClusterId([1; 16]);

/// Makes one batch after another, chained as a leader would.
struct Source {
    index: Index,
    chain: u32,
    payload: Payload,
}

impl Source {
    fn new(payload_bytes: usize) -> Self {
        Self { index: Index(0), chain: 0, payload: Payload::Command(vec![0x42; payload_bytes].into()) }
    }

    fn batch(&mut self, entry_count: usize) -> Batch {
        let entries = (0..entry_count).map(|_| {
            self.index = self.index.next();
            let entry = Entry::new(CLUSTER, self.index, Term(1), self.payload.clone(), self.chain);
            self.chain = entry.chain;
            entry
        });
        Batch { entries: entries.collect(), ..Batch::default() }
    }
}

fn open<D: Disk>(mut disk: D) -> Store<D> {
    let options = FormatOptions {
        store: StoreId([2; 16]),
        first_incarnation: Incarnation(1),
        segment_bytes: SEGMENT_BYTES,
    };
    Store::format(&mut disk, options).expect("an empty folder can be formatted");
    let (mut store, _) = Store::open(disk, OpenOptions::default()).expect("a formatted folder opens");
    store.record_cluster(CLUSTER).expect("a blank store takes a cluster");
    while store.maintain().expect("there is room for a spare") == Upkeep::More {}
    store
}

fn folder(name: &str) -> PathBuf {
    let root = std::env::var_os("RAFTGRAM_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    root.join(format!("raftgram-bench-{name}-{}", std::process::id()))
}

fn durable(c: &mut Criterion) {
    let mut group = c.benchmark_group("durable");
    for (name, entry_count, payload_bytes) in [("1x64B", 1, 64), ("64x64B", 64, 64), ("1x64KiB", 1, 65_536)] {
        let path = folder(name);
        let mut store = open(FolderDisk::open(&path).expect("a folder can be made"));
        let mut source = Source::new(payload_bytes);
        group.bench_function(name, |b| {
            b.iter(|| store.persist(&source.batch(entry_count)).expect("durable"));
        });
        drop(store);
        std::fs::remove_dir_all(&path).expect("the folder is ours");
    }
    let path = folder("vote");
    let mut store = open(FolderDisk::open(&path).expect("a folder can be made"));
    let mut term = Term(0);
    group.bench_function("vote", |b| {
        b.iter(|| {
            term = term.next();
            let hard_state = Some(HardState { term, vote: None });
            store.persist(&Batch { hard_state, ..Batch::default() }).expect("durable");
        });
    });
    drop(store);
    std::fs::remove_dir_all(&path).expect("the folder is ours");
    group.finish();
}

/// Single calls, so that the slow ones show: a mean hides the roll to a new segment.
fn percentiles(_: &mut Criterion) {
    let path = folder("percentiles");
    let mut store = open(FolderDisk::open(&path).expect("a folder can be made"));
    let mut source = Source::new(64);
    let batches: Vec<Batch> = (0..6_000).map(|_| source.batch(1)).collect();
    let mut micros: Vec<u128> = batches
        .iter()
        .map(|batch| {
            #[expect(
                clippy::disallowed_methods,
                clippy::disallowed_types,
                reason = "a bench reads the clock"
            )]
            let start = std::time::Instant::now();
            store.persist(black_box(batch)).expect("durable");
            let took = start.elapsed().as_micros();
            store.maintain().expect("there is room for a spare");
            took
        })
        .collect();
    micros.sort_unstable();
    let at = |per_mille: usize| micros[(micros.len() - 1) * per_mille / 1000];
    println!(
        "durable/1x64B, {} single calls: p50 {} us, p99 {} us, p99.9 {} us, max {} us",
        micros.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    drop(store);
    std::fs::remove_dir_all(&path).expect("the folder is ours");
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory");
    for (name, entry_count) in [("1x64B", 1), ("64x64B", 64)] {
        let mut store = open(MemoryDisk::new());
        let mut source = Source::new(64);
        group.bench_function(name, |b| {
            b.iter(|| store.persist(&source.batch(entry_count)).expect("durable"));
        });
    }
    group.finish();
}

criterion_group!(benches, percentiles, durable, memory);
criterion_main!(benches);
