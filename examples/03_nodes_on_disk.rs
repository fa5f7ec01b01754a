//! Nodes as they run for good: fixed addresses, a data folder each, everything written before it is answered.
//!
//! `cargo run --example 03_nodes_on_disk`

use std::error::Error;
use std::net::UdpSocket;
use std::time::Duration;

use raftgram::kv::{Command, Kv};
use raftgram::{Answer, IfBlank, Node, NodeOptions};

const TIMEOUT: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("raftgram-nodes-on-disk-{}", std::process::id()));
    // Three free ports of this host; in earnest each node is a process on a host of its own.
    let sockets = [0; 3].map(|_| UdpSocket::bind("127.0.0.1:0"));
    let addresses = sockets.into_iter().map(|socket| socket?.local_addr()).collect::<Result<Vec<_>, _>>()?;
    let voters = NodeOptions::voters_from(&addresses);

    let start = |if_blank| -> Result<Vec<Node>, Box<dyn Error>> {
        let mut nodes = Vec::new();
        for (id, address) in voters.keys().zip(&addresses) {
            let mut options = NodeOptions::new(*id, *address, folder.join(id.to_string()));
            options.voters = voters.clone();
            options.if_blank = if_blank;
            nodes.push(Node::start(options, Kv::new())?);
        }
        Ok(nodes)
    };

    // The first time the three found a cluster. Later they must find their data: a blank folder is refused.
    for (round, if_blank) in [IfBlank::Bootstrap, IfBlank::Refuse].into_iter().enumerate() {
        let nodes = start(if_blank)?;
        let client = nodes[0].client(Default::default())?;
        let put = Command::Put { key: b"round", value: round.to_string().as_bytes() }.to_bytes();
        if let Answer::Applied { index, term, .. } = client.propose(put, TIMEOUT).wait(TIMEOUT)?? {
            println!("round {round}: entry {index} of term {term}");
        }
        // A node that is told to stop hands its leadership over.
        for node in nodes {
            node.shutdown()?;
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
