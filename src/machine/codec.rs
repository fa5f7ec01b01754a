//! Values of an application as bytes and back: commands, results, states.
//!
//! Made of the encodings of [`crate::cursor`]: numbers are varints, what has a length says it first. Equal values give
//! equal bytes, which snapshots need, and a value never takes more memory than its bytes justify. A type of one's own
//! writes its fields one after the other and reads them back in the same order.

use std::collections::{BTreeMap, BTreeSet};

use crate::cursor::{CursorError, Reader, VARINT_MAX, Writer as _};

/// A value with one encoding.
///
/// ```
/// use raftgram::cursor::{CursorError, Reader};
/// use raftgram::machine::Codec;
///
/// #[derive(Debug, PartialEq)]
/// struct Transfer {
///     from: String,
///     to: String,
///     amount: u64,
/// }
///
/// impl Codec for Transfer {
///     fn encode(&self, out: &mut Vec<u8>) {
///         self.from.encode(out);
///         self.to.encode(out);
///         self.amount.encode(out);
///     }
///
///     fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
///         Ok(Self { from: Codec::decode(r)?, to: Codec::decode(r)?, amount: Codec::decode(r)? })
///     }
/// }
///
/// let transfer = Transfer { from: "ada".into(), to: "bob".into(), amount: 7 };
/// assert_eq!(Transfer::from_bytes(&transfer.to_bytes()), Ok(transfer));
/// ```
pub trait Codec: Sized {
    /// Appends the value's bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads them from the front of what is left.
    ///
    /// # Errors
    /// Bytes that no value encodes to.
    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError>;

    /// The bytes as a vector of their own.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads a value that takes all of these bytes.
    ///
    /// # Errors
    /// Bytes that no value encodes to, and bytes behind one.
    fn from_bytes(bytes: &[u8]) -> Result<Self, CursorError> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

impl Codec for () {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(_: &mut Reader<'_>) -> Result<Self, CursorError> {
        Ok(())
    }
}

impl Codec for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(*self));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        match r.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CursorError::Value),
        }
    }
}

impl Codec for u8 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(*self);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        r.u8()
    }
}

/// All 64 bits: those that a varint holds as one, the others as nine bytes that begin as no varint does.
impl Codec for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        // The flag makes room for the two bits that a varint has no place for.
        let is_small = *self <= VARINT_MAX >> 1;
        if is_small {
            out.put_varint(self << 1);
        } else {
            out.put_varint(1);
            out.put_u64(*self);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        match r.varint()? {
            1 => match r.u64()? {
                large if large > VARINT_MAX >> 1 => Ok(large),
                _ => Err(CursorError::NotCanonical),
            },
            doubled if doubled % 2 == 0 => Ok(doubled >> 1),
            _ => Err(CursorError::Value),
        }
    }
}

/// Zigzag, so that numbers near zero are short.
impl Codec for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        let zigzag = ((*self << 1) ^ (*self >> 63)) as u64;
        zigzag.encode(out);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        let zigzag = u64::decode(r)?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }
}

macro_rules! narrower {
    ($($narrow:ty as $wide:ty,)+) => {$(
        impl Codec for $narrow {
            fn encode(&self, out: &mut Vec<u8>) {
                <$wide>::from(*self).encode(out);
            }

            fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
                <$wide>::decode(r)?.try_into().map_err(|_| CursorError::Value)
            }
        }
    )+};
}

narrower! { u16 as u64, u32 as u64, i32 as i64, }

impl Codec for String {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_prefixed(self.as_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        let text = std::str::from_utf8(r.prefixed()?).map_err(|_| CursorError::Value)?;
        Ok(text.to_owned())
    }
}

impl<T: Codec> Codec for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        if bool::decode(r)? { T::decode(r).map(Some) } else { Ok(None) }
    }
}

impl<T: Codec> Codec for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_all(self, out);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        read_all(r)
    }
}

/// Refuses values out of order: one set has one encoding.
impl<T: Codec + Ord> Codec for BTreeSet<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_all(self, out);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        let values: Vec<T> = read_all(r)?;
        if !values.is_sorted_by(|a, b| a < b) {
            return Err(CursorError::NotCanonical);
        }
        Ok(values.into_iter().collect())
    }
}

