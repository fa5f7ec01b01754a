//! `/metrics`: the figures in Prometheus' text format. docs/metrics.md lists them; a test holds the two together.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use raftgram::histogram::Histogram;
use raftgram::raft::ProgressKind;
use raftgram::run::figures::NodeFigures;
use raftgram::types::NodeId;
use raftgram::wire::DropReason;
use raftgram::wire::status::{NodeRole, NodeStatus};

use super::picture::progress_name;

/// A name that is printed, with what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "gauge", help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "counter", help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "histogram", help }
}

/// All of them, in the order in which they are printed.
const FAMILIES: [Family; 49] = [
    gauge("raftgram_build_info", "1, with the version of the program."),
    gauge(
        "raftgram_node_info",
        "1, with the node's number, advertised address, cluster, data folder and incarnation.",
    ),
    gauge("raftgram_uptime_seconds", "Time since the node began to serve."),
    gauge("raftgram_role", "1 for the role that the node has, 0 for the others."),
    gauge("raftgram_term", "The node's term."),
    gauge("raftgram_leader", "The number of the node that leads, as far as this one knows; 0 for nobody."),
    gauge("raftgram_member", "1 while the node is a member of its cluster, 0 while it joins or was removed."),
    gauge("raftgram_members", "Members of the cluster by kind: voter, learner, outgoing voter."),
    gauge(
        "raftgram_membership_version",
        "The index of the entry that holds the membership; 0 for the founding's.",
    ),
    gauge("raftgram_last_index", "The end of the log."),
    gauge("raftgram_commit_index", "The last entry known on a quorum."),
    gauge("raftgram_applied_index", "The last entry given to the state machine."),
    gauge("raftgram_snapshot_index", "The index of the snapshot in force; 0 for none."),
    gauge(
        "raftgram_agreed_index",
        "The last entry through which another node is known to have come to the same.",
    ),
    gauge("raftgram_apply_lag_entries", "Committed entries that are still to be applied."),
    gauge(
        "raftgram_follower_lag_entries",
        "At a leader: entries of its log that the follower is not known to hold.",
    ),
    gauge(
        "raftgram_follower_progress",
        "At a leader: 1 for the way in which entries go to the follower, else 0.",
    ),
    gauge(
        "raftgram_follower_inflight_appends",
        "At a leader: appends to the follower that are not answered.",
    ),
    counter("raftgram_datagrams_received_total", "Datagrams that came from the socket."),
    counter("raftgram_datagrams_accepted_total", "Datagrams that passed every check."),
    counter("raftgram_datagrams_dropped_total", "Datagrams dropped by the node, by the first reason found."),
    counter("raftgram_datagrams_sent_total", "Datagrams given to the socket."),
    counter("raftgram_send_errors_total", "Datagrams that the socket refused."),
    counter(
        "raftgram_kernel_drops_total",
        "Datagrams that the kernel dropped because the socket's buffer was full.",
    ),
    counter("raftgram_retransmits_total", "Parts of requests and answers that were sent again."),
    counter("raftgram_duplicates_total", "Requests that had arrived before."),
    counter("raftgram_stale_hints_total", "Hints sent to who speaks to an earlier boot of the node."),
    gauge("raftgram_socket_buffer_bytes", "What the kernel granted of the socket's buffers."),
    gauge("raftgram_link_rtt_seconds", "Smoothed round-trip time to the peer."),
    gauge("raftgram_link_loss_ratio", "Smoothed share of the packets to the peer that were lost, 0 to 1."),
    counter("raftgram_link_retransmits_total", "Parts sent again to the peer."),
    counter("raftgram_link_duplicates_total", "Requests of the peer that had arrived before."),
    counter("raftgram_link_probes_total", "Probe timeouts: the peer was asked for a sign because none came."),
    counter("raftgram_link_spurious_losses_total", "Packets to the peer declared lost that had arrived."),
    gauge("raftgram_link_inflight_bytes", "Bytes to the peer that wait for an acknowledgement."),
    gauge("raftgram_link_window_bytes", "Bytes to the peer that may wait for one."),
    gauge("raftgram_link_calls_open", "Calls to the peer that are not answered."),
    gauge("raftgram_link_calls_served", "Calls of the peer that are not answered here."),
    gauge("raftgram_link_silent_seconds", "Time since a datagram of the peer was accepted."),
    gauge("raftgram_clients", "Clients with a link to this node."),
    gauge("raftgram_waiting_writes", "Clients' writes that wait for their entry to be applied."),
    gauge("raftgram_waiting_reads", "Clients' reads that wait for confirmation or for the state machine."),
    gauge("raftgram_arriving_bytes", "Bytes of large requests and answers that are being put together."),
    histogram("raftgram_commit_seconds", "From a write's proposal at this node to its being applied here."),
    histogram("raftgram_fsync_seconds", "Making a batch of log entries or a vote durable."),
    counter("raftgram_damage_total", "Damaged places found in the data folder since the boot."),
    gauge(
        "raftgram_repair_missing_entries",
        "Entries that are being fetched because they were damaged, where known.",
    ),
    gauge("raftgram_divergences", "Nodes whose results or snapshots were found to differ from this one's."),
    gauge(
        "raftgram_snapshot_transfer_bytes",
        "Snapshots on their way, by receiver: bytes that are there, and in all.",
    ),
];

