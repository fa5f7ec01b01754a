//! Who is in the cluster: voters, outgoing voters while joint, learners (Ongaro's thesis §4.3).
//!
//! A membership binds each node id to a store id and an address, and never holds two stores of one id. Quorum
//! arithmetic lives in `raft::quorum`; this is the plain value that log entries, founding records and status
//! carry, with its canonical encoding.
//!
//! A [`MembershipChange`] is what an operator asks for. Applied to a membership it gives the next one: by way of a
//! joint membership where it changes who votes, at once where it does not. Whether the moment is right for it only a
//! leader can say: see `raft::change`.

use core::fmt;
use std::collections::BTreeMap;

use crate::cursor::{CursorError, Reader, Writer};
use crate::mutant::{self, Mutant};
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

/// What an operator asks for: one node at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// Take this store in, as a learner. If it is in already, under another address, that changes.
    Add {
        /// Under which id.
        node: NodeId,
        /// The store, which proved itself at this address.
        member: Member,
    },
    /// Let this learner vote.
    Promote {
        /// Which.
        node: NodeId,
    },
    /// Let this learner or voter go.
    Remove {
        /// Which.
        node: NodeId,
    },
    /// The same store is reached elsewhere.
    Move {
        /// Which.
        node: NodeId,
        /// Where.
        address: String,
    },
}

/// Why a membership and a change do not go together, whoever leads and whoever is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipError {
    /// No member has this id.
    Unknown {
        /// Which.
        node: NodeId,
    },
    /// Another store has this id: it must be removed first.
    Taken {
        /// Which.
        node: NodeId,
    },
    /// The store is a member under another id.
    StoreInUse {
        /// Which.
        node: NodeId,
    },
    /// Without it nobody would vote.
    LastVoter,
    /// There are [`MEMBERS_MAX`] members already.
    TooMany,
    /// The address is empty or longer than [`ADDRESS_BYTES_MAX`].
    Address,
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { node } => write!(f, "{node} is no member"),
            Self::Taken { node } => write!(f, "another data folder is the member {node}"),
            Self::StoreInUse { node } => write!(f, "this data folder is the member {node}"),
            Self::LastVoter => f.write_str("it is the last voter"),
            Self::TooMany => write!(f, "there are {MEMBERS_MAX} members already"),
            Self::Address => write!(f, "an address has 1 to {ADDRESS_BYTES_MAX} bytes"),
        }
    }
}

impl core::error::Error for MembershipError {}

impl MembershipChange {
    /// Whom it is about.
    #[must_use]
    pub fn node(&self) -> NodeId {
        match self {
            Self::Add { node, .. }
            | Self::Promote { node }
            | Self::Remove { node }
            | Self::Move { node, .. } => *node,
        }
    }

    /// Appends the canonical encoding: kind u8 (add 0, promote 1, remove 2, move 3), node id u16; of an add the
    /// store id (16 bytes); of an add or move the address (varint length, UTF-8).
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self {
            Self::Add { .. } => 0,
            Self::Promote { .. } => 1,
            Self::Remove { .. } => 2,
            Self::Move { .. } => 3,
        };
        out.put_u8(kind);
        out.put_u16(self.node().as_u16());
        match self {
            Self::Add { member, .. } => {
                out.put_bytes(&member.store.0);
                out.put_prefixed(member.address.as_bytes());
            }
            Self::Move { address, .. } => out.put_prefixed(address.as_bytes()),
            Self::Promote { .. } | Self::Remove { .. } => {}
        }
    }

    /// Reads what [`Self::encode`] writes, and refuses addresses that no membership takes.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CursorError> {
        let kind = reader.u8()?;
        let node = NodeId::new(reader.u16()?).ok_or(CursorError::Value)?;
        Ok(match kind {
            0 => {
                let store = StoreId(reader.array()?);
                Self::Add { node, member: Member { store, address: decode_address(reader)? } }
            }
            1 => Self::Promote { node },
            2 => Self::Remove { node },
            3 => Self::Move { node, address: decode_address(reader)? },
            _ => return Err(CursorError::Value),
        })
    }
}

