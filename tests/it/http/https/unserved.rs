//! What targets that speak HTTP/1.1 cannot be asked for: gRPC, h2c, and CONNECT for another protocol
//! (RFC 8441). Each client is told so, and does not wait; the connection serves on.

use std::process::Command;

use alb_tests::{netns::must, origin::Origin, topology::VIP};

use super::{ECDSA, certificate, curl, curl_command, s_client, site};
use crate::http::setting::{ORIGIN, PORT, Site, lab};

const SETTINGS: u8 = 4;
const RST_STREAM: u8 = 3;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 §4.1) without a byte above 127.
fn frame(kind: u8, flags: u8, stream: u8, payload: &str) -> String {
    let length = u8::try_from(payload.len()).expect("a short frame");
    let head = [0, 0, length, kind, flags, 0, 0, 0, stream];
    head.map(char::from).iter().collect::<String>() + payload
}

/// Fields, each as a literal that is not indexed (RFC 7541 §6.2.2).
fn block(fields: &[(&str, &str)]) -> String {
    let mut block = String::new();
    for (name, value) in fields {
        block.push('\0');
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("a short text").into());
            block.push_str(text);
        }
    }
    block
}

/// How `curl` ended, and what it said. Its time is up: 28.
fn ended(mut curl: Command) -> (i32, String) {
    let output = curl.output().expect("curl is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an end of its own"), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn grpc_is_told_in_its_own_words() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "c", &["shop.test"], ECDSA, 90);
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let hsts = "hstsEnable: true, hstsMaxAge: 1000";
    let _daemon = site(&lab, dir.path(), &["c"]).listener(hsts).serve(&lab);
    let said = curl(
        &lab.client.namespace,
        &[
            "--http2",
            "-i",
            "-H",
            "Content-Type: application/grpc+proto",
            "-H",
            "TE: trailers",
            "-H",
            "X-Request-Id: r-1",
            "--data-binary",
            "12345",
            "https://shop.test/shop.Cart/Add",
            // The connection serves on.
            "--next",
            "--silent",
            "--insecure",
            "--connect-to",
            &format!("::{VIP}:443"),
            "-w",
            " %{num_connects}",
            "https://shop.test/",
        ],
    )
    .to_lowercase();
    let (head, rest) = said.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("http/2 200"), "{said}");
    for line in [
        "content-type: application/grpc",
        "grpc-status: 12",
        "grpc-message: grpc is not served here.",
        "x-request-id: r-1",
        "strict-transport-security: max-age=1000",
    ] {
        assert!(head.contains(&format!("\r\n{line}")), "no {line:?} in {said}");
    }
    assert_eq!(rest, "ok 0", "{said}");
    assert_eq!(origin.requests(), 1);
}

#[test]
fn h2c_is_refused_or_goes_on_in_http_1() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "ok");
    let _daemon = Site::of(&lab).serve(&lab);
    let namespace = &lab.client.namespace;
    let url = format!("http://{VIP}:{PORT}/");
    let ask = |arguments: &[&str]| {
        let mut curl = namespace.command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20"]).args(arguments).arg(&url);
        curl
    };

    // Prior knowledge: not a protocol that is spoken here.
    let (code, said) = ended(ask(&["--http2-prior-knowledge"]));
    assert!(code != 0 && code != 28, "{code}: {said}");
    let mut nghttp = namespace.command("nghttp");
    let output = nghttp.args(["--timeout=20", &url]).output().expect("nghttp is installed");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!said.contains("Timeout") && !said.contains("ok"), "{said}");
    let mut preface = alb_tests::http::Client::connect(namespace, (VIP, PORT).into());
    preface.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let answer = preface.response(false).expect("an answer that a person can read");
    assert_eq!((answer.status, answer.values("connection")), (505, vec!["close"]));
    assert_eq!(origin.requests(), 0);

    // An upgrade may be left out, and the request is served.
    let said = must(&mut ask(&["--http2", "-w", " %{http_version} %{http_code}"]));
    assert_eq!(said, "ok 1.1 200");
    assert_eq!(origin.requests(), 1);
    let heard = origin.heard().concat().to_lowercase();
    assert!(!heard.contains("upgrade") && !heard.contains("http2-settings"), "{heard}");
}

#[test]
fn an_extended_connect_is_refused_and_the_connection_serves_on() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "c", &["shop.test"], ECDSA, 90);
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "served");
    // `openssl s_client` stays until the listener closes.
    let site = site(&lab, dir.path(), &["c"]).listener("connectionIdleTimeSeconds: 1");
    let _daemon = site.serve(&lab);
    let place = [(":scheme", "https"), (":authority", "shop.test"), (":path", "/chat")];
    let connect = [&[(":method", "CONNECT"), (":protocol", "websocket")], &place[..]].concat();
    let get = [&[(":method", "GET")], &place[..]].concat();
    let plain = [(":method", "CONNECT"), (":authority", "shop.test:443")];
    let ask = |fields: &[(&str, &str)], flags, stream| {
        frame(HEADERS, END_HEADERS | flags, stream, &block(fields))
    };
    let said = s_client(
        &lab.client.namespace,
        &["-quiet", "-alpn", "h2", "-servername", "shop.test"],
        &[
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            frame(SETTINGS, 0, 0, ""),
            ask(&connect, 0, 1),
            ask(&plain, 0, 3),
            ask(&get, END_STREAM, 5),
        ]
        .concat(),
    );
    // The client was not told that it may ask so (RFC 8441 §3): a stream error, PROTOCOL_ERROR.
    let reset = frame(RST_STREAM, 0, 1, "\0\0\0\u{1}");
    assert!(said.contains(&reset), "{said:?}");
    assert!(said.contains("405 Method Not Allowed"), "{said:?}");
    assert!(said.contains("served"), "{said:?}");
    assert_eq!(origin.requests(), 1);

    // A browser that opens a WebSocket uses HTTP/1.1, which it is offered too.
    let mut curl = curl_command(
        &lab.client.namespace,
        &["-i", "--http1.1", "-w", " %{http_code}", "https://shop.test/chat"],
    );
    curl.args(["-H", "Connection: Upgrade", "-H", "Upgrade: websocket"]);
    let said = must(&mut curl);
    assert!(said.ends_with("served 200"), "{said}");
    assert!(origin.heard().concat().contains("\r\nUpgrade: websocket\r\n"));
}
