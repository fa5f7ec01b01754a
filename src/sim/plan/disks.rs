//! What befalls disks and what is on them.

use core::time::Duration;

use super::{Later, Plan};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::sim::faults::Fault;
use crate::sim::server::Crash;
use crate::sim::simulation::Simulation;
use crate::store::{DiskFault, MemoryDisk, inspect};

const BLOCK_BYTES: usize = 4096;

impl Plan {
    /// One of the next operations fails; the node ends by itself, and is started again.
    pub(super) fn fail_disk<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16) {
        let (after, fault) =
            (self.rng.below(12), if self.rng.chance(0.8) { DiskFault::Fail } else { DiskFault::Full });
        sim.with_disk(node, |disk| disk.set_fault(disk.operations() + after, fault));
    }

    pub(super) fn fill_disk<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16, span: Duration) {
        let more = self.rng.below(200_000);
        sim.with_disk(node, |disk| {
            let names: Vec<String> = disk.file_names().map(str::to_owned).collect();
            let bytes: usize = names.iter().filter_map(|name| disk.content(name)).map(<[u8]>::len).sum();
            disk.set_capacity(Some(bytes as u64 + more));
        });
        self.later(sim, span, Later::FreeDisk(node));
    }

    /// Changes a node's data behind its back while it is down, if one more node may lose its data.
    pub(super) fn spoil<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16, fault: Fault) {
        if fault == Fault::OldBackup && !self.has_old_backup(sim, node) {
            return self.back_up(sim, node);
        }
        if !self.may_spoil(sim, node) || self.retired.contains(&node) {
            return;
        }
        sim.crash(node, if self.rng.chance(0.5) { Crash::Kill } else { Crash::PowerCut });
        let rng = &mut self.rng;
        match fault {
            Fault::Rot => sim.spoil_disk(node, |disk| rot(disk, rng)),
            Fault::Misdirect => sim.spoil_disk(node, |disk| misdirect(disk, rng)),
            Fault::MissingFile => sim.spoil_disk(node, |disk| {
                if let Some(name) = any_file(disk, rng, "") {
                    disk.lose(&name);
                }
            }),
            Fault::Wipe => sim.wipe(node),
            Fault::OldBackup => {
                if let Some((_, old)) = self.backups.remove(&node) {
                    sim.put_back(node, old);
                }
            }
            _ => {}
        }
        self.spoiled.insert(node);
        let span = self.about(self.mix.span);
        self.later(sim, span, Later::Start(node));
        if fault == Fault::OldBackup {
            // Its boots count up from the old number; after enough of them they would pass for new ones.
            self.retire_after_start(sim, node);
        }
    }

    fn retire_after_start<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16) {
        self.start(sim, node);
        self.retired.insert(node);
    }

    fn back_up<M: Machine>(&mut self, sim: &mut Simulation<M>, node: u16) {
        if sim.node(node).is_some() && !self.backups.contains_key(&node) {
            let copy = sim.with_disk(node, |disk| disk.clone());
            self.backups.insert(node, (sim.incarnation(node), copy));
        }
    }

    /// Whether a copy was taken that every other node would know for one: all have seen a later boot, durably.
    fn has_old_backup<M: Machine>(&self, sim: &mut Simulation<M>, node: u16) -> bool {
        let Some((taken_in, copy)) = self.backups.get(&node) else { return false };
        let Ok(meta) = inspect::meta(&mut copy.clone()) else { return false };
        let store = meta.record.store;
        (1..=sim.nodes()).filter(|other| *other != node).all(|other| {
            let meta = sim.with_disk(other, |disk| inspect::meta(&mut disk.clone()));
            let seen = meta.ok().and_then(|meta| meta.record.peers.get(&store).map(|seen| seen.incarnation));
            seen.is_some_and(|seen| seen > *taken_in)
        })
    }
}

/// Flips one to three bits in one file, where something was written.
fn rot(disk: &mut MemoryDisk, rng: &mut Rng) {
    let Some(name) = any_file(disk, rng, "") else { return };
    let flips = 1 + rng.below(3);
    disk.rot(&name, |bytes| {
        let Some(end) = bytes.iter().rposition(|byte| *byte != 0) else { return };
        for _ in 0..flips {
            let bit = rng.below((end as u64 + 1) * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    });
}

/// Writes one block of a log file over another one, of an older file or the same.
fn misdirect(disk: &mut MemoryDisk, rng: &mut Rng) {
    let (Some(from), Some(to)) = (any_file(disk, rng, "log-"), any_file(disk, rng, "log-")) else { return };
    let block = |disk: &MemoryDisk, name: &str, rng: &mut Rng| {
        let bytes = disk.content(name)?;
        let end = bytes.iter().rposition(|byte| *byte != 0)?;
        let at = rng.below((end / BLOCK_BYTES) as u64 + 1) as usize * BLOCK_BYTES;
        Some((at, bytes.get(at..at + BLOCK_BYTES)?.to_vec()))
    };
    let (Some((_, content)), Some((at, _))) = (block(disk, &from, rng), block(disk, &to, rng)) else {
        return;
    };
    disk.rot(&to, |bytes| bytes[at..at + BLOCK_BYTES].copy_from_slice(&content));
}

fn any_file(disk: &MemoryDisk, rng: &mut Rng, prefix: &str) -> Option<String> {
    let names: Vec<&str> = disk.file_names().filter(|name| name.starts_with(prefix)).collect();
    if names.is_empty() {
        return None;
    }
    Some(names[rng.below(names.len() as u64) as usize].to_owned())
}
