//! One node with all that is its own: disk, clock, and whatever keeps it from running.

use core::time::Duration;
use std::collections::VecDeque;
use std::net::SocketAddr;

use super::agenda::Alarms;
use super::clock::Clock;
use super::invariant::Observed;
use super::storage::{DiskProfile, SharedDisk, SnapshotWriter, Writer};
use crate::node::founding::Founding;
use crate::node::{DiskRoom, Node};
use crate::rng::Rng;
use crate::store::{OpenError, Store};
use crate::time::Instant;
use crate::types::{Incarnation, NodeId};

/// What a paused node's socket holds; more is lost.
pub(super) const INBOX_MAX: usize = 512;

/// What runs.
#[derive(Debug)]
pub(super) enum Life<M> {
    Blank(Box<Founding>),
    Member(Box<Node<Observed<M>>>),
}

/// A node that is up.
#[derive(Debug)]
pub(super) struct Running<M> {
    pub(super) life: Life<M>,
    pub(super) store: Store<SharedDisk>,
}

/// Why a node is down.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Down {
    /// It was never started.
    NeverStarted,
    /// It was crashed.
    Crashed,
    /// Its disk failed, so it ended itself.
    DiskFailed(String),
    /// Its data folder was refused at the last start.
    Refused(OpenError),
    /// The cluster was founded without its data folder.
    FoundedWithoutIt,
}

impl core::fmt::Display for Down {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NeverStarted => f.write_str("never started"),
            Self::Crashed => f.write_str("crashed"),
            Self::DiskFailed(error) => f.write_str(error),
            Self::Refused(error) => error.fmt(f),
            Self::FoundedWithoutIt => f.write_str("founded without this data folder"),
        }
    }
}

/// A node's machine and surroundings.
#[derive(Debug)]
pub(super) struct Server<M> {
    pub(super) id: NodeId,
    pub(super) running: Option<Box<Running<M>>>,
    pub(super) down: Down,
    pub(super) disk: SharedDisk,
    pub(super) profile: DiskProfile,
    pub(super) writer: Writer,
    pub(super) snapshots: SnapshotWriter<Observed<M>>,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    /// Counts the starts; events of an earlier one are void.
    pub(super) boot: u32,
    pub(super) incarnation: Incarnation,
    /// Whether its folder belonged to a cluster when it was last opened.
    pub(super) is_founded: bool,
    /// The wakes that the agenda holds.
    pub(super) alarms: Alarms,
    /// Whether the agenda holds a look at the quiet disk.
    pub(super) awaits_quiet: bool,
    /// What the disk last had for the log.
    pub(super) room: DiskRoom,
    pub(super) paused_until: Option<Instant>,
    pub(super) inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    /// It crashes after so many effects more.
    pub(super) doom: Option<(u32, Crash)>,
    /// The share of datagrams that its socket refuses.
    pub(super) send_errors: f64,
    /// Longer datagrams are refused as too long.
    pub(super) mtu: Option<usize>,
    /// On an empty disk it joins, whether or not it is one of the founders.
    pub(super) is_joiner: bool,
    /// Its data folder was put back from an older copy at some time.
    pub(super) is_old_copy: bool,
    /// It lost a data folder at some time: what still speaks for that one is the past.
    pub(super) was_wiped: bool,
}

/// How a node goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Its process ends; what it wrote is in the machine's cache.
    Kill,
    /// Its machine loses power: of what was not synced any part may be lost.
    PowerCut,
}

impl<M> Server<M> {
    pub(super) fn new(id: NodeId, profile: DiskProfile, mut rng: Rng) -> Self {
        // Every machine has been up for another time.
        let offset = rng.duration_between(Duration::from_millis(1), Duration::from_secs(1_000_000));
        Self {
            id,
            running: None,
            down: Down::NeverStarted,
            disk: SharedDisk::default(),
            profile,
            writer: Writer::default(),
            snapshots: SnapshotWriter::default(),
            clock: Clock::new(offset),
            rng,
            boot: 0,
            incarnation: Incarnation(0),
            is_founded: false,
            alarms: Alarms::default(),
            awaits_quiet: false,
            room: DiskRoom::Enough,
            paused_until: None,
            inbox: VecDeque::new(),
            doom: None,
            send_errors: 0.0,
            mtu: None,
            is_joiner: false,
            is_old_copy: false,
            was_wiped: false,
        }
    }

    /// The founded node, if one runs here.
    pub(super) fn node(&self) -> Option<&Node<Observed<M>>> {
        match self.running.as_deref() {
            Some(Running { life: Life::Member(node), .. }) => Some(node),
            _ => None,
        }
    }

    /// Ends the process and forgets all that was in its memory.
    pub(super) fn stop(&mut self, why: Down) {
        self.running = None;
        self.down = why;
        self.writer = Writer::default();
        self.snapshots = SnapshotWriter::default();
        self.boot += 1;
        self.alarms.clear();
        self.awaits_quiet = false;
        self.room = DiskRoom::Enough;
        self.paused_until = None;
        self.inbox.clear();
        self.doom = None;
    }
}
