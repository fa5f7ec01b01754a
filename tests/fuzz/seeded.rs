//! The harnesses on inputs drawn from printed seeds: a few seconds of what `fuzz/run` does for hours.
//!
//! `RAFTGRAM_FUZZ=TARGET:COUNT` runs one of them as often as that, from seed `RAFTGRAM_FUZZ_SEED` (1) on, and tells how
//! many steps that were: `RAFTGRAM_FUZZ=datagram:1000000000 cargo test --release --test vectors fuzz -- --nocapture`.

use raftgram::rng::Rng;

use super::{TARGETS, Target};

/// Inputs of each target when nothing else is said.
const COUNTS: [(&str, u64); 8] = [
    ("datagram", 20_000),
    ("frames", 20_000),
    ("body", 20_000),
    ("links", 60),
    ("node", 25),
    ("log", 150),
    ("snapshot", 300),
    ("state", 2_000),
];

#[test]
fn no_input_of_a_seed_makes_a_reader_or_a_machine_panic() {
    if let Ok(asked) = std::env::var("RAFTGRAM_FUZZ") {
        let (name, count) = asked.split_once(':').expect("RAFTGRAM_FUZZ is TARGET:COUNT");
        let target = TARGETS.iter().find(|target| target.name == name).expect("a target of tests/fuzz");
        let seed = std::env::var("RAFTGRAM_FUZZ_SEED").map_or(1, |seed| seed.parse().expect("a number"));
        return run(target, seed, count.parse().expect("a number"));
    }
    for target in &TARGETS {
        let counted = COUNTS.iter().find(|(name, _)| *name == target.name);
        run(target, 1, counted.expect("every target has a count").1);
    }
}

fn run(target: &Target, seed: u64, count: u64) {
    let mut steps = 0;
    let mut input = Vec::with_capacity(target.input_bytes);
    for seed in seed..seed + count {
        let _told = TellSeed { target: target.name, seed };
        fill(&mut input, target.input_bytes, seed);
        steps += (target.run)(&input);
    }
    eprintln!("{}: {count} inputs from seed {seed}, {steps} steps", target.name);
}

/// Random bytes, up to twice as many as reach far.
fn fill(input: &mut Vec<u8>, bytes: usize, seed: u64) {
    let mut rng = Rng::from_seed(seed);
    let length = rng.below(2 * bytes as u64) as usize;
    input.clear();
    while input.len() < length {
        input.extend_from_slice(&rng.next_u64().to_be_bytes());
    }
}

/// Names the seed of an input that failed.
struct TellSeed {
    target: &'static str,
    seed: u64,
}

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { target, seed } = self;
            eprintln!("failed: RAFTGRAM_FUZZ={target}:1 RAFTGRAM_FUZZ_SEED={seed}");
        }
    }
}
