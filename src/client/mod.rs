//! The whole client, without I/O: finding the leader, keeping a session, trying again.
//!
//! An application offers *operations*: writes, reads and questions about a node. Each has a deadline and ends
//! exactly once, with an answer or with an error that says whether it may have happened.
//!
//! # Finding the leader
//! The client knows addresses. It says hello to all of them, learns the cluster id from the first answer (another
//! id later is an error), and sends to the node it believes to lead. A node that does not lead answers with a
//! redirect; an address the client did not know is added to its list. Without a known leader it asks its nodes in
//! turn, with a pause between rounds so that an election is not disturbed.
//!
//! # Trying again
//! An attempt ends with an answer, with a failed call (the node restarted), when the node's link falls silent, or
//! after `attempt_timeout`. The next
//! attempt is a *new call*, usually to another node, with the same session and sequence: the calls below remove
//! duplicates only within one pair of incarnations, the replicated session does so for ever. A read is simply
//! asked again.
//!
//! # Sessions
//! The first is opened when the first write needs it, further ones when more writes are open than the windows of
//! those before have room for; writes wait meanwhile. A window hands out sequences and tells, with every write,
//! which answers have arrived, so that the cluster can forget them. When the cluster has evicted a session, writes
//! sent under it end with "outcome unknown", since an attempt may have been carried out before; writes never sent
//! go into another session.
//!
//! # Changing the cluster
//! Membership changes and transfers are asked for like writes, without a session, and then watched until they have
//! settled; see `admin`.
//!
//! # Watching
//! Questions that wait at a node until something is carried out; see `watch`.
//!
//! # Reading elsewhere
//! Reads go to the leader, but for those of level *any node*, which go to the servers in turn: each asks the leader how
//! far it must have applied. One that cannot sends the client to the leader.

mod admin;
mod attempt;
mod error;
mod operation;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

pub use error::{ClientError, Outcome, Phase};
pub use operation::{Answer, OperationId, WatchedEvent};

use crate::rng::Rng;
use crate::rpc::{Event, LinkId, Local, Output as RpcOutput, Rpc, RpcConfig, SendErrorKind};
use crate::session::Window;
use crate::time::{Instant, earliest};
use crate::types::{BootNonce, CallId, Index, NodeId, SessionId};
use crate::wire::client::ReadLevel;
use crate::wire::fault::FaultRequest;
use crate::wire::transfer::Pull;
use crate::wire::{DropReason, SealRefusal};
use operation::{Kind, Operation};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// How long one attempt waits for its answer before another node is asked. Too short and a slow disk looks
    /// like a dead leader; too long and a failover takes that long to notice.
    pub attempt_timeout: Duration,
    /// The pause before the next attempt when no node led. Too short and a leaderless cluster is pestered; too
    /// long and it delays the first write after an election.
    pub retry_pause: Duration,
    /// The most operations under way at once; more are refused.
    pub operations_max: usize,
    /// The most sessions held open at once. Each has room for a few dozen open writes; the cluster's table holds
    /// a bounded number for all clients together.
    pub sessions_max: usize,
    /// The layer below.
    pub rpc: RpcConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_millis(300),
            retry_pause: Duration::from_millis(5),
            operations_max: 65_536,
            sessions_max: 64,
            rpc: RpcConfig::default(),
        }
    }
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Output {
    /// Send this datagram.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// The UDP payload.
        bytes: Vec<u8>,
    },
    /// An operation has ended.
    Done {
        /// Which.
        id: OperationId,
        /// How.
        result: Result<Answer, ClientError>,
    },
}

/// One node the client knows of.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    link: LinkId,
    /// Known once its hello was answered.
    node: Option<NodeId>,
    /// True from when its link fell silent to the next sign of life.
    is_silent: bool,
}

/// A session and the writes open in it.
#[derive(Debug)]
struct Session {
    id: SessionId,
    window: Window,
}

