//! A machine written out, for states that a closure does not hold: a log of lines that snapshots share, not copy.
//!
//! `cargo run --example 05_own_machine`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use raftgram::machine::{Fields, Frozen, RestoreError, Sink, SinkClosed, Source};
use raftgram::types::Index;
use raftgram::{Answer, Cluster, Machine, ReadLevel};

/// A command is a line, its result the line's number; a query asks nothing and is answered with the last line.
#[derive(Clone, Default)]
struct Lines(Vec<Arc<[u8]>>);

impl Machine for Lines {
    fn apply(&mut self, _index: Index, command: &[u8]) -> Vec<u8> {
        self.0.push(command.into());
        self.0.len().to_string().into_bytes()
    }

    fn query(&self, _query: &[u8]) -> Vec<u8> {
        self.0.last().map(|line| line.to_vec()).unwrap_or_default()
    }

    fn freeze(&mut self) -> Box<dyn Frozen> {
        Box::new(self.clone())
    }

    fn blank(&self) -> Self {
        Self::default()
    }

    fn restore(&mut self, source: &mut dyn Source) -> Result<(), RestoreError> {
        let mut fields = Fields::new(source);
        for _ in 0..fields.number()? {
            self.0.push(fields.prefixed(1 << 20)?.into());
        }
        fields.finish()
    }
}

impl Frozen for Lines {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        sink.put(&(self.0.len() as u64).to_be_bytes())?;
        self.0.iter().try_for_each(|line| sink.put_record(line))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let timeout = Duration::from_secs(20);
    let cluster = Cluster::in_process(3, Lines::default)?;
    let client = cluster.client()?;
    client.propose("the first line", timeout).wait(timeout)??;
    if let Answer::Read { result, .. } = client.read("", ReadLevel::AnyNode, timeout).wait(timeout)?? {
        println!("the last line is: {}", String::from_utf8(result)?);
    }
    Ok(())
}
