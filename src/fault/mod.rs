//! Seeded lossy links: what a network may do to datagrams, one way, on demand and repeatably.
//!
//! A [`Link`] is one direction of one path. Its driver puts each datagram in with [`Link::send`], takes those that
//! are due with [`Link::poll_output`], and sleeps until [`Link::poll_timeout`]. Two links make a path, one of
//! them blocked makes it one-way; a matrix of them makes any partition.
//!
//! # What happens to a datagram, in this order
//! 1. *blocked* or longer than the *mtu*: dropped.
//! 2. *loss*: dropped independently of all others; then by the *burst* chain (Gilbert–Elliott).
//! 3. *duplicate*: a second copy goes the rest of the way on its own. *replay*: one more copy arrives much later.
//! 4. *corrupt*, *zero crc*, *truncate*, *extend*: the bytes change.
//! 5. *rate*: it waits for its turn behind those before it; what finds the queue full is dropped.
//! 6. *delay* and *jitter*: it is due later, and jitter alone may reorder. *reorder*: it is held back for a
//!    while longer, and others pass it.
//!
//! The words are netem's. One differs: netem sends a reordered datagram ahead of the delayed queue, which needs a
//! delay to show; here it falls behind, which works without one.
//!
//! # What must stay true
//! - One seed, one configuration and the same calls give the same output. Losses, timing and damage draw from
//!   generators of their own, so another delay leaves the same datagrams lost.
//! - Every datagram is delivered or counted as dropped by one cause: `sent + copies = delivered + dropped +
//!   held`.
//! - A datagram that was accepted arrives, also when the link is blocked meanwhile: it is on its way already.

mod config;
mod damage;
mod link;
mod stats;
#[cfg(test)]
mod tests;

pub use config::{Bursts, ConfigError, Distribution, LinkConfig, Rate, Replay};
pub use link::Link;
pub use stats::{LinkStats, sigmas};
