//! Under load: the death of a target, and clients that do not read.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use alb_tests::{
    http::Client,
    origin::{Exchange, Origin, Then},
    wait,
};

use super::setting::{ORIGIN, Site, client, lab, vip};

#[test]
fn the_death_of_a_target_fails_only_what_was_in_flight_there_and_may_not_be_repeated() {
    let lab = lab(3);
    let mut origins: Vec<_> =
        lab.targets.iter().map(|host| Origin::answering(host, ORIGIN, "ok")).collect();
    let mut site = Site::of(&lab);
    site.node = vec!["workers: 2".to_owned()];
    let _daemon = site.serve(&lab);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let run = |request: &'static str| {
        let mut failed = 0;
        let mut client = Client::connect(&lab.client.namespace, vip());
        while !stop.load(Ordering::Relaxed) {
            match client.ask(request).status {
                200 => {}
                502 => failed += 1,
                other => panic!("answered {other}"),
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        failed
    };
    let more = |count: usize| {
        let wanted = done.load(Ordering::Relaxed) + count;
        wait::until("requests", wait::LONG, || {
            (done.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    };
    let (gets, posts): (Vec<usize>, Vec<usize>) = thread::scope(|scope| {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        let run = &run;
        let start = |request: &'static str| scope.spawn(move || run(request));
        let gets: Vec<_> = (0..4).map(|_| start(get)).collect();
        let posts: Vec<_> = (0..4).map(|_| start(post)).collect();
        {
            let _ends = wait::Ends(&stop);
            more(500);
            origins[0].kill();
            more(500);
        }
        let join = |threads: Vec<thread::ScopedJoinHandle<'_, usize>>| {
            threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
        };
        (join(gets), join(posts))
    });
    assert_eq!(gets, [0; 4], "what may be repeated never fails");
    // One in flight on each connection at most, at the moment of the death.
    assert!(posts.iter().all(|failed| *failed <= 1), "{posts:?}");
    assert!(origins.iter().all(|origin| origin.requests() > 50));
}

/// So many clients ask for a body without end and read nothing of it.
fn slow_readers(count: usize) {
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| {
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 30))?;
        let block = vec![b'x'; 65_536];
        // Ends when the connection does.
        loop {
            exchange.send(&block)?;
        }
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let listener = "timeouts: { writeIdleSeconds: 3 }";
    let daemon = Site::of(&lab).listener(listener).serve(&lab);
    let ask = || {
        let mut client = client(&lab);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    };
    let warm: Vec<_> = (0..count.div_ceil(10)).map(|_| ask()).collect();
    origin.wait_requests(warm.len());
    let before = daemon.resident();
    let mut readers: Vec<_> = (warm.len()..count).map(|_| ask()).collect();
    origin.wait_requests(count);
    let each = daemon.resident().saturating_sub(before) / readers.len() as u64;
    // A copy buffer of 64 KiB, and at most as much for everything else.
    assert!(each < 131_072, "{each} bytes a reader");
    // They are closed, and the target is not left sending.
    wait::until("the end of all", wait::LONG, || (origin.open() == 0).then_some(()));
    readers[0].rest().expect_err("cut off, not ended");
}

#[test]
fn slow_readers_hold_little_memory_and_are_closed() {
    slow_readers(100);
}

#[test]
#[ignore = "a thousand connections and a gigabyte each; part of --all"]
fn a_thousand_slow_readers() {
    slow_readers(1_000);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| {
        let target = exchange.target().to_owned();
        exchange.answer(200, target)?;
        Ok(Then::Next)
    };
    let _origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    let all: Vec<_> = (0..200).map(|at| format!("GET /{at} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(all.concat());
    for at in 0..200 {
        assert_eq!(client.response(false).expect("each is answered").text(), format!("/{at}"));
    }
}
