//! Three nodes behind a kernel that drops a share of all that comes to any of them and to their clients: at 30 % the
//! leader stays, at 50 % writes are still committed, and what 65 % does to a cluster heals.

use std::time::{Duration, Instant};

use super::can_run;
use super::history::Clients;
use super::net::{Net, PORT};
use super::site::Site;
use crate::cluster::alone;
use crate::process::{eventually, setting};

/// Who leads in which term, and how much is committed.
#[derive(Clone, Copy, Debug)]
struct Seen {
    leader: u64,
    term: u64,
    commit: u64,
}

/// Asks until somebody who leads answers: questions get lost, too.
fn look(site: &Site) -> Seen {
    eventually("a leader tells of itself", || {
        let (_, status) = site.ask(&["--timeout", "2s", "status"]);
        let leader = status["leader"].as_u64()?;
        let node = status["nodes"].as_array()?.iter().find(|node| node["role"] == "leader")?;
        Some(Seen { leader, term: node["term"].as_u64()?, commit: node["commit"].as_u64()? })
    })
}

fn lose(net: &Net, site: &Site, percent: u64) {
    let dropped = format!("numgen random mod 100 < {percent} drop");
    site.ids().for_each(|id| net.rule(id, &format!("udp dport {PORT} {dropped}")));
    net.rule(0, &format!("udp sport {PORT} {dropped}"));
}

#[test]
fn a_third_lost_changes_no_leader_half_lost_still_commits_and_two_thirds_heal() {
    if !can_run("loss by nft", &["ip", "nft"]) {
        return;
    }
    let span = Duration::from_secs(setting("RAFTGRAM_LOSS_SECONDS", 1));
    let _alone = alone();
    let net = Net::new(3);
    let mut site = Site::new(&net.addresses(), |id| net.within(id));
    site.outside = net.within(0);
    site.ids().for_each(|id| site.start(id, &["--bootstrap"], &[]));
    site.wait_until_whole();
    let hub = net.within(0);
    let within: Vec<&str> = hub.iter().map(String::as_str).collect();
    let clients = Clients::start(&within, &site.names(), site.dir.path());
    let before = look(&site);
    eventually("clients are at work", || (look(&site).commit > before.commit + 50).then_some(()));

    for (percent, part) in [(30, 1), (50, 5), (65, 5)] {
        let (before, began) = (look(&site), Instant::now());
        lose(&net, &site, percent);
        // How long it is lost is the scenario.
        std::thread::sleep(span / part);
        if percent < 65 {
            eventually("writes are committed", || (look(&site).commit > before.commit + 10).then_some(()));
        } else {
            (0..=site.ids().count()).for_each(|id| net.heal(id));
            site.wait_until_whole();
        }
        let (after, took) = (look(&site), began.elapsed().as_secs_f64());
        let rate = (after.commit - before.commit) as f64 / took;
        eprintln!("{percent} % lost, {took:.1} s: {rate:.0} commits/s, {before:?} then {after:?}");
        if percent == 30 {
            assert_eq!((after.leader, after.term), (before.leader, before.term), "another leads");
        }
    }
    let written = clients.written_bytes();
    eventually("clients get on", || (clients.written_bytes() > written).then_some(()));
    clients.judge();
}
