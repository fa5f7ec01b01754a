//! `status`: a row for every node, asked one by one, unreachable ones included.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use raftgram::client::Answer;
use raftgram::types::NodeId;
use raftgram::wire::status::{Divergence, NodeRole, NodeStatus, RepairStatus, Standing, TransferStatus};
use serde::Serialize;

use crate::address::Address;
use crate::error::{CliError, Code};
use crate::output::{self, Format};
use crate::reach::Reach;
use crate::units::Span;

/// How long a node may take to answer unless told otherwise; a dead one costs this much.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Show a row per node, unreachable ones included.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Show it again and again.
    #[arg(long)]
    watch: bool,
    /// How often, with --watch.
    #[arg(long, value_name = "SPAN", default_value = "1s", requires = "watch")]
    interval: Span,
    /// Exit non-zero unless all is well: 5 without a leader or quorum, 7 when replicas differ, 1 when a node is
    /// missing.
    #[arg(long, conflicts_with = "watch")]
    check: bool,
}

/// All nodes at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Cluster {
    /// The node that leads.
    pub(crate) leader: Option<u16>,
    pub(crate) nodes: Vec<Row>,
}

/// One node. What an unreachable one would say is left out.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: Option<u16>,
    pub(crate) addr: String,
    pub(crate) reachable: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) told: Option<Told>,
}

/// A node's own account.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    pub(crate) role: &'static str,
    pub(crate) term: u64,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
    pub(crate) last: u64,
    incarnation: u32,
    pub(crate) voters: Vec<u16>,
    pub(crate) learners: Vec<u16>,
    /// Voters that still count until the change under way has ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outgoing: Vec<u16>,
    /// The index of the entry that holds this membership; 0 for that of the founding.
    version: u64,
    joint: bool,
    /// The node's own place: member, joining, removed or replaced.
    standing: &'static str,
    /// The slowest of its links.
    pub(crate) rtt_us: Option<u64>,
    pub(crate) retransmits: u64,
    pub(crate) duplicates: u64,
    pub(crate) received: u64,
    pub(crate) accepted: u64,
    /// Datagrams it sent; 0 from a node of an earlier version.
    sent: u64,
    sent_bytes: u64,
    pub(crate) drops: BTreeMap<String, u64>,
    cluster: Option<String>,
    store: String,
    leader: Option<u16>,
    pub(crate) peers: Vec<Peer>,
    /// The index of the snapshot in force; 0 for none.
    snapshot: u64,
    transfers: Vec<Transfer>,
    /// Damaged places found in its data since its boot.
    damage: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<Repair>,
    /// The last entry through which it and another node are known to have come to the same.
    agreed: u64,
    /// The first difference found from each other node.
    divergences: Vec<Difference>,
}

/// A hole in a node's log that is being filled from other nodes.
#[derive(Debug, Serialize)]
struct Repair {
    first: u64,
    /// Absent while nobody knows how much is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    fetched: u64,
    from: Option<u16>,
}

/// Where a node's results or state differ from another's.
#[derive(Debug, Serialize)]
struct Difference {
    from: u16,
    what: &'static str,
    after: u64,
    through: u64,
    #[serde(skip)]
    text: String,
}

impl Difference {
    fn of(divergence: &Divergence) -> Self {
        let Divergence { node, kind, after, through } = *divergence;
        let text = divergence.to_string();
        Self { from: node.as_u16(), what: kind.name(), after: after.0, through: through.0, text }
    }
}

/// A snapshot on its way.
#[derive(Debug, Serialize)]
struct Transfer {
    to: u16,
    index: u64,
    bytes: u64,
    bytes_total: u64,
    transferred: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) id: u16,
    pub(crate) rtt_us: u64,
    pub(crate) retransmits: u64,
    /// Smoothed, in parts per million.
    pub(crate) loss_ppm: u32,
}

impl Transfer {
    fn of(status: &TransferStatus) -> Self {
        let TransferStatus { to, index, bytes, bytes_total, is_transferred } = *status;
        Self { to: to.as_u16(), index: index.0, bytes, bytes_total, transferred: is_transferred }
    }
}

