//! Requests that are sent again and again, to any node, while leaders die: each has one effect (U1).
//!
//! `RAFTGRAM_RESENT` requests (2,000), each sent five times as calls of their own to nodes drawn at random; a seed is
//! printed. The leader is killed and started again ten times meanwhile.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use raftgram::kv::{Command, CommandResult};
use raftgram::rng::Rng;
use raftgram::rpc::{Event, LinkId, Local, Output, Rpc, RpcConfig};
use raftgram::run::net::Net;
use raftgram::time::Instant;
use raftgram::types::{BootNonce, CallId, GroupId, Index, Sequence, SessionId};
use raftgram::wire::client::{ClientReply, ClientRequest, Propose, decode_reply, encode_request};
use raftgram::wire::{Class, Ranges, Span};

use crate::cluster::{Cluster, Start, connect, read};
use crate::process::PATIENCE;

const COPIES: usize = 5;
/// Requests under way at once, each on a key of its own; fewer than a session's window.
const LANES: u64 = 32;
const KILLS: u64 = 10;
/// A copy without an answer for so long is given up; the request was not.
const COPY_PATIENCE: Duration = Duration::from_millis(300);

/// A request and its copies.
struct Request {
    sequence: u64,
    /// Copies that have neither an answer nor been given up.
    open: usize,
    /// What the first answer said; every other must say the same.
    applied: Option<(Index, Vec<u8>)>,
}

/// Sends every request to nodes drawn at random, without ever looking who leads.
struct Repeater {
    rng: Rng,
    net: Net,
    rpc: Rpc,
    nodes: Vec<(SocketAddr, LinkId)>,
    copies: BTreeMap<(LinkId, CallId), (u64, Instant)>,
    /// By lane.
    requests: BTreeMap<u64, Request>,
    session: Option<SessionId>,
    answers: u64,
    redirects: u64,
}

impl Repeater {
    fn new(addresses: &[SocketAddr], mut rng: Rng) -> Self {
        let net = Net::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
        let now = net.now();
        let local = Local::client(BootNonce(rng.bytes16()));
        let mut rpc = Rpc::new(RpcConfig::default(), local, rng.fork(), now).unwrap();
        let nodes = addresses.iter().map(|address| (*address, rpc.connect(now, *address, None))).collect();
        let (copies, requests) = (BTreeMap::new(), BTreeMap::new());
        Self { rng, net, rpc, nodes, copies, requests, session: None, answers: 0, redirects: 0 }
    }

    /// Makes copies of a lane's request; a node that takes no call now gets none.
    fn send(&mut self, lane: u64) {
        let sequence = self.requests[&lane].sequence;
        let value = sequence.to_string();
        let before = (sequence > LANES).then(|| (sequence - LANES).to_string());
        let key = format!("lane-{lane}");
        let (old, new) = (before.as_deref().map(str::as_bytes), value.as_bytes());
        let command = Command::Cas { key: key.as_bytes(), old, new }.to_bytes();
        let lowest = self.requests.values().map(|request| request.sequence).min().unwrap_or(sequence);
        let told = [Span { first: 1, last: lowest.saturating_sub(1) }];
        let finished = Ranges::of(if lowest > 1 { &told[..] } else { &[] });
        let request = match self.session {
            None => ClientRequest::OpenSession,
            Some(session) => {
                let sequence = Sequence(sequence);
                ClientRequest::Propose(Propose { session, sequence, finished, command: &command })
            }
        };
        let mut body = Vec::new();
        encode_request(GroupId(0), &request, &mut body);
        let now = self.net.now();
        for _ in 0..COPIES {
            let (_, link) = self.nodes[self.rng.below(self.nodes.len() as u64) as usize];
            if let Ok(call) = self.rpc.call(now, link, Class::Once, body.clone()) {
                self.copies.insert((link, call), (lane, now));
                self.requests.get_mut(&lane).unwrap().open += 1;
            }
        }
    }

    /// One turn of the loop; the lanes whose copies have all ended.
    fn turn(&mut self) -> Vec<u64> {
        let look_up = self.net.now() + Duration::from_millis(20);
        let wake = self.rpc.poll_timeout().map_or(look_up, |at| at.min(look_up));
        self.net.wait(Some(wake)).unwrap();
        let rpc = &mut self.rpc;
        self.net.receive(|now, from, bytes| rpc.handle_datagram(now, from, bytes));
        let now = self.net.now();
        self.rpc.handle_timeout(now);
        self.rpc.flush(now);
        let mut over = Vec::new();
        while let Some(output) = self.rpc.poll_output() {
            match output {
                Output::Transmit { to, bytes } => self.net.queue(to, bytes),
                Output::Event(event) => over.extend(self.on_event(now, event)),
            }
        }
        let late = self.copies.iter().filter(|(_, (_, sent))| now >= *sent + COPY_PATIENCE);
        let late: Vec<(LinkId, CallId)> = late.map(|(copy, _)| *copy).collect();
        for (link, call) in late {
            self.rpc.cancel(now, link, call);
            over.extend(self.end_copy(link, call));
        }
        let rpc = &mut self.rpc;
        self.net.send(|to, error| rpc.handle_send_error(now, to, error));
        over
    }

