//! Both ends of a connection over loopback.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use super::*;

async fn pair() -> (Plain, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near.into(), listener.accept().await.unwrap().0)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("within the time")
}

#[tokio::test]
async fn more_than_the_kernel_holds_goes_both_ways_and_so_does_the_end() {
    let (mut near, mut far) = pair().await;
    let sent: Vec<u8> = (0..8 << 20).map(|at: u32| at.to_be_bytes()[2]).collect();
    let echo = async {
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        far.write_all(&got).await.unwrap();
        far.shutdown().await.unwrap();
    };
    let talk = async {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        let mut got = Vec::new();
        near.read_to_end(&mut got).await.unwrap();
        got
    };
    let (got, ()) = within(async { tokio::join!(talk, echo) }).await;
    assert!(got == sent);
}

#[tokio::test]
async fn a_write_in_parts_is_one_write() {
    let (mut near, mut far) = pair().await;
    let parts = [&b"head"[..], b"", b"body"].map(IoSlice::new);
    assert_eq!(within(near.write_vectored(&parts)).await.unwrap(), 8);
    let mut got = [0; 8];
    within(far.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"headbody");
    let many: Vec<IoSlice<'_>> = (0..2000).map(|_| IoSlice::new(b"x")).collect();
    assert_eq!(
        within(near.write_vectored(&many)).await.unwrap(),
        1024,
        "as many as one call takes"
    );
}

#[tokio::test]
async fn what_came_is_known_without_reading() {
    let (mut near, mut far) = pair().await;
    far.write_all(b"x").await.unwrap();
    within(near.readable()).await.unwrap();
    assert!(Plain::has_come(&near));
    assert_eq!(within(near.read(&mut [0; 8])).await.unwrap(), 1);
    assert!(!Plain::has_come(&near), "fewer bytes than there was room for were all");
    drop(far);
    within(near.readable()).await.unwrap();
    assert!(Plain::has_come(&near), "the end is something");
    assert_eq!(within(near.read(&mut [0; 8])).await.unwrap(), 0);
    assert_eq!(within(near.read(&mut [0; 8])).await.unwrap(), 0, "and stays");
}

#[tokio::test]
async fn a_reset_is_an_error_of_both_calls() {
    let (mut near, far) = pair().await;
    far.set_zero_linger().unwrap();
    drop(far);
    let read = within(near.read(&mut [0; 8])).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let written = within(near.write(b"x")).await;
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let parts = [IoSlice::new(b"x"), IoSlice::new(b"y")];
    let written = within(near.write_vectored(&parts)).await;
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
