//! Three nodes in one process replicate a machine of our own: a set of named counters.
//!
//! `cargo run --example embed`

use std::collections::BTreeMap;
use std::error::Error;
use std::net::UdpSocket;
use std::time::Duration;

use raftgram::machine::{Fields, Frozen, RestoreError, Sink, SinkClosed, Source};
use raftgram::types::Index;
use raftgram::{Answer, IfBlank, Machine, Node, NodeOptions, ReadLevel};

/// A command is a name: its counter goes up by one. A query is a name: the answer is its count.
#[derive(Clone, Default)]
struct Counters(BTreeMap<Vec<u8>, u64>);

impl Machine for Counters {
    fn apply(&mut self, _index: Index, command: &[u8]) -> Vec<u8> {
        let count = self.0.entry(command.to_vec()).or_default();
        *count += 1;
        count.to_be_bytes().to_vec()
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        self.0.get(query).copied().unwrap_or_default().to_be_bytes().to_vec()
    }

    /// A few counters are copied in no time; `raftgram::layered` is for larger states.
    fn freeze(&mut self) -> Box<dyn Frozen> {
        Box::new(self.clone())
    }

    fn blank(&self) -> Self {
        Self::default()
    }

    fn restore(&mut self, source: &mut dyn Source) -> Result<(), RestoreError> {
        let mut fields = Fields::new(source);
        for _ in 0..fields.number()? {
            let name = fields.prefixed(1 << 20)?;
            self.0.insert(name, fields.number()?);
        }
        Ok(())
    }
}

impl Frozen for Counters {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        sink.put(&(self.0.len() as u64).to_be_bytes())?;
        self.0.iter().try_for_each(|(name, count)| {
            sink.put_record(name)?;
            sink.put(&count.to_be_bytes())
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("raftgram-embed-{}", std::process::id()));
    // Three free ports; a real cluster has fixed ones.
    let sockets = [0; 3].map(|_| UdpSocket::bind("127.0.0.1:0"));
    let addresses = sockets.into_iter().map(|socket| socket?.local_addr()).collect::<Result<Vec<_>, _>>()?;

    let mut nodes = Vec::new();
    for (id, address) in NodeOptions::voters_from(&addresses).keys().zip(&addresses) {
        let mut options = NodeOptions::new(*id, *address, folder.join(id.to_string()));
        options.voters = NodeOptions::voters_from(&addresses);
        options.if_blank = IfBlank::Bootstrap;
        nodes.push(Node::start(options, Counters::default())?);
    }

    let client = nodes[0].client(Default::default())?;
    let timeout = Duration::from_secs(10);
    for _ in 0..3 {
        client.propose("visits", timeout).wait(timeout * 2)??;
    }
    if let Answer::Read { result, index, .. } =
        client.read("visits", ReadLevel::Linearizable, timeout).wait(timeout * 2)??
    {
        println!("visits: {} (read at index {index})", u64::from_be_bytes(result.as_slice().try_into()?));
    }

    for node in nodes {
        node.shutdown()?;
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
