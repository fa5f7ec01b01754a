//! Each invariant can fail: hand-made nodes, disks, datagrams and answers that break it.

mod consensus;
mod puppet;
mod runs;
