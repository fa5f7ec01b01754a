//! A lone node on a real store: its snapshots are written when the test says so.

use std::collections::VecDeque;

use slog::{Discard, Logger, o};

use super::snapshot::load;
use super::transfer::{READS_MAX, RETAINED_MAX};
use super::{DiskRoom, Node, NodeConfig, NodeEvent, NodeStart, Output, SnapshotJob};
use crate::entry::Payload;
use crate::founding::FoundingRecord;
use crate::kv::{Command as KvCommand, Kv, Query};
use crate::machine::Machine as _;
use crate::membership::{Member, Membership};
use crate::rng::Rng;
use crate::rpc::Token;
use crate::session::{Command, Limits, Ranges};
use crate::snapshot::SnapshotMeta;
use crate::store::{Batch, FormatOptions, MemoryDisk, OpenOptions, Store};
use crate::time::Instant;
use crate::types::{BootNonce, ClusterId, GroupId, Incarnation, Index, NodeId, Sequence, SessionId, StoreId};
use crate::wire::transfer::{Pull, encode_pull};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const STORE: StoreId = StoreId([1; 16]);

/// One voter, which leads as soon as its timer has run out.
struct Lone {
    now: Instant,
    node: Node<Kv>,
    store: Store<MemoryDisk>,
    /// Snapshot jobs that were asked for and not carried out.
    jobs: VecDeque<SnapshotJob<Kv>>,
    events: Vec<NodeEvent>,
    session: SessionId,
    sequence: u64,
}

fn options() -> OpenOptions {
    OpenOptions { segment_bytes: 64 * 1024, ..OpenOptions::default() }
}

impl Lone {
    /// Takes a snapshot each `mark` bytes of log, until the state is larger than that.
    fn with_mark(mark: u64) -> Self {
        let mut disk = MemoryDisk::new();
        let format = FormatOptions {
            store: STORE,
            first_incarnation: Incarnation(1),
            segment_bytes: options().segment_bytes,
        };
        Store::format(&mut disk, format).unwrap();
        let (mut store, _) = Store::open(disk, options()).unwrap();
        let member = Member { store: STORE, address: "127.0.0.1:7101".to_owned() };
        let membership = Membership::of_voters([(NodeId::MIN, member)].into());
        store.record_founding(&FoundingRecord { cluster: CLUSTER, membership }).unwrap();
        let mut lone = Self::boot(store.into_disk(), Instant::from_nanos(1));
        lone.node.propose_limits(lone.now, Limits { snapshot_bytes: 16 * mark, ..Limits::FOUNDING }).unwrap();
        let opened = lone.propose(&Command::Open);
        lone.session = SessionId(opened);
        lone
    }

    fn boot(disk: MemoryDisk, now: Instant) -> Self {
        let (mut store, recovered) = Store::open(disk, options()).unwrap();
        let mut machine = Kv::new();
        let file = recovered.snapshot.as_ref();
        let snapshot = file.map(|file| load(store.disk_mut(), file, &mut machine).unwrap());
        let start = NodeStart {
            store: STORE,
            incarnation: recovered.incarnation,
            boot_nonce: BootNonce([recovered.incarnation.0 as u8; 16]),
            cluster: CLUSTER,
            founding: recovered.founding,
            hard_state: recovered.hard_state,
            snapshot,
            entries: recovered.entries,
            remains: recovered.remains,
            damage: recovered.damage,
        };
        let config = NodeConfig::new(NodeId::MIN, "127.0.0.1:7101".to_owned());
        let node = Node::new(config, start, machine, &Logger::root(Discard, o!()), Rng::from_seed(5), now);
        let (jobs, events, session) = (VecDeque::new(), Vec::new(), SessionId(Index(0)));
        let mut lone = Self { now, node, store, jobs, events, session, sequence: 0 };
        while !lone.node.raft().is_settled_leader() {
            lone.now = lone.node.poll_timeout().unwrap().max(lone.now);
            lone.node.handle_timeout(lone.now);
            lone.turn();
        }
        lone
    }

    /// The process is killed and starts again; nothing of its memory is left.
    fn restarted(self) -> Self {
        let Self { now, store, session, sequence, .. } = self;
        Self { session, sequence, ..Self::boot(store.into_disk(), now) }
    }

