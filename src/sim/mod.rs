//! The simulator: whole nodes and whole clients in one thread, on one virtual clock, from one seed.
//!
//! Everything that runs here is what runs in a process of its own: [`node::Node`](crate::node::Node) with its wire
//! bytes, calls, consensus and sessions, the founding before it, [`store::Store`](crate::store::Store) with the real
//! log format and its recovery, and [`client::Client`](crate::client::Client). Only socket, disk and clock are
//! replaced. So whatever goes wrong here goes wrong there, and here it can be played again from one number.
//!
//! # How time passes
//! An agenda holds what is to come: a datagram is due on a link, a node or client asked to be called, a disk write is
//! finished, a pause ends, the owner set a timer. [`Simulation::step`] takes the earliest, hands it to the one machine
//! it concerns, ends that machine's turn, and carries out what it wants: datagrams go into links, writes to the disk.
//! Nothing else is touched, so an event costs microseconds however many nodes there are. Each node has a clock of its
//! own, with its own zero and rate.
//!
//! # Disks
//! A [`MemoryDisk`](crate::store::MemoryDisk) stays with its machine while stores come and go. A write takes time,
//! and what queued up meanwhile goes with the next one, as the disk thread of a real node does it. A crash ends the
//! process between any two events, or between any two effects of one turn, and cuts a write under way at any of its
//! disk operations; a power cut loses any part of what was not synced, a kill loses nothing of it.
//!
//! # Two ways to use it
//! - *Scripted*: make a [`Simulation`] from [`Settings`], start nodes, [`propose`](Simulation::propose) and
//!   [`read`](Simulation::read), [`crash`](Simulation::crash), [`pause`](Simulation::pause),
//!   [`block`](Simulation::block), and wait with [`run_until`](Simulation::run_until). `tests/cluster` does.
//! - *Drawn*: [`run`] founds a cluster, lets a plan drawn from the seed do harm while clients work ([`workload`]),
//!   heals everything, and demands that the cluster serves again and that all members become equal; up to four times
//!   in a run. Each seed draws its own mix of faults and its own strengths. `raftgram sim` does that for many seeds.
//!
//! Either way every check of [`invariant`] is on, after each event.
//!
//! ```
//! use raftgram::kv::{Command, Kv};
//! use raftgram::sim::{Crash, Settings, Simulation};
//! use std::time::Duration;
//!
//! let mut sim = Simulation::new(Settings::new(7, 3), Kv::new);
//! sim.found();
//! let put = Command::Put { key: b"k", value: b"v" }.to_bytes();
//! let write = sim.propose(0, put, Duration::from_secs(5));
//! let leader = sim.leader().expect("founded");
//! sim.crash(leader, Crash::PowerCut);
//! assert!(sim.finish(0, write).is_ok(), "another node leads, and carries it out");
//! assert_ne!(sim.leader(), Some(leader));
//! ```
//!
//! # What must stay true
//! - Equal settings, seeds and deeds give equal runs, to the last byte, in every build and on every machine:
//!   [`Simulation::trace_hash`] is over all that happens. There is no clock, thread, hasher or global randomness here.
//! - Every room draws from a generator of its own, so that one more draw in one leaves the others as they were.
//! - Nothing here looks into a node but through what it offers everyone.
//! - Whether datagrams are sealed ([`Settings::seal`]) shifts no draw: where nothing goes by chance a sealed run is the
//!   plain one, to the nanosecond.
//!
//! Left out: two versions of the code in one run; silent errors of processors and memory.

mod agenda;
mod clients;
mod clock;
mod faults;
pub mod invariant;
mod judging;
mod lifecycle;
mod network;
mod plan;
mod recorder;
mod report;
mod run;
mod script;
mod sealing;
mod server;
mod settings;
mod simulation;
mod storage;
#[cfg(test)]
mod tests;
pub mod workload;

pub use clients::Ended;
pub use faults::{Fault, FaultSet, UnknownFault};
pub use invariant::Violation;
pub use network::End;
pub use report::{Counts, Report};
pub use run::{Config, run, run_with};
pub use server::{Crash, Down};
pub use settings::{NODES_MAX, Settings};
pub use simulation::Simulation;
pub use storage::DiskProfile;
