//! Names and what they stand for: declared before anything is read, so that a reference may
//! stand before what it names, and so that one broken object does not break its users too.

use std::collections::BTreeMap;

use super::{
    cursor::{Field, clip, enumerate, nearest},
    ids::{self, Kind},
    tree::Pos,
};

/// The names of one kind of object within one owner.
#[derive(Debug)]
pub(super) struct Scope {
    kind: Kind,
    owner: String,
    names: BTreeMap<String, Option<Pos>>,
}

impl Scope {
    /// Declares the `name`s of a list; a name that is already taken is an error.
    pub(super) fn declare(kind: Kind, owner: &str, items: &[Field<'_>]) -> Self {
        let scope = Self { kind, owner: owner.to_owned(), names: BTreeMap::new() };
        scope.with(items)
    }

    /// The same at the top of the file, beside a name that is built in.
    pub(super) fn declare_beside(kind: Kind, name: &str, items: &[Field<'_>]) -> Self {
        let names = BTreeMap::from([(name.to_owned(), None)]);
        Self { kind, owner: String::new(), names }.with(items)
    }

    fn with(self, items: &[Field<'_>]) -> Self {
        let mut scope = self;
        for item in items {
            let Some(field) = item.glance("name") else { continue };
            let Some(name) = field.peek() else { continue };
            match scope.names.get(name) {
                None => {
                    scope.names.insert(name.to_owned(), Some(field.pos()));
                }
                Some(Some(first)) => {
                    field.reject(format!("the name is already used on line {}", first.line));
                }
                Some(None) => field.reject("the name is built in, choose another one"),
            }
        }
        scope
    }

    /// Adds a name that exists without being declared; says whether it was missing.
    pub(super) fn build_in(&mut self, name: &str) -> bool {
        if self.names.contains_key(name) {
            return false;
        }
        self.names.insert(name.to_owned(), None);
        true
    }

    /// The id of the object with this name.
    pub(super) fn id(&self, name: &str) -> String {
        ids::derive(self.kind, &self.owner, name)
    }

    /// The id that a reference means.
    pub(super) fn resolve(&self, field: &Field<'_>) -> Option<String> {
        let name = field.text()?;
        if self.names.contains_key(name) {
            return Some(self.id(name));
        }
        field.reject(self.missing(name));
        None
    }

    fn missing(&self, name: &str) -> String {
        let noun = self.kind.noun();
        let names = || self.names.keys().map(String::as_str);
        if let Some(near) = nearest(name, names()) {
            return format!("no {noun} has this name, did you mean `{}`?", clip(near));
        }
        let few: Vec<_> = names().take(8).map(clip).collect();
        match few.as_slice() {
            [] => format!("no {noun} has this name, none is declared"),
            few if few.len() < self.names.len() => format!("no {noun} has this name"),
            few => {
                let few: Vec<_> = few.iter().map(String::as_str).collect();
                format!("no {noun} has this name, declared is {}", enumerate(&few))
            }
        }
    }
}
