//! Url maps and their rules. What rules do to headers is in `header`.

use std::collections::HashSet;

use super::{
    cursor::{Field, Object},
    format, header,
    ids::{self, Kind},
    scope::Scope,
};
use crate::model::{
    Backend, BackendProtocol, DomainPattern, PathPattern, Redirect, RedirectProtocol, Rewrite,
    RouteAction, Rule, UrlMap,
};

const REWRITE: &str = "rewrite";
const MIRROR: &str = "mirrorBackend";
const PATH: &str = "/*";
const PATH_CHARS: usize = 128;
const QUERY_CHARS: usize = 128;
/// What a rule's path may hold beside letters and digits.
const PATH_SIGNS: &str = "$-_.+!'()%:@&=/";
/// What a redirect's path and query may hold beside letters and digits.
const REDIRECT_SIGNS: &str = "-_.+!'()%:@&=/";
const PORT: std::ops::RangeInclusive<u16> = 1..=65_535;

const STATUS: &[(&str, u16)] =
    &[("http_301", 301), ("http_302", 302), ("http_307", 307), ("http_308", 308)];
const SCHEMES: &[(&str, RedirectProtocol)] =
    &[("Http", RedirectProtocol::Http), ("Https", RedirectProtocol::Https)];

/// What url maps refer to.
#[derive(Debug)]
pub(super) struct Scopes<'s> {
    pub(super) url_maps: &'s Scope,
    pub(super) backends: &'s Scope,
    /// Name of the load balancer.
    pub(super) owner: &'s str,
}

/// Reads one url map; `backends` are those of its load balancer that could be read.
pub(super) fn read(
    object: &Object<'_>,
    scopes: &Scopes<'_>,
    backends: &[Backend],
) -> Option<UrlMap> {
    let name = format::name(object);
    let description = format::description(object);
    let owner = format!("{}/{}", scopes.owner, name.as_deref().unwrap_or_default());
    let reader = Reader { scopes, backends, owner: &owner };
    let mut rules: Vec<Rule> = Vec::new();
    let mut seen = HashSet::new();
    for item in object.list("rules") {
        let Some(rule) = item.object(|object| reader.rule(object)) else { continue };
        if !seen.insert((rule.host.clone(), rule.path.clone())) {
            item.complain("another rule of this url map has the same host and path");
        }
        rules.push(rule);
    }
    let name = name?;
    Some(UrlMap { id: scopes.url_maps.id(&name), name, description, rules })
}

#[derive(Debug)]
struct Reader<'s> {
    scopes: &'s Scopes<'s>,
    backends: &'s [Backend],
    owner: &'s str,
}

impl Reader<'_> {
    fn rule(&self, object: &Object<'_>) -> Option<Rule> {
        let host = object.get("host");
        let path = object.get("path");
        let redirects = object.choice("action", &[("Forward", false), ("Redirect", true)], false);
        let backend = object.get("backend");
        let redirect = object.get("redirectAction");
        let pre = object.get("preActions");
        let post_actions = object
            .get("postActions")
            .map(|field| header::actions(&field, &[], |_, _| {}))
            .unwrap_or_default();
        if host.is_none() && path.is_none() {
            object.whole().complain("`host` or `path` is missing");
        }
        let written = (
            host.as_ref().and_then(Field::peek).unwrap_or_default(),
            path.as_ref().and_then(Field::peek).unwrap_or(PATH),
        );
        let id = ids::derive(
            Kind::Rule,
            self.owner,
            &format!("{} {}", written.0.to_ascii_lowercase(), written.1),
        );
        let host = host.map(|field| host_pattern(&field));
        let path = path.map_or_else(|| Some(path_of(PATH)), |field| path_pattern(&field));
        let action = if redirects {
            for field in [&backend, &pre].into_iter().flatten() {
                field.complain("is for rules with action Forward, this one has Redirect");
            }
            redirect
                .or_else(|| object.need("redirectAction"))
                .and_then(|field| field.object(read_redirect))
                .map(RouteAction::Redirect)
        } else {
            if let Some(field) = redirect {
                field.complain("is for rules with action Redirect, this one has Forward");
            }
            let backend = backend.or_else(|| object.need("backend"));
            self.forward(backend.as_ref(), pre.as_ref(), path.as_ref())
        };
        let host = match host {
            None => None,
            Some(host) => Some(host?),
        };
        Some(Rule { id, host, path: path?, action: action?, post_actions })
    }

    fn forward(
        &self,
        backend: Option<&Field<'_>>,
        pre: Option<&Field<'_>>,
        path: Option<&PathPattern>,
    ) -> Option<RouteAction> {
        let backend = backend.and_then(|field| self.http_backend(field));
        let mut rewrite = None;
        let mut mirror = None;
        let headers = pre
            .map(|field| {
                header::actions(field, &[REWRITE, MIRROR], |key, field| {
                    if key == REWRITE {
                        if rewrite.is_some() {
                            field.complain("a rule has one rewrite");
                        }
                        rewrite = field.object(|object| Some(read_rewrite(object, path)));
                        return;
                    }
                    if mirror.is_some() {
                        field.reject("a rule has one mirrorBackend");
                    }
                    mirror = self.http_backend(field);
                    if mirror.is_some() && mirror == backend {
                        field.reject("must be another backend than the rule forwards to");
                    }
                })
            })
            .unwrap_or_default();
        Some(RouteAction::Forward { backend: backend?, rewrite, mirror, headers })
    }

    fn http_backend(&self, field: &Field<'_>) -> Option<String> {
        let id = self.scopes.backends.resolve(field)?;
        let backend = self.backends.iter().find(|backend| backend.id == id);
        if backend.is_some_and(|backend| backend.protocol != BackendProtocol::Http) {
            field.reject("is a Tcp backend; rules forward to Http backends");
        }
        Some(id)
    }
}

