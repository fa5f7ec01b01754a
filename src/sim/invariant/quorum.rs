//! Quorums, counted here a second time: the checks must not trust the arithmetic they check.

use crate::membership::{Members, Membership};
use crate::types::Identity;

/// True when this holds of a majority of the voters and, while joint, of a majority of the outgoing voters.
pub(super) fn is_quorum(membership: &Membership, holds: impl Fn(Identity) -> bool) -> bool {
    let is_majority = |part: &Members| {
        let count =
            part.iter().filter(|(node, member)| holds(Identity { node: **node, store: member.store }));
        count.count() * 2 > part.len()
    };
    is_majority(&membership.voters) && (membership.outgoing.is_empty() || is_majority(&membership.outgoing))
}

/// True when this very store votes, or does until a joint membership is left.
pub(super) fn votes(membership: &Membership, who: Identity) -> bool {
    let has = |part: &Members| part.get(&who.node).is_some_and(|member| member.store == who.store);
    has(&membership.voters) || has(&membership.outgoing)
}

/// True when every quorum of one membership meets every quorum of the other. Of joint memberships this asks for two
/// halves that do so by themselves, which every step of a joint change has (thesis §4.3).
pub(super) fn overlap(one: &Membership, other: &Membership) -> bool {
    let halves = |membership: &Membership| -> Vec<Members> {
        let both = [membership.voters.clone(), membership.outgoing.clone()];
        both.into_iter().filter(|half| !half.is_empty()).collect()
    };
    let (ones, others) = (halves(one), halves(other));
    ones.iter().any(|one| others.iter().any(|other| majorities_meet(one, other)))
}

fn majorities_meet(one: &Members, other: &Members) -> bool {
    let common = one.iter().filter(|(id, member)| other.get(id).is_some_and(|o| o.store == member.store));
    let common = common.count();
    // Two majorities that avoid each other take as few as they can from what is common.
    let needed = |part: &Members| (part.len() / 2 + 1).saturating_sub(part.len() - common);
    needed(one) + needed(other) > common
}
