//! A network of its own for an experiment: a namespace of the kernel for each node and one for the clients, joined by a
//! bridge, with loss between the nodes by nftables.
//!
//! The namespaces have no names. Each hangs on a process that waits for the end of a pipe of ours, so that namespaces,
//! links and rules end with this program, however it ends. A packet is one of at most 1,500 bytes: nothing is segmented
//! after the rules were asked, or one loss would be that of sixty packets.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::scenario::{Links, Scenario, SweepKey, System};
use crate::error::{CliError, Code};
use crate::units::Share;

/// Where every node listens.
const PORT: u16 = 7101;

/// What is varied here: loads, and the one fault that rules make.
const SWEEPS: [SweepKey; 5] =
    [SweepKey::Loss, SweepKey::Value, SweepKey::Clients, SweepKey::Nodes, SweepKey::Rate];

/// Refuses what this machine lacks or this ground cannot do.
pub(crate) fn check(scenario: &Scenario) -> Result<(), CliError> {
    let refuse = |what: &str, hint: &str| Err(CliError::usage(what.to_owned()).hint(hint.to_owned()));
    let only_loss = Links { loss: scenario.links.loss, ..Links::default() };
    if scenario.links != only_loss || !scenario.faults.is_empty() {
        return refuse(
            "in namespaces the only fault is loss between nodes",
            "leave out what else [links] and [[fault]] say, or use --on simulator",
        );
    }
    if let Some(sweep) = scenario.sweep.as_ref().filter(|sweep| !SWEEPS.contains(&sweep.key)) {
        return refuse(
            &format!("`{}` cannot be varied in namespaces", sweep.key.name()),
            "loss, value, clients, nodes and rate can",
        );
    }
    if scenario.systems.contains(&System::Etcd)
        && (scenario.load.rate.is_some()
            || scenario.sweep.as_ref().is_some_and(|it| it.key == SweepKey::Rate)
            || scenario.load.reads != Share::NONE
            || !scenario.fsync)
    {
        return refuse(
            "etcd is measured with synced puts in a closed loop only",
            "leave out `rate`, `reads` and `fsync`, or etcd among `systems`",
        );
    }
    if !rustix::process::geteuid().is_root() {
        return refuse("network namespaces need root", "run it as root, or another scenario of `lab list`");
    }
    let tools = [("ip", "-V", "iproute2"), ("nft", "-v", "nftables"), ("unshare", "-V", "util-linux")];
    let etcd = scenario.systems.contains(&System::Etcd).then_some(("etcd", "--version", "etcd-server"));
    for (tool, flag, package) in tools.into_iter().chain(etcd) {
        if !runs(Command::new(tool).arg(flag)) {
            return refuse(
                &format!("this scenario needs `{tool}`, which is not here"),
                &format!("Debian's package {package} has it"),
            );
        }
    }
    if !runs(Command::new("unshare").args(["--net", "nft", "list", "ruleset"])) {
        return refuse(
            "this machine lets nobody make a network namespace with nftables rules",
            "a container needs CAP_NET_ADMIN and CAP_SYS_ADMIN, the kernel nf_tables",
        );
    }
    Ok(())
}

