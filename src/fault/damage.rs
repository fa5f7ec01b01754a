//! Changing a datagram's bytes.

use core::ops::Range;
use std::collections::BTreeSet;

use super::config::LinkConfig;
use super::stats::LinkStats;
use crate::rng::Rng;

/// Where the datagram header keeps its checksum (wire-spec.md).
const CRC_FIELD: Range<usize> = 4..8;

/// The most bytes that are added to a datagram.
const EXTENSION_BYTES_MAX: u64 = 64;

/// Changes the bytes as the settings ask. What cannot change (no bytes to cut, zeros already) is not counted.
pub(super) fn damage(config: &LinkConfig, rng: &mut Rng, stats: &mut LinkStats, bytes: &mut Vec<u8>) {
    if hits(rng, config.corrupt) && !bytes.is_empty() {
        flip_bits(rng, config.corrupt_bits_max, bytes);
        stats.corrupted += 1;
    }
    if hits(rng, config.zero_crc)
        && let Some(field) = bytes.get_mut(CRC_FIELD)
        && field.iter().any(|&byte| byte != 0)
    {
        field.fill(0);
        stats.crc_zeroed += 1;
    }
    if hits(rng, config.truncate) && !bytes.is_empty() {
        bytes.truncate(below(rng, bytes.len()));
        stats.truncated += 1;
    }
    if hits(rng, config.extend) {
        let count = 1 + rng.below(EXTENSION_BYTES_MAX);
        bytes.extend((0..count).map(|_| rng.next_u64() as u8));
        stats.extended += 1;
    }
}

/// Flips 1 to `bits_max` different bits.
fn flip_bits(rng: &mut Rng, bits_max: u64, bytes: &mut [u8]) {
    let bits = bytes.len() * 8;
    let count = (1 + rng.below(bits_max)).min(bits as u64);
    let mut places = BTreeSet::new();
    while (places.len() as u64) < count {
        places.insert(below(rng, bits));
    }
    for place in places {
        bytes[place / 8] ^= 1 << (place % 8);
    }
}

/// A draw of this probability; none is made for what is switched off.
pub(super) fn hits(rng: &mut Rng, probability: f64) -> bool {
    probability > 0.0 && rng.chance(probability)
}

fn below(rng: &mut Rng, bound: usize) -> usize {
    rng.below(bound as u64) as usize
}
