//! A node of one, so that what it acknowledged is nowhere else: killed when it enters its n-th write, sync, rename or
//! removal, for every n from the start of the process over elections, writes and snapshots. Whatever clients were told
//! is there again, in an order that explains all they saw.

use std::time::{Duration, Instant};

use super::can_run;
use super::history::Clients;
use super::site::{Site, was_killed};
use crate::cluster::{alone, free_addresses, loopback};
use crate::load::Load;
use crate::process::{PATIENCE, setting};

/// The calls of the write path, and as many of them as a start, some writes and two snapshots make.
const CALLS: [(&str, u64); 6] =
    [("fdatasync", 22), ("fsync", 5), ("rename", 2), ("unlink", 2), ("pwrite64", 300), ("openat", 24)];

/// Of the writes in a row that fill a segment with zeros, one in so many.
const FILL_STRIDE: u64 = 32;

/// How long a node may take to reach its n-th call. Then it never will, and is killed as it stands.
const REACH: Duration = Duration::from_secs(4);

#[test]
fn a_node_killed_at_any_call_of_its_write_path_loses_nothing_it_acknowledged() {
    if !can_run("kills at the n-th call", &["strace"]) {
        return;
    }
    let rounds = setting("RAFTGRAM_FAULT_ROUNDS", 0);
    let _alone = alone();
    let addresses = free_addresses(loopback(), 1);
    let mut site = Site::new(&addresses, |_| Vec::new());
    site.start(1, &["--bootstrap"], &[]);
    site.wait_until_whole();
    let clients = Clients::start(&[], &site.names(), site.dir.path());
    let load = Load::start(&addresses, 2);
    load.wait_for(20);
    site.kill(1);
    let (mut kills, mut out_of_reach) = (0, Vec::new());
    for (call, n) in plan(rounds) {
        let inject = format!("inject={call}:signal=KILL:when={n}");
        let trace = format!("trace={call}");
        site.start(1, &[], &["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
        if is_reached(&mut site, call) {
            kills += 1;
        } else {
            out_of_reach.push((call, n));
            site.kill(1);
        }
    }
    site.start(1, &[], &[]);
    site.wait_until_whole();
    load.wait_for(20);
    clients.judge();
    let written = load.stop();
    let client = crate::cluster::connect(&addresses);
    for (key, value) in &written {
        let found = crate::cluster::read(&client, key, raftgram::ReadLevel::Linearizable);
        assert_eq!(found.as_ref(), Some(value), "{key}");
    }
    eprintln!("{kills} kills at the n-th call of the write path; never reached: {out_of_reach:?}");
    assert!(out_of_reach.len() * 10 <= kills, "{kills} kills only, not reached: {out_of_reach:?}");
}

/// Every n of every call so many times; a few of each where that is no time at all.
fn plan(rounds: u64) -> Vec<(&'static str, u64)> {
    let every = CALLS.iter().flat_map(|&(call, most)| (1..=most).map(move |n| (call, n)));
    if rounds == 0 {
        return [("fdatasync", 1), ("fdatasync", 4), ("fsync", 2), ("rename", 1), ("pwrite64", 2)].to_vec();
    }
    let is_told = |&(call, n): &(&str, u64)| {
        let is_filling = call == "pwrite64" && (12..260).contains(&n);
        rounds > 1 || !is_filling || n % FILL_STRIDE == 0
    };
    let once: Vec<_> = every.filter(is_told).collect();
    (0..rounds).flat_map(|_| once.clone()).collect()
}

/// Waits for the call, and sees to it that it comes.
fn is_reached(site: &mut Site, call: &str) -> bool {
    let began = Instant::now();
    let (deadline, mut asked_at) = (began + REACH, began);
    while Instant::now() < deadline {
        if let Some(status) = site.ended(1) {
            assert!(
                was_killed(status),
                "the node ended with {status} and was not killed; its log:\n{}",
                site.log(1)
            );
            site.kill(1);
            return true;
        }
        // Names change when snapshots are taken, and otherwise hardly ever.
        let is_rare = matches!(call, "rename" | "unlink" | "fsync" | "openat");
        if is_rare && asked_at.elapsed() > Duration::from_millis(700) {
            asked_at = Instant::now();
            site.ask(&["--timeout", "500ms", "snapshot", "take"]);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(began.elapsed() < PATIENCE);
    false
}
