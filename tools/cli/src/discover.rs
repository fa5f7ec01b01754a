//! `discover`: which nodes answer on this network, and the line by which one would join them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::address::Address;
use crate::beacon::{self, Found};
use crate::error::{CliError, Code};
use crate::output::Format;
use crate::reach::Reach;

/// How long answers are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// List the nodes on this network that answer, and how to join them. Only those do that were started with `--beacon`;
/// nothing is joined.
#[derive(Debug, Args)]
pub(crate) struct Discover {
    /// The multicast group or address to ask at.
    #[arg(long, value_name = "ADDR", default_value = beacon::GROUP)]
    at: Address,
}

#[derive(Debug, Serialize)]
struct Discovered {
    nodes: Vec<Node>,
    clusters: Vec<Cluster>,
}

#[derive(Debug, Serialize)]
struct Node {
    /// Where the answer came from; `addr` is what the node says of itself.
    from: SocketAddr,
    #[serde(flatten)]
    found: Found,
}

/// One cluster and the way in.
#[derive(Debug, Serialize)]
struct Cluster {
    cluster: String,
    join: String,
    then: String,
}

impl Discover {
    pub(crate) fn run(&self, reach: &Reach, format: Format) -> Result<(), CliError> {
        let (at, patience) = (self.at.resolve()?, reach.timeout_or(PATIENCE));
        let found = beacon::ask(at, patience)
            .map_err(|error| CliError::new(Code::Failed, format!("asking for nodes: {error}")).at(at))?;
        if found.is_empty() {
            return Err(CliError::new(Code::NotFound, "no node answered").at(at).after(patience).hint(
                "only nodes that were started with --beacon answer, on the same network; --at names another group",
            ));
        }
        let clusters = clusters(&found);
        let nodes = found.into_iter().map(|(from, found)| Node { from, found }).collect();
        let discovered = Discovered { nodes, clusters };
        format.answer(&discovered, |format| discovered.text(format))
    }
}

impl Discovered {
    fn text(&self, format: Format) -> String {
        let row = |Node { from, found }: &Node| {
            vec![
                found.cluster.clone(),
                found.node.to_string(),
                found.addr.clone(),
                found.role.clone(),
                found.term.to_string(),
                if found.sealed { "yes" } else { "no" }.to_owned(),
                from.to_string(),
            ]
        };
        let headings = ["cluster", "node", "address", "role", "term", "sealed", "answered from"];
        let mut text = format.table(&headings, &self.nodes.iter().map(row).collect::<Vec<_>>());
        for Cluster { cluster, join, then } in &self.clusters {
            text.push_str(&format!("\nto join {cluster}:\n  {join}\n  {then}\n"));
        }
        text
    }
}

/// For each cluster, from the account of the highest term.
fn clusters(found: &[(SocketAddr, Found)]) -> Vec<Cluster> {
    let mut newest: BTreeMap<&str, &Found> = BTreeMap::new();
    for (_, found) in found {
        let known = newest.entry(&found.cluster).or_insert(found);
        if found.term > known.term {
            *known = found;
        }
    }
    newest.into_values().map(Cluster::of).collect()
}

impl Cluster {
    fn of(found: &Found) -> Self {
        let taken = |id: &u16| found.voters.contains_key(id) || found.learners.contains_key(id);
        let id = (1..u16::MAX).find(|id| !taken(id)).unwrap_or(1);
        let named = |(id, address): (&u16, &String)| format!("{id}={address}");
        let voters: Vec<String> = found.voters.iter().map(named).collect();
        let addresses: Vec<&str> = found.voters.values().map(String::as_str).collect();
        let key = if found.sealed { " --key FILE" } else { "" };
        let join = format!(
            "raftgram node --id {id} --listen HOST:PORT --voters {} --data DIR --join --cluster-id {}{key}",
            voters.join(","),
            found.cluster
        );
        let then = format!("raftgram --cluster {}{key} member add {id}=HOST:PORT", addresses.join(","));
        Self { cluster: found.cluster.clone(), join, then }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_in_names_the_first_free_number_and_the_newest_members() {
        let found = |node: u16, term, voters: &[u16]| Found {
            raftgram: 1,
            cluster: "c1".to_owned(),
            node,
            addr: format!("h{node}:1"),
            role: "follower".to_owned(),
            term,
            sealed: true,
            voters: voters.iter().map(|id| (*id, format!("h{id}:1"))).collect(),
            learners: [(3, "h3:1".to_owned())].into(),
        };
        let from = SocketAddr::from(([10, 0, 0, 1], 9));
        let of =
            clusters(&[(from, found(1, 2, &[1])), (from, found(2, 5, &[1, 2])), (from, found(1, 4, &[1]))]);
        assert_eq!(of.len(), 1);
        let join = "raftgram node --id 4 --listen HOST:PORT --voters 1=h1:1,2=h2:1 --data DIR --join \
            --cluster-id c1 --key FILE";
        assert_eq!(of[0].join, join);
        assert_eq!(of[0].then, "raftgram --cluster h1:1,h2:1 --key FILE member add 4=HOST:PORT");
    }
}
