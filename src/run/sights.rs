//! A look at a live node's datagrams, for a screen: the last few of them, named, while somebody looks.
//!
//! A recording ([`crate::run::record`]) has all of them and costs a file; this costs nothing until somebody looks,
//! little while somebody does, and ends by itself. Memory and work are bounded: what comes faster than a screen can
//! show is counted and left out.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::time::Instant;
use crate::trace::{Datagrams, Outcome, Payloads, Sight, What};
use crate::wire::{DropReason, Party};

/// The most datagrams kept.
const SEEN_MAX: usize = 1024;

/// How long after the last look nothing is kept any more.
const ATTENTION: Duration = Duration::from_secs(10);

/// The most datagrams taken in one [`WINDOW`]; further ones are left out.
const WINDOW_COUNT_MAX: u32 = 24;

/// See [`WINDOW_COUNT_MAX`].
const WINDOW: Duration = Duration::from_millis(20);

/// A datagram that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its place among all that were kept.
    pub serial: u64,
    /// When.
    pub at: Instant,
    /// True when the node sent it.
    pub is_outgoing: bool,
    /// The other end, as the header names it; nobody when the header cannot be read.
    pub party: Option<Party>,
    /// The other end's address.
    pub address: SocketAddr,
    /// Its length.
    pub bytes: usize,
    /// What it is above all, by its name in traces.
    pub kind: Cow<'static, str>,
    /// True when a part of it was sent before.
    pub is_retransmission: bool,
    /// Why the node dropped it, if it did.
    pub dropped: Option<DropReason>,
}

/// What a look shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The time of the look.
    pub now: Instant,
    /// What passed, oldest first.
    pub seen: Vec<Seen>,
    /// How many were left out since somebody looks, because too many came at once.
    pub left_out: u64,
}

/// The datagrams of the last moments.
#[derive(Debug)]
pub(super) struct Sights {
    address: SocketAddr,
    datagrams: Datagrams,
    seen: VecDeque<Seen>,
    next_serial: u64,
    left_out: u64,
    window_ends_at: Instant,
    in_window: u32,
    ends_at: Instant,
}

impl Sights {
    /// Begins with nothing seen at the socket of this address.
    pub(super) fn new(address: SocketAddr, now: Instant) -> Self {
        Self {
            address,
            datagrams: Datagrams::new(Payloads::LeftOut),
            seen: VecDeque::new(),
            next_serial: 1,
            left_out: 0,
            window_ends_at: now,
            in_window: 0,
            ends_at: now + ATTENTION,
        }
    }

    /// What was seen after the datagram of this serial; keeps seeing for a while longer.
    pub(super) fn look(&mut self, now: Instant, after: u64) -> View {
        self.ends_at = now + ATTENTION;
        let seen = self.seen.iter().filter(|seen| seen.serial > after).cloned().collect();
        View { now, seen, left_out: self.left_out }
    }

    /// True when nobody has looked for a while.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.ends_at
    }

    /// Takes note of a datagram to or from there.
    pub(super) fn see(&mut self, now: Instant, other: SocketAddr, bytes: &[u8], outcome: Outcome) {
        if now >= self.window_ends_at {
            (self.window_ends_at, self.in_window) = (now + WINDOW, 0);
        }
        self.in_window += 1;
        if self.in_window > WINDOW_COUNT_MAX {
            self.left_out += 1;
            return;
        }
        let is_outgoing = outcome == Outcome::Sent;
        let (from, to) = if is_outgoing { (self.address, other) } else { (other, self.address) };
        let sight = Sight { at: now, seen_by: None, from, to, bytes, opened: None, outcome };
        let What::Datagram(event) = self.datagrams.read(&sight).what else { return };
        let dropped = match outcome {
            Outcome::Dropped(reason) => Some(reason),
            _ => None,
        };
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen {
            serial: self.next_serial,
            at: now,
            is_outgoing,
            party: event.header.map(|parties| if is_outgoing { parties.to } else { parties.from }),
            address: other,
            bytes: bytes.len(),
            kind: event.kind,
            is_retransmission: event.is_retransmission == Some(true),
            dropped,
        });
        self.next_serial += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_look_shows_what_came_after_the_last_one() {
        let mut sights = Sights::new(address(1), at(0));
        sights.see(at(1), address(2), b"no datagram of ours", Outcome::Dropped(DropReason::Magic));
        sights.see(at(2), address(2), b"?", Outcome::Sent);
        let first = sights.look(at(3), 0);
        let kinds: Vec<_> = first.seen.iter().map(|seen| (seen.serial, &*seen.kind, seen.dropped)).collect();
        assert_eq!(kinds, [(1, "unreadable", Some(DropReason::Magic)), (2, "unreadable", None)]);
        assert!(!first.seen[0].is_outgoing && first.seen[1].is_outgoing);
        assert_eq!(sights.look(at(4), 2).seen, []);
    }

    #[test]
    fn a_flood_is_counted_and_memory_stays_bounded() {
        let mut sights = Sights::new(address(1), at(0));
        let ms_count = 2000;
        for ms in 0..ms_count {
            for _ in 0..3 {
                sights.see(at(ms), address(2), b"?", Outcome::Delivered);
            }
        }
        let view = sights.look(at(ms_count), 0);
        assert_eq!(view.seen.len(), SEEN_MAX);
        let windows = ms_count / 20;
        assert_eq!(view.left_out, windows * (60 - u64::from(WINDOW_COUNT_MAX)));
    }

    #[test]
    fn it_ends_when_nobody_looks() {
        let mut sights = Sights::new(address(1), at(0));
        assert!(!sights.is_over(at(9_999)));
        sights.look(at(9_999), 0);
        assert!(!sights.is_over(at(19_998)));
        assert!(sights.is_over(at(19_999)));
    }
}
