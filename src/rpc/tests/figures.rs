//! How long one exchange takes under loss, over virtual time with a round trip of 100 µs.

use core::time::Duration;

use super::world::{Faults, Mode, World};
use crate::rpc::{DuplicateMode, Event, RpcConfig};
use crate::wire::Class;

in_both_modes! {
    one_exchange_stays_fast_under_loss,
    without_loss_nothing_is_sent_twice,
}

struct Figures {
    p50: Duration,
    p99: Duration,
    p999: Duration,
    max: Duration,
    datagrams_per_call: f64,
}

/// So many exchanges one after another, over so many seeds; the answer comes at once.
fn measure(mode: Mode, loss: f64, duplicate: DuplicateMode) -> Figures {
    let mut spans = Vec::new();
    let mut datagrams = 0;
    for seed in 0..SEEDS {
        let config = RpcConfig { duplicate, ..mode.config() };
        let (mut world, link, _) = World::pair(seed, &config);
        world.faults = Faults::loss(loss);
        let before: usize = world.ends.iter().map(|end| end.sent_count).sum();
        for _ in 0..EXCHANGES {
            let began = world.now;
            let call = world.ends[0].rpc.call(began, link, Class::Once, vec![1; 64]).unwrap();
            world.turn(0);
            spans.push(finish(&mut world, call).saturating_since(began));
            world.run_echo(Duration::from_micros(300));
        }
        datagrams += world.ends.iter().map(|end| end.sent_count).sum::<usize>() - before;
    }
    spans.sort_unstable();
    let at = |share: f64| spans[((spans.len() - 1) as f64 * share) as usize];
    Figures {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        max: at(1.0),
        datagrams_per_call: datagrams as f64 / spans.len() as f64,
    }
}

/// Runs until the call is answered; when.
fn finish(world: &mut World, call: crate::types::CallId) -> crate::time::Instant {
    let until = world.now + Duration::from_secs(10);
    while world.step(until) {
        while let Some((place, event)) = world.events.pop_front() {
            match event {
                Event::Request { token, body, .. } => {
                    world.ends[place].rpc.reply(world.now, token, body);
                }
                Event::Reply { call: answered, .. } if answered == call => {
                    world.turn(0);
                    return world.now;
                }
                _ => {}
            }
        }
        world.turn(0);
        world.turn(1);
    }
    panic!("{call} was not answered within 10 s");
}

const SEEDS: u64 = 20;
const EXCHANGES: usize = 500;

// [W-31] [W-33]
/// `cargo test --lib rpc::tests::figures -- --nocapture` prints the table.
fn one_exchange_stays_fast_under_loss(mode: Mode) {
    let bounds = [(0.0, 0.2), (0.05, 1.0), (0.1, 1.0), (0.2, 6.0), (0.3, 6.0)];
    println!("one exchange, RTT 100 us, G 100 us, {SEEDS} seeds of {EXCHANGES}");
    for duplicate in [DuplicateMode::Off, DuplicateMode::Adaptive] {
        for (loss, bound_ms) in bounds {
            let figures = measure(mode, loss, duplicate);
            println!(
                "{duplicate:?} loss {:>2.0} %: p50 {:>5} p99 {:>5} p99.9 {:>5} max {:>5} us, {:.2} datagrams",
                loss * 100.0,
                figures.p50.as_micros(),
                figures.p99.as_micros(),
                figures.p999.as_micros(),
                figures.max.as_micros(),
                figures.datagrams_per_call,
            );
            assert!(figures.p99.as_secs_f64() * 1000.0 <= bound_ms, "p99 {:?} at {loss}", figures.p99);
        }
    }
}

// [W-29] [W-31]
/// The acknowledgement of an answer with nothing to ride on waits as long as it may, and no probe beats it.
fn without_loss_nothing_is_sent_twice(mode: Mode) {
    for seed in 0..SEEDS {
        let (mut world, link, _) = World::pair(seed, &mode.config());
        for _ in 0..EXCHANGES {
            let now = world.now;
            world.ends[0].rpc.call(now, link, Class::Once, vec![1; 64]).unwrap();
            world.turn(0);
            world.run_echo(Duration::from_millis(5));
        }
        for end in &world.ends {
            let stats = end.rpc.links().map(|link| end.rpc.link_stats(link).unwrap());
            assert_eq!(stats.map(|link| (link.probes, link.retransmits)).collect::<Vec<_>>(), [(0, 0)]);
        }
    }
}
