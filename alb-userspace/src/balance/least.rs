//! Weighted least connection: pure.

/// The position whose load per weight is least; the first such from `first` on.
///
/// `first` is whose turn it is by weight: targets without load (the common case of a balancer
/// that is not busy) get work in proportion to their weights, and found ones end the search.
/// Loads of others may change meanwhile; each is read once.
pub(super) fn least(
    serving: &[u32],
    first: u32,
    weight: impl Fn(usize) -> u64,
    load: impl Fn(usize) -> u32,
    exclude: &[usize],
) -> Option<usize> {
    let start = serving.binary_search(&first).unwrap_or_default();
    let (before, from) = serving.split_at(start);
    let mut best: Option<Loaded> = None;
    for at in from.iter().chain(before).map(|at| *at as usize) {
        if exclude.contains(&at) {
            continue;
        }
        let loaded = Loaded { at, load: load(at).into(), weight: weight(at) };
        if loaded.load == 0 {
            return Some(at);
        }
        if best.as_ref().is_none_or(|best| loaded.is_less_than(best)) {
            best = Some(loaded);
        }
    }
    best.map(|best| best.at)
}

struct Loaded {
    at: usize,
    load: u64,
    weight: u64,
}

impl Loaded {
    /// `load / weight`, compared without division.
    fn is_less_than(&self, other: &Self) -> bool {
        self.load * other.weight < other.load * self.weight
    }
}
