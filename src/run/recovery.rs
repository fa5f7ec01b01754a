//! Recovery without a quorum: a new cluster of one voter from the data folder of a survivor.
//!
//! 1. [`Survivor::open`] takes the folder, so that no node can use it meanwhile, and reads all of it. Nothing is
//!    changed.
//! 2. Of several survivors the [`longest`] holds the most: by the term of its last entry, then by its index, as in an
//!    election. `covers_every_quorum` tells whether that is all that was ever acknowledged.
//! 3. [`Survivor::recover`] makes the folder a new cluster's, in one step; see [`crate::store::refound`].
//!
//! What the log holds is taken as it is: whether the entries above its snapshot were committed is known to nobody any
//! more. A write whose client was never answered may so turn out to have been carried out, which is what "outcome
//! unknown" says. What others had beyond is lost.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::founding::FoundingRecord;
use crate::machine::Machine;
use crate::membership::{ADDRESS_BYTES_MAX, Member, Members, Membership};
use crate::node::{LoadError, rebuild};
use crate::run::disk::{FolderDisk, kernel_boot};
use crate::run::random_rng;
use crate::snapshot::{SnapshotId, SnapshotMeta};
use crate::store::{
    DiskError, DiskErrorKind, FIRST_INCARNATION_MAX, FormatOptions, OpenError, SEGMENT_BYTES, SnapshotError,
    Survey, refound,
};
use crate::types::{ClusterId, Identity, Incarnation, Index, NodeId, StoreId};

/// Why a folder was not recovered. Nothing that it holds was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoverError {
    /// There is no such folder.
    Missing,
    /// A process uses it.
    InUse,
    /// It belongs to no cluster: it is blank, or holds a backup that was restored.
    NoCluster,
    /// Its log is empty: there is nothing to begin with.
    Empty,
    /// It must not be used.
    Open(OpenError),
    /// Its snapshot cannot be loaded.
    Load(LoadError),
    /// The address cannot be advertised: it is empty or too long.
    Address,
    /// The new snapshot or segment could not be written.
    Write(SnapshotError),
    /// The disk.
    Disk(DiskError),
    /// No randomness was to be had.
    System(io::Error),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such folder"),
            Self::InUse => f.write_str("the data folder is in use by another process"),
            Self::NoCluster => f.write_str("the data folder belongs to no cluster"),
            Self::Empty => f.write_str("the log is empty: there is nothing to recover"),
            Self::Open(error) => fmt::Display::fmt(error, f),
            Self::Load(error) => fmt::Display::fmt(error, f),
            Self::Address => write!(f, "an advertised address has 1 to {ADDRESS_BYTES_MAX} bytes"),
            Self::Write(error) => fmt::Display::fmt(error, f),
            Self::Disk(error) => fmt::Display::fmt(error, f),
            Self::System(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl std::error::Error for RecoverError {}

/// A folder that was read whole, and is held for as long as this lives.
#[derive(Debug)]
pub struct Survivor {
    path: PathBuf,
    disk: FolderDisk,
    survey: Survey,
}

/// What came of a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The new cluster.
    pub cluster: ClusterId,
    /// The folder's new identity.
    pub store: StoreId,
    /// The state it begins with.
    pub snapshot: SnapshotMeta,
}

impl Survivor {
    /// Takes a folder and reads it.
    pub fn open(path: &Path) -> Result<Self, RecoverError> {
        // Taking a folder makes it.
        if !path.is_dir() {
            return Err(RecoverError::Missing);
        }
        let mut disk = FolderDisk::open(path).map_err(|error| match error.kind {
            DiskErrorKind::Locked => RecoverError::InUse,
            _ => RecoverError::Disk(error),
        })?;
        let survey =
            Survey::read(&mut disk, kernel_boot().unwrap_or_default()).map_err(|error| match error {
                OpenError::NotFormatted | OpenError::FormatUnfinished => RecoverError::NoCluster,
                error => RecoverError::Open(error),
            })?;
        if survey.record().cluster.is_zero() {
            return Err(RecoverError::NoCluster);
        }
        if survey.last().index == Index(0) {
            return Err(RecoverError::Empty);
        }
        Ok(Self { path: path.to_owned(), disk, survey })
    }

