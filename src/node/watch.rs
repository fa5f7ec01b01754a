//! Clients that wait for what the machine carries out next.
//!
//! A watch is a request that waits: it says after which entry its asker knows nothing, and is answered as soon as an
//! entry after that one brought what it cares for, or when its wait is over. The answer says through which entry it is
//! complete, where the next request goes on, here or at another node: every node that applies has the same to tell, for
//! nothing is told that is not committed and applied. So a watch is a question like a read, may be asked again, and
//! leaves nothing behind at a node.
//!
//! # What a node remembers
//! The commands applied last and their results, up to `recent_bytes_max` together: both are shared with log and session
//! table, so that remembering one costs no copy. A write that had no effect, because the session table knew it, is not
//! among them. What came before the oldest is *compacted*: the asker is told from where it could go on, and must read
//! the present state first. A boot remembers what it applies from its log; an installed snapshot begins anew.
//!
//! # What bounds it
//! At most `waiting_max` requests wait, each with a filter of bounded length and a deadline; more are answered busy.
//! A turn looks at `scan_count_max` entries for all of them together, one request after the other, and goes on in the
//! next; a request that falls behind what is remembered is answered as compacted. An answer holds `reply_bytes_max` of
//! events, and at least one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Node;
use crate::machine::Machine;
use crate::rpc::Token;
use crate::session::{Command, Outcome as SessionOutcome};
use crate::time::Instant;
use crate::types::{Index, Term};
use crate::wire::client::ClientReply;
use crate::wire::watch::{EVENTS_MAX, Watch, WatchEvent, Watched};

/// When to come again where too many wait already.
const CROWDED_PAUSE: Duration = Duration::from_millis(200);

/// What an entry takes beside its bytes, roughly.
const ENTRY_BYTES: usize = 64;

/// Bounds of watches at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchConfig {
    /// Bytes of applied commands and results that are remembered. Few: a watcher that was away for a moment must read
    /// the state again. Many: memory.
    pub recent_bytes_max: usize,
    /// Requests that may wait at once.
    pub waiting_max: usize,
    /// Bytes of events in one answer; one always goes.
    pub reply_bytes_max: usize,
    /// Entries looked at per turn, counted for each request. Few: watchers lag under load. Many: heartbeats wait.
    pub scan_count_max: usize,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            recent_bytes_max: 4 << 20,
            waiting_max: 1024,
            reply_bytes_max: 256 << 10,
            scan_count_max: 8192,
        }
    }
}

/// What is remembered, and who waits.
#[derive(Debug)]
pub(super) struct Watches {
    recent: VecDeque<Effect>,
    /// What `recent` takes.
    bytes: usize,
    /// Every effect of an entry after this one is in `recent`.
    floor: Index,
    waiting: BTreeMap<Token, Waiting>,
    /// The request that is looked at first in the next pass.
    next: Option<Token>,
    /// The last entry that all requests were looked at for, unless one came since.
    settled: Option<Index>,
}

/// A command that the machine carried out.
#[derive(Debug)]
struct Effect {
    index: Index,
    term: Term,
    /// In the session table's envelope.
    command: Arc<[u8]>,
    result: Arc<[u8]>,
}

#[derive(Debug)]
struct Waiting {
    /// Nothing after its asker's index and through this one matters to it.
    seen: Index,
    filter: Vec<u8>,
    deadline: Instant,
}

/// What a look at the recent entries brought for one request.
struct Found {
    through: Index,
    events: Vec<(Index, Term, Vec<u8>)>,
}

impl Watches {
    /// Nothing is remembered of this entry or earlier ones.
    pub(super) fn new(floor: Index) -> Self {
        let (recent, waiting) = (VecDeque::new(), BTreeMap::new());
        Self { recent, bytes: 0, floor, waiting, next: None, settled: None }
    }

    /// Another state was put in place of the present one: how it came about is not known here.
    pub(super) fn restart(&mut self, floor: Index) {
        self.recent.clear();
        (self.bytes, self.floor, self.settled) = (0, floor, None);
    }

