//! What clients asked and were answered, against what the log made of it: invariants 16 to 21.
//!
//! An answer names the index it rests on, so each one is judged at once and alone: a write must be the effect of an
//! entry above all that was committed when it was asked, a read must show the last version of its key at or below its
//! index, and that index must not lie below what was committed when it was asked. The same answers without their
//! indexes go to the linearizability checker (`history`), which trusts nothing but the clients' clocks.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Histories, Step};
use super::oracle::Oracle;
use super::subject::{Effect, result_hash};
use super::versions::Versions;
use super::violation::{Broken, hold};
use crate::client::{Answer, ClientError, Outcome};
use crate::entry::{Entry, Payload};
use crate::kv::{self, CommandResult, Query};
use crate::session::Command;
use crate::types::{Index, Sequence, SessionId, Term};
use crate::wire::client::ReadLevel;

/// What the commands and queries of a run mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Those of [`kv`]: values are looked into.
    Kv,
    /// Nobody knows: only indexes, terms and equality of answers are checked.
    Opaque,
}

/// Something that a client asks.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// A command.
    Write(&'a [u8]),
    /// A query.
    Read {
        /// In the machine's language.
        query: &'a [u8],
        /// How fresh the answer must be.
        level: ReadLevel,
    },
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// A write took effect.
    Applied {
        /// Its entry.
        index: Index,
        /// That entry's term.
        term: Term,
        /// What the machine returned.
        result: &'a [u8],
    },
    /// A read was answered.
    Read {
        /// The applied index it was answered at.
        index: Index,
        /// What the machine returned.
        result: &'a [u8],
    },
    /// It certainly did nothing.
    NotDone,
    /// It may have taken effect, or still may.
    Unknown,
}

impl<'a> End<'a> {
    /// What a client's answer says.
    #[must_use]
    pub fn of(result: &'a Result<Answer, ClientError>) -> Self {
        match result {
            Ok(Answer::Applied { index, term, result }) => {
                Self::Applied { index: *index, term: *term, result }
            }
            Ok(Answer::Read { index, result, .. }) => Self::Read { index: *index, result },
            Err(
                ClientError::TimedOut { outcome: Outcome::NotSent, .. }
                | ClientError::SessionExpired { outcome: Outcome::NotSent }
                | ClientError::TooLarge { .. }
                | ClientError::Busy,
            ) => Self::NotDone,
            Ok(_) | Err(_) => Self::Unknown,
        }
    }
}

/// Names an operation in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationKey(u64);

/// An operation that has not ended.
#[derive(Debug)]
struct Open {
    /// The highest index committed anywhere when it was asked.
    floor: Index,
    command_crc: u32,
    /// For kv: the key, and the step of its history.
    step: Option<(Box<[u8]>, Step)>,
    is_local: bool,
}

/// A write's effect.
#[derive(Clone, Copy, Debug)]
struct Done {
    term: Term,
    command_crc: u32,
    result: u64,
}

/// The sessions of the replicated table, as the first node to apply each index had them.
#[derive(Debug, Default)]
struct SessionsSeen {
    applied: Index,
    open: BTreeSet<SessionId>,
    /// By when each was gone.
    gone: BTreeMap<SessionId, Index>,
}

/// All operations of a run.
#[derive(Debug)]
pub(super) struct Operations {
    language: Language,
    next: u64,
    open: BTreeMap<OperationKey, Open>,
    /// The entry that carried out each write.
    by_sequence: BTreeMap<(SessionId, Sequence), Index>,
    by_index: BTreeMap<Index, Done>,
    sessions: SessionsSeen,
    /// Every value that any write was asked to leave.
    issued: BTreeSet<Box<[u8]>>,
    pub(super) versions: Versions,
    pub(super) histories: Histories,
    /// The highest index that an answer rested on.
    seen: Index,
}

impl Operations {
    pub(super) fn new(language: Language) -> Self {
        Self {
            language,
            next: 0,
            open: BTreeMap::new(),
            by_sequence: BTreeMap::new(),
            by_index: BTreeMap::new(),
            sessions: SessionsSeen::default(),
            issued: BTreeSet::new(),
            versions: Versions::default(),
            histories: Histories::default(),
            seen: Index(0),
        }
    }

