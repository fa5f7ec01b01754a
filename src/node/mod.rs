//! The whole server, without I/O: RPC below, Raft above, the state machine inside.
//!
//! A driver hands in datagrams, finished disk writes and the passing of time; then it ends the turn and drains
//! outputs. The same node runs in a process of its own and in the simulator.
//!
//! # One turn
//! `handle_*` only takes note. [`Node::turn`] does the work, in this order:
//! 1. events of the RPC layer: requests of peers go to Raft, requests of clients are served;
//! 2. Raft's outputs: requests and replies go down to the RPC layer, disk writes out to the driver, the commit
//!    index to the applier;
//! 3. a bounded batch of committed entries is applied, waiting clients are answered;
//! 4. when nothing is left to do, the RPC layer packs what was said in this turn into datagrams.
//!
//! What is applied per turn is bounded, so that heartbeats never wait for a long apply: when more is committed,
//! the node asks to be called again at once.
//!
//! # Who may say what
//! A link carries Raft only when the peer proved a store of this cluster; a client's link carries client requests
//! only. Each peer's incarnation and boot nonce are durable before anything it says is passed to Raft: a store
//! that proves an older boot than one seen, or the same boot with another nonce, is a *copy* of a data folder,
//! and is not listened to.
//!
//! # Answers to clients
//! A write's token waits under the index of its entry until that index is applied. It is answered only if the
//! entry there has the term it was proposed in; a node that loses leadership sends all waiting clients away at
//! once, and their retries are recognised by the session table.
//!
//! # Snapshots
//! See [`snapshot`]: frozen in a moment, written elsewhere, then the log below is dropped. `transfer` and `pull` bring
//! the file to nodes that are too far behind for the log, and put them in its state.
//!
//! # Watches
//! See [`watch`]: a request that waits until something after an index is applied.
//!
//! # Damage
//! A folder whose log or snapshot is damaged starts all the same: Raft fills the hole from other nodes
//! (`raft::repair`), a lost snapshot is pulled like one that is offered, and the machine stays blank meanwhile. A
//! snapshot that turns out to be damaged when a block of it is served is written anew from memory.
//!
//! # Members
//! The links follow the membership as it acts: Raft says which is in force, `standing` dials who came in and lets go of
//! who left. `admin` serves who changes it, `probe` asks first who is at a new address.
//!
//! # Reads
//! A linearizable read waits for Raft's confirmation, then for the machine to reach its index; a follower has the index
//! from its leader. A local one is answered from what is applied. Under a lease a leader needs no confirmation.

mod admin;
mod applier;
mod config;
mod digest;
#[cfg(test)]
mod digest_tests;
pub mod founding;
mod links;
mod pace;
mod probe;
mod pull;
mod raft_io;
mod rebuild;
mod serve;
pub mod snapshot;
#[cfg(test)]
mod snapshot_tests;
mod standing;
mod status;
#[cfg(test)]
mod tests;
mod transfer;
pub mod watch;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use slog::{Logger, info, o, warn};

pub use config::{Limits, LiveFaults, NodeConfig, NodeStart, Timing};
pub use links::PeerRecord;
pub use pull::PullConfig;
pub use raft_io::PEER_TOKENS_MAX;
pub use rebuild::rebuild;
pub use snapshot::{LoadError, SnapshotDone, SnapshotJob, StartError, StartSnapshot};
pub use status::NodeLoad;
pub use watch::WatchConfig;

use crate::entry::{Entry, Payload};
use crate::founding::FoundingRecord;
use crate::histogram::Histogram;
use crate::machine::Machine;
use crate::membership::Membership;
use crate::mutant::{self, Mutant};
use crate::raft::{Alarm, Raft, ReadId, ReplyToken, Restored, RoleKind, Ticket};
use crate::rng::Rng;
use crate::rpc::{LinkId, Output as RpcOutput, Rpc, SendErrorKind, Token};
use crate::session::{self, Sessions};
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::store::{Damage, LogAfter};
use crate::time::{Instant, earliest};
use crate::types::{BootNonce, CallId, HardState, Identity, Incarnation, Index, NodeId, StoreId, Term};
use crate::wire::DropReason;
use crate::wire::fault::FaultRequest;
use crate::wire::status::Divergence;
use crate::wire::status::Standing;
use digest::Digests;
use founding::Blank;
use links::Peer;
use pace::Pace;
use probe::Probes;
use serve::PendingRead;
use snapshot::Snapshots;
use standing::Place;
use transfer::Transfers;
use watch::Watches;
use writes::Writes;

