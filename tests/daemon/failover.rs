//! Nodes that die and nodes that sleep, under write load.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raftgram::kv::Command;
use raftgram::{Client, ClientConfig, ReadLevel};
use rustix::process::Signal;

use crate::cluster::{Cluster, Start, connect, loopback, read};
use crate::load::Load;
use crate::process::{PATIENCE, eventually, setting};

const WRITERS: usize = 4;

#[test]
fn leaders_killed_under_load_lose_no_acknowledged_write_and_apply_none_twice() {
    let kills = setting("RAFTGRAM_KILLS", 20);
    let mut cluster = Cluster::stopped(loopback(), 3);
    let flags = std::env::var("RAFTGRAM_KILLS_FLAGS").unwrap_or_default();
    cluster.ids().for_each(|id| cluster.add_flags(id, flags.split_whitespace()));
    cluster.start_all(Start::Bootstrap);
    let load = Load::start(cluster.addresses(), WRITERS);
    let mut times = Vec::new();
    for _ in 0..kills {
        let (leader, term) = cluster.leader();
        load.wait_for_term(term);
        let killed = Instant::now();
        cluster.kill(leader);
        // An answer that the dead leader had sent is of its term; the first of a later one ends the outage.
        times.extend(load.first_beyond(term).checked_duration_since(killed));
        cluster.start(leader, Start::AsItIs);
        cluster.wait_until_caught_up(leader);
    }
    load.wait_for(100);
    let total = load.total();
    let written = load.stop();
    cluster.assert_holds(&written);
    assert!(total >= kills, "{total} writes are no load for {kills} kills");
    report(kills, total, &mut times);
}

#[test]
fn nodes_of_another_tempo_serve_and_replace_their_leader() {
    let mut cluster = Cluster::stopped(loopback(), 3);
    let flags =
        ["--election-timeout", "100ms..300ms", "--heartbeat", "5ms", "--spin", "1ms", "--spin-duty", "50%"];
    cluster.ids().for_each(|id| cluster.add_flags(id, flags));
    cluster.start_all(Start::Bootstrap);
    let (leader, term) = cluster.leader();
    let load = Load::start(cluster.addresses(), WRITERS);
    load.wait_for(100);
    cluster.kill(leader);
    load.first_beyond(term);
    cluster.start(leader, Start::AsItIs);
    cluster.wait_until_caught_up(leader);
    load.wait_for(100);
    let written = load.stop();
    cluster.assert_holds(&written);
    // A heartbeat that is too slow for the timeout is refused, not run with.
    cluster.stop(1);
    cluster.set_flags(1, ["--election-timeout", "100ms", "--heartbeat", "80ms"].map(str::to_owned).into());
    cluster.start(1, Start::AsItIs);
    let status = cluster.process(1).wait();
    assert!(!status.success() && cluster.log(1).contains("heartbeat interval"), "{}", cluster.log(1));
    cluster.kill(1);
}

fn report(kills: u64, writes: u64, times: &mut [Duration]) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_millis();
    // To the terminal, past what the test harness keeps to itself.
    let _ = writeln!(
        std::io::stderr(),
        "{kills} leaders killed under {writes} writes; from the kill to the first write acknowledged after it, ms: \
         min {} median {} p99 {} max {}",
        at(0.0),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[test]
fn a_restart_of_all_nodes_keeps_all_data() {
    let mut cluster = Cluster::founded();
    let load = Load::start(cluster.addresses(), WRITERS);
    load.wait_for(200);
    let mut written = load.stop();
    let boots = cluster.statuses();
    // Once as a power switch does it, once as an operator does.
    cluster.ids().for_each(|id| cluster.kill(id));
    cluster.start_all(Start::AsItIs);
    cluster.assert_holds(&written);
    let client = connect(cluster.addresses());
    let put = Command::Put { key: b"between", value: b"restarts" };
    client.propose(put.to_bytes(), PATIENCE).wait(PATIENCE).unwrap().unwrap();
    written.insert("between".into(), "restarts".into());
    cluster.stop_all();
    cluster.start_all(Start::AsItIs);
    cluster.assert_holds(&written);
    for (id, status) in cluster.statuses() {
        let before = boots[&id].incarnation;
        assert_eq!(status.incarnation.0, before.0 + 2, "boots of node {id}, counted through two restarts");
    }
}

/// How often the leader is put to sleep, and for how long each time.
const PAUSES: usize = 3;
const PAUSE: Duration = Duration::from_secs(2);

// R3
#[test]
fn a_leader_that_slept_never_answers_with_what_it_knew_before() {
    let mut cluster = Cluster::founded();
    let addresses = cluster.addresses().to_vec();
    let load = Load::start(&addresses, 1);
    let (mut reads, mut slept_reads) = (0, 0);
    for _ in 0..PAUSES {
        load.wait_for(20);
        let (leader, term) = cluster.leader();
        cluster.process(leader).signal(Signal::STOP);
        let asleep = Instant::now();
        let reader = Reader::start(cluster.address(leader), &load);
        load.first_beyond(term);
        load.wait_for(20);
        // The length of the scenario, not a wait for anything.
        std::thread::sleep(PAUSE.saturating_sub(asleep.elapsed()));
        let asked_asleep = reader.asked();
        cluster.process(leader).signal(Signal::CONT);
        cluster.wait_until_caught_up(leader);
        reads += reader.finish();
        slept_reads += asked_asleep;
    }
    assert!(slept_reads >= PAUSES as u64, "{slept_reads} reads waited for the sleeper");
    assert!(reads > slept_reads, "{reads} reads, {slept_reads} of them asked while it slept");
    cluster.assert_holds(&load.stop());
}

/// Threads that ask one node for linearizable reads of the first writer's key. Each checks that no read is older
/// than what was acknowledged before it began, nor than the read before it.
struct Reader {
    asked: Arc<AtomicU64>,
    is_stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Reader {
    fn start(node: SocketAddr, load: &Load) -> Self {
        let (asked, is_stopping) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = |place: u64| {
            let (asked, is_stopping) = (Arc::clone(&asked), Arc::clone(&is_stopping));
            let acknowledged = load.watch(0);
            std::thread::spawn(move || {
                // They begin at different moments of the sleep, so that some know of later writes.
                let started = acknowledged() + place * 4;
                eventually("writes go on while the leader sleeps", || {
                    (acknowledged() >= started || is_stopping.load(Ordering::SeqCst)).then_some(())
                });
                // One long attempt: what is asked stays asked until the sleeper wakes.
                let config = ClientConfig { attempt_timeout: PATIENCE, ..ClientConfig::default() };
                let client = Client::connect(&[node], config).unwrap();
                let (mut newest, mut count) = (0, 0);
                while !is_stopping.load(Ordering::SeqCst) || count == 0 {
                    let least = acknowledged().max(newest);
                    asked.fetch_add(1, Ordering::SeqCst);
                    let value =
                        read(&client, &Load::key(0), ReadLevel::Linearizable).expect("it was written");
                    newest = value.parse().unwrap();
                    assert!(newest >= least, "read {newest} when {least} had been acknowledged or read");
                    count += 1;
                }
                count
            })
        };
        let threads = (0..8).map(thread).collect();
        Self { asked, is_stopping, threads }
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Ends the reading: how many reads there were.
    fn finish(self) -> u64 {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().expect("a read was stale")).sum()
    }
}
