//! Torn writes and flipped bits, at the level of one segment: a tear is always cut, and nothing else is (D1, I5).

use crate::rng::Rng;
use crate::store::block::{BLOCK_BYTES, HEADER_BYTES, SECTOR_BYTES};
use crate::store::conformance::Log;
use crate::store::segment::{Expected, Scan, SegmentEnd, scan};
use crate::store::tests::{append, founded_with};

/// A segment with batches in it, as the disk holds it.
struct Image {
    bytes: Vec<u8>,
    expected: Expected,
    /// Where each batch begins, and where the last one ends.
    edges: Vec<usize>,
}

impl Image {
    /// Batches of one command each, of these lengths.
    fn of(lengths: &[usize]) -> Self {
        let content: usize = lengths.iter().map(|length| length / BLOCK_BYTES + 1).sum();
        let mut store = founded_with(((content + 3) * BLOCK_BYTES) as u64);
        let mut log = Log::default();
        let mut edges = vec![0];
        for length in lengths {
            append(&mut store, &mut log, 1, &[*length]);
            edges.push(store.active.offset as usize);
        }
        let segment = *store.record.segments.last().unwrap();
        assert_eq!(segment.durable_bytes, 0, "no record was written since, which is the hardest case");
        let record = &store.record;
        let expected =
            Expected { cluster: record.cluster, store: record.store, segment, record: record.sequence };
        let bytes = store.disk().content(&store.active.file).unwrap().to_vec();
        assert!(bytes.len() > edges[lengths.len()], "some of it is unwritten");
        Self { bytes, expected, edges }
    }

    fn batch_count(&self) -> usize {
        self.edges.len() - 1
    }

    fn last_batch(&self) -> core::ops::Range<usize> {
        let count = self.edges.len();
        self.edges[count - 2]..self.edges[count - 1]
    }

    fn scan(&self) -> Scan {
        scan(&self.bytes, &self.expected)
    }

    /// Expects the last batch to be gone without complaint, or there when `is_whole`.
    fn assert_cut(&self, is_whole: bool, what: &dyn core::fmt::Debug) {
        let scan = self.scan();
        assert!(!matches!(scan.end, SegmentEnd::Damaged(_)), "{what:?}: a legitimate tear: {:?}", scan.end);
        let expected = self.batch_count() - usize::from(!is_whole);
        assert_eq!(scan.batches.len(), expected, "{what:?}: {:?}", scan.end);
    }

    /// Expects every batch to be there, or damage to be told.
    fn assert_nothing_cut(&self, what: &dyn core::fmt::Debug) {
        let scan = self.scan();
        let is_told = matches!(scan.end, SegmentEnd::Damaged(_));
        let found = scan.batches.len();
        let count = self.batch_count();
        assert!(is_told || found == count, "{what:?}: {found} of {count} left, {:?}", scan.end);
        for (place, batch) in scan.batches.iter().enumerate() {
            assert_eq!(batch.offset as usize, self.edges[place], "{what:?}");
        }
    }

    fn flip(&mut self, bit: usize) {
        self.bytes[bit / 8] ^= 1 << (bit % 8);
    }

    /// A copy of which only these sectors of the last batch reached the disk.
    fn keep_sectors(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut torn = Self { bytes: self.bytes.clone(), expected: self.expected, edges: self.edges.clone() };
        for (number, sector) in torn.bytes[self.last_batch()].chunks_exact_mut(SECTOR_BYTES).enumerate() {
            if !keep(number) {
                sector.fill(0);
            }
        }
        torn
    }
}

/// Lengths of earlier batches: none, small ones, one of several blocks.
const BEFORE: [&[usize]; 4] = [&[], &[10], &[10, 5_000], &[0, 3_000, 10, 700]];

#[test]
fn every_subset_of_the_sectors_of_a_small_last_batch_is_a_tear_i5() {
    for before in BEFORE {
        for last in [0, 1, 300, 380, 3_900] {
            let image = Image::of(&[before, &[last]].concat());
            let sectors = image.last_batch().len() / SECTOR_BYTES;
            assert_eq!(sectors, 8);
            for subset in 0..1usize << sectors {
                let torn = image.keep_sectors(|sector| subset & (1 << sector) != 0);
                torn.assert_cut(subset == (1 << sectors) - 1, &(before, last, subset));
            }
        }
    }
}

#[test]
fn every_subset_of_sixteen_sectors_is_a_tear_i5() {
    let image = Image::of(&[10, 5_000]);
    assert_eq!(image.last_batch().len(), 2 * BLOCK_BYTES);
    for subset in 0..1usize << 16 {
        let torn = image.keep_sectors(|sector| subset & (1 << sector) != 0);
        torn.assert_cut(subset == (1 << 16) - 1, &subset);
    }
}

