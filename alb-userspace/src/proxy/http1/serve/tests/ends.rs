//! Ends of TLS connections: with and without `close_notify`, and when the client is slow to read.

use std::{future::poll_fn, pin::Pin, rc::Rc, task::Poll};

use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{
    super::{client, linger},
    lab::*,
};
use crate::proxy::{http1, peer::Peer, tls};

fn peer() -> Peer {
    let address = "198.51.100.7:40000".parse().unwrap();
    Peer { client: address, local: address, tls: None }
}

/// A TLS client of a listener.
async fn connect(lab: &Lab) -> TlsStream<TcpStream> {
    let (server, client) = tls::tests::pair().await;
    let (slot, worker) = (Rc::clone(&lab.slot), Rc::clone(&lab.worker));
    let abort = |stream: &tls::Stream| crate::proxy::tcp::reset(stream.get_ref().0);
    tokio::task::spawn_local(http1::serve(server, abort, peer(), slot, worker));
    client
}

#[test]
fn a_tunnel_takes_the_end_of_tcp_for_the_end() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = connect(&lab).await;
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
            .await
            .unwrap();
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        target
            .write_all(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
            .await
            .unwrap();
        client.write_all(b"question").await.unwrap();
        client.flush().await.unwrap();
        // Without a word of TLS.
        client.get_mut().0.shutdown().await.unwrap();
        let mut asked = Vec::new();
        timeout(LONG, target.read_to_end(&mut asked)).await.expect("an end").expect("no reset");
        assert_eq!(asked, b"question");
        target.write_all(b"the answer").await.unwrap();
        drop(target);
        let mut answer = Vec::new();
        timeout(LONG, client.read_to_end(&mut answer)).await.expect("an end").expect("a good end");
        assert!(answer.ends_with(b"\r\n\r\nthe answer"), "{}", answer.escape_ascii());
    });
}

#[test]
fn a_body_that_is_cut_off_is_not_the_whole_of_it() {
    run(async {
        for head in ["Content-Length: 20", "Transfer-Encoding: chunked"] {
            let (listener, address) = origin().await;
            let lab = Lab::new(&[address]).await;
            let mut client = connect(&lab).await;
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n8\r\n12345678\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            client.flush().await.unwrap();
            let mut target = accept(&listener).await;
            read_until(&mut target, "12345678\r\n").await;
            client.get_mut().0.shutdown().await.unwrap();
            let mut rest = Vec::new();
            // A reset or an early end, but nothing that makes it whole.
            let _ended = timeout(LONG, target.read_to_end(&mut rest)).await.expect("an end");
            assert_eq!(rest, b"", "{head}");
        }
    });
}

#[test]
fn the_end_of_tls_is_said_to_a_client_that_is_slow_to_read() {
    run(async {
        let (mut server, mut client) = tls::tests::pair().await;
        let block = vec![b'x'; 65_536];
        let mut sent = 0;
        // Until it stays full.
        let mut full = 0;
        while full < 20 {
            let wrote =
                poll_fn(|cx| Poll::Ready(Pin::new(&mut server).poll_write(cx, &block))).await;
            match wrote {
                Poll::Ready(written) => (sent, full) = (sent + written.unwrap(), 0),
                Poll::Pending => full += 1,
            }
            tokio::task::yield_now().await;
        }
        let closing = async move {
            // Closed with the end of this.
            let mut server = client::Client::new(server, peer());
            linger::shut(&mut server).await;
        };
        let reading = async {
            // Only once the other side has begun to close.
            tokio::task::yield_now().await;
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.expect("a whole end");
            got.len()
        };
        let ((), got) =
            timeout(LONG, async { tokio::join!(closing, reading) }).await.expect("an end");
        assert_eq!(got, sent);
    });
}
