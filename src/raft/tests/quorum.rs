//! Tables for the arithmetic of majorities, the joint ones too.

use std::collections::BTreeMap;

use super::{identity, members, voters};
use crate::membership::{Members, Membership};
use crate::raft::quorum::{is_quorum, reached};
use crate::types::{Identity, StoreId};

fn joint(incoming: &[u16], outgoing: &[u16]) -> Membership {
    Membership { voters: members(incoming), outgoing: members(outgoing), learners: Members::new() }
}

fn reached_of(membership: &Membership, values: &[(u16, u64)]) -> Option<u64> {
    let values: BTreeMap<Identity, u64> =
        values.iter().map(|(node, value)| (identity(*node), *value)).collect();
    reached(membership, |who| values.get(&who).copied())
}

#[test]
fn a_majority_of_n_is_half_of_n_and_one() {
    for (count, majority) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
        let all: Vec<u16> = (1..=count).collect();
        for have in 0..=count {
            let has = |who: Identity| who.node.as_u16() <= have;
            assert_eq!(is_quorum(&voters(&all), has), have >= majority, "{have} of {count}");
        }
    }
}

#[test]
fn what_a_majority_has_reached_does_not_depend_on_the_voters_order() {
    // L8: computed over an unsorted array, [1, 9, 1] would give 9.
    let three = voters(&[1, 2, 3]);
    for values in [[1, 9, 5], [9, 1, 5], [5, 9, 1], [1, 5, 9], [9, 5, 1], [5, 1, 9]] {
        let values: Vec<(u16, u64)> = (1..).zip(values).collect();
        assert_eq!(reached_of(&three, &values), Some(5), "{values:?}");
    }
    assert_eq!(reached_of(&three, &[(1, 1), (2, 9), (3, 1)]), Some(1));
    assert_eq!(reached_of(&voters(&[1, 2, 3, 4]), &[(1, 4), (2, 3), (3, 2), (4, 1)]), Some(2));
    assert_eq!(reached_of(&voters(&[1, 2, 3, 4, 5]), &[(1, 1), (2, 1), (3, 7), (4, 8), (5, 9)]), Some(7));
}

#[test]
fn voters_without_a_value_count_as_having_reached_nothing() {
    assert_eq!(reached_of(&voters(&[1, 2, 3]), &[(1, 5)]), None);
    assert_eq!(reached_of(&voters(&[1, 2, 3]), &[(1, 5), (3, 4)]), Some(4));
    assert_eq!(reached_of(&Membership::default(), &[(1, 5)]), None);
}

#[test]
fn while_joint_both_majorities_are_needed() {
    let both = joint(&[1, 2, 3], &[3, 4, 5]);
    assert_eq!(reached_of(&both, &[(1, 9), (2, 9), (3, 9)]), None, "one of the outgoing three");
    assert_eq!(reached_of(&both, &[(1, 9), (2, 8), (3, 7), (4, 6), (5, 1)]), Some(6));
    assert_eq!(reached_of(&both, &[(3, 2), (4, 9), (5, 9), (1, 1), (2, 1)]), Some(1));
}

#[test]
fn learners_and_strangers_never_count() {
    let membership = Membership { learners: members(&[4, 5]), ..voters(&[1, 2, 3]) };
    assert_eq!(reached_of(&membership, &[(1, 3), (4, 9), (5, 9), (7, 9)]), None);
}

#[test]
fn another_store_of_the_same_id_never_counts() {
    // I2: node 2 was wiped; what its new store says is not what the membership bound.
    let wiped = Identity { node: identity(2).node, store: StoreId([0xee; 16]) };
    let says = |who: Identity| [identity(1), wiped].contains(&who);
    assert!(!is_quorum(&voters(&[1, 2, 3]), says));
    assert!(is_quorum(&voters(&[1, 2, 3]), |who| says(who) || who == identity(3)));
}

/// The definition in words, tried against every membership of up to four nodes and every set of values 0 to 2.
#[test]
fn every_small_membership_agrees_with_the_definition() {
    let subsets = |mask: u16| -> Vec<u16> { (1..=4).filter(|node| mask & (1 << (node - 1)) != 0).collect() };
    let mut cases = 0;
    for (incoming, outgoing) in (1..16).flat_map(|a| (0..16).map(move |b| (subsets(a), subsets(b)))) {
        let membership = joint(&incoming, &outgoing);
        for code in 0..81u32 {
            let value = |node: u16| u64::from(code / 3u32.pow(u32::from(node) - 1) % 3);
            let has_majority = |part: &[u16], at_least: u64| {
                part.is_empty()
                    || part.iter().filter(|node| value(**node) >= at_least).count() * 2 > part.len()
            };
            let expected = (0..=2).rev().find(|v| has_majority(&incoming, *v) && has_majority(&outgoing, *v));
            let got = reached(&membership, |who| Some(value(who.node.as_u16())));
            assert_eq!(got, expected, "{incoming:?} {outgoing:?} {code}");
            cases += 1;
        }
    }
    assert_eq!(cases, 15 * 16 * 81);
}
