//! Raft over datagrams.

#![forbid(unsafe_code)]

pub mod cursor;
pub mod entry;
pub mod founding;
pub mod hash;
pub mod machine;
pub mod membership;
pub mod message;
pub mod rng;
pub mod time;
pub mod types;

pub mod fault;
pub mod kv;
pub mod raft;
pub mod session;
pub mod store;
pub mod wire;

pub mod rpc;

pub mod client;
pub mod node;

pub mod run;

pub mod handle;
