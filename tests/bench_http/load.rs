//! Load generators and what they say: wrk for HTTP/1.1 and TCP, h2load for h2 and for paced load.

use std::{fs, process::Command, time::Duration};

use alb_tests::netns::must;

use crate::arena::Arena;

/// What one run of load did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Done {
    /// Requests answered.
    pub(crate) requests: u64,
    /// Requests that failed or were answered with an error.
    pub(crate) failed: u64,
}

/// wrk with one thread; `headers` as in `Name: value`.
pub(crate) fn wrk(
    arena: &Arena,
    url: &str,
    connections: u32,
    seconds: u32,
    headers: &[&str],
) -> Done {
    let mut command = arena.loader("wrk");
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]);
    for header in headers {
        command.args(["-H", header]);
    }
    parse_wrk(&must(command.arg(url)))
}

/// h2load over h2.
pub(crate) fn h2load(arena: &Arena, url: &str, clients: u32, streams: u32, seconds: u32) -> Done {
    let mut command = arena.loader("h2load");
    command.args(["-t1", &format!("-c{clients}"), &format!("-m{streams}")]);
    command.arg(format!("-D{seconds}")).arg(url);
    parse_h2load(&must(&mut command))
}

/// HTTP/1.1 at a fixed rate a second; the 99th percentile of the time to the whole answer.
pub(crate) fn paced(
    arena: &Arena,
    url: &str,
    clients: u32,
    rate: u32,
    seconds: u32,
) -> (Done, Duration) {
    let log = arena.scratch();
    drop(fs::remove_file(&log));
    let mut command: Command = arena.loader("h2load");
    command.args(["--h1", "-t1", &format!("-c{clients}"), &format!("-D{seconds}")]);
    command.arg(format!("--rps={}", f64::from(rate) / f64::from(clients)));
    let done = parse_h2load(&must(command.arg(format!("--log-file={}", log.display())).arg(url)));
    let text = fs::read_to_string(&log).expect("h2load's log");
    // Start, status and microseconds of each request.
    let mut times: Vec<u64> =
        text.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse().ok()).collect();
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    (done, Duration::from_micros(p99))
}

fn number_before(text: &str, what: &str) -> Option<u64> {
    let before = &text[..text.find(what)?];
    before.split_whitespace().next_back()?.parse().ok()
}

fn parse_wrk(text: &str) -> Done {
    let requests = number_before(text, " requests in ").expect("wrk says how many requests");
    let after = |what: &str| {
        let rest = &text[text.find(what)? + what.len()..];
        rest.split(|letter: char| !letter.is_ascii_digit())
            .find(|word| !word.is_empty())?
            .parse()
            .ok()
    };
    let errors = text.lines().find(|line| line.contains("Socket errors:"));
    let sockets: u64 = errors.map_or(0, |line| {
        line.split(|letter: char| !letter.is_ascii_digit())
            .filter_map(|word| word.parse::<u64>().ok())
            .sum()
    });
    let refused: u64 = after("Non-2xx or 3xx responses:").unwrap_or(0);
    Done { requests, failed: sockets + refused }
}

fn parse_h2load(text: &str) -> Done {
    let line = text.lines().find(|line| line.starts_with("requests:"));
    let line = line.expect("h2load says how many requests");
    let succeeded = number_before(line, " succeeded").expect("succeeded requests");
    let failed = number_before(line, " failed").unwrap_or(0);
    Done { requests: succeeded, failed }
}
