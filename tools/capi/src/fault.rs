//! What went wrong: a status for the program, a text for a person, and no panic for anybody.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use raftgram::WaitError;
use raftgram::client::{ClientError, Outcome};

/// What a function came to. Anything but `RAFTGRAM_STATUS_OK` leaves a text for `raftgram_last_error`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was done.
    Ok = 0,
    /// An argument cannot be used; nothing was done.
    Invalid = 1,
    /// The node was stopped, or has ended by itself.
    Stopped = 2,
    /// The time is over; what was asked for has had no effect.
    TimedOut = 3,
    /// The time is over, or the session was lost, and a command may have been carried out or may yet be.
    OutcomeUnknown = 4,
    /// Too much is under way; nothing was done. Try again later.
    Busy = 5,
    /// The cluster refuses it, and the text says why; nothing was done.
    Refused = 6,
    /// The system refused: a socket, a folder, a thread or an address.
    System = 7,
    /// A callback failed. Its node has ended, as a node ends whose state can no longer be trusted.
    MachineFailed = 8,
    /// The caller is a callback of a node, and the node would wait for itself.
    WouldDeadlock = 9,
    /// A fault of the library: it panicked. The handle is of no more use than to be freed.
    Panicked = 10,
}

/// A status and what to say about it.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) status: Status,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(status: Status, text: impl Display) -> Self {
        Self { status, text: text.to_string() }
    }

    pub(crate) fn invalid(text: impl Display) -> Self {
        Self::new(Status::Invalid, text)
    }

    pub(crate) fn stopped() -> Self {
        Self::new(Status::Stopped, "the node has been stopped")
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let status = match &error {
            ClientError::TimedOut { outcome: Outcome::NotSent, .. } => Status::TimedOut,
            ClientError::TimedOut { .. } | ClientError::SessionExpired { outcome: Outcome::Unknown } => {
                Status::OutcomeUnknown
            }
            ClientError::SessionExpired { .. } | ClientError::Busy => Status::Busy,
            _ => Status::Refused,
        };
        Self::new(status, error)
    }
}

impl From<WaitError> for Fault {
    fn from(error: WaitError) -> Self {
        let status = match error {
            WaitError::TimedOut => Status::OutcomeUnknown,
            WaitError::Gone => Status::Stopped,
        };
        Self::new(status, error)
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs the body of a function of the border.
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Fault>) -> Status {
    guarded(body).map_or_else(|status| status, |()| Status::Ok)
}

/// The same, for one that gives something back.
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T, Fault>) -> Result<T, Status> {
    // What a panic may have left half-done is behind a handle that says so from then on.
    let ended = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        Err(Fault::new(Status::Panicked, format!("the library panicked: {}", panic_text(&*panic))))
    });
    ended.map_err(|fault| {
        let text = CString::new(fault.text.replace('\0', " ")).unwrap_or_default();
        LAST.with(|last| last.replace(text));
        fault.status
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

/// Runs a callback; functions that wait refuse to be called meanwhile on this thread.
pub(crate) fn in_callback<T>(callback: impl FnOnce() -> T) -> T {
    let before = IN_CALLBACK.replace(true);
    let value = callback();
    IN_CALLBACK.set(before);
    value
}

/// Refuses to wait inside a callback.
pub(crate) fn refuse_in_callback() -> Result<(), Fault> {
    if IN_CALLBACK.get() {
        let text = "a callback must not wait for a node: the node waits for the callback";
        return Err(Fault::new(Status::WouldDeadlock, text));
    }
    Ok(())
}

/// What this thread's last failed call had to say, as UTF-8 of one line, or NULL when none has failed. The text is
/// the library's; it is valid until the next call on the same thread. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn raftgram_last_error() -> *const c_char {
    LAST.with(|last| {
        last.try_borrow().map_or(ptr::null(), |text| match text.is_empty() {
            true => ptr::null(),
            false => text.as_ptr(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn last() -> String {
        // SAFETY: what the function returns is a C string until this thread's next call, and not NULL after a fault.
        let text = unsafe { CStr::from_ptr(raftgram_last_error()) };
        text.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_is_a_status_and_a_text() {
        assert!(raftgram_last_error().is_null());
        assert_eq!(guard(|| panic!("number {}", 7)), Status::Panicked);
        assert_eq!(last(), "the library panicked: number 7");
        assert_eq!(guard(|| Err(Fault::invalid("a\0b"))), Status::Invalid);
        assert_eq!(last(), "a b");
        assert_eq!(guard(|| Ok(())), Status::Ok);
        assert_eq!(last(), "a b", "a success leaves the last failure");
    }

    #[test]
    fn what_waits_is_refused_inside_a_callback_only() {
        assert!(refuse_in_callback().is_ok());
        let inside = in_callback(|| in_callback(refuse_in_callback).and_then(|()| refuse_in_callback()));
        assert_eq!(inside.unwrap_err().status, Status::WouldDeadlock);
        assert!(refuse_in_callback().is_ok());
    }
}
