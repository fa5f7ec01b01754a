//! A node's links among an honest peer, an honest client and somebody who says whatever he likes, under any name.

use std::net::SocketAddr;
use std::time::Duration;

use raftgram::cursor::VARINT_MAX;
use raftgram::rng::Rng;
use raftgram::rpc::{Event, LinkId, Local, LocalRole, Output, Rpc, RpcConfig, SendErrorKind, Token};
use raftgram::time::Instant;
use raftgram::types::{BootNonce, ClusterId, Identity, Incarnation, NodeId, PacketNumber, StoreId};
use raftgram::wire::{Class, Flags, Greeting, HEADER_BYTES, Header, Party, begin};

use super::input::{Input, steer};
use super::pool::{CLUSTER, Pool, seal};

const KIB: usize = 1024;
/// Datagrams kept for later.
const KEPT_MAX: usize = 64;
/// Datagrams handed on between honest ends before the next thing happens.
const HANDED_ON_MAX: usize = 64;
const VICTIM: u16 = 1;
const PEER: u16 = 2;
const CLIENT: u16 = 9;
const STRANGER: u16 = 13;

/// Small bounds, which an input can reach.
pub(crate) fn tight() -> RpcConfig {
    RpcConfig {
        body_bytes_max: 64 * KIB,
        credit_bytes: 128 * KIB as u64,
        reassembly_bytes_max: 160 * KIB,
        links_max: 4,
        clients_max: 4,
        calls_open_max: 16,
        call_bytes_max: 128 * KIB,
        calls_served_max: 16,
        reply_bytes_max: 128 * KIB,
        notices_max: 4,
        stray_answers_max: 16,
        ..RpcConfig::default()
    }
}

pub(crate) fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

pub(crate) fn local(number: u16) -> Local {
    let node = NodeId::new(number).expect("no number here is 0");
    let identity = Identity { node, store: StoreId([number as u8; 16]) };
    Local {
        role: LocalRole::Node { identity, incarnation: incarnation(number) },
        boot_nonce: BootNonce([number as u8; 16]),
        cluster: CLUSTER,
        greeting: Greeting::Plain,
        election_timeout_min: Duration::from_millis(250),
        election_timeout_max: Duration::from_millis(500),
        heartbeat: Duration::from_millis(25),
        first_packet: PacketNumber(1),
    }
}

pub(crate) const fn incarnation(number: u16) -> Incarnation {
    Incarnation(1000 * number as u32)
}

/// Everybody, and what was said.
struct World {
    now: Instant,
    victim: Rpc,
    peer: Rpc,
    client: Rpc,
    /// What honest ends sent to the node, to be sent again or to be changed.
    kept: Vec<(u16, Vec<u8>)>,
    tokens: Vec<Token>,
    links: Vec<LinkId>,
    /// Bytes that strangers got, and bytes that they sent.
    stranger_bytes: (usize, usize),
    steps: u64,
}

