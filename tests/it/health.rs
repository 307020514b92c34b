//! HTTP checks of targets that the packet path serves: what they ask, what they take, and how
//! soon a verdict is traffic.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use alb_tests::{
    client::tally,
    topology::{Host, Lab, Shape},
    wait,
};

use crate::setting::{Service, servers, vip};

/// Port that is checked; another one than that of the traffic.
const CHECKED: u16 = 9090;

/// A server for checks that answers with the status it was told to.
struct Checked {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// 0 = close without an answer.
    status: AtomicU16,
    stopping: AtomicBool,
    /// Heads that came, when each was answered, and with which status.
    requests: Mutex<Vec<(String, Instant, u16)>>,
}

impl Checked {
    fn start(host: &Host, status: u16) -> Self {
        let listener = host
            .namespace
            .enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, CHECKED)).expect("a free port"));
        listener.set_nonblocking(true).expect("a listener can poll");
        let shared = Arc::new(Shared { status: status.into(), ..Shared::default() });
        let serving = shared.clone();
        let acceptor = Some(std::thread::spawn(move || {
            while !serving.stopping.load(Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => serving.answer(&stream),
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        }));
        Self { shared, acceptor }
    }

    fn answers(&self, status: u16) {
        self.shared.status.store(status, Relaxed);
    }

    fn requests(&self) -> Vec<(String, Instant, u16)> {
        self.shared.requests.lock().expect("no panic").clone()
    }
}

impl Shared {
    fn answer(&self, stream: &TcpStream) {
        stream.set_nonblocking(false).expect("a stream can block");
        stream.set_read_timeout(Some(wait::LONG)).expect("a timeout");
        let mut head = String::new();
        let mut reader = BufReader::new(stream);
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(length) if length > 0 => {}
                Ok(_) | Err(_) => return,
            }
        }
        let status = self.status.load(Relaxed);
        if status != 0 {
            let mut to = stream;
            write!(to, "HTTP/1.1 {status} Whatever\r\nContent-Length: 5\r\n\r\n").expect("sent");
        }
        self.requests.lock().expect("no panic").push((head, Instant::now(), status));
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

#[test]
fn an_http_check_decides_who_serves() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let checked: Vec<_> = lab.targets.iter().map(|host| Checked::start(host, 204)).collect();
    let service = Service { checked: true, ..Service::of(&lab) };
    let check = format!(
        "protocol: Http, port: {CHECKED}, httpPath: /healthz, httpCode: [\"2xx\", \"404\"],"
    );
    let body = service.body().replace("protocol: Tcp, check", &format!("{check} check"));
    // A second backend that asks the same.
    let body = body.replace(
        "  listeners: [",
        "  listeners: [{ name: again, protocol: Tcp, port: 8081, backend: again }, ",
    );
    let first = body.find("backends: [").expect("backends") + "backends: [".len();
    let end = first + body[first..].find("]\n  listeners").expect("their end");
    let again = body[first..end].replacen("name: all", "name: again", 1);
    let body = format!("{}{}, {again}{}", &body[..first], &body[first..end], &body[end..]);

    let node = alb_tests::daemon::Node::xdp(lab.interfaces());
    let daemon = alb_tests::daemon::Instance::new(&lab.balancer.namespace, node, &body).start();
    daemon.wait_targets("tcp", "healthy", 2);
    daemon.wait_targets("again", "healthy", 2);
    let serving = || {
        let answers = tally(&lab.client.namespace, vip(), 20).expect("every connection served");
        answers.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(serving(), ["t1", "t2"]);
    for server in &checked {
        let requests = server.requests();
        // One check for both backends: two would come as pairs.
        for pair in requests.windows(2) {
            assert!(pair[1].1 - pair[0].1 > Duration::from_secs(2), "{requests:?}");
        }
        for (head, ..) in &requests {
            assert!(head.starts_with("HEAD /healthz HTTP/1.0\r\n"), "{head}");
            assert!(!head.to_lowercase().contains("\r\nhost:"), "{head}");
        }
    }

    for (status, words) in [(503, "HTTP_CODE_MISMATCH: status code 503"), (0, "CONNECT_INTERRUPT")]
    {
        checked[1].answers(status);
        daemon.wait_targets("tcp", "unhealthy", 1);
        let text = daemon.status()["listeners"].to_string();
        assert!(text.contains(words), "{text}");
        assert_eq!(serving(), ["t1"]);
        checked[1].answers(404);
        daemon.wait_targets("tcp", "healthy", 2);
        assert_eq!(serving(), ["t1", "t2"]);
    }
    let log = daemon.log();
    for words in ["cause:parse check error", "cause:peer closed", "server is healthy"] {
        assert!(log.contains(words), "no {words} in\n{log}");
    }
}

/// From the answer that decides to the first moment at which the tables send nobody there: it
/// waits for nothing, the next check least of all.
#[test]
fn a_verdict_is_traffic_at_once() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let checked: Vec<_> = lab.targets.iter().map(|host| Checked::start(host, 200)).collect();
    let service = Service { checked: true, ..Service::of(&lab) };
    let check = format!("protocol: Http, port: {CHECKED}, check");
    let body = service.body().replace("protocol: Tcp, check", &check);
    let node = alb_tests::daemon::Node::xdp(lab.interfaces());
    let daemon = alb_tests::daemon::Instance::new(&lab.balancer.namespace, node, &body).start();
    daemon.wait_targets("tcp", "healthy", 2);
    checked[1].answers(500);
    let decided = wait::until("a failed check", wait::LONG, || {
        checked[1].requests().into_iter().find_map(|(_, at, status)| (status == 500).then_some(at))
    });
    let one = || tally(&lab.client.namespace, vip(), 2).expect("every connection served");
    wait::until("the tables", wait::LONG, || (one().keys().eq(["t1"])).then_some(()));
    // Some milliseconds on a machine with nothing else to do.
    let took = decided.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    for _ in 0..10 {
        let answers = one();
        assert_eq!(answers.keys().collect::<Vec<_>>(), ["t1"], "{answers:?}");
    }
}
