//! Chunk by chunk: sizes, extensions, ends, trailers.

use super::*;

/// Data and number of bytes used, of a body that is all there.
fn decode(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
    let (mut chunked, mut at, mut data) = (Chunked::default(), 0, Vec::new());
    loop {
        match chunked.next(&input[at..])? {
            Piece::More => return Ok(None),
            Piece::Data { skip, len, .. } => {
                data.extend_from_slice(&input[at + skip..at + skip + len]);
                at += skip + len;
            }
            Piece::End { skip, .. } => return Ok(Some((data, at + skip))),
        }
    }
}

#[test]
fn well_formed_bodies() {
    let longest = format!("0;{}\r\n\r\n", "x".repeat(MAX_LINE - 2));
    for (input, data) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n006\r\n world\r\n00\r\n\r\n", "hello world"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("a;b\r\n0123456789\r\n0;c=\"d\"\r\n\r\n", "0123456789"),
        ("1\r\na\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", "a"),
        (&longest, ""),
    ] {
        let wanted = Ok(Some((data.as_bytes().to_vec(), input.len())));
        assert_eq!(decode(input.as_bytes()), wanted, "{input:?}");
        let more = format!("{input}GET / HTTP/1.1\r\n");
        assert_eq!(decode(more.as_bytes()), wanted, "{more:?}");
        for end in 0..input.len() {
            assert_eq!(decode(&input.as_bytes()[..end]), Ok(None), "{:?}", &input[..end]);
        }
    }
}

#[test]
fn what_has_two_readings_is_refused() {
    let long = format!("1;{}\r\na\r\n", "x".repeat(MAX_LINE));
    let endless = format!("1;{}", "x".repeat(MAX_LINE));
    let big = format!("0\r\nA: {}\r\n\r\n", "x".repeat(MAX_TRAILERS));
    let many = format!("0\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
    for (input, reason) in [
        ("\r\n", Malformed::Chunk),
        ("g\r\n", Malformed::Chunk),
        ("-1\r\n", Malformed::Chunk),
        ("+1\r\n", Malformed::Chunk),
        ("0x1\r\n", Malformed::Chunk),
        (" 1\r\n", Malformed::Chunk),
        ("1 \r\n", Malformed::Chunk),
        ("1 ;a\r\n", Malformed::Chunk),
        ("1\t\r\n", Malformed::Chunk),
        ("10000000000000000\r\n", Malformed::Chunk),
        ("00000000000000001\r\n", Malformed::Chunk),
        ("ffffffffffffffff\r\n", Malformed::Chunk),
        ("1\na\r\n", Malformed::LineEnding),
        ("1\ra\r\n", Malformed::Chunk),
        ("1;a\nb\r\n", Malformed::LineEnding),
        ("1;a\rb\r\n", Malformed::Chunk),
        ("1;a\0\r\n", Malformed::Chunk),
        ("1; a\r\n", Malformed::Chunk),
        ("1;\r\n", Malformed::Chunk),
        ("1;;\r\n", Malformed::Chunk),
        ("1\r\nab\r\n", Malformed::Chunk),
        ("1\r\na\n0\r\n\r\n", Malformed::Chunk),
        ("1\r\na0\r\n\r\n", Malformed::Chunk),
        ("0\r\nA: b\n\r\n", Malformed::Trailer),
        ("0\r\nA: b\r\n\n", Malformed::Trailer),
        ("0\r\n\n", Malformed::Trailer),
        ("0\r\nA : b\r\n\r\n", Malformed::Trailer),
        ("0\r\nA: b\r\n c\r\n\r\n", Malformed::Trailer),
        ("0\r\nContent-Length: 1\r\n\r\n", Malformed::Trailer),
        ("0\r\nTransfer_Encoding: chunked\r\n\r\n", Malformed::Trailer),
        ("0\r\nHOST: a\r\n\r\n", Malformed::Trailer),
        ("0\r\nX-Forwarded-For: a\r\n\r\n", Malformed::Trailer),
        ("0\r\nKeep-Alive: timeout=5\r\n\r\n", Malformed::Trailer),
        ("0\r\nproxy-connection: close\r\n\r\n", Malformed::Trailer),
        ("0\r\nProxy-Authorization: Basic eDp5\r\n\r\n", Malformed::Trailer),
        ("0\r\nProxy-Authenticate: Basic\r\n\r\n", Malformed::Trailer),
        ("0\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", Malformed::Trailer),
        ("0\r\nProxy: http://evil\r\n\r\n", Malformed::Trailer),
        (&long, Malformed::Chunk),
        (&endless, Malformed::Chunk),
        (&big, Malformed::Trailer),
        (&many, Malformed::Trailer),
    ] {
        assert_eq!(decode(input.as_bytes()), Err(reason), "{input:?}");
    }
}
