//! Quorum arithmetic, the only place that counts voters.
//!
//! One question answers all others: *which value has a quorum reached?* Asked of match indexes it is the commit
//! index, of the last moments heard it says until when a leader may lead, of answered rounds which reads are
//! confirmed, of granted votes whether an election is won. While a membership is joint, both halves must have
//! reached the value (Raft paper §6), so the answer is the smaller of the two.
//!
//! With match indexes of five voters, three of five have reached 7:
//! ```text
//!  n1 ███████████      11
//!  n2 █████████         9
//!  n3 ███████           7   ◀ the third longest of five: reached
//!  n4 ████              4
//!  n5                   0
//! ```
//! While joint, each half has its own bars, a node that stands in both counts in both, and the shorter of the two
//! results holds: an entry is committed, a leader elected, a read confirmed only when neither the old majority nor
//! the new one could decide otherwise.
//!
//! Learners are in neither half and never asked. Voters are asked for by identity, that is by the store that the
//! membership binds to the node id: a wiped disk under the same id has forgotten what it promised, so what it says
//! is not that voter's word (I2).

use crate::membership::{Members, Membership};
use crate::mutant::{self, Mutant};
use crate::types::Identity;

/// The largest value that a quorum has reached, or `None` when no quorum has any. `value` is asked for each voter
/// by the store that the membership binds: another store of the same id never counts.
pub(super) fn reached<T: Ord + Copy>(
    membership: &Membership,
    value: impl Fn(Identity) -> Option<T>,
) -> Option<T> {
    let incoming = reached_by_majority(&membership.voters, &value)?;
    if membership.is_joint() {
        let outgoing = reached_by_majority(&membership.outgoing, &value)?;
        Some(incoming.min(outgoing))
    } else {
        Some(incoming)
    }
}

/// True when a quorum satisfies this: it has reached the unit value.
pub(super) fn is_quorum(membership: &Membership, has: impl Fn(Identity) -> bool) -> bool {
    reached(membership, |who| has(who).then_some(())).is_some()
}

/// How many of these voters satisfy this, and how many make a majority.
pub(super) fn count(members: &Members, has: impl Fn(Identity) -> bool) -> (usize, usize) {
    let who = members.iter().map(|(node, member)| Identity { node: *node, store: member.store });
    (who.filter(|who| has(*who)).count(), members.len() / 2 + 1)
}

/// The value that `n / 2 + 1` of these `n` have reached. Sorted downwards it stands at position `n / 2`; the
/// voters' order says nothing about their values (L8).
fn reached_by_majority<T: Ord + Copy>(
    members: &Members,
    value: &impl Fn(Identity) -> Option<T>,
) -> Option<T> {
    let (mut few, mut many);
    let places: &mut [Option<T>] = if members.len() <= FEW {
        few = [None; FEW];
        &mut few
    } else {
        many = vec![None; members.len()];
        &mut many
    };
    let known = members.iter().filter_map(|(node, it)| value(Identity { node: *node, store: it.store }));
    let known = known.zip(places.iter_mut()).map(|(value, place)| *place = Some(value)).count();
    let values = &mut places[..known];
    if !mutant::is(Mutant::L8) {
        values.sort_unstable_by(|a, b| b.cmp(a));
    }
    let reached = values.get(members.len() / 2).copied()?;
    let count = values.iter().filter(|value| **value >= reached).count();
    assert!(
        count * 2 > members.len() || mutant::is(Mutant::L8),
        "{count} of {} is no majority",
        members.len()
    );
    reached
}

/// As many voters are counted without memory of their own.
const FEW: usize = 8;
