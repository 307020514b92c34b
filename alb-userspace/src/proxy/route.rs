//! A url map made ready for lookups: which rule takes a request, whatever their number, at the
//! cost of one walk over its host and one over its path. Pure; knows nothing of connections,
//! and of backends only that a rule has one (`B`).
//!
//! The most specific host with rules decides: exact, then the longest `*.suffix`, then the
//! longest `prefix.*`; less specific named hosts are not looked at any more, even if none of
//! its paths matches. Rules without a host are for every host: they come after those. Within a
//! host the exact path wins, then the longest prefix. What no rule takes goes to the
//! listener's default backend.

mod edits;
mod host;
mod redirect;
mod rewrite;
mod trie;

use std::sync::Arc;

pub use edits::{HeaderEdits, Insert, InsertValue, SystemValue};
pub use host::{host_of, port_of};
pub use redirect::Redirection;
pub use rewrite::Rewrite;

use self::{host::Hosts, trie::Trie};
use super::refusal::Malformed;
use crate::model::{self, PathPattern, RouteAction, UrlMap};

/// Where the requests of one listener go.
#[derive(Debug)]
pub struct Routes<B> {
    default: B,
    rules: Vec<Rule<B>>,
    hosts: Hosts,
    /// Paths of each host that `hosts` knows, then those of rules without a host.
    paths: Vec<Trie<Taken>>,
}

/// One rule of the url map.
#[derive(Debug)]
pub struct Rule<B> {
    /// Id, for logs.
    pub id: Arc<str>,
    /// What `Routes::rule` finds it by.
    pub position: usize,
    /// What happens to requests.
    pub action: Action<B>,
    /// Changes to requests and answers.
    pub edits: Edits,
}

/// What a rule does.
#[derive(Debug)]
pub enum Action<B> {
    /// Requests go to a backend.
    Forward {
        /// Where they go.
        backend: B,
        /// Gets a copy, whose answers nobody waits for.
        mirror: Option<B>,
    },
    /// Clients are sent elsewhere.
    Redirect(model::Redirect),
}

/// What a rule changes on the way.
#[derive(Debug, Default)]
pub struct Edits {
    /// Another host, path or query for the target.
    pub rewrite: Option<Rewrite>,
    /// Fields of the request (`preActions`).
    pub request: HeaderEdits,
    /// Fields of the answer (`postActions`).
    pub response: HeaderEdits,
}

/// What becomes of one request.
#[derive(Debug)]
pub enum Choice<'r, B> {
    /// It goes to a backend.
    Forward {
        /// The rule's, or the listener's default.
        backend: &'r B,
        /// Gets a copy.
        mirror: Option<&'r B>,
        /// What the rule changes; `None` = no rule matched.
        rule: Option<&'r Rule<B>>,
    },
    /// The client is sent elsewhere.
    Redirect(Redirection<'r>),
    /// Rewriting would make a path with dot segments out of it.
    Refuse(Malformed),
}

/// What stands at a path.
#[derive(Clone, Copy, Debug)]
enum Taken {
    /// Index of a rule.
    Rule(usize),
    /// Only the same path with a slash has a rule: the client is sent there.
    Slash,
}

impl<B> Routes<B> {
    /// Rules of a url map, if the listener has one. `backend` finds backends by id; `None` is
    /// returned if it does not know one that a rule names.
    pub fn compile(
        map: Option<&UrlMap>,
        default: B,
        mut backend: impl FnMut(&str) -> Option<B>,
    ) -> Option<Self> {
        let given: &[model::Rule] = map.map_or(&[], |map| &map.rules);
        let (mut hosts, mut groups) = host::Builder::new(given.iter().map(|rule| &rule.host));
        let mut rules = Vec::with_capacity(given.len());
        for (index, rule) in given.iter().enumerate() {
            groups[hosts.group(rule.host.as_ref())].push(index);
            rules.push(compile(rule, index, &mut backend)?);
        }
        let paths = groups.iter().map(|group| paths(given, group)).collect();
        Some(Self { default, rules, hosts: hosts.build(), paths })
    }

