//! The client against scripted nodes: the calls below are real, what the nodes answer is up to each test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Answer, Client, ClientConfig, ClientError, OperationId, Outcome, Output, Phase};
use crate::rng::Rng;
use crate::rpc::{Event, Local, LocalRole, Output as RpcOutput, Rpc, RpcConfig, Token};
use crate::time::{Instant, earliest};
use crate::types::{
    BootNonce, ClusterId, GroupId, Identity, Incarnation, Index, NodeId, PacketNumber, Sequence, SessionId,
    StoreId, Term,
};
use crate::wire::Greeting;
use crate::wire::client::{
    ClientReply, ClientRequest, LeaderHint, Outcome as Reached, ReadLevel, decode_request, encode_reply,
};

const SECOND: Duration = Duration::from_secs(1);

/// What a scripted node does with a request.
enum Act {
    Reply(Vec<u8>),
    Silence,
}

fn reply(reply: &ClientReply<'_>) -> Act {
    let mut body = Vec::new();
    encode_reply(GroupId(0), reply, &mut body);
    Act::Reply(body)
}

fn applied() -> Act {
    reply(&ClientReply::Applied(Reached { index: Index(9), term: Term(1), result: b"done" }))
}

fn opened(index: u64) -> Act {
    reply(&ClientReply::SessionOpened { session: SessionId(Index(index)) })
}

fn redirect(leader: Option<u16>) -> Act {
    let address = leader.map(|number| address(number).to_string()).unwrap_or_default();
    let leader = leader.map(|number| LeaderHint { node: NodeId::new(number).unwrap(), address: &address });
    reply(&ClientReply::Redirect { leader })
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7100 + number))
}

/// One client and nodes 1, 2, …, all on one clock and a lossless network without delay.
struct World {
    now: Instant,
    client: Client,
    nodes: Vec<Rpc>,
    answers: BTreeMap<OperationId, Result<Answer, ClientError>>,
    /// How many requests came, of all kinds.
    requests: usize,
}

impl World {
    fn new(node_count: u16, config: ClientConfig) -> Self {
        let mut rng = Rng::from_seed(1);
        let now = Instant::from_nanos(1_000);
        let addresses: Vec<SocketAddr> = (1..=node_count).map(address).collect();
        let node = |number: u16, rng: Rng| {
            let identity =
                Identity { node: NodeId::new(number).unwrap(), store: StoreId([number as u8; 16]) };
            let local = Local {
                role: LocalRole::Node { identity, incarnation: Incarnation(1) },
                boot_nonce: BootNonce([number as u8; 16]),
                cluster: ClusterId([7; 16]),
                greeting: Greeting::Plain,
                election_timeout_min: Duration::from_millis(250),
                election_timeout_max: Duration::from_millis(500),
                heartbeat: Duration::from_millis(25),
                first_packet: PacketNumber(1),
            };
            Rpc::new(RpcConfig::default(), local, rng, now).unwrap()
        };
        let nodes = (1..=node_count).map(|number| node(number, rng.fork())).collect();
        let client = Client::new(config, &addresses, rng, now);
        Self { now, client, nodes, answers: BTreeMap::new(), requests: 0 }
    }

