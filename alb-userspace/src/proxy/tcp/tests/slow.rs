//! Receivers that take little at a time.

use socket2::{Domain, Socket, Type};
use tokio::time::interval;

use super::*;

/// A connection that holds little on its way: what one end takes is soon known to the other.
async fn narrow() -> (TcpStream, TcpStream) {
    let (listener, address) = bind().await;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (theirs, _) = listener.accept().await.unwrap();
    SockRef::from(&theirs).set_send_buffer_size(4096).unwrap();
    (TcpStream::from_std(socket.into()).unwrap(), theirs)
}

#[tokio::test]
pub(super) async fn one_that_takes_bytes_is_not_idle_though_none_come() {
    // A copy buffer takes longer to go than the idle time.
    const BYTES: usize = 96 * 1024;
    let (listener, address) = bind().await;
    let (mut mine, theirs) = narrow().await;
    let backend = backend(false, 0, &[address]);
    let (mut choose, peer) = (InOrder { count: 1, failed: Vec::new() }, peer());
    let idle = Duration::from_millis(1_500);
    let forwarding = Box::pin(forwarded(Plain::from(theirs), &peer, &backend, &mut choose, idle));
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&vec![1; BYTES]).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    };
    let reading = async {
        let mut pace = interval(Duration::from_millis(40));
        let (mut taken, mut piece) = (0, [0; 1024]);
        while let Ok(len @ 1..) = mine.read(&mut piece).await {
            taken += len;
            pace.tick().await;
        }
        drop(mine);
        taken
    };
    let all = async { tokio::join!(reading, serving, forwarding) };
    let (taken, _, ended) =
        timeout(Duration::from_secs(30), ring::if_wanted(all)).await.expect("an end");
    assert_eq!((taken, ended.end), (BYTES, End::Closed));
}
