//! Becoming a cluster, or part of one: what a node with a blank data folder does before it is a [`super::Node`].
//!
//! # Founding
//! Founding is one act of *all* voters. Each blank node says hello to the others under no cluster, showing its
//! store id and a digest of its voter list. The one with the lowest id collects all of them, draws the cluster
//! id, writes the *founding record* that binds every id to its store and address, and is founded once that is
//! durable.
//!
//! A founded node answers a blank one's hello with its cluster id. Whoever sees such an answer asks that node, as
//! a client would, for its founding record. A node takes the first record that binds its own store, and never
//! another: a record without it means that the cluster was founded without this data folder. A wiped node can
//! therefore never found again, nor come back as the voter it was.
//!
//! Each blank node keeps a question for the status open at the others, which a blank node never answers: so it
//! goes on probing them, and meets the lowest again as soon as that one is founded.
//!
//! Nodes that were restored from a backup found a cluster in the same way, all from the same one; see
//! [`crate::store::Store::format_restored`].
//!
//! # Joining
//! A node that joins takes the cluster id from the first founded node that answers. It is no voter until the
//! membership in the log says so.
//!
//! Either way the driver makes the outcome durable and opens the data folder again, under a new incarnation, as a
//! founded node.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::config::Timing;
use crate::founding::FoundingRecord;
use crate::hash::Fnv1a;
use crate::membership::{MEMBERS_MAX, Member, Members, Membership};
use crate::mutant::{self, Mutant};
use crate::rng::Rng;
use crate::rpc::{
    CloseReason, Event, LinkId, Local, LocalRole, Output as RpcOutput, PeerInfo, Rpc, RpcConfig,
    SendErrorKind,
};
use crate::snapshot::SnapshotMeta;
use crate::time::{Instant, earliest};
use crate::types::{BootNonce, ClusterId, GroupId, Identity, Incarnation, NodeId, PacketNumber, StoreId};
use crate::wire::client::{ClientReply, ClientRequest, decode_reply, encode_request};
use crate::wire::{Class, DropReason, Greeting};

/// What a blank node is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// One of the founders of a new cluster.
    Found {
        /// All founders and their advertised addresses, this node included, by id.
        voters: BTreeMap<NodeId, String>,
        /// The backup that the cluster begins with; every founder must have been restored from the same.
        restored: Option<SnapshotMeta>,
    },
    /// A node of a cluster that exists.
    Join,
}

impl Plan {
    /// FNV-1a 64 over the lines `id=address\n` of the voter list, so that equal lists have equal digests, and over a
    /// line with what was restored, if anything. Joining has none. [W-25] [W-67]
    #[must_use]
    pub fn digest(&self) -> Option<u64> {
        let Self::Found { voters, restored } = self else { return None };
        let line = |(id, address): (&NodeId, &String)| format!("{}={address}\n", id.as_u16());
        let restored = restored.map(|meta| format!("restored {} {:016x}\n", meta.id.index, meta.digest));
        let lines = voters.iter().map(line).chain(restored);
        Some(lines.fold(Fnv1a::default(), |hash, line| hash.bytes(line.as_bytes())).finish())
    }
}

/// What the driver is to do, or to tell.
#[derive(Debug)]
pub enum Output {
    /// Send this datagram.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// The UDP payload.
        bytes: Vec<u8>,
    },
    /// The node is a founder: make the record durable. This machine is done.
    Founded(FoundingRecord),
    /// The node belongs to this cluster, as no voter yet: make that durable. This machine is done.
    Joined(ClusterId),
    /// Something the operator should know; said once per peer.
    Notice(FoundingNotice),
}

/// Why founding does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundingNotice {
    /// A peer was started with another voter list, or restored from another backup.
    VotersDiffer {
        /// The peer's address.
        peer: SocketAddr,
    },
    /// The cluster is founded, and not with this node's store: it was wiped, or never part of it.
    FoundedWithoutUs {
        /// Who said so.
        peer: SocketAddr,
        /// The cluster.
        cluster: ClusterId,
    },
}

