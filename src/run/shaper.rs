//! Seeded faults between a node's socket and its machine, for experiments without root.
//!
//! Each direction of each path has a link of [`crate::fault`]. A node shapes what it *sends* to other nodes, so
//! that with every node doing so each directed link has its faults once; of its clients, which shape nothing
//! themselves, it shapes both directions.
//!
//! What links do can be changed while they run ([`Shaper::set`]), for a while that ends by itself: an experiment that
//! is forgotten, or whose program dies, leaves a healthy node.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::fault::{Bursts, Link, LinkConfig, LinkStats};
use crate::rng::Rng;
use crate::time::{Instant, earliest};
use crate::types::NodeId;
use crate::wire::fault::{FaultLinks, FaultRequest, LinkFaults, WHOLE_PPM};
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
    /// What links do of which nothing else was said.
    config: LinkConfig,
    rng: Rng,
    links: BTreeMap<(SocketAddr, Direction), Shaped>,
    /// What was said, and until when.
    set: BTreeMap<FaultLinks, (LinkConfig, Instant)>,
}

/// A link, and to whom.
#[derive(Debug)]
struct Shaped {
    link: Link,
    party: Party,
}

impl Shaper {
    /// Every path gets these faults, and randomness of its own from `rng`.
    #[must_use]
    pub fn new(config: LinkConfig, rng: Rng) -> Self {
        Self { config, rng, links: BTreeMap::new(), set: BTreeMap::new() }
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
        if self.is_idle() {
            return Some(bytes);
        }
        let header = parse_header(&bytes);
        let party = match direction {
            Direction::Out => header.map_or(Party::Any, |header| header.destination),
            Direction::In => header.map_or(Party::Node(NodeId::MIN), |header| header.source),
        };
        let key = (peer, direction);
        let is_shaped = direction == Direction::Out || party == Party::Any;
        if !is_shaped || (!self.links.contains_key(&key) && self.links.len() >= PATHS_MAX) {
            return Some(bytes);
        }
        let config = self.config_for(party);
        let Self { links, rng, .. } = self;
        let new = || Shaped { link: Link::new(config.clone(), rng.fork()), party };
        let shaped = links.entry(key).or_insert_with(new);
        if shaped.party != party {
            // The first datagrams to an address do not say who is there.
            shaped.party = party;
            shaped.link.set_config(config);
        }
        shaped.link.send(now, bytes);
        None
    }

    /// Nothing was asked for, and nothing is on its way.
    fn is_idle(&self) -> bool {
        self.links.is_empty() && self.set.is_empty() && self.config == LinkConfig::default()
    }

    fn config_for(&self, party: Party) -> LinkConfig {
        let named = match party {
            Party::Any => self.set.get(&FaultLinks::Clients),
            Party::Node(node) => {
                self.set.get(&FaultLinks::Node(node)).or_else(|| self.set.get(&FaultLinks::Nodes))
            }
        };
        named.map_or_else(|| self.config.clone(), |(config, _)| config.clone())
    }

    /// Lets links do what was asked for, from here on. `[W-112]`
    pub fn set(&mut self, now: Instant, request: &FaultRequest) {
        match request {
            FaultRequest::Clear => self.set.clear(),
            FaultRequest::Set { links, lasting_ms, faults } => {
                let until = now + Duration::from_millis(*lasting_ms);
                self.set.insert(*links, (config_of(faults), until));
            }
        }
        self.configure();
    }

    /// Ends what has lasted as long as it was to.
    pub fn expire(&mut self, now: Instant) {
        let before = self.set.len();
        self.set.retain(|_, (_, until)| *until > now);
        if self.set.len() < before {
            self.configure();
        }
    }

    fn configure(&mut self) {
        let parties: Vec<_> = self.links.iter().map(|(key, shaped)| (*key, shaped.party)).collect();
        for (key, party) in parties {
            let config = self.config_for(party);
            if let Some(shaped) = self.links.get_mut(&key) {
                shaped.link.set_config(config);
            }
        }
    }

    /// A datagram that has come through its path by now.
    pub fn poll_output(&mut self, now: Instant) -> Option<(SocketAddr, Direction, Vec<u8>)> {
        self.links
            .iter_mut()
            .find_map(|(&(peer, direction), shaped)| Some((peer, direction, shaped.link.poll_output(now)?)))
    }

    /// The same, of datagrams from the node only.
    pub fn poll_outgoing(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        self.links
            .iter_mut()
            .filter(|((_, direction), _)| *direction == Direction::Out)
            .find_map(|(&(peer, _), shaped)| Some((peer, shaped.link.poll_output(now)?)))
    }

    /// When the next datagram comes through, or something ends.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ends = self.set.values().map(|(_, until)| *until).min();
        self.links.values().fold(ends, |next, shaped| earliest(next, shaped.link.poll_timeout()))
    }

    /// What was injected so far, per path.
    pub fn stats(&self) -> impl Iterator<Item = (SocketAddr, Direction, &LinkStats)> {
        self.links.iter().map(|(&(peer, direction), shaped)| (peer, direction, shaped.link.stats()))
    }
}