impl Repair {
    fn of(status: &RepairStatus) -> Self {
        let RepairStatus { first, last, fetched, from } = *status;
        Self { first: first.0, last: last.map(|last| last.0), fetched, from: from.map(NodeId::as_u16) }
    }

    fn text(&self) -> String {
        let last = self.last.map_or_else(|| "an unknown one".to_owned(), |last| last.to_string());
        let from = self.from.map_or_else(|| "nobody to ask".to_owned(), |from| format!("asking {from}"));
        format!("entries {} to {last} are damaged, {} of them have come, {from}", self.first, self.fetched)
    }
}

impl Status {
    pub(crate) fn run(&self, reach: &Reach, format: Format) -> Result<(), CliError> {
        if self.watch {
            return self.watch(reach, format);
        }
        let began = Instant::now();
        let cluster = ask(reach)?;
        if !cluster.nodes.iter().any(|row| row.reachable) {
            if !format.is_json() {
                output::write(&cluster.text(format))?;
            }
            return Err(CliError::new(Code::Unreachable, "no node answered")
                .at(reach)
                .after(began.elapsed())
                .hint(
                    "is a node running there? `raftgram cluster up` starts three; --cluster names others",
                ));
        }
        let fault = if self.check { cluster.fault() } else { None };
        match fault {
            // One document: a monitor reads the failure, and asks again without --check to see the rows.
            Some(fault) if format.is_json() => Err(fault.at(reach)),
            fault => {
                format.answer(&cluster, |format| cluster.text(format))?;
                fault.map_or(Ok(()), |fault| Err(fault.at(reach)))
            }
        }
    }

    fn watch(&self, reach: &Reach, format: Format) -> Result<(), CliError> {
        loop {
            let cluster = ask(reach)?;
            let clear = if format == Format::Terminal { "\x1b[H\x1b[2J" } else { "" };
            match format {
                Format::Json | Format::JsonStream => format.event(&cluster)?,
                _ => output::write(&(clear.to_owned() + &cluster.text(format)))?,
            }
            std::thread::sleep(self.interval.0);
        }
    }
}

/// Asks the nodes named, then the members that they tell of and that were not named.
pub(crate) fn ask(reach: &Reach) -> Result<Cluster, CliError> {
    let timeout = reach.timeout_or(TIMEOUT);
    let named = reach.addresses.iter().map(|address| Ok((address.to_string(), address.resolve()?)));
    let named = named.collect::<Result<Vec<_>, CliError>>()?;
    let mut answers = ask_each(reach, &named, timeout)?;
    let known: BTreeSet<SocketAddr> = named.iter().map(|(_, address)| *address).collect();
    let told: BTreeSet<NodeId> =
        answers.iter().flat_map(|(_, status)| status).map(|status| status.node).collect();
    let members = newest(&answers).and_then(|status| status.membership.as_ref());
    let missing = members.into_iter().flat_map(|membership| membership.iter());
    let missing = missing.filter(|(id, _)| !told.contains(id)).filter_map(|(_, member)| {
        let address = member.address.parse::<Address>().ok()?.resolve().ok()?;
        (!known.contains(&address)).then(|| (member.address.clone(), address))
    });
    let missing: Vec<(String, SocketAddr)> = missing.collect();
    if !missing.is_empty() {
        answers.extend(ask_each(reach, &missing, timeout)?);
    }
    Ok(Cluster::of(answers, reach.named))
}

/// Asks all at once; the silent ones cost one timeout together.
fn ask_each(
    reach: &Reach,
    addresses: &[(String, SocketAddr)],
    timeout: Duration,
) -> Result<Vec<(String, Option<NodeStatus>)>, CliError> {
    let resolved: Vec<SocketAddr> = addresses.iter().map(|(_, address)| *address).collect();
    let client = reach.connect_to(&resolved)?;
    let pending: Vec<_> = (0..resolved.len()).map(|place| client.status(place, timeout)).collect();
    let answers = pending.into_iter().map(|pending| match pending.wait(timeout * 2) {
        Ok(Ok(Answer::Status(status))) => Some(*status),
        _ => None,
    });
    Ok(addresses.iter().map(|(name, _)| name.clone()).zip(answers).collect())
}

