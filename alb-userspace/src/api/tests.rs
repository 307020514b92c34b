//! Every path over a loopback socket, with a stand-in for whoever runs the daemon.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{BindError, bind, run};
use crate::{
    control::{Command, QUEUE, Readiness},
    http::Limits,
    report::fixture,
};

/// Serves the listener for as long as the test's runtime lives.
async fn serve(readiness: Readiness) -> SocketAddr {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("loopback socket");
    let address = listener.local_addr().expect("bound address");
    let (commands, mut queue) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(command) = queue.recv().await {
            match command {
                Command::Status { reply } => drop(reply.send(fixture::report())),
                Command::Ready { reply } => drop(reply.send(readiness.clone())),
                Command::Reload { .. } => panic!("the API listener cannot reload"),
            }
        }
    });
    tokio::spawn(run(listener, commands, Limits::default(), std::future::pending()));
    address
}

/// Head and body of the answer to a request without a body.
async fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let head = format!("{request} HTTP/1.1\r\nhost: alb\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn probes_answer_in_words() {
    let ready = serve(Readiness::Ready).await;
    let waiting = serve(Readiness::NotReady("the tables are not written yet".into())).await;
    for (address, request, status, expected) in [
        (ready, "GET /healthz", "200", "ok\n"),
        (ready, "GET /readyz", "200", "ready\n"),
        (ready, "GET /readyz?verbose", "200", "ready\n"),
        (ready, "HEAD /healthz", "200", ""),
        (waiting, "GET /healthz", "200", "ok\n"),
        (waiting, "GET /readyz", "503", "not ready: the tables are not written yet\n"),
        (waiting, "HEAD /readyz", "503", ""),
    ] {
        let (head, body) = ask(address, request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request} → {head}");
        assert_eq!(body, expected, "{request}");
    }
}

#[tokio::test]
async fn metrics_come_in_the_text_format() {
    let address = serve(Readiness::Ready).await;
    let (head, body) = ask(address, "GET /metrics").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\nalb_config_generation 7\n"), "{body}");

    let (of_head, empty) = ask(address, "HEAD /metrics").await;
    assert_eq!(empty, "");
    assert!(of_head.contains(&format!("content-length: {}", body.len())), "{of_head}");
}

#[tokio::test]
async fn errors_come_in_the_envelope() {
    let address = serve(Readiness::Ready).await;
    for (request, code, status, header) in [
        ("GET /v1/regions/local/loadBalancers/", 501, "NOT_IMPLEMENTED", None),
        ("DELETE /v1/regions/local/backends/backend-1", 501, "NOT_IMPLEMENTED", None),
        ("GET /", 404, "NOT_FOUND", None),
        ("GET /v1/status", 404, "NOT_FOUND", None),
        ("GET /healthz/", 404, "NOT_FOUND", None),
        ("POST /metrics", 405, "METHOD_NOT_ALLOWED", Some("allow: GET, HEAD")),
        ("DELETE /healthz", 405, "METHOD_NOT_ALLOWED", Some("allow: GET, HEAD")),
    ] {
        let (head, body) = ask(address, request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{request} → {head}");
        assert!(header.is_none_or(|line| head.contains(line)), "{request} → {head}");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["error"]["code"], code, "{request}");
        assert_eq!(body["error"]["status"], status, "{request}");
        assert!(body["error"]["message"].is_string(), "{request}");
        let id = body["requestId"].as_str().expect("request id");
        assert!(head.contains(&format!("x-jdcloud-request-id: {id}")), "{request} → {head}");
    }
}

#[tokio::test]
async fn a_taken_or_foreign_address_is_explained() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("loopback socket");
    let address = taken.local_addr().expect("bound address");
    let error = bind(address).await.expect_err("in use");
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");

    let error = bind(SocketAddr::from(([198, 18, 255, 254], 0))).await.expect_err("not local");
    assert!(error.to_string().contains("is no address of this host"), "{error}");
}
