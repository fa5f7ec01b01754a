//! What must hold of every run, looked at after every event.
//!
//! The checks stand outside the nodes. They see what is sent, what the disks finish, what clients are told, and every
//! node's memory; they keep their own account of all of it, and compare. Nothing here knows of any particular bug.
//!
//! # Three accounts
//! - The *shadow* ([`Shadow`]) of each data folder is what its disk has finished: term, vote, boot counter, and of each
//!   entry its mark, that is term and chain value. It changes with finished writes only, so "durable before sent" is a
//!   comparison at send time, and a boot must find what its shadow holds.
//! - The *oracle* is the past of the whole cluster: who led each term, which entry stood at each index and term, whom
//!   each store voted for, and the committed log. The first node that commits an index fixes it for all.
//! - The *operations* are what clients asked and were told, and what each entry's effect was.
//!
//! The chain value of an entry vouches for all before it, so logs are compared by their last marks: an event that
//! changes nothing costs a few comparisons. Each new entry's chain is computed once per node.
//!
//! # The list
//! | | invariant | where | looked at |
//! |---|---|---|---|
//! | 1 | one leader per term | `oracle`, `shown` | when a node leads; in every leader's message |
//! | 2 | leaders only append | `cores` | each event |
//! | 3 | log matching | `cores`, `recheck` | each new entry, with its chain computed anew |
//! | 4 | leader completeness | `cores` | when a node begins to lead, and at commits of lower terms |
//! | 5 | state-machine safety | `cores`, [`Observed`] | each effect; session table at each applied index seen |
//! | 6 | committed on a durable quorum | `cores`, `recheck` | each commit, on shadows, joint rules too |
//! | 7 | committed stays | `oracle`, `recheck` | each commit, each cut |
//! | 8 | base, applied, commit, last in order | `cores` | each event |
//! | 9 | nothing goes back | `cores`, `folders` | each event, each disk write, each boot |
//! | 10 | term and vote durable before shown | `shown`, `cores` | each Raft body sent |
//! | 11 | acknowledged is durable and matches | `shown`, `beliefs`, `folders`, `recheck` | acknowledgements, boots |
//! | 12 | a leader counts itself by its disk | `cores` | each event |
//! | 13 | membership changes | `cores` | each new membership entry |
//! | 14 | campaigns and incarnations | `cores`, `contact`, `shown` | campaigns, new terms and votes, headers sent |
//! | 15 | snapshot equals replay | `cores` | where a log's base has moved |
//! | 16 | at most once | `operations`, `shown` | each effect, each reply sent, each answer |
//! | 17 | linearizability | `operations`, `history` | each answer's index; the checker, by windows and at the end |
//! | 18 | durability of what was told | `operations` | each answer; all of it once healed |
//! | 19 | no phantom | `operations` | each value seen |
//! | 20 | predecessor chain | `operations` | each answer to a write |
//! | 21 | read index | `operations`, `beliefs` | each answer to a read; rounds that leaders count |
//! | 22 | sizes, and strangers' replies | `stranger` | each datagram sent |
//! | 23 | bounded memory | `bounds` | one in 32 events of each node |
//! | 24 | retransmission budget | `bounds` | the same |
//! | 25 | codec | `codec` | one in 16 datagrams; every bit of one in 4096 |
//! | 26 | determinism | [`check_determinism`] | by whoever runs a seed twice |
//! | 27 | liveness after heal | `heal` | once healed |
//! | 28 | liveness of a connected core | `contact`, `beliefs`, `heal` | a leader's events; by who cuts the network |
//! | 29 | the seal | `sealed` | where datagrams are sealed: each one sent and each one taken |
//!
//! Number 0 is a node's own assertion: a panic is caught by whoever runs the simulation.
//!
//! # What remains outside
//! Appends longer than a datagram are looked at by their first fragment only. An acknowledgement that is sent again in
//! a later term is not compared with the log of its own term, which may be cut by then. Queries over several keys are
//! not judged, nor are the values of machines other than [`crate::kv`]: of those, only indexes, terms and equality. A
//! folder that was put back from an older copy or was wiped is believed as it is at its next boot; what it held before
//! still counts for what was committed before. A window that the linearizability checker cannot decide in
//! its budget is counted, not reported. Between samples, 23 to 25 may be broken unseen; what stays broken is found.
//!
//! # For who drives it
//! In this order: [`Invariants::opened`] when a store was opened, [`Invariants::booted`] when its node was made;
//! [`Invariants::received`] before a datagram is handed in; [`Invariants::persisted`] when a disk write is finished and
//! before the node is told; [`Invariants::turned`] after the node's turn and *before* its outputs are carried out, so
//! that a crash between two of them finds nothing unlooked at; [`Invariants::sent`] for each datagram.

