//! Other protocols: tunnels with their ends and resets, and what is no upgrade.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::lab::*;
use crate::proxy::upstream::reset;

const UPGRADE: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";

async fn tunnel() -> (Client, tokio::net::TcpStream) {
    let (listener, address) = origin().await;
    let lab = Lab::new(&[address]).await;
    assert!(loopback(lab.address));
    let mut client = lab.connect().await;
    client.send(UPGRADE).await;
    let mut target = accept(&listener).await;
    let text = read_until(&mut target, "\r\n\r\n").await;
    let lower = text.to_lowercase();
    assert!(
        lower.contains("connection: upgrade\r\n") && lower.contains("upgrade: websocket\r\n"),
        "{text}"
    );
    target.write_all(SWITCH).await.unwrap();
    let text = client.until("hello").await;
    assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
    assert!(text.contains("Upgrade: websocket\r\n"), "{text}");
    (client, target)
}

#[test]
fn a_tunnel_passes_bytes_and_ends_in_both_directions() {
    run(async {
        let (mut client, mut target) = tunnel().await;
        client.send(b"ping").await;
        read_until(&mut target, "ping").await;
        client.0.shutdown().await.unwrap();
        let mut rest = Vec::new();
        timeout(LONG, target.read_to_end(&mut rest)).await.expect("the end is passed on").unwrap();
        // The other direction is still open.
        target.write_all(b"pong").await.unwrap();
        client.until("pong").await;
        drop(target);
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_reset_is_passed_on_as_one() {
    run(async {
        let (mut client, target) = tunnel().await;
        reset(&target);
        drop(target);
        let read = timeout(LONG, client.0.read_u8()).await.expect("an end");
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn h2c_is_not_asked_for_and_the_request_is_served() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n").await;
        let mut target = accept(&listener).await;
        let text = read_until(&mut target, "\r\n\r\n").await.to_lowercase();
        assert!(!text.contains("upgrade") && !text.contains("http2-settings"), "{text}");
        target.write_all(b"HTTP/1.1 204 No\r\n\r\n").await.unwrap();
        assert_eq!(statuses(&client.until("\r\n\r\n").await), ["204"]);
    });
}
