//! What must be refused. The origin hears nothing of it and nothing of what follows.

use super::{Site, Table, get, lab, post};

/// A whole head with this request line.
fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

fn check(rows: &[(u16, Vec<u8>)]) {
    let lab = lab(1);
    let mut table = Table::new(&lab, &Site::of(&lab));
    for (status, request) in rows {
        let (statuses, heard) = table.send(request);
        let wanted = format!("[{status}] []");
        table.expect(request, &format!("{statuses:?} {heard:?}"), &wanted);
    }
    table.done();
}

/// Content-Length is one plain decimal number, once (RFC 9112 §6.3).
const LENGTHS: [&str; 28] = [
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: 5\r\ncontent-length: 5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 5,6\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 05\r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length: 5;\r\n",
    "Content-Length: 5.0\r\n",
    "Content-Length: 5e0\r\n",
    "Content-Length:\r\n",
    "Content-Length: \r\n",
    "Content-Length: five\r\n",
    "Content-Length: \u{665}\r\n",
    "Content-Length: 9223372036854775808\r\n",
    "Content-Length: 18446744073709551621\r\n",
    "Content-Length: 99999999999999999999999999\r\n",
    "Content-Length:  5\r\n",
    "Content-Length:\t\t5\r\n",
    "Content-Length : 5\r\n",
    "Content-Length\t: 5\r\n",
    " Content-Length: 5\r\n",
    "Content_Length: 5\r\n",
    "X: y\r\n Content-Length: 5\r\n",
    "Content-Length: 5\r\n 6\r\n",
];

/// Transfer-Encoding is exactly `chunked`, once, without a length (RFC 9112 §6.1).
const ENCODINGS: [&str; 38] = [
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: chunked,\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunkedx\r\n",
    "Transfer-Encoding: cow\r\n",
    "Transfer-Encoding:\r\n",
    "Transfer-Encoding: \r\n",
    "Transfer-Encoding:  chunked\r\n",
    "Transfer-Encoding: \u{b}chunked\r\n",
    "Transfer-Encoding: chunked\u{c}\r\n",
    "Transfer-Encoding: chunked\0\r\n",
    "Transfer-Encoding:\u{a0}chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\u{b}: chunked\r\n",
    " Transfer-Encoding: chunked\r\n",
    "X: y\r\n\tTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Transfer-Encoding: chunked\r\n , identity\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encoding\r\n",
    "Transfer-Encoding: chunked\nContent-Length: 5\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n",
    "Connection: Content-Length\r\nContent-Length: 5\r\n",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
];

