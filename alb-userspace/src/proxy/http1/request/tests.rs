//! Verdicts over raw heads, and properties: pieces, borrowed bytes, no panic.

use proptest::prelude::*;

use super::*;
use crate::proxy::http1::Progress;

const LIMITS: Limits = Limits { request_line: 1024, header_bytes: 2048, headers: 32 };

fn verdict(text: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut fields = Fields::new();
    let parsed = parse(text, &LIMITS, Scheme::Http, &mut fields)?;
    Ok(parsed.map(|request| request.len))
}

fn refused(rows: &[(&str, Malformed)]) {
    for (text, reason) in rows {
        assert_eq!(verdict(text.as_bytes()), Err(Refusal::Malformed(*reason)), "{text:?}");
    }
}

/// A whole GET with these further lines after Host.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn a_head_is_borrowed_as_it_came() {
    let text = b"PoST /a%20b?c=/../d HTTP/1.1\r\nhOsT: A.test:8080\r\nX-Odd:\t v \t\r\n\
        Content-Length: 3\r\nEmpty:\r\n\r\nabc";
    let mut fields = Fields::new();
    let request = parse(text, &LIMITS, Scheme::Http, &mut fields).unwrap().unwrap();
    assert_eq!(request.head.method, b"PoST");
    assert_eq!(request.head.target, b"/a%20b?c=/../d");
    assert_eq!(request.head.authority, b"A.test:8080");
    assert_eq!(request.head.body, BodyKind::Length(3));
    assert_eq!(&text[request.len..], b"abc");
    assert!(request.keep_alive && !request.upgrade && !request.expect_continue);
    let found: Vec<_> = request.head.fields.iter().map(|field| (field.name, field.value)).collect();
    let wanted: [(&[u8], &[u8]); 4] =
        [(b"hOsT", b"A.test:8080"), (b"X-Odd", b"v"), (b"Content-Length", b"3"), (b"Empty", b"")];
    assert_eq!(found, wanted);
}

#[test]
fn lengths_and_codings_have_one_reading() {
    for line in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "content-length: 1\r\nCONTENT-LENGTH: 1\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: 1,\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length: 01\r\n",
        "Content-Length:\r\n",
        "Content-Length: \r\n",
        "Content-Length:  1\r\n",
        "Content-Length: 9223372036854775808\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Content-Length: \u{661}\r\n",
    ] {
        let text = get(line);
        assert_eq!(
            verdict(text.as_bytes()),
            Err(Refusal::Malformed(Malformed::ContentLength)),
            "{line:?}"
        );
    }
    for line in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:  chunked\r\n",
        "Transfer-Encoding:\r\n",
    ] {
        let text = get(line);
        assert_eq!(
            verdict(text.as_bytes()),
            Err(Refusal::Malformed(Malformed::TransferEncoding)),
            "{line:?}"
        );
    }
    refused(&[
        (&get("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), Malformed::LengthAndEncoding),
        (&get("Content-Length: 0\r\ntransfer-ENCODING: Chunked\r\n"), Malformed::LengthAndEncoding),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::LengthAndEncoding),
        (&get("Transfer_Encoding: chunked\r\n"), Malformed::FieldName),
        (&get("content_length: 1\r\n"), Malformed::FieldName),
        (&get("Connection: close, Content-Length\r\n"), Malformed::ConnectionField),
        (&get("Connection: transfer-encoding\r\n"), Malformed::ConnectionField),
        (&get("Connection: Host\r\n"), Malformed::ConnectionField),
    ]);
    for line in ["Transfer-Encoding: chunked\r\n", "transfer-encoding:CHUNKED\r\n"] {
        assert!(verdict(get(line).as_bytes()).unwrap().is_some(), "{line:?}");
    }
}

#[test]
fn lines_names_and_values_are_exact() {
    refused(&[
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Malformed::LineEnding),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Malformed::LineEnding),
        ("GET / HTTP/1.1\r\nHost: a\r\nB: c\n\r\n", Malformed::LineEnding),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Malformed::LineEnding),
        ("GET / HTTP/1.1\r\nHost: a\r\nB:\n\r\n", Malformed::LineEnding),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::LineEnding),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::LineEnding),
        (&get("A: b\rc\r\n"), Malformed::FieldValue),
        (&get("A: b\0c\r\n"), Malformed::FieldValue),
        (&get("A: b\x0bc\r\n"), Malformed::FieldValue),
        (&get("A: b\x7fc\r\n"), Malformed::FieldValue),
        (&get("A\0: b\r\n"), Malformed::FieldName),
        (&get("A : b\r\n"), Malformed::FieldName),
        (&get("Transfer-Encoding : chunked\r\n"), Malformed::FieldName),
        (&get("Transfer-Encoding\t: chunked\r\n"), Malformed::FieldName),
        (&get(": b\r\n"), Malformed::FieldName),
        (&get("novalue\r\n"), Malformed::FieldName),
        (&get("A(b): c\r\n"), Malformed::FieldName),
        (&get("\u{e4}: c\r\n"), Malformed::FieldName),
        (&get("A: b\r\n c\r\n"), Malformed::Folding),
        (&get("Transfer-Encoding:\r\n chunked\r\n"), Malformed::Folding),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Malformed::Folding),
    ]);
    assert!(verdict(get("A: \u{e4}\tb\r\n").as_bytes()).unwrap().is_some(), "obs-text passes");
}

