//! The socket, the timer and the poll of one event loop, as one thing to wait on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use slog::{Logger, info};

use crate::rpc::SendErrorKind;
use crate::run::client_socket::ClientSocket;
use crate::run::clock::Clock;
use crate::run::record::Recorder;
use crate::run::shaper::{Direction, Shaper};
use crate::run::sights::{Sights, View};
use crate::run::socket::{BufferSizes, Outgoing, Socket};
use crate::run::spin::{Spin, Spinner};
use crate::run::streams::Streams;
use crate::run::timer::Timer;
use crate::time::{Instant, earliest};
use crate::trace::Outcome;
use crate::wire::DropReason;
use crate::wire::fault::FaultRequest;

const SOCKET: Token = Token(0);
const TIMER: Token = Token(1);
const WAKER: Token = Token(2);
const CLIENTS: Token = Token(3);
/// The last one: streams have all from here on.
const STREAMS: Token = Token(4);

/// How many datagrams one turn reads before it looks at anything else, so that a flood cannot keep timers from
/// firing.
const RECEIVE_COUNT_MAX: usize = 512;

/// Everything a loop waits for. A turn of the loop is `wait`, `receive`, work, `send`.
#[derive(Debug)]
pub struct Net {
    poll: Poll,
    events: Events,
    socket: Socket,
    /// Where clients are heard, if not where nodes are.
    clients: Option<ClientSocket>,
    /// What carries datagrams between nodes, if not the socket.
    streams: Option<Streams>,
    timer: Timer,
    /// Looks before it sleeps, if anybody wants that.
    spinner: Option<Spinner>,
    clock: Clock,
    waker: Arc<Waker>,
    /// Set when the socket was readable and has not been read to its end since: an edge-triggered poll does not
    /// say it twice.
    is_readable: bool,
    outgoing: Vec<Outgoing>,
    shaper: Option<Shaper>,
    /// Sees what the machine sends and is given, on the machine's side of the faults.
    recorder: Option<Recorder>,
    /// Sees the same, while somebody looks.
    sights: Option<Sights>,
}

