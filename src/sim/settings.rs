//! What a simulation is made of.

use crate::client::ClientConfig;
use crate::fault::LinkConfig;
use crate::node::{Limits, NodeConfig, PullConfig, Timing, WatchConfig};
use crate::rpc::{RpcConfig, WireLevel};
use crate::seal::SealMode;
use crate::sim::invariant::Language;
use crate::sim::storage::DiskProfile;
use crate::store::OpenOptions;
use crate::types::NodeId;
use core::time::Duration;
use std::collections::BTreeSet;

/// The most nodes of one simulation.
pub const NODES_MAX: u16 = 15;

/// What a [`Simulation`](super::Simulation) is made of. Two simulations of equal settings to which the same is done
/// are equal to the last byte.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Decides every draw.
    pub seed: u64,
    /// How many nodes, 1 to [`NODES_MAX`].
    pub nodes: u16,
    /// How many of them found the cluster, the first ones; the others can join it.
    pub founders: u16,
    /// The clocks of consensus.
    pub timing: Timing,
    /// The bounds of consensus. Small ones make rare paths common.
    pub limits: Limits,
    /// Bytes of log that nodes keep below their snapshot for those who are behind.
    pub log_tail_bytes: usize,
    /// How nodes pull snapshots.
    pub pull: PullConfig,
    /// How many entries a node applies in one turn.
    pub apply_count_max: usize,
    /// The bounds of client sessions, to be set once there is a leader; those of the founding without.
    pub session_limits: Option<crate::session::Limits>,
    /// How much clocks may drift, for leases; none without.
    pub lease_drift_ppm: Option<u32>,
    /// How often nodes tell each other what they come to; never without.
    pub digest_interval: Option<Duration>,
    /// Bytes of what was carried out that nodes remember for watchers.
    pub watch_bytes_max: usize,
    /// The lower layer of the nodes.
    pub rpc: RpcConfig,
    /// Nodes that run the version after this one, as far as the wire shows.
    pub upgraded: BTreeSet<u16>,
    /// The clients.
    pub client: ClientConfig,
    /// Whether datagrams are sealed. The keys are drawn from the seed; of what `rpc` and `client` say about the seal,
    /// only the length of a phase counts.
    pub seal: SealMode,
    /// The length of a log segment. A short one is changed often, and costs little to make.
    pub segment_bytes: u64,
    /// What every link does until told otherwise.
    pub link: LinkConfig,
    /// How long every disk takes until told otherwise.
    pub disk: DiskProfile,
    /// What commands and queries mean, so that the checks can look into them.
    pub language: Language,
}

impl Settings {
    /// A healthy local network.
    ///
    /// # Panics
    /// For a number of nodes outside 1 to [`NODES_MAX`].
    #[must_use]
    pub fn new(seed: u64, nodes: u16) -> Self {
        assert!((1..=NODES_MAX).contains(&nodes), "a simulation of {nodes} nodes, not of 1 to {NODES_MAX}");
        Self {
            seed,
            nodes,
            founders: nodes,
            timing: Timing::default(),
            limits: Limits::default(),
            log_tail_bytes: 4 << 20,
            pull: PullConfig::default(),
            apply_count_max: 1024,
            session_limits: None,
            lease_drift_ppm: None,
            digest_interval: None,
            watch_bytes_max: WatchConfig::default().recent_bytes_max,
            rpc: RpcConfig::default(),
            upgraded: BTreeSet::new(),
            client: ClientConfig::default(),
            seal: SealMode::Off,
            segment_bytes: 64 * 1024,
            link: LinkConfig { delay: Duration::from_micros(50), ..LinkConfig::default() },
            disk: DiskProfile::default(),
            language: Language::Opaque,
        }
    }

    /// How a node is set up.
    pub(super) fn node(&self, id: NodeId, address: String) -> NodeConfig {
        NodeConfig {
            rpc: self.rpc_of(id),
            timing: self.timing,
            limits: self.limits,
            log_tail_bytes: self.log_tail_bytes,
            pull: self.pull,
            apply_count_max: self.apply_count_max,
            lease_drift_ppm: self.lease_drift_ppm,
            digest_interval: self.digest_interval,
            watch: WatchConfig { recent_bytes_max: self.watch_bytes_max, ..WatchConfig::default() },
            ..NodeConfig::new(id, address)
        }
    }

    /// The lower layer of one node.
    pub(super) fn rpc_of(&self, id: NodeId) -> RpcConfig {
        let is_upgraded = self.upgraded.contains(&id.as_u16());
        let wire_level = if is_upgraded { WireLevel::NEXT } else { self.rpc.wire_level };
        RpcConfig { wire_level, ..self.rpc.clone() }
    }

    /// How a data folder is opened.
    pub(super) fn open_options(&self) -> OpenOptions {
        OpenOptions { segment_bytes: self.segment_bytes, ..OpenOptions::default() }
    }
}
