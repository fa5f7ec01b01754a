//! raftgram for C: opaque handles over the library's public [`raftgram::Node`] and [`raftgram::Client`].
//!
//! `include/raftgram.h` is made from this crate's documentation comments by cbindgen; a test makes it again and
//! compares. Four rules hold for every function:
//! - No panic crosses the border: each body runs under `fault::guard`, and a panic there is `RAFTGRAM_PANICKED`.
//! - Whatever a caller may hand over wrongly and a program can notice (NULL, text that is no UTF-8, an id of 0) is
//!   `RAFTGRAM_INVALID`. What it cannot notice is undefined, and said so: a handle after its free, a length that lies.
//! - A stopped node answers `RAFTGRAM_STOPPED`; a callback that waits for its own node gets `RAFTGRAM_WOULD_DEADLOCK`.
//! - Text about the last failure is kept per thread.
//!
//! The library itself forbids `unsafe`; all there is of it stands here, each block with what makes it sound.

mod buffer;
mod client;
mod events;
mod fault;
mod input;
mod json;
mod machine;
mod node;

use std::ffi::{CStr, c_char};

pub use buffer::{Buffer, Writer, raftgram_buffer_free, raftgram_write};
pub use client::{
    Client, ReadLevel, raftgram_client_connect, raftgram_client_free, raftgram_client_propose,
    raftgram_client_read,
};
pub use fault::{Status, raftgram_last_error};
pub use machine::Machine;
pub use node::{
    IfBlank, Node, NodeOptions, raftgram_node_client, raftgram_node_event_fd, raftgram_node_free,
    raftgram_node_next_event, raftgram_node_start, raftgram_node_status, raftgram_node_stop,
    raftgram_node_transfer,
};

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version holds no NUL"),
};

/// The version of the library, as `0.1.0`. The text is static. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn raftgram_version() -> *const c_char {
    VERSION.as_ptr()
}
