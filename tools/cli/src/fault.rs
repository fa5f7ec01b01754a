//! `fault`: faults inside nodes that run, for experiments. They always end by themselves.

use std::time::Duration;

use clap::{Args, Subcommand};
use raftgram::client::Answer;
use raftgram::fault::LinkConfig;
use raftgram::handle::Client;
use raftgram::types::NodeId;
use raftgram::wire::fault::{FAULT_MS_MAX, FaultLinks, FaultRequest, LinkFaults, WHOLE_PPM};
use serde::Serialize;

use crate::error::{CliError, Code};
use crate::faults::LinkFlags;
use crate::lab::groups;
use crate::node::node_id;
use crate::output::Format;
use crate::proxy::Burst;
use crate::reach::Reach;
use crate::units::{Bytes, Span};

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Faults on the links of nodes that run, started with --allow-faults. They end by themselves.
#[derive(Debug, Subcommand)]
pub(crate) enum Fault {
    Set(Box<Set>),
    Clear(Clear),
}

/// Let links lose, delay and damage datagrams for a while. Each node does it to what it sends.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// At these nodes only; without it at all that --cluster names.
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = node_id)]
    from: Vec<NodeId>,
    /// On the links to this node only.
    #[arg(long, value_name = "ID", value_parser = node_id)]
    to: Option<NodeId>,
    /// On the links to clients and from them, instead of those between nodes.
    #[arg(long, conflicts_with_all = ["to", "partition"])]
    clients: bool,
    #[command(flatten)]
    link: LinkFlags,
    /// Drop in bursts (Gilbert-Elliott): the chances to go from good to bad and back, and of loss in either.
    #[arg(long, value_name = "P,R[,1-H[,1-K]]")]
    burst: Option<Burst>,
    /// Drop longer datagrams.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<Bytes>,
    /// Let nothing pass between these groups of nodes.
    #[arg(long, value_name = "1,2/3", conflicts_with_all = ["from", "to"])]
    partition: Option<String>,
    /// For this long, at most a day.
    #[arg(long = "for", value_name = "SPAN", required = true)]
    lasting: Span,
}

/// End all faults that were set.
#[derive(Debug, Args)]
pub(crate) struct Clear {
    /// At these nodes only; without it at all that --cluster names.
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = node_id)]
    from: Vec<NodeId>,
}

/// What was done where.
#[derive(Debug, Serialize)]
struct Done {
    nodes: Vec<u16>,
    for_ms: u64,
}

impl Fault {
    pub(crate) fn run(&self, reach: &Reach, format: Format) -> Result<(), CliError> {
        match self {
            Self::Set(set) => set.run(reach, format),
            Self::Clear(clear) => {
                let nodes = tell(reach, &clear.from, |_| vec![FaultRequest::Clear])?;
                answer(format, nodes, 0, "cleared")
            }
        }
    }
}

impl Set {
    fn run(&self, reach: &Reach, format: Format) -> Result<(), CliError> {
        let lasting_ms = u64::try_from(self.lasting.0.as_millis()).unwrap_or(u64::MAX);
        if !(1..=FAULT_MS_MAX).contains(&lasting_ms) {
            return Err(CliError::usage(format!("--for {}: from 1ms to 24h", self.lasting)));
        }
        let faults = self.faults()?;
        let set = |links, faults| FaultRequest::Set { links, lasting_ms, faults };
        let nodes = match &self.partition {
            None => {
                let links = match self.to {
                    Some(node) => FaultLinks::Node(node),
                    None if self.clients => FaultLinks::Clients,
                    None => FaultLinks::Nodes,
                };
                tell(reach, &self.from, |_| vec![set(links, faults)])?
            }
            Some(text) => {
                let groups = groups(text, u16::MAX - 1)
                    .map_err(|why| CliError::usage(format!("--partition: {why}")))?;
                let is_blocked = LinkFaults { is_blocked: true, ..faults };
                tell(reach, &[], |node| {
                    others(&groups, node).map(|other| set(FaultLinks::Node(other), is_blocked)).collect()
                })?
            }
        };
        answer(format, nodes, lasting_ms, "set")
    }

    fn faults(&self) -> Result<LinkFaults, CliError> {
        let config = self.link.over(LinkConfig {
            bursts: self.burst.map(|burst| burst.0),
            mtu: self.mtu.map(|bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX)),
            ..LinkConfig::default()
        });
        if config == LinkConfig::default() && self.partition.is_none() {
            return Err(CliError::usage("no fault is named")
                .hint("such as --loss 5%; `raftgram fault clear` ends what was set"));
        }
        config.validate().map_err(|error| CliError::usage(error.to_string()))?;
        Ok(wire_faults(&config))
    }
}

