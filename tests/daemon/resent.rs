//! Requests that are sent again and again, to any node, while leaders die: each has one effect (U1).
//!
//! `RAFTGRAM_RESENT` requests (2,000), each sent five times as calls of their own to nodes drawn at random; a seed is
//! printed. The leader is killed and started again ten times meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use raftgram::rng::Rng;
use raftgram::rpc::{Event, LinkId, Local, Output, Rpc, RpcConfig};
use raftgram::run::net::Net;
use raftgram::time::Instant;
use raftgram::types::BootNonce;
use raftgram::wire::Class;

use crate::cluster::{Cluster, Start, connect, read};
use crate::copies::Copies;
use crate::process::{PATIENCE, setting};

const COPIES: usize = 5;
/// Requests under way at once, each on a key of its own; fewer than a session's window.
const LANES: u64 = 32;
const KILLS: u64 = 10;
/// A copy without an answer for so long is given up; the request was not.
const COPY_PATIENCE: Duration = Duration::from_millis(300);

/// Sends every request to nodes drawn at random, without ever looking who leads.
struct Repeater {
    rng: Rng,
    net: Net,
    rpc: Rpc,
    nodes: Vec<(SocketAddr, LinkId)>,
    copies: Copies<Instant>,
}

impl Repeater {
    fn new(addresses: &[SocketAddr], mut rng: Rng) -> Self {
        let net = Net::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
        let now = net.now();
        let local = Local::client(BootNonce(rng.bytes16()));
        let mut rpc = Rpc::new(RpcConfig::default(), local, rng.fork(), now).unwrap();
        let nodes = addresses.iter().map(|address| (*address, rpc.connect(now, *address, None))).collect();
        Self { rng, net, rpc, nodes, copies: Copies::new(LANES) }
    }

    /// Makes copies of a lane's request; a node that takes no call now gets none.
    fn send(&mut self, lane: u64) {
        let body = self.copies.body(lane);
        let now = self.net.now();
        for _ in 0..COPIES {
            let (_, link) = self.nodes[self.rng.below(self.nodes.len() as u64) as usize];
            if let Ok(call) = self.rpc.call(now, link, Class::Once, body.clone()) {
                self.copies.sent(lane, (link, call), now + COPY_PATIENCE);
            }
        }
    }

    /// One turn of the loop.
    fn turn(&mut self) {
        let look_up = self.net.now() + Duration::from_millis(20);
        let wake = self.rpc.poll_timeout().map_or(look_up, |at| at.min(look_up));
        self.net.wait(Some(wake)).unwrap();
        let rpc = &mut self.rpc;
        self.net.receive(|now, from, bytes| rpc.handle_datagram(now, from, bytes));
        let now = self.net.now();
        self.rpc.handle_timeout(now);
        self.rpc.flush(now);
        while let Some(output) = self.rpc.poll_output() {
            match output {
                Output::Transmit { to, bytes } => self.net.queue(to, bytes),
                Output::Event(event) => self.on_event(now, event),
            }
        }
        for (link, call) in self.copies.late(now) {
            self.rpc.cancel(now, link, call);
            self.copies.end((link, call));
        }
        let rpc = &mut self.rpc;
        self.net.send(|to, error| rpc.handle_send_error(now, to, error));
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Reply { link, call, body } => self.copies.answered((link, call), &body),
            Event::CallFailed { link, call, .. } => self.copies.end((link, call)),
            Event::Closed { link, .. } => {
                let node = self.nodes.iter_mut().find(|(_, known)| *known == link);
                if let Some((address, known)) = node {
                    *known = self.rpc.connect(now, *address, None);
                }
            }
            _ => {}
        }
    }

    fn open_session(&mut self) {
        while !self.copies.has_session() {
            if self.copies.is_idle(0) {
                self.send(0);
            }
            self.turn();
        }
    }
}

#[test]
fn requests_sent_five_times_to_any_node_take_effect_once_u1() {
    let total = setting("RAFTGRAM_RESENT", 2_000);
    let seed = raftgram::run::random_rng().unwrap().next_u64();
    println!("seed {seed}");
    let mut cluster = Cluster::founded();
    let mut repeater = Repeater::new(cluster.addresses(), Rng::from_seed(seed));
    repeater.open_session();
    let began = repeater.net.now();
    let (mut done, mut kills, mut progress_at) = (0, 0, began);
    while done < total {
        for lane in 0..LANES {
            let (has_ended, is_next) = repeater.copies.go_on(lane, total);
            if has_ended {
                (done, progress_at) = (done + 1, repeater.net.now());
            }
            if is_next {
                repeater.send(lane);
            }
        }
        repeater.turn();
        assert!(repeater.net.now() < progress_at + PATIENCE, "no request ends any more: {done} of {total}");
        if done > (kills + 1) * total / (KILLS + 1) && kills < KILLS {
            let (leader, _) = cluster.leader();
            cluster.kill(leader);
            cluster.start(leader, Start::AsItIs);
            kills += 1;
        }
    }
    let took = repeater.net.now().saturating_since(began);
    let (answers, redirects) = (repeater.copies.answers, repeater.copies.redirects);
    println!(
        "{total} requests, {answers} answers, {redirects} of them redirected or refused, {kills} leaders killed, \
         {took:?}"
    );
    assert_eq!(kills, KILLS);
    let client = connect(cluster.addresses());
    for (key, value) in repeater.copies.ends(total) {
        assert_eq!(read(&client, &key, raftgram::ReadLevel::Linearizable), Some(value), "{key}");
    }
}
