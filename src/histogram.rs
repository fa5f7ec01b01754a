//! How long things took: a count for each of a few fixed ranges, so that memory and cost are the same after an hour
//! and after a year.

use core::time::Duration;

/// The upper ends of the ranges, in µs, each included in its range; what takes longer than the last is counted beyond.
pub const BOUNDS_US: [u64; 19] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// Durations by range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// One for each of [`BOUNDS_US`] and one for what is beyond all of them.
    counts: [u64; BOUNDS_US.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, took: Duration) {
        let place = BOUNDS_US.partition_point(|bound| Duration::from_micros(*bound) < took);
        self.counts[place] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Each bound in µs with how many took at most so long.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut count = 0;
        BOUNDS_US.into_iter().zip(self.counts).map(move |(bound, of_range)| {
            count += of_range;
            (bound, count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_range_that_holds_it() {
        let mut histogram = Histogram::default();
        for us in [0, 10, 11, 1_000, 10_000_000, 10_000_001] {
            histogram.record(Duration::from_micros(us));
        }
        histogram.record(Duration::from_nanos(20_001));
        assert_eq!(histogram.count(), 7);
        assert_eq!(histogram.sum(), Duration::from_nanos(20_001_022_000 + 20_001));
        let by_bound: Vec<(u64, u64)> = histogram.cumulative().collect();
        assert_eq!(by_bound[..4], [(10, 2), (20, 3), (50, 4), (100, 4)]);
        assert_eq!(by_bound.last(), Some(&(10_000_000, 6)), "one took longer than every bound");
    }
}