/// As a link's settings. The wire's bounds are theirs.
fn config_of(faults: &LinkFaults) -> LinkConfig {
    let share = |ppm: u64| ppm.min(WHOLE_PPM) as f64 / WHOLE_PPM as f64;
    let [p, r, loss_bad, loss_good] = faults.burst_ppm.map(share);
    let has_bursts = faults.burst_ppm.iter().any(|ppm| *ppm > 0);
    LinkConfig {
        is_blocked: faults.is_blocked,
        mtu: (faults.mtu > 0).then(|| usize::try_from(faults.mtu).unwrap_or(usize::MAX)),
        loss: share(faults.loss_ppm),
        bursts: has_bursts.then_some(Bursts { p, r, loss_bad, loss_good }),
        delay: Duration::from_micros(faults.delay_us),
        jitter: Duration::from_micros(faults.jitter_us),
        duplicate: share(faults.duplicate_ppm),
        reorder: share(faults.reorder_ppm),
        reorder_delay: Duration::from_micros(faults.reorder_delay_us),
        corrupt: share(faults.corrupt_ppm),
        ..LinkConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Incarnation, PacketNumber};
    use crate::wire::{Flags, Header};

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn to(node: Option<u16>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let destination = node.and_then(NodeId::new).map_or(Party::Any, Party::Node);
        let header = Header {
            flags: Flags::NONE,
            cluster_tag: 1,
            source: Party::Node(NodeId::MIN),
            destination,
            source_incarnation: Incarnation(1),
            destination_incarnation: Incarnation(1),
            packet: PacketNumber(1),
        };
        crate::wire::begin(&mut bytes, &header);
        bytes
    }

    /// Whether a datagram to this node, or a client, arrives.
    fn arrives(shaper: &mut Shaper, ms: u64, node: Option<u16>) -> bool {
        let peer = SocketAddr::from(([127, 0, 0, 1], 7000 + node.unwrap_or(0)));
        shaper.expire(at(ms));
        match shaper.offer(at(ms), peer, Direction::Out, to(node)) {
            Some(_) => true,
            None => shaper.poll_outgoing(at(ms)).is_some(),
        }
    }

    fn blocked(links: FaultLinks, lasting_ms: u64) -> FaultRequest {
        FaultRequest::Set {
            links,
            lasting_ms,
            faults: LinkFaults { is_blocked: true, ..LinkFaults::default() },
        }
    }

    /// Clients come from any number of addresses: those beyond the bound have a path without faults.
    #[test]
    fn paths_that_are_shaped_are_bounded() {
        let mut shaper = Shaper::new(LinkConfig { loss: 1.0, ..LinkConfig::default() }, Rng::from_seed(1));
        let from = |number: u32| SocketAddr::from((number.to_be_bytes(), 7));
        let mut pass = |number: &u32| shaper.offer(at(1), from(*number), Direction::Out, to(None)).is_some();
        assert_eq!((0..PATHS_MAX as u32 + 100).filter(|number| pass(number)).count(), 100);
        assert_eq!(shaper.links.len(), PATHS_MAX);
    }

    // [W-112]
    #[test]
    fn faults_end_by_themselves_when_cleared_and_strike_the_links_they_name() {
        let mut shaper = Shaper::new(LinkConfig::default(), Rng::from_seed(1));
        shaper.set(at(0), &blocked(FaultLinks::Node(NodeId::new(2).unwrap()), 100));
        assert!(
            !arrives(&mut shaper, 1, Some(2))
                && arrives(&mut shaper, 1, Some(3))
                && arrives(&mut shaper, 1, None)
        );
        assert_eq!(shaper.poll_timeout(), Some(at(100)));
        assert!(
            !arrives(&mut shaper, 99, Some(2)) && arrives(&mut shaper, 100, Some(2)),
            "it ends by itself"
        );
        shaper.set(at(100), &blocked(FaultLinks::Nodes, 100));
        shaper.set(
            at(100),
            &FaultRequest::Set {
                links: FaultLinks::Node(NodeId::new(3).unwrap()),
                lasting_ms: 50,
                faults: LinkFaults::default(),
            },
        );
        assert!(
            !arrives(&mut shaper, 101, Some(2)) && arrives(&mut shaper, 101, Some(3)),
            "what names a node counts"
        );
        assert!(!arrives(&mut shaper, 151, Some(3)), "and then what names all of them");
        shaper.set(at(160), &blocked(FaultLinks::Clients, 1000));
        assert!(!arrives(&mut shaper, 161, None));
        shaper.set(at(162), &FaultRequest::Clear);
        assert!(arrives(&mut shaper, 163, None) && arrives(&mut shaper, 163, Some(2)));
    }

    #[test]
    fn what_was_asked_for_at_the_start_comes_back_afterwards() {
        let config = LinkConfig { is_blocked: true, ..LinkConfig::default() };
        let mut shaper = Shaper::new(config, Rng::from_seed(1));
        shaper.set(
            at(0),
            &FaultRequest::Set { links: FaultLinks::Nodes, lasting_ms: 10, faults: LinkFaults::default() },
        );
        assert!(arrives(&mut shaper, 1, Some(2)) && !arrives(&mut shaper, 1, None));
        assert!(!arrives(&mut shaper, 10, Some(2)));
    }
}
