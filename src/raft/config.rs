//! Settings, each with what happens at both extremes, and what a node restores at its start.
//!
//! The three clocks hang together (Raft paper §5.6: broadcast time ≪ election timeout ≪ time between failures).
//! Heartbeats are datagrams that nobody repeats, so the interval must fit many times into the minimum election
//! timeout: at 10 % loss, three heartbeats a timeout give 65 false timeouts per follower and hour, ten give 6e-6.
//! All nodes of a cluster should use the same clocks: a voter's stickiness protects a leader for *its* minimum
//! timeout, and a leader's check-quorum trusts that voters keep still for at least as long as its own maximum.

use core::fmt;
use core::time::Duration;

use super::lease::DRIFT_ONE;
use crate::entry::Entry;
use crate::membership::Membership;
use crate::mutant::{self, Mutant};
use crate::remains::Remains;
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::types::{ClusterId, HardState, Identity, Incarnation, Index, Term};

/// The largest term, index, round or attempt that goes over the wire: a varint's 62 bits. Larger ones never come
/// from an honest node.
pub const NUMBER_MAX: u64 = (1 << 62) - 1;

/// The settings of one node's consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftConfig {
    /// Who this node is.
    pub identity: Identity,
    /// This boot of it; an order to campaign for an earlier one is void.
    pub incarnation: Incarnation,
    /// The cluster, which the entry chain covers.
    pub cluster: ClusterId,
    /// A follower that hears nothing this long may campaign, and a voter that heard a leader within this span
    /// grants no vote. Too short: elections while the leader lives. Too long: slow failover. After its own boot a
    /// voter keeps still for as long, because it may have heard a leader just before.
    pub election_timeout_min: Duration,
    /// The longest draw of the election timeout, and the window in which a leader must hear a quorum. Close to
    /// the minimum: split votes. Far from it: slow failover. It is also the patience with a silent peer, whose
    /// open requests are cancelled after it, and with a transfer.
    pub election_timeout_max: Duration,
    /// Between two heartbeats. A tenth of the minimum election timeout lets nine in a row be lost.
    pub heartbeat_interval: Duration,
    /// A leader whose oldest log write hangs this long steps down. Too short: a slow sync costs an election. Too
    /// long: a dead disk stops the cluster for that time.
    pub disk_hang_timeout: Duration,
    /// Bytes of entries in one append; a larger entry goes alone. Larger than a datagram: a lost fragment delays
    /// the whole append. Small: more headers.
    pub append_bytes_max: usize,
    /// Unanswered appends per follower. 1 is a round trip per append; large ones cost memory at the follower when
    /// the first of them is lost.
    pub inflight_appends_max: usize,
    /// Bytes of entries in unanswered appends per follower; one append always goes.
    pub inflight_bytes_max: usize,
    /// Bytes of out-of-order appends that a follower keeps. 0 turns each lost datagram into a rewind; more than
    /// the leaders' `inflight_bytes_max` is never used.
    pub reorder_bytes_max: usize,
    /// Bytes of log in memory at which client proposals are refused as "log full".
    pub log_bytes_max: usize,
    /// The part of `log_bytes_max` that only no-ops and other entries of the cluster's own may use, so that a log
    /// full of uncommitted proposals can still be committed by a new leader.
    pub log_bytes_reserve: usize,
    /// Bytes of entries that a snapshot covers and that stay in memory all the same, for followers that are only
    /// a little behind. 0: every follower that misses one entry at the wrong moment pulls a snapshot. Much: memory.
    pub log_tail_bytes: usize,
    /// A learner that lacks more entries than this is not promoted. 0: it would have to catch up in a pause of the
    /// writing. Many: the next commits may wait for it.
    pub promotion_lag_max: u64,
    /// Reads waiting for confirmation; further ones are refused as busy. They share rounds, so the bound costs
    /// memory only.
    pub reads_max: usize,
    /// How much any node's clock may run fast or slow, in parts per million of the time that passes: a promise, on
    /// which lease reads rest. `None`: no leases. Too small a number gives stale reads, a large one short leases.
    pub lease_drift_ppm: Option<u32>,
}

impl RaftConfig {
    /// How long a lease lasts from the start of the round that a quorum answered; see `lease`.
    #[must_use]
    pub fn lease(&self) -> Option<Duration> {
        if mutant::is(Mutant::R4) {
            return self.lease_drift_ppm.map(|_| self.election_timeout_max);
        }
        self.lease_drift_ppm.map(|drift| Self::lease_of(self.election_timeout_min, drift))
    }

    /// The same for any timeout and drift.
    #[must_use]
    pub fn lease_of(election_timeout_min: Duration, drift_ppm: u32) -> Duration {
        let drift = drift_ppm.min(DRIFT_ONE);
        let nanos = election_timeout_min.as_nanos() * u128::from(DRIFT_ONE - drift);
        Duration::from_nanos(u64::try_from(nanos / u128::from(DRIFT_ONE + drift)).unwrap_or(u64::MAX))
    }

