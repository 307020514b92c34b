//! Clients and targets that are too slow.

use tokio::io::AsyncReadExt as _;

use super::{
    lab::{
        Lab, OK, SHORT, accept, answering, get, origin, post, read_until, run, send, talk, until,
        within,
    },
    raw::{
        CALM, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PING, Raw, Told, WINDOW, block, frame,
    },
};

#[test]
fn a_header_block_has_its_time() {
    run(async {
        let lab = Lab::with(&[answering(OK).await], |listener, _| {
            listener.http.as_mut().unwrap().header_timeout = SHORT;
        })
        .await;
        let mut raw = Raw::connect(&lab, &[]).await;
        raw.request(1, &GET).await;
        assert_eq!(raw.told(1).await, Told::Status(200));
        raw.send(&frame(HEADERS, END_STREAM, 3, &block(&GET))).await;
        assert_eq!(raw.told(3).await, Told::Away(CALM));
        // Nothing but a part of the preface.
        let mut silent = tokio::net::TcpStream::connect(lab.address).await.unwrap();
        send(&mut silent, "PRI * HT").await;
        let mut rest = Vec::new();
        within(silent.read_to_end(&mut rest)).await.unwrap();
        until(|| lab.refused("slow_request") == 2).await;
    });
}

#[test]
fn a_body_has_its_time() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::with(&[target], |listener, _| {
            listener.http.as_mut().unwrap().body_idle_timeout = SHORT;
        })
        .await;
        let (response, mut body) = lab.client().await.send_request(post("/"), false).unwrap();
        body.send_data("some".into(), false).unwrap();
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "some\r\n").await;
        assert_eq!(within(response).await.unwrap().status(), 408);
        assert!(within(stream.read(&mut [0])).await.is_err(), "the target is reset");
        assert_eq!(lab.refused("slow_body"), 1);
    });
}

#[test]
fn a_target_has_its_time() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::with(&[target], |_, backend| backend.response_timeout = SHORT).await;
        let mut client = lab.client().await;
        let asked = tokio::task::spawn_local(async move { talk(&mut client, get("/")).await.0 });
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(within(asked).await.unwrap().status(), 504);
        assert_eq!(lab.refused("response_timeout"), 1);
    });
}

#[test]
fn readers_without_a_window_have_their_time_and_cost_little() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::with(&[target], |listener, _| {
            listener.http.as_mut().unwrap().write_idle_timeout = SHORT;
        })
        .await;
        // SETTINGS_INITIAL_WINDOW_SIZE = 0.
        let mut raw = Raw::connect(&lab, &[0, 4, 0, 0, 0, 0]).await;
        raw.request(1, &GET).await;
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "\r\n\r\n").await;
        send(&mut stream, OK).await;
        assert_eq!(raw.told(1).await, Told::Status(200));
        assert_eq!(raw.told(1).await, Told::Reset(8), "CANCEL");
        until(|| lab.refused("slow_reader") == 1).await;
        assert_eq!(lab.totals().requests["4xx"], 1, "499");
        // One byte of window is one byte of data.
        raw.request(3, &GET).await;
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "\r\n\r\n").await;
        raw.send(&frame(WINDOW, 0, 3, &1_u32.to_be_bytes())).await;
        send(&mut stream, OK).await;
        loop {
            let (kind, of, payload) = raw.next().await.unwrap();
            if (kind, of) == (0, 3) {
                assert_eq!(payload, b"o");
                break;
            }
        }
    });
}

#[test]
fn idle_connections_are_told_to_go() {
    run(async {
        let lab =
            Lab::with(&[answering(OK).await], |listener, _| listener.idle_timeout = SHORT).await;
        let mut raw = Raw::connect(&lab, &[]).await;
        raw.request(1, &GET).await;
        assert_eq!(raw.told(1).await, Told::Status(200));
        loop {
            let (kind, _, payload) = raw.next().await.expect("GOAWAY before the end");
            if kind == GOAWAY {
                assert_eq!(payload[4..8], [0; 4], "NO_ERROR");
                break;
            }
        }
    });
}

#[test]
fn silent_clients_with_streams_are_asked_whether_they_are_there() {
    run(async {
        let (listener, target) = origin().await;
        let lab = Lab::with(&[target], |listener, _| listener.idle_timeout = SHORT).await;
        let mut raw = Raw::connect(&lab, &[]).await;
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&GET))).await;
        let mut stream = accept(&listener).await;
        read_until(&mut stream, "\r\n\r\n").await;
        let mut pings = 0;
        while pings < 2 {
            match raw.next().await.expect("the connection goes on") {
                (PING, _, payload) => {
                    pings += 1;
                    raw.send(&frame(PING, 1, 0, &payload)).await;
                }
                (kind, ..) => assert_ne!(kind, GOAWAY),
            }
        }
        send(&mut stream, OK).await;
        assert_eq!(raw.told(1).await, Told::Status(200));
    });
}
