//! A whole node on a disk in memory. Its peers and its client are puppets: their links are honest, so that what they
//! say is heard, and what they say is anything. Now and then somebody without a link speaks, a write is slow, time
//! passes, the process ends and comes back, the power fails.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use raftgram::entry::{self, Payload};
use raftgram::founding::FoundingRecord;
use raftgram::kv::{Command as KvCommand, Kv};
use raftgram::membership::{Member, Membership};
use raftgram::message::{
    Append, AppendEntry, AppendOutcome, AppendReply, Heartbeat, HeartbeatReply, Message, VoteReply,
    VoteRequest,
};
use raftgram::node::{Node, NodeConfig, NodeStart, Output, PeerRecord, snapshot};
use raftgram::raft::{self, Ticket};
use raftgram::rng::Rng;
use raftgram::rpc::{Local, Output as RpcOutput, Rpc, RpcConfig};
use raftgram::session::Command;
use raftgram::store::{
    Batch, FormatOptions, MemoryDisk, OpenOptions, PeerSeen, Recovered, Store, StoreError,
};
use raftgram::time::Instant;
use raftgram::types::{
    BootNonce, GroupId, Incarnation, Index, NodeId, Round, Sequence, SessionId, StoreId, Term,
};
use raftgram::wire::body::NUMBER_MAX;
use raftgram::wire::client::{ClientRequest, Propose, ReadLevel, encode_request};
use raftgram::wire::peer::encode_message;
use raftgram::wire::{Class, Flags, HEADER_BYTES, Header, Party, Ranges, begin};
use slog::{Discard, Logger, o};

use super::input::{Input, steer};
use super::links::{address, incarnation, local, tight};
use super::pool::{CLUSTER, Pool, seal};

const NODE: u16 = 1;
const CLIENT: u16 = 9;
const STRANGER: u16 = 13;
const SEGMENT_BYTES: u64 = 64 * 1024;
/// Datagrams handed on before the next thing happens.
const ROUNDS_MAX: usize = 32;

struct World {
    now: Instant,
    rng: Rng,
    node: Node<Kv>,
    store: Store<MemoryDisk>,
    puppets: BTreeMap<u16, Rpc>,
    /// Writes that are durable, and of which the node has not heard.
    written: VecDeque<Ticket>,
    is_slow: bool,
    steps: u64,
}

/// Runs what the input says, and tells how many things happened to the node.
pub(crate) fn run(data: &[u8]) -> u64 {
    let world = steer(data, World::new, |world, input| {
        world.step(input);
        raft::invariant::check(world.node.raft());
    });
    world.steps
}

fn member(number: u16) -> (NodeId, Member) {
    let id = NodeId::new(number).expect("no number here is 0");
    (id, Member { store: StoreId([number as u8; 16]), address: address(number).to_string() })
}

/// A folder that was founded with three voters and never used.
fn founded() -> MemoryDisk {
    static DISK: OnceLock<MemoryDisk> = OnceLock::new();
    let made = DISK.get_or_init(|| {
        let mut disk = MemoryDisk::new();
        let options = FormatOptions {
            store: StoreId([NODE as u8; 16]),
            first_incarnation: Incarnation(incarnation(NODE).0 - 2),
            segment_bytes: SEGMENT_BYTES,
        };
        Store::format(&mut disk, options).expect("a disk in memory takes a folder");
        let (mut store, _) = Store::open(disk, options_of()).expect("it was just made");
        let membership = Membership::of_voters((1..=3).map(member).collect());
        store.record_founding(&FoundingRecord { cluster: CLUSTER, membership }).expect("it can be founded");
        store.into_disk()
    });
    made.clone()
}

fn options_of() -> OpenOptions {
    OpenOptions { segment_bytes: SEGMENT_BYTES, ..OpenOptions::default() }
}

