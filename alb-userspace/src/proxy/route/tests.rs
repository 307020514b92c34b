//! Rows of rules and requests, and what becomes of them.

mod bench;
mod edges;

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{DomainPattern, Redirect, RedirectProtocol},
    proxy::message::{BodyKind, RequestHead, Scheme, Version},
};

fn host(text: &str) -> Option<DomainPattern> {
    Some(if text.is_empty() {
        return None;
    } else if let Some(rest) = text.strip_prefix('*') {
        DomainPattern::Suffix(rest.into())
    } else if let Some(rest) = text.strip_suffix('*') {
        DomainPattern::Prefix(rest.into())
    } else {
        DomainPattern::Exact(text.into())
    })
}

fn path(text: &str) -> PathPattern {
    match text.strip_suffix('*') {
        Some(prefix) => PathPattern::Prefix(prefix.into()),
        None => PathPattern::Exact(text.into()),
    }
}

fn rule(host_text: &str, path_text: &str, action: RouteAction) -> model::Rule {
    model::Rule {
        id: format!("{host_text} {path_text}"),
        host: host(host_text),
        path: path(path_text),
        action,
        post_actions: Vec::new(),
    }
}

fn forward(host: &str, path: &str) -> model::Rule {
    let backend = format!("{host} {path}");
    rule(
        host,
        path,
        RouteAction::Forward { backend, rewrite: None, mirror: None, headers: Vec::new() },
    )
}

fn redirect(path: &str, to: Redirect) -> model::Rule {
    rule("", path, RouteAction::Redirect(to))
}

/// Backends are their ids.
fn routes(rules: Vec<model::Rule>) -> Routes<String> {
    let map = UrlMap { id: "m".into(), name: "m".into(), description: String::new(), rules };
    Routes::compile(Some(&map), "default".into(), |id| Some(id.to_owned())).unwrap()
}

fn head<'a>(scheme: Scheme, authority: &'a str, target: &'a str) -> RequestHead<'a> {
    RequestHead {
        method: b"GET",
        scheme,
        authority: authority.as_bytes(),
        target: target.as_bytes(),
        version: Version::Http11,
        fields: &[],
        body: BodyKind::None,
    }
}

fn local() -> SocketAddr {
    "198.18.0.10:80".parse().unwrap()
}

/// The backend, `-> location (status)`, or the refusal.
fn verdict(routes: &Routes<String>, head: &RequestHead<'_>) -> String {
    match routes.find(head.authority, head.path()) {
        Choice::Forward { backend, mirror, rule } => {
            assert_eq!(rule.is_none(), backend == "default");
            let mut text = backend.clone();
            if let Some(mirror) = mirror {
                text += " + ";
                text += mirror;
            }
            if let Some(rewrite) = rule.and_then(|rule| rule.edits.rewrite.as_ref()) {
                let mut target = Vec::new();
                rewrite.write(head.path(), head.query(), &mut target);
                text += " as ";
                text += std::str::from_utf8(rewrite.host().unwrap_or_default()).unwrap();
                text += std::str::from_utf8(&target).unwrap();
            }
            text
        }
        Choice::Redirect(redirection) => {
            let mut location = Vec::new();
            redirection.location(head, local(), &mut location);
            format!("-> {} ({})", String::from_utf8(location).unwrap(), redirection.status())
        }
        Choice::Refuse(reason) => format!("{reason:?}"),
    }
}

#[test]
fn the_most_specific_host_then_the_longest_path() {
    let routes = routes(
        [
            ("www.a.test", "/*"),
            ("www.a.test", "/api/*"),
            ("www.a.test", "/api/v1/*"),
            ("www.a.test", "/api/v1/x"),
            ("*.a.test", "/only"),
            ("*.b.a.test", "/*"),
            ("www.*", "/*"),
            ("www.c.*", "/*"),
            ("198.18.0.1", "/*"),
            ("", "/any/*"),
            ("", "/"),
        ]
        .map(|(host, path)| forward(host, path))
        .into(),
    );
    for (host, path, verdict_wanted) in [
        ("www.a.test", "/", "www.a.test /*"),
        ("www.a.test", "/api/x", "www.a.test /api/*"),
        ("www.a.test", "/api/", "www.a.test /api/*"),
        ("www.a.test", "/apix", "www.a.test /*"),
        ("www.a.test", "/api/v1/x", "www.a.test /api/v1/x"),
        ("www.a.test", "/api/v1/xy", "www.a.test /api/v1/*"),
        ("www.a.test", "/API/x", "www.a.test /*"),
        ("www.a.test", "/api%2fx", "www.a.test /*"),
        // Case, port and a trailing dot do not count.
        ("WWW.A.Test:8080", "/api/x", "www.a.test /api/*"),
        ("www.a.test.", "/api/x", "www.a.test /api/*"),
        ("www.a.test.:80", "/api/x", "www.a.test /api/*"),
        // Exact before suffix before prefix; longer before shorter.
        ("x.a.test", "/only", "*.a.test /only"),
        ("x.y.a.test", "/only", "*.a.test /only"),
        ("x.b.a.test", "/only", "*.b.a.test /*"),
        ("b.a.test", "/only", "*.a.test /only"),
        ("www.b.a.test", "/", "*.b.a.test /*"),
        ("www.c.test", "/", "www.c.* /*"),
        ("www.d.test", "/", "www.* /*"),
        ("198.18.0.1:80", "/", "198.18.0.1 /*"),
        // A star stands for something.
        ("a.test", "/only", "default"),
        (".a.test", "/only", "default"),
        ("www.", "/x", "default"),
        ("www.c.", "/", "www.* /*"),
        // The host that matched decides among those that are named.
        ("www.b.a.test", "/zzz", "*.b.a.test /*"),
        ("www.z.a.test", "/zzz", "default"),
        // Rules for every host come last.
        ("x.a.test", "/any/1", " /any/*"),
        ("other", "/any/1", " /any/*"),
        ("other", "/", " /"),
        ("other", "/x", "default"),
        ("", "/any/1", " /any/*"),
        ("[2001:db8::1]:80", "/any/1", " /any/*"),
        ("www.a.test", "*", "default"),
    ] {
        let head = head(Scheme::Http, host, path);
        assert_eq!(verdict(&routes, &head), verdict_wanted, "{host} {path}");
    }
}

