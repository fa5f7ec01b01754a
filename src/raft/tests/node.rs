//! One node as the clusters of these tests see it: the core, and a disk that finishes late and forgets what it did
//! not finish.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::entry::Entry;
use crate::membership::Membership;
use crate::message::Message;
use crate::raft::{Raft, Ticket};
use crate::time::Instant;
use crate::types::{HardState, Index, NodeId, Term};

/// One node's disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    pub(super) entries: Vec<Entry>,
    /// Handed over and not finished, in order.
    pub(super) pending: VecDeque<Batch>,
    pub(super) delay_min: Duration,
    pub(super) delay_max: Duration,
    /// Nothing finishes while it hangs.
    pub(super) hangs: bool,
    /// When the last pending write finishes: writes queue.
    pub(super) busy_until: Instant,
}

/// A write that was handed over.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) ticket: Ticket,
    pub(super) hard_state: Option<HardState>,
    pub(super) truncate_from: Option<Index>,
    pub(super) entries: Vec<Entry>,
}

impl Disk {
    /// What a finished write leaves behind.
    pub(super) fn apply(&mut self, batch: Batch) {
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
        if let Some(index) = batch.truncate_from {
            self.entries.truncate(usize::try_from(index.0 - 1).unwrap());
        }
        for entry in batch.entries {
            assert_eq!(entry.index.0, self.entries.len() as u64 + 1, "the disk's log has no holes");
            self.entries.push(entry);
        }
    }

    /// The chain value through this index, 0 before the first.
    pub(super) fn chain_at(&self, index: Index) -> Option<u32> {
        match index.0.checked_sub(1) {
            None => Some(0),
            Some(position) => self.entries.get(usize::try_from(position).unwrap()).map(|entry| entry.chain),
        }
    }
}

/// A node and what survives its crashes.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// `None` while it is down.
    pub(super) raft: Option<Raft>,
    pub(super) disk: Disk,
    pub(super) boot: u32,
    /// It neither reads nor writes nor looks at the clock until then.
    pub(super) paused_until: Instant,
    pub(super) applied: Index,
    /// What it was founded with.
    pub(super) membership: Membership,
    /// Proposals taken by this boot and not yet seen committed, by index.
    pub(super) proposed: BTreeMap<Index, Term>,
    /// Open calls: the callee and what was asked.
    pub(super) calls: BTreeMap<u64, (NodeId, Message)>,
}

impl Node {
    /// Down, with this on its disk.
    pub(super) fn down(membership: Membership, disk: Disk) -> Self {
        Self {
            raft: None,
            disk,
            boot: 0,
            paused_until: Instant::ZERO,
            applied: Index(0),
            membership,
            proposed: BTreeMap::new(),
            calls: BTreeMap::new(),
        }
    }
}
