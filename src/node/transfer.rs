//! Snapshot files between nodes: served to those who ask, pulled when Raft wants one, installed when they are whole.
//!
//! # Serving
//! Any node serves the file that is in force here, and the one before it as long as it is asked for or offered: a
//! transfer takes longer than it takes the next mark to come. What is served is what stands in the file; the puller
//! checks it. Ranges are read where snapshots are written, so the loop never waits for the disk.
//!
//! # Pulling
//! [`super::pull`] says what to ask for; this file makes calls of it and jobs for the disk. The file's progress is the
//! file itself, so whoever crashes, and whoever leads, the transfer goes on where it was.
//!
//! # Installing
//! *Transferred*: the file is checked and has its name, and a machine is filled from it, all of that elsewhere. Raft
//! decides whether it is still wanted. If so, the machine is swapped in at once and the log replaced, on disk in
//! order with all other writes: hard state, snapshot, what follows. *Installed*, and acknowledged, is what is durable.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use slog::{error, info, warn};

use super::links::Standing;
use super::pull::{Puller, Step};
use super::snapshot::{LoadError, StartSnapshot, load};
use super::{Node, Output};
use crate::machine::Machine;
use crate::raft::{Install, ReceiveProgress, Ticket};
use crate::rpc::{LinkId, Token};
use crate::snapshot::SnapshotMeta;
use crate::store::snapshot::{Checked, Incoming, SnapshotFile, read_range};
use crate::store::{Damage, Disk, LogAfter, SnapshotError};
use crate::time::{Instant, earliest};
use crate::types::{CallId, ClusterId, GroupId, HardState, NodeId};
use crate::wire::Class;
use crate::wire::transfer::{
    Pull, PullReply, decode_pull, decode_pull_reply, encode_pull, encode_pull_reply,
};

/// Ranges being read for other nodes, at most; who asks for more is told that the file is not here, and asks later
/// or elsewhere.
pub(super) const READS_MAX: usize = 64;

/// A file that was replaced is kept this long after it was last asked for or offered.
const RETAIN: Duration = Duration::from_secs(10);

/// Replaced files that are kept, at most.
pub(super) const RETAINED_MAX: usize = 2;

/// When the disk has no room for an incoming file, it is tried again after this.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Something to be done with the file of a transfer.
pub(super) enum TransferTask<M> {
    Read { token: Token, pull: Pull, checked: Option<Checked> },
    Survey { meta: SnapshotMeta },
    Write { incoming: Incoming, pieces: Vec<(u64, Vec<u8>)> },
    Finish { incoming: Incoming, cluster: ClusterId, machine: M },
    Discard { incoming: Incoming },
}

/// What came of it.
pub(super) enum TransferDone<M> {
    Read {
        token: Token,
        pull: Pull,
        bytes: Option<Vec<u8>>,
        damage: Option<Damage>,
        checked: Option<Checked>,
    },
    Surveyed {
        incoming: Incoming,
        missing: Vec<core::ops::Range<u64>>,
    },
    Written {
        incoming: Incoming,
    },
    Finished {
        loaded: Box<(StartSnapshot, M)>,
    },
    Damaged {
        incoming: Incoming,
    },
    Full {
        meta: SnapshotMeta,
    },
    Useless {
        meta: SnapshotMeta,
        error: LoadError,
    },
    Discarded,
}

impl<M: Machine> TransferTask<M> {
    /// Does it. An error ends the node, like any failure of its disk.
    pub(super) fn carry_out<D: Disk>(self, disk: &mut D) -> Result<TransferDone<M>, SnapshotError> {
        match self {
            Self::Read { token, pull, mut checked } => {
                let range = pull.offset..pull.offset + u64::from(pull.length);
                let (bytes, damage) = match read_range(disk, &pull.meta, range, &mut checked) {
                    Ok(bytes) => (bytes, None),
                    Err(SnapshotError::Damaged(damage)) => (None, Some(damage)),
                    Err(error) => return Err(error),
                };
                Ok(TransferDone::Read { token, pull, bytes, damage, checked })
            }
            Self::Survey { meta } => settle(meta, survey(disk, meta)),
            Self::Write { mut incoming, pieces } => {
                let meta = incoming.meta();
                let write = |(offset, bytes): &(u64, Vec<u8>)| incoming.write(disk, *offset, bytes);
                let written = pieces.iter().try_for_each(write);
                settle(meta, written.map(|()| TransferDone::Written { incoming }))
            }
            Self::Finish { incoming, cluster, machine } => finish(disk, incoming, cluster, machine),
            Self::Discard { incoming } => {
                incoming.discard(disk)?;
                Ok(TransferDone::Discarded)
            }
        }
    }
}

