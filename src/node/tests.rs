//! Whole nodes on a network without delay or loss, with disks that are done at once unless a test says otherwise.

mod bounds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use slog::{Discard, Logger, o};

use super::founding::{Blank, Founding, Output as FoundingOutput, Plan};
use super::links::{Peer, Standing};
use super::{Node, NodeConfig, NodeStart, Output, PeerRecord};
use crate::founding::FoundingRecord;
use crate::kv::{Command, CommandResult, Kv};
use crate::machine::Machine;
use crate::membership::{Member, Membership};
use crate::message::{Message, VoteReply};
use crate::raft::RoleKind;
use crate::rng::Rng;
use crate::rpc::{Event, Local, Output as RpcOutput, PeerInfo, Rpc, RpcConfig};
use crate::seal::Trust;
use crate::time::{Instant, earliest};
use crate::types::{
    BootNonce, CallId, ClusterId, GroupId, HardState, Identity, Incarnation, NodeId, Sequence, SessionId,
    StoreId, Term,
};
use crate::wire::client::{ClientReply, ClientRequest, Propose, decode_reply, encode_reply, encode_request};
use crate::wire::peer::encode_message;
use crate::wire::status::STATUS_ROWS_MAX;
use crate::wire::{Class, Greeting};

const CLIENT: u16 = 9;

pub(super) fn node_id(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

fn store(number: u16) -> StoreId {
    StoreId([number as u8; 16])
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7100 + number))
}

fn logger() -> Logger {
    Logger::root(Discard, o!())
}

fn node(number: u16, rng: Rng, now: Instant) -> Node<Kv> {
    node_with(number, Kv::new(), rng, now)
}

fn node_with<M: Machine>(number: u16, machine: M, rng: Rng, now: Instant) -> Node<M> {
    let member = |n: u16| (node_id(n), Member { store: store(n), address: address(n).to_string() });
    let cluster = ClusterId([7; 16]);
    let record = FoundingRecord { cluster, membership: Membership::of_voters((1..=3).map(member).collect()) };
    let start = NodeStart {
        store: store(number),
        incarnation: Incarnation(5),
        boot_nonce: BootNonce([number as u8; 16]),
        cluster,
        founding: Some(record),
        hard_state: HardState::default(),
        snapshot: None,
        entries: Vec::new(),
        remains: None,
        damage: Vec::new(),
    };
    Node::new(
        NodeConfig::new(node_id(number), address(number).to_string()),
        start,
        machine,
        &logger(),
        rng,
        now,
    )
}

/// Three nodes and one client of the bare RPC layer.
pub(super) struct Net<M = Kv> {
    pub(super) now: Instant,
    pub(super) nodes: BTreeMap<u16, Node<M>>,
    client: Rpc,
    /// What was sent to a node that sleeps.
    asleep: BTreeMap<u16, VecDeque<(SocketAddr, Vec<u8>)>>,
    /// Nodes that the others do not hear, nor they the others; clients reach them.
    cut: BTreeSet<u16>,
    replies: BTreeMap<CallId, Vec<u8>>,
}

impl Net {
    fn elected() -> (Self, u16) {
        Self::elected_with(|_| Kv::new())
    }
}

