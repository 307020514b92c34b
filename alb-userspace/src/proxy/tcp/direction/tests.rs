//! What a direction keeps while it lives on without work.

use std::{future::poll_fn, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

async fn pair() -> (Plain, Plain) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near.into(), listener.accept().await.unwrap().0.into())
}

#[tokio::test]
async fn the_end_of_bulk_gives_the_pipe_back() {
    let (mut source, mut from) = pair().await;
    let (mut to, mut sink) = pair().await;
    let mut direction = Direction::default();
    let sending = async {
        source.write_all(&vec![7; 1 << 20]).await.unwrap();
        source.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let moving = poll_fn(|cx| direction.poll(cx, &mut from, &mut to));
    let all = async { tokio::join!(sending, sink.read_to_end(&mut received), moving) };
    let ((), read, done) = timeout(Duration::from_secs(10), all).await.expect("an end");
    assert!(read.is_ok() && done.is_ok() && received.len() == 1 << 20);
    assert!(direction.moving, "so much goes through a pipe");
    assert!(direction.is_done() && direction.pipe.is_none() && direction.buffer.is_none());
}
