//! From the socket to the protocol: what a connection holds while it is open, who is let in.

use std::{num::NonZeroU16, sync::Weak, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::LocalSet,
    time::timeout,
};

use super::*;
use crate::{
    model::{
        self, BackendProtocol, DatapathMode, Direction, ListenerHttp, ListenerProtocol, RuleAction,
        RuleProtocol, SecurityRule,
    },
    proxy::{
        cut::Cuts,
        mirror::Mirrors,
        plan::{Listener, Plan, Secrets},
        stats::WorkerId,
        upstream,
        worker::Open,
    },
    state::{Store, TargetStates, fixture},
};

const LONG: Duration = Duration::from_mins(1);

/// A listener served through the real door.
struct Lab {
    model: model::Model,
    plan: Arc<Plan>,
    slot: Rc<Slot>,
    address: SocketAddr,
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn compile(model: &model::Model, before: &Plan) -> Arc<Plan> {
    let store = Store::new(model.clone(), &TargetStates::default());
    Arc::new(Plan::compile(&store.snapshot(), &Secrets::of_a_test(), before))
}

impl Lab {
    async fn new(
        protocol: ListenerProtocol,
        target: SocketAddr,
        change: impl FnOnce(&mut model::Model),
    ) -> Self {
        let mut model = fixture::model(&[("b", None)], &[fixture::target("t", target)]);
        model.node.datapath = DatapathMode::Proxy;
        let is_http = protocol == ListenerProtocol::Http;
        if is_http {
            model.load_balancers[0].backends[0].protocol = BackendProtocol::Http;
        }
        model.load_balancers[0].listeners = vec![model::Listener {
            id: "l".into(),
            name: "l".into(),
            description: String::new(),
            protocol,
            port: NonZeroU16::new(80).unwrap(),
            enabled: true,
            backend: "b".into(),
            url_map: None,
            idle_timeout: LONG,
            max_connections: None,
            max_qps: None,
            tls: None,
            http: is_http.then_some(ListenerHttp {
                header_bytes: 65_536,
                headers: 128,
                request_line_bytes: 16_384,
                body_bytes: 0,
                header_timeout: LONG,
                body_idle_timeout: LONG,
                write_idle_timeout: LONG,
            }),
        }];
        change(&mut model);
        let plan = compile(&model, &Plan::default());
        let slot = Rc::new(Slot::new(Arc::clone(&plan.listeners[0])));
        let worker = Rc::new(Worker {
            id: WorkerId(0),
            passive: crate::health::passive().0,
            pool: upstream::Pool::default(),
            log: None,
            open: Open::default(),
            cuts: Cuts::default(),
            mirrors: Mirrors::default(),
        });
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let way = Rc::new(RefCell::new(Rc::clone(&slot)));
        spawn_local(super::run(socket, address, way, worker));
        Self { model, plan, slot, address }
    }

    /// Serves a changed model from now on; what there was before, should anybody hold it still.
    fn replace(&mut self, change: impl FnOnce(&mut model::Model)) -> Weak<Listener> {
        change(&mut self.model);
        let plan = compile(&self.model, &self.plan);
        let before = Arc::downgrade(&self.plan.listeners[0]);
        self.slot.set(Arc::clone(&plan.listeners[0]));
        self.plan = plan;
        before
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn exactly(stream: &mut TcpStream, bytes: usize) -> String {
    let mut text = vec![0; bytes];
    timeout(LONG, stream.read_exact(&mut text)).await.expect("an answer").unwrap();
    String::from_utf8(text).unwrap()
}

/// Answers every head with the same few bytes, and echoes what comes after a 101.
async fn origin(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            spawn_local(async move {
                let mut piece = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut piece).await {
                    let is_head = piece[..len].ends_with(b"\r\n\r\n");
                    let bytes = if is_head { answer.as_bytes() } else { &piece[..len] };
                    stream.write_all(bytes).await.unwrap();
                }
            });
        }
    });
    address
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SWITCH: &str = "HTTP/1.1 101 Switch\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";

