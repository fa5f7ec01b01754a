//! The documents that the dashboard draws.

use std::collections::BTreeMap;

use raftgram::histogram::Histogram;
use raftgram::raft::ProgressKind;
use raftgram::run::figures::{FollowerFigures, LinkFigures, NodeFigures};
use raftgram::run::sights::{Seen, View};
use raftgram::wire::Party;
use serde::Serialize;

use crate::status::Row;

/// A node at one moment: its row of `raftgram status --json`, and what only itself knows.
#[derive(Debug, Serialize)]
pub(super) struct Picture {
    node: Row,
    uptime_ms: u64,
    sent: u64,
    send_errors: u64,
    kernel_drops: Option<u64>,
    clients: usize,
    waiting_writes: usize,
    waiting_reads: usize,
    commits: Spread,
    syncs: Spread,
    members: BTreeMap<u16, String>,
    links: Vec<Link>,
    followers: Vec<Follower>,
}

/// A histogram: how many took at most so long, for each bound.
#[derive(Debug, Serialize)]
struct Spread {
    count: u64,
    sum_us: u64,
    /// Pairs of a bound in µs and a count.
    at_most: Vec<(u64, u64)>,
}

#[derive(Debug, Serialize)]
struct Link {
    id: u16,
    rtt_us: Option<u64>,
    loss_ppm: u32,
    retransmits: u64,
    silent_ms: u64,
}

#[derive(Debug, Serialize)]
struct Follower {
    id: u16,
    progress: &'static str,
    match_index: u64,
    inflight: usize,
}

impl Picture {
    pub(super) fn of(figures: &NodeFigures, kernel_drops: Option<u64>) -> Self {
        let status = &figures.status;
        let members = status.membership.iter().flat_map(|membership| membership.iter());
        Self {
            node: Row::of(status.address.clone(), status),
            uptime_ms: millis(figures.uptime),
            sent: figures.rpc.transmitted,
            send_errors: figures.rpc.send_errors,
            kernel_drops,
            clients: figures.rpc_load.clients,
            waiting_writes: figures.load.writes,
            waiting_reads: figures.load.reads,
            commits: Spread::of(&figures.commits),
            syncs: Spread::of(&figures.syncs),
            members: members.map(|(id, member)| (id.as_u16(), member.address.clone())).collect(),
            links: figures.links.iter().map(Link::of).collect(),
            followers: figures.followers.iter().map(Follower::of).collect(),
        }
    }
}

impl Spread {
    fn of(histogram: &Histogram) -> Self {
        let sum_us = u64::try_from(histogram.sum().as_micros()).unwrap_or(u64::MAX);
        Self { count: histogram.count(), sum_us, at_most: histogram.cumulative().collect() }
    }
}

impl Link {
    fn of(link: &LinkFigures) -> Self {
        Self {
            id: link.node.as_u16(),
            rtt_us: link.stats.srtt.map(|srtt| u64::try_from(srtt.as_micros()).unwrap_or(u64::MAX)),
            loss_ppm: (link.stats.loss * 1e6) as u32,
            retransmits: link.stats.retransmits,
            silent_ms: millis(link.silent_for),
        }
    }
}

impl Follower {
    fn of(follower: &FollowerFigures) -> Self {
        Self {
            id: follower.node.as_u16(),
            progress: progress_name(follower.progress),
            match_index: follower.match_index.0,
            inflight: follower.inflight_count,
        }
    }
}

/// The name of a leader's way to send to a follower.
pub(super) fn progress_name(progress: ProgressKind) -> &'static str {
    match progress {
        ProgressKind::Probe => "probe",
        ProgressKind::Replicate => "replicate",
        ProgressKind::Snapshot => "snapshot",
    }
}

/// The datagrams of a moment.
#[derive(Debug, Serialize)]
pub(super) struct Strip {
    now_us: u64,
    left_out: u64,
    datagrams: Vec<Datagram>,
}

#[derive(Debug, Serialize)]
struct Datagram {
    serial: u64,
    at_us: u64,
    outgoing: bool,
    /// The other end: a node's number, or null for a client and for who cannot be told.
    node: Option<u16>,
    address: String,
    bytes: usize,
    kind: String,
    resent: bool,
    /// Why it was dropped here.
    dropped: Option<&'static str>,
}

impl Strip {
    pub(super) fn of(view: &View) -> Self {
        Self {
            now_us: view.now.as_nanos() / 1000,
            left_out: view.left_out,
            datagrams: view.seen.iter().map(Datagram::of).collect(),
        }
    }
}

impl Datagram {
    fn of(seen: &Seen) -> Self {
        let node = match seen.party {
            Some(Party::Node(node)) => Some(node.as_u16()),
            _ => None,
        };
        Self {
            serial: seen.serial,
            at_us: seen.at.as_nanos() / 1000,
            outgoing: seen.is_outgoing,
            node,
            address: seen.address.to_string(),
            bytes: seen.bytes,
            kind: seen.kind.to_string(),
            resent: seen.is_retransmission,
            dropped: seen.dropped.map(|reason| reason.name()),
        }
    }
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
