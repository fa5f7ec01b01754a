//! Snapshots of the node's own state: when one is due, what it holds, and what is done about it elsewhere.
//!
//! # When
//! Every node takes its snapshots at the same indexes: right after the entry by which the bytes applied since the
//! last such entry pass the mark, which follows from the replicated limits and the state's size. That count is part of
//! the snapshot, so a node that starts from one goes on counting where it was. An operator's moves no mark.
//!
//! # How
//! 1. *Freeze*: session table and machine are held fast, in a moment.
//! 2. *Write*: a [`SnapshotJob`] turns them into a file, in its own time and on a thread of its own. When the next one
//!    falls due meanwhile it is frozen at its own index and waits; a third takes the place of the second. So no mark
//!    is lost (S7), and however long a write takes, two states at most are held fast.
//! 3. *Adopt*: when the file is durable, and the log is durable through its entry, the store names it and drops the
//!    segments below ([`Output::AdoptSnapshot`]).
//! 4. *Compact*: Raft may forget what it covers; the file before it is removed.
//!
//! # What it holds
//! The store's part is the head. The body is this room's: the bytes since the mark (8), session table, machine.

use core::fmt;

use slog::{debug, info, warn};

use super::transfer::{TransferDone, TransferTask};
use super::{Node, NodeEvent, Output};
use crate::entry::Entry;
use crate::machine::{Fields, Frozen, Machine, RestoreError, Sink, SinkClosed, Source};
use crate::membership::Membership;
use crate::mutant::{self, Mutant};
use crate::session::{FrozenSessions, Sessions};
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::store::snapshot::{self as file, BodySource, SnapshotFile};
use crate::store::{
    Adopted, Disk, LogAfter, OnDamage, OpenError, OpenOptions, Recovered, SnapshotError, SnapshotHead, Store,
};
use crate::time::Instant;
use crate::types::Index;
use crate::wire::client::ClientReply;

/// What an entry counts for beside its content: term, kind, lengths and chain value.
const ENTRY_BYTES: u64 = 16;

/// The replicated state but for the machine, as a snapshot holds it.
#[derive(Debug)]
pub struct StartSnapshot {
    /// Which file.
    pub meta: SnapshotMeta,
    /// The membership at its index.
    pub membership: Membership,
    pub(super) state: State,
}

/// What goes into the body before the machine.
#[derive(Debug)]
pub(super) struct State {
    pub(super) since_mark: u64,
    pub(super) sessions: Sessions,
}

impl State {
    /// Counts an entry that was just applied; true where the mark is passed.
    pub(super) fn passes_mark(since_mark: &mut u64, entry: &Entry, mark_bytes: u64) -> bool {
        *since_mark += entry.payload.content_bytes() as u64 + ENTRY_BYTES;
        let is_passed = *since_mark >= mark_bytes;
        if is_passed {
            *since_mark = 0;
        }
        is_passed
    }

    /// Holds it fast, with the machine.
    pub(super) fn freeze<M: Machine>(&mut self, machine: &mut M) -> Box<dyn Frozen> {
        let (since_mark, sessions) = (self.since_mark, self.sessions.freeze());
        Box::new(FrozenState { since_mark, sessions, machine: machine.freeze() })
    }
}

/// Something to be done where it holds up nobody: hand it to [`SnapshotJob::carry_out`], in the order in which they
/// came, and the result to [`Node::handle_snapshot_done`].
pub struct SnapshotJob<M>(Task<M>);

enum Task<M> {
    Write { head: SnapshotHead, body: Box<dyn Frozen> },
    Load { meta: SnapshotMeta, machine: M },
    Remove { meta: SnapshotMeta },
    Forget { state: Discarded<M> },
    Transfer(TransferTask<M>),
}

/// States that are no longer wanted. Freeing a large one takes long, so that is a job too.
enum Discarded<M> {
    Frozen(Box<dyn Frozen>),
    Live(Box<(Sessions, M)>),
}

/// What came of a [`SnapshotJob`].
pub struct SnapshotDone<M>(Done<M>);

enum Done<M> {
    Written(SnapshotMeta),
    NoRoom(SnapshotId),
    Loaded(Box<(StartSnapshot, M)>),
    NotLoaded(SnapshotMeta, LoadError),
    Transfer(TransferDone<M>),
    Nothing,
}

