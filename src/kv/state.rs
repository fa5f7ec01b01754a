//! The map.

use core::ops::Bound;
use std::sync::Arc;

use super::command::{Command, CommandResult, PREVIOUS_BYTES_MAX, Previous, Refusal};
use super::query::{Answer, PAGE_BYTES_MAX, PAGE_ROWS_MAX, Query, Row};
use super::snapshot::{FrozenKv, rows};
use crate::hash::Fnv1a;
use crate::layered::LayeredMap;
use crate::machine::{Frozen, Machine, RestoreError, Source};
use crate::types::Index;

/// What a key holds.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) value: Arc<[u8]>,
    /// The entry that wrote it.
    pub(super) index: Index,
    /// Of key, value and index, taken once so that overwriting costs no second pass over the old value.
    hash: u64,
}

/// The key–value machine.
#[derive(Clone, Debug, Default)]
pub struct Kv {
    map: LayeredMap<Arc<[u8]>, Stored>,
    /// The lengths of all keys and values together.
    bytes: u64,
    /// The wrapping sum of the stored hashes.
    hash: u64,
}

impl Stored {
    pub(super) fn new(key: &[u8], value: Arc<[u8]>, index: Index) -> Self {
        let hash = hash(key, &value, index);
        Self { value, index, hash }
    }

    /// As a result tells of it.
    fn into_previous(self) -> Previous {
        let is_told = self.value.len() <= PREVIOUS_BYTES_MAX;
        Previous { index: self.index, value: is_told.then_some(self.value) }
    }
}

impl Kv {
    /// The empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The lengths of all keys and values together.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A hash of all keys, values and their indexes, for comparing replicas at one index. Kept up to date by each
    /// command, so that asking costs nothing.
    #[must_use]
    pub const fn state_hash(&self) -> u64 {
        self.hash
    }

    /// Carries out a command.
    fn execute(&mut self, index: Index, command: Command<'_>) -> CommandResult {
        let before = match command {
            Command::Put { key, value } => self.set(index, key, value),
            Command::Delete { key } => self.remove(key),
            Command::Cas { key, old, new } => {
                let held = self.map.get(key);
                if held.map(|stored| &stored.value[..]) != old {
                    return CommandResult::CompareFailed {
                        previous: held.cloned().map(Stored::into_previous),
                    };
                }
                self.set(index, key, new)
            }
        };
        CommandResult::Done { previous: before.map(Stored::into_previous) }
    }

    /// Sets a key; returns what it held.
    fn set(&mut self, index: Index, key: &[u8], value: &[u8]) -> Option<Stored> {
        let stored = Stored::new(key, value.into(), index);
        self.bytes += (key.len() + value.len()) as u64;
        self.hash = self.hash.wrapping_add(stored.hash);
        let before = match self.map.get_mut(key) {
            Some(held) => Some(core::mem::replace(held, stored)),
            None => self.map.insert(key.into(), stored),
        };
        self.forget(key, before.as_ref());
        before
    }

    /// Removes a key; returns what it held.
    fn remove(&mut self, key: &[u8]) -> Option<Stored> {
        let before = self.map.remove(key);
        self.forget(key, before.as_ref());
        before
    }

    /// Takes what is no longer held out of the sums.
    fn forget(&mut self, key: &[u8], before: Option<&Stored>) {
        let Some(stored) = before else { return };
        self.bytes -= (key.len() + stored.value.len()) as u64;
        self.hash = self.hash.wrapping_sub(stored.hash);
    }

    fn get(&self, key: &[u8]) -> Answer<'_> {
        match self.map.get(key) {
            Some(stored) => Answer::Found { value: &stored.value, index: stored.index },
            None => Answer::Missing,
        }
    }

    /// The rows with this prefix after `after`, as many as both limits allow and at least one.
    fn list(&self, prefix: &[u8], after: Option<&[u8]>, rows_max: u64, bytes_max: u64) -> Answer<'_> {
        let rows_max = rows_max.clamp(1, PAGE_ROWS_MAX);
        let bytes_max = bytes_max.min(PAGE_BYTES_MAX);
        // Keys with the prefix sort from the prefix itself on; an `after` before that is no bound.
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut rows = Vec::new();
        let mut bytes = 0;
        let found = self.map.range::<[u8]>((start, Bound::Unbounded));
        for (key, stored) in found.take_while(|(key, _)| key.starts_with(prefix)) {
            bytes += (key.len() + stored.value.len()) as u64;
            let is_full = rows.len() as u64 == rows_max || bytes > bytes_max;
            if is_full && !rows.is_empty() {
                return Answer::Page { rows, is_last: false };
            }
            rows.push(Row { key, value: &stored.value, index: stored.index });
        }
        Answer::Page { rows, is_last: true }
    }
}

impl Machine for Kv {
    fn apply(&mut self, index: Index, command: &[u8]) -> Vec<u8> {
        let result = match Command::decode(command) {
            Ok(command) => match command.check() {
                Ok(()) => self.execute(index, command),
                Err(refusal) => CommandResult::Refused(refusal),
            },
            Err(_) => CommandResult::Refused(Refusal::Malformed),
        };
        result.to_bytes()
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        let answer = match Query::decode(query) {
            Ok(Query::Get { key }) => self.get(key),
            Ok(Query::List { prefix, after, rows_max, bytes_max }) => {
                self.list(prefix, after, rows_max, bytes_max)
            }
            Err(_) => Answer::Refused(Refusal::Malformed),
        };
        answer.to_bytes()
    }

    /// A filter is what the key begins with. The event is the put or delete that the command came to; there is none
    /// when it changed nothing. `[W-104]`
    fn event(&self, filter: &[u8], command: &[u8], result: &[u8]) -> Option<Vec<u8>> {
        let command = Command::decode(command).ok().filter(|command| command.key().starts_with(filter))?;
        let CommandResult::Done { previous } = CommandResult::decode(result).ok()? else { return None };
        let event = match command {
            Command::Delete { .. } if previous.is_none() => return None,
            Command::Cas { key, new, .. } => Command::Put { key, value: new },
            command => command,
        };
        Some(event.to_bytes())
    }

    fn state_bytes(&self) -> Option<u64> {
        Some(self.bytes)
    }

    /// Takes no longer for a larger map, see [`LayeredMap`].
    fn freeze(&mut self) -> Box<dyn Frozen> {
        Box::new(FrozenKv(self.map.freeze()))
    }

    fn blank(&self) -> Self {
        Self::new()
    }

    fn restore(&mut self, source: &mut dyn Source) -> Result<(), RestoreError> {
        let (mut bytes, mut hash) = (0, 0_u64);
        // Rows come in order, so that the map is built without a search.
        let rows = rows(source)?.map(|row| {
            let (key, stored) = row?;
            bytes += (key.len() + stored.value.len()) as u64;
            hash = hash.wrapping_add(stored.hash);
            Ok((key, stored))
        });
        let map = rows.collect::<Result<LayeredMap<_, _>, RestoreError>>()?;
        *self = Self { map, bytes, hash };
        Ok(())
    }
}

/// The hash of one key's part of the state. The value goes in by its CRC-32 and length: FNV takes a byte at a
/// time, and a value may be a mebibyte.
fn hash(key: &[u8], value: &[u8], index: Index) -> u64 {
    let fields = Fnv1a::default().bytes(key).u64(key.len() as u64).u64(index.0);
    fields.u64(value.len() as u64).u64(u64::from(crc32fast::hash(value))).finish()
}
