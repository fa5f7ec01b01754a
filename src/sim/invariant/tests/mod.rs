//! Each invariant can fail: hand-made nodes, disks, datagrams and answers that break it.

mod answers;
mod consensus;
mod messages;
mod puppet;
mod runs;
mod whole;