/// The account of the highest term: who leads, else whoever knows most.
fn newest(answers: &[(String, Option<NodeStatus>)]) -> Option<&NodeStatus> {
    answers.iter().filter_map(|(_, status)| status.as_ref()).max_by_key(|status| {
        (status.membership.is_some(), status.term, status.role == NodeRole::Leader, status.last)
    })
}

impl Cluster {
    /// Rows in order of id. Unreachable default addresses are nobody's unless a membership names them.
    fn of(answers: Vec<(String, Option<NodeStatus>)>, named: bool) -> Self {
        let by_address: BTreeMap<String, u16> = newest(&answers)
            .and_then(|status| status.membership.as_ref())
            .map(|members| members.iter().map(|(id, m)| (m.address.clone(), id.as_u16())).collect())
            .unwrap_or_default();
        let leader = answers.iter().filter_map(|(_, status)| status.as_ref());
        let leader = leader.filter(|status| status.role == NodeRole::Leader).max_by_key(|status| status.term);
        let leader = leader.map(|status| status.node.as_u16());
        let any_reachable = answers.iter().any(|(_, status)| status.is_some());
        let rows = answers.into_iter().map(|(addr, status)| match status {
            Some(status) => Row::of(addr, &status),
            None => Row { id: by_address.get(&addr).copied(), addr, reachable: false, told: None },
        });
        let mut nodes: Vec<Row> =
            rows.filter(|row| row.reachable || row.id.is_some() || named || !any_reachable).collect();
        nodes.sort_by(|a, b| (a.id.is_none(), a.id, &a.addr).cmp(&(b.id.is_none(), b.id, &b.addr)));
        // Two addresses may lead to one node.
        nodes.dedup_by(|later, first| first.id.is_some() && later.id == first.id && later.reachable);
        Self { leader, nodes }
    }

    /// The account of the node that leads, or of any.
    fn newest(&self) -> Option<&Told> {
        let told = |row: &&Row| row.told.is_some() && (self.leader.is_none() || row.id == self.leader);
        self.nodes.iter().find(told).and_then(|row| row.told.as_ref())
    }

    /// What a monitor should wake somebody for.
    fn fault(&self) -> Option<CliError> {
        let Some(leader) = self.leader else {
            return Some(CliError::new(Code::NoLeader, "no node leads"));
        };
        let voters = self.nodes.iter().find(|row| row.id == Some(leader)).and_then(|row| row.told.as_ref());
        let voters = voters.map(|told| told.voters.as_slice()).unwrap_or_default();
        let is_up = |id: &&u16| self.nodes.iter().any(|row| row.id == Some(**id) && row.reachable);
        let up = voters.iter().filter(is_up).count();
        if up * 2 <= voters.len() {
            let message = format!("only {up} of {} voters answer: no quorum", voters.len());
            return Some(CliError::new(Code::NoLeader, message));
        }
        if let Some(differing) = self.differing() {
            let hint = "replicas must be equal: replace the node that differs from the others, and find out what in \
                        the machine is not a function of the log";
            return Some(CliError::new(Code::Violation, differing).hint(hint));
        }
        let silent: Vec<&str> =
            self.nodes.iter().filter(|row| !row.reachable).map(|row| row.addr.as_str()).collect();
        (!silent.is_empty())
            .then(|| CliError::new(Code::Failed, format!("no answer from {}", silent.join(", "))))
    }

    /// What differs between replicas, if anything.
    fn differing(&self) -> Option<String> {
        let of = |row: &Row| {
            let (id, told) = (row.id?, row.told.as_ref()?);
            let texts: Vec<String> =
                told.divergences.iter().map(|difference| format!("node {id}: {}", difference.text)).collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        };
        let differing: Vec<String> = self.nodes.iter().filter_map(of).collect();
        (!differing.is_empty()).then(|| format!("replicas differ: {}", differing.join("; ")))
    }

