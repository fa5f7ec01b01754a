//! How long a snapshot holds up a node: taking one, writing on while it is written, merging afterwards, and having the
//! state replaced by another.
//!
//! `cargo bench --bench stall` measures 64 MiB; `RAFTGRAM_STALL_MIB=1024` a gibibyte. One lone node, one client with 31
//! writes open, a snapshot thread and a folder under the system's temporary one (`RAFTGRAM_BENCH_DIR` names another).
//! Each line is the longest single turn of its phase, in time on the wall and in time on the processor: the difference
//! is what other programs took.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use raftgram::client::{Client, ClientConfig, Output as ClientOutput};
use raftgram::founding::FoundingRecord;
use raftgram::kv::{Command, Kv};
use raftgram::machine::Machine;
use raftgram::membership::{Member, Membership};
use raftgram::node::{Node, NodeConfig, NodeStart, Output, SnapshotDone, SnapshotJob};
use raftgram::rng::Rng;
use raftgram::run::clock::Clock;
use raftgram::run::disk::FolderDisk;
use raftgram::session::Limits;
use raftgram::snapshot::SnapshotMeta;
use raftgram::store::Adopted;
use raftgram::types::{BootNonce, ClusterId, HardState, Incarnation, Index, NodeId, StoreId};
use slog::{Discard, Logger, o};

/// As in the program.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const STORE: StoreId = StoreId([1; 16]);
const VALUE_BYTES: usize = 1000;

/// A node without a log on disk, and the thread that its snapshots go to.
struct Lone {
    clock: Clock,
    node: Node<Kv>,
    client: Client,
    jobs: Sender<SnapshotJob<Kv>>,
    done: Receiver<SnapshotDone<Kv>>,
    keys: u64,
    written: u64,
    open: usize,
    /// Asked of the node in the next turn.
    ask: Option<Ask>,
    longest: Longest,
}

#[derive(Clone, Copy)]
enum Ask {
    Take,
    Load(SnapshotMeta),
}

#[derive(Default)]
struct Longest {
    wall: Duration,
    processor: Duration,
    turns: u64,
}

/// Time that this thread was on a processor.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn value(n: u64) -> [u8; VALUE_BYTES] {
    let mut value = [n as u8; VALUE_BYTES];
    value[..8].copy_from_slice(&n.to_be_bytes());
    value
}

fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    // Spread, so that changes hit the whole tree.
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key
}

impl Lone {
    fn start(keys: u64, disk: FolderDisk) -> Self {
        let mut machine = Kv::new();
        for n in 0..keys {
            machine.apply(Index(0), &Command::Put { key: &key(n), value: &value(n) }.to_bytes());
        }
        let clock = Clock::start();
        let address: SocketAddr = ([127, 0, 0, 1], 7101).into();
        let member = Member { store: STORE, address: address.to_string() };
        let membership = Membership::of_voters([(NodeId::MIN, member)].into());
        let cluster = ClusterId([1; 16]);
        let start = NodeStart {
            store: STORE,
            incarnation: Incarnation(1),
            boot_nonce: BootNonce([1; 16]),
            cluster,
            founding: Some(FoundingRecord { cluster, membership }),
            hard_state: HardState::default(),
            snapshot: None,
            entries: Vec::new(),
            remains: None,
            damage: Vec::new(),
        };
        let config = NodeConfig::new(NodeId::MIN, address.to_string());
        let mut rng = Rng::from_seed(1);
        let client = Client::new(ClientConfig::default(), &[address], rng.fork(), clock.now());
        let node = Node::new(config, start, machine, &Logger::root(Discard, o!()), rng, clock.now());
        let (jobs, done) = snapshot_thread(disk);
        let longest = Longest::default();
        let mut lone =
            Self { clock, node, client, jobs, done, keys, written: 0, open: 31, ask: None, longest };
        while !lone.node.raft().is_settled_leader() {
            lone.turn();
        }
        // No snapshot but the one that is asked for.
        let limits = Limits { snapshot_bytes: 1 << 40, ..Limits::FOUNDING };
        lone.node.propose_limits(lone.clock.now(), limits).expect("it leads");
        lone
    }

