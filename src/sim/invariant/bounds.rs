//! Invariants 23 and 24: what a node holds, and how often it repeats itself.
//!
//! Both are looked at once in so many events of a node: what grows without a bound is still there the next time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::violation::{Broken, hold};
use crate::machine::Machine;
use crate::node::{Node, NodeConfig, PEER_TOKENS_MAX};
use crate::rpc::{LinkId, LinkStats};
use crate::time::Instant;
use crate::types::NodeId;

/// A node is looked at once in so many of its events.
const SAMPLE: u32 = 32;

/// Probe timeouts in a row until the back-off has reached its longest wait, with room to spare.
const PROBES_FREE: u64 = 24;

/// Longest waits are a heartbeat, three quarters of it with jitter, half of that on a fast clock.
const PROBES_PER_HEARTBEAT: u64 = 4;

/// Events at one instant that a sound node may cause; more is a timer that does not move.
const EVENTS_AT_ONCE_MAX: u32 = 20_000;

/// Datagrams that a node may send per datagram that it got, beyond those of its timers.
const SENT_PER_RECEIVED: u64 = 64;

/// The bounds of a run, from the settings of its nodes.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    config: NodeConfig,
    nodes: BTreeMap<NodeId, Watch>,
}

#[derive(Clone, Debug, Default)]
struct Watch {
    events: u32,
    at: Instant,
    events_at_once: u32,
    links: BTreeMap<LinkId, Probing>,
    since: Option<Traffic>,
}

/// A link's probes since its peer was heard.
#[derive(Clone, Copy, Debug)]
struct Probing {
    heard: Instant,
    probes: u64,
    since: Instant,
}

/// Counters at the beginning of a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    pub(super) at: Instant,
    pub(super) received: u64,
    pub(super) transmitted: u64,
    pub(super) retransmits: u64,
    /// What the owner asked to be sent is bounded by what it was asked.
    pub(super) proposals: u64,
}

impl Bounds {
    pub(super) fn new(config: NodeConfig) -> Self {
        Self { config, nodes: BTreeMap::new() }
    }