fn boot(
    mut store: Store<MemoryDisk>,
    found: Recovered,
    rng: &mut Rng,
    now: Instant,
) -> (Node<Kv>, Store<MemoryDisk>) {
    let mut machine = Kv::new();
    let snapshot = found.snapshot.as_ref().map(|file| {
        snapshot::load(store.disk_mut(), file, &mut machine).expect("the disk keeps what it was given")
    });
    let start = NodeStart {
        store: found.store,
        incarnation: found.incarnation,
        boot_nonce: BootNonce(rng.bytes16()),
        cluster: found.cluster,
        founding: found.founding,
        hard_state: found.hard_state,
        snapshot,
        entries: found.entries,
        remains: found.remains,
        damage: found.damage,
    };
    let mut config = NodeConfig::new(member(NODE).0, address(NODE).to_string());
    config.rpc = tight();
    config.command_bytes_max = 8 * 1024;
    config.waiting_max = 16;
    config.log_tail_bytes = 4096;
    config.limits.reorder_bytes_max = 4096;
    config.limits.reads_max = 16;
    config.limits.append_bytes_max = 8 * 1024;
    let node = Node::new(config, start, machine, &Logger::root(Discard, o!()), rng.fork(), now);
    (node, store)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        let now = Instant::from_nanos(1_000_000);
        let (store, found) = Store::open(founded(), options_of()).expect("it was just made");
        let (node, store) = boot(store, found, &mut rng, now);
        let mut puppet = |number, local: Local| {
            let config = RpcConfig { calls_open_max: 64, ..tight() };
            let mut rpc = Rpc::new(config, local, rng.fork(), now).expect("the settings are good");
            rpc.connect(now, address(NODE), NodeId::new(NODE));
            (number, rpc)
        };
        let client = Local::client(BootNonce([CLIENT as u8; 16]));
        let puppets = BTreeMap::from([puppet(2, local(2)), puppet(3, local(3)), puppet(CLIENT, client)]);
        let written = VecDeque::new();
        let mut world = Self { now, rng, node, store, puppets, written, is_slow: false, steps: 0 };
        world.settle();
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        self.steps += 1;
        match input.byte() % 24 {
            0..7 => self.lie(input),
            7..10 => {
                let body = Pool::shared().body(input);
                let speaker = [2, 3, CLIENT][input.place(3)];
                self.say(speaker, body, input);
            }
            10..13 => self.ask(input),
            13..15 => self.intrude(input),
            15..19 => {
                self.now += Duration::from_micros(1 << (input.byte() % 22));
                self.settle();
            }
            19 => self.is_slow = input.byte() & 3 == 0,
            20 | 21 => {
                let ticket = self.written.pop_front();
                ticket.into_iter().for_each(|ticket| self.node.handle_persisted(self.now, ticket));
                self.settle();
            }
            22 if input.byte() & 7 == 0 => self.restart(input),
            22 => {
                let _mark = self.node.take_snapshot();
            }
            _ => self.settle(),
        }
    }

    /// A member says what a member might say, in a term and of an index near the node's.
    fn lie(&mut self, input: &mut Input<'_>) {
        let message = self.message(input);
        let mut body = Vec::new();
        encode_message(GroupId(0), &message, &mut body);
        let speaker = [2, 3][input.place(2)];
        self.say(speaker, body, input);
    }

    fn message(&self, input: &mut Input<'_>) -> Message {
        let raft = self.node.raft();
        let own = raft.term().0;
        let bound = NUMBER_MAX - 8;
        let term = Term(match input.byte() {
            0 => bound - 1,
            1..30 => own + 1,
            30..60 => own.saturating_sub(1),
            _ => own,
        });
        let near = |input: &mut Input<'_>, number: u64| match input.byte() {
            0..8 => input.number().min(bound),
            other => (number + u64::from(other & 7)).saturating_sub(4),
        };
        let index = Index(near(input, raft.last_index().0));
        let round = Round(near(input, 4));
        let campaign = (1 << 30) + u64::from(input.byte() & 3);
        let yes = input.byte() & 3 != 0;
        let last_term = Term(near(input, own).min(term.0).max(u64::from(index.0 > 0)));
        let vote = |campaign_term| VoteRequest {
            term,
            campaign_term,
            campaign,
            last_index: index,
            last_term: if index.0 == 0 { Term(0) } else { last_term },
            is_transfer: !yes,
        };
        let reply = |campaign_term| VoteReply { term, campaign_term, campaign, is_granted: yes };
        match input.byte() % 11 {
            0 => Message::PreVote(vote(Term(term.0 + 1))),
            1 => Message::PreVoteReply(reply(Term(term.0 + 1))),
            2 => Message::Vote(vote(term)),
            3 => Message::VoteReply(reply(term)),
            4..7 => Message::Append(self.append(term, input)),
            7 => Message::Heartbeat(Heartbeat { term, round, commit: index }),
            8 => Message::HeartbeatReply(HeartbeatReply { term, round }),
            _ => {
                let attempt = u64::from(input.byte() & 3);
                let outcome = match input.byte() & 3 {
                    0 => AppendOutcome::Refused {
                        prev_index: index,
                        conflict_term: last_term,
                        conflict_index: Index(near(input, index.0)),
                        last_index: Index(near(input, index.0)),
                    },
                    1 => AppendOutcome::Evicted { prev_index: index },
                    _ => AppendOutcome::Accepted { match_index: index },
                };
                Message::AppendReply(AppendReply { term, attempt, outcome })
            }
        }
    }

    /// Entries that go on after one that the node has, most of them with the right chain value.
    fn append(&self, term: Term, input: &mut Input<'_>) -> Append {
        let raft = self.node.raft();
        let (first, last) = (raft.base().index.0, raft.last_index().0);
        let prev = last.saturating_sub(u64::from(input.byte() & 3)).max(first);
        let prev_term = raft.term_at(Index(prev)).unwrap_or(Term(0));
        // No encoder writes an entry of a later term than its leader's.
        let term = term.max(prev_term).max(Term(1));
        let mut chain = raft.entry(Index(prev)).map_or(raft.base().chain, |entry| entry.chain);
        let mut entries = Vec::new();
        for place in 1..=u64::from(input.byte() & 3) {
            let payload = match input.byte() {
                0..8 => Payload::Noop,
                8..16 => Payload::Command(input.slice(12).to_vec().into()),
                16..28 => {
                    let learner = 4 + u16::from(input.byte() & 3);
                    let mut membership = Membership::of_voters((1..=3).map(member).collect());
                    membership.learners.extend([member(learner)]);
                    Payload::Membership(membership.into())
                }
                _ => Payload::Command(command(input).into()),
            };
            let entry_term =
                Term(term.0.saturating_sub(u64::from(input.byte() == 0)).max(prev_term.0).max(1));
            chain = entry::chain(CLUSTER, Index(prev + place), entry_term, &payload, chain);
            entries.push(AppendEntry { term: entry_term, payload });
        }
        let wrong = u32::from(input.byte() == 0);
        let commit = Index((last + u64::from(input.byte() & 3)).saturating_sub(1));
        let attempt = u64::from(input.byte() & 1);
        let chain = chain ^ wrong;
        Append { term, attempt, prev_index: Index(prev), prev_term, commit, entries, chain }
    }

    /// A client asks for something sensible.
    fn ask(&mut self, input: &mut Input<'_>) {
        let written = KvCommand::Put { key: input.slice(2), value: input.slice(4) }.to_bytes();
        let session = SessionId(Index(u64::from(input.byte() & 15)));
        let sequence = Sequence(u64::from(input.byte() & 31));
        let levels = [ReadLevel::Local, ReadLevel::Linearizable, ReadLevel::Lease, ReadLevel::AnyNode];
        let request = match input.byte() % 6 {
            0 => ClientRequest::OpenSession,
            1 => ClientRequest::CloseSession { session },
            2 => ClientRequest::Read { level: levels[input.place(4)], query: input.slice(8) },
            3 => ClientRequest::Status,
            _ => ClientRequest::Propose(Propose {
                session,
                sequence,
                finished: Ranges::of(&[]),
                command: &written,
            }),
        };
        let mut body = Vec::new();
        encode_request(GroupId(0), &request, &mut body);
        self.say(CLIENT, body, input);
    }

    fn say(&mut self, speaker: u16, body: Vec<u8>, input: &mut Input<'_>) {
        let puppet = self.puppets.get_mut(&speaker).expect("every puppet is there");
        let link = puppet.links().next();
        if let Some(link) = link {
            let class = [Class::Again, Class::Once][usize::from(speaker == CLIENT)];
            if input.byte() & 3 == 0 {
                let _taken = puppet.notice(self.now, link, body);
            } else {
                let _taken = puppet.call(self.now, link, class, body);
            }
        }
        self.settle();
    }

    /// Somebody speaks for a puppet, or for a node that nobody knows.
    fn intrude(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let named = [2, 3, 4, 5][usize::from(choice & 3)];
        let is_greeting = choice & 4 == 0;
        let header = Header {
            flags: Flags(input.byte() & !Flags::SEALED.0),
            cluster_tag: CLUSTER.tag(),
            source: NodeId::new(named).map_or(Party::Any, Party::Node),
            destination: NodeId::new(NODE).map_or(Party::Any, Party::Node),
            source_incarnation: Incarnation(incarnation(named).0 + u32::from(choice >> 6)),
            destination_incarnation: if is_greeting {
                Incarnation::UNKNOWN
            } else {
                self.store.incarnation()
            },
            packet: raftgram::types::PacketNumber(1 + u64::from(input.u16())),
        };
        let mut datagram = Vec::with_capacity(HEADER_BYTES + 512);
        begin(&mut datagram, &header);
        Pool::shared().add_frames(&mut datagram, input);
        if is_greeting {
            raftgram::wire::pad_to(&mut datagram, 256);
        }
        seal(&mut datagram, CLUSTER);
        let from = if choice & 8 == 0 { STRANGER } else { named };
        self.node.handle_datagram(self.now, address(from), &datagram);
        self.settle();
    }

    /// The process ends, or the machine loses power; what was acknowledged is there again.
    fn restart(&mut self, input: &mut Input<'_>) {
        let before = self.node.raft().durable_hard_state();
        let store =
            std::mem::replace(&mut self.store, Store::open(founded(), options_of()).expect("a folder").0);
        let mut disk = store.into_disk();
        if input.byte() & 1 == 0 {
            disk.crash(&mut self.rng);
        }
        let opened = Store::open(disk, options_of());
        let (store, found) =
            opened.unwrap_or_else(|error| panic!("a folder is refused after a crash: {error}"));
        assert!(found.hard_state.term >= before.term, "{before:?} became {:?}", found.hard_state);
        self.written.clear();
        (self.node, self.store) = boot(store, found, &mut self.rng, self.now);
        self.settle();
    }

    /// Hands on what is said until nothing more is.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.node.handle_timeout(self.now);
            self.node.turn(self.now);
            while let Some(output) = self.node.poll_output() {
                self.carry_out(output);
            }
            let mut said = Vec::new();
            for (number, puppet) in &mut self.puppets {
                puppet.handle_timeout(self.now);
                puppet.flush(self.now);
                while let Some(output) = puppet.poll_output() {
                    // What the node asks of its peers is never answered as it hopes.
                    if let RpcOutput::Transmit { bytes, .. } = output {
                        said.push((*number, bytes));
                    }
                }
            }
            if said.is_empty() {
                return;
            }
            for (from, bytes) in said {
                self.steps += 1;
                self.node.handle_datagram(self.now, address(from), &bytes);
            }
        }
    }

    fn carry_out(&mut self, output: Output<Kv>) {
        match output {
            Output::Transmit { to, bytes } => {
                if let Some(puppet) = self.puppets.get_mut(&to.port()) {
                    puppet.handle_datagram(self.now, address(NODE), &bytes);
                }
            }
            Output::Persist { ticket, hard_state, truncate_from, entries } => {
                let batch = Batch { hard_state, truncate_from, entries };
                self.store.persist(&batch).expect("the disk has room and does not fail");
                self.store.maintain().expect("the disk has room and does not fail");
                self.written.push_back(ticket);
                while !self.is_slow && !self.written.is_empty() {
                    let ticket = self.written.pop_front().expect("it is not empty");
                    self.node.handle_persisted(self.now, ticket);
                }
            }
            Output::RecordPeer { store, incarnation, nonce, kept } => {
                let seen = match self.store.record_peer(store, incarnation, nonce, &kept) {
                    Ok(PeerSeen::Adopted) => PeerRecord::Adopted,
                    Ok(PeerSeen::Copy { .. }) => PeerRecord::Copy,
                    Err(StoreError::PeersFull) => PeerRecord::NoRoom,
                    Err(error) => panic!("the disk does not fail: {error}"),
                };
                self.node.handle_peer_recorded(self.now, store, incarnation, nonce, seen);
            }
            Output::Snapshot(job) => {
                let done = job.carry_out(self.store.disk_mut()).expect("the disk does not fail");
                self.node.handle_snapshot_done(self.now, done);
            }
            Output::AdoptSnapshot { meta, log } => {
                let adopted = self.store.adopt_snapshot(meta, log).expect("the disk does not fail");
                self.node.handle_snapshot_adopted(self.now, meta, adopted);
            }
            _ => {}
        }
        self.node.turn(self.now);
    }
}

/// What a log holds: commands of sessions, and now and then limits that nobody needs.
fn command(input: &mut Input<'_>) -> Vec<u8> {
    let put = KvCommand::Put { key: input.slice(2), value: input.slice(4) }.to_bytes();
    let session = SessionId(Index(u64::from(input.byte() & 15)));
    let sequence = Sequence(u64::from(input.byte() & 31));
    match input.byte() & 7 {
        0 => Command::Open.to_bytes(),
        1 => Command::Close { session }.to_bytes(),
        2 => {
            let mut limits = raftgram::session::Limits::FOUNDING;
            limits.sessions_max = 1 + u64::from(input.byte() & 3);
            Command::SetLimits(limits).to_bytes()
        }
        _ => {
            let finished = raftgram::session::Ranges::from_pairs(&[]).expect("no ranges are in order");
            Command::Write { session, sequence, finished, command: &put }.to_bytes()
        }
    }
}
