//! The page against the list, the list against its documentation, and what others ask of it against both.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use raftgram::membership::{Member, Membership};
use raftgram::node::NodeLoad;
use raftgram::rpc::{LinkStats, RpcLoad, RpcStats};
use raftgram::run::figures::{FollowerFigures, LinkFigures};
use raftgram::run::socket::BufferSizes;
use raftgram::time::Instant;
use raftgram::types::{ClusterId, Incarnation, Index, StoreId, Term};
use raftgram::wire::status::{RepairStatus, Standing, TransferStatus};

use super::*;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A link that loses every fourth packet.
fn link() -> LinkStats {
    LinkStats {
        srtt: Some(Duration::from_micros(120)),
        retransmits: 4,
        duplicates: 0,
        probes: 1,
        spurious: 0,
        loss: 0.25,
        in_flight_bytes: 1200,
        window_bytes: 16_000,
        calls_open: 1,
        calls_served: 0,
        heard: Instant::ZERO,
    }
}

/// A leader about which everything can be told.
fn figures() -> NodeFigures {
    let id = |number| NodeId::new(number).unwrap();
    let member =
        |number: u8| Member { store: StoreId([number; 16]), address: format!("10.0.0.{number}:7101") };
    let voters = [1, 2, 3].map(|number: u8| (id(number.into()), member(number))).into_iter().collect();
    let status = NodeStatus {
        node: id(1),
        address: "10.0.0.1:7101".to_owned(),
        role: NodeRole::Leader,
        term: Term(3),
        commit: Index(120),
        applied: Index(118),
        last: Index(125),
        incarnation: Incarnation(9),
        cluster: ClusterId([1; 16]),
        store: StoreId([1; 16]),
        leader: Some(id(1)),
        membership: Some(Membership::of_voters(voters)),
        peers: Vec::new(),
        received: 1000,
        accepted: 990,
        retransmits: 4,
        duplicates: 3,
        drops: Vec::new(),
        snapshot: Index(100),
        transfers: vec![TransferStatus {
            to: id(3),
            index: Index(100),
            bytes: 5,
            bytes_total: 50,
            is_transferred: false,
        }],
        damage: 1,
        repair: Some(RepairStatus { first: Index(5), last: Some(Index(9)), fetched: 2, from: None }),
        version: Index(7),
        standing: Standing::Member,
        agreed: Index(64),
        divergences: Vec::new(),
        sent: 1200,
        sent_bytes: 120_000,
    };
    let (mut commits, mut syncs) = (Histogram::default(), Histogram::default());
    commits.record(Duration::from_micros(900));
    syncs.record(Duration::from_micros(15));
    NodeFigures {
        status,
        rpc: RpcStats { received: 1000, accepted: 990, transmitted: 1200, ..RpcStats::default() },
        rpc_load: RpcLoad { links: 2, clients: 5, greetings: 0, arriving_bytes: 0 },
        load: NodeLoad { writes: 2, reads: 1, peer_tokens: 0, raft_calls: 0 },
        links: vec![LinkFigures { node: id(2), stats: link(), silent_for: Duration::from_millis(12) }],
        followers: vec![FollowerFigures {
            node: id(2),
            progress: ProgressKind::Replicate,
            match_index: Index(119),
            inflight_count: 3,
        }],
        commits,
        syncs,
        buffers: BufferSizes { receive_bytes: 212_992, send_bytes: 212_992 },
        uptime: Duration::from_secs(60),
    }
}

/// The names behind `# TYPE`.
fn families_of(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn a_node_of_which_everything_is_known_prints_every_metric_of_the_list_in_order() {
    let page = page(&figures(), Some(0));
    let listed: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(families_of(&page), listed);
    for line in [
        "raftgram_role{role=\"leader\"} 1",
        "raftgram_role{role=\"follower\"} 0",
        "raftgram_follower_lag_entries{peer=\"2\"} 6",
        "raftgram_link_rtt_seconds{peer=\"2\"} 0.00012",
        "raftgram_datagrams_dropped_total{reason=\"crc_or_seal\"} 0",
        "raftgram_commit_seconds_bucket{le=\"0.0005\"} 0",
        "raftgram_commit_seconds_bucket{le=\"0.001\"} 1",
        "raftgram_commit_seconds_bucket{le=\"+Inf\"} 1",
        "raftgram_commit_seconds_sum 0.0009",
        "raftgram_fsync_seconds_bucket{le=\"0.00001\"} 0",
        "raftgram_fsync_seconds_count 1",
        "raftgram_repair_missing_entries 3",
        "raftgram_snapshot_transfer_bytes{to=\"3\",part=\"all\"} 50",
        "raftgram_kernel_drops_total 0",
    ] {
        assert!(page.lines().any(|printed| printed == line), "{line} is not in\n{page}");
    }
    for reason in DropReason::ALL {
        assert!(page.contains(&format!("reason=\"{}\"", reason.name())), "{reason} has no counter");
    }
}

#[test]
fn a_node_that_is_being_founded_says_that_it_lives() {
    let page = page_of_blank();
    assert_eq!(families_of(&page), ["raftgram_build_info", "raftgram_role"]);
    assert!(page.contains("raftgram_role{role=\"blank\"} 1\n"), "{page}");
}

#[test]
fn a_label_cannot_break_out_of_its_quotes() {
    let mut page = Page::default();
    page.family("raftgram_node_info", [(vec![("address", "a\"b\\c\nd".to_owned())], 1)]);
    assert!(page.out.ends_with("raftgram_node_info{address=\"a\\\"b\\\\c\\nd\"} 1\n"), "{}", page.out);
}

#[test]
fn the_documentation_lists_these_metrics_and_no_others() {
    let row = |family: &Family| format!("| `{}` | {} | {} |", family.name, family.kind, family.help);
    let wanted: Vec<String> = FAMILIES.iter().map(row).collect();
    let text = read("docs/metrics.md");
    let written: Vec<&str> = text.lines().filter(|line| line.starts_with("| `raftgram_")).collect();
    assert_eq!(written, wanted, "docs/metrics.md should have these rows:\n{}", wanted.join("\n"));
}

/// Every name in this text that looks like a metric of ours, without what a histogram or a query puts behind it.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("raftgram_")).map(str::to_owned).collect()
}

#[test]
fn whatever_dashboards_and_alerts_ask_for_exists() {
    let known = |name: &str| {
        let is_of = |family: &Family| match family.kind {
            "histogram" => {
                ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{}{end}", family.name))
            }
            _ => name == family.name,
        };
        FAMILIES.iter().any(is_of)
    };
    for file in ["packaging/grafana/raftgram.json", "packaging/prometheus/alerts.yml"] {
        let names = names_in(&read(file));
        assert!(names.len() > 4, "{file} asks for {} metrics only", names.len());
        let strange: Vec<&String> = names.iter().filter(|name| !known(name)).collect();
        assert_eq!(strange, Vec::<&String>::new(), "{file} asks for what is not there");
    }
}
