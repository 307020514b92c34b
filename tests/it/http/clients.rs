//! Clients and servers of others, with all they make of the protocol: WebSocket and wrk. They are not
//! part of the set-up of every run: `cargo xtask test --all` installs them and runs these.

use std::{
    path::Path,
    process::{Child, Stdio},
};

use alb_tests::{
    netns::must,
    server::Nginx,
    topology::{Host, VIP},
    wait,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    https::{ECDSA, certificate, section},
    setting::{ORIGIN, Site, lab},
};

/// Debian's, which has the packages that `apt` installs.
const PYTHON: &str = "/usr/bin/python3";

/// A server that repeats what it is told, and then closes as it is asked to.
const ECHO: &str = r#"
import asyncio, websockets
async def echo(peer, path):
    async for message in peer:
        if message == "leave":
            await peer.close(4001, "as you wish")
        await peer.send(message)
async def main():
    async with websockets.serve(echo, "0.0.0.0", 8080, max_size=None, subprotocols=["chat"]):
        print("ready", flush=True)
        await asyncio.Future()
asyncio.run(main())
"#;

/// Talks to `sys.argv[1]`; anything unexpected is an exception.
const TALK: &str = r#"
import asyncio, os, ssl, sys, websockets
async def main(url):
    trust = None
    if url.startswith("wss"):
        trust = ssl._create_unverified_context()
    async with websockets.connect(url, ssl=trust, max_size=None, subprotocols=["chat"]) as peer:
        assert peer.subprotocol == "chat"
        for message in ["", "hello", "\N{SNOWMAN}" * 100_000, b"", os.urandom(5_000_000)]:
            await peer.send(message)
            assert await peer.recv() == message
        # Many at once, while answers come.
        async def feed():
            for number in range(2_000):
                await peer.send(str(number) * 50)
        feeding = asyncio.ensure_future(feed())
        for number in range(2_000):
            assert await peer.recv() == str(number) * 50
        await feeding
        await (await peer.ping())
        # A message in pieces.
        async def pieces():
            for piece in ["a", "b", "c"]:
                yield piece
        await peer.send(pieces())
        assert await peer.recv() == "abc"
        await peer.send("leave")
        try:
            await peer.recv()
        except websockets.ConnectionClosed as closed:
            assert (closed.code, closed.reason) == (4001, "as you wish"), closed
        else:
            raise Exception("still open")
asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60))
print("passed")
"#;

/// A server of [`ECHO`]; killed when dropped.
struct Echo(Child);

impl Echo {
    fn start(host: &Host, log: &Path) -> Self {
        let file = std::fs::File::create(log).expect("a file");
        let mut python = host.namespace.command(PYTHON);
        let error = file.try_clone().expect("a descriptor");
        python.args(["-c", ECHO]).stdin(Stdio::null()).stdout(file).stderr(error);
        let echo = Self(python.spawn().expect("python3 is there"));
        let said = || std::fs::read_to_string(log).expect("a file");
        let started = wait::within(wait::LONG, || said().contains("ready").then_some(()));
        assert!(started.is_some(), "python3-websockets, by `cargo xtask test --all`: {}", said());
        echo
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
#[ignore = "needs python3-websockets: cargo xtask test --all"]
fn a_websocket_library_talks_to_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path(), "c", &["shop.test"], ECDSA, 90);
    let lab = lab(1);
    let _echo = Echo::start(&lab.targets[0], &dir.path().join("echo"));
    let mut site = Site::of(&lab).with(
        "listeners",
        "{ name: tls, protocol: Https, port: 443, backend: all, certificates: [c] }",
    );
    site.file = section(dir.path(), &["c"]);
    let _daemon = site.serve(&lab);
    for url in [format!("ws://{VIP}/chat"), format!("wss://{VIP}/chat")] {
        let mut python = lab.client.namespace.command(PYTHON);
        assert_eq!(must(python.args(["-c", TALK, &url])), "passed\n", "{url}");
    }
}

#[test]
#[ignore = "needs wrk: cargo xtask test --all"]
fn wrk_sees_no_failure_through_a_reload_and_a_takeover() {
    let lab = lab(2);
    let start = |host: &Host| Nginx::start(&host.namespace, ORIGIN, "web").expect("nginx starts");
    let _web: Vec<_> = lab.targets.iter().map(start).collect();
    let mut site = Site::of(&lab);
    site.node = vec!["workers: 2".to_owned()];
    let mut daemon = site.serve(&lab);
    let mut wrk = lab.client.namespace.command("wrk");
    wrk.args(["-t", "1", "-c", "32", "-d", "300s", "--timeout", "10s", &format!("http://{VIP}/")]);
    let wrk = wrk.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("wrk is installed");
    let served = |more: u64| {
        let requests = || {
            let metrics = crate::seeing::metrics(&lab);
            let labels = [("listener", "web"), ("class", "2xx")];
            // A new daemon has none before the first request.
            crate::seeing::values(&metrics, "alb_http_requests_total", &labels).iter().sum::<u64>()
        };
        let before = requests();
        wait::until("requests", wait::LONG, || (requests() > before + more).then_some(()));
    };
    served(200);
    let fewer = Site { targets: site.targets[..1].to_vec(), ..site.clone() };
    for body in [fewer.body(), site.body()] {
        assert!(daemon.reload(&body), "{}", daemon.log());
        served(200);
    }
    daemon.take_over();
    served(200);
    let wrk_id = i32::try_from(wrk.id()).expect("process ids are small");
    kill(Pid::from_raw(wrk_id), Signal::SIGINT).expect("wrk runs");
    let output = wrk.wait_with_output().expect("wrk says what it saw");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // It prints either only if there was any.
    for word in ["Socket errors", "Non-2xx"] {
        assert!(!said.contains(word), "{said}");
    }
    assert!(said.contains(" requests in "), "{said}");
}
