//! Several ends, one virtual clock, one seed, and a network between them that loses, doubles, delays and repeats.
//!
//! Time jumps to whatever is next: a delivery or a deadline. Every datagram on its way is checked: its size, and that
//! no sender uses a packet number twice towards one address.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::rng::Rng;
use crate::rpc::{Event, LinkId, Local, LocalRole, Output, Rpc, RpcConfig, SealConfig};
use crate::seal::{Entropy, Key, KeyRing, KeyRole, SealMode, Secret, suite};
use crate::time::Instant;
use crate::types::{BootNonce, ClusterId, Identity, Incarnation, NodeId, PacketNumber, StoreId};
use crate::wire::{self, DropReason, Greeting};

pub(in crate::rpc) const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Whether the ends hold keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rpc) enum Mode {
    Plain,
    #[cfg_attr(not(feature = "seal"), expect(dead_code, reason = "there is nothing to seal with"))]
    Sealed,
}

impl Mode {
    /// The settings of an end in this mode.
    pub(in crate::rpc) fn config(self) -> RpcConfig {
        let seal = match self {
            Self::Plain => SealConfig::default(),
            Self::Sealed => seal_config(SealMode::Require, &[(KeyRole::Cluster, 1)]),
        };
        RpcConfig { seal, ..RpcConfig::default() }
    }
}

impl Mode {
    /// The reason for which stray datagrams of a link are dropped: under a seal they are of no known session.
    pub(in crate::rpc) fn reason_or_seal(self, plain: DropReason) -> DropReason {
        if self == Self::Plain { plain } else { DropReason::Crc }
    }
}

/// Settings with these keys, each made of one byte.
pub(in crate::rpc) fn seal_config(mode: SealMode, keys: &[(KeyRole, u8)]) -> SealConfig {
    let keys = keys.iter().map(|&(role, byte)| Key { role, secret: Secret::new([byte; 32]) }).collect();
    let keys = KeyRing::new(suite().expect("sealed tests need the feature"), keys).unwrap();
    let entropy = Some(Entropy::new(Secret::new([9; 32])));
    SealConfig { entropy, ..SealConfig::with(mode, Arc::new(keys)) }
}

/// What the network does to each datagram.
#[derive(Clone, Debug)]
pub(in crate::rpc) struct Faults {
    pub(in crate::rpc) loss: f64,
    pub(in crate::rpc) duplicate: f64,
    pub(in crate::rpc) delay_min: Duration,
    pub(in crate::rpc) delay_max: Duration,
    /// The share of datagrams of which a copy comes again much later.
    pub(in crate::rpc) late: f64,
}

impl Faults {
    /// 50 µs each way and nothing else.
    pub(in crate::rpc) fn none() -> Self {
        let delay = Duration::from_micros(50);
        Self { loss: 0.0, duplicate: 0.0, delay_min: delay, delay_max: delay, late: 0.0 }
    }

    pub(in crate::rpc) fn loss(loss: f64) -> Self {
        Self { loss, ..Self::none() }
    }
}

/// One end.
pub(in crate::rpc) struct End {
    pub(in crate::rpc) rpc: Rpc,
    pub(in crate::rpc) address: SocketAddr,
    pub(in crate::rpc) config: RpcConfig,
    pub(in crate::rpc) local: Local,
    pub(in crate::rpc) sent_bytes: usize,
    pub(in crate::rpc) sent_count: usize,
    used_numbers: BTreeSet<(SocketAddr, u64)>,
}

struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// All of it.
pub(in crate::rpc) struct World {
    pub(in crate::rpc) now: Instant,
    pub(in crate::rpc) ends: Vec<End>,
    pub(in crate::rpc) faults: Faults,
    pub(in crate::rpc) rng: Rng,
    /// What the ends said since the last look, with who said it.
    pub(in crate::rpc) events: VecDeque<(usize, Event)>,
    /// Datagrams sent, in order, when recording.
    pub(in crate::rpc) record: Option<Vec<(SocketAddr, SocketAddr, Vec<u8>)>>,
    /// Pairs (from, to) between which nothing passes.
    pub(in crate::rpc) cut: BTreeSet<(usize, usize)>,
    flights: BTreeMap<(Instant, u64), Flight>,
    flight_count: u64,
    /// Steps without time moving: a timer that is due for ever shows.
    steps_here: u32,
}