impl<M: Machine> Net<M> {
    fn new(machine: impl Fn(u16) -> M) -> Self {
        let mut rng = Rng::from_seed(3);
        let now = Instant::from_nanos(1_000);
        let nodes = (1..=3).map(|n| (n, node_with(n, machine(n), rng.fork(), now))).collect();
        let local = Local::client(BootNonce(rng.bytes16()));
        let client = Rpc::new(RpcConfig::default(), local, rng, now).unwrap();
        Self { now, nodes, client, asleep: BTreeMap::new(), cut: BTreeSet::new(), replies: BTreeMap::new() }
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            while self.turn() {}
            let nodes = self.nodes.iter().filter(|(number, _)| !self.asleep.contains_key(number));
            let due =
                nodes.fold(self.client.poll_timeout(), |due, (_, node)| earliest(due, node.poll_timeout()));
            match due.filter(|due| *due <= end) {
                Some(due) => self.now = self.now.max(due) + Duration::from_nanos(1),
                None => break,
            }
        }
        self.now = end;
    }

    fn turn(&mut self) -> bool {
        let now = self.now;
        let mut sent = Vec::new();
        self.client.handle_timeout(now);
        while let Some(output) = self.client.poll_output() {
            match output {
                RpcOutput::Transmit { to, bytes } => sent.push((CLIENT, to.port() - 7100, bytes)),
                RpcOutput::Event(Event::Reply { call, body, .. }) => {
                    assert!(self.replies.insert(call, body).is_none(), "{call:?} was answered twice");
                }
                RpcOutput::Event(_) => {}
            }
        }
        for (&number, node) in &mut self.nodes {
            if self.asleep.contains_key(&number) {
                continue;
            }
            node.handle_timeout(now);
            node.turn(now);
            while let Some(output) = node.poll_output() {
                match output {
                    Output::Transmit { to, bytes } => sent.push((number, to.port() - 7100, bytes)),
                    Output::Persist { ticket, .. } => node.handle_persisted(now, ticket),
                    Output::RecordPeer { store, incarnation, nonce, .. } => {
                        node.handle_peer_recorded(now, store, incarnation, nonce, PeerRecord::Adopted);
                    }
                    Output::Snapshot(_) | Output::AdoptSnapshot { .. } => {
                        unreachable!("so little is never frozen")
                    }
                    Output::Event(_) => {}
                }
                node.turn(now);
            }
        }
        let has_moved = !sent.is_empty();
        for (from, to, bytes) in sent {
            self.deliver(from, to, bytes);
        }
        has_moved
    }

    fn deliver(&mut self, from: u16, to: u16, bytes: Vec<u8>) {
        let is_cut = self.cut.contains(&from) || self.cut.contains(&to);
        if is_cut && from != CLIENT && to != CLIENT {
            return;
        }
        if let Some(queue) = self.asleep.get_mut(&to) {
            queue.push_back((address(from), bytes));
        } else if let Some(node) = self.nodes.get_mut(&to) {
            node.handle_datagram(self.now, address(from), &bytes);
        } else {
            self.client.handle_datagram(self.now, address(from), &bytes);
        }
    }

    fn leader(&self) -> Option<u16> {
        let leads = |node: &Node<M>| node.raft().is_settled_leader();
        let leaders = self.nodes.iter().filter(|(_, node)| leads(node));
        leaders.max_by_key(|(_, node)| node.raft().term()).map(|(number, _)| *number)
    }

    pub(super) fn elected_with(machine: impl Fn(u16) -> M) -> (Self, u16) {
        let mut net = Self::new(machine);
        net.run_for(Duration::from_secs(2));
        let leader = net.leader().expect("a leader after two seconds");
        (net, leader)
    }

    fn call(&mut self, to: u16, request: &ClientRequest<'_>) -> CallId {
        let link = self.client.connect(self.now, address(to), None);
        let mut body = Vec::new();
        encode_request(GroupId(0), request, &mut body);
        self.client.call(self.now, link, Class::Once, body).unwrap()
    }

    fn ask<T>(&mut self, to: u16, request: &ClientRequest<'_>, read: impl Fn(ClientReply<'_>) -> T) -> T {
        let call = self.call(to, request);
        self.run_for(Duration::from_secs(1));
        self.reply(call, read)
    }

    fn reply<T>(&self, call: CallId, read: impl Fn(ClientReply<'_>) -> T) -> T {
        let body = self.replies.get(&call).expect("an answer has come");
        read(decode_reply(body).unwrap().1)
    }
}

fn write<'a>(session: SessionId, command: &'a [u8]) -> ClientRequest<'a> {
    let finished = crate::wire::Ranges::of(&[]);
    ClientRequest::Propose(Propose { session, sequence: Sequence(1), finished, command })
}

