//! What an application holds: a node on its thread, a client on its thread, and answers on their way.
//!
//! The queue into an event loop and the waker behind it are the only crossing between an application's threads and
//! a machine. Everything here may be called from any thread.

mod client;
mod node;
mod pending;

pub use client::{Client, OperationResult};
pub use node::{Node, Onlooker};
pub use pending::{Pending, WaitError};
