//! Targets that are removed while requests and tunnels are on them.

use std::time::{Duration, Instant};

use alb_tests::{
    origin::{Exchange, Origin, Then},
    wait,
};

use super::setting::{ORIGIN, Site, client, lab};

const DRAINING: Duration = Duration::from_secs(5);
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                       Connection: Upgrade\r\n\r\n";

/// Echoes in tunnels, begins answers without an end, and says nothing to the rest.
fn act(exchange: &mut Exchange<'_>) -> std::io::Result<Then> {
    match exchange.target() {
        "/chat" => {
            exchange
                .send("HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
            let mut byte = Vec::new();
            loop {
                exchange.copy(1, &mut byte)?;
                exchange.send(std::mem::take(&mut byte))?;
            }
        }
        "/events" => {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n1\n\r\n")?;
        }
        _ => {}
    }
    while !exchange.is_closed() {}
    Ok(Then::Close)
}

#[test]
fn what_is_on_a_removed_target_lives_until_it_has_drained() {
    let lab = lab(2);
    let gone = Origin::start(&lab.targets[0], ORIGIN, act);
    let _stays = Origin::answering(&lab.targets[1], ORIGIN, "elsewhere");
    let site = Site::of(&lab).backend("connectionDrainingSeconds: 5");
    let [first, second] =
        [0, 1].map(|at| Site { targets: vec![lab.targets[at].address], ..site.clone() });
    let daemon = first.serve(&lab);

    let mut tunnel = client(&lab);
    tunnel.send(UPGRADE);
    assert!(tunnel.head().expect("an answer").starts_with("HTTP/1.1 101 "));
    let mut events = client(&lab);
    events.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    events.head().expect("an answer");
    assert_eq!(events.exactly(7).expect("a chunk"), b"2\r\n1\n\r\n");
    let (mut repeatable, mut once) = (client(&lab), client(&lab));
    repeatable.send("GET /silence HTTP/1.1\r\nHost: a\r\n\r\n");
    once.send("POST /silence HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    gone.wait_requests(4);

    let removed = Instant::now();
    assert!(daemon.reload(&second.body()), "{}", daemon.log());
    tunnel.send("x");
    // A machine that takes longer than that to get here finds it ended, rightly.
    let echo = tunnel.exactly(1);
    let lives = echo.as_ref().is_ok_and(|echo| echo == b"x");
    assert!(lives || removed.elapsed() >= DRAINING, "{echo:?}");

    tunnel.closed();
    assert!(removed.elapsed() >= DRAINING, "{:?}", removed.elapsed());
    let rest = events.rest();
    assert!(rest.as_ref().map_or(true, Vec::is_empty), "no end of a body: {rest:?}");
    let response = once.response(false).expect("an answer");
    assert_eq!(response.status, 504);
    let response = repeatable.response(false).expect("an answer");
    assert_eq!(response.status, 504, "it knows no other target");
    wait::until("the target to be told", wait::LONG, || (gone.open() == 0).then_some(()));
    assert_eq!(client(&lab).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "elsewhere");
}