fn host_pattern(field: &Field<'_>) -> Option<DomainPattern> {
    let host = format::domain(field, true)?;
    Some(if let Some(rest) = host.strip_prefix('*') {
        DomainPattern::Suffix(rest.to_owned())
    } else if let Some(rest) = host.strip_suffix('*') {
        DomainPattern::Prefix(rest.to_owned())
    } else {
        DomainPattern::Exact(host)
    })
}

fn path_of(path: &str) -> PathPattern {
    match path.strip_suffix('*') {
        Some(prefix) => PathPattern::Prefix(prefix.to_owned()),
        None => PathPattern::Exact(path.to_owned()),
    }
}

fn path_pattern(field: &Field<'_>) -> Option<PathPattern> {
    let path = field.text()?;
    let inner = path.strip_suffix('*').unwrap_or(path);
    if !path.starts_with('/') {
        field.reject("must start with `/`");
    } else if inner.contains('*') {
        field.reject("a `*` stands at the end only");
    } else if fits(field, inner, PATH_CHARS, PATH_SIGNS) {
        return Some(path_of(path));
    }
    None
}

/// Checks length and characters; reports and says whether they are fine.
fn fits(field: &Field<'_>, text: &str, most: usize, signs: &str) -> bool {
    if text.chars().count() > most {
        field.reject(format!("allowed are {most} characters"));
        return false;
    }
    let strange = |char: &char| !(char.is_ascii_alphanumeric() || signs.contains(*char));
    if let Some(strange) = text.chars().find(strange) {
        field.reject(format!("the character {strange:?} is not allowed here"));
        return false;
    }
    true
}

fn read_redirect(object: &Object<'_>) -> Option<Redirect> {
    let protocol = object.get("protocol");
    let port = object.get("port");
    let host = object.get("host");
    let path = object.get("path");
    let query = object.get("query");
    let status = object.need("statusCode").and_then(|field| field.choice(STATUS));
    if [&protocol, &port, &host, &path, &query].iter().all(|field| field.is_none()) {
        object.whole().complain("needs at least one of protocol, port, host, path and query");
    }
    Some(Redirect {
        protocol: protocol.and_then(|field| field.choice(SCHEMES)),
        port: port.and_then(|field| field.int(PORT)),
        host: host.and_then(|field| plain_domain(&field)),
        path: path.and_then(|field| text(&field, PATH_CHARS, true)),
        query: query.and_then(|field| text(&field, QUERY_CHARS, false)),
        status: status?,
    })
}

fn plain_domain(field: &Field<'_>) -> Option<String> {
    let domain = format::domain(field, false)?;
    if domain.contains('*') {
        field.reject("a wildcard is not allowed here");
        return None;
    }
    Some(domain)
}

fn text(field: &Field<'_>, most: usize, is_path: bool) -> Option<String> {
    let text = field.text()?;
    if is_path && !text.starts_with('/') {
        field.reject("must start with `/`");
        return None;
    }
    if !is_path && text.starts_with('?') {
        field.reject("must not start with `?`");
        return None;
    }
    fits(field, text, most, REDIRECT_SIGNS).then(|| text.to_owned())
}

fn read_rewrite(object: &Object<'_>, rule: Option<&PathPattern>) -> Rewrite {
    let host = object.get("host");
    let path = object.get("path");
    let query = object.get("query");
    if host.is_none() && path.is_none() && query.is_none() {
        object.whole().complain("needs at least one of host, path and query");
    }
    Rewrite {
        host: host.and_then(|field| {
            if field.peek() == Some("${host}") {
                return Some("${host}".to_owned());
            }
            plain_domain(&field)
        }),
        path: path.and_then(|field| rewrite_path(&field, rule)),
        query: query.and_then(|field| {
            let text = field.text()?;
            let rest = text.replace("${query}", "");
            if rest.starts_with('?') {
                field.reject("must not start with `?`");
                return None;
            }
            fits(&field, &rest, QUERY_CHARS, REDIRECT_SIGNS).then(|| text.to_owned())
        }),
    }
}

/// `/v2/*` keeps what the rule's `*` matched, so the rule must have one.
fn rewrite_path(field: &Field<'_>, rule: Option<&PathPattern>) -> Option<String> {
    let path = field.text()?;
    let rest = path.replace("${path}", "");
    if !path.starts_with('/') && !path.starts_with("${path}") {
        field.reject("must start with `/`");
    } else if rest.matches('*').count() > 1 {
        field.reject("allowed is one `*`");
    } else if rest.contains('*') && matches!(rule, Some(PathPattern::Exact(_))) {
        field.reject("a `*` needs a rule whose path ends in `*`");
    } else if fits(field, &rest.replace('*', ""), PATH_CHARS, PATH_SIGNS) {
        return Some(path.to_owned());
    }
    None
}
