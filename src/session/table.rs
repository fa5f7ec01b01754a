//! The table itself: apply, eviction, state hash, canonical encoding.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Command, Limits};
use super::ranges::Ranges;
use crate::cursor::CursorError;
use crate::hash::Fnv1a;
use crate::layered::LayeredMap;
use crate::machine::Machine;
use crate::mutant::{self, Mutant};
use crate::types::{Index, Sequence, SessionId, Term};

/// What applying one command entry came to; the same on every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The bounds are these from here on.
    LimitsSet(Limits),
    /// A session is open.
    Opened {
        /// Its id.
        session: SessionId,
    },
    /// The session is gone, now or since earlier.
    Closed,
    /// Idle sessions were expired.
    Expired {
        /// How many of those named.
        count: usize,
    },
    /// The write has taken effect, by this entry or by an earlier one of the same (session, sequence).
    Applied {
        /// The entry it took effect by.
        index: Index,
        /// That entry's term.
        term: Term,
        /// What the machine answered then.
        result: Arc<[u8]>,
        /// True when it was an earlier entry.
        is_repeat: bool,
    },
    /// The client said before that it is done with this sequence; without effect.
    Finished,
    /// The session holds as many results as it may; without effect. The client tries again later.
    WindowFull,
    /// The session expired, was closed or never was; without effect.
    SessionExpired,
    /// The entry holds no command; without effect.
    Malformed(CursorError),
}

/// A write that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) index: Index,
    pub(super) term: Term,
    pub(super) result: Arc<[u8]>,
    /// Of sequence and fields, taken once so that dropping the record costs no second pass over the result.
    hash: u64,
}

impl Recorded {
    pub(super) fn new(sequence: Sequence, index: Index, term: Term, result: Arc<[u8]>) -> Self {
        let fields = Fnv1a::default().u64(sequence.0).u64(index.0).u64(term.0);
        let result_crc = u64::from(crc32fast::hash(&result));
        let hash = fields.u64(result.len() as u64).u64(result_crc).finish();
        Self { index, term, result, hash }
    }
}

/// One client's part of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    /// The last entry that named it and found it; always the key of `Sessions::by_use` that leads to it.
    pub(super) last_use: Index,
    /// Sequences that can never take effect again. Grows only.
    pub(super) finished: Ranges,
    /// What was applied and is not finished.
    pub(super) results: BTreeMap<Sequence, Recorded>,
    /// The lengths of all results together.
    pub(super) bytes: u64,
    /// The wrapping sum of the results' hashes.
    pub(super) results_hash: u64,
    /// [`Self::hash_as`] of its id, as of the end of the last change.
    pub(super) hash: u64,
}

impl Session {
    pub(super) fn record(&mut self, sequence: Sequence, recorded: Recorded) {
        self.bytes += recorded.result.len() as u64;
        self.results_hash = self.results_hash.wrapping_add(recorded.hash);
        let before = self.results.insert(sequence, recorded);
        assert!(before.is_none(), "sequence {sequence} recorded twice");
    }

    /// Takes in what the client has finished and drops those results.
    fn finish(&mut self, finished: &Ranges) {
        for (first, last) in self.finished.merge(finished) {
            let range = Sequence(first)..=Sequence(last);
            while let Some((&sequence, _)) = self.results.range(range.clone()).next()
                && let Some(recorded) = self.results.remove(&sequence)
            {
                self.bytes -= recorded.result.len() as u64;
                self.results_hash = self.results_hash.wrapping_sub(recorded.hash);
            }
        }
    }

    /// Decides one write.
    fn write(
        &mut self,
        limits: Limits,
        (index, term): (Index, Term),
        sequence: Sequence,
        carry_out: impl FnOnce() -> Vec<u8>,
    ) -> Outcome {
        if self.finished.contains(sequence) {
            return Outcome::Finished;
        }
        if let Some(Recorded { index, term, result, .. }) = self.results.get(&sequence) {
            return Outcome::Applied { index: *index, term: *term, result: result.clone(), is_repeat: true };
        }
        let is_full = self.results.len() as u64 >= limits.window_max || self.bytes >= limits.window_bytes_max;
        if is_full {
            return Outcome::WindowFull;
        }
        let result: Arc<[u8]> = carry_out().into();
        if !mutant::is(Mutant::U1) {
            self.record(sequence, Recorded::new(sequence, index, term, result.clone()));
        }
        Outcome::Applied { index, term, result, is_repeat: false }
    }