mod beliefs;
mod bounds;
mod codec;
mod contact;
mod cores;
mod folders;
mod heal;
mod history;
mod marks;
mod observed;
mod operations;
mod oracle;
mod quorum;
mod recheck;
mod sealed;
mod shadow;
mod shown;
mod stranger;
mod subject;
#[cfg(test)]
mod tests;
mod versions;
mod violation;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

pub use heal::{EXEMPT, LEADER_TIMEOUTS, check_determinism, connected_core, leader_deadline, rest_deadline};
pub use marks::{Mark, Marks};
pub use observed::Observed;
pub use operations::{Ask, End, Language, OperationKey};
pub use sealed::SessionSecrets;
pub use shadow::{Found, Shadow};
pub use subject::Effect;
pub use violation::{Invariant, Violation};

use crate::kv::{self, Query};
use crate::machine::Machine;
use crate::membership::Membership;
use crate::node::{Node, NodeConfig};
use crate::raft::{Base, RoleKind};
use crate::seal::{KeyRing, SealMode};
use crate::snapshot::SnapshotMeta;
use crate::store::{Batch, LogAfter, MemoryDisk, OpenOptions, Recovered};
use crate::time::Instant;
use crate::types::{ClusterId, Identity, Index, NodeId};
use crate::wire;
use beliefs::Beliefs;
use bounds::Bounds;
use codec::CodecCheck;
use contact::Contact;
use cores::{Context, Cores};
use folders::Folders;
use operations::Operations;
use oracle::Oracle;
use sealed::SealCheck;
use shown::Known;
use stranger::Strangers;
use violation::{Broken, hold};

/// Every check, and the accounts they keep; see the module's page.
#[derive(Debug)]
pub struct Invariants {
    oracle: Oracle,
    folders: Folders,
    cores: Cores,
    operations: Operations,
    strangers: Strangers,
    contact: Contact,
    beliefs: Beliefs,
    codec: CodecCheck,
    bounds: Bounds,
    seal: Option<SealCheck>,
    cluster: ClusterId,
    datagram_bytes_max: usize,
    rechecks: u64,
}

impl Invariants {
    /// The checks of a run whose nodes have these settings, and whose commands are of this language.
    #[must_use]
    pub fn new(config: &NodeConfig, language: Language) -> Self {
        Self {
            oracle: Oracle::default(),
            folders: Folders::default(),
            cores: Cores::default(),
            operations: Operations::new(language),
            strangers: Strangers::default(),
            contact: Contact::new(config.timing),
            beliefs: Beliefs::default(),
            codec: CodecCheck::default(),
            bounds: Bounds::new(config.clone()),
            seal: None,
            cluster: ClusterId::ZERO,
            datagram_bytes_max: config.rpc.datagram_bytes_max,
            rechecks: 0,
        }
    }

    /// Datagrams are sealed in this mode with these keys, and the sessions' secrets are noted there.
    pub fn see_through(&mut self, mode: SealMode, keys: Arc<KeyRing>, secrets: Arc<SessionSecrets>) {
        self.seal = Some(SealCheck::new(mode, keys, secrets));
    }

    // --- Data folders.

    /// A data folder was opened, and what it found is durable.
    ///
    /// # Errors
    /// When it found less than it promised.
    pub fn opened(&mut self, now: Instant, id: NodeId, recovered: &Recovered) -> Result<(), Violation> {
        if !recovered.cluster.is_zero() {
            self.cluster = recovered.cluster;
        }
        self.strangers.booted(id);
        let found = Found {
            identity: Identity { node: id, store: recovered.store },
            incarnation: recovered.incarnation,
            hard_state: recovered.hard_state,
            base: recovered.snapshot.as_ref().map_or(Base::default(), |file| file.meta.id.into()),
            entries: &recovered.entries,
            is_damaged: recovered.remains.is_some(),
            damage: &recovered.damage,
        };
        self.folders.booted(&mut self.oracle, &found).map_err(|broken| broken.at(now, Some(id)))
    }