    /// Which folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds.
    #[must_use]
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// Which member it was, if it was one.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        let store = self.survey.record().store;
        let latest = self.survey.memberships().last()?;
        latest.iter().find(|(_, member)| member.store == store).map(|(node, _)| Identity { node, store })
    }

    /// True when whatever was committed is known to be in the longest log of these stores, which must be this one: no
    /// membership that may have been in force could commit without one of them. A membership whose entry was committed
    /// is in this log for the same reason.
    #[must_use]
    pub fn holds_everything(&self, survivors: &BTreeSet<StoreId>) -> bool {
        let mut memberships = self.survey.memberships().peekable();
        memberships.peek().is_some()
            && memberships.all(|membership| covers_every_quorum(membership, survivors))
    }

    /// Makes the folder that of the only voter of a new cluster, with all that it holds. `machine` is an empty one, of
    /// the kind that ran here.
    pub fn recover<M: Machine>(
        mut self,
        node: NodeId,
        address: &str,
        mut machine: M,
    ) -> Result<Recovery, RecoverError> {
        if address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
            return Err(RecoverError::Address);
        }
        let mut rng = random_rng().map_err(RecoverError::System)?;
        let options = FormatOptions {
            store: StoreId(rng.bytes16()),
            first_incarnation: Incarnation(rng.below(u64::from(FIRST_INCARNATION_MAX)) as u32 + 1),
            segment_bytes: SEGMENT_BYTES,
        };
        let cluster = std::iter::repeat_with(|| ClusterId(rng.bytes16()))
            .find(|id| !id.is_zero() && id.tag() != 0)
            .expect("nearly all ids will do");
        let member = Member { store: options.store, address: address.to_owned() };
        let membership = Membership::of_voters(Members::from([(node, member)]));
        let founding = FoundingRecord { cluster, membership };
        let body = rebuild(&mut self.disk, &self.survey, &mut machine).map_err(RecoverError::Load)?;
        let snapshot =
            refound(&mut self.disk, &self.survey, options, &founding, &*body).map_err(RecoverError::Write)?;
        Ok(Recovery { cluster, store: options.store, snapshot })
    }
}

/// The place of the survivor that holds the most; the first of equals.
#[must_use]
pub fn longest(survivors: &[Survivor]) -> Option<usize> {
    let ends = survivors.iter().map(|survivor| survivor.survey.last());
    let key = |(place, last): &(usize, SnapshotId)| (last.term, last.index, std::cmp::Reverse(*place));
    ends.enumerate().max_by_key(key).map(|(place, _)| place)
}

/// True when every quorum of the membership has one of these stores: then what it committed is in the longest of their
/// logs, by the argument that makes an elected leader's log complete (Raft paper §5.4.3). A joint membership commits
/// with both majorities, so it is enough when one of them is covered.
fn covers_every_quorum(membership: &Membership, survivors: &BTreeSet<StoreId>) -> bool {
    let covers = |part: &Members| {
        let missing = part.values().filter(|member| !survivors.contains(&member.store)).count();
        missing < part.len() / 2 + 1
    };
    covers(&membership.voters) || (membership.is_joint() && covers(&membership.outgoing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::tests::members;

    #[test]
    fn only_survivors_that_every_quorum_needs_are_known_to_hold_all() {
        let survivors = |ids: &[u8]| ids.iter().map(|id| StoreId([*id; 16])).collect::<BTreeSet<_>>();
        let three = Membership::of_voters(members(&[1, 2, 3]));
        assert!(!covers_every_quorum(&three, &survivors(&[1])));
        assert!(covers_every_quorum(&three, &survivors(&[1, 3])));
        assert!(!covers_every_quorum(&three, &survivors(&[1, 9])), "another store is not the voter");
        let four = Membership::of_voters(members(&[1, 2, 3, 4]));
        assert!(covers_every_quorum(&four, &survivors(&[1, 2])), "two of four cannot commit");
        let joint = Membership {
            voters: members(&[1, 2, 3]),
            outgoing: members(&[4, 5, 6]),
            learners: members(&[7]),
        };
        assert!(covers_every_quorum(&joint, &survivors(&[4, 5])));
        assert!(!covers_every_quorum(&joint, &survivors(&[1, 4, 7])));
    }
}
