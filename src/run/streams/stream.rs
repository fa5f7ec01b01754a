//! One stream: a greeting, then frames both ways.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;

use super::QUEUED_BYTES_MAX;
use crate::cursor::{Reader, Writer as _};
use crate::time::Instant;

/// The first bytes from who dialled.
const GREETING: &[u8; 8] = b"raftgram";

/// The greeting and the port.
const GREETING_BYTES: usize = GREETING.len() + 2;

/// The longest datagram, and with it the longest frame.
const FRAME_BYTES_MAX: usize = 65_507;

/// How many reads one turn makes of one stream.
const READS_MAX: usize = 8;

/// Why a stream is no more.
#[derive(Debug)]
pub(super) enum Ended {
    /// The other end did.
    Closed,
    /// Its first bytes are no greeting.
    NoGreeting,
    /// A frame of nothing, or of more than a datagram holds.
    Length(u16),
    /// Nobody answered for too long.
    Silent,
    /// It made room for another.
    TooMany,
    /// The kernel says so.
    Io(io::Error),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the other end"),
            Self::NoGreeting => f.write_str("it did not begin with a greeting"),
            Self::Length(bytes) => write!(f, "a frame of {bytes} bytes"),
            Self::Silent => f.write_str("silent for too long"),
            Self::TooMany => f.write_str("made room for another"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// A stream to or from a node.
#[derive(Debug)]
pub(super) struct Stream {
    io: TcpStream,
    /// The node's address: known when it is dialled from here, and greeted with by who dials here.
    pub(super) peer: Option<SocketAddr>,
    /// Our own end.
    pub(super) local: Option<IpAddr>,
    /// Whether this node dialled.
    pub(super) is_dialled: bool,
    pub(super) is_connected: bool,
    /// Set when it was readable and has not been read to its end since.
    pub(super) is_readable: bool,
    /// How much was heard, in bytes.
    pub(super) heard: u64,
    /// When something was sent first since anything was heard.
    pub(super) unanswered_since: Option<Instant>,
    /// Bytes of a greeting or a frame that is not whole yet.
    partial: Vec<u8>,
    queued: Vec<u8>,
    /// How much of that the kernel has taken.
    taken: usize,
}

impl Stream {
    /// `to` is where this node dialled; without it somebody dialled here. `port` is what this node greets with.
    pub(super) fn new(io: TcpStream, to: Option<SocketAddr>, port: u16) -> Self {
        let mut queued = Vec::new();
        if to.is_some() {
            queued.put_bytes(GREETING);
            queued.put_u16(port);
        }
        Self {
            local: io.local_addr().ok().map(|address| address.ip()),
            io,
            peer: to,
            is_dialled: to.is_some(),
            is_connected: to.is_none(),
            is_readable: to.is_none(),
            heard: 0,
            unanswered_since: None,
            partial: Vec::new(),
            queued,
            taken: 0,
        }
    }

    /// Adds a datagram to what is sent next; false when there is no room for it.
    pub(super) fn queue(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let Ok(length) = u16::try_from(datagram.len()) else { return false };
        let waiting = self.queued.len() - self.taken;
        if datagram.is_empty() || waiting + 2 + datagram.len() > QUEUED_BYTES_MAX {
            return false;
        }
        self.unanswered_since.get_or_insert(now);
        self.queued.put_u16(length);
        self.queued.put_bytes(datagram);
        true
    }

    /// Gives the kernel what it takes.
    pub(super) fn flush(&mut self) -> Result<(), Ended> {
        if !self.is_connected && !self.connect()? {
            return Ok(());
        }
        while self.taken < self.queued.len() {
            match self.io.write(&self.queued[self.taken..]) {
                Ok(0) => return Err(Ended::Closed),
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Moved seldom: only when as much again has been taken as is left.
                    if self.taken > self.queued.len() / 2 {
                        self.queued.drain(..self.taken);
                        self.taken = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(Ended::Io(error)),
            }
        }
        self.queued.clear();
        self.taken = 0;
        Ok(())
    }

    /// Whether what was dialled has answered.
    fn connect(&mut self) -> Result<bool, Ended> {
        if let Some(error) = self.io.take_error().map_err(Ended::Io)? {
            return Err(Ended::Io(error));
        }
        // The kernel knows the other end's address from then on.
        self.is_connected = self.io.peer_addr().is_ok();
        Ok(self.is_connected)
    }

    /// Reads what has come, at most a bounded part of it, and hands each datagram over that is whole.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        take: &mut dyn FnMut(SocketAddr, &[u8]),
    ) -> Result<(), Ended> {
        for _ in 0..READS_MAX {
            match self.io.read(buffer) {
                Ok(0) => return Err(Ended::Closed),
                Ok(count) => {
                    self.heard += count as u64;
                    self.unanswered_since = None;
                    self.partial.extend_from_slice(&buffer[..count]);
                    self.take_frames(take)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_readable = false;
                    return Ok(());
                }
                Err(error) => return Err(Ended::Io(error)),
            }
        }
        Ok(())
    }

    fn take_frames(&mut self, take: &mut dyn FnMut(SocketAddr, &[u8])) -> Result<(), Ended> {
        let mut reader = Reader::new(&self.partial);
        let peer = match self.peer {
            Some(peer) => peer,
            None => {
                let common = self.partial.len().min(GREETING.len());
                if self.partial[..common] != GREETING[..common] {
                    return Err(Ended::NoGreeting);
                }
                if self.partial.len() < GREETING_BYTES {
                    return Ok(());
                }
                let from = self.io.peer_addr().map_err(Ended::Io)?;
                let port = reader.bytes(GREETING.len()).and_then(|_| reader.u16());
                let port = port.map_err(|_| Ended::NoGreeting)?;
                *self.peer.insert(SocketAddr::new(from.ip(), port))
            }
        };
        let mut rest = reader.rest();
        while let Ok(length) = reader.u16() {
            if length == 0 || usize::from(length) > FRAME_BYTES_MAX {
                return Err(Ended::Length(length));
            }
            let Ok(datagram) = reader.bytes(usize::from(length)) else { break };
            take(peer, datagram);
            rest = reader.rest();
        }
        let used = self.partial.len() - rest.len();
        self.partial.drain(..used);
        Ok(())
    }
}
