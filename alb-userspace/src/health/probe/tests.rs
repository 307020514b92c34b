//! Probes against real loopback sockets; time is paused, so that a timeout costs none.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::{Check, Failed, probe};
use crate::{
    model::{CodeRange, HttpCheck},
    state::UnhealthyReason as Reason,
};

fn tcp(address: SocketAddr) -> Check {
    let timeout = Duration::from_secs(2);
    Check { address, http: None, timeout, interval: Duration::from_secs(5), rise: 3, fall: 3 }
}

fn head(address: SocketAddr) -> Check {
    let codes = vec![CodeRange { low: 200, high: 299 }, CodeRange { low: 404, high: 404 }];
    let http = HttpCheck { http11: false, domain: None, path: "/healthz".into(), codes };
    Check { http: Some(http), ..tcp(address) }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Answers one connection with `chunks`, after its request has come, then closes it.
async fn answer(listener: TcpListener, chunks: &[&[u8]]) -> Vec<u8> {
    let (mut stream, _peer) = listener.accept().await.unwrap();
    let mut request = vec![];
    while !request.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
    }
    for chunk in chunks {
        stream.write_all(chunk).await.unwrap();
        stream.flush().await.unwrap();
    }
    request
}

/// The reason of an HTTP check that gets this answer, `None` = passed.
async fn answered(chunks: &[&[u8]]) -> Option<(Reason, String)> {
    let (listener, address) = listener().await;
    let check = head(address);
    let (result, request) = tokio::join!(probe(&check), answer(listener, chunks));
    assert!(request.starts_with(b"HEAD /healthz HTTP/1.0\r\n"));
    result.err().map(|Failed { unhealthy, .. }| (unhealthy.reason, unhealthy.detail.to_string()))
}

#[tokio::test]
async fn a_listening_port_passes() {
    let (_listener, address) = listener().await;
    probe(&tcp(address)).await.unwrap();
}

#[tokio::test]
async fn a_closed_port_fails_with_the_systems_words() {
    let (listener, address) = listener().await;
    drop(listener);
    let Failed { unhealthy, .. } = probe(&tcp(address)).await.unwrap_err();
    assert_eq!(unhealthy.reason, Reason::ConnectFailed);
    assert_eq!(&*unhealthy.detail, "connect: Connection refused (os error 111)");
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_a_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let _listener = socket.listen(0).unwrap();
    // The one place in the queue is taken, so that the kernel drops the next SYN.
    let _first = TcpStream::connect(address).await.unwrap();
    let before = tokio::time::Instant::now();
    let Failed { unhealthy, .. } = probe(&tcp(address)).await.unwrap_err();
    assert_eq!(unhealthy.reason, Reason::ConnectTimeout);
    assert_eq!(&*unhealthy.detail, "connect: not done within 2 s");
    assert!(before.elapsed() < Duration::from_millis(2100), "{:?}", before.elapsed());
}

#[tokio::test]
async fn status_codes_decide() {
    assert_eq!(answered(&[b"HTTP/1.1 204 No Content\r\n\r\n"]).await, None);
    assert_eq!(answered(&[b"HT", b"TP/1.0 40", b"4\r", b"\nA: b\r\n\r\n"]).await, None);
    let (reason, detail) = answered(&[b"HTTP/1.1 503 Busy\r\n\r\n"]).await.unwrap();
    assert_eq!((reason, detail.as_str()), (Reason::HttpCodeMismatch, "status code 503"));
}

#[tokio::test]
async fn what_is_not_http_is_a_format_error() {
    let (reason, detail) = answered(&[b"220 mail.test ESMTP\r\n"]).await.unwrap();
    assert_eq!(reason, Reason::ResponseFormatError);
    assert_eq!(detail, "not a status line: \"220 mail.test ESMTP\"");
}

#[tokio::test]
async fn closing_without_an_answer_is_an_interruption() {
    let (reason, detail) = answered(&[b"HTTP/1."]).await.unwrap();
    assert_eq!(reason, Reason::ConnectInterrupt);
    assert_eq!(detail, "closed after 7 bytes without a status line");
}

#[tokio::test(start_paused = true)]
async fn silence_after_the_request_is_a_receive_timeout() {
    let (_listener, address) = listener().await;
    let Failed { unhealthy, .. } = probe(&head(address)).await.unwrap_err();
    assert_eq!(unhealthy.reason, Reason::ReceiveResponseTimeout);
}

/// Every byte that a check sends, as the product has it: HTTP/1.0 without `Host`, unless there is a
/// domain or the version needs one.
#[tokio::test]
async fn a_check_sends_these_bytes_and_no_others() {
    let rest = "User-Agent: alb-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n";
    for (http11, domain) in
        [(false, None), (false, Some("shop.test")), (true, None), (true, Some("shop.test"))]
    {
        let (listener, address) = listener().await;
        let mut check = head(address);
        let http = check.http.as_mut().unwrap();
        (http.http11, http.domain) = (http11, domain.map(str::to_owned));
        let response: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\n\r\n"];
        let (result, request) = tokio::join!(probe(&check), answer(listener, response));
        result.unwrap();
        let start = match (http11, domain) {
            (false, None) => "HEAD /healthz HTTP/1.0\r\n".to_owned(),
            (false, Some(domain)) => format!("HEAD /healthz HTTP/1.0\r\nHost: {domain}\r\n"),
            (true, None) => format!("HEAD /healthz HTTP/1.1\r\nHost: {address}\r\n"),
            (true, Some(domain)) => format!("HEAD /healthz HTTP/1.1\r\nHost: {domain}\r\n"),
        };
        assert_eq!(String::from_utf8(request).unwrap(), format!("{start}{rest}"));
    }
}
