//! Heads in, heads out, byte for byte.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{self, DomainPattern, Forwarded, HeaderAction, HeaderValue, PathPattern, RouteAction},
    proxy::{
        message::{BodyKind, Field, RequestHead, ResponseHead, Scheme, Version},
        peer::Peer,
        route::{Choice, Edits, Routes},
    },
};

const ALL: Forwarded =
    Forwarded { protocol: true, port: true, host: true, vip: true, client_port: true };
const NONE: Forwarded =
    Forwarded { protocol: false, port: false, host: false, vip: false, client_port: false };

fn peer() -> Peer {
    Peer {
        client: "203.0.113.7:50123".parse().unwrap(),
        local: "198.18.0.10:8080".parse().unwrap(),
        tls: None,
    }
}

fn fields(lines: &str) -> Vec<Field<'_>> {
    lines
        .lines()
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            Field { name: name.as_bytes(), value: value.trim().as_bytes() }
        })
        .collect()
}

struct Row<'a> {
    version: Version,
    method: &'a str,
    target: &'a str,
    authority: &'a str,
    body: BodyKind,
    forwarded: Forwarded,
    edits: Option<&'a Edits>,
    upgrade: Option<&'a [u8]>,
    expect: bool,
}

const GET: Row<'_> = Row {
    version: Version::Http11,
    method: "GET",
    target: "/a%2Fb?c=d",
    authority: "shop.test",
    body: BodyKind::None,
    forwarded: NONE,
    edits: None,
    upgrade: None,
    expect: false,
};

/// What the target gets, without the lines that every request has at its end.
fn request(row: &Row<'_>, lines: &str) -> String {
    let whole = whole_request(row, lines);
    let tail = "X-Forwarded-For: 203.0.113.7\r\nX-Request-Id: r-1\r\n\r\n";
    let rest = whole.strip_suffix(tail).unwrap_or_else(|| panic!("{whole}"));
    rest.replace("\r\n", "\n")
}