/// What the driver is to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output<M> {
    /// Send this datagram.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// The UDP payload.
        bytes: Vec<u8>,
    },
    /// Make this durable, then call [`Node::handle_persisted`]. Writes are finished in the order they were asked
    /// for; one sync may cover several.
    Persist {
        /// Names the write.
        ticket: Ticket,
        /// Term and vote, when they changed.
        hard_state: Option<HardState>,
        /// Remove the log's entries from this index on, before adding any.
        truncate_from: Option<Index>,
        /// Entries to add.
        entries: Vec<Entry>,
    },
    /// Make this durable, unless it shows a copy of a data folder; then call [`Node::handle_peer_recorded`].
    RecordPeer {
        /// The peer's data folder.
        store: StoreId,
        /// Its boot.
        incarnation: Incarnation,
        /// The number drawn at that boot.
        nonce: BootNonce,
        /// The stores of which nothing may be forgotten to make room for this one.
        kept: BTreeSet<StoreId>,
    },
    /// Carry this out where it holds up nobody, then call [`Node::handle_snapshot_done`].
    Snapshot(SnapshotJob<M>),
    /// Make this snapshot the one in force, by [`crate::store::Store::adopt_snapshot`] and in order with the writes;
    /// then call [`Node::handle_snapshot_adopted`].
    AdoptSnapshot {
        /// Its file is durable.
        meta: SnapshotMeta,
        /// What becomes of the log.
        log: LogAfter,
    },
    /// Tell whoever listens.
    Event(NodeEvent),
}

/// What an operator or an application may want to know.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// Role, term or known leader changed.
    RoleChanged {
        /// What this node is.
        role: RoleKind,
        /// In which term.
        term: Term,
        /// Who leads, as far as known.
        leader: Option<NodeId>,
    },
    /// An administrator wants the node's links to do this to datagrams; whoever drives it sees to that.
    FaultsAsked(Box<FaultRequest>),
    /// A peer's link is open, and it is who it should be.
    PeerConnected {
        /// Who.
        peer: Identity,
    },
    /// A store proved an older boot than one seen, or the same one twice: its data folder was copied. It is not
    /// listened to.
    CopiedFolder {
        /// Who.
        peer: Identity,
        /// The boot it showed.
        incarnation: Incarnation,
    },
    /// A snapshot is durable and in force, and the log below it gone.
    SnapshotTaken {
        /// Which.
        meta: SnapshotMeta,
    },
    /// A snapshot of another node was put in the place of this node's log and state, durably.
    SnapshotInstalled {
        /// Which.
        meta: SnapshotMeta,
    },
    /// The disk is nearly full, or no longer: while it is, the node takes no writes of clients.
    DiskRoom(DiskRoom),
    /// There was no room for a snapshot; the next mark tries again.
    SnapshotNotWritten {
        /// Which it would have been.
        id: SnapshotId,
    },
    /// Something in the data folder is not what was written there.
    Damaged {
        /// What.
        damage: Damage,
    },
    /// The log has a hole after this entry, which is filled from other nodes; until then this node does not campaign,
    /// and acknowledges nothing beyond.
    RepairBegan {
        /// The last intact entry before the hole.
        after: Index,
    },
    /// The log is whole again, through this entry.
    RepairEnded {
        /// Its last entry.
        last: Index,
    },
    /// This node became a member of the cluster, or is none any more.
    Standing(Standing),
    /// The same entries came to something else on another node: the two states differ.
    Diverged {
        /// Which node.
        peer: Identity,
        /// Where, and what showed it.
        divergence: Divergence,
    },
    /// Something that cannot happen while the design's assumptions hold.
    Alarm(Alarm),
}

