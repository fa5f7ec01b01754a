//! The loop around a gateway: the socket that clients know, the one that nodes see, one timer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use raftgram::rpc::SealConfig;
use raftgram::run::clock::Clock;
use raftgram::run::keys::random_entropy;
use raftgram::run::random_rng;
use raftgram::run::timer::Timer;
use raftgram::seal::SealMode;
use raftgram::time::{Instant, earliest};
use raftgram::types::NodeId;
use slog::Logger;

use super::gateway::{Counts, Gateway, Side};
use crate::error::{CliError, Code};
use crate::key;

const PLAIN: Token = Token(0);
const SEALED: Token = Token(1);
const TIMER: Token = Token(2);

/// How often the end is looked for, and counters told.
const LOOK: Duration = Duration::from_millis(100);
const TELL: Duration = Duration::from_secs(1);

/// How many datagrams one turn reads from a socket.
const BATCH: usize = 256;

/// The longest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Sockets around a gateway.
pub(super) struct Server {
    poll: Poll,
    timer: Timer,
    clock: Clock,
    plain: UdpSocket,
    sealed: UdpSocket,
    /// Set when a socket was readable and was not read to its end since.
    is_readable: [bool; 2],
    gateway: Gateway,
    buffer: Vec<u8>,
}

impl Server {
    /// Listens for clients at `listen`, which must be an address of this machine's own.
    pub(super) fn bind(
        listen: SocketAddr,
        upstream: &[SocketAddr],
        key_file: &Path,
        log: &Logger,
    ) -> Result<Self, CliError> {
        if !listen.ip().to_canonical().is_loopback() {
            return Err(CliError::usage(
                "plain clients are heard on loopback only: on any other way whoever is near \
                                        reads and forges what they say",
            )
            .at(listen)
            .hint(format!(
                "--listen 127.0.0.1:{}, and a proxy on each client's own machine",
                listen.port()
            )));
        }
        let mut seal = SealConfig::with(SealMode::Require, key::load(key_file)?);
        let drawn = |error: io::Error| CliError::io("drawing random numbers", &error);
        seal.entropy = Some(random_entropy().map_err(drawn)?);
        let rng = random_rng().map_err(drawn)?;
        let failed = |error: io::Error| {
            CliError::new(Code::Failed, format!("listening: {error}"))
                .at(listen)
                .hint("is another program there?")
        };
        let any = match upstream[0] {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let bound = || {
            let poll = Poll::new()?;
            let (mut plain, mut sealed) = (UdpSocket::bind(listen)?, UdpSocket::bind(any)?);
            poll.registry().register(&mut plain, PLAIN, Interest::READABLE)?;
            poll.registry().register(&mut sealed, SEALED, Interest::READABLE)?;
            let timer = Timer::new(poll.registry(), TIMER)?;
            Ok((poll, timer, plain, sealed))
        };
        let (poll, timer, plain, sealed) = bound().map_err(failed)?;
        let clock = Clock::start();
        // An id that stays while the address does.
        let node = NodeId::new(listen.port().clamp(1, u16::MAX - 1)).unwrap_or(NodeId::MIN);
        let gateway = Gateway::new(clock.now(), upstream, seal, node, rng, log.clone())?;
        let (is_readable, buffer) = ([true; 2], vec![0; DATAGRAM_BYTES_MAX]);
        Ok(Self { poll, timer, clock, plain, sealed, is_readable, gateway, buffer })
    }

    pub(super) fn local_addr(&self) -> Result<SocketAddr, CliError> {
        self.plain.local_addr().map_err(|error| CliError::io("asking where the socket is bound", &error))
    }

    pub(super) fn counts(&self) -> Counts {
        self.gateway.counts()
    }

    /// Carries calls until told to stop, or for so long.
    pub(super) fn run(
        &mut self,
        duration: Option<Duration>,
        is_over: impl Fn() -> bool,
        mut tell: impl FnMut(Counts),
    ) -> Result<(), CliError> {
        let begin = self.clock.now();
        let end = duration.map(|duration| begin + duration);
        let mut told = begin;
        let mut events = Events::with_capacity(16);
        while !is_over() && end.is_none_or(|end| self.clock.now() < end) {
            self.gateway.turn(self.clock.now());
            self.write();
            if self.gateway.has_nobody() {
                return Err(CliError::new(Code::Unreachable, "no node is left to speak to")
                    .hint("the log says why each was given up"));
            }
            self.wait(&mut events, end).map_err(|error| CliError::io("waiting for datagrams", &error))?;
            self.read(Side::Plain);
            self.read(Side::Sealed);
            let now = self.clock.now();
            if now.saturating_since(told) >= TELL {
                told = now;
                tell(self.gateway.counts());
            }
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, end: Option<Instant>) -> io::Result<()> {
        let now = self.clock.now();
        let is_readable = self.is_readable.contains(&true);
        let deadline = earliest(earliest(self.gateway.poll_timeout(), Some(now + LOOK)), end);
        let timeout = self.timer.arm(now, if is_readable { Some(Instant::ZERO) } else { deadline })?;
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &*events {
            match event.token() {
                TIMER => self.timer.acknowledge(),
                token => self.is_readable[token.0] = true,
            }
        }
        Ok(())
    }

    /// Reads a batch of what has come.
    fn read(&mut self, side: Side) {
        let (socket, token) = match side {
            Side::Plain => (&self.plain, PLAIN),
            Side::Sealed => (&self.sealed, SEALED),
        };
        for _ in 0..BATCH {
            match socket.recv_from(&mut self.buffer) {
                Ok((bytes, from)) => {
                    let now = self.clock.now();
                    self.gateway.handle_datagram(now, side, from, &self.buffer[..bytes]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_readable[token.0] = false;
                    return;
                }
                // What the system has to say of an earlier datagram; the next call reads on.
                Err(_) => {}
            }
        }
    }

    /// What a socket does not take is lost, as anywhere on a network.
    fn write(&mut self) {
        while let Some((side, to, bytes)) = self.gateway.poll_output() {
            let _ = match side {
                Side::Plain => self.plain.send_to(&bytes, to),
                Side::Sealed => self.sealed.send_to(&bytes, to),
            };
        }
    }
}
