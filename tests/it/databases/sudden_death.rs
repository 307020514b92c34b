//! A database that is killed under load takes its own sessions with it, and no others.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Stdio,
};

use alb_tests::{
    database::{POSTGRES, Postgres, REDIS, output, pgbench, psql, redis_cli},
    netns::must,
    wait,
};

use super::setting::{engines, lab, postgres, redis, serve, vip};

/// Clients of the load.
const CLIENTS: usize = 8;

#[test]
#[ignore = "needs PostgreSQL: cargo xtask test --all"]
fn only_the_sessions_of_a_killed_postgres_die() {
    for engine in engines() {
        let lab = lab();
        let mut servers = postgres(&lab);
        servers.iter().for_each(Postgres::fill);
        let daemon = serve(&lab, engine);
        daemon.wait_targets("pg", "healthy", 2);
        let client = &lab.client.namespace;

        // Everything a session does, one after the other, on both.
        let mut answered: Vec<String> = (0..4)
            .map(|_| must(psql(client, vip(POSTGRES)).args(["-c", "select inet_server_addr()"])))
            .collect();
        answered.sort();
        answered.dedup();
        assert_eq!(answered.len(), 2, "{engine}: {answered:?}");

        let mut load = pgbench(client, vip(POSTGRES));
        load.args(["--select-only", "--time", "12", "--progress", "1", "--client"]);
        load.arg(CLIENTS.to_string()).stdin(Stdio::null());
        let mut load = load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pgbench");
        let sessions = |server: &Postgres<'_>| {
            let count = "select count(*) from pg_stat_activity where application_name = 'pgbench'";
            server.query(count).parse::<usize>().expect("a count")
        };
        let open = wait::until("every session", wait::LONG, || {
            let open: Vec<usize> = servers.iter().map(sessions).collect();
            (open.iter().sum::<usize>() == CLIENTS).then_some(open)
        });
        assert_eq!(open, [CLIENTS / 2; 2], "{engine}");
        servers[0].kill();

        // What they did each second, then who did not get to the end.
        let mut said = String::new();
        let stderr = load.stderr.take().expect("it is piped");
        BufReader::new(stderr).read_to_string(&mut said).expect("reading");
        let summary = BufReader::new(load.stdout.take().expect("it is piped")).lines();
        let summary: Vec<String> = summary.map_while(Result::ok).collect();
        drop(load.wait());
        let aborted = said.lines().filter(|line| line.contains(" aborted in ")).count();
        assert_eq!(aborted, open[0], "{engine}: {said}\n{summary:?}");
        let of_last_second = said.lines().rfind(|line| line.starts_with("progress: "));
        let rate = of_last_second.and_then(|line| line.split(' ').nth(3)?.parse::<f64>().ok());
        assert!(rate.is_some_and(|rate| rate > 1.0), "{engine}: {said}");

        // Who comes now is sent to the other one.
        daemon.wait_targets("pg", "unhealthy", 1);
        for _ in 0..6 {
            let mut ask = psql(client, vip(POSTGRES));
            let answer = must(ask.args(["-c", "select inet_server_addr()"]));
            assert_eq!(answer.trim(), lab.targets[1].address.to_string(), "{engine}");
        }
    }
}

#[test]
#[ignore = "needs Redis: cargo xtask test --all"]
fn only_the_sessions_of_a_killed_redis_die() {
    for engine in engines() {
        let lab = lab();
        let mut servers = redis(&lab);
        let _daemon = serve(&lab, engine);
        let client = &lab.client.namespace;
        // Each says whose it is, then asks again and again: 600 times, 10 ms apart.
        let mut sessions: Vec<_> = (0..6)
            .map(|_| {
                let mut command = redis_cli(client, vip(REDIS));
                command.args(["-r", "600", "-i", "0.01", "get", "name"]).stdin(Stdio::null());
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut child = command.spawn().expect("redis-cli");
                let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
                let name = lines.next().expect("an answer").expect("text");
                (child, lines, name)
            })
            .collect();
        let victim = lab.targets[0].address.to_string();
        let doomed = sessions.iter().filter(|(_, _, name)| *name == victim).count();
        assert_eq!(doomed, 3, "{engine}");
        servers[0].kill();
        for (child, lines, name) in &mut sessions {
            let answers = 1 + lines.map_while(Result::ok).filter(|line| line == name).count();
            drop(child.wait());
            assert_eq!(answers == 600, *name != victim, "{engine}: {answers} by {name}");
        }
        drop(output(&mut redis_cli(client, vip(REDIS))));
    }
}