    /// 16: the machine carried out an entry, for the first time at any node.
    pub(super) fn took_effect(&mut self, effect: &Effect, entry: Option<&Entry>) -> Result<(), Broken> {
        // A compacted entry was seen when another node carried it out.
        let Some(entry) = entry else { return Ok(()) };
        let index = entry.index;
        let decoded = match &entry.payload {
            Payload::Command(bytes) => Command::decode(bytes).ok(),
            _ => None,
        };
        let Some(Command::Write { session, sequence, command, .. }) = decoded else {
            hold!(false, AtMostOnce, "{index} is no write, and the machine was given it");
            return Ok(());
        };
        let gone = self.sessions.gone.get(&session).copied();
        hold!(
            gone.is_none_or(|gone| index <= gone),
            AtMostOnce,
            "{session} was gone by {gone:?}, and its sequence {sequence} took effect at {index}"
        );
        let first = *self.by_sequence.entry((session, sequence)).or_insert(index);
        hold!(first == index, AtMostOnce, "{session} sequence {sequence} took effect at {first} and {index}");
        let command_crc = crc32fast::hash(command);
        self.by_index.insert(index, Done { term: entry.term, command_crc, result: effect.result });
        if self.language == Language::Kv
            && let Ok(command) = kv::Command::decode(command)
            && command.check().is_ok()
        {
            self.versions.apply(index, &command);
        }
        Ok(())
    }

    /// 16: a session that is gone stays so, for what its writes came to is forgotten.
    pub(super) fn saw_sessions(&mut self, applied: Index, open: impl FnOnce() -> Vec<SessionId>) {
        let seen = &mut self.sessions;
        if applied <= seen.applied {
            return;
        }
        seen.applied = applied;
        let open: BTreeSet<SessionId> = open().into_iter().collect();
        for session in seen.open.difference(&open) {
            seen.gone.entry(*session).or_insert(applied);
        }
        seen.open = open;
    }

    pub(super) fn asked(&mut self, oracle: &Oracle, ask: Ask<'_>) -> OperationKey {
        let key = OperationKey(self.next);
        self.next += 1;
        let (command_crc, is_local) = match ask {
            Ask::Write(command) => (crc32fast::hash(command), false),
            Ask::Read { level, .. } => (0, level == ReadLevel::Local),
        };
        let step = if self.language == Language::Kv { self.step(ask) } else { None };
        if let Some((on, step)) = &step
            && !is_local
        {
            self.histories.invoked(on, key.0, step.clone());
        }
        self.open.insert(key, Open { floor: oracle.commit(), command_crc, step, is_local });
        key
    }

    /// What is asked of one key.
    fn step(&mut self, ask: Ask<'_>) -> Option<(Box<[u8]>, Step)> {
        let (on, step) = match ask {
            Ask::Write(command) => {
                let command = kv::Command::decode(command).ok()?;
                let step = match command {
                    kv::Command::Put { value, .. } => Step::Put(value.into()),
                    kv::Command::Delete { .. } => Step::Delete,
                    kv::Command::Cas { old, new, .. } => {
                        Step::Cas { old: old.map(Into::into), new: new.into() }
                    }
                };
                if let kv::Command::Put { value, .. } | kv::Command::Cas { new: value, .. } = command {
                    self.issued.insert(value.into());
                }
                (command.key(), step)
            }
            Ask::Read { query, .. } => match Query::decode(query).ok()? {
                Query::Get { key } => (key, Step::Get),
                Query::List { .. } => return None,
            },
        };
        Some((on.into(), step))
    }

    /// 16 to 21, as far as one answer goes.
    pub(super) fn answered(
        &mut self,
        oracle: &Oracle,
        key: OperationKey,
        end: End<'_>,
    ) -> Result<(), Broken> {
        let Some(open) = self.open.remove(&key) else {
            hold!(false, AtMostOnce, "operation {} was answered twice", key.0);
            return Ok(());
        };
        match end {
            End::Applied { index, term, result } => self.check_write(oracle, &open, index, term, result)?,
            End::Read { index, result } => self.check_read(&open, index, result)?,
            End::NotDone | End::Unknown => {}
        }
        if let Some((on, step)) = &open.step
            && !open.is_local
        {
            self.histories.returned(on, key.0, step, end, &self.versions)?;
        }
        Ok(())
    }

