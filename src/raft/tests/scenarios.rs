//! Named faults on a whole cluster, every invariant checked after every event. Bounds are in maximum election
//! timeouts (500 ms) and round trips (0.1 ms).

use core::time::Duration;

use super::cluster::{Cluster, Net, ms};
use super::{command, id, members, voters};
use crate::membership::Membership;
use crate::message::{Heartbeat, Message};
use crate::raft::{ReadId, RoleKind};
use crate::types::{HardState, Index, NodeId, Round, Term};

/// A new leader's time: 2 × the maximum election timeout, 10 round trips, 4 syncs of 1 ms.
const FAILOVER: Duration = Duration::from_millis(2 * 500 + 1 + 4);

fn has_leader(cluster: &Cluster) -> bool {
    cluster.leader().is_some_and(|leader| cluster.raft(leader.as_u16()).is_settled_leader())
}

/// A cluster of `count` with a leader that has committed.
fn led(seed: u64, count: u16) -> (Cluster, NodeId) {
    let mut cluster = Cluster::new(seed, count);
    assert!(cluster.run_until(ms(2_000), has_leader), "no leader");
    cluster.run_for(ms(50));
    let leader = cluster.leader().unwrap();
    (cluster, leader)
}

/// One write a `period` for `span`; how many were committed.
fn write_for(cluster: &mut Cluster, span: Duration, period: Duration) -> u64 {
    let before = cluster.writes_committed;
    let end = cluster.now + span;
    while cluster.now < end {
        if let Some(leader) = cluster.leader() {
            cluster.propose(leader, command("load"));
        }
        cluster.run_for(period);
    }
    cluster.writes_committed - before
}

fn followers(cluster: &Cluster, leader: NodeId) -> Vec<NodeId> {
    cluster.nodes.keys().copied().filter(|node| *node != leader).collect()
}

#[test]
fn a_leader_is_found_within_the_promised_time_after_a_crash() {
    for seed in 0..100 {
        let (mut cluster, leader) = led(seed, 3);
        cluster.crash(leader);
        let found = cluster.run_until(FAILOVER, |c| c.leader().is_some());
        // A split vote costs one more timeout, and is rare.
        assert!(found || cluster.run_until(FAILOVER, |c| c.leader().is_some()), "seed {seed}");
    }
}

/// Cloudflare, 2 November 2020.
#[test]
fn e5_a_follower_that_alone_lost_its_leader_disturbs_nobody() {
    for count in [3, 5] {
        let (mut cluster, leader) = led(5, count);
        let (term, changes) = (cluster.raft(leader.as_u16()).term(), cluster.leader_changes);
        let lonely = followers(&cluster, leader)[0];
        cluster.cut_link(leader.as_u16(), lonely.as_u16());
        let written = write_for(&mut cluster, ms(60_000), ms(100));
        assert!(written >= 599, "{written} writes in a minute");
        assert_eq!((cluster.leader(), cluster.leader_changes), (Some(leader), changes));
        assert_eq!(cluster.raft(lonely.as_u16()).term(), term);
        cluster.cut.clear();
        cluster.run_for(ms(1_500));
        assert_eq!(cluster.raft(lonely.as_u16()).commit(), cluster.raft(leader.as_u16()).commit());
    }
}

#[test]
fn e6_two_nodes_at_the_edge_of_a_mesh_do_not_unsettle_it() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(seed, 5);
        for (a, b) in [(4, 1), (4, 3), (4, 5), (5, 1), (5, 2)] {
            cluster.cut_link(a, b);
        }
        assert!(cluster.run_until(ms(5_000), has_leader), "seed {seed}: no leader within 10 timeouts");
        cluster.run_for(ms(5_000));
        let changes = cluster.leader_changes;
        let written = write_for(&mut cluster, ms(10_000), ms(100));
        assert_eq!(cluster.leader_changes, changes, "seed {seed}");
        assert!(written >= 99, "seed {seed}: {written} writes");
    }
}

