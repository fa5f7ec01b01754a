//! A client on a thread of its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::pending::{Pending, Promise, pending};
use crate::client::{Answer, ClientConfig, ClientError};
use crate::run::client::{Request, Respond, open, run};
use crate::run::mailbox::{CloseOnDrop, Mailbox};
use crate::types::Index;
use crate::wire::client::ReadLevel;
use crate::wire::transfer::Pull;

/// What an operation comes to.
pub type OperationResult = Result<Answer, ClientError>;

/// A client of a cluster: writes are carried out exactly once, reads see every write answered before.
///
/// It keeps a session open and finds the leader by itself. Many operations may be under way at once, from any
/// number of threads. Dropping it ends its thread; what is still pending then has no answer.
pub struct Client {
    mailbox: Arc<Mailbox<Request<Promise<OperationResult>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// A client of the cluster that answers at `addresses`. Nothing is sent until the thread runs, and no node
    /// needs to answer now.
    ///
    /// # Errors
    /// When no socket or thread is to be had.
    ///
    /// # Panics
    /// When `addresses` is empty.
    pub fn connect(addresses: &[SocketAddr], config: ClientConfig) -> io::Result<Self> {
        let (machine, net) = open(addresses, config)?;
        let mailbox = Arc::new(Mailbox::new(net.waker()));
        let of_thread = Arc::clone(&mailbox);
        let thread = thread::Builder::new().name("raftgram-client".to_owned()).spawn(move || {
            let _closed_at_end = CloseOnDrop(Arc::clone(&of_thread));
            // A poll that fails ends the loop; whoever waits is told that no answer will come.
            drop(run(machine, net, &of_thread));
        })?;
        Ok(Self { mailbox, thread: Some(thread) })
    }

    /// Offers a command for the replicated machine; it is carried out at most once.
    pub fn propose(&self, command: impl Into<Vec<u8>>, timeout: Duration) -> Pending<OperationResult> {
        let (respond, pending) = pending();
        self.send(Request::Propose { command: command.into(), timeout, respond });
        pending
    }

    /// Asks the machine.
    pub fn read(
        &self,
        query: impl Into<Vec<u8>>,
        level: ReadLevel,
        timeout: Duration,
    ) -> Pending<OperationResult> {
        let (respond, pending) = pending();
        self.send(Request::Read { query: query.into(), level, timeout, respond });
        pending
    }

    /// Asks the node at the `server`th of the client's addresses how it is.
    pub fn status(&self, server: usize, timeout: Duration) -> Pending<OperationResult> {
        let (respond, pending) = pending();
        self.send(Request::Status { server, timeout, respond });
        pending
    }

    /// Has the node at the `server`th of the client's addresses take a snapshot of its own; with an index other than
    /// 0 it only tells how far the one through it is. The answer comes before the snapshot is written.
    pub fn take_snapshot(
        &self,
        server: usize,
        through: Index,
        timeout: Duration,
    ) -> Pending<OperationResult> {
        let (respond, pending) = pending();
        self.send(Request::TakeSnapshot { server, through, timeout, respond });
        pending
    }

    /// Asks the node at the `server`th of the client's addresses for a range of a snapshot's file, such as
    /// [`Self::take_snapshot`] told of. The bytes are those of the file; checking them is the caller's.
    pub fn pull(&self, server: usize, pull: Pull, timeout: Duration) -> Pending<OperationResult> {
        let (respond, pending) = pending();
        self.send(Request::Pull { server, pull, timeout, respond });
        pending
    }

    /// A request that finds the thread gone drops its promise, which tells whoever waits.
    fn send(&self, request: Request<Promise<OperationResult>>) {
        drop(self.mailbox.send(request));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.send(Request::Stop);
        if let Some(thread) = self.thread.take() {
            // It panics only on a broken invariant of our own, which has been printed.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Respond for Promise<OperationResult> {
    fn respond(self, result: OperationResult) {
        self.keep(result);
    }
}
