//! What comes out of the room, and the names its owner holds.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use crate::seal::Trust;
use crate::types::{BootNonce, CallId, ClusterId, Identity, Incarnation};
use crate::wire::{Class, Greeting, SealRefusal};

/// One link, for the life of an `Rpc`; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub(super) u32);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link{}", self.0)
    }
}

/// Names a request that waits for its reply. It goes stale when the call is answered, cancelled, or the caller's
/// incarnation changes; a reply to a stale token is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    pub(super) link: LinkId,
    pub(super) epoch: u32,
    pub(super) call: CallId,
}

impl Token {
    /// The link the request came on.
    #[must_use]
    pub const fn link(self) -> LinkId {
        self.link
    }

    /// One that nobody waits with.
    #[cfg(test)]
    pub(crate) const fn stale(link: u32, call: u64) -> Self {
        Self { link: LinkId(link), epoch: u32::MAX, call: CallId(call) }
    }
}

/// The proven other end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// A node's id and store; `None` for a client.
    pub identity: Option<Identity>,
    /// A node's boot counter, or the number this end gave a client.
    pub incarnation: Incarnation,
    /// What it drew at boot.
    pub boot_nonce: BootNonce,
    /// The cluster it belongs to; zero for a blank node and for most clients.
    pub cluster: ClusterId,
    /// Whether it is founding.
    pub greeting: Greeting,
    /// The shortest election timeout it draws.
    pub election_timeout_min: Duration,
    /// The longest election timeout it draws.
    pub election_timeout_max: Duration,
    /// Its heartbeat interval.
    pub heartbeat: Duration,
    /// Where it is.
    pub address: SocketAddr,
    /// What it has proved by a key.
    pub trust: Trust,
}

impl fmt::Display for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.identity {
            Some(identity) => write!(f, "{identity}#{} at {}", self.incarnation, self.address),
            None => write!(f, "client#{} at {}", self.incarnation, self.address),
        }
    }
}

/// Drain it after every mutation.
#[derive(Debug)]
pub enum Output {
    /// Send this datagram.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// The whole datagram; give the vector back with `recycle` to save an allocation.
        bytes: Vec<u8>,
    },
    /// Something the owner must know.
    Event(Event),
}

/// Something the owner must know.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer proved who it is: the link is open. It comes again, on the same link, when the peer proves another
    /// incarnation or store; the calls that had been sent to the earlier one have failed before.
    Connected {
        /// The link.
        link: LinkId,
        /// Who it is.
        peer: PeerInfo,
    },
    /// The link is gone for good; its calls have failed before.
    Closed {
        /// The link.
        link: LinkId,
        /// Why.
        reason: CloseReason,
    },
    /// Eight probe timeouts and a heartbeat interval passed without a sign of the peer. The link goes on, with one
    /// probe per heartbeat.
    Silent {
        /// The link.
        link: LinkId,
    },
    /// The peer is heard again after [`Self::Silent`].
    Heard {
        /// The link.
        link: LinkId,
    },
    /// A peer says, in plain, why it does not take this end's greeting. Anyone can say so; it changes nothing and is
    /// for an operator to know. `[W-77]`
    Refused {
        /// The link.
        link: LinkId,
        /// Why.
        reason: SealRefusal,
    },
    /// Somebody speaks for a peer's store by a boot that came before the one on its link, or is another one of the
    /// same number: its data folder is a copy. It is not adopted. It comes once, until another
    /// copy speaks. `[W-27]`
    Copied {
        /// The peer's link, which goes on.
        link: LinkId,
        /// Who the copy says it is.
        identity: Identity,
        /// The copy's boot.
        incarnation: Incarnation,
    },
    /// A call to be answered with `reply`.
    Request {
        /// What to answer with.
        token: Token,
        /// The caller's link.
        link: LinkId,
        /// Its class.
        class: Class,
        /// What is asked.
        body: Vec<u8>,
    },
    /// The caller no longer wants an answer to this.
    Cancelled {
        /// The request's token, stale from now on.
        token: Token,
    },
    /// The answer to a call of this end.
    Reply {
        /// The callee's link.
        link: LinkId,
        /// The call.
        call: CallId,
        /// The answer.
        body: Vec<u8>,
    },
    /// A call of this end that gets no answer.
    CallFailed {
        /// The callee's link.
        link: LinkId,
        /// The call.
        call: CallId,
        /// Why.
        reason: CallFailure,
    },
    /// A body that its sender does not repeat; it may come twice.
    Notice {
        /// The sender's link.
        link: LinkId,
        /// What is said.
        body: Vec<u8>,
    },
}

/// Why a link is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The owner closed it.
    Local,
    /// Another link leads to the same peer.
    SameAs(LinkId),
    /// A blank node met a founded one: `cluster` is what it may join.
    AlreadyFounded {
        /// The cluster met.
        cluster: ClusterId,
        /// Who answered.
        peer: PeerInfo,
    },
    /// A client that knows its cluster was answered by another one.
    ForeignCluster {
        /// The cluster it knows.
        expected: ClusterId,
        /// The cluster that answered.
        found: ClusterId,
    },
    /// The address is this end's own.
    Oneself,
    /// The peer speaks no version that this end speaks.
    Version {
        /// The lowest it speaks.
        min: u8,
        /// The highest it speaks.
        max: u8,
    },
    /// A client was silent for too long, or gave way to another.
    Idle,
    /// A client came back without the incarnation it had been given.
    Replaced,
}

/// Why a call gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// It may have been carried out or not: class `once`, and the peer's incarnation changed, or the reply was
    /// larger than this end takes.
    OutcomeUnknown,
    /// The peer restarted: class `again`, so that it may be called again.
    PeerRestarted,
    /// The peer did not take it in, and never will: it has too much to do.
    Busy,
    /// The peer did not take it in, and never will: the body is larger than it accepts.
    TooLarge,
    /// The link was closed before the call was sent.
    LinkClosed,
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutcomeUnknown => "outcome unknown",
            Self::PeerRestarted => "peer restarted",
            Self::Busy => "peer is busy",
            Self::TooLarge => "body is larger than the peer accepts",
            Self::LinkClosed => "link was closed",
        })
    }
}

/// Why a call or notice was not taken; the caller's to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// There is no such link.
    UnknownLink,
    /// Too many calls or bytes are open on the link.
    Busy,
    /// The body is larger than the link takes.
    TooLarge {
        /// What it takes.
        bytes_max: usize,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLink => f.write_str("no such link"),
            Self::Busy => f.write_str("too many calls are open on the link"),
            Self::TooLarge { bytes_max } => write!(f, "body is larger than {bytes_max} bytes"),
        }
    }
}

impl core::error::Error for CallError {}

/// What the socket said about a datagram it did not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// EMSGSIZE: it is larger than the path takes.
    MessageTooLong,
    /// Anything else: a loss like any other.
    Other,
}