#[test]
fn a_long_host_is_no_host() {
    let routes = routes(vec![forward("*.a.test", "/*"), forward("", "/x")]);
    let long = format!("{}.a.test", "x".repeat(300));
    assert_eq!(verdict(&routes, &head(Scheme::Http, &long, "/")), "default");
    assert_eq!(verdict(&routes, &head(Scheme::Http, &long, "/x")), " /x");
}

#[test]
fn without_a_map_all_goes_to_the_default() {
    let routes = Routes::compile(None, "default".to_owned(), |_| None).unwrap();
    assert_eq!(verdict(&routes, &head(Scheme::Http, "a", "/x")), "default");
    assert_eq!(routes.backends().collect::<Vec<_>>(), ["default"]);
}

#[test]
fn an_unknown_backend_is_noticed() {
    let rules = vec![forward("", "/*")];
    let map = UrlMap { id: "m".into(), name: "m".into(), description: String::new(), rules };
    assert!(Routes::compile(Some(&map), (), |_| None).is_none());
}

/// What the trie does, in the words of the reference.
fn slow(rules: &[(String, String)], asked: &str, asked_path: &str) -> String {
    let rank = |rule: &str| -> Option<(u8, usize)> {
        if let Some(suffix) = rule.strip_prefix('*') {
            (asked.ends_with(suffix) && asked.len() > suffix.len()).then_some((2, suffix.len()))
        } else if let Some(prefix) = rule.strip_suffix('*') {
            (asked.starts_with(prefix) && asked.len() > prefix.len()).then_some((1, prefix.len()))
        } else {
            (rule == asked).then_some((3, 0))
        }
    };
    let best = rules.iter().filter(|(host, _)| !host.is_empty()).filter_map(|(h, _)| rank(h)).max();
    let take = |wanted: &dyn Fn(&str) -> bool| {
        let in_host: Vec<_> = rules.iter().filter(|(host, _)| wanted(host)).collect();
        let exact = in_host.iter().find(|(_, path)| path == asked_path);
        let prefix = |(_, path): &&&(String, String)| {
            path.strip_suffix('*').is_some_and(|prefix| asked_path.starts_with(prefix))
        };
        let longest = in_host.iter().filter(prefix).max_by_key(|(_, path)| path.len());
        let slash = in_host
            .iter()
            .any(|(_, path)| path.strip_suffix('*').unwrap_or(path) == format!("{asked_path}/"))
            && !in_host.iter().any(|(_, path)| *path == format!("{asked_path}*"));
        match (exact, slash) {
            (Some((host, path)), _) => Some(format!("{host} {path}")),
            // `//x/` alone would name another host.
            (None, true) if asked_path.starts_with("//") => {
                Some(format!("-> http://{asked}{asked_path}/ (301)"))
            }
            (None, true) => Some(format!("-> {asked_path}/ (301)")),
            (None, false) => longest.map(|(host, path)| format!("{host} {path}")),
        }
    };
    let named = best.and_then(|best| take(&|host| !host.is_empty() && rank(host) == Some(best)));
    named.or_else(|| take(&str::is_empty)).unwrap_or_else(|| "default".into())
}

proptest! {
    #[test]
    fn finds_what_reading_every_rule_finds(
        rules in prop::collection::hash_set(
            (prop_oneof![
                Just(String::new()), "[ab]\\.[ab]", "\\*\\.[ab]", "\\*\\.[ab]\\.[ab]",
                "[ab]\\.\\*", "[ab]\\.[ab]\\.\\*",
            ], "/[ab]?(/[ab])?/?\\*?"), 0..25),
        asked in "[ab](\\.[ab]){0,3}",
        asked_path in "/[ab]?(/[ab]){0,2}/?",
    ) {
        let rules: Vec<_> = rules.into_iter().collect();
        let compiled = routes(rules.iter().map(|(host, path)| forward(host, path)).collect());
        let found = verdict(&compiled, &head(Scheme::Http, &asked, &asked_path));
        let wanted = slow(&rules, &asked, &asked_path);
        prop_assert_eq!(found, wanted);
    }
}
