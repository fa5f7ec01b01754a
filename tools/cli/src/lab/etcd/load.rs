//! The clients: each puts, waits for the answer and puts again. A few threads with a connection each carry them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use raftgram::rng::Rng;

use super::grpc::{Connection, bytes_field};
use crate::bench::load::value;
use crate::error::{CliError, Code};
use crate::interrupt::Interrupt;
use crate::lab::meter::{Ended, Meter};
use crate::lab::plan::Task;
use crate::lab::processes::{GRACE, LOOK, since_us};

/// More connections than these cost etcd more than they bring it.
const CONNECTIONS_MAX: u16 = 8;

/// How long a connection may take to be made, and before another attempt.
const CONNECT: Duration = Duration::from_secs(1);

/// Runs the load until the measured span is over.
pub(super) fn run(
    task: &Task,
    addresses: &[SocketAddr],
    from: Instant,
    meter: &Mutex<Meter>,
    leader: &AtomicU16,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let began = Instant::now();
    let clients = task.scenario.load.clients;
    let threads = clients.min(CONNECTIONS_MAX);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..threads {
            let share = clients / threads + u16::from(number < clients % threads);
            let clients = Clients {
                task,
                addresses,
                from,
                until: from + task.scenario.duration.0,
                meter,
                leader,
                is_over: &is_over,
                rng: Rng::from_seed(task.seed ^ 0x1ab_1ab ^ u64::from(number) << 32),
                free: usize::from(share),
                begun: u64::from(number) << 40,
                open: BTreeMap::new(),
            };
            scope.spawn(|| clients.run());
        }
        let end = from + task.scenario.duration.0 + GRACE;
        while Instant::now() < end {
            if interrupt.is_raised() {
                is_over.store(true, Ordering::Relaxed);
                let text = "stopped before the end";
                return Err(CliError::new(Code::Interrupted, text).after(began.elapsed()));
            }
            thread::sleep(LOOK);
        }
        is_over.store(true, Ordering::Relaxed);
        Ok(())
    })
}

/// The clients of one connection.
struct Clients<'a> {
    task: &'a Task,
    addresses: &'a [SocketAddr],
    from: Instant,
    until: Instant,
    meter: &'a Mutex<Meter>,
    leader: &'a AtomicU16,
    is_over: &'a AtomicBool,
    rng: Rng,
    free: usize,
    begun: u64,
    /// By the number of the call: since when.
    open: BTreeMap<u32, Instant>,
}

impl Clients<'_> {
    fn run(mut self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let leader = self.leader.load(Ordering::Relaxed);
            let address = self.addresses[usize::from(leader.max(1)) - 1];
            let served = Connection::open(address, CONNECT).and_then(|it| self.serve(it, leader));
            // Of what was under way nobody knows; whoever cannot connect asks again a moment later.
            let lost: Vec<Instant> = std::mem::take(&mut self.open).into_values().collect();
            lost.into_iter().for_each(|began| self.end(began, Ended::Unknown));
            if served.is_err() {
                thread::sleep(LOOK);
            }
        }
    }

    /// Until another member leads and nothing is under way here any more.
    fn serve(&mut self, mut connection: Connection, leader: u16) -> std::io::Result<()> {
        while !self.is_over.load(Ordering::Relaxed) {
            let leads = self.leader.load(Ordering::Relaxed) == leader;
            if !leads && self.open.is_empty() {
                return Ok(());
            }
            while leads && self.free > 0 && Instant::now() < self.until {
                let load = &self.task.scenario.load;
                let key = format!("lab/{}", self.rng.below(load.keys));
                let value = value(self.begun, self.task.seed, load.value.0);
                let put = [bytes_field(1, key.as_bytes()), bytes_field(2, value.as_bytes())].concat();
                let began = Instant::now();
                self.begun += 1;
                self.free -= 1;
                let id = connection.begin("/etcdserverpb.KV/Put", &put);
                match id {
                    Ok(id) => drop(self.open.insert(id, began)),
                    Err(error) => {
                        self.end(began, Ended::Unknown);
                        return Err(error);
                    }
                }
            }
            for (id, answer) in connection.poll(LOOK)? {
                let Some(began) = self.open.remove(&id) else { continue };
                // What went wrong is in a field that is not read: it may have happened.
                self.end(began, if answer.is_some() { Ended::Ok } else { Ended::Unknown });
            }
            let (now, timeout) = (Instant::now(), self.task.scenario.timeout.0);
            let is_late = |began: &Instant| now.saturating_duration_since(*began) > timeout;
            let late = self.open.iter().filter(|(_, began)| is_late(began));
            let late: Vec<(u32, Instant)> = late.map(|(id, began)| (*id, *began)).collect();
            for (id, began) in late {
                self.open.remove(&id);
                self.end(began, Ended::Unknown);
            }
        }
        Ok(())
    }

    fn end(&mut self, began: Instant, how: Ended) {
        let now = Instant::now();
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.ended(since_us(self.from, now), now.saturating_duration_since(began), how);
        self.free += 1;
    }
}