/// Runs what the input says, and tells how many datagrams, commands and waits that were.
pub(crate) fn run(data: &[u8]) -> u64 {
    let world = steer(data, World::new, |world, input| {
        world.step(input);
        world.check();
    });
    world.steps
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        let now = Instant::from_nanos(1_000_000);
        let mut make = |local| Rpc::new(tight(), local, rng.fork(), now).expect("the settings are good");
        let client = Local::client(BootNonce([CLIENT as u8; 16]));
        let mut world = Self {
            now,
            victim: make(local(VICTIM)),
            peer: make(local(PEER)),
            client: make(client),
            kept: Vec::new(),
            tokens: Vec::new(),
            links: Vec::new(),
            stranger_bytes: (0, 0),
            steps: 0,
        };
        world.peer.connect(now, address(VICTIM), NodeId::new(VICTIM));
        world.client.connect(now, address(VICTIM), None);
        world.settle();
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        self.steps += 1;
        match input.byte() % 20 {
            0..10 => self.forge(input),
            10 | 11 => self.say_again(input),
            12 => self.alter(input),
            13 | 14 => {
                self.now += Duration::from_micros(1 << (input.byte() % 27));
                self.settle();
            }
            15 | 16 => self.call(input),
            17 => self.answer(input),
            18 => {
                let kinds = [SendErrorKind::MessageTooLong, SendErrorKind::Other];
                let to = address([PEER, CLIENT, STRANGER][input.place(3)]);
                self.victim.handle_send_error(self.now, to, kinds[input.place(2)]);
            }
            _ => self.settle(),
        }
    }

    /// Somebody speaks under the name of the peer, the client, another node or nobody, and gets most of it right.
    fn forge(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let (source, source_incarnation) = match choice & 7 {
            0..3 => (party(PEER), incarnation(PEER)),
            3..5 => (Party::Any, Incarnation(1 + u32::from(input.byte() & 3))),
            5 => (party(2 + u16::from(input.byte())), Incarnation(u32::from(input.byte()))),
            6 => (Party::Any, Incarnation::UNKNOWN),
            _ => (party(PEER), Incarnation(incarnation(PEER).0.wrapping_add(u32::from(input.byte())))),
        };
        let is_greeting = choice & 0x18 == 0x18;
        let destination_incarnation = match choice & 0x60 {
            0x60 if is_greeting => Incarnation(u32::from(input.byte())),
            _ if is_greeting => Incarnation::UNKNOWN,
            _ => incarnation(VICTIM),
        };
        let cluster = if is_greeting && choice & 0x80 != 0 { ClusterId::ZERO } else { CLUSTER };
        let header = Header {
            flags: Flags(input.byte() & !Flags::SEALED.0),
            cluster_tag: cluster.tag(),
            source,
            destination: if is_greeting && choice & 0x40 != 0 { Party::Any } else { party(VICTIM) },
            source_incarnation,
            destination_incarnation,
            packet: PacketNumber(match choice {
                0 => input.number().clamp(1, VARINT_MAX),
                _ => 1 + u64::from(input.u16()),
            }),
        };
        let mut datagram = Vec::with_capacity(512);
        begin(&mut datagram, &header);
        Pool::shared().add_frames(&mut datagram, input);
        if is_greeting {
            raftgram::wire::pad_to(&mut datagram, 256);
        }
        seal(&mut datagram, CLUSTER);
        let from = [PEER, CLIENT, STRANGER, STRANGER + 1][usize::from(choice >> 6)];
        self.hand_in(from, &datagram);
    }

    /// A datagram that was said before, as it was.
    fn say_again(&mut self, input: &mut Input<'_>) {
        if self.kept.is_empty() {
            return;
        }
        let (from, bytes) = self.kept[input.place(self.kept.len())].clone();
        let from = if input.byte() & 3 == 0 { STRANGER } else { from };
        self.hand_in(from, &bytes);
    }

    /// A datagram that was said before, with other contents or as another one.
    fn alter(&mut self, input: &mut Input<'_>) {
        if self.kept.is_empty() {
            return;
        }
        let (from, mut bytes) = self.kept[input.place(self.kept.len())].clone();
        for _ in 0..=input.byte() & 3 {
            let at = input.place(bytes.len());
            bytes[at] = input.byte();
        }
        if input.byte() & 1 == 0 {
            bytes.truncate(HEADER_BYTES);
            Pool::shared().add_frames(&mut bytes, input);
        }
        seal(&mut bytes, CLUSTER);
        self.hand_in(from, &bytes);
    }

    fn hand_in(&mut self, from: u16, bytes: &[u8]) {
        if from >= STRANGER {
            self.stranger_bytes.1 += bytes.len();
        }
        self.victim.handle_datagram(self.now, address(from), bytes);
        self.drain();
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let class = [Class::Again, Class::Once][input.place(2)];
        let bytes = usize::from(input.byte()).pow(2);
        let body = if bytes < 2 * KIB { Pool::shared().body(input) } else { vec![0x5a; bytes] };
        let now = self.now;
        let end = match input.place(3) {
            0 => &mut self.peer,
            1 => &mut self.client,
            _ => &mut self.victim,
        };
        let links: Vec<LinkId> = end.links().collect();
        if let Some(link) = links.get(input.place(links.len())) {
            let called = end.call(now, *link, class, body);
            if let (Ok(call), true) = (called, input.byte() & 7 == 0) {
                end.cancel(now, *link, call);
            }
        }
        self.settle();
    }

    /// The node answers a request, says something on a link, or gives one up.
    fn answer(&mut self, input: &mut Input<'_>) {
        match input.byte() & 7 {
            0 if !self.links.is_empty() => {
                let place = input.place(self.links.len());
                self.victim.close(self.now, self.links.swap_remove(place));
            }
            1 if !self.links.is_empty() => {
                let link = self.links[input.place(self.links.len())];
                let _taken = self.victim.notice(self.now, link, vec![7; input.place(1200)]);
            }
            _ if !self.tokens.is_empty() => {
                let token = self.tokens.swap_remove(input.place(self.tokens.len()));
                self.victim.reply(self.now, token, vec![8; usize::from(input.byte()).pow(2)]);
            }
            _ => {}
        }
        self.settle();
    }

    /// Hands on what honest ends say until nothing more is said.
    fn settle(&mut self) {
        for _ in 0..HANDED_ON_MAX {
            self.drain();
            let mut said = Vec::new();
            for (number, end) in [(PEER, &mut self.peer), (CLIENT, &mut self.client)] {
                end.handle_timeout(self.now);
                end.flush(self.now);
                while let Some(output) = end.poll_output() {
                    match output {
                        Output::Transmit { to, bytes } if to == address(VICTIM) => said.push((number, bytes)),
                        Output::Event(Event::Request { token, body, .. }) => {
                            end.reply(self.now, token, body);
                        }
                        _ => {}
                    }
                }
            }
            if said.is_empty() {
                return;
            }
            for (from, bytes) in said {
                self.steps += 1;
                self.victim.handle_datagram(self.now, address(from), &bytes);
                if self.kept.len() < KEPT_MAX {
                    self.kept.push((from, bytes));
                }
            }
        }
    }

    fn drain(&mut self) {
        self.victim.handle_timeout(self.now);
        self.victim.flush(self.now);
        while let Some(output) = self.victim.poll_output() {
            match output {
                Output::Transmit { to, bytes } => {
                    assert!(bytes.len() <= 1200, "a datagram of {} bytes", bytes.len());
                    match to.port() {
                        PEER => {
                            self.peer.handle_datagram(self.now, address(VICTIM), &bytes);
                        }
                        CLIENT => {
                            self.client.handle_datagram(self.now, address(VICTIM), &bytes);
                        }
                        _ => self.stranger_bytes.0 += bytes.len(),
                    }
                    self.victim.recycle(bytes);
                }
                Output::Event(Event::Request { token, .. }) if self.tokens.len() < 64 => {
                    self.tokens.push(token);
                }
                Output::Event(Event::Connected { link, .. }) if self.links.len() < 16 => {
                    self.links.push(link);
                }
                Output::Event(_) => {}
            }
        }
    }

    /// What holds whatever was said: every datagram is counted once, and every table is within its bounds.
    fn check(&self) {
        let (stats, load, config) = (self.victim.stats(), self.victim.load(), tight());
        assert_eq!(stats.received, stats.accepted + stats.dropped_total(), "{stats:?}");
        assert!(load.clients <= config.clients_max, "{load:?}");
        assert!(load.arriving_bytes <= config.reassembly_bytes_max, "{load:?}");
        for link in self.victim.links() {
            let link = self.victim.link_stats(link).expect("it was just named");
            assert!(link.calls_open <= config.calls_open_max, "{link:?}");
            assert!(link.calls_served <= config.calls_served_max, "{link:?}");
        }
    }
}

fn party(number: u16) -> Party {
    NodeId::new(number).map_or(Party::Any, Party::Node)
}
