//! A client of a cluster, wherever its nodes run.

use std::ffi::c_char;
use std::time::Duration;

use raftgram::handle::OperationResult;
use raftgram::{Answer, ClientConfig};

use crate::buffer::{Buffer, Out};
use crate::fault::{Fault, Status, guard, refuse_in_callback};
use crate::input::{self, milliseconds};

/// A client of a cluster: it finds the leader, asks again when the network loses, and has every command carried out at
/// most once. Its functions may be called from any thread, and at the same time, but for `raftgram_client_free`, which
/// must be the last.
#[derive(Debug)]
pub struct Client {
    client: raftgram::Client,
}

/// How fresh the answer to a query must be.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadLevel {
    /// It shows every command that was answered before.
    Linearizable = 0,
    /// The same, resting on bounded clock drift, where the nodes allow it.
    Lease = 1,
    /// Whatever the node that is asked has applied.
    Local = 2,
    /// As fresh as `LINEARIZABLE`, from whichever node is asked.
    AnyNode = 3,
}

/// How much longer than its own deadline an operation is waited for: the client ends it by itself.
const GRACE: Duration = Duration::from_secs(1);

impl Client {
    pub(crate) const fn new(client: raftgram::Client) -> Self {
        Self { client }
    }
}

/// Puts a client of the cluster at `addresses` into `*client`: any of its nodes, by commas, a bare port for one of
/// loopback. Nothing is asked of them yet, so that it succeeds where none answers. `key_file` names a file with a key
/// of the cluster, of mode 0600; NULL for plain datagrams. `*client` is set to NULL when it fails. The caller frees
/// it. Any thread.
///
/// `INVALID`, or `SYSTEM` when an address, the file or a socket cannot be used.
///
/// # Safety
/// The texts are NULL or C strings; `client` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_client_connect(
    addresses: *const c_char,
    key_file: *const c_char,
    client: *mut *mut Client,
) -> Status {
    guard(|| {
        // SAFETY: as the caller promises.
        let place = unsafe { input::place(client, "client") }?;
        *place = std::ptr::null_mut();
        // SAFETY: as the caller promises.
        let addresses = unsafe { input::text(addresses, "addresses") }?;
        // SAFETY: as the caller promises.
        let key_file = unsafe { input::optional_text(key_file, "key_file") }?;
        let addresses = input::addresses(addresses)?;
        let mut config = ClientConfig::default();
        if let Some(file) = key_file {
            config.rpc.seal = input::seal(file)?;
        }
        let client = raftgram::Client::connect(&addresses, config)
            .map_err(|error| Fault::new(Status::System, error))?;
        *place = Box::into_raw(Box::new(Client::new(client)));
        Ok(())
    })
}

/// Has a command carried out, once, and puts its result into `result` and the index of its entry into `*index`; either
/// may be NULL when it is not wanted. The command is copied. The caller frees the result. Any thread but a callback's.
///
/// `TIMED_OUT` when it has certainly had no effect, `OUTCOME_UNKNOWN` when it may have; `BUSY`, `REFUSED`, `STOPPED`,
/// `WOULD_DEADLOCK`, `INVALID`.
///
/// # Safety
/// `client` is NULL or a client that was not freed; `command` points to `length` readable bytes; `result` is NULL or an
/// empty buffer; `index` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_client_propose(
    client: *const Client,
    command: *const u8,
    length: usize,
    timeout_ms: u32,
    result: *mut Buffer,
    index: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: as the caller promises.
        let answer = unsafe { Wanted::new(result, index) }?;
        // SAFETY: as the caller promises.
        let client = unsafe { input::handle(client, "client") }?;
        // SAFETY: as the caller promises.
        let command = unsafe { input::bytes(command, length, "command") }?;
        answer.wait_for(timeout_ms, |timeout| client.client.propose(command, timeout))
    })
}

/// Asks the machine, and puts its answer into `result` and the index it was answered at into `*index`; either may be
/// NULL when it is not wanted. `level` is a `raftgram_read_level`. The query is copied. The caller frees the answer.
/// Any thread but a callback's.
///
/// `TIMED_OUT`, `BUSY`, `REFUSED`, `STOPPED`, `WOULD_DEADLOCK`, `INVALID`.
///
/// # Safety
/// As for `raftgram_client_propose`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_client_read(
    client: *const Client,
    query: *const u8,
    length: usize,
    level: u32,
    timeout_ms: u32,
    result: *mut Buffer,
    index: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: as the caller promises.
        let answer = unsafe { Wanted::new(result, index) }?;
        // SAFETY: as the caller promises.
        let client = unsafe { input::handle(client, "client") }?;
        // SAFETY: as the caller promises.
        let query = unsafe { input::bytes(query, length, "query") }?;
        let level = match level {
            0 => raftgram::ReadLevel::Linearizable,
            1 => raftgram::ReadLevel::Lease,
            2 => raftgram::ReadLevel::Local,
            3 => raftgram::ReadLevel::AnyNode,
            other => return Err(Fault::invalid(format!("{other} is no raftgram_read_level"))),
        };
        answer.wait_for(timeout_ms, |timeout| client.client.read(query, level, timeout))
    })
}

/// Frees the client. What is still waited for on other threads ends as `STOPPED`, but those threads must have left
/// before: it must be the last call. NULL is left alone. Any thread but a callback's, where it does nothing but leave a
/// text.
///
/// # Safety
/// `client` is NULL or a client that was not freed, and no other call uses it now or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_client_free(client: *mut Client) {
    guard(|| {
        refuse_in_callback()?;
        if !client.is_null() {
            // SAFETY: the handle came out of a box of this library, and the caller gives it up.
            drop(unsafe { Box::from_raw(client) });
        }
        Ok(())
    });
}

/// Where an answer goes.
struct Wanted<'a> {
    result: Option<Out<'a>>,
    index: Option<&'a mut u64>,
}

impl Wanted<'_> {
    /// # Safety
    /// Each is NULL, or may be written and is used by nobody else meanwhile.
    unsafe fn new(result: *mut Buffer, index: *mut u64) -> Result<Self, Fault> {
        // SAFETY: as the caller promises.
        let result = (!result.is_null()).then(|| unsafe { Out::new(result, "result") }).transpose()?;
        // SAFETY: as the caller promises.
        let index = unsafe { index.as_mut() };
        Ok(Self { result, index })
    }

    /// Begins an operation and gives its answer.
    fn wait_for(
        self,
        timeout_ms: u32,
        begin: impl FnOnce(Duration) -> raftgram::Pending<OperationResult>,
    ) -> Result<(), Fault> {
        refuse_in_callback()?;
        let timeout = milliseconds(timeout_ms);
        self.give(begin(timeout).wait(timeout + GRACE)??)
    }

    fn give(self, answer: Answer) -> Result<(), Fault> {
        let (Answer::Applied { index, result, .. } | Answer::Read { index, result, .. }) = answer else {
            return Err(Fault::new(Status::Refused, "the cluster answered something else"));
        };
        if let Some(out) = self.result {
            out.fill(result);
        }
        if let Some(place) = self.index {
            *place = index.0;
        }
        Ok(())
    }
}