    fn text(&self, format: Format) -> String {
        let headings = [
            "id",
            "address",
            "role",
            "term",
            "commit",
            "applied",
            "last",
            "incarnation",
            "rtt",
            "retransmits",
            "drops",
        ];
        let rows: Vec<Vec<String>> = self.nodes.iter().map(Row::cells).collect();
        let mut text = format.table(&headings, &rows);
        if let Some(told) = self.newest().filter(|told| told.joint) {
            let list = |ids: &[u16]| ids.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
            text.push_str(&format!(
                "\na membership change is under way (version {}): voters {} give way to {}\n",
                told.version,
                list(&told.outgoing),
                list(&told.voters)
            ));
        }
        for row in &self.nodes {
            if let (Some(id), Some(repair)) =
                (row.id, row.told.as_ref().and_then(|told| told.repair.as_ref()))
            {
                text.push_str(&format!("\nrepair of {id}: {}", repair.text()));
            }
        }
        if let Some(differing) = self.differing() {
            text.push_str(&format!("\n{differing}\n"));
        }
        text
    }
}

impl Told {
    /// The highest smoothed loss of its links, in parts per million.
    pub(crate) fn loss_ppm_max(&self) -> u32 {
        self.peers.iter().map(|peer| peer.loss_ppm).max().unwrap_or(0)
    }
}

impl Row {
    pub(crate) fn of(addr: String, status: &NodeStatus) -> Self {
        let ids = |members: &raftgram::membership::Members| members.keys().map(|id| id.as_u16()).collect();
        let membership = status.membership.as_ref();
        let peers = status.peers.iter().map(|peer| Peer {
            id: peer.node.as_u16(),
            rtt_us: peer.rtt_us,
            retransmits: peer.retransmits,
            loss_ppm: peer.loss_ppm,
        });
        let told = Told {
            role: status.role.name(),
            term: status.term.0,
            commit: status.commit.0,
            applied: status.applied.0,
            last: status.last.0,
            incarnation: status.incarnation.0,
            voters: membership.map(|members| ids(&members.voters)).unwrap_or_default(),
            learners: membership.map(|members| ids(&members.learners)).unwrap_or_default(),
            outgoing: membership.map(|members| ids(&members.outgoing)).unwrap_or_default(),
            version: status.version.0,
            joint: membership.is_some_and(raftgram::membership::Membership::is_joint),
            standing: status.standing.name(),
            rtt_us: status.peers.iter().map(|peer| peer.rtt_us).max(),
            retransmits: status.retransmits,
            duplicates: status.duplicates,
            received: status.received,
            accepted: status.accepted,
            sent: status.sent,
            sent_bytes: status.sent_bytes,
            drops: status.drops.iter().map(|drop| (drop.reason.clone(), drop.count)).collect(),
            cluster: (!status.cluster.is_zero()).then(|| status.cluster.to_string()),
            store: status.store.to_string(),
            leader: status.leader.map(NodeId::as_u16),
            peers: peers.collect(),
            snapshot: status.snapshot.0,
            transfers: status.transfers.iter().map(Transfer::of).collect(),
            damage: status.damage,
            repair: status.repair.as_ref().map(Repair::of),
            agreed: status.agreed.0,
            divergences: status.divergences.iter().map(Difference::of).collect(),
        };
        Self { id: Some(status.node.as_u16()), addr, reachable: true, told: Some(told) }
    }

