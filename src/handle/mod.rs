//! What an application holds.

mod pending;

pub use pending::{Pending, WaitError};
