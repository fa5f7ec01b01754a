//! The sockets of a load, each with a client of the cluster: one thread waits for all of them with one poll and one
//! timer, and takes in each turn those whose datagrams or time have come.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use raftgram::client::Client;
use raftgram::run::clock::Clock;
use raftgram::run::socket::{Outgoing, Socket};
use raftgram::run::timer::Timer;

use super::load::{Load, Share, Tally};
use crate::error::CliError;
use crate::reach::Reach;

/// The token of the timer; each socket has its place's.
const TIMER: Token = Token(usize::MAX);

/// How often an idle load looks whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Datagrams that one socket is read in a turn.
const RECEIVE_COUNT_MAX: usize = 512;

/// Sockets that are open, each with the machine of a client.
pub(super) struct Sockets {
    poll: Poll,
    timer: Timer,
    clock: Clock,
    clients: Vec<(Client, Socket)>,
}

impl Sockets {
    /// Opens so many.
    pub(super) fn open(reach: &Reach, count: usize) -> Result<Self, CliError> {
        let failed = |error: io::Error| CliError::io("opening the client's sockets", &error);
        let poll = Poll::new().map_err(failed)?;
        let timer = Timer::new(poll.registry(), TIMER).map_err(failed)?;
        let clock = Clock::start();
        let mut clients = Vec::with_capacity(count);
        for place in 0..count {
            let (client, any) = reach.machine(clock.now())?;
            let mut socket = Socket::bind(any).map_err(failed)?;
            socket.register(poll.registry(), Token(place)).map_err(failed)?;
            clients.push((client, socket));
        }
        Ok(Self { poll, timer, clock, clients })
    }

    /// Loads the cluster until the end; what is under way then is waited for.
    pub(super) fn run(self, load: &Load<'_>) -> Result<Tally, CliError> {
        let Self { poll, timer, clock, clients } = self;
        let count = clients.len();
        let seats = clients.into_iter().enumerate().map(|(place, (client, socket))| {
            let share = Share::new(load, place, count);
            Seat { client, socket, share, wake: None, outgoing: Vec::new() }
        });
        let mut running = Running { load, poll, timer, clock, seats: seats.collect(), due: BTreeSet::new() };
        running.turns().map_err(|error| CliError::io("waiting for datagrams", &error))?;
        let mut all = Tally::new();
        for seat in running.seats {
            all.merge(seat.share.into_tally());
        }
        Ok(all)
    }
}

/// A load under way.
struct Running<'a> {
    load: &'a Load<'a>,
    poll: Poll,
    timer: Timer,
    clock: Clock,
    seats: Vec<Seat<'a>>,
    /// When which seats want a turn though nothing came.
    due: BTreeSet<(raftgram::time::Instant, usize)>,
}

/// A socket and its clients' loops.
struct Seat<'a> {
    client: Client,
    socket: Socket,
    share: Share<'a>,
    /// As in [`Running::due`].
    wake: Option<raftgram::time::Instant>,
    outgoing: Vec<Outgoing>,
}

impl Running<'_> {
    fn turns(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut ready: BTreeSet<usize> = (0..self.seats.len()).collect();
        loop {
            for place in std::mem::take(&mut ready) {
                if self.turn(place) {
                    ready.insert(place);
                }
            }
            let now = Instant::now();
            if self.load.is_over(now) && self.seats.iter().all(|seat| seat.share.has_ended(now)) {
                return Ok(());
            }
            let now = self.clock.now();
            let look_up = now + LOOK_UP;
            let wake = if ready.is_empty() {
                self.due.first().map_or(look_up, |(at, _)| look_up.min(*at))
            } else {
                now
            };
            let timeout = self.timer.arm(now, Some(wake))?;
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    TIMER => self.timer.acknowledge(),
                    Token(place) => drop(ready.insert(place)),
                }
            }
            let now = self.clock.now();
            ready.extend(self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, place)| *place));
        }
    }

    /// Hears what came for one, lets its clients go on and sends; true while its socket may hold more.
    fn turn(&mut self, place: usize) -> bool {
        let Self { clock, seats, due, .. } = self;
        let Seat { client, socket, share, wake, outgoing } = &mut seats[place];
        let due_at = client.poll_timeout();
        let may_hold_more = socket.receive(RECEIVE_COUNT_MAX, &mut |from, bytes| {
            client.handle_datagram(clock.now(), from, bytes);
        });
        let now = clock.now();
        if due_at.is_some_and(|at| at <= now) {
            client.handle_timeout(now);
        }
        share.turn(client, clock, outgoing);
        socket.send(outgoing, &mut |to, error| client.handle_send_error(now, to, error));
        let began = Instant::now();
        let begins = share.begins_at(began).map(|at| clock.now() + at.saturating_duration_since(began));
        let next = [client.poll_timeout(), begins].into_iter().flatten().min();
        if *wake != next {
            if let Some(at) = *wake {
                due.remove(&(at, place));
            }
            due.extend(next.map(|at| (at, place)));
            *wake = next;
        }
        may_hold_more
    }
}
