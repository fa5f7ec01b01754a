//! What a data folder holds for certain, kept apart from the node's own belief.
//!
//! A shadow changes when a disk write is *finished*, and in no other way, so it is what the folder gives back after a
//! power cut at any later moment. It outlives the node's process; a wiped folder begins a new one.

use crate::entry::Entry;
use crate::raft::Base;
use crate::snapshot::SnapshotMeta;
use crate::store::{Batch, Damage, LogAfter};
use crate::types::{HardState, Identity, Incarnation, Index};

use super::marks::{Mark, Marks};

/// The certain content of one data folder.
#[derive(Clone, Debug)]
pub struct Shadow {
    identity: Identity,
    incarnation: Incarnation,
    hard_state: HardState,
    log: Marks,
    /// Handed to the disk and not known to be finished: a crash may leave it done or undone.
    in_flight: Option<InFlight>,
    /// The same, of a snapshot that is to be in force.
    adopting: Option<(Base, LogAfter)>,
    /// Its log has a hole, as far as known.
    is_damaged: bool,
    trust: Trust,
}

/// What the next boot owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// To open, and hold what was promised.
    Full,
    /// To hold what was promised, or to tell of a hole, or not to open: the folder was damaged in a way that a store
    /// finds out.
    OrRefusal,
    /// Nothing: it is believed as it is.
    None,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    hard_state: Option<HardState>,
    truncate_from: Option<Index>,
}

impl Shadow {
    /// An empty folder.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            incarnation: Incarnation::UNKNOWN,
            hard_state: HardState::default(),
            log: Marks::default(),
            in_flight: None,
            adopting: None,
            is_damaged: false,
            trust: Trust::Full,
        }
    }

    /// Whose folder it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The number of the last boot.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Term and vote on the disk.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The log on the disk.
    #[must_use]
    pub fn log(&self) -> &Marks {
        &self.log
    }

    /// A write is handed to the disk; from here on a crash may leave it done.
    pub fn begin(&mut self, batch: &Batch) {
        let before = self.in_flight.take();
        let older_cut = before.and_then(|before| before.truncate_from);
        let cut = [older_cut, batch.truncate_from].into_iter().flatten().min();
        let hard_state = batch.hard_state.or(before.and_then(|before| before.hard_state));
        self.in_flight = Some(InFlight { hard_state, truncate_from: cut });
    }

    /// The disk has it.
    pub fn finish(&mut self, batch: &Batch) {
        self.in_flight = None;
        if let Some(hard_state) = batch.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = batch.truncate_from {
            self.log.truncate_from(from);
            // Whatever is cut, the hole goes with it.
            self.is_damaged = false;
        }
        for entry in &batch.entries {
            self.log.truncate_from(entry.index);
            self.log.push(Mark::of(entry));
        }
    }

    /// A snapshot is about to be named as the one in force; from here on a crash may leave it so.
    pub fn begin_adoption(&mut self, meta: &SnapshotMeta, log: LogAfter) {
        self.adopting = Some((meta.id.into(), log));
    }

    /// The disk names it.
    pub fn adopt(&mut self, meta: &SnapshotMeta, log: LogAfter) {
        self.adopting = None;
        match log {
            LogAfter::Kept => self.log.rebase(meta.id.into()),
            LogAfter::Begun => {
                self.log = Marks::above(meta.id.into());
                self.is_damaged = false;
            }
            LogAfter::Spared => self.log = Marks::above(meta.id.into()),
        }
    }

    /// True when a boot may find a log that begins after this.
    pub(super) fn may_begin_after(&self, base: Base) -> bool {
        base == self.log.base() || self.adopting.is_some_and(|(adopting, _)| adopting == base)
    }

    /// The folder is damaged, and may refuse to open.
    pub fn damage(&mut self) {
        if self.trust == Trust::Full {
            self.trust = Trust::OrRefusal;
        }
    }

    /// The folder is another one now than it promised to be: an older copy was put back.
    pub fn forswear(&mut self) {
        self.trust = Trust::None;
    }

    pub(super) fn is_forsworn(&self) -> bool {
        self.trust == Trust::None
    }

    /// True when the folder must open.
    pub(super) fn is_whole(&self) -> bool {
        self.trust == Trust::Full
    }

    /// True when a boot may find a hole in the log.
    pub(super) fn may_be_damaged(&self) -> bool {
        self.is_damaged || self.trust == Trust::OrRefusal
    }

    /// Up to where a boot must find the log that is here.
    pub(super) fn promised(&self) -> Index {
        if let Some((_, LogAfter::Begun | LogAfter::Spared)) = self.adopting {
            // The old log may be gone, all of it.
            return self.log.base().index;
        }
        let cut = self.in_flight.and_then(|batch| batch.truncate_from);
        cut.map_or(self.log.last(), |from| self.log.last().min(from.prev()))
    }

    /// True when a boot may find this hard state.
    pub(super) fn may_hold(&self, hard_state: HardState) -> bool {
        let begun = self.in_flight.and_then(|batch| batch.hard_state);
        hard_state == self.hard_state || begun == Some(hard_state)
    }

    /// A boot found this, and it is durable now.
    pub(super) fn boot(&mut self, found: &Found<'_>) {
        self.incarnation = found.incarnation;
        self.hard_state = found.hard_state;
        self.log = Marks::above(found.base);
        found.entries.iter().for_each(|entry| self.log.push(Mark::of(entry)));
        self.in_flight = None;
        self.adopting = None;
        self.is_damaged = found.is_damaged;
        self.trust = Trust::Full;
    }
}

/// What a boot found in a folder.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Whose folder.
    pub identity: Identity,
    /// This boot's number.
    pub incarnation: Incarnation,
    /// Term and vote.
    pub hard_state: HardState,
    /// What lies before the first entry.
    pub base: Base,
    /// The log, up to its first hole.
    pub entries: &'a [Entry],
    /// Whether it has one.
    pub is_damaged: bool,
    /// What was found wrong.
    pub damage: &'a [Damage],
}
