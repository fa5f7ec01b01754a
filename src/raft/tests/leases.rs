//! Leases, one test per rule: thesis §6.4.1, R4 and R5. [W-95]

use core::time::Duration;

use super::bench::{Bench, Setup, append, requests_to};
use super::identity;
use crate::message::{Message, Transfer};
use crate::raft::{ConfigError, RaftConfig};
use crate::types::{Incarnation, Index};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// With minimum election timeouts of 250 ms and clocks that are right within a tenth: a lease is 204 ms.
fn with_leases(config: &mut RaftConfig) {
    config.lease_drift_ppm = Some(100_000);
}

/// A leader whose first entry is committed, and whose peers told their timeouts.
fn leader() -> Bench {
    let (mut node, _) = Setup::voters(3).tune(with_leases).lead();
    for peer in [2, 3] {
        node.raft.handle_timing(identity(peer), ms(250));
    }
    node.accept(2, 0, 1);
    node
}

fn lease(node: &Bench) -> Option<Index> {
    node.raft.lease(node.now)
}

/// The next heartbeat goes out; its round, and when that was.
fn beat(node: &mut Bench, round: u64) -> u64 {
    node.wait(ms(25));
    round + 1
}

#[test]
fn a_lease_lasts_from_the_sending_of_the_round_that_a_quorum_answered() {
    let mut node = leader();
    assert_eq!(lease(&node), None, "no round was answered");
    // Round 1 went out with the election. Its answer is late.
    node.now += ms(20);
    node.hear(2, 1);
    assert_eq!(lease(&node), Some(Index(1)));
    node.now += ms(183);
    assert_eq!(lease(&node), Some(Index(1)), "203 ms after the round began");
    node.now += ms(2);
    assert_eq!(lease(&node), None, "205 ms after, however late the answer was (R4)");
}

#[test]
fn later_rounds_extend_it_and_late_answers_do_not() {
    let mut node = leader();
    node.hear(2, 1);
    let second = beat(&mut node, 1);
    node.hear(2, second);
    node.now += ms(190);
    assert_eq!(lease(&node), Some(Index(1)), "190 ms after the second round");
    node.hear(3, 1);
    node.hear(2, 1);
    node.now += ms(20);
    assert_eq!(lease(&node), None);
}

#[test]
fn r1_there_is_none_before_the_first_commit_of_the_term() {
    let (mut node, _) = Setup::voters(3).tune(with_leases).lead();
    node.raft.handle_timing(identity(2), ms(250));
    node.hear(2, 1);
    assert_eq!(lease(&node), None);
    node.accept(2, 0, 1);
    assert_eq!(lease(&node), Some(Index(1)));
}

#[test]
fn r4_without_a_stated_drift_there_is_none() {
    let (mut node, _) = Setup::voters(3).lead();
    node.raft.handle_timing(identity(2), ms(250));
    node.accept(2, 0, 1);
    node.hear(2, 1);
    assert_eq!(lease(&node), None);
}

/// R4: a drift that leaves no lease worth its name is refused.
#[test]
fn r4_the_lease_is_shortened_by_the_drift_of_both_clocks_and_too_much_drift_is_refused() {
    let mut config = RaftConfig::new(identity(1), Incarnation(1), super::CLUSTER);
    let lease = |drift| RaftConfig::lease_of(ms(250), drift).as_micros();
    assert_eq!([0, 10_000, 600_000, 1_000_000].map(lease), [250_000, 245_049, 62_500, 0]);
    for (drift, valid) in [(0, Ok(())), (600_000, Ok(())), (700_000, Err(ConfigError::LeaseDrift))] {
        config.lease_drift_ppm = Some(drift);
        assert_eq!(config.validate(), valid, "{drift} ppm");
    }
    config.lease_drift_ppm = Some(u32::MAX);
    assert_eq!(config.validate(), Err(ConfigError::LeaseDrift));
}

/// R4: a voter that keeps silent for a shorter time would elect another while the lease lasts.
#[test]
fn r4_voters_with_other_timeouts_end_all_leases_and_unknown_ones_do_not_count() {
    let (mut node, _) = Setup::voters(3).tune(with_leases).lead();
    node.accept(2, 0, 1);
    node.hear(2, 1);
    assert_eq!(lease(&node), None, "nobody told his timeout");
    node.raft.handle_timing(identity(2), ms(250));
    assert_eq!(lease(&node), Some(Index(1)));
    node.raft.handle_timing(identity(3), ms(100));
    assert_eq!((lease(&node), node.raft.timings_agree()), (None, false), "even one that answered nothing");
    node.raft.handle_timing(identity(9), ms(100));
    node.raft.handle_timing(identity(3), ms(250));
    assert_eq!(lease(&node), Some(Index(1)), "strangers do not matter");
}

/// R5: whom the order reaches campaigns at once, and the voters help.
#[test]
fn r5_a_transfer_ends_the_lease_for_the_rest_of_the_term() {
    let mut node = leader();
    node.raft.handle_connected(node.now, identity(2), Incarnation(7));
    node.hear(2, 1);
    assert_eq!(lease(&node), Some(Index(1)));
    node.raft.transfer_leadership(node.now, None).unwrap();
    let ordered = node.drain();
    let is_order = |m: &Message| matches!(m, Message::Transfer(Transfer { .. }));
    assert!(requests_to(&ordered, 2).iter().any(is_order), "{ordered:?}");
    assert_eq!(lease(&node), None);
    // The order came to nothing, and rounds go on being answered.
    let mut round = 1;
    for _ in 0..40 {
        round = beat(&mut node, round);
        node.hear(2, round);
        node.hear(3, round);
    }
    assert_eq!(node.raft.transferring(), None);
    assert_eq!(lease(&node), None, "the copy of an order may still be under way");
}

#[test]
fn who_is_deposed_has_none() {
    let mut node = leader();
    node.hear(2, 1);
    assert_eq!(lease(&node), Some(Index(1)));
    node.receive(3, Message::Append(append(2, &[1, 2], 1)));
    assert_eq!(lease(&node), None);
}

/// A leader that slept wakes up without one: its clock counted the time.
#[test]
fn r3_a_leader_that_slept_has_none() {
    let mut node = leader();
    node.hear(2, 1);
    node.now += ms(60_000);
    assert_eq!(lease(&node), None);
}

#[test]
fn a_single_node_always_has_one() {
    let (mut node, _) = Setup::voters(1).tune(with_leases).lead();
    for _ in 0..20 {
        assert_eq!(lease(&node), Some(Index(1)));
        node.wait(ms(25));
    }
}
