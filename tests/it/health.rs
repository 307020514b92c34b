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
    /// Heads that came, and when each was answered.
    requests: Mutex<Vec<(String, Instant)>>,
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

    fn requests(&self) -> Vec<(String, Instant)> {
        self.shared.requests.lock().expect("no panic").clone()
    }
}

impl Shared {
    fn answer(&self, stream: &TcpStream) {
        stream.set_nonblocking(false).expect("a stream can block");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
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
        self.requests.lock().expect("no panic").push((head, Instant::now()));
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
        // One check for both backends.
        assert_eq!(requests.len(), 1, "{requests:?}");
        let (head, _) = &requests[0];
        assert!(head.starts_with("HEAD /healthz HTTP/1.0\r\n"), "{head}");
        assert!(!head.to_lowercase().contains("\r\nhost:"), "{head}");
    }

    for (status, words) in [(503, "HTTP_CODE_MISMATCH: status code 503"), (0, "CONNECT_INTERRUPT")]
    {
        checked[1].answers(status);
        let asked = checked[1].requests().len();
        daemon.wait_targets("tcp", "unhealthy", 1);
        let took = checked[1].requests()[asked].1.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
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

/// From the answer that decides to the first moment at which the tables send nobody there.
#[test]
fn a_verdict_is_traffic_within_a_tenth_of_a_second() {
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
    let asked = checked[1].requests().len();
    let decided = wait::until("a failed check", Duration::from_secs(10), || {
        checked[1].requests().get(asked).map(|(_, at)| *at)
    });
    // Connections begun later than this much after it never meet the target.
    let late = decided + Duration::from_millis(100);
    let one = || tally(&lab.client.namespace, vip(), 2).expect("every connection served");
    while Instant::now() < late {
        std::hint::spin_loop();
    }
    for _ in 0..10 {
        let answers = one();
        assert_eq!(answers.keys().collect::<Vec<_>>(), ["t1"], "{answers:?}");
    }
}