    fn check_write(
        &mut self,
        oracle: &Oracle,
        open: &Open,
        index: Index,
        term: Term,
        result: &[u8],
    ) -> Result<(), Broken> {
        self.check_reply(index, term, result)?;
        let crc = self.by_index.get(&index).map(|done| done.command_crc);
        hold!(
            crc == Some(open.command_crc),
            AtMostOnce,
            "a write was told that it is {index}@{term}, which is another"
        );
        let committed = oracle.mark(index);
        hold!(
            committed.is_some_and(|mark| mark.term == term),
            Durability,
            "a write was told that it is {index}@{term}, where {committed:?} is committed"
        );
        hold!(
            index > open.floor,
            Linearizability,
            "a write took effect at {index}, and was asked when {} was committed",
            open.floor
        );
        self.seen = self.seen.max(index);
        let Some((on, step)) = &open.step else { return Ok(()) };
        let previous = match CommandResult::decode(result) {
            Ok(CommandResult::Done { previous } | CommandResult::CompareFailed { previous }) => previous,
            Ok(CommandResult::Refused(_)) => return Ok(()),
            Err(error) => {
                hold!(false, PredecessorChain, "the result of {index} cannot be read: {error}");
                return Ok(());
            }
        };
        let (since, value) = previous.as_ref().map_or((None, None), |p| (Some(p.index), p.value.as_deref()));
        if let Some(value) = value {
            self.check_issued(value)?;
        }
        let expected = self.versions.at(on, index.prev());
        let is_right = since == expected.map(|version| version.index)
            && value.is_none_or(|value| expected.is_some_and(|version| *version.value == *value));
        hold!(
            is_right,
            PredecessorChain,
            "{step} at {index} was told {previous:?}, before it came {expected:?}"
        );
        Ok(())
    }

    fn check_read(&mut self, open: &Open, index: Index, result: &[u8]) -> Result<(), Broken> {
        hold!(
            open.is_local || index >= open.floor,
            ReadIndex,
            "a read was answered at {index}, and was asked when {} was committed",
            open.floor
        );
        self.seen = self.seen.max(index);
        let Some((on, _)) = &open.step else { return Ok(()) };
        let (since, value) = match kv::Answer::decode(result) {
            Ok(kv::Answer::Found { value, index }) => (Some(index), Some(value)),
            Ok(kv::Answer::Missing) => (None, None),
            other => {
                hold!(false, NoPhantom, "a read was answered with {other:?}");
                return Ok(());
            }
        };
        if let Some(value) = value {
            self.check_issued(value)?;
        }
        let expected = self.versions.at(on, index);
        hold!(
            since == expected.map(|version| version.index)
                && value == expected.map(|version| &*version.value),
            Linearizability,
            "a read at {index} saw {value:?} of {since:?}, there was {expected:?}"
        );
        Ok(())
    }

    /// 19.
    fn check_issued(&self, value: &[u8]) -> Result<(), Broken> {
        hold!(self.issued.contains(value), NoPhantom, "{} was seen and never written", value.escape_ascii());
        Ok(())
    }

    /// 16: a node tells a client that its write was applied.
    pub(super) fn check_reply(&self, index: Index, term: Term, result: &[u8]) -> Result<(), Broken> {
        let done = self.by_index.get(&index);
        hold!(
            done.is_some_and(|done| done.term == term && done.result == result_hash(result)),
            AtMostOnce,
            "a reply says that {index}@{term} was applied with result {:016x}, its effect is {done:?}",
            result_hash(result)
        );
        Ok(())
    }

    /// 18: all that anyone was told is committed.
    pub(super) fn check_kept(&self, oracle: &Oracle) -> Result<(), Broken> {
        hold!(
            self.seen <= oracle.commit(),
            Durability,
            "an answer rested on {}, {} is committed",
            self.seen,
            oracle.commit()
        );
        Ok(())
    }

    /// How many operations are open.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }
}