impl fmt::Display for FoundingNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VotersDiffer { peer } => {
                write!(
                    f,
                    "{peer} was started with another list of voters, or not restored from the same backup"
                )
            }
            Self::FoundedWithoutUs { peer, cluster } => {
                write!(f, "{peer} belongs to cluster {cluster}, which was founded without this data folder")
            }
        }
    }
}

/// Who the blank node is.
#[derive(Clone, Copy, Debug)]
pub struct Blank {
    /// Its id and data folder.
    pub identity: Identity,
    /// This boot.
    pub incarnation: Incarnation,
    /// Drawn for this boot.
    pub boot_nonce: BootNonce,
}

/// The machine of a blank node; see the module's page. Driven like a [`super::Node`], until it says
/// [`Output::Founded`] or [`Output::Joined`].
#[derive(Debug)]
pub struct Founding {
    plan: Plan,
    identity: Identity,
    config: RpcConfig,
    rpc: Rpc,
    rng: Rng,
    /// Where this node asks of itself.
    contacts: BTreeSet<SocketAddr>,
    /// What asks each founded node for the founding record, as a client: the contacts, and at most [`ASKERS_MAX`]
    /// others that showed up by themselves.
    askers: BTreeMap<SocketAddr, Rpc>,
    /// The founders collected so far, this node included.
    founders: BTreeMap<NodeId, StoreId>,
    /// Of whom something was said; at most [`NOTICED_MAX`], whoever comes later is passed over.
    noticed: BTreeSet<SocketAddr>,
    outputs: VecDeque<Output>,
}

impl Founding {
    /// A blank node that asks at `contacts`: for founding, the resolved addresses of the other voters by id; for
    /// joining, any nodes of the cluster.
    ///
    /// # Panics
    /// When `config` does not validate.
    #[must_use]
    pub fn new(
        plan: Plan,
        blank: Blank,
        contacts: &[(Option<NodeId>, SocketAddr)],
        config: RpcConfig,
        mut rng: Rng,
        now: Instant,
    ) -> Self {
        let local = Local {
            greeting: plan.digest().map_or(Greeting::Plain, |digest| Greeting::Founding { digest }),
            ..local(blank, ClusterId::ZERO, &Timing::default())
        };
        let mut rpc = Rpc::new(config.clone(), local, rng.fork(), now)
            .unwrap_or_else(|error| panic!("rpc settings: {error}"));
        for &(id, address) in contacts {
            rpc.connect(now, address, id);
        }
        let founders = BTreeMap::from([(blank.identity.node, blank.identity.store)]);
        let mut founding = Self {
            plan,
            identity: blank.identity,
            config,
            rpc,
            rng,
            contacts: contacts.iter().map(|(_, address)| *address).collect(),
            askers: BTreeMap::new(),
            founders,
            noticed: BTreeSet::new(),
            outputs: VecDeque::new(),
        };
        founding.found_when_complete();
        founding
    }

