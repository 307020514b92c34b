//! Connections of tcp listeners over loopback, as the worker serves them.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::spawn_local,
};

use super::*;
use crate::{
    model::{Algorithm, Model},
    proxy::{
        lab::{
            self, LONG, Log, accept, down, hanging, origin, read_until, run, some, until, within,
        },
        plan::{Plan, Secrets},
    },
    state::{Store, TargetStates},
};

struct Lab {
    address: SocketAddr,
    slot: Rc<Slot>,
    worker: Rc<Worker>,
    model: Model,
    plan: Arc<Plan>,
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
        let lab = Self { address: listener.local_addr().unwrap(), slot, worker, model, plan };
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

    /// Serves a changed model from now on.
    fn change(&self, change: impl FnOnce(&mut crate::model::LoadBalancer)) {
        let mut model = self.model.clone();
        change(&mut model.load_balancers[0]);
        let store = Store::new(model, &TargetStates::default());
        let plan = Plan::compile(&store.snapshot(), &Secrets::of_a_test(), &self.plan);
        self.slot.set(Arc::clone(&plan.listeners[0]));
        self.worker.cuts.set(&plan.draining);
        spawn_local(self.worker.cuts.clone().run());
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

#[test]
fn connections_of_a_target_that_has_drained_are_reset_on_both_sides() {
    run(async {
        let log = Log::start(crate::model::LogFormat::Json);
        let (listener, first) = origin().await;
        let (stays, second) = origin().await;
        let lab = Lab::new(&[first, second], Some(&log), |backend| {
            backend.connection_draining = LONG / 100;
        })
        .await;
        // By turns.
        let (mut cut, mut kept) = (lab.connect().await, lab.connect().await);
        let (mut gone, mut there) = (accept(&listener).await, accept(&stays).await);
        assert!(talks(&cut, &mut gone).await && talks(&kept, &mut there).await);
        lab.change(|balancer| {
            balancer.target_groups[0].targets.remove(0);
        });
        // It has less than a second. Both sides are silent.
        for end in [&mut cut, &mut gone] {
            let error = within(end.read_u8()).await.expect_err("no byte comes");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        there.write_all(b"x").await.unwrap();
        assert_eq!(within(kept.read_u8()).await.unwrap(), b'x');
        kept.write_all(b"y").await.unwrap();
        assert_eq!(within(there.read_u8()).await.unwrap(), b'y');
        let totals = || lab.slot.get().shared.stats.totals();
        until(|| !totals().refusals.is_empty()).await;
        assert_eq!(some(&totals().refusals), [("target_drained", 1)]);
        let backend = lab.slot.get().backend.shared.stats.totals();
        assert_eq!(some(&backend.errors), [], "the target is not to blame");
        let text = log.text(&lab.worker).await;
        assert!(text.lines().count() == 1 && text.contains("target_drained"), "{text}");
    });
}

#[test]
fn bytes_are_counted_while_the_connection_is_open() {
    run(async {
        let (listener, address) = origin().await;
        let lab = Lab::new(&[address], None, |_| {}).await;
        let mut client = lab.connect().await;
        let mut target = accept(&listener).await;
        let counted = || {
            let listener = lab.slot.get();
            let backend = listener.backend.shared.stats.totals();
            let listener = listener.shared.stats.totals();
            assert_eq!(
                (listener.bytes_in, listener.bytes_out),
                (backend.bytes_out, backend.bytes_in)
            );
            (listener.bytes_in, listener.bytes_out)
        };
        for round in 1..=3 {
            client.write_all(b"question").await.unwrap();
            read_until(&mut target, "question").await;
            target.write_all(b"answer").await.unwrap();
            read_until(&mut client, "answer").await;
            until(|| counted() == (round * 8, round * 6)).await;
        }
        drop((client, target));
        until(|| lab.in_flight(0) == 0).await;
        assert_eq!(counted(), (24, 18), "once");
    });
}

/// Thousands of connections are idle at a time: what one of them may take is part of the design.
#[test]
fn an_idle_connection_takes_little_room() {
    run(async {
        let lab = Lab::new(&[down().await], None, |_| {}).await;
        let (front, address) = origin().await;
        let stream = async || {
            let _client = TcpStream::connect(address).await.unwrap();
            accept(&front).await
        };
        let plain = async || Plain::from(stream().await);
        let encrypted = async || tls::tests::pair().await.0;
        let (slot, worker) = (|| Rc::clone(&lab.slot), || Rc::clone(&lab.worker));
        let peer = || Peer { client: address, local: address, tls: None };
        let reset = |stream: &Plain| tcp::reset(stream);
        let abort = |stream: &tls::Stream| tcp::reset(stream.get_ref().0);
        let task = connection(stream().await, address, address, slot(), worker());
        let http = http1::serve(plain().await, reset, peer(), slot(), worker());
        let https = http1::serve(encrypted().await, abort, peer(), slot(), worker());
        let h2 = http2::serve(encrypted().await, peer(), slot(), worker());
        let tcp = forward(plain().await, peer(), lab.slot.get(), worker());
        let tls = forward(encrypted().await, peer(), lab.slot.get(), worker());
        let rooms = [
            ("task", size_of_val(&task), 256),
            ("http", size_of_val(&http), 3584),
            ("https", size_of_val(&https), 5888),
            ("h2", size_of_val(&h2), 9984),
            ("tcp", size_of_val(&tcp), 1792),
            ("tls", size_of_val(&tls), 6656),
        ];
        let too_large = rooms.into_iter().filter(|(_, room, most)| room > most);
        assert_eq!(
            too_large.collect::<Vec<_>>(),
            [],
            "bytes, and how many it may be; all: {rooms:?}"
        );
    });
}