    /// Lets time pass until nothing happens any more or the span is over.
    fn run(&mut self, span: Duration, mut script: impl FnMut(u16, &ClientRequest<'_>) -> Act) {
        let end = self.now + span;
        loop {
            while self.exchange(&mut script) {}
            let due = self
                .nodes
                .iter()
                .fold(self.client.poll_timeout(), |due, node| earliest(due, node.poll_timeout()));
            match due.filter(|due| *due <= end) {
                Some(due) => self.now = self.now.max(due) + Duration::from_nanos(1),
                None => break,
            }
            self.client.handle_timeout(self.now);
            self.nodes.iter_mut().for_each(|node| node.handle_timeout(self.now));
        }
        self.now = end;
    }

    /// One turn of everybody; false when nothing was said.
    fn exchange(&mut self, script: &mut impl FnMut(u16, &ClientRequest<'_>) -> Act) -> bool {
        let now = self.now;
        let mut has_moved = false;
        self.client.turn(now);
        while let Some(output) = self.client.poll_output() {
            has_moved = true;
            match output {
                Output::Transmit { to, bytes } => {
                    let node = &mut self.nodes[usize::from(to.port()) - 7101];
                    node.handle_datagram(now, SocketAddr::from(([127, 0, 0, 1], 9)), &bytes);
                }
                Output::Done { id, result } => {
                    assert!(self.answers.insert(id, result).is_none(), "{id} ended twice");
                }
            }
        }
        for (number, node) in (1..).zip(&mut self.nodes) {
            let mut asked: Vec<(Token, Vec<u8>)> = Vec::new();
            node.flush(now);
            while let Some(output) = node.poll_output() {
                match output {
                    RpcOutput::Transmit { bytes, .. } => {
                        has_moved = true;
                        self.client.handle_datagram(now, address(number), &bytes);
                    }
                    RpcOutput::Event(Event::Request { token, body, .. }) => asked.push((token, body)),
                    RpcOutput::Event(_) => {}
                }
            }
            for (token, body) in asked {
                has_moved = true;
                self.requests += 1;
                let (_, request) = decode_request(&body).unwrap();
                if let Act::Reply(body) = script(number, &request) {
                    node.reply(now, token, body);
                }
            }
        }
        has_moved
    }

    fn propose(&mut self, span: Duration) -> OperationId {
        self.client.propose(b"c".to_vec(), self.now + span)
    }
}

/// Opens sessions, applies writes, answers nothing else.
fn willing(_: u16, request: &ClientRequest<'_>) -> Act {
    match request {
        ClientRequest::OpenSession => opened(3),
        ClientRequest::Propose(_) => applied(),
        _ => Act::Silence,
    }
}

fn is_applied(answer: Option<&Result<Answer, ClientError>>) -> bool {
    matches!(answer, Some(Ok(Answer::Applied { .. })))
}

#[test]
fn a_session_is_opened_however_many_operations_are_under_way() {
    let mut world = World::new(1, ClientConfig { operations_max: 1, ..ClientConfig::default() });
    let id = world.propose(SECOND);
    world.run(SECOND * 2, willing);
    assert!(is_applied(world.answers.get(&id)), "{:?}", world.answers);
    assert_eq!(world.answers.len(), 1, "the client's own operations are nobody's business");
}

#[test]
fn writes_that_gave_up_waiting_for_a_session_leave_nothing_behind() {
    let mut world = World::new(1, ClientConfig::default());
    for _ in 0..100 {
        world.propose(Duration::from_millis(5));
    }
    world.run(SECOND, |_, _| Act::Silence);
    assert_eq!(world.answers.len(), 100);
    assert!(world.client.parked.is_empty(), "{} parked", world.client.parked.len());
}

/// The one session is full. What waits longest gets the next room, however many come later.
#[test]
fn writes_that_wait_for_room_get_it_in_the_order_they_came() {
    let mut world = World::new(1, ClientConfig { sessions_max: 1, ..ClientConfig::default() });
    let mut open: Vec<Sequence> = Vec::new();
    let first: Vec<OperationId> = (0..64).map(|_| world.propose(SECOND * 60)).collect();
    world.run(Duration::from_millis(100), |_, request| match request {
        ClientRequest::OpenSession => opened(3),
        ClientRequest::Propose(propose) => {
            open.push(propose.sequence);
            Act::Silence
        }
        _ => Act::Silence,
    });
    assert!(open.len() < first.len(), "{} of {} are open: the window is too wide", open.len(), first.len());
    // From here on each write that ends brings two new ones, so that never all find room.
    let mut ended = 0;
    while ended < 64 {
        for _ in 0..2 {
            world.propose(SECOND * 60);
        }
        world.run(Duration::from_millis(310), willing);
        ended = first.iter().filter(|id| is_applied(world.answers.get(id))).count();
        let later = world.answers.keys().filter(|id| !first.contains(id)).count();
        assert!(ended == 64 || later == 0, "{later} later writes overtook {}", 64 - ended);
    }
}

/// A reply that is here counts, although the deadline passed before the client was woken.
#[test]
fn an_answer_that_has_come_is_not_overtaken_by_its_deadline() {
    let mut world = World::new(1, ClientConfig::default());
    let warm = world.propose(SECOND);
    world.run(Duration::from_millis(50), willing);
    assert!(is_applied(world.answers.get(&warm)));
    let id = world.propose(Duration::from_millis(100));
    // The answer arrives, and the client sleeps until after the deadline.
    while world.exchange(&mut |node, request| willing(node, request)) {
        let node = &mut world.nodes[0];
        node.flush(world.now);
        let mut has_answer = false;
        while let Some(output) = node.poll_output() {
            match output {
                RpcOutput::Transmit { bytes, .. } => {
                    world.client.handle_datagram(world.now, address(1), &bytes);
                    has_answer = true;
                }
                RpcOutput::Event(Event::Request { token, .. }) => {
                    let Act::Reply(body) = applied() else { unreachable!() };
                    node.reply(world.now, token, body);
                    node.flush(world.now);
                }
                RpcOutput::Event(_) => {}
            }
        }
        if has_answer {
            break;
        }
    }
    world.now += SECOND;
    world.client.handle_timeout(world.now);
    world.run(Duration::ZERO, |_, _| Act::Silence);
    assert!(is_applied(world.answers.get(&id)), "{:?}", world.answers.get(&id));
}

#[test]
fn an_expired_session_ends_sent_writes_honestly() {
    let mut world = World::new(1, ClientConfig::default());
    let ids = [world.propose(SECOND), world.propose(SECOND)];
    world.run(Duration::from_millis(100), |_, request| match request {
        ClientRequest::OpenSession => opened(3),
        ClientRequest::Propose(propose) if propose.sequence == Sequence(1) => Act::Silence,
        ClientRequest::Propose(_) => reply(&ClientReply::SessionExpired),
        _ => Act::Silence,
    });
    let unknown = Some(&Err(ClientError::SessionExpired { outcome: Outcome::Unknown }));
    let refused = Some(&Err(ClientError::SessionExpired { outcome: Outcome::NotSent }));
    assert_eq!(world.answers.get(&ids[0]), unknown, "it was sent and may be in the log");
    assert_eq!(world.answers.get(&ids[1]), refused, "its only attempt was refused");
    let id = world.propose(SECOND);
    world.run(SECOND, willing);
    assert!(is_applied(world.answers.get(&id)), "a new session is opened: {:?}", world.answers.get(&id));
}

#[test]
fn a_write_tried_before_its_session_expired_has_an_unknown_outcome() {
    let mut world = World::new(1, ClientConfig::default());
    let id = world.propose(SECOND * 5);
    let mut tries = 0;
    world.run(SECOND * 2, |_, request| match request {
        ClientRequest::OpenSession => opened(3),
        ClientRequest::Propose(_) => {
            tries += 1;
            if tries == 1 { Act::Silence } else { reply(&ClientReply::SessionExpired) }
        }
        _ => Act::Silence,
    });
    assert_eq!(world.answers.get(&id), Some(&Err(ClientError::SessionExpired { outcome: Outcome::Unknown })));
}

/// The machine's answer is larger than a call may carry: the call fails each time it is made.
#[test]
fn calls_that_fail_again_and_again_are_not_repeated_at_the_speed_of_the_network() {
    let rpc = RpcConfig { body_bytes_max: 64 * 1024, ..RpcConfig::default() };
    let mut world = World::new(1, ClientConfig { rpc, ..ClientConfig::default() });
    let id = world.propose(SECOND);
    world.run(SECOND * 2, |_, request| match request {
        ClientRequest::OpenSession => opened(3),
        ClientRequest::Propose(_) => {
            let result = &vec![0; 20 << 20];
            reply(&ClientReply::Applied(Reached { index: Index(9), term: Term(1), result }))
        }
        _ => Act::Silence,
    });
    let Some(Err(ClientError::TimedOut { outcome: Outcome::Unknown, .. })) = world.answers.get(&id) else {
        panic!("{:?}", world.answers.get(&id));
    };
    assert!(world.requests < 50, "{} requests in a second", world.requests);
}

#[test]
fn more_operations_than_calls_take_their_turns() {
    let rpc = RpcConfig { calls_open_max: 4, ..RpcConfig::default() };
    let mut world = World::new(1, ClientConfig { rpc, ..ClientConfig::default() });
    let ids: Vec<OperationId> = (0..200)
        .map(|_| world.client.read(b"q".to_vec(), ReadLevel::Linearizable, world.now + SECOND * 60))
        .collect();
    world.run(SECOND, |_, _| {
        reply(&ClientReply::Read(Reached { index: Index(9), term: Term(1), result: b"" }))
    });
    let done = ids.iter().filter(|id| matches!(world.answers.get(id), Some(Ok(_)))).count();
    assert_eq!(done, 200);
    assert_eq!(world.requests, 200);
    assert!(world.client.crowded.is_empty());
}

#[test]
fn a_redirect_leads_to_a_node_the_client_did_not_know() {
    let mut world = World::new(2, ClientConfig::default());
    world.client = Client::new(ClientConfig::default(), &[address(1)], Rng::from_seed(2), world.now);
    let id = world.propose(SECOND);
    world.run(SECOND, |node, request| if node == 1 { redirect(Some(2)) } else { willing(node, request) });
    assert!(is_applied(world.answers.get(&id)), "{:?}", world.answers.get(&id));
}

#[test]
fn a_cluster_without_a_leader_is_asked_at_a_measured_pace() {
    let mut world = World::new(3, ClientConfig::default());
    let id = world.propose(SECOND);
    world.run(SECOND * 2, |_, _| redirect(None));
    let expected = ClientError::TimedOut { outcome: Outcome::NotSent, phase: Phase::NoLeader };
    assert_eq!(world.answers.get(&id), Some(&Err(expected)));
    assert!(world.requests <= 400, "{} requests in a second", world.requests);
}
