//! What happened, an event a line: the one schema that simulator and live nodes write, and that outside checkers,
//! diagrams and captures read. docs/trace.md describes every event and field.
//!
//! A file is a [`Header`] and then events in the order in which they were seen. There are three kinds of them:
//! - a node's *state* changed: [`Observer`] compares a node with what it was at the last look and makes one event
//!   for each thing that changed, every one of them with the whole state;
//! - something became of a *datagram*: [`Datagrams`] reads its header, frames and bodies;
//! - a *note* on the world: a crash, a fault, what a checker found.
//!
//! ```text
//! let mut observer = Observer::new(id);              // one for each boot of a node, after its boot event
//! observer.observe(now, node.raft(), &mut |event| …); // after each turn, before what it sent
//! let event = datagrams.read(&Sight { at, seen_by, from, to, bytes, opened: None, outcome });
//! event.write_line(&mut out);                        // the line, or with Display the same for people
//! ```
//!
//! Nothing here does I/O. [`Event::write_line`] and [`read_line`] are each other's inverse, so that whoever reads
//! a file has the same values in hand as whoever wrote it. [`Checker`] also holds what must be true from line to line.

mod check;
mod datagram;
mod event;
mod human;
mod json;
mod read;
mod state;
#[cfg(test)]
mod tests;
mod write;

pub use check::{Checker, Counts, Fault};
pub use datagram::{Datagrams, Payloads, Sight};
pub use event::{
    Boot, Change, DatagramEvent, Event, Frame, Header, Loss, NoteKind, Outcome, Parties, SCHEMA, Source, What,
};
pub use json::Malformed;
pub use read::read_line;
pub use state::{Durable, Members, Observer, State};
