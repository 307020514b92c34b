//! A tls listener: TLS ends here, the bytes go on, and the target is told whose they are.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Child, ChildStdin, Stdio},
    thread,
};

use alb_tests::{
    server::Server,
    topology::{CLIENT, Host, Lab, VIP},
    wait,
};

use super::{ECDSA, certificate, site};
use crate::{
    http::setting::{ORIGIN, lab},
    seeing::wait_value,
};

/// Greets whoever connects, once it knows whom; then repeats what it is told until `quit`.
fn speaks_first(host: &Host) -> thread::JoinHandle<()> {
    let listener = host.namespace.enter(|| TcpListener::bind(("0.0.0.0", ORIGIN)));
    let listener = listener.expect("a listener");
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(wait::LONG)).expect("a timeout");
        let mut lines = BufReader::new(&stream).lines();
        let mut next = || lines.next().expect("a line").expect("no error");
        writeln!(&stream, "220 {}", next()).expect("a greeting");
        loop {
            let line = next();
            writeln!(&stream, "250 {line}").expect("an answer");
            if line == "quit" {
                return;
            }
        }
    })
}

#[test]
fn a_target_that_speaks_first_knows_the_client() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "c", &["mail.test"], ECDSA, 90);
    let lab = lab(1);
    let server = speaks_first(&lab.targets[0]);
    let mut site = site(&lab, dir.path(), &["c"]).backend("proxyProtocol: true");
    site.protocol = ("Tls", 443);
    let log = dir.path().join("access");
    site.node.push(format!("accessLog: {{ file: {} }}", log.display()));
    let body = site.body().replace("name: all, protocol: Http", "name: all, protocol: Tcp");
    let _daemon = site.serve_body(&lab, &body);

    let mut client = lab.client.namespace.command("openssl");
    client.args(["s_client", "-quiet", "-servername", "mail.test", "-connect"]);
    client.arg(format!("{VIP}:443")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.stderr(Stdio::null()).spawn().expect("openssl is installed");
    let mut stdin = client.stdin.take().expect("a pipe");
    let mut stdout = BufReader::new(client.stdout.take().expect("a pipe"));
    let mut greeting = String::new();
    stdout.read_line(&mut greeting).expect("a greeting before anything was sent");
    let words: Vec<_> = greeting.split_whitespace().collect();
    let (client_address, vip) = (CLIENT.to_string(), VIP.to_string());
    let ["220", "PROXY", "TCP4", from, to, port, "443"] = words[..] else { panic!("{greeting}") };
    assert_eq!((from, to), (&*client_address, &*vip));

    stdin.write_all(b"hello\nquit\n").expect("writing");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "250 hello\n250 quit\n");
    // `s_client` fails if the end is not said in TLS.
    drop(stdin);
    assert!(client.wait().expect("an end").success());
    server.join().expect("the server");

    let line = wait::until("the log", wait::LONG, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().next().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok())
    });
    assert_eq!((&line["protocol"], &line["client_port"].to_string()[..]), (&"tls".into(), port));
    assert_eq!(line["ssl_protocol"], "TLSv1.3", "{line}");
    let greeted = format!("220 {}\n", words[1..].join(" ")).len() as u64;
    assert_eq!(line["bytes_sent"], greeted + rest.len() as u64, "{line}");
}

/// A connection that is open until it is dropped.
struct Talk {
    server: String,
    child: Child,
    _stdin: ChildStdin,
}

impl Talk {
    fn open(lab: &Lab) -> Self {
        let mut client = lab.client.namespace.command("openssl");
        client.args(["s_client", "-quiet", "-servername", "mail.test", "-connect"]);
        client.arg(format!("{VIP}:443")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = client.stderr(Stdio::null()).spawn().expect("openssl is installed");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(b"echo\n").expect("writing");
        let mut server = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        stdout.read_line(&mut server).expect("a name");
        Self { server: server.trim().to_owned(), child, _stdin: stdin }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_target_with_the_fewest_connections_for_its_weight_is_next() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "c", &["mail.test"], ECDSA, 90);
    let lab = lab(2);
    let names = ["t1", "t2"];
    let _servers = [0, 1].map(|at: usize| Server::start(&lab.targets[at], ORIGIN, names[at]));
    let mut site = site(&lab, dir.path(), &["c"]).backend("algorithm: LeastConn");
    site.protocol = ("Tls", 443);
    let [heavy, _] = [0, 1].map(|at: usize| lab.targets[at].address.to_string());
    let body = site
        .body()
        .replace("name: all, protocol: Http", "name: all, protocol: Tcp")
        .replace(&format!("{heavy}, port"), &format!("{heavy}, weight: 20, port"));
    let _daemon = site.serve_body(&lab, &body);

    let count =
        |talks: &[Talk]| names.map(|name| talks.iter().filter(|of| of.server == name).count());
    let mut talks: Vec<_> = (0..6).map(|_| Talk::open(&lab)).collect();
    assert_eq!(count(&talks), [4, 2]);
    let (ended, rest): (Vec<_>, Vec<_>) =
        talks.into_iter().enumerate().partition(|(at, of)| of.server == "t1" && *at < 4);
    let ended_count = ended.len();
    assert!(ended_count >= 2, "the first four of six go to both");
    drop(ended);
    talks = rest.into_iter().map(|(_, talk)| talk).collect();
    let open = [("backend", "all"), ("address", &*heavy)];
    wait_value(&lab, "alb_target_in_flight", &open, 4 - ended_count as u64);
    // They go where others have ended.
    talks.extend((0..ended_count).map(|_| Talk::open(&lab)));
    assert_eq!(count(&talks), [4, 2]);
}