    /// What becomes of a request for a host (or authority: a port is ignored) and a raw path
    /// without the query.
    pub fn find<'r>(&'r self, host: &[u8], path: &[u8]) -> Choice<'r, B> {
        if self.rules.is_empty() {
            return self.otherwise();
        }
        let named = self.hosts.find(host_of(host));
        let named = named.and_then(|group| self.paths[group].find(path));
        let taken = named.or_else(|| self.paths.last().and_then(|any| any.find(path)));
        match taken {
            None => self.otherwise(),
            Some(Taken::Slash) => Choice::Redirect(Redirection::slash()),
            Some(Taken::Rule(index)) => self.rules[*index].choose(path),
        }
    }

    /// The rule with this position.
    pub fn rule(&self, position: usize) -> Option<&Rule<B>> {
        self.rules.get(position)
    }

    /// Where requests go that no rule takes.
    pub fn default_backend(&self) -> &B {
        &self.default
    }

    /// Every backend a request may go to, mirrors too; some perhaps more than once.
    pub fn backends(&self) -> impl Iterator<Item = &B> {
        let ruled = self.rules.iter().flat_map(|rule| match &rule.action {
            Action::Forward { backend, mirror } => [Some(backend), mirror.as_ref()],
            Action::Redirect(_) => [None, None],
        });
        std::iter::once(&self.default).chain(ruled.flatten())
    }

    fn otherwise(&self) -> Choice<'_, B> {
        Choice::Forward { backend: &self.default, mirror: None, rule: None }
    }
}

impl<B> Rule<B> {
    fn choose(&self, path: &[u8]) -> Choice<'_, B> {
        match &self.action {
            Action::Redirect(redirect) => {
                Choice::Redirect(Redirection::ruled(redirect, &self.edits.response))
            }
            Action::Forward { backend, mirror } => {
                if self.edits.rewrite.as_ref().is_some_and(|rewrite| rewrite.climbs(path)) {
                    return Choice::Refuse(Malformed::DotSegment);
                }
                Choice::Forward { backend, mirror: mirror.as_ref(), rule: Some(self) }
            }
        }
    }
}

fn compile<B>(
    rule: &model::Rule,
    position: usize,
    backend_of: &mut impl FnMut(&str) -> Option<B>,
) -> Option<Rule<B>> {
    let mut edits =
        Edits { response: HeaderEdits::compile(&rule.post_actions), ..Edits::default() };
    let action = match &rule.action {
        RouteAction::Redirect(redirect) => Action::Redirect(redirect.clone()),
        RouteAction::Forward { backend, rewrite, mirror, headers } => {
            edits.request = HeaderEdits::compile(headers);
            edits.rewrite = rewrite.as_ref().map(|rewrite| Rewrite::compile(rewrite, &rule.path));
            let mirror = match mirror {
                None => None,
                Some(mirror) => Some(backend_of(mirror)?),
            };
            Action::Forward { backend: backend_of(backend)?, mirror }
        }
    };
    Some(Rule { id: rule.id.as_str().into(), position, action, edits })
}

/// The paths of the rules of one host. A rule for `/a/` or `/a/*` also takes `/a`, unless that
/// has a rule of its own: nginx does so, and the product documents it.
fn paths(rules: &[model::Rule], group: &[usize]) -> Trie<Taken> {
    let mut trie = trie::Builder::default();
    for &index in group {
        match &rules[index].path {
            PathPattern::Exact(path) => trie.exact(path.as_bytes(), Taken::Rule(index)),
            PathPattern::Prefix(path) => trie.prefix(path.as_bytes(), Taken::Rule(index)),
        }
    }
    for &index in group {
        let (PathPattern::Exact(path) | PathPattern::Prefix(path)) = &rules[index].path;
        if let Some(bare) = path.strip_suffix('/').filter(|bare| !bare.is_empty())
            && !trie.has(bare.as_bytes())
        {
            trie.exact(bare.as_bytes(), Taken::Slash);
        }
    }
    trie.build()
}

#[cfg(test)]
mod tests;
