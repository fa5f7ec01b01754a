//! A node in the caller's process.

use std::ffi::{c_char, c_int};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raftgram::rpc::SealConfig;
use raftgram::{NodeId, NodeOptions as Options};

use crate::buffer::{Buffer, Out};
use crate::client::Client;
use crate::events::{Events, Next, Teller};
use crate::fault::{Fault, Status, guard, guarded, refuse_in_callback};
use crate::input::{self, milliseconds};
use crate::json;
use crate::machine::{Callbacks, Failure, Machine};

/// A running node. Its functions may be called from any thread, and at the same time, but for
/// `raftgram_node_free`, which must be the last.
pub struct Node {
    /// None once it was stopped.
    running: Mutex<Option<raftgram::Node>>,
    events: Arc<Events>,
    failure: Failure,
    /// What its clients speak with.
    seal: SealConfig,
}

/// What a node does with a data folder that belongs to no cluster yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfBlank {
    /// It does not start: a folder that should hold data and does not is a loss to be noticed.
    Refuse = 0,
    /// It founds a cluster together with all other voters.
    Bootstrap = 1,
    /// It joins the cluster that answers at any of the voters' addresses.
    Join = 2,
}

/// How a node is started. Set all of it to zero, then `size` and what is wanted. Texts are UTF-8 and are copied.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NodeOptions {
    /// `sizeof(raftgram_node_options)`: a library that is newer than the program then knows which fields there are.
    pub size: usize,
    /// The node's number, 1 to 65,534.
    pub id: u16,
    /// 1: writes are not synced to the disk. A power cut may then lose what was acknowledged.
    pub no_fsync: u8,
    /// A `raftgram_if_blank`.
    pub if_blank: u32,
    /// Where its socket is bound, and where it is reached: `10.0.0.1:7101`; a bare port means loopback.
    pub listen: *const c_char,
    /// The addresses of voters 1, 2, 3, … of a new cluster in order, or any nodes of one to join, by commas.
    pub voters: *const c_char,
    /// The data folder; made where it is missing and `if_blank` allows it.
    pub data: *const c_char,
    /// A file with the cluster's keys, of mode 0600; NULL for plain datagrams.
    pub key_file: *const c_char,
    /// The shortest election timeout, of which the heartbeat interval is a tenth; 0 for the one of a local network.
    pub election_timeout_ms: u32,
}

impl Node {
    fn lock(&self) -> MutexGuard<'_, Option<raftgram::Node>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the running node to `work`, which must not wait.
    fn with<T>(&self, work: impl FnOnce(&raftgram::Node) -> Result<T, Fault>) -> Result<T, Fault> {
        self.check()?;
        self.lock().as_ref().map_or_else(|| Err(Fault::stopped()), work)
    }

