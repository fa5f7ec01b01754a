//! The state machine that the log drives, and how its state becomes bytes and comes back.
//!
//! A snapshot is taken in two steps. [`Machine::freeze`] holds the state fast as it is, at once: it runs between two
//! commands, and every millisecond it takes is one in which the node serves nobody. [`Frozen::write`] turns what was
//! held fast into bytes, on another thread, while the machine goes on. Equal states must give equal bytes on every
//! node, so that one node can go on with a transfer that another began.
//!
//! [`Fold`] makes a machine of a value and a function, [`Codec`] gives commands and states of one's own their bytes.
//!
//! The way back is [`Machine::blank`], which makes an empty machine of the same kind, and [`Machine::restore`], which
//! fills it, on another thread too.

mod codec;
mod fold;

use core::fmt;

pub use codec::Codec;
pub use fold::Fold;

use crate::cursor::{CursorError, VARINT_MAX, Writer as _, varint_bytes};
use crate::types::Index;

/// A deterministic state machine: the same commands in the same order give the same results and the same state
/// on every node. It must not read clocks, random numbers or anything else outside its state.
pub trait Machine {
    /// Carries out a committed command and returns its result.
    ///
    /// It is called once per entry and node life, in log order. A panic here ends the node: every replica would
    /// see the same command.
    fn apply(&mut self, index: Index, command: &[u8]) -> Vec<u8>;

    /// Answers a read without changing anything.
    fn query(&self, query: &[u8]) -> Vec<u8>;

    /// What a watcher with this filter is told of a command that was carried out and came to this result; `None` when
    /// it is not for that watcher. It is asked later than the command was applied, and on any node, so the answer must
    /// follow from these three alone. Unless a machine says otherwise, a filter is what a command begins with, and the
    /// event is the command.
    fn event(&self, filter: &[u8], command: &[u8], result: &[u8]) -> Option<Vec<u8>> {
        let _ = result;
        command.starts_with(filter).then(|| command.to_vec())
    }

    /// How many bytes the state comes to, about, or `None` from a machine that does not count them. After as many bytes
    /// of log as this and the results held in sessions, within the replicated limits, the next snapshot is due. Like a
    /// result it must follow from the state alone, so that all nodes take their snapshots at the same entries.
    fn state_bytes(&self) -> Option<u64> {
        None
    }

    /// Holds the present state fast for a snapshot. Its cost should not grow with the state: either share what is
    /// there, as [`LayeredMap`](crate::layered::LayeredMap) does, or state what a copy costs.
    ///
    /// What an earlier call returned may still be around; both stay what they are.
    fn freeze(&mut self) -> Box<dyn Frozen>;

    /// An empty machine of this kind, for [`Self::restore`]. Quick: it runs where [`Self::freeze`] does.
    fn blank(&self) -> Self
    where
        Self: Sized;

    /// Takes the state that [`Frozen::write`] wrote, all of it, in place of the present one. After an error the
    /// machine's state is of no use and it is dropped.
    fn restore(&mut self, source: &mut dyn Source) -> Result<(), RestoreError>;
}

/// A state held fast.
pub trait Frozen: Send {
    /// Writes it in its one encoding: equal states give equal bytes on every node.
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed>;
}

/// Where the bytes of a state go.
pub trait Sink {
    /// Takes these bytes after those before; pieces of any length make one sequence.
    fn put(&mut self, bytes: &[u8]) -> Result<(), SinkClosed>;

    /// A varint length and the bytes, for [`Fields::prefixed`].
    fn put_record(&mut self, bytes: &[u8]) -> Result<(), SinkClosed> {
        let mut length = Vec::with_capacity(8);
        length.put_varint(bytes.len() as u64);
        self.put(&length)?;
        self.put(bytes)
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), SinkClosed> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// The sink takes nothing more: what stands behind it has failed, and its owner knows how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkClosed;

impl fmt::Display for SinkClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the snapshot could not be written on")
    }
}

impl core::error::Error for SinkClosed {}

/// Where the bytes of a state come from.
pub trait Source {
    /// Fills as much of `out` as there is: fewer bytes than asked for only at the end.
    fn take(&mut self, out: &mut [u8]) -> Result<usize, RestoreError>;
}

