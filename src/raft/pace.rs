//! How fast proposals come, and slowing them for a peer that a snapshot is on its way to.
//!
//! What follows the snapshot must still be in the log when the transfer ends, or it was in vain. It is kept as long as
//! the log takes at most half its bound. When half of that is taken, the transfer is about to lose the race: then
//! proposals are taken at half the pace they had before, for a receiver that moves, and not for ever.

use core::time::Duration;

use super::Raft;
use super::role::Role;
use crate::time::Instant;

/// The pace is that of the last window of this length.
const WINDOW: Duration = Duration::from_millis(250);

/// A receiver that got nothing for this long is not waited for.
const MOVED_WITHIN: Duration = Duration::from_secs(1);

/// No transfer slows proposals any more when it began to so long ago.
const SLOWED_MAX: Duration = Duration::from_secs(60);

/// The pace of a leader's proposals.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Pace {
    /// The window being counted.
    window: Option<(Instant, u64)>,
    /// Bytes a second in the last full one.
    rate: Option<u64>,
    /// While slowed: the next proposal is taken then.
    next_at: Option<Instant>,
}

impl Pace {
    /// Whether one more proposal may be taken.
    fn allows(&self, now: Instant) -> bool {
        self.next_at.is_none_or(|next_at| next_at <= now)
    }

    /// From here on at half the pace so far, if one is known.
    fn slow(&mut self, now: Instant) {
        if self.rate.is_some() {
            self.next_at.get_or_insert(now);
        }
    }

    /// As fast as they come.
    fn release(&mut self, now: Instant) {
        if self.next_at.take().is_some() {
            self.window = Some((now, 0));
        }
    }

    /// Counts a proposal that was taken.
    fn took(&mut self, now: Instant, bytes: u64) {
        match (&mut self.next_at, self.rate) {
            (Some(next_at), Some(rate)) => {
                let nanos = bytes.saturating_mul(2_000_000_000) / rate.max(1);
                // What was not used for a window is lost: no burst makes up for it.
                let begun = if now.saturating_since(*next_at) > WINDOW { now } else { *next_at };
                *next_at = begun + Duration::from_nanos(nanos);
            }
            _ => self.measure(now, bytes),
        }
    }

    fn measure(&mut self, now: Instant, bytes: u64) {
        let (since, counted) = self.window.get_or_insert((now, 0));
        let span = now.saturating_since(*since);
        if span >= WINDOW {
            let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
            let rate = u128::from(*counted) * 1_000_000_000 / u128::from(nanos);
            self.rate = Some(u64::try_from(rate).unwrap_or(u64::MAX).max(1));
            (*since, *counted) = (now, 0);
        }
        *counted += bytes;
    }
}

impl Raft {
    /// Whether a leader takes another proposal now.
    pub(super) fn pace_allows(&mut self, now: Instant) -> bool {
        let is_crowded = self.log.bytes() > self.config.log_bytes_max / 4;
        let Role::Leader(leader) = &mut self.role else { return false };
        let mut is_waiting = false;
        if is_crowded {
            for progress in leader.progress.values_mut() {
                // Each transfer's own time runs.
                is_waiting |= progress.slows_proposals(now, MOVED_WITHIN, SLOWED_MAX);
            }
        }
        if is_waiting {
            leader.pace.slow(now);
        } else {
            leader.pace.release(now);
        }
        leader.pace.allows(now)
    }

    /// Counts what a proposal added to the log.
    pub(super) fn pace_took(&mut self, now: Instant, bytes: usize) {
        if let Role::Leader(leader) = &mut self.role {
            leader.pace.took(now, bytes as u64);
        }
    }
}