    /// Refuses a node that has ended because its machine failed.
    fn check(&self) -> Result<(), Fault> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(text) => Err(Fault::new(Status::MachineFailed, text)),
            None => Ok(()),
        }
    }

    fn stop(&self) -> Result<(), Fault> {
        let Some(node) = self.lock().take() else { return self.check() };
        let ended = node.shutdown();
        self.check()?;
        ended.map_err(|error| Fault::new(Status::System, error))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

/// # Safety
/// The texts are NULL or C strings.
unsafe fn options(given: &NodeOptions) -> Result<Options, Fault> {
    if given.size != size_of::<NodeOptions>() {
        let ours = size_of::<NodeOptions>();
        return Err(Fault::invalid(format!("options.size is {} where this library has {ours}", given.size)));
    }
    let id = NodeId::new(given.id).ok_or_else(|| Fault::invalid(format!("{} is no node id", given.id)))?;
    // SAFETY: as the caller promises.
    let listen = unsafe { input::text(given.listen, "options.listen") }?;
    // SAFETY: as the caller promises.
    let voters = unsafe { input::text(given.voters, "options.voters") }?;
    // SAFETY: as the caller promises.
    let data = unsafe { input::text(given.data, "options.data") }?;
    // SAFETY: as the caller promises.
    let key_file = unsafe { input::optional_text(given.key_file, "options.key_file") }?;
    let address = input::addresses(listen)?[0];
    let mut options = Options::new(id, address, data.into());
    options.config.advertise = input::split_addresses(listen).swap_remove(0);
    options.voters = Options::voters_from(&input::split_addresses(voters));
    options.if_blank = match given.if_blank {
        0 => raftgram::IfBlank::Refuse,
        1 => raftgram::IfBlank::Bootstrap,
        2 => raftgram::IfBlank::Join,
        other => return Err(Fault::invalid(format!("options.if_blank is {other}"))),
    };
    if given.no_fsync != 0 {
        options.fsync = raftgram::Fsync::Off;
    }
    if given.election_timeout_ms > 0 {
        let shortest = milliseconds(given.election_timeout_ms);
        let timing = &mut options.config.timing;
        (timing.election_timeout_min, timing.election_timeout_max) = (shortest, shortest * 2);
        timing.heartbeat_interval = (shortest / 10).max(Duration::from_millis(1));
    }
    if let Some(file) = key_file {
        options.config.rpc.seal = input::seal(file)?;
    }
    Ok(options)
}

/// Starts a node that drives `machine`, and puts its handle into `*node`. What can be refused is refused here;
/// founding or joining goes on in the background. The options and the machine are copied; what the machine's context
/// points to stays the caller's and must outlive the node. `*node` is set to NULL when it fails. Any thread.
///
/// `INVALID`, or `SYSTEM` when the folder, the socket or an address cannot be used as asked.
///
/// # Safety
/// The pointers are NULL or point to what they say; texts are C strings; the machine's callbacks may be called with
/// its context from another thread, one at a time, until the node was stopped or freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_node_start(
    options: *const NodeOptions,
    machine: *const Machine,
    node: *mut *mut Node,
) -> Status {
    guard(|| {
        // SAFETY: as the caller promises.
        let place = unsafe { input::place(node, "node") }?;
        *place = std::ptr::null_mut();
        refuse_in_callback()?;
        // SAFETY: as the caller promises.
        let given = unsafe { input::handle(options, "options") }?;
        // SAFETY: as the caller promises.
        let machine = unsafe { input::handle(machine, "machine") }?;
        let failure = Failure::default();
        let callbacks = Callbacks::new(machine, Arc::clone(&failure))?;
        // SAFETY: as the caller promises.
        let options = unsafe { self::options(given) }?;
        let seal = options.config.rpc.seal.clone();
        let events = Arc::new(Events::new().map_err(system)?);
        let teller = Teller(Arc::clone(&events));
        let started = raftgram::Node::start_observed(options, callbacks, move |event| teller.tell(event));
        let running = Mutex::new(Some(started.map_err(|error| Fault::new(Status::System, error))?));
        *place = Box::into_raw(Box::new(Node { running, events, failure, seal }));
        Ok(())
    })
}

/// Puts a client of the node's cluster into `*client`, which asks this node first and has its keys. It belongs to the
/// caller, who frees it, before or after the node. Any thread.
///
/// `STOPPED`, `MACHINE_FAILED`, `SYSTEM` when no socket or thread is to be had.
///
/// # Safety
/// `node` is NULL or a node that was not freed; `client` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_node_client(node: *const Node, client: *mut *mut Client) -> Status {
    guard(|| {
        // SAFETY: as the caller promises.
        let place = unsafe { input::place(client, "client") }?;
        *place = std::ptr::null_mut();
        // SAFETY: as the caller promises.
        let node = unsafe { input::handle(node, "node") }?;
        let mut config = raftgram::ClientConfig::default();
        config.rpc.seal = node.seal.clone();
        let client = node.with(|node| node.client(config).map_err(system))?;
        *place = Box::into_raw(Box::new(Client::new(client)));
        Ok(())
    })
}

/// Puts how the node is into `json`: one object with the names of `raftgram status --json` (`role`, `term`, `commit`,
/// `applied`, `leader`, `voters`, …). The caller frees it. Any thread but a callback's.
///
/// `STOPPED`, `MACHINE_FAILED`, `TIMED_OUT` while the node is being founded, `WOULD_DEADLOCK`.
///
/// # Safety
/// `node` is NULL or a node that was not freed; `json` is NULL or an empty buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_node_status(
    node: *const Node,
    timeout_ms: u32,
    json: *mut Buffer,
) -> Status {
    let ask = |node: &Node| {
        refuse_in_callback()?;
        let pending = node.with(|node| Ok(node.status()))?;
        let status = pending.wait(milliseconds(timeout_ms)).map_err(|error| match error {
            raftgram::WaitError::TimedOut => Fault::new(Status::TimedOut, "the node has not answered yet"),
            raftgram::WaitError::Gone => node.check().err().unwrap_or_else(Fault::stopped),
        })?;
        Ok(json::status(&status).to_string())
    };
    // SAFETY: as the caller promises.
    unsafe { tell(node, json, ask) }
}