    /// Remembers what an entry came to, if it had an effect.
    pub(super) fn note(
        &mut self,
        (index, term): (Index, Term),
        command: &Arc<[u8]>,
        outcome: &SessionOutcome,
        config: &WatchConfig,
    ) {
        let SessionOutcome::Applied { result, is_repeat: false, .. } = outcome else { return };
        let effect = Effect { index, term, command: Arc::clone(command), result: Arc::clone(result) };
        self.bytes += effect.bytes();
        self.recent.push_back(effect);
        while self.bytes > config.recent_bytes_max
            && let Some(oldest) = self.recent.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.floor = oldest.index;
        }
    }

    /// The asker no longer waits for it.
    pub(super) fn forget(&mut self, token: Token) {
        self.waiting.remove(&token);
    }

    /// When there is something to do next.
    pub(super) fn poll_timeout(&self, applied: Index) -> Option<Instant> {
        if !self.waiting.is_empty() && self.settled != Some(applied) {
            return Some(Instant::ZERO);
        }
        self.waiting.values().map(|waiting| waiting.deadline).min()
    }

    /// The requests in the order in which they are looked at: the one that had to wait in the last pass comes first.
    fn in_turn(&mut self) -> Vec<Token> {
        let first = self.next.take();
        let (before, after): (Vec<Token>, Vec<Token>) =
            self.waiting.keys().partition(|token| first.is_some_and(|first| **token < first));
        after.into_iter().chain(before).collect()
    }

    /// Looks at what was applied through `applied` for one request, at most `scans` entries of it.
    fn look<M: Machine>(
        &self,
        waiting: &Waiting,
        machine: &M,
        applied: Index,
        scans: &mut usize,
        bytes_max: usize,
    ) -> Found {
        let (mut events, mut bytes) = (Vec::new(), 0);
        let start = self.recent.partition_point(|effect| effect.index <= waiting.seen);
        let mut through = waiting.seen;
        for effect in self.recent.range(start..) {
            if *scans == 0 || bytes > bytes_max || events.len() == EVENTS_MAX {
                return Found { through, events };
            }
            *scans -= 1;
            if let Some(event) = effect.event(machine, &waiting.filter) {
                // An answer that holds nothing yet takes any event.
                if !events.is_empty() && bytes + event.len() > bytes_max {
                    return Found { through, events };
                }
                bytes += event.len() + ENTRY_BYTES;
                events.push((effect.index, effect.term, event));
            }
            through = effect.index;
        }
        Found { through: applied.max(waiting.seen), events }
    }
}

impl Effect {
    fn bytes(&self) -> usize {
        self.command.len() + self.result.len() + ENTRY_BYTES
    }

    fn event<M: Machine>(&self, machine: &M, filter: &[u8]) -> Option<Vec<u8>> {
        match Command::decode(&self.command) {
            Ok(Command::Write { command, .. }) => machine.event(filter, command, &self.result),
            _ => None,
        }
    }
}

impl<M: Machine> Node<M> {
    /// Takes in a request that may have to wait. `[W-100]`
    pub(super) fn serve_watch(&mut self, now: Instant, token: Token, watch: &Watch<'_>) {
        // [W-103]
        let is_new = !self.watches.waiting.contains_key(&token);
        if is_new && self.watches.waiting.len() >= self.config.watch.waiting_max {
            let retry_after_us = u64::try_from(CROWDED_PAUSE.as_micros()).unwrap_or(u64::MAX);
            return self.answer(now, token, &ClientReply::Busy { retry_after_us });
        }
        let deadline = now + Duration::from_micros(watch.wait_us);
        let waiting = Waiting { seen: watch.after, filter: watch.filter.to_vec(), deadline };
        self.watches.waiting.insert(token, waiting);
        self.watches.settled = None;
    }

    /// Answers whoever waited for what was applied, and whose wait is over.
    pub(super) fn advance_watches(&mut self, now: Instant) {
        let is_settled = self.watches.settled == Some(self.applied);
        let is_due = |waiting: &Waiting| waiting.deadline <= now;
        if self.watches.waiting.is_empty() || (is_settled && !self.watches.waiting.values().any(is_due)) {
            return;
        }
        let mut scans = self.config.watch.scan_count_max;
        self.watches.settled = Some(self.applied);
        for token in self.watches.in_turn() {
            if scans == 0 {
                // The rest is looked at in the next turn, this one first.
                (self.watches.next, self.watches.settled) = (Some(token), None);
                break;
            }
            self.advance_watch(now, token, &mut scans);
        }
    }

