//! Sessions that wait for something stay open while the configuration changes around them.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
};

use alb_tests::{
    database::{POSTGRES, REDIS, psql, redis_cli},
    wait,
};

use super::setting::{REDIS_TLS, TRUSTED, body, engines, lab, postgres, redis, serve, vip};

/// A client that prints something now and then; ended when dropped.
struct Session {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Session {
    fn open(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("starting a client");
        let lines = read(child.stdout.take().expect("it is piped"));
        Self { child, lines }
    }

    fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{text}").expect("the client runs");
    }

    /// Waits for a line that holds this.
    fn hear(&self, what: &str) -> String {
        wait::until(what, wait::LONG, || self.lines.try_iter().find(|line| line.contains(what)))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A listener that was not there before.
const MORE: &str = "  - { name: more, protocol: Tcp, port: 7000, backend: redis }\n";

#[test]
#[ignore = "needs PostgreSQL: cargo xtask test --all"]
fn listen_hears_a_notify_after_a_reload() {
    for engine in engines() {
        let lab = lab();
        let servers = postgres(&lab);
        let daemon = serve(&lab, engine);
        daemon.wait_targets("pg", "healthy", 2);
        let mut session = Session::open(&mut psql(&lab.client.namespace, vip(POSTGRES)));
        session.say("listen alb; select 'at ' || host(inet_server_addr());");
        let at = session.hear("at ");
        let own = lab.targets.iter().position(|host| at.ends_with(&host.address.to_string()));
        let own = own.unwrap_or_else(|| panic!("{at} is no target"));

        for (text, payload) in [(body(&lab, MORE), "one"), (body(&lab, ""), "two")] {
            assert!(daemon.reload(&text), "{}", daemon.log());
            servers[own].query(&format!("notify alb, '{payload}'"));
            // psql shows notifications after a command, those that have come by then.
            let shown = format!("with payload \"{payload}\"");
            wait::until(&shown, wait::LONG, || {
                session.say("select 'asked';");
                session.lines.try_iter().find(|line| line.contains(&shown))
            });
        }
    }
}

#[test]
#[ignore = "needs Redis: cargo xtask test --all"]
fn a_subscriber_hears_what_is_published_after_a_reload() {
    for engine in engines() {
        let lab = lab();
        let servers = redis(&lab);
        let daemon = serve(&lab, engine);
        let client = &lab.client.namespace;
        let subscribe = ["subscribe", "news"];
        let plain = Session::open(redis_cli(client, vip(REDIS)).args(subscribe));
        let mut over_tls = redis_cli(client, vip(REDIS_TLS));
        over_tls.args(["--tls", "--cacert", TRUSTED]).args(subscribe);
        let over_tls = Session::open(&mut over_tls);
        for session in [&plain, &over_tls] {
            session.hear("subscribe");
        }
        for (text, message) in [(body(&lab, MORE), "one"), (body(&lab, ""), "two")] {
            assert!(daemon.reload(&text), "{}", daemon.log());
            let heard = servers.iter().map(|server| server.run(&["publish", "news", message]));
            let heard: u32 = heard.map(|count| count.parse::<u32>().expect("a count")).sum();
            assert_eq!(heard, 2, "{engine}");
            for session in [&plain, &over_tls] {
                session.hear(message);
            }
        }
    }
}
