//! Raft over datagrams.

#![forbid(unsafe_code)]

pub mod cursor;
pub mod entry;
pub mod founding;
pub mod machine;
pub mod membership;
pub mod message;
pub mod rng;
pub mod time;
pub mod types;
