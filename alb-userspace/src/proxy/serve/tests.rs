//! Connections of tcp listeners over loopback, as the worker serves them.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::spawn_local,
};

use super::*;
use crate::{
    model::Algorithm,
    proxy::lab::{self, LONG, Log, accept, down, hanging, origin, run, some, until, within},
};

struct Lab {
    address: SocketAddr,
    slot: Rc<Slot>,
    worker: Rc<Worker>,
}

impl Lab {
    async fn new(
        targets: &[SocketAddr],
        log: Option<&Log>,
        change: impl FnOnce(&mut crate::model::Backend),
    ) -> Self {
        let mut model = lab::model(targets, ListenerProtocol::Tcp);
        change(&mut model.load_balancers[0].backends[0]);
        let plan = lab::compile(&model);
        let slot = Rc::new(Slot::new(Arc::clone(&plan.listeners[0])));
        let worker = lab::worker(log.map(|log| log.log.worker()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Self { address: listener.local_addr().unwrap(), slot, worker };
        let (slot, worker, local) = (Rc::clone(&lab.slot), Rc::clone(&lab.worker), lab.address);
        spawn_local(async move {
            loop {
                let (stream, client) = listener.accept().await.unwrap();
                let (slot, worker) = (Rc::clone(&slot), Rc::clone(&worker));
                spawn_local(connection(stream, client, local, slot, worker));
            }
        });
        lab
    }

    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.address)).await.unwrap()
    }

    fn in_flight(&self, at: usize) -> u32 {
        self.slot.get().backend.targets[at].in_flight()
    }
}

/// Whether bytes go there and back.
async fn talks(client: &TcpStream, target: &mut TcpStream) -> bool {
    let mut byte = [0];
    target.write_all(b"x").await.unwrap();
    within(client.readable()).await.unwrap();
    client.try_read(&mut byte).is_ok_and(|len| len == 1 && byte == *b"x")
}

#[test]
fn a_connection_goes_to_the_target_with_the_fewest() {
    run(async {
        let (busy, first) = origin().await;
        let (quick, second) = origin().await;
        let lab = Lab::new(&[first, second], None, |backend| {
            backend.algorithm = Algorithm::LeastConn;
        })
        .await;
        let held = lab.connect().await;
        let mut target = accept(&busy).await;
        assert!(talks(&held, &mut target).await);
        // By turns every other one of them would go to the first.
        for _ in 0..6 {
            let client = lab.connect().await;
            let mut target = accept(&quick).await;
            assert!(talks(&client, &mut target).await);
            assert_eq!((lab.in_flight(0), lab.in_flight(1)), (1, 1));
            drop((client, target));
            until(|| lab.in_flight(1) == 0).await;
        }
        drop((held, target));
        until(|| lab.in_flight(0) == 0).await;
    });
}

#[test]
fn retries_bound_how_many_targets_are_tried() {
    run(async {
        let targets = [down().await, down().await, down().await, down().await];
        for retries in [0_u8, 2] {
            let lab = Lab::new(&targets, None, |backend| backend.retries = retries).await;
            let mut client = lab.connect().await;
            within(client.read_u8()).await.expect_err("a reset");
            let backend = lab.slot.get().backend.shared.stats.totals();
            let (tries, again) = (u64::from(retries) + 1, u64::from(retries));
            assert_eq!(
                (some(&backend.errors), backend.retries),
                (vec![("connect_failed", tries)], again)
            );
        }
    });
}

#[test]
fn a_connect_that_takes_too_long_moves_on_and_the_log_has_both() {
    run(async {
        let log = Log::start(crate::model::LogFormat::Common);
        let (stuck, _held) = hanging().await;
        let (listener, target) = origin().await;
        let lab = Lab::new(&[stuck, target], Some(&log), |backend| {
            backend.connect_timeout = LONG / 100;
        })
        .await;
        let client = lab.connect().await;
        let mut target = accept(&listener).await;
        assert!(talks(&client, &mut target).await);
        drop((client, target));
        until(|| lab.in_flight(1) == 0).await;
        let backend = lab.slot.get().backend.shared.stats.totals();
        assert_eq!((backend.retries, some(&backend.errors)), (1, vec![("connect_timeout", 1)]));
        let (text, port) = (log.text(&lab.worker).await, lab.address.port());
        assert!(text.starts_with("127.0.0.1 - - ["), "{text}");
        assert!(
            text.ends_with(&format!("] \"TCP 127.0.0.1:{port}\" 000 1 \"-\" \"-\"\n")),
            "{text}"
        );
    });
}
