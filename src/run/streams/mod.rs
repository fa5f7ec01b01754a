//! TCP in the place of UDP between nodes: a control experiment.
//!
//! What a lost packet costs over UDP can be laid to this protocol only if the same machine, the same datagrams and
//! the same clocks are seen with another transport below. Here each datagram between two nodes is a frame of a
//! stream. Clients stay on UDP: what lies between them and the nodes is not what is compared.
//!
//! ```text
//! greeting   "raftgram"  port u16        from who dialled: where it listens, at the address that it dials from
//! frame      length u16  datagram        1 to 65,507 bytes; both ways, any number
//! ```
//!
//! A stream is dialled when there is something to send, and both nodes send on it from then on. When two nodes dial
//! each other at once, the one that the lower address dialled stays, and the other node ends its own. What was under
//! way on a stream that ends is lost, as datagrams may be: the RPC layer sends it again. It does so too while a
//! stream waits for the kernel's retransmission, since it knows nothing of streams; those come late and are taken for
//! the duplicates they are.
//!
//! A greeting proves nothing, as the source of a datagram proves nothing: who speaks is for the layers above. All
//! that can grow has a bound: [`QUEUED_BYTES_MAX`] on what waits to be sent, [`STREAMS_MAX`] on streams, a frame on
//! what waits for its end. Left out: TLS (the seal is in the datagrams), and telling a stream's end to the machine,
//! which finds out by its own clocks.

mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use slog::{Logger, debug, warn};

use super::client_socket::{Heard, is_for_client, is_from_client};
use super::socket::Outgoing;
use crate::rpc::SendErrorKind;
use crate::time::Instant;
use stream::{Ended, Stream};

/// What may wait in one stream for the kernel to take it: as much as a socket of UDP is given.
const QUEUED_BYTES_MAX: usize = 8 << 20;

/// Streams at once, those of nodes that have yet to greet too. One more ends the one that was heard least.
const STREAMS_MAX: usize = 1024;

/// Who was sent to for so long without a word is dialled again: after a partition the kernel's retransmission may be
/// minutes away, while a new stream is one round trip away.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What one system call reads at most.
const READ_BYTES: usize = 64 << 10;

/// All streams of a node.
#[derive(Debug)]
pub(super) struct Streams {
    listener: TcpListener,
    /// The listener's, which all that this node dials is greeted with.
    port: u16,
    registry: Registry,
    streams: BTreeMap<Token, Stream>,
    /// On which stream it goes to a node's address.
    routes: BTreeMap<SocketAddr, Token>,
    /// The listener's token; those of streams come after it and are never used again.
    first: Token,
    next: usize,
    /// An edge-triggered poll does not say twice that somebody dials.
    can_accept: bool,
    buffer: Box<[u8]>,
    /// Who is answered by UDP.
    clients: Heard,
    /// It is said once.
    has_refused: bool,
    log: Logger,
}

impl Streams {
    /// Listens at `address`; tokens from `first` on are its own.
    pub(super) fn bind(
        address: SocketAddr,
        registry: &Registry,
        first: Token,
        log: &Logger,
    ) -> io::Result<Self> {
        let mut listener = TcpListener::bind(address)?;
        registry.register(&mut listener, first, Interest::READABLE)?;
        Ok(Self {
            port: listener.local_addr()?.port(),
            listener,
            registry: registry.try_clone()?,
            streams: BTreeMap::new(),
            routes: BTreeMap::new(),
            first,
            next: first.0 + 1,
            can_accept: true,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            clients: Heard::default(),
            has_refused: false,
            log: log.clone(),
        })
    }

    /// True when a stream may hold something that no poll will tell of again.
    pub(super) fn is_readable(&self) -> bool {
        self.can_accept || self.streams.values().any(|stream| stream.is_readable)
    }

    /// Takes note of what the poll saw; events of others are none of ours.
    pub(super) fn take_event(&mut self, event: &Event) {
        if event.token() == self.first {
            self.can_accept = true;
        }
        let Some(stream) = self.streams.get_mut(&event.token()) else { return };
        stream.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        if event.is_writable()
            && let Err(why) = stream.flush()
        {
            self.end(event.token(), &why);
        }
    }

    /// Reads what has come, at most a bounded part of each stream, and hands each datagram over.
    pub(super) fn receive(&mut self, take: &mut dyn FnMut(SocketAddr, &[u8])) {
        self.accept();
        let readable = self.streams.iter().filter(|(_, stream)| stream.is_readable);
        let readable: Vec<Token> = readable.map(|(token, _)| *token).collect();
        for token in readable {
            // One that greeted before it in this turn may have ended it.
            let Some(stream) = self.streams.get_mut(&token) else { continue };
            let was_known = stream.peer.is_some();
            let received = stream.receive(&mut self.buffer, take);
            if let (false, Some(peer)) = (was_known, stream.peer) {
                self.settle(token, peer);
            }
            if let Err(why) = received {
                self.end(token, &why);
            }
        }
    }

