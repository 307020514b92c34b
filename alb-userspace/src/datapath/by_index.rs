//! Values by index, such as all targets: copies share what is the same, so that one change among a
//! hundred thousand costs as much as one among a few hundred, to make and to find.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Index,
    sync::Arc,
};

/// Indices of one page.
const PAGE: u32 = 256;

type Page<V> = BTreeMap<u32, V>;

/// A sorted map from index to value. Cloning shares; a change copies one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByIndex<V> {
    /// By index divided by the size of a page; none is empty.
    pages: BTreeMap<u32, Arc<Page<V>>>,
}

impl<V> Default for ByIndex<V> {
    fn default() -> Self {
        Self { pages: BTreeMap::new() }
    }
}

impl<V> ByIndex<V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.pages.values().map(|page| page.len()).sum()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The value at an index.
    pub fn get(&self, index: u32) -> Option<&V> {
        self.pages.get(&(index / PAGE))?.get(&index)
    }

    /// There is one at an index.
    pub fn contains(&self, index: u32) -> bool {
        self.get(index).is_some()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        self.pages.values().flat_map(|page| page.iter().map(|(index, value)| (*index, value)))
    }

    /// All indices, in order.
    pub fn keys(&self) -> impl Iterator<Item = u32> {
        self.iter().map(|(index, _)| index)
    }

    /// All values, in the order of their indices.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Pages that are not the same in both, where it is: one without a page there has an empty one.
    fn differing<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Page<V>>, Option<&'a Page<V>>)> {
        let numbers: BTreeSet<u32> = self.pages.keys().chain(other.pages.keys()).copied().collect();
        numbers.into_iter().filter_map(|number| {
            match (self.pages.get(&number), other.pages.get(&number)) {
                (Some(one), Some(two)) if Arc::ptr_eq(one, two) => None,
                (one, two) => Some((one.map(|page| &**page), two.map(|page| &**page))),
            }
        })
    }

    /// What is not in `before`, or is another there.
    pub fn changed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (u32, &'a V)>
    where
        V: PartialEq,
    {
        self.differing(before).flat_map(|(page, before)| {
            let was = move |index: &u32| before.and_then(|page| page.get(index));
            let all = page.into_iter().flatten();
            all.filter(move |(index, value)| was(index) != Some(*value))
                .map(|(index, value)| (*index, value))
        })
    }

    /// Indices that `after` has not.
    pub fn gone<'a>(&'a self, after: &'a Self) -> impl Iterator<Item = u32> {
        self.differing(after).flat_map(|(page, after)| {
            let is = move |index: &u32| after.is_some_and(|page| page.contains_key(index));
            page.into_iter().flat_map(BTreeMap::keys).filter(move |index| !is(index)).copied()
        })
    }
}

impl<V: Clone + PartialEq> ByIndex<V> {
    /// Puts a value at an index.
    pub fn insert(&mut self, index: u32, value: V) {
        if self.get(index) != Some(&value) {
            let page = self.pages.entry(index / PAGE).or_default();
            Arc::make_mut(page).insert(index, value);
        }
    }

    /// Takes the value away from an index.
    pub fn remove(&mut self, index: u32) {
        let number = index / PAGE;
        if !self.contains(index) {
            return;
        }
        let Some(page) = self.pages.get_mut(&number) else { return };
        let page = Arc::make_mut(page);
        page.remove(&index);
        if page.is_empty() {
            self.pages.remove(&number);
        }
    }
}

impl<V> Index<u32> for ByIndex<V> {
    type Output = V;

    fn index(&self, index: u32) -> &V {
        let Some(value) = self.get(index) else { panic!("nothing at index {index}") };
        value
    }
}

impl<V: Clone + PartialEq> FromIterator<(u32, V)> for ByIndex<V> {
    fn from_iter<I: IntoIterator<Item = (u32, V)>>(values: I) -> Self {
        let mut all = Self::default();
        for (index, value) in values {
            all.insert(index, value);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_copy_is_another() {
        let one: ByIndex<char> = [(7, 'a'), (PAGE, 'b'), (9 * PAGE, 'c')].into_iter().collect();
        let mut other = one.clone();
        other.insert(7, 'x');
        other.remove(PAGE);
        other.remove(PAGE);
        assert_eq!(one.iter().collect::<Vec<_>>(), [(7, &'a'), (256, &'b'), (2_304, &'c')]);
        assert_eq!((other[7], other.get(PAGE), other.len()), ('x', None, 2));
        assert!(one.values().eq(&['a', 'b', 'c']) && !other.contains(8) && !other.is_empty());
    }

    proptest! {
        #[test]
        fn as_an_ordinary_map(
            first: BTreeMap<u16, u8>,
            changes in prop::collection::vec((0_u16..2_000, prop::option::of(0_u8..4)), 0..40),
        ) {
            let first: BTreeMap<u32, u8> =
                first.into_iter().map(|(index, value)| (u32::from(index), value)).collect();
            let before: ByIndex<u8> = first.clone().into_iter().collect();
            let (mut plain, mut after) = (first.clone(), before.clone());
            for (index, value) in changes {
                let index = u32::from(index);
                if let Some(value) = value {
                    plain.insert(index, value);
                    after.insert(index, value);
                } else {
                    plain.remove(&index);
                    after.remove(index);
                }
            }
            let shown = |of: &ByIndex<u8>| -> BTreeMap<u32, u8> {
                of.iter().map(|(index, value)| (index, *value)).collect()
            };
            prop_assert_eq!(&plain, &shown(&after));
            prop_assert_eq!(&first, &shown(&before));
            prop_assert_eq!(&after, &ByIndex::from_iter(plain.clone()));
            let changed: BTreeMap<u32, u8> =
                after.changed(&before).map(|(index, value)| (index, *value)).collect();
            let mut expected = plain.clone();
            expected.retain(|index, value| first.get(index) != Some(value));
            prop_assert_eq!(changed, expected);
            let gone: Vec<u32> = before.gone(&after).collect();
            let expected = first.keys().filter(|index| !plain.contains_key(index));
            prop_assert_eq!(gone, expected.copied().collect::<Vec<_>>());
        }
    }
}