    fn on_event(&mut self, now: Instant, event: Event) -> Option<u64> {
        match event {
            Event::Reply { link, call, body } => {
                let (lane, _) = *self.copies.get(&(link, call))?;
                self.take(lane, &decode_reply(&body).unwrap().1);
                self.end_copy(link, call)
            }
            Event::CallFailed { link, call, .. } => self.end_copy(link, call),
            Event::Closed { link, .. } => {
                let node = self.nodes.iter_mut().find(|(_, known)| *known == link);
                if let Some((address, known)) = node {
                    *known = self.rpc.connect(now, *address, None);
                }
                None
            }
            _ => None,
        }
    }

    fn take(&mut self, lane: u64, reply: &ClientReply<'_>) {
        self.answers += 1;
        match reply {
            // Several may be opened; one is enough.
            ClientReply::SessionOpened { session } => self.session = self.session.or(Some(*session)),
            ClientReply::Applied(outcome) => {
                let request = self.requests.get_mut(&lane).unwrap();
                let result = CommandResult::decode(outcome.result).unwrap();
                let what = format!("request {}: {result:?} at {}", request.sequence, outcome.index);
                assert!(matches!(result, CommandResult::Done { .. }), "a second effect was tried: {what}");
                let told = (outcome.index, outcome.result.to_vec());
                let first = request.applied.get_or_insert_with(|| told.clone());
                assert_eq!(*first, told, "two answers to one request: {what}");
            }
            ClientReply::Redirect { .. } | ClientReply::Busy { .. } | ClientReply::Refused { .. } => {
                self.redirects += 1;
            }
            other => panic!("lane {lane} was answered with {other:?}"),
        }
    }

    /// The lane, when this was its last copy.
    fn end_copy(&mut self, link: LinkId, call: CallId) -> Option<u64> {
        let (lane, _) = self.copies.remove(&(link, call))?;
        let request = self.requests.get_mut(&lane)?;
        request.open -= 1;
        (request.open == 0).then_some(lane)
    }

    /// Lane 0 asks until a session is open.
    fn open_session(&mut self) {
        self.requests.insert(0, Request { sequence: 1, open: 0, applied: None });
        while self.session.is_none() {
            if self.requests[&0].open == 0 {
                self.send(0);
            }
            self.turn();
        }
        while self.requests[&0].open > 0 {
            self.turn();
        }
        self.requests.clear();
    }
}

#[test]
fn requests_sent_five_times_to_any_node_take_effect_once_u1() {
    let total: u64 = std::env::var("RAFTGRAM_RESENT").map_or(2_000, |text| text.parse().unwrap());
    let seed = raftgram::run::random_rng().unwrap().next_u64();
    println!("seed {seed}");
    let mut cluster = Cluster::founded();
    let mut repeater = Repeater::new(cluster.addresses(), Rng::from_seed(seed));
    repeater.open_session();
    let began = repeater.net.now();
    let (mut next, mut done, mut kills) = (1, 0, 0);
    let mut progress_at = began;
    while done < total {
        for lane in 0..LANES {
            let is_idle = repeater.requests.get(&lane).is_none_or(|request| request.open == 0);
            if !is_idle {
                continue;
            }
            if repeater.requests.get(&lane).is_some_and(|request| request.applied.is_some()) {
                repeater.requests.remove(&lane);
                (done, progress_at) = (done + 1, repeater.net.now());
            }
            // A lane's next request rests on its last one; lanes take their turns in order.
            if !repeater.requests.contains_key(&lane) && next <= total && (next - 1) % LANES == lane {
                repeater.requests.insert(lane, Request { sequence: next, open: 0, applied: None });
                next += 1;
            }
            if repeater.requests.contains_key(&lane) {
                repeater.send(lane);
            }
        }
        repeater.turn();
        assert!(repeater.net.now() < progress_at + PATIENCE, "no request ends any more: {done} of {total}");
        if done > (kills + 1) * total / (KILLS + 1) && kills < KILLS {
            let (leader, _) = cluster.leader();
            cluster.kill(leader);
            cluster.start(leader, Start::AsItIs);
            kills += 1;
        }
    }
    let took = repeater.net.now().saturating_since(began);
    println!(
        "{total} requests, {} answers, {} of them redirected or refused, {kills} leaders killed, {took:?}",
        repeater.answers, repeater.redirects
    );
    assert_eq!(kills, KILLS);
    let client = connect(cluster.addresses());
    for lane in 0..LANES.min(total) {
        let last = (total - lane - 1) / LANES * LANES + lane + 1;
        let found = read(&client, &format!("lane-{lane}"), raftgram::ReadLevel::Linearizable);
        assert_eq!(found, Some(last.to_string()), "lane {lane}");
    }
}
