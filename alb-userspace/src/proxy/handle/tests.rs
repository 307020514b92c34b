//! Real workers over loopback: what a snapshot that was applied means for their connections.

use std::{net::Ipv4Addr, num::NonZeroU16};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{
    health::passive,
    model::ListenerProtocol,
    proxy::lab::{self, answering, read_until, within},
    state::{Health, Store, TargetRef, TargetStates, Transition},
};

/// An address that no other test listens on.
const VIP: Ipv4Addr = Ipv4Addr::new(127, 83, 0, 1);

async fn named(name: &str) -> SocketAddr {
    answering(format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{name}")).await
}

/// Who answers the next request of a connection.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(stream, "\r\n\r\n").await;
    let mut name = [0; 3];
    within(stream.read_exact(&mut name)).await.unwrap();
    String::from_utf8_lossy(&name).into_owned()
}

fn tell(store: &Store, target: &str, health: Health) -> Arc<Snapshot> {
    let snapshot = store.snapshot();
    let revision = snapshot.targets.get("web", target).unwrap().revision;
    let target = TargetRef::new("web", target);
    store.report(vec![Transition { target, revision, health, reason: None }])
}

/// No timer and no further event stands between a verdict and the selection: whoever waits for
/// `settled` has waited for every worker, and the next request of each connection is chosen for
/// by it.
#[test]
fn a_verdict_that_is_applied_is_every_next_request_s() {
    lab::run(async {
        let targets = [named("one").await, named("two").await];
        let dir = tempfile::tempdir().unwrap();
        let mut model = lab::model(&targets, ListenerProtocol::Http);
        (model.node.state_dir, model.node.workers) = (dir.path().to_owned(), 2);
        let port = TcpListener::bind((VIP, 0)).unwrap().local_addr().unwrap().port();
        let balancer = &mut model.load_balancers[0];
        balancer.vips = vec![VIP.into()];
        balancer.listeners[0].port = NonZeroU16::new(port).unwrap();
        let mut proxy = Proxy::start(&model.node, &passive().0, None).unwrap();
        let store = Store::new(model, &TargetStates::default());
        proxy.apply(&store.snapshot()).unwrap();
        proxy.settled().await;

        // So many that both workers have some.
        let mut open = Vec::new();
        for _ in 0..16 {
            open.push(within(TcpStream::connect((VIP, port))).await.unwrap());
        }
        let mut connections = open.iter_mut();
        let first = connections.next().unwrap();
        assert_ne!(ask(first).await, ask(first).await, "in turn");
        for connection in connections {
            ask(connection).await;
        }
        for (target, serving) in [("t0", "two"), ("t1", "one"), ("t0", "two")] {
            let other = if target == "t0" { "t1" } else { "t0" };
            tell(&store, other, Health::Healthy);
            proxy.apply(&tell(&store, target, Health::Unhealthy)).unwrap();
            proxy.settled().await;
            for connection in &mut open {
                assert_eq!(ask(connection).await, serving);
            }
            let mut new = within(TcpStream::connect((VIP, port))).await.unwrap();
            assert_eq!(ask(&mut new).await, serving);
        }
        drop(open);
        proxy.drain(false);
        assert!(proxy.drained(Instant::now() + lab::LONG).await);
    });
}
