//! The laws of the room, under everything a network and two operators can do.
//!
//! One run: two nodes call each other at random, with small and large bodies, of both classes; answers come at once,
//! late or never; calls are cancelled; either side restarts; captured datagrams come again, hellos and confirms among
//! them; then the faults end and everything must come to rest.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::world::{CLUSTER, Faults, World, node_local, seal_config};
use crate::rpc::{CallFailure, Event, LinkId, ReplayProtection, RpcConfig, SealConfig, Token};
use crate::seal::{KeyRole, SealMode};
use crate::types::{CallId, NodeId};
use crate::wire::Class;

/// What makes runs differ.
#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    loss: f64,
    duplicate: f64,
    late: f64,
    jitter_us: u64,
    replay: ReplayProtection,
    restarts: bool,
    strays: bool,
    silence: bool,
    /// Of the two ends.
    seals: [SealMode; 2],
    packets_per_phase_max: u64,
}

fn plans() -> impl Strategy<Value = Plan> {
    (
        (any::<u64>(), 0.0..0.4, 0.0..0.5, 0.0..0.1, 0u64..400),
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        (0usize..SEALS.len(), 1u64..200),
    )
        .prop_map(
            |((seed, loss, duplicate, late, jitter_us), (window, restarts, strays, silence), seal)| Plan {
                seed,
                loss,
                duplicate,
                late,
                jitter_us,
                replay: if window { ReplayProtection::Window } else { ReplayProtection::Off },
                restarts,
                strays,
                silence,
                seals: SEALS[seal.0],
                packets_per_phase_max: seal.1,
            },
        )
}

/// The modes of two ends that can speak to each other.
const SEALS: &[[SealMode; 2]] = if cfg!(feature = "seal") {
    &[
        [SealMode::Off, SealMode::Off],
        [SealMode::Require, SealMode::Require],
        [SealMode::Accept, SealMode::Accept],
        [SealMode::Off, SealMode::Accept],
        [SealMode::Accept, SealMode::Require],
    ]
} else {
    &[[SealMode::Off, SealMode::Off]]
};

/// An open call as its caller remembers it.
#[derive(Clone, Debug)]
struct Open {
    class: Class,
    body: Vec<u8>,
}

struct Run {
    world: World,
    plan: Plan,
    /// By end and boot, what is open; a restart forgets it.
    open: [BTreeMap<(LinkId, CallId), Open>; 2],
    links: [LinkId; 2],
    serial: u64,
    /// Bodies carried out, by executing end: at most once each for class once.
    executed: BTreeSet<(usize, u64)>,
    boots: [u32; 2],
    /// Whether the peer of an end restarted since the end's boot.
    has_peer_restarted: [bool; 2],
    unanswered: Vec<(usize, u32, Token, Vec<u8>)>,
    ended: u64,
    answered: u64,
    /// The faults are over, and every request is answered at once.
    is_resting: bool,
}

fn answer_to(body: &[u8]) -> Vec<u8> {
    let mut answer: Vec<u8> = body.iter().rev().copied().collect();
    answer.push(body[0] ^ 0x5a);
    answer
}

impl Run {
    fn new(plan: Plan) -> Self {
        let faults = Faults {
            loss: plan.loss,
            duplicate: plan.duplicate,
            late: plan.late,
            delay_max: Duration::from_micros(50 + plan.jitter_us),
            ..Faults::none()
        };
        let mut world = World::new(plan.seed, faults);
        let config = RpcConfig {
            replay: plan.replay,
            hello_retry_min: Duration::from_millis(5),
            hello_retry_max: Duration::from_millis(50),
            ..RpcConfig::default()
        };
        for (id, mode) in (1..).zip(plan.seals) {
            let mut config = config.clone();
            if mode != SealMode::Off {
                let seal = seal_config(mode, &[(KeyRole::Cluster, 1)]);
                config.seal = SealConfig { packets_per_phase_max: plan.packets_per_phase_max, ..seal };
            }
            world.add(node_local(id, CLUSTER), config);
        }
        world.record = Some(Vec::new());
        // Both greet at once: the hellos cross.
        let links = [world.connect(0, 1), world.connect(1, 0)];
        Self {
            world,
            plan,
            open: [BTreeMap::new(), BTreeMap::new()],
            links,
            serial: 0,
            executed: BTreeSet::new(),
            boots: [0, 0],
            has_peer_restarted: [false, false],
            unanswered: Vec::new(),
            ended: 0,
            answered: 0,
            is_resting: false,
        }
    }

