//! Network namespaces on one bridge, gone when this is dropped: veth pairs with an MTU of 1,500, and nft rules in each.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

/// The port of every node.
pub(super) const PORT: u16 = 7101;

/// A hub, where clients are, and so many nodes around it.
pub(super) struct Net {
    name: String,
    count: usize,
}

impl Net {
    pub(super) fn new(count: usize) -> Self {
        let net = Self { name: format!("rg{}", std::process::id()), count };
        let hub = net.place(0);
        ip(&format!("netns add {hub}"));
        ip(&format!("-n {hub} link add br0 type bridge"));
        ip(&format!("-n {hub} addr add {}/24 dev br0", address(254)));
        ip(&format!("-n {hub} link set br0 up"));
        for id in 1..=count {
            let node = net.place(id);
            ip(&format!("netns add {node}"));
            ip(&format!("-n {hub} link add v{id} mtu 1500 type veth peer name eth0 mtu 1500 netns {node}"));
            ip(&format!("-n {hub} link set v{id} master br0 up"));
            ip(&format!("-n {node} addr add {}/24 dev eth0", address(id)));
            ip(&format!("-n {node} link set eth0 up"));
            ip(&format!("-n {node} link set lo up"));
        }
        net
    }

    /// The namespace of a node, or of the hub at 0.
    fn place(&self, id: usize) -> String {
        format!("{}-{id}", self.name)
    }

    /// What a command there stands behind.
    pub(super) fn within(&self, id: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.place(id)].map(str::to_owned).to_vec()
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        (1..=self.count).map(|id| SocketAddr::from((address(id), PORT))).collect()
    }

    /// What becomes of datagrams that come to a node: statements of nft, one a line.
    pub(super) fn rule(&self, id: usize, rules: &str) {
        self.heal(id);
        let table = format!(
            "table ip faults {{\nchain coming {{\ntype filter hook prerouting priority -300\n{rules}\n}}\n}}\n"
        );
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.place(id), "nft", "-f", "-"]).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "nft refused:\n{table}");
    }

    pub(super) fn heal(&self, id: usize) {
        ip(&format!("netns exec {} nft flush ruleset", self.place(id)));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for id in 0..=self.count {
            // Links and rules go with their namespace; one that was never made is none to remove.
            let _ = Command::new("ip").args(["netns", "del", &self.place(id)]).stderr(Stdio::null()).status();
        }
    }
}

fn address(id: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(id).expect("a handful of nodes"))
}

#[track_caller]
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
