//! Settings of a node, and what it starts from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::pull::PullConfig;
use super::snapshot::StartSnapshot;
use crate::entry::Entry;
use crate::founding::FoundingRecord;
use crate::raft::{ConfigError, RaftConfig};
use crate::remains::Remains;
use crate::rpc::RpcConfig;
use crate::store::Damage;
use crate::types::{BootNonce, ClusterId, HardState, Identity, Incarnation, NodeId, StoreId};

/// How a node behaves.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its number.
    pub id: NodeId,
    /// The address others are told to reach it at.
    pub advertise: String,
    /// Where to send to instead of a member's advertised address: proxies, NAT, second cards.
    pub routes: BTreeMap<NodeId, SocketAddr>,
    /// Where the advertised addresses lead that are names.
    pub names: BTreeMap<String, SocketAddr>,
    /// Entries applied per turn. Few: more turns under load. Many: heartbeats wait for the machine.
    pub apply_count_max: usize,
    /// Bytes of commands applied per turn; one entry always goes.
    pub apply_bytes_max: usize,
    /// The longest command a client may propose, in bytes.
    pub command_bytes_max: usize,
    /// Writes and reads of clients that may wait at once; more are answered "busy".
    pub waiting_max: usize,
    /// Bytes of log that a snapshot covers and that stay in memory, for followers that are a little behind.
    pub log_tail_bytes: usize,
    /// How snapshots are pulled from other nodes.
    pub pull: PullConfig,
    /// The layer below.
    pub rpc: RpcConfig,
    /// Changes the defaults of consensus.
    pub timing: Timing,
    /// Bounds of consensus.
    pub limits: Limits,
    /// How much clocks may drift, in parts per million, for lease reads; `None` serves them as linearizable reads. See
    /// [`RaftConfig::lease_drift_ppm`].
    pub lease_drift_ppm: Option<u32>,
    /// Between two tellings of this node's state digests to the other members; `None` never tells, and still listens.
    pub digest_interval: Option<Duration>,
    /// Whether administrators may put faults on this node's links.
    pub live_faults: LiveFaults,
}

/// Whether faults can be asked for over the wire. `[W-111]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LiveFaults {
    /// They are refused.
    #[default]
    Refused,
    /// Who may change the cluster may ask for them: for experiments.
    Allowed,
}

/// The bounds of consensus; see [`RaftConfig`] for what each does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a leader's log write may hang.
    pub disk_hang_timeout: Duration,
    /// Bytes of entries in one append.
    pub append_bytes_max: usize,
    /// Unanswered appends per follower.
    pub inflight_appends_max: usize,
    /// Bytes of entries in them.
    pub inflight_bytes_max: usize,
    /// Bytes of out-of-order appends that a follower keeps.
    pub reorder_bytes_max: usize,
    /// Bytes of log at which proposals are refused.
    pub log_bytes_max: usize,
    /// The part of them that is the cluster's own.
    pub log_bytes_reserve: usize,
    /// Reads that wait for confirmation.
    pub reads_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let id = Identity { node: NodeId::MIN, store: StoreId([0; 16]) };
        let config = RaftConfig::new(id, Incarnation(0), ClusterId::ZERO);
        Self {
            disk_hang_timeout: config.disk_hang_timeout,
            append_bytes_max: config.append_bytes_max,
            inflight_appends_max: config.inflight_appends_max,
            inflight_bytes_max: config.inflight_bytes_max,
            reorder_bytes_max: config.reorder_bytes_max,
            log_bytes_max: config.log_bytes_max,
            log_bytes_reserve: config.log_bytes_reserve,
            reads_max: config.reads_max,
        }
    }
}

/// The clocks of consensus; see [`RaftConfig`] for what each does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The shortest election timeout.
    pub election_timeout_min: Duration,
    /// The longest one.
    pub election_timeout_max: Duration,
    /// Between two heartbeats.
    pub heartbeat_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            election_timeout_min: Duration::from_millis(250),
            election_timeout_max: Duration::from_millis(500),
            heartbeat_interval: Duration::from_millis(25),
        }
    }
}

/// What a boot found in the data folder; all of it durable.
#[derive(Debug)]
pub struct NodeStart {
    /// The data folder's identity.
    pub store: StoreId,
    /// This boot.
    pub incarnation: Incarnation,
    /// Drawn for this boot.
    pub boot_nonce: BootNonce,
    /// The cluster.
    pub cluster: ClusterId,
    /// What the cluster was founded as, if this store took part.
    pub founding: Option<FoundingRecord>,
    /// Term and vote.
    pub hard_state: HardState,
    /// The snapshot that the machine was filled from.
    pub snapshot: Option<StartSnapshot>,
    /// The log from the entry after the snapshot's on, or from index 1.
    pub entries: Vec<Entry>,
    /// What is left of a damaged log behind these.
    pub remains: Option<Remains>,
    /// Everything that was found damaged.
    pub damage: Vec<Damage>,
}

impl NodeConfig {
    /// The LAN settings for a node of this id, reached at this address.
    #[must_use]
    pub fn new(id: NodeId, advertise: String) -> Self {
        Self {
            id,
            advertise,
            routes: BTreeMap::new(),
            names: BTreeMap::new(),
            apply_count_max: 1024,
            apply_bytes_max: 4 << 20,
            command_bytes_max: 2 << 20,
            waiting_max: 65_536,
            log_tail_bytes: 4 << 20,
            pull: PullConfig::default(),
            rpc: RpcConfig::default(),
            timing: Timing::default(),
            limits: Limits::default(),
            lease_drift_ppm: None,
            digest_interval: Some(Duration::from_secs(1)),
            live_faults: LiveFaults::Refused,
        }
    }

    /// Checks the settings of consensus, which a node panics over.
    ///
    /// # Errors
    /// What cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let identity = Identity { node: self.id, store: StoreId::ZERO };
        self.raft(identity, Incarnation(0), ClusterId::ZERO).validate()
    }

    pub(super) fn raft(
        &self,
        identity: Identity,
        incarnation: Incarnation,
        cluster: ClusterId,
    ) -> RaftConfig {
        RaftConfig {
            election_timeout_min: self.timing.election_timeout_min,
            election_timeout_max: self.timing.election_timeout_max,
            heartbeat_interval: self.timing.heartbeat_interval,
            log_tail_bytes: self.log_tail_bytes,
            disk_hang_timeout: self.limits.disk_hang_timeout,
            append_bytes_max: self.limits.append_bytes_max,
            inflight_appends_max: self.limits.inflight_appends_max,
            inflight_bytes_max: self.limits.inflight_bytes_max,
            reorder_bytes_max: self.limits.reorder_bytes_max,
            log_bytes_max: self.limits.log_bytes_max,
            log_bytes_reserve: self.limits.log_bytes_reserve,
            reads_max: self.limits.reads_max,
            lease_drift_ppm: self.lease_drift_ppm,
            ..RaftConfig::new(identity, incarnation, cluster)
        }
    }
}
