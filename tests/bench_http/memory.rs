//! Rows about memory: what an idle connection costs, whether thousands of them leave anything
//! behind, and what slow readers of a huge body cost.

use std::time::Duration;

use alb_tests::wait;

use crate::{
    arena::Arena,
    clients::{Client, Speaks},
    cpu::usage,
    load,
    peer::{Contender, Kind, Proxy},
};

/// Idle connections; two descriptors each would not fit into one process's limit twice.
const IDLE: usize = 9_000;
/// Clients that hardly read.
const SLOW: usize = 1_000;
/// Time in which everything that slow readers do not take fills up.
const WARM: Duration = Duration::from_secs(10);
/// How long slow readers are looked at after that.
const WATCH: Duration = Duration::from_secs(15);

/// Prints the rows; each proxy is started afresh for each.
pub(crate) fn rows(contenders: &[Contender], wanted: &dyn Fn(&str) -> bool) {
    // Runtimes that give memory back whenever they like would only blur the table.
    let steady = |one: &&Contender| {
        matches!(one.kind, Kind::Alb | Kind::Nginx | Kind::Haproxy | Kind::Haproxy28)
    };
    let contenders: Vec<&Contender> = contenders.iter().filter(steady).collect();
    let fresh = |contender| {
        let arena = Arena::empty();
        let proxy = arena.start(contender, 10, false);
        load::wrk(&arena, &format!("http://{}/small", proxy.address), 64, 1, &[]);
        load::wrk(&arena, &format!("https://{}/small", proxy.address), 64, 1, &[]);
        (proxy, arena)
    };
    for (name, speaks) in
        [("memory, idle plain", Speaks::Http), ("memory, idle TLS", Speaks::Https)]
    {
        if wanted(name) {
            println!("\n{name}: {IDLE} kept-alive connections after one request each, twice");
            for &contender in &contenders {
                let (proxy, arena) = fresh(contender);
                idle(&arena, &proxy, speaks);
            }
        }
    }
    for (name, speaks) in [
        ("memory, slow readers", Speaks::Http),
        ("memory, slow TLS readers", Speaks::Https),
        ("memory, slow h2 readers", Speaks::H2),
    ] {
        if wanted(name) {
            println!("\n{name}: {SLOW} idle connections come to read 1 GiB at a trickle, twice");
            for &contender in &contenders {
                let (proxy, arena) = fresh(contender);
                slow_readers(&arena, &proxy, speaks);
            }
        }
    }
}

/// Opens all and holds them, closes them, and does the same again.
fn idle(arena: &Arena, proxy: &Proxy, speaks: Speaks) {
    let before = usage(proxy.group()).resident;
    let first = held(arena, proxy, speaks);
    let closed = settled(proxy);
    let second = held(arena, proxy, speaks);
    println!(
        "  {:<12} {:>6.1} KiB a connection; {} -> {} MiB; closed {}; again {} ({:+.1} %)",
        proxy.contender.name,
        each(before, first, IDLE),
        before >> 20,
        first >> 20,
        closed >> 20,
        second >> 20,
        growth(first, second),
    );
}

/// Resident memory while all connections are idle.
fn held(arena: &Arena, proxy: &Proxy, speaks: Speaks) -> u64 {
    let mut clients = Client::open(arena, proxy.address, speaks, IDLE);
    clients.iter_mut().for_each(Client::ask_little);
    settled(proxy)
}

/// Lets slow readers come twice; the second time says what the first, the warm-up, left behind.
fn slow_readers(arena: &Arena, proxy: &Proxy, speaks: Speaks) {
    let first = trickle(arena, proxy, speaks);
    let closed = settled(proxy);
    let second = trickle(arena, proxy, speaks);
    println!(
        "  {:<12} {:>6.1} KiB a reader ({:+.1} % of idle); {} -> {} MiB; then {} ({:+.1} %); closed {}; again {} ({:+.1} %)",
        proxy.contender.name,
        each(first.idle, first.filled, SLOW),
        growth(first.idle, first.filled),
        first.idle >> 20,
        first.filled >> 20,
        first.most >> 20,
        growth(first.filled, first.most),
        closed >> 20,
        second.most >> 20,
        growth(first.most, second.most),
    );
}

/// Resident memory with slow readers, bytes.
struct Trickle {
    /// Before they ask for much.
    idle: u64,
    /// The most until everything that they do not take has filled up.
    filled: u64,
    /// The most after that.
    most: u64,
}

/// Idle connections come to read slowly, and close in the middle of it.
fn trickle(arena: &Arena, proxy: &Proxy, speaks: Speaks) -> Trickle {
    let mut clients = Client::open(arena, proxy.address, speaks, SLOW);
    clients.iter_mut().for_each(Client::ask_little);
    let idle = settled(proxy);
    clients.iter_mut().for_each(Client::ask_much);
    let mut most = |time: Duration| {
        let start = std::time::Instant::now();
        let mut most = 0;
        while start.elapsed() < time {
            // A trickle, so that nobody takes the client for dead.
            clients.iter_mut().for_each(Client::read_some);
            most = most.max(usage(proxy.group()).resident);
        }
        most
    };
    let filled = most(WARM);
    Trickle { idle, filled, most: most(WATCH) }
}

#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn growth(before: u64, after: u64) -> f64 {
    (after as f64 / before as f64 - 1.0) * 100.0
}

/// KiB a connection.
#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
fn each(before: u64, after: u64, count: usize) -> f64 {
    after.saturating_sub(before) as f64 / count as f64 / 1024.0
}

/// Resident memory once it has stopped growing and shrinking.
fn settled(proxy: &Proxy) -> u64 {
    /// What does not count as either, bytes.
    const STILL: u64 = 256 << 10;
    let mut last = usage(proxy.group()).resident;
    let mut calm = 0;
    wait::until("memory to stop growing", Duration::from_secs(20), || {
        let now = usage(proxy.group()).resident;
        if now.abs_diff(last) > STILL {
            (calm, last) = (0, now);
        } else {
            calm += 1;
        }
        (calm >= 50).then_some(now)
    })
}
