//! What an application holds: a node on its thread, a client on its thread, and answers on their way.
//!
//! The queue into an event loop and the waker behind it are the only crossing between an application's threads and
//! a machine. Everything here may be called from any thread.

mod client;
mod cluster;
mod error;
mod node;
mod pending;
mod typed;
mod watch;

pub use client::{Client, OperationResult};
pub use cluster::{Cluster, ClusterError};
pub use error::CallError;
pub use node::Node;
pub use pending::{Pending, WaitError};
pub use watch::Watch;
