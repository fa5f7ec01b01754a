//! A whole cluster in this process, for tests of whoever embeds one.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::client::Client;
use super::node::Node;
use crate::client::ClientConfig;
use crate::machine::Machine;
use crate::run::boot::{IfBlank, NodeOptions, StartError};
use crate::run::node::RunError;
use crate::run::ram::RamDisk;
use crate::store::Fsync;
use crate::types::NodeId;

/// Segments of a log in memory: each node holds two of them from the start.
const SEGMENT_BYTES: u64 = 1 << 20;

/// How often ports are looked for again when somebody else took one in between.
const PORT_TRIES: usize = 8;

/// Nodes 1 to n on loopback, with their data in memory, on threads of their own. Dropping it stops them.
///
/// Nodes can be stopped and started again on what they had, so that a test of an application can have its leader go
/// away. Time and scheduling are real: what must not depend on them belongs into a [simulation](crate::sim).
///
/// ```
/// use std::time::Duration;
///
/// use raftgram::Cluster;
/// use raftgram::machine::Fold;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let timeout = Duration::from_secs(30);
/// let sum = || Fold::new(0_i64, |sum, add: i64| { *sum += add; *sum });
/// let cluster = Cluster::in_process(3, sum)?;
/// let client = cluster.client()?;
/// assert_eq!(client.apply::<i64>(&5_i64, timeout)?, 5);
/// assert_eq!(client.ask::<i64>(&(), timeout)?, 5);
/// # Ok(()) }
/// ```
pub struct Cluster<M> {
    make: Box<dyn Fn() -> M + Send + Sync>,
    addresses: Vec<SocketAddr>,
    disks: BTreeMap<NodeId, RamDisk>,
    nodes: BTreeMap<NodeId, Node>,
}