    /// A disk write is under way that a crash will cut: it may or may not be found.
    pub fn cut(&mut self, id: NodeId, batch: &Batch) {
        if let Some(shadow) = self.folders.get_mut(id) {
            shadow.begin(batch);
        }
    }

    /// A disk write is finished.
    ///
    /// # Errors
    /// When it takes back a term or a vote.
    pub fn persisted(&mut self, now: Instant, id: NodeId, batch: &Batch) -> Result<(), Violation> {
        self.folders.persisted(&mut self.oracle, id, batch).map_err(|broken| broken.at(now, Some(id)))
    }

    /// A snapshot is being put in force, which a crash will cut: it may or may not be found so.
    pub fn adoption_cut(&mut self, id: NodeId, meta: &SnapshotMeta, log: LogAfter) {
        if let Some(shadow) = self.folders.get_mut(id) {
            shadow.begin_adoption(meta, log);
        }
    }

    /// A snapshot is in force on the disk.
    ///
    /// # Errors
    /// When it is not one of the committed log.
    pub fn adopted(
        &mut self,
        now: Instant,
        id: NodeId,
        meta: &SnapshotMeta,
        log: LogAfter,
    ) -> Result<(), Violation> {
        let judged = self.folders.adopted(&self.oracle, id, meta, log);
        judged.map_err(|broken| broken.at(now, Some(id)))
    }

    /// A node's disk has recorded the boot of a peer.
    pub fn recorded(&mut self, now: Instant, id: NodeId) {
        self.contact.recorded(now, id);
    }

    /// A fault befalls the folder that a store finds out: rot, a block in the wrong place, a lost file. It may refuse
    /// to open; if it opens, it holds what it promised.
    pub fn damaged(&mut self, id: NodeId) {
        if let Some(shadow) = self.folders.get_mut(id) {
            shadow.damage();
        }
    }

    /// A fault befalls the folder that no store can find out: an older copy is put back. Its next boot, if there is
    /// one, is believed.
    pub fn forswear(&mut self, id: NodeId) {
        if let Some(shadow) = self.folders.get_mut(id) {
            shadow.forswear();
        }
    }

    /// The folder is empty.
    pub fn wiped(&mut self, id: NodeId) {
        self.folders.wiped(id);
    }

    /// The latest membership that is committed, whoever knows it.
    #[must_use]
    pub fn committed_membership(&self) -> Option<&Membership> {
        self.cores.committed_membership().map(|membership| &**membership)
    }

    /// What a node's folder holds for certain.
    #[must_use]
    pub fn shadow(&self, id: NodeId) -> Option<&Shadow> {
        self.folders.of(id)
    }

    // --- Nodes.

    /// A node runs on the folder opened last.
    ///
    /// # Errors
    /// When anything does not hold.
    pub fn booted<M: Machine>(
        &mut self,
        now: Instant,
        id: NodeId,
        node: &Node<Observed<M>>,
    ) -> Result<(), Violation> {
        self.bounds.booted(id);
        let mut context = Context {
            now,
            oracle: &mut self.oracle,
            folders: &self.folders,
            operations: &mut self.operations,
        };
        self.cores.booted(node, &mut context).map_err(|broken| broken.at(now, Some(id)))
    }

    /// A node's process has ended.
    pub fn stopped(&mut self, id: NodeId) {
        self.cores.stopped(id);
        self.contact.stopped(id);
        self.beliefs.stopped(id);
    }

