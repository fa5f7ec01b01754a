//! A plain client, a gateway and two sealed nodes in one thread, on a network that loses nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use raftgram::rng::Rng;
use raftgram::rpc::{Event, LinkId, Local, LocalRole, Output, Rpc, RpcConfig, SealConfig};
use raftgram::seal::{Entropy, Key, KeyRing, KeyRole, SealMode, Secret, suite};
use raftgram::time::Instant;
use raftgram::types::{
    BootNonce, ClusterId, GroupId, Identity, Incarnation, Index, NodeId, PacketNumber, Sequence, SessionId,
    StoreId, Term,
};
use raftgram::wire::client::{
    ClientReply, ClientRequest, LeaderHint, Outcome, Propose, RefusalCode, decode_reply, decode_request,
    encode_reply, encode_request,
};
use raftgram::wire::{Class, Greeting, Ranges};
use slog::{Discard, Logger, o};

use super::gateway::{Gateway, Side};

const CLUSTER: ClusterId = ClusterId([7; 16]);
/// Where the gateway hears clients, and where it speaks from.
const LISTEN: u16 = 9000;
const SEALED: u16 = 9001;
const CLIENT: u16 = 9002;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn seal(seed: u8) -> SealConfig {
    let key = Key { role: KeyRole::Cluster, secret: Secret::new([0x40; 32]) };
    let keys = KeyRing::new(suite().unwrap(), vec![key]).unwrap();
    let entropy = Some(Entropy::new(Secret::new([seed; 32])));
    SealConfig { entropy, ..SealConfig::with(SealMode::Require, Arc::new(keys)) }
}

/// What a node does with the nth request that it gets.
type Answer = fn(u32) -> Option<ClientReply<'static>>;

struct FakeNode {
    room: Rpc,
    answer: Answer,
    asked: Vec<Vec<u8>>,
    is_dead: bool,
}

struct World {
    now: Instant,
    gateway: Gateway,
    client: Rpc,
    link: LinkId,
    nodes: Vec<FakeNode>,
    replies: Vec<Vec<u8>>,
}

fn node(number: u16, answer: Answer) -> FakeNode {
    let identity = Identity { node: NodeId::new(number).unwrap(), store: StoreId([number as u8; 16]) };
    let local = Local {
        role: LocalRole::Node { identity, incarnation: Incarnation(1) },
        boot_nonce: BootNonce([number as u8; 16]),
        cluster: CLUSTER,
        greeting: Greeting::Plain,
        first_packet: PacketNumber(1),
        ..Local::client(BootNonce([0; 16]))
    };
    let config = RpcConfig { seal: seal(number as u8), ..RpcConfig::default() };
    let room = Rpc::new(config, local, Rng::from_seed(u64::from(number)), Instant::from_nanos(1)).unwrap();
    FakeNode { room, answer, asked: Vec::new(), is_dead: false }
}

impl World {
    fn new(answers: [Answer; 2]) -> Self {
        let now = Instant::from_nanos(1);
        let [one, two] = answers;
        let log = Logger::root(Discard, o!());
        let id = NodeId::new(LISTEN).unwrap();
        let addresses = [address(1), address(2)];
        let gateway = Gateway::new(now, &addresses, seal(99), id, Rng::from_seed(9), log).unwrap();
        let local = Local::client(BootNonce([3; 16]));
        let mut client = Rpc::new(RpcConfig::default(), local, Rng::from_seed(5), now).unwrap();
        let link = client.connect(now, address(LISTEN), None);
        let nodes = vec![node(1, one), node(2, two)];
        Self { now, gateway, client, link, nodes, replies: Vec::new() }
    }

    fn ask(&mut self, class: Class, request: &ClientRequest<'_>) -> Vec<u8> {
        let mut body = Vec::new();
        encode_request(GroupId(0), request, &mut body);
        self.client.call(self.now, self.link, class, body.clone()).unwrap();
        body
    }

    /// Goes on in steps of a millisecond until the client has an answer.
    fn answer(&mut self) -> Vec<u8> {
        for _ in 0..20_000 {
            self.step();
            if !self.replies.is_empty() {
                return self.replies.remove(0);
            }
        }
        panic!("no answer in twenty seconds");
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let now = self.now;
        self.gateway.turn(now);
        while let Some((side, to, bytes)) = self.gateway.poll_output() {
            match side {
                Side::Plain => drop(self.client.handle_datagram(now, address(LISTEN), &bytes)),
                Side::Sealed => {
                    let node = &mut self.nodes[usize::from(to.port()) - 1];
                    if !node.is_dead {
                        assert_eq!(node.room.handle_datagram(now, address(SEALED), &bytes), None);
                    }
                }
            }
        }
        for (place, node) in (1..).zip(&mut self.nodes) {
            for bytes in node.turn(now) {
                self.gateway.handle_datagram(now, Side::Sealed, address(place), &bytes);
            }
        }
        for output in drain(&mut self.client, now) {
            match output {
                Output::Transmit { bytes, .. } => {
                    self.gateway.handle_datagram(now, Side::Plain, address(CLIENT), &bytes);
                }
                Output::Event(Event::Reply { body, .. }) => self.replies.push(body),
                Output::Event(Event::CallFailed { reason, .. }) => panic!("{reason}"),
                Output::Event(_) => {}
            }
        }
    }
}

