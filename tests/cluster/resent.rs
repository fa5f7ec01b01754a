//! Requests that are sent again and again, to any node, while leaders die: each has one effect (U1).
//!
//! `RAFTGRAM_RESENT` requests (1,000), each sent five times as calls of their own to nodes drawn at random. The
//! leader is killed and started again ten times meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use raftgram::kv::{Command, CommandResult, Kv};
use raftgram::rng::Rng;
use raftgram::rpc::{Event, LinkId, Local, Output, Rpc, RpcConfig};
use raftgram::sim::invariant::Language;
use raftgram::sim::{Crash, End, Settings, Simulation};
use raftgram::types::{BootNonce, CallId, GroupId, Index, Sequence, SessionId};
use raftgram::wire::client::{ClientReply, ClientRequest, Propose, decode_reply, encode_request};
use raftgram::wire::{Class, Ranges, Span};

use super::{World, get, rough};

const SEED: u64 = 51;
const COPIES: usize = 5;
/// Requests under way at once, each on a key of its own; fewer than a session's window.
const LANES: u64 = 64;
const KILLS: u64 = 10;
/// A copy without an answer for so long is given up; the request was not.
const COPY_PATIENCE: Duration = Duration::from_millis(300);
/// A place that no client of the simulator takes.
const HERE: End = End::Client(50);
const DELAY: Duration = Duration::from_micros(50);
const TAPPED_MAX: usize = 1 << 12;

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
    rpc: Rpc,
    nodes: Vec<(u16, LinkId)>,
    /// By call: the lane, and when it is given up.
    copies: BTreeMap<(LinkId, CallId), (u64, raftgram::time::Instant)>,
    /// By lane.
    requests: BTreeMap<u64, Request>,
    session: Option<SessionId>,
    answers: u64,
    redirects: u64,
}

impl Repeater {
    fn new(world: &World) -> Self {
        let mut rng = Rng::from_seed(SEED);
        let local = Local::client(BootNonce(rng.bytes16()));
        let mut rpc = Rpc::new(RpcConfig::default(), local, rng.fork(), world.now()).unwrap();
        let mut connect = |node: u16| rpc.connect(world.now(), End::node(node).address(), None);
        let nodes = (1..=world.nodes()).map(|node| (node, connect(node))).collect();
        let (copies, requests) = (BTreeMap::new(), BTreeMap::new());
        Self { rng, rpc, nodes, copies, requests, session: None, answers: 0, redirects: 0 }
    }

    /// Makes copies of a lane's request; a node that takes no call now gets none.
    fn send(&mut self, world: &World, lane: u64) {
        let request = self.requests.get_mut(&lane).unwrap();
        let (sequence, value) = (request.sequence, request.sequence.to_string());
        // Its lane's last one stands there, or nothing: a second effect would find itself.
        let before = (sequence > LANES).then(|| (sequence - LANES).to_string());
        let key = format!("lane-{lane}");
        let (old, new) = (before.as_deref().map(str::as_bytes), value.as_bytes());
        let command = Command::Cas { key: key.as_bytes(), old, new }.to_bytes();
        let lowest = self.requests.values().map(|request| request.sequence).min().unwrap_or(sequence);
        let told = [Span { first: 1, last: lowest.saturating_sub(1) }];
        let finished = Ranges::of(if lowest > 1 { &told[..] } else { &[] });
        let asked = match self.session {
            None => ClientRequest::OpenSession,
            Some(session) => {
                let sequence = Sequence(sequence);
                ClientRequest::Propose(Propose { session, sequence, finished, command: &command })
            }
        };
        let mut body = Vec::new();
        encode_request(GroupId(0), &asked, &mut body);
        let until = world.now() + COPY_PATIENCE;
        for _ in 0..COPIES {
            let (_, link) = self.nodes[self.rng.below(self.nodes.len() as u64) as usize];
            if let Ok(call) = self.rpc.call(world.now(), link, Class::Once, body.clone()) {
                self.copies.insert((link, call), (lane, until));
                self.requests.get_mut(&lane).unwrap().open += 1;
            }
        }
    }

    /// Hears what the nodes sent here since the last turn, gives up what is late, and sends what there is to send.
    fn turn(&mut self, world: &mut World) {
        let now = world.now();
        let heard: Vec<_> = world.tapped().filter(|(_, to, _)| *to == HERE).cloned().collect();
        world.tap(0);
        world.tap(TAPPED_MAX);
        for (from, _, bytes) in heard {
            self.rpc.handle_datagram(now, from.address(), &bytes);
        }
        self.rpc.handle_timeout(now);
        let late = self.copies.iter().filter(|(_, (_, until))| now >= *until);
        for (link, call) in late.map(|(copy, _)| *copy).collect::<Vec<_>>() {
            self.rpc.cancel(now, link, call);
            self.end_copy(link, call);
        }
        self.rpc.flush(now);
        while let Some(output) = self.rpc.poll_output() {
            match output {
                Output::Transmit { to, bytes } => {
                    let (node, _) =
                        self.nodes.iter().find(|(node, _)| End::node(*node).address() == to).unwrap();
                    world.inject(HERE, End::node(*node), bytes, DELAY);
                }
                Output::Event(event) => self.on_event(world, event),
            }
        }
    }

