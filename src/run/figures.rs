//! What a running node can be measured by, taken in one moment by its loop.

use std::time::Duration;

use crate::histogram::Histogram;
use crate::node::NodeLoad;
use crate::raft::ProgressKind;
use crate::rpc::{LinkStats, RpcLoad, RpcStats};
use crate::run::socket::BufferSizes;
use crate::types::{Index, NodeId};
use crate::wire::status::NodeStatus;

/// The figures of a node.
#[derive(Clone, Debug)]
pub struct NodeFigures {
    /// What it tells to whoever asks for its status.
    pub status: NodeStatus,
    /// Counters of the RPC layer.
    pub rpc: RpcStats,
    /// What the RPC layer holds.
    pub rpc_load: RpcLoad,
    /// What the node keeps for others.
    pub load: NodeLoad,
    /// Its links to other nodes.
    pub links: Vec<LinkFigures>,
    /// A leader's view of its followers; empty at any other node.
    pub followers: Vec<FollowerFigures>,
    /// From a write's proposal here to its being applied here.
    pub commits: Histogram,
    /// Making a batch durable.
    pub syncs: Histogram,
    /// What the kernel granted of the socket buffers asked for.
    pub buffers: BufferSizes,
    /// Since the loop began.
    pub uptime: Duration,
}

/// One link to another node.
#[derive(Clone, Copy, Debug)]
pub struct LinkFigures {
    /// The other end.
    pub node: NodeId,
    /// Its counters.
    pub stats: LinkStats,
    /// How long ago a datagram of the peer was last accepted.
    pub silent_for: Duration,
}

/// A follower as the leader sees it.
#[derive(Clone, Copy, Debug)]
pub struct FollowerFigures {
    /// Who.
    pub node: NodeId,
    /// How entries go there.
    pub progress: ProgressKind,
    /// The last entry known to be durable there.
    pub match_index: Index,
    /// Appends on their way.
    pub inflight_count: usize,
}