    fn run(mut self) -> Self {
        for _ in 0..150 {
            self.act();
            let until = self.world.now + Duration::from_micros(20 + self.world.rng.below(3000));
            self.run_until(until);
        }
        self.world.faults = Faults::none();
        self.world.cut.clear();
        self.is_resting = true;
        let answers: Vec<_> = self.unanswered.drain(..).collect();
        for (place, boot, token, body) in answers {
            self.answer(place, boot, token, &body);
        }
        let until = self.world.now + Duration::from_secs(4);
        self.run_until(until);
        self
    }

    fn run_until(&mut self, until: crate::time::Instant) {
        loop {
            let went_on = self.world.step(until);
            while let Some((place, event)) = self.world.events.pop_front() {
                self.on_event(place, event);
            }
            for place in 0..2 {
                self.world.turn(place);
            }
            if !went_on && self.world.events.is_empty() {
                return;
            }
        }
    }

    fn act(&mut self) {
        let place = self.world.rng.below(2) as usize;
        match self.world.rng.below(20) {
            0..=11 => self.call(place),
            12 | 13 => self.cancel(place),
            14 if self.plan.restarts => self.restart(place),
            15 | 16 if self.plan.strays => self.stray(),
            17 if self.plan.silence => {
                self.world.cut.insert((place, 1 - place));
            }
            18 => self.world.cut.clear(),
            _ => {}
        }
    }

    fn call(&mut self, place: usize) {
        let class = if self.world.rng.chance(0.5) { Class::Once } else { Class::Again };
        let size = match self.world.rng.below(10) {
            0 => 1000 + self.world.rng.below(30_000),
            1..=3 => 400 + self.world.rng.below(800),
            _ => 9 + self.world.rng.below(60),
        };
        self.serial += 1;
        let mut body = self.serial.to_be_bytes().to_vec();
        body.push(matches!(class, Class::Once) as u8);
        body.resize(size as usize, self.serial as u8);
        let now = self.world.now;
        let link = self.links[place];
        let call = self.world.ends[place].rpc.call(now, link, class, body.clone()).unwrap();
        let was = self.open[place].insert((link, call), Open { class, body });
        assert!(was.is_none(), "{call} was given twice");
        self.world.turn(place);
    }

    fn cancel(&mut self, place: usize) {
        if self.open[place].is_empty() {
            return;
        }
        let nth = self.world.rng.below(self.open[place].len() as u64) as usize;
        let (link, call) = *self.open[place].keys().nth(nth).unwrap();
        self.open[place].remove(&(link, call));
        let now = self.world.now;
        assert!(self.world.ends[place].rpc.cancel(now, link, call), "{call} was open");
        self.ended += 1;
        self.world.turn(place);
    }

    fn restart(&mut self, place: usize) {
        self.world.restart(place);
        self.boots[place] += 1;
        self.has_peer_restarted[1 - place] = true;
        self.ended += self.open[place].len() as u64;
        self.open[place].clear();
        self.unanswered.retain(|(end, ..)| *end != place);
        self.links[place] = self.world.connect(place, 1 - place);
    }

    /// Something captured comes again, from where it came: anything, and one of the first handshakes.
    fn stray(&mut self) {
        let Some(record) = self.world.record.take() else {
            return;
        };
        let any = self.world.rng.below(record.len() as u64) as usize;
        let early = self.world.rng.below(record.len().min(6) as u64) as usize;
        for nth in [any, early] {
            let (from, to, bytes) = record[nth].clone();
            let delay = Duration::from_micros(self.world.rng.below(500));
            self.world.inject(from, to, bytes, delay);
        }
        self.world.record = Some(record);
    }

