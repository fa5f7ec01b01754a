//! The load of `bench kv`: many clients' loops on few sockets.
//!
//! A *client* has at most one operation under way. The clients of one socket share a link and its datagrams, as the
//! requests of one busy program do, and the sockets share a thread: one apiece would cost more processor than the
//! cluster under test.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use raftgram::client::{Answer, Client, ClientError, OperationId, Outcome, Output};
use raftgram::kv::{self, Command, Query};
use raftgram::rng::Rng;
use raftgram::run::clock::Clock;
use raftgram::run::socket::Outgoing;
use raftgram::wire::client::ReadLevel;
use serde::Serialize;

use super::history::{Function, History, Open as Line};
use super::report::histogram;
use super::sockets::Sockets;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::output::Format;

/// A value begins with its operation's number.
pub(super) const MARK_BYTES: u64 = 16;

/// How long operations may go on after the end of the load, beyond their own timeout.
const GRACE: Duration = Duration::from_secs(5);

/// What all clients share.
pub(super) struct Load<'a> {
    pub(super) clients: usize,
    pub(super) value_bytes: u64,
    pub(super) reads: f64,
    pub(super) level: ReadLevel,
    pub(super) keys: u64,
    /// Operations a second that begin whether or not earlier ones were answered; without it each client begins its next
    /// when its last has ended.
    pub(super) rate: Option<u32>,
    pub(super) timeout: Duration,
    pub(super) seed: u64,
    pub(super) began: Instant,
    pub(super) measure_from: Instant,
    pub(super) until: Instant,
    pub(super) history: Option<&'a History>,
    pub(super) interrupt: &'a Interrupt,
    /// Operations that have ended well, for those who watch.
    pub(super) done: &'a AtomicU64,
}

/// What the clients found.
pub(super) struct Tally {
    /// Of the operations that succeeded and began after the warm-up, in nanoseconds.
    pub(super) latencies: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) unknown: u64,
    /// The first failure: the figures say how many, this says what.
    pub(super) first: Option<ClientError>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { latencies: histogram(), errors: 0, unknown: 0, first: None }
    }

    /// What both found.
    pub(super) fn merge(&mut self, other: Self) {
        self.latencies += &other.latencies;
        self.errors += other.errors;
        self.unknown += other.unknown;
        self.first = self.first.take().or(other.first);
    }

    fn add(&mut self, ended: Result<(), (ClientError, Outcome)>, latency: Duration) {
        match ended {
            Ok(()) => {
                self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
            }
            Err((error, outcome)) => {
                match outcome {
                    Outcome::Unknown => self.unknown += 1,
                    Outcome::NotSent => self.errors += 1,
                }
                self.first.get_or_insert(error);
            }
        }
    }
}

impl Load<'_> {
    /// Runs, and tells what each second brought: a line on a terminal, an event in a JSON stream.
    pub(super) fn run_watched(&self, sockets: Sockets, format: Format) -> Result<Tally, CliError> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| self.watch(&is_over, format));
            let tally = sockets.run(self);
            is_over.store(true, Ordering::Relaxed);
            watcher.thread().unpark();
            tally
        })
    }

    fn watch(&self, is_over: &AtomicBool, format: Format) {
        let is_terminal = format == Format::Terminal && std::io::stderr().is_terminal();
        if !is_terminal && format != Format::JsonStream {
            return;
        }
        let mut told = 0;
        for second in 1.. {
            let at = self.began + Duration::from_secs(second);
            while let Some(left) = at.checked_duration_since(Instant::now()) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                thread::park_timeout(left);
            }
            let done = self.done.load(Ordering::Relaxed);
            let row = Row { event: "second", second, ops: done - told, is_warm_up: at <= self.measure_from };
            told = done;
            // The rows are a courtesy: a terminal that is gone changes nothing.
            let _ = if is_terminal {
                let kind = if row.is_warm_up { " (warm-up)" } else { "" };
                writeln!(std::io::stderr(), "{:4} s {:9} ops/s{kind}", row.second, row.ops).is_ok()
            } else {
                format.event(&row).is_ok()
            };
        }
    }

    /// The end of the load, and of whatever may be left of it then.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until || self.interrupt.is_raised()
    }
}

/// One second of a run.
#[derive(Debug, Serialize)]
struct Row {
    event: &'static str,
    second: u64,
    ops: u64,
    is_warm_up: bool,
}

/// The clients of one socket.
pub(super) struct Share<'a> {
    load: &'a Load<'a>,
    rng: Rng,
    /// The number of the next operation here, and by how much the one after it is higher.
    next: u64,
    step: u64,
    /// The process numbers of clients with nothing under way.
    free: Vec<u64>,
    open: BTreeMap<OperationId, Open>,
    tally: Tally,
}

/// An operation under way.
struct Open {
    process: u64,
    began: Instant,
    is_read: bool,
    line: Option<(Line, Option<String>)>,
}

impl<'a> Share<'a> {
    /// The `place`th of `count` sockets' clients.
    pub(super) fn new(load: &'a Load<'a>, place: usize, count: usize) -> Self {
        let free = (0..load.clients).filter(|client| client % count == place).map(|client| client as u64);
        Self {
            load,
            rng: Rng::from_seed(load.seed ^ (place as u64 + 1)),
            next: place as u64,
            step: count as u64,
            free: free.collect(),
            open: BTreeMap::new(),
            tally: Tally::new(),
        }
    }