    fn on_event(&mut self, world: &World, event: Event) {
        match event {
            Event::Reply { link, call, body } => {
                if let Some((lane, _)) = self.copies.get(&(link, call)) {
                    self.take(*lane, &decode_reply(&body).unwrap().1);
                    self.end_copy(link, call);
                }
            }
            Event::CallFailed { link, call, .. } => self.end_copy(link, call),
            Event::Closed { link, .. } => {
                if let Some((node, known)) = self.nodes.iter_mut().find(|(_, known)| *known == link) {
                    *known = self.rpc.connect(world.now(), End::node(*node).address(), None);
                }
            }
            _ => {}
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

    fn end_copy(&mut self, link: LinkId, call: CallId) {
        let copy = self.copies.remove(&(link, call));
        if let Some(request) = copy.and_then(|(lane, _)| self.requests.get_mut(&lane)) {
            request.open -= 1;
        }
    }

    /// True when none of the lane's copies is under way.
    fn is_idle(&self, lane: u64) -> bool {
        self.requests.get(&lane).is_none_or(|request| request.open == 0)
    }

    /// Ends the lane's request if it is answered, begins its next one, and sends what is to be sent. Returns how many
    /// requests ended.
    fn go_on(&mut self, world: &World, lane: u64, next: &mut u64, total: u64) -> u64 {
        if !self.is_idle(lane) {
            return 0;
        }
        let is_done = self.requests.get(&lane).is_some_and(|request| request.applied.is_some());
        if is_done {
            self.requests.remove(&lane);
        }
        // A lane's next request rests on its last one; lanes take their turns in order.
        if !self.requests.contains_key(&lane) && *next <= total && (*next - 1) % LANES == lane {
            self.requests.insert(lane, Request { sequence: *next, open: 0, applied: None });
            *next += 1;
        }
        if self.requests.contains_key(&lane) {
            self.send(world, lane);
        }
        u64::from(is_done)
    }
}

fn tick(world: &mut World) {
    world.run_for(Duration::from_micros(250));
    assert!(world.violation().is_none(), "{:?}", world.violation());
}

fn open_session(world: &mut World, repeater: &mut Repeater) {
    repeater.requests.insert(0, Request { sequence: 1, open: 0, applied: None });
    while repeater.session.is_none() || !repeater.is_idle(0) {
        if repeater.session.is_none() && repeater.is_idle(0) {
            repeater.send(world, 0);
        }
        tick(world);
        repeater.turn(world);
    }
    repeater.requests.clear();
}

#[test]
fn requests_sent_five_times_to_any_node_take_effect_once_u1() {
    let total: u64 = std::env::var("RAFTGRAM_RESENT").map_or(1_000, |text| text.parse().unwrap());
    // The checks do not see what is sent from here, and so cannot judge what is read.
    let settings = Settings { link: rough(), language: Language::Opaque, ..Settings::new(SEED, 3) };
    let mut world: World = Simulation::new(settings, Kv::new);
    world.found();
    world.tap(TAPPED_MAX);
    let mut repeater = Repeater::new(&world);
    open_session(&mut world, &mut repeater);
    let (mut next, mut done, mut kills, mut progress_at) = (1, 0, 0, world.now());
    while done < total {
        for lane in 0..LANES {
            let ended = repeater.go_on(&world, lane, &mut next, total);
            if ended > 0 {
                (done, progress_at) = (done + ended, world.now());
            }
        }
        repeater.turn(&mut world);
        tick(&mut world);
        assert!(world.now() < progress_at + super::LONG, "no request ends any more: {done} of {total}");
        if done > (kills + 1) * total / (KILLS + 1)
            && kills < KILLS
            && let Some(leader) = world.leader()
        {
            world.restart(leader, Crash::Kill).unwrap();
            kills += 1;
        }
    }
    let (answers, redirects) = (repeater.answers, repeater.redirects);
    println!(
        "{total} requests, {answers} answers, {redirects} of them redirected or refused, {kills} leaders killed"
    );
    assert_eq!(kills, KILLS);
    for lane in 0..LANES.min(total) {
        let last = (total - lane - 1) / LANES * LANES + lane + 1;
        let found = get(&mut world, &format!("lane-{lane}"));
        assert_eq!(found, Some(last.to_string().into_bytes()), "lane {lane}");
    }
}
