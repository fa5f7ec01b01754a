//! The key–value machine: a sorted map from keys to values, driven by the log.
//!
//! # Commands and queries
//! - *put* sets a key, *delete* removes it, *cas* sets it if it holds exactly the old value, or, with no old
//!   value, if it is absent. Each answers with what the key held before: the index of the entry that wrote it,
//!   and the value itself while that is short. So acknowledged writes of a key form a chain that a checker can
//!   follow (invariant 20), and a result stays small enough to be kept in the session table.
//! - *get* reads one key, *list* one page of the keys with a prefix, in byte order.
//!
//! # What must stay true
//! - The state is a function of the commands and their indexes. Bytes that are no command, and keys or values
//!   beyond the limits, change nothing and give the same refusal on every replica.
//! - The limits are constants of this format, not settings: a replica that took larger values than another
//!   would diverge.
//!
//! # Snapshots
//! The map is frozen at once, whatever its size, and written as all rows in key order, so that equal maps give equal
//! bytes. A restored map is built from the rows in one go.
//!
//! Left out: values larger than [`VALUE_BYTES_MAX`], several keys in one command, expiry by time.

mod command;
mod query;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

pub use command::{
    Command, CommandResult, KEY_BYTES_MAX, PREVIOUS_BYTES_MAX, Previous, Refusal, VALUE_BYTES_MAX,
};
pub use query::{Answer, PAGE_BYTES_MAX, PAGE_ROWS_MAX, Query, Row};
pub use state::Kv;