    /// Whether nothing is left to wait for.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        self.load.is_over(now) && (self.open.is_empty() || now >= self.load.until + self.load.timeout + GRACE)
    }

    /// What was found.
    pub(super) fn into_tally(self) -> Tally {
        self.tally
    }

    /// Begins what is due, and again where that ended at once; what is to be sent goes to `outgoing`.
    pub(super) fn turn(&mut self, client: &mut Client, clock: &Clock, outgoing: &mut Vec<Outgoing>) {
        loop {
            self.begin_due(client, clock);
            client.turn(clock.now());
            let mut has_ended = false;
            let now = Instant::now();
            while let Some(output) = client.poll_output() {
                match output {
                    Output::Transmit { to, bytes } => outgoing.push(Outgoing { to, bytes }),
                    Output::Done { id, result } => {
                        has_ended = true;
                        self.end(now, id, result);
                    }
                }
            }
            if !has_ended {
                return;
            }
        }
    }

    /// When the next operation should begin, if a client is free for it.
    pub(super) fn begins_at(&self, now: Instant) -> Option<Instant> {
        self.free.last()?;
        let at = match self.load.rate {
            None => now,
            Some(rate) => {
                let nanos = u128::from(self.next) * 1_000_000_000 / u128::from(rate);
                self.load.began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        };
        (at < self.load.until).then_some(at)
    }

    fn begin_due(&mut self, client: &mut Client, clock: &Clock) {
        let now = Instant::now();
        while let Some(began) = self.begins_at(now).filter(|at| *at <= now)
            && now < self.load.until
            && !self.load.interrupt.is_raised()
            && let Some(process) = self.free.pop()
        {
            let number = self.next;
            self.next += self.step;
            let (id, open) = self.begin(client, clock, number, process, began);
            self.open.insert(id, open);
        }
    }

    fn begin(
        &mut self,
        client: &mut Client,
        clock: &Clock,
        number: u64,
        process: u64,
        began: Instant,
    ) -> (OperationId, Open) {
        let load = self.load;
        let key = format!("bench/{}", self.rng.below(load.keys));
        let is_read = self.rng.chance(load.reads);
        let deadline = clock.now() + load.timeout;
        let invoke = |function, value: Option<&String>| {
            load.history.map(|history| history.invoke(process, function, &key, value.cloned()))
        };
        if is_read {
            let line = invoke(Function::Read, None).map(|line| (line, None));
            let query = Query::Get { key: key.as_bytes() }.to_bytes();
            return (client.read(query, load.level, deadline), Open { process, began, is_read, line });
        }
        let value = value(number, load.seed, load.value_bytes);
        let line = invoke(Function::Write, Some(&value));
        let command = Command::Put { key: key.as_bytes(), value: value.as_bytes() }.to_bytes();
        let line = line.map(|line| (line, Some(value)));
        (client.propose(command, deadline), Open { process, began, is_read, line })
    }

    fn end(&mut self, now: Instant, id: OperationId, result: Result<Answer, ClientError>) {
        let Some(Open { mut process, began, is_read, line }) = self.open.remove(&id) else { return };
        let found = result.as_ref().ok().and_then(read_value);
        let ended = result.map(drop).map_err(|error| {
            // A read changes nothing: one without an answer has failed, it is not unknown.
            let outcome = if is_read { Outcome::NotSent } else { outcome(&error) };
            (error, outcome)
        });
        if let (Some(history), Some((line, written))) = (self.load.history, line) {
            history.complete(line, &ended, if is_read { found } else { written });
        }
        if matches!(ended, Err((_, Outcome::Unknown))) {
            process += self.load.clients as u64;
        }
        self.free.push(process);
        self.load.done.fetch_add(u64::from(ended.is_ok()), Ordering::Relaxed);
        if began >= self.load.measure_from {
            self.tally.add(ended, now.saturating_duration_since(began));
        }
    }
}

/// Whether a write that failed may have happened.
pub(crate) fn outcome(error: &ClientError) -> Outcome {
    match error {
        ClientError::TimedOut { outcome, .. } | ClientError::SessionExpired { outcome } => *outcome,
        ClientError::BadReply => Outcome::Unknown,
        _ => Outcome::NotSent,
    }
}

fn read_value(answer: &Answer) -> Option<String> {
    let Answer::Read { result, .. } = answer else { return None };
    match kv::Answer::decode(result) {
        Ok(kv::Answer::Found { value, .. }) => Some(String::from_utf8_lossy(value).into_owned()),
        _ => None,
    }
}

/// A value of this size; from 16 bytes on no other operation of any run has the same.
pub(crate) fn value(number: u64, seed: u64, bytes: u64) -> String {
    let mark = format!("{:08x}{:08x}", seed as u32, number as u32);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut value = mark;
    value.truncate(bytes);
    value.extend(std::iter::repeat_n('.', bytes - value.len()));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_differ() {
        assert_eq!(value(1, 2, 20), "0000000200000001....");
        assert_eq!(value(1, 2, 3), "000");
        assert_ne!(value(1, 2, MARK_BYTES), value(2, 2, MARK_BYTES));
    }

    #[test]
    fn only_an_operation_that_was_sent_is_unknown() {
        assert_eq!(outcome(&ClientError::Busy), Outcome::NotSent);
        assert_eq!(outcome(&ClientError::SessionExpired { outcome: Outcome::Unknown }), Outcome::Unknown);
    }
}
