//! The one place that reads a clock.

#![cfg_attr(
    not(target_os = "linux"),
    expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "our own Instant comes from here")
)]

use std::time::Duration;

use crate::time::Instant;

/// A monotonic clock whose zero is its making. Steps of the wall clock do not touch it, and the time in which the
/// machine is suspended counts: a lease must not outlive it (R4). What no clock
/// of a machine can tell is for how long a hypervisor has stopped it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Duration,
}

impl Clock {
    /// A clock that reads zero here.
    #[must_use]
    pub fn start() -> Self {
        Self { start: since_boot() }
    }

    /// What it reads.
    #[must_use]
    pub fn now(&self) -> Instant {
        let elapsed = since_boot().saturating_sub(self.start);
        Instant::from_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::start()
    }
}

/// Time since the machine was started, suspended or not.
#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// What std has; whether it counts the time of a suspension depends on the system.
#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    use std::sync::OnceLock;
    static ZERO: OnceLock<std::time::Instant> = OnceLock::new();
    ZERO.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_runs_backwards() {
        let clock = Clock::start();
        let readings: Vec<Instant> = (0..1000).map(|_| clock.now()).collect();
        assert!(readings.is_sorted());
    }
}