/// The same (session, sequence) in other calls, to the old leader and to the new one.
#[test]
fn a_step_down_sends_waiting_clients_away_and_their_retry_takes_effect_once() {
    let (mut net, old) = Net::elected();
    let session = net.ask(old, &ClientRequest::OpenSession, |reply| match reply {
        ClientReply::SessionOpened { session } => session,
        other => panic!("{other:?}"),
    });
    let command = Command::Cas { key: b"k", old: None, new: b"v" }.to_bytes();
    // The first attempt is committed, and its answer is lost on the way: the client sees another leader.
    let first = net.call(old, &write(session, &command));
    net.run_for(Duration::from_millis(100));
    assert!(net.replies.contains_key(&first));
    net.cut.insert(old);
    let waiting = net.call(old, &write(session, &command));
    let read = ClientRequest::Read { level: crate::wire::client::ReadLevel::Linearizable, query: b"" };
    let reading = net.call(old, &read);
    net.run_for(Duration::from_millis(200));
    assert!(!net.replies.contains_key(&waiting), "a leader without a quorum answered a write");
    assert!(!net.replies.contains_key(&reading), "a leader without a quorum answered a read");
    net.run_for(Duration::from_secs(3));
    for call in [waiting, reading] {
        net.reply(call, |reply| assert!(matches!(reply, ClientReply::Redirect { .. }), "{reply:?}"));
    }
    let new = net.leader().expect("another leads");
    assert_ne!(new, old);
    let again = net.call(new, &write(session, &command));
    net.run_for(Duration::from_secs(1));
    let result = |reply: ClientReply<'_>| match reply {
        ClientReply::Applied(outcome) => {
            let result = CommandResult::decode(outcome.result).unwrap();
            assert!(matches!(result, CommandResult::Done { .. }), "carried out a second time: {result:?}");
            outcome.index
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(net.reply(first, result), net.reply(again, result), "one entry took effect");
    net.cut.clear();
    net.run_for(Duration::from_secs(2));
    assert!(net.nodes.values().all(|node| node.writes.is_empty() && node.reads.is_empty()));
}

/// A client that lost patience with a slow leader: its retry waits with the first call, and costs no entry.
#[test]
fn a_retry_of_a_write_that_still_waits_shares_its_entry() {
    let (mut net, leader) = Net::elected();
    let session = net.ask(leader, &ClientRequest::OpenSession, |reply| match reply {
        ClientReply::SessionOpened { session } => session,
        other => panic!("{other:?}"),
    });
    let command = Command::Cas { key: b"k", old: None, new: b"v" }.to_bytes();
    let last = net.nodes[&leader].raft().last_index();
    net.cut.insert(leader);
    let calls = [(); 3].map(|()| net.call(leader, &write(session, &command)));
    net.run_for(Duration::from_millis(50));
    assert_eq!(net.nodes[&leader].load().writes, 3, "all of them wait");
    net.cut.clear();
    net.run_for(Duration::from_millis(500));
    assert_eq!(net.nodes[&leader].raft().last_index(), last.next(), "one entry for all of them");
    for call in calls {
        let index = net.reply(call, |reply| match reply {
            ClientReply::Applied(outcome) => outcome.index,
            other => panic!("{other:?}"),
        });
        assert_eq!(index, last.next());
    }
    assert!(net.nodes[&leader].writes.is_empty());
}

/// What came while the process stood still is heard before its timers fire.
#[test]
fn a_paused_follower_hears_what_came_before_it_acts_on_the_time() {
    let (mut net, leader) = Net::elected();
    let sleeper = (1..=3).find(|number| *number != leader).unwrap();
    let term = net.nodes[&sleeper].raft().term();
    net.asleep.insert(sleeper, VecDeque::new());
    // Longer than every election timeout, and the leader's heartbeats wait.
    net.run_for(Duration::from_millis(600));
    let queued = net.asleep.remove(&sleeper).unwrap();
    let (now, node) = (net.now, net.nodes.get_mut(&sleeper).unwrap());
    for (from, bytes) in queued {
        node.handle_datagram(now, from, &bytes);
    }
    node.handle_timeout(now);
    node.turn(now);
    assert_eq!(
        (node.raft().role(), node.raft().term()),
        (RoleKind::Follower, term),
        "it acted on the time first"
    );
}

/// The digest by which founders agree covers the voters and the backup, if there is one. [W-67]
#[test]
fn founders_with_different_backups_or_none_show_different_digests() {
    let voters: BTreeMap<NodeId, String> = [(node_id(1), "a:1".to_owned())].into();
    let id = crate::snapshot::SnapshotId { index: crate::types::Index(7), ..Default::default() };
    let backup = crate::snapshot::SnapshotMeta { id, bytes: 9, digest: 0xab };
    let digest = |restored| Plan::Found { voters: voters.clone(), restored }.digest().unwrap();
    let of = |text: &str| crate::hash::Fnv1a::default().bytes(text.as_bytes()).finish();
    assert_eq!(digest(None), of("1=a:1\n"));
    assert_eq!(digest(Some(backup)), of("1=a:1\nrestored 7 00000000000000ab\n"));
}

/// A blank node's hello may grant no room for any question.
#[test]
fn a_blank_node_survives_a_peer_that_takes_no_questions() {
    let now = Instant::from_nanos(1_000);
    let voters: BTreeMap<NodeId, String> = (1..=2).map(|n| (node_id(n), address(n).to_string())).collect();
    let blank = |number| Blank {
        identity: Identity { node: node_id(number), store: store(number) },
        incarnation: Incarnation(1),
        boot_nonce: BootNonce([number as u8; 16]),
    };
    let founder = |number: u16, config: RpcConfig| {
        let contacts = [(Some(node_id(3 - number)), address(3 - number))];
        let plan = Plan::Found { voters: voters.clone(), restored: None };
        Founding::new(plan, blank(number), &contacts, config, Rng::from_seed(u64::from(number)), now)
    };
    let stingy = RpcConfig { body_bytes_max: 1, credit_bytes: 1, ..RpcConfig::default() };
    let mut founders = [founder(1, RpcConfig::default()), founder(2, stingy)];
    let mut now = now;
    for _ in 0..50 {
        let mut sent = Vec::new();
        for (from, founder) in (1..).zip(&mut founders) {
            founder.handle_timeout(now);
            founder.turn(now);
            while let Some(output) = founder.poll_output() {
                match output {
                    FoundingOutput::Transmit { to, bytes } => sent.push((from, to.port() - 7101, bytes)),
                    FoundingOutput::Founded(record) => return assert_eq!(record.membership.voters.len(), 2),
                    other => panic!("{other:?}"),
                }
            }
        }
        for (from, to, bytes) in sent {
            founders[usize::from(to)].handle_datagram(now, address(from), &bytes);
        }
        now += Duration::from_millis(20);
    }
    panic!("not founded within a second");
}

fn info(nonce: u8) -> PeerInfo {
    PeerInfo {
        identity: Some(Identity { node: node_id(2), store: store(2) }),
        incarnation: Incarnation(5),
        boot_nonce: BootNonce([nonce; 16]),
        cluster: ClusterId([7; 16]),
        greeting: Greeting::Plain,
        election_timeout_min: Duration::from_millis(250),
        election_timeout_max: Duration::from_millis(500),
        heartbeat: Duration::from_millis(25),
        address: address(2),
        trust: Trust::None,
    }
}

/// A message that makes whoever listens to it adopt this term.
fn of_term(term: u64) -> Vec<u8> {
    let term = Term(term);
    let reply = VoteReply { term, campaign_term: term, campaign: 1, is_granted: false };
    let mut body = Vec::new();
    encode_message(GroupId(0), &Message::VoteReply(reply), &mut body);
    body
}

/// Two boots of one incarnation prove themselves in quick succession: the record of the first must not vouch for
/// the second.
#[test]
fn a_copy_that_comes_while_the_original_is_recorded_is_not_adopted() {
    let now = Instant::from_nanos(1_000);
    let mut node = node(1, Rng::from_seed(1), now);
    let link = node.peers[&node_id(2)].link;
    node.on_connected(link, &info(1));
    node.on_connected(link, &info(2));
    let recorded = |node: &mut Node<Kv>, nonce: u8, seen| {
        node.handle_peer_recorded(now, store(2), Incarnation(5), BootNonce([nonce; 16]), seen);
    };
    recorded(&mut node, 1, PeerRecord::Adopted);
    assert!(
        matches!(node.standing_of(link), Some(Standing::Recording { .. })),
        "{:?}",
        node.standing_of(link)
    );
    recorded(&mut node, 2, PeerRecord::Copy);
    assert!(matches!(node.standing_of(link), Some(Standing::Ignored)));
    node.on_peer_message(now, link, None, of_term(9));
    assert_eq!(node.raft().term(), Term(0), "a copy was listened to");
}

/// An answer that comes while its sender's boot is being recorded is not lost: nobody would send it again.
#[test]
fn what_an_unrecorded_peer_says_waits_for_its_record() {
    let now = Instant::from_nanos(1_000);
    let mut node = node(1, Rng::from_seed(1), now);
    let link = node.peers[&node_id(2)].link;
    node.on_connected(link, &info(1));
    node.on_peer_message(now, link, None, of_term(9));
    assert_eq!(node.raft().term(), Term(0), "listened to before it was recorded");
    node.handle_peer_recorded(now, store(2), Incarnation(5), BootNonce([1; 16]), PeerRecord::Adopted);
    assert_eq!(node.raft().term(), Term(9));
}

#[test]
fn a_store_that_cannot_be_recorded_is_not_listened_to() {
    let now = Instant::from_nanos(1_000);
    let mut node = node(1, Rng::from_seed(1), now);
    let link = node.peers[&node_id(2)].link;
    node.on_connected(link, &info(1));
    node.handle_peer_recorded(now, store(2), Incarnation(5), BootNonce([1; 16]), PeerRecord::NoRoom);
    node.on_peer_message(now, link, None, of_term(9));
    assert_eq!(node.raft().term(), Term(0));
}

/// A client's key makes a client of its holder, and what a client says as a member is not heard.
#[test]
fn nobody_is_heard_as_a_member_over_a_client_s_link() {
    let (mut net, leader) = Net::elected();
    let term = net.nodes[&leader].raft().term();
    let link = net.client.connect(net.now, address(leader), None);
    net.client.call(net.now, link, Class::Again, of_term(99)).unwrap();
    net.run_for(Duration::from_secs(1));
    net.client.notice(net.now, link, of_term(99)).unwrap();
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.nodes[&leader].raft().term(), term);
}

