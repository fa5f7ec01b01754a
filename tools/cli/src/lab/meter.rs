//! What a run comes to: operations as they end, and who leads, by the second and in sum. The same on every ground.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::plan::Task;
use super::run_folder::{Event, EventKind, NodeCounts, Point, Second, pairs};
use crate::bench::report::{Latency, histogram};

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Ok,
    /// Certainly without effect.
    Failed,
    Unknown,
}

/// All that one repeat of one point came to.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) point: Point,
    pub(crate) seconds: Vec<Second>,
    pub(crate) events: Vec<Event>,
    pub(crate) nodes: Vec<NodeCounts>,
}

/// What a ground knows beside what clients saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grounds {
    pub(crate) commits: u64,
    pub(crate) datagrams: Option<u64>,
    pub(crate) datagram_bytes: Option<u64>,
    pub(crate) trace_hash: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) nodes: Vec<NodeCounts>,
}

/// One second.
#[derive(Debug)]
struct Bucket {
    latencies: Histogram<u64>,
    errors: u64,
    unknown: u64,
}

/// Counts. Times are µs from the begin of the measured span.
#[derive(Debug)]
pub(crate) struct Meter {
    duration_us: i64,
    seconds: BTreeMap<i64, Bucket>,
    all: Bucket,
    /// When an operation was answered last, from the begin of the span on.
    answered_us: i64,
    longest_gap_us: u64,
    /// Who leads in which term, as far as anybody led.
    leads: Option<(u16, u64)>,
    /// Another node leads since an operation was answered, and when that was.
    fails_over_since: Option<i64>,
    failovers_us: Vec<u64>,
    leader_changes: u64,
    elections: u64,
    term: u64,
    events: Vec<Event>,
    point: u32,
    repeat: u32,
}

impl Bucket {
    fn new() -> Self {
        Self { latencies: histogram(), errors: 0, unknown: 0 }
    }

    fn add(&mut self, ended: Ended, latency: Duration) {
        match ended {
            Ended::Ok => {
                self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX))
            }
            Ended::Failed => self.errors += 1,
            Ended::Unknown => self.unknown += 1,
        }
    }
}

impl Meter {
    pub(crate) fn new(task: &Task) -> Self {
        Self {
            duration_us: i64::try_from(task.scenario.duration.0.as_micros()).unwrap_or(i64::MAX),
            seconds: BTreeMap::new(),
            all: Bucket::new(),
            answered_us: 0,
            longest_gap_us: 0,
            leads: None,
            fails_over_since: None,
            failovers_us: Vec::new(),
            leader_changes: 0,
            elections: 0,
            term: 0,
            events: Vec::new(),
            point: task.point,
            repeat: task.repeat,
        }
    }

    /// An operation ended.
    pub(crate) fn ended(&mut self, at_us: i64, latency: Duration, ended: Ended) {
        self.seconds.entry(at_us.div_euclid(1_000_000)).or_insert_with(Bucket::new).add(ended, latency);
        if !(0..self.duration_us).contains(&at_us) {
            return;
        }
        self.all.add(ended, latency);
        if ended == Ended::Ok {
            self.answer(at_us);
            if let Some(since) = self.fails_over_since.take() {
                self.failovers_us.push((at_us - since).unsigned_abs());
            }
        }
    }

    fn answer(&mut self, at_us: i64) {
        self.longest_gap_us = self.longest_gap_us.max((at_us - self.answered_us).unsigned_abs());
        self.answered_us = at_us;
    }

    /// A node leads and can commit.
    pub(crate) fn leads(&mut self, at_us: i64, node: u16, term: u64) {
        if self.leads == Some((node, term)) || self.leads.is_some_and(|(_, led)| led > term) {
            return;
        }
        let is_change = self.leads.is_some_and(|(leader, _)| leader != node);
        self.leads = Some((node, term));
        self.event(
            at_us,
            EventKind::Leader,
            Some(node),
            Some(term),
            format!("node {node} leads in term {term}"),
        );
        if is_change && (0..self.duration_us).contains(&at_us) {
            self.leader_changes += 1;
            self.fails_over_since.get_or_insert(self.answered_us);
        }
    }

    /// The highest term that any node has seen.
    pub(crate) fn sees_term(&mut self, at_us: i64, node: u16, term: u64) {
        if term <= self.term {
            return;
        }
        if (0..self.duration_us).contains(&at_us) {
            self.elections += term - self.term;
        }
        self.term = term;
        self.event(
            at_us,
            EventKind::Election,
            Some(node),
            Some(term),
            format!("term {term} begins at node {node}"),
        );
    }

    /// Something happened.
    pub(crate) fn event(
        &mut self,
        at_us: i64,
        kind: EventKind,
        node: Option<u16>,
        term: Option<u64>,
        text: String,
    ) {
        self.events.push(Event { point: self.point, repeat: self.repeat, at_us, kind, node, term, text });
    }

    /// Who leads, as far as anybody did.
    pub(crate) fn leader(&self) -> Option<u16> {
        self.leads.map(|(node, _)| node)
    }

    /// The sum of it all.
    pub(crate) fn finish(mut self, task: &Task, system: &str, grounds: Grounds) -> Measured {
        self.answer(self.duration_us);
        let measured_us = self.duration_us.unsigned_abs();
        let Bucket { latencies, errors, unknown } = &self.all;
        let ops = latencies.len();
        let sum = |count: fn(&NodeCounts) -> u64| {
            Some(grounds.nodes.iter().map(count).sum()).filter(|_| !grounds.nodes.is_empty())
        };
        let point = Point {
            point: task.point,
            repeat: task.repeat,
            system: system.to_owned(),
            x: task.x,
            label: task.label.clone(),
            seed: task.seed,
            measured_us,
            ops,
            errors: *errors,
            unknown: *unknown,
            ops_per_s: ops as f64 * 1e6 / measured_us as f64,
            latency_us: Latency::of_any(latencies),
            histogram_ns: pairs(latencies),
            commits: grounds.commits,
            datagrams: grounds.datagrams,
            datagram_bytes: grounds.datagram_bytes,
            retransmits: sum(|node| node.retransmits),
            duplicates: sum(|node| node.duplicates),
            elections: self.elections,
            leader_changes: self.leader_changes,
            failovers_us: self.failovers_us,
            longest_gap_us: self.longest_gap_us,
            trace_hash: grounds.trace_hash,
            trace: grounds.trace,
        };
        let first = self.seconds.keys().next().copied().unwrap_or(0).min(0);
        let last = (self.duration_us + 999_999) / 1_000_000;
        let seconds = (first..last).map(|second| {
            let bucket = self.seconds.get(&second);
            let latencies = bucket
                .map(|bucket| &bucket.latencies)
                .and_then(|it| Latency::of_any(it).map(|l| (it.len(), l)));
            Second {
                point: task.point,
                repeat: task.repeat,
                second,
                ops: latencies.map_or(0, |(count, _)| count),
                errors: bucket.map_or(0, |bucket| bucket.errors),
                unknown: bucket.map_or(0, |bucket| bucket.unknown),
                latency_us: latencies.map(|(_, it)| [it.p50, it.p90, it.p99, it.max]),
            }
        });
        Measured { point, seconds: seconds.collect(), events: self.events, nodes: grounds.nodes }
    }
}