    /// An event has touched a node, and nothing it wants has been carried out yet.
    ///
    /// # Errors
    /// When anything does not hold.
    pub fn turned<M: Machine>(
        &mut self,
        now: Instant,
        id: NodeId,
        node: &Node<Observed<M>>,
    ) -> Result<(), Violation> {
        let mut context = Context {
            now,
            oracle: &mut self.oracle,
            folders: &self.folders,
            operations: &mut self.operations,
        };
        let judged = self.cores.turned(node, &mut context);
        let raft = node.raft();
        let leads = (raft.role() == RoleKind::Leader).then(|| raft.term());
        judged
            .and_then(|()| self.contact.turned(now, node))
            .and_then(|()| self.beliefs.turned(id, leads, raft.peers()))
            .and_then(|()| self.bounds.turned(now, id, node))
            .map_err(|broken| broken.at(now, Some(id)))
    }

    // --- Datagrams.

    /// An end puts a datagram on its way; `hash` is one of all its bytes.
    pub fn transmitted(&mut self, hash: u64) {
        if let Some(seal) = &mut self.seal {
            seal.sent(hash);
        }
    }

    /// What a sealed datagram would be in plain; `None` when it is not sealed, or nobody can open it.
    pub fn in_plain(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self.seal.as_mut()?.open(self.cluster, bytes) {
            Ok(Cow::Owned(opened)) => Some(opened),
            Ok(Cow::Borrowed(_)) | Err(_) => None,
        }
    }

    /// A datagram is about to be handed to a node.
    pub fn received(&mut self, now: Instant, id: NodeId, from: SocketAddr, bytes: &[u8]) {
        self.contact.received(now, id, bytes);
        let opened = self.in_plain(bytes);
        self.beliefs.received(id, opened.as_deref().unwrap_or(bytes));
        let handshake = self.seal.as_ref().and_then(|seal| seal.handshake(self.cluster, bytes));
        self.strangers.received(id, from, bytes.len(), handshake.unwrap_or(bytes));
    }

    /// An end, this node if it is one, has taken a datagram whose bytes have this hash.
    ///
    /// # Errors
    /// When it should have dropped it.
    pub fn taken(
        &mut self,
        now: Instant,
        id: Option<NodeId>,
        hash: u64,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let judged = self.seal.as_mut().map_or(Ok(()), |seal| seal.taken(hash, bytes));
        judged.map_err(|broken| broken.at(now, id))
    }

    /// A node sends a datagram.
    ///
    /// # Errors
    /// When it shows what is not durable, or is not what it should be.
    pub fn sent(&mut self, now: Instant, id: NodeId, to: SocketAddr, bytes: &[u8]) -> Result<(), Violation> {
        self.check_sent(id, to, bytes).map_err(|broken| broken.at(now, Some(id)))
    }

    fn check_sent(&mut self, id: NodeId, to: SocketAddr, sent: &[u8]) -> Result<(), Broken> {
        let max = self.datagram_bytes_max;
        hold!(sent.len() <= max, DatagramSize, "sends {} bytes, at most {max}", sent.len());
        let opened = match &mut self.seal {
            Some(seal) => seal.open(self.cluster, sent)?,
            None => Cow::Borrowed(sent),
        };
        let bytes = &*opened;
        let read = wire::parse_header(bytes)
            .and_then(|header| wire::frames(&header, bytes).map(|frames| (header, frames)));
        let (header, frames) = match read {
            Ok(read) => read,
            Err(reason) => {
                hold!(false, Codec, "sends {} bytes that are dropped: {}", bytes.len(), reason.name());
                return Ok(());
            }
        };
        self.strangers.sent(id, to, sent.len(), &frames)?;
        let known = Known {
            oracle: &self.oracle,
            folders: &self.folders,
            cores: &self.cores,
            operations: &self.operations,
        };
        if let Some(shadow) = known.shadow(id) {
            known.check_header(shadow, &header)?;
            for frame in frames {
                known.check_frame(shadow, &header, &frame)?;
                self.contact.sent(id, &header, &frame)?;
            }
        }
        self.codec.sent(self.cluster, bytes)
    }

    // --- Clients.

    /// A client asks something.
    pub fn asked(&mut self, ask: Ask<'_>) -> OperationKey {
        self.operations.asked(&self.oracle, ask)
    }

    /// An operation has ended. One that ends by its client's crash ends as [`End::Unknown`].
    ///
    /// # Errors
    /// When the answer cannot be right.
    pub fn answered(&mut self, now: Instant, key: OperationKey, end: End<'_>) -> Result<(), Violation> {
        self.operations.answered(&self.oracle, key, end).map_err(|broken| broken.at(now, None))
    }