    /// Everything but snapshot jobs.
    fn turn(&mut self) {
        self.node.turn(self.now);
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Transmit { .. } | Output::RecordPeer { .. } => {
                    unreachable!("a lone node has no peers")
                }
                Output::Persist { ticket, hard_state, truncate_from, entries } => {
                    self.store.persist(&Batch { hard_state, truncate_from, entries }).unwrap();
                    self.node.handle_persisted(self.now, ticket);
                }
                Output::Snapshot(job) => self.jobs.push_back(job),
                Output::AdoptSnapshot { meta, log } => {
                    let adopted = self.store.adopt_snapshot(meta, log).unwrap();
                    self.node.handle_snapshot_adopted(self.now, meta, adopted);
                }
                Output::Event(event) => self.events.push(event),
            }
            self.node.turn(self.now);
        }
    }

    /// Carries out the snapshot job that was asked for first.
    fn work(&mut self) {
        let job = self.jobs.pop_front().expect("a job waits");
        let done = job.carry_out(self.store.disk_mut()).unwrap();
        self.node.handle_snapshot_done(self.now, done);
        self.turn();
    }

    fn work_all(&mut self) {
        while !self.jobs.is_empty() {
            self.work();
        }
    }

    fn propose(&mut self, command: &Command<'_>) -> Index {
        let (index, _) =
            self.node.raft.propose(self.now, Payload::Command(command.to_bytes().into())).unwrap();
        self.turn();
        assert!(self.node.applied >= index);
        index
    }

    fn write(&mut self, key: &str, value: &[u8]) -> Index {
        self.sequence += 1;
        let finished = match self.sequence {
            1 => Ranges::default(),
            sequence => Ranges::from_pairs(&[(1, sequence - 1)]).unwrap(),
        };
        self.write_as(self.sequence, finished, key, value)
    }

    fn write_as(&mut self, sequence: u64, finished: Ranges, key: &str, value: &[u8]) -> Index {
        let command = KvCommand::Put { key: key.as_bytes(), value }.to_bytes();
        let (session, sequence) = (self.session, Sequence(sequence));
        self.propose(&Command::Write { session, sequence, finished, command: &command })
    }

    /// Writes about `bytes` of log.
    fn fill(&mut self, bytes: usize) {
        for n in 0..bytes / 1000 {
            self.write(&format!("k{}", n % 37), &[n as u8; 950]);
        }
    }

    fn state(&self) -> (u64, u64, Index) {
        (self.node.machine.state_hash(), self.node.sessions.state_hash(), self.node.applied)
    }

    fn segments(&self) -> usize {
        self.store.disk().file_names().filter(|name| name.starts_with("log-")).count()
    }

    fn taken(&self) -> Vec<SnapshotMeta> {
        let meta = |event: &NodeEvent| match event {
            NodeEvent::SnapshotTaken { meta } => Some(*meta),
            _ => None,
        };
        self.events.iter().filter_map(meta).collect()
    }
}

#[test]
fn a_node_takes_snapshots_drops_the_log_below_and_starts_from_both() {
    let mut lone = Lone::with_mark(50_000);
    for round in 0..12 {
        lone.fill(20_000);
        lone.work_all();
        if round % 3 == 2 {
            let before = lone.state();
            lone = lone.restarted();
            // A new leader's no-op is one entry more, and changes nothing.
            let after = lone.state();
            assert_eq!((after.0, after.1), (before.0, before.1));
            assert!(lone.node.snapshot().is_some());
        }
    }
    let logs = lone.segments();
    assert!(logs < 6, "{logs} segments; the whole log filled 15");
}

/// As much log as there is state leads to the next snapshot, between a sixteenth of the limit and all of it.
#[test]
fn marks_lie_as_far_apart_as_the_state_is_large() {
    let mut lone = Lone::with_mark(10_000);
    for (keys, [least, most]) in [(1, [9, 11]), (60, [55, 62]), (400, [155, 165])] {
        let mut taken = Vec::new();
        // The first round brings the state to its size.
        for n in 0..keys + 5 * most {
            lone.write(&format!("k{}", n % keys), &[0; 950]);
            if !lone.jobs.is_empty() {
                taken.push((n, lone.node.applied.0));
                lone.work_all();
            }
        }
        taken.retain(|(n, _)| *n > keys + most);
        let apart: Vec<u64> = taken.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
        assert!(
            apart.len() >= 2 && apart.iter().all(|apart| (least..=most).contains(apart)),
            "{keys}: {apart:?}"
        );
    }
}

