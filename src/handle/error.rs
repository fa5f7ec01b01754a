//! Why a call that waits for its answer has none.

use std::fmt;

use super::pending::WaitError;
use crate::client::ClientError;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The client has none; its error says whether a command may have been carried out.
    Client(ClientError),
    /// The machine could not read the command or query, and did nothing: it speaks another language.
    NotUnderstood,
    /// The machine's answer could not be read, or is none to such a question. A command was carried out.
    Unreadable,
    /// The client's thread has ended.
    Gone,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => fmt::Display::fmt(error, f),
            Self::NotUnderstood => f.write_str("the machine did not understand it, and did nothing"),
            Self::Unreadable => f.write_str("the machine's answer could not be read"),
            Self::Gone => f.write_str("the client's thread has ended"),
        }
    }
}

impl std::error::Error for CallError {}

impl From<ClientError> for CallError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<WaitError> for CallError {
    /// A client ends each operation by its deadline, so that only its end keeps an answer away.
    fn from(_: WaitError) -> Self {
        Self::Gone
    }
}
