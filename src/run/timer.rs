//! A timer that wakes the poll within microseconds.
//!
//! `mio::Poll` rounds its timeout up to whole milliseconds, ten times the round trip of a LAN, so on Linux one
//! timerfd is registered with the poll and the poll itself waits for ever. Elsewhere the poll's timeout is used.

use std::io;
use std::time::Duration;

use mio::{Registry, Token};

use crate::time::Instant;

#[cfg(target_os = "linux")]
mod imp {
    use super::{Duration, Instant, Registry, Token, io};
    use mio::Interest;
    use mio::unix::SourceFd;
    use rustix::fd::{AsRawFd as _, OwnedFd};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    /// One timerfd in the poll.
    #[derive(Debug)]
    pub struct Timer {
        fd: OwnedFd,
        armed: Option<Instant>,
    }

    impl Timer {
        /// Makes the timer and registers it under `token`.
        pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let fd =
                timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self { fd, armed: None })
        }

        /// Makes the poll wake at `deadline` or earlier, and says how long the poll itself may wait. A wake that
        /// comes early does no harm, so the kernel is asked only when the deadline moves forward.
        pub fn arm(&mut self, now: Instant, deadline: Option<Instant>) -> io::Result<Option<Duration>> {
            let Some(deadline) = deadline else { return Ok(None) };
            if deadline <= now {
                return Ok(Some(Duration::ZERO));
            }
            let is_covered = self.armed.is_some_and(|armed| armed > now && armed <= deadline);
            if !is_covered {
                let wait = deadline.saturating_since(now);
                let value = Timespec {
                    tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: i64::from(wait.subsec_nanos()),
                };
                let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
                timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
                self.armed = Some(deadline);
            }
            Ok(None)
        }

        /// Takes the expiry off the descriptor, so that the edge-triggered poll reports the next one.
        pub fn acknowledge(&mut self) {
            let mut count = [0; 8];
            // An empty read means that the timer was set anew before its expiry was taken.
            if rustix::io::read(&self.fd, &mut count).is_ok() {
                self.armed = None;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::{Duration, Instant, Registry, Token, io};

    /// The poll's own timeout, in whole milliseconds.
    #[derive(Debug)]
    pub struct Timer;

    impl Timer {
        /// Nothing to register.
        pub fn new(_registry: &Registry, _token: Token) -> io::Result<Self> {
            Ok(Self)
        }

        /// Says how long the poll may wait.
        pub fn arm(&mut self, now: Instant, deadline: Option<Instant>) -> io::Result<Option<Duration>> {
            Ok(deadline.map(|deadline| deadline.saturating_since(now)))
        }

        /// Nothing to take.
        pub fn acknowledge(&mut self) {}
    }
}

pub use imp::Timer;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::clock::Clock;
    use mio::{Events, Poll};

    #[test]
    fn it_wakes_the_poll_at_or_after_the_deadline_and_can_be_armed_again() {
        let mut poll = Poll::new().unwrap();
        let mut timer = Timer::new(poll.registry(), Token(7)).unwrap();
        let mut events = Events::with_capacity(4);
        let clock = Clock::start();
        for _ in 0..3 {
            let deadline = clock.now() + Duration::from_micros(300);
            while clock.now() < deadline {
                let wait = timer.arm(clock.now(), Some(deadline)).unwrap();
                poll.poll(&mut events, wait).unwrap();
                timer.acknowledge();
            }
        }
        assert_eq!(timer.arm(clock.now(), None).unwrap(), None);
        assert_eq!(timer.arm(clock.now(), Some(Instant::ZERO)).unwrap(), Some(Duration::ZERO));
    }
}