impl Source for &[u8] {
    fn take(&mut self, out: &mut [u8]) -> Result<usize, RestoreError> {
        let count = out.len().min(self.len());
        let (taken, rest) = self.split_at(count);
        out[..count].copy_from_slice(taken);
        *self = rest;
        Ok(count)
    }
}

/// Why a state could not be taken from bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {
    /// The bytes end inside the state.
    Ended,
    /// Bytes are left after it.
    Trailing,
    /// They are no state of this machine.
    Malformed,
    /// They could not be read; the source's owner knows why.
    Unreadable,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "the snapshot ends inside the state",
            Self::Trailing => "the snapshot goes on after the state",
            Self::Malformed => "the snapshot holds no state of this machine",
            Self::Unreadable => "the snapshot could not be read",
        })
    }
}

impl core::error::Error for RestoreError {}

impl From<CursorError> for RestoreError {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::Short => Self::Ended,
            CursorError::Trailing => Self::Trailing,
            CursorError::NotCanonical | CursorError::Value => Self::Malformed,
        }
    }
}

/// Reads fields from a source, with the encodings of [`crate::cursor`]; every length is bounded by the caller.
pub struct Fields<'a> {
    source: &'a mut dyn Source,
}

impl<'a> Fields<'a> {
    /// A reader that takes from the source exactly what it is asked for.
    pub fn new(source: &'a mut dyn Source) -> Self {
        Self { source }
    }

    /// Fills all of `out`.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<(), RestoreError> {
        if self.source.take(out)? == out.len() { Ok(()) } else { Err(RestoreError::Ended) }
    }

    /// Eight bytes, big-endian.
    pub fn number(&mut self) -> Result<u64, RestoreError> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// A varint in its shortest form.
    pub fn varint(&mut self) -> Result<u64, RestoreError> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes[..1])?;
        let count = 1usize << (bytes[0] >> 6);
        self.fill(&mut bytes[1..count])?;
        let raw = bytes[..count].iter().fold(0, |value, byte| (value << 8) | u64::from(*byte));
        let value = raw & (VARINT_MAX >> (62 - (8 * count - 2)));
        if varint_bytes(value) == count { Ok(value) } else { Err(RestoreError::Malformed) }
    }

    /// A varint length, at most `bytes_max`, and that many bytes.
    pub fn prefixed(&mut self, bytes_max: usize) -> Result<Vec<u8>, RestoreError> {
        let count = usize::try_from(self.varint()?).map_err(|_| RestoreError::Malformed)?;
        if count > bytes_max {
            return Err(RestoreError::Malformed);
        }
        // Memory is taken as the bytes come, whatever length they claim.
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let start = bytes.len();
            bytes.resize(count.min(start + 64 * 1024), 0);
            self.fill(&mut bytes[start..])?;
        }
        Ok(bytes)
    }

    /// Refuses anything that is left.
    pub fn finish(&mut self) -> Result<(), RestoreError> {
        if self.source.take(&mut [0])? == 0 { Ok(()) } else { Err(RestoreError::Trailing) }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_the_cursor_wrote_them() {
        let mut bytes = Vec::new();
        let numbers = [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000, VARINT_MAX];
        numbers.iter().for_each(|number| bytes.put_varint(*number));
        Sink::put_record(&mut bytes, &[7; 100_000]).unwrap();
        let mut source = &bytes[..];
        let mut fields = Fields::new(&mut source);
        for number in numbers {
            assert_eq!(fields.varint(), Ok(number));
        }
        assert_eq!(fields.prefixed(100_000), Ok(vec![7; 100_000]));
        assert_eq!(fields.finish(), Ok(()));
    }

    #[test]
    fn what_is_short_too_long_or_left_over_is_refused() {
        let read = |bytes: &[u8], max| Fields::new(&mut &bytes[..]).prefixed(max);
        assert_eq!(read(&[3, 1, 2], 8), Err(RestoreError::Ended));
        assert_eq!(read(&[3, 1, 2, 3], 2), Err(RestoreError::Malformed));
        assert_eq!(read(&[0x40, 3, 1, 2, 3], 8), Err(RestoreError::Malformed), "a longer form");
        assert_eq!(read(&[0xff; 8], usize::MAX), Err(RestoreError::Ended), "no memory is taken ahead");
        assert_eq!(Fields::new(&mut &[0u8][..]).finish(), Err(RestoreError::Trailing));
    }
}