#[test]
fn idle_connections_hold_nothing_of_what_was_and_see_what_is() {
    run(async {
        let mut lab = Lab::new(ListenerProtocol::Http, origin(OK).await, |_| {}).await;
        let mut client = lab.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(exactly(&mut client, OK.len()).await, OK);
        let silent = lab.connect().await;
        let other = origin("HTTP/1.1 299 OK\r\nContent-Length: 2\r\n\r\nno").await;
        let before = lab.replace(|model| {
            model.load_balancers[0].target_groups[0].targets = vec![fixture::target("o", other)];
        });
        // Whoever was on its way to be served is served by now.
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(exactly(&mut client, OK.len()).await.starts_with("HTTP/1.1 299"));
        assert!(before.upgrade().is_none(), "an idle connection holds an old listener");
        drop(silent);
    });
}

#[test]
fn tunnels_and_tcp_connections_hold_nothing_of_what_was() {
    run(async {
        for protocol in [ListenerProtocol::Http, ListenerProtocol::Tcp] {
            let mut lab = Lab::new(protocol, origin(SWITCH).await, |_| {}).await;
            let mut client = lab.connect().await;
            let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
            client.write_all(ask).await.unwrap();
            assert_eq!(exactly(&mut client, SWITCH.len()).await, SWITCH);
            let before = lab.replace(|model| {
                model.load_balancers[0].listeners[0].idle_timeout = LONG * 2;
            });
            client.write_all(b"ping").await.unwrap();
            assert_eq!(exactly(&mut client, 4).await, "ping");
            assert!(before.upgrade().is_none(), "{protocol:?} holds an old listener");
        }
    });
}

#[test]
fn a_socket_that_cannot_be_registered_is_tried_again() {
    run(async {
        let mut left = 2;
        let address = "127.0.0.1:1".parse().unwrap();
        let registering = registered(address, || {
            let tries = left;
            left -= i32::from(tries > 0);
            if tries > 0 { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(tries) }
        });
        assert_eq!(timeout(LONG, registering).await, Ok(0));
    });
}

fn rule(direction: Direction, action: RuleAction, prefix: &str) -> SecurityRule {
    let (protocol, priority, ports) = (RuleProtocol::Tcp, 1, (1, u16::MAX));
    SecurityRule { direction, protocol, action, priority, ports, prefix: prefix.parse().unwrap() }
}

#[test]
fn whom_security_groups_do_not_let_in_is_closed_silently() {
    run(async {
        // The group of the fixture is open: what no rule speaks of passes.
        let group = |rules| move |model: &mut model::Model| model.security_groups[0].rules = rules;
        let deny = vec![rule(Direction::In, RuleAction::Deny, "127.0.0.0/8")];
        let mut lab = Lab::new(ListenerProtocol::Http, origin(OK).await, group(deny)).await;
        let denied = |lab: &Lab| lab.plan.listeners[0].shared.stats.totals().denied_connections;
        let mut client = lab.connect().await;
        let mut nothing = Vec::new();
        timeout(LONG, client.read_to_end(&mut nothing)).await.expect("an end").unwrap();
        assert_eq!((nothing.len(), denied(&lab)), (0, 1));
        // Rules for the other direction are about targets.
        for (rules, status) in [
            (vec![rule(Direction::In, RuleAction::Deny, "198.18.0.0/15")], "200"),
            (vec![rule(Direction::Out, RuleAction::Deny, "127.0.0.0/8")], "503"),
            (Vec::new(), "200"),
        ] {
            lab.replace(group(rules));
            let mut client = lab.connect().await;
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            assert_eq!(exactly(&mut client, 12).await, format!("HTTP/1.1 {status}"));
        }
        assert_eq!(denied(&lab), 1);
    });
}
