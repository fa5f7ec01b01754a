//! The event loop of one node.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use slog::{Logger, info, warn};

use crate::histogram::Histogram;
use crate::machine::Machine;
use crate::node::{LoadError, Node, NodeEvent, Output};
use crate::raft::{PeerStatus, RoleKind};
use crate::rpc::LinkStats;
use crate::run::disk_thread::{Done, Job, Writer};
use crate::run::figures::{FollowerFigures, LinkFigures, NodeFigures};
use crate::run::mailbox::Mailbox;
use crate::run::net::Net;
use crate::run::record::{Recorded, Recorder};
use crate::run::sights::View;
use crate::run::snapshot_thread::{Event, SnapshotThread};
use crate::store::{Batch, Disk, OpenError, StoreError};
use crate::time::{Instant, earliest};
use crate::trace::{NoteKind, Payloads};
use crate::types::{ClusterId, NodeId};
use crate::wire::status::NodeStatus;
use std::time::Duration;

/// How long a node that is told to stop waits for another to take its leadership.
const HANDOVER_MAX: Duration = Duration::from_secs(1);

/// How long after an attempt to hand over that came to nothing the next one is made.
const HANDOVER_PAUSE: Duration = Duration::from_millis(50);

/// A stop that was asked for.
#[derive(Clone, Copy, Debug)]
struct Stopping {
    /// When it ends, whoever leads.
    at: Instant,
    /// When leadership is handed over, again if need be.
    hand_over_at: Instant,
    /// True from when this node was seen to lead: then it stays until it knows its successor, which may need its vote.
    has_led: bool,
}

/// What other threads ask of the loop.
pub enum Request {
    /// How are you?
    Status(Box<dyn FnOnce(NodeStatus) + Send>),
    /// How are you, in numbers?
    Figures(Box<dyn FnOnce(NodeFigures) + Send>),
    /// Which datagrams passed after the one of this serial?
    Look(u64, Box<dyn FnOnce(View) + Send>),
    /// Record in this folder from now on, without the bytes of datagrams; or no more.
    Record(Option<PathBuf>),
    /// Hand leadership over.
    Transfer(Option<NodeId>),
    /// Hand leadership over if need be, make everything durable and end.
    Stop,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(_) => f.write_str("Status"),
            Self::Figures(_) => f.write_str("Figures"),
            Self::Look(after, _) => write!(f, "Look({after})"),
            Self::Record(folder) => write!(f, "Record({folder:?})"),
            Self::Transfer(to) => write!(f, "Transfer({to:?})"),
            Self::Stop => f.write_str("Stop"),
        }
    }
}

/// Why a node's loop ended before it was told to.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// Its disk failed; nothing that was not durable was answered.
    Disk(StoreError),
    /// Its poll or timer failed.
    Poll(io::Error),
    /// Its snapshots cannot be read or written.
    Snapshot(LoadError),
    /// Its disk thread panicked.
    DiskThread,
    /// Its snapshot thread panicked, or the machine did there.
    SnapshotThread,
    /// Its own thread panicked: the machine did, or an invariant was broken.
    Panicked,
    /// Its folder could not be opened again after founding.
    Reopen(OpenError),
    /// Its recording could not be begun.
    Record {
        /// The folder for it.
        folder: PathBuf,
        /// What the disk said.
        error: io::Error,
    },
    /// It was to found a cluster, and a voter is of one that was founded without this data folder.
    FoundedWithoutUs {
        /// Which voter.
        peer: SocketAddr,
        /// The cluster.
        cluster: ClusterId,
    },
    /// It was to join one cluster, and the voters belong to another.
    OtherCluster {
        /// The voters' cluster.
        found: ClusterId,
        /// The one asked for.
        expected: ClusterId,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(f, "the node ended: {error}"),
            Self::Poll(error) => write!(f, "the node ended: waiting failed: {error}"),
            Self::Snapshot(error) => write!(f, "the node ended: snapshot: {error}"),
            Self::SnapshotThread => f.write_str("the node ended: its snapshot thread panicked"),
            Self::DiskThread => f.write_str("the node ended: its disk thread panicked"),
            Self::Panicked => f.write_str("the node ended: its thread panicked"),
            Self::Reopen(error) => write!(f, "the node ended after its founding: {error}"),
            Self::Record { folder, error } => {
                write!(f, "the node ended: recording in {} failed: {error}", folder.display())
            }
            Self::OtherCluster { found, expected } => {
                write!(f, "the voters belong to cluster {found}, not to {expected}: nothing was joined")
            }
            Self::FoundedWithoutUs { peer, cluster } => write!(
                f,
                "already founded: {peer} belongs to cluster {cluster}, which was founded without this data folder; \
                 a node that lost its data joins again (join) and is made a voter by a membership change"
            ),
        }
    }
}

impl std::error::Error for RunError {}

