//! Who is in the cluster: voters, outgoing voters while joint, learners (Ongaro's thesis §4.3).
//!
//! A membership binds each node id to a store id and an address, and never holds two stores of one id. Quorum
//! arithmetic lives in `raft::quorum`; this is the plain value that log entries, founding records and status
//! carry, with its canonical encoding.

use core::fmt;
use std::collections::BTreeMap;

use crate::cursor::{CursorError, Reader, Writer};
use crate::types::{Identity, NodeId, StoreId};

/// The most nodes a membership may hold, all kinds together.
pub const MEMBERS_MAX: usize = 255;

/// The longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// One node of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The data folder that counts for this node id.
    pub store: StoreId,
    /// Where it is reached: `host:port` or `[v6]:port`, as advertised.
    pub address: String,
}

/// The nodes by id, in order.
pub type Members = BTreeMap<NodeId, Member>;

/// The cluster's nodes and their parts in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// They count.
    pub voters: Members,
    /// They count until the joint phase ends; empty when the membership is not joint. A node that stays a voter
    /// stands in both.
    pub outgoing: Members,
    /// They only receive.
    pub learners: Members,
}

impl Membership {
    /// A simple membership of these voters.
    #[must_use]
    pub fn of_voters(voters: Members) -> Self {
        Self { voters, ..Self::default() }
    }

    /// True while two majorities are needed.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The member of this id, whatever its part.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.voters.get(&id).or_else(|| self.outgoing.get(&id)).or_else(|| self.learners.get(&id))
    }

    /// True when this very store is a voter or an outgoing voter.
    #[must_use]
    pub fn is_voter(&self, who: Identity) -> bool {
        [&self.voters, &self.outgoing]
            .iter()
            .any(|part| part.get(&who.node).is_some_and(|m| m.store == who.store))
    }

    /// True when this very store is in the membership at all.
    #[must_use]
    pub fn contains(&self, who: Identity) -> bool {
        self.member(who.node).is_some_and(|m| m.store == who.store)
    }

    /// Every member once, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        let mut all: BTreeMap<NodeId, &Member> = BTreeMap::new();
        for part in [&self.learners, &self.outgoing, &self.voters] {
            all.extend(part.iter().map(|(id, member)| (*id, member)));
        }
        all.into_iter()
    }

    /// Appends the canonical encoding: for each part a varint count, then per member id (u16), store id (16
    /// bytes) and address (varint length, UTF-8), ids ascending.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for part in [&self.voters, &self.outgoing, &self.learners] {
            out.put_varint(part.len() as u64);
            for (id, member) in part {
                out.put_u16(id.as_u16());
                out.put_bytes(&member.store.0);
                out.put_prefixed(member.address.as_bytes());
            }
        }
    }

    /// Reads what [`Self::encode`] writes, and refuses anything it would not write: ids out of order, two stores
    /// of one id, a learner that votes, no voter, more than [`MEMBERS_MAX`] members, addresses that are empty,
    /// not UTF-8 or longer than [`ADDRESS_BYTES_MAX`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CursorError> {
        let membership = Self {
            voters: decode_members(reader)?,
            outgoing: decode_members(reader)?,
            learners: decode_members(reader)?,
        };
        if membership.is_valid() { Ok(membership) } else { Err(CursorError::Value) }
    }

    /// The rules that every membership keeps.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let one_store_per_id =
            self.outgoing.iter().all(|(id, m)| self.voters.get(id).is_none_or(|v| v.store == m.store));
        let learners_do_not_vote =
            self.learners.keys().all(|id| !self.voters.contains_key(id) && !self.outgoing.contains_key(id));
        let addresses_fit = self.iter().all(|(_, m)| (1..=ADDRESS_BYTES_MAX).contains(&m.address.len()));
        !self.voters.is_empty()
            && self.iter().count() <= MEMBERS_MAX
            && one_store_per_id
            && learners_do_not_vote
            && addresses_fit
    }
}

fn decode_members(reader: &mut Reader<'_>) -> Result<Members, CursorError> {
    let count = reader.varint()?;
    if count > MEMBERS_MAX as u64 {
        return Err(CursorError::Value);
    }
    let mut members = Members::new();
    for _ in 0..count {
        let id = NodeId::new(reader.u16()?).ok_or(CursorError::Value)?;
        let store = StoreId(reader.array()?);
        let address = core::str::from_utf8(reader.prefixed()?).map_err(|_| CursorError::Value)?.to_owned();
        if members.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err(CursorError::Value);
        }
        members.insert(id, Member { store, address });
    }
    Ok(members)
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |part: &Members| part.keys().map(NodeId::to_string).collect::<Vec<_>>().join(",");
        write!(f, "voters={}", list(&self.voters))?;
        if self.is_joint() {
            write!(f, " outgoing={}", list(&self.outgoing))?;
        }
        if !self.learners.is_empty() {
            write!(f, " learners={}", list(&self.learners))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[u16]) -> Members {
        let member = |id: &u16| Member {
            store: StoreId([*id as u8; 16]),
            address: format!("127.0.0.1:{}", 7100 + id),
        };
        ids.iter().map(|id| (NodeId::new(*id).unwrap(), member(id))).collect()
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let joint =
            Membership { voters: members(&[1, 2, 4]), outgoing: members(&[1, 3]), learners: members(&[9]) };
        let mut bytes = Vec::new();
        joint.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Membership::decode(&mut reader), Ok(joint));
        assert!(reader.is_empty());
    }

    #[test]
    fn two_stores_of_one_id_are_refused() {
        let mut outgoing = members(&[1]);
        outgoing.get_mut(&NodeId::MIN).unwrap().store = StoreId([7; 16]);
        let mut bytes = Vec::new();
        Membership { voters: members(&[1]), outgoing, learners: Members::new() }.encode(&mut bytes);
        assert_eq!(Membership::decode(&mut Reader::new(&bytes)), Err(CursorError::Value));
    }

    #[test]
    fn no_voters_and_voting_learners_are_refused() {
        assert!(!Membership::default().is_valid());
        let both = Membership { voters: members(&[1]), outgoing: Members::new(), learners: members(&[1]) };
        assert!(!both.is_valid());
    }

    #[test]
    fn a_wiped_store_is_not_the_voter_of_its_id() {
        let membership = Membership::of_voters(members(&[1, 2, 3]));
        let node = NodeId::MIN;
        assert!(membership.is_voter(Identity { node, store: StoreId([1; 16]) }));
        assert!(!membership.is_voter(Identity { node, store: StoreId([8; 16]) }));
    }
}
