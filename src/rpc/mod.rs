//! Calls over datagrams.

mod body;
mod callee;
mod caller;
mod config;
mod cookie;
mod core;
mod endpoint;
mod event;
mod hello;
mod link;
mod pack;
mod probe;
mod ranges;
mod reassembly;
mod receive;
mod received;
mod replay;
mod rtt;
mod sent;
mod stats;
mod stranger;
mod window;

pub use config::{ConfigError, DuplicateMode, Local, LocalRole, ReplayProtection, RpcConfig};
pub use endpoint::Rpc;
pub use event::{CallError, CallFailure, CloseReason, Event, LinkId, Output, PeerInfo, SendErrorKind, Token};
pub use stats::{LinkStats, RpcStats};

#[cfg(test)]
mod tests;
