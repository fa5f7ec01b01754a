//! A state machine whose four methods are a caller's functions.
//!
//! All of them run on the node's one thread and never at the same time, so that a state needs no lock of its own. The
//! library would restore on another thread while the old state still serves; here the bytes are kept instead, and
//! `restore` is called on the node's thread right before the new state is first used.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};

use raftgram::machine::{Frozen, RestoreError, Sink, SinkClosed, Source};
use raftgram::types::Index;

use crate::buffer::Writer;
use crate::fault::{Fault, in_callback};

/// A replicated state machine: the same commands in the same order must give the same results and the same state on
/// every node, so a callback must read no clock, no random numbers and nothing else outside its state.
///
/// Each callback returns 0, or another number when the state can no longer be trusted: the node then ends, and says
/// `RAFTGRAM_STATUS_MACHINE_FAILED` with the callback and the number. What is wrong with a *command* belongs into its
/// result instead. Callbacks run one at a time on a thread of the node's and must not wait for the node; they must not
/// unwind (throw) or jump out. Bytes that they are given are valid during the call only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Handed to each callback. It must stay valid until the node was stopped or freed.
    pub context: *mut c_void,
    /// Carries out a committed command, once and in log order; what it writes is the result. `index` is the entry's.
    pub apply: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            index: u64,
            command: *const u8,
            length: usize,
            result: *mut Writer,
        ) -> c_int,
    >,
    /// Answers a query without changing anything; what it writes is the answer.
    pub query: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            query: *const u8,
            length: usize,
            answer: *mut Writer,
        ) -> c_int,
    >,
    /// Writes the whole state, for a snapshot; equal states must give equal bytes. The node serves nobody meanwhile.
    pub freeze: Option<unsafe extern "C" fn(context: *mut c_void, state: *mut Writer) -> c_int>,
    /// Takes a state that `freeze` wrote in place of the present one. No bytes at all mean the empty state.
    pub restore: Option<unsafe extern "C" fn(context: *mut c_void, state: *const u8, length: usize) -> c_int>,
}

type Apply = unsafe extern "C" fn(*mut c_void, u64, *const u8, usize, *mut Writer) -> c_int;
type Query = unsafe extern "C" fn(*mut c_void, *const u8, usize, *mut Writer) -> c_int;
type Freeze = unsafe extern "C" fn(*mut c_void, *mut Writer) -> c_int;
type Restore = unsafe extern "C" fn(*mut c_void, *const u8, usize) -> c_int;

/// What a callback's failure says, for whoever asks why the node ended.
pub(crate) type Failure = Arc<Mutex<Option<String>>>;

/// The machine that the node drives.
pub(crate) struct Callbacks {
    context: Context,
    apply: Apply,
    query: Query,
    freeze: Freeze,
    restore: Restore,
    /// A state that is to be taken before the next callback.
    waiting: RefCell<Option<Vec<u8>>>,
    failure: Failure,
}

#[derive(Clone, Copy)]
struct Context(*mut c_void);

// SAFETY: the library only passes the pointer on, to callbacks that run on one thread at a time; whoever started the
// node promised that they may.
unsafe impl Send for Context {}

impl Callbacks {
    pub(crate) fn new(machine: &Machine, failure: Failure) -> Result<Self, Fault> {
        let missing = |name: &str| Fault::invalid(format!("the machine's {name} callback is NULL"));
        Ok(Self {
            context: Context(machine.context),
            apply: machine.apply.ok_or_else(|| missing("apply"))?,
            query: machine.query.ok_or_else(|| missing("query"))?,
            freeze: machine.freeze.ok_or_else(|| missing("freeze"))?,
            restore: machine.restore.ok_or_else(|| missing("restore"))?,
            waiting: RefCell::new(None),
            failure,
        })
    }

    /// Runs one callback; a failure ends the node by a panic that prints nothing.
    fn call(&self, name: &str, callback: impl FnOnce(*mut c_void) -> c_int) {
        let code = in_callback(|| callback(self.context.0));
        if code != 0 {
            let text = format!("the machine's {name} callback returned {code}");
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
            resume_unwind(Box::new(text));
        }
    }

    /// Takes the state that waits, if one does.
    fn settle(&self) {
        let Some(state) = self.waiting.take() else { return };
        let data = if state.is_empty() { std::ptr::null() } else { state.as_ptr() };
        // SAFETY: the callback gets its context and bytes that live through the call.
        self.call("restore", |context| unsafe { (self.restore)(context, data, state.len()) });
    }
}

impl raftgram::Machine for Callbacks {
    fn apply(&mut self, index: Index, command: &[u8]) -> Vec<u8> {
        self.settle();
        let mut writer = Writer::default();
        let (data, length) = (command.as_ptr(), command.len());
        // SAFETY: the callback gets its context, and bytes and a writer that live through the call.
        self.call("apply", |context| unsafe {
            (self.apply)(context, index.0, data, length, &raw mut writer)
        });
        writer.bytes
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        self.settle();
        let mut writer = Writer::default();
        let (data, length) = (query.as_ptr(), query.len());
        // SAFETY: the callback gets its context, and bytes and a writer that live through the call.
        self.call("query", |context| unsafe { (self.query)(context, data, length, &raw mut writer) });
        writer.bytes
    }