    fn cells(&self) -> Vec<String> {
        let id = self.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let Some(told) = &self.told else {
            return vec![id, self.addr.clone(), "unreachable".to_owned()];
        };
        let rtt = told.rtt_us.map_or_else(|| "-".to_owned(), |us| format!("{us}us"));
        let numbers = [told.term, told.commit, told.applied, told.last, u64::from(told.incarnation)];
        let drops: u64 = told.drops.values().sum();
        // What it is to the cluster says more than that it follows nobody.
        let role = if told.standing == Standing::Member.name() { told.role } else { told.standing };
        let mut cells = vec![id, self.addr.clone(), role.to_owned()];
        cells.extend(numbers.map(|number| number.to_string()));
        cells.extend([rtt, told.retransmits.to_string(), drops.to_string()]);
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftgram::membership::{Member, Membership};
    use raftgram::types::{ClusterId, Incarnation, Index, StoreId, Term};

    fn address(id: u16) -> String {
        format!("127.0.0.1:{}", 7100 + id)
    }

    fn status(id: u16, role: NodeRole, term: u64) -> NodeStatus {
        let member =
            |id| (NodeId::new(id).unwrap(), Member { store: StoreId([id as u8; 16]), address: address(id) });
        NodeStatus {
            node: NodeId::new(id).unwrap(),
            address: address(id),
            role,
            term: Term(term),
            commit: Index(9),
            applied: Index(9),
            last: Index(9),
            incarnation: Incarnation(1),
            cluster: ClusterId([1; 16]),
            store: StoreId([id as u8; 16]),
            leader: None,
            membership: Some(Membership::of_voters((1..=3).map(member).collect())),
            peers: Vec::new(),
            received: 0,
            accepted: 0,
            retransmits: 0,
            duplicates: 0,
            drops: Vec::new(),
            snapshot: Index(0),
            transfers: Vec::new(),
            damage: 0,
            repair: None,
            version: Index(0),
            standing: Standing::Member,
            agreed: Index(0),
            divergences: Vec::new(),
            sent: 0,
            sent_bytes: 0,
        }
    }

    fn cluster(answers: [Option<NodeStatus>; 3]) -> Cluster {
        let addresses = [address(1), address(2), address(3)];
        Cluster::of(addresses.into_iter().zip(answers).collect(), true)
    }

    #[test]
    fn an_unreachable_member_keeps_its_row_and_id() {
        let cluster =
            cluster([Some(status(1, NodeRole::Leader, 3)), None, Some(status(3, NodeRole::Follower, 3))]);
        assert_eq!(cluster.leader, Some(1));
        let rows: Vec<(Option<u16>, bool)> =
            cluster.nodes.iter().map(|row| (row.id, row.reachable)).collect();
        assert_eq!(rows, [(Some(1), true), (Some(2), false), (Some(3), true)]);
        let text = serde_json::to_string(&cluster).unwrap();
        assert!(text.contains(r#"{"id":2,"addr":"127.0.0.1:7102","reachable":false}"#), "{text}");
    }

    #[test]
    fn of_two_that_say_they_lead_the_newer_term_does() {
        let cluster =
            cluster([Some(status(1, NodeRole::Leader, 3)), Some(status(2, NodeRole::Leader, 4)), None]);
        assert_eq!(cluster.leader, Some(2));
    }

    #[test]
    fn a_check_tells_no_leader_from_a_missing_node() {
        let follower = |id| Some(status(id, NodeRole::Follower, 3));
        let leader = || Some(status(1, NodeRole::Leader, 3));
        let exit = |answers| cluster(answers).fault().map(|fault| fault.code.exit());
        assert_eq!(exit([leader(), follower(2), follower(3)]), None);
        assert_eq!(exit([leader(), follower(2), None]), Some(1));
        assert_eq!(exit([leader(), None, None]), Some(5));
        assert_eq!(exit([follower(1), follower(2), follower(3)]), Some(5));
    }

    #[test]
    fn default_addresses_where_nobody_lives_are_left_out() {
        let one = NodeStatus {
            membership: Some(Membership::of_voters(
                [(NodeId::MIN, Member { store: StoreId([1; 16]), address: address(1) })].into(),
            )),
            ..status(1, NodeRole::Leader, 1)
        };
        let answers = vec![(address(1), Some(one)), (address(2), None)];
        assert_eq!(Cluster::of(answers, false).nodes.len(), 1);
        let nobody = vec![(address(1), None), (address(2), None)];
        assert_eq!(Cluster::of(nobody, false).nodes.len(), 2);
    }
}