const ROLES: [NodeRole; 6] = [
    NodeRole::Blank,
    NodeRole::Follower,
    NodeRole::PreCandidate,
    NodeRole::Candidate,
    NodeRole::Leader,
    NodeRole::Learner,
];

const PROGRESS: [ProgressKind; 3] = [ProgressKind::Probe, ProgressKind::Replicate, ProgressKind::Snapshot];

/// The page of a node that runs.
pub(super) fn page(figures: &NodeFigures, kernel_drops: Option<u64>) -> String {
    let mut page = Page::default();
    identity(&mut page, figures);
    consensus(&mut page, &figures.status);
    followers(&mut page, figures);
    datagrams(&mut page, figures, kernel_drops);
    links(&mut page, figures);
    page.value("raftgram_clients", figures.rpc_load.clients);
    page.value("raftgram_waiting_writes", figures.load.writes);
    page.value("raftgram_waiting_reads", figures.load.reads);
    page.value("raftgram_arriving_bytes", figures.rpc_load.arriving_bytes);
    page.histogram("raftgram_commit_seconds", &figures.commits);
    page.histogram("raftgram_fsync_seconds", &figures.syncs);
    upkeep(&mut page, &figures.status);
    page.out
}

/// The page of a node that is being founded or joins: monitors see that it lives, and what it is.
pub(super) fn page_of_blank() -> String {
    let mut page = Page::default();
    build(&mut page);
    roles(&mut page, NodeRole::Blank);
    page.out
}

fn build(page: &mut Page) {
    page.family("raftgram_build_info", [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1)]);
}

fn roles(page: &mut Page, own: NodeRole) {
    let rows = ROLES.map(|role| (vec![("role", role.name().to_owned())], u8::from(role == own)));
    page.family("raftgram_role", rows);
}

fn identity(page: &mut Page, figures: &NodeFigures) {
    let status = &figures.status;
    build(page);
    let labels = vec![
        ("node", status.node.as_u16().to_string()),
        ("address", status.address.clone()),
        ("cluster", status.cluster.to_string()),
        ("store", status.store.to_string()),
        ("incarnation", status.incarnation.0.to_string()),
    ];
    page.family("raftgram_node_info", [(labels, 1)]);
    page.value("raftgram_uptime_seconds", seconds(figures.uptime));
}

fn consensus(page: &mut Page, status: &NodeStatus) {
    roles(page, status.role);
    page.value("raftgram_term", status.term.0);
    page.value("raftgram_leader", status.leader.map_or(0, NodeId::as_u16));
    let is_member = status.standing == raftgram::wire::status::Standing::Member;
    page.value("raftgram_member", u8::from(is_member));
    let members = status.membership.as_ref();
    let counts = [
        ("voter", members.map_or(0, |members| members.voters.len())),
        ("learner", members.map_or(0, |members| members.learners.len())),
        ("outgoing", members.map_or(0, |members| members.outgoing.len())),
    ];
    page.family("raftgram_members", counts.map(|(kind, count)| (vec![("kind", kind.to_owned())], count)));
    page.value("raftgram_membership_version", status.version.0);
    page.value("raftgram_last_index", status.last.0);
    page.value("raftgram_commit_index", status.commit.0);
    page.value("raftgram_applied_index", status.applied.0);
    page.value("raftgram_snapshot_index", status.snapshot.0);
    page.value("raftgram_agreed_index", status.agreed.0);
    page.value("raftgram_apply_lag_entries", status.commit.0.saturating_sub(status.applied.0));
}

fn followers(page: &mut Page, figures: &NodeFigures) {
    let last = figures.status.last.0;
    let of = |node| vec![("peer", NodeId::as_u16(node).to_string())];
    let all = || figures.followers.iter();
    let lags = all().map(|it| (of(it.node), last.saturating_sub(it.match_index.0)));
    page.family("raftgram_follower_lag_entries", lags);
    let progress = all().flat_map(|it| {
        PROGRESS.map(|kind| {
            let labels = [of(it.node), vec![("progress", progress_name(kind).to_owned())]].concat();
            (labels, u8::from(kind == it.progress))
        })
    });
    page.family("raftgram_follower_progress", progress);
    page.family("raftgram_follower_inflight_appends", all().map(|it| (of(it.node), it.inflight_count)));
}

