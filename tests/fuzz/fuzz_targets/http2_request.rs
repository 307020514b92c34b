//! No head of HTTP/2 that is accepted means anything else in HTTP/1.1, where the target gets it.
#![no_main]

use alb_userspace::{
    model::Forwarded,
    proxy::{
        forward::{Outgoing, write_request},
        http1::{Fields, request},
        http2,
        message::{BodyKind, Scheme},
        peer::Peer,
    },
};
use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;

const NONE: Forwarded =
    Forwarded { protocol: false, port: false, host: false, vip: false, client_port: false };

type Input<'a> = (bool, &'a [u8], &'a [u8], Vec<(&'a [u8], &'a [u8])>);

fuzz_target!(|input: Input<'_>| {
    let (ended, method, uri, lines) = input;
    let Ok(blank) = Request::builder().method(method).uri(uri).body(()) else { return };
    let (mut parts, ()) = blank.into_parts();
    for (name, value) in lines {
        let Ok(name) = HeaderName::from_bytes(name) else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        parts.headers.append(name, value);
    }
    let limits = request::Limits { request_line: 4096, header_bytes: 16_384, headers: 64 };
    let mut fields = Fields::new();
    let checked = http2::request::check(&parts, ended, &limits, Scheme::Https, &mut fields);
    let Ok(checked) = checked else { return };
    let to = Outgoing {
        peer: &Peer {
            client: ([203, 0, 113, 7], 50_123).into(),
            local: ([198, 18, 0, 10], 443).into(),
            tls: None,
        },
        forwarded: NONE,
        edits: None,
        request_id: b"0123456789abcdef",
        cookie: None,
        upgrade: None,
        expect: checked.expects,
    };
    let mut out = Vec::new();
    write_request(&checked.head, &to, &mut out);
    let wide = request::Limits { request_line: 8192, header_bytes: 65_536, headers: 128 };
    let mut fields = Fields::new();
    let again = request::parse(&out, &wide, Scheme::Https, &mut fields);
    let again = again.expect("the target takes it").expect("it is whole");
    assert_eq!(again.len, out.len(), "one head and nothing behind it");
    assert_eq!(again.expect_continue, checked.expects);
    let (before, after) = (&checked.head, &again.head);
    assert_eq!((before.method, before.target), (after.method, after.target));
    assert_eq!(before.authority, after.authority);
    let body = match before.body {
        BodyKind::None if matches!(before.method, b"POST" | b"PUT" | b"PATCH") => {
            BodyKind::Length(0)
        }
        BodyKind::Stream => BodyKind::Chunked,
        body => body,
    };
    assert_eq!(after.body, body);
});
