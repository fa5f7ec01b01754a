//! Invariants 11 on a folder, and 23 to 28: bounds, budgets and the run as a whole.

use std::sync::Arc;
use std::time::Duration;

use super::super::bounds::{Traffic, check_link, check_probes, check_traffic};
use super::super::heal::{check_determinism, check_rest, connected_core};
use super::super::recheck::{check_folder, check_log, check_quorum, check_rotten};
use super::super::violation::{Invariant, Violation};
use super::super::{Found, Shadow, leader_deadline, rest_deadline};
use super::puppet::{Puppet, Stage, assert_broken, id, members, voters};
use crate::membership::Membership;
use crate::node::{NodeConfig, Timing};
use crate::rpc::LinkStats;
use crate::store::{Batch, FormatOptions, MemoryDisk, OpenOptions, Store};
use crate::time::Instant;
use crate::types::{HardState, Identity, Incarnation, StoreId, Term};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_violation_tells_number_name_place_and_time() {
    let violation = Violation {
        invariant: Invariant::ElectionSafety,
        node: Some(id(2)),
        at: Instant::from_nanos(1_500_000),
        text: "leads term 3".to_owned(),
    };
    let text = "invariant 1, at most one leader per term: n2: leads term 3 at 1.500000ms";
    assert_eq!(violation.to_string(), text);
    for (number, invariant) in Invariant::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(invariant.number()), number);
    }
}

/// A folder that was just booted, and its shadow.
fn folder() -> (Store<MemoryDisk>, Shadow, OpenOptions) {
    let mut disk = MemoryDisk::new();
    let options = OpenOptions { segment_bytes: 64 * 1024, ..OpenOptions::default() };
    let format = FormatOptions {
        store: StoreId([1; 16]),
        first_incarnation: Incarnation(1),
        segment_bytes: options.segment_bytes,
    };
    Store::format(&mut disk, format).unwrap();
    let (store, recovered) = Store::open(disk, options).unwrap();
    let identity = Identity { node: id(1), store: recovered.store };
    let found = Found {
        identity,
        incarnation: recovered.incarnation,
        hard_state: recovered.hard_state,
        base: crate::raft::Base::default(),
        entries: &recovered.entries,
        is_damaged: false,
        damage: &[],
    };
    let mut shadow = Shadow::new(identity);
    shadow.boot(&found);
    (store, shadow, options)
}

fn own_vote(shadow: &Shadow, term: u64) -> Batch {
    let hard_state = Some(HardState { term: Term(term), vote: Some(shadow.identity()) });
    Batch { hard_state, truncate_from: None, entries: Vec::new() }
}

#[test]
fn invariant_11_a_folder_that_lost_what_its_shadow_holds_is_found() {
    let (mut store, mut shadow, options) = folder();
    store.persist(&own_vote(&shadow, 1)).unwrap();
    shadow.finish(&own_vote(&shadow, 1));
    check_folder(&shadow, store.disk(), &options).unwrap();
    // A write under way may be found or not.
    shadow.begin(&own_vote(&shadow, 2));
    check_folder(&shadow, store.disk(), &options).unwrap();
    shadow.finish(&own_vote(&shadow, 2));
    assert_broken(check_folder(&shadow, store.disk(), &options), Invariant::Monotone);
    shadow.forswear();
    check_folder(&shadow, store.disk(), &options).unwrap();
}

/// Scenario I4: one copy of the hard state is as good as two until it rots.
#[test]
fn invariant_9_a_folder_that_one_flipped_bit_sets_back_is_found() {
    let (mut store, mut shadow, options) = folder();
    let before = store.disk().content("hard-state-b").unwrap().to_vec();
    store.persist(&own_vote(&shadow, 1)).unwrap();
    shadow.finish(&own_vote(&shadow, 1));
    let find =
        |disk: &MemoryDisk| (0..200).try_for_each(|round| check_rotten(round, &shadow, disk, &options));
    find(store.disk()).unwrap();
    let mut disk = store.disk().clone();
    disk.rot("hard-state-b", |bytes| *bytes = before);
    check_folder(&shadow, &disk, &options).unwrap();
    assert_broken(find(&disk), Invariant::Monotone);
}

#[test]
fn a_recheck_finds_what_changed_unseen() {
    let (stage, mut puppets) = Stage::settled();
    check_log(1, &puppets[0], &stage.cores, &stage.oracle).unwrap();
    puppets[0].append_noop(1);
    assert_broken(check_log(1, &puppets[0], &stage.cores, &stage.oracle), Invariant::LogMatching);
}

#[test]
fn a_recheck_finds_a_committed_entry_that_is_on_too_few_disks() {
    let (mut stage, _) = Stage::settled();
    check_quorum(&stage.oracle, &stage.folders).unwrap();
    // Wiping two folders is a fault, not a fault of theirs.
    stage.folders.wiped(id(2));
    stage.folders.wiped(id(3));
    check_quorum(&stage.oracle, &stage.folders).unwrap();

    let (mut stage, mut others) = Stage::settled();
    for puppet in &mut others[1..] {
        puppet.entries.clear();
        stage.persist(puppet).unwrap();
    }
    assert_broken(check_quorum(&stage.oracle, &stage.folders), Invariant::CommittedOnQuorum);
}

