//! Upgrades: a WebSocket by its frames (RFC 6455), and how a tunnel ends.

use alb_tests::{
    http::Client,
    origin::{Exchange, Origin, Then},
};

use super::setting::{ORIGIN, Site, client, lab};

/// Key and its answer, as in RFC 6455 §1.3.
const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                   Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Takes the upgrade and echoes each masked frame unmasked until a close frame.
fn echo(exchange: &mut Exchange<'_>) -> std::io::Result<Then> {
    assert_eq!(exchange.values("upgrade"), ["websocket"]);
    assert_eq!(exchange.values("connection"), ["Upgrade"]);
    // The first message comes with the head.
    exchange.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n\x01\x05hello"
    ))?;
    loop {
        let mut frame = Vec::new();
        exchange.copy(6, &mut frame)?;
        let mut data = Vec::new();
        exchange.copy(u64::from(frame[1] & 0x7f), &mut data)?;
        let unmasked = data.iter().zip(frame[2..].iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let mut answer = vec![frame[0], frame[1] & 0x7f];
        answer.extend(unmasked);
        exchange.send(answer)?;
        if frame[0] & 0x0f == 8 {
            return Ok(Then::Close);
        }
    }
}

/// A final frame from a client (§5.2).
fn frame(opcode: u8, data: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let length = u8::try_from(data.len()).expect("a short frame");
    let mut frame = vec![0x80 | opcode, 0x80 | length];
    frame.extend(mask);
    frame.extend(data.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn upgraded(client: &mut Client) {
    let head = client.head().expect("an answer");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for (name, value) in [("connection", "upgrade"), ("sec-websocket-accept", ACCEPT)] {
        let values = alb_tests::http::values(&head, name);
        assert!(values.len() == 1 && values[0].eq_ignore_ascii_case(value), "{head}");
    }
}

#[test]
fn frames_pass_both_ways_until_the_close() {
    let lab = lab(1);
    let origin = Origin::start(&lab.targets[0], ORIGIN, echo);
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    // The first frame does not wait for the answer.
    client.send([ASK.as_bytes(), &frame(1, b"early")].concat());
    upgraded(&mut client);
    assert_eq!(client.exactly(7).expect("the first message"), b"\x01\x05hello");
    assert_eq!(client.exactly(7).expect("an echo"), b"\x81\x05early");
    for length in [0_u8, 1, 125] {
        let data = vec![length; length.into()];
        client.send(frame(2, &data));
        let expected = [&[0x82, length], data.as_slice()].concat();
        assert_eq!(client.exactly(expected.len()).expect("an echo"), expected);
    }
    client.send(frame(8, b"\x03\xe8"));
    assert_eq!(client.rest().expect("a close frame and the end"), b"\x88\x02\x03\xe8");
    drop(client);
    origin.wait_open(0);
}

#[test]
fn an_upgrade_that_is_declined_is_an_ordinary_response() {
    let lab = lab(1);
    let origin = Origin::answering(&lab.targets[0], ORIGIN, "no");
    let _daemon = Site::of(&lab).serve(&lab);
    let mut client = client(&lab);
    for _ in 0..2 {
        let response = client.ask(ASK);
        assert_eq!((response.status, response.text().as_str()), (200, "no"));
    }
    assert_eq!(origin.requests(), 2);
}

#[test]
fn tunnels_pass_half_closes_and_end_with_either_side() {
    let lab = lab(1);
    let act = |exchange: &mut Exchange<'_>| {
        exchange.send("HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
        if exchange.target() == "/chat" {
            // Answers only after the client's end.
            while !exchange.is_closed() {}
            return exchange.say("bye");
        }
        Ok(Then::Reset)
    };
    let origin = Origin::start(&lab.targets[0], ORIGIN, act);
    let _daemon = Site::of(&lab).serve(&lab);
    let mut talk = client(&lab);
    talk.send(ASK);
    talk.head().expect("an upgrade");
    talk.finish();
    assert_eq!(talk.rest().expect("the answer after the half-close"), b"bye");
    origin.wait_open(0);

    let mut talk = client(&lab);
    talk.send(ASK.replace("/chat", "/reset"));
    talk.head().expect("an upgrade");
    talk.closed();
}

#[test]
fn idle_tunnels_end_after_the_idle_time() {
    let lab = lab(1);
    let origin = Origin::start(&lab.targets[0], ORIGIN, echo);
    let _daemon = Site::of(&lab).listener("connectionIdleTimeSeconds: 1").serve(&lab);
    let mut client = client(&lab);
    client.send(ASK);
    upgraded(&mut client);
    client.exactly(7).expect("the first message");
    client.closed();
    origin.wait_open(0);
}