impl<M> TransferTask<M> {
    /// What it does.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read a range",
            Self::Survey { .. } => "survey an incoming snapshot",
            Self::Write { .. } => "write to an incoming snapshot",
            Self::Finish { .. } => "finish an incoming snapshot",
            Self::Discard { .. } => "discard an incoming snapshot",
        }
    }
}

fn survey<M, D: Disk>(disk: &mut D, meta: SnapshotMeta) -> Result<TransferDone<M>, SnapshotError> {
    let incoming = Incoming::open(disk, meta)?;
    let missing = incoming.missing(disk)?;
    Ok(TransferDone::Surveyed { incoming, missing })
}

/// Only a failure of the disk ends the node: no room, and a file that no peer can have meant, do not.
fn settle<M>(
    meta: SnapshotMeta,
    result: Result<TransferDone<M>, SnapshotError>,
) -> Result<TransferDone<M>, SnapshotError> {
    match result {
        Err(SnapshotError::Full) => Ok(TransferDone::Full { meta }),
        Err(error @ (SnapshotError::Foreign | SnapshotError::Newer { .. })) => {
            Ok(TransferDone::Useless { meta, error: LoadError::File(error) })
        }
        other => other,
    }
}

fn finish<M: Machine, D: Disk>(
    disk: &mut D,
    incoming: Incoming,
    cluster: ClusterId,
    mut machine: M,
) -> Result<TransferDone<M>, SnapshotError> {
    let meta = incoming.meta();
    let file: SnapshotFile = match incoming.finish(disk, cluster) {
        Ok(file) => file,
        Err(SnapshotError::Damaged(_)) => return Ok(TransferDone::Damaged { incoming }),
        Err(error) => return settle(meta, Err(error)),
    };
    match load(disk, &file, &mut machine) {
        Ok(start) => Ok(TransferDone::Finished { loaded: Box::new((start, machine)) }),
        Err(LoadError::File(SnapshotError::Failed(error))) => Err(SnapshotError::Failed(error)),
        Err(error) => Ok(TransferDone::Useless { meta, error }),
    }
}

/// Where the node's transfers stand.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    puller: Option<Puller>,
    /// The file that is being filled, while no job has it.
    incoming: Option<Incoming>,
    /// The pulls that are open: whom, and for which offset.
    calls: BTreeMap<(LinkId, CallId), (NodeId, u64)>,
    /// After the disk was full, when to look again.
    resume_at: Option<Instant>,
    /// Ranges being read for others.
    reads: usize,
    /// The checksums of the file that was read last.
    checked: Option<Checked>,
    /// When the file in force was asked for last.
    served: Option<Instant>,
    /// Replaced files that are kept, each until when.
    retained: VecDeque<(SnapshotMeta, Instant)>,
    /// Bytes of snapshots that came over the wire since the boot.
    pulled_bytes: u64,
}

impl Transfers {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let pull = self.resume_at.or_else(|| self.puller.as_ref()?.poll_timeout());
        earliest(pull, self.retained.front().map(|(_, until)| *until))
    }

    /// The puller of this file.
    fn puller_of(&mut self, meta: SnapshotMeta) -> Option<&mut Puller> {
        self.puller.as_mut().filter(|puller| puller.meta() == meta)
    }

    /// The file, how much of it is on disk, and whether it is being checked.
    pub(super) fn receiving(&self) -> Option<(SnapshotMeta, u64, bool)> {
        self.puller.as_ref().map(|puller| (puller.meta(), puller.bytes(), puller.is_whole()))
    }
}

impl<M: Machine> Node<M> {
    /// Bytes of snapshots that came over the wire since the boot.
    #[must_use]
    pub fn pulled_bytes(&self) -> u64 {
        let running = self.transfers.puller.as_ref().map_or(0, Puller::pulled_bytes);
        self.transfers.pulled_bytes + running
    }

    /// The snapshot that is being pulled, how many bytes of it are on disk, and whether all are and it is being
    /// checked.
    #[must_use]
    pub fn receiving(&self) -> Option<(SnapshotMeta, u64, bool)> {
        self.transfers.receiving()
    }

