//! Cookies that bind a client to a target, over whole requests and plans.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::lab::*;
use crate::state::Health;

const ONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";
const TWO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo";

/// What a request with these cookies is answered with: the body and the cookie that was set.
async fn ask(lab: &Lab, cookies: &str) -> (String, String) {
    let request =
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: {cookies}\r\n\r\n");
    let text = lab.talk(request.as_bytes()).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let set = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: "));
    let set = set.unwrap_or_else(|| panic!("no cookie in {head}"));
    (body.to_owned(), set.split(';').next().unwrap().to_owned())
}

async fn sticky(expire: Duration) -> Lab {
    let targets = [answering(ONE).await, answering(TWO).await];
    Lab::with(&targets, |_, backend| {
        backend.stickiness = Some(expire);
        backend.connection_draining = Duration::from_mins(5);
    })
    .await
}

#[test]
fn a_client_stays_with_its_target_and_others_take_turns() {
    run(async {
        for expire in [Duration::ZERO, Duration::from_hours(1)] {
            let lab = sticky(expire).await;
            let (first, cookie) = ask(&lab, "a=b").await;
            for _ in 0..4 {
                let (body, again) = ask(&lab, &format!("a=b; {cookie}")).await;
                assert_eq!(body, first);
                assert_eq!(again.split('=').next(), cookie.split('=').next());
            }
            let (second, _) = ask(&lab, "a=b").await;
            let (third, _) = ask(&lab, "").await;
            assert_ne!(second, third, "without a cookie they take turns");
            // Forged: the last digit is another one.
            let other = if cookie.ends_with('A') { "B" } else { "A" };
            let forged = format!("{}{other}", &cookie[..cookie.len() - 1]);
            let (one, _) = ask(&lab, &forged).await;
            let (two, _) = ask(&lab, &forged).await;
            assert_ne!(one, two, "a forged cookie is none");
        }
    });
}

#[test]
fn weight_0_keeps_its_clients_while_it_drains_and_an_unhealthy_target_none() {
    run(async {
        let lab = sticky(Duration::ZERO).await;
        let (first, cookie) = ask(&lab, "").await;
        let at = usize::from(first == "two");

        let mut model = lab.model.clone();
        model.load_balancers[0].target_groups[0].targets[at].weight = 0;
        let drained = lab.replace(&model, &[]);
        let since = drained.listeners[0].backend.targets[at].zero_since.unwrap();
        for _ in 0..2 {
            assert_eq!(ask(&lab, &cookie).await.0, first, "bound as long as it drains");
            assert_ne!(ask(&lab, "").await.0, first, "nothing new");
        }
        let later = lab.replace(&model, &[]);
        assert_eq!(later.listeners[0].backend.targets[at].zero_since, Some(since));

        model.load_balancers[0].backends[0].connection_draining = Duration::ZERO;
        lab.replace(&model, &[]);
        let (other, new) = ask(&lab, &cookie).await;
        assert_ne!(other, first, "drained");
        assert_eq!(ask(&lab, &new).await.0, other, "a new choice has a new cookie");

        model.load_balancers[0].target_groups[0].targets[at].weight = 10;
        assert!(lab.replace(&model, &[]).listeners[0].backend.targets[at].zero_since.is_none());
        assert_eq!(ask(&lab, &cookie).await.0, first, "back in service");
        lab.replace(&model, &[(at, Health::Unhealthy)]);
        assert_eq!(ask(&lab, &cookie).await.0, other);
    });
}

#[test]
fn a_target_that_cannot_be_reached_gives_its_client_to_another() {
    run(async {
        let (dead, gone) = origin().await;
        let alive = answering(TWO).await;
        let lab =
            Lab::with(&[gone, alive], |_, backend| backend.stickiness = Some(Duration::ZERO)).await;
        let mut client = lab.connect().await;
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let mut target = accept(&dead).await;
        let head = read_until(&mut target, "\r\n\r\n").await;
        assert!(!head.contains("Cookie"), "{head}");
        target.write_all(ONE.as_bytes()).await.unwrap();
        let text = client.rest().await;
        let set = text.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).unwrap();
        assert!(set.ends_with("; Path=/; HttpOnly"), "{set}");
        let cookie = set.split(';').next().unwrap();
        drop((dead, target));
        let (body, new) = ask(&lab, cookie).await;
        assert_eq!(body, "two");
        assert_ne!(new, cookie);
    });
}
