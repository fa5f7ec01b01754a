//! Log entries and the checksum that chains them.
//!
//! The first node that sees an entry computes its chain value, CRC-32 (IEEE) over
//! `cluster id ‖ index u64 ‖ term u64 ‖ payload ‖ chain value of the entry before u32`. It travels with appends,
//! is kept on disk and is checked again at apply; since it covers nothing of one node it is equal everywhere, so
//! one value vouches for all entries up to it. The chain value before the first entry is 0.

use core::fmt;
use std::sync::Arc;

use crate::cursor::{CursorError, Reader, Writer};
use crate::membership::Membership;
use crate::types::{ClusterId, Index, Term};

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload {
    /// Nothing: a leader's first entry of its term (Raft paper §8).
    Noop,
    /// A command of the replicated session layer; opaque to consensus.
    Command(Arc<[u8]>),
    /// A new membership; it acts as soon as it is in the log.
    Membership(Arc<Membership>),
}

impl Payload {
    /// Its kind's number on the wire and on disk: 0, 1, 2.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Noop => 0,
            Self::Command(_) => 1,
            Self::Membership(_) => 2,
        }
    }

    /// Appends the content, without kind and length.
    pub fn encode_content(&self, out: &mut Vec<u8>) {
        match self {
            Self::Noop => {}
            Self::Command(bytes) => out.put_bytes(bytes),
            Self::Membership(membership) => membership.encode(out),
        }
    }

    /// Reads content of this kind; the bytes must hold exactly one.
    pub fn decode_content(kind: u8, content: &[u8]) -> Result<Self, CursorError> {
        match kind {
            0 if content.is_empty() => Ok(Self::Noop),
            1 => Ok(Self::Command(content.into())),
            2 => {
                let mut reader = Reader::new(content);
                let membership = Membership::decode(&mut reader)?;
                reader.finish()?;
                Ok(Self::Membership(Arc::new(membership)))
            }
            _ => Err(CursorError::Value),
        }
    }

    /// The length of the content in bytes.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        match self {
            Self::Noop => 0,
            Self::Command(bytes) => bytes.len(),
            Self::Membership(_) => {
                let mut out = Vec::new();
                self.encode_content(&mut out);
                out.len()
            }
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noop => f.write_str("noop"),
            Self::Command(bytes) => write!(f, "command[{}]", bytes.len()),
            Self::Membership(membership) => write!(f, "{membership}"),
        }
    }
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// Its content.
    pub payload: Payload,
    /// The chain value through this entry.
    pub chain: u32,
}

impl Entry {
    /// The entry of this content that follows one with chain value `prev_chain`.
    #[must_use]
    pub fn new(cluster: ClusterId, index: Index, term: Term, payload: Payload, prev_chain: u32) -> Self {
        let chain = chain(cluster, index, term, &payload, prev_chain);
        Self { index, term, payload, chain }
    }

    /// True when the chain value is right for this content after `prev_chain`.
    #[must_use]
    pub fn is_chained_to(&self, cluster: ClusterId, prev_chain: u32) -> bool {
        self.chain == chain(cluster, self.index, self.term, &self.payload, prev_chain)
    }
}

/// The chain value of an entry, see the module's page.
#[must_use]
pub fn chain(cluster: ClusterId, index: Index, term: Term, payload: &Payload, prev_chain: u32) -> u32 {
    // In one piece: a checksum of many short ones takes several times as long.
    let mut head = [payload.kind(); 33];
    head[..16].copy_from_slice(&cluster.0);
    head[16..24].copy_from_slice(&index.0.to_be_bytes());
    head[24..32].copy_from_slice(&term.0.to_be_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head);
    match payload {
        Payload::Command(bytes) => hasher.update(bytes),
        other => {
            let mut content = Vec::new();
            other.encode_content(&mut content);
            hasher.update(&content);
        }
    }
    hasher.update(&prev_chain.to_be_bytes());
    hasher.finalize()
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {}", self.index, self.term, self.payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_covers_cluster_place_content_and_what_came_before() {
        let payload = Payload::Command((*b"x").into());
        let chained = |cluster, index, term, prev| {
            chain(ClusterId([cluster; 16]), Index(index), Term(term), &payload, prev)
        };
        let base = chained(1, 2, 3, 4);
        for other in [chained(9, 2, 3, 4), chained(1, 9, 3, 4), chained(1, 2, 9, 4), chained(1, 2, 3, 9)] {
            assert_ne!(base, other);
        }
        let noop = chain(ClusterId([1; 16]), Index(2), Term(3), &Payload::Noop, 4);
        let empty = chain(ClusterId([1; 16]), Index(2), Term(3), &Payload::Command((*b"").into()), 4);
        assert_ne!(noop, empty, "the kind is covered too");
    }

    #[test]
    fn unknown_kinds_and_a_noop_with_content_are_refused() {
        assert_eq!(Payload::decode_content(0, b"x"), Err(CursorError::Value));
        assert_eq!(Payload::decode_content(3, b""), Err(CursorError::Value));
    }
}
