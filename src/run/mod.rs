//! The drivers: sockets, clocks, timers, disks and threads around the machines of the floors below.
//!
//! A node takes two threads. Its *event loop* does everything that a datagram's way from receipt to answer needs:
//! receive, decode, step, apply, encode, send; a hop to another thread would cost more than all of it. Its *disk
//! thread* makes batches durable and says so; whatever was asked for while it synced goes into the next batch, so
//! that one sync serves all. A node that runs without fsync writes in the event loop itself.
//!
//! [`boot`] turns a data folder and a plan into a running node: it opens the folder, founds or joins if it is blank,
//! and opens it again as a founded node's. [`shaper`] puts seeded faults between a node's socket and its machine, and
//! [`record`] writes down what the machine sends, gets and becomes. [`recovery`] begins a new cluster with the folder
//! of a survivor, where the old one has lost its quorum for good. [`figures`] and [`sights`] are for those who look on:
//! a loop answers between two turns, so that nothing is shared with it. `streams` carries what nodes say to each other
//! over TCP, where somebody wants to know what UDP is worth.

pub mod boot;
pub mod client;
mod client_socket;
pub mod clock;
pub mod disk;
mod disk_thread;
pub mod figures;
pub mod keys;
pub mod mailbox;
pub mod net;
pub mod node;
pub mod ram;
pub mod record;
pub mod recovery;
pub mod shaper;
pub mod sights;
mod snapshot_thread;
pub mod socket;
pub mod spin;
mod streams;
pub mod timer;

use std::io::{self, Read as _};

use crate::rng::Rng;

/// A generator seeded by the operating system.
pub fn random_rng() -> io::Result<Rng> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(Rng::from_bytes(seed))
}
