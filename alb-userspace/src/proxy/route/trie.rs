//! A radix trie over bytes that finds an exact key, else the longest key that is a prefix, in
//! one walk. Built once, then read only.

use std::collections::BTreeMap;

/// What stands at one key.
#[derive(Clone, Debug)]
struct Entry<T> {
    exact: Option<T>,
    prefix: Option<T>,
}

impl<T> Default for Entry<T> {
    fn default() -> Self {
        Self { exact: None, prefix: None }
    }
}

/// Collects keys.
#[derive(Debug)]
pub(super) struct Builder<T> {
    entries: BTreeMap<Box<[u8]>, Entry<T>>,
}

impl<T> Default for Builder<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<T: Clone> Builder<T> {
    /// For input that equals `key`.
    pub(super) fn exact(&mut self, key: &[u8], value: T) {
        self.entries.entry(key.into()).or_default().exact = Some(value);
    }

    /// For input that begins with `key`.
    pub(super) fn prefix(&mut self, key: &[u8], value: T) {
        self.entries.entry(key.into()).or_default().prefix = Some(value);
    }

    /// Was anything given for this key?
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn build(self) -> Trie<T> {
        let entries: Vec<_> = self.entries.into_iter().collect();
        let mut trie = Trie { nodes: Vec::new(), bytes: Vec::new() };
        trie.nodes.push(Node::default());
        trie.fill(0, &entries, 0, 0);
        trie
    }
}

#[derive(Clone, Debug)]
struct Node<T> {
    /// Where its part of the keys lies in `bytes`.
    label: (usize, usize),
    entry: Entry<T>,
    /// Where the first bytes of its children's labels lie in `bytes`, ascending.
    firsts: (usize, usize),
    /// The node of the first child; the others follow it.
    children: usize,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { label: (0, 0), entry: Entry::default(), firsts: (0, 0), children: 0 }
    }
}

/// Finds keys.
#[derive(Debug)]
pub(super) struct Trie<T> {
    nodes: Vec<Node<T>>,
    bytes: Vec<u8>,
}

impl<T: Clone> Trie<T> {
    /// The value of the exact key `input`, else that of the longest prefix of it.
    pub(super) fn find(&self, input: &[u8]) -> Option<&T> {
        let mut best = None;
        let mut rest = input;
        let mut node = &self.nodes[0];
        loop {
            let Some(next) = rest.strip_prefix(&self.bytes[node.label.0..node.label.1]) else {
                return best;
            };
            rest = next;
            if let Some(value) = &node.entry.prefix {
                best = Some(value);
            }
            let Some(first) = rest.first() else { return node.entry.exact.as_ref().or(best) };
            let firsts = &self.bytes[node.firsts.0..node.firsts.1];
            let Some(child) = memchr::memchr(*first, firsts) else { return best };
            node = &self.nodes[node.children + child];
        }
    }

    /// Makes `node` of entries that share their first `depth` bytes; its label begins at
    /// `from`.
    fn fill(
        &mut self,
        node: usize,
        mut entries: &[(Box<[u8]>, Entry<T>)],
        from: usize,
        depth: usize,
    ) {
        // Sorted: what the first and the last have in common, all have.
        let (Some((first, entry)), Some((last, _))) = (entries.first(), entries.last()) else {
            return;
        };
        let same = first.iter().zip(last.iter()).skip(depth).take_while(|(a, b)| a == b).count();
        let depth = if node == 0 { 0 } else { depth + same };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&first[from..depth]);
        self.nodes[node].label = (start, self.bytes.len());
        if first.len() == depth {
            self.nodes[node].entry = entry.clone();
            entries = &entries[1..];
        }
        let groups: Vec<_> = entries.chunk_by(|a, b| a.0[depth] == b.0[depth]).collect();
        let start = self.bytes.len();
        self.bytes.extend(groups.iter().map(|group| group[0].0[depth]));
        let children = self.nodes.len();
        self.nodes[node].firsts = (start, self.bytes.len());
        self.nodes[node].children = children;
        self.nodes.resize_with(children + groups.len(), Node::default);
        for (index, group) in groups.into_iter().enumerate() {
            self.fill(children + index, group, depth, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slow<'k>(keys: &'k [(Vec<u8>, bool)], input: &[u8]) -> Option<(&'k [u8], bool)> {
        let exact = keys.iter().find(|(key, is_prefix)| !is_prefix && key == input);
        let longest = keys
            .iter()
            .filter(|(key, is_prefix)| *is_prefix && input.starts_with(key))
            .max_by_key(|(key, _)| key.len());
        exact.or(longest).map(|(key, is_prefix)| (&**key, *is_prefix))
    }

    proptest! {
        #[test]
        fn finds_what_a_linear_search_finds(
            keys in prop::collection::vec(("[ab/]{0,6}", any::<bool>()), 0..30),
            inputs in prop::collection::vec("[ab/]{0,8}", 1..30),
        ) {
            let keys: Vec<_> = keys.into_iter().map(|(k, p)| (k.into_bytes(), p)).collect();
            let mut builder = Builder::default();
            for (key, is_prefix) in &keys {
                let value = (key.clone(), *is_prefix);
                if *is_prefix { builder.prefix(key, value) } else { builder.exact(key, value) }
            }
            let trie = builder.build();
            for input in inputs.iter().map(String::as_bytes)
                .chain(keys.iter().map(|(key, _)| &**key)) {
                let found = trie.find(input).map(|(key, is_prefix)| (&**key, *is_prefix));
                prop_assert_eq!(found, slow(&keys, input));
            }
        }
    }

    #[test]
    fn no_key_no_value() {
        assert_eq!(Builder::<u8>::default().build().find(b""), None);
    }
}