/// A descriptor that is readable while an event waits, for select, poll or epoll; -1 when `node` is NULL. It belongs to
/// the node and is closed when that is freed; only `raftgram_node_next_event` may read from it. Any thread.
///
/// # Safety
/// `node` is NULL or a node that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_node_event_fd(node: *const Node) -> c_int {
    let descriptor = guarded(|| {
        // SAFETY: as the caller promises.
        Ok(unsafe { input::handle(node, "node") }?.events.descriptor())
    });
    descriptor.unwrap_or(-1)
}

/// Puts the next thing that happened to the node into `json`, waiting at most `timeout_ms` for it (0: not at all). Each
/// is an object whose `event` says what it is: `role`, `peer-connected`, `snapshot-taken`, `snapshot-installed`,
/// `disk-room`, `damaged`, `diverged`, `alarm`, …; `lost` when more than 1,024 waited; `ended` comes last. The caller
/// frees it. Any thread but a callback's; also after the node was stopped, for what it had to say.
///
/// `TIMED_OUT` when nothing happened, `STOPPED` behind `ended`, `WOULD_DEADLOCK`.
///
/// # Safety
/// `node` is NULL or a node that was not freed; `json` is NULL or an empty buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_node_next_event(
    node: *const Node,
    timeout_ms: u32,
    json: *mut Buffer,
) -> Status {
    let next = |node: &Node| {
        if timeout_ms > 0 {
            refuse_in_callback()?;
        }
        match node.events.next(milliseconds(timeout_ms)).map_err(system)? {
            Next::Event(event) => Ok(event.to_string()),
            Next::TimedOut => Err(Fault::new(Status::TimedOut, "nothing has happened")),
            Next::Ended => Err(node.check().err().unwrap_or_else(Fault::stopped)),
        }
    };
    // SAFETY: as the caller promises.
    unsafe { tell(node, json, next) }
}

/// Puts a text of the node into `json`, which holds nothing if there is none.
///
/// # Safety
/// As for `raftgram_node_status`.
unsafe fn tell(
    node: *const Node,
    json: *mut Buffer,
    text: impl FnOnce(&Node) -> Result<String, Fault>,
) -> Status {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::new(json, "json") }?;
        // SAFETY: as the caller promises.
        let node = unsafe { input::handle(node, "node") }?;
        out.fill(text(node)?.into_bytes());
        Ok(())
    })
}

/// Has the node hand its leadership to voter `to`, or to the fittest one when `to` is 0. It only asks: an event tells
/// who leads then, and nothing happens on a node that does not lead. Any thread.
///
/// `INVALID`, `STOPPED`, `MACHINE_FAILED`.
///
/// # Safety
/// `node` is NULL or a node that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_node_transfer(node: *const Node, to: u16) -> Status {
    guard(|| {
        // SAFETY: as the caller promises.
        let node = unsafe { input::handle(node, "node") }?;
        let voter = NodeId::new(to);
        if voter.is_none() && to != 0 {
            return Err(Fault::invalid(format!("{to} is no node id")));
        }
        node.with(|node| {
            node.transfer_leadership(voter);
            Ok(())
        })
    })
}

/// Stops the node: it hands leadership over, makes everything durable and ends, and no callback runs any more when the
/// function comes back. The handle stays until it is freed. A second stop does nothing. Any thread but a callback's.
///
/// `MACHINE_FAILED` or `SYSTEM` when the node had ended by itself, with the reason; `WOULD_DEADLOCK`.
///
/// # Safety
/// `node` is NULL or a node that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_node_stop(node: *const Node) -> Status {
    guard(|| {
        // SAFETY: as the caller promises.
        let node = unsafe { input::handle(node, "node") }?;
        refuse_in_callback()?;
        node.stop()
    })
}

/// Stops the node if need be, and frees the handle. NULL is left alone. Any thread but a callback's, where it does
/// nothing but leave a text.
///
/// # Safety
/// `node` is NULL or a node that was not freed, and no other call uses it now or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn raftgram_node_free(node: *mut Node) {
    guard(|| {
        refuse_in_callback()?;
        if !node.is_null() {
            // SAFETY: the handle came out of a box in `raftgram_node_start`, and the caller gives it up.
            drop(unsafe { Box::from_raw(node) });
        }
        Ok(())
    });
}

fn system(error: io::Error) -> Fault {
    Fault::new(Status::System, error)
}
