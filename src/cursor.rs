//! Reading and writing bytes: big-endian integers and QUIC varints (RFC 9000 §16), every read bounded.
//!
//! Every room that has a format uses this one pair, so that no other place touches byte order. Varints are
//! written in their shortest form and longer forms are refused, so that each value has one encoding.

use byteorder::{BigEndian, ByteOrder as _};
use core::fmt;

use crate::mutant::{self, Mutant};
/// Why bytes could not be read. It never says where: the caller knows what it was reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CursorError {
    /// Fewer bytes are left than the field needs.
    Short,
    /// A varint stands in a longer form than its value needs.
    NotCanonical,
    /// Bytes remain where none may.
    Trailing,
    /// A field holds a value outside its domain.
    Value,
}

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "bytes end inside a field",
            Self::NotCanonical => "varint is not in its shortest form",
            Self::Trailing => "bytes are left after the last field",
            Self::Value => "field value is out of range",
        })
    }
}

impl core::error::Error for CursorError {}

/// The largest value a varint can carry.
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// How many bytes a varint of this value takes: 1, 2, 4 or 8.
///
/// # Panics
/// Above [`VARINT_MAX`].
#[must_use]
pub fn varint_bytes(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        0x4000_0000..=VARINT_MAX => 8,
        _ => panic!("{value} does not fit a varint"),
    }
}

/// Reads from the front of a slice; every method leaves it unmoved when it fails.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over all of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True when everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses leftover bytes.
    pub const fn finish(self) -> Result<(), CursorError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CursorError::Trailing) }
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], CursorError> {
        let has_enough = count <= self.rest.len() || mutant::is(Mutant::U18);
        let (taken, rest) =
            if has_enough { self.rest.split_at(count) } else { return Err(CursorError::Short) };
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CursorError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(CursorError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, CursorError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, CursorError> {
        self.bytes(2).map(BigEndian::read_u16)
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, CursorError> {
        self.bytes(4).map(BigEndian::read_u32)
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self) -> Result<u64, CursorError> {
        self.bytes(8).map(BigEndian::read_u64)
    }

    /// A varint in its shortest form.
    pub fn varint(&mut self) -> Result<u64, CursorError> {
        let first = *self.rest.first().ok_or(CursorError::Short)?;
        let mut ahead = *self;
        // The upper two bits tell the length.
        let value = match first >> 6 {
            0 => u64::from(ahead.u8()?),
            1 => u64::from(ahead.u16()? & 0x3fff),
            2 => u64::from(ahead.u32()? & 0x3fff_ffff),
            _ => ahead.u64()? & VARINT_MAX,
        };
        if varint_bytes(value) != 1 << (first >> 6) {
            return Err(CursorError::NotCanonical);
        }
        *self = ahead;
        Ok(value)
    }

    /// A signed varint, zigzag-coded: small distances in either direction stay short.
    pub fn zigzag(&mut self) -> Result<i64, CursorError> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A varint length and that many bytes.
    pub fn prefixed(&mut self) -> Result<&'a [u8], CursorError> {
        let mut ahead = *self;
        let count = usize::try_from(ahead.varint()?).map_err(|_| CursorError::Short)?;
        let bytes = ahead.bytes(count)?;
        *self = ahead;
        Ok(bytes)
    }
}

/// Writes to the end of a byte vector.
pub trait Writer {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// Two bytes, big-endian.
    fn put_u16(&mut self, value: u16);
    /// Four bytes, big-endian.
    fn put_u32(&mut self, value: u32);
    /// Eight bytes, big-endian.
    fn put_u64(&mut self, value: u64);
    /// The bytes as they are.
    fn put_bytes(&mut self, bytes: &[u8]);
    /// A varint in its shortest form.
    ///
    /// # Panics
    /// Above [`VARINT_MAX`].
    fn put_varint(&mut self, value: u64);
    /// A signed varint, zigzag-coded.
    ///
    /// # Panics
    /// Outside ±2^61.
    fn put_zigzag(&mut self, value: i64);
    /// A varint length and the bytes.
    fn put_prefixed(&mut self, bytes: &[u8]);
}

impl Writer for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        let mut bytes = [0; 2];
        BigEndian::write_u16(&mut bytes, value);
        self.extend_from_slice(&bytes);
    }

    fn put_u32(&mut self, value: u32) {
        let mut bytes = [0; 4];
        BigEndian::write_u32(&mut bytes, value);
        self.extend_from_slice(&bytes);
    }

    fn put_u64(&mut self, value: u64) {
        let mut bytes = [0; 8];
        BigEndian::write_u64(&mut bytes, value);
        self.extend_from_slice(&bytes);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_varint(&mut self, value: u64) {
        match varint_bytes(value) {
            1 => self.put_u8(value as u8),
            2 => self.put_u16(0x4000 | value as u16),
            4 => self.put_u32(0x8000_0000 | value as u32),
            _ => self.put_u64(0xc000_0000_0000_0000 | value),
        }
    }

    fn put_zigzag(&mut self, value: i64) {
        self.put_varint(((value << 1) ^ (value >> 63)) as u64);
    }

    fn put_prefixed(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn varints_of_rfc_9000_appendix_a() {
        let cases: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in cases {
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
            let mut out = Vec::new();
            out.put_varint(value);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn a_longer_form_than_needed_is_refused() {
        for bytes in [&[0x40, 0x25][..], &[0x80, 0, 0x3f, 0xff], &[0xc0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff]] {
            assert_eq!(Reader::new(bytes).varint(), Err(CursorError::NotCanonical));
        }
    }

    #[test]
    fn a_read_past_the_end_leaves_the_reader_unmoved() {
        let mut reader = Reader::new(&[0x7b]);
        assert_eq!(reader.varint(), Err(CursorError::Short));
        assert_eq!(reader.u16(), Err(CursorError::Short));
        assert_eq!(reader.u8(), Ok(0x7b));
        let mut reader = Reader::new(&[3, 1, 2]);
        assert_eq!(reader.prefixed(), Err(CursorError::Short));
        assert_eq!(reader.rest(), [3, 1, 2]);
        assert_eq!(reader.finish(), Err(CursorError::Trailing));
    }

    proptest! {
        #[test]
        fn varints_and_zigzags_round_trip(value in 0..=VARINT_MAX, signed in -(1i64 << 61)..(1i64 << 61)) {
            let mut out = Vec::new();
            out.put_varint(value);
            out.put_zigzag(signed);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.zigzag(), Ok(signed));
            prop_assert!(reader.is_empty());
        }
    }
}