/// Refuses keys out of order: one map has one encoding.
impl<K: Codec + Ord, V: Codec> Codec for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.len().to_u64().encode(out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        let pairs: Vec<(K, V)> = read_all(r)?;
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(CursorError::NotCanonical);
        }
        Ok(pairs.into_iter().collect())
    }
}

impl<A: Codec, B: Codec> Codec for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        Ok((A::decode(r)?, B::decode(r)?))
    }
}

impl<A: Codec, B: Codec, C: Codec> Codec for (A, B, C) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
        self.2.encode(out);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, CursorError> {
        Ok((A::decode(r)?, B::decode(r)?, C::decode(r)?))
    }
}

/// A length as a number that is encoded.
trait ToU64 {
    fn to_u64(self) -> u64;
}

impl ToU64 for usize {
    fn to_u64(self) -> u64 {
        u64::try_from(self).expect("a length fits 64 bits")
    }
}

fn put_all<'a, T: Codec + 'a>(
    values: impl IntoIterator<Item = &'a T, IntoIter: ExactSizeIterator>,
    out: &mut Vec<u8>,
) {
    let values = values.into_iter();
    values.len().to_u64().encode(out);
    values.for_each(|value| value.encode(out));
}

/// Memory is taken as values come, whatever count the bytes claim; values without bytes may not claim any.
fn read_all<T: Codec>(r: &mut Reader<'_>) -> Result<Vec<T>, CursorError> {
    let count = u64::decode(r)?;
    if count > r.rest().len().to_u64() {
        return Err(CursorError::Short);
    }
    (0..count).map(|_| T::decode(r)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn comes_back<T: Codec + PartialEq + core::fmt::Debug>(value: &T) {
        assert_eq!(T::from_bytes(&value.to_bytes()).as_ref(), Ok(value));
    }

    #[test]
    fn numbers_come_back_at_their_bounds() {
        for number in [0, 1, VARINT_MAX >> 1, (VARINT_MAX >> 1) + 1, u64::MAX] {
            comes_back(&number);
        }
        for number in [0, -1, 1, i64::MIN, i64::MAX] {
            comes_back(&number);
        }
        comes_back(&(u16::MAX, u32::MAX, i32::MIN));
        assert_eq!(u16::from_bytes(&65_536_u64.to_bytes()), Err(CursorError::Value));
        assert_eq!((5_u64.to_bytes().len(), (-5_i64).to_bytes().len()), (1, 1));
    }

    #[test]
    fn what_is_no_encoding_is_refused() {
        assert_eq!(u64::from_bytes(&[1, 0, 0, 0, 0, 0, 0, 0, 9]), Err(CursorError::NotCanonical));
        assert_eq!(u64::from_bytes(&[3]), Err(CursorError::Value));
        assert_eq!(bool::from_bytes(&[2]), Err(CursorError::Value));
        assert_eq!(String::from_bytes(&[1, 0xff]), Err(CursorError::Value));
        assert_eq!(u8::from_bytes(&[1, 2]), Err(CursorError::Trailing));
        assert_eq!(Vec::<()>::from_bytes(&[0x40, 0x80]), Err(CursorError::Short), "a count without bytes");
        assert_eq!(BTreeSet::<u8>::from_bytes(&[4, 2, 1]), Err(CursorError::NotCanonical));
        assert_eq!(BTreeMap::<u8, u8>::from_bytes(&[4, 1, 0, 1, 0]), Err(CursorError::NotCanonical));
    }

    proptest! {
        #[test]
        fn values_come_back(
            map in prop::collection::btree_map(".{0,9}", any::<u64>(), 0..9),
            set in prop::collection::btree_set(any::<i64>(), 0..9),
            list in prop::collection::vec(any::<Option<(bool, u8)>>(), 0..9),
        ) {
            let value = (map, set, list);
            prop_assert_eq!(<(_, _, _)>::from_bytes(&value.to_bytes()), Ok(value));
        }
    }
}