/// Why a state was not taken from a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The file cannot be read, or is damaged.
    File(SnapshotError),
    /// It is intact, and this machine cannot take it: another machine wrote it, or a newer version.
    State(RestoreError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => fmt::Display::fmt(error, f),
            Self::State(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for LoadError {}

/// Fills the machine from a snapshot and returns what else it holds.
pub fn load<M: Machine, D: Disk>(
    disk: &mut D,
    file: &SnapshotFile,
    machine: &mut M,
) -> Result<StartSnapshot, LoadError> {
    load_from(file.body(disk), file, machine)
}

/// The same from a file that stands alone, such as a backup.
pub fn load_alone<M: Machine, D: Disk>(
    disk: &mut D,
    name: &str,
    file: &SnapshotFile,
    machine: &mut M,
) -> Result<StartSnapshot, LoadError> {
    load_from(file.body_of(disk, name), file, machine)
}

fn load_from<M: Machine, D: Disk>(
    mut body: BodySource<'_, D>,
    file: &SnapshotFile,
    machine: &mut M,
) -> Result<StartSnapshot, LoadError> {
    match read_body(&mut body, machine) {
        Ok(state) => Ok(StartSnapshot { meta: file.meta, membership: file.head.membership.clone(), state }),
        Err(error) => Err(body.failure().map_or(LoadError::State(error), LoadError::File)),
    }
}

/// A folder that was opened, with the machine filled.
pub type Opened<D> = (Store<D>, Recovered, Option<StartSnapshot>);

/// Opens a data folder and fills the machine from its snapshot, if it has one. A snapshot that turns out to be damaged
/// is lost like a log is, where `options` allow that: the machine stays blank then, and the state comes from other
/// nodes.
pub fn open<M: Machine, D: Disk>(
    disk: D,
    options: OpenOptions,
    machine: &mut M,
) -> Result<Opened<D>, StartError> {
    let (store, recovered) = Store::open(disk, options)?;
    fill(store, recovered, options.on_damage, machine)
}

/// Fills the machine from the snapshot of a folder that was opened; see [`open`].
pub fn fill<M: Machine, D: Disk>(
    mut store: Store<D>,
    mut recovered: Recovered,
    on_damage: OnDamage,
    machine: &mut M,
) -> Result<Opened<D>, StartError> {
    let Some(file) = &recovered.snapshot else { return Ok((store, recovered, None)) };
    match load(store.disk_mut(), file, machine) {
        Ok(start) => Ok((store, recovered, Some(start))),
        Err(LoadError::File(SnapshotError::Damaged(damage)))
            if on_damage == OnDamage::Keep && !store.is_alone() =>
        {
            *machine = machine.blank();
            store.lose_snapshot(&mut recovered, damage).map_err(OpenError::Disk)?;
            Ok((store, recovered, None))
        }
        Err(error) => Err(error.into()),
    }
}

/// Why a node cannot start from a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The folder must not be used.
    Open(OpenError),
    /// Its snapshot cannot be loaded.
    Load(LoadError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => fmt::Display::fmt(error, f),
            Self::Load(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for StartError {}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<LoadError> for StartError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::File(SnapshotError::Damaged(damage)) => Self::Open(damage.into()),
            LoadError::File(SnapshotError::Failed(error)) => Self::Open(error.into()),
            error => Self::Load(error),
        }
    }
}

fn read_body<M: Machine>(source: &mut dyn Source, machine: &mut M) -> Result<State, RestoreError> {
    let since_mark = Fields::new(source).number()?;
    let mut sessions = Sessions::restore(source)?;
    if mutant::is(Mutant::S9) {
        sessions = Sessions::with_limits(sessions.limits());
    }
    machine.restore(source)?;
    Fields::new(source).finish()?;
    Ok(State { since_mark, sessions })
}

struct FrozenState {
    since_mark: u64,
    sessions: FrozenSessions,
    machine: Box<dyn Frozen>,
}

impl Frozen for FrozenState {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        sink.put(&self.since_mark.to_be_bytes())?;
        self.sessions.write(sink)?;
        self.machine.write(sink)
    }
}