    /// Raft wants this snapshot, which this node offers.
    pub(super) fn start_pull(&mut self, now: Instant, from: NodeId, meta: SnapshotMeta) {
        if let Some(puller) = self.transfers.puller_of(meta) {
            return puller.offered_by(from);
        }
        self.cancel_pull(now);
        info!(self.log, "pulling a snapshot"; "from" => %from, "snapshot" => %meta);
        self.transfers.puller = Some(Puller::new(meta, from, self.config.pull, now));
    }

    /// Raft wants it no more, or another.
    pub(super) fn cancel_pull(&mut self, now: Instant) {
        self.cancel_pull_calls(now);
        self.end_pull();
        if let Some(incoming) = self.transfers.incoming.take() {
            self.ask_transfer(TransferTask::Discard { incoming });
        }
    }

    fn end_pull(&mut self) {
        self.transfers.resume_at = None;
        if let Some(puller) = self.transfers.puller.take() {
            self.transfers.pulled_bytes += puller.pulled_bytes();
        }
    }

    fn cancel_pull_calls(&mut self, now: Instant) {
        for (link, call) in core::mem::take(&mut self.transfers.calls).into_keys() {
            self.rpc.cancel(now, link, call);
        }
    }

    /// Members that are listened to, so that they can be asked.
    fn sources(&self) -> Vec<NodeId> {
        let is_adopted = |standing: &Standing| matches!(standing, Standing::Adopted { .. });
        self.peers.iter().filter(|(_, peer)| is_adopted(&peer.standing)).map(|(id, _)| *id).collect()
    }

    /// Does what is due: questions, writes, the check of a whole file, the end of what is kept.
    pub(super) fn advance_transfers(&mut self, now: Instant) {
        self.release_retained(now);
        if self.transfers.puller.is_none() || self.transfers.resume_at.is_some_and(|at| now < at) {
            return;
        }
        if self.transfers.resume_at.take().is_some() {
            self.restart_pull(now);
        }
        let sources = self.sources();
        if self.transfers.puller.as_ref().is_some_and(|puller| puller.is_stalled(now)) {
            self.cancel_pull_calls(now);
            if let Some(puller) = &mut self.transfers.puller {
                puller.source_is_silent(now, &sources);
            }
        }
        if let Some(puller) = &mut self.transfers.puller {
            puller.choose_source(&sources);
        }
        while let Some(step) = self.transfers.puller.as_mut().and_then(|puller| puller.next_step(now)) {
            self.carry_out_step(now, step, &sources);
        }
        self.tell_progress(now);
    }

    fn carry_out_step(&mut self, now: Instant, step: Step, sources: &[NodeId]) {
        let Some(puller) = &mut self.transfers.puller else { return };
        let meta = puller.meta();
        match step {
            Step::Ask { from, range } => {
                let length = u32::try_from(range.end - range.start).expect("a piece is one block at most");
                let mut body = Vec::new();
                encode_pull(GroupId(0), &Pull { meta, offset: range.start, length }, &mut body);
                let link = self.peers.get(&from).map(|peer| peer.link);
                let call = link.and_then(|link| {
                    self.rpc.call(now, link, Class::Again, body).ok().map(|call| (link, call))
                });
                match call {
                    Some(call) => drop(self.transfers.calls.insert(call, (from, range.start))),
                    None => puller.refused(now, from, range.start, sources),
                }
            }
            Step::Survey => {
                self.transfers.incoming = None;
                self.ask_transfer(TransferTask::Survey { meta });
            }
            Step::Write { pieces } => {
                let incoming = self.transfers.incoming.take().expect("a survey came first");
                self.ask_transfer(TransferTask::Write { incoming, pieces });
            }
            Step::Finish => {
                let incoming = self.transfers.incoming.take().expect("a survey came first");
                let (cluster, machine) = (self.cluster(), self.machine.blank());
                self.ask_transfer(TransferTask::Finish { incoming, cluster, machine });
            }
        }
    }

    /// Begins again with a survey, after the disk was full.
    fn restart_pull(&mut self, now: Instant) {
        let Some(puller) = self.transfers.puller.take() else { return };
        self.transfers.pulled_bytes += puller.pulled_bytes();
        let from = puller.source().or(self.raft.leader()).unwrap_or(self.identity.node);
        self.transfers.puller = Some(Puller::new(puller.meta(), from, self.config.pull, now));
    }

