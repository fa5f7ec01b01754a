//! Seeded faults between a node's socket and its machine, for experiments without root.
//!
//! Each direction of each path has a link of [`crate::fault`]. A node shapes what it *sends* to other nodes, so
//! that with every node doing so each directed link has its faults once; of its clients, which shape nothing
//! themselves, it shapes both directions.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use crate::fault::{Link, LinkConfig, LinkStats};
use crate::rng::Rng;
use crate::time::{Instant, earliest};
use crate::wire::{Party, parse_header};

/// The most paths shaped; datagrams of further ones pass unharmed.
const PATHS_MAX: usize = 1024;

/// Which way a shaped path runs, as seen from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the node.
    Out,
    /// To the node.
    In,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out => "to",
            Self::In => "from",
        })
    }
}

/// The faults of one node.
#[derive(Debug)]
pub struct Shaper {
    config: LinkConfig,
    rng: Rng,
    links: BTreeMap<(SocketAddr, Direction), Link>,
}

impl Shaper {
    /// Every path gets these faults, and randomness of its own from `rng`.
    #[must_use]
    pub fn new(config: LinkConfig, rng: Rng) -> Self {
        Self { config, rng, links: BTreeMap::new() }
    }

    /// Takes a datagram on its way; it comes out of [`Self::poll_output`], or not. Gives it back when its path is
    /// not shaped.
    pub fn offer(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        direction: Direction,
        bytes: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let key = (peer, direction);
        let is_shaped = direction == Direction::Out || is_of_client(&bytes);
        if !is_shaped || (!self.links.contains_key(&key) && self.links.len() >= PATHS_MAX) {
            return Some(bytes);
        }
        let (config, rng) = (&self.config, &mut self.rng);
        self.links.entry(key).or_insert_with(|| Link::new(config.clone(), rng.fork())).send(now, bytes);
        None
    }

    /// A datagram that has come through its path by now.
    pub fn poll_output(&mut self, now: Instant) -> Option<(SocketAddr, Direction, Vec<u8>)> {
        self.links
            .iter_mut()
            .find_map(|(&(peer, direction), link)| Some((peer, direction, link.poll_output(now)?)))
    }

    /// The same, of datagrams from the node only.
    pub fn poll_outgoing(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        self.links
            .iter_mut()
            .filter(|((_, direction), _)| *direction == Direction::Out)
            .find_map(|(&(peer, _), link)| Some((peer, link.poll_output(now)?)))
    }

    /// When the next datagram comes through.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.links.values().fold(None, |next, link| earliest(next, link.poll_timeout()))
    }

    /// What was injected so far, per path.
    pub fn stats(&self) -> impl Iterator<Item = (SocketAddr, Direction, &LinkStats)> {
        self.links.iter().map(|(&(peer, direction), link)| (peer, direction, link.stats()))
    }
}

fn is_of_client(bytes: &[u8]) -> bool {
    parse_header(bytes).is_ok_and(|header| header.source == Party::Any)
}
