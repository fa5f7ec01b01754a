//! The conformance suite on the memory disk and on a real folder.

use crate::store::conformance::{self, Subject};
use crate::store::memory::MemoryDisk;

/// The process is killed: the cache stays.
struct Killed;

impl Subject for Killed {
    type Disk = MemoryDisk;

    fn empty(&mut self) -> MemoryDisk {
        MemoryDisk::new()
    }

    fn restarted(&mut self, disk: MemoryDisk) -> MemoryDisk {
        disk
    }
}

/// The machine loses power, and with it all that was not synced.
struct PowerCut;

impl Subject for PowerCut {
    type Disk = MemoryDisk;

    fn empty(&mut self) -> MemoryDisk {
        MemoryDisk::new()
    }

    fn restarted(&mut self, mut disk: MemoryDisk) -> MemoryDisk {
        disk.crash_keeping(|_, _| false, |_| false);
        disk
    }
}

#[test]
fn the_memory_disk_conforms_when_processes_are_killed() {
    conformance::check(&mut Killed);
}

#[test]
fn the_memory_disk_conforms_when_the_power_fails_d5_d7() {
    conformance::check(&mut PowerCut);
}