    fn hash_as(&self, id: SessionId) -> u64 {
        let fields = Fnv1a::default().u64(id.0.0).u64(self.last_use.0).u64(self.results_hash);
        self.finished.pairs().iter().fold(fields, |hash, &(first, last)| hash.u64(first).u64(last)).finish()
    }
}

/// The replicated session table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    pub(super) limits: Limits,
    /// The index of the last entry given to `apply`.
    pub(super) applied: Index,
    /// Shared with frozen copies; a session is copied when it is changed while one is around.
    pub(super) sessions: LayeredMap<SessionId, Arc<Session>>,
    /// The same sessions, longest idle first. An entry uses at most one, so an index leads to one.
    pub(super) by_use: BTreeMap<Index, SessionId>,
    /// The lengths of all results of all sessions.
    bytes: u64,
    /// The wrapping sum of the sessions' hashes, each as of the end of the last `apply`.
    sessions_hash: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self::at(Limits::FOUNDING, Index(0))
    }
}

impl Sessions {
    /// The empty table with these limits after the entry `applied`.
    pub(super) fn at(limits: Limits, applied: Index) -> Self {
        Self {
            limits,
            applied,
            sessions: LayeredMap::default(),
            by_use: BTreeMap::new(),
            bytes: 0,
            sessions_hash: 0,
        }
    }

    /// The empty table, before the first entry of a log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The empty table under other bounds than the founding ones. They are part of the replicated state: every
    /// replica of a log must begin with the same.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Applies a committed command entry. The machine is called once, and only when the outcome is `Applied` and
    /// no repeat.
    ///
    /// # Panics
    /// When entries do not come in log order.
    pub fn apply<M>(&mut self, index: Index, term: Term, command: &[u8], machine: &mut M) -> Outcome
    where
        M: Machine + ?Sized,
    {
        assert!(index > self.applied, "entry {index} after entry {}", self.applied);
        self.applied = index;
        let command = match Command::decode(command) {
            Ok(command) => command,
            Err(error) => return Outcome::Malformed(error),
        };
        match command {
            Command::SetLimits(limits) => {
                self.limits = if mutant::is(Mutant::I10) { self.limits } else { limits };
                self.expire_to_limits();
                Outcome::LimitsSet(limits)
            }
            Command::Open => {
                let session = SessionId(index);
                self.open(session, index);
                self.expire_to_limits();
                Outcome::Opened { session }
            }
            Command::Close { session } => {
                self.take(session);
                Outcome::Closed
            }
            Command::Expire { unused_since, sessions } => {
                let count =
                    sessions.into_iter().filter(|&session| self.expire(session, unused_since)).count();
                Outcome::Expired { count }
            }
            Command::Write { session, sequence, finished, command } => {
                if mutant::is(Mutant::U2) && !self.contains(session) {
                    self.open(session, index);
                }
                let limits = self.limits;
                let outcome = self.change(session, |changed| {
                    changed.last_use = index;
                    changed.finish(&finished);
                    changed.write(limits, (index, term), sequence, || machine.apply(index, command))
                });
                self.expire_to_limits();
                outcome.unwrap_or(Outcome::SessionExpired)
            }
        }
    }

    fn open(&mut self, session: SessionId, index: Index) {
        self.put(session, Session { last_use: index, ..Session::default() });
    }

    /// Removes a session unless it was used after `unused_since`; says whether it did.
    fn expire(&mut self, session: SessionId, unused_since: Index) -> bool {
        let is_idle = self.sessions.get(&session).is_some_and(|session| session.last_use <= unused_since);
        is_idle && self.take(session).is_some()
    }

