//! The shadows of all data folders, those that are gone included.

use std::collections::BTreeMap;

use super::marks::Mark;
use super::oracle::Oracle;
use super::shadow::{Found, Shadow};
use super::violation::{Broken, hold};
use crate::snapshot::SnapshotMeta;
use crate::store::{Batch, LogAfter};
use crate::types::{Identity, Index, NodeId};

/// Every data folder that was ever booted.
#[derive(Debug, Default)]
pub(super) struct Folders {
    /// The folder each node runs on.
    current: BTreeMap<NodeId, Shadow>,
    /// Folders that were wiped, or damaged beyond what a store survives, as they were before. What they held counted
    /// when it was committed, and nobody can speak for them.
    gone: Vec<Shadow>,
}

impl Folders {
    pub(super) fn of(&self, node: NodeId) -> Option<&Shadow> {
        self.current.get(&node)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Shadow> {
        self.current.get_mut(&node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Shadow)> {
        self.current.iter().map(|(node, shadow)| (*node, shadow))
    }

    pub(super) fn wiped(&mut self, node: NodeId) {
        self.gone.extend(self.current.remove(&node));
    }

    /// A boot found what was promised (9, 11), and promises that from here on.
    pub(super) fn booted(&mut self, oracle: &mut Oracle, found: &Found<'_>) -> Result<(), Broken> {
        let node = found.identity.node;
        if self.current.get(&node).is_some_and(|shadow| shadow.identity() != found.identity) {
            self.wiped(node);
        }
        // A folder that was wiped is there again: an older copy of it was put back.
        let returned = self.gone.iter().rev().find(|shadow| shadow.identity() == found.identity);
        let shadow = self.current.entry(node).or_insert_with(|| match returned.cloned() {
            Some(mut shadow) => {
                shadow.forswear();
                shadow
            }
            None => Shadow::new(found.identity),
        });
        if !shadow.is_forsworn() {
            check_found(shadow, found)?;
        }
        if shadow.is_forsworn() || found.is_damaged {
            self.gone.push(shadow.clone());
        }
        shadow.boot(found);
        oracle.voted(found.identity, found.hard_state)
    }

    /// A disk write is done. 9: terms rise, and each has one vote.
    pub(super) fn persisted(
        &mut self,
        oracle: &mut Oracle,
        node: NodeId,
        batch: &Batch,
    ) -> Result<(), Broken> {
        let Some(shadow) = self.current.get_mut(&node) else { return Ok(()) };
        let before = shadow.hard_state();
        shadow.finish(batch);
        let after = shadow.hard_state();
        if after == before {
            return Ok(());
        }
        hold!(after.term >= before.term, Monotone, "its disk went from {before} to {after}");
        oracle.voted(shadow.identity(), after)
    }

    /// A snapshot is in force. 15: it ends with a committed entry, and the log goes on from there if it is kept.
    pub(super) fn adopted(
        &mut self,
        oracle: &Oracle,
        node: NodeId,
        meta: &SnapshotMeta,
        log: LogAfter,
    ) -> Result<(), Broken> {
        let Some(shadow) = self.current.get_mut(&node) else { return Ok(()) };
        let mark = Mark { term: meta.id.term, chain: meta.id.chain };
        let committed = oracle.mark(meta.id.index);
        hold!(
            committed == Some(mark),
            SnapshotState,
            "a snapshot ends with {mark:?} at {}, where {committed:?} is committed",
            meta.id.index
        );
        let held = shadow.log().at(meta.id.index);
        hold!(
            log != LogAfter::Kept || held == Some(mark),
            SnapshotState,
            "a snapshot ends with {mark:?} at {}, the log on disk has {held:?} there",
            meta.id.index
        );
        shadow.adopt(meta, log);
        Ok(())
    }

    /// True when this very folder holds this entry, or held it until it was wiped.
    pub(super) fn hold(&self, who: Identity, index: Index, mark: Mark) -> bool {
        let holds = |shadow: &Shadow| {
            let log = shadow.log();
            shadow.identity() == who && (index < log.base().index || log.at(index) == Some(mark))
        };
        self.current.get(&who.node).is_some_and(holds) || self.gone.iter().any(holds)
    }
}

fn check_found(shadow: &Shadow, found: &Found<'_>) -> Result<(), Broken> {
    let known = shadow.incarnation();
    hold!(
        shadow.may_be_damaged() || !found.is_damaged,
        DurableBeforeAcknowledged,
        "boots with a hole in its log, and nothing was done to its disk: {:?}",
        found.damage
    );
    hold!(found.incarnation > known, Monotone, "boot {} follows boot {known}", found.incarnation);
    let (promised, held) = (shadow.hard_state(), found.hard_state);
    hold!(shadow.may_hold(held), Monotone, "boots with {held}, its disk had {promised}");
    if found.is_damaged {
        return check_beginning(shadow, found);
    }
    let (base, kept) = (found.base, shadow.log().base());
    hold!(
        shadow.may_begin_after(base),
        SnapshotState,
        "boots with a log that begins after {base:?}, its disk had {kept:?}"
    );
    let index = shadow.promised();
    let log = shadow.log();
    if index > log.base().index {
        let first = found.base.index.next();
        let at = index.0.checked_sub(first.0).and_then(|at| found.entries.get(usize::try_from(at).ok()?));
        let mark = if index == found.base.index {
            Some(Mark { term: found.base.term, chain: found.base.chain })
        } else {
            at.map(Mark::of)
        };
        hold!(
            index < found.base.index || mark == log.at(index),
            DurableBeforeAcknowledged,
            "boots with {mark:?} at {index}, its disk had {:?}",
            log.at(index)
        );
    }
    Ok(())
}

/// What stands before a hole is what its disk had there.
fn check_beginning(shadow: &Shadow, found: &Found<'_>) -> Result<(), Broken> {
    let log = shadow.log();
    let Some(last) = found.entries.last().filter(|last| last.index <= log.last()) else { return Ok(()) };
    hold!(
        last.index <= log.base().index || log.at(last.index) == Some(Mark::of(last)),
        DurableBeforeAcknowledged,
        "boots with {last} before a hole, its disk had {:?}",
        log.at(last.index)
    );
    Ok(())
}