    /// Whether a datagram that came by UDP is a client's, who is answered there. A node could not be.
    pub(super) fn is_from_client(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        if is_from_client(datagram) {
            self.clients.note(from);
            return true;
        }
        if !std::mem::replace(&mut self.has_refused, true) {
            warn!(self.log, "a node speaks UDP to this node, whose transport is TCP: all nodes of a cluster need the \
                same one"; "from" => %from);
        }
        false
    }

    /// Takes what goes to nodes out of the list and sends it. What finds no room is lost; `failed` hears of each.
    pub(super) fn send(
        &mut self,
        now: Instant,
        datagrams: &mut Vec<Outgoing>,
        failed: &mut dyn FnMut(SocketAddr, SendErrorKind),
    ) {
        let mut touched = Vec::new();
        let clients = &self.clients;
        let is_for_node = |it: &mut Outgoing| !(is_for_client(&it.bytes) && clients.contains(it.to));
        let for_nodes: Vec<Outgoing> = datagrams.extract_if(.., is_for_node).collect();
        for datagram in for_nodes {
            let queued = self.route(now, datagram.to).is_some_and(|token| {
                touched.push(token);
                self.streams.get_mut(&token).is_some_and(|stream| stream.queue(now, &datagram.bytes))
            });
            if !queued {
                failed(datagram.to, SendErrorKind::Other);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for token in touched {
            if let Some(Err(why)) = self.streams.get_mut(&token).map(Stream::flush) {
                self.end(token, &why);
            }
        }
    }

    /// The stream to an address, dialled if need be; none where that fails at once.
    fn route(&mut self, now: Instant, to: SocketAddr) -> Option<Token> {
        if let Some(token) = self.routes.get(&to).copied() {
            let stream = &self.streams[&token];
            if stream.unanswered_since.is_none_or(|since| now.saturating_since(since) < SILENCE_MAX) {
                return Some(token);
            }
            self.end(token, &Ended::Silent);
            if let Some(other) = self.routes.get(&to) {
                return Some(*other);
            }
        }
        let dialled = TcpStream::connect(to).and_then(|io| self.add(io, Some(to)));
        match dialled {
            Ok(token) => {
                self.routes.insert(to, token);
                Some(token)
            }
            Err(error) => {
                debug!(self.log, "no stream to a node"; "to" => %to, "error" => %error);
                None
            }
        }
    }

    fn accept(&mut self) {
        while self.can_accept {
            match self.listener.accept() {
                Ok((io, from)) => {
                    if let Err(error) = self.add(io, None) {
                        debug!(self.log, "a stream is not taken"; "from" => %from, "error" => %error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whatever it is, who dials next tells of itself.
                Err(_) => self.can_accept = false,
            }
        }
    }

    /// `to` is where this node dialled.
    fn add(&mut self, mut io: TcpStream, to: Option<SocketAddr>) -> io::Result<Token> {
        // It may not be connected yet; then the kernel says no to neither.
        io.set_nodelay(true)?;
        let token = Token(self.next);
        self.registry.register(&mut io, token, Interest::READABLE | Interest::WRITABLE)?;
        self.next += 1;
        self.streams.insert(token, Stream::new(io, to, self.port));
        if self.streams.len() > STREAMS_MAX {
            // Of those that never spoke the oldest goes first, since tokens ascend.
            let others = self.streams.iter().filter(|(other, _)| **other != token);
            let silent = others.min_by_key(|(_, stream)| stream.heard).map(|(token, _)| *token);
            silent.into_iter().for_each(|token| self.end(token, &Ended::TooMany));
        }
        Ok(token)
    }

    /// Somebody greeted: which stream to its address is sent on?
    fn settle(&mut self, token: Token, peer: SocketAddr) {
        let own = self.streams[&token].local.map(|ip| SocketAddr::new(ip, self.port));
        if let Some(former) = self.routes.get(&peer).copied() {
            let stream = &self.streams[&former];
            // The node at the other end sees the same two streams and the same two addresses.
            if stream.is_dialled && stream.is_connected && own.is_some_and(|own| own < peer) {
                return;
            }
            self.streams.remove(&former);
        }
        self.routes.insert(peer, token);
        debug!(self.log, "a stream from a node"; "from" => %peer);
    }

    fn end(&mut self, token: Token, why: &Ended) {
        let Some(stream) = self.streams.remove(&token) else { return };
        let Some(peer) = stream.peer else { return };
        debug!(self.log, "a stream to a node ended"; "node" => %peer, "why" => %why);
        if self.routes.get(&peer) == Some(&token) {
            let other = self.streams.iter().find(|(_, other)| other.peer == Some(peer));
            match other.map(|(token, _)| *token) {
                Some(other) => self.routes.insert(peer, other),
                None => self.routes.remove(&peer),
            };
        }
    }
}