    /// The LAN settings for this node.
    #[must_use]
    pub fn new(identity: Identity, incarnation: Incarnation, cluster: ClusterId) -> Self {
        Self {
            identity,
            incarnation,
            cluster,
            election_timeout_min: Duration::from_millis(250),
            election_timeout_max: Duration::from_millis(500),
            heartbeat_interval: Duration::from_millis(25),
            disk_hang_timeout: Duration::from_secs(2),
            append_bytes_max: 1_100,
            inflight_appends_max: 256,
            inflight_bytes_max: 1 << 20,
            reorder_bytes_max: 1 << 20,
            log_bytes_max: 1 << 30,
            log_bytes_reserve: 1 << 16,
            log_tail_bytes: 4 << 20,
            promotion_lag_max: 1_024,
            reads_max: 65_536,
            lease_drift_ppm: None,
        }
    }

    /// Checks what the room relies on.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rules = [
            (!self.election_timeout_min.is_zero(), ConfigError::NoElectionTimeout),
            (self.election_timeout_min <= self.election_timeout_max, ConfigError::ElectionTimeoutOrder),
            (
                !self.heartbeat_interval.is_zero()
                    && self.heartbeat_interval * 2 <= self.election_timeout_min,
                ConfigError::HeartbeatInterval,
            ),
            (self.disk_hang_timeout >= self.election_timeout_max, ConfigError::DiskHangTimeout),
            (self.append_bytes_max > 0, ConfigError::AppendBytes),
            (self.inflight_appends_max > 0, ConfigError::InflightAppends),
            (self.log_bytes_reserve < self.log_bytes_max, ConfigError::LogReserve),
            (self.lease().is_none_or(|lease| lease >= self.heartbeat_interval * 2), ConfigError::LeaseDrift),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}

/// A setting the room cannot work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The election timeout is zero.
    NoElectionTimeout,
    /// Its minimum is longer than its maximum.
    ElectionTimeoutOrder,
    /// The heartbeat interval is zero or longer than half the minimum election timeout.
    HeartbeatInterval,
    /// The disk hang timeout is shorter than the maximum election timeout.
    DiskHangTimeout,
    /// Appends may hold nothing.
    AppendBytes,
    /// No append may be in flight.
    InflightAppends,
    /// The log's reserve leaves nothing for proposals.
    LogReserve,
    /// Clocks that drift so much leave no lease longer than two heartbeat intervals.
    LeaseDrift,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoElectionTimeout => "the election timeout is zero",
            Self::ElectionTimeoutOrder => "the minimum election timeout is longer than the maximum",
            Self::HeartbeatInterval => {
                "the heartbeat interval must be above zero and at most half the minimum election timeout"
            }
            Self::DiskHangTimeout => "the disk hang timeout is shorter than the maximum election timeout",
            Self::AppendBytes => "append_bytes_max is zero",
            Self::InflightAppends => "inflight_appends_max is zero",
            Self::LogReserve => "log_bytes_reserve must be smaller than log_bytes_max",
            Self::LeaseDrift => {
                "clocks that may drift so much leave no lease that outlasts two heartbeat intervals"
            }
        })
    }
}

impl core::error::Error for ConfigError {}

/// The entry right before the log's first: zeros, or where a snapshot ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Its index.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The chain value through it.
    pub chain: u32,
}

impl From<SnapshotId> for Base {
    fn from(id: SnapshotId) -> Self {
        Self { index: id.index, term: id.term, chain: id.chain }
    }
}

/// What storage found at the start; all of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// The membership at `base`: the founding one, or the one that the snapshot holds. Empty for a node that has
    /// not learned any yet.
    pub membership: Membership,
    /// Where the log begins: zeros, or at or below the end of the snapshot.
    pub base: Base,
    /// The snapshot that storage holds; what it covers is committed.
    pub snapshot: Option<SnapshotMeta>,
    /// The log from `base.index + 1` on.
    pub entries: Vec<Entry>,
    /// What is left of a damaged log behind these.
    pub remains: Option<Remains>,
}

impl Restored {
    /// A log that begins at index 1.
    #[must_use]
    pub fn new(hard_state: HardState, membership: Membership, entries: Vec<Entry>) -> Self {
        Self { hard_state, membership, base: Base::default(), snapshot: None, entries, remains: None }
    }

    /// A log that begins where a snapshot ends, which holds this membership.
    #[must_use]
    pub fn with_snapshot(
        hard_state: HardState,
        snapshot: SnapshotMeta,
        membership: Membership,
        entries: Vec<Entry>,
    ) -> Self {
        let base = snapshot.id.into();
        Self { hard_state, membership, base, snapshot: Some(snapshot), entries, remains: None }
    }
}