#[test]
fn drawn_subsets_of_the_sectors_of_a_large_last_batch_are_tears_i5() {
    let mut rng = Rng::from_seed(11);
    for length in [9_000, 12_200, 100_000] {
        let image = Image::of(&[10, length]);
        let sectors = image.last_batch().len() / SECTOR_BYTES;
        for round in 0..2_000 {
            let share = rng.unit();
            let kept: Vec<bool> = (0..sectors).map(|_| rng.chance(share)).collect();
            let torn = image.keep_sectors(|sector| kept[sector]);
            torn.assert_cut(kept.iter().all(|kept| *kept), &(length, round));
        }
        for lost in 0..sectors {
            image.keep_sectors(|sector| sector != lost).assert_cut(false, &(length, lost));
            image.keep_sectors(|sector| sector == lost).assert_cut(false, &(length, lost));
        }
    }
}

#[test]
fn a_write_cut_short_at_any_byte_is_a_tear_i5() {
    for last in [10, 5_000] {
        let image = Image::of(&[10, last]);
        let range = image.last_batch();
        for kept in 0..range.len() {
            let mut torn = image.keep_sectors(|_| true);
            torn.bytes[range.start + kept..range.end].fill(0);
            torn.assert_cut(false, &(last, kept));
        }
    }
}

#[test]
fn no_single_flip_anywhere_cuts_a_durable_batch_i5() {
    let mut image = Image::of(&[0, 10, 4_500]);
    let bits = (image.edges[3] + BLOCK_BYTES) * 8;
    for bit in 0..bits {
        image.flip(bit);
        let scan = image.scan();
        let is_in_a_batch = bit / 8 < image.edges[3];
        assert_eq!(matches!(scan.end, SegmentEnd::Damaged(_)), is_in_a_batch, "bit {bit}: {:?}", scan.end);
        image.assert_nothing_cut(&bit);
        image.flip(bit);
    }
}

#[test]
fn no_two_or_three_flips_anywhere_cut_a_durable_batch_i5() {
    let mut rng = Rng::from_seed(12);
    for lengths in [&[10][..], &[0, 10], &[10, 4_500, 10], &[10, 20_000]] {
        let mut image = Image::of(lengths);
        let bits = (image.edges[lengths.len()] + BLOCK_BYTES) as u64 * 8;
        for _ in 0..20_000 {
            let count = 2 + rng.below(2);
            let flips: Vec<usize> = (0..count).map(|_| rng.below(bits) as usize).collect();
            flips.iter().for_each(|bit| image.flip(*bit));
            image.assert_nothing_cut(&(lengths, &flips));
            flips.iter().for_each(|bit| image.flip(*bit));
        }
    }
}

#[test]
fn no_three_flips_in_the_bytes_that_tell_a_tear_cut_a_durable_batch_i5() {
    for lengths in [&[10][..], &[10, 10]] {
        let mut image = Image::of(lengths);
        let range = image.last_batch();
        let telling: Vec<usize> = range
            .clone()
            .filter(|byte| {
                let at = byte - range.start;
                at.is_multiple_of(SECTOR_BYTES) || at == HEADER_BYTES - 1 || at + 1 == range.len()
            })
            .flat_map(|byte| (0..8).map(move |bit| byte * 8 + bit))
            .collect();
        for (a, first) in telling.iter().enumerate() {
            for (b, second) in telling.iter().enumerate().skip(a + 1) {
                for third in telling.iter().skip(b + 1) {
                    let flips = [*first, *second, *third];
                    flips.iter().for_each(|bit| image.flip(*bit));
                    image.assert_nothing_cut(&flips);
                    flips.iter().for_each(|bit| image.flip(*bit));
                }
            }
        }
    }
}

#[test]
fn a_sector_lost_before_the_last_batch_is_damage_d1() {
    let image = Image::of(&[10, 3_000, 5_000, 10]);
    let before_last = image.last_batch().start;
    for sector in (0..before_last).step_by(SECTOR_BYTES) {
        let mut rotten = image.keep_sectors(|_| true);
        rotten.bytes[sector..sector + SECTOR_BYTES].fill(0);
        let place = image.edges.iter().rposition(|edge| *edge <= sector).unwrap();
        match rotten.scan().end {
            SegmentEnd::Damaged(damage) => assert_eq!(damage.offset as usize, image.edges[place]),
            other => panic!("sector {sector}: {other:?}"),
        }
    }
}

#[test]
fn nothing_below_what_the_record_calls_durable_is_a_tear_d1() {
    let mut image = Image::of(&[10, 10]);
    image.expected.segment.durable_bytes = image.edges[2] as u64;
    for kept in 0..256usize {
        let torn = image.keep_sectors(|sector| kept & (1 << sector) != 0);
        torn.assert_nothing_cut(&kept);
    }
    let mut short = image.keep_sectors(|_| true);
    short.bytes.truncate(image.edges[1]);
    short.assert_nothing_cut(&"cut short");
}
