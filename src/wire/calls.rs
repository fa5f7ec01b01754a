//! What frames of calls hold: class, refusal, fragment.

use core::fmt;

use crate::cursor::{CursorError, Reader, Writer};

/// Whether a call may be carried out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A repeated copy is carried out again. `[W-38]`
    Again,
    /// At most once per pair of incarnations. `[W-36]`
    Once,
}

/// Why a call was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallRefusal {
    /// No room for another open call; try later.
    Busy,
    /// The callee has no link to this caller: whether an earlier copy was carried out is not known.
    LinkUnknown,
    /// The body is larger than the callee takes.
    TooLarge,
    /// A reason of a later version.
    Other(u8),
}

/// A part of a body, at least one byte. `[W-13]` `[W-40]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// The length of the whole body.
    pub total_bytes: u64,
    /// Where this part begins in it.
    pub offset: u64,
    /// The part.
    pub bytes: &'a [u8],
}

impl CallRefusal {
    /// The call was carried out, and its answer is larger than the caller takes.
    pub const REPLY_TOO_LARGE: Self = Self::Other(4);

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Busy => 1,
            Self::LinkUnknown => 2,
            Self::TooLarge => 3,
            Self::Other(code) => code,
        }
    }

    pub(super) const fn of_code(code: u8) -> Self {
        match code {
            1 => Self::Busy,
            2 => Self::LinkUnknown,
            3 => Self::TooLarge,
            code => Self::Other(code),
        }
    }
}

impl fmt::Display for CallRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Busy => f.write_str("busy"),
            Self::LinkUnknown => f.write_str("link unknown"),
            Self::TooLarge => f.write_str("too large"),
            Self::REPLY_TOO_LARGE => f.write_str("reply too large"),
            Self::Other(code) => write!(f, "refusal {code}"),
        }
    }
}

impl<'a> Fragment<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self { total_bytes, offset, bytes } = self;
        assert!(
            !bytes.is_empty() && offset + bytes.len() as u64 <= *total_bytes,
            "a fragment of {} bytes at {offset} of {total_bytes}",
            bytes.len()
        );
        out.put_varint(*total_bytes);
        out.put_varint(*offset);
        out.put_bytes(bytes);
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, CursorError> {
        let part = Self { total_bytes: reader.varint()?, offset: reader.varint()?, bytes: reader.rest() };
        // A varint and a length in memory stay far below 2^64.
        let end = part.offset + part.bytes.len() as u64;
        if part.bytes.is_empty() || end > part.total_bytes { Err(CursorError::Value) } else { Ok(part) }
    }
}