impl<M: Machine> SnapshotJob<M> {
    /// Does it. An error ends the node, like any failure of its disk.
    pub fn carry_out<D: Disk>(self, disk: &mut D) -> Result<SnapshotDone<M>, SnapshotError> {
        Ok(SnapshotDone(match self.0 {
            Task::Write { head, body } => match file::write(disk, &head, &*body) {
                Ok(meta) => Done::Written(meta),
                Err(SnapshotError::Full) => Done::NoRoom(head.id),
                Err(error) => return Err(error),
            },
            Task::Load { meta, mut machine } => {
                let opened = SnapshotFile::open(disk, meta).map_err(LoadError::File);
                match opened.and_then(|file| load(disk, &file, &mut machine)) {
                    Ok(start) => Done::Loaded(Box::new((start, machine))),
                    Err(LoadError::File(SnapshotError::Failed(error))) => {
                        return Err(SnapshotError::Failed(error));
                    }
                    Err(error) => Done::NotLoaded(meta, error),
                }
            }
            Task::Remove { meta } => {
                file::remove(disk, &meta)?;
                Done::Nothing
            }
            Task::Transfer(task) => Done::Transfer(task.carry_out(disk)?),
            Task::Forget { state } => {
                match state {
                    Discarded::Frozen(frozen) => drop(frozen),
                    Discarded::Live(live) => drop(live),
                }
                Done::Nothing
            }
        }))
    }

    /// Makes a write end early once `is_over` says so, as [`SnapshotError::Interrupted`].
    #[must_use]
    pub fn until(self, is_over: impl Fn() -> bool + Send + 'static) -> Self {
        match self.0 {
            Task::Write { head, body } => {
                let body = Box::new(Interruptible { body, is_over });
                Self(Task::Write { head, body })
            }
            task => Self(task),
        }
    }
}

/// A state whose writing can be broken off.
struct Interruptible<F> {
    body: Box<dyn Frozen>,
    is_over: F,
}

struct InterruptibleSink<'a, F> {
    sink: &'a mut dyn Sink,
    is_over: &'a F,
}

impl<F: Fn() -> bool + Send> Frozen for Interruptible<F> {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        self.body.write(&mut InterruptibleSink { sink, is_over: &self.is_over })
    }
}

impl<F: Fn() -> bool> Sink for InterruptibleSink<'_, F> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), SinkClosed> {
        if (self.is_over)() { Err(SinkClosed) } else { self.sink.put(bytes) }
    }
}

/// Where the node's snapshots stand.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Bytes of log applied since the last mark.
    since_mark: u64,
    /// The newest that the store names.
    in_force: Option<SnapshotMeta>,
    /// Being written, then waiting to be adopted.
    under_way: Option<UnderWay>,
    /// Frozen and waiting for that to end.
    next: Option<(SnapshotHead, Waiting)>,
}

#[derive(Clone, Copy, Debug)]
enum UnderWay {
    Writing(SnapshotId),
    /// Durable; the log through its entry may not be.
    Written(SnapshotMeta),
    Adopting(SnapshotMeta),
}

struct Waiting(Box<dyn Frozen>);

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

impl Snapshots {
    /// Begins where a snapshot ended.
    pub(super) fn begin(start: Option<StartSnapshot>) -> (Self, Sessions) {
        match start {
            None => (Self::default(), Sessions::new()),
            Some(StartSnapshot { meta, state, .. }) => {
                let snapshots =
                    Self { since_mark: state.since_mark, in_force: Some(meta), ..Self::default() };
                (snapshots, state.sessions)
            }
        }
    }

    /// The newest index that is frozen, written or in force.
    fn newest(&self) -> Index {
        let next = self.next.as_ref().map(|(head, _)| head.id.index);
        let under_way = self.under_way.map(|under_way| match under_way {
            UnderWay::Writing(id) => id.index,
            UnderWay::Written(meta) | UnderWay::Adopting(meta) => meta.id.index,
        });
        let in_force = self.in_force.map(|meta| meta.id.index);
        next.max(under_way).max(in_force).unwrap_or(Index(0))
    }
}

