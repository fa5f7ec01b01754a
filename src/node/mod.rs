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
//! Left out: snapshots, membership changes, lease reads (served as linearizable reads).

mod applier;
mod config;
mod effects;
pub mod founding;
mod serve;
mod status;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use slog::{Logger, debug, info, warn};

pub use config::{NodeConfig, NodeConfigError};

use crate::machine::Machine;
use crate::raft::{Output as RaftOutput, Raft, Restored, Role, Ticket};
use crate::rng::Rng;
use crate::rpc::{Event, LinkId, Local, Output as RpcOutput, PeerInfo, Rpc, Token};
use crate::session::Sessions;
use crate::time::{Instant, earliest};
use crate::types::{BootNonce, CallId, ClusterId, Identity, Incarnation, Index, NodeId, StoreId, Term};

/// What the driver is to do.
#[derive(Debug)]
pub enum Output {
    /// Send this datagram.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// The UDP payload.
        bytes: Vec<u8>,
    },
    /// Make this durable, then call [`Node::handle_persisted`]. Writes are finished in the order they were asked
    /// for; one sync may cover several.
    Persist(Persist),
    /// Make this durable, then call [`Node::handle_peer_recorded`] with the same store.
    RecordPeer(PeerBoot),
    /// Tell whoever listens.
    Event(NodeEvent),
}
