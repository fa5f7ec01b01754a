//! Small worlds, complete: every order of events of a bounded two-term election among three nodes.
//!
//! The search goes depth first through every choice that [`World`] offers, with every invariant checked after every
//! step, and never twice through states of equal digest. What bounds it is how often something may happen
//! ([`Bounds`]) and that nobody campaigns beyond the last term; within the bounds nothing is left out, but that
//! node 1 is the first to time out, as all nodes are alike at the start.
//!
//! Messages need no bound for being lost: one that stays in the bag to the end was. What the world itself leaves out
//! is told in `world`.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::id;
use super::world::{Action, World};
use crate::raft::RoleKind;
use crate::types::{NodeId, Term};

/// How often things may happen. What the environment names replaces a number, for longer searches:
/// `EXPLORE_TIMEOUTS`, `EXPLORE_BEATS`, `EXPLORE_REBOOTS`, `EXPLORE_DUPLICATES`, `EXPLORE_PROPOSALS`,
/// `EXPLORE_TERMS`.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Election timeouts, and leaders that hear no quorum.
    timeouts: u8,
    /// Of a leader, after the one that its election sends; with none, that one is lost too, and followers learn
    /// of their leader by its appends.
    beats: u8,
    reboots: u8,
    duplicates: u8,
    proposals: u8,
    /// Nobody campaigns for a later term.
    terms: u8,
}

impl Bounds {
    fn with_environment(self) -> Self {
        let number = |name: &str, default: u8| {
            std::env::var(format!("EXPLORE_{name}"))
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        Self {
            timeouts: number("TIMEOUTS", self.timeouts),
            beats: number("BEATS", self.beats),
            reboots: number("REBOOTS", self.reboots),
            duplicates: number("DUPLICATES", self.duplicates),
            proposals: number("PROPOSALS", self.proposals),
            terms: number("TERMS", self.terms),
        }
    }

    /// What is left after this.
    fn after(mut self, action: Action) -> Self {
        match action {
            Action::Timeout(_) => self.timeouts -= 1,
            Action::Beat(_) => self.beats -= 1,
            Action::Reboot(..) => self.reboots -= 1,
            Action::Duplicate(_) => self.duplicates -= 1,
            Action::Propose(_) => self.proposals -= 1,
            Action::Deliver(_) | Action::Persist(_) => {}
        }
        self
    }

    fn digest(self) -> u64 {
        let Self { timeouts, beats, reboots, duplicates, proposals, .. } = self;
        u64::from_be_bytes([0, 0, 0, timeouts, beats, reboots, duplicates, proposals])
    }
}

/// What a search that found nothing wrong saw.
#[derive(Debug, Default)]
struct Seen {
    states: BTreeSet<u64>,
    steps: u64,
    depth_max: usize,
    /// States with a leader of the first and of the second term.
    led: [u64; 2],
    /// States in which something is committed.
    committed: u64,
}

/// A broken invariant and the way to it.
#[derive(Debug)]
struct Violation {
    text: String,
    path: Vec<String>,
}

/// A state on the way from the root to the one looked at.
struct Frame {
    world: World,
    left: Bounds,
    actions: Vec<Action>,
    /// How the next one was reached.
    taken: String,
}

/// Everything that may happen here.
fn actions(world: &World, left: Bounds) -> Vec<Action> {
    let mut actions = Vec::new();
    for (node, state) in &world.nodes {
        let raft = world.raft(*node);
        let pending = state.disk.pending.len();
        if pending > 0 {
            actions.push(Action::Persist(*node));
        }
        let is_leader = raft.role() == RoleKind::Leader;
        let may_campaign = raft.term() < Term(u64::from(left.terms)) && raft.poll_timeout().is_some();
        if left.timeouts > 0 && (is_leader || may_campaign) {
            actions.push(Action::Timeout(*node));
        }
        if left.beats > 0 && is_leader {
            actions.push(Action::Beat(*node));
        }
        if left.proposals > 0 && is_leader {
            actions.push(Action::Propose(*node));
        }
        if left.reboots > 0 && (pending > 0 || raft.role() != RoleKind::Follower) {
            actions.extend((0..=pending).map(|survivors| Action::Reboot(*node, survivors)));
        }
    }
    for place in 0..world.bag.len() {
        actions.push(Action::Deliver(place));
        if left.duplicates > 0 {
            actions.push(Action::Duplicate(place));
        }
    }
    actions
}

fn explore(bounds: Bounds) -> Result<Seen, Violation> {
    explore_from(World::new(3, |_| {}), bounds)
}

fn explore_from(mut world: World, bounds: Bounds) -> Result<Seen, Violation> {
    world.loses_heartbeats = bounds.beats == 0;
    let mut seen = Seen::default();
    let first = vec![Action::Timeout(id(1))];
    let mut stack = vec![Frame { world, left: bounds, actions: first, taken: String::new() }];
    while let Some(frame) = stack.last_mut() {
        let Some(action) = frame.actions.pop() else {
            stack.pop();
            continue;
        };
        let mut world = frame.world.clone();
        let left = frame.left.after(action);
        seen.steps += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.act(action))) {
            frame.taken = frame.world.describe(action);
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let path = stack.into_iter().map(|frame| frame.taken).collect();
            return Err(Violation { text: text.unwrap_or_default(), path });
        }
        if seen.states.len() as u64 > std::env::var("CAP").map_or(u64::MAX, |c| c.parse().unwrap()) {
            println!("CAPPED");
            return Ok(seen);
        }
        if seen.states.insert(world.digest() ^ left.digest().wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            frame.taken = frame.world.describe(action);
            let actions = actions(&world, left);
            seen.note(&world, stack.len());
            stack.push(Frame { world, left, actions, taken: String::new() });
        }
    }
    Ok(seen)
}