pub(in crate::rpc) fn node_local(id: u16, cluster: ClusterId) -> Local {
    Local {
        role: LocalRole::Node {
            identity: Identity { node: NodeId::new(id).unwrap(), store: StoreId([id as u8; 16]) },
            incarnation: Incarnation(1000 * u32::from(id)),
        },
        boot_nonce: BootNonce([id as u8; 16]),
        cluster,
        greeting: Greeting::Plain,
        election_timeout_min: Duration::from_millis(250),
        election_timeout_max: Duration::from_millis(500),
        heartbeat: Duration::from_millis(25),
        first_packet: PacketNumber(1),
    }
}

pub(in crate::rpc) fn client_local(nonce: u8) -> Local {
    Local {
        role: LocalRole::Client,
        boot_nonce: BootNonce([nonce; 16]),
        election_timeout_min: Duration::ZERO,
        election_timeout_max: Duration::ZERO,
        ..node_local(1, ClusterId::ZERO)
    }
}

impl World {
    pub(in crate::rpc) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            now: Instant::ZERO + Duration::from_secs(1),
            ends: Vec::new(),
            faults,
            rng: Rng::from_seed(seed),
            events: VecDeque::new(),
            record: None,
            cut: BTreeSet::new(),
            flights: BTreeMap::new(),
            flight_count: 0,
            steps_here: 0,
        }
    }

    /// Two nodes of one cluster, linked.
    pub(in crate::rpc) fn pair(seed: u64, config: &RpcConfig) -> (Self, LinkId, LinkId) {
        let mut world = Self::new(seed, Faults::none());
        world.add(node_local(1, CLUSTER), config.clone());
        world.add(node_local(2, CLUSTER), config.clone());
        let here = world.connect(0, 1);
        world.run_for(Duration::from_millis(1));
        let there = world.ends[1].rpc.link_to(NodeId::new(1).unwrap()).unwrap();
        world.events.clear();
        (world, here, there)
    }

    pub(in crate::rpc) fn add(&mut self, local: Local, config: RpcConfig) -> usize {
        let place = self.ends.len();
        let address = SocketAddr::from(([10, 0, 0, 1 + place as u8], 7000));
        let rpc = Rpc::new(config.clone(), local, self.rng.fork(), self.now).unwrap();
        self.ends.push(End {
            rpc,
            address,
            config,
            local,
            sent_bytes: 0,
            sent_count: 0,
            used_numbers: BTreeSet::new(),
        });
        place
    }

    pub(in crate::rpc) fn connect(&mut self, from: usize, to: usize) -> LinkId {
        let address = self.ends[to].address;
        let link = self.ends[from].rpc.connect(self.now, address, None);
        self.turn(from);
        link
    }

    /// Kills an end and boots it again, with the next incarnation and another boot nonce.
    pub(in crate::rpc) fn restart(&mut self, place: usize) {
        let rng = self.rng.fork();
        let nonce = BootNonce(self.rng.bytes16());
        let end = &mut self.ends[place];
        end.local.boot_nonce = nonce;
        if let LocalRole::Node { incarnation, .. } = &mut end.local.role {
            incarnation.0 += 1;
        }
        end.rpc = Rpc::new(end.config.clone(), end.local, rng, self.now).unwrap();
        end.used_numbers.clear();
    }

    /// The end of one end's turn: flush, and put what it says on its way.
    pub(in crate::rpc) fn turn(&mut self, place: usize) {
        self.ends[place].rpc.flush(self.now);
        self.drain(place);
    }

    fn drain(&mut self, place: usize) {
        while let Some(output) = self.ends[place].rpc.poll_output() {
            match output {
                Output::Event(event) => self.events.push_back((place, event)),
                Output::Transmit { to, bytes } => self.send(place, to, bytes),
            }
        }
    }

    fn send(&mut self, place: usize, to: SocketAddr, bytes: Vec<u8>) {
        let end = &mut self.ends[place];
        assert!(bytes.len() <= end.config.datagram_bytes_max, "a datagram of {} bytes", bytes.len());
        let header = wire::parse_header(&bytes).unwrap();
        let is_new = end.used_numbers.insert((to, header.packet.0));
        assert!(is_new, "packet {} towards {to} is used twice", header.packet);
        end.sent_bytes += bytes.len();
        end.sent_count += 1;
        let from = end.address;
        if let Some(record) = &mut self.record {
            record.push((from, to, bytes.clone()));
        }
        if self
            .ends
            .iter()
            .position(|end| end.address == to)
            .is_some_and(|to| self.cut.contains(&(place, to)))
        {
            return;
        }
        let copies = 1 + usize::from(self.rng.chance(self.faults.duplicate));
        for _ in 0..copies {
            if !self.rng.chance(self.faults.loss) {
                let delay = self.rng.duration_between(self.faults.delay_min, self.faults.delay_max);
                self.inject(from, to, bytes.clone(), delay);
            }
        }
        if self.rng.chance(self.faults.late) {
            let delay = self.rng.duration_between(Duration::from_millis(1), Duration::from_secs(2));
            self.inject(from, to, bytes, delay);
        }
    }

    /// Puts a datagram on its way whoever may have sent it.
    pub(in crate::rpc) fn inject(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
        delay: Duration,
    ) {
        self.flight_count += 1;
        self.flights.insert((self.now + delay, self.flight_count), Flight { from, to, bytes });
    }

    /// The next moment at which anything happens.
    pub(in crate::rpc) fn next_at(&self) -> Option<Instant> {
        let timeouts = self.ends.iter().filter_map(|end| end.rpc.poll_timeout());
        let flight = self.flights.first_key_value().map(|((at, _), _)| *at);
        timeouts.chain(flight).min().map(|at| at.max(self.now))
    }

    /// Lets happen what happens next, unless it is later than `until`; false then.
    pub(in crate::rpc) fn step(&mut self, until: Instant) -> bool {
        let Some(at) = self.next_at().filter(|at| *at <= until) else {
            self.now = until;
            return false;
        };
        self.steps_here = if self.now == at { self.steps_here + 1 } else { 0 };
        assert!(self.steps_here < 1000, "time stands still at {at}");
        self.now = at;
        let mut touched = BTreeSet::new();
        while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= at) {
            let flight = entry.remove();
            if let Some(place) = self.ends.iter().position(|end| end.address == flight.to) {
                self.ends[place].rpc.handle_datagram(at, flight.from, &flight.bytes);
                touched.insert(place);
            }
        }
        for place in 0..self.ends.len() {
            if self.ends[place].rpc.poll_timeout().is_some_and(|due| due <= at) && !touched.contains(&place) {
                self.ends[place].rpc.handle_timeout(at);
                touched.insert(place);
            }
        }
        for place in touched {
            let stats = *self.ends[place].rpc.stats();
            assert_eq!(stats.received, stats.accepted + stats.dropped_total(), "{stats:?}");
            self.drain(place);
        }
        true
    }

    pub(in crate::rpc) fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while self.step(until) {}
    }

    /// As [`Self::run_for`], every request being answered at once with its own body.
    pub(in crate::rpc) fn run_echo(&mut self, span: Duration) -> Vec<(usize, Event)> {
        let until = self.now + span;
        let mut others = Vec::new();
        loop {
            let went_on = self.step(until);
            while let Some((place, event)) = self.events.pop_front() {
                match event {
                    Event::Request { token, body, .. } => {
                        self.ends[place].rpc.reply(self.now, token, body);
                    }
                    other => others.push((place, other)),
                }
            }
            for place in 0..self.ends.len() {
                self.turn(place);
            }
            if !went_on {
                return others;
            }
        }
    }
}
