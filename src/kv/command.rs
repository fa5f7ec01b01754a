//! Commands that change the map, and their results.

use core::fmt;
use std::sync::Arc;

use crate::cursor::{CursorError, Reader, Writer};
use crate::types::Index;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4096;

/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// The longest previous value that a result carries; of a longer one it tells the index only.
pub const PREVIOUS_BYTES_MAX: usize = 1024;

/// A change to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Sets the key.
    Put {
        /// The key.
        key: &'a [u8],
        /// What it shall hold.
        value: &'a [u8],
    },
    /// Removes the key.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Sets the key if it holds `old`.
    Cas {
        /// The key.
        key: &'a [u8],
        /// What it must hold; `None`: it must be absent.
        old: Option<&'a [u8]>,
        /// What it shall hold.
        new: &'a [u8],
    },
}

const PUT: u8 = 0;
const DELETE: u8 = 1;
const CAS_PRESENT: u8 = 2;
const CAS_ABSENT: u8 = 3;

impl<'a> Command<'a> {
    /// The key it changes.
    #[must_use]
    pub const fn key(&self) -> &'a [u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Cas { key, .. } => key,
        }
    }

    /// Refuses what the machine would refuse, so that a client learns it without a log entry.
    pub fn check(&self) -> Result<(), Refusal> {
        let value_bytes = match self {
            Self::Put { value, .. } => value.len(),
            Self::Delete { .. } => 0,
            Self::Cas { old, new, .. } => old.map_or(0, <[u8]>::len).max(new.len()),
        };
        let key_bytes = self.key().len();
        if key_bytes > KEY_BYTES_MAX {
            return Err(Refusal::KeyTooLarge { bytes: key_bytes as u64 });
        }
        if value_bytes > VALUE_BYTES_MAX {
            return Err(Refusal::ValueTooLarge { bytes: value_bytes as u64 });
        }
        Ok(())
    }

    /// Appends the command's one encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Put { key, value } => {
                out.put_u8(PUT);
                out.put_prefixed(key);
                out.put_bytes(value);
            }
            Self::Delete { key } => {
                out.put_u8(DELETE);
                out.put_bytes(key);
            }
            Self::Cas { key, old: Some(old), new } => {
                out.put_u8(CAS_PRESENT);
                out.put_prefixed(key);
                out.put_prefixed(old);
                out.put_bytes(new);
            }
            Self::Cas { key, old: None, new } => {
                out.put_u8(CAS_ABSENT);
                out.put_prefixed(key);
                out.put_bytes(new);
            }
        }
    }

    /// The encoding as a vector of its own.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads what [`Self::encode`] wrote, of any length.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CursorError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            PUT => Ok(Self::Put { key: reader.prefixed()?, value: reader.rest() }),
            DELETE => Ok(Self::Delete { key: reader.rest() }),
            CAS_PRESENT => {
                let key = reader.prefixed()?;
                Ok(Self::Cas { key, old: Some(reader.prefixed()?), new: reader.rest() })
            }
            CAS_ABSENT => Ok(Self::Cas { key: reader.prefixed()?, old: None, new: reader.rest() }),
            _ => Err(CursorError::Value),
        }
    }
}

/// Why the machine did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes are no command, or no query.
    Malformed,
    /// The key is longer than [`KEY_BYTES_MAX`].
    KeyTooLarge {
        /// Its length.
        bytes: u64,
    },
    /// A value is longer than [`VALUE_BYTES_MAX`].
    ValueTooLarge {
        /// Its length.
        bytes: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("bytes are no key-value command"),
            Self::KeyTooLarge { bytes } => {
                write!(f, "key of {bytes} bytes is longer than {KEY_BYTES_MAX}")
            }
            Self::ValueTooLarge { bytes } => {
                write!(f, "value of {bytes} bytes is longer than {VALUE_BYTES_MAX}")
            }
        }
    }
}

impl core::error::Error for Refusal {}

impl Refusal {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Malformed => out.put_u8(0),
            Self::KeyTooLarge { bytes } => {
                out.put_u8(1);
                out.put_varint(bytes);
            }
            Self::ValueTooLarge { bytes } => {
                out.put_u8(2);
                out.put_varint(bytes);
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, CursorError> {
        match reader.u8()? {
            0 => Ok(Self::Malformed),
            1 => Ok(Self::KeyTooLarge { bytes: reader.varint()? }),
            2 => Ok(Self::ValueTooLarge { bytes: reader.varint()? }),
            _ => Err(CursorError::Value),
        }
    }
}

/// What a key held before a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// The entry that had written it.
    pub index: Index,
    /// The value, unless it is longer than [`PREVIOUS_BYTES_MAX`].
    pub value: Option<Arc<[u8]>>,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandResult {
    /// The key now holds what was asked; for a delete, nothing.
    Done {
        /// What it held before; `None`: it was absent.
        previous: Option<Previous>,
    },
    /// The key does not hold the old value; nothing changed.
    CompareFailed {
        /// What it holds instead; `None`: it is absent.
        previous: Option<Previous>,
    },
    /// Nothing changed.
    Refused(Refusal),
}

const DONE: u8 = 0;
const COMPARE_FAILED: u8 = 1;
const REFUSED: u8 = 2;

/// All of a result but a value usually takes no more, and grows no vector.
const USUAL_BYTES: usize = 16;

impl CommandResult {
    /// The result's one encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let previous = match self {
            Self::Done { previous } | Self::CompareFailed { previous } => previous.as_ref(),
            Self::Refused(_) => None,
        };
        let carried = previous.and_then(|it| it.value.as_ref()).map_or(0, |value| value.len());
        let mut out = Vec::with_capacity(USUAL_BYTES + carried);
        match self {
            Self::Done { previous } => {
                out.put_u8(DONE);
                encode_previous(previous.as_ref(), &mut out);
            }
            Self::CompareFailed { previous } => {
                out.put_u8(COMPARE_FAILED);
                encode_previous(previous.as_ref(), &mut out);
            }
            Self::Refused(refusal) => {
                out.put_u8(REFUSED);
                refusal.encode(&mut out);
            }
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CursorError> {
        let mut reader = Reader::new(bytes);
        let result = match reader.u8()? {
            DONE => Self::Done { previous: decode_previous(&mut reader)? },
            COMPARE_FAILED => Self::CompareFailed { previous: decode_previous(&mut reader)? },
            REFUSED => Self::Refused(Refusal::decode(&mut reader)?),
            _ => return Err(CursorError::Value),
        };
        reader.finish()?;
        Ok(result)
    }
}

const ABSENT: u8 = 0;
const LONG: u8 = 1;
const SHORT: u8 = 2;

fn encode_previous(previous: Option<&Previous>, out: &mut Vec<u8>) {
    match previous {
        None => out.put_u8(ABSENT),
        Some(Previous { index, value: None }) => {
            out.put_u8(LONG);
            out.put_varint(index.0);
        }
        Some(Previous { index, value: Some(value) }) => {
            out.put_u8(SHORT);
            out.put_varint(index.0);
            out.put_prefixed(value);
        }
    }
}

fn decode_previous(reader: &mut Reader<'_>) -> Result<Option<Previous>, CursorError> {
    match reader.u8()? {
        ABSENT => Ok(None),
        LONG => Ok(Some(Previous { index: Index(reader.varint()?), value: None })),
        SHORT => {
            let index = Index(reader.varint()?);
            Ok(Some(Previous { index, value: Some(reader.prefixed()?.into()) }))
        }
        _ => Err(CursorError::Value),
    }
}
