//! Redirects, the slash, rewrites and mirrors.

use super::*;
use crate::model::{HeaderAction, HeaderValue};

const NOTHING: Redirect =
    Redirect { protocol: None, port: None, host: None, path: None, query: None, status: 301 };

fn https() -> Redirect {
    Redirect { protocol: Some(RedirectProtocol::Https), ..NOTHING }
}

#[expect(clippy::unnecessary_wraps, reason = "what redirects hold")]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn locations() {
    let rows: [(Redirect, &str, &str, &str); 18] = [
        (https(), "a.test", "/x?y=1", "https://a.test/x?y=1 (301)"),
        // The port of the old scheme does not stick to the new one.
        (https(), "a.test:80", "/", "https://a.test/ (301)"),
        (https(), "a.test:8080", "/", "https://a.test:8080/ (301)"),
        (Redirect { port: Some(443), ..https() }, "a.test:8080", "/", "https://a.test/ (301)"),
        (Redirect { port: Some(8443), ..https() }, "a.test", "/", "https://a.test:8443/ (301)"),
        (Redirect { port: Some(80), ..https() }, "a.test", "/", "https://a.test:80/ (301)"),
        (Redirect { port: Some(443), ..NOTHING }, "a.test", "/", "http://a.test:443/ (301)"),
        (Redirect { port: Some(80), ..NOTHING }, "a.test:81", "/", "http://a.test/ (301)"),
        (
            Redirect { host: text("b.test"), status: 302, ..NOTHING },
            "a.test:81",
            "/x?",
            "http://b.test:81/x? (302)",
        ),
        (
            Redirect { path: text("/new"), status: 307, ..NOTHING },
            "a.test",
            "/old?q",
            "http://a.test/new?q (307)",
        ),
        (
            Redirect { query: text("z=1"), status: 308, ..NOTHING },
            "a.test",
            "/old?q",
            "http://a.test/old?z=1 (308)",
        ),
        (Redirect { query: text(""), ..NOTHING }, "a.test", "/old?q", "http://a.test/old (301)"),
        (https(), "A.Test.", "/%7e//x", "https://A.Test./%7e//x (301)"),
        (https(), "[2001:db8::1]:80", "/", "https://[2001:db8::1]/ (301)"),
        (https(), "", "/x", "https://198.18.0.10/x (301)"),
        (Redirect { port: Some(1), ..https() }, "", "/x", "https://198.18.0.10:1/x (301)"),
        (https(), "a.test:", "/", "https://a.test/ (301)"),
        (https(), "a.test", "//b.test/", "https://a.test//b.test/ (301)"),
    ];
    for (redirect_to, authority, target, wanted) in rows {
        let routes = routes(vec![redirect("/*", redirect_to)]);
        let found = verdict(&routes, &head(Scheme::Http, authority, target));
        assert_eq!(found, format!("-> {wanted}"), "{authority} {target}");
    }
    let down = Redirect { protocol: Some(RedirectProtocol::Http), ..NOTHING };
    let routes = routes(vec![redirect("/*", down)]);
    for (authority, wanted) in
        [("a.test:443", "-> http://a.test/ (301)"), ("a.test:80", "-> http://a.test/ (301)")]
    {
        assert_eq!(verdict(&routes, &head(Scheme::Https, authority, "/")), wanted);
    }
}

#[test]
fn a_rule_with_a_slash_takes_the_path_without() {
    let routes = routes(
        [
            ("a", "/p/q/"),
            ("a", "/r/*"),
            ("a", "/s/*"),
            ("a", "/s"),
            ("a", "/t/*"),
            ("a", "/t*"),
            ("a", "/*"),
            ("", "/u/*"),
            ("", "//evil/*"),
        ]
        .map(|(host, path)| forward(host, path))
        .into(),
    );
    for (host, target, wanted) in [
        ("a", "/p/q", "-> /p/q/ (301)"),
        ("a", "/p/q?x=1", "-> /p/q/?x=1 (301)"),
        ("a", "/p/q/", "a /p/q/"),
        ("a", "/p/q/z", "a /*"),
        ("a", "/r", "-> /r/ (301)"),
        ("a", "/r/", "a /r/*"),
        ("a", "/rr", "a /*"),
        ("a", "/s", "a /s"),
        ("a", "/t", "a /t*"),
        ("a", "/", "a /*"),
        // Within one host only: `/*` of a takes it.
        ("a", "/u", "a /*"),
        ("b:81", "/u", "-> /u/ (301)"),
        ("b", "/s", "default"),
        // Never a location that a browser reads as another host.
        ("b:81", "//evil", "-> http://b:81//evil/ (301)"),
    ] {
        assert_eq!(verdict(&routes, &head(Scheme::Http, host, target)), wanted, "{host} {target}");
    }
}

fn rewriting(path: &str, to: [Option<&str>; 3]) -> Routes<String> {
    let [host, to_path, query] = to.map(|part| part.map(str::to_owned));
    let rewrite = model::Rewrite { host, path: to_path, query };
    routes(vec![rule(
        "",
        path,
        RouteAction::Forward {
            backend: "b".into(),
            rewrite: Some(rewrite),
            mirror: Some("m".into()),
            headers: Vec::new(),
        },
    )])
}