    fn advance_watch(&mut self, now: Instant, token: Token, scans: &mut usize) {
        let Some(mut waiting) = self.watches.waiting.remove(&token) else { return };
        // [W-102]
        if waiting.seen < self.watches.floor {
            let oldest = self.watches.floor;
            return self.answer(now, token, &ClientReply::Compacted { oldest });
        }
        let bytes_max = self.config.watch.reply_bytes_max;
        let Found { through, events } =
            self.watches.look(&waiting, &self.machine, self.applied, scans, bytes_max);
        waiting.seen = through;
        let is_behind = through < self.applied;
        if events.is_empty() && (is_behind || waiting.deadline > now) {
            if is_behind {
                self.watches.settled = None;
            }
            self.watches.waiting.insert(token, waiting);
            return;
        }
        // [W-101]
        let events =
            events.iter().map(|(index, term, event)| WatchEvent { index: *index, term: *term, event });
        let watched = Watched { through, events: events.collect() };
        self.answer(now, token, &ClientReply::Watched(watched));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Command as KvCommand, Kv};
    use crate::session::Ranges;
    use crate::types::{Sequence, SessionId};

    /// What a put of this key leaves behind.
    fn note(watches: &mut Watches, index: u64, key: &[u8], is_repeat: bool, config: &WatchConfig) {
        let (index, term) = (Index(index), Term(1));
        let put = KvCommand::Put { key, value: b"v" }.to_bytes();
        let write = Command::Write {
            session: SessionId(Index(1)),
            sequence: Sequence(1),
            finished: Ranges::default(),
            command: &put,
        };
        let outcome = SessionOutcome::Applied { index, term, result: Arc::new([0, 0]), is_repeat };
        watches.note((index, term), &write.to_bytes().into(), &outcome, config);
    }

    fn noted(keys: &[&str]) -> Watches {
        let mut watches = Watches::new(Index(0));
        for (index, key) in (1..).zip(keys) {
            note(&mut watches, index, key.as_bytes(), false, &WatchConfig::default());
        }
        watches
    }

    fn waiting(seen: u64, filter: &str) -> Waiting {
        Waiting { seen: Index(seen), filter: filter.into(), deadline: Instant::ZERO }
    }

    fn indexes(found: &Found) -> Vec<u64> {
        found.events.iter().map(|(index, ..)| index.0).collect()
    }

    // [W-102]
    #[test]
    fn the_oldest_are_forgotten_and_the_floor_says_so() {
        let config = WatchConfig { recent_bytes_max: 10 * (ENTRY_BYTES + 20), ..WatchConfig::default() };
        let mut watches = Watches::new(Index(0));
        for index in 1..=1000 {
            note(&mut watches, index, b"key", false, &config);
            assert!(watches.bytes <= config.recent_bytes_max);
        }
        assert!((8..=12).contains(&watches.recent.len()), "{} remembered", watches.recent.len());
        assert_eq!(watches.floor.next(), watches.recent[0].index);
        note(&mut watches, 1001, b"key", true, &config);
        assert_eq!(watches.recent.back().unwrap().index, Index(1000), "a repeat had no effect");
        watches.restart(Index(2000));
        assert_eq!((watches.floor, watches.bytes, watches.recent.len()), (Index(2000), 0, 0));
    }

    // [W-101]
    #[test]
    fn a_look_ends_where_its_bounds_are_and_says_how_far_it_came() {
        let watches = noted(&["a", "b", "a", "b", "a"]);
        let look = |seen, filter, mut scans: usize, bytes_max| {
            let found = watches.look(&waiting(seen, filter), &Kv::new(), Index(9), &mut scans, bytes_max);
            (indexes(&found), found.through.0, scans)
        };
        assert_eq!(look(0, "a", 100, 1000), (vec![1, 3, 5], 9, 95));
        assert_eq!(look(3, "a", 100, 1000), (vec![5], 9, 98));
        assert_eq!(look(0, "c", 100, 1000), (vec![], 9, 95), "nothing of the kind, through what was applied");
        assert_eq!(look(0, "a", 2, 1000), (vec![1], 2, 0), "the turn's share is used up");
        assert_eq!(look(0, "a", 100, 1), (vec![1], 1, 99), "one event always goes");
        assert_eq!(look(20, "a", 100, 1000), (vec![], 20, 100), "an asker that is ahead stays so");
    }

    #[test]
    fn whoever_had_to_wait_is_looked_at_first() {
        let mut watches = noted(&[]);
        assert_eq!(watches.in_turn(), []);
        assert_eq!(watches.poll_timeout(Index(0)), None);
        watches.settled = Some(Index(7));
        assert_eq!(watches.poll_timeout(Index(8)), None, "nobody waits");
    }
}