#[test]
fn targets_and_hosts_agree() {
    let line = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for (target, reason) in [
        ("/a#b", Malformed::Target),
        ("a", Malformed::Target),
        ("a:80", Malformed::Target),
        ("*", Malformed::Target),
        ("?a", Malformed::Target),
        ("//a/../b", Malformed::DotSegment),
        ("https://a/", Malformed::Target),
        ("ftp://a/", Malformed::Target),
        ("http:/a", Malformed::Target),
        ("http://a@a/", Malformed::Target),
        ("http://u:p@a/", Malformed::Target),
        ("http://a?b", Malformed::Target),
        ("http:///", Malformed::HostInvalid),
        ("http://b/", Malformed::HostContradicts),
        ("http://a:81/", Malformed::HostContradicts),
        ("http://a/./b", Malformed::DotSegment),
        ("/\u{e4}", Malformed::Target),
        ("/a\tb", Malformed::Target),
        ("/..", Malformed::DotSegment),
        ("/.", Malformed::DotSegment),
        ("/a/../b", Malformed::DotSegment),
        ("/a/./b", Malformed::DotSegment),
        ("/a/..?b", Malformed::DotSegment),
        ("/a/%2e%2e/b", Malformed::DotSegment),
        ("/a/%2E./b", Malformed::DotSegment),
        ("/a/.%2e", Malformed::DotSegment),
        ("/a/%2e/b", Malformed::DotSegment),
        ("/a/..%2fb", Malformed::DotSegment),
        ("/a%2f..%2Fb", Malformed::DotSegment),
        ("/a/..\\b", Malformed::DotSegment),
        ("/a%5c..%5Cb", Malformed::DotSegment),
        ("/a/..;x/b", Malformed::DotSegment),
        ("/a/..%3bx/b", Malformed::DotSegment),
    ] {
        assert_eq!(verdict(line(target).as_bytes()), Err(Refusal::Malformed(reason)), "{target}");
    }
    for target in [
        "/",
        "/a..b",
        "/...",
        "/.a",
        "/..a",
        "/a.",
        "/%2ea",
        "/a%2fb",
        "/a?/../b",
        "//",
        "/a//b",
        "http://a",
        "http://A:80/b",
        "HTTP://a/b?c",
        "/a|b{c}\"",
        "/%zz",
        "/.well-known/x",
    ] {
        assert!(verdict(line(target).as_bytes()).unwrap().is_some(), "{target}");
    }
    for host in [
        "",
        "a b",
        "a/b",
        "a@b",
        "a:b",
        "a:",
        "a:65536",
        "a:000080",
        "a:99999999999999999999",
        "a:1:2",
        "::1",
        "[::1",
        "[g]",
        "[::1]x",
        "a,b",
        "a%41",
        "<a>",
        "a\\b",
        "a?b",
        "a#b",
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let wanted = Err(Refusal::Malformed(Malformed::HostInvalid));
        assert_eq!(verdict(text.as_bytes()), wanted, "{host:?}");
    }
    for host in ["a", "a.b.", "198.18.0.1:80", "[2001:db8::1]", "[::1]:65535", "a_b-c~"] {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert!(verdict(text.as_bytes()).unwrap().is_some(), "{host:?}");
    }
    refused(&[
        ("GET / HTTP/1.1\r\n\r\n", Malformed::HostMissing),
        ("GET http://a/ HTTP/1.1\r\n\r\n", Malformed::HostMissing),
        (&get("hOST: a\r\n"), Malformed::HostRepeated),
        (&get("Host: b\r\n"), Malformed::HostRepeated),
    ]);
}

#[test]
fn absolute_forms_become_origin_forms() {
    for (text, target, authority) in [
        ("GET http://a/b?c HTTP/1.1\r\nHost: a:80\r\n\r\n", "/b?c", "a:80"),
        ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "/", "a"),
        ("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "*", "a"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*", "a"),
        ("GET http://a/ HTTP/1.0\r\n\r\n", "/", "a"),
        ("GET / HTTP/1.0\r\n\r\n", "/", ""),
        ("\r\nGET / HTTP/1.0\r\n\r\n", "/", ""),
    ] {
        let mut fields = Fields::new();
        let request = parse(text.as_bytes(), &LIMITS, Scheme::Http, &mut fields);
        let request = request.unwrap().unwrap();
        assert_eq!(request.head.target, target.as_bytes(), "{text:?}");
        assert_eq!(request.head.authority, authority.as_bytes(), "{text:?}");
        assert_eq!(request.len, text.len(), "{text:?}");
    }
}

