//! Quantities as people write them: `10ms`, `64KiB`, `5%`. What is printed can be read back.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) u64);

/// A share of the whole, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Share(f64);

impl Share {
    /// Nothing of it.
    pub(crate) const NONE: Self = Self(0.0);

    /// The share in parts per million, rounded up.
    pub(crate) fn parts_per_million(self) -> u32 {
        (self.0 * 1e6).ceil() as u32
    }

    /// The share as a fraction of 1.
    pub(crate) fn fraction(self) -> f64 {
        self.0
    }
}

const SPANS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("min", 60e9),
    ("h", 3600e9),
];

const BYTES: [(&str, f64); 8] = [
    ("", 1.0),
    ("B", 1.0),
    ("kB", 1e3),
    ("KiB", 1024.0),
    ("MB", 1e6),
    ("MiB", 1_048_576.0),
    ("GB", 1e9),
    ("GiB", 1_073_741_824.0),
];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split(text)?;
        if number == 0.0 && unit.is_empty() {
            return Ok(Self(Duration::ZERO));
        }
        if unit.is_empty() {
            return Err(format!("`{text}` has no unit: write {text}ms or {text}s"));
        }
        let scale = SPANS.iter().find(|(name, _)| *name == unit).map(|&(_, scale)| scale);
        let scale = scale.ok_or_else(|| format!("`{unit}` is no unit of time: use ns, us, ms, s, m or h"))?;
        let ns = number * scale;
        // 2^53 ns are a hundred days; above that a float no longer holds every nanosecond, and nobody needs it.
        if ns > 9e15 {
            return Err(format!("`{text}` is longer than a hundred days"));
        }
        Ok(Self(Duration::from_nanos(ns.round() as u64)))
    }
}

impl fmt::Display for Span {
    /// In the largest unit that leaves the number whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let units =
            [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)];
        let units = units.into_iter().chain([("us", 1000), ("ns", 1)]);
        match units.into_iter().find(|(_, scale)| ns > 0 && ns.is_multiple_of(*scale)) {
            Some((unit, scale)) => write!(f, "{}{unit}", ns / scale),
            None => f.write_str("0s"),
        }
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split(text)?;
        let scale = BYTES.iter().find(|(name, _)| *name == unit).map(|&(_, scale)| scale);
        let scale = scale
            .ok_or_else(|| format!("`{unit}` is no unit of size: use B, KiB, MiB, GiB, kB, MB or GB"))?;
        let bytes = number * scale;
        if bytes.fract() != 0.0 {
            return Err(format!("`{text}` is not a whole number of bytes"));
        }
        if bytes > 9e15 {
            return Err(format!("`{text}` is more than nine petabytes"));
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.into_iter().find(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale)) {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split(text)?;
        let is_whole = number.fract() == 0.0;
        let percent = match unit {
            "%" => number,
            // A bare 20 can only mean per cent, but 0.2 might be either.
            "" if is_whole => number,
            "" => {
                return Err(format!(
                    "`{text}` may be a fraction or per cent: write {text}% or {}%",
                    number * 100.0
                ));
            }
            unit => return Err(format!("`{unit}` is not %")),
        };
        if percent > 100.0 {
            return Err(format!("`{text}` is more than 100%"));
        }
        Ok(Self(percent / 100.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded so that 7% does not come back as 7.000000000000001%.
        write!(f, "{}%", (self.0 * 100.0 * 1e9).round() / 1e9)
    }
}

/// The number in front and the unit behind it.
fn split(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse::<f64>().ok().filter(|n| n.is_finite());
    let number = number.ok_or_else(|| format!("`{text}` does not begin with a number"))?;
    Ok((number, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Result<Duration, String> {
        text.parse::<Span>().map(|s| s.0)
    }

    fn bytes(text: &str) -> Result<u64, String> {
        text.parse::<Bytes>().map(|b| b.0)
    }

    #[test]
    fn spans_are_read_in_every_unit() {
        assert_eq!(span("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(span("1.5 s"), Ok(Duration::from_millis(1500)));
        assert_eq!(span("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(span("250µs"), Ok(Duration::from_micros(250)));
        assert_eq!(span("7ns"), Ok(Duration::from_nanos(7)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(span("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_span_that_is_none_says_what_would_be() {
        assert_eq!(span("5"), Err("`5` has no unit: write 5ms or 5s".into()));
        assert_eq!(span("5x"), Err("`x` is no unit of time: use ns, us, ms, s, m or h".into()));
        assert_eq!(span("-5s"), Err("`-5s` does not begin with a number".into()));
        assert_eq!(span("1.2.3s"), Err("`1.2.3s` does not begin with a number".into()));
        assert_eq!(span("9999999h"), Err("`9999999h` is longer than a hundred days".into()));
        assert!(span("").is_err());
    }

    #[test]
    fn sizes_are_binary_or_decimal_as_written() {
        assert_eq!(bytes("64KiB"), Ok(65_536));
        assert_eq!(bytes("64kB"), Ok(64_000));
        assert_eq!(bytes("1.5MiB"), Ok(1_572_864));
        assert_eq!(bytes("100"), Ok(100));
        assert_eq!(bytes("1.5"), Err("`1.5` is not a whole number of bytes".into()));
        assert_eq!(bytes("1KB"), Err("`KB` is no unit of size: use B, KiB, MiB, GiB, kB, MB or GB".into()));
    }

    #[test]
    fn shares_are_per_cent_and_never_guessed() {
        let share = |text: &str| text.parse::<Share>().map(Share::fraction);
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("0.5%"), Ok(0.005));
        assert_eq!(share("20"), Ok(0.2));
        assert_eq!(share("0.2"), Err("`0.2` may be a fraction or per cent: write 0.2% or 20%".into()));
        assert_eq!(share("101%"), Err("`101%` is more than 100%".into()));
        assert_eq!(share("5ms"), Err("`ms` is not %".into()));
    }

    #[test]
    fn what_is_printed_reads_back() {
        for text in ["10ms", "2s", "90s", "1m", "3h", "250us", "7ns", "0s"] {
            let printed = text.parse::<Span>().unwrap().to_string();
            assert_eq!(printed.parse::<Span>(), text.parse::<Span>(), "{printed}");
        }
        assert_eq!("1000ms".parse::<Span>().unwrap().to_string(), "1s");
        assert_eq!("65536".parse::<Bytes>().unwrap().to_string(), "64KiB");
        assert_eq!("1000".parse::<Bytes>().unwrap().to_string(), "1000B");
        assert_eq!("0".parse::<Bytes>().unwrap().to_string(), "0B");
        assert_eq!("7%".parse::<Share>().unwrap().to_string(), "7%");
        assert_eq!("0.1%".parse::<Share>().unwrap().to_string(), "0.1%");
    }
}
