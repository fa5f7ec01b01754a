//! How an operation can fail, with what the caller needs to know next: may it have happened?

use core::fmt;

use crate::types::{Index, NodeId};
use crate::wire::SealRefusal;
use crate::wire::member::ChangeRefusal;

/// Whether a write that has no answer may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was never sent.
    NotSent,
    /// It was sent: it may have been carried out, or may yet be.
    Unknown,
}

/// How far an operation had come when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No node has answered at all.
    Connecting,
    /// No node has taken this client's greeting; one said that this is on account of the seal. Anyone could have
    /// said so, so it is a hint where to look.
    SealRefused(SealRefusal),
    /// Nodes answered, and none of them led.
    NoLeader,
    /// A node that seemed to lead was asked and has not answered.
    Answer,
}

/// Why an operation has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// Its deadline passed.
    TimedOut {
        /// Whether it may have happened.
        outcome: Outcome,
        /// How far it had come.
        phase: Phase,
    },
    /// The cluster has forgotten the session it was sent under.
    SessionExpired {
        /// Whether an earlier attempt may have been carried out.
        outcome: Outcome,
    },
    /// The command is longer than the cluster takes.
    TooLarge {
        /// The most it takes, in bytes.
        bytes_max: u64,
    },
    /// As many operations are under way as the client allows.
    Busy,
    /// A node refused it and said why.
    Refused {
        /// The node's words.
        reason: String,
    },
    /// The leader did not begin a membership change or a transfer; nothing has changed.
    ChangeRefused {
        /// Why.
        refusal: ChangeRefusal,
        /// The leader's words, the way out among them.
        reason: String,
    },
    /// A membership change that had been begun is not in force: it was lost with its leader, or undone since.
    Superseded,
    /// The node that was to lead did not take over in time; the leader leads on.
    NotTransferred {
        /// Which.
        to: NodeId,
    },
    /// A watch asked for what came right after an entry that is too old: no node that was asked knows it any more.
    Compacted {
        /// The lowest index that the node asked last can be watched from.
        oldest: Index,
    },
    /// A node answered with bytes that mean nothing.
    BadReply,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { outcome, phase } => {
                let phase = match phase {
                    Phase::Connecting => "no node answered",
                    Phase::SealRefused(SealRefusal::SealRequired) => {
                        "the cluster takes sealed datagrams only, and this client has no key"
                    }
                    Phase::SealRefused(SealRefusal::KeyUnknown) => {
                        "the cluster does not know this client's key"
                    }
                    Phase::SealRefused(SealRefusal::NoSeal) => {
                        "the cluster takes plain datagrams only, and this client has a key"
                    }
                    Phase::SealRefused(SealRefusal::Other(_)) => "the cluster refused this client's greeting",
                    Phase::NoLeader => "the nodes that answered have no leader",
                    Phase::Answer => "the leader was asked and has not answered",
                };
                write!(f, "timed out: {phase}; {outcome}")
            }
            Self::SessionExpired { outcome } => write!(f, "the session has expired; {outcome}"),
            Self::TooLarge { bytes_max } => {
                write!(f, "longer than the {bytes_max} bytes that the cluster takes")
            }
            Self::Busy => f.write_str("too many operations are under way"),
            Self::Refused { reason } => write!(f, "refused: {reason}"),
            Self::ChangeRefused { reason, .. } => write!(f, "refused: {reason}"),
            Self::Superseded => f.write_str(
                "the change is not in force: it was lost with its leader, or undone by another one since",
            ),
            Self::NotTransferred { to } => {
                write!(f, "{to} did not take over in time: the leader leads on")
            }
            Self::Compacted { oldest } => write!(
                f,
                "compacted: what came next is no longer known; the oldest entry that can be watched from is {oldest}"
            ),
            Self::BadReply => f.write_str("a node's answer could not be read"),
        }
    }
}

impl core::error::Error for ClientError {}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "it was not sent",
            Self::Unknown => "outcome unknown: it may or may not take effect",
        })
    }
}
