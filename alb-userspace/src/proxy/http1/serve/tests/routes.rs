//! Url maps: where requests go, what is changed on the way, and redirects.

use tokio::io::AsyncWriteExt as _;

use super::lab::*;
use crate::model::{
    DomainPattern, HeaderAction, HeaderValue, PathPattern, Redirect, RedirectProtocol, Rewrite,
    RouteAction, Rule,
};

fn rule(id: &str, host: Option<&str>, path: PathPattern, action: RouteAction) -> Rule {
    let host = host.map(|host| DomainPattern::Exact(host.into()));
    Rule { id: id.into(), host, path, action, post_actions: vec![] }
}

fn prefix(path: &str) -> PathPattern {
    PathPattern::Prefix(path.into())
}

fn forward(backend: &str) -> RouteAction {
    RouteAction::Forward { backend: backend.into(), rewrite: None, mirror: None, headers: vec![] }
}

const DEFAULT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ndefault";
const OTHER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Own: 1\r\n\r\nother";

#[test]
fn every_request_of_a_connection_finds_its_own_backend() {
    run(async {
        let (web, other) = (answering(DEFAULT).await, answering(OTHER).await);
        let rules = vec![
            rule("api", Some("shop.test"), prefix("/api/"), forward("other")),
            rule("all", None, prefix("/any"), forward("other")),
        ];
        let lab = Lab::routed(&[web], &[other], rules, |_| {}).await;
        let mut client = lab.connect().await;
        for (host, path, answer) in [
            ("shop.test", "/", "default"),
            ("shop.test:80", "/api/x?y", "other"),
            ("else.test", "/api/x", "default"),
            ("else.test", "/anything", "other"),
            ("SHOP.test", "/API/x", "default"),
        ] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await;
            let text = client.until(&format!("\r\n\r\n{answer}")).await;
            assert_eq!(statuses(&text), ["200"], "{host} {path}");
        }
    });
}

#[test]
fn a_rule_rewrites_and_edits_both_ways() {
    run(async {
        let (listener, other) = origin().await;
        let insert = |key: &str, value| HeaderAction::Insert { key: key.into(), value };
        let action = RouteAction::Forward {
            backend: "other".into(),
            rewrite: Some(Rewrite {
                host: Some("inner.test".into()),
                path: Some("/v2/*".into()),
                query: None,
            }),
            mirror: None,
            headers: vec![
                insert("X-Env", HeaderValue::Custom("prod".into())),
                HeaderAction::Delete { key: "X-Debug".into() },
            ],
        };
        let mut edited = rule("api", None, prefix("/api/"), action);
        edited.post_actions = vec![
            insert("X-Asked", HeaderValue::System("X-Forwarded-Host")),
            HeaderAction::Delete { key: "X-Own".into() },
        ];
        let lab = Lab::routed(&[], &[other], vec![edited], |_| {}).await;
        let mut client = lab.connect().await;
        client.send(b"GET /api/a%2Fb?q=1 HTTP/1.1\r\nHost: shop.test\r\nX-Debug: 1\r\n\r\n").await;
        let mut target = accept(&listener).await;
        let head = read_until(&mut target, "\r\n\r\n").await;
        assert!(head.starts_with("GET /v2/a%2Fb?q=1 HTTP/1.1\r\nHost: inner.test\r\n"), "{head}");
        assert!(head.contains("X-Env: prod\r\n") && !head.contains("X-Debug"), "{head}");
        target.write_all(OTHER.as_bytes()).await.unwrap();
        let text = client.until("other").await;
        assert!(text.contains("X-Asked: shop.test:80\r\n") && !text.contains("X-Own"), "{text}");
    });
}

#[test]
fn redirects_are_answered_here_and_the_connection_goes_on() {
    run(async {
        let web = answering(DEFAULT).await;
        let to = Redirect {
            protocol: Some(RedirectProtocol::Https),
            port: Some(8443),
            host: None,
            path: None,
            query: None,
            status: 308,
        };
        let rules = vec![
            rule("old", None, prefix("/old"), RouteAction::Redirect(to)),
            rule("dir", None, prefix("/dir/"), forward("other")),
        ];
        let lab = Lab::routed(&[web], &[], rules, |_| {}).await;
        let mut client = lab.connect().await;
        client.send(b"GET /old/x?q HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        let text = client.until("Request id").await;
        assert!(text.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{text}");
        assert!(text.contains("Location: https://shop.test:8443/old/x?q\r\n"), "{text}");
        client.until("\n").await;
        client.send(b"HEAD /dir?q HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        let text = client.until("\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 301 ") && text.contains("Location: /dir/?q\r\n"));
        client.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
        assert!(client.until("default").await.starts_with("HTTP/1.1 200 "), "no body came of HEAD");

        // A body that nobody reads ends the connection.
        let post = b"POST /old HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nbegin";
        let text = lab.talk(post).await;
        assert!(text.starts_with("HTTP/1.1 308 ") && text.contains("Connection: close\r\n"));
    });
}

#[test]
fn dot_segments_are_refused_also_those_a_rewrite_would_make() {
    run(async {
        let web = answering(DEFAULT).await;
        let rewrite = Rewrite { host: None, path: Some("/b/*".into()), query: None };
        let action = RouteAction::Forward {
            backend: "other".into(),
            rewrite: Some(rewrite),
            mirror: None,
            headers: vec![],
        };
        let rules = vec![rule("a", None, prefix("/a"), action)];
        let lab = Lab::routed(&[web], &[web], rules, |_| {}).await;
        for (path, status) in
            [("/x/../y", "400"), ("/x/%2e%2E/y", "400"), ("/a../c", "400"), ("/ac", "200")]
        {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            assert_eq!(statuses(&lab.talk(request.as_bytes()).await), [status], "{path}");
        }
    });
}