    /// Hands in a datagram; tells why, if it is dropped.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Option<DropReason> {
        // Where a founded node was asked, a blank one may speak meanwhile. Each machine drops what is the other's.
        let asker = self.askers.get_mut(&from);
        let was_taken = asker.is_some_and(|asker| asker.handle_datagram(now, from, bytes).is_none());
        self.rpc.handle_datagram(now, from, bytes).filter(|_| !was_taken)
    }

    /// Tells that a datagram could not be sent.
    pub fn handle_send_error(&mut self, now: Instant, to: SocketAddr, kind: SendErrorKind) {
        if let Some(asker) = self.askers.get_mut(&to) {
            asker.handle_send_error(now, to, kind);
        }
        self.rpc.handle_send_error(now, to, kind);
    }

    /// Tells that time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.rpc.handle_timeout(now);
        self.askers.values_mut().for_each(|asker| asker.handle_timeout(now));
    }

    /// Ends a turn.
    pub fn turn(&mut self, now: Instant) {
        self.pump(now);
        self.rpc.flush(now);
        self.askers.values_mut().for_each(|asker| asker.flush(now));
        self.pump(now);
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.askers.values().fold(self.rpc.poll_timeout(), |next, asker| earliest(next, asker.poll_timeout()))
    }

    fn pump(&mut self, now: Instant) {
        while let Some(output) = self.rpc.poll_output() {
            match output {
                RpcOutput::Transmit { to, bytes } => self.outputs.push_back(Output::Transmit { to, bytes }),
                RpcOutput::Event(event) => self.on_event(now, event),
            }
        }
        let mut replies = Vec::new();
        for (address, asker) in &mut self.askers {
            while let Some(output) = asker.poll_output() {
                match output {
                    RpcOutput::Transmit { to, bytes } => {
                        self.outputs.push_back(Output::Transmit { to, bytes })
                    }
                    RpcOutput::Event(Event::Connected { link, .. }) => {
                        ask(asker, now, link, &ClientRequest::Founding);
                    }
                    RpcOutput::Event(Event::Reply { body, .. }) => replies.push((*address, body)),
                    // The contact has rebooted, and will be connected anew.
                    RpcOutput::Event(_) => {}
                }
            }
        }
        for (address, body) in replies {
            self.on_reply(address, &body);
        }
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected { link, peer } => {
                // A blank node's question stays open on purpose, see the module's page.
                ask(&mut self.rpc, now, link, &ClientRequest::Status);
                self.collect(&peer);
            }
            Event::Closed { reason: CloseReason::AlreadyFounded { cluster, peer }, .. } => match self.plan {
                Plan::Join => self.outputs.push_back(Output::Joined(cluster)),
                Plan::Found { .. } if self.may_ask(peer.address) => {
                    let local = Local::client(BootNonce(self.rng.bytes16()));
                    let mut asker = Rpc::new(self.config.clone(), local, self.rng.fork(), now)
                        .unwrap_or_else(|error| panic!("rpc settings: {error}"));
                    asker.connect(now, peer.address, None);
                    self.askers.insert(peer.address, asker);
                }
                Plan::Found { .. } => {}
            },
            // A failed call is followed by the peer's next boot or the end of the link.
            _ => {}
        }
    }

    /// Anyone can say hello as a node of some cluster, from any number of addresses.
    fn may_ask(&self, address: SocketAddr) -> bool {
        self.contacts.contains(&address)
            || self.askers.contains_key(&address)
            || self.askers.len() < ASKERS_MAX
    }

    fn collect(&mut self, peer: &PeerInfo) {
        let (Plan::Found { voters, .. }, Some(identity)) = (&self.plan, peer.identity) else { return };
        let is_equal =
            self.plan.digest().is_some_and(|digest| peer.greeting == Greeting::Founding { digest });
        if !is_equal || !voters.contains_key(&identity.node) {
            return self.notice(peer.address, FoundingNotice::VotersDiffer { peer: peer.address });
        }
        // The latest answer counts: a founder that was wiped meanwhile has another store.
        self.founders.insert(identity.node, identity.store);
        self.found_when_complete();
    }

    /// The founder of the lowest id, once it knows all, writes the record.
    fn found_when_complete(&mut self) {
        let Plan::Found { voters, .. } = &self.plan else { return };
        let is_lowest = voters.first_key_value().is_some_and(|(lowest, _)| *lowest == self.identity.node);
        if !is_lowest || self.founders.len() < voters.len() {
            return;
        }
        let member = |(id, address): (&NodeId, &String)| {
            (*id, Member { store: self.founders[id], address: address.clone() })
        };
        let members: Members = voters.iter().map(member).collect();
        // Tag 0 means "no cluster" on the wire; one id in four billion has it.
        let mut cluster = ClusterId(self.rng.bytes16());
        while cluster.tag() == 0 {
            cluster = ClusterId(self.rng.bytes16());
        }
        let record = FoundingRecord { cluster, membership: Membership::of_voters(members) };
        assert!(record.binds(self.identity), "a founder founds with its own store");
        self.outputs.push_back(Output::Founded(record));
    }

    fn on_reply(&mut self, address: SocketAddr, body: &[u8]) {
        match decode_reply(body) {
            Ok((_, ClientReply::Founded(record)))
                if record.binds(self.identity) || mutant::is(Mutant::I1) =>
            {
                self.outputs.push_back(Output::Founded(record));
            }
            Ok((_, ClientReply::Founded(record))) => {
                let cluster = record.cluster;
                self.notice(address, FoundingNotice::FoundedWithoutUs { peer: address, cluster });
            }
            // A node that joined has no record; another one has.
            _ => {}
        }
    }

    fn notice(&mut self, peer: SocketAddr, what: FoundingNotice) {
        if self.noticed.len() < NOTICED_MAX && self.noticed.insert(peer) {
            self.outputs.push_back(Output::Notice(what));
        }
    }
}