impl fmt::Display for MembershipChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { node, member } => write!(f, "add {node} at {}", member.address),
            Self::Promote { node } => write!(f, "promote {node}"),
            Self::Remove { node } => write!(f, "remove {node}"),
            Self::Move { node, address } => write!(f, "move {node} to {address}"),
        }
    }
}

impl Membership {
    /// True when it is as the change would have it, or will be when it is not joint any more.
    #[must_use]
    pub fn has(&self, change: &MembershipChange) -> bool {
        let node = change.node();
        let stays = |m: &&Member| self.voters.contains_key(&node) || self.learners.get(&node) == Some(*m);
        match change {
            MembershipChange::Add { member, .. } => self.member(node).filter(stays) == Some(member),
            MembershipChange::Move { address, .. } => {
                self.member(node).filter(stays).is_some_and(|member| member.address == *address)
            }
            MembershipChange::Promote { .. } => self.voters.contains_key(&node),
            MembershipChange::Remove { .. } => {
                self.outgoing.contains_key(&node) && !self.voters.contains_key(&node)
            }
        }
    }

    /// The membership that begins this change. Joint exactly if the voters change: the majorities of two sets of
    /// voters need not meet, so nobody may go by the new one alone before all who count in the old one are bound by
    /// both (Raft paper §6).
    ///
    /// # Panics
    /// When this membership is joint, and must be left first, or has the change already.
    pub fn changed(&self, change: &MembershipChange) -> Result<Self, MembershipError> {
        assert!(!self.is_joint() && !self.has(change), "{change} of {self}");
        let node = change.node();
        let mut next = self.clone();
        match change {
            MembershipChange::Add { member, .. } => next.add(node, member)?,
            MembershipChange::Move { address, .. } => next.relocate(node, address)?,
            MembershipChange::Promote { .. } => {
                let member = next.learners.remove(&node).ok_or(MembershipError::Unknown { node })?;
                next.voters.insert(node, member);
                next.outgoing = self.voters.clone();
            }
            MembershipChange::Remove { .. } => {
                if next.learners.remove(&node).is_none() {
                    next.voters.remove(&node).ok_or(MembershipError::Unknown { node })?;
                    next.outgoing = self.voters.clone();
                }
                if next.voters.is_empty() {
                    return Err(MembershipError::LastVoter);
                }
            }
        }
        assert!(next.is_valid() && next != *self, "{change} makes {next} of {self}");
        Ok(next)
    }

    /// The membership that ends a joint one: the outgoing voters go.
    #[must_use]
    pub fn left(&self) -> Self {
        Self { outgoing: Members::new(), ..self.clone() }
    }

    fn add(&mut self, node: NodeId, member: &Member) -> Result<(), MembershipError> {
        if let Some((other, _)) = self.iter().find(|(id, m)| *id != node && m.store == member.store) {
            return Err(MembershipError::StoreInUse { node: other });
        }
        match self.member(node) {
            Some(known) if known.store == member.store => return self.relocate(node, &member.address),
            Some(_) if mutant::is(Mutant::M6) && self.voters.contains_key(&node) => {
                self.voters.insert(node, member.clone());
                return Ok(());
            }
            // A voter that forgot what it promised is no voter: it comes back as a learner (M6).
            Some(_) => return Err(MembershipError::Taken { node }),
            None => {}
        }
        if self.iter().count() >= MEMBERS_MAX {
            return Err(MembershipError::TooMany);
        }
        check_address(&member.address)?;
        self.learners.insert(node, member.clone());
        Ok(())
    }

    fn relocate(&mut self, node: NodeId, address: &str) -> Result<(), MembershipError> {
        check_address(address)?;
        let parts = [&mut self.voters, &mut self.learners];
        let member = parts.into_iter().find_map(|part| part.get_mut(&node));
        address.clone_into(&mut member.ok_or(MembershipError::Unknown { node })?.address);
        Ok(())
    }
}

fn check_address(address: &str) -> Result<(), MembershipError> {
    let is_fit = (1..=ADDRESS_BYTES_MAX).contains(&address.len());
    if is_fit { Ok(()) } else { Err(MembershipError::Address) }
}

