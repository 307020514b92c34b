//! The end of the daemon, as requests see it.

use std::sync::{Mutex, mpsc};

use alb_tests::origin::{Exchange, Origin};

use super::setting::{ORIGIN, Site, client, lab};

#[test]
fn responses_are_finished_and_idle_connections_closed() {
    let lab = lab(1);
    let (go, next) = mpsc::channel::<()>();
    let next = Mutex::new(next);
    let act = move |exchange: &mut Exchange<'_>| {
        if exchange.target() == "/slow" {
            next.lock().expect("one reader").recv().expect("a word of the test");
        }
        exchange.answer(200, "ok")
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let mut daemon = Site::of(&lab).serve(&lab);
    let mut idle = client(&lab);
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    let mut busy = client(&lab);
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_requests(2);
    daemon.ask_to_end();
    idle.closed();
    go.send(()).expect("the origin listens");
    let response = busy.response(false).expect("the response that was begun");
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(response.values("connection"), ["close"]);
    busy.closed();
    assert!(daemon.ended().success(), "{}", daemon.log());
}
