//! The drivers: sockets, clocks, timers, disks and threads around the machines of the floors below.

pub mod clock;
pub mod disk;
pub mod net;
pub mod socket;
pub mod timer;
