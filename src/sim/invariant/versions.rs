//! What each key held after each index, by a model of the key–value machine that keeps all versions.

use std::collections::BTreeMap;

use crate::kv::Command;
use crate::types::Index;

/// What a key held from an index on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) index: Index,
    pub(super) value: Box<[u8]>,
}

/// An entry that changed a key; a delete leaves nothing.
#[derive(Debug)]
struct Change {
    since: Index,
    left: Option<Version>,
}

/// Every change of every key, in log order.
#[derive(Debug, Default)]
pub(super) struct Versions {
    keys: BTreeMap<Box<[u8]>, Vec<Change>>,
}

impl Versions {
    /// Carries out the command of this entry, the next in log order.
    pub(super) fn apply(&mut self, index: Index, command: &Command<'_>) {
        let held = self.at(command.key(), index);
        let after = match command {
            Command::Put { value, .. } => Some(*value),
            Command::Delete { .. } => None,
            Command::Cas { old, new, .. } => {
                if held.map(|version| &*version.value) != *old {
                    return;
                }
                Some(*new)
            }
        };
        let left = after.map(|value| Version { index, value: value.into() });
        let change = Change { since: index, left };
        match self.keys.get_mut(command.key()) {
            Some(changes) => changes.push(change),
            None => {
                self.keys.insert(command.key().into(), vec![change]);
            }
        }
    }

    /// What the key held after this index.
    pub(super) fn at(&self, key: &[u8], index: Index) -> Option<&Version> {
        let changes = self.keys.get(key)?;
        let after = changes.partition_point(|change| change.since <= index);
        changes.get(after.checked_sub(1)?)?.left.as_ref()
    }

    /// Every key and what it holds.
    pub(super) fn last(&self) -> impl Iterator<Item = (&[u8], Option<&Version>)> {
        self.keys.iter().map(|(key, changes)| (&**key, changes.last().and_then(|last| last.left.as_ref())))
    }

    /// What the key holds.
    pub(super) fn held(&self, key: &[u8]) -> Option<&Version> {
        self.keys.get(key)?.last()?.left.as_ref()
    }
}