/// They are written with it: a table full of them, and a snapshot each few entries, would cost more than the log.
#[test]
fn results_held_in_sessions_are_state_too() {
    let mut lone = Lone::with_mark(1_000);
    let mut write = |sequences: core::ops::RangeInclusive<u64>| {
        for sequence in sequences {
            lone.write_as(sequence, Ranges::default(), "k", &[0; 200]);
            lone.work_all();
        }
        (lone.taken().len(), lone.node.sessions.bytes(), lone.node.sessions.mark_bytes(Some(201)))
    };
    let (before, held, mark) = write(1..=60);
    assert!((10_000..16_000).contains(&held), "{held} bytes of results");
    assert_eq!(mark, held + 201);
    // Some 25 kB of log.
    let (after, ..) = write(61..=160);
    assert!((1..=3).contains(&(after - before)), "{before} and {after} snapshots");
}

/// The mark is counted through snapshots and restarts, so that two nodes of one log, slow and quick, restarted or not,
/// end with the same file.
#[test]
fn nodes_of_one_log_write_identical_files_whatever_their_pace() {
    let mut files = Vec::new();
    for pace in 0..3 {
        let mut lone = Lone::with_mark(30_000);
        for round in 0..100 {
            lone.write("k", &[round; 900]);
            if pace == 0 || round % 40 == 39 {
                lone.work_all();
            }
            if pace == 2 && round == 50 {
                // An operator's snapshot moves no mark.
                lone.node.take_snapshot();
                lone.turn();
            }
        }
        lone.work_all();
        let meta = lone.node.snapshot().unwrap();
        let file = crate::store::snapshot::file_of(meta.id.index);
        files.push((meta, lone.store.disk().content(&file).unwrap().to_vec()));
    }
    assert_eq!(files[0], files[1]);
    assert_eq!(files[0], files[2]);
}

#[test]
fn a_mark_that_passes_during_a_write_is_not_lost_s7() {
    let mut lone = Lone::with_mark(20_000);
    // The first write hangs while ten marks pass.
    lone.fill(230_000);
    assert!(lone.taken().is_empty());
    let before = lone.segments();
    lone.work_all();
    let taken = lone.taken();
    assert_eq!(taken.len(), 2, "the one that hung and the newest: {taken:?}");
    assert!(taken[0].id < taken[1].id);
    assert!(lone.segments() < before, "{} of {before} segments are left", lone.segments());
    let left = lone.node.raft.last_index().0 - taken[1].id.index.0;
    assert!(left < 30, "{left} entries are in no snapshot");
}

#[test]
fn two_snapshots_close_together_are_two_or_the_same_s5() {
    let mut lone = Lone::with_mark(1 << 30);
    let first = lone.write("a", b"1");
    assert_eq!(lone.node.take_snapshot(), first);
    assert_eq!(lone.node.take_snapshot(), first, "one is under way already");
    let second = lone.write("a", b"2");
    assert_eq!(lone.node.take_snapshot(), second);
    lone.turn();
    lone.work_all();
    assert_eq!(lone.taken().iter().map(|meta| meta.id.index).collect::<Vec<_>>(), [first, second]);
    assert_eq!(lone.node.take_snapshot(), second, "it is in force");
    lone.turn();
    assert!(lone.jobs.is_empty());
    let names: Vec<_> =
        lone.store.disk().file_names().filter(|name| name.contains("snapshot")).map(str::to_owned).collect();
    assert_eq!(names, [crate::store::snapshot::file_of(second)]);
    let restarted = lone.restarted();
    let answer = restarted.node.machine.query(&Query::Get { key: b"a" }.to_bytes());
    assert!(answer.ends_with(b"2"));
}

