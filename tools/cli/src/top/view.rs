//! Two looks at a cluster, and how quickly what they count rises.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::status::{Cluster, Row, Told};

/// The cluster at one moment.
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) cluster: Cluster,
}

/// What a screen shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct View {
    pub(super) leader: Option<u16>,
    pub(super) term: u64,
    pub(super) nodes: Vec<NodeView>,
    pub(super) links: Vec<LinkView>,
    pub(super) drops: Vec<DropView>,
    /// Entries committed a second, of the looks before this one, too.
    pub(super) commits_per_s: Vec<f64>,
}

/// One node; what a silent one would tell is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct NodeView {
    pub(super) id: Option<u16>,
    pub(super) addr: String,
    pub(super) is_reachable: bool,
    pub(super) role: String,
    pub(super) term: u64,
    pub(super) commit: u64,
    pub(super) commits_per_s: f64,
    pub(super) applied: u64,
    pub(super) applied_per_s: f64,
    /// Entries in its log that are not committed.
    pub(super) open: u64,
    pub(super) received_per_s: f64,
    pub(super) retransmits_per_s: f64,
    pub(super) duplicates_per_s: f64,
    pub(super) drops_per_s: f64,
}

/// What a node says of its link to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LinkView {
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) rtt_us: u64,
    pub(super) loss: f64,
    pub(super) retransmits: u64,
    pub(super) retransmits_per_s: f64,
}

/// What a node did not take, for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct DropView {
    pub(super) node: u16,
    pub(super) reason: String,
    pub(super) count: u64,
    pub(super) per_s: f64,
}

impl View {
    /// What lies between two looks; the commit rate goes onto the curve, which keeps so many.
    pub(super) fn between(before: &Look, now: &Look, curve: &mut Vec<f64>, curve_max: usize) -> Self {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let rate = |later: u64, earlier: Option<u64>| match earlier {
            // A node that was started again counts from 0.
            Some(earlier) if seconds > 0.0 => later.saturating_sub(earlier) as f64 / seconds,
            _ => 0.0,
        };
        let mut view = Self { leader: now.cluster.leader, ..Self::default() };
        for row in &now.cluster.nodes {
            let earlier = before.cluster.nodes.iter().find(|other| same(other, row));
            let earlier = earlier.and_then(|other| other.told.as_ref());
            let Some(told) = &row.told else {
                view.nodes.push(NodeView { id: row.id, addr: row.addr.clone(), ..NodeView::default() });
                continue;
            };
            view.term = view.term.max(told.term);
            view.nodes.push(node(row, told, earlier, &rate));
            view.add_links(row.id.unwrap_or_default(), told, earlier, &rate);
        }
        if seconds > 0.0 {
            curve.push(view.nodes.iter().map(|node| node.commits_per_s).fold(0.0, f64::max));
            let spare = curve.len().saturating_sub(curve_max);
            curve.drain(..spare);
        }
        view.commits_per_s.clone_from(curve);
        view
    }

    fn add_links(
        &mut self,
        id: u16,
        told: &Told,
        earlier: Option<&Told>,
        rate: &dyn Fn(u64, Option<u64>) -> f64,
    ) {
        for peer in &told.peers {
            let before = earlier.and_then(|earlier| earlier.peers.iter().find(|other| other.id == peer.id));
            self.links.push(LinkView {
                from: id,
                to: peer.id,
                rtt_us: peer.rtt_us,
                loss: f64::from(peer.loss_ppm) / 1e6,
                retransmits: peer.retransmits,
                retransmits_per_s: rate(peer.retransmits, before.map(|other| other.retransmits)),
            });
        }
        for (reason, &count) in told.drops.iter().filter(|(_, count)| **count > 0) {
            let before = earlier.map(|earlier| earlier.drops.get(reason).copied().unwrap_or(0));
            self.drops.push(DropView { node: id, reason: reason.clone(), count, per_s: rate(count, before) });
        }
    }
}

fn same(a: &Row, b: &Row) -> bool {
    if a.id.is_some() && b.id.is_some() { a.id == b.id } else { a.addr == b.addr }
}

fn node(row: &Row, told: &Told, earlier: Option<&Told>, rate: &dyn Fn(u64, Option<u64>) -> f64) -> NodeView {
    let per_s = |of: fn(&Told) -> u64| rate(of(told), earlier.map(of));
    NodeView {
        id: row.id,
        addr: row.addr.clone(),
        is_reachable: true,
        role: told.role.to_owned(),
        term: told.term,
        commit: told.commit,
        commits_per_s: per_s(|told| told.commit),
        applied: told.applied,
        applied_per_s: per_s(|told| told.applied),
        open: told.last.saturating_sub(told.commit),
        received_per_s: per_s(|told| told.received),
        retransmits_per_s: per_s(|told| told.retransmits),
        duplicates_per_s: per_s(|told| told.duplicates),
        drops_per_s: per_s(|told| told.drops.values().sum::<u64>()),
    }
}

/// Sums by reason over all nodes, for short screens.
pub(super) fn by_reason(drops: &[DropView]) -> BTreeMap<&str, (u64, f64)> {
    let mut sums: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
    for drop in drops {
        let sum = sums.entry(drop.reason.as_str()).or_default();
        *sum = (sum.0 + drop.count, sum.1 + drop.per_s);
    }
    sums
}
