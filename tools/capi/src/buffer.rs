//! Bytes that cross the border: buffers that the library gives away, and the writer that a callback fills.

use std::ptr;

use crate::fault::{Fault, Status, guard};
use crate::input;

/// Bytes that the library made for the caller, who gives them back with `raftgram_buffer_free`. A NUL byte follows
/// them that `length` does not count, so that text can be used as a C string.
///
/// Functions that fill a buffer expect one that holds nothing: `{NULL, 0}` or one that was freed. After a failure it
/// holds nothing.
#[repr(C)]
#[derive(Debug)]
pub struct Buffer {
    /// The bytes; NULL when there is nothing to free.
    pub data: *mut u8,
    /// How many they are.
    pub length: usize,
}

impl Buffer {
    const EMPTY: Self = Self { data: ptr::null_mut(), length: 0 };

    fn of(mut bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        bytes.push(0);
        let data = Box::into_raw(bytes.into_boxed_slice()).cast::<u8>();
        Self { data, length }
    }

    fn take(&mut self) {
        let Self { data, length } = std::mem::replace(self, Self::EMPTY);
        if !data.is_null() {
            let whole = ptr::slice_from_raw_parts_mut(data, length + 1);
            // SAFETY: a buffer that is not empty comes from `of`, which leaked a box of one byte more than `length`.
            drop(unsafe { Box::from_raw(whole) });
        }
    }
}

/// Where the caller wants bytes; empty from when it is checked.
pub(crate) struct Out<'a>(&'a mut Buffer);

impl<'a> Out<'a> {
    /// # Safety
    /// `buffer` is NULL or points to a buffer that nobody else uses for as long as `'a`.
    pub(crate) unsafe fn new(buffer: *mut Buffer, name: &str) -> Result<Self, Fault> {
        // SAFETY: as the caller promises.
        let buffer = unsafe { buffer.as_mut() }.ok_or_else(|| Fault::invalid(format!("{name} is NULL")))?;
        *buffer = Buffer::EMPTY;
        Ok(Self(buffer))
    }

    pub(crate) fn fill(self, bytes: Vec<u8>) {
        *self.0 = Buffer::of(bytes);
    }
}

/// Frees what a function put into the buffer, and makes it hold nothing. A buffer that holds nothing, and NULL, are
/// left as they are. Any thread.
///
/// # Safety
/// `buffer` is NULL, or points to a buffer that a function of this library filled or that is `{NULL, 0}`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_buffer_free(buffer: *mut Buffer) {
    guard(|| {
        // SAFETY: as the caller promises.
        if let Some(buffer) = unsafe { buffer.as_mut() } {
            buffer.take();
        }
        Ok(())
    });
}

/// Where a callback puts its bytes. It belongs to the library and is valid during that call only.
#[derive(Debug, Default)]
pub struct Writer {
    pub(crate) bytes: Vec<u8>,
}

/// Appends bytes to what a callback gives back: for `apply` and `query` the result, for `freeze` the state. It may be
/// called any number of times, from the callback's thread. The bytes are copied.
///
/// # Safety
/// `writer` is the one the running callback was given; `bytes` points to `length` readable bytes, or `length` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_write(writer: *mut Writer, bytes: *const u8, length: usize) -> Status {
    guard(|| {
        // SAFETY: as the caller promises.
        let writer = unsafe { writer.as_mut() }.ok_or_else(|| Fault::invalid("the writer is NULL"))?;
        // SAFETY: as the caller promises.
        writer.bytes.extend_from_slice(unsafe { input::bytes(bytes, length, "bytes") }?);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_ends_in_a_nul_and_is_freed_once() {
        let mut buffer = Buffer::of(b"abc".to_vec());
        // SAFETY: the buffer holds three bytes and the NUL behind them.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.data, buffer.length + 1) };
        assert_eq!(bytes, b"abc\0");
        for _ in 0..2 {
            // SAFETY: it is filled the first time and empty the second.
            unsafe { raftgram_buffer_free(&raw mut buffer) };
            assert!(buffer.data.is_null());
        }
        // SAFETY: NULL is allowed.
        unsafe { raftgram_buffer_free(ptr::null_mut()) };
    }

    #[test]
    fn a_writer_takes_pieces_and_refuses_null() {
        let mut writer = Writer::default();
        for piece in [&b"ab"[..], b"", b"c"] {
            // SAFETY: the writer is there, and so is the piece.
            let status = unsafe { raftgram_write(&raw mut writer, piece.as_ptr(), piece.len()) };
            assert_eq!(status, Status::Ok);
        }
        assert_eq!(writer.bytes, b"abc");
        // SAFETY: NULL is noticed before it is read.
        assert_eq!(unsafe { raftgram_write(ptr::null_mut(), ptr::null(), 0) }, Status::Invalid);
        // SAFETY: NULL is noticed before it is read.
        assert_eq!(unsafe { raftgram_write(&raw mut writer, ptr::null(), 1) }, Status::Invalid);
    }
}