impl Net {
    /// Binds `address` and builds the poll around it.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut socket = Socket::bind(address)?;
        socket.register(poll.registry(), SOCKET)?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let events = Events::with_capacity(16);
        let clock = Clock::start();
        Ok(Self {
            poll,
            events,
            socket,
            clients: None,
            streams: None,
            timer,
            spinner: None,
            clock,
            waker,
            is_readable: true,
            outgoing: Vec::new(),
            shaper: None,
            recorder: None,
            sights: None,
        })
    }

    /// Hears clients at an address of their own, too.
    pub fn listen_for_clients(&mut self, address: SocketAddr) -> io::Result<()> {
        self.clients = Some(ClientSocket::bind(address, self.poll.registry(), CLIENTS)?);
        Ok(())
    }

    /// Speaks with nodes over TCP from now on, at the address where clients are heard over UDP.
    pub fn stream_to_nodes(&mut self, log: &Logger) -> io::Result<()> {
        let address = self.socket.local_addr()?;
        self.streams = Some(Streams::bind(address, self.poll.registry(), STREAMS, log)?);
        Ok(())
    }

    /// Where clients are heard; where nodes are, unless they were given an address of their own.
    pub fn client_addr(&self) -> io::Result<SocketAddr> {
        self.clients.as_ref().map_or_else(|| self.local_addr(), ClientSocket::local_addr)
    }

    /// Looks for so long before it sleeps, from now on.
    pub fn spin(&mut self, spin: Spin) {
        self.spinner = Some(Spinner::new(spin, self.clock.now()));
    }

    /// Puts faults between the socket and whoever uses this.
    pub fn shape(&mut self, shaper: Shaper) {
        self.shaper = Some(shaper);
    }

    /// Lets links do what was asked for, if anything is shaped.
    pub fn set_faults(&mut self, request: &FaultRequest) {
        let now = self.clock.now();
        if let Some(shaper) = &mut self.shaper {
            shaper.set(now, request);
        }
    }

    /// Records from now on what passes; gives back what recorded before.
    pub fn record(&mut self, recorder: Option<Recorder>) -> Option<Recorder> {
        std::mem::replace(&mut self.recorder, recorder)
    }

    /// What records, if anything does.
    pub fn recorder(&mut self) -> Option<&mut Recorder> {
        self.recorder.as_mut()
    }

    /// What passed after the datagram of this serial, since somebody looks; to be asked again soon.
    pub fn look(&mut self, after: u64) -> io::Result<View> {
        let (now, address) = (self.clock.now(), self.socket.local_addr()?);
        Ok(self.sights.get_or_insert_with(|| Sights::new(address, now)).look(now, after))
    }

    /// Logs what was injected, a line per path.
    pub fn log_faults(&self, log: &Logger) {
        for (peer, direction, stats) in self.shaper.iter().flat_map(Shaper::stats) {
            info!(log, "faults injected"; "path" => format!("{direction} {peer}"), "counts" => %stats);
        }
    }

    /// What other threads wake this loop with.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What the kernel granted of the buffers asked for.
    #[must_use]
    pub fn buffers(&self) -> BufferSizes {
        self.socket.buffers()
    }

    /// Waits until a datagram came, `deadline` passed or another thread woke the loop; not at all while the
    /// socket may still hold something.
    pub fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let deadline = earliest(deadline, self.shaper.as_ref().and_then(Shaper::poll_timeout));
        let is_readable = self.is_readable
            || self.clients.as_ref().is_some_and(|it| it.is_readable)
            || self.streams.as_ref().is_some_and(Streams::is_readable);
        let deadline = if is_readable { Some(Instant::ZERO) } else { deadline };
        let timeout = self.timer.arm(self.clock.now(), deadline)?;
        if timeout == Some(Duration::ZERO) || !self.look_out(deadline)? {
            self.poll(timeout)?;
        }
        for event in &self.events {
            match event.token() {
                SOCKET => self.is_readable = true,
                CLIENTS => self.clients.iter_mut().for_each(|it| it.is_readable = true),
                TIMER => self.timer.acknowledge(),
                WAKER => {}
                _ => self.streams.iter_mut().for_each(|it| it.take_event(event)),
            }
        }
        Ok(())
    }

    /// Looks without sleeping, as long as may be; true when something has come or the deadline has.
    fn look_out(&mut self, deadline: Option<Instant>) -> io::Result<bool> {
        let Some(mut spinner) = self.spinner.take() else { return Ok(false) };
        let began = self.clock.now();
        let until = spinner.until(began);
        let mut now = began;
        let mut has_come = false;
        while now < until && !has_come {
            self.poll(Some(Duration::ZERO))?;
            now = self.clock.now();
            has_come = !self.events.is_empty() || deadline.is_some_and(|at| at <= now);
            if !has_come {
                std::thread::yield_now();
            }
        }
        spinner.spend(now.saturating_since(began));
        self.spinner = Some(spinner);
        Ok(has_come)
    }

    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads what has come, at most a bounded batch, and hands each datagram over with the time of its reading;
    /// `take` says why, if it drops it.
    pub fn receive(&mut self, mut take: impl FnMut(Instant, SocketAddr, &[u8]) -> Option<DropReason>) {
        let Self { clock, recorder, shaper, sights, clients, streams, .. } = self;
        if sights.as_ref().is_some_and(|sights| sights.is_over(clock.now())) {
            *sights = None;
        }
        let mut take = |now, from, bytes: &[u8]| {
            let outcome = take(now, from, bytes).map_or(Outcome::Delivered, Outcome::Dropped);
            if let Some(recorder) = recorder {
                recorder.received(now, from, bytes, outcome);
            }
            if let Some(sights) = sights {
                sights.see(now, from, bytes, outcome);
            }
        };
        let mut pass = |from: SocketAddr, bytes: &[u8]| {
            let now = clock.now();
            match shaper {
                None => take(now, from, bytes),
                Some(shaper) => {
                    if let Some(bytes) = shaper.offer(now, from, Direction::In, bytes.to_vec()) {
                        take(now, from, &bytes);
                    }
                }
            }
        };
        if let Some(streams) = streams {
            streams.receive(&mut pass);
        }
        let mut pass = |from: SocketAddr, bytes: &[u8]| {
            if streams.as_mut().is_none_or(|streams| streams.is_from_client(from, bytes)) {
                pass(from, bytes);
            }
        };
        if self.is_readable {
            self.is_readable = self.socket.receive(RECEIVE_COUNT_MAX, &mut pass);
        }
        if let Some(clients) = clients {
            clients.receive(&mut pass);
        }
        if let Some(shaper) = shaper {
            shaper.expire(clock.now());
            while let Some((peer, direction, bytes)) = shaper.poll_output(clock.now()) {
                match direction {
                    Direction::In => take(clock.now(), peer, &bytes),
                    Direction::Out => self.outgoing.push(Outgoing { to: peer, bytes }),
                }
            }
        }
    }

    /// Adds a datagram to those that the next [`Self::send`] sends.
    pub fn queue(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.sent(self.clock.now(), to, &bytes);
        }
        if let Some(sights) = &mut self.sights {
            sights.see(self.clock.now(), to, &bytes, Outcome::Sent);
        }
        let passed = match &mut self.shaper {
            None => Some(bytes),
            Some(shaper) => shaper.offer(self.clock.now(), to, Direction::Out, bytes),
        };
        self.outgoing.extend(passed.map(|bytes| Outgoing { to, bytes }));
    }

    /// Sends what was queued; `failed` hears what the kernel refused.
    pub fn send(&mut self, mut failed: impl FnMut(SocketAddr, SendErrorKind)) {
        self.queue_shaped();
        if self.outgoing.is_empty() {
            return;
        }
        let Self { clock, recorder, .. } = self;
        let mut tell = |to, error| {
            if let Some(recorder) = recorder {
                recorder.send_failed(clock.now(), to, error);
            }
            failed(to, error);
        };
        if let Some(streams) = &mut self.streams {
            streams.send(clock.now(), &mut self.outgoing, &mut tell);
        }
        if let Some(clients) = &mut self.clients {
            clients.send(&mut self.outgoing, &mut tell);
        }
        self.socket.send(&mut self.outgoing, &mut tell);
    }

    /// What has passed its path without delay goes out in the turn it was queued in.
    fn queue_shaped(&mut self) {
        let Some(shaper) = &mut self.shaper else { return };
        while let Some((to, bytes)) = shaper.poll_outgoing(self.clock.now()) {
            self.outgoing.push(Outgoing { to, bytes });
        }
    }
}
