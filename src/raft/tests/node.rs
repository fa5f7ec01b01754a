//! One node as the clusters of these tests see it: the core, and what survives its crashes.

use std::collections::BTreeMap;

use super::disk::Disk;
use crate::membership::Membership;
use crate::message::Message;
use crate::raft::Raft;
use crate::time::Instant;
use crate::types::{Index, NodeId, Term};

/// A node and what survives its crashes.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// `None` while it is down.
    pub(super) raft: Option<Raft>,
    pub(super) disk: Disk,
    pub(super) boot: u32,
    /// Counts its data folders: a wiped node has a new one.
    pub(super) life: u8,
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
            life: 0,
            paused_until: Instant::ZERO,
            applied: Index(0),
            membership,
            proposed: BTreeMap::new(),
            calls: BTreeMap::new(),
        }
    }
}
