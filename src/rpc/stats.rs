//! Counters. `received` is always `accepted` plus all `drops`.

use core::time::Duration;

use crate::time::Instant;
use crate::wire::DropReason;

/// Counters of the whole room since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RpcStats {
    /// Datagrams handed in.
    pub received: u64,
    /// Those whose frames were applied.
    pub accepted: u64,
    /// Those that were dropped, by the position of the reason in [`DropReason::ALL`].
    pub drops: [u64; DropReason::ALL.len()],
    /// Datagrams handed out.
    pub transmitted: u64,
    /// The bytes of these.
    pub transmitted_bytes: u64,
    /// Parts of bodies sent again.
    pub retransmits: u64,
    /// Requests that had arrived before.
    pub duplicates: u64,
    /// Datagrams that the socket refused.
    pub send_errors: u64,
    /// Stale-incarnation hints sent.
    pub hints: u64,
}

impl RpcStats {
    /// Datagrams dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason.position()]
    }

    /// Datagrams dropped.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    pub(super) fn count_drop(&mut self, reason: DropReason) {
        self.drops[reason.position()] += 1;
    }
}

/// State and counters of one link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkStats {
    /// Smoothed round trip; `None` before the first sample.
    pub srtt: Option<Duration>,
    /// Parts of bodies sent again.
    pub retransmits: u64,
    /// Requests that had arrived before.
    pub duplicates: u64,
    /// Probe timeouts.
    pub probes: u64,
    /// Packets that had been declared lost and then arrived.
    pub spurious: u64,
    /// Smoothed share of packets lost, 0 to 1.
    pub loss: f64,
    /// Bytes waiting for an acknowledgement.
    pub in_flight_bytes: usize,
    /// How many may.
    pub window_bytes: usize,
    /// Calls of this end that are open.
    pub calls_open: usize,
    /// Calls of the peer that are open here.
    pub calls_served: usize,
    /// When a datagram of the peer was last accepted.
    pub heard: Instant,
}

/// What the room holds, by count and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcLoad {
    /// Links to nodes, parked ones included.
    pub links: usize,
    /// Links to clients.
    pub clients: usize,
    /// Handshakes under way.
    pub greetings: usize,
    /// Bytes of bodies being put together.
    pub arriving_bytes: usize,
}

/// The counters of one link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkCounters {
    pub(super) retransmits: u64,
    pub(super) duplicates: u64,
    pub(super) probes: u64,
    pub(super) spurious: u64,
}
