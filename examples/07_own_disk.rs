//! A disk of one's own: here one in memory that counts what it is asked to make durable.
//!
//! `cargo run --example 07_own_disk`

use std::error::Error;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use raftgram::kv::{Command, Kv};
use raftgram::run::ram::RamDisk;
use raftgram::store::{Disk, DiskError, SharedDisk};
use raftgram::{IfBlank, Node, NodeId, NodeOptions};

#[derive(Clone, Default)]
struct Counted(RamDisk, Arc<AtomicU64>);

/// Passes everything on as it is.
macro_rules! pass_on {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)+) => {$(
        fn $name(&mut self $(, $argument: $kind)*) -> Result<$answer, DiskError> { self.0.$name($($argument),*) }
    )+};
}

#[rustfmt::skip]
impl Disk for Counted {
    pass_on! {
        list() -> Vec<String>;
        file_bytes(file: &str) -> u64;
        create(file: &str) -> ();
        read_at(file: &str, offset: u64, out: &mut [u8]) -> ();
        write_at(file: &str, offset: u64, bytes: &[u8]) -> ();
        shorten(file: &str, bytes: u64) -> ();
        remove(file: &str) -> ();
        rename(from: &str, to: &str) -> ();
        sync_folder() -> ();
    }

    fn sync(&mut self, file: &str) -> Result<(), DiskError> { self.1.fetch_add(1, Relaxed); self.0.sync(file) }
}

impl SharedDisk for Counted {
    fn share(&self) -> Result<Self, DiskError> {
        Ok(self.clone())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let (mut options, disk) = (NodeOptions::new(NodeId::MIN, address, "memory".into()), Counted::default());
    (options.voters, options.if_blank) = (NodeOptions::voters_from(&[address]), IfBlank::Bootstrap);
    let node = Node::start_on(options, Kv::new(), disk.clone())?;
    let (put, timeout) = (Command::Put { key: b"k", value: b"v" }.to_bytes(), Duration::from_secs(20));
    node.client(Default::default())?.propose(put, timeout).wait(timeout)??;
    println!("one write of a new cluster: {} syncs", disk.1.load(Relaxed));
    Ok(node.shutdown()?)
}