    fn tell_progress(&mut self, now: Instant) {
        if let Some((meta, bytes, is_whole)) = self.transfers.receiving() {
            let progress = if is_whole { ReceiveProgress::Whole } else { ReceiveProgress::Bytes(bytes) };
            if self.raft.receiving().is_some_and(|known| known != (meta, progress)) {
                self.raft.handle_snapshot_progress(now, meta, progress);
            }
        }
    }

    /// An answer that is no answer to Raft's: perhaps to a pull.
    pub(super) fn on_pull_reply(&mut self, now: Instant, call: (LinkId, CallId), body: &[u8]) {
        let Some((from, offset)) = self.transfers.calls.remove(&call) else { return };
        let sources = self.sources();
        let Some(puller) = &mut self.transfers.puller else { return };
        let is_taken = match decode_pull_reply(body) {
            Ok((GroupId(0), PullReply::Data { digest, offset: place, bytes })) if place == offset => {
                puller.answered(now, offset, digest, bytes)
            }
            _ => false,
        };
        if !is_taken {
            puller.refused(now, from, offset, &sources);
        }
    }

    /// A call that failed and was none of Raft's.
    pub(super) fn on_pull_failed(&mut self, now: Instant, call: (LinkId, CallId)) {
        let Some((from, offset)) = self.transfers.calls.remove(&call) else { return };
        let sources = self.sources();
        if let Some(puller) = &mut self.transfers.puller {
            puller.refused(now, from, offset, &sources);
        }
    }

    /// A node or a client asks for a range of a file. `[W-66]`
    pub(super) fn serve_pull(&mut self, now: Instant, link: LinkId, token: Token, body: &[u8]) {
        // A link without standing is a client's; a node that is not listened to gets nothing either.
        if !matches!(self.standing_of(link), None | Some(Standing::Adopted { .. })) {
            return;
        }
        let Ok((GroupId(0), pull)) = decode_pull(body) else { return };
        let is_in_force = self.snapshot() == Some(pull.meta);
        let retained = self.transfers.retained.iter_mut().find(|(meta, _)| *meta == pull.meta);
        let is_here = is_in_force || retained.is_some();
        if let Some((_, until)) = retained {
            *until = now + RETAIN;
        } else if is_in_force {
            self.transfers.served = Some(now);
        }
        if !is_here || self.transfers.reads >= READS_MAX {
            return self.reply_pull(now, token, &PullReply::NotHere);
        }
        self.transfers.reads += 1;
        let checked = self.transfers.checked.clone();
        self.ask_transfer(TransferTask::Read { token, pull, checked });
    }

    fn reply_pull(&mut self, now: Instant, token: Token, reply: &PullReply<'_>) {
        let mut body = Vec::new();
        encode_pull_reply(GroupId(0), reply, &mut body);
        self.rpc.reply(now, token, body);
    }

    /// A file was replaced by a newer one: kept while somebody is getting it, else removed.
    pub(super) fn retain(&mut self, now: Instant, meta: SnapshotMeta) {
        let served = self.transfers.served.take();
        let is_served = served.is_some_and(|at| now.saturating_since(at) < RETAIN);
        if !is_served && !self.is_offered(meta) {
            return self.ask_remove(meta);
        }
        self.transfers.retained.push_back((meta, now + RETAIN));
        while self.transfers.retained.len() > RETAINED_MAX {
            if let Some((oldest, _)) = self.transfers.retained.pop_front() {
                self.ask_remove(oldest);
            }
        }
    }

    fn is_offered(&self, meta: SnapshotMeta) -> bool {
        self.raft.peers().any(|peer| peer.offer.is_some_and(|offer| offer.meta == meta))
    }

    fn release_retained(&mut self, now: Instant) {
        let Some((meta, until)) = self.transfers.retained.front().copied().filter(|(_, until)| *until <= now)
        else {
            return;
        };
        self.transfers.retained.pop_front();
        if self.is_offered(meta) {
            self.transfers.retained.push_back((meta, until + RETAIN));
        } else {
            self.ask_remove(meta);
        }
    }

    /// What Raft wants durable in one, in the order in which it must become so: term and vote come before the
    /// snapshot, whose last entry may be of that term. The write before is done when this one is.
    pub(super) fn persist_install(
        &mut self,
        ticket: Ticket,
        hard_state: Option<HardState>,
        install: Install,
    ) -> Option<HardState> {
        if hard_state.is_some() {
            let (before, entries) = (Ticket(ticket.0 - 1), Vec::new());
            self.outputs.push_back(Output::Persist {
                ticket: before,
                hard_state,
                truncate_from: None,
                entries,
            });
        }
        let log = if install.is_log_spared { LogAfter::Spared } else { LogAfter::Begun };
        self.outputs.push_back(Output::AdoptSnapshot { meta: install.meta, log });
        None
    }