fn drain(room: &mut Rpc, now: Instant) -> Vec<Output> {
    if room.poll_timeout().is_some_and(|at| at <= now) {
        room.handle_timeout(now);
    }
    room.flush(now);
    std::iter::from_fn(|| room.poll_output()).collect()
}

impl FakeNode {
    fn turn(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for output in drain(&mut self.room, now) {
            match output {
                Output::Transmit { bytes, .. } if !self.is_dead => sent.push(bytes),
                Output::Event(Event::Request { token, body, .. }) => {
                    assert!(decode_request(&body).is_ok());
                    self.asked.push(body);
                    match (self.answer)(self.asked.len() as u32) {
                        Some(reply) => {
                            let mut body = Vec::new();
                            encode_reply(GroupId(0), &reply, &mut body);
                            self.room.reply(now, token, body);
                        }
                        // It dies of it.
                        None => self.is_dead = true,
                    }
                }
                _ => {}
            }
        }
        sent
    }
}

const APPLIED: ClientReply<'_> =
    ClientReply::Applied(Outcome { index: Index(8), term: Term(2), result: b"done" });

fn propose() -> ClientRequest<'static> {
    ClientRequest::Propose(Propose {
        session: SessionId(Index(5)),
        sequence: Sequence(1),
        finished: Ranges::of(&[]),
        command: b"put",
    })
}

#[test]
fn a_redirect_is_followed_and_the_body_is_the_client_s_own() {
    let to_two = |_| {
        let leader = Some(LeaderHint { node: NodeId::new(2).unwrap(), address: "127.0.0.1:2" });
        Some(ClientReply::Redirect { leader })
    };
    let mut world = World::new([to_two, |_| Some(APPLIED)]);
    let body = world.ask(Class::Once, &propose());
    let answer = world.answer();
    assert_eq!(decode_reply(&answer), Ok((GroupId(0), APPLIED)));
    assert_eq!((&world.nodes[0].asked, &world.nodes[1].asked), (&vec![body.clone()], &vec![body]));
    // Now it is known who leads.
    world.ask(Class::Once, &propose());
    world.answer();
    assert_eq!((world.nodes[0].asked.len(), world.nodes[1].asked.len()), (1, 2));
    let counts = world.gateway.counts();
    assert_eq!((counts.clients, counts.calls, counts.answered, counts.refused), (1, 2, 2, 0));
}

#[test]
fn whatever_key_is_behind_it_nobody_changes_the_cluster_through_it() {
    let mut world = World::new([|_| Some(APPLIED), |_| Some(APPLIED)]);
    let requests =
        [ClientRequest::TransferLeadership { to: None }, ClientRequest::TakeSnapshot { through: Index(0) }];
    for request in requests {
        world.ask(Class::Once, &request);
        let answer = world.answer();
        let reply = decode_reply(&answer).unwrap().1;
        assert!(matches!(reply, ClientReply::Refused { code: RefusalCode::NotAllowed, .. }), "{reply:?}");
    }
    // Neither by what only nodes say to each other.
    world.client.call(world.now, world.link, Class::Again, vec![1, 0, 0]).unwrap();
    let answer = world.answer();
    let reply = decode_reply(&answer).unwrap().1;
    assert!(matches!(reply, ClientReply::Refused { code: RefusalCode::UnknownBody, .. }), "{reply:?}");
    assert!(world.nodes.iter().all(|node| node.asked.is_empty()));
}

#[test]
fn nobody_is_told_that_a_write_had_no_effect_when_it_may_have_had_one() {
    // Who led dies with the write; the other one does not lead for a while.
    let mut world = World::new([
        |_| None,
        |asked| Some(if asked < 20 { ClientReply::Redirect { leader: None } } else { APPLIED }),
    ]);
    world.ask(Class::Once, &propose());
    let answer = world.answer();
    assert_eq!(decode_reply(&answer), Ok((GroupId(0), APPLIED)));
    assert_eq!((world.nodes[0].asked.len(), world.nodes[1].asked.len()), (1, 20));
}

#[test]
fn a_client_is_told_when_nobody_leads() {
    let nobody = |_| Some(ClientReply::Redirect { leader: None });
    let mut world = World::new([nobody, nobody]);
    world.ask(Class::Once, &propose());
    let answer = world.answer();
    assert_eq!(decode_reply(&answer), Ok((GroupId(0), ClientReply::Redirect { leader: None })));
}
