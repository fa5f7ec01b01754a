//! Sets of numbers as ranges, the highest first: acknowledged packets, finished calls, finished sequences.
//!
//! Bytes, all varints: `count ‖ last ‖ length-1 (‖ gap-1 ‖ length-1)*`, where `last` is the highest number, each
//! length counts the numbers in a range, and each gap the numbers left out between two ranges. Ranges neither
//! touch nor overlap, so a set has one encoding. `[W-12]`

use core::fmt;

use crate::cursor::{CursorError, Reader, Writer, varint_bytes};

/// The most ranges in one set.
pub const RANGES_MAX: usize = 32;

/// All numbers from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The lowest.
    pub first: u64,
    /// The highest.
    pub last: u64,
}

impl Span {
    /// The range of these ends.
    ///
    /// # Panics
    /// When `first` is above `last`.
    #[must_use]
    pub fn new(first: u64, last: u64) -> Self {
        assert!(first <= last, "a range from {first} to {last}");
        Self { first, last }
    }

    /// True when the number is in it.
    #[must_use]
    pub const fn contains(self, number: u64) -> bool {
        self.first <= number && number <= self.last
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A set of at most [`RANGES_MAX`] ranges, descending; borrowed from the caller's list or from a datagram.
#[derive(Clone, Copy)]
pub struct Ranges<'a>(Inner<'a>);

#[derive(Clone, Copy)]
enum Inner<'a> {
    Listed(&'a [Span]),
    /// Checked bytes after the count, and the count.
    Encoded(u8, &'a [u8]),
}

impl<'a> Ranges<'a> {
    /// The empty set.
    pub const EMPTY: Self = Self(Inner::Listed(&[]));

    /// The set of these ranges.
    ///
    /// # Panics
    /// When there are more than [`RANGES_MAX`], or they do not descend with at least one number between any two.
    #[must_use]
    pub fn of(spans: &'a [Span]) -> Self {
        assert!(spans.len() <= RANGES_MAX, "{} ranges are more than {RANGES_MAX}", spans.len());
        for pair in spans.windows(2) {
            assert!(pair[1].last + 1 < pair[0].first, "range {} does not lie below {}", pair[1], pair[0]);
        }
        Self(Inner::Listed(spans))
    }

    /// The ranges, the highest first.
    #[must_use]
    pub fn iter(&self) -> RangesIter<'a> {
        match self.0 {
            Inner::Listed(spans) => RangesIter(IterInner::Listed(spans.iter())),
            Inner::Encoded(left, bytes) => {
                RangesIter(IterInner::Encoded { left, below: None, reader: Reader::new(bytes) })
            }
        }
    }

    /// How many ranges.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Inner::Listed(spans) => spans.len(),
            Inner::Encoded(count, _) => count as usize,
        }
    }

    /// True for the empty set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The highest number.
    #[must_use]
    pub fn largest(&self) -> Option<u64> {
        self.iter().next().map(|span| span.last)
    }

    /// True when the number is in one of the ranges.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.iter().any(|span| span.contains(number))
    }

    /// How many bytes [`Self::encode`] appends.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        let pairs = self.steps().map(|(step, length)| varint_bytes(step) + varint_bytes(length));
        varint_bytes(self.len() as u64) + pairs.sum::<usize>()
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.len() as u64);
        for (step, length) in self.steps() {
            out.put_varint(step);
            out.put_varint(length);
        }
    }

    /// The two numbers that stand for each range.
    fn steps(&self) -> impl Iterator<Item = (u64, u64)> {
        self.iter().scan(None, |below: &mut Option<u64>, span| {
            // `below` is the lowest number of the range above.
            let step = below.map_or(span.last, |below| below - span.last - 2);
            *below = Some(span.first);
            Some((step, span.last - span.first))
        })
    }

    /// Reads what [`Self::encode`] writes: too many ranges and numbers below 0 are refused.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, CursorError> {
        let count = reader.varint()?;
        if count > RANGES_MAX as u64 {
            return Err(CursorError::Value);
        }
        let bytes = reader.rest();
        let mut below = None;
        for _ in 0..count {
            below = Some(read_span(below, reader)?.first);
        }
        let taken = bytes.len() - reader.rest().len();
        Ok(Self(Inner::Encoded(count as u8, &bytes[..taken])))
    }
}

fn read_span(below: Option<u64>, reader: &mut Reader<'_>) -> Result<Span, CursorError> {
    let step = reader.varint()?;
    let last = match below {
        None => step,
        // Two varints and 2 stay far below 2^64.
        Some(below) => below.checked_sub(step + 2).ok_or(CursorError::Value)?,
    };
    let first = last.checked_sub(reader.varint()?).ok_or(CursorError::Value)?;
    Ok(Span { first, last })
}

impl PartialEq for Ranges<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Ranges<'_> {}

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, span) in self.iter().enumerate() {
            write!(f, "{}{span}", if place == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// Iterates over [`Ranges`].
#[derive(Clone, Debug)]
pub struct RangesIter<'a>(IterInner<'a>);

#[derive(Clone, Debug)]
enum IterInner<'a> {
    Listed(core::slice::Iter<'a, Span>),
    Encoded { left: u8, below: Option<u64>, reader: Reader<'a> },
}

impl Iterator for RangesIter<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        match &mut self.0 {
            IterInner::Listed(spans) => spans.next().copied(),
            IterInner::Encoded { left, below, reader } => {
                *left = left.checked_sub(1)?;
                // The bytes were read once already, by `Ranges::decode`.
                let span = read_span(*below, reader).ok()?;
                *below = Some(span.first);
                Some(span)
            }
        }
    }
}
