//! A sorted map that can be frozen at once.
//!
//! It is a stack of layers. The lowest holds the content, those above changes to it, newest on top; `None` stands for
//! a key that was removed. Freezing shares all layers with the copy and begins a new one. As soon as nobody shares a
//! layer any more, what lies above it is merged into it, a few keys at each change, so that no single call pays for
//! a large state: not freezing, not changing, not the end of the copy.

use core::borrow::Borrow;
use core::iter::Peekable;
use core::ops::RangeBounds;
use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

/// Keys merged into the layer below at each change. A change adds at most one, so layers shrink.
const MERGE_KEYS: usize = 4;

type Layer<K, V> = BTreeMap<K, Option<V>>;

/// The map. Keys and values are cloned now and then and should be cheap to: numbers, or behind an `Arc`.
#[derive(Debug)]
pub struct LayeredMap<K, V> {
    /// Oldest first, never empty, shared with the frozen copies.
    layers: Vec<Arc<Layer<K, V>>>,
    /// Changes since the last freeze, unless there is one layer that nobody shares: then they go there.
    top: Layer<K, V>,
    len: usize,
}

/// What the map held when it was frozen.
#[derive(Clone, Debug)]
pub struct FrozenMap<K, V> {
    layers: Vec<Arc<Layer<K, V>>>,
    len: usize,
}

impl<K, V> Default for LayeredMap<K, V> {
    fn default() -> Self {
        Self { layers: vec![Arc::new(BTreeMap::new())], top: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> LayeredMap<K, V> {
    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many layers a question may have to look through; 1 while nothing is frozen and all is merged.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.layers.len() + usize::from(!self.top.is_empty())
    }

    /// What a key holds.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if let Some(changed) = self.top.get(key) {
            return changed.as_ref();
        }
        self.layers.iter().rev().find_map(|layer| layer.get(key)).and_then(Option::as_ref)
    }

    /// What a key holds, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.merge();
        if self.sole().is_some() {
            return self.sole()?.get_mut(key)?.as_mut();
        }
        if !self.top.contains_key(key) {
            let (own, value) = (self.own_key(key)?, self.get(key)?.clone());
            self.top.insert(own, Some(value));
        }
        self.top.get_mut(key)?.as_mut()
    }

    /// Sets a key; returns what it held.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.merge();
        let before = match self.sole() {
            Some(layer) => layer.insert(key, Some(value)).flatten(),
            None => {
                let before = self.get(&key).cloned();
                self.top.insert(key, Some(value));
                before
            }
        };
        self.len += usize::from(before.is_none());
        before
    }

    /// Removes a key; returns what it held.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.merge();
        let before = match self.sole() {
            Some(layer) => layer.remove(key).flatten(),
            None => {
                let before = self.get(key).cloned();
                if before.is_some() {
                    let key = self.own_key(key).expect("a key that holds something stands in a layer");
                    self.top.insert(key, None);
                }
                before
            }
        };
        self.len -= usize::from(before.is_some());
        before
    }

    /// The keys in this range and what they hold, in order.
    pub fn range<Q: Ord + ?Sized>(&self, range: impl RangeBounds<Q> + Clone) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let below = self.layers.iter().map(|layer| &**layer);
        Iter { layers: below.chain([&self.top]).map(|layer| layer.range(range.clone()).peekable()).collect() }
    }

    /// All keys and what they hold, in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.range::<K>(..)
    }

    /// A copy of the map as it is now. Takes no longer for a larger one.
    #[must_use]
    pub fn freeze(&mut self) -> FrozenMap<K, V> {
        if !self.top.is_empty() {
            self.layers.push(Arc::new(core::mem::take(&mut self.top)));
        }
        FrozenMap { layers: self.layers.clone(), len: self.len }
    }

    /// The only layer, when nobody shares it and nothing lies above.
    fn sole(&mut self) -> Option<&mut Layer<K, V>> {
        match &mut self.layers[..] {
            [layer] if self.top.is_empty() => Arc::get_mut(layer),
            _ => None,
        }
    }

    fn own_key<Q: Ord + ?Sized>(&self, key: &Q) -> Option<K>
    where
        K: Borrow<Q>,
    {
        let below = self.layers.iter().map(|layer| &**layer);
        below.chain([&self.top]).find_map(|layer| layer.get_key_value(key)).map(|(key, _)| key.clone())
    }

    /// Moves a few keys down into the lowest layer that nobody shares. A frozen copy shares layers from the lowest
    /// up, so nobody shares those above it either.
    fn merge(&mut self) {
        if self.layers.len() == 1 && self.top.is_empty() {
            return;
        }
        let free = self.layers.iter_mut().position(|layer| Arc::get_mut(layer).is_some());
        let Some(lower) = free else { return };
        let is_lowest = lower == 0;
        let (below, above) = self.layers.split_at_mut(lower + 1);
        let upper = above.first_mut();
        let has_upper = upper.is_some();
        let source = match upper {
            Some(layer) => Arc::get_mut(layer).expect("whoever shares a layer shares those below it"),
            None => &mut self.top,
        };
        let target = Arc::get_mut(&mut below[lower]).expect("found to be shared by nobody");
        for _ in 0..MERGE_KEYS {
            match source.pop_first() {
                // Below the lowest layer there is nothing that a removed key would have to hide.
                Some((key, None)) if is_lowest => drop(target.remove(&key)),
                Some((key, change)) => drop(target.insert(key, change)),
                None => break,
            }
        }
        if has_upper && source.is_empty() {
            self.layers.remove(lower + 1);
        }
    }
}

