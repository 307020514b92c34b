//! What is odd and legal passes, and arrives in one way only.

use super::{Site, Table, get, lab, post};

/// What the proxy adds to every request.
const ADDED: &str = "X-Forwarded-For: 198.18.0.100\r\nX-Request-Id: *\r\n\r\n";

fn check(rows: &[(Vec<u8>, String)]) {
    let second = format!("GET /second HTTP/1.1\r\nHost: second\r\n{ADDED}");
    let lab = lab(1);
    let mut table = Table::new(&lab, &Site::of(&lab));
    for (request, arrives) in rows {
        let (statuses, heard) = table.send(request);
        let wanted = format!("[200, 200] {:?}", [format!("{arrives}{second}")]);
        table.expect(request, &format!("{statuses:?} {heard:?}"), &wanted);
    }
    table.done();
}

/// A row: how a `GET` with these fields arrives.
fn fields(sent: &str, arrive: &str) -> (Vec<u8>, String) {
    (get(sent), format!("GET /g HTTP/1.1\r\nHost: a\r\n{arrive}{ADDED}"))
}

#[test]
fn targets_arrive_byte_for_byte() {
    let targets = [
        "/",
        "//",
        "//a//b",
        "/a%2fb",
        "/%00",
        "/%zz%",
        "/...",
        "/..a/.b/c..",
        "/a?b=/../c",
        "/a;b=c",
        "/a|b{c}\"d^`",
        "/?",
        "/a?b?c&d=%20+",
        "/:80",
        "/a@b",
        "/http://b/",
    ];
    let row = |target| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        (request.into_bytes(), format!("GET {target} HTTP/1.1\r\nHost: a\r\n{ADDED}"))
    };
    check(&targets.map(row));
}

#[test]
fn absolute_form_and_odd_methods() {
    let row = |head: &str, arrives: &str| {
        (format!("{head}\r\n\r\n").into_bytes(), format!("{arrives}\r\n{ADDED}"))
    };
    check(&[
        row("GET http://a/g HTTP/1.1\r\nHost: a", "GET /g HTTP/1.1\r\nHost: a"),
        row("GET HTTP://A:80/g?q HTTP/1.1\r\nHost: a", "GET /g?q HTTP/1.1\r\nHost: a"),
        row("GET http://a HTTP/1.1\r\nHost: a", "GET / HTTP/1.1\r\nHost: a"),
        row("OPTIONS http://a HTTP/1.1\r\nHost: a", "OPTIONS * HTTP/1.1\r\nHost: a"),
        row("OPTIONS * HTTP/1.1\r\nHost: a", "OPTIONS * HTTP/1.1\r\nHost: a"),
        row("PROPFIND /g HTTP/1.1\r\nHost: a", "PROPFIND /g HTTP/1.1\r\nHost: a"),
        row("M-SEARCH /g HTTP/1.1\r\nHost: a", "M-SEARCH /g HTTP/1.1\r\nHost: a"),
        // No other method is GET.
        row("get /g HTTP/1.1\r\nHost: a", "get /g HTTP/1.1\r\nHost: a"),
        row("\r\nGET /g HTTP/1.1\r\nHost: a", "GET /g HTTP/1.1\r\nHost: a"),
        row("GET /g HTTP/1.1\r\nhost:a", "GET /g HTTP/1.1\r\nhost: a"),
        row("GET /g HTTP/1.1\r\nHOST: \t[::1]:8080 ", "GET /g HTTP/1.1\r\nHOST: [::1]:8080"),
        row("GET /g HTTP/1.1\r\nHost: A_b.~c:80", "GET /g HTTP/1.1\r\nHost: A_b.~c:80"),
    ]);
}

#[test]
fn fields_arrive_as_they_came_but_for_the_space_around_values() {
    let h2c = "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n";
    check(&[
        fields("X:y\r\n", "X: y\r\n"),
        fields("x-Y: \t a  b \t\r\n", "x-Y: a  b\r\n"),
        fields("X:\r\n", "X: \r\n"),
        fields("X: 1\r\nX: 2\r\nx: 3\r\n", "X: 1\r\nX: 2\r\nx: 3\r\n"),
        fields("X_Y: a\r\n", "X_Y: a\r\n"),
        fields("!#$%&'*+-.^_`|~: a\r\n", "!#$%&'*+-.^_`|~: a\r\n"),
        fields("X: \u{e9}\r\n", "X: \\xc3\\xa9\r\n"),
        fields(h2c, ""),
        fields("Upgrade: websocket\r\n", ""),
        fields("Content-Length: 0\r\n", "Content-Length: 0\r\n"),
    ]);
}

#[test]
fn bodies_have_one_framing() {
    let arrives = |fields: &str, body: &str| {
        format!(
            "POST /p HTTP/1.1\r\nHost: a\r\n{fields}X-Forwarded-For: 198.18.0.100\r\n\
             X-Request-Id: *\r\n\r\n{body}"
        )
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    let row = |body: &str| (post(chunked, body), arrives(chunked, body));
    let mut with_body = get("Content-Length: 5\r\n");
    with_body.extend_from_slice(b"abcde");
    check(&[
        (post("Content-Length: 5\r\n", "abcde"), arrives("Content-Length: 5\r\n", "abcde")),
        (post("content-length:5 \r\n", "abcde"), arrives("content-length: 5\r\n", "abcde")),
        (with_body, arrives("Content-Length: 5\r\n", "abcde").replace("POST /p", "GET /g")),
        (post("TRANSFER-ENCODING:Chunked\r\n", "0\r\n\r\n"), arrives(chunked, "0\r\n\r\n")),
        row("5\r\nabcde\r\n0\r\n\r\n"),
        row("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
        row("0\r\n\r\n"),
        row("2\r\n\r\n\r\n0\r\n\r\n"),
        row("1\r\na\r\n0\r\nT: v\r\n\r\n"),
    ]);
}
