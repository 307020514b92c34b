//! Requests that could mean two things, or nothing: what becomes of each.

use super::{
    lab::{Lab, OK, answering, run},
    raw::{DATA, END_HEADERS, END_STREAM, GET, HEADERS, PROTOCOL_ERROR, Raw, Told, block, frame},
};

/// Name, fields, verdict.
type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, Told);

const MALFORMED: Told = Told::Reset(PROTOCOL_ERROR);
const BAD: Told = Told::Status(400);

/// The usual request with some fields in the place of others or beside them.
fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields: Vec<_> = GET.to_vec();
    for change in changes {
        match fields.iter_mut().find(|field| field.0 == change.0 && change.0.starts_with(':')) {
            Some(field) => field.1 = change.1,
            None => fields.push(*change),
        }
    }
    fields
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    GET.into_iter().filter(|field| field.0 != name).collect()
}

#[test]
fn smuggling_by_downgrade() {
    let long = "x".repeat(17_000);
    let path = format!("/{long}");
    let many: Vec<(String, String)> = (0..200).map(|n| (format!("x-{n}"), String::new())).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
    let large = "x".repeat(66_000);
    let first_regular = [&[("x-a", "1")], &GET[..]].concat();
    let twice = [&GET[..], &[(":path", "/other")]].concat();
    let rows: &[Row<'_>] = &[
        ("fine", with(&[]), Told::Status(200)),
        ("host agrees", with(&[("host", "shop.test")]), Told::Status(200)),
        ("host agrees but for the port", with(&[("host", "SHOP.test:80")]), Told::Status(200)),
        (
            "host instead",
            [without(":authority"), vec![("host", "shop.test")]].concat(),
            Told::Status(200),
        ),
        ("host contradicts", with(&[("host", "other.test")]), BAD),
        ("two hosts", with(&[("host", "shop.test"), ("host", "shop.test")]), BAD),
        ("no authority", without(":authority"), BAD),
        ("empty host", [without(":authority"), vec![("host", "")]].concat(), BAD),
        ("user in the authority", with(&[(":authority", "a@shop.test")]), BAD),
        ("port that is none", with(&[(":authority", "shop.test:99999")]), BAD),
        ("other scheme", with(&[(":scheme", "https")]), BAD),
        ("no method", without(":method"), MALFORMED),
        ("no scheme", without(":scheme"), MALFORMED),
        ("no path", without(":path"), MALFORMED),
        ("pseudo header twice", twice, MALFORMED),
        ("pseudo header late", first_regular, MALFORMED),
        ("pseudo header of responses", with(&[(":status", "200")]), MALFORMED),
        ("unknown pseudo header", with(&[(":other", "1")]), Told::Away(PROTOCOL_ERROR)),
        ("upper case", with(&[("X-Upper", "1")]), Told::Away(PROTOCOL_ERROR)),
        ("space in a name", with(&[("x a", "1")]), Told::Away(PROTOCOL_ERROR)),
        ("colon in a name", with(&[("x:a", "1")]), Told::Away(PROTOCOL_ERROR)),
        ("CR LF in a name", with(&[("x\r\na", "1")]), Told::Away(PROTOCOL_ERROR)),
        ("CR LF in a value", with(&[("x-a", "1\r\nx-b: 2")]), Told::Away(PROTOCOL_ERROR)),
        ("LF in a value", with(&[("x-a", "1\nx-b: 2")]), Told::Away(PROTOCOL_ERROR)),
        ("NUL in a value", with(&[("x-a", "1\0")]), Told::Away(PROTOCOL_ERROR)),
        ("DEL in a value", with(&[("x-a", "1\x7f")]), Told::Away(PROTOCOL_ERROR)),
        ("space before a value", with(&[("x-a", " 1")]), BAD),
        ("tab after a value", with(&[("x-a", "1\t")]), BAD),
        ("CR LF in the path", with(&[(":path", "/a\r\nx: 1")]), MALFORMED),
        ("space in the path", with(&[(":path", "/a HTTP/1.1")]), MALFORMED),
        ("empty path", with(&[(":path", "")]), MALFORMED),
        ("path without slash", with(&[(":path", "admin")]), MALFORMED),
        ("absolute path", with(&[(":path", "http://other.test/")]), MALFORMED),
        ("asterisk", with(&[(":path", "*")]), BAD),
        ("asterisk of OPTIONS", with(&[(":method", "OPTIONS"), (":path", "*")]), Told::Status(200)),
        ("dot segment", with(&[(":path", "/a/../b")]), BAD),
        ("encoded dot segment", with(&[(":path", "/a/%2e%2E/b")]), BAD),
        ("encoded slash and dots", with(&[(":path", "/a%2f..%2fb")]), BAD),
        ("space in the method", with(&[(":method", "GET / HTTP/1.1")]), Told::Away(PROTOCOL_ERROR)),
        ("connection", with(&[("connection", "close")]), MALFORMED),
        ("keep-alive", with(&[("keep-alive", "1")]), MALFORMED),
        ("proxy-connection", with(&[("proxy-connection", "close")]), MALFORMED),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), MALFORMED),
        ("upgrade", with(&[("upgrade", "websocket")]), MALFORMED),
        ("te trailers", with(&[("te", "trailers")]), Told::Status(200)),
        ("te", with(&[("te", "gzip")]), MALFORMED),
        ("underscore", with(&[("transfer_encoding", "chunked")]), BAD),
        ("underscore in length", with(&[("content_length", "5")]), BAD),
        ("length without body", with(&[("content-length", "5")]), MALFORMED),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "0")]), BAD),
        ("list of lengths", with(&[("content-length", "0, 0")]), MALFORMED),
        ("signed length", with(&[("content-length", "+0")]), MALFORMED),
        ("leading zero", with(&[("content-length", "00")]), BAD),
        ("expectation", with(&[("expect", "202-maybe")]), Told::Status(417)),
        ("TRACE", with(&[(":method", "TRACE")]), Told::Status(405)),
        (
            "CONNECT",
            vec![(":method", "CONNECT"), (":authority", "shop.test:22")],
            Told::Status(405),
        ),
        (
            "extended CONNECT",
            with(&[(":method", "CONNECT"), (":protocol", "websocket")]),
            Told::Reset(PROTOCOL_ERROR),
        ),
        ("long path", with(&[(":path", &path)]), Told::Status(414)),
        ("many fields", with(&many), Told::Status(431)),
        ("large field", with(&[("x-a", &large)]), Told::Status(431)),
    ];
    run(async {
        let lab = Lab::new(&[answering(OK).await]).await;
        for (name, fields, expected) in rows {
            let mut raw = Raw::connect(&lab, &[]).await;
            let block = block(fields);
            let (first, rest) = block.split_at(block.len().min(16_000));
            let last = if rest.is_empty() { END_HEADERS } else { 0 };
            raw.send(&frame(HEADERS, END_STREAM | last, 1, first)).await;
            let mut pieces = rest.chunks(16_000).peekable();
            while let Some(piece) = pieces.next() {
                let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
                raw.send(&frame(super::raw::CONTINUATION, last, 1, piece)).await;
            }
            assert_eq!(raw.told(1).await, *expected, "{name}");
        }
    });
}

#[test]
fn data_that_contradicts_its_length_never_ends_a_request() {
    let fields = with(&[(":method", "POST"), ("content-length", "5")]);
    run(async {
        for data in [&b"1234"[..], b"123456"] {
            let (listener, target) = super::lab::origin().await;
            let lab = Lab::new(&[target]).await;
            let mut raw = Raw::connect(&lab, &[]).await;
            raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
            let mut stream = super::lab::accept(&listener).await;
            let head = super::lab::read_until(&mut stream, "\r\n\r\n").await;
            assert!(head.contains("content-length: 5\r\n"), "{head}");
            raw.send(&frame(DATA, END_STREAM, 1, data)).await;
            assert_eq!(raw.told(1).await, MALFORMED, "{} bytes", data.len());
            let mut rest = Vec::new();
            let ended = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
            assert!(ended.is_err() && rest.len() < 5, "the target is reset: {ended:?} {rest:?}");
            super::lab::until(|| lab.refused("malformed_body_length") == 1).await;
        }
    });
}