/// A node with all it runs on.
pub(super) struct NodeLoop<M, D> {
    pub(super) node: Node<M>,
    pub(super) net: Net,
    pub(super) writer: Writer<D>,
    pub(super) snapshots: SnapshotThread<M>,
    pub(super) mailbox: Arc<Mailbox<Request>>,
    pub(super) on_event: Box<dyn FnMut(&NodeEvent) + Send>,
    pub(super) log: Logger,
    /// How long batches took to be durable.
    pub(super) syncs: Histogram,
    pub(super) began: Instant,
}

impl<M: Machine + Send + 'static, D: Disk + Send + 'static> NodeLoop<M, D> {
    /// Runs until told to stop, or until the disk or the poll fails.
    pub(super) fn run(mut self) -> Result<(), RunError> {
        let ended = self.turns();
        self.net.log_faults(&self.log);
        self.snapshots.stop();
        let store = self.writer.stop();
        let (now, recorder) = (self.net.now(), self.net.record(None));
        if let Some(mut recorder) = recorder {
            recorder.observe(now, self.node.raft());
            match &ended {
                Ok(()) => recorder.stop(now),
                Err(error) => recorder.note(now, NoteKind::Crash, error.to_string()),
            }
        }
        ended?;
        let mut store = store.ok_or(RunError::DiskThread)?;
        store.shutdown().map_err(RunError::Disk)?;
        info!(self.log, "stopped");
        Ok(())
    }

    fn turns(&mut self) -> Result<(), RunError> {
        let mut requests = Vec::new();
        let mut done = Vec::new();
        let mut stopping: Option<Stopping> = None;
        loop {
            if let Some(stopping) = &mut stopping
                && self.hand_over(stopping)
            {
                return Ok(());
            }
            let leads = self.node.raft().role() == RoleKind::Leader;
            let stop_at = stopping.map(|it| if leads { it.at.min(it.hand_over_at) } else { it.at });
            self.writer.keep_up(self.net.now());
            let due = self.node.poll_timeout();
            // What is done in place wakes nobody.
            let deadline = if self.take_done(&mut done)? {
                Some(Instant::ZERO)
            } else {
                earliest(earliest(due, stop_at), self.writer.poll_timeout())
            };
            self.net.wait(deadline).map_err(RunError::Poll)?;
            self.mailbox.take(&mut requests);
            for request in requests.drain(..) {
                self.serve(request, &mut stopping);
            }
            // What the disk has done and what has come in are heard before any timer fires.
            self.take_done(&mut done)?;
            self.take_snapshot_events()?;
            let node = &mut self.node;
            self.net.receive(|now, from, bytes| node.handle_datagram(now, from, bytes));
            let now = self.net.now();
            // What has just come in wants no more than the turn that it gets.
            if due.is_some_and(|at| at <= now) {
                self.node.handle_timeout(now);
            }
            self.node.step(now);
            self.carry_out_outputs();
            // A write in place is done at once, and what waited for it goes out with this turn.
            while self.take_done(&mut done)? {
                self.node.step(now);
                self.carry_out_outputs();
            }
            self.node.turn(now);
            self.carry_out_outputs();
            let node = &mut self.node;
            self.net.send(|to, error| node.handle_send_error(now, to, error));
        }
    }

    /// Hands leadership over before a stop; true when nothing keeps the node any more.
    fn hand_over(&mut self, stopping: &mut Stopping) -> bool {
        let (now, raft) = (self.net.now(), self.node.raft());
        let others = raft.membership().voters.keys().any(|id| *id != raft.config().identity.node);
        if now >= stopping.at || !others {
            return true;
        }
        if raft.role() != RoleKind::Leader {
            return !stopping.has_led || raft.leader().is_some();
        }
        stopping.has_led = true;
        if now >= stopping.hand_over_at {
            stopping.hand_over_at = now + HANDOVER_PAUSE;
            if raft.transferring().is_none() {
                info!(self.log, "handing leadership over before stopping");
                self.node.transfer_leadership(now, None);
            }
        }
        false
    }

    fn serve(&mut self, request: Request, stopping: &mut Option<Stopping>) {
        let now = self.net.now();
        match request {
            Request::Status(answer) => answer(self.node.status()),
            Request::Figures(answer) => answer(self.figures(now)),
            // Without an address of its own there is no socket to look at, and the loop is about to end.
            Request::Look(after, answer) => drop(self.net.look(after).map(answer)),
            Request::Record(folder) => self.record(now, folder),
            Request::Transfer(to) => self.node.transfer_leadership(now, to),
            Request::Stop if stopping.is_none() => {
                *stopping = Some(Stopping { at: now + HANDOVER_MAX, hand_over_at: now, has_led: false });
            }
            Request::Stop => {}
        }
    }

