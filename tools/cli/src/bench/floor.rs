//! A cluster's figures against the floor under them, taken in turn: floor, cluster, floor, cluster. What else the
//! machine does in the meantime befalls both alike, so the ratios hold where the figures themselves do not.

use serde::Serialize;

use super::report::Latency;

/// What one measurement came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) ops_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

impl Piece {
    pub(super) fn new(ops_per_s: f64, latency: &Latency) -> Self {
        Self { ops_per_s, p50_us: latency.p50, p99_us: latency.p99 }
    }
}

/// How the cluster stands to the floor.
#[derive(Debug, Serialize)]
pub(super) struct AgainstFloor {
    pairs: usize,
    ops_per_s: Ratio,
    p50: Ratio,
    p99: Ratio,
    /// What the floor was measured with.
    settings: FloorSettings,
}

/// The shape of the floor.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FloorSettings {
    pub(super) fsync: bool,
    pub(super) value_bytes: u64,
    pub(super) pack_bytes: u64,
    pub(super) client_packs: bool,
}

/// One figure: the medians of both, and the median of the ratios, pair by pair, with an interval.
#[derive(Debug, Serialize)]
struct Ratio {
    floor: f64,
    cluster: f64,
    ratio: f64,
    /// The median of the population lies in here with at least 95 %, whatever its distribution, from six pairs on.
    low: f64,
    high: f64,
}

impl AgainstFloor {
    /// Of pieces taken in turn: floor, cluster.
    ///
    /// # Panics
    /// When there are none.
    pub(super) fn new(pairs: &[(Piece, Piece)], settings: FloorSettings) -> Self {
        let of = |figure: fn(&Piece) -> f64| {
            let column = |pick: fn(&(Piece, Piece)) -> &Piece| pairs.iter().map(pick).map(figure).collect();
            Ratio::new(column(|pair| &pair.0), column(|pair| &pair.1))
        };
        Self {
            pairs: pairs.len(),
            ops_per_s: of(|piece| piece.ops_per_s),
            p50: of(|piece| piece.p50_us),
            p99: of(|piece| piece.p99_us),
            settings,
        }
    }

    /// A line per figure for people.
    pub(super) fn text(&self) -> String {
        let line = |name: &str, Ratio { floor, cluster, ratio, low, high }: &Ratio| {
            format!("{name}: {cluster:.1}, floor {floor:.1}: x{ratio:.2} ({low:.2} to {high:.2})\n")
        };
        let FloorSettings { fsync, client_packs, .. } = self.settings;
        let (disk, client) =
            (if fsync { "synced" } else { "in memory" }, if client_packs { ", client packs" } else { "" });
        format!("against the floor, {} pairs, {disk}{client}:\n", self.pairs)
            + &line("ops/s", &self.ops_per_s)
            + &line("p50 us", &self.p50)
            + &line("p99 us", &self.p99)
    }
}

impl Ratio {
    fn new(floor: Vec<f64>, cluster: Vec<f64>) -> Self {
        let mut ratios: Vec<f64> =
            floor.iter().zip(&cluster).map(|(floor, cluster)| cluster / floor).collect();
        ratios.sort_by(f64::total_cmp);
        let outside = outside(ratios.len());
        let (low, high) = (ratios[outside], ratios[ratios.len() - 1 - outside]);
        Self { floor: median(floor), cluster: median(cluster), ratio: median(ratios), low, high }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "the median of nothing");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// How many values may be left out at either end of a sorted sample of n, so that the rest still holds the population's
/// median with 95 %: the sign test, by the binomial distribution of n throws of a coin.
fn outside(n: usize) -> usize {
    let mut left_out = 0;
    let mut tail = 0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut term = tail;
    loop {
        term *= (n - left_out) as f64 / (left_out + 1) as f64;
        tail += term;
        if left_out + 1 > n / 2 || 2.0 * tail > 0.05 {
            return left_out;
        }
        left_out += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // Tables of the sign test: of 7 all, of 9 all but one, of 12 all but two at either end.
        assert_eq!([7, 9, 12, 25].map(outside), [0, 1, 2, 7]);
    }

    #[test]
    fn a_ratio_is_the_median_of_the_pairs_ratios() {
        let ratio = Ratio::new(vec![10.0, 20.0, 10.0], vec![20.0, 20.0, 30.0]);
        assert_eq!((ratio.floor, ratio.cluster, ratio.ratio), (10.0, 20.0, 2.0));
        assert_eq!((ratio.low, ratio.high), (1.0, 3.0));
        assert_eq!(median(vec![1.0, 4.0, 2.0, 3.0]), 2.5);
    }
}
