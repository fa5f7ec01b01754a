//! A node on a thread of its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::Client;
use super::pending::{Pending, pending};
use crate::client::ClientConfig;
use crate::machine::Machine;
use crate::node::NodeEvent;
use crate::run::boot::{Booted, NodeOptions, StartError, boot, boot_on, resolve};
use crate::run::figures::NodeFigures;
use crate::run::mailbox::Mailbox;
use crate::run::node::{Request, RunError};
use crate::run::sights::View;
use crate::store::SharedDisk;
use crate::types::NodeId;
use crate::wire::status::NodeStatus;

/// The most events kept for whoever asks late; when as many wait, further ones are lost.
const EVENTS_MAX: usize = 1024;

/// A running node. Dropping it stops the node as [`Node::shutdown`] does, without its result.
pub struct Node {
    mailbox: Arc<Mailbox<Request>>,
    address: SocketAddr,
    contacts: Vec<SocketAddr>,
    events: Mutex<Receiver<NodeEvent>>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Node {
    /// Starts a node that drives `machine`. What can be refused is refused here; founding or joining, where the
    /// data folder is blank, goes on in the background.
    ///
    /// # Errors
    /// When the folder, the socket or an address cannot be used as asked.
    ///
    /// # Panics
    /// Its thread does, when the settings in `options.config` do not validate; [`Node::wait`] then says so.
    pub fn start<M: Machine + Send + 'static>(options: NodeOptions, machine: M) -> Result<Self, StartError> {
        Self::start_observed(options, machine, |_| {})
    }

    /// The same, and calls `on_event` with everything that happens to the node, before [`Node::next_event`] tells it.
    /// It runs on the node's thread: while it does, the node serves nobody. It is dropped when the node has ended.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_observed<M: Machine + Send + 'static>(
        options: NodeOptions,
        machine: M,
        on_event: impl FnMut(&NodeEvent) + Send + 'static,
    ) -> Result<Self, StartError> {
        let voters: Vec<String> = options.voters.values().cloned().collect();
        Self::launch(boot(options, machine)?, &voters, on_event)
    }

    /// Starts a node on a disk of the caller's own; the data folder in the options is what messages call it. A disk
    /// that keeps its promises passes [`conformance`](crate::store::conformance).
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_on<M, D>(options: NodeOptions, machine: M, disk: D) -> Result<Self, StartError>
    where
        M: Machine + Send + 'static,
        D: SharedDisk,
    {
        let voters: Vec<String> = options.voters.values().cloned().collect();
        Self::launch(boot_on(options, machine, |_| Ok(disk))?, &voters, |_| {})
    }

    fn launch<M, D>(
        booted: Booted<M, D>,
        voters: &[String],
        mut on_event: impl FnMut(&NodeEvent) + Send + 'static,
    ) -> Result<Self, StartError>
    where
        M: Machine + Send + 'static,
        D: SharedDisk,
    {
        let address = booted.local_addr().map_err(StartError::System)?;
        let mut contacts = vec![address];
        for voter in voters {
            contacts.push(resolve(voter)?);
        }
        let mailbox = booted.mailbox();
        let (sender, events) = sync_channel(EVENTS_MAX);
        let on_event = Box::new(move |event: &NodeEvent| {
            on_event(event);
            // Nobody has to ask for events.
            drop(sender.try_send(event.clone()));
        });
        let thread = thread::Builder::new()
            .name("raftgram-node".to_owned())
            .spawn(move || booted.run(on_event))
            .map_err(StartError::System)?;
        Ok(Self { mailbox, address, contacts, events: Mutex::new(events), thread: Some(thread) })
    }

    /// Where its socket is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of the cluster that this node is part of, for proposing and reading. It asks this node first and
    /// goes wherever the leader is.
    ///
    /// # Errors
    /// When no socket or thread is to be had.
    pub fn client(&self, config: ClientConfig) -> io::Result<Client> {
        Client::connect(&self.contacts, config)
    }

    /// How the node is; no answer while it is being founded.
    pub fn status(&self) -> Pending<NodeStatus> {
        let (promise, pending) = pending();
        self.send(Request::Status(Box::new(move |status| promise.keep(status))));
        pending
    }

    /// The node in numbers; no answer while it is being founded.
    pub fn figures(&self) -> Pending<NodeFigures> {
        self.onlooker().figures()
    }

    /// A way to ask for figures from elsewhere, also after this handle has moved on.
    #[must_use]
    pub fn onlooker(&self) -> Onlooker {
        Onlooker { mailbox: Arc::clone(&self.mailbox) }
    }

    /// The next thing that happened to the node, in order; waits at most `timeout` for it. `None` when nothing did,
    /// or the node has ended.
    pub fn next_event(&self, timeout: Duration) -> Option<NodeEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(timeout).ok()
    }

    /// Hands leadership to this voter, or to the fittest; nothing happens on a node that does not lead.
    pub fn transfer_leadership(&self, to: Option<NodeId>) {
        self.send(Request::Transfer(to));
    }

    /// Stops the node: it hands leadership over, makes everything durable and ends.
    ///
    /// # Errors
    /// Why it had ended before, or could not end well.
    pub fn shutdown(mut self) -> Result<(), RunError> {
        self.stop()
    }

    /// Waits until the node ends by itself or by [`Request::Stop`] from its mailbox.
    ///
    /// # Errors
    /// Why it ended.
    pub fn wait(mut self) -> Result<(), RunError> {
        self.join()
    }

    /// The way to stop it from a signal handler's thread.
    pub fn stopper(&self) -> impl Fn() + Send + 'static {
        let mailbox = Arc::clone(&self.mailbox);
        move || drop(mailbox.send(Request::Stop))
    }

    /// The way to record what the node sends, gets and becomes from now on, in a file of its boot in this folder, or no
    /// more; see docs/trace.md. A folder in which the boot has a file already is left as it is, and the log says so.
    pub fn recorder(&self) -> impl Fn(Option<PathBuf>) + Send + 'static {
        let mailbox = Arc::clone(&self.mailbox);
        move |folder| drop(mailbox.send(Request::Record(folder)))
    }

    fn stop(&mut self) -> Result<(), RunError> {
        self.send(Request::Stop);
        self.join()
    }

    fn join(&mut self) -> Result<(), RunError> {
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(RunError::Panicked),
        }
    }

    /// A node that has ended takes no requests; its promises then say so.
    fn send(&self, request: Request) {
        drop(self.mailbox.send(request));
    }
}

/// Asks a node how it is, and changes nothing. A node that has ended, or is being founded, gives no answer.
#[derive(Clone, Debug)]
pub struct Onlooker {
    mailbox: Arc<Mailbox<Request>>,
}

impl Onlooker {
    /// The node in numbers.
    #[must_use]
    pub fn figures(&self) -> Pending<NodeFigures> {
        let (promise, pending) = pending();
        drop(self.mailbox.send(Request::Figures(Box::new(move |figures| promise.keep(figures)))));
        pending
    }

    /// The datagrams that passed after the one of this serial, from the first look on.
    #[must_use]
    pub fn look(&self, after: u64) -> Pending<View> {
        let (promise, pending) = pending();
        drop(self.mailbox.send(Request::Look(after, Box::new(move |view| promise.keep(view)))));
        pending
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its result was of no interest to whoever dropped it.
        drop(self.stop());
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("address", &self.address).finish_non_exhaustive()
    }
}