    /// Changes a session, if it is there, and keeps the sums and the order of use true.
    fn change<T>(&mut self, id: SessionId, change: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let session = Arc::make_mut(self.sessions.get_mut(&id)?);
        let (bytes, hash, last_use) = (session.bytes, session.hash, session.last_use);
        let changed = change(session);
        session.hash = session.hash_as(id);
        self.bytes = self.bytes - bytes + session.bytes;
        self.sessions_hash = self.sessions_hash.wrapping_sub(hash).wrapping_add(session.hash);
        if session.last_use != last_use {
            let by_use = self.by_use.remove(&last_use);
            assert_eq!(by_use, Some(id), "{id} last used by entry {last_use}");
            let by_use = self.by_use.insert(session.last_use, id);
            assert_eq!(by_use, None, "entry {} used {id} and another session", session.last_use);
        }
        Some(changed)
    }

    /// Takes a session out of the table and out of its sums.
    fn take(&mut self, id: SessionId) -> Option<Arc<Session>> {
        let session = self.sessions.remove(&id)?;
        let by_use = self.by_use.remove(&session.last_use);
        assert_eq!(by_use, Some(id), "{id} last used by entry {}", session.last_use);
        self.bytes -= session.bytes;
        self.sessions_hash = self.sessions_hash.wrapping_sub(session.hash);
        Some(session)
    }

    /// Puts a session into the table and into its sums.
    pub(super) fn put(&mut self, id: SessionId, mut session: Session) {
        session.hash = session.hash_as(id);
        self.bytes += session.bytes;
        self.sessions_hash = self.sessions_hash.wrapping_add(session.hash);
        let by_use = self.by_use.insert(session.last_use, id);
        assert_eq!(by_use, None, "entry {} used {id} and another session", session.last_use);
        let before = self.sessions.insert(id, Arc::new(session));
        assert!(before.is_none(), "{id} stands in the table twice");
    }

    /// Expires the longest-idle sessions until the table is within its limits; the one used last always stays.
    fn expire_to_limits(&mut self) {
        if mutant::is(Mutant::C2) {
            return;
        }
        while self.sessions.len() as u64 > self.limits.sessions_max
            || (self.bytes > self.limits.bytes_max && self.sessions.len() > 1)
        {
            let longest_idle = self.by_use.first_key_value().map(|(_, &session)| session);
            let taken = longest_idle.and_then(|session| self.take(session));
            assert!(taken.is_some(), "{} sessions, none of them longest idle", self.sessions.len());
        }
        let (by_id, by_use) = (self.sessions.len(), self.by_use.len());
        assert_eq!(by_id, by_use, "{by_id} sessions by id and {by_use} by use");
    }

    /// The bounds in force.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// True when none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Bytes of results held.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes of log lead to the next snapshot of this table and a machine of `machine_bytes`, see
    /// [`Limits::mark_bytes`]: the results held are a part of what it writes.
    #[must_use]
    pub fn mark_bytes(&self, machine_bytes: Option<u64>) -> u64 {
        self.limits.mark_bytes(machine_bytes.map(|bytes| bytes.saturating_add(self.bytes)))
    }

    /// True when the session is open.
    #[must_use]
    pub fn contains(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some()
    }

    /// The sessions and the entries that last used them, longest idle first: what a leader chooses from when it
    /// proposes [`Command::Expire`].
    pub fn idle(&self) -> impl Iterator<Item = (SessionId, Index)> + '_ {
        self.by_use.iter().map(|(&last_use, &session)| (session, last_use))
    }

    /// A hash of everything the table holds, for comparing replicas at one index. Kept up to date by each
    /// `apply`, so that asking costs nothing.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        let Limits { sessions_max, window_max, window_bytes_max, bytes_max, snapshot_bytes } = self.limits;
        [
            sessions_max,
            window_max,
            window_bytes_max,
            bytes_max,
            snapshot_bytes,
            self.applied.0,
            self.sessions_hash,
        ]
        .into_iter()
        .fold(Fnv1a::default(), Fnv1a::u64)
        .finish()
    }
}