#[test]
fn framing_that_two_servers_could_read_differently() {
    let body = "5\r\nabcde\r\n0\r\n\r\n";
    let fields = LENGTHS.iter().chain(&ENCODINGS);
    let mut rows: Vec<_> = fields.map(|fields| (400, post(fields, body))).collect();
    rows.push((400, get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")));
    let old = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    rows.push((400, old.to_vec()));
    check(&rows);
}

#[test]
fn lines_fields_and_controls() {
    let fields = [
        "X: a\0b\r\n",
        "X: a\u{1}b\r\n",
        "X: a\u{7f}b\r\n",
        "X: a\u{8}b\r\n",
        "X: a\rb\r\n",
        "X\0: a\r\n",
        "X Y: a\r\n",
        "X : a\r\n",
        ": a\r\n",
        "X\r\n",
        "X(: a\r\n",
        "X\u{e9}: a\r\n",
        "X: a\r\n b\r\n",
        "X: a\r\n\tb\r\n",
        " X: a\r\n",
        "X: a\n",
        "X: a\r\r\n",
        "\nX: a\r\n",
        "\rX: a\r\n",
    ];
    let mut rows: Vec<_> = fields.iter().map(|fields| (400, get(fields))).collect();
    rows.extend([
        (400, b"GET /g HTTP/1.1\nHost: a\n\n".to_vec()),
        (400, b"GET /g HTTP/1.1\r\nHost: a\r\n\n".to_vec()),
        (400, b"GET /g HTTP/1.1\r\nHost: a\n\r\n".to_vec()),
        (400, b"GET /g HTTP/1.1\r\n Host: a\r\n\r\n".to_vec()),
        (400, b"GET /g HTTP/1.1\rHost: a\r\n\r\n".to_vec()),
        (400, b"\nGET /g HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (400, b"\r\n\r\n\r\nGET /g HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (400, b" GET /g HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ]);
    check(&rows);
}

#[test]
fn request_lines() {
    check(&[
        (400, line("GET  /g HTTP/1.1")),
        (400, line("GET /g  HTTP/1.1")),
        (400, line("GET\t/g\tHTTP/1.1")),
        (400, line("GET /g HTTP/1.1 ")),
        (400, line("GET /g x HTTP/1.1")),
        (400, line("GET /g\0 HTTP/1.1")),
        (400, line("GET /g\u{7f} HTTP/1.1")),
        (400, line("GET /\u{e9} HTTP/1.1")),
        (400, line("GET /g#f HTTP/1.1")),
        (400, line("GET g HTTP/1.1")),
        (400, line("GET ?a=b HTTP/1.1")),
        (400, line("GET * HTTP/1.1")),
        (400, line("GET /g")),
        (400, line("GET")),
        (400, line("G\u{e9}T /g HTTP/1.1")),
        (400, line("G(T /g HTTP/1.1")),
        (505, line("GET /g HTTP/2.0")),
        (505, line("GET /g HTTP/0.9")),
        (505, line("GET /g HTTP/1.2")),
        (400, line("GET /g HTTP/1.10")),
        (400, line("GET /g http/1.1")),
        (400, line("GET /g HTTPS/1.1")),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        (405, line("TRACE /g HTTP/1.1")),
        (405, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_vec()),
        (405, line("CONNECT /g HTTP/1.1")),
        (417, get("Expect: 200-maybe\r\n")),
        // TLS on the plain port, and other protocols.
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        (400, b"SSH-2.0-client\r\n\r\n".to_vec()),
        (400, b"{\"jsonrpc\":\"2.0\"}\r\n\r\n".to_vec()),
    ]);
}

#[test]
fn hosts() {
    let head = |fields: &str| format!("GET /g HTTP/1.1\r\n{fields}\r\n").into_bytes();
    let rows = [
        "",
        "X: y\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nhOST: b\r\n",
        "Host:\r\n",
        "Host: a b\r\n",
        "Host: a,b\r\n",
        "Host: a/b\r\n",
        "Host: a@b\r\n",
        "Host: a\\b\r\n",
        "Host: a#b\r\n",
        "Host: a?b\r\n",
        "Host: a%00\r\n",
        "Host: a:\r\n",
        "Host: a:b\r\n",
        "Host: a:99999\r\n",
        "Host: a:80:80\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: http://a\r\n",
        "Host : a\r\n",
        "Host: a\r\nConnection: host\r\n",
    ];
    check(&rows.map(|fields| (400, head(fields))));
}

#[test]
fn targets() {
    let rows = [
        "http://b/g",
        "http://a:81/g",
        "http://u@a/g",
        "http://u:p@a/g",
        "https://a/g",
        "ftp://a/g",
        "file:///etc/passwd",
        "http:///g",
        "http:/g",
        "http://a?x",
        "http://a/../g",
        "//../g",
        "/..",
        "/.",
        "/a/./b",
        "/a/../b",
        "/a/..",
        "/a/%2e%2e/b",
        "/a/%2E./b",
        "/a/.%2e",
        "/a/%2e/b",
        "/a%2f..%2fb",
        "/a/..%2fb",
        "/a/..%5cb",
        "/a\\..\\b",
        "/a/..\\b",
        "/a/..;/b",
        "/a/..;x=y/b",
        "/a/..%3bx/b",
        "/..?q",
    ];
    check(&rows.map(|target| (400, line(&format!("GET {target} HTTP/1.1")))));
}