fn decode_address(reader: &mut Reader<'_>) -> Result<String, CursorError> {
    let address = core::str::from_utf8(reader.prefixed()?).map_err(|_| CursorError::Value)?;
    check_address(address).map_err(|_| CursorError::Value)?;
    Ok(address.to_owned())
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
pub(crate) mod tests {
    use super::*;

    /// Members of these ids, each with a store of its own, on loopback.
    pub(crate) fn members(ids: &[u16]) -> Members {
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

    fn member(number: u16) -> Member {
        members(&[number]).remove(&NodeId::new(number).unwrap()).unwrap()
    }

    fn changes(number: u16) -> [MembershipChange; 4] {
        let node = NodeId::new(number).unwrap();
        [
            MembershipChange::Add { node, member: member(number) },
            MembershipChange::Promote { node },
            MembershipChange::Remove { node },
            MembershipChange::Move { node, address: "[::1]:9".to_owned() },
        ]
    }

    #[test]
    fn a_change_is_read_as_it_was_written_and_nothing_else_is() {
        for change in changes(7) {
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(MembershipChange::decode(&mut reader), Ok(change.clone()));
            assert!(reader.is_empty());
            for end in 0..bytes.len() {
                assert!(
                    MembershipChange::decode(&mut Reader::new(&bytes[..end])).is_err(),
                    "{change} cut at {end}"
                );
            }
        }
        let unknown_kind = [4, 0, 7];
        let no_node = [1, 0, 0];
        let no_address = [3, 0, 7, 0];
        for bytes in [&unknown_kind[..], &no_node, &no_address] {
            assert_eq!(
                MembershipChange::decode(&mut Reader::new(bytes)),
                Err(CursorError::Value),
                "{bytes:?}"
            );
        }
    }

    /// Raft paper §6: whoever votes comes and goes by way of a joint membership, and nobody else does.
    #[test]
    fn a_change_leads_to_the_next_membership() {
        let before = Membership { learners: members(&[4]), ..Membership::of_voters(members(&[1, 2, 3])) };
        let table = [
            (changes(5)[0].clone(), "voters=n1,n2,n3 learners=n4,n5"),
            (changes(4)[1].clone(), "voters=n1,n2,n3,n4 outgoing=n1,n2,n3"),
            (changes(4)[2].clone(), "voters=n1,n2,n3"),
            (changes(3)[2].clone(), "voters=n1,n2 outgoing=n1,n2,n3 learners=n4"),
            (changes(3)[3].clone(), "voters=n1,n2,n3 learners=n4"),
        ];
        for (change, expected) in table {
            assert!(!before.has(&change));
            let next = before.changed(&change).unwrap();
            assert_eq!(next.to_string(), expected, "{change}");
            let is_over = matches!(change, MembershipChange::Remove { .. }) && !next.is_joint();
            assert!(next.has(&change) || is_over, "{change}");
            assert!(!next.left().is_joint());
        }
        let moved = before.changed(&changes(3)[3]).unwrap();
        assert_eq!(moved.voters[&NodeId::new(3).unwrap()].address, "[::1]:9");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let node = NodeId::new(9).unwrap();
        let three = Membership::of_voters(members(&[1, 2, 3]));
        for change in &changes(9)[1..] {
            assert_eq!(three.changed(change), Err(MembershipError::Unknown { node }), "{change}");
        }
        let one = Membership::of_voters(members(&[9]));
        assert_eq!(one.changed(&changes(9)[2]), Err(MembershipError::LastVoter));
        let full = Membership {
            learners: members(&(2..=255).collect::<Vec<_>>()),
            ..Membership::of_voters(members(&[1]))
        };
        let add = MembershipChange::Add {
            node: NodeId::new(300).unwrap(),
            member: Member { store: StoreId([0; 16]), address: "x:1".to_owned() },
        };
        // The stores of these members repeat, which only an addition asks about.
        assert_eq!(full.changed(&add), Err(MembershipError::TooMany));
    }

    #[test]
    fn a_wiped_store_is_not_the_voter_of_its_id() {
        let membership = Membership::of_voters(members(&[1, 2, 3]));
        let node = NodeId::MIN;
        assert!(membership.is_voter(Identity { node, store: StoreId([1; 16]) }));
        assert!(!membership.is_voter(Identity { node, store: StoreId([8; 16]) }));
    }
}
