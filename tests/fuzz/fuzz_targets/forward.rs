//! What a request becomes on its way to a target is one request, as strict as the client's had to
//! be, and means the same: a second parser sees the same method, target, host and body.
#![no_main]

use alb_userspace::{
    model::Forwarded,
    proxy::{
        forward::{Outgoing, write_request},
        http1::{Fields, request},
        message::{BodyKind, Scheme, Version},
        peer::Peer,
    },
};
use libfuzzer_sys::fuzz_target;

const COOKIE: &[u8] = b"ALB-0123456789";
/// Fields of one hop.
const DROPPED: [&str; 6] =
    ["keep-alive", "proxy-connection", "proxy-authorization", "http2-settings", "upgrade", "proxy"];

fuzz_target!(|input: (u8, &[u8])| {
    let (switches, bytes) = input;
    let limits = request::Limits { request_line: 4096, header_bytes: 16_384, headers: 64 };
    let mut fields = Fields::new();
    let Ok(Some(found)) = request::parse(bytes, &limits, Scheme::Http, &mut fields) else { return };
    let is_on = |bit: u8| switches >> bit & 1 == 1;
    let to = Outgoing {
        peer: &Peer {
            client: ([203, 0, 113, 7], 50_123).into(),
            local: ([198, 18, 0, 10], 80).into(),
            tls: None,
        },
        forwarded: Forwarded {
            protocol: is_on(0),
            port: is_on(1),
            host: is_on(2),
            vip: is_on(3),
            client_port: is_on(4),
        },
        edits: None,
        request_id: b"0123456789abcdef",
        cookie: is_on(5).then_some(COOKIE),
        upgrade: None,
        expect: is_on(6),
    };
    let mut out = Vec::new();
    write_request(&found.head, &to, &mut out);
    let wide = request::Limits { request_line: 8192, header_bytes: 65_536, headers: 128 };
    let mut fields = Fields::new();
    let again = request::parse(&out, &wide, Scheme::Http, &mut fields);
    let again = again.expect("the target takes it").expect("it is whole");
    assert_eq!(again.len, out.len(), "one head and nothing behind it");
    let (before, after) = (&found.head, &again.head);
    assert_eq!((before.method, before.target), (after.method, after.target));
    assert_eq!((before.body, after.version), (after.body, Version::Http11));
    if before.authority.is_empty() {
        assert_eq!(after.authority, b"198.18.0.10:80");
    } else {
        assert_eq!(before.authority, after.authority);
    }
    for field in after.fields {
        assert!(!DROPPED.iter().any(|name| field.is(name)), "{field:?}");
    }
    let chunked = after.fields.iter().filter(|field| field.is("transfer-encoding")).count();
    assert_eq!(chunked, usize::from(before.body == BodyKind::Chunked));
});
