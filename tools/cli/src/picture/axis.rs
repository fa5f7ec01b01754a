//! Axes: from values to places, and the values worth a label.

/// How values lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Each tenfold step as long as the next; what is not positive lies at the lower end.
    Log,
}

/// One axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) scale: Scale,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Values with a label.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that shows all these values, with ticks at round ones in these words.
    pub(crate) fn over(
        label: &str,
        scale: Scale,
        values: impl Iterator<Item = f64>,
        word: fn(f64) -> String,
    ) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        match scale {
            Scale::Linear => Self::linear(label, low.min(0.0), high, word),
            Scale::Log => Self::log(label, low, high, word),
        }
    }

    fn linear(label: &str, low: f64, high: f64, word: fn(f64) -> String) -> Self {
        let high = if high <= low { low + 1.0 } else { high };
        let step = round_step((high - low) / 5.0);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        // A handful of steps, by the choice of their length.
        let ticks = (0..=(last - first) as u32).map(|place| (first + f64::from(place)) * step);
        let ticks = ticks.map(|value| (value, word(value))).collect();
        Self { label: label.to_owned(), scale: Scale::Linear, low: first * step, high: last * step, ticks }
    }

    fn log(label: &str, low: f64, high: f64, word: fn(f64) -> String) -> Self {
        let decades = (high / low).log10();
        let steps: &[f64] = match decades {
            wide if wide > 2.5 => &[1.0],
            wide if wide > 1.2 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
        };
        // Latencies of any experiment lie between a picosecond and a million seconds, in microseconds.
        let all = (-6..=12).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        let all: Vec<f64> = all.collect();
        let below = all.iter().rposition(|value| *value <= low).unwrap_or(0);
        let above = all.iter().position(|value| *value >= high).unwrap_or(all.len() - 1).max(below + 1);
        let above = above.min(all.len() - 1);
        let ticks = all[below..=above].iter().map(|&value| (value, word(value))).collect();
        Self { label: label.to_owned(), scale: Scale::Log, low: all[below], high: all[above], ticks }
    }

    /// The same axis from here to there.
    pub(crate) fn between(mut self, low: f64, high: f64) -> Self {
        (self.low, self.high) = (low, high);
        self.ticks.retain(|(value, _)| (low..=high).contains(value));
        self
    }

    /// Where a value lies, from 0 at the low end to 1 at the high one; what lies outside is at the end.
    pub(crate) fn part(&self, value: f64) -> f32 {
        let (low, high, value) = match self.scale {
            Scale::Linear => (self.low, self.high, value),
            Scale::Log => (self.low.log10(), self.high.log10(), value.max(self.low).log10()),
        };
        // For a screen.
        ((value - low) / (high - low)).clamp(0.0, 1.0) as f32
    }
}

/// The next of 1, 2, 5, 10, … that is not below.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= rough * 0.999_999).unwrap_or(power * 10.0)
}

/// A span of microseconds.
pub(crate) fn micros(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} µs", plain(us)),
        us if us < 999_500.0 => format!("{} ms", plain(us / 1e3)),
        us => format!("{} s", plain(us / 1e6)),
    }
}

/// A share of the whole.
pub(crate) fn share(value: f64) -> String {
    format!("{} %", plain(value * 100.0))
}

/// A number in as few digits as tell it from its neighbours.
pub(crate) fn plain(value: f64) -> String {
    let size = value.abs();
    let shown = match size {
        size if size >= 999_950.0 => return format!("{}M", plain(value / 1e6)),
        size if size >= 9_999.5 => return format!("{}k", plain(value / 1e3)),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    if !shown.contains('.') {
        return shown;
    }
    let short = shown.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_in_few_digits() {
        let shown = [0.0, 0.05, 1.0, 1.25, 12.34, 123.4, 1234.0, 12_340.0, 1_000_000.0].map(plain);
        assert_eq!(shown, ["0", "0.05", "1", "1.25", "12.3", "123", "1234", "12.3k", "1M"]);
        assert_eq!([250.0, 1500.0, 2e6].map(micros), ["250 µs", "1.5 ms", "2 s"]);
        assert_eq!(share(0.05), "5 %");
    }

    #[test]
    fn an_axis_holds_its_values_between_round_ones() {
        let axis = Axis::over("x", Scale::Linear, [0.0, 0.3].into_iter(), share);
        let words: Vec<&str> = axis.ticks.iter().map(|(_, word)| word.as_str()).collect();
        assert_eq!(words, ["0 %", "10 %", "20 %", "30 %"]);
        assert_eq!((axis.part(0.0), axis.part(0.3), axis.part(9.0)), (0.0, 1.0, 1.0));
        let axis = Axis::over("y", Scale::Log, [300.0, 90_000.0].into_iter(), micros);
        assert_eq!((axis.low, axis.high), (200.0, 100_000.0));
        assert_eq!((axis.part(200.0), axis.part(0.0)), (0.0, 0.0));
        let axis = Axis::over("y", Scale::Log, std::iter::empty(), micros);
        assert!(axis.low < axis.high && axis.ticks.len() > 1);
        let axis = Axis::over("y", Scale::Linear, [0.0].into_iter(), plain);
        assert!(axis.low < axis.high);
    }
}