    /// Tells what came of a job.
    pub(super) fn on_transfer_done(&mut self, now: Instant, done: TransferDone<M>) {
        match done {
            TransferDone::Read { token, pull, bytes, damage, checked } => {
                self.transfers.checked = checked;
                let is_gone = bytes.is_none() && damage.is_none();
                let is_in_force = self.snapshot() == Some(pull.meta);
                self.on_range_read(now, token, pull, bytes.as_deref());
                if let Some(damage) = damage.filter(|_| is_in_force) {
                    // The puller goes on with another node's; the state is in memory.
                    self.note_damage(damage);
                    self.take_snapshot_anew();
                }
                if is_gone && is_in_force {
                    // S4: nobody waits for a file that cannot be read.
                    error!(self.log, "the snapshot's file is gone or cut"; "snapshot" => %pull.meta);
                    self.raft.handle_snapshot_lost(now, pull.meta);
                    self.take_snapshot_anew();
                }
            }
            TransferDone::Surveyed { incoming, missing } => {
                let sources = self.sources();
                if let Some(incoming) = self.take_back(incoming)
                    && let Some(puller) = &mut self.transfers.puller
                {
                    puller.surveyed(now, &missing, &sources);
                    self.transfers.incoming = Some(incoming);
                }
            }
            TransferDone::Written { incoming } => {
                if let Some(incoming) = self.take_back(incoming)
                    && let Some(puller) = &mut self.transfers.puller
                {
                    puller.written();
                    self.transfers.incoming = Some(incoming);
                }
            }
            TransferDone::Damaged { incoming } => {
                warn!(self.log, "a pulled snapshot is damaged"; "snapshot" => %incoming.meta());
                let sources = self.sources();
                if let Some(incoming) = self.take_back(incoming)
                    && let Some(puller) = &mut self.transfers.puller
                {
                    // Whoever served it may have it on a bad disk.
                    puller.damaged(now, &sources);
                    self.transfers.incoming = Some(incoming);
                }
            }
            TransferDone::Full { meta } => {
                warn!(self.log, "disk full: no room for a snapshot"; "snapshot" => %meta);
                if self.transfers.puller_of(meta).is_some() {
                    self.cancel_pull_calls(now);
                    self.transfers.resume_at = Some(now + FULL_PAUSE);
                }
            }
            TransferDone::Useless { meta, error } => {
                error!(self.log, "a pulled snapshot cannot be used"; "snapshot" => %meta, "reason" => %error);
                if self.transfers.puller_of(meta).is_some() {
                    self.end_pull();
                }
            }
            TransferDone::Finished { loaded } => self.on_finished(now, *loaded),
            TransferDone::Discarded => {}
        }
    }

    /// A file comes back from its job. When it is not wanted any more it goes.
    fn take_back(&mut self, incoming: Incoming) -> Option<Incoming> {
        if self.transfers.puller_of(incoming.meta()).is_some() {
            return Some(incoming);
        }
        self.ask_transfer(TransferTask::Discard { incoming });
        None
    }

    fn on_range_read(&mut self, now: Instant, token: Token, pull: Pull, bytes: Option<&[u8]>) {
        self.transfers.reads -= 1;
        let Pull { meta, offset, .. } = pull;
        match bytes {
            Some(bytes) => {
                self.reply_pull(now, token, &PullReply::Data { digest: meta.digest, offset, bytes })
            }
            None => {
                self.reply_pull(now, token, &PullReply::NotHere);
                self.transfers.retained.retain(|(held, _)| *held != meta);
            }
        }
    }

    /// A whole file, checked, and a machine in its state.
    fn on_finished(&mut self, now: Instant, (start, machine): (StartSnapshot, M)) {
        let meta = start.meta;
        if self.transfers.puller_of(meta).is_some() {
            self.end_pull();
        }
        let membership = start.membership.clone();
        if self.raft.handle_snapshot_installed(now, meta, membership) {
            info!(self.log, "installing a snapshot"; "snapshot" => %meta);
            self.install(start, machine);
            self.connect_members(now);
        } else {
            self.discard_loaded(start, machine);
        }
    }
}
