//! A part of the model that models share until one of them changes it.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{LoadBalancer, Model};

/// A value that copies share. Whoever changes his copy has one of his own from then on.
#[derive(Debug)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Both are one value in memory, and so equal without a look at it.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || *self.0 == *other.0
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl Model {
    /// Shares the load balancers that are as they were in `old`, so that whoever follows changes
    /// sees at once that they are.
    pub fn share(&mut self, old: &Self) {
        let before: BTreeMap<&str, &Shared<LoadBalancer>> =
            old.load_balancers.iter().map(|balancer| (&*balancer.id, balancer)).collect();
        for balancer in &mut self.load_balancers {
            if let Some(same) = before.get(&*balancer.id).filter(|before| ***before == *balancer) {
                *balancer = Shared::clone(same);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_nobody_else() {
        let one = Shared::from(vec![1, 2]);
        let mut other = one.clone();
        assert!(one.is(&other));
        other.push(3);
        assert!(!one.is(&other) && one != other);
        assert_eq!((one.len(), other.len()), (2, 3));
        other.pop();
        assert!(one == other && !one.is(&other));
    }
}
