//! All frames of a datagram: read once in whole, then handed out.

use crate::cursor::{CursorError, Reader};
use crate::wire::error::DropReason;
use crate::wire::frame::{Frame, frame_type as t};

/// A datagram's frames, every one of them checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// Reads every frame. A malformed one counts before an unknown one, wherever they stand. `[W-8]`
    pub fn check(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::new(bytes);
        let mut has_unknown_critical = false;
        while !reader.is_empty() {
            let (frame_type, body) = split(&mut reader).map_err(|_| DropReason::MalformedFrame)?;
            let frame = Frame::decode(frame_type, body).map_err(|_| DropReason::MalformedFrame)?;
            has_unknown_critical |= frame.is_none() && frame_type & t::IGNORABLE == 0;
        }
        if has_unknown_critical { Err(DropReason::UnknownCriticalFrame) } else { Ok(Self { rest: bytes }) }
    }
}

/// Takes type and body of the next frame.
pub(super) fn split<'a>(reader: &mut Reader<'a>) -> Result<(u8, &'a [u8]), CursorError> {
    Ok((reader.u8()?, reader.prefixed()?))
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let mut reader = Reader::new(self.rest);
        while !reader.is_empty() {
            // `check` has read the same bytes, so an error here ends nothing early.
            let (frame_type, body) = split(&mut reader).ok()?;
            self.rest = reader.rest();
            if let Some(frame) = Frame::decode(frame_type, body).ok()? {
                return Some(frame);
            }
        }
        None
    }
}

/// Appends padding frames until the datagram has this many bytes; one byte less when only one is missing, for the
/// smallest frame has two.
pub fn pad_to(datagram: &mut Vec<u8>, bytes: usize) {
    while let missing @ 2.. = bytes.saturating_sub(datagram.len()) {
        let body = match missing {
            // The length's varint takes one byte up to 63, two up to 16,383, else four; a total that falls between
            // two forms is left one byte short and filled by the next frame or not at all.
            2..=65 => missing - 2,
            66 => 62,
            67..=16_386 => missing - 3,
            _ => (missing - 5).min(0x3fff_0000),
        };
        Frame::Padding { bytes: body }.encode(datagram);
    }
}
