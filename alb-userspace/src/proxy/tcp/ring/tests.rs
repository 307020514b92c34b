//! What only the ring does; what both engines do is tested in `tcp::tests`.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::LocalSet,
    time::{Duration, timeout},
};

use super::*;

async fn pair() -> (TcpStream, Plain) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (far, listener.accept().await.unwrap().0.into())
}

async fn on_a_ring(test: impl Future<Output = ()>) {
    let test = async {
        allow_at_once();
        test.await;
    };
    timeout(Duration::from_secs(30), LocalSet::new().run_until(test)).await.expect("an end");
}

async fn over(chat: &Chat) {
    std::future::poll_fn(|cx| chat.poll_over(cx)).await;
}

#[tokio::test]
async fn messages_go_both_ways_and_it_comes_back_when_asked() {
    on_a_ring(async {
        let ((mut client, near), (mut target, far)) = (pair().await, pair().await);
        let chat = Chat::begin(mine().expect("io_uring"), near, far).unwrap();
        for _ in 0..1000 {
            let mut got = [0; 4];
            client.write_all(b"ping").await.unwrap();
            target.read_exact(&mut got).await.unwrap();
            target.write_all(b"pong").await.unwrap();
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"pong");
        }
        chat.leave();
        over(&chat).await;
        assert_eq!(chat.take_counts(Way::Up), (4000, 4000));
        assert_eq!(chat.take_counts(Way::Down), (4000, 4000));
        let mut back = chat.end().unwrap();
        assert!(back.up.unsent.is_empty() && back.down.unsent.is_empty());
        client.write_all(b"last").await.unwrap();
        let mut got = [0; 4];
        back.client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"last", "the runtime has it again");
    })
    .await;
}

#[tokio::test]
async fn what_is_dropped_is_closed_and_its_place_used_again() {
    on_a_ring(async {
        for _ in 0..600 {
            let ((mut client, near), (mut target, far)) = (pair().await, pair().await);
            drop(Chat::begin(mine().expect("io_uring"), near, far).unwrap());
            assert_eq!(client.read(&mut [0; 4]).await.unwrap(), 0);
            assert_eq!(target.read(&mut [0; 4]).await.unwrap(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn more_messages_than_buffers_all_arrive() {
    on_a_ring(async {
        let mut ends = Vec::new();
        let mut chats = Vec::new();
        for _ in 0..600 {
            let ((client, near), (target, far)) = (pair().await, pair().await);
            chats.push(Chat::begin(mine().expect("io_uring"), near, far).unwrap());
            ends.push((client, target));
        }
        for round in 0..5_u8 {
            for (client, _) in &mut ends {
                client.write_all(&[round; 100]).await.unwrap();
            }
            for (_, target) in &mut ends {
                let mut got = [0; 100];
                target.read_exact(&mut got).await.unwrap();
                assert_eq!(got, [round; 100]);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_runtime_that_ends_takes_its_ring_along() {
    let ((_client, near), (_target, far)) = (pair().await, pair().await);
    let set = LocalSet::new();
    let chat = set
        .run_until(async {
            allow_at_once();
            Chat::begin(mine().expect("io_uring"), near, far).unwrap()
        })
        .await;
    drop(set);
    assert!(mine().is_none());
    drop(chat);
}