    fn freeze(&mut self) -> Box<dyn Frozen> {
        self.settle();
        let mut writer = Writer::default();
        // SAFETY: the callback gets its context and a writer that lives through the call.
        self.call("freeze", |context| unsafe { (self.freeze)(context, &raw mut writer) });
        Box::new(State(writer.bytes))
    }

    fn blank(&self) -> Self {
        Self {
            context: self.context,
            apply: self.apply,
            query: self.query,
            freeze: self.freeze,
            restore: self.restore,
            waiting: RefCell::new(Some(Vec::new())),
            failure: Arc::clone(&self.failure),
        }
    }

    fn restore(&mut self, source: &mut dyn Source) -> Result<(), RestoreError> {
        let mut state = Vec::new();
        loop {
            let start = state.len();
            state.resize(start + PIECE_BYTES, 0);
            let count = source.take(&mut state[start..])?;
            state.truncate(start + count);
            if count < PIECE_BYTES {
                break;
            }
        }
        *self.waiting.get_mut() = Some(state);
        Ok(())
    }
}

/// How much of a state is taken at once.
const PIECE_BYTES: usize = 64 * 1024;

struct State(Vec<u8>);

impl Frozen for State {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        sink.put(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftgram::Machine as _;

    /// The context is a sum; 255 in a command, a query or a state is a failure.
    unsafe extern "C" fn apply(
        context: *mut c_void,
        _index: u64,
        command: *const u8,
        length: usize,
        result: *mut Writer,
    ) -> c_int {
        // SAFETY: the context is a sum, which nobody else uses during the call.
        let sum = unsafe { &mut *context.cast::<u8>() };
        // SAFETY: the machine hands over a command of this length.
        let command = unsafe { std::slice::from_raw_parts(command, length) };
        *sum = command.iter().fold(*sum, |sum, byte| sum.wrapping_add(*byte));
        // SAFETY: the writer is the running callback's.
        unsafe { (*result).bytes.push(*sum) };
        c_int::from(command.contains(&255))
    }

    unsafe extern "C" fn query(context: *mut c_void, _: *const u8, _: usize, answer: *mut Writer) -> c_int {
        // SAFETY: the context is a sum.
        let sum = unsafe { *context.cast::<u8>() };
        // SAFETY: the writer is the running callback's.
        unsafe { (*answer).bytes.push(sum) };
        0
    }

    unsafe extern "C" fn freeze(context: *mut c_void, state: *mut Writer) -> c_int {
        // SAFETY: the machine hands over what it says.
        unsafe { query(context, std::ptr::null(), 0, state) }
    }

    unsafe extern "C" fn restore(context: *mut c_void, state: *const u8, length: usize) -> c_int {
        // SAFETY: the machine hands over NULL only for nothing.
        let sum = if length == 0 { 0 } else { unsafe { *state } };
        // SAFETY: the context is a sum, which nobody else uses during the call.
        unsafe { *context.cast::<u8>() = sum };
        0
    }

    fn callbacks(sum: &mut u8) -> Callbacks {
        let machine = Machine {
            context: (sum as *mut u8).cast(),
            apply: Some(apply),
            query: Some(query),
            freeze: Some(freeze),
            restore: Some(restore),
        };
        Callbacks::new(&machine, Failure::default()).unwrap()
    }

    #[test]
    fn a_restored_state_is_taken_when_it_is_first_used() {
        let mut sum = 0;
        let mut machine = callbacks(&mut sum);
        assert_eq!(machine.apply(Index(1), &[3, 4]), [7]);
        let mut bytes = Vec::new();
        machine.freeze().write(&mut bytes).unwrap();
        let mut other = machine.blank();
        other.restore(&mut &[9u8][..]).unwrap();
        assert_eq!(machine.query(&[]), [7], "the old state serves until the new one does");
        assert_eq!(other.query(&[]), [9]);
        assert_eq!(machine.blank().query(&[]), [0]);
        other.restore(&mut &bytes[..]).unwrap();
        assert_eq!(other.apply(Index(2), &[1]), [8]);
    }

    #[test]
    fn a_callback_that_fails_ends_the_node_and_says_which() {
        let mut sum = 0;
        let mut machine = callbacks(&mut sum);
        let ended =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.apply(Index(1), &[255])));
        assert!(ended.is_err());
        let failure = machine.failure.lock().unwrap().clone();
        assert_eq!(failure.as_deref(), Some("the machine's apply callback returned 1"));
    }

    #[test]
    fn a_machine_without_all_of_its_callbacks_is_refused() {
        let nothing =
            Machine { context: std::ptr::null_mut(), apply: None, query: None, freeze: None, restore: None };
        let fault = Callbacks::new(&nothing, Failure::default()).err().unwrap();
        assert_eq!(fault.text, "the machine's apply callback is NULL");
    }
}