    fn on_event(&mut self, place: usize, event: Event) {
        match event {
            Event::Request { token, class, body, .. } => self.on_request(place, token, class, body),
            Event::Reply { link, call, body } => {
                let open = self.open[place].remove(&(link, call));
                let open = open.unwrap_or_else(|| panic!("{call} ended twice or was never made"));
                assert_eq!(body, answer_to(&open.body), "{call} got another call's answer");
                self.ended += 1;
                self.answered += 1;
            }
            Event::CallFailed { link, call, reason } => {
                let open = self.open[place].remove(&(link, call));
                let open = open.unwrap_or_else(|| panic!("{call} ended twice or was never made"));
                self.ended += 1;
                match reason {
                    CallFailure::OutcomeUnknown => assert_eq!(open.class, Class::Once),
                    CallFailure::PeerRestarted => assert_eq!(open.class, Class::Again),
                    // Its link led to the peer that another link led to already.
                    CallFailure::LinkClosed => return,
                    other => panic!("{call}: {other}"),
                }
                assert!(self.has_peer_restarted[place], "{call} failed and nobody restarted");
            }
            Event::Closed { link, reason } => {
                let crate::rpc::CloseReason::SameAs(other) = reason else {
                    panic!("{link} closed: {reason:?}");
                };
                assert_eq!(self.links[place], link);
                self.links[place] = other;
            }
            _ => {}
        }
    }

    fn on_request(&mut self, place: usize, token: Token, class: Class, body: Vec<u8>) {
        let serial = u64::from_be_bytes(body[..8].try_into().unwrap());
        assert_eq!(body[8] == 1, class == Class::Once, "the class of {serial}");
        // A call belongs to the pair of its first copy: no later boot of the callee carries it out either.
        let is_new = self.executed.insert((place, serial));
        assert!(is_new || class == Class::Again, "call {serial} was carried out twice");
        match self.world.rng.below(10) {
            choice if choice < 6 || self.is_resting => {
                self.answer(place, self.boots[place], token, &body);
            }
            _ => self.unanswered.push((place, self.boots[place], token, body)),
        }
        if self.world.rng.chance(0.3) && !self.unanswered.is_empty() {
            let nth = self.world.rng.below(self.unanswered.len() as u64) as usize;
            let (place, boot, token, body) = self.unanswered.swap_remove(nth);
            self.answer(place, boot, token, &body);
        }
    }

    fn answer(&mut self, place: usize, boot: u32, token: Token, body: &[u8]) {
        if boot == self.boots[place] {
            let now = self.world.now;
            self.world.ends[place].rpc.reply(now, token, answer_to(body));
            self.world.turn(place);
        }
    }

    /// After the faults have ended and time has passed.
    fn check_rest(&self) {
        assert_eq!(self.ended, self.serial, "calls still open: {:?}", self.open.each_ref().map(|o| o.len()));
        for place in 0..2 {
            let rpc = &self.world.ends[place].rpc;
            let other = NodeId::new(2 - place as u16).unwrap();
            let link = rpc.link_to(other).expect("linked");
            let stats = rpc.link_stats(link).unwrap();
            assert_eq!(stats.in_flight_bytes, 0, "{stats:?}");
            assert_eq!((stats.calls_open, stats.calls_served), (0, 0), "{stats:?}");
            assert_eq!(rpc.arriving_bytes_and_credit(link), (0, 0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 64, ..ProptestConfig::default() })]

    /// Laws 1 to 5 and 9: every call ends exactly once, a `once` body is carried out at most once per pair, a reply
    /// belongs to its call, calls fail only for a reason, and after the faults nothing is left anywhere. (U1, U3, U4,
    /// U6, U14, I9, C1)
    #[test]
    fn the_laws_of_calls_hold_under_any_faults(plan in plans()) {
        let run = Run::new(plan).run();
        run.check_rest();
    }
}
