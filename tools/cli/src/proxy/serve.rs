//! The loop: one listening socket, one socket towards upstream for each session, one timer.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use raftgram::run::clock::Clock;
use raftgram::run::timer::Timer;
use raftgram::time::{Instant, earliest};

use super::engine::{Engine, Session, Way};
use crate::error::{CliError, Code};

const LISTENER: Token = Token(0);
const TIMER: Token = Token(1);
/// The sockets of sessions come after those.
const SESSIONS: usize = 2;

/// The most sessions; the one that was silent for longest makes room for another.
const SESSIONS_MAX: usize = 1024;

/// A session that was silent for this long ends.
const SILENT_MAX: Duration = Duration::from_secs(300);

/// How often those are looked for, counters told, and the end looked for.
const LOOK: Duration = Duration::from_millis(100);
const TELL: Duration = Duration::from_secs(1);

/// How many datagrams one turn reads from a socket.
const BATCH: usize = 256;

/// The longest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// One program that sends to us.
#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    socket: UdpSocket,
    heard: Instant,
}

/// Sockets around an engine.
#[derive(Debug)]
pub(crate) struct Server {
    poll: Poll,
    timer: Timer,
    clock: Clock,
    listener: UdpSocket,
    upstream: SocketAddr,
    engine: Engine,
    peers: BTreeMap<Session, Peer>,
    by_address: BTreeMap<SocketAddr, Session>,
    next: Session,
    buffer: Vec<u8>,
}

impl Server {
    pub(crate) fn bind(listen: SocketAddr, upstream: SocketAddr, engine: Engine) -> Result<Self, CliError> {
        let bound = || {
            let poll = Poll::new()?;
            let mut listener = UdpSocket::bind(listen)?;
            poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
            let timer = Timer::new(poll.registry(), TIMER)?;
            Ok((poll, listener, timer))
        };
        let (poll, listener, timer) = bound().map_err(|error: io::Error| {
            CliError::new(Code::Failed, format!("listening: {error}"))
                .at(listen)
                .hint("is another program there?")
        })?;
        let buffer = vec![0; DATAGRAM_BYTES_MAX];
        let (peers, by_address) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            poll,
            timer,
            clock: Clock::start(),
            listener,
            upstream,
            engine,
            peers,
            by_address,
            next: 0,
            buffer,
        })
    }

    pub(crate) fn local_addr(&self) -> Result<SocketAddr, CliError> {
        self.listener.local_addr().map_err(|error| CliError::io("asking where the socket is bound", &error))
    }

    pub(crate) const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Carries datagrams until told to stop, or for so long.
    pub(crate) fn run(
        &mut self,
        duration: Option<Duration>,
        is_over: impl Fn() -> bool,
        mut tell: impl FnMut(&Engine),
    ) -> Result<(), CliError> {
        let begin = self.clock.now();
        let end = duration.map(|duration| begin + duration);
        let mut told = begin;
        let mut events = Events::with_capacity(64);
        while !is_over() && end.is_none_or(|end| self.clock.now() < end) {
            let now = self.clock.now();
            let deadline = earliest(earliest(self.engine.poll_timeout(), Some(now + LOOK)), end);
            self.wait(&mut events, now, deadline)
                .map_err(|error| CliError::io("waiting for datagrams", &error))?;
            self.read(&events);
            self.write();
            let now = self.clock.now();
            if now.saturating_since(told) >= TELL {
                told = now;
                tell(&self.engine);
                self.end_silent(now);
            }
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, now: Instant, deadline: Option<Instant>) -> io::Result<()> {
        let timeout = self.timer.arm(now, deadline)?;
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        if events.iter().any(|event| event.token() == TIMER) {
            self.timer.acknowledge();
        }
        Ok(())
    }

    /// Reads what has come; a poll does not say twice that a socket is readable, so each is read to its end.
    fn read(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                LISTENER => self.read_listener(),
                TIMER => {}
                Token(number) => self.read_session((number - SESSIONS) as Session),
            }
        }
    }

    fn read_listener(&mut self) {
        for turn in 1.. {
            let Ok((bytes, from)) = self.listener.recv_from(&mut self.buffer) else { return };
            let now = self.clock.now();
            if let Some(session) = self.session_of(from, now) {
                self.engine.offer(now, session, Way::Up, self.buffer[..bytes].to_vec());
            }
            if turn % BATCH == 0 {
                self.write();
            }
        }
    }

    fn read_session(&mut self, session: Session) {
        for turn in 1.. {
            let Some(peer) = self.peers.get_mut(&session) else { return };
            let bytes = match peer.socket.recv(&mut self.buffer) {
                Ok(bytes) => bytes,
                // Nobody listens upstream; it may come.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            let now = self.clock.now();
            peer.heard = now;
            self.engine.offer(now, session, Way::Down, self.buffer[..bytes].to_vec());
            if turn % BATCH == 0 {
                self.write();
            }
        }
    }

    /// The session of this sender, which may be new; none when there is no socket to be had for it.
    fn session_of(&mut self, address: SocketAddr, now: Instant) -> Option<Session> {
        if let Some(&session) = self.by_address.get(&address) {
            self.peers.get_mut(&session)?.heard = now;
            return Some(session);
        }
        if self.peers.len() >= SESSIONS_MAX {
            let silent = self.peers.iter().min_by_key(|(_, peer)| peer.heard).map(|(session, _)| *session);
            self.end(silent?);
        }
        let any = match self.upstream {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let mut socket = UdpSocket::bind(any).ok()?;
        socket.connect(self.upstream).ok()?;
        let session = self.next;
        let token = Token(SESSIONS + usize::try_from(session).ok()?);
        self.poll.registry().register(&mut socket, token, Interest::READABLE).ok()?;
        self.next += 1;
        self.by_address.insert(address, session);
        self.peers.insert(session, Peer { address, socket, heard: now });
        Some(session)
    }

    fn end(&mut self, session: Session) {
        if let Some(mut peer) = self.peers.remove(&session) {
            self.by_address.remove(&peer.address);
            // Closing it takes it out of the poll.
            let _ = self.poll.registry().deregister(&mut peer.socket);
        }
        self.engine.forget(session);
    }

    fn end_silent(&mut self, now: Instant) {
        let is_silent = |peer: &Peer| now.saturating_since(peer.heard) >= SILENT_MAX;
        let silent: Vec<Session> =
            self.peers.iter().filter(|(_, peer)| is_silent(peer)).map(|(session, _)| *session).collect();
        silent.into_iter().for_each(|session| self.end(session));
    }

    /// Writes what has come through. What a socket does not take is lost, as anywhere on a network.
    fn write(&mut self) {
        while let Some((session, way, bytes)) = self.engine.poll_output(self.clock.now()) {
            let Some(peer) = self.peers.get(&session) else { continue };
            let _ = match way {
                Way::Up => peer.socket.send(&bytes),
                Way::Down => self.listener.send_to(&bytes, peer.address),
            };
        }
    }
}
