//! One direction of one path.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::config::{Bursts, Distribution, LinkConfig, Rate};
use super::damage::{damage, hits};
use super::stats::LinkStats;
use crate::rng::Rng;
use crate::time::Instant;

/// A datagram on its way.
#[derive(Clone, Debug)]
struct Held {
    /// Its place in the order of sending; copies share it.
    number: u64,
    bytes: Vec<u8>,
}

/// A seeded one-way link.
#[derive(Clone, Debug)]
pub struct Link {
    config: LinkConfig,
    is_clear: bool,
    losses: Rng,
    timing: Rng,
    damage: Rng,
    /// The burst chain's state.
    is_bad: bool,
    queue: RateQueue,
    /// Sent while the link was clear and nothing else was held: due at once, and before all of `held`.
    ready: VecDeque<(Instant, Held)>,
    /// By due time, then by order of coming here.
    held: BTreeMap<(Instant, u64), Held>,
    serial: u64,
    /// The largest number delivered.
    newest: u64,
    stats: LinkStats,
}

impl Link {
    /// A link of these faults; `rng` decides every draw it makes.
    ///
    /// # Panics
    /// When the settings do not validate.
    #[must_use]
    pub fn new(config: LinkConfig, mut rng: Rng) -> Self {
        let mut link = Self {
            config: LinkConfig::default(),
            is_clear: true,
            losses: rng.fork(),
            timing: rng.fork(),
            damage: rng.fork(),
            is_bad: false,
            queue: RateQueue::default(),
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            serial: 0,
            newest: 0,
            stats: LinkStats::default(),
        };
        link.set_config(config);
        link
    }

    /// Changes the faults for what is sent from here on.
    ///
    /// # Panics
    /// When the settings do not validate.
    pub fn set_config(&mut self, config: LinkConfig) {
        if let Err(error) = config.validate() {
            panic!("link settings were not validated: {error}");
        }
        self.is_clear = config.is_clear();
        if config.rate.is_none() {
            self.queue = RateQueue::default();
        }
        self.config = config;
    }

    /// The faults in force.
    #[must_use]
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// What the link did so far.
    #[must_use]
    pub const fn stats(&self) -> &LinkStats {
        &self.stats
    }

    /// How many datagrams are on their way.
    #[must_use]
    pub fn held(&self) -> usize {
        self.ready.len() + self.held.len()
    }

    /// Puts a datagram in.
    pub fn send(&mut self, now: Instant, bytes: Vec<u8>) {
        self.stats.sent += 1;
        let datagram = Held { number: self.stats.sent, bytes };
        if self.is_clear && self.held.is_empty() && self.ready.len() < self.config.held_max {
            self.ready.push_back((now, datagram));
            return;
        }
        if self.is_dropped(datagram.bytes.len()) {
            return;
        }
        if hits(&mut self.losses, self.config.duplicate) {
            self.stats.duplicated += 1;
            self.carry(now, datagram.clone());
        }
        if let Some(replay) = self.config.replay
            && hits(&mut self.losses, replay.chance)
        {
            self.stats.replayed += 1;
            let after = self.timing.duration_between(replay.after_min, replay.after_max);
            self.hold(now + after, datagram.clone());
        }
        self.carry(now, datagram);
    }

    /// Draws whether the link loses a datagram of this length, and counts it.
    fn is_dropped(&mut self, bytes: usize) -> bool {
        let cause = if self.config.is_blocked {
            &mut self.stats.dropped_blocked
        } else if self.config.mtu.is_some_and(|mtu| bytes > mtu) {
            &mut self.stats.dropped_mtu
        } else if hits(&mut self.losses, self.config.loss) {
            &mut self.stats.dropped_loss
        } else if self.config.bursts.is_some_and(|bursts| self.is_lost_in_burst(bursts)) {
            &mut self.stats.dropped_burst
        } else {
            return false;
        };
        *cause += 1;
        true
    }

