//! The founding record: the one act by which all voters become a cluster.
//!
//! The founding node with the lowest id draws the cluster id, binds every voter's id to its store and address,
//! and sends the record to all. A node stores the first record that binds its own store and never another.

use crate::cursor::{CursorError, Reader, Writer};
use crate::membership::Membership;
use crate::types::{ClusterId, Identity};

/// What a cluster is founded as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundingRecord {
    /// The cluster's identity from now on; never zero.
    pub cluster: ClusterId,
    /// Its voters, bound to their stores; neither joint nor with learners.
    pub membership: Membership,
}

impl FoundingRecord {
    /// True when this very store is one of the founders.
    #[must_use]
    pub fn binds(&self, who: Identity) -> bool {
        self.membership.is_voter(who)
    }

    /// Appends the cluster id (16 bytes) and the membership.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.cluster.0);
        self.membership.encode(out);
    }

    /// Reads what [`Self::encode`] writes.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, CursorError> {
        let record = Self { cluster: ClusterId(reader.array()?), membership: Membership::decode(reader)? };
        let is_plain = !record.membership.is_joint() && record.membership.learners.is_empty();
        if record.cluster.is_zero() || !is_plain { Err(CursorError::Value) } else { Ok(record) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::{Member, Members};
    use crate::types::{NodeId, StoreId};

    #[test]
    fn a_record_without_a_cluster_is_refused() {
        let member = Member { store: StoreId([1; 16]), address: "[::1]:7101".to_owned() };
        let membership = Membership::of_voters(Members::from([(NodeId::MIN, member)]));
        let mut record = FoundingRecord { cluster: ClusterId([2; 16]), membership };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(FoundingRecord::decode(&mut Reader::new(&bytes)), Ok(record.clone()));
        record.cluster = ClusterId::ZERO;
        bytes.clear();
        record.encode(&mut bytes);
        assert_eq!(FoundingRecord::decode(&mut Reader::new(&bytes)), Err(CursorError::Value));
    }
}