impl Seen {
    fn note(&mut self, world: &World, depth: usize) {
        self.depth_max = self.depth_max.max(depth);
        let leads = |term: u64| {
            let leads = |node: &NodeId| {
                let raft = world.raft(*node);
                raft.role() == RoleKind::Leader && raft.term() == Term(term)
            };
            u64::from(world.nodes.keys().any(leads))
        };
        self.led = [self.led[0] + leads(1), self.led[1] + leads(2)];
        self.committed += u64::from(world.checks.highest_commit().0 > 0);
    }
}

fn assert_sound(name: &str, bounds: Bounds) {
    let bounds = bounds.with_environment();
    match explore(bounds) {
        Ok(seen) => {
            let Seen { states, steps, depth_max, led, committed } = seen;
            println!(
                "{name}: {} states by {steps} steps, at most {depth_max} deep; {} with a leader of term 1, {} of \
                 term 2, {committed} with a commit; {bounds:?}",
                states.len(),
                led[0],
                led[1]
            );
            let has_second = led[1] > 0 || bounds.timeouts < 2;
            assert!(led[0] > 0 && has_second && committed > 0, "too little: {led:?}, {committed}");
        }
        Err(Violation { text, path }) => panic!("{text}, after\n  {}", path.join("\n  ")),
    }
}

/// Two elections, in one term or two, with a crash at any moment.
const ELECTIONS: Bounds = Bounds { timeouts: 2, beats: 0, reboots: 1, duplicates: 0, proposals: 0, terms: 2 };

/// One election and a write, with a crash and a copy of any message.
const WRITE: Bounds = Bounds { timeouts: 1, beats: 0, reboots: 1, duplicates: 1, proposals: 1, terms: 2 };

#[test]
fn every_order_of_two_elections_and_a_crash_is_safe() {
    assert_sound("two elections, a crash", ELECTIONS);
}

#[test]
fn every_order_of_an_election_a_write_a_crash_and_a_copy_is_safe() {
    assert_sound("an election, a write, a crash, a copy", WRITE);
}

/// Each known bug that these bounds have room for, in the smallest of the two worlds that shows it.
#[cfg(feature = "mutants")]
#[test]
fn known_bugs_are_found() {
    use crate::mutant::Mutant;
    let bugs = [
        (Mutant::E2, WRITE, "n1 shows term 1, durable is term=0"),
        (Mutant::E7, ELECTIONS, "heard nobody"),
        (Mutant::E10, WRITE, "n1@0101: term=0 vote=none"),
        (Mutant::I7, ELECTIONS, "timer of an unwritten vote"),
        (Mutant::L4, ELECTIONS, "believes in 1"),
        (Mutant::L5, WRITE, "truncating 2, verified is 2"),
        (Mutant::L6, WRITE, "commit fell from 1 to 0"),
        (Mutant::L8, WRITE, "is durable on no quorum"),
        (Mutant::L9, WRITE, "is durable on no quorum"),
    ];
    for (mutant, bounds, what) in bugs {
        let Violation { text, path } = search_with(mutant, World::new(3, |_| {}), bounds);
        println!("{mutant}: {text:?} after {} steps", path.len());
        assert!(text.contains(what), "{mutant}: {text}");
    }
}

/// E2 again, with nobody looking at what is said and when: the voter that forgot its vote helps two leaders, and a
/// committed entry is to be replaced.
#[cfg(feature = "mutants")]
#[test]
fn the_harm_of_a_vote_told_too_early_is_found() {
    let mut world = World::new(3, |_| {});
    world.trusts_senders = true;
    let Violation { text, path } = search_with(crate::mutant::Mutant::E2, world, ELECTIONS);
    println!("{text}, after\n  {}", path.join("\n  "));
    assert!(text.contains("contradicts the settled entry at index 1"), "{text}");
}

#[cfg(feature = "mutants")]
fn search_with(mutant: crate::mutant::Mutant, world: World, bounds: Bounds) -> Violation {
    crate::mutant::activate(Some(mutant));
    let found = explore_from(world, bounds);
    crate::mutant::activate(None);
    found.err().unwrap_or_else(|| panic!("{mutant} is not found"))
}
