//! What the room costs: two ends in memory, no socket, a clock that stands still between turns.
//!
//! Per round trip there are three turns' worth of work: request out, request in and answer out, answer in; each
//! acknowledgement rides on what goes out next. Vectors of datagrams are given back, so that what is left to allocate
//! is the request's body at its maker, one copy of it for the event at the callee, and the same two for the answer.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raftgram::rng::Rng;
use raftgram::rpc::{Event, LinkId, Local, LocalRole, Output, Rpc, RpcConfig, SealConfig};
use raftgram::seal::{Entropy, Key, KeyRing, KeyRole, SealMode, Secret, suite};
use raftgram::time::Instant;
use raftgram::types::{BootNonce, ClusterId, Identity, Incarnation, NodeId, PacketNumber, StoreId};
use raftgram::wire::{Class, Greeting};

struct Pair {
    ends: [Rpc; 2],
    addresses: [SocketAddr; 2],
    link: LinkId,
    now: Instant,
    datagrams: u64,
}

impl Pair {
    fn new(config: &RpcConfig) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut ends = [1, 2].map(|id| {
            let local = Local {
                role: LocalRole::Node {
                    identity: Identity { node: NodeId::new(id).unwrap(), store: StoreId([id as u8; 16]) },
                    incarnation: Incarnation(7),
                },
                boot_nonce: BootNonce([id as u8; 16]),
                cluster: ClusterId([7; 16]),
                greeting: Greeting::Plain,
                election_timeout_min: Duration::from_millis(250),
                election_timeout_max: Duration::from_millis(500),
                heartbeat: Duration::from_millis(25),
                first_packet: PacketNumber(1),
            };
            Rpc::new(config.clone(), local, Rng::from_seed(1), now).unwrap()
        });
        let addresses = ["10.0.0.1:7000", "10.0.0.2:7000"].map(|text| text.parse().unwrap());
        let link = ends[0].connect(now, addresses[1], None);
        let mut pair = Self { ends, addresses, link, now, datagrams: 0 };
        while pair.turn() {}
        pair
    }

    /// Both ends flush once, and what they say is handed over; true when anything was said. Requests are answered
    /// with their own bodies.
    fn turn(&mut self) -> bool {
        let mut has_moved = false;
        self.now += Duration::from_micros(50);
        for from in 0..2 {
            self.ends[from].flush(self.now);
            while let Some(output) = self.ends[from].poll_output() {
                has_moved = true;
                match output {
                    Output::Transmit { bytes, .. } => {
                        self.datagrams += 1;
                        self.ends[1 - from].handle_datagram(self.now, self.addresses[from], &bytes);
                        self.ends[from].recycle(bytes);
                    }
                    Output::Event(Event::Request { token, body, .. }) => {
                        self.ends[from].reply(self.now, token, body);
                        self.ends[from].flush(self.now);
                    }
                    Output::Event(_) => {}
                }
            }
        }
        has_moved
    }
}

/// The same plain and, where the cryptography is built in, sealed: the difference is what the seal costs.
fn calls(criterion: &mut Criterion) {
    calls_with(criterion, "rpc", &RpcConfig::default());
    if let Some(suite) = suite() {
        let key = Key { role: KeyRole::Cluster, secret: Secret::new([1; 32]) };
        let keys = KeyRing::new(suite, vec![key]).expect("one key");
        let seal = SealConfig {
            entropy: Some(Entropy::new(Secret::new([2; 32]))),
            ..SealConfig::with(SealMode::Require, Arc::new(keys))
        };
        calls_with(criterion, "rpc sealed", &RpcConfig { seal, ..RpcConfig::default() });
    }
}

fn calls_with(criterion: &mut Criterion, name: &str, config: &RpcConfig) {
    let mut group = criterion.benchmark_group(name);
    let mut pair = Pair::new(config);
    group.throughput(Throughput::Elements(1));
    group.bench_function("one call of 64 bytes, round trip", |bencher| {
        bencher.iter_batched(
            || vec![1; 64],
            |body| {
                pair.ends[0].call(pair.now, pair.link, Class::Once, body).unwrap();
                while pair.turn() {}
            },
            BatchSize::SmallInput,
        );
    });
    let mut pair = Pair::new(config);
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 calls of 64 bytes in one turn", |bencher| {
        bencher.iter_batched(
            || vec![vec![1; 64]; 64],
            |bodies| {
                for body in bodies {
                    pair.ends[0].call(pair.now, pair.link, Class::Once, body).unwrap();
                }
                while pair.turn() {}
            },
            BatchSize::SmallInput,
        );
    });
    let mut pair = Pair::new(config);
    group.throughput(Throughput::Bytes(2 << 20));
    group.bench_function("1 MiB there and back", |bencher| {
        bencher.iter_batched(
            || vec![1; 1 << 20],
            |body| {
                pair.ends[0].call(pair.now, pair.link, Class::Once, body).unwrap();
                while pair.turn() {}
            },
            BatchSize::SmallInput,
        );
    });
    let mut pair = Pair::new(config);
    group.throughput(Throughput::Elements(1));
    group.bench_function("one notice of 16 bytes", |bencher| {
        bencher.iter_batched(
            || vec![1; 16],
            |body| {
                pair.ends[0].notice(pair.now, pair.link, body).unwrap();
                while pair.turn() {}
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