#[test]
fn e7_a_leader_that_can_send_but_not_hear_is_replaced() {
    for seed in 0..50 {
        let (mut cluster, deaf) = led(seed, 3);
        for other in followers(&cluster, deaf) {
            cluster.cut.insert((other, deaf));
        }
        let is_leader = |c: &Cluster| c.raft(deaf.as_u16()).role() == RoleKind::Leader;
        assert!(cluster.run_until(ms(526), |c| !is_leader(c)), "seed {seed}: it leads on");
        assert!(cluster.run_until(FAILOVER * 2, has_leader), "seed {seed}: no new leader");
        assert_ne!(cluster.leader(), Some(deaf));
        assert!(write_for(&mut cluster, ms(500), ms(50)) >= 9);
    }
}

/// etcd-io/etcd#8243: each ignored the other's pre-vote for ever.
#[test]
fn e8_a_node_from_an_old_term_and_one_from_a_newer_elect_a_leader() {
    for seed in 0..30 {
        let mut cluster = Cluster::new(seed, 3);
        for node in 1..=3 {
            cluster.crash(id(node));
        }
        // Node 1 was there in term 5, with a shorter log; node 3 comes back from term 1; node 2 stays dead.
        cluster.disk(1).hard_state.term = Term(5);
        cluster.disk(3).hard_state.term = Term(1);
        cluster.disk(3).entries = super::log_of(&[1, 1]);
        cluster.start(id(1));
        cluster.start(id(3));
        assert!(cluster.run_until(FAILOVER * 3, has_leader), "seed {seed}");
        assert_eq!(cluster.leader(), Some(id(3)), "only its log will do");
    }
}

/// etcd-io/etcd#8501.
#[test]
fn e9_a_node_of_a_higher_term_with_a_shorter_log_is_taken_in() {
    for seed in 0..30 {
        let (mut cluster, leader) = led(seed, 3);
        let stuck = followers(&cluster, leader)[0];
        cluster.crash(stuck);
        write_for(&mut cluster, ms(200), ms(10));
        cluster.disk(stuck.as_u16()).hard_state.term = Term(40);
        cluster.start(stuck);
        let is_taken_in = |c: &Cluster| {
            has_leader(c)
                && c.leader().is_some_and(|l| c.raft(stuck.as_u16()).commit() == c.raft(l.as_u16()).commit())
        };
        assert!(cluster.run_until(FAILOVER * 3, is_taken_in), "seed {seed}");
        assert!(cluster.raft(stuck.as_u16()).term() >= Term(40));
    }
}

#[test]
fn e12_a_node_that_comes_and_goes_a_thousand_times_raises_no_term() {
    let (mut cluster, leader) = led(12, 3);
    let term = cluster.raft(leader.as_u16()).term();
    let flapping = followers(&cluster, leader)[1];
    for _ in 0..1_000 {
        cluster.isolate(flapping);
        let away = ms(300 + cluster.rng.below(600));
        cluster.run_for(away);
        cluster.cut.clear();
        let back = ms(cluster.rng.below(60));
        cluster.run_for(back);
    }
    assert_eq!((cluster.leader(), cluster.raft(leader.as_u16()).term()), (Some(leader), term));
}

/// Removed, and it does not know: the entry that removed it never reached it, so it campaigns for ever, by a
/// membership that only it believes in.
#[test]
fn e13_a_removed_node_that_keeps_campaigning_disturbs_nobody() {
    let (mut cluster, leader) = led(13, 3);
    let (term, changes) = (cluster.raft(leader.as_u16()).term(), cluster.leader_changes);
    let disk = cluster.disk(leader.as_u16());
    let (hard_state, entries) = (HardState { vote: None, ..disk.hard_state }, disk.entries.clone());
    cluster.add(id(4), voters(&[1, 2, 3, 4]), hard_state, entries);
    let written = write_for(&mut cluster, ms(20_000), ms(100));
    assert!(written >= 199, "{written}");
    assert_eq!((cluster.leader_changes, cluster.raft(leader.as_u16()).term()), (changes, term));
    assert_eq!(cluster.raft(4).role(), RoleKind::PreCandidate, "it tried");
}

