//! What nodes tell each other about their states, so that replicas which no longer agree are noticed. `[W-92]`

use crate::cursor::{CursorError, Reader, Writer};
use crate::types::{GroupId, Index};
use crate::wire::body::{begin_body, body_kind as k, read_bool, read_index};

/// How results are digested by this version; digests of another layout are not compared. `[W-93]`
pub const LAYOUT: u64 = 1;

/// The most windows in one telling.
pub const WINDOWS_MAX: usize = 32;

/// A digest over the results of a window of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowDigest {
    /// How many entries the window has.
    pub span: u64,
    /// Its last entry, a multiple of the span.
    pub last: Index,
    /// The digest.
    pub digest: u32,
}

/// A telling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateDigests {
    /// How they were made.
    pub layout: u64,
    /// The newest windows of each span.
    pub windows: Vec<WindowDigest>,
    /// The newest snapshot: the format of its file, its index, its digest.
    pub snapshot: Option<(u64, Index, u64)>,
}

/// Appends the body of a telling.
///
/// # Panics
/// When it holds more than [`WINDOWS_MAX`] windows.
pub fn encode_digests(group: GroupId, digests: &StateDigests, out: &mut Vec<u8>) {
    assert!(digests.windows.len() <= WINDOWS_MAX, "{} windows", digests.windows.len());
    begin_body(k::STATE_DIGESTS, group, out);
    out.put_varint(digests.layout);
    out.put_varint(digests.windows.len() as u64);
    for window in &digests.windows {
        out.put_varint(window.span);
        out.put_varint(window.last.0);
        out.put_u32(window.digest);
    }
    out.put_u8(u8::from(digests.snapshot.is_some()));
    if let Some((format, index, digest)) = digests.snapshot {
        out.put_varint(format);
        out.put_varint(index.0);
        out.put_u64(digest);
    }
}

/// Reads the body of a telling. `[W-92]`
pub fn decode_digests(body: &[u8]) -> Result<(GroupId, StateDigests), CursorError> {
    let mut reader = Reader::new(body);
    let r = &mut reader;
    if r.u8()? != k::STATE_DIGESTS {
        return Err(CursorError::Value);
    }
    let group = GroupId(r.varint()?);
    let layout = r.varint()?;
    let count = r.varint()?;
    if count > WINDOWS_MAX as u64 {
        return Err(CursorError::Value);
    }
    let mut windows = Vec::new();
    for _ in 0..count {
        let window = WindowDigest { span: r.varint()?, last: read_index(r)?, digest: r.u32()? };
        if window.span == 0 || window.last == Index(0) || !window.last.0.is_multiple_of(window.span) {
            return Err(CursorError::Value);
        }
        windows.push(window);
    }
    let snapshot = if read_bool(r)? { Some((r.varint()?, read_index(r)?, r.u64()?)) } else { None };
    Ok((group, StateDigests { layout, windows, snapshot }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> StateDigests {
        let window = |span, last| WindowDigest { span, last: Index(last), digest: 0xdead_beef };
        let windows = vec![window(64, 64), window(64, 128), window(4096, 4096)];
        StateDigests { layout: LAYOUT, windows, snapshot: Some((1, Index(100), 7)) }
    }

    // [W-92]
    #[test]
    fn a_telling_is_read_as_it_was_written_and_windows_that_cannot_be_are_refused() {
        let mut body = Vec::new();
        encode_digests(GroupId(0), &some(), &mut body);
        assert_eq!(decode_digests(&body), Ok((GroupId(0), some())));
        for length in 0..body.len() {
            assert!(decode_digests(&body[..length]).is_err(), "{length} bytes");
        }
        for (span, last) in [(0, 64), (64, 0), (64, 65)] {
            let mut wrong = some();
            wrong.windows[1] = WindowDigest { span, last: Index(last), digest: 1 };
            body.clear();
            encode_digests(GroupId(0), &wrong, &mut body);
            assert_eq!(decode_digests(&body), Err(CursorError::Value), "{last} of {span}");
        }
    }
}
