//! Seeded randomness, handed in.
//!
//! The generator is named (xoshiro256++) and the mapping to ranges is our own, so a seed means the same run on
//! every machine and with every version of the `rand` crate; `rand::rngs::StdRng` promises neither.

use core::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng as _, SeedableRng};

/// A deterministic random generator.
#[derive(Clone, Debug)]
pub struct Rng(Xoshiro256PlusPlus);

impl Rng {
    /// The generator of this seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// The generator of this long seed, for identities that must not be guessed from 64 bits.
    #[must_use]
    pub fn from_bytes(seed: [u8; 32]) -> Self {
        Self(Xoshiro256PlusPlus::from_seed(seed))
    }

    /// A generator of its own for one room, so that one room's draws never shift another's.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::from_seed(self.next_u64())
    }

    /// Sixty-four random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound` by widening multiplication; its bias is below `bound` / 2^64.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a range needs at least one number");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `[0, 1)` with 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability; at 0 never, at 1 always. Always draws once.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A span in `min..=max`, to the nanosecond.
    ///
    /// # Panics
    /// When `min` is longer than `max`.
    pub fn duration_between(&mut self, min: Duration, max: Duration) -> Duration {
        assert!(min <= max, "{min:?} is longer than {max:?}");
        let width = u64::try_from((max - min).as_nanos()).unwrap_or(u64::MAX - 1);
        min + Duration::from_nanos(self.below(width + 1))
    }

    /// Sixteen random bytes, for identities.
    pub fn bytes16(&mut self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.next_u64().to_be_bytes());
        out[8..].copy_from_slice(&self.next_u64().to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut rng = Rng::from_seed(7);
        let drawn: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(drawn, [1_021_219_803_524_665_661, 3_174_977_118_032_272_916, 13_236_943_193_235_544_178]);
    }

    #[test]
    fn below_stays_below_and_reaches_every_number() {
        let mut rng = Rng::from_seed(1);
        let mut seen = [0u32; 5];
        for _ in 0..1000 {
            seen[usize::try_from(rng.below(5)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&n| n > 150), "{seen:?}");
    }

    #[test]
    fn chance_of_nothing_and_of_certainty() {
        let mut rng = Rng::from_seed(2);
        assert!((0..1000).all(|_| !rng.chance(0.0)));
        assert!((0..1000).all(|_| rng.chance(1.0)));
    }

    #[test]
    fn a_span_of_one_point_is_that_point() {
        let mut rng = Rng::from_seed(3);
        let ten = Duration::from_millis(10);
        assert_eq!(rng.duration_between(ten, ten), ten);
    }
}