fn link() -> LinkStats {
    LinkStats {
        srtt: None,
        retransmits: 0,
        duplicates: 0,
        probes: 0,
        spurious: 0,
        loss: 0.0,
        in_flight_bytes: 0,
        window_bytes: 0,
        calls_open: 0,
        calls_served: 0,
        heard: Instant::ZERO,
    }
}

#[test]
fn invariant_23_a_link_that_holds_more_than_its_bounds_is_found() {
    let config = NodeConfig::new(id(1), String::new());
    let rpc = &config.rpc;
    check_link(&link(), &config).unwrap();
    let full = [
        LinkStats { in_flight_bytes: rpc.window_bytes_max * 2, ..link() },
        LinkStats { window_bytes: rpc.window_bytes_max + 1, ..link() },
        LinkStats { calls_open: rpc.calls_open_max + 1, ..link() },
        LinkStats { calls_served: rpc.calls_served_max + 1, ..link() },
    ];
    for stats in full {
        assert_broken(check_link(&stats, &config), Invariant::BoundedMemory);
    }
}

#[test]
fn invariant_24_timeouts_that_do_not_back_off_are_found() {
    check_probes(100, SECOND, 25 * MS).unwrap();
    assert_broken(check_probes(1000, SECOND, 25 * MS), Invariant::RetransmissionBudget);
}

#[test]
fn invariant_24_a_node_that_sends_out_of_proportion_is_found() {
    let config = NodeConfig::new(id(1), String::new());
    let before = Traffic { at: Instant::ZERO, received: 0, transmitted: 0, retransmits: 0, proposals: 0 };
    let after = |transmitted| Traffic { at: Instant::ZERO + SECOND, received: 100, transmitted, ..before };
    check_traffic(before, after(1_000), &config).unwrap();
    assert_broken(check_traffic(before, after(100_000), &config), Invariant::RetransmissionBudget);
}

#[test]
fn invariant_26_two_traces_of_one_seed_are_found() {
    check_determinism(Instant::ZERO, 7, 7).unwrap();
    let violation = check_determinism(Instant::ZERO, 7, 8).unwrap_err();
    assert_eq!(violation.invariant, Invariant::Determinism);
}

#[test]
fn invariant_27_whatever_a_healed_cluster_lacks_is_found() {
    type Change = fn(&mut [Puppet; 3]);
    let changes: [Change; 5] = [
        |them| them[0].role = crate::raft::RoleKind::Follower,
        |them| {
            them[1].append_noop(1);
        },
        |them| them[1].applied = crate::types::Index(0),
        |them| them[2].vote(2, 2),
        |them| {
            let joint = Membership { outgoing: members(&[1, 2, 3]), ..voters(&[1, 2]) };
            them[0].membership = Arc::new(joint);
        },
    ];
    let (_, settled) = Stage::settled();
    check_rest(settled.iter()).unwrap();
    for change in changes {
        let mut puppets = settled.clone();
        change(&mut puppets);
        assert_broken(check_rest(puppets.iter()), Invariant::LivenessAfterHeal);
    }
}

#[test]
fn deadlines_count_in_election_timeouts() {
    let timing = Timing::default();
    assert_eq!(leader_deadline(Instant::ZERO, &timing, SECOND), Instant::ZERO + 6 * SECOND);
    assert_eq!(rest_deadline(Instant::ZERO, &timing, SECOND), Instant::ZERO + 12 * SECOND);
}

#[test]
fn invariant_28_the_connected_core_is_a_quorum_that_reaches_each_other_both_ways() {
    let membership = voters(&[1, 2, 3, 4, 5]);
    let all = |_| true;
    let core = connected_core(&membership, all, |_, _| true);
    assert_eq!(core.map(|core| core.len()), Some(5));
    // 1-2-3 are connected, 4 sees only 2, 5 only 3 (E6).
    let reaches = |a: crate::types::NodeId, b: crate::types::NodeId| {
        let (low, high) = (a.min(b).as_u16(), a.max(b).as_u16());
        high <= 3 || (low, high) == (2, 4) || (low, high) == (3, 5)
    };
    let core = connected_core(&membership, all, reaches).unwrap();
    assert_eq!(core.into_iter().collect::<Vec<_>>(), [id(1), id(2), id(3)]);
    assert_eq!(connected_core(&membership, |node| node != id(2), reaches), None);
    let one_way =
        |a: crate::types::NodeId, b: crate::types::NodeId| reaches(a, b) && (a, b) != (id(1), id(2));
    assert_eq!(connected_core(&membership, all, one_way), None);
}
