//! Exactly-once writes: the replicated session table (Ongaro's thesis §6.3; RIFL, SOSP 2015).
//!
//! A client that hears nothing sends its write again, perhaps to another node, and the log may then hold the
//! write twice. So each command entry names a *session* and a *sequence*, and every replica keeps, as part of
//! its replicated state, the result of each write it has applied. A second entry of the same (session,
//! sequence) gets the recorded result, index and term included, and has no effect.
//!
//! # Life of a session
//! - An *open* entry makes it; its id is that entry's index, so no id is ever given twice.
//! - A *write* is applied once and its result kept. With each write the client tells which sequences are
//!   *finished*: it has their answers, or gave them up. Their results are dropped, and an entry with a finished
//!   sequence has no effect for as long as the session lives, however late it comes.
//! - It ends by *close*, or it *expires*: by an *expire* entry that the leader proposed for an idle one, or
//!   because a later entry needs its place. Whatever it asks after that is answered "session expired" and never
//!   carried out: the table no longer knows what was done already (scenario U2).
//!
//! # What must stay true
//! - Everything here is a function of the log alone: no clock, no node's settings. The bounds are set by an
//!   entry ([`Command::SetLimits`]), and *longest idle* means the lowest index of last use (scenarios C2, I10).
//! - At most one effect per (session, sequence), and all answers to it are identical (invariant 16).
//! - The table never holds more than `sessions_max` sessions, `window_max` results in one of them, and
//!   `bytes_max` bytes of results; the last by at most the one session used last, whose own bytes stay below
//!   `window_bytes_max` and one result more.
//!
//! A full window refuses a write without effect. The client tries again under the same sequence, telling what it
//! has finished meanwhile; [`Window`] keeps that account so that the retry always gets through.
//!
//! # Snapshots
//! The table is part of every snapshot (scenario S9). It is frozen at once, whatever its size, and written in one
//! encoding: equal tables give equal bytes on every node.
//!
//! Left out: reads, which need no session; and comparing a repeated entry's command with the first one's, so a
//! client that uses one sequence for two writes gets the first one's result for both.

mod command;
mod ranges;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod window;

pub use command::{Command, EXPIRE_MAX, Limits};
pub use ranges::{RANGES_MAX, Ranges};
pub use snapshot::FrozenSessions;
pub use table::{Outcome, Sessions};
pub use window::{OPEN_MAX, Window};
