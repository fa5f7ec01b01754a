//! Being told what becomes of keys, in order and without a gap, whoever leads meanwhile.
//!
//! `cargo run --example 06_watch`

use std::error::Error;
use std::time::Duration;

use raftgram::kv::{Command, Kv};
use raftgram::types::Index;
use raftgram::{Answer, Cluster};

const TIMEOUT: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let mut cluster = Cluster::in_process(3, Kv::new)?;
    let (writer, watcher) = (cluster.client()?, cluster.client()?);
    let put = |key: &str, value: &str| -> Result<Index, Box<dyn Error>> {
        let command = Command::Put { key: key.as_bytes(), value: value.as_bytes() }.to_bytes();
        match writer.propose(command, TIMEOUT).wait(TIMEOUT)?? {
            Answer::Applied { index, .. } => Ok(index),
            other => Err(format!("{other:?}").into()),
        }
    };

    // Begin after what is known already: the first write here, a read's index elsewhere.
    let known = put("color", "red")?;
    let mut changes = watcher.watch(known, "color");

    put("color", "green")?;
    put("shape", "round")?;
    if let Some(leader) = cluster.leader(TIMEOUT) {
        cluster.stop(leader)?;
        println!("{leader} led, and is gone");
    }
    put("color", "blue")?;

    for expected in ["green", "blue"] {
        let change = changes.next(TIMEOUT)?.ok_or("nothing came")?;
        let Command::Put { key, value } = Command::decode(&change.event)? else {
            return Err("no put".into());
        };
        println!(
            "entry {}: {} is {}",
            change.index,
            String::from_utf8_lossy(key),
            String::from_utf8_lossy(value)
        );
        assert_eq!(value, expected.as_bytes());
    }
    Ok(())
}