fn runs(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

/// A namespace, for as long as this is not dropped and somebody is in it.
#[derive(Debug)]
struct Namespace {
    holder: Child,
    file: File,
}

impl Namespace {
    fn new() -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::io("making a network namespace", &error);
        let mut command = Command::new("unshare");
        // The last word is for whoever lists processes.
        let name = format!("raftgram-lab-{}", std::process::id());
        command.args(["--net", "sh", "-c", "echo; read -r _", &name]);
        // A group of its own, out of reach of the terminal's Ctrl-C.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut holder = command.spawn().map_err(failed)?;
        // It speaks once it is inside.
        let said = holder.stdout.take().map_or(Ok(0), |mut stdout| stdout.read(&mut [0]));
        let file = said.and_then(|_| File::open(format!("/proc/{}/ns/net", holder.id()))).map_err(failed)?;
        Ok(Self { holder, file })
    }

    /// Does something in it, on a thread of its own: what that starts and binds stays there.
    fn within<T: Send>(&self, work: impl FnOnce() -> Result<T, CliError> + Send) -> Result<T, CliError> {
        let enter = || move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network));
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter().map_err(|error| CliError::io("entering a network namespace", &error.into()))?;
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a tool in it that reads its orders from stdin.
    fn order(&self, tool: &str, arguments: &[&str], orders: &str) -> Result<String, CliError> {
        self.within(|| {
            let failed = |error: std::io::Error| CliError::io(format!("running {tool}"), &error);
            let mut command = Command::new(tool);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().map_err(failed)?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(orders.as_bytes()).map_err(failed)?;
            }
            let output = child.wait_with_output().map_err(failed)?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                let text = format!("{tool} refused: {}", said.lines().next().unwrap_or("without a word"));
                return Err(CliError::new(Code::Failed, text));
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The hub, where clients are, and the nodes around it.
#[derive(Debug)]
pub(crate) struct Network {
    hub: Namespace,
    nodes: Vec<Namespace>,
}

/// What came to a node from other nodes, since loss was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Packets that passed.
    pub(crate) passed: u64,
    /// Packets that were dropped.
    pub(crate) lost: u64,
}

impl Network {
    pub(crate) fn new(count: u16) -> Result<Self, CliError> {
        let hub = Namespace::new()?;
        let nodes = (0..count).map(|_| Namespace::new()).collect::<Result<Vec<_>, _>>()?;
        let mut orders =
            format!("link add br0 type bridge\naddr add {}/24 dev br0\nlink set br0 up\n", address(254));
        for (id, node) in (1..).zip(&nodes) {
            let pid = node.holder.id();
            let id: u8 = id;
            orders += &format!("link add v{id} mtu 1500 type veth peer name eth0 mtu 1500 netns {pid}\n");
            orders += &format!("link set v{id} gso_max_segs 1\nlink set v{id} master br0 up\n");
        }
        hub.order("ip", &["-batch", "-"], &orders)?;
        for (id, node) in (1..).zip(&nodes) {
            let at = address(id);
            let orders = format!(
                "link set lo up\nlink set eth0 gso_max_segs 1\naddr add {at}/24 dev eth0\nlink set eth0 up\n"
            );
            node.order("ip", &["-batch", "-"], &orders)?;
        }
        Ok(Self { hub, nodes })
    }

    /// The nodes' addresses.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        (1..).zip(&self.nodes).map(|(id, _)| SocketAddr::from((address(id), PORT))).collect()
    }

    /// Does something where clients are.
    pub(crate) fn at_clients<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, CliError> + Send,
    ) -> Result<T, CliError> {
        self.hub.within(work)
    }

    /// Does something where this node is.
    pub(crate) fn at_node<T: Send>(
        &self,
        node: u16,
        work: impl FnOnce() -> Result<T, CliError> + Send,
    ) -> Result<T, CliError> {
        self.nodes[usize::from(node) - 1].within(work)
    }

    /// Lets every packet that comes to a node from another one be lost with this probability.
    pub(crate) fn lose(&self, share: Share) -> Result<(), CliError> {
        let others: Vec<String> = self.addresses().iter().map(|at| at.ip().to_string()).collect();
        let rules = format!(
            "table ip loss {{\nchain coming {{\ntype filter hook prerouting priority -300\n\
             ip saddr != {{ {} }} accept\nnumgen random mod 1000000 < {} counter drop\ncounter\n}}\n}}\n",
            others.join(", "),
            share.parts_per_million()
        );
        self.nodes.iter().try_for_each(|node| node.order("nft", &["-f", "-"], &rules).map(drop))
    }

    /// What the rules have counted, node by node.
    pub(crate) fn passed(&self) -> Result<Vec<Passed>, CliError> {
        let count = |node: &Namespace| {
            let text = node.order("nft", &["-j", "list", "table", "ip", "loss"], "")?;
            counted(&text).ok_or_else(|| CliError::new(Code::Failed, "nft lists no counters"))
        };
        self.nodes.iter().map(count).collect()
    }
}

fn address(id: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, id)
}

/// The two counters of the rules above, as `nft -j` lists them.
fn counted(text: &str) -> Option<Passed> {
    let listed: serde_json::Value = serde_json::from_str(text).ok()?;
    let rules = listed["nftables"].as_array()?.iter().filter_map(|it| it["rule"]["expr"].as_array());
    let mut counters = rules.flatten().filter_map(|it| it["counter"]["packets"].as_u64());
    Some(Passed { lost: counters.next()?, passed: counters.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_are_those_of_the_rule_that_drops_and_the_one_after_it() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "ip"}},
            {"rule": {"expr": [{"match": {}}, {"accept": null}]}},
            {"rule": {"expr": [{"match": {}}, {"counter": {"packets": 5, "bytes": 9}}, {"drop": null}]}},
            {"rule": {"expr": [{"counter": {"packets": 95, "bytes": 99}}]}}]}"#;
        assert_eq!(counted(text), Some(Passed { passed: 95, lost: 5 }));
        assert_eq!(counted("{}"), None);
    }
}
