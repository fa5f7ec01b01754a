//! A state machine of one's own under every fault: a queue from which each item may be taken once.
//!
//! Whole clusters run it in virtual time, each from a seed; with `--release` a few hundred take seconds. What a run
//! checks of every machine (replicas agree, nothing is done twice, nothing acknowledged is lost) needs no word here.
//! What is special to a queue does: no item comes out twice, and none that was never put in.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use raftgram::machine::Machine;
use raftgram::machine::{Fields, Frozen, RestoreError, Sink, SinkClosed, Source};
use raftgram::rng::Rng;
use raftgram::sim::workload::{Outcome, Process, Request, Workload};
use raftgram::sim::{Config, run};
use raftgram::time::Instant;
use raftgram::types::Index;

const SEEDS: u64 = 40;
const PUT: u8 = 0;
const TAKE: u8 = 1;

/// The machine: put adds an item, take returns the oldest, a query tells how many there are.
#[derive(Clone, Debug, Default)]
struct Queue(VecDeque<u64>);

impl Machine for Queue {
    fn apply(&mut self, _: Index, command: &[u8]) -> Vec<u8> {
        match command.split_first() {
            Some((&PUT, item)) => {
                self.0.extend(item.try_into().map(u64::from_be_bytes));
                Vec::new()
            }
            Some((&TAKE, _)) => self.0.pop_front().map_or_else(Vec::new, |item| item.to_be_bytes().to_vec()),
            _ => Vec::new(),
        }
    }

    fn query(&self, _: &[u8]) -> Vec<u8> {
        (self.0.len() as u64).to_be_bytes().to_vec()
    }

    /// A few items are copied in no time; `raftgram::layered` is for larger states.
    fn freeze(&mut self) -> Box<dyn Frozen> {
        Box::new(self.clone())
    }

    fn blank(&self) -> Self {
        Self::default()
    }

    fn restore(&mut self, source: &mut dyn Source) -> Result<(), RestoreError> {
        let mut fields = Fields::new(source);
        for _ in 0..fields.number()? {
            self.0.push_back(fields.number()?);
        }
        Ok(())
    }
}

impl Frozen for Queue {
    fn write(&self, sink: &mut dyn Sink) -> Result<(), SinkClosed> {
        sink.put(&(self.0.len() as u64).to_be_bytes())?;
        self.0.iter().try_for_each(|item| sink.put(&item.to_be_bytes()))
    }
}

/// What processes do with it, and what they must not see.
#[derive(Debug, Default)]
struct Work {
    /// Items put in, or perhaps put in: the next has this number.
    items: u64,
    taken: BTreeSet<u64>,
    /// What each process asked last.
    asked: std::collections::BTreeMap<Process, u8>,
}

impl Workload for Work {
    type Machine = Queue;

    fn machine() -> Queue {
        Queue::default()
    }

    fn begin(&mut self, _: Instant, process: Process, rng: &mut Rng) -> Request {
        let kind = if rng.chance(0.5) { PUT } else { TAKE };
        self.asked.insert(process, kind);
        let mut command = vec![kind];
        if kind == PUT {
            command.extend(self.items.to_be_bytes());
            self.items += 1;
        } else if rng.chance(0.2) {
            self.asked.insert(process, u8::MAX);
            return Request::Read(Vec::new());
        }
        Request::Write(command)
    }

    fn end(&mut self, _: Instant, process: Process, outcome: Outcome<&[u8]>) -> Result<(), String> {
        let (Some(TAKE), Outcome::Ok(result)) = (self.asked.remove(&process), outcome) else { return Ok(()) };
        // Nothing came out: the queue was empty.
        let Ok(item) = result.try_into().map(u64::from_be_bytes) else { return Ok(()) };
        if item >= self.items {
            return Err(format!("item {item} came out, and {} were put in", self.items));
        }
        if !self.taken.insert(item) {
            return Err(format!("item {item} came out twice"));
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<(), String> {
        Ok(())
    }
}

fn main() {
    let (mut events, mut time, mut answered) = (0, Duration::ZERO, 0);
    for seed in 0..SEEDS {
        let config = Config { time: Duration::from_secs(4), ..Config::new(seed) };
        let (report, _) = run(config, |_| Work::default());
        assert!(report.violation.is_none(), "{report}");
        events += report.events;
        time += report.time;
        answered += report.operations.ok;
    }
    println!(
        "{SEEDS} seeds, {} virtual seconds, {events} events, {answered} operations answered: nothing came out twice",
        time.as_secs()
    );
}
