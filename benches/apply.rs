//! What it costs to apply one committed command: the session table with the key-value machine behind it.
//!
//! `cargo bench --bench apply`. Prints the allocations per operation first, then criterion's times.

mod counting;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use raftgram::kv::{self, Kv};
use raftgram::machine::Machine;
use raftgram::session::{Command, Outcome, Ranges, Sessions};
use raftgram::types::{Index, Sequence, SessionId, Term};

const KEYS: u64 = 10_000;

/// A replica with clients that each have one write open at a time.
struct Replica {
    sessions: Sessions,
    machine: Kv,
    last: Index,
    clients: Vec<(SessionId, u64)>,
    value: Vec<u8>,
}

impl Replica {
    fn new(clients: usize, value_bytes: usize) -> Self {
        let (sessions, value) = (Sessions::new(), vec![b'v'; value_bytes]);
        let mut replica = Self { sessions, machine: Kv::new(), last: Index(0), clients: Vec::new(), value };
        for _ in 0..clients {
            match replica.apply(&Command::Open.to_bytes()) {
                Outcome::Opened { session } => replica.clients.push((session, 0)),
                other => panic!("{other:?}"),
            }
        }
        for _ in 0..KEYS {
            let write = replica.next_write();
            replica.apply(&write);
        }
        replica
    }

    fn apply(&mut self, bytes: &[u8]) -> Outcome {
        self.last = self.last.next();
        self.sessions.apply(self.last, Term(1), bytes, &mut self.machine)
    }

    /// The entry of the next client's next write: a put that overwrites one of the keys.
    fn next_write(&mut self) -> Vec<u8> {
        let client = usize::try_from(self.last.0).expect("small") % self.clients.len();
        let (session, finished) = self.clients[client];
        self.clients[client].1 += 1;
        let ranges = if finished == 0 { vec![] } else { vec![(1, finished)] };
        let finished_ranges = Ranges::from_pairs(&ranges).expect("one range");
        let key = (self.last.0 % KEYS).to_be_bytes();
        let put = kv::Command::Put { key: &key, value: &self.value }.to_bytes();
        let sequence = Sequence(finished + 1);
        Command::Write { session, sequence, finished: finished_ranges, command: &put }.to_bytes()
    }
}

/// Times one operation whose bytes are made outside the measurement, and prints its allocations.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    mut bytes: impl FnMut() -> Vec<u8>,
    mut run: impl FnMut(&[u8]),
) {
    const SAMPLE: usize = 1000;
    let inputs: Vec<_> = (0..SAMPLE).map(|_| bytes()).collect();
    let before = counting::allocations();
    inputs.iter().for_each(|input| run(input));
    let allocations = counting::allocations() - before;
    println!("{name}: {:.2} allocations per operation", allocations as f64 / SAMPLE as f64);
    criterion.bench_function(name, |bencher| {
        bencher.iter_batched(&mut bytes, |input| run(&input), criterion::BatchSize::SmallInput);
    });
}

fn machine_alone(criterion: &mut Criterion) {
    for value_bytes in [100, 64 << 10] {
        let value = vec![b'v'; value_bytes];
        let (mut kv, mut number) = (Kv::new(), 0u64);
        let put = || {
            number += 1;
            kv::Command::Put { key: &(number % KEYS).to_be_bytes(), value: &value }.to_bytes()
        };
        let mut index = Index(0);
        measure(criterion, &format!("kv put of {value_bytes} bytes"), put, |input| {
            index = index.next();
            black_box(kv.apply(index, input));
        });
    }
}

fn machine_behind_sessions(criterion: &mut Criterion) {
    for clients in [1, 64, 4096] {
        let mut replica = Replica::new(clients, 100);
        // Entries are built ahead of their turn, so the log position they are drawn from moves with them.
        let mut ahead = Replica::new(clients, 100);
        let write = || {
            let write = ahead.next_write();
            ahead.last = ahead.last.next();
            write
        };
        measure(criterion, &format!("write of {clients} sessions"), write, |input| {
            let outcome = replica.apply(input);
            assert!(matches!(outcome, Outcome::Applied { is_repeat: false, .. }), "{outcome:?}");
        });
    }
}

fn repeat(criterion: &mut Criterion) {
    let mut replica = Replica::new(64, 100);
    let write = replica.next_write();
    replica.apply(&write);
    measure(
        criterion,
        "repeat answered from the table",
        || write.clone(),
        |input| {
            let outcome = replica.apply(input);
            assert!(matches!(outcome, Outcome::Applied { is_repeat: true, .. }), "{outcome:?}");
        },
    );
}

criterion_group!(benches, machine_alone, machine_behind_sessions, repeat);
criterion_main!(benches);
