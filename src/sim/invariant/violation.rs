//! What is broken, and how it is told.

use core::fmt;

use crate::time::Instant;
use crate::types::NodeId;

macro_rules! invariants {
    ($($number:literal $name:ident $text:literal,)*) => {
        /// One of the properties that must hold of every run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "each is named by its text")]
        pub enum Invariant {
            $($name = $number,)*
        }

        impl Invariant {
            /// All of them, by number.
            pub const ALL: [Self; 30] = [$(Self::$name,)*];

            /// What it says, in words.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

invariants! {
    0 OwnAssertion "a node's own assertions hold",
    1 ElectionSafety "at most one leader per term",
    2 LeaderAppendOnly "a leader only appends",
    3 LogMatching "entries of one index and term are equal, with all before them",
    4 LeaderCompleteness "a leader holds what was committed in earlier terms",
    5 StateMachineSafety "equal applied index, equal state",
    6 CommittedOnQuorum "what is committed is durable on a quorum",
    7 CommittedImmutable "what is committed stays as it is",
    8 Ordering "base, applied, commit and last index are in order",
    9 Monotone "term, vote within a term, commit, applied index and incarnation never go back",
    10 DurableBeforeShown "term and vote are durable before a message shows them",
    11 DurableBeforeAcknowledged "what is acknowledged is durable and matches",
    12 DurableSelfMatch "a leader counts itself by its disk",
    13 MembershipChange "memberships change one at a time, by quorums that overlap",
    14 CampaignMembership "campaigns go by the latest membership and known incarnations",
    15 SnapshotState "a snapshot holds what replay would lead to",
    16 AtMostOnce "one effect per session and sequence, and equal replies to it",
    17 Linearizability "each key behaves as if operations took effect one at a time",
    18 Durability "what was acknowledged or seen stays",
    19 NoPhantom "each value seen was written by someone",
    20 PredecessorChain "a write is told the value committed right before it",
    21 ReadIndex "a read sees all that was committed before it was asked",
    22 DatagramSize "no datagram above the limit, no reply above an unproven request",
    23 BoundedMemory "memory is bounded",
    24 RetransmissionBudget "retransmissions stay within their budget",
    25 Codec "every datagram decodes, encodes again to the same bytes, and no flipped bit passes",
    26 Determinism "one seed gives one run",
    27 LivenessAfterHeal "once healed, the cluster serves again in time",
    28 LivenessOfCore "a mutually connected majority makes progress",
    29 Seal "under a seal only what an end sent is taken, and what a session carries once",
}

impl Invariant {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}, {}", self.number(), self.name())
    }
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// At which node, where one can be named.
    pub node: Option<NodeId>,
    /// When it was seen.
    pub at: Instant,
    /// What was seen, with its numbers.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.invariant)?;
        if let Some(node) = self.node {
            write!(f, "{node}: ")?;
        }
        write!(f, "{} at {}", self.text, self.at)
    }
}

impl core::error::Error for Violation {}

/// A violation as the check sees it that knows neither time nor node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) invariant: Invariant,
    pub(super) text: String,
}

impl Broken {
    pub(super) fn at(self, at: Instant, node: Option<NodeId>) -> Violation {
        Violation { invariant: self.invariant, node, at, text: self.text }
    }
}

/// Returns [`Broken`] unless the condition holds; the text is made only then.
macro_rules! hold {
    ($condition:expr, $invariant:ident, $($text:tt)+) => {
        if !$condition {
            return Err($crate::sim::invariant::violation::Broken {
                invariant: $crate::sim::invariant::violation::Invariant::$invariant,
                text: format!($($text)+),
            });
        }
    };
}
pub(super) use hold;
