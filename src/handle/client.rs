//! A client on a thread of its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::pending::{Pending, Promise, pending};
use crate::client::{Answer, ClientConfig, ClientError};
use crate::membership::MembershipChange;
use crate::run::client::{Request, Respond, open, run};
use crate::run::mailbox::{CloseOnDrop, Mailbox};
use crate::types::{Index, NodeId};
use crate::wire::client::ReadLevel;
use crate::wire::fault::FaultRequest;
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

    /// Lets the links of the node at the `server`th of the client's addresses do this to datagrams, for an experiment;
    /// a node that was not started for that refuses.
    pub fn set_faults(
        &self,
        server: usize,
        request: FaultRequest,
        timeout: Duration,
    ) -> Pending<OperationResult> {
        let (respond, pending) = pending();
        self.send(Request::SetFaults { server, request, timeout, respond });
        pending
    }

    /// Asks the node at the `server`th of the client's addresses for a range of a snapshot's file, such as
    /// [`Self::take_snapshot`] told of. The bytes are those of the file; checking them is the caller's.
    pub fn pull(&self, server: usize, pull: Pull, timeout: Duration) -> Pending<OperationResult> {
        let (respond, pending) = pending();
        self.send(Request::Pull { server, pull, timeout, respond });
        pending
    }

    /// Asks the leader who is in the cluster and how far each member is: [`Answer::Members`].
    pub fn members(&self, timeout: Duration) -> Pending<OperationResult> {
        let (respond, pending) = pending();
        self.send(Request::Members { timeout, respond });
        pending
    }

    /// Has the leader change who is in the cluster, and ends when that has settled, with [`Answer::Members`]. With
    /// `expected`, it is refused unless that is the version in force. What is refused has changed nothing, and
    /// [`ClientError::ChangeRefused`](crate::client::ClientError::ChangeRefused) says why and what to do.
    ///
    /// An addition whose store id is all zeros takes in whichever data folder answers at the address. It comes in as a
    /// learner; once [`Self::members`] tells that it has caught up, it can be promoted:
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use raftgram::client::Answer;
    /// use raftgram::handle::Client;
    /// use raftgram::membership::{Member, MembershipChange};
    /// use raftgram::types::{NodeId, StoreId};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect(&["127.0.0.1:7101".parse()?], Default::default())?;
    /// let patience = Duration::from_secs(30);
    /// let node = NodeId::new(4).expect("not 0");
    /// // The node runs already: `raftgram node --id 4 --listen 7104 --join …`.
    /// let member = Member { store: StoreId([0; 16]), address: "127.0.0.1:7104".to_owned() };
    /// client.change_membership(None, MembershipChange::Add { node, member }, patience).wait(patience)??;
    /// loop {
    ///     let Answer::Members(state) = client.members(patience).wait(patience)?? else { unreachable!() };
    ///     if state.members.iter().any(|row| row.node == node && row.is_caught_up) {
    ///         break;
    ///     }
    ///     std::thread::sleep(Duration::from_millis(100));
    /// }
    /// client.change_membership(None, MembershipChange::Promote { node }, patience).wait(patience)??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn change_membership(
        &self,
        expected: Option<Index>,
        change: MembershipChange,
        timeout: Duration,
    ) -> Pending<OperationResult> {
        let (respond, pending) = pending();
        self.send(Request::ChangeMembership { expected, change, timeout, respond });
        pending
    }

    /// Has the leader hand over to this voter, or to the one that holds most of the log, and ends when another node
    /// leads: [`Answer::Transferred`].
    pub fn transfer_leadership(&self, to: Option<NodeId>, timeout: Duration) -> Pending<OperationResult> {
        let (respond, pending) = pending();
        self.send(Request::TransferLeadership { to, timeout, respond });
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
