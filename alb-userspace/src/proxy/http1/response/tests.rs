//! Verdicts over raw response heads.

use super::*;

fn verdict(text: &str, asked: Asked) -> Result<Option<(u16, BodyKind, bool, usize)>, Bad> {
    let mut fields = Fields::new();
    let parsed = parse(text.as_bytes(), asked, &mut fields)?;
    Ok(parsed.map(|found| (found.head.status, found.head.body, found.keep_alive, found.len)))
}

#[test]
fn the_body_follows_from_status_fields_and_request() {
    let get = Asked::default();
    let head = Asked { head: true, upgrade: false };
    let upgrade = Asked { head: false, upgrade: true };
    for (text, asked, status, body, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", get, 200, BodyKind::Length(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", get, 200, BodyKind::Length(0), true),
        ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", get, 200, BodyKind::Chunked, true),
        ("HTTP/1.1 200 \r\n\r\n", get, 200, BodyKind::Close, false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", get, 200, BodyKind::Length(5), false),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
            get,
            200,
            BodyKind::Length(5),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
            get,
            200,
            BodyKind::Length(5),
            false,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", head, 200, BodyKind::None, false),
        ("HTTP/1.1 200 OK\r\n\r\n", head, 200, BodyKind::None, false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", head, 200, BodyKind::None, false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", head, 200, BodyKind::None, true),
        ("HTTP/1.1 204 No\r\n\r\n", get, 204, BodyKind::None, true),
        ("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", get, 204, BodyKind::None, true),
        ("HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", get, 304, BodyKind::None, true),
        ("HTTP/1.1 100 Continue\r\n\r\n", get, 100, BodyKind::None, true),
        ("HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n", get, 103, BodyKind::None, true),
        (
            "HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            upgrade,
            101,
            BodyKind::None,
            true,
        ),
    ] {
        let wanted = Ok(Some((status, body, keep_alive, text.len())));
        assert_eq!(verdict(text, asked), wanted, "{text:?}");
        for end in 0..text.len() {
            assert_eq!(verdict(&text[..end], asked), Ok(None), "{:?}", &text[..end]);
        }
    }
}

#[test]
fn what_has_two_readings_is_a_bad_response() {
    for (text, reason) in [
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Bad::StatusLine),
        ("HTTP/2 200 OK\r\n\r\n", Bad::StatusLine),
        ("HTTP/1.1 99 OK\r\n\r\n", Bad::StatusLine),
        ("HTTP/1.1 099 OK\r\n\r\n", Bad::StatusLine),
        ("HTTP/1.1 600 OK\r\n\r\n", Bad::StatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", Bad::StatusLine),
        ("SSH-2.0-OpenSSH\r\n", Bad::StatusLine),
        ("HTTP/1.1 101 Switch\r\n\r\n", Bad::Upgrade),
        ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", Bad::Body),
        ("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", Bad::Body),
        ("HTTP/1.1 100 Go\r\nContent-Length: 5\r\n\r\n", Bad::Body),
        ("HTTP/1.1 200 OK\nA: b\r\n\r\n", Bad::Malformed(Malformed::LineEnding)),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", Bad::Malformed(Malformed::LineEnding)),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\n", Bad::Malformed(Malformed::LineEnding)),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Bad::Malformed(Malformed::Folding)),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Bad::Malformed(Malformed::FieldName)),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", Bad::Malformed(Malformed::FieldValue)),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            Bad::Malformed(Malformed::ContentLength),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            Bad::Malformed(Malformed::ContentLength),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            Bad::Malformed(Malformed::LengthAndEncoding),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Bad::Malformed(Malformed::TransferEncoding),
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Bad::Malformed(Malformed::LengthAndEncoding),
        ),
    ] {
        assert_eq!(verdict(text, Asked::default()), Err(reason), "{text:?}");
    }
}

#[test]
fn a_head_has_an_end() {
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(MAX_HEAD));
    assert_eq!(verdict(&endless, Asked::default()), Err(Bad::TooLarge));
    let fields = |count| format!("HTTP/1.1 204 No\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert!(verdict(&fields(MAX_FIELDS), Asked::default()).unwrap().is_some());
    assert_eq!(verdict(&fields(MAX_FIELDS + 1), Asked::default()), Err(Bad::TooLarge));
}
