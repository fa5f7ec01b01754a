//! The numbers and names that every room speaks of, each a type of its own.

use core::fmt;

/// A node's number in its cluster: 1 to 65,534.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u16);

impl NodeId {
    /// The smallest node id.
    pub const MIN: Self = Self(1);
    /// The largest node id; 65,535 means "client or any" on the wire.
    pub const MAX: Self = Self(65_534);

    /// The node id of this number, or `None` for 0 and 65,535.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        match number {
            0 | u16::MAX => None,
            number => Some(Self(number)),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            ///
            /// # Panics
            /// When there is none: 2^64 - 1 is never reached by counting.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("a 64-bit counter does not wrap"))
            }

            /// The one before this; of 0 it is 0.
            #[must_use]
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

counter! {
    /// An election period; `Term(0)` is before the first.
    Term
}
counter! {
    /// A place in the log, from 1; `Index(0)` is before the first entry.
    Index
}
counter! {
    /// A leader's numbering of heartbeats and read probes within one term: each attempt has its own.
    Round
}
counter! {
    /// A call's number, unique per caller incarnation and never reused.
    CallId
}
counter! {
    /// The serial number of one datagram; from 1, never reused, also not by a retransmission.
    PacketNumber
}
counter! {
    /// A client's numbering of its writes within one session, from 1.
    Sequence
}
counter! {
    /// One of many Raft groups behind one socket; always 0 in this version.
    GroupId
}

/// A replicated client session: the log index of the entry that opened it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Index);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// A boot counter, durable before the node's socket opens; it orders the boots of one store and is no identity.
/// For a client: the number that the node it talks to handed out. 0 means "not known yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

impl Incarnation {
    /// Not known yet.
    pub const UNKNOWN: Self = Self(0);
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The value that stands for "none".
            pub const ZERO: Self = Self([0; 16]);

            /// True for [`Self::ZERO`].
            #[must_use]
            pub fn is_zero(self) -> bool {
                self == Self::ZERO
            }

            /// Reads the 32 hexadecimal digits that `Display` prints.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                u128::from_str_radix(text, 16).ok().map(|n| Self(n.to_be_bytes()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

random_id! {
    /// The identity of a data folder, drawn when it is formatted.
    StoreId
}
random_id! {
    /// The identity of a cluster, drawn at its founding.
    ClusterId
}
random_id! {
    /// A number drawn at each boot; with the incarnation it shows a copied data folder.
    BootNonce
}

impl ClusterId {
    /// The datagram header's cluster tag: CRC-32 of the id, and 0 for no cluster.
    #[must_use]
    pub fn tag(self) -> u32 {
        if self.is_zero() { 0 } else { crc32fast::hash(&self.0) }
    }
}

/// Who a node is: its id and the store it runs on. Tallies and progress are kept by this pair, because a wiped
/// node keeps its id and forgets its promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The node's number.
    pub node: NodeId,
    /// The data folder it speaks for.
    pub store: StoreId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, ..] = self.store.0;
        write!(f, "{}@{a:02x}{b:02x}", self.node)
    }
}

/// Term and vote: what must be durable before a node shows either (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The highest term seen.
    pub term: Term,
    /// Whom this node voted for in `term`.
    pub vote: Option<Identity>,
}

impl fmt::Display for HardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vote {
            Some(vote) => write!(f, "term={} vote={vote}", self.term),
            None => write!(f, "term={} vote=none", self.term),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_leave_out_zero_and_the_wildcard() {
        assert_eq!(NodeId::new(0), None);
        assert_eq!(NodeId::new(65_535), None);
        assert_eq!(NodeId::new(65_534), Some(NodeId::MAX));
    }

    #[test]
    fn random_ids_print_what_they_read() {
        let id = ClusterId([0xab; 16]);
        assert_eq!(ClusterId::from_hex(&id.to_string()), Some(id));
        assert_eq!(ClusterId::from_hex("ab"), None);
        assert_eq!(ClusterId::from_hex(&"+".repeat(32)), None);
    }

    #[test]
    fn the_tag_of_no_cluster_is_zero() {
        assert_eq!(ClusterId::ZERO.tag(), 0);
        assert_ne!(ClusterId([1; 16]).tag(), 0);
    }
}