/// Anyone who knows the cluster's id can say hello as any node.
#[test]
fn a_status_has_room_for_the_members_whoever_else_said_hello() {
    let now = Instant::ZERO + Duration::from_secs(1);
    let mut node = node(2, Rng::from_seed(1), now);
    for number in 1000..1300 {
        let link = node.rpc.connect(now, address(number), Some(node_id(number)));
        node.peers.insert(node_id(number), Peer { link, standing: Standing::Unknown, dialed: None });
    }
    let peers = node.status().peers;
    assert_eq!(peers.len(), STATUS_ROWS_MAX);
    assert_eq!(peers[..2].iter().map(|peer| peer.node).collect::<Vec<_>>(), [node_id(1), node_id(3)]);
    let mut body = Vec::new();
    encode_reply(GroupId(0), &ClientReply::Status(Box::new(node.status())), &mut body);
    assert!(decode_reply(&body).is_ok());
}

/// [W-111]
#[test]
fn faults_are_set_only_in_a_node_that_was_started_for_them() {
    let (mut net, leader) = Net::elected();
    let clear = ClientRequest::SetFaults(crate::wire::fault::FaultRequest::Clear);
    let refusal = |reply: ClientReply<'_>| match reply {
        ClientReply::Refused { code, .. } => Some(code),
        _ => None,
    };
    assert_eq!(net.ask(leader, &clear, refusal), Some(crate::wire::client::RefusalCode::NotAllowed));
    if let Some(node) = net.nodes.get_mut(&leader) {
        node.config.live_faults = super::LiveFaults::Allowed;
    }
    assert!(net.ask(leader, &clear, |reply| matches!(reply, ClientReply::FaultsSet)));
}