impl<M: Machine> Node<M> {
    /// The newest snapshot of this node that is durable and in force.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotMeta> {
        self.snapshots.in_force
    }

    /// Takes a snapshot of what is applied, unless there is one; returns the index that it goes through. It is in
    /// force when [`Self::snapshot`] says so, or a later one.
    pub fn take_snapshot(&mut self) -> Index {
        if self.snapshots.newest() < self.applied
            && let Some(entry) = self.raft.entry(self.applied)
        {
            self.freeze(SnapshotId { index: entry.index, term: entry.term, chain: entry.chain });
        }
        self.snapshots.newest()
    }

    /// One is being written or adopted.
    pub(super) fn has_snapshot_under_way(&self) -> bool {
        self.snapshots.under_way.is_some()
    }

    /// The file in force cannot be read: the state that is applied is written, even if that is the very same one.
    pub(super) fn take_snapshot_anew(&mut self) {
        let is_same = self.snapshots.newest() == self.applied && self.snapshots.under_way.is_none();
        if let Some(meta) = self.snapshots.in_force.filter(|_| is_same) {
            return self.freeze(meta.id);
        }
        self.take_snapshot();
    }

    /// [W-60]
    pub(super) fn snapshot_state(&self) -> ClientReply<'static> {
        ClientReply::SnapshotState { taken: self.snapshots.newest(), in_force: self.snapshots.in_force }
    }

    /// Counts an entry that was just applied, and freezes the state where the mark is passed.
    pub(super) fn count_applied(&mut self, entry: &Entry) {
        let mark_bytes = self.sessions.mark_bytes(self.machine.state_bytes());
        let is_passed = State::passes_mark(&mut self.snapshots.since_mark, entry, mark_bytes);
        // One may have been asked for right here.
        if is_passed && self.snapshots.newest() < entry.index {
            self.freeze(SnapshotId { index: entry.index, term: entry.term, chain: entry.chain });
        }
    }

    fn freeze(&mut self, id: SnapshotId) {
        assert_eq!(id.index, self.applied, "the state is that of {}", self.applied);
        let membership = (*self.applied_membership).clone();
        // One that joined has read no membership yet; a snapshot without one would lead nowhere. The next mark is soon.
        if !membership.is_valid() {
            return;
        }
        let head = SnapshotHead { cluster: self.cluster(), id, membership };
        let body = Box::new(FrozenState {
            since_mark: self.snapshots.since_mark,
            sessions: self.sessions.freeze(),
            machine: self.machine.freeze(),
        });
        if self.snapshots.under_way.is_none() {
            self.start_write(head, body);
        } else if let Some((_, Waiting(overtaken))) = self.snapshots.next.replace((head, Waiting(body))) {
            self.discard(Discarded::Frozen(overtaken));
        }
    }

    fn start_write(&mut self, head: SnapshotHead, body: Box<dyn Frozen>) {
        debug!(self.log, "writing a snapshot"; "id" => %head.id);
        self.snapshots.under_way = Some(UnderWay::Writing(head.id));
        self.ask_snapshot(Task::Write { head, body });
    }

    pub(super) fn ask_transfer(&mut self, task: TransferTask<M>) {
        self.ask_snapshot(Task::Transfer(task));
    }

    /// Has a file removed, unless one of the same index is, or will be, this node's own.
    pub(super) fn ask_remove(&mut self, meta: SnapshotMeta) {
        if self.snapshots.newest() != meta.id.index {
            self.ask_snapshot(Task::Remove { meta });
        }
    }

    /// Gives up a loaded state, and its file.
    pub(super) fn discard_loaded(&mut self, start: StartSnapshot, machine: M) {
        self.discard(Discarded::Live(Box::new((start.state.sessions, machine))));
        self.ask_remove(start.meta);
    }

    fn ask_snapshot(&mut self, task: Task<M>) {
        self.outputs.push_back(Output::Snapshot(SnapshotJob(task)));
    }

    fn discard(&mut self, state: Discarded<M>) {
        self.ask_snapshot(Task::Forget { state });
    }

    /// Tells what came of an [`Output::Snapshot`].
    pub fn handle_snapshot_done(&mut self, now: Instant, done: SnapshotDone<M>) {
        match done.0 {
            Done::Written(meta) => {
                self.snapshots.under_way = Some(UnderWay::Written(meta));
                self.adopt_when_durable();
            }
            Done::NoRoom(id) => {
                warn!(self.log, "disk full: the snapshot is not written"; "id" => %id);
                self.outputs.push_back(Output::Event(NodeEvent::SnapshotNotWritten { id }));
                self.end_write();
            }
            Done::Loaded(loaded) => {
                let (start, machine) = *loaded;
                self.install(start, machine);
            }
            Done::NotLoaded(meta, error) => {
                warn!(self.log, "a snapshot cannot be loaded"; "snapshot" => %meta, "reason" => %error);
            }
            Done::Transfer(done) => self.on_transfer_done(now, done),
            Done::Nothing => {}
        }
    }

    /// The store may name a snapshot only when its log is durable through the same entry.
    pub(super) fn adopt_when_durable(&mut self) {
        if let Some(UnderWay::Written(meta)) = self.snapshots.under_way
            && meta.id.index <= self.raft.durable_index()
        {
            self.snapshots.under_way = Some(UnderWay::Adopting(meta));
            self.outputs.push_back(Output::AdoptSnapshot { meta, log: LogAfter::Kept });
        }
    }

    /// Tells what came of an [`Output::AdoptSnapshot`].
    pub fn handle_snapshot_adopted(&mut self, now: Instant, meta: SnapshotMeta, adopted: Adopted) {
        let is_own = matches!(self.snapshots.under_way, Some(UnderWay::Adopting(own)) if own == meta);
        match adopted {
            Adopted::Yes { replaced } => {
                info!(self.log, "snapshot"; "is_own" => is_own, "meta" => %meta);
                self.snapshots.in_force = Some(meta);
                let event = if is_own {
                    self.digests.add_snapshot(&meta);
                    self.raft.compact(now, meta);
                    NodeEvent::SnapshotTaken { meta }
                } else {
                    NodeEvent::SnapshotInstalled { meta }
                };
                self.outputs.push_back(Output::Event(event));
                if let Some(replaced) = replaced {
                    self.retain(now, replaced);
                }
            }
            // It was written anew: what it holds is what it held.
            Adopted::NotNewer if is_own && self.snapshots.in_force == Some(meta) => {
                self.raft.compact(now, meta);
            }
            // A newer one was installed meanwhile; the next boot would remove the file as well.
            Adopted::NotNewer => {
                if self.snapshots.in_force.is_none_or(|held| held.id.index != meta.id.index) {
                    self.ask_snapshot(Task::Remove { meta });
                }
            }
        }
        if is_own {
            self.end_write();
        }
    }

    /// Goes on with the snapshot that waits, if one does.
    fn end_write(&mut self) {
        self.snapshots.under_way = None;
        if let Some((head, Waiting(body))) = self.snapshots.next.take() {
            self.start_write(head, body);
        }
    }

    /// Asks for the state of a snapshot whose file is on the disk, to be put in place of the present one.
    pub fn load_snapshot(&mut self, meta: SnapshotMeta) {
        let machine = self.machine.blank();
        self.ask_snapshot(Task::Load { meta, machine });
    }

    /// Puts a loaded state in place of the present one, unless that is as new (S1).
    pub(super) fn install(&mut self, start: StartSnapshot, machine: M) {
        let StartSnapshot { meta, membership, state } = start;
        if meta.id.index <= self.applied {
            return self.discard(Discarded::Live(Box::new((state.sessions, machine))));
        }
        let sessions = core::mem::replace(&mut self.sessions, state.sessions);
        let machine = core::mem::replace(&mut self.machine, machine);
        self.discard(Discarded::Live(Box::new((sessions, machine))));
        self.snapshots.since_mark = state.since_mark;
        self.applied = meta.id.index;
        self.digests.restart();
        self.watches.restart(self.applied);
        self.commit = self.commit.max(self.applied);
        self.applied_membership = membership.into();
    }
}

impl<M> fmt::Debug for SnapshotJob<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Task::Write { head, .. } => write!(f, "write snapshot {}", head.id),
            Task::Load { meta, .. } => write!(f, "load snapshot {meta}"),
            Task::Remove { meta } => write!(f, "remove snapshot {meta}"),
            Task::Forget { .. } => f.write_str("free a state"),
            Task::Transfer(task) => f.write_str(task.name()),
        }
    }
}

impl<M> fmt::Debug for SnapshotDone<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Done::Written(meta) => write!(f, "written {meta}"),
            Done::NoRoom(id) => write!(f, "no room for {id}"),
            Done::Loaded(loaded) => write!(f, "loaded {}", loaded.0.meta),
            Done::NotLoaded(meta, error) => write!(f, "not loaded {meta}: {error}"),
            Done::Transfer(_) | Done::Nothing => f.write_str("done"),
        }
    }
}
