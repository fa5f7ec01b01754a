//! Everything from scratch, once in a while: what the incremental checks rest on is looked at itself.
//!
//! Whole logs against the committed log, committed entries against the shadows, and a copy of one data folder after a
//! power cut against its shadow, also with one bit flipped. Long logs are looked at in slices, so that a recheck stays
//! as cheap in an hour as in the first minute.

use super::cores::Cores;
use super::folders::Folders;
use super::oracle::Oracle;
use super::quorum;
use super::shadow::Shadow;
use super::subject::Subject;
use super::violation::{Broken, hold};
use crate::hash::Fnv1a;
use crate::raft::Base;
use crate::store::{MemoryDisk, OnDamage, OpenOptions, Recovered, Store};
use crate::types::Index;

/// How many entries of one log are looked at in one recheck.
const SLICE: u64 = 256;

/// One recheck in so many opens a copy of a data folder; the folders take turns.
pub(super) const REOPEN_EVERY: u64 = 24;

/// A slice of one node's log: every entry continues the chain, is where it was seen before, and is the committed one
/// as far as anything is committed there (3, 7).
pub(super) fn check_log(
    round: u64,
    node: &impl Subject,
    cores: &Cores,
    oracle: &Oracle,
) -> Result<(), Broken> {
    let id = node.identity().node;
    let Some(mirror) = cores.log_of(id) else { return Ok(()) };
    let (base, last) = (node.base().index, node.last());
    hold!(mirror.last() == last, LogMatching, "its log ends at {last}, the checks saw {}", mirror.last());
    let slices = (last.0 - base.0) / SLICE + 1;
    let first = Index(base.0 + 1 + (round % slices) * SLICE);
    let mut before = node.mark(first.prev()).map_or(0, |mark| mark.chain);
    for index in (first.0..=last.0.min(first.0 + SLICE - 1)).map(Index) {
        let Some(entry) = node.entry(index) else {
            hold!(false, Ordering, "has no entry {index} of {last}");
            return Ok(());
        };
        hold!(
            entry.is_chained_to(node.cluster(), before),
            LogMatching,
            "{index}@{} does not continue the one before it",
            entry.term
        );
        before = entry.chain;
        let mark = node.mark(index);
        hold!(mirror.at(index) == mark, LogMatching, "{index} changed unseen from {:?}", mirror.at(index));
        let is_committed = index <= node.commit();
        hold!(
            !is_committed || oracle.mark(index) == mark,
            CommittedImmutable,
            "has {mark:?} at {index} as committed, the cluster has {:?}",
            oracle.mark(index)
        );
    }
    Ok(())
}

/// 6: what is committed is still durable on the quorum that it was counted by, folders that were wiped since included.
pub(super) fn check_quorum(oracle: &Oracle, folders: &Folders) -> Result<(), Broken> {
    let Some((commit, committed, membership)) = oracle.newest() else { return Ok(()) };
    let is_kept = quorum::is_quorum(membership, |who| folders.hold(who, commit, committed.mark));
    hold!(is_kept, CommittedOnQuorum, "{commit} is committed, and no quorum of {membership} has it on disk");
    Ok(())
}

/// A copy of a data folder is opened as after a power cut that lost all that was not synced: it holds exactly what its
/// shadow says, or a write that was under way (9, 11).
pub(super) fn check_folder(shadow: &Shadow, disk: &MemoryDisk, options: &OpenOptions) -> Result<(), Broken> {
    if !shadow.is_whole() {
        return Ok(());
    }
    // A node whose log has a hole has it on the disk too, until it is mended.
    let options = OpenOptions { on_damage: OnDamage::Keep, ..*options };
    match Store::open(after_power_cut(disk), options) {
        Ok((_, recovered)) => check_recovered(shadow, &recovered, "a copy of its folder"),
        Err(error) => {
            hold!(false, DurableBeforeAcknowledged, "a copy of its folder does not open: {error}");
            Ok(())
        }
    }
}

/// The same with one bit of one file flipped: that is found out, or costs nothing (9, 11). Each round takes
/// another file and place.
pub(super) fn check_rotten(
    round: u64,
    shadow: &Shadow,
    disk: &MemoryDisk,
    options: &OpenOptions,
) -> Result<(), Broken> {
    let mut copy = after_power_cut(disk);
    let names: Vec<String> = copy.file_names().map(str::to_owned).collect();
    let hash = Fnv1a::default().u64(round);
    let Some(at) = hash.finish().checked_rem(names.len() as u64) else { return Ok(()) };
    let name = &names[at as usize];
    let mut flipped = None;
    copy.rot(name, |bytes| {
        let Some(end) = bytes.iter().rposition(|byte| *byte != 0) else { return };
        let bit = (hash.u64(at).finish() % ((end as u64 + 1) * 8)) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        flipped = Some(bit);
    });
    match (flipped, Store::open(copy, *options)) {
        (Some(bit), Ok((_, recovered))) if shadow.is_whole() => check_recovered(
            shadow,
            &recovered,
            &format!("a copy of its folder, with bit {bit} of {name} flipped,"),
        ),
        _ => Ok(()),
    }
}

fn after_power_cut(disk: &MemoryDisk) -> MemoryDisk {
    let mut copy = disk.clone();
    copy.crash_keeping(|_, _| false, |_| false);
    copy.set_capacity(None);
    copy
}

fn check_recovered(shadow: &Shadow, recovered: &Recovered, what: &str) -> Result<(), Broken> {
    hold!(
        shadow.may_be_damaged() || recovered.remains.is_none(),
        DurableBeforeAcknowledged,
        "{what} is damaged, and nothing was done to it: {:?}",
        recovered.damage
    );
    let (held, promised) = (recovered.hard_state, shadow.hard_state());
    hold!(shadow.may_hold(held), Monotone, "{what} holds {held}, it should be {promised}");
    hold!(
        recovered.incarnation > shadow.incarnation(),
        Monotone,
        "{what} boots as {}, it runs as {}",
        recovered.incarnation,
        shadow.incarnation()
    );
    let log = shadow.log();
    let base = recovered.snapshot.as_ref().map_or(Base::default(), |file| file.meta.id.into());
    hold!(
        shadow.may_begin_after(base),
        SnapshotState,
        "{what} has a log that begins after {base:?}, it should be {:?}",
        log.base()
    );
    // A crash may have cut the adoption of a snapshot that is found in force: what it covers is in that.
    let first = base.index.max(log.base().index).next();
    for index in (first.0..=shadow.promised().0).map(Index) {
        let position = index.0.checked_sub(base.index.0 + 1);
        let entry = position.and_then(|at| recovered.entries.get(usize::try_from(at).ok()?));
        hold!(
            entry.map(super::marks::Mark::of) == log.at(index),
            DurableBeforeAcknowledged,
            "{what} has {entry:?} at {index}, it should be {:?}",
            log.at(index)
        );
    }
    Ok(())
}