    /// A recording that cannot be begun is told and is not: nothing of the node rests on it.
    fn record(&mut self, now: Instant, folder: Option<PathBuf>) {
        let begin = |folder: PathBuf| {
            let status = self.node.status();
            let recorded = Recorded {
                node: status.node,
                store: status.store,
                incarnation: status.incarnation,
                cluster: status.cluster,
                address: self.net.local_addr()?,
                payloads: Payloads::LeftOut,
            };
            let mut recorder = Recorder::start(&folder, recorded, now, &self.log)?;
            // Where it stands belongs to its begin: this node may lead already.
            recorder.observe(now, self.node.raft());
            Ok::<_, io::Error>(recorder)
        };
        let recorder = folder.and_then(|folder| {
            begin(folder).map_err(|error| warn!(self.log, "nothing is recorded"; "error" => %error)).ok()
        });
        if let Some(before) = self.net.record(recorder) {
            // What waits is written meanwhile: the loop has nodes to answer.
            let end = thread::Builder::new().name("raftgram-recorded".to_owned());
            // Without a thread it is written here, by the drop of what was to run there.
            drop(end.spawn(move || drop(before)));
        }
    }

    fn figures(&self, now: Instant) -> NodeFigures {
        let rpc = self.node.rpc();
        let link = |(node, stats): (NodeId, LinkStats)| LinkFigures {
            node,
            stats,
            silent_for: now.saturating_since(stats.heard),
        };
        let follower = |peer: PeerStatus| FollowerFigures {
            node: peer.identity.node,
            progress: peer.kind,
            match_index: peer.match_index,
            inflight_count: peer.inflight_count,
        };
        NodeFigures {
            status: self.node.status(),
            rpc: *rpc.stats(),
            rpc_load: rpc.load(),
            load: self.node.load(),
            links: self.node.links().map(link).collect(),
            followers: self.node.raft().peers().map(follower).collect(),
            commits: *self.node.commits(),
            syncs: self.syncs,
            buffers: self.net.buffers(),
            uptime: now.saturating_since(self.began),
        }
    }

    /// Does what the machine asks for.
    fn carry_out_outputs(&mut self) {
        let now = self.net.now();
        if let Some(recorder) = self.net.recorder() {
            // Before what it sends, so that a reader sees what a message rests on before the message.
            recorder.observe(now, self.node.raft());
        }
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Transmit { to, bytes } => self.net.queue(to, bytes),
                Output::Persist { ticket, hard_state, truncate_from, entries } => {
                    let batch = Batch { hard_state, truncate_from, entries };
                    self.writer.ask(Job::Persist { ticket, batch });
                }
                Output::RecordPeer { store, incarnation, nonce, kept } => {
                    self.writer.ask(Job::RecordPeer { store, incarnation, nonce, kept });
                }
                Output::Snapshot(job) => self.snapshots.ask(job),
                Output::AdoptSnapshot { meta, log } => self.writer.ask(Job::Adopt { meta, log }),
                Output::Event(event) => {
                    if let (Some(alarm), Some(recorder)) = (alarm_of(&event), self.net.recorder()) {
                        recorder.note(now, NoteKind::Alarm, alarm);
                    }
                    if let NodeEvent::FaultsAsked(request) = &event {
                        info!(self.log, "faults on links"; "asked" => format!("{request:?}"));
                        self.net.set_faults(request);
                    }
                    (self.on_event)(&event);
                }
            }
        }
    }

    /// Tells the node what the disk has done; true when there was anything.
    fn take_done(&mut self, done: &mut Vec<Done>) -> Result<bool, RunError> {
        self.writer.take_done(done);
        let has_done = !done.is_empty();
        for done in done.drain(..) {
            let now = self.net.now();
            match done {
                Done::Persisted { ticket, took } => {
                    self.syncs.record(took);
                    self.node.handle_persisted(now, ticket);
                }
                Done::PeerRecorded { store, incarnation, nonce, seen } => {
                    self.node.handle_peer_recorded(now, store, incarnation, nonce, seen);
                }
                Done::Adopted { meta, adopted } => self.node.handle_snapshot_adopted(now, meta, adopted),
                Done::Room(room) => self.node.handle_disk_room(now, room),
                Done::Full => warn!(self.log, "disk full: nothing is acknowledged until there is room"),
                Done::Failed(error) => return Err(RunError::Disk(error)),
                Done::Panicked => return Err(RunError::DiskThread),
            }
        }
        Ok(has_done)
    }

    /// Tells the node what has become of its snapshots.
    fn take_snapshot_events(&mut self) -> Result<(), RunError> {
        let mut events = Vec::new();
        self.snapshots.take_events(&mut events);
        for event in events {
            match event {
                Event::Done(done) => self.node.handle_snapshot_done(self.net.now(), done),
                Event::Failed(error) => return Err(RunError::Snapshot(LoadError::File(error))),
                Event::Panicked => return Err(RunError::SnapshotThread),
            }
        }
        Ok(())
    }
}

/// What a recording says of an event that shows a broken assumption.
fn alarm_of(event: &NodeEvent) -> Option<String> {
    match event {
        NodeEvent::Alarm(alarm) => Some(alarm.to_string()),
        NodeEvent::Diverged { divergence, .. } => Some(divergence.to_string()),
        _ => None,
    }
}
