//! Requests that are sent again and again, to any node, while leaders die: each has one effect (U1).
//!
//! `RAFTGRAM_RESENT` requests (1,000), each sent five times as calls of their own to nodes drawn at random. The
//! leader is killed and started again ten times meanwhile.

use std::time::Duration;

use raftgram::kv::Kv;
use raftgram::rng::Rng;
use raftgram::rpc::{Event, LinkId, Local, Output, Rpc, RpcConfig};
use raftgram::sim::invariant::Language;
use raftgram::sim::{Crash, End, Settings, Simulation};
use raftgram::time::Instant;
use raftgram::types::BootNonce;
use raftgram::wire::Class;

use super::copies::Copies;
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

/// Sends every request to nodes drawn at random, without ever looking who leads.
struct Repeater {
    rng: Rng,
    rpc: Rpc,
    nodes: Vec<(u16, LinkId)>,
    copies: Copies<Instant>,
}

impl Repeater {
    fn new(world: &World) -> Self {
        let mut rng = Rng::from_seed(SEED);
        let local = Local::client(BootNonce(rng.bytes16()));
        let mut rpc = Rpc::new(RpcConfig::default(), local, rng.fork(), world.now()).unwrap();
        let mut connect = |node: u16| rpc.connect(world.now(), End::node(node).address(), None);
        let nodes = (1..=world.nodes()).map(|node| (node, connect(node))).collect();
        Self { rng, rpc, nodes, copies: Copies::new(LANES) }
    }

    /// Makes copies of a lane's request; a node that takes no call now gets none.
    fn send(&mut self, world: &World, lane: u64) {
        let body = self.copies.body(lane);
        for _ in 0..COPIES {
            let (_, link) = self.nodes[self.rng.below(self.nodes.len() as u64) as usize];
            if let Ok(call) = self.rpc.call(world.now(), link, Class::Once, body.clone()) {
                self.copies.sent(lane, (link, call), world.now() + COPY_PATIENCE);
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
        for (link, call) in self.copies.late(now) {
            self.rpc.cancel(now, link, call);
            self.copies.end((link, call));
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
            Event::Reply { link, call, body } => self.copies.answered((link, call), &body),
            Event::CallFailed { link, call, .. } => self.copies.end((link, call)),
            Event::Closed { link, .. } => {
                if let Some((node, known)) = self.nodes.iter_mut().find(|(_, known)| *known == link) {
                    *known = self.rpc.connect(world.now(), End::node(*node).address(), None);
                }
            }
            _ => {}
        }
    }
}

fn tick(world: &mut World) {
    world.run_for(Duration::from_micros(250));
    assert!(world.violation().is_none(), "{:?}", world.violation());
}

fn open_session(world: &mut World, repeater: &mut Repeater) {
    while !repeater.copies.has_session() {
        if repeater.copies.is_idle(0) {
            repeater.send(world, 0);
        }
        tick(world);
        repeater.turn(world);
    }
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
    let (mut done, mut kills, mut progress_at) = (0, 0, world.now());
    while done < total {
        for lane in 0..LANES {
            let (has_ended, is_next) = repeater.copies.go_on(lane, total);
            if has_ended {
                (done, progress_at) = (done + 1, world.now());
            }
            if is_next {
                repeater.send(&world, lane);
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
    let (answers, redirects) = (repeater.copies.answers, repeater.copies.redirects);
    println!(
        "{total} requests, {answers} answers, {redirects} of them redirected or refused, {kills} leaders killed"
    );
    assert_eq!(kills, KILLS);
    for (key, value) in repeater.copies.ends(total) {
        assert_eq!(get(&mut world, &key), Some(value.into_bytes()), "{key}");
    }
}
