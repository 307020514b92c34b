//! Targets whose time is over while requests are on them.

use tokio::net::TcpListener;

use super::lab::*;

/// A listener on a target that is first in turn and another one.
async fn two() -> (Lab, TcpListener, TcpListener) {
    let ((one, first), (other, second)) = (origin().await, origin().await);
    let change = |_: &mut _, backend: &mut crate::model::Backend| {
        backend.connection_draining = SHORT / 3;
    };
    (Lab::with(&[first, second], change).await, one, other)
}

/// From now on there is no first target; it has less than a second.
fn remove_the_first(lab: &Lab) {
    lab.change(|balancer| {
        balancer.target_groups[0].targets.remove(0);
    });
}

#[test]
fn a_request_that_waits_for_its_answer_goes_elsewhere_if_it_may() {
    run(async {
        for again in [true, false] {
            let (lab, listener, other) = two().await;
            let mut client = lab.client().await;
            let request = if again { get("/") } else { post("/") };
            let (response, _) = client.send_request(request, true).unwrap();
            let mut target = accept(&listener).await;
            read_until(&mut target, "\r\n\r\n").await;
            remove_the_first(&lab);
            if again {
                let mut target = accept(&other).await;
                read_until(&mut target, "\r\n\r\n").await;
                send(&mut target, OK).await;
                assert_eq!(within(response).await.unwrap().status(), 200);
            } else {
                assert_eq!(within(response).await.unwrap().status(), 504);
                assert_eq!(lab.refused("target_drained"), 1);
            }
            assert_eq!(some(&lab.backend().errors), []);
        }
    });
}

#[test]
fn a_body_that_goes_on_is_cut_off_and_its_connection_goes_on() {
    run(async {
        let (lab, listener, other) = two().await;
        let mut client = lab.client().await;
        let (response, _) = client.send_request(get("/"), true).unwrap();
        let mut target = accept(&listener).await;
        read_until(&mut target, "\r\n\r\n").await;
        send(&mut target, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
        let mut response = within(response).await.unwrap();
        assert_eq!(&within(response.body_mut().data()).await.unwrap().unwrap()[..], b"abc");
        remove_the_first(&lab);
        let ended = within(response.body_mut().data()).await.expect("a reset");
        assert_eq!(ended.unwrap_err().reason(), Some(h2::Reason::INTERNAL_ERROR));
        until(|| lab.refused("target_drained") == 1).await;
        let (response, _) = client.send_request(get("/"), true).unwrap();
        let mut target = accept(&other).await;
        read_until(&mut target, "\r\n\r\n").await;
        send(&mut target, OK).await;
        assert_eq!(within(response).await.unwrap().status(), 200);
    });
}
