//! Databases behind a tls listener, with clients that speak TLS from the first byte: `redis-cli --tls`,
//! and for PostgreSQL a socat in front of psql, which before version 17 (`sslnegotiation=direct`)
//! only asks for TLS within its own protocol.

use std::{net::Ipv4Addr, process::Stdio};

use alb_tests::{
    daemon::Node,
    database::{Postgres, output, pgbench, psql, redis_cli},
    netns::must,
    wait,
};

use super::setting::{POSTGRES_TLS, REDIS_TLS, TRUSTED, lab, postgres, redis, serve, vip};

#[test]
#[ignore = "needs Redis: cargo xtask test --all"]
fn redis_over_tls() {
    let lab = lab();
    let servers = redis(&lab);
    let _daemon = serve(&lab, Node::tested());
    let client = &lab.client.namespace;
    let cli = |words: &[&str]| {
        let mut command = redis_cli(client, vip(REDIS_TLS));
        command.args(["--tls", "--cacert", TRUSTED, "--sni", "shop.test"]).args(words);
        command
    };
    let mut names: Vec<String> = (0..4).map(|_| must(&mut cli(&["get", "name"]))).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2, "{names:?}");

    // 3 MB each way: more than any buffer on the way.
    let value = "v".repeat(3 << 20);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("value");
    std::fs::write(&file, &value).expect("writing a file");
    let stored = cli(&["-x", "set", "large"]).stdin(std::fs::File::open(&file).unwrap()).output();
    assert_eq!(String::from_utf8_lossy(&stored.expect("redis-cli").stdout).trim(), "OK");
    let lengths = servers.iter().map(|server| server.run(&["strlen", "large"]));
    assert!(lengths.into_iter().any(|length| length == value.len().to_string()));
    // Connections alternate between the two.
    let read = (0..2).map(|_| must(&mut cli(&["get", "large"])));
    assert!(read.into_iter().any(|read| read.trim_end() == value));

    let in_clear = output(redis_cli(client, vip(REDIS_TLS)).args(["get", "name"]));
    assert!(!in_clear.expect("redis-cli").status.success(), "the listener takes TLS only");
}

#[test]
#[ignore = "needs PostgreSQL: cargo xtask test --all"]
fn postgres_over_tls() {
    let lab = lab();
    let servers = postgres(&lab);
    servers.iter().for_each(Postgres::fill);
    let daemon = serve(&lab, Node::tested());
    daemon.wait_targets("pg-tls", "healthy", 2);
    let client = &lab.client.namespace;
    let mut socat = client.command("socat");
    socat.arg("TCP-LISTEN:5432,bind=127.0.0.1,reuseaddr,fork");
    socat.arg(format!("OPENSSL:{},cafile={TRUSTED},commonname=shop.test", vip(POSTGRES_TLS)));
    let mut socat = socat.stdin(Stdio::null()).spawn().expect("socat");
    let here = (Ipv4Addr::LOCALHOST, 5432).into();
    wait::until("an answer", wait::LONG, || {
        let asked = output(psql(client, here).args(["-c", "select 1"]));
        asked.is_ok_and(|output| output.status.success()).then_some(())
    });
    let ask = || must(psql(client, here).args(["-c", "select inet_server_addr()"]));
    let mut answered: Vec<String> = (0..4).map(|_| ask()).collect();
    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), 2, "{answered:?}");
    let done = must(pgbench(client, here).args(["--select-only", "--client", "4", "--time", "2"]));
    assert!(done.contains("number of failed transactions: 0"), "{done}");
    drop(socat.kill());
    drop(socat.wait());
}