fn whole_request(row: &Row<'_>, lines: &str) -> String {
    let fields = fields(lines);
    let head = RequestHead {
        method: row.method.as_bytes(),
        scheme: Scheme::Http,
        authority: row.authority.as_bytes(),
        target: row.target.as_bytes(),
        version: row.version,
        fields: &fields,
        body: row.body,
    };
    let to = Outgoing {
        peer: &peer(),
        forwarded: row.forwarded,
        edits: row.edits,
        request_id: b"r-1",
        cookie: Some(b"ALB-1"),
        upgrade: row.upgrade,
        expect: row.expect,
    };
    let mut out = Vec::new();
    write_request(&head, &to, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn case_order_and_bytes_are_kept() {
    let lines = "hOsT: shop.test\nX-b: 1\nACCEPT: */*\nx-B: 2\nX-Empty:\n";
    let wanted = "GET /a%2Fb?c=d HTTP/1.1\nhOsT: shop.test\nX-b: 1\nACCEPT: */*\nx-B: \
                  2\nX-Empty: \n";
    assert_eq!(request(&GET, lines), wanted);
}

#[test]
fn what_each_field_becomes() {
    let post = Row { method: "POST", body: BodyKind::Length(5), ..GET };
    let chunked = Row { method: "POST", body: BodyKind::Chunked, ..GET };
    for (row, line, becomes) in [
        (&GET, "Connection: close, X-Hop\nX-Hop: 1\nX-Stays: 2", "X-Stays: 2\n"),
        (&GET, "X-Hop: 1\nConnection: keep-alive\nconnection: ,x-hop ,\t", ""),
        // What targets rely on is not listed away.
        (&GET, "Connection: host, authorization\nAuthorization: a", "Authorization: a\n"),
        (&GET, "Keep-Alive: timeout=5\nProxy-Connection: close\nProxy: http://x", ""),
        (&GET, "Proxy-Authorization: x\nHTTP2-Settings: x\nUpgrade: h2c", ""),
        (&GET, "TE: gzip, deflate;q=0.5", ""),
        (&GET, "TE: gzip, Trailers", "Connection: TE\nTE: trailers\n"),
        (&post, "content-LENGTH: 5", "content-LENGTH: 5\n"),
        (&post, "Content-Length: 5\nContent-Length: 5", "Content-Length: 5\n"),
        (&post, "X: y", "X: y\nContent-Length: 5\n"),
        (&chunked, "Transfer-Encoding: Chunked\nX: y", "X: y\nTransfer-Encoding: chunked\n"),
        (&chunked, "Trailer: X-Sum", "Trailer: X-Sum\nTransfer-Encoding: chunked\n"),
        (&post, "Content-Length: 5\nTrailer: X-Sum", "Content-Length: 5\n"),
        (&GET, "Expect: 100-continue", ""),
        (&Row { expect: true, ..GET }, "Expect: 100-continue", "Expect: 100-continue\n"),
        (&GET, "Cookie: a=1; ALB-1=x; b=2", "Cookie: a=1; b=2\n"),
        (&GET, "Cookie: ALB-1=x", ""),
        (&GET, "Cookie: a=1;b=2", "Cookie: a=1;b=2\n"),
        (&GET, "X-Request-Id: client's", ""),
        (&GET, "X_Forwarded_For: 1.1.1.1\nX_Request_Id: x", ""),
        // Switched off: the client's value passes.
        (&GET, "X-Forwarded-Proto: https", "X-Forwarded-Proto: https\n"),
        (
            &Row { upgrade: Some(b"websocket"), ..GET },
            "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: k",
            "Sec-WebSocket-Key: k\nConnection: Upgrade\nUpgrade: websocket\n",
        ),
    ] {
        let wanted = format!("{} {} HTTP/1.1\nHost: shop.test\n{becomes}", row.method, row.target);
        assert_eq!(request(row, &format!("Host: shop.test\n{line}")), wanted, "{line}");
    }
}

#[test]
fn one_host_always() {
    for (row, lines, host) in [
        // The target's authority wins over Host (RFC 9112 §3.2.2).
        (Row { authority: "b.test:81", ..GET }, "Host: a.test", "Host: b.test:81"),
        (Row { version: Version::Http10, authority: "", ..GET }, "", "Host: 198.18.0.10:8080"),
        (Row { version: Version::H2, ..GET }, "accept: */*", "Host: shop.test\naccept: */*"),
        (Row { version: Version::H2, ..GET }, "host: shop.test", "Host: shop.test"),
    ] {
        let wanted = format!("GET /a%2Fb?c=d HTTP/1.1\n{host}\n");
        assert_eq!(request(&row, lines), wanted);
    }
}

#[test]
fn from_h2() {
    let h2 = Row { version: Version::H2, ..GET };
    for (row, lines, wanted) in [
        (&h2, "cookie: a=1\naccept: x\ncookie: b=2", "accept: x\nCookie: a=1; b=2\n"),
        (&h2, "cookie: ALB-1=x\ncookie: b=2", "Cookie: b=2\n"),
        (&h2, "cookie: b=2\ncookie: ALB-1=x", "Cookie: b=2\n"),
        (&h2, "cookie: ALB-1=x", ""),
        (&Row { body: BodyKind::Stream, ..h2 }, "", "Transfer-Encoding: chunked\n"),
    ] {
        let wanted = format!("GET /a%2Fb?c=d HTTP/1.1\nHost: shop.test\n{wanted}");
        assert_eq!(request(row, lines), wanted, "{lines}");
    }
    let post = Row { method: "POST", ..h2 };
    assert!(request(&post, "").ends_with("Host: shop.test\nContent-Length: 0\n"));
}

#[test]
fn who_the_client_is() {
    let lines = "Host: shop.test\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: \
                 x\nx_forwarded_port: x\nX-Forwarded-Host: x\nX-Forwarded-LBIP: \
                 x\nX-Forwarded-Client-Port: x\nx-forwarded-for: 192.0.2.2, 192.0.2.3";
    let wanted = "GET /a%2Fb?c=d HTTP/1.1\nHost: shop.test\nX-Forwarded-For: 192.0.2.1, \
                  192.0.2.2, 192.0.2.3, 203.0.113.7\nX-Forwarded-Proto: http\nX-Forwarded-Port: \
                  8080\nX-Forwarded-Host: shop.test:80\nX-Forwarded-LBIP: \
                  198.18.0.10\nX-Forwarded-Client-Port: 50123\nX-Request-Id: r-1\n\n";
    let row = Row { forwarded: ALL, ..GET };
    assert_eq!(whole_request(&row, lines).replace("\r\n", "\n"), wanted);
    for (authority, host) in [
        ("shop.test:81", "shop.test:81"),
        ("[2001:db8::1]", "[2001:db8::1]:80"),
        ("", "198.18.0.10:8080"),
    ] {
        let row = Row { authority, forwarded: ALL, ..GET };
        let text = whole_request(&row, "");
        assert!(text.contains(&format!("\r\nX-Forwarded-Host: {host}\r\n")), "{text}");
    }
}

fn edited(check: impl FnOnce(&Edits)) {
    let insert = |key: &str, value| HeaderAction::Insert { key: key.into(), value };
    let rule = model::Rule {
        id: "r".into(),
        host: None::<DomainPattern>,
        path: PathPattern::Prefix("/a".into()),
        action: RouteAction::Forward {
            backend: "b".into(),
            rewrite: Some(model::Rewrite {
                host: Some("in.test".into()),
                path: Some("/v2*".into()),
                query: None,
            }),
            mirror: None,
            headers: vec![
                insert("X-Env", HeaderValue::Custom("prod".into())),
                insert("X-Chain", HeaderValue::System("X-Forwarded-For")),
                HeaderAction::Delete { key: "X-Debug".into() },
            ],
        },
        post_actions: vec![
            insert("X-Frame-Options", HeaderValue::Custom("DENY".into())),
            insert("X-Your-Port", HeaderValue::System("X-Forwarded-Client-Port")),
            insert("Strict-Transport-Security", HeaderValue::Custom("max-age=1".into())),
            HeaderAction::Delete { key: "X-Powered-By".into() },
        ],
    };
    let map = model::UrlMap {
        id: String::new(),
        name: String::new(),
        description: String::new(),
        rules: vec![rule],
    };
    let routes = Routes::compile(Some(&map), (), |_| Some(())).unwrap();
    match routes.find(b"shop.test", b"/a%2Fb") {
        Choice::Forward { rule: Some(rule), .. } => check(&rule.edits),
        Choice::Forward { rule: None, .. } | Choice::Redirect(_) | Choice::Refuse(_) => {
            panic!("the rule did not match")
        }
    }
}

#[test]
fn a_rule_changes_host_path_and_fields() {
    edited(|edits| {
        let row = Row { edits: Some(edits), ..GET };
        let lines = "Host: shop.test\nx-env: dev\nX-Debug: 1\nX-Forwarded-For: 192.0.2.1";
        let wanted = "GET /v2%2Fb?c=d HTTP/1.1\r\nHost: in.test\r\nX-Forwarded-For: 192.0.2.1, \
                      203.0.113.7\r\nX-Request-Id: r-1\r\nX-Env: prod\r\nX-Chain: 192.0.2.1, \
                      203.0.113.7\r\n\r\n";
        assert_eq!(whole_request(&row, lines), wanted);
    });
}

fn answer(
    version: Version,
    status: u16,
    body: BodyKind,
    close: bool,
    lines: &str,
    change: impl FnOnce(&mut Returning<'_>),
) -> String {
    let fields = fields(lines);
    let head =
        ResponseHead { status, reason: b"R", fields: &fields, version: Version::Http11, body };
    let request = RequestHead {
        method: b"GET",
        scheme: Scheme::Https,
        authority: b"shop.test",
        target: b"/",
        version,
        fields: &[],
        body: BodyKind::None,
    };
    let peer = peer();
    let mut to = Returning {
        request: &request,
        peer: &peer,
        edits: None,
        set_cookie: None,
        hsts: None,
        body,
    };
    change(&mut to);
    let mut out = Vec::new();
    let upgrade = (status == 101).then_some(&b"websocket"[..]);
    write_response(&head, &to, close, upgrade, &mut out);
    String::from_utf8(out).unwrap().replace("\r\n", "\n")
}

#[test]
fn answers() {
    use BodyKind::{Chunked, Close, Length, None};
    use Version::{Http10, Http11};
    for (version, status, body, close, lines, wanted) in [
        (
            Http11,
            200,
            Length(3),
            false,
            "content-length: 3\nServer: x",
            "content-length: 3\nServer: x\n",
        ),
        (
            Http11,
            200,
            Length(3),
            true,
            "Content-Length: 3",
            "Content-Length: 3\nConnection: close\n",
        ),
        (
            Http10,
            200,
            Length(3),
            false,
            "Content-Length: 3",
            "Content-Length: 3\nConnection: keep-alive\n",
        ),
        (
            Http11,
            200,
            Chunked,
            false,
            "Transfer-Encoding: chunked\nTrailer: X",
            "Trailer: X\nTransfer-Encoding: chunked\n",
        ),
        (Http10, 200, Close, true, "Trailer: X\nVia: 1.1 x", "Via: 1.1 x\nConnection: close\n"),
        (Http11, 200, None, false, "Content-Length: 9", "Content-Length: 9\n"),
        (Http11, 304, None, false, "Content-Length: 9\nETag: x", "Content-Length: 9\nETag: x\n"),
        (Http11, 204, None, false, "Content-Length: 0\nX: y", "X: y\n"),
        (
            Http11,
            200,
            None,
            false,
            "Connection: X-Hop\nX-Hop: 1\nUpgrade: h2\nKeep-Alive: x\nProxy-Authenticate: x",
            "",
        ),
        (Http11, 100, None, false, "", ""),
        (
            Http11,
            101,
            None,
            false,
            "Upgrade: websocket\nConnection: upgrade",
            "Connection: Upgrade\nUpgrade: websocket\n",
        ),
        (
            Http11,
            200,
            None,
            false,
            "Set-Cookie: a\nset-cookie: b",
            "Set-Cookie: a\nset-cookie: b\n",
        ),
    ] {
        let found = answer(version, status, body, close, lines, |_| {});
        assert_eq!(found, format!("HTTP/1.1 {status} R\n{wanted}\n"), "{lines}");
    }
}

#[test]
fn what_the_balancer_sets_on_answers() {
    let lines = "X-Powered-By: x\nStrict-Transport-Security: max-age=5\nx-frame-options: \
                 SAMEORIGIN\nSet-Cookie: a=1";
    let found = answer(Version::Http11, 200, BodyKind::None, false, lines, |to| {
        to.hsts = Some(b"max-age=9");
        to.set_cookie = Some(b"ALB-1=x");
    });
    let wanted = "HTTP/1.1 200 R\nX-Powered-By: x\nx-frame-options: SAMEORIGIN\nSet-Cookie: \
                  a=1\nStrict-Transport-Security: max-age=9\nSet-Cookie: ALB-1=x\n\n";
    assert_eq!(found, wanted);
    edited(|edits| {
        for (hsts, wanted) in [(Some(&b"max-age=9"[..]), "max-age=9"), (None, "max-age=1")] {
            let fields = fields(lines);
            let head = ResponseHead {
                status: 200,
                reason: b"",
                fields: &fields,
                version: Version::Http11,
                body: BodyKind::None,
            };
            let request = RequestHead {
                method: b"GET",
                scheme: Scheme::Https,
                authority: b"",
                target: b"/",
                version: Version::H2,
                fields: &[],
                body: BodyKind::None,
            };
            let to = Returning {
                request: &request,
                peer: &peer(),
                edits: Some(&edits.response),
                set_cookie: None,
                hsts,
                body: BodyKind::None,
            };
            let mut text = String::new();
            response_fields(&head, &to, |name, value| {
                let (name, value) = (str(name), str(value));
                writeln!(text, "{name}: {value}").unwrap();
            });
            let sts = format!("Strict-Transport-Security: {wanted}\n");
            assert_eq!(text.matches("Strict").count(), 1, "{text}");
            assert!(text.contains(&sts), "{text}");
            assert!(text.contains("X-Frame-Options: DENY\nX-Your-Port: 50123\n"), "{text}");
            assert!(!text.contains("SAMEORIGIN") && !text.contains("Powered"), "{text}");
        }
    });
}

fn str(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

proptest! {
    /// Whatever a client sends, the target reads one host, one chain that ends in the client,
    /// one id, one framing, and nothing of the client's connection.
    #[test]
    fn a_target_reads_one_of_each(
        names in prop::collection::vec(prop_oneof![
            "[Xx][-_]Forwarded[-_]For", "[Tt]ransfer-[Ee]ncoding", "[Hh]ost", "X-Request-Id",
            "Keep-Alive", "Connection", "TE", "Upgrade", "Cookie", "Accept", "[a-z-]{1,20}",
        ], 0..12),
        values in prop::collection::vec("[a-z0-9, ;=-]{0,12}", 12),
        length in prop::option::of(0_u64..9),
    ) {
        let mut lines = String::new();
        for (name, value) in names.iter().zip(&values) {
            writeln!(lines, "{name}: {value}").unwrap();
        }
        let body = length.map_or(BodyKind::Chunked, BodyKind::Length);
        let text = whole_request(&Row { body, ..GET }, &lines).to_ascii_lowercase();
        let head = text.strip_suffix("\r\n\r\n").unwrap();
        let count = |name: &str| {
            head.split("\r\n").filter(|l| l.split(':').next() == Some(name)).count()
        };
        for once in ["host", "x-forwarded-for", "x-request-id"] {
            prop_assert_eq!(count(once), 1, "{} in {}", once, text);
        }
        prop_assert_eq!(count("content-length") + count("transfer-encoding"), 1);
        prop_assert_eq!(count("keep-alive") + count("upgrade"), 0);
        let chain = head.split("\r\n").find(|line| line.starts_with("x-forwarded-for:"));
        prop_assert!(chain.unwrap().ends_with("203.0.113.7"));
    }
}
