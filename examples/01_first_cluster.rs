//! A replicated key-value store of three nodes in one process: write, read, compare and set.
//!
//! `cargo run --example 01_first_cluster`

use std::error::Error;
use std::time::Duration;

use raftgram::kv::{self, Command, CommandResult, Kv, Query};
use raftgram::{Answer, Cluster, ReadLevel};

const TIMEOUT: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    // The ports are free ones, the data is in memory; 03_nodes_on_disk.rs has both as they really are.
    let cluster = Cluster::in_process(3, Kv::new)?;
    let client = cluster.client()?;

    let put = Command::Put { key: b"greeting", value: b"hello" };
    if let Answer::Applied { index, .. } = client.propose(put.to_bytes(), TIMEOUT).wait(TIMEOUT)?? {
        println!("written by entry {index}");
    }

    let get = Query::Get { key: b"greeting" }.to_bytes();
    if let Answer::Read { result, .. } =
        client.read(get, ReadLevel::Linearizable, TIMEOUT).wait(TIMEOUT)??
    {
        let kv::Answer::Found { value, .. } = kv::Answer::decode(&result)? else {
            return Err("not there".into());
        };
        println!("it holds {}", String::from_utf8_lossy(value));
    }

    // Only if it still is what we think it is.
    let cas = Command::Cas { key: b"greeting", old: Some(b"good bye"), new: b"bonjour" };
    if let Answer::Applied { result, .. } = client.propose(cas.to_bytes(), TIMEOUT).wait(TIMEOUT)?? {
        let CommandResult::CompareFailed { .. } = CommandResult::decode(&result)? else {
            return Err("it was no good bye".into());
        };
        println!("it is no good bye, so nothing changed");
    }
    Ok(())
}
