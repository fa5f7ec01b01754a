//! Every path between two ends, one way each: who may speak to whom, and what a link does on the way.

use std::net::SocketAddr;

use super::agenda::Alarms;
use crate::fault::{Link, LinkConfig};
use crate::rng::Rng;
use crate::time::Instant;

/// The most ends: nodes, clients and an adversary.
pub(super) const ENDS_MAX: usize = 128;

const NODE_PORT: u16 = 7100;
const CLIENT_PORT: u16 = 20_000;

/// Where the `server`th node is reached.
pub(super) fn node_address(server: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], NODE_PORT + 1 + server as u16))
}

/// Where the `client`th client is reached.
pub(super) fn client_address(client: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], CLIENT_PORT + client as u16))
}

/// One end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A node, by its place from 0 on.
    Node(usize),
    /// A client, by its place from 0 on.
    Client(usize),
}

impl End {
    /// Whose address this is.
    pub(super) fn of(address: SocketAddr) -> Option<Self> {
        match address.port() {
            port if port >= CLIENT_PORT => Some(Self::Client(usize::from(port - CLIENT_PORT))),
            port if port > NODE_PORT => Some(Self::Node(usize::from(port - NODE_PORT - 1))),
            _ => None,
        }
    }

    /// The node of this number, from 1 on.
    ///
    /// # Panics
    /// For number 0.
    #[must_use]
    pub fn node(number: u16) -> Self {
        assert!(number > 0, "nodes are counted from 1");
        Self::Node(usize::from(number) - 1)
    }

    /// Its address.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        match self {
            Self::Node(server) => node_address(server),
            Self::Client(client) => client_address(client),
        }
    }

    /// Nodes have the even numbers, clients the odd ones.
    fn number(self) -> usize {
        match self {
            Self::Node(server) => server * 2,
            Self::Client(client) => client * 2 + 1,
        }
    }

    fn of_number(number: usize) -> Self {
        if number.is_multiple_of(2) { Self::Node(number / 2) } else { Self::Client(number / 2) }
    }
}

#[derive(Debug)]
struct Path {
    link: Link,
    alarms: Alarms,
}

/// Every path; see the module's page.
#[derive(Debug)]
pub(super) struct Network {
    rng: Rng,
    /// What a new path does.
    config: LinkConfig,
    paths: Vec<Option<Box<Path>>>,
    blocked: Vec<bool>,
}

impl Network {
    pub(super) fn new(config: LinkConfig, rng: Rng) -> Self {
        let count = ENDS_MAX * ENDS_MAX;
        Self { rng, config, paths: (0..count).map(|_| None).collect(), blocked: vec![false; count] }
    }

    /// Puts a datagram in. Says when to take out, if nothing that is due as early was told before.
    pub(super) fn send(
        &mut self,
        now: Instant,
        from: End,
        to: End,
        bytes: Vec<u8>,
    ) -> Option<(Instant, usize)> {
        let place = place(from, to);
        if self.blocked[place] {
            return None;
        }
        self.path(place).link.send(now, bytes);
        self.schedule(place)
    }

    /// Takes out what is due.
    pub(super) fn take(&mut self, now: Instant, place: usize) -> Option<Vec<u8>> {
        self.paths[place].as_mut().and_then(|path| path.link.poll_output(now))
    }

    /// The agenda's event of this instant is here; false when it was superseded.
    pub(super) fn ring(&mut self, at: Instant, place: usize) -> bool {
        self.paths[place].as_mut().is_some_and(|path| path.alarms.ring(at))
    }

    /// Who sends over this path, and to whom.
    pub(super) fn ends(place: usize) -> (End, End) {
        (End::of_number(place / ENDS_MAX), End::of_number(place % ENDS_MAX))
    }

    pub(super) fn set_blocked(&mut self, from: End, to: End, is_blocked: bool) {
        self.blocked[place(from, to)] = is_blocked;
    }

    pub(super) fn is_blocked(&self, from: End, to: End) -> bool {
        self.blocked[place(from, to)]
    }

    pub(super) fn unblock_all(&mut self) {
        self.blocked.fill(false);
    }

    /// Sets what one path does with datagrams sent from here on.
    pub(super) fn set_link(&mut self, from: End, to: End, config: LinkConfig) {
        self.path(place(from, to)).link.set_config(config);
    }

    pub(super) fn link(&mut self, from: End, to: End) -> &Link {
        &self.path(place(from, to)).link
    }

    /// Sets what every path does.
    pub(super) fn set_links(&mut self, config: &LinkConfig) {
        self.config = config.clone();
        for path in self.paths.iter_mut().flatten() {
            path.link.set_config(config.clone());
        }
    }

    fn path(&mut self, place: usize) -> &mut Path {
        let (config, rng) = (&self.config, &mut self.rng);
        self.paths[place].get_or_insert_with(|| {
            // A seed of the path's own: who speaks first must not shift what happens elsewhere.
            let mut own = rng.clone();
            let seed = own.next_u64() ^ (place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Box::new(Path {
                link: Link::new(config.clone(), Rng::from_seed(seed)),
                alarms: Alarms::default(),
            })
        })
    }

    /// When to take out next, if the agenda does not know.
    pub(super) fn schedule(&mut self, place: usize) -> Option<(Instant, usize)> {
        let path = self.paths[place].as_mut()?;
        let next = path.link.poll_timeout()?;
        path.alarms.set(next).then_some((next, place))
    }
}

fn place(from: End, to: End) -> usize {
    let (from, to) = (from.number(), to.number());
    assert!(from < ENDS_MAX && to < ENDS_MAX, "more than {} nodes or clients", ENDS_MAX / 2);
    from * ENDS_MAX + to
}