/// What a disk has left for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskRoom {
    /// The next segment is there.
    Enough,
    /// The same, and the log nearly has as many segments as it may: a snapshot makes room.
    Crowded {
        /// How many it has: each further one is told, lest a snapshot that could not be written was the last.
        segments: usize,
    },
    /// There is none and no room for one: what is left of the segment in use is all.
    Low,
}

/// The server machine; see the module's page.
#[derive(Debug)]
pub struct Node<M> {
    config: NodeConfig,
    log: Logger,
    identity: Identity,
    incarnation: Incarnation,
    founding: Option<FoundingRecord>,
    rpc: Rpc,
    raft: Raft,
    sessions: Sessions,
    machine: M,
    snapshots: Snapshots,
    transfers: Transfers,
    /// The membership at the applied index.
    applied_membership: Arc<Membership>,
    /// The link of each member and what is known of who is behind it.
    peers: BTreeMap<NodeId, Peer>,
    /// Requests of peers that Raft has not answered yet.
    peer_tokens: BTreeMap<ReplyToken, Token>,
    /// Raft's own requests, to be cancelled when they are overtaken.
    raft_calls: BTreeMap<(LinkId, CallId), NodeId>,
    /// Clients that wait for an entry to be applied.
    writes: Writes,
    /// How long writes proposed here took until they were applied.
    commits: Histogram,
    pace: Pace,
    /// Reads that wait for Raft's confirmation.
    reads: BTreeMap<ReadId, PendingRead>,
    /// Confirmed reads that wait for the machine to reach their index.
    confirmed_reads: BTreeMap<(Index, ReadId), PendingRead>,
    /// What was carried out lately, and clients that wait for more.
    watches: Watches,
    next_token: u64,
    next_read: u64,
    commit: Index,
    applied: Index,
    digests: Digests,
    /// Whether the disk takes more than what is under way.
    room: DiskRoom,
    /// Damaged places found since the boot.
    damage_found: u64,
    /// Whether the owner knows of a hole in the log.
    is_repair_told: bool,
    alarms: raft_io::Alarms,
    /// Addresses that are being asked who is there.
    probes: Probes,
    place: Place,
    /// For what is made while the node runs.
    rng: Rng,
    outputs: VecDeque<Output<M>>,
}

