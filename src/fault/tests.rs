//! Statistics over 10^5 datagrams at fixed seeds, and the promises of the room's page.

use core::time::Duration;
use proptest::prelude::*;

use super::*;
use crate::rng::Rng;
use crate::time::Instant;

const SENT: u64 = 100_000;
const SPACING: Duration = Duration::from_micros(10);

/// What came out: when, and which datagram by the number it begins with (as far as it is still readable).
struct Run {
    link: Link,
    arrivals: Vec<(Instant, Vec<u8>)>,
}

impl Run {
    /// Sends numbered datagrams of 64 bytes, one each spacing, and takes out all that comes.
    fn of(config: LinkConfig, seed: u64, count: u64) -> Self {
        let mut run = Self { link: Link::new(config, Rng::from_seed(seed)), arrivals: Vec::new() };
        let mut now = Instant::ZERO;
        for number in 0..count {
            run.take_until(now);
            run.link.send(now, datagram(number));
            now += SPACING;
        }
        run.take_until(Instant::from_nanos(u64::MAX));
        run
    }

    fn take_until(&mut self, now: Instant) {
        while let Some(due) = self.link.poll_timeout().filter(|&due| due <= now) {
            let bytes = self.link.poll_output(due).expect("a datagram is due at the timeout");
            self.arrivals.push((due, bytes));
        }
    }

    fn stats(&self) -> LinkStats {
        *self.link.stats()
    }

    fn numbers(&self) -> Vec<u64> {
        self.arrivals.iter().map(|(_, bytes)| number(bytes)).collect()
    }

    /// How long each arrival took, in microseconds.
    fn delays_us(&self) -> Vec<f64> {
        let took = |(at, bytes): &(Instant, Vec<u8>)| {
            at.saturating_since(Instant::ZERO + SPACING * u32::try_from(number(bytes)).unwrap())
        };
        self.arrivals.iter().map(|arrival| took(arrival).as_nanos() as f64 / 1e3).collect()
    }
}

