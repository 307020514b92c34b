//! HTTP checks of targets that the packet path serves: what they ask, what they take, and how
//! soon a verdict is traffic, in the proxy too.

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
    http::Client,
    origin::Origin,
    topology::{Host, Lab, Shape, VIP},
    wait,
};

use crate::{
    seeing::{metrics, value},
    setting::{Service, servers, vip},
};

/// Port that is checked; another one than that of the traffic.
const CHECKED: u16 = 9090;
/// Port of the web servers.
const WEB: u16 = 8081;

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
    let began = Instant::now();
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
    // One check for both backends, every five seconds, or a little less: two would be twice as many.
    let requests = checked[0].requests();
    let most = began.elapsed().as_secs() * 2 / 9 + 2;
    assert!(requests.len() as u64 <= most, "more than {most}: {requests:?}");
    let log = daemon.log();
    for words in ["cause:parse check error", "cause:peer closed", "server is healthy"] {
        assert!(log.contains(words), "no {words} in\n{log}");
    }
}

/// The service, and beside it an http listener of the proxy over the same hosts. One check is made
/// for both.
fn with_web(service: &Service, check: &str) -> String {
    let targets = service.targets.iter();
    let targets = targets.map(|(address, _)| format!("{{ ipAddress: {address}, port: {WEB} }}"));
    let targets = targets.collect::<Vec<_>>().join(", ");
    service
        .body()
        .replace("protocol: Tcp, check", &format!("{check} check"))
        .replace(
            "targetGroups: [",
            &format!("targetGroups: [{{ name: web, type: ip, targets: [{targets}] }}, "),
        )
        .replace(
            "backends: [",
            &format!(
                "backends: [{{ name: web, protocol: Http, port: {WEB}, targetGroup: web, \
                 healthCheck: {{ {check} checkTimeoutSeconds: 2, intervalSeconds: 5, \
                 healthyThresholdCount: 1, unhealthyThresholdCount: 1 }} }}, "
            ),
        )
        .replace(
            "listeners: [",
            "listeners: [{ name: web, protocol: Http, port: 80, backend: web }, ",
        )
}

/// From the answer that decides to the first moment at which neither engine sends anybody there:
/// it waits for nothing, the next check least of all.
#[test]
fn a_verdict_is_traffic_at_once_on_both_engines() {
    let lab = Lab::new(Shape { targets: 2, ..Shape::default() });
    let _servers = servers(&lab);
    let names = ["t1", "t2"];
    let _web: Vec<_> = lab
        .targets
        .iter()
        .zip(names)
        .map(|(host, name)| Origin::answering(host, WEB, name))
        .collect();
    let checked: Vec<_> = lab.targets.iter().map(|host| Checked::start(host, 200)).collect();
    let service = Service { checked: true, ..Service::of(&lab) };
    let body = with_web(&service, &format!("protocol: Http, port: {CHECKED},"));
    let node = alb_tests::daemon::Node::xdp(lab.interfaces());
    let daemon = alb_tests::daemon::Instance::new(&lab.balancer.namespace, node, &body).start();
    daemon.wait_targets("tcp", "healthy", 2);
    daemon.wait_targets("web", "healthy", 2);
    let client = &lab.client.namespace;
    let kernel = || -> Vec<String> {
        tally(client, vip(), 2).expect("every connection served").into_keys().collect()
    };
    // A connection that was open before is asked too.
    let mut kept = Client::connect(client, (VIP, 80).into());
    let mut proxy = || {
        let ask = |client: &mut Client| client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text();
        let mut names = vec![ask(&mut kept), ask(&mut kept)];
        names.extend([(); 2].map(|()| ask(&mut Client::connect(client, (VIP, 80).into()))));
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(
        (kernel(), proxy()),
        (names.map(str::to_owned).into(), names.map(str::to_owned).into())
    );

    let applied = || value(&metrics(&lab), "alb_apply_duration_seconds_count", &[]);
    let before = applied();
    checked[1].answers(500);
    let decided = wait::until("a failed check", wait::LONG, || {
        checked[1].requests().into_iter().find_map(|(_, at, status)| (status == 500).then_some(at))
    });
    wait::until("the packet path", wait::LONG, || (kernel() == ["t1"]).then_some(()));
    let by_kernel = decided.elapsed();
    wait::until("the proxy", wait::LONG, || (proxy() == ["t1"]).then_some(()));
    let by_proxy = decided.elapsed();
    // Some milliseconds on a machine with nothing else to do; the next check comes after 5 s.
    let most = Duration::from_secs(3);
    assert!(by_kernel < most && by_proxy < most, "{by_kernel:?}, {by_proxy:?}");
    for _ in 0..10 {
        assert_eq!((kernel(), proxy()), (vec!["t1".to_owned()], vec!["t1".to_owned()]));
    }
    // The daemon measures it itself.
    wait::until("its own measure", wait::LONG, || (applied() > before).then_some(()));
}