fn datagrams(page: &mut Page, figures: &NodeFigures, kernel_drops: Option<u64>) {
    let rpc = &figures.rpc;
    page.value("raftgram_datagrams_received_total", rpc.received);
    page.value("raftgram_datagrams_accepted_total", rpc.accepted);
    let drops = DropReason::ALL.map(|it| (vec![("reason", it.name().to_owned())], rpc.dropped(it)));
    page.family("raftgram_datagrams_dropped_total", drops);
    page.value("raftgram_datagrams_sent_total", rpc.transmitted);
    page.value("raftgram_send_errors_total", rpc.send_errors);
    page.family("raftgram_kernel_drops_total", kernel_drops.map(|count| (Vec::new(), count)));
    page.value("raftgram_retransmits_total", rpc.retransmits);
    page.value("raftgram_duplicates_total", rpc.duplicates);
    page.value("raftgram_stale_hints_total", rpc.hints);
    let buffers = [("receive", figures.buffers.receive_bytes), ("send", figures.buffers.send_bytes)];
    let buffers = buffers.map(|(direction, bytes)| (vec![("direction", direction.to_owned())], bytes));
    page.family("raftgram_socket_buffer_bytes", buffers);
}

fn links(page: &mut Page, figures: &NodeFigures) {
    let of = |node| vec![("peer", NodeId::as_u16(node).to_string())];
    let rtts = figures.links.iter().filter_map(|it| Some((of(it.node), seconds(it.stats.srtt?))));
    page.family("raftgram_link_rtt_seconds", rtts);
    let losses = figures.links.iter().map(|it| (of(it.node), it.stats.loss));
    page.family("raftgram_link_loss_ratio", losses);
    let stats = || figures.links.iter().map(|it| (of(it.node), it.stats));
    page.family("raftgram_link_retransmits_total", stats().map(|(of, it)| (of, it.retransmits)));
    page.family("raftgram_link_duplicates_total", stats().map(|(of, it)| (of, it.duplicates)));
    page.family("raftgram_link_probes_total", stats().map(|(of, it)| (of, it.probes)));
    page.family("raftgram_link_spurious_losses_total", stats().map(|(of, it)| (of, it.spurious)));
    page.family("raftgram_link_inflight_bytes", stats().map(|(of, it)| (of, it.in_flight_bytes)));
    page.family("raftgram_link_window_bytes", stats().map(|(of, it)| (of, it.window_bytes)));
    page.family("raftgram_link_calls_open", stats().map(|(of, it)| (of, it.calls_open)));
    page.family("raftgram_link_calls_served", stats().map(|(of, it)| (of, it.calls_served)));
    let silences = figures.links.iter().map(|it| (of(it.node), seconds(it.silent_for)));
    page.family("raftgram_link_silent_seconds", silences);
}

fn upkeep(page: &mut Page, status: &NodeStatus) {
    page.value("raftgram_damage_total", status.damage);
    let missing = match &status.repair {
        None => Some(0),
        Some(repair) => repair.last.map(|last| (last.0 + 1).saturating_sub(repair.first.0 + repair.fetched)),
    };
    page.family("raftgram_repair_missing_entries", missing.map(|count| (Vec::new(), count)));
    page.value("raftgram_divergences", status.divergences.len());
    let transfers = status.transfers.iter().flat_map(|it| {
        [("there", it.bytes), ("all", it.bytes_total)]
            .map(|(part, bytes)| (vec![("to", it.to.as_u16().to_string()), ("part", part.to_owned())], bytes))
    });
    page.family("raftgram_snapshot_transfer_bytes", transfers);
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

type Labels = Vec<(&'static str, String)>;

/// The text as far as it is written.
#[derive(Debug, Default)]
struct Page {
    out: String,
}

impl Page {
    fn value(&mut self, name: &'static str, value: impl Display) {
        self.family(name, [(Vec::new(), value)]);
    }

    /// A family with its samples; without any, nothing is printed.
    fn family(&mut self, name: &'static str, samples: impl IntoIterator<Item = (Labels, impl Display)>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        self.head(name);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    fn histogram(&mut self, name: &'static str, histogram: &Histogram) {
        self.head(name);
        let bucket = format!("{name}_bucket");
        for (bound_us, count) in histogram.cumulative() {
            let bound = seconds(Duration::from_micros(bound_us)).to_string();
            self.sample(&bucket, &[("le", bound)], count);
        }
        self.sample(&bucket, &[("le", "+Inf".to_owned())], histogram.count());
        self.sample(&format!("{name}_sum"), &[], seconds(histogram.sum()));
        self.sample(&format!("{name}_count"), &[], histogram.count());
    }

    fn head(&mut self, name: &'static str) {
        let family = FAMILIES.iter().find(|family| family.name == name);
        let family = family.unwrap_or_else(|| panic!("{name} is not in the list of metrics"));
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind);
    }

    fn sample(&mut self, name: &str, labels: &[(&'static str, String)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.out, "{name}{labels} {value}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
