//! Clients that ask for work and never for an answer: each kind of flood is ended, and counted.

use tokio::{io::AsyncWriteExt as _, task::spawn_local};

use super::{
    lab::{Lab, OK, answering, origin, run, until, within},
    raw::{
        CALM, CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, HEADERS, PING, PRIORITY, RESET,
        Raw, SETTINGS, Told, WINDOW, block, frame,
    },
};

/// More frames than any budget has.
const MANY: u32 = 20_000;

/// Sends what `make` makes until the connection ends; the code of the GOAWAY, and how many were
/// sent before that was noticed.
async fn flood(lab: &Lab, first: &[u8], make: impl Fn(u32) -> Vec<u8>) -> (Option<u32>, u32) {
    let Raw { reader, mut writer } = Raw::connect(lab, &[]).await;
    let away = spawn_local(Raw::away(reader));
    within(writer.write_all(first)).await.unwrap();
    let mut sent = 0;
    while sent < MANY && !away.is_finished() {
        let batch: Vec<u8> = (sent..sent + 20).flat_map(&make).collect();
        if within(writer.write_all(&batch)).await.is_err() {
            break;
        }
        sent += 20;
        tokio::task::yield_now().await;
    }
    (within(away).await.unwrap(), sent)
}

#[test]
fn each_flood_is_ended_and_counted() {
    let request = block(&GET);
    let post = block(&[(":method", "POST"), GET[1], GET[2], GET[3]]);
    let open = frame(HEADERS, END_HEADERS, 1, &post);
    run(async {
        let (listener, target) = origin().await;
        for (name, first, make, word) in [
            (
                "rapid reset",
                Vec::new(),
                Box::new(|n: u32| {
                    let stream = n * 2 + 1;
                    let ask = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request);
                    [ask, frame(RESET, 0, stream, &8_u32.to_be_bytes())].concat()
                }) as Box<dyn Fn(u32) -> Vec<u8>>,
                "h2_reset_flood",
            ),
            ("ping", Vec::new(), Box::new(|_| frame(PING, 0, 0, &[0; 8])), "h2_control_flood"),
            ("settings", Vec::new(), Box::new(|_| frame(SETTINGS, 0, 0, &[])), "h2_control_flood"),
            (
                "priority",
                Vec::new(),
                Box::new(|n| frame(PRIORITY, 0, n * 2 + 1, &[0, 0, 0, 0, 1])),
                "h2_control_flood",
            ),
            ("unknown", Vec::new(), Box::new(|_| frame(99, 0, 0, &[1])), "h2_control_flood"),
            (
                "empty data",
                open.clone(),
                Box::new(|_| frame(DATA, 0, 1, &[])),
                "h2_empty_frame_flood",
            ),
            (
                "continuation",
                frame(HEADERS, END_STREAM, 1, &request),
                Box::new(|_| frame(CONTINUATION, 0, 1, &[])),
                "h2_empty_frame_flood",
            ),
            (
                "window update",
                open.clone(),
                Box::new(|n| frame(WINDOW, 0, n % 2, &1_u32.to_be_bytes())),
                "h2_window_update_flood",
            ),
        ] {
            let lab = Lab::new(&[target]).await;
            let (code, sent) = flood(&lab, &first, make).await;
            // The crate has limits of its own, and may find one broken first.
            assert!(sent < MANY, "{name}: {sent} frames were taken");
            assert!(code.is_none_or(|code| code == CALM), "{name}: {code:?}");
            until(|| lab.refused(word) + lab.refused("h2_enhance_your_calm") == 1).await;
            until(|| lab.totals().in_flight == 0).await;
        }
        drop(listener);
    });
}

#[test]
fn resets_after_the_target_was_asked_are_counted_too() {
    run(async {
        let lab = Lab::new(&[answering(OK).await]).await;
        let mut raw = Raw::connect(&lab, &[]).await;
        let request = block(&GET);
        let mut stream = 1;
        let told = loop {
            // A request that is answered shows that those before it were looked at.
            for _ in 0..10 {
                raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &request)).await;
                raw.send(&frame(RESET, 0, stream, &8_u32.to_be_bytes())).await;
                stream += 2;
            }
            raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &request)).await;
            match raw.told(stream).await {
                Told::Status(200) => stream += 2,
                told @ (Told::Status(_) | Told::Reset(_) | Told::Away(_) | Told::Closed) => {
                    break told;
                }
            }
            assert!(stream < 10_000, "it goes on");
        };
        assert!(matches!(told, Told::Away(CALM) | Told::Closed), "{told:?}");
        until(|| lab.refused("h2_reset_flood") == 1).await;
    });
}

#[test]
fn a_browser_that_leaves_a_page_is_no_flood() {
    run(async {
        let (_listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let mut raw = Raw::connect(&lab, &[]).await;
        let request = block(&GET);
        for n in 0..100 {
            raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &request)).await;
        }
        until(|| lab.totals().in_flight == 100).await;
        for n in 0..100 {
            raw.send(&frame(RESET, 0, n * 2 + 1, &8_u32.to_be_bytes())).await;
        }
        until(|| lab.refused("client_gone") == 100).await;
        let fields = [(":method", "TRACE"), GET[1], GET[2], GET[3]];
        raw.request(201, &fields).await;
        assert_eq!(raw.told(201).await, Told::Status(405), "the connection goes on");
    });
}

#[test]
fn header_bombs_are_refused() {
    run(async {
        let lab = Lab::new(&[answering(OK).await]).await;
        let mut raw = Raw::connect(&lab, &[]).await;
        // 4000 bytes into the dynamic table, then named again and again: one byte each.
        let mut bomb = block(&GET);
        bomb.extend([0x40, 3, b'x', b'-', b'a', 127, 0xa1, 0x1e]);
        bomb.extend([b'v'; 4000]);
        bomb.extend([0xbe; 12_000]);
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await;
        let told = raw.told(1).await;
        assert!(
            matches!(told, Told::Status(431) | Told::Away(_) | Told::Closed),
            "48 MB of fields: {told:?}"
        );
    });
}

#[test]
fn no_more_streams_than_announced() {
    run(async {
        let (_listener, target) = origin().await;
        let lab = Lab::new(&[target]).await;
        let mut raw = Raw::connect(&lab, &[]).await;
        let request = block(&GET);
        for n in 0..200 {
            raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &request)).await;
        }
        // REFUSED_STREAM: may be sent again (RFC 9113 §8.7).
        assert_eq!(raw.told(128 * 2 + 1).await, Told::Reset(7));
        assert!(lab.totals().in_flight <= 128);
    });
}
