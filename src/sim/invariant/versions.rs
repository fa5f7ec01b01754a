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

/// Every version of every key; an absent one is an entry without a version.
#[derive(Debug, Default)]
pub(super) struct Versions {
    keys: BTreeMap<Box<[u8]>, Vec<(Index, Option<Version>)>>,
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
        let version = after.map(|value| Version { index, value: value.into() });
        match self.keys.get_mut(command.key()) {
            Some(versions) => versions.push((index, version)),
            None => {
                self.keys.insert(command.key().into(), vec![(index, version)]);
            }
        }
    }

    /// What the key held after this index.
    pub(super) fn at(&self, key: &[u8], index: Index) -> Option<&Version> {
        let versions = self.keys.get(key)?;
        let after = versions.partition_point(|(since, _)| *since <= index);
        versions.get(after.checked_sub(1)?)?.1.as_ref()
    }

    /// Every key and what it holds.
    pub(super) fn last(&self) -> impl Iterator<Item = (&[u8], Option<&Version>)> {
        self.keys.iter().map(|(key, versions)| (&**key, versions.last().and_then(|(_, last)| last.as_ref())))
    }

    /// What the key holds.
    pub(super) fn held(&self, key: &[u8]) -> Option<&Version> {
        self.keys.get(key)?.last()?.1.as_ref()
    }
}