#[test]
fn e16_a_leader_whose_disk_hangs_is_replaced_and_stays_away() {
    for seed in 0..20 {
        let (mut cluster, stuck) = led(seed, 3);
        cluster.disk(stuck.as_u16()).hangs = true;
        cluster.propose(stuck, command("stuck"));
        let elsewhere = |c: &Cluster| has_leader(c) && c.leader() != Some(stuck);
        assert!(cluster.run_until(ms(2_000) + FAILOVER, elsewhere), "seed {seed}");
        assert!(write_for(&mut cluster, ms(10_000), ms(100)) >= 99, "seed {seed}");
        assert_ne!(cluster.leader(), Some(stuck), "a broken disk does not win again");
        cluster.disk(stuck.as_u16()).hangs = false;
        cluster.run_for(ms(3_000));
        let leader = cluster.leader().unwrap();
        assert_eq!(cluster.raft(stuck.as_u16()).commit(), cluster.raft(leader.as_u16()).commit());
    }
}

/// Every sync takes 125 to 1,000 ms.
#[test]
fn i7_slow_syncs_neither_prevent_an_election_nor_cause_one() {
    for (seed, (shortest, longest)) in
        (0..).zip([(125, 125), (250, 250), (500, 500), (1_000, 1_000), (125, 1_000)])
    {
        let mut cluster = Cluster::new(seed, 3);
        for node in 1..=3 {
            let disk = cluster.disk(node);
            (disk.delay_min, disk.delay_max) = (ms(shortest), ms(longest));
        }
        assert!(cluster.run_until(ms(15_000), has_leader), "no leader with syncs of {longest} ms");
        let changes = cluster.leader_changes;
        let written = write_for(&mut cluster, ms(60_000), ms(2_000));
        assert!(written >= 28, "{written} writes with syncs of {longest} ms");
        assert_eq!(cluster.leader_changes, changes, "with syncs of {longest} ms");
    }
}

#[test]
fn l11_whatever_answers_were_lost_every_follower_catches_up_when_the_loss_ends() {
    for seed in 0..30 {
        let (mut cluster, leader) = led(seed, 3);
        // Nobody sends anything twice here: the core alone must get over it.
        cluster.net = Net { loss: 0.5, resend: None, ..Net::calm() };
        write_for(&mut cluster, ms(3_000), ms(20));
        cluster.net.loss = 0.0;
        cluster.run_for(ms(3_000));
        let leader = cluster.leader().unwrap_or(leader);
        for node in cluster.nodes.keys().copied().collect::<Vec<_>>() {
            let (raft, led_by) = (cluster.raft(node.as_u16()), cluster.raft(leader.as_u16()));
            assert_eq!(raft.commit(), led_by.last_index(), "seed {seed}: {node}");
        }
    }
}

#[test]
fn under_loss_duplication_and_reordering_no_leader_changes() {
    let (mut cluster, leader) = led(20, 3);
    let delay_max = ms(3);
    cluster.net = Net { loss: 0.2, duplication: 0.05, delay_max, ..Net::calm() };
    let changes = cluster.leader_changes;
    let written = write_for(&mut cluster, ms(60_000), ms(20));
    assert!(written >= 2_980, "{written} writes");
    assert_eq!((cluster.leader(), cluster.leader_changes), (Some(leader), changes));
}

#[test]
fn l14_a_leader_cut_off_with_proposals_pending_gives_up() {
    let (mut cluster, leader) = led(14, 3);
    cluster.isolate(leader);
    cluster.propose(leader, command("pending"));
    cluster.run_for(ms(526));
    assert_ne!(cluster.raft(leader.as_u16()).role(), RoleKind::Leader);
}

/// L15 and L1 on a whole cluster: what a deposed leader had not committed is replaced, and nobody is told "done".
#[test]
fn l15_a_deposed_leaders_pending_proposals_are_never_acknowledged() {
    let (mut cluster, old) = led(15, 3);
    cluster.isolate(old);
    let before = cluster.writes_committed;
    for _ in 0..5 {
        cluster.propose(old, command("lost"));
    }
    assert!(cluster.run_until(FAILOVER * 3, |c| has_leader(c) && c.leader() != Some(old)));
    let new = cluster.leader().unwrap();
    for _ in 0..7 {
        cluster.propose(new, command("kept"));
    }
    cluster.run_for(ms(100));
    cluster.cut.clear();
    cluster.run_for(ms(2_000));
    assert_eq!(cluster.writes_committed - before, 7);
    assert_eq!(cluster.raft(old.as_u16()).last_index(), cluster.raft(new.as_u16()).last_index());
}

