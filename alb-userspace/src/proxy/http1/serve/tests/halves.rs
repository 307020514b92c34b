//! Clients that close their sending side, and what is said of other protocols and after bodies.

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::lab::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn whoever_closes_its_sending_side_after_a_request_is_answered() {
    run(async {
        let large = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}",
            "x".repeat(100_000)
        );
        for request in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            &large,
        ] {
            let (listener, address) = origin().await;
            let lab = Lab::new(&[address]).await;
            let mut client = lab.connect().await;
            let sending = async {
                client.send(request.as_bytes()).await;
                client.finish().await;
            };
            let serving = async {
                let mut target = accept(&listener).await;
                let head = read_until(&mut target, "\r\n\r\n").await;
                let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                let mut rest = vec![0; body.len()];
                target.read_exact(&mut rest).await.unwrap();
                assert_eq!(String::from_utf8(rest).unwrap(), body, "{head}");
                // The end has come long before this.
                target.write_all(OK.as_bytes()).await.unwrap();
                target
            };
            let (target, ()) = tokio::join!(serving, sending);
            let text = client.rest().await;
            assert!(text.ends_with("\r\n\r\nok"), "{request:.30}: {text:?}");
            drop(target);
        }
    });
}

#[test]
fn all_requests_before_the_end_are_answered() {
    run(async {
        let lab = Lab::new(&[answering(OK).await]).await;
        let mut client = lab.connect().await;
        client.send(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5)).await;
        client.finish().await;
        assert_eq!(statuses(&client.rest().await), ["200"; 5]);
    });
}

#[test]
fn whoever_closes_in_the_middle_of_a_request_has_gone() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await;
        client.finish().await;
        let mut target = accept(&listener).await;
        let mut rest = Vec::new();
        timeout(LONG, target.read_to_end(&mut rest)).await.expect("an end").unwrap_err();
        assert_eq!(client.0.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(lab.slot.get().shared.stats.totals().refusals["client_gone"], 1);
    });
}

#[test]
fn a_426_names_the_protocol_that_is_needed() {
    run(async {
        let answer = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n\
                      Connection: Upgrade\r\nContent-Length: 2\r\n\r\nno";
        let lab = Lab::new(&[answering(answer).await]).await;
        for (request, connection) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "Upgrade"),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "Upgrade, close"),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "Upgrade, keep-alive"),
        ] {
            let mut client = lab.connect().await;
            client.send(request.as_bytes()).await;
            let text = client.until("no").await;
            assert_eq!(statuses(&text), ["426"]);
            assert_eq!(text.matches("Upgrade: TLS/1.0, HTTP/1.1\r\n").count(), 1, "{text}");
            assert_eq!(text.matches("Connection: ").count(), 1, "{text}");
            assert!(text.contains(&format!("Connection: {connection}\r\n")), "{text}");
        }
    });
}

/// What frames, routes or authenticates, and what belongs to one hop.
const FORBIDDEN: [&str; 12] = [
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Host: evil.test",
    "Connection: close",
    "Keep-Alive: timeout=1",
    "Proxy-Connection: close",
    "Proxy-Authenticate: Basic",
    "TE: trailers",
    "Upgrade: h2c",
    "X-Forwarded-For: 10.0.0.1",
    "X-Hop: named in Connection",
    "x_hop: in another spelling",
];

#[test]
fn nothing_of_one_hop_or_of_the_frame_comes_after_a_body() {
    run(async {
        for field in FORBIDDEN {
            let (listener, address) = origin().await;
            let lab = Lab::new(&[address]).await;
            let mut client = lab.connect().await;
            let head =
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked";
            client.send(format!("{head}\r\n\r\n1\r\na\r\n").as_bytes()).await;
            let mut target = accept(&listener).await;
            read_until(&mut target, "1\r\na\r\n").await;
            client.send(format!("0\r\n{field}\r\n\r\n").as_bytes()).await;
            assert_eq!(statuses(&client.rest().await), ["400"], "{field}");
            let mut rest = Vec::new();
            let _reset = timeout(LONG, target.read_to_end(&mut rest)).await.expect("an end");
            assert_eq!(rest, b"", "{field}");

            let mut client = lab.connect().await;
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let mut target = accept(&listener).await;
            read_until(&mut target, "\r\n\r\n").await;
            let answer = "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked";
            let answer = format!("{answer}\r\n\r\n1\r\na\r\n");
            target.write_all(answer.as_bytes()).await.unwrap();
            client.until("1\r\na\r\n").await;
            target.write_all(format!("0\r\n{field}\r\n\r\n").as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let read = timeout(LONG, client.0.read_to_end(&mut rest)).await.expect("an end");
            assert!(rest.is_empty(), "{field}: {rest:?} {read:?}");
        }
    });
}