    // --- The whole.

    /// Looks at everything anew; every 1,000 events is often enough.
    ///
    /// # Errors
    /// When anything does not hold.
    pub fn recheck<'a, M: Machine + 'a>(
        &mut self,
        now: Instant,
        nodes: impl Iterator<Item = &'a Node<Observed<M>>>,
    ) -> Result<(), Violation> {
        self.rechecks += 1;
        for node in nodes {
            let id = node.raft().config().identity.node;
            recheck::check_log(self.rechecks, node, &self.cores, &self.oracle)
                .map_err(|broken| broken.at(now, Some(id)))?;
        }
        recheck::check_quorum(&self.oracle, &self.folders).map_err(|broken| broken.at(now, None))
    }

    /// Whose data folder is to be opened by [`Self::reopen`] after this recheck, if any: the nodes take turns.
    #[must_use]
    pub fn reopens(&self) -> Option<NodeId> {
        let turn = self.rechecks.is_multiple_of(recheck::REOPEN_EVERY).then_some(self.rechecks)?;
        let count = self.folders.iter().count() as u64;
        let place = (turn / recheck::REOPEN_EVERY).checked_rem(count)?;
        self.folders.iter().nth(usize::try_from(place).ok()?).map(|(id, _)| id)
    }

    /// Opens a copy of a data folder as after a power cut, and one with a flipped bit.
    ///
    /// # Errors
    /// When it does not hold what it promised.
    pub fn reopen(
        &self,
        now: Instant,
        id: NodeId,
        disk: &MemoryDisk,
        options: &OpenOptions,
    ) -> Result<(), Violation> {
        let Some(shadow) = self.folders.of(id) else { return Ok(()) };
        recheck::check_folder(shadow, disk, options)
            .and_then(|()| recheck::check_rotten(self.rechecks, shadow, disk, options))
            .map_err(|broken| broken.at(now, Some(id)))
    }

    /// Whether a healed cluster has come to rest: to be asked again until it has or [`rest_deadline`] is over.
    ///
    /// # Errors
    /// What it still lacks.
    pub fn at_rest<'a, M: Machine + 'a>(
        &self,
        now: Instant,
        nodes: impl Iterator<Item = &'a Node<Observed<M>>> + Clone,
    ) -> Result<(), Violation> {
        heal::check_rest(nodes).map_err(|broken| broken.at(now, None))
    }

    /// The end of a run that has come to rest: everything that anyone was told is there, at every node; the clients'
    /// whole history has an order.
    ///
    /// # Errors
    /// When something is missing.
    pub fn ended<'a, M: Machine + 'a>(
        &mut self,
        now: Instant,
        nodes: impl Iterator<Item = &'a Node<Observed<M>>>,
    ) -> Result<(), Violation> {
        self.operations.check_kept(&self.oracle).map_err(|broken| broken.at(now, None))?;
        for node in nodes {
            let id = node.raft().config().identity.node;
            self.check_values(node).map_err(|broken| broken.at(now, Some(id)))?;
        }
        self.operations.histories.judge().map_err(|broken| broken.at(now, None))
    }

    /// 18: every key holds what the committed log left there.
    fn check_values<M: Machine>(&self, node: &Node<Observed<M>>) -> Result<(), Broken> {
        for (key, version) in self.operations.versions.last() {
            let answer = node.machine().query(&Query::Get { key }.to_bytes());
            let held = match kv::Answer::decode(&answer) {
                Ok(kv::Answer::Found { value, index }) => Some((index, value)),
                _ => None,
            };
            let expected = version.map(|version| (version.index, &*version.value));
            hold!(
                held == expected,
                Durability,
                "key {} holds {held:?}, the log left {expected:?}",
                key.escape_ascii()
            );
        }
        Ok(())
    }

    /// The highest index committed anywhere.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.oracle.commit()
    }

    /// Operations that have not ended, and windows that the linearizability checker could not decide.
    #[must_use]
    pub fn open_and_undecided(&self) -> (usize, u64) {
        (self.operations.open_count(), self.operations.histories.undecided)
    }
}