/// The cluster checks that no read index is below what was committed anywhere when the read was asked for.
#[test]
fn r3_a_leader_paused_through_a_change_reads_nothing_stale() {
    for seed in 0..30 {
        let (mut cluster, old) = led(seed, 3);
        cluster.read(old, ReadId(1));
        cluster.nodes.get_mut(&old).unwrap().paused_until = cluster.now + ms(2_000);
        cluster.run_for(ms(1_990));
        let new = cluster.leader().filter(|leader| *leader != old).expect("another leader meanwhile");
        cluster.propose(new, command("newer"));
        cluster.run_for(ms(10));
        // It wakes with a full inbox and a ready read.
        cluster.read(old, ReadId(2));
        cluster.run_for(ms(100));
        cluster.read(old, ReadId(3));
        cluster.run_for(ms(1_000));
        assert_ne!(cluster.leader(), Some(old), "seed {seed}");
    }
}

#[test]
fn a_learner_keeps_up_and_never_leads() {
    let membership = Membership { learners: members(&[4]), ..voters(&[1, 2, 3]) };
    let mut cluster = Cluster::with(4, membership, |_| {});
    assert!(cluster.run_until(ms(2_000), has_leader));
    write_for(&mut cluster, ms(1_000), ms(10));
    for node in 1..=3 {
        cluster.isolate(id(node));
    }
    cluster.run_for(ms(5_000));
    assert_eq!(cluster.raft(4).role(), RoleKind::Follower);
    cluster.cut.clear();
    assert!(cluster.run_until(FAILOVER * 3, has_leader));
    cluster.run_for(ms(1_500));
    let leader = cluster.leader().unwrap().as_u16();
    assert_eq!(cluster.raft(4).commit(), cluster.raft(leader).commit());
}

/// U6, U16: what an old leader, or nobody, once sent arrives after a minute.
#[test]
fn u6_messages_of_an_old_term_are_ignored_however_late() {
    let (mut cluster, leader) = led(6, 3);
    let old_term = cluster.raft(leader.as_u16()).term();
    cluster.crash(leader);
    cluster.run_for(ms(3_000));
    cluster.start(leader);
    write_for(&mut cluster, ms(1_000), ms(50));
    let new = cluster.leader().unwrap();
    let (term, commit) = (cluster.raft(new.as_u16()).term(), cluster.raft(new.as_u16()).commit());
    assert!(term > old_term);
    for victim in followers(&cluster, new) {
        let from = followers(&cluster, victim)[0].as_u16();
        let stale = Heartbeat { term: old_term, round: Round(3), commit: Index(1 << 40) };
        cluster.inject(from, victim.as_u16(), Message::Heartbeat(stale));
        let forged = Heartbeat { term: Term(u64::MAX), round: Round(u64::MAX), commit: Index(u64::MAX) };
        cluster.inject(from, victim.as_u16(), Message::Heartbeat(forged));
    }
    cluster.run_for(ms(1_000));
    assert_eq!((cluster.leader(), cluster.raft(new.as_u16()).term()), (Some(new), term));
    assert_eq!(cluster.raft(new.as_u16()).commit(), commit);
}

#[test]
fn leadership_is_handed_over_in_a_few_round_trips() {
    for seed in 0..20 {
        let (mut cluster, old) = led(seed, 3);
        let to = followers(&cluster, old)[1];
        assert!(cluster.transfer(old, Some(to)), "seed {seed}");
        // Own vote, the voters' votes, the no-op: three syncs of 1 ms.
        assert!(cluster.run_until(ms(10), |c| has_leader(c) && c.leader() == Some(to)), "seed {seed}");
    }
}

#[test]
fn all_nodes_may_lose_power_at_once() {
    for seed in 0..30 {
        let (mut cluster, _) = led(seed, 3);
        let written = write_for(&mut cluster, ms(500), ms(3));
        let commit = cluster.leader().map(|l| cluster.raft(l.as_u16()).commit()).unwrap();
        for node in 1..=3 {
            cluster.crash(id(node));
        }
        for node in 1..=3 {
            cluster.start(id(node));
        }
        assert!(cluster.run_until(FAILOVER * 3, has_leader), "seed {seed}");
        let leader = cluster.leader().unwrap().as_u16();
        assert!(written > 100 && cluster.raft(leader).commit() > commit, "seed {seed}: {written}");
    }
}
