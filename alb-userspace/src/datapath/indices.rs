//! Which index in the kernel's arrays belongs to whom. An index that is not wanted any more is
//! retired and not given to anyone else until no flow names it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    hash::Hash,
};

/// Indices of one array by identity.
#[derive(Clone, Debug)]
pub struct Indices<I> {
    limit: u32,
    by_identity: BTreeMap<I, u32>,
    used: BTreeMap<u32, I>,
    /// With the epoch in which each was retired.
    retired: BTreeMap<u32, u64>,
    next: u32,
}

/// All indices are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {0} are in use")]
pub struct Exhausted(pub u32);

impl<I: Clone + Ord + Hash> Indices<I> {
    /// None in use, `limit` to give.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            by_identity: BTreeMap::new(),
            used: BTreeMap::new(),
            retired: BTreeMap::new(),
            next: 0,
        }
    }

    /// A copy with room for any number, to count what would be needed.
    #[must_use]
    pub fn unbounded(&self) -> Self {
        Self { limit: u32::MAX, ..self.clone() }
    }

    /// How many are in use, retired ones too.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// None is in use.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Notes an index found in the kernel. It is retired until someone asks for the identity.
    pub fn adopt(&mut self, index: u32, identity: I) {
        self.by_identity.insert(identity.clone(), index);
        self.used.insert(index, identity);
        self.retired.insert(index, 0);
    }

    /// Keeps an index that a flow names from being given away, though nobody knows whose it is.
    pub fn reserve(&mut self, index: u32, identity: I) {
        if let Entry::Vacant(free) = self.used.entry(index) {
            free.insert(identity);
            self.retired.insert(index, 0);
        }
    }

    /// The index of an identity: the one it has, or a free one.
    pub fn take(&mut self, identity: &I) -> Result<u32, Exhausted> {
        if let Some(index) = self.by_identity.get(identity) {
            self.retired.remove(index);
            return Ok(*index);
        }
        for _ in 0..self.limit {
            let index = self.next;
            self.next = (self.next + 1) % self.limit;
            if let Entry::Vacant(free) = self.used.entry(index) {
                free.insert(identity.clone());
                self.by_identity.insert(identity.clone(), index);
                return Ok(index);
            }
        }
        Err(Exhausted(self.limit))
    }

    /// Retires an index as of this epoch.
    pub fn retire(&mut self, index: u32, epoch: u64) {
        if self.used.contains_key(&index) {
            self.retired.entry(index).or_insert(epoch);
        }
    }

    /// Retires every index that is not among the wanted, as of this epoch.
    pub fn keep(&mut self, wanted: &BTreeSet<u32>, epoch: u64) {
        for index in self.used.keys() {
            if !wanted.contains(index) {
                self.retired.entry(*index).or_insert(epoch);
            }
        }
    }

    /// Frees indices that were retired in this epoch or before and that nothing names any more;
    /// returns them. A look at what is named that began later sees every flow that began while
    /// the index was in use.
    pub fn free(&mut self, epoch: u64, named: impl Fn(u32) -> bool) -> Vec<u32> {
        let free: Vec<u32> = self
            .retired
            .iter()
            .filter(|(index, retired)| **retired <= epoch && !named(**index))
            .map(|(index, _)| *index)
            .collect();
        for index in &free {
            self.retired.remove(index);
            if let Some(identity) = self.used.remove(index)
                && self.by_identity.get(&identity) == Some(index)
            {
                self.by_identity.remove(&identity);
            }
        }
        free
    }

    /// The index of an identity, if it has one.
    pub fn get(&self, identity: &I) -> Option<u32> {
        self.by_identity.get(identity).copied()
    }

    /// Retired indices with their identities.
    pub fn retired(&self) -> impl Iterator<Item = (u32, &I)> {
        self.retired.keys().filter_map(|index| Some((*index, self.used.get(index)?)))
    }

    /// Every index in use, retired ones too.
    pub fn all(&self) -> impl Iterator<Item = (u32, &I)> {
        self.used.iter().map(|(index, identity)| (*index, identity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_stable_and_reused_only_when_free() {
        let mut indices = Indices::new(2);
        let a = indices.take(&"a").unwrap();
        let b = indices.take(&"b").unwrap();
        assert_eq!((indices.take(&"a"), indices.take(&"c")), (Ok(a), Err(Exhausted(2))));

        indices.keep(&[a].into(), 5);
        assert!(indices.free(5, |index| index == b).is_empty(), "a flow names it");
        assert!(indices.free(4, |_| false).is_empty(), "looked at before it was retired");
        assert_eq!(indices.take(&"c"), Err(Exhausted(2)));
        assert_eq!(indices.take(&"b"), Ok(b), "it comes back while it is retired");

        indices.keep(&[a].into(), 6);
        indices.keep(&[a].into(), 7);
        assert_eq!(indices.free(6, |_| false), [b]);
        assert_eq!(indices.take(&"c"), Ok(b));
        assert_eq!(indices.get(&"b"), None);
    }

    #[test]
    fn adopted_indices_are_kept() {
        let mut indices = Indices::new(4);
        indices.adopt(0, "a");
        indices.adopt(2, "b");
        indices.reserve(1, "somebody");
        indices.reserve(0, "somebody");
        assert_eq!(indices.take(&"b"), Ok(2));
        assert_eq!(indices.take(&"c"), Ok(3));
        let retired: Vec<u32> = indices.retired().map(|(index, _)| index).collect();
        assert_eq!(retired, [0, 1]);
    }
}
