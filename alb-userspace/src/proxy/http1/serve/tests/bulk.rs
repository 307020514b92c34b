//! Bodies that are large enough to be moved by the kernel.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::spawn_local,
    time::timeout,
};

use super::lab::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Bytes that are not the same anywhere nearby.
fn body(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn response(len: usize) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").as_bytes(), &body(len)].concat()
}

async fn read(client: &mut TcpStream, len: usize) {
    let mut bytes = vec![0; response(len).len()];
    timeout(LONG, client.read_exact(&mut bytes)).await.expect("the response").unwrap();
    assert!(bytes == response(len), "a body of {len} bytes arrives as it was sent");
}

#[test]
fn bodies_of_any_size_arrive_whole_and_the_connections_go_on() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        // Around the first read, the least that is moved, and a pipe.
        let sizes = [
            0, 1, 8_100, 8_150, 8_192, 8_193, 32_000, 32_768, 33_000, 65_536, 74_000, 300_000,
            5_000_000, 3,
        ];
        let serving = spawn_local(async move {
            let mut target = accept(&listener).await;
            for len in sizes {
                read_until(&mut target, "\r\n\r\n").await;
                target.write_all(&response(len)).await.unwrap();
            }
        });
        for len in sizes {
            client.send(GET).await;
            read(&mut client.0, len).await;
        }
        serving.await.expect("all over one connection");
    });
}

#[test]
fn a_body_that_is_cut_off_is_cut_off_for_the_client() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        let whole = response(1_000_000);
        target.write_all(&whole[..600_000]).await.unwrap();
        drop(target);
        let mut bytes = Vec::new();
        timeout(LONG, client.0.read_to_end(&mut bytes)).await.expect("an end").unwrap();
        assert!(bytes == whole[..600_000], "{} bytes came", bytes.len());
        assert!(lab.worker.pool.is_empty());
    });
}

#[test]
fn what_follows_a_body_on_the_targets_connection_is_not_the_clients() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address]).await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        let answer = [response(500_000), response(200_000)].concat();
        let sending = spawn_local(async move {
            // The proxy may close while this is on its way.
            let _sent = target.write_all(&answer).await.is_ok();
            target
        });
        read(&mut client.0, 500_000).await;
        let _target = sending.await.unwrap();
        client.send(GET).await;
        let mut next = accept(&listener).await;
        read_until(&mut next, "\r\n\r\n").await;
        next.write_all(&response(2)).await.unwrap();
        read(&mut client.0, 2).await;
    });
}

#[test]
fn a_client_that_stops_reading_loses_the_connection() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::with(&[address], |listener, _| {
            let http = listener.http.as_mut().unwrap();
            http.write_idle_timeout = Duration::from_millis(200);
        })
        .await;
        let mut client = lab.connect().await;
        client.send(GET).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        let whole = response(64 << 20);
        let refused = timeout(LONG, target.write_all(&whole)).await.expect("an end");
        assert!(refused.is_err(), "the target is told that nobody reads");
        let mut bytes = Vec::new();
        let read = timeout(LONG, client.0.read_to_end(&mut bytes)).await.expect("an end");
        assert!(read.is_err(), "the client cannot take it for the end");
    });
}
