//! Targets whose time is over while requests and tunnels are on them.

use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use super::lab::*;
use crate::{
    model::{LogFormat, UnhealthyFlows},
    state::Health,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
const UPGRADE: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A listener on a target that is first in turn and another one.
async fn two(log: Option<&Log>) -> (Lab, TcpListener, TcpListener) {
    let ((one, first), (other, second)) = (origin().await, origin().await);
    let lab = Lab::logging(&[first, second], log.map(|log| &*log.log), |_, backend| {
        backend.connection_draining = LONG / 100;
    })
    .await;
    (lab, one, other)
}

/// From now on there is no first target; it has less than a second.
fn remove_the_first(lab: &Lab) {
    let mut model = lab.model.clone();
    model.load_balancers[0].target_groups[0].targets.remove(0);
    lab.replace(&model, &[]);
}

async fn is_reset(stream: &mut tokio::net::TcpStream) {
    let mut rest = Vec::new();
    let ended = timeout(LONG, stream.read_to_end(&mut rest)).await.expect("an end");
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn refusals(lab: &Lab) -> Vec<(String, u64)> {
    let totals = lab.slot.get().shared.stats.totals();
    some(&totals.refusals).into_iter().map(|(word, n)| (word.to_owned(), n)).collect()
}

#[test]
fn a_tunnel_is_reset_on_both_sides_and_its_bytes_are_counted() {
    run(async {
        let log = Log::start(LogFormat::Json);
        let (lab, listener, _other) = two(Some(&log)).await;
        let mut client = lab.connect().await;
        client.send(UPGRADE).await;
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        let switch = b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        target.write_all(switch).await.unwrap();
        client.until("\r\n\r\n").await;
        let backend = || lab.slot.get().backend.shared.stats.totals();
        let listener = || lab.slot.get().shared.stats.totals();
        let (out, back) = (backend().bytes_out, listener().bytes_out);
        client.send(b"ping").await;
        read_until(&mut target, "ping").await;
        target.write_all(b"pong!").await.unwrap();
        client.until("pong!").await;
        // Now, not when it ends.
        until(|| backend().bytes_out == out + 4 && backend().bytes_in == switch.len() as u64 + 5)
            .await;
        until(|| listener().bytes_in == UPGRADE.len() as u64 + 4).await;
        until(|| listener().bytes_out == back + 5).await;
        remove_the_first(&lab);
        is_reset(&mut target).await;
        is_reset(&mut client.0).await;
        assert_eq!(refusals(&lab), [("target_drained".to_owned(), 1)]);
        assert_eq!(some(&backend().errors), []);
        let text = log.text(&lab.worker).await;
        assert!(text.contains("\"target_drained\""), "{text}");
    });
}

#[test]
fn a_request_that_waits_for_its_answer_goes_elsewhere_if_it_may() {
    run(async {
        for (request, again) in [(GET, true), (POST, false)] {
            let (lab, listener, other) = two(None).await;
            let mut client = lab.connect().await;
            client.send(request).await;
            let mut target = accept(&listener).await;
            read_until(&mut target, "\r\n\r\n").await;
            remove_the_first(&lab);
            is_reset(&mut target).await;
            if again {
                let mut target = accept(&other).await;
                read_until(&mut target, "\r\n\r\n").await;
                target.write_all(OK.as_bytes()).await.unwrap();
                assert_eq!(statuses(&client.until("\r\n\r\nok").await), ["200"]);
                assert_eq!(refusals(&lab), []);
            } else {
                assert_eq!(statuses(&client.until("answer in time.\n").await), ["504"]);
                assert_eq!(refusals(&lab), [("target_drained".to_owned(), 1)]);
            }
        }
    });
}

#[test]
fn a_body_that_goes_on_is_cut_off_and_does_not_look_whole() {
    run(async {
        // Copied, until the end, moved by the kernel.
        for framing in ["Transfer-Encoding: chunked", "X: y", "Content-Length: 1000000"] {
            let (lab, listener, _other) = two(None).await;
            let mut client = lab.connect().await;
            client.send(GET).await;
            let mut target = accept(&listener).await;
            read_until(&mut target, "\r\n\r\n").await;
            let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n3\r\nabc\r\n");
            target.write_all(head.as_bytes()).await.unwrap();
            client.until("abc\r\n").await;
            remove_the_first(&lab);
            is_reset(&mut target).await;
            let mut rest = Vec::new();
            let ended = timeout(LONG, client.0.read_to_end(&mut rest)).await.expect("an end");
            assert!(rest.is_empty(), "{framing}: {rest:?}");
            assert!(ended.is_err() || framing != "X: y", "{framing}");
            until(|| refusals(&lab) == [("target_drained".to_owned(), 1)]).await;
        }
    });
}

#[test]
fn a_target_that_fails_keeps_what_it_has_unless_that_is_to_be_reset() {
    run(async {
        for policy in [UnhealthyFlows::Keep, UnhealthyFlows::Reset] {
            let (lab, listener, _other) = two(None).await;
            let mut model = lab.model.clone();
            model.load_balancers[0].backends[0].unhealthy_flows = policy;
            let mut client = lab.connect().await;
            client.send(POST).await;
            let mut target = accept(&listener).await;
            read_until(&mut target, "\r\n\r\n").await;
            lab.replace(&model, &[(0, Health::Unhealthy)]);
            if policy == UnhealthyFlows::Reset {
                is_reset(&mut target).await;
                assert_eq!(statuses(&client.until("answer in time.\n").await), ["504"]);
            } else {
                read_until(&mut target, "abc").await;
                target.write_all(OK.as_bytes()).await.unwrap();
                assert_eq!(statuses(&client.until("\r\n\r\nok").await), ["200"]);
            }
        }
    });
}