    /// Draws loss by the chain's state, then the state that the next datagram meets.
    fn is_lost_in_burst(&mut self, bursts: Bursts) -> bool {
        let (loss, change) =
            if self.is_bad { (bursts.loss_bad, bursts.r) } else { (bursts.loss_good, bursts.p) };
        let is_lost = hits(&mut self.losses, loss);
        self.is_bad ^= hits(&mut self.losses, change);
        is_lost
    }

    /// Takes one copy through damage, queue and delay.
    fn carry(&mut self, now: Instant, mut datagram: Held) {
        damage(&self.config, &mut self.damage, &mut self.stats, &mut datagram.bytes);
        let departure = match self.config.rate {
            None => Some(now),
            Some(rate) => self.queue.departure(now, rate, datagram.bytes.len()),
        };
        let Some(departure) = departure else {
            self.stats.dropped_queue += 1;
            return;
        };
        let mut due = departure + self.draw_delay();
        if hits(&mut self.timing, self.config.reorder) {
            self.stats.reordered += 1;
            due += self.config.reorder_delay;
        }
        self.hold(due, datagram);
    }

    fn draw_delay(&mut self) -> Duration {
        let LinkConfig { delay, jitter, distribution, .. } = self.config;
        if jitter.is_zero() {
            return delay;
        }
        match distribution {
            Distribution::Uniform => {
                let both_sides = self.timing.duration_between(Duration::ZERO, jitter * 2);
                (delay + both_sides).saturating_sub(jitter)
            }
            Distribution::Exponential => delay + jitter.mul_f64(exponential(&mut self.timing)),
        }
    }

    fn hold(&mut self, due: Instant, datagram: Held) {
        if self.held() >= self.config.held_max {
            self.stats.dropped_queue += 1;
            return;
        }
        self.serial += 1;
        self.held.insert((due, self.serial), datagram);
    }

    /// The next datagram that is due, if one is.
    pub fn poll_output(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.poll_timeout()? > now {
            return None;
        }
        let ready = self.ready.pop_front().map(|(_, datagram)| datagram);
        let datagram = ready.or_else(|| self.held.pop_first().map(|(_, datagram)| datagram))?;
        self.stats.delivered += 1;
        self.stats.overtaken += u64::from(datagram.number < self.newest);
        self.newest = self.newest.max(datagram.number);
        Some(datagram.bytes)
    }

    /// When the next datagram is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ready = self.ready.front().map(|&(due, _)| due);
        ready.or_else(|| self.held.first_key_value().map(|(&(due, _), _)| due))
    }
}

/// The datagrams that wait for a link of limited speed.
#[derive(Clone, Debug, Default)]
struct RateQueue {
    /// When each has left, and its length.
    waiting: VecDeque<(Instant, usize)>,
    bytes: usize,
    /// When the last one has left.
    free_at: Instant,
}

impl RateQueue {
    /// When a datagram of this length has left, or `None` when there is no room for it.
    fn departure(&mut self, now: Instant, rate: Rate, bytes: usize) -> Option<Instant> {
        while let Some(&(departure, left)) = self.waiting.front()
            && departure <= now
        {
            self.waiting.pop_front();
            self.bytes -= left;
        }
        if self.waiting.len() >= rate.queue_packets_max || self.bytes + bytes > rate.queue_bytes_max {
            return None;
        }
        let carrying_ns = bytes as u128 * 1_000_000_000 / u128::from(rate.bytes_per_s);
        let carrying = Duration::from_nanos(u64::try_from(carrying_ns).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now) + carrying;
        self.waiting.push_back((self.free_at, bytes));
        self.bytes += bytes;
        Some(self.free_at)
    }
}

/// An exponentially distributed number of mean 1, by von Neumann's comparison of uniform draws: no logarithm, whose
/// last bit differs between platforms.
fn exponential(rng: &mut Rng) -> f64 {
    let mut whole = 0.0;
    loop {
        let first = rng.unit();
        let mut before = first;
        let mut run = 1;
        // The run goes on while the draws fall; one of odd length accepts.
        loop {
            let drawn = rng.unit();
            if drawn >= before {
                break;
            }
            before = drawn;
            run += 1;
        }
        if run % 2 == 1 {
            return whole + first;
        }
        whole += 1.0;
    }
}
