//! Questions about the map, and their answers.

use super::command::Refusal;
use crate::cursor::{CursorError, Reader, Writer};
use crate::types::Index;

/// The most rows of one page, whatever was asked for.
pub const PAGE_ROWS_MAX: u64 = 1024;

/// The most bytes of keys and values of one page, whatever was asked for; the first row comes even when it alone
/// is longer.
pub const PAGE_BYTES_MAX: u64 = 1 << 20;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query<'a> {
    /// What does this key hold?
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// Which keys begin with this prefix, and what do they hold?
    List {
        /// What the keys begin with; empty for all.
        prefix: &'a [u8],
        /// Only keys after this one: the last of the page before. `None` for the first page.
        after: Option<&'a [u8]>,
        /// At most so many rows, and at most [`PAGE_ROWS_MAX`].
        rows_max: u64,
        /// At most so many bytes of keys and values, and at most [`PAGE_BYTES_MAX`]; one row always comes.
        bytes_max: u64,
    },
}

const GET: u8 = 0;
const LIST_FIRST: u8 = 1;
const LIST_AFTER: u8 = 2;

impl<'a> Query<'a> {
    /// The query's one encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match *self {
            Self::Get { key } => {
                out.put_u8(GET);
                out.put_bytes(key);
            }
            Self::List { prefix, after, rows_max, bytes_max } => {
                out.put_u8(if after.is_some() { LIST_AFTER } else { LIST_FIRST });
                out.put_varint(rows_max.min(PAGE_ROWS_MAX));
                out.put_varint(bytes_max.min(PAGE_BYTES_MAX));
                out.put_prefixed(prefix);
                out.put_bytes(after.unwrap_or_default());
            }
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CursorError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        match kind {
            GET => Ok(Self::Get { key: reader.rest() }),
            LIST_FIRST | LIST_AFTER => {
                let (rows_max, bytes_max) = (reader.varint()?, reader.varint()?);
                let prefix = reader.prefixed()?;
                let after = (kind == LIST_AFTER).then_some(reader.rest());
                if after.is_none() {
                    reader.finish()?;
                }
                Ok(Self::List { prefix, after, rows_max, bytes_max })
            }
            _ => Err(CursorError::Value),
        }
    }
}

/// One key and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What it holds.
    pub value: &'a [u8],
    /// The entry that wrote it.
    pub index: Index,
}

impl<'a> Row<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_prefixed(self.key);
        out.put_prefixed(self.value);
        out.put_varint(self.index.0);
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, CursorError> {
        Ok(Self { key: reader.prefixed()?, value: reader.prefixed()?, index: Index(reader.varint()?) })
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The key is absent.
    Missing,
    /// The key is present.
    Found {
        /// What it holds.
        value: &'a [u8],
        /// The entry that wrote it.
        index: Index,
    },
    /// The next rows in order; the last key is where the following page goes on.
    Page {
        /// The rows.
        rows: Vec<Row<'a>>,
        /// True when no more follow.
        is_last: bool,
    },
    /// The bytes were no query.
    Refused(Refusal),
}

const MISSING: u8 = 0;
const FOUND: u8 = 1;
const PAGE_MORE: u8 = 2;
const PAGE_LAST: u8 = 3;
const REFUSED: u8 = 4;

impl<'a> Answer<'a> {
    /// The answer's one encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Missing => out.put_u8(MISSING),
            Self::Found { value, index } => {
                out.put_u8(FOUND);
                out.put_varint(index.0);
                out.put_bytes(value);
            }
            Self::Page { rows, is_last } => {
                out.put_u8(if *is_last { PAGE_LAST } else { PAGE_MORE });
                rows.iter().for_each(|row| row.encode(&mut out));
            }
            Self::Refused(refusal) => {
                out.put_u8(REFUSED);
                refusal.encode(&mut out);
            }
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CursorError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        let answer = match kind {
            MISSING => Self::Missing,
            FOUND => {
                let index = Index(reader.varint()?);
                return Ok(Self::Found { index, value: reader.rest() });
            }
            PAGE_MORE | PAGE_LAST => {
                let mut rows = Vec::new();
                while !reader.is_empty() {
                    rows.push(Row::decode(&mut reader)?);
                }
                Self::Page { rows, is_last: kind == PAGE_LAST }
            }
            REFUSED => Self::Refused(Refusal::decode(&mut reader)?),
            _ => return Err(CursorError::Value),
        };
        reader.finish()?;
        Ok(answer)
    }
}