    pub(super) fn booted(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    pub(super) fn turned<M: Machine>(
        &mut self,
        now: Instant,
        id: NodeId,
        node: &Node<M>,
    ) -> Result<(), Broken> {
        let watch = self.nodes.entry(id).or_default();
        if watch.at == now {
            watch.events_at_once += 1;
        } else {
            (watch.at, watch.events_at_once) = (now, 0);
        }
        let at_once = watch.events_at_once;
        hold!(at_once < EVENTS_AT_ONCE_MAX, RetransmissionBudget, "{at_once} events at one instant");
        watch.events += 1;
        if !watch.events.is_multiple_of(SAMPLE) {
            return Ok(());
        }
        self.check_links(now, id, node)?;
        self.check_memory(node)
    }

    fn check_links<M: Machine>(&mut self, now: Instant, id: NodeId, node: &Node<M>) -> Result<(), Broken> {
        let heartbeat = self.config.timing.heartbeat_interval;
        let watch = self.nodes.entry(id).or_default();
        for link in node.rpc().links() {
            let Some(stats) = node.rpc().link_stats(link) else { continue };
            check_link(&stats, &self.config)?;
            let fresh = Probing { heard: stats.heard, probes: stats.probes, since: now };
            let known = watch.links.entry(link).or_insert(fresh);
            if known.heard != stats.heard {
                *known = fresh;
                continue;
            }
            check_probes(stats.probes - known.probes, now.saturating_since(known.since), heartbeat)?;
        }
        let stats = node.rpc().stats();
        let traffic = Traffic {
            at: now,
            received: stats.received,
            transmitted: stats.transmitted,
            retransmits: stats.retransmits,
            proposals: node.raft().last_index().0,
        };
        match watch.since {
            Some(since) if now.saturating_since(since.at) < Duration::from_secs(1) => Ok(()),
            before => {
                watch.since = Some(traffic);
                before.map_or(Ok(()), |before| check_traffic(before, traffic, &self.config))
            }
        }
    }

    /// 23.
    fn check_memory<M: Machine>(&self, node: &Node<M>) -> Result<(), Broken> {
        let (load, rpc, raft) = (node.load(), node.rpc().load(), node.raft());
        let (config, limits) = (&self.config, node.sessions().limits());
        let own = raft.config();
        let bounded = [
            ("writes that wait", load.writes, config.waiting_max),
            ("reads that wait", load.reads, config.waiting_max),
            ("requests of peers", load.peer_tokens, PEER_TOKENS_MAX),
            ("links to nodes", rpc.links, config.rpc.links_max),
            ("links to clients", rpc.clients, config.rpc.clients_max),
            ("handshakes", rpc.greetings, config.rpc.links_max + config.rpc.clients_max),
            ("bytes being put together", rpc.arriving_bytes, config.rpc.reassembly_bytes_max),
            ("bytes out of order", raft.reordered().1, own.reorder_bytes_max),
            ("sessions", node.sessions().len(), as_usize(limits.sessions_max)),
        ];
        for (what, count, max) in bounded {
            hold!(count <= max, BoundedMemory, "{count} {what}, at most {max}");
        }
        for peer in raft.peers() {
            let (count, max) = (peer.inflight_count, own.inflight_appends_max);
            hold!(
                count <= max,
                BoundedMemory,
                "{count} appends to {} in flight, at most {max}",
                peer.identity
            );
            // An idle window is empty (L12).
            let is_idle = peer.match_index == raft.last_index();
            hold!(
                !is_idle || peer.inflight_bytes == 0,
                BoundedMemory,
                "{} bytes to {} in flight, which has everything",
                peer.inflight_bytes,
                peer.identity
            );
        }
        Ok(())
    }
}

/// 23, of one link.
pub(super) fn check_link(stats: &LinkStats, config: &NodeConfig) -> Result<(), Broken> {
    let rpc = &config.rpc;
    // Probes go out beyond the window, one datagram each.
    let in_flight_max = rpc.window_bytes_max + 64 * rpc.datagram_bytes_max;
    let bounded = [
        ("bytes in flight", stats.in_flight_bytes, in_flight_max),
        ("bytes of window", stats.window_bytes, rpc.window_bytes_max),
        ("calls open", stats.calls_open, rpc.calls_open_max),
        ("calls served", stats.calls_served, rpc.calls_served_max),
    ];
    for (what, count, max) in bounded {
        hold!(count <= max, BoundedMemory, "{count} {what}, at most {max}");
    }
    Ok(())
}

/// 24: while nothing comes back, timeouts back off to one a heartbeat.
pub(super) fn check_probes(probes: u64, silence: Duration, heartbeat: Duration) -> Result<(), Broken> {
    let beats = (silence.as_nanos() / heartbeat.as_nanos().max(1)) as u64;
    let max = PROBES_FREE + PROBES_PER_HEARTBEAT * beats;
    hold!(
        probes <= max,
        RetransmissionBudget,
        "{probes} probe timeouts in {silence:?} of silence, at most {max}"
    );
    Ok(())
}

/// 24: what a node sends in a span follows from what it got, from its timers, and from the windows it may fill.
pub(super) fn check_traffic(before: Traffic, after: Traffic, config: &NodeConfig) -> Result<(), Broken> {
    let span = after.at.saturating_since(before.at);
    let beats = (span.as_nanos() / config.timing.heartbeat_interval.as_nanos().max(1)) as u64 + 1;
    let window = (config.rpc.window_bytes_max / config.rpc.datagram_bytes_max.max(1)) as u64 + 1;
    let received = after.received - before.received;
    let proposals = after.proposals.saturating_sub(before.proposals);
    let max = 1000 + SENT_PER_RECEIVED * received + 32 * beats + 16 * window + 64 * proposals;
    let sent = after.transmitted - before.transmitted;
    let repeated = after.retransmits - before.retransmits;
    hold!(
        sent <= max,
        RetransmissionBudget,
        "{sent} datagrams with {repeated} repeated parts sent in {span:?} for {received} received, at most {max}"
    );
    Ok(())
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