#[test]
fn other_protocols_and_methods_have_their_own_answers() {
    for (text, refusal) in [
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::VersionRefused),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Refusal::VersionRefused),
        ("GET / HTTP/3\r\nHost: a\r\n\r\n", Refusal::VersionRefused),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Malformed(Malformed::RequestLine)),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", Refusal::Malformed(Malformed::RequestLine)),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Refusal::MethodRefused),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::MethodRefused),
        (&get("Expect: something\r\n"), Refusal::ExpectationRefused),
        ("GET /\r\n\r\n", Refusal::Malformed(Malformed::Target)),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Malformed(Malformed::Target)),
        ("\x16\x03\x01\x02\0\x01", Refusal::Malformed(Malformed::RequestLine)),
        ("(): /", Refusal::Malformed(Malformed::RequestLine)),
    ] {
        assert_eq!(verdict(text.as_bytes()), Err(refusal), "{text:?}");
    }
}

#[test]
fn the_connection_is_read_from_version_and_options() {
    for (text, keep_alive, upgrade, expect) in [
        (get("Connection: close\r\n"), false, false, false),
        (get("Connection: x , CLOSE\r\n"), false, false, false),
        (get("Connection: keep-alive\r\n"), true, false, false),
        (get("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"), true, true, false),
        (get("Upgrade: websocket\r\n"), true, false, false),
        (get("Expect: 100-Continue\r\n"), true, false, true),
        ("GET / HTTP/1.0\r\n\r\n".into(), false, false, false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n".into(), true, false, false),
        ("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n".into(), false, false, false),
    ] {
        let mut fields = Fields::new();
        let request = parse(text.as_bytes(), &LIMITS, Scheme::Http, &mut fields).unwrap().unwrap();
        let found = (request.keep_alive, request.upgrade, request.expect_continue);
        assert_eq!(found, (keep_alive, upgrade, expect), "{text:?}");
    }
}

#[test]
fn limits_hold_for_whole_and_for_endless_heads() {
    let line = |bytes: usize| "a".repeat(bytes);
    // `GET /… HTTP/1.1` is 14 bytes and the path.
    let exact = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", line(1024 - 14));
    assert!(verdict(exact.as_bytes()).unwrap().is_some());
    for text in [
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", line(1024 - 13)),
        format!("GET /{}", line(2000)),
        line(1100),
    ] {
        assert_eq!(verdict(text.as_bytes()), Err(Refusal::RequestLineTooLong));
    }
    for text in [
        get(&format!("A: {}\r\n", line(2048))),
        format!("GET / HTTP/1.1\r\nA: {}", line(2100)),
        get(&"A: b\r\n".repeat(40)),
    ] {
        assert_eq!(verdict(text.as_bytes()), Err(Refusal::HeadersTooLarge));
    }
    let many = Limits { headers: 1000, header_bytes: 65_536, ..LIMITS };
    let text = get(&"A: b\r\n".repeat(999));
    let mut fields = Fields::new();
    let request = parse(text.as_bytes(), &many, Scheme::Http, &mut fields).unwrap().unwrap();
    assert_eq!(request.head.fields.len(), 1000);
}

#[test]
fn a_trickle_is_parsed_at_its_beginning_and_at_its_end() {
    let text = get("A: b\r\n");
    let mut progress = Progress::default();
    let ready: Vec<usize> =
        (1..=text.len()).filter(|end| progress.is_ready(&text.as_bytes()[..*end])).collect();
    assert_eq!(ready, [1, text.len()]);
}

proptest! {
    #[test]
    fn any_prefix_is_partial_or_refused_and_never_panics(
        text in "(GET|POST|PUT) /[a-z./%2e]{0,9} HTTP/1\\.[01]\r\nHost: [a-z:@]{1,4}\r\n([A-Za-z_-]{1,17}: ?[a-z0-9, ]{0,9}\r?\n){0,4}\r\n",
        flip in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let whole = verdict(text.as_bytes());
        for end in 0..text.len() {
            let part = verdict(&text.as_bytes()[..end]);
            // What a prefix is refused for, the whole is refused for too.
            prop_assert!(part == Ok(None) || whole.is_err(), "{end}: {part:?} {whole:?}");
        }
        let mut damaged = text.clone().into_bytes();
        let at = flip.index(damaged.len());
        damaged[at] = byte;
        let _any_verdict = verdict(&damaged).is_ok();
    }
}
