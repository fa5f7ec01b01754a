//! A disk in memory that finishes late and forgets what it did not finish.

use core::time::Duration;
use std::collections::VecDeque;

use crate::entry::Entry;
use crate::membership::Membership;
use crate::raft::{Base, Restored, Ticket};
use crate::snapshot::SnapshotMeta;
use crate::time::Instant;
use crate::types::{HardState, Index};

/// One node's disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    /// What lies before the first entry, and the membership there.
    pub(super) base: Base,
    pub(super) membership: Membership,
    pub(super) entries: Vec<Entry>,
    /// The newest snapshot that counts, and the membership in it.
    pub(super) snapshot: Option<(SnapshotMeta, Membership)>,
    /// A snapshot that is being pulled, and how much of it is here.
    pub(super) incoming: Option<(SnapshotMeta, u64)>,
    /// Handed over and not finished, in order.
    pub(super) pending: VecDeque<Batch>,
    pub(super) delay_min: Duration,
    pub(super) delay_max: Duration,
    /// Nothing finishes while it hangs.
    pub(super) hangs: bool,
    /// When the last pending write finishes: writes queue.
    pub(super) busy_until: Instant,
}

#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) ticket: Ticket,
    pub(super) hard_state: Option<HardState>,
    pub(super) install: Option<(SnapshotMeta, Membership)>,
    pub(super) truncate_from: Option<Index>,
    pub(super) entries: Vec<Entry>,
}

impl Disk {
    pub(super) fn apply(&mut self, batch: Batch) {
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
        if let Some((meta, membership)) = batch.install {
            self.entries.clear();
            self.base = meta.id.into();
            self.membership = membership.clone();
            self.snapshot = Some((meta, membership));
        }
        if let Some(index) = batch.truncate_from {
            let kept = index.0.checked_sub(self.base.index.0 + 1).expect("truncation below the base");
            self.entries.truncate(usize::try_from(kept).unwrap());
        }
        for entry in batch.entries {
            assert_eq!(entry.index, self.last_index().next(), "the disk's log has no holes");
            self.entries.push(entry);
        }
    }

    /// This node's own snapshot is durable, and of the log before it a part is purged.
    pub(super) fn adopt(&mut self, meta: SnapshotMeta, membership: Membership, purge_through: Index) {
        assert!(purge_through <= meta.id.index, "purging beyond {}", meta.id);
        let count = usize::try_from(purge_through.0.saturating_sub(self.base.index.0)).unwrap();
        for entry in self.entries.drain(..count) {
            self.base = Base { index: entry.index, term: entry.term, chain: entry.chain };
        }
        self.snapshot = Some((meta, membership));
    }

    /// What a node finds at its start. The log may go back further than the snapshot; then a store that keeps no
    /// membership of that place begins where the snapshot ends.
    pub(super) fn restored(&self, founding: &Membership) -> Restored {
        let entries = self.entries.clone();
        let Some((meta, membership)) = self.snapshot.clone() else {
            return Restored::new(self.hard_state, founding.clone(), entries);
        };
        let covered = usize::try_from(meta.id.index.0 - self.base.index.0).unwrap();
        let entries = entries[covered..].to_vec();
        Restored::with_snapshot(self.hard_state, meta, membership, entries)
    }

    pub(super) fn last_index(&self) -> Index {
        Index(self.base.index.0 + self.entries.len() as u64)
    }

    /// The chain value through this index, 0 before the first; what lies below the base is not known any more.
    pub(super) fn chain_at(&self, index: Index) -> Option<u32> {
        match index.0.checked_sub(self.base.index.0)? {
            0 => Some(self.base.chain),
            position => self.entries.get(usize::try_from(position - 1).unwrap()).map(|entry| entry.chain),
        }
    }
}