    /// One turn of the node, measured, and what it asks for. Clients write while fewer than 31 writes are open.
    fn turn(&mut self) {
        while self.open < 31 {
            let n = self.written.wrapping_mul(7919) % self.keys;
            let put = Command::Put { key: &key(n), value: &value(self.written) }.to_bytes();
            self.client.propose(put, self.clock.now() + Duration::from_secs(60));
            self.written += 1;
            self.open += 1;
        }
        self.client.handle_timeout(self.clock.now());
        self.client.turn(self.clock.now());
        let mut to_node = Vec::new();
        while let Some(output) = self.client.poll_output() {
            match output {
                ClientOutput::Transmit { bytes, .. } => to_node.push(bytes),
                ClientOutput::Done { result, .. } => {
                    result.expect("a lone leader answers");
                    self.open -= 1;
                }
            }
        }
        let from: SocketAddr = ([127, 0, 0, 1], 9).into();
        let done: Vec<_> = self.done.try_iter().collect();
        let mut to_client = Vec::new();
        let (wall, processor) = (self.clock.now(), processor_time());
        to_node.iter().for_each(|bytes| {
            self.node.handle_datagram(self.clock.now(), from, bytes);
        });
        done.into_iter().for_each(|done| self.node.handle_snapshot_done(self.clock.now(), done));
        match self.ask.take() {
            Some(Ask::Take) => drop(self.node.take_snapshot()),
            Some(Ask::Load(meta)) => self.node.load_snapshot(meta),
            None => {}
        }
        self.node.handle_timeout(self.clock.now());
        self.node.turn(self.clock.now());
        let mut outputs = VecDeque::new();
        while let Some(output) = self.node.poll_output() {
            outputs.push_back(output);
        }
        while let Some(output) = outputs.pop_front() {
            let now = self.clock.now();
            match output {
                Output::Transmit { bytes, .. } => to_client.push(bytes),
                Output::Persist { ticket, .. } => self.node.handle_persisted(now, ticket),
                Output::Snapshot(job) => self.jobs.send(job).expect("the thread runs"),
                Output::AdoptSnapshot { meta, .. } => {
                    self.node.handle_snapshot_adopted(now, meta, Adopted::Yes { replaced: None });
                }
                _ => {}
            }
        }
        let processor = processor_time() - processor;
        let wall = self.clock.now().saturating_since(wall);
        self.longest.wall = self.longest.wall.max(wall);
        self.longest.processor = self.longest.processor.max(processor);
        self.longest.turns += 1;
        let address: SocketAddr = ([127, 0, 0, 1], 7101).into();
        to_client.iter().for_each(|bytes| {
            self.client.handle_datagram(self.clock.now(), address, bytes);
        });
    }

    /// Turns until something has happened, and prints the longest of them.
    fn phase(&mut self, name: &str, mut is_over: impl FnMut(&Self) -> bool) {
        self.longest = Longest::default();
        let (began, written) = (self.clock.now(), self.written);
        while !is_over(self) {
            self.turn();
        }
        let Longest { wall, processor, turns } = &self.longest;
        let took = self.clock.now().saturating_since(began);
        println!(
            "{name:<49} longest turn {:>8.3} ms on the wall, {:>7.3} ms on the processor; {turns} turns, \
             {} writes, {:.2} s",
            wall.as_secs_f64() * 1e3,
            processor.as_secs_f64() * 1e3,
            self.written - written,
            took.as_secs_f64(),
        );
    }
}

fn snapshot_thread(mut disk: FolderDisk) -> (Sender<SnapshotJob<Kv>>, Receiver<SnapshotDone<Kv>>) {
    let (jobs, receiver) = channel::<SnapshotJob<Kv>>();
    let (sender, done) = channel();
    let serve = move || {
        for job in receiver {
            let what = format!("{job:?}");
            let clock = Clock::start();
            let began = clock.now();
            let result = job.carry_out(&mut disk).expect("the disk works");
            let took = clock.now().saturating_since(began);
            println!("  snapshot thread: {what} in {:.2} s", took.as_secs_f64());
            if sender.send(result).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("snapshot".to_owned()).spawn(serve).expect("a thread can be made");
    (jobs, done)
}

fn main() {
    let mebibytes: u64 =
        std::env::var("RAFTGRAM_STALL_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    let keys = (mebibytes << 20) / VALUE_BYTES as u64;
    let base = std::env::var_os("RAFTGRAM_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = base.join(format!("raftgram-stall-{}", std::process::id()));
    let disk = FolderDisk::open(&folder).expect("a folder can be made");
    println!("{keys} keys with {VALUE_BYTES} bytes each");

    let second = disk.share().expect("a folder can be shared");
    let mut lone = Lone::start(keys, disk);
    // Writes begin.
    lone.open = 0;
    let mut left = 20_000;
    lone.phase("before: writes only", |_| {
        left -= 1;
        left == 0
    });
    lone.ask = Some(Ask::Take);
    lone.phase("taking: freeze, and writes meanwhile", |lone| lone.node.snapshot().is_some());
    let meta = lone.node.snapshot().expect("the phase ends with one");
    let mut left = 20_000;
    lone.phase("after: merging what changed meanwhile", |_| {
        left -= 1;
        left == 0
    });
    drop(lone);

    // Another node with as large a state, which is replaced by the snapshot.
    let mut other = Lone::start(keys, second);
    other.ask = Some(Ask::Load(meta));
    other.phase("replacing: the new state is loaded and swapped in", |lone| {
        lone.node.status().applied >= meta.id.index
    });
    let end = other.clock.now() + Duration::from_secs(3);
    other.phase("dropping: the state before is freed", |lone| lone.clock.now() >= end);
    fs::remove_dir_all(&folder).expect("the folder can be removed");
}