#[test]
fn rewrites() {
    let rows: [(&str, [Option<&str>; 3], &str, &str); 30] = [
        ("/a/*", [None, Some("/v2/*"), None], "/a/x/y?q=1", "/v2/x/y?q=1"),
        ("/a/*", [None, Some("/v2/*"), None], "/a/", "/v2/"),
        ("/a/*", [None, Some("/*"), None], "/a//x%2F", "//x%2F"),
        ("/a/*", [None, Some("/v2"), None], "/a/x?q", "/v2?q"),
        ("/a", [None, Some("/v2"), None], "/a", "/v2"),
        ("/a*", [None, Some("/v2*"), None], "/abc", "/v2bc"),
        ("/a/*", [None, Some("/v2/*.html"), None], "/a/x", "/v2/x.html"),
        ("/a/*", [None, Some("/v2${path}"), None], "/a/x", "/v2/a/x"),
        ("/a/*", [None, Some("${path}"), None], "/a/x?", "/a/x?"),
        ("/a/*", [Some("b.test"), None, None], "/a/x?y", "b.test/a/x?y"),
        ("/a/*", [Some("${host}"), None, None], "/a/x?y", "/a/x?y"),
        ("/a/*", [None, None, Some("k=v")], "/a/x?y", "/a/x?k=v"),
        ("/a/*", [None, None, Some("k=v")], "/a/x", "/a/x?k=v"),
        ("/a/*", [None, None, Some("${query}")], "/a/x?y", "/a/x?y"),
        ("/a/*", [None, None, Some("${query}")], "/a/x", "/a/x"),
        ("/a/*", [None, None, Some("k=v&${query}")], "/a/x?y", "/a/x?k=v&y"),
        ("/a/*", [None, None, Some("k=v&${query}")], "/a/x", "/a/x?k=v"),
        ("/a/*", [None, None, Some("${query}&${query}")], "/a/x", "/a/x"),
        // Client's bytes must not become a dot segment by what stands beside them.
        ("/a*", [None, Some("/b/*"), None], "/a../c", "DotSegment"),
        ("/a*", [None, Some("/b/*"), None], "/a%2E./c", "DotSegment"),
        ("/a*", [None, Some("/b/*"), None], "/a.;x/c", "DotSegment"),
        ("/a*", [None, Some("/b/*"), None], "/a..%2fsecret", "DotSegment"),
        ("/a*", [None, Some("/b/*"), None], "/a..%5Csecret", "DotSegment"),
        ("/a*", [None, Some("/b/*"), None], "/a..\\secret", "DotSegment"),
        ("/a*", [None, Some("/b/*"), None], "/a%2e.%3bx/c", "DotSegment"),
        ("/a%2*", [None, Some("/b/%2*"), None], "/a%2e./c", "DotSegment"),
        ("/a*", [None, Some("/b/*"), None], "/a..%2gsecret", "/b/..%2gsecret"),
        ("/a*", [None, Some("/b/*"), None], "/a.../c", "/b/.../c"),
        ("/a*", [None, Some("/b/.*"), None], "/a.", "DotSegment"),
        ("/a/*", [None, Some("/b/.*"), None], "/a/.x", "/b/..x"),
    ];
    for (path, to, target, wanted) in rows {
        let found = verdict(&rewriting(path, to), &head(Scheme::Http, "h", target));
        let found = found.strip_prefix("b + m as ").unwrap_or(&found);
        assert_eq!(found, wanted, "{path} {to:?} {target}");
    }
}

/// Whether a path has a dot segment for a server that decodes first and splits then, at `\` too,
/// and cuts parameters off.
fn climbs(path: &str) -> bool {
    let mut plain = path.to_ascii_lowercase();
    for (coded, byte) in [("%2e", "."), ("%2f", "/"), ("%5c", "/"), ("%3b", ";"), ("\\", "/")] {
        plain = plain.replace(coded, byte);
    }
    plain.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

proptest! {
    /// Whatever the rule, clients whose own path is clean cannot climb.
    #[test]
    fn no_rewrite_climbs(
        rule in "/a?/?\\*",
        to in prop_oneof!["/b?/?[.]?\\*[.]?", Just("${path}".to_owned()), Just("/c/*".to_owned())],
        rest in "([.]|%2e|%2E|a|;|/|%2f|%2F|%5c|%5C|%3b|%3B|\\\\){0,6}",
    ) {
        let asked = format!("{}{rest}", rule.trim_end_matches('*'));
        prop_assume!(!climbs(&asked));
        let routes = rewriting(&rule, [None, Some(&to), None]);
        let found = verdict(&routes, &head(Scheme::Http, "h", &asked));
        if let Some(target) = found.strip_prefix("b + m as ") {
            prop_assert!(!climbs(target), "{rule} {to} {asked}: {target}");
        }
    }
}

#[test]
fn header_edits_know_their_names() {
    let edits = HeaderEdits::compile(&[
        HeaderAction::Delete { key: "X-Debug".into() },
        HeaderAction::Insert { key: "x-env".into(), value: HeaderValue::Custom("prod".into()) },
        HeaderAction::Insert {
            key: "X-Real-IP".into(),
            value: HeaderValue::System("X-Forwarded-For"),
        },
    ]);
    for (name, dropped) in [
        ("x-debug", true),
        ("X-ENV", true),
        ("x-real-ip", true),
        ("x-debu", false),
        ("x-debuh", false),
        ("", false),
    ] {
        assert_eq!(edits.drops(name.as_bytes()), dropped, "{name}");
    }
    assert!(!edits.drops(&[b'x'; 200]));
    let set: Vec<_> = edits.inserts().iter().map(|insert| &*insert.name).collect();
    assert_eq!(set, [&b"x-env"[..], b"X-Real-IP"]);
}
