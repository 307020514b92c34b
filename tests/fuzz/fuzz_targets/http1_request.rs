//! Any bytes are a request head, too few, or refused; what is accepted lies within the bytes, says
//! the same when it comes in pieces, and holds nothing that a second parser could read otherwise.
#![no_main]

use alb_userspace::proxy::{
    http1::{Fields, request},
    message::{BodyKind, Scheme},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = request::Limits { request_line: 4096, header_bytes: 16_384, headers: 64 };
    let mut fields = Fields::new();
    let Ok(Some(found)) = request::parse(bytes, &limits, Scheme::Http, &mut fields) else { return };
    let head = &bytes[..found.len];
    assert!(head.ends_with(b"\r\n\r\n"));
    assert!(!head.contains(&0));
    for (at, byte) in head.iter().enumerate() {
        assert!(*byte != b'\n' || head[at - 1] == b'\r', "bare LF");
        assert!(*byte != b'\r' || head[at + 1] == b'\n', "bare CR");
    }
    let named = |name: &str| {
        let same = |field: &&alb_userspace::proxy::message::Field<'_>| {
            field.name.eq_ignore_ascii_case(name.as_bytes())
        };
        found.head.fields.iter().filter(same).count()
    };
    let (length, coding) = (named("content-length"), named("transfer-encoding"));
    let wanted = match found.head.body {
        BodyKind::None => (0, 0),
        BodyKind::Length(_) => (1, 0),
        BodyKind::Chunked => (0, 1),
        BodyKind::Stream | BodyKind::Close => panic!("no body of a request"),
    };
    assert_eq!((length, coding), wanted);
    assert!(named("host") <= 1);
    for end in (0..found.len).step_by(1 + found.len / 16) {
        let mut fields = Fields::new();
        let part = request::parse(&bytes[..end], &limits, Scheme::Http, &mut fields);
        assert!(matches!(part, Ok(None)), "{end} bytes of it");
    }
});