impl<M: Machine> Node<M> {
    /// A founded or joined node that has just booted: everything in `start` is durable.
    ///
    /// # Panics
    /// When `config` does not validate, or `start` names no cluster.
    #[must_use]
    pub fn new(
        config: NodeConfig,
        start: NodeStart,
        machine: M,
        logger: &Logger,
        mut rng: Rng,
        now: Instant,
    ) -> Self {
        assert!(!start.cluster.is_zero(), "a node runs only in a cluster");
        let identity = identity_of(&config, &start);
        let raft_config = config.raft(identity, start.incarnation, start.cluster);
        if let Err(error) = raft_config.validate() {
            panic!("node settings: {error}");
        }
        let boot = Blank { identity, incarnation: start.incarnation, boot_nonce: start.boot_nonce };
        let local = founding::local(boot, start.cluster, &config.timing);
        let rpc = Rpc::new(config.rpc.clone(), local, rng.fork(), now)
            .unwrap_or_else(|error| panic!("node settings: {error}"));
        let (membership, restored) =
            restore(&start.founding, &start.snapshot, start.hard_state, start.entries);
        let restored = Restored { remains: start.remains, ..restored };
        let applied = start.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.meta.id.index);
        let is_fresh = start.snapshot.is_none();
        let (snapshots, mut sessions) = Snapshots::begin(start.snapshot);
        if mutant::is(Mutant::I10) && is_fresh {
            let sessions_max = 2 + u64::from(config.id.as_u16());
            sessions = Sessions::with_limits(session::Limits { sessions_max, ..session::Limits::FOUNDING });
        }
        let was_member = was_member(identity, &membership, &restored.entries);
        let raft = Raft::new(raft_config, restored, rng.fork(), now);
        let place = Place::new(Arc::clone(raft.membership()), was_member);
        let mut node = Self {
            log: logger.new(o!("node" => config.id.as_u16())),
            config,
            identity,
            incarnation: start.incarnation,
            founding: start.founding,
            rpc,
            raft,
            sessions,
            machine,
            snapshots,
            transfers: Transfers::default(),
            applied_membership: Arc::new(membership),
            peers: BTreeMap::new(),
            peer_tokens: BTreeMap::new(),
            raft_calls: BTreeMap::new(),
            writes: Writes::default(),
            commits: Histogram::default(),
            pace: Pace::default(),
            reads: BTreeMap::new(),
            confirmed_reads: BTreeMap::new(),
            watches: Watches::new(applied),
            next_token: 0,
            next_read: 0,
            commit: applied,
            applied,
            digests: Digests::default(),
            room: DiskRoom::Enough,
            damage_found: 0,
            is_repair_told: false,
            alarms: raft_io::Alarms::default(),
            probes: Probes::default(),
            place,
            rng,
            outputs: VecDeque::new(),
        };
        node.begin(now, start.damage);
        node
    }

    /// Tells what was found, and says hello to the others.
    fn begin(&mut self, now: Instant, damage: Vec<Damage>) {
        for damage in damage {
            self.note_damage(damage);
        }
        self.tell_repair();
        self.connect_members(now);
    }

    /// Hands in a datagram; tells why, if it is dropped.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Option<DropReason> {
        self.take_in(now, from, bytes)
    }

    /// Gives a datagram's vector to be filled again.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        self.rpc.recycle(bytes);
    }

    /// Tells that a datagram to `to` could not be sent. It counts as lost.
    pub fn handle_send_error(&mut self, now: Instant, to: SocketAddr, kind: SendErrorKind) {
        self.rpc.handle_send_error(now, to, kind);
        self.probes.handle_send_error(now, to, kind);
    }

    /// Tells that this [`Output::Persist`], and all before it, are durable.
    pub fn handle_persisted(&mut self, now: Instant, ticket: Ticket) {
        self.raft.handle_persisted(now, ticket);
        self.adopt_when_durable();
    }

    /// Tells that time has passed; harmless when none has. Hand in waiting datagrams first: a heartbeat that has
    /// come must not be overtaken by the timeout it prevents.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.rpc.handle_timeout(now);
        self.probes.handle_timeout(now);
        // Nor must one that was handed in and waits for the turn.
        self.pump(now);
        self.raft.handle_timeout(now);
    }

    /// Tells whether the disk has room for the log beyond the segment in use. Without, the node is read-only: a leader
    /// hands over to a voter that may have room, and refuses clients' writes meanwhile. What keeps the cluster itself
    /// going is written as long as there is any room (D4). A log of too many segments has a snapshot taken instead.
    pub fn handle_disk_room(&mut self, now: Instant, room: DiskRoom) {
        if core::mem::replace(&mut self.room, room) == room {
            return;
        }
        self.outputs.push_back(Output::Event(NodeEvent::DiskRoom(room)));
        match room {
            DiskRoom::Enough => info!(self.log, "the log has room again: writes are taken"),
            DiskRoom::Crowded { segments } => {
                info!(self.log, "the log has nearly as many segments as it may"; "segments" => segments);
                if !self.has_snapshot_under_way() {
                    self.take_snapshot();
                }
            }
            DiskRoom::Low => {
                warn!(self.log, "the disk is nearly full: read-only until there is room");
                if self.raft.role() == RoleKind::Leader {
                    self.transfer_leadership(now, None);
                }
            }
        }
    }

    /// Hands leadership to another voter, if this node leads and one is fit.
    pub fn transfer_leadership(&mut self, now: Instant, to: Option<NodeId>) {
        if let Err(error) = self.raft.transfer_leadership(now, to) {
            info!(self.log, "leadership not handed over"; "reason" => %error);
        }
    }

    /// Does everything that follows from what was handed in, and sends nothing yet: for drivers that have quick
    /// answers to some outputs, whose consequences then share the turn's datagrams.
    pub fn step(&mut self, now: Instant) {
        self.pump(now);
        self.apply_committed(now);
        self.advance_watches(now);
        self.advance_transfers(now);
        self.tell_repair();
        self.follow_membership(now);
        self.advance_digests(now);
        // What was applied may have let Raft or the callers go on.
        self.pump(now);
    }

    /// Ends a turn: does everything that follows from what was handed in and packs what is to be sent. Drain
    /// [`Self::poll_output`] afterwards.
    pub fn turn(&mut self, now: Instant) {
        self.step(now);
        self.rpc.flush(now);
        self.probes.flush(now);
        self.pump(now);
    }

    fn pump(&mut self, now: Instant) {
        self.pump_probes(now);
        loop {
            if let Some(output) = self.rpc.poll_output() {
                match output {
                    RpcOutput::Transmit { to, bytes } => {
                        self.outputs.push_back(Output::Transmit { to, bytes })
                    }
                    RpcOutput::Event(event) => self.on_rpc_event(now, event),
                }
            } else if let Some(output) = self.raft.poll_output() {
                self.on_raft_output(now, output);
            } else {
                return;
            }
        }
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output<M>> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next; [`Instant::ZERO`] while committed entries wait to be applied.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.applied < self.commit {
            return Some(Instant::ZERO);
        }
        let machines = earliest(self.rpc.poll_timeout(), self.raft.poll_timeout());
        let machines = earliest(machines, self.digests_due());
        let machines = earliest(machines, self.watches.poll_timeout(self.applied));
        earliest(earliest(machines, self.probes.poll_timeout()), self.transfers.poll_timeout())
    }

    /// The machine, for looking at.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The last entry that the machine has seen.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The consensus core, for looking at.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Counts and tells what is damaged.
    fn note_damage(&mut self, damage: Damage) {
        self.damage_found += 1;
        warn!(self.log, "damaged"; "what" => %damage);
        self.outputs.push_back(Output::Event(NodeEvent::Damaged { damage }));
    }

    /// Tells when a repair begins and ends.
    fn tell_repair(&mut self) {
        let is_damaged = self.raft.repair().is_some();
        if core::mem::replace(&mut self.is_repair_told, is_damaged) == is_damaged {
            return;
        }
        let last = self.raft.last_index();
        let event = if is_damaged {
            warn!(self.log, "the log has a hole: what is missing is fetched from other nodes"; "after" => %last);
            NodeEvent::RepairBegan { after: last }
        } else {
            info!(self.log, "the log is whole again"; "last" => %last);
            NodeEvent::RepairEnded { last }
        };
        self.outputs.push_back(Output::Event(event));
    }

    fn warn_copy(&mut self, peer: Identity, incarnation: Incarnation) {
        warn!(self.log, "a copied data folder is speaking; put its newest data back, or replace the member";
            "peer" => %peer, "incarnation" => %incarnation);
        self.outputs.push_back(Output::Event(NodeEvent::CopiedFolder { peer, incarnation }));
    }
}