impl<K: Ord + Clone, V: Clone> FrozenMap<K, V> {
    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All keys and what they hold, in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter { layers: self.layers.iter().map(|layer| layer.range(..).peekable()).collect() }
    }
}

/// A map of its own that shares nothing: cloning costs what there is.
impl<K: Ord + Clone, V: Clone> Clone for LayeredMap<K, V> {
    fn clone(&self) -> Self {
        self.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// Equal content, whatever the layers.
impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for LayeredMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone, V: Clone + Eq> Eq for LayeredMap<K, V> {}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for LayeredMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(content: I) -> Self {
        let layer: Layer<K, V> = content.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let len = layer.len();
        Self { layers: vec![Arc::new(layer)], top: BTreeMap::new(), len }
    }
}

/// Goes through all layers at once; the newest that knows a key speaks for it.
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    layers: Vec<Peekable<btree_map::Range<'a, K, Option<V>>>>,
}

impl<'a, K: Ord, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let next = self.layers.iter_mut().filter_map(|layer| layer.peek().map(|(key, _)| *key)).min()?;
            let mut newest = None;
            for layer in &mut self.layers {
                if let Some((_, change)) = layer.next_if(|(key, _)| *key == next) {
                    newest = change.as_ref();
                }
            }
            if let Some(value) = newest {
                return Some((next, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u32),
        Remove(u8),
        Freeze,
        Thaw(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u8..24, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
            4 => (0u8..24).prop_map(Step::Remove),
            2 => Just(Step::Freeze),
            2 => any::<usize>().prop_map(Step::Thaw),
        ]
    }

    fn pairs<'a>(content: impl Iterator<Item = (&'a u8, &'a u32)>) -> Vec<(u8, u32)> {
        content.map(|(key, value)| (*key, *value)).collect()
    }

    proptest! {
        #[test]
        fn the_map_and_all_its_frozen_copies_hold_what_plain_maps_hold(
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let (mut map, mut plain) = (LayeredMap::default(), BTreeMap::new());
            let mut copies: Vec<(FrozenMap<u8, u32>, BTreeMap<u8, u32>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => prop_assert_eq!(map.insert(key, value), plain.insert(key, value)),
                    Step::Remove(key) => prop_assert_eq!(map.remove(&key), plain.remove(&key)),
                    Step::Freeze => copies.push((map.freeze(), plain.clone())),
                    Step::Thaw(which) if !copies.is_empty() => drop(copies.swap_remove(which % copies.len())),
                    Step::Thaw(_) => {}
                }
                prop_assert_eq!(map.len(), plain.len());
                prop_assert_eq!(pairs(map.iter()), pairs(plain.iter()));
                prop_assert_eq!(pairs(map.range(5..17)), pairs(plain.range(5..17)));
                for key in 0..24 {
                    prop_assert_eq!(map.get(&key), plain.get(&key));
                }
                for (frozen, plain) in &copies {
                    prop_assert_eq!(frozen.len(), plain.len());
                    prop_assert_eq!(pairs(frozen.iter()), pairs(plain.iter()));
                }
            }
            prop_assert_eq!(&map.clone(), &map);
        }
    }

    #[test]
    fn once_the_copies_are_gone_every_change_merges_until_one_layer_is_left() {
        let mut map: LayeredMap<u32, u32> = (0..100).map(|key| (key, key)).collect();
        let frozen = [map.freeze(), map.freeze()];
        for key in 50..150 {
            map.insert(key, 1000);
        }
        let last = map.freeze();
        for key in 0..20 {
            map.remove(&key);
        }
        assert_eq!(map.depth(), 3);
        drop(frozen);
        map.insert(500, 0);
        assert_eq!(map.depth(), 3, "the last copy still shares what lies below");
        drop(last);
        let mut changes = 0;
        while map.depth() > 1 {
            changes += 1;
            map.insert(500, changes);
        }
        assert!(changes < 50, "{changes} changes for 121 keys");
        assert_eq!(map.len(), 131);
    }
}