fn datagram(number: u64) -> Vec<u8> {
    let mut bytes = vec![0xaa; 64];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

fn clear() -> LinkConfig {
    LinkConfig::default()
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len() as f64
}

#[track_caller]
fn assert_likely(count: u64, trials: u64, probability: f64) {
    let off = sigmas(count, trials, probability);
    assert!(off < 3.5, "{count} of {trials} at {probability} is {off:.1} sigma off");
}

#[test]
fn a_clear_link_delivers_everything_at_once_and_in_order() {
    let run = Run::of(clear(), 1, 1000);
    assert_eq!(run.numbers(), (0..1000).collect::<Vec<_>>());
    assert!(run.delays_us().iter().all(|&us| us == 0.0));
    assert_eq!(run.stats(), LinkStats { sent: 1000, delivered: 1000, ..LinkStats::default() });
}

#[test]
fn every_knob_hits_as_often_as_it_says() {
    type Knob = fn(&mut LinkConfig, f64);
    type Count = fn(&LinkStats) -> u64;
    let knobs: [(&str, Knob, Count); 7] = [
        ("loss", |c, p| c.loss = p, |s| s.dropped_loss),
        ("duplicate", |c, p| c.duplicate = p, |s| s.duplicated),
        ("reorder", |c, p| c.reorder = p, |s| s.reordered),
        ("corrupt", |c, p| c.corrupt = p, |s| s.corrupted),
        ("zero crc", |c, p| c.zero_crc = p, |s| s.crc_zeroed),
        ("truncate", |c, p| c.truncate = p, |s| s.truncated),
        ("extend", |c, p| c.extend = p, |s| s.extended),
    ];
    for (place, (name, set, count)) in knobs.into_iter().enumerate() {
        for probability in [0.0, 0.001, 0.05, 0.3, 0.65, 1.0] {
            let mut config = clear();
            set(&mut config, probability);
            let mut link = Link::new(config, Rng::from_seed(40 + place as u64));
            for _ in 0..SENT {
                link.send(Instant::ZERO, vec![0xaa; 64]);
                while link.poll_output(Instant::from_nanos(u64::MAX)).is_some() {}
            }
            let stats = link.stats();
            let off = sigmas(count(stats), SENT, probability);
            assert!(off < 3.5, "{name} at {probability}: {off:.1} sigma off: {stats}");
            assert_eq!(stats.sent + stats.duplicated, stats.delivered + stats.dropped(), "{name}");
        }
    }
}

#[test]
fn losses_are_independent_of_each_other() {
    let run = Run::of(LinkConfig { loss: 0.3, ..clear() }, 5, SENT);
    let arrived = run.numbers();
    let pairs_kept = arrived.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() as u64;
    assert_likely(pairs_kept, arrived.len() as u64, 0.7);
}

#[test]
fn bursts_are_as_long_and_as_frequent_as_the_chain_says() {
    // Gilbert's model: the bad state loses all, so runs of lost datagrams are the stays in it.
    let bursts = Bursts { p: 0.01, r: 0.25, loss_bad: 1.0, loss_good: 0.0 };
    let run = Run::of(LinkConfig { bursts: Some(bursts), ..clear() }, 6, SENT);
    let arrived = run.numbers();
    let runs: Vec<f64> =
        arrived.windows(2).map(|pair| (pair[1] - pair[0] - 1) as f64).filter(|&lost| lost > 0.0).collect();
    // A stay is geometric: mean 1/r, variance (1-r)/r².
    let sigma = (1.0 - bursts.r).sqrt() / bursts.r / (runs.len() as f64).sqrt();
    assert!((mean(&runs) - 1.0 / bursts.r).abs() < 3.5 * sigma, "mean burst of {}", mean(&runs));
    let share = run.stats().dropped_burst as f64 / SENT as f64;
    let expected = bursts.p / (bursts.p + bursts.r);
    // Neighbours are correlated by 1-p-r, which multiplies the variance of the share by about (2-p-r)/(p+r).
    let spread = (2.0 - bursts.p - bursts.r) / (bursts.p + bursts.r);
    let sigma = (expected * (1.0 - expected) * spread / SENT as f64).sqrt();
    assert!((share - expected).abs() < 3.5 * sigma, "share {share}, not {expected}");
    // Each arrival but the last meets the good state once more: it leaves it with probability p.
    assert_likely(runs.len() as u64, arrived.len() as u64, bursts.p);
}

#[test]
fn a_burst_chain_loses_some_in_either_state() {
    let bursts = Bursts { p: 0.5, r: 0.5, loss_bad: 0.6, loss_good: 0.2 };
    let run = Run::of(LinkConfig { bursts: Some(bursts), ..clear() }, 7, SENT);
    // With p + r = 1 each datagram meets either state independently of the one before.
    assert_likely(run.stats().dropped_burst, SENT, 0.4);
}

#[test]
fn delays_have_the_mean_and_bounds_of_their_distribution() {
    let (delay, jitter) = (Duration::from_micros(500), Duration::from_micros(200));
    let constant = Run::of(LinkConfig { delay, ..clear() }, 8, 1000);
    assert!(constant.delays_us().iter().all(|&us| us == 500.0));
    assert_eq!(constant.stats().overtaken, 0);

    let uniform = Run::of(LinkConfig { delay, jitter, ..clear() }, 8, SENT);
    let delays = uniform.delays_us();
    assert!(delays.iter().all(|us| (300.0..=700.0).contains(us)));
    let sigma = 400.0 / 12f64.sqrt() / (SENT as f64).sqrt();
    assert!((mean(&delays) - 500.0).abs() < 3.5 * sigma, "{}", mean(&delays));
    assert_likely(delays.iter().filter(|&&us| us < 400.0).count() as u64, SENT, 0.25);

    let distribution = Distribution::Exponential;
    let exponential = Run::of(LinkConfig { delay, jitter, distribution, ..clear() }, 8, SENT);
    let delays = exponential.delays_us();
    assert!(delays.iter().all(|&us| us >= 500.0));
    let sigma = 200.0 / (SENT as f64).sqrt();
    assert!((mean(&delays) - 700.0).abs() < 3.5 * sigma, "{}", mean(&delays));
    for means in [0.5, 1.0, 3.0] {
        let later = delays.iter().filter(|&&us| us > 500.0 + means * 200.0).count() as u64;
        assert_likely(later, SENT, (-means).exp());
    }
}

#[test]
fn jitter_beyond_the_delay_never_arrives_before_it_was_sent() {
    let config = LinkConfig { delay: SPACING, jitter: 10 * SPACING, ..clear() };
    let delays = Run::of(config, 9, 1000).delays_us();
    assert!(delays.iter().all(|us| (0.0..=110.0).contains(us)));
    assert!(delays.contains(&0.0));
}

#[test]
fn reordering_loses_and_invents_nothing() {
    let config = LinkConfig { reorder: 0.1, ..clear() };
    let run = Run::of(config, 10, SENT);
    let mut numbers = run.numbers();
    assert!(!numbers.is_sorted());
    // Held back for 100 spacings, practically every reordered datagram is overtaken.
    let stats = run.stats();
    assert!(stats.overtaken > stats.reordered * 99 / 100, "{stats}");
    numbers.sort_unstable();
    assert_eq!(numbers, (0..SENT).collect::<Vec<_>>());
}

#[test]
fn a_duplicate_is_the_same_datagram_and_a_replay_comes_late() {
    let run = Run::of(LinkConfig { duplicate: 1.0, ..clear() }, 11, 100);
    assert_eq!(run.numbers(), (0..100).flat_map(|n| [n, n]).collect::<Vec<_>>());

    let (after_min, after_max) = (Duration::from_secs(60), Duration::from_secs(120));
    let replay = Some(Replay { chance: 0.02, after_min, after_max });
    let run = Run::of(LinkConfig { replay, ..clear() }, 11, SENT);
    let late: Vec<f64> = run.delays_us().into_iter().filter(|&us| us > 0.0).collect();
    assert_eq!(late.len() as u64, run.stats().replayed);
    assert!(late.iter().all(|us| (60e6..=120e6).contains(us)));
    assert_likely(run.stats().replayed, SENT, 0.02);
}

#[test]
fn damage_does_what_its_count_says() {
    let bits_off = |config: LinkConfig| -> Vec<u32> {
        let mut link = Link::new(config, Rng::from_seed(12));
        (0..2000)
            .map(|_| {
                link.send(Instant::ZERO, vec![0; 64]);
                let bytes = link.poll_output(Instant::ZERO).unwrap();
                bytes.iter().map(|byte| byte.count_ones()).sum()
            })
            .collect()
    };
    assert!(bits_off(LinkConfig { corrupt: 1.0, ..clear() }).iter().all(|&bits| bits == 1));
    let several = bits_off(LinkConfig { corrupt: 1.0, corrupt_bits_max: 4, ..clear() });
    assert!((1..=4).all(|bits| several.iter().filter(|&&off| off == bits).count() > 400));
    assert!(several.iter().all(|bits| (1..=4).contains(bits)));

    let mut link = Link::new(LinkConfig { zero_crc: 1.0, ..clear() }, Rng::from_seed(12));
    link.send(Instant::ZERO, vec![0xff; 10]);
    assert_eq!(link.poll_output(Instant::ZERO).unwrap(), [255, 255, 255, 255, 0, 0, 0, 0, 255, 255]);

    for (_, bytes) in Run::of(LinkConfig { extend: 1.0, ..clear() }, 12, 1000).arrivals {
        assert!((65..=128).contains(&bytes.len()));
        assert_eq!(bytes[8..64], [0xaa; 56]);
    }
    let mut link = Link::new(LinkConfig { truncate: 1.0, ..clear() }, Rng::from_seed(12));
    for number in 0..1000 {
        link.send(Instant::ZERO, datagram(number));
        let bytes = link.poll_output(Instant::ZERO).unwrap();
        assert!(bytes.len() < 64 && datagram(number).starts_with(&bytes));
    }
}

#[test]
fn damage_that_cannot_be_done_is_not_counted() {
    let config = LinkConfig { corrupt: 1.0, zero_crc: 1.0, truncate: 1.0, ..clear() };
    let mut link = Link::new(config, Rng::from_seed(13));
    link.send(Instant::ZERO, Vec::new());
    assert_eq!(link.poll_output(Instant::ZERO), Some(Vec::new()));
    assert_eq!(link.stats().to_string(), "sent=1 delivered=1");
}

#[test]
fn a_blocked_link_drops_what_is_sent_and_delivers_what_is_on_its_way() {
    let delay = Duration::from_millis(1);
    let mut link = Link::new(LinkConfig { delay, ..clear() }, Rng::from_seed(14));
    link.send(Instant::ZERO, datagram(1));
    link.set_config(LinkConfig { is_blocked: true, delay, ..clear() });
    link.send(Instant::ZERO, datagram(2));
    link.set_config(LinkConfig { mtu: Some(63), ..clear() });
    link.send(Instant::ZERO, datagram(3));
    assert_eq!(link.poll_timeout(), Some(Instant::ZERO + delay));
    assert_eq!(link.poll_output(Instant::ZERO), None);
    assert_eq!(link.poll_output(Instant::ZERO + delay), Some(datagram(1)));
    assert_eq!(link.poll_timeout(), None);
    assert_eq!(link.stats().to_string(), "sent=3 delivered=1 dropped_blocked=1 dropped_mtu=1");
}

#[test]
fn a_rate_spaces_datagrams_and_its_queue_overflows() {
    // 64 bytes at 640,000 bytes a second take 100 µs.
    let rate = Rate { bytes_per_s: 640_000, queue_packets_max: 3, queue_bytes_max: 1000 };
    let mut link = Link::new(LinkConfig { rate: Some(rate), ..clear() }, Rng::from_seed(15));
    for number in 0..5 {
        link.send(Instant::ZERO, datagram(number));
    }
    let mut due = Vec::new();
    while let Some(at) = link.poll_timeout() {
        link.poll_output(at);
        due.push(at.as_nanos() / 1000);
    }
    assert_eq!(due, [100, 200, 300]);
    assert_eq!(link.stats().dropped_queue, 2);
    // One more fits as soon as the first has left, also when bytes are the bound.
    let rate = Rate { bytes_per_s: 640_000, queue_packets_max: 99, queue_bytes_max: 3 * 64 };
    let mut link = Link::new(LinkConfig { rate: Some(rate), ..clear() }, Rng::from_seed(15));
    for number in 0..4 {
        link.send(Instant::ZERO, datagram(number));
    }
    assert_eq!(link.stats().dropped_queue, 1);
    link.send(Instant::from_nanos(99_999), datagram(4));
    assert_eq!(link.stats().dropped_queue, 2);
    link.send(Instant::from_nanos(100_000), datagram(5));
    assert_eq!(link.stats().dropped_queue, 2);
}

#[test]
fn a_full_link_drops_and_says_so() {
    for delay in [Duration::ZERO, SPACING] {
        let mut link = Link::new(LinkConfig { delay, held_max: 2, ..clear() }, Rng::from_seed(16));
        (0..5).for_each(|number| link.send(Instant::ZERO, datagram(number)));
        assert_eq!((link.held(), link.stats().dropped_queue), (2, 3));
    }
}

#[test]
fn clearing_a_slow_link_lets_later_datagrams_pass_the_held_ones() {
    let mut link = Link::new(LinkConfig { delay: SPACING, ..clear() }, Rng::from_seed(17));
    link.send(Instant::ZERO, datagram(1));
    link.set_config(clear());
    link.send(Instant::ZERO, datagram(2));
    assert_eq!(link.poll_output(Instant::ZERO), Some(datagram(2)));
    assert_eq!(link.poll_output(Instant::ZERO), None);
    assert_eq!(link.poll_output(Instant::ZERO + SPACING), Some(datagram(1)));
    assert_eq!(link.stats().overtaken, 1);
}

#[test]
fn another_delay_leaves_the_same_datagrams_lost() {
    let lost = |config: LinkConfig| {
        let mut arrived = Run::of(config, 18, 2000).numbers();
        arrived.sort_unstable();
        arrived
    };
    let lossy = LinkConfig { loss: 0.2, ..clear() };
    let slow = LinkConfig { delay: SPACING, jitter: SPACING, reorder: 0.1, ..lossy.clone() };
    assert_eq!(lost(lossy), lost(slow));
}

#[test]
fn bad_settings_are_named() {
    let replay = |chance, after_min, after_max| Some(Replay { chance, after_min, after_max });
    let cases = [
        (LinkConfig { loss: 1.1, ..clear() }, "loss is 1.1, not within 0 to 1"),
        (LinkConfig { duplicate: f64::NAN, ..clear() }, "duplicate is NaN, not within 0 to 1"),
        (
            LinkConfig { replay: replay(0.1, SPACING, Duration::ZERO), ..clear() },
            "replays after 10µs at least and 0ns at most",
        ),
        (LinkConfig { corrupt_bits_max: 0, ..clear() }, "0 bits to corrupt, not within 1 to 64"),
        (
            LinkConfig {
                rate: Some(Rate { bytes_per_s: 0, queue_packets_max: 1, queue_bytes_max: 1 }),
                ..clear()
            },
            "a rate of zero; block the link instead",
        ),
    ];
    for (config, text) in cases {
        assert_eq!(config.validate().unwrap_err().to_string(), text);
    }
}

fn any_config() -> impl Strategy<Value = LinkConfig> {
    let unit = || prop_oneof![Just(0.0), 0.0..1.0f64];
    let us = || (0u64..300).prop_map(Duration::from_micros);
    let bursts =
        prop::option::of((unit(), unit()).prop_map(|(p, r)| Bursts { p, r, loss_bad: 0.9, loss_good: 0.01 }));
    let rate = prop::option::of((100_000u64..10_000_000, 1usize..20, 64usize..4000).prop_map(
        |(bytes_per_s, queue_packets_max, queue_bytes_max)| Rate {
            bytes_per_s,
            queue_packets_max,
            queue_bytes_max,
        },
    ));
    let replay = prop::option::of((unit(), us()).prop_map(|(chance, after_min)| Replay {
        chance,
        after_min,
        after_max: after_min * 2,
    }));
    let faults = (unit(), unit(), unit(), unit(), unit(), unit());
    (faults, us(), us(), bursts, rate, replay).prop_map(|(faults, delay, jitter, bursts, rate, replay)| {
        let (loss, duplicate, reorder, corrupt, truncate, extend) = faults;
        let held_max = 50;
        LinkConfig {
            loss,
            bursts,
            delay,
            jitter,
            duplicate,
            replay,
            reorder,
            corrupt,
            truncate,
            extend,
            rate,
            held_max,
            ..clear()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_seed_gives_one_output_and_every_datagram_is_accounted_for(config in any_config(), seed: u64) {
        let mut links = [0, 1].map(|_| Link::new(config.clone(), Rng::from_seed(seed)));
        let mut now = Instant::ZERO;
        for number in 0..200 {
            let outputs = links.each_mut().map(|link| {
                link.send(now, datagram(number));
                let output: Vec<_> = std::iter::from_fn(|| link.poll_output(now)).collect();
                (output, link.poll_timeout())
            });
            prop_assert_eq!(&outputs[0], &outputs[1]);
            prop_assert!(outputs[0].1.is_none_or(|due| due > now), "what is due was taken");
            let (stats, held) = (links[0].stats(), links[0].held() as u64);
            let copies = stats.duplicated + stats.replayed;
            prop_assert_eq!(stats.sent + copies, stats.delivered + stats.dropped() + held);
            prop_assert!(held <= 50);
            now += SPACING;
        }
    }
}