/// A link's settings as the wire has them.
pub(crate) fn wire_faults(config: &LinkConfig) -> LinkFaults {
    let ppm = |share: f64| (share * WHOLE_PPM as f64).round() as u64;
    let us = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let burst = config.bursts.map_or([0.0; 4], |it| [it.p, it.r, it.loss_bad, it.loss_good]);
    LinkFaults {
        is_blocked: config.is_blocked,
        mtu: config.mtu.map_or(0, |mtu| mtu as u64),
        loss_ppm: ppm(config.loss),
        burst_ppm: burst.map(ppm),
        delay_us: us(config.delay),
        jitter_us: us(config.jitter),
        duplicate_ppm: ppm(config.duplicate),
        reorder_ppm: ppm(config.reorder),
        reorder_delay_us: us(config.reorder_delay),
        corrupt_ppm: ppm(config.corrupt),
    }
}

/// The nodes of other groups than this one's.
fn others(groups: &[Vec<u16>], node: NodeId) -> impl Iterator<Item = NodeId> {
    let own = groups.iter().position(|group| group.contains(&node.as_u16()));
    let others = groups.iter().enumerate().filter(move |(place, _)| own.is_some_and(|own| own != *place));
    others.flat_map(|(_, group)| group.iter().copied().filter_map(NodeId::new))
}

/// Asks each node of the cluster, or those named, and gives their ids.
fn tell(
    reach: &Reach,
    named: &[NodeId],
    requests: impl Fn(NodeId) -> Vec<FaultRequest>,
) -> Result<Vec<u16>, CliError> {
    let client = reach.connect()?;
    let mut told = Vec::new();
    let mut fault = None;
    for (server, address) in reach.addresses.iter().enumerate() {
        match tell_one(reach, &client, server, named, &requests) {
            Ok(node) => told.extend(node),
            Err(error) => fault = fault.or(Some(error.at(address))),
        }
    }
    if let Some(missing) = named.iter().find(|node| !told.contains(&node.as_u16()))
        && fault.is_none()
    {
        let text = format!("no node of the cluster has the number {}", missing.as_u16());
        return Err(CliError::new(Code::NotFound, text).at(reach));
    }
    let so_far = || told.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    fault.map_or(Ok(told.clone()), |error| match told.is_empty() {
        true => Err(error),
        false => Err(error.hint(format!("done at nodes {}; `raftgram fault clear` ends it there", so_far()))),
    })
}

/// Asks one node, if it is one of those; its id then.
fn tell_one(
    reach: &Reach,
    client: &Client,
    server: usize,
    named: &[NodeId],
    requests: impl Fn(NodeId) -> Vec<FaultRequest>,
) -> Result<Option<u16>, CliError> {
    let timeout = reach.timeout_or(TIMEOUT);
    let node = match reach.wait(client.status(server, timeout), timeout)? {
        Answer::Status(status) => status.node,
        other => unreachable!("a status was asked for, not {other:?}"),
    };
    if !named.is_empty() && !named.contains(&node) {
        return Ok(None);
    }
    for request in requests(node) {
        reach.wait(client.set_faults(server, request, timeout), timeout).map_err(|error| {
            match error.message.contains("--allow-faults") {
                true => error.hint("start nodes for experiments with --allow-faults"),
                false => error,
            }
        })?;
    }
    Ok(Some(node.as_u16()))
}

fn answer(format: Format, nodes: Vec<u16>, for_ms: u64, what: &str) -> Result<(), CliError> {
    let done = Done { nodes, for_ms };
    format.answer(&done, |_| {
        let names: Vec<String> = done.nodes.iter().map(u16::to_string).collect();
        let lasting =
            if for_ms == 0 { String::new() } else { format!(" for {}", Span(Duration::from_millis(for_ms))) };
        format!("{what} at nodes {}{lasting}\n", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_blocks_the_links_to_all_other_groups() {
        let node = |number| NodeId::new(number).unwrap();
        let groups = groups("1,2/3/4", 9).unwrap();
        assert_eq!(others(&groups, node(1)).collect::<Vec<_>>(), [node(3), node(4)]);
        assert_eq!(others(&groups, node(3)).collect::<Vec<_>>(), [node(1), node(2), node(4)]);
        assert_eq!(others(&groups, node(5)).count(), 0, "who is in no group stays connected");
    }
}
