//! What becomes of each datagram; no socket and no clock.

use std::collections::BTreeMap;

use clap::ValueEnum;
use raftgram::fault::{Link, LinkConfig, LinkStats};
use raftgram::rng::Rng;
use raftgram::time::{Instant, earliest};

use super::losses::{Cursor, Losses};
use super::rules::{Action, Rule, Seen};

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Way {
    /// Towards the upstream address.
    Up,
    /// Back.
    Down,
}

/// The number of a session, counted from 0.
pub(crate) type Session = u64;

/// Faults for any number of sessions.
#[derive(Debug)]
pub(crate) struct Engine {
    config: LinkConfig,
    /// Faults strike this way only.
    only: Option<Way>,
    losses: Option<Losses>,
    rules: Vec<Script>,
    seed: u64,
    paths: BTreeMap<(Session, Way), Path>,
    /// What rules hold back, by when it goes on.
    delayed: BTreeMap<(Instant, u64), (Session, Way, Vec<u8>)>,
    serial: u64,
    /// Of sessions that have ended.
    past: [LinkStats; 2],
}

/// A rule and what became of it.
#[derive(Debug)]
struct Script {
    rule: Rule,
    /// Datagrams that it speaks of.
    met: u64,
    struck: u64,
}

/// One way of one session.
#[derive(Debug)]
struct Path {
    link: Link,
    losses: Option<Cursor>,
    /// Lost by the record or by a rule: the link never saw them.
    lost: u64,
}

impl Engine {
    pub(crate) fn new(
        config: LinkConfig,
        only: Option<Way>,
        losses: Option<Losses>,
        rules: Vec<Rule>,
        seed: u64,
    ) -> Self {
        let rules = rules.into_iter().map(|rule| Script { rule, met: 0, struck: 0 }).collect();
        let past = [LinkStats::default(); 2];
        Self {
            config,
            only,
            losses,
            rules,
            seed,
            paths: BTreeMap::new(),
            delayed: BTreeMap::new(),
            serial: 0,
            past,
        }
    }

    /// A datagram comes in.
    pub(crate) fn offer(&mut self, now: Instant, session: Session, way: Way, bytes: Vec<u8>) {
        match self.judge(way, &bytes) {
            Some(Action::Drop) => self.path(session, way).lost += 1,
            Some(Action::Delay(span)) => {
                self.serial += 1;
                self.delayed.insert((now + span, self.serial), (session, way, bytes));
            }
            Some(Action::Duplicate) => {
                self.pass(now, session, way, bytes.clone());
                self.pass(now, session, way, bytes);
            }
            None => self.pass(now, session, way, bytes),
        }
    }

    /// What the first rule says that strikes it; every rule counts what it speaks of.
    fn judge(&mut self, way: Way, bytes: &[u8]) -> Option<Action> {
        if self.rules.is_empty() {
            return None;
        }
        let seen = Seen::of(way, bytes);
        let mut action = None;
        for script in self.rules.iter_mut().filter(|script| script.rule.speaks_of(&seen)) {
            script.met += 1;
            if action.is_none() && script.rule.strikes(script.met) {
                script.struck += 1;
                action = Some(script.rule.action());
            }
        }
        action
    }

    fn pass(&mut self, now: Instant, session: Session, way: Way, bytes: Vec<u8>) {
        let path = self.path(session, way);
        if path.losses.as_mut().is_some_and(Cursor::next_is_lost) {
            path.lost += 1;
        } else {
            path.link.send(now, bytes);
        }
    }

    fn path(&mut self, session: Session, way: Way) -> &mut Path {
        let Self { config, only, losses, seed, .. } = self;
        self.paths.entry((session, way)).or_insert_with(|| {
            let is_struck = only.is_none_or(|only| only == way);
            // A seed of its own for each way of each session: none shifts what befalls another.
            let mixed = (session * 2 + way as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let config = if is_struck { config.clone() } else { LinkConfig::default() };
            let losses = losses.as_ref().filter(|_| is_struck).map(Losses::cursor);
            Path { link: Link::new(config, Rng::from_seed(*seed ^ mixed)), losses, lost: 0 }
        })
    }

    /// A datagram that has come through by now.
    pub(crate) fn poll_output(&mut self, now: Instant) -> Option<(Session, Way, Vec<u8>)> {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let (session, way, bytes) = entry.remove();
            self.pass(now, session, way, bytes);
        }
        let mut paths = self.paths.iter_mut();
        paths.find_map(|(&(session, way), path)| Some((session, way, path.link.poll_output(now)?)))
    }

    /// When the next one does.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let delayed = self.delayed.first_key_value().map(|(&(at, _), _)| at);
        self.paths.values().fold(delayed, |next, path| earliest(next, path.link.poll_timeout()))
    }

    /// A session has ended; what was on its way is lost.
    pub(crate) fn forget(&mut self, session: Session) {
        for way in [Way::Up, Way::Down] {
            if let Some(path) = self.paths.remove(&(session, way)) {
                self.past[way as usize] = sum(self.past[way as usize], &path);
            }
        }
        self.delayed.retain(|_, (whose, ..)| *whose != session);
    }

    /// What all links of one way did. Losses by the record and by rules count as losses.
    pub(crate) fn stats(&self, way: Way) -> LinkStats {
        let paths = self.paths.iter().filter(|((_, its), _)| *its == way);
        paths.fold(self.past[way as usize], |all, (_, path)| sum(all, path))
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.paths.keys().filter(|(_, way)| *way == Way::Up).count()
    }

    /// Each rule and how often it struck.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (&Rule, u64)> {
        self.rules.iter().map(|script| (&script.rule, script.struck))
    }
}

fn sum(all: LinkStats, path: &Path) -> LinkStats {
    let one = path.link.stats();
    LinkStats {
        sent: all.sent + one.sent + path.lost,
        delivered: all.delivered + one.delivered,
        dropped_blocked: all.dropped_blocked + one.dropped_blocked,
        dropped_mtu: all.dropped_mtu + one.dropped_mtu,
        dropped_loss: all.dropped_loss + one.dropped_loss + path.lost,
        dropped_burst: all.dropped_burst + one.dropped_burst,
        dropped_queue: all.dropped_queue + one.dropped_queue,
        duplicated: all.duplicated + one.duplicated,
        replayed: all.replayed + one.replayed,
        corrupted: all.corrupted + one.corrupted,
        crc_zeroed: all.crc_zeroed + one.crc_zeroed,
        truncated: all.truncated + one.truncated,
        extended: all.extended + one.extended,
        reordered: all.reordered + one.reordered,
        overtaken: all.overtaken + one.overtaken,
    }
}