const ASKERS_MAX: usize = MEMBERS_MAX;
const NOTICED_MAX: usize = 1024;

fn ask(rpc: &mut Rpc, now: Instant, link: LinkId, request: &ClientRequest<'_>) {
    let mut body = Vec::new();
    encode_request(GroupId(0), request, &mut body);
    // A peer that grants no room for a question, or was asked too often, gets none: it says so in its hello, and
    // whatever it says must not end this node.
    rpc.call(now, link, Class::Again, body).ok();
}

/// How a node of this boot shows itself.
pub(super) fn local(boot: Blank, cluster: ClusterId, timing: &Timing) -> Local {
    Local {
        role: LocalRole::Node { identity: boot.identity, incarnation: boot.incarnation },
        boot_nonce: boot.boot_nonce,
        cluster,
        greeting: Greeting::Plain,
        election_timeout_min: timing.election_timeout_min,
        election_timeout_max: timing.election_timeout_max,
        heartbeat: timing.heartbeat_interval,
        first_packet: PacketNumber(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Trust;
    use std::time::Duration;

    const NOW: Instant = Instant::from_nanos(1_000);

    fn address(number: u32) -> SocketAddr {
        SocketAddr::from((number.to_be_bytes(), 7))
    }

    /// Strangers that say hello as nodes of clusters, from more addresses than anybody has nodes.
    #[test]
    fn whoever_shows_up_at_a_blank_node_is_asked_and_noticed_in_bounded_room_and_contacts_always() {
        let voters = (1..=2).map(|n| (NodeId::new(n).unwrap(), address(u32::from(n)).to_string())).collect();
        let plan = Plan::Found { voters, restored: None };
        let identity = Identity { node: NodeId::MIN, store: StoreId([1; 16]) };
        let blank = Blank { identity, incarnation: Incarnation(1), boot_nonce: BootNonce([1; 16]) };
        let contacts = [(NodeId::new(2), address(2))];
        let mut founding =
            Founding::new(plan, blank, &contacts, RpcConfig::default(), Rng::from_seed(1), NOW);
        let link = founding.rpc.connect(NOW, address(2), None);
        let says = |founding: &mut Founding, number: u32| {
            let mut peer = crate::rpc::PeerInfo {
                identity: Some(Identity { node: NodeId::new(9).unwrap(), store: StoreId([9; 16]) }),
                incarnation: Incarnation(1),
                boot_nonce: BootNonce([9; 16]),
                cluster: ClusterId([7; 16]),
                greeting: Greeting::Plain,
                election_timeout_min: Duration::ZERO,
                election_timeout_max: Duration::ZERO,
                heartbeat: Duration::ZERO,
                address: address(number),
                trust: Trust::None,
            };
            let reason = CloseReason::AlreadyFounded { cluster: peer.cluster, peer };
            founding.on_event(NOW, Event::Closed { link, reason });
            peer.cluster = ClusterId::ZERO;
            founding.on_event(NOW, Event::Connected { link, peer });
        };
        (1000..1000 + 2 * NOTICED_MAX as u32).for_each(|number| says(&mut founding, number));
        assert_eq!((founding.askers.len(), founding.noticed.len()), (ASKERS_MAX, NOTICED_MAX));
        says(&mut founding, 2);
        assert!(founding.askers.contains_key(&address(2)), "a contact is asked whoever else there is");
        let notices = founding.outputs.iter().filter(|output| matches!(output, Output::Notice(_)));
        assert_eq!(notices.count(), NOTICED_MAX);
    }
}
