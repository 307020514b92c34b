//! Bodies cut anywhere say the same as whole ones.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// What is sent on of `input` when it comes in pieces of these lengths, the buffer holding what
/// was not taken; and what was left in it.
fn relay(mut body: Body, input: &[u8], cuts: &[usize], bare: bool) -> (Vec<u8>, Vec<u8>, bool) {
    let (mut out, mut buffer, mut at, mut ended) = (Vec::new(), Vec::new(), 0, false);
    let mut cuts = cuts.iter().cycle();
    while at < input.len() && !ended {
        let next = (at + cuts.next().unwrap()).min(input.len());
        buffer.extend_from_slice(&input[at..next]);
        at = next;
        let span = if bare { body.take_data(&mut buffer) } else { body.take(&mut buffer) };
        let span = span.unwrap();
        buffer.truncate(buffer.len() - span.removed);
        out.extend(buffer.drain(..span.len));
        ended = span.ended;
    }
    buffer.extend_from_slice(&input[at..]);
    (out, buffer, ended)
}

#[test]
fn a_length_is_a_length() {
    let (out, left, ended) = relay(Body::new(BodyKind::Length(5)), b"helloGET", &[3], false);
    assert_eq!((out.as_slice(), left.as_slice(), ended), (&b"hello"[..], &b"GET"[..], true));
    assert!(Body::new(BodyKind::None).is_done());
    assert!(!Body::new(BodyKind::Close).is_done());
}

#[test]
fn a_flood_of_tiny_chunks_with_extensions_costs_linear_time() {
    let mut input = b"1;a\r\nx\r\n".repeat(1 << 20);
    let mut body = Body::new(BodyKind::Chunked);
    // Quadratic, this would move terabytes.
    let span = body.take(&mut input).unwrap();
    assert_eq!((span.data, span.removed, span.ended), (1 << 20, 2 << 20, false));
}

proptest! {
    #[test]
    fn chunks_lose_extensions_and_nothing_else(
        chunks in prop::collection::vec(("[a-z\r\n]{1,40}", prop::option::of("[a-z=]{0,6}")), 0..6),
        trailer in prop::bool::ANY,
        cuts in prop::collection::vec(1_usize..30, 1..8),
    ) {
        let (mut input, mut plain, mut data) = (String::new(), String::new(), String::new());
        for (text, extension) in &chunks {
            let extension =
                extension.as_ref().map(|name| format!(";x{name}")).unwrap_or_default();
            let size = text.len();
            write!(input, "{size:x}{extension}\r\n{text}\r\n").unwrap();
            write!(plain, "{size:x}\r\n{text}\r\n").unwrap();
            data += text;
        }
        let end = if trailer { "0\r\nX-Sum: 1\r\n\r\n" } else { "0\r\n\r\n" };
        input = format!("{input}{end}GET");
        plain += end;
        let chunked = Body::new(BodyKind::Chunked);
        for (bare, wanted) in [(false, &plain), (true, &data)] {
            let (out, left, ended) = relay(chunked.clone(), input.as_bytes(), &cuts, bare);
            prop_assert_eq!(&String::from_utf8(out).unwrap(), wanted);
            prop_assert_eq!(left, b"GET");
            prop_assert!(ended);
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(mut bytes in prop::collection::vec(
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'3'), Just(b';'), any::<u8>()], 0..60,
    )) {
        let before = bytes.len();
        let mut body = Body::new(BodyKind::Chunked);
        if let Ok(span) = body.take(&mut bytes) {
            prop_assert!(span.len + span.removed <= before);
        }
    }
}