/// What is retried after the log was dropped is known from the table in the snapshot.
#[test]
fn a_retry_after_a_restart_from_a_snapshot_has_no_second_effect_s9() {
    let mut lone = Lone::with_mark(1 << 30);
    let wrote = lone.write_as(1, Ranges::default(), "k", b"first");
    lone.write_as(2, Ranges::default(), "k", b"second");
    lone.node.take_snapshot();
    lone.turn();
    lone.work_all();
    let mut lone = lone.restarted();
    assert!(lone.node.raft.base().index > wrote, "the entry itself is gone");
    let before = lone.node.machine.state_hash();
    lone.write_as(1, Ranges::default(), "k", b"first");
    assert_eq!(lone.node.machine.state_hash(), before, "the old write came through again");
    // And the limits are the log's, not this release's.
    assert_eq!(lone.node.sessions.limits().snapshot_bytes, 16 << 30);
}

#[test]
fn without_room_the_node_goes_on_and_the_next_mark_tries_again() {
    let mut lone = Lone::with_mark(20_000);
    lone.fill(15_000);
    while lone.store.maintain().unwrap() == crate::store::Upkeep::More {}
    let disk = lone.store.disk();
    let used: usize = disk.file_names().filter_map(|name| disk.content(name)).map(<[u8]>::len).sum();
    lone.store.disk_mut().set_capacity(Some(used as u64));
    lone.fill(8_000);
    lone.work_all();
    assert!(matches!(lone.events.last(), Some(NodeEvent::SnapshotNotWritten { .. })), "{:?}", lone.events);
    lone.store.disk_mut().set_capacity(None);
    lone.fill(20_000);
    lone.work_all();
    assert_eq!(lone.taken().len(), 1);
}

/// Whatever the mark says; and one that could not be written is tried again with the next segment.
#[test]
fn a_log_of_too_many_segments_has_a_snapshot_taken() {
    let mut lone = Lone::with_mark(1 << 30);
    lone.fill(10_000);
    lone.node.handle_disk_room(lone.now, DiskRoom::Crowded { segments: 3072 });
    lone.node.handle_disk_room(lone.now, DiskRoom::Crowded { segments: 3073 });
    lone.turn();
    assert_eq!(lone.jobs.len(), 1, "one is enough");
    lone.store.disk_mut().set_capacity(Some(0));
    lone.work_all();
    assert!(lone.taken().is_empty());
    lone.store.disk_mut().set_capacity(None);
    lone.node.handle_disk_room(lone.now, DiskRoom::Crowded { segments: 3073 });
    lone.turn();
    assert!(lone.jobs.is_empty(), "that was told");
    lone.node.handle_disk_room(lone.now, DiskRoom::Crowded { segments: 3074 });
    lone.turn();
    lone.work_all();
    assert_eq!(lone.taken().len(), 1);
}

fn pulls(meta: SnapshotMeta) -> Vec<u8> {
    let mut body = Vec::new();
    encode_pull(GroupId(0), &Pull { meta, offset: 0, length: 1 }, &mut body);
    body
}

/// However many ranges are asked for at once, a few are read; who gets none is told so and asks again.
#[test]
fn ranges_that_are_read_for_others_are_few_at_a_time() {
    let mut lone = Lone::with_mark(1 << 30);
    lone.write("a", b"1");
    lone.node.take_snapshot();
    lone.turn();
    lone.work_all();
    let body = pulls(lone.taken()[0]);
    for _ in 0..2 {
        for call in 0..2 * READS_MAX as u64 {
            let token = Token::stale(1000, call);
            lone.node.serve_pull(lone.now, token.link(), token, &body);
        }
        lone.turn();
        assert_eq!(lone.jobs.len(), READS_MAX);
        lone.work_all();
    }
}

/// A file that somebody is getting outlives its successor; how many do is bounded.
#[test]
fn replaced_snapshots_that_are_asked_for_all_the_time_are_kept_up_to_a_bound() {
    let mut lone = Lone::with_mark(1 << 30);
    for round in 0..3 * RETAINED_MAX {
        lone.write("a", &[round as u8]);
        lone.node.take_snapshot();
        lone.turn();
        lone.work_all();
        let (token, body) = (Token::stale(1000, 1), pulls(*lone.taken().last().unwrap()));
        lone.node.serve_pull(lone.now, token.link(), token, &body);
        lone.turn();
        lone.work_all();
        let files = lone.store.disk().file_names().filter(|name| name.contains("snapshot")).count();
        assert_eq!(files, 1 + RETAINED_MAX.min(round), "after {round} more");
    }
}
