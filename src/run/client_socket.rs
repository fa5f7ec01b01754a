//! A second socket, for clients: what they send waits in a queue of its own, read after that of the nodes, so that no
//! number of clients keeps a heartbeat from being heard (U19).
//!
//! The machine knows addresses, not sockets. Whoever speaks as a client here is answered from here: the last addresses
//! are kept, as many as there may be clients. What goes to a node never leaves by this socket, whatever address it has.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;

use mio::{Registry, Token};

use super::socket::{Outgoing, Socket};
use crate::rpc::SendErrorKind;

/// How many datagrams of clients one turn reads: few beside what it reads of nodes.
const RECEIVE_COUNT_MAX: usize = 128;

/// Where the ids of source and destination stand in a datagram, and what stands there for a client.
const SOURCE: core::ops::Range<usize> = 12..14;
const DESTINATION: core::ops::Range<usize> = 14..16;
const CLIENT: [u8; 2] = [0xff; 2];

/// True for what a client says.
pub(super) fn is_from_client(datagram: &[u8]) -> bool {
    datagram.get(SOURCE) == Some(&CLIENT)
}

/// True for what is said to a client, or to whoever hears it.
pub(super) fn is_for_client(datagram: &[u8]) -> bool {
    datagram.get(DESTINATION) == Some(&CLIENT)
}

/// The socket, and who was heard on it.
#[derive(Debug)]
pub(super) struct ClientSocket {
    socket: Socket,
    /// Whether it may hold something that no poll will tell of again.
    pub(super) is_readable: bool,
    heard: Heard,
    outgoing: Vec<Outgoing>,
}

impl ClientSocket {
    pub(super) fn bind(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut socket = Socket::bind(address)?;
        socket.register(registry, token)?;
        Ok(Self { socket, is_readable: true, heard: Heard::default(), outgoing: Vec::new() })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn receive(&mut self, take: &mut dyn FnMut(SocketAddr, &[u8])) {
        if !self.is_readable {
            return;
        }
        let heard = &mut self.heard;
        self.is_readable = self.socket.receive(RECEIVE_COUNT_MAX, &mut |from, bytes| {
            if is_from_client(bytes) {
                heard.note(from);
            }
            take(from, bytes);
        });
    }

    /// Takes out of the list what goes to clients that were heard here, and sends it.
    pub(super) fn send(
        &mut self,
        datagrams: &mut Vec<Outgoing>,
        failed: &mut dyn FnMut(SocketAddr, SendErrorKind),
    ) {
        let heard = &self.heard;
        let is_ours = |it: &mut Outgoing| is_for_client(&it.bytes) && heard.contains(it.to);
        self.outgoing.extend(datagrams.extract_if(.., is_ours));
        self.socket.send(&mut self.outgoing, failed);
    }
}

/// The addresses heard last, in two halves: when one is full the other is forgotten. Somebody who speaks again is noted
/// again, so an answer finds its way unless thousands of others spoke in between.
#[derive(Debug, Default)]
pub(super) struct Heard {
    now: BTreeSet<SocketAddr>,
    before: BTreeSet<SocketAddr>,
}

/// Above the clients that there may be at once.
const HEARD_MAX: usize = 8192;

impl Heard {
    pub(super) fn note(&mut self, from: SocketAddr) {
        if self.now.len() >= HEARD_MAX && !self.now.contains(&from) {
            self.before = std::mem::take(&mut self.now);
        }
        self.now.insert(from);
    }

    pub(super) fn contains(&self, address: SocketAddr) -> bool {
        self.now.contains(&address) || self.before.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_heard_lately_is_known_however_many_speak() {
        let address = |number: u32| SocketAddr::from((number.to_be_bytes(), 7));
        let mut heard = Heard::default();
        for number in 0..5 * HEARD_MAX as u32 {
            heard.note(address(number));
            // Somebody who goes on speaking.
            heard.note(address(u32::MAX));
            assert!(heard.now.len() <= HEARD_MAX && heard.before.len() <= HEARD_MAX);
            assert!(heard.contains(address(number)) && heard.contains(address(u32::MAX)));
        }
        assert!(!heard.contains(address(0)));
    }
}
