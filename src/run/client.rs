//! The event loop of one client.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::client::{Answer, Client, ClientConfig, ClientError, OperationId, Output};
use crate::membership::MembershipChange;
use crate::run::keys::random_entropy;
use crate::run::mailbox::Mailbox;
use crate::run::net::Net;
use crate::run::random_rng;
use crate::seal::SealMode;
use crate::time::Instant;
use crate::types::{Index, NodeId};
use crate::wire::client::ReadLevel;
use crate::wire::fault::FaultRequest;
use crate::wire::transfer::Pull;

/// Who waits for an operation to end.
pub trait Respond: Send {
    /// Takes the end.
    fn respond(self, result: Result<Answer, ClientError>);
}

/// What other threads ask of the loop.
#[derive(Debug)]
pub enum Request<R> {
    /// Carry this out once.
    Propose {
        /// The machine's command.
        command: Vec<u8>,
        /// When to give up.
        timeout: Duration,
        /// Who waits.
        respond: R,
    },
    /// Ask the machine.
    Read {
        /// The machine's query.
        query: Vec<u8>,
        /// How fresh the answer must be.
        level: ReadLevel,
        /// When to give up.
        timeout: Duration,
        /// Who waits.
        respond: R,
    },
    /// Ask one node how it is.
    Status {
        /// Which of the client's addresses.
        server: usize,
        /// When to give up.
        timeout: Duration,
        /// Who waits.
        respond: R,
    },
    /// Have one node take a snapshot, or ask how far it is.
    TakeSnapshot {
        /// Which of the client's addresses.
        server: usize,
        /// 0 to take one.
        through: Index,
        /// When to give up.
        timeout: Duration,
        /// Who waits.
        respond: R,
    },
    /// Let the links of one node do this to datagrams.
    SetFaults {
        /// Which of the client's addresses.
        server: usize,
        /// What.
        request: FaultRequest,
        /// When to give up.
        timeout: Duration,
        /// Who waits.
        respond: R,
    },
    /// Get a range of a snapshot's file from one node.
    Pull {
        /// Which of the client's addresses.
        server: usize,
        /// What.
        pull: Pull,
        /// When to give up.
        timeout: Duration,
        /// Who waits.
        respond: R,
    },
    /// Ask the leader who is in the cluster.
    Members {
        /// When to give up.
        timeout: Duration,
        /// Who waits.
        respond: R,
    },
    /// Have the leader change that.
    ChangeMembership {
        /// The version that it is meant for, if that matters.
        expected: Option<Index>,
        /// How.
        change: MembershipChange,
        /// When to give up.
        timeout: Duration,
        /// Who waits.
        respond: R,
    },
    /// Have the leader hand over.
    TransferLeadership {
        /// To whom, if that matters.
        to: Option<NodeId>,
        /// When to give up.
        timeout: Duration,
        /// Who waits.
        respond: R,
    },
    /// Wait for what the machine carries out.
    Watch {
        /// What is known of already.
        after: Index,
        /// What the watcher cares for.
        filter: Vec<u8>,
        /// When to give up.
        timeout: Duration,
        /// Who waits.
        respond: R,
    },
    /// End the loop; whoever waits is let go without an answer.
    Stop,
}

/// A client of the cluster that answers at `addresses`, and a socket for it.
///
/// # Errors
/// When no socket or randomness is to be had.
///
/// # Panics
/// When `addresses` is empty, or `config.rpc` does not validate.
pub fn open(addresses: &[SocketAddr], config: ClientConfig) -> io::Result<(Client, Net)> {
    let net = Net::bind(any_address(addresses))?;
    let client = client(addresses, config, net.now())?;
    Ok((client, net))
}

/// Where a socket is bound that shall reach `addresses`.
///
/// # Panics
/// When `addresses` is empty.
#[must_use]
pub fn any_address(addresses: &[SocketAddr]) -> SocketAddr {
    // IPv6 sockets reach IPv4 addresses only in mapped form; a list of both families needs the first's.
    match addresses.first().expect("a client needs at least one address") {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// A client of the cluster that answers at `addresses`, for those who have a socket for it.
///
/// # Errors
/// When no randomness is to be had.
///
/// # Panics
/// When `addresses` is empty, or `config.rpc` does not validate.
pub fn client(addresses: &[SocketAddr], mut config: ClientConfig, now: Instant) -> io::Result<Client> {
    if config.rpc.seal.mode != SealMode::Off {
        config.rpc.seal.entropy = Some(random_entropy()?);
    }
    Ok(Client::new(config, addresses, random_rng()?, now))
}

/// Hands `client` what has come for it and the deadlines that have passed, and returns the time. Whoever drives it
/// takes its outputs next.
pub fn hear(client: &mut Client, net: &mut Net) -> Instant {
    let due = client.poll_timeout();
    net.receive(|now, from, bytes| client.handle_datagram(now, from, bytes));
    let now = net.now();
    // What has just come in wants no more than the turn that follows.
    if due.is_some_and(|at| at <= now) {
        client.handle_timeout(now);
    }
    now
}

/// Runs `client` on `net` until it is told to stop or the poll fails.
pub fn run<R: Respond>(
    mut client: Client,
    mut net: Net,
    mailbox: &Arc<Mailbox<Request<R>>>,
) -> io::Result<()> {
    let mut waiting: BTreeMap<OperationId, R> = BTreeMap::new();
    let mut requests = Vec::new();
    loop {
        net.wait(client.poll_timeout())?;
        mailbox.take(&mut requests);
        let now = net.now();
        for request in requests.drain(..) {
            let (id, respond) = match request {
                Request::Propose { command, timeout, respond } => {
                    (client.propose(command, now + timeout), respond)
                }
                Request::Read { query, level, timeout, respond } => {
                    (client.read(query, level, now + timeout), respond)
                }
                Request::Status { server, timeout, respond } => {
                    (client.status(server, now + timeout), respond)
                }
                Request::TakeSnapshot { server, through, timeout, respond } => {
                    (client.take_snapshot(server, through, now + timeout), respond)
                }
                Request::SetFaults { server, request, timeout, respond } => {
                    (client.set_faults(server, request, now + timeout), respond)
                }
                Request::Pull { server, pull, timeout, respond } => {
                    (client.pull(server, pull, now + timeout), respond)
                }
                Request::Watch { after, filter, timeout, respond } => {
                    (client.watch(after, filter, now + timeout), respond)
                }
                Request::Members { timeout, respond } => (client.members(now + timeout), respond),
                Request::ChangeMembership { expected, change, timeout, respond } => {
                    (client.change_membership(expected, change, now + timeout), respond)
                }
                Request::TransferLeadership { to, timeout, respond } => {
                    (client.transfer_leadership(to, now + timeout), respond)
                }
                Request::Stop => return Ok(()),
            };
            waiting.insert(id, respond);
        }
        let now = hear(&mut client, &mut net);
        client.turn(now);
        while let Some(output) = client.poll_output() {
            match output {
                Output::Transmit { to, bytes } => net.queue(to, bytes),
                Output::Done { id, result } => {
                    if let Some(respond) = waiting.remove(&id) {
                        respond.respond(result);
                    }
                }
            }
        }
        net.send(|to, error| client.handle_send_error(now, to, error));
    }
}