/// Why a cluster could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClusterError {
    /// A node was not started.
    Start(StartError),
    /// No port was to be had.
    System(io::Error),
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => fmt::Display::fmt(error, f),
            Self::System(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl std::error::Error for ClusterError {}

impl<M: Machine + Send + 'static> Cluster<M> {
    /// Starts `count` nodes, each with a machine that `make` made. They found a cluster and elect a leader in the
    /// background; a client's first operation waits for that.
    ///
    /// # Errors
    /// When no port, socket or thread is to be had.
    ///
    /// # Panics
    /// With no node at all.
    pub fn in_process(
        count: u16,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Result<Self, ClusterError> {
        assert!(count > 0, "a cluster has at least one node");
        let mut cluster = Self {
            make: Box::new(make),
            addresses: Vec::new(),
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
        };
        let mut tries = 0;
        loop {
            cluster.addresses = free_addresses(count).map_err(ClusterError::System)?;
            match cluster.start_all() {
                Err(StartError::Bind { .. }) if tries < PORT_TRIES => tries += 1,
                started => return started.map(|()| cluster).map_err(ClusterError::Start),
            }
        }
    }

    fn start_all(&mut self) -> Result<(), StartError> {
        let ids: Vec<NodeId> = NodeOptions::voters_from(&self.addresses).into_keys().collect();
        self.nodes.clear();
        self.disks = ids.iter().map(|id| (*id, RamDisk::new())).collect();
        ids.into_iter().try_for_each(|id| self.start(id))
    }

    /// Starts a node that was stopped; one that runs goes on.
    ///
    /// # Errors
    /// When its socket or thread is not to be had.
    ///
    /// # Panics
    /// When the cluster has no such node.
    pub fn start(&mut self, id: NodeId) -> Result<(), StartError> {
        if self.nodes.contains_key(&id) {
            return Ok(());
        }
        let disk = self.disks.get(&id).unwrap_or_else(|| panic!("no node {id} in this cluster")).clone();
        let listen = self.addresses[usize::from(id.as_u16()) - 1];
        let mut options = NodeOptions::new(id, listen, format!("memory of {id}").into());
        options.voters = NodeOptions::voters_from(&self.addresses);
        options.if_blank = IfBlank::Bootstrap;
        (options.fsync, options.segment_bytes) = (Fsync::Off, SEGMENT_BYTES);
        let node = Node::start_on(options, (self.make)(), disk)?;
        self.nodes.insert(id, node);
        Ok(())
    }

    /// Stops a node, which hands leadership over first; one that is stopped stays so.
    ///
    /// # Errors
    /// Why it had ended before, or could not end well.
    pub fn stop(&mut self, id: NodeId) -> Result<(), RunError> {
        self.nodes.remove(&id).map_or(Ok(()), Node::shutdown)
    }
}

impl<M> Cluster<M> {
    /// A client of all nodes.
    ///
    /// # Errors
    /// When no socket or thread is to be had.
    pub fn client(&self) -> io::Result<Client> {
        Client::connect(&self.addresses, ClientConfig::default())
    }

    /// Where the nodes are, in the order of their ids.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A node that runs.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// The nodes that run.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// Who leads, as far as one of the nodes knows that leads itself; waits `timeout` for each at most.
    #[must_use]
    pub fn leader(&self, timeout: Duration) -> Option<NodeId> {
        let asked: Vec<_> = self.nodes.iter().map(|(id, node)| (*id, node.status())).collect();
        let told = asked.iter().filter_map(|(id, status)| Some((*id, status.wait(timeout).ok()?)));
        // Of two that say so the one of the later term is right.
        told.filter(|(id, status)| status.leader == Some(*id))
            .max_by_key(|(_, status)| status.term)
            .map(|it| it.0)
    }
}

impl<M> fmt::Debug for Cluster<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Addresses that nobody used a moment ago; all are held until the last is found, so that they differ.
fn free_addresses(count: u16) -> io::Result<Vec<SocketAddr>> {
    let sockets: Vec<UdpSocket> =
        (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    sockets.iter().map(UdpSocket::local_addr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Fold;
    use crate::types::Index;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_written_outlives_its_leader_and_a_stop_of_all_nodes() {
        let names = || {
            Fold::new(Vec::new(), |names: &mut Vec<String>, name: String| {
                names.push(name);
                names.len() as u64
            })
        };
        let mut cluster = Cluster::in_process(3, names).unwrap();
        let client = cluster.client().unwrap();
        assert_eq!(client.apply::<u64>(&"ada".to_owned(), PATIENCE), Ok(1));
        let leader = cluster.leader(PATIENCE).unwrap();
        cluster.stop(leader).unwrap();
        assert_eq!(client.apply::<u64>(&"bob".to_owned(), PATIENCE), Ok(2));
        cluster.start(leader).unwrap();
        let ids: Vec<NodeId> = cluster.nodes().map(|(id, _)| id).collect();
        ids.iter().for_each(|id| cluster.stop(*id).unwrap());
        ids.iter().for_each(|id| cluster.start(*id).unwrap());
        assert_eq!(client.ask(&(), PATIENCE), Ok(vec!["ada".to_owned(), "bob".to_owned()]));

        // The same client watches the commands, from the beginning of the log.
        let mut watch = client.watch(Index(0), "");
        for name in ["ada", "bob"] {
            use crate::machine::Codec as _;
            let event = watch.next(PATIENCE).unwrap().unwrap();
            assert_eq!(String::from_bytes(&event.event).as_deref(), Ok(name));
        }
    }

    #[test]
    fn a_command_that_is_none_is_not_understood() {
        let cluster = Cluster::in_process(1, || Fold::new(0_u64, |sum, add: u64| *sum += add)).unwrap();
        let client = cluster.client().unwrap();
        let refused = client.apply::<()>(&"five".to_owned(), PATIENCE);
        assert_eq!(refused, Err(super::super::CallError::NotUnderstood));
        // The bytes of 0 would be an empty text as well.
        assert_eq!(client.apply(&5_u64, PATIENCE), Ok(()));
        assert_eq!(client.ask::<String>(&(), PATIENCE), Err(super::super::CallError::Unreadable));
    }
}