/// Who this node is: its number, and the store that it opened.
fn identity_of(config: &NodeConfig, start: &NodeStart) -> Identity {
    let mut identity = Identity { node: config.id, store: start.store };
    if mutant::is(Mutant::I1)
        && let Some(member) = start.founding.as_ref().and_then(|it| it.membership.member(config.id))
    {
        identity.store = member.store;
    }
    identity
}

/// True when this very store stands in any membership that is known of at the start.
fn was_member(own: Identity, membership: &Membership, entries: &[Entry]) -> bool {
    let is_in = |entry: &Entry| matches!(&entry.payload, Payload::Membership(it) if it.contains(own));
    membership.contains(own) || entries.iter().any(is_in)
}

/// The membership at the start, and the log after it.
fn restore(
    founding: &Option<FoundingRecord>,
    snapshot: &Option<StartSnapshot>,
    hard_state: HardState,
    entries: Vec<Entry>,
) -> (Membership, Restored) {
    if let Some(StartSnapshot { meta, membership, .. }) = snapshot {
        let restored = Restored::with_snapshot(hard_state, *meta, membership.clone(), entries);
        return (membership.clone(), restored);
    }
    let membership = founding.as_ref().map_or_else(Membership::default, |record| record.membership.clone());
    (membership.clone(), Restored::new(hard_state, membership, entries))
}
