//! What consensus alone costs: three cores in one thread, their disks done at once, their messages handed over as they
//! are or through the wire's bytes (a datagram each: encoded, checksummed, checked and decoded).
//!
//! `cargo bench --bench raft`. Prints the allocations per commit first, then criterion's times; a commit is done when
//! the leader has told of it and no message is under way.

mod counting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raftgram::entry::Payload;
use raftgram::membership::{Member, Membership};
use raftgram::message::Message;
use raftgram::raft::{Output, Raft, RaftConfig, ReplyToken, Restored, RoleKind};
use raftgram::rng::Rng;
use raftgram::snapshot::{SnapshotId, SnapshotMeta};
use raftgram::time::Instant;
use raftgram::types::{
    CallId, ClusterId, GroupId, HardState, Identity, Incarnation, Index, NodeId, PacketNumber, StoreId,
};
use raftgram::wire::peer::{decode_message, encode_message};
use raftgram::wire::{Class, Flags, Frame, Header, Party, begin, decode, finish};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const NODES: u16 = 3;
const VALUE_BYTES: usize = 64;
/// Every so many commits the log is compacted, so that memory stays level.
const COMPACT_EVERY: u64 = 65_536;

/// A message under way.
struct Letter {
    from: Identity,
    to: usize,
    message: Message,
    token: Option<ReplyToken>,
}

struct Cores {
    cores: Vec<Raft>,
    letters: VecDeque<Letter>,
    now: Instant,
    committed: Index,
    value: Arc<[u8]>,
    wire: Option<Wire>,
}

impl Cores {
    fn new(wire: Option<Wire>) -> Self {
        let now = Instant::ZERO;
        let identity = |number: u16| {
            let node = NodeId::new(number).expect("not zero");
            Identity { node, store: StoreId([number as u8; 16]) }
        };
        let member = |number: u16| {
            let Identity { node, store } = identity(number);
            (node, Member { store, address: format!("127.0.0.1:{number}") })
        };
        let membership = Membership::of_voters((1..=NODES).map(member).collect());
        let core = |number: u16| {
            let config = RaftConfig::new(identity(number), Incarnation(1), CLUSTER);
            let restored = Restored::new(HardState::default(), membership.clone(), Vec::new());
            Raft::new(config, restored, Rng::from_seed(u64::from(number)), now)
        };
        let value = [b'v'; VALUE_BYTES].into();
        let cores = (1..=NODES).map(core).collect();
        let mut cores = Self { cores, letters: VecDeque::new(), now, committed: Index(0), value, wire };
        while cores.cores[0].role() != RoleKind::Leader {
            let core = &mut cores.cores[0];
            cores.now = core.poll_timeout().expect("it campaigns").max(cores.now + Duration::from_millis(1));
            core.handle_timeout(cores.now);
            cores.settle();
        }
        cores
    }

    /// Proposes so many commands at once and sees them committed.
    fn commit(&mut self, count: u64) {
        for _ in 0..count {
            let proposed = self.cores[0].propose(self.now, Payload::Command(Arc::clone(&self.value)));
            proposed.expect("it leads, and its log has room");
        }
        let last = self.cores[0].last_index();
        self.settle();
        assert_eq!(self.committed, last, "all of it is committed");
        if last.0 % COMPACT_EVERY < count {
            self.compact();
        }
    }

    /// Until nothing is under way.
    fn settle(&mut self) {
        loop {
            for place in 0..self.cores.len() {
                self.drain(place);
            }
            if self.letters.is_empty() {
                return;
            }
            while let Some(letter) = self.letters.pop_front() {
                let message = match &mut self.wire {
                    Some(wire) => wire.carry(&letter.message),
                    None => letter.message,
                };
                self.cores[letter.to].handle_message(self.now, letter.from, message, letter.token);
            }
        }
    }

    fn drain(&mut self, place: usize) {
        let from = self.cores[place].config().identity;
        let place_of = |node: NodeId| usize::from(node.as_u16()) - 1;
        while let Some(output) = self.cores[place].poll_output() {
            let letter = |to, message, token| Letter { from, to, message, token };
            match output {
                Output::Request { to, message } => {
                    let token = Some(ReplyToken(place as u64));
                    self.letters.push_back(letter(place_of(to), message, token));
                }
                Output::Reply { token, message } => {
                    self.letters.push_back(letter(token.0 as usize, message, None));
                }
                Output::Notice { to, message } => {
                    self.letters.push_back(letter(place_of(to), message, None));
                }
                Output::Persist { ticket, .. } => self.cores[place].handle_persisted(self.now, ticket),
                Output::Commit { index } if place == 0 => self.committed = index,
                _ => {}
            }
        }
    }

    fn compact(&mut self) {
        for core in &mut self.cores {
            let entry = core.entry(core.commit()).expect("it was just committed");
            let id = SnapshotId { index: entry.index, term: entry.term, chain: entry.chain };
            core.compact(self.now, SnapshotMeta { id, bytes: 1, digest: 1 });
        }
        self.settle();
    }
}

/// Takes messages through bytes, in vectors that are kept.
#[derive(Default)]
struct Wire {
    body: Vec<u8>,
    bytes: Vec<u8>,
    packet: u64,
}

impl Wire {
    fn carry(&mut self, message: &Message) -> Message {
        let Self { body, bytes, packet } = self;
        *packet += 1;
        let header = Header {
            flags: Flags::ACK_ELICITING,
            cluster_tag: CLUSTER.tag(),
            source: Party::Node(NodeId::MIN),
            destination: Party::Node(NodeId::MAX),
            source_incarnation: Incarnation(1),
            destination_incarnation: Incarnation(1),
            packet: PacketNumber(*packet),
        };
        body.clear();
        bytes.clear();
        encode_message(GroupId(0), message, body);
        begin(bytes, &header);
        Frame::Request { call: CallId(*packet), class: Class::Again, body }.encode(bytes);
        finish(bytes, CLUSTER);
        let datagram = decode(bytes, CLUSTER).expect("a good datagram");
        match datagram.frames().next() {
            Some(Frame::Request { body, .. }) => decode_message(body).expect("a good body").1,
            other => panic!("{other:?}"),
        }
    }
}

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    for (path, is_wired) in [("in memory", false), ("through the wire's bytes", true)] {
        for batch in [1, 64] {
            let mut cores = Cores::new(is_wired.then(Wire::default));
            cores.commit(batch);
            const ROUNDS: u64 = 1000;
            let before = counting::allocations();
            (0..ROUNDS).for_each(|_| cores.commit(batch));
            let allocations = (counting::allocations() - before) as f64 / (ROUNDS * batch) as f64;
            let name = format!("{batch} at once, {path}");
            println!("{name}: {allocations:.2} allocations per commit of {NODES} nodes");
            group.throughput(Throughput::Elements(batch));
            group.bench_function(name, |bencher| bencher.iter(|| cores.commit(batch)));
        }
    }
    group.finish();
}

criterion_group!(benches, commits);
criterion_main!(benches);