/// The client machine; see the module's page.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    rpc: Rpc,
    servers: Vec<Server>,
    /// The server believed to lead.
    leader: Option<usize>,
    /// The server to ask next when none is believed to lead.
    next_server: usize,
    /// The sessions by the number of the operation that opened them; at most `sessions_max`.
    sessions: BTreeMap<OperationId, Session>,
    /// The operation of the client's own that asks for another session.
    opening: Option<OperationId>,
    /// Writes that wait for a session with room in its window; the one offered first goes first.
    parked: BTreeSet<OperationId>,
    /// Operations that wait for an open call to end, because the layer below takes no more.
    crowded: BTreeSet<OperationId>,
    /// Operations to attempt in this turn.
    ready: VecDeque<OperationId>,
    operations: BTreeMap<OperationId, Operation>,
    /// The next instant each operation must be looked at; exactly one per operation.
    timers: BTreeSet<(Instant, OperationId)>,
    calls: BTreeMap<(LinkId, CallId), OperationId>,
    next_operation: u64,
    /// What a node said of this client's greeting, if any did.
    seal_refused: Option<SealRefusal>,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client of the cluster that answers at `addresses`.
    ///
    /// # Panics
    /// When there are none, or `config.rpc` does not validate.
    #[must_use]
    pub fn new(config: ClientConfig, addresses: &[SocketAddr], mut rng: Rng, now: Instant) -> Self {
        assert!(!addresses.is_empty(), "a client needs at least one address");
        let local = Local::client(BootNonce(rng.bytes16()));
        let mut rpc = Rpc::new(config.rpc.clone(), local, rng.fork(), now)
            .unwrap_or_else(|error| panic!("rpc settings: {error}"));
        let server = |&address| Server::new(address, rpc.connect(now, address, None), None);
        let servers = addresses.iter().map(server).collect();
        Self {
            config,
            rpc,
            servers,
            leader: None,
            next_server: 0,
            sessions: BTreeMap::new(),
            opening: None,
            parked: BTreeSet::new(),
            crowded: BTreeSet::new(),
            ready: VecDeque::new(),
            operations: BTreeMap::new(),
            timers: BTreeSet::new(),
            calls: BTreeMap::new(),
            next_operation: 0,
            seal_refused: None,
            outputs: VecDeque::new(),
        }
    }

    /// Offers a command for the replicated machine; carried out at most once.
    pub fn propose(&mut self, command: Vec<u8>, deadline: Instant) -> OperationId {
        self.begin(Kind::Write { command, place: None }, deadline)
    }

    /// Asks the machine.
    pub fn read(&mut self, query: Vec<u8>, level: ReadLevel, deadline: Instant) -> OperationId {
        self.begin(Kind::Read { query, level }, deadline)
    }

    /// Asks the node at the `server`th of the addresses given how it is.
    ///
    /// # Panics
    /// When there are fewer addresses.
    pub fn status(&mut self, server: usize, deadline: Instant) -> OperationId {
        assert!(server < self.servers.len(), "server {server} of {}", self.servers.len());
        self.begin(Kind::Status { server }, deadline)
    }

    /// Has the node at the `server`th of the addresses given take a snapshot of its own, or, with an index, tell how
    /// far the one through it is.
    ///
    /// # Panics
    /// When there are fewer addresses.
    pub fn take_snapshot(&mut self, server: usize, through: Index, deadline: Instant) -> OperationId {
        assert!(server < self.servers.len(), "server {server} of {}", self.servers.len());
        self.begin(Kind::TakeSnapshot { server, through }, deadline)
    }

    /// Lets the links of the node at the `server`th of the addresses given do this to datagrams, if it was started for
    /// that. `[W-110]`
    ///
    /// # Panics
    /// When there are fewer addresses.
    pub fn set_faults(&mut self, server: usize, request: FaultRequest, deadline: Instant) -> OperationId {
        assert!(server < self.servers.len(), "server {server} of {}", self.servers.len());
        self.begin(Kind::SetFaults { server, request }, deadline)
    }

    /// Asks the node at the `server`th of the addresses given for a range of a snapshot's file. `[W-66]`
    ///
    /// # Panics
    /// When there are fewer addresses.
    pub fn pull(&mut self, server: usize, pull: Pull, deadline: Instant) -> OperationId {
        assert!(server < self.servers.len(), "server {server} of {}", self.servers.len());
        self.begin(Kind::Pull { server, pull }, deadline)
    }

    /// Hands in a datagram; tells why, if it is dropped.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Option<DropReason> {
        self.rpc.handle_datagram(now, from, bytes)
    }

    /// Gives a datagram's vector to be filled again.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        self.rpc.recycle(bytes);
    }

    /// Tells that a datagram could not be sent. It counts as lost.
    pub fn handle_send_error(&mut self, now: Instant, to: SocketAddr, kind: SendErrorKind) {
        self.rpc.handle_send_error(now, to, kind);
    }

    /// Tells that time has passed; harmless when none has.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.rpc.handle_timeout(now);
        // An answer that has come must not be overtaken by the deadline it meets.
        self.take_in(now);
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            self.operation_timed_out(now, id);
        }
    }

    /// Ends a turn: acts on what came in, attempts what is ready, packs what goes out. Drain
    /// [`Self::poll_output`] afterwards.
    pub fn turn(&mut self, now: Instant) {
        loop {
            self.take_in(now);
            let Some(id) = self.ready.pop_front().or_else(|| self.unpark(now)) else { break };
            self.attempt(now, id);
        }
        self.rpc.flush(now);
        self.take_in(now);
    }

    /// Acts on all that the layer below has to say.
    fn take_in(&mut self, now: Instant) {
        while let Some(output) = self.rpc.poll_output() {
            match output {
                RpcOutput::Transmit { to, bytes } => self.outputs.push_back(Output::Transmit { to, bytes }),
                RpcOutput::Event(event) => self.on_event(now, event),
            }
        }
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own =
            if self.ready.is_empty() { self.timers.first().map(|&(at, _)| at) } else { Some(Instant::ZERO) };
        earliest(own, self.rpc.poll_timeout())
    }

    /// How many operations are under way.
    #[must_use]
    pub fn operation_count(&self) -> usize {
        self.operations.len()
    }

    fn begin(&mut self, kind: Kind, deadline: Instant) -> OperationId {
        if self.operations.len() >= self.config.operations_max {
            return self.refuse(ClientError::Busy);
        }
        self.begin_own(kind, deadline)
    }

    /// An operation that ends before it begins.
    fn refuse(&mut self, error: ClientError) -> OperationId {
        let id = self.next_operation();
        self.outputs.push_back(Output::Done { id, result: Err(error) });
        id
    }

    fn next_operation(&mut self) -> OperationId {
        let id = OperationId(self.next_operation);
        self.next_operation += 1;
        id
    }

    /// An operation outside the bound: what those within it wait for must not be refused on their account.
    fn begin_own(&mut self, kind: Kind, deadline: Instant) -> OperationId {
        let id = self.next_operation();
        self.timers.insert((deadline, id));
        self.operations.insert(id, Operation::new(kind, deadline));
        self.ready.push_back(id);
        id
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected { link, peer } => self.on_connected(link, &peer),
            Event::Reply { link, call, body } => {
                self.make_room();
                if let Some(id) = self.calls.remove(&(link, call)) {
                    self.on_reply(now, id, link, &body);
                }
            }
            Event::CallFailed { link, call, reason } => {
                self.make_room();
                if let Some(id) = self.calls.remove(&(link, call)) {
                    self.on_call_failed(now, id, link, reason);
                }
            }
            Event::Refused { reason, .. } => self.seal_refused = Some(reason),
            Event::Closed { link, reason } => self.on_closed(now, link, reason),
            Event::Silent { link } => self.on_silent(now, link),
            Event::Heard { link } => self.on_sign_of_life(link),
            // Nobody calls a client, and it has no members to know copies of.
            Event::Request { .. } | Event::Cancelled { .. } | Event::Notice { .. } | Event::Copied { .. } => {
            }
        }
    }
}
