//! What a target may say after a body, and what it may not.

use super::lab::*;

/// What frames, routes or authenticates, and what belongs to one hop.
const FORBIDDEN: [&str; 8] = [
    "content-length",
    "host",
    "authorization",
    "cookie",
    "proxy-authorization",
    "trailer",
    "expect",
    "x-forwarded-for",
];

#[test]
fn targets_add_nothing_that_frames_or_routes() {
    run(async {
        for (name, passes) in FORBIDDEN
            .map(|name| (name, false))
            .into_iter()
            .chain([("x-hop", false), ("x-sum", true)])
        {
            let (listener, target) = origin().await;
            let lab = Lab::new(&[target]).await;
            let mut client = lab.client().await;
            let (response, _) = client.send_request(get("/"), true).unwrap();
            let mut stream = accept(&listener).await;
            read_until(&mut stream, "\r\n\r\n").await;
            let head = "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked";
            send(&mut stream, &format!("{head}\r\n\r\n2\r\nok\r\n")).await;
            let mut body = within(response).await.unwrap().into_body();
            assert_eq!(&within(body.data()).await.unwrap().unwrap()[..], b"ok");
            send(&mut stream, &format!("0\r\n{name}: 5\r\n\r\n")).await;
            let more = match within(body.data()).await {
                None => within(body.trailers()).await,
                Some(Err(error)) => Err(error),
                Some(Ok(data)) => panic!("{name}: {data:?}"),
            };
            match more {
                Ok(trailers) => {
                    assert!(
                        passes && trailers.is_some_and(|trailers| trailers[name] == "5"),
                        "{name}"
                    );
                }
                Err(error) => assert!(!passes && error.is_reset(), "{name}: {error}"),
            }
        }
    });
}
