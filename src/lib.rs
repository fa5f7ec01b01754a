//! Raft over datagrams: consensus, an idempotent RPC layer and a replicated key–value store on UDP.
//!
//! # Embedding a node
//! A node needs an id, an address, the voters, a data folder and a state machine; storage and transport are
//! included.
//!
//! ```no_run
//! use raftgram::kv::{Command, Kv};
//! use raftgram::{IfBlank, Node, NodeId, NodeOptions};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let voters = ["10.0.0.1:7101", "10.0.0.2:7101", "10.0.0.3:7101"];
//! let mut options = NodeOptions::new(NodeId::MIN, voters[0].parse()?, "data".into());
//! options.voters = NodeOptions::voters_from(&voters);
//! options.if_blank = IfBlank::Bootstrap;
//! let node = Node::start(options, Kv::new())?;
//!
//! let client = node.client(Default::default())?;
//! let put = Command::Put { key: b"greeting", value: b"hello" }.to_bytes();
//! let answer = client.propose(put, Duration::from_secs(5)).wait(Duration::from_secs(6))??;
//! # Ok(()) }
//! ```
//!
//! [`Cluster::in_process`] runs a whole cluster inside a test, [`machine::Fold`] makes a machine of a closure, and
//! [`machine::Codec`] gives commands their bytes. `examples/01_…` to `08_…` show each on a page; `examples/own_loop.rs`
//! drives the machines below from a loop of its own, without this crate's sockets and threads.
//!
//! # The map of floors
//! Imports run down only, and rooms on one floor do not know each other.
//!
//! | floor | rooms |
//! |---|---|
//! | 5 | [`handle`]: what an application holds |
//! | 4 | [`run`]: sockets, clocks, timers, disks, threads · [`sim`]: many nodes and one virtual clock |
//! | 3 | [`node`]: the whole server · [`client`]: the whole client |
//! | 2 | [`rpc`]: links and calls · [`trace`]: what happened, an event a line |
//! | 1 | [`raft`] · [`wire`] · [`store`] · [`fault`] · [`seal`] · [`session`] · [`kv`] · [`check`] |
//! | 0 | [`types`] [`cursor`] [`entry`] [`founding`] [`hash`] [`layered`] [`membership`] |
//! | | [`message`] [`machine`] [`mutant`] [`rng`] [`snapshot`] [`time`] |
//!
//! Floors 0 to 3 are sans-I/O: no socket, file, thread, clock or global randomness. Each machine there has
//! commands, `handle_*(now, …)`, `poll_output` and `poll_timeout`; after any mutation its driver drains the outputs.

#![forbid(unsafe_code)]

pub mod cursor;
pub mod entry;
pub mod founding;
pub mod hash;
pub mod layered;
pub mod machine;
pub mod membership;
pub mod message;
pub mod mutant;
pub mod remains;
pub mod rng;
pub mod snapshot;
pub mod time;
pub mod types;

pub mod check;
pub mod fault;
pub mod kv;
pub mod raft;
pub mod seal;
pub mod session;
pub mod store;
pub mod wire;

pub mod rpc;
pub mod trace;

pub mod client;
pub mod node;

pub mod run;
pub mod sim;

pub mod handle;

pub use client::{Answer, ClientConfig, ClientError};
pub use handle::{CallError, Client, Cluster, Node, Pending, WaitError, Watch};
pub use machine::Machine;
pub use run::boot::{IfBlank, NodeOptions, StartError};
pub use store::{Fsync, SharedDisk};
pub use types::NodeId;
pub use wire::client::ReadLevel;
