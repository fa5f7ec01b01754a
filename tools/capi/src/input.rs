//! What callers hand over, checked as far as a program can check it.

use std::ffi::{CStr, c_char};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use raftgram::rpc::SealConfig;
use raftgram::run::boot::resolve;
use raftgram::run::keys::read_keys;
use raftgram::seal::SealMode;

use crate::fault::{Fault, Status};

/// `length` bytes from `data` on; NULL will do when there are none.
///
/// # Safety
/// `data` points to `length` readable bytes that nobody changes for as long as `'a`, or is NULL.
pub(crate) unsafe fn bytes<'a>(data: *const u8, length: usize, name: &str) -> Result<&'a [u8], Fault> {
    if length == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Fault::invalid(format!("{name} is NULL and its length is {length}")));
    }
    // SAFETY: it is not NULL, and the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts(data, length) })
}

/// A text that may be missing; an empty one counts as missing.
///
/// # Safety
/// `text` is NULL, or points to a C string that nobody changes for as long as `'a`.
pub(crate) unsafe fn optional_text<'a>(text: *const c_char, name: &str) -> Result<Option<&'a str>, Fault> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: it is not NULL, and the caller promises the rest.
    let text = unsafe { CStr::from_ptr(text) };
    let text = text.to_str().map_err(|error| Fault::invalid(format!("{name} is no UTF-8: {error}")))?;
    Ok((!text.is_empty()).then_some(text))
}

/// A text that must be there.
///
/// # Safety
/// As for [`optional_text`].
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Fault> {
    // SAFETY: as the caller promises.
    let given = unsafe { optional_text(text, name) }?;
    given.ok_or_else(|| Fault::invalid(format!("{name} is NULL or empty")))
}

/// A handle that must be there.
///
/// # Safety
/// `handle` is NULL, or what a function of this library gave out and nobody freed.
pub(crate) unsafe fn handle<'a, T>(handle: *const T, name: &str) -> Result<&'a T, Fault> {
    // SAFETY: as the caller promises.
    unsafe { handle.as_ref() }.ok_or_else(|| Fault::invalid(format!("{name} is NULL")))
}

/// A place for something, that must be there.
///
/// # Safety
/// `place` is NULL, or may be written and is used by nobody else for as long as `'a`.
pub(crate) unsafe fn place<'a, T>(place: *mut T, name: &str) -> Result<&'a mut T, Fault> {
    // SAFETY: as the caller promises.
    unsafe { place.as_mut() }.ok_or_else(|| Fault::invalid(format!("{name} is NULL")))
}

/// `ADDR,ADDR,…`, a bare port for one of loopback.
pub(crate) fn split_addresses(text: &str) -> Vec<String> {
    let of = |part: &str| match part.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => part.to_owned(),
    };
    text.split(',').map(|part| of(part.trim())).collect()
}

/// The same, resolved.
pub(crate) fn addresses(text: &str) -> Result<Vec<SocketAddr>, Fault> {
    let parts = split_addresses(text).into_iter();
    parts.map(|part| resolve(&part).map_err(|error| Fault::new(Status::System, error))).collect()
}

/// The seal under the keys of a file.
pub(crate) fn seal(key_file: &str) -> Result<SealConfig, Fault> {
    let keys = read_keys(Path::new(key_file)).map_err(|error| Fault::new(Status::System, error))?;
    Ok(SealConfig::with(SealMode::Require, Arc::new(keys)))
}

pub(crate) fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(count.into())
}
